/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_emulator.c - programs of another architecture: the one emulator that an image needs goes into the guest's
 * initramfs, where init registers it with binfmt_misc before anything of the container is in sight.
 *
 * It is the host's qemu-user, which must be static: in the container there is no library of the host's. ELF is read
 * here only to tell that; what else is in the file is the guest's business.
 */
#include "cmd/runtime.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>

#include "core/path.h"
#include "vmm/kernel.h"

#define EMULATOR_MAX (64u << 20)
#define EMULATOR     "emulator" /* its name in the initramfs (vmm/agent.h) */

static const struct arch {
	const char *name, *qemu;
	uint8_t bits, order; /* EI_CLASS, EI_DATA */
	uint16_t machine;
} arches[] = {
	{"arm64", "aarch64", ELFCLASS64, ELFDATA2LSB, EM_AARCH64},
	{"arm", "arm", ELFCLASS32, ELFDATA2LSB, EM_ARM},
	{"riscv64", "riscv64", ELFCLASS64, ELFDATA2LSB, EM_RISCV},
	{"ppc64le", "ppc64le", ELFCLASS64, ELFDATA2LSB, EM_PPC64},
	{"s390x", "s390x", ELFCLASS64, ELFDATA2MSB, EM_S390},
	{"mips64le", "mips64el", ELFCLASS64, ELFDATA2LSB, EM_MIPS},
	{"mips64", "mips64", ELFCLASS64, ELFDATA2MSB, EM_MIPS},
	{"loong64", "loongarch64", ELFCLASS64, ELFDATA2LSB, 258},
};

static bool is_native(const char *name)
{
	return !*name || !strcmp(name, "amd64") || !strcmp(name, "386");
}

/* No program interpreter: it needs nothing but itself. */
static bool is_static(const struct buf *file)
{
	Elf64_Ehdr h;
	Elf64_Phdr p;
	uint64_t i, at;

	if (file->len < sizeof(h))
		return false;
	memcpy(&h, file->data, sizeof(h));
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) || h.e_ident[EI_CLASS] != ELFCLASS64 ||
	    h.e_machine != EM_X86_64 || h.e_phentsize != sizeof(p))
		return false;
	for (i = 0; i < h.e_phnum; i++) {
		at = h.e_phoff + i * sizeof(p);
		if (h.e_phoff > file->len || at + sizeof(p) > file->len)
			return false;
		memcpy(&p, file->data + at, sizeof(p));
		if (p.p_type == PT_INTERP)
			return false;
	}
	return true;
}

static int emulator_read(const struct arch *a, const char *dir, struct buf *out, struct error **err)
{
	static const char *const suffix[] = {"-static", ""}; /* Debian 13 has them without */
	size_t i;

	for (i = 0; i < ARRAY_SIZE(suffix); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/qemu-%s%s", dir, a->qemu, suffix[i]);

		if (!path_read_all(AT_FDCWD, path, EMULATOR_MAX, out, NULL) && is_static(out))
			return 0;
		buf_free(out);
	}
	return error_set(
		err, ERR_NOT_FOUND,
		"programs for %s need the emulator qemu-%s-static, which is not in %s: install "
		"the package qemu-user-static",
		a->name, a->qemu, dir);
}

int runtime_emulator(struct runtime *rt, const char *dir, struct json_object *boot,
		     struct buf *cpio, struct error **err)
{
	const char *name = json_str(json_obj(rt->config, "platform"), "architecture", "");
	CLEANUP_BUF struct buf file = {0};
	struct json_object *o;
	size_t i;

	if (is_native(name))
		return 0;
	for (i = 0; i < ARRAY_SIZE(arches) && strcmp(arches[i].name, name); i++)
		;
	if (i == ARRAY_SIZE(arches))
		return error_set(err, ERR_UNSUPPORTED,
				 "there is no emulator for programs of the architecture %.32s",
				 name);
	if (emulator_read(&arches[i], dir, &file, err))
		return -1;
	cpio_file(cpio, EMULATOR, 0755, file.data, file.len);
	cpio_end(cpio);
	o = json_object_new_object();
	json_set_str(o, "name", arches[i].qemu);
	json_set_int(o, "class", arches[i].bits);
	json_set_int(o, "data", arches[i].order);
	json_set_int(o, "machine", arches[i].machine);
	json_set(boot, "emulator", o);
	return 0;
}
