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
		pairs((const char *)p + sh.sh_offset, sh.sh_size, fn, arg);
		return 0;
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "not a module: no .modinfo");
}
