/* SPDX-License-Identifier: Apache-2.0 */
/* again.S - a kernel that hangs the first time it is started, and when the machine was reset says so and ends it. */
#define XEN_ELFNOTE_PHYS32_ENTRY 18 /* the PVH entry */
#define MARK	 0x2000000	     /* memory that nobody else uses; a reset leaves it as it is */
#define MAGIC	 0x6e616761
#define UART	 0x3f8
#define LSR_THRE 0x20

	.section .note.pvh, "a", @note
	.long	4, 4, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz	"Xen"
	.long	_start

	.section .text.start, "ax"
	.code32
	.globl	_start
_start:
	cli
	cmpl	$MAGIC, MARK
	je	again
	movl	$MAGIC, MARK
1:	hlt
	jmp	1b

again:
	mov	$said, %esi
	mov	$UART, %ebx
2:	lea	5(%ebx), %edx
3:	inb	%dx, %al
	test	$LSR_THRE, %al
	jz	3b
	lodsb
	test	%al, %al
	jz	4f
	mov	%ebx, %edx
	outb	%al, %dx
	jmp	2b
4:	lidt	nothing
	int3			/* with no handler, nor one for that: a reset */
	.align	8
nothing:
	.long	0, 0
said:	.asciz	"started again\n"
	.section .note.GNU-stack, "", @progbits
