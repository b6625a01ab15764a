/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's init, embedded so that one file is the whole product. */
	.section .rodata
	.balign 16
	.global guest_init_start
	.global guest_init_end
guest_init_start:
	.incbin GUEST_INIT
guest_init_end:
	.byte 0
	.section .note.GNU-stack,"",@progbits
