/* SPDX-License-Identifier: Apache-2.0 */
/* roles.c - the words that start the roles, and their usage. */
#include <stdio.h>

#include "cmd/roles.h"
#include "core/version.h"

#define LISTENS                                                                                \
	"The apiserver starts it, with a listening socket as descriptor 3; nobody else has a " \
	"reason to."

static const struct opt opts_apiserver[] = {
	{"app-root", 0, OPT_VALUE, "path", NULL,
	 "Where data is kept [environment: CONTAINER_APP_ROOT]", 0},
	{"run-root", 0, OPT_VALUE, "path", NULL,
	 "Where sockets are [environment: CONTAINER_RUN_ROOT]", 0},
	{"log-root", 0, OPT_VALUE, "path", NULL,
	 "Where services write their logs [environment: CONTAINER_LOG_ROOT]", 0},
	{"install-root", 0, OPT_VALUE, "path", NULL,
	 "Where the programs are [environment: CONTAINER_INSTALL_ROOT]", 0},
	{"daemon-ready-fd", 0, OPT_VALUE, "number", NULL,
	 "A byte is written to this descriptor when requests are answered", 0},
	{0},
};
static const struct opt opts_network[] = {
	{"name", 0, OPT_VALUE, "name", NULL, "The network's name, default when not given", 0},
	{"subnet", 0, OPT_VALUE, "cidr", NULL, "Its IPv4 addresses, 192.168.64.0/24 when not given",
	 0},
	{"forward", 0, OPT_VALUE, "address", NULL,
	 "Serve no network, but forward published ports to this guest", 0},
	{"id", 0, OPT_VALUE, "id", NULL, "The guest's container, for who reads a list of processes",
	 0},
	{"port", 0, OPT_LIST, "range", NULL,
	 "Ports of the guest, tcp|udp/<first>-<last>, a descriptor for each from 4 on", 0},
	{0},
};
static const struct opt opts_runtime[] = {
	{"id", 0, OPT_VALUE, "id", NULL, "The container", 0},
	{"files", 0, OPT_VALUE, "name", NULL,
	 "Serve the files of this stopped container, without a process", 0},
	{0},
};
static const struct opt *const apiserver_opts[] = {opts_apiserver, NULL};
static const struct opt *const network_opts[] = {opts_network, NULL};
static const struct opt *const runtime_opts[] = {opts_runtime, NULL};

static const struct opt_cmd start_apiserver = {
	.name = "start",
	.summary = "Serve until told to stop",
	.group = "Verbs",
	.opts = apiserver_opts,
	.notes = "Stays in the foreground. A listening socket that systemd opened is taken over "
		 "(LISTEN_FDS); otherwise apiserver.sock is made in the run root.",
};
static const struct opt_cmd start_images = {
	.name = "start",
	.summary = "Serve until the apiserver ends it",
	.group = "Verbs",
	.notes = LISTENS,
};
static const struct opt_cmd start_network = {
	.name = "start",
	.summary = "Serve one network until the apiserver ends it",
	.group = "Verbs",
	.opts = network_opts,
	.notes = LISTENS,
};
static const struct opt_cmd start_runtime = {
	.name = "start",
	.summary = "Run one container's machine until it ends",
	.group = "Verbs",
	.opts = runtime_opts,
	.notes = LISTENS,
};
static const struct opt_cmd *const apiserver_subs[] = {&start_apiserver, NULL};
static const struct opt_cmd *const images_subs[] = {&start_images, NULL};
static const struct opt_cmd *const network_subs[] = {&start_network, NULL};
static const struct opt_cmd *const runtime_subs[] = {&start_runtime, NULL};

const struct opt_cmd role_apiserver = {
	.name = "container-apiserver",
	.summary = "The service that knows the containers and answers the command line",
	.sub = apiserver_subs,
	.notes = "container system start starts it. It keeps the containers' state, starts a "
		 "helper for each machine, one for images and "
		 "one for each network, and finds those that still run when it is started again.",
};
const struct opt_cmd role_images = {
	.name = "container-core-images",
	.summary = "The helper that pulls, pushes, keeps and unpacks images",
	.sub = images_subs,
	.notes = "It runs without the rights of root where it can, and holds all that registries "
		 "and archives say at arm's length from "
		 "the apiserver.",
};
const struct opt_cmd role_network = {
	.name = "container-network-vmnet",
	.summary = "The helper of one network: bridge, addresses and rules",
	.sub = network_subs,
	.notes = "It makes the bridge, hands out addresses and taps, and takes all of it down at "
		 "its end.",
};
const struct opt_cmd role_runtime = {
	.name = "container-runtime-linux",
	.summary = "The helper of one container: its virtual machine, and what its processes read "
		   "and write",
	.sub = runtime_subs,
	.notes = "It holds the virtual machine monitor, or the qemu that stands in for it, in a "
		 "jail: no file of the host, no network, no "
		 "capability, few system calls.",
};
const struct opt_cmd *const role_cmds[] = {&role_apiserver, &role_images, &role_network,
					   &role_runtime, NULL};

static char *verb_path(const struct opt_cmd *role)
{
	return xasprintf("%s %s", role->name, role->sub[0]->name);
}

int role_usage(const struct opt_cmd *role, const char *why)
{
	CLEANUP_FREE char *path = verb_path(role);
	CLEANUP_BUF struct buf b = {0};

	opt_usage_line(role->sub[0], path, &b);
	fprintf(stderr, "Error: %s\nUsage: %s\n", why, b.data);
	return 64;
}

static void show_help(const struct opt_cmd *role)
{
	CLEANUP_FREE char *path = verb_path(role);
	CLEANUP_BUF struct buf b = {0};

	opt_help(role->sub[0], path, &b);
	fwrite(b.data, 1, b.len, stdout);
}

bool role_parse(const struct opt_cmd *role, int argc, char *const *argv, struct opt_args *out,
		int *status)
{
	bool verb = argc > 1 && !strcmp(argv[1], role->sub[0]->name);
	CLEANUP_ERROR struct error *e = NULL;

	*status = 0;
	if (opt_parse(role->sub[0], MAX(argc - 1 - verb, 0), argv + 1 + verb, out, &e) < 0)
		*status = role_usage(role, e->msg);
	else if (opt_has(out, "help"))
		show_help(role);
	else if (opt_has(out, "version"))
		printf("%s %s\n", role->name, version_release);
	else if (!verb)
		*status = role_usage(role, "Missing expected argument '<start>'");
	else
		return true;
	return false;
}
