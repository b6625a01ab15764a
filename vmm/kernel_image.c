/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_image.c - from a file that claims to be a kernel to a checked vmlinux.
 *
 * A bzImage (Documentation/arch/x86/boot.rst) is a real-mode setup part of setup_sects + 1 sectors,
 * then the protected-mode part, in which payload_offset and payload_length (protocol 2.08) say
 * where the packed vmlinux is. Nothing of the file is executed on the host; all offsets are checked
 * before use. The guest side of this is the loader's business, which reads the same ELF headers
 * again: it gets a file that has passed kernel_elf_check().
 */
#include <elf.h>

#include "vmm/kernel_priv.h"

#define BZ_SETUP_SECTS    0x1f1
#define BZ_BOOT_FLAG      0x1fe
#define BZ_MAGIC          0x202
#define BZ_VERSION        0x206
#define BZ_PAYLOAD_OFFSET 0x248
#define BZ_PAYLOAD_LENGTH 0x24c
#define BZ_HEADER_END     0x250
#define BZ_MAX_SETUP      64 /* sectors; real kernels have under 40 */

#define ELF_MAX_PHDRS 64
#define ELF_LOAD_MAX  (4ull << 30)

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static int elf_bad(struct error **err, const char *why)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "not a usable x86-64 kernel: %s", why);
}

/* One PT_LOAD: in the file, and below 4 GiB once loaded. Sets *entry when the entry point is in it.
 */
static int elf_check_load(const Elf64_Phdr *ph, size_t n, uint64_t e_entry, bool *entry,
			  struct error **err)
{
	uint64_t file_end, mem_end, virt_end;

	if (!add_ok(ph->p_offset, ph->p_filesz, &file_end) || file_end > n)
		return elf_bad(err, "a segment lies outside the file");
	if (ph->p_memsz < ph->p_filesz)
		return elf_bad(err, "a segment is larger in the file than in memory");
	if (!add_ok(ph->p_paddr, ph->p_memsz, &mem_end) || mem_end > ELF_LOAD_MAX)
		return elf_bad(err, "a segment loads above 4 GiB");
	if (!add_ok(ph->p_vaddr, ph->p_memsz, &virt_end) && virt_end != 0)
		return elf_bad(err, "a segment's address wraps");
	if (e_entry >= ph->p_paddr && e_entry < mem_end)
		*entry = true;
	if (e_entry >= ph->p_vaddr && e_entry - ph->p_vaddr < ph->p_memsz)
		*entry = true;
	return 0;
}

int kernel_elf_check(const void *p, size_t n, struct error **err)
{
	Elf64_Ehdr eh;
	uint64_t table_end;
	bool entry = false;
	unsigned i, loads = 0;

	if (n < sizeof(eh) || memcmp(p, ELFMAG, SELFMAG))
		return elf_bad(err, "no ELF header");
	memcpy(&eh, p, sizeof(eh));
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB)
		return elf_bad(err, "not 64-bit little-endian");
	if (eh.e_machine != EM_X86_64)
		return elf_bad(err, "for another processor");
	if (eh.e_type != ET_EXEC)
		return elf_bad(err, "not an executable");
	if (eh.e_phentsize != sizeof(Elf64_Phdr) || !eh.e_phnum || eh.e_phnum > ELF_MAX_PHDRS)
		return elf_bad(err, "bad program headers");
	if (!add_ok(eh.e_phoff, (uint64_t)eh.e_phnum * sizeof(Elf64_Phdr), &table_end) ||
	    table_end > n)
		return elf_bad(err, "program headers lie outside the file");
	for (i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, (const uint8_t *)p + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_INTERP)
			return elf_bad(err, "an ordinary program");
		if (ph.p_type == PT_NOTE &&
		    (!add_ok(ph.p_offset, ph.p_filesz, &table_end) || table_end > n))
			return elf_bad(err, "a note lies outside the file");
		if (ph.p_type != PT_LOAD)
			continue;
		loads++;
		if (elf_check_load(&ph, n, eh.e_entry, &entry, err))
			return -1;
	}
	if (!loads)
		return elf_bad(err, "nothing to load");
	return entry ? 0 : elf_bad(err, "the entry point is in no segment");
}

static int bzimage_payload(const uint8_t *p, size_t n, const uint8_t **payload, size_t *len,
			   struct error **err)
{
	uint64_t start, end;
	unsigned sects;

	if (n < BZ_HEADER_END || get16(p + BZ_BOOT_FLAG) != 0xaa55 ||
	    memcmp(p + BZ_MAGIC, "HdrS", 4))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "not a kernel: neither an ELF vmlinux nor a bzImage");
	if (get16(p + BZ_VERSION) < 0x208)
		return error_set(err, ERR_UNSUPPORTED, "boot protocol %u.%02u is older than 2.08",
				 p[BZ_VERSION + 1], p[BZ_VERSION]);
	sects = p[BZ_SETUP_SECTS] ? p[BZ_SETUP_SECTS] : 4;
	if (sects > BZ_MAX_SETUP)
		return elf_bad(err, "bzImage: bad setup size");
	start = (uint64_t)(sects + 1) * 512 + get32(p + BZ_PAYLOAD_OFFSET);
	end = start + get32(p + BZ_PAYLOAD_LENGTH);
	if (start >= end || end > n)
		return elf_bad(err, "bzImage: the payload lies outside the file");
	*payload = p + start;
	*len = end - start;
	return 0;
}

int kernel_image_unpack(const void *p, size_t n, struct buf *out, const void **vmlinux,
			size_t *vmlinux_len, struct error **err)
{
	const uint8_t *payload = NULL;
	enum unpack_kind k;
	size_t len = 0;

	if (n >= SELFMAG && !memcmp(p, ELFMAG, SELFMAG)) {
		*vmlinux = p;
		*vmlinux_len = n;
		return kernel_elf_check(p, n, err);
	}
	if (bzimage_payload(p, n, &payload, &len, err))
		return -1;
	k = unpack_kind_of(payload, len);
	if (k == UNPACK_NONE)
		return error_set(err, ERR_UNSUPPORTED,
				 "bzImage: payload is packed with none of gzip, zstd, lz4, xz");
	if (unpack(k, payload, len, KERNEL_MAX_UNPACKED, out, err))
		return error_wrap(err, "bzImage payload");
	*vmlinux = out->data;
	*vmlinux_len = out->len;
	if (kernel_elf_check(out->data, out->len, err))
		return error_wrap(err, "bzImage payload");
	return 0;
}

static bool release_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '.' || c == '-' || c == '_' || c == '+' || c == '~';
}

char *kernel_release(const void *p, size_t n)
{
	static const char banner[] = "Linux version ";
	const char *s = p, *end = s + n;

	while ((s = memmem(s, (size_t)(end - s), banner, sizeof(banner) - 1))) {
		size_t len = 0, left;

		s += sizeof(banner) - 1;
		left = (size_t)(end - s);
		while (len < left && len < KERNEL_MAX_RELEASE && release_char(s[len]))
			len++;
		/* "Linux version %s" also occurs, as a format. A release begins with a digit. */
		if (len && len < left && len < KERNEL_MAX_RELEASE && s[0] >= '0' && s[0] <= '9' &&
		    s[len] == ' ')
			return xstrndup(s, len);
	}
	return NULL;
}
