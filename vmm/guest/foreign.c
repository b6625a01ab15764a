/* SPDX-License-Identifier: Apache-2.0 */
/*
 * foreign.c - programs of another architecture run by the emulator that the host put into the initramfs
 * (Documentation/admin-guide/binfmt-misc.rst).
 *
 * The kernel opens it when it is registered (F), so it serves in every mount namespace and nothing of it is to be seen
 * in the container. P: it is told the name the program was called by; C: set-user-id programs are that.
 */
#include <elf.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vmm/guest/guest.h"

#define EMULATOR "/emulator"
#define BINFMT   "/binfmt"
#define HEADER   20 /* bytes of an ELF header up to e_machine and with it */

static void put_bytes(struct buf *b, const unsigned char *v)
{
	size_t i;

	for (i = 0; i < HEADER; i++)
		buf_printf(b, "\\x%02x", v[i]);
	buf_puts(b, ":");
}

/* What executables and shared objects of that machine begin with. The ABI byte may be anything. */
static void make_rule(struct json_object *o, struct buf *rule)
{
	unsigned char magic[HEADER] = {0}, mask[HEADER];
	unsigned machine = (unsigned)json_int(o, "machine", 0);
	bool big = json_int(o, "data", 0) == ELFDATA2MSB;

	memset(mask, 0xff, sizeof(mask));
	memcpy(magic, ELFMAG, SELFMAG);
	magic[EI_CLASS] = (unsigned char)json_int(o, "class", 0);
	magic[EI_DATA] = (unsigned char)json_int(o, "data", 0);
	magic[EI_VERSION] = EV_CURRENT;
	mask[EI_OSABI] = 0;
	magic[big ? 17 : 16] = ET_EXEC; /* or ET_DYN, one bit away */
	mask[big ? 17 : 16] = 0xfe;
	magic[big ? 19 : 18] = (unsigned char)machine;
	magic[big ? 18 : 19] = (unsigned char)(machine >> 8);
	buf_printf(rule, ":qemu-%s:M::", json_str(o, "name", "foreign"));
	put_bytes(rule, magic);
	put_bytes(rule, mask);
	buf_puts(rule, EMULATOR ":POCF");
}

int foreign_register(struct json_object *emulator, struct error **err)
{
	CLEANUP_BUF struct buf rule = {0};
	CLEANUP_CLOSE int fd = -1;

	if (!emulator)
		return 0;
	make_rule(emulator, &rule);
	mkdir(BINFMT, 0700);
	if (mount("binfmt_misc", BINFMT, "binfmt_misc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return error_sys(
			err, errno,
			"the guest kernel runs no programs of other architectures (binfmt_misc): "
			"set it anew with container system kernel set");
	fd = open(BINFMT "/register", O_WRONLY | O_CLOEXEC);
	/* One write is one rule. */
	if (fd < 0 || write(fd, rule.data, rule.len) != (ssize_t)rule.len)
		return error_sys(err, errno, "register the emulator");
	/* The mount stays: with it the rules would go, in kernels of 2024 and later. Nobody sees it behind the next root. */
	unlink(EMULATOR);
	return 0;
}
