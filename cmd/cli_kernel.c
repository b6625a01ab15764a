/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_kernel.c - system kernel set.
 *
 * A kernel in an archive is taken out of it by the image helper, which is the one that speaks to hosts elsewhere and reads what they
 * send; the apiserver gets the file as a descriptor.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "cmd/cli.h"
#include "cmd/cli_image.h"
#include "cmd/progress.h"

static const struct opt opt_kernel_set[] = {
	{"arch", 0, OPT_VALUE, "arch", "amd64|arm64", "Architecture of the kernel", 0},
	{"binary", 0, OPT_VALUE, "path", NULL,
	 "Kernel file: an ELF vmlinux or a distribution's vmlinuz; with --tar a member of the "
	 "archive",
	 0},
	{"modules", 0, OPT_VALUE, "dir", NULL, "Directory with the kernel's modules", 0},
	{"name", 0, OPT_VALUE, "name", NULL, "Name to install the kernel under", 0},
	{"force", 0, OPT_FLAG, NULL, NULL, "Overwrite a kernel of the same name", 0},
	{"recommended", 0, OPT_FLAG, NULL, NULL,
	 "Install the recommended kernel; wins over the other options", 0},
	{"tar", 0, OPT_VALUE, "path", NULL,
	 "Archive that holds the kernel: a file or a URL, plain or in gzip, zstd or xz", 0},
	{"digest", 0, OPT_VALUE, "digest", NULL,
	 "Expected digest of the archive, sha256:<hex>; needed for a URL", 0},
	{0},
};
static const struct opt *const kernel_set_opts[] = {opt_kernel_set, NULL};

static int put_path(struct json_object *params, const struct opt_args *a, const char *key,
		    struct error **err)
{
	const char *path = opt_str(a, key, NULL);
	CLEANUP_FREE char *full = NULL;

	if (!path)
		return 0;
	full = realpath(path, NULL);
	if (!full)
		return error_sys(err, errno, "--%s %s", key, path);
	json_set_str(params, key, full);
	return 0;
}

static bool is_url(const char *s)
{
	return str_prefix(s, "http://") || str_prefix(s, "https://");
}

/* 0, or CLI_EXIT_USAGE when what was said does not go together. */
static int check_usage(struct cli *c, const struct opt_args *a)
{
	const char *tar = opt_str(a, "tar", NULL);

	if (opt_has(a, "recommended"))
		return 0;
	if (!opt_has(a, "binary"))
		return cli_usage(
			c, tar ? "Missing argument: --binary, the kernel's path in the archive"
			       : "Missing argument: --binary or --recommended");
	if (opt_has(a, "digest") && !tar)
		return cli_usage(c, "--digest is an archive's: it needs --tar");
	if (tar && is_url(tar) && !opt_has(a, "digest"))
		return cli_usage(c, "--tar with a URL needs --digest");
	return 0;
}

/* *fd (the caller's): the member of the archive, which params call by both names. */
static int from_archive(struct cli *c, const struct opt_args *a, struct json_object *params,
			int *fd, struct error **err)
{
	struct json_object *p = json_object_new_object();
	CLEANUP_JSON struct json_object *reply = NULL;
	const char *tar = opt_str(a, "tar", NULL);
	CLEANUP_FREE char *name = NULL;
	CLEANUP_CLOSE int file = -1;
	struct progress bar;
	size_t n = 1;
	int rc;

	json_set_str(p, "member", opt_str(a, "binary", ""));
	json_set_str(p, "digest", opt_str(a, "digest", NULL));
	if (is_url(tar))
		json_set_str(p, "url", tar);
	else
		file = open(tar, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if ((!is_url(tar) && file < 0) || cli_connect(c, err)) {
		if (file < 0 && !*err)
			error_sys(err, errno, "--tar %s", tar);
		json_object_put(p);
		return -1;
	}
	progress_init(&bar, "auto");
	progress_task(&bar, 1, 1, "Fetching kernel");
	rc = rpc_call(c->conn, "archive.member", p, &file, file < 0 ? 0 : 1, progress_event, &bar,
		      -1, &reply, fd, &n, err);
	progress_end(&bar);
	if (rc < 0 || n != 1)
		return rc < 0 ? -1 : error_set(err, ERR_INTERNAL, "archive.member gave no file");
	name = xasprintf("%s#%s", tar, json_str(reply, "path", ""));
	json_set_str(params, "binary", name);
	return 0;
}

static int run_kernel_set(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *params = json_object_new_object(), *reply = NULL;
	bool recommended = opt_has(a, "recommended");
	CLEANUP_CLOSE int fd = -1;
	int rc = check_usage(c, a);

	if (rc)
		return rc;
	if (!strcmp(opt_str(a, "arch", "amd64"), "arm64"))
		return error_set(err, ERR_UNSUPPORTED, "guests are amd64 on this host");
	if (recommended)
		json_set_bool(params, "recommended", true);
	else if (opt_has(a, "tar") ? from_archive(c, a, params, &fd, err)
				   : put_path(params, a, "binary", err))
		return -1;
	if (!recommended && put_path(params, a, "modules", err))
		return -1;
	json_set_str(params, "name", opt_str(a, "name", NULL));
	json_set_bool(params, "force", opt_has(a, "force"));
	if (cli_connect(c, err) ||
	    rpc_call(c->conn, "kernel.set", STEAL(params), &fd, fd < 0 ? 0 : 1, NULL, NULL, -1,
		     &reply, NULL, NULL, err))
		return -1;
	cli_note("Kernel %s installed (Linux %s)", json_str(reply, "name", ""),
		 json_str(reply, "release", ""));
	return 0;
}

static const struct opt_cmd cmd_kernel_set = {
	.name = "set",
	.summary = "Set the default guest kernel",
	.group = "SUBCOMMANDS",
	.opts = kernel_set_opts,
	.run = run_kernel_set,
};

static const struct opt_cmd *const kernel_subs[] = {&cmd_kernel_set, NULL};
const struct opt_cmd cmd_kernel = {
	.name = "kernel",
	.summary = "Manage the default guest kernel",
	.group = SYSTEM_GROUP,
	.sub = kernel_subs,
};
