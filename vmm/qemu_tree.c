/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu_tree.c - what QEMU sees of the host's files once it runs: itself, shared libraries, its modules and its firmware. No
 * configuration, no device, nobody's data; the libraries' whole directories, as which of them it loads is its own affair.
 */
#include "core/str.h"
#include "vmm/qemu_tree.h"

/* Where distributions have them; what is not there is left out. The first of the library directories that exists wins on
 * multiarch systems, where what is beside it are other packages' programs. */
static const char *const always[] = {
	"/lib",
	"/lib64",
	"/usr/lib64",
	"/etc/ld.so.cache",
	"/usr/share/qemu",
	"/usr/share/seabios",
	"/usr/share/qboot",
	"/nix/store",
	"/gnu/store",
};
static const char *const libraries[] = {"/usr/lib/x86_64-linux-gnu", "/usr/lib"};
/* Beside a QEMU that somebody put elsewhere. */
static const char *const beside[] = {"lib", "lib64", "share/qemu"};

/* The directory two above a program's: its prefix; owned by the caller. */
static char *prefix_of(const char *program)
{
	char *dir = xstrdup(program), *slash;
	int i;

	for (i = 0; i < 2; i++) {
		slash = strrchr(dir, '/');
		if (slash)
			*slash = 0;
	}
	return dir;
}

void qemu_tree(const char *program, const char *place, struct jail_tree *t)
{
	CLEANUP_FREE char *prefix = prefix_of(program);
	size_t i;

	t->place = place;
	for (i = 0; i < ARRAY_SIZE(always); i++)
		jail_tree_add(t, always[i]);
	for (i = 0; i < ARRAY_SIZE(libraries); i++) {
		if (access(libraries[i], F_OK))
			continue;
		jail_tree_add(t, libraries[i]);
		break;
	}
	/* A prefix that is the root or /usr itself is above. */
	for (i = 0; *prefix && strcmp(prefix, "/usr") && i < ARRAY_SIZE(beside); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", prefix, beside[i]);

		jail_tree_add(t, path);
	}
	jail_tree_add(t, program);
}
