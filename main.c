/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - one executable, the roles: dispatch on argv[0], then on the first argument. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "cmd/roles.h"

static const struct {
	const char *name;   /* as a symlink */
	const char *short_; /* as a first argument; NULL: none */
	int (*main)(int argc, char **argv);
} roles[] = {
	{"container", NULL, cli_main},
	{"container-apiserver", "apiserver", apiserver_main},
	{"container-core-images", "core-images", images_main},
	{"container-network-vmnet", "network-vmnet", network_main},
	{"container-runtime-linux", "runtime-linux", runtime_main},
	{"container-share-linux", "share-linux", share_main},
};

/* A helper is /proc/self/exe to the kernel: without this top and ps would call it "exe". */
static int run(size_t role, int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, roles[role].name);
	return roles[role].main(argc, argv);
}

int main(int argc, char **argv)
{
	const char *self = argc > 0 && argv[0] ? argv[0] : "container";
	const char *slash = strrchr(self, '/');
	size_t i;

	if (slash)
		self = slash + 1;
	for (i = 1; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (!strcmp(self, roles[i].name))
			return run(i, argc, argv);
		if (argc > 1 &&
		    (!strcmp(argv[1], roles[i].short_) || !strcmp(argv[1], roles[i].name)))
			return run(i, argc - 1, argv + 1);
	}
	return run(0, argc, argv);
}
