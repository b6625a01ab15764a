/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_elf.c - the loader of an ELF64 vmlinux.
 *
 * Only program headers count. The kernel file may come from anywhere, so each header is copied once and every sum is
 * checked; what passes lies inside the first region of guest memory and inside the file. The file must not shrink while
 * the VM runs (an imported kernel is never written to again).
 */
#include <elf.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/path.h"
#include "vmm/boot.h"

#define PAGE              4096ull
#define PHDRS_MAX         64
#define NOTES_MAX         65536u
#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

static int not_kernel(struct error **err, const char *what)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "not an x86-64 ELF kernel: %s", what);
}

static int read_header(int fd, uint64_t size, Elf64_Ehdr *eh, struct error **err)
{
	uint64_t end;

	if (size < sizeof(*eh))
		return not_kernel(err, "file too short");
	if (fd_pread_full(fd, eh, sizeof(*eh), 0, err))
		return -1;
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG))
		return not_kernel(err, "no ELF magic");
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_machine != EM_X86_64)
		return not_kernel(err, "another architecture");
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return not_kernel(err, "not an executable");
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum < 1 || eh->e_phnum > PHDRS_MAX)
		return not_kernel(err, "bad program header table");
	if (!add_ok(eh->e_phoff, eh->e_phnum * sizeof(Elf64_Phdr), &end) || end > size)
		return not_kernel(err, "program headers outside the file");
	return 0;
}

static int file_range(const Elf64_Phdr *ph, uint64_t size, struct error **err)
{
	uint64_t end;

	if (!add_ok(ph->p_offset, ph->p_filesz, &end) || end > size)
		return not_kernel(err, "a segment reaches outside the file");
	return 0;
}

/* The segment's bytes into guest memory: whole pages by a private mapping of the file over that memory, so that all VMs of
 * a kernel share the pages none of them writes to, and starting one copies nothing; the rest by reading. */
static int place(int fd, const Elf64_Phdr *ph, const struct gmem *m, struct error **err)
{
	uint8_t *dst = gmem_ptr(m, ph->p_paddr, ph->p_memsz);
	uint64_t mapped = 0;

	if (!dst)
		return not_kernel(err, "a segment outside memory");
	if (ph->p_paddr % PAGE == 0 && ph->p_offset % PAGE == 0)
		mapped = ALIGN_DOWN(ph->p_filesz, PAGE);
	if (mapped &&
	    mmap(dst, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		 (off_t)ph->p_offset) == MAP_FAILED)
		return error_sys(err, errno, "map the kernel");
	if (mapped == ph->p_filesz)
		return 0;
	return fd_pread_full(fd, dst + mapped, ph->p_filesz - mapped,
			     (off_t)(ph->p_offset + mapped), err);
}

static int load_segment(int fd, uint64_t size, const Elf64_Phdr *ph, const struct gmem *m,
			struct boot_kernel *k, struct error **err)
{
	uint64_t ram_end = m->regions[0].gpa + m->regions[0].size, end;

	if (!ph->p_memsz)
		return 0;
	if (ph->p_filesz > ph->p_memsz)
		return not_kernel(err, "a segment is larger in the file than in memory");
	if (file_range(ph, size, err))
		return -1;
	if (ph->p_paddr < BOOT_HIMEM_GPA || !add_ok(ph->p_paddr, ph->p_memsz, &end))
		return not_kernel(err, "a segment at an address where no kernel can be");
	if (end > ram_end)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the kernel needs memory up to %llu MiB, the guest has %llu MiB",
				 (unsigned long long)(end >> 20),
				 (unsigned long long)(ram_end >> 20));
	if (ph->p_filesz && place(fd, ph, m, err))
		return -1;
	k->end = MAX(k->end, end);
	return 0;
}

