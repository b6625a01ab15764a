/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - puts a Linux kernel into guest memory, ready to be entered.
 *
 * An ELF64 vmlinux with the XEN_ELFNOTE_PHYS32_ENTRY note is entered in 32-bit protected mode with hvm_start_info
 * (the PVH boot protocol, include/xen/interface/hvm/start_info.h); one without in 64-bit mode with a zero page
 * (Documentation/x86/boot.rst, "64-bit boot protocol").
 */
#ifndef VMM_BOOT_H
#define VMM_BOOT_H

#include <sys/uio.h>
#include "vmm/gmem.h"

/* Guest-physical layout below 1 MiB. */
#define BOOT_GDT_GPA     0x500u
#define BOOT_START_GPA   0x6000u /* hvm_start_info, its module list and memory map */
#define BOOT_ZERO_GPA    0x7000u /* zero page */
#define BOOT_PAGES_GPA   0x9000u /* identity page tables for 4 GiB: 6 pages */
#define BOOT_CMDLINE_GPA 0x20000u
#define BOOT_EBDA_GPA    0x9fc00u /* end of low RAM in the memory map */
#define BOOT_HIMEM_GPA   0x100000u

struct boot_kernel {
	bool pvh;
	uint64_t entry; /* physical; 32-bit with pvh */
	uint64_t end;   /* first byte after the highest segment, bss included */
};

struct boot_params_in {
	const struct boot_kernel *kernel;
	const char *cmdline;
	uint64_t initrd_gpa, initrd_len; /* len 0: none */
	uint64_t rsdp_gpa;
};

/* boot_load_elf: puts the kernel's segments at their physical addresses, all of them above 1 MiB and inside the
 * first region; whole pages are mapped from the file (copy-on-write) and not copied. The file is hostile: every header field is checked before use. invalidArgument when it is not an
 * x86-64 ELF kernel, or too big for the memory. */
int boot_load_elf(int fd, const struct gmem *m, struct boot_kernel *k, struct error **err);

/* boot_load_initrd: concatenates the pieces (each starting at a multiple of 4) at the end of the first region. */
int boot_load_initrd(const struct iovec *iov, size_t n, const struct gmem *m,
		     const struct boot_kernel *k, uint64_t *gpa, uint64_t *len, struct error **err);

/* boot_write_params: command line, start info and zero page (both, whatever the entry), page tables and GDT. */
int boot_write_params(const struct boot_params_in *in, const struct gmem *m, struct error **err);

#endif
