/* SPDX-License-Identifier: Apache-2.0 */
/* pid1.S - an init that says "PID1" on the console and sleeps: the end of a kernel's start. */
#include <sys/syscall.h>

	.globl _start
	.text
_start:
	mov	$SYS_write, %eax
	mov	$1, %edi
	lea	mark(%rip), %rsi
	mov	$5, %edx
	syscall
1:	mov	$SYS_pause, %eax
	syscall
	jmp	1b
mark:	.ascii	"PID1\n"
	.section .note.GNU-stack, "", @progbits
