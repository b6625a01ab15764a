/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modinfo.c - the .modinfo section of a kernel module: NUL-separated "key=value" strings in an
 * ELF64 relocatable file. The file is hostile until its headers have been checked.
 */
#include <elf.h>

#include "vmm/kernel_priv.h"

static bool section_at(const uint8_t *p, size_t n, const Elf64_Ehdr *eh, unsigned i, Elf64_Shdr *sh)
{
	uint64_t end;

	memcpy(sh, p + eh->e_shoff + i * sizeof(*sh), sizeof(*sh));
	return sh->sh_type == SHT_NOBITS || (add_ok(sh->sh_offset, sh->sh_size, &end) && end <= n);
}

static bool section_named(const uint8_t *p, const Elf64_Shdr *names, const Elf64_Shdr *sh,
			  const char *name)
{
	size_t len = strlen(name) + 1;

	return sh->sh_name < names->sh_size && names->sh_size - sh->sh_name >= len &&
	       !memcmp(p + names->sh_offset + sh->sh_name, name, len);
}

static void pairs(const char *s, size_t n, modinfo_fn fn, void *arg)
{
	const char *end = s + n;

	while (s < end) {
		const char *nul = memchr(s, 0, (size_t)(end - s));
		const char *eq;

		if (!nul)
			return; /* unterminated tail */
		eq = memchr(s, '=', (size_t)(nul - s));
		if (eq)
			fn(arg, s, (size_t)(eq - s), eq + 1);
		s = nul + 1;
	}
}

int modinfo_parse(const void *data, size_t n, modinfo_fn fn, void *arg, struct error **err)
{
	const uint8_t *p = data;
	Elf64_Shdr names, sh;
	Elf64_Ehdr eh;
	uint64_t end;
	unsigned i;

	if (n < sizeof(eh) || memcmp(p, ELFMAG, SELFMAG))
		return error_set(err, ERR_INVALID_ARGUMENT, "not a module: no ELF header");
	memcpy(&eh, p, sizeof(eh));
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_type != ET_REL || eh.e_machine != EM_X86_64)
		return error_set(err, ERR_INVALID_ARGUMENT, "not an x86-64 module");
	if (eh.e_shentsize != sizeof(sh) || eh.e_shstrndx >= eh.e_shnum ||
	    !add_ok(eh.e_shoff, (uint64_t)eh.e_shnum * sizeof(sh), &end) || end > n)
		return error_set(err, ERR_INVALID_ARGUMENT, "not a module: bad section table");
	if (!section_at(p, n, &eh, eh.e_shstrndx, &names) || names.sh_type == SHT_NOBITS)
		return error_set(err, ERR_INVALID_ARGUMENT, "not a module: bad section names");
	for (i = 0; i < eh.e_shnum; i++) {
		if (!section_at(p, n, &eh, i, &sh))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "not a module: a section lies outside");
		if (sh.sh_type == SHT_NOBITS || !section_named(p, &names, &sh, ".modinfo"))
			continue;
		if (fn)
			pairs((const char *)p + sh.sh_offset, sh.sh_size, fn, arg);
		return 0;
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "not a module: no .modinfo");
}

/* The signature's trailer (include/linux/module_signature.h): sizes of what precedes it, then the magic. */
#define SIG_MAGIC   "~Module signature appended~\n"
#define SIG_TRAILER 12

static void drop_signature(struct buf *ko)
{
	size_t magic = sizeof(SIG_MAGIC) - 1, tail = magic + SIG_TRAILER;
	const uint8_t *t;
	uint32_t sig;

	if (ko->len < tail || memcmp(ko->data + ko->len - magic, SIG_MAGIC, magic))
		return;
	t = (const uint8_t *)ko->data + ko->len - tail;
	sig = (uint32_t)t[8] << 24 | t[9] << 16 | t[10] << 8 | t[11];
	if (sig <= ko->len - tail)
		ko->len -= tail + sig;
}

void module_slim(struct buf *ko, bool keep_signature)
{
	uint8_t *p = (uint8_t *)ko->data;
	Elf64_Shdr names, sh;
	Elf64_Ehdr eh;
	unsigned i;

	if (keep_signature)
		return; /* it covers every byte */
	drop_signature(ko);
	/* Only for files that modinfo_parse() accepted; cut short, a file may no longer be one of them. */
	if (modinfo_parse(p, ko->len, NULL, NULL, NULL))
		return;
	memcpy(&eh, p, sizeof(eh));
	memcpy(&names, p + eh.e_shoff + eh.e_shstrndx * sizeof(names), sizeof(names));
	for (i = 0; i < eh.e_shnum; i++) {
		if (!section_at(p, ko->len, &eh, i, &sh))
			return;
		if (sh.sh_type == SHT_NOBITS || !section_named(p, &names, &sh, ".BTF"))
			continue;
		sh.sh_size = 0;
		memcpy(p + eh.e_shoff + i * sizeof(sh), &sh, sizeof(sh));
	}
}