/* The notes of one segment: name and descriptor are each padded to 4 bytes. */
static bool find_pvh_note(const uint8_t *p, size_t len, uint64_t *entry)
{
	size_t off = 0;

	while (len - off >= sizeof(Elf64_Nhdr)) {
		size_t name, desc, next;
		Elf64_Nhdr nh;

		memcpy(&nh, p + off, sizeof(nh));
		if (nh.n_namesz > NOTES_MAX || nh.n_descsz > NOTES_MAX)
			return false;
		name = off + sizeof(nh);
		desc = name + ALIGN_UP((size_t)nh.n_namesz, 4);
		next = desc + ALIGN_UP((size_t)nh.n_descsz, 4);
		if (desc > len || nh.n_descsz > len - desc)
			return false;
		if (nh.n_type == NOTE_PHYS32_ENTRY && nh.n_namesz == 4 &&
		    !memcmp(p + name, "Xen", 4) && (nh.n_descsz == 4 || nh.n_descsz == 8)) {
			*entry = 0;
			memcpy(entry, p + desc, nh.n_descsz);
			return true;
		}
		if (next > len)
			return false;
		off = next;
	}
	return false;
}

static int read_notes(int fd, uint64_t size, const Elf64_Phdr *ph, struct boot_kernel *k,
		      struct error **err)
{
	CLEANUP_FREE uint8_t *notes = NULL;

	if (k->pvh || !ph->p_filesz || ph->p_filesz > NOTES_MAX)
		return 0;
	if (file_range(ph, size, err))
		return -1;
	notes = xmalloc(ph->p_filesz);
	if (fd_pread_full(fd, notes, ph->p_filesz, (off_t)ph->p_offset, err))
		return -1;
	k->pvh = find_pvh_note(notes, ph->p_filesz, &k->entry);
	return 0;
}

/* Segments that overlap would make the result depend on their order; no kernel has them. */
static bool overlap(const Elf64_Phdr *ph, unsigned n)
{
	unsigned i, j;

	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++)
			if (ph[i].p_type == PT_LOAD && ph[j].p_type == PT_LOAD && ph[i].p_memsz &&
			    ph[j].p_memsz && ph[i].p_paddr < ph[j].p_paddr + ph[j].p_memsz &&
			    ph[j].p_paddr < ph[i].p_paddr + ph[i].p_memsz)
				return true;
	return false;
}

static bool entry_ok(const Elf64_Phdr *ph, unsigned n, uint64_t entry)
{
	unsigned i;

	for (i = 0; i < n; i++)
		/* One without memory was not loaded, whatever its size in the file. */
		if (ph[i].p_type == PT_LOAD && ph[i].p_memsz && entry >= ph[i].p_paddr &&
		    entry - ph[i].p_paddr < ph[i].p_filesz)
			return true;
	return false;
}

int boot_load_elf(int fd, const struct gmem *m, struct boot_kernel *k, struct error **err)
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	struct stat st;
	unsigned i;

	*k = (struct boot_kernel){0};
	if (fstat(fd, &st))
		return error_sys(err, errno, "kernel");
	if (!S_ISREG(st.st_mode))
		return not_kernel(err, "not a regular file");
	if (read_header(fd, (uint64_t)st.st_size, &eh, err) ||
	    fd_pread_full(fd, ph, eh.e_phnum * sizeof(ph[0]), (off_t)eh.e_phoff, err))
		return -1;
	for (i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD &&
		    load_segment(fd, (uint64_t)st.st_size, &ph[i], m, k, err))
			return -1;
		if (ph[i].p_type == PT_NOTE && read_notes(fd, (uint64_t)st.st_size, &ph[i], k, err))
			return -1;
	}
	if (!k->end)
		return not_kernel(err, "nothing to load");
	if (overlap(ph, eh.e_phnum))
		return not_kernel(err, "segments overlap");
	if (!k->pvh)
		k->entry = eh.e_entry;
	if ((k->pvh && k->entry > UINT32_MAX) || !entry_ok(ph, eh.e_phnum, k->entry))
		return not_kernel(err, "the entry point is in no segment");
	return 0;
}
