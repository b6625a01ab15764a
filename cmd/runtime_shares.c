/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_shares.c - the host's directories and files that a container is given (mounts of type virtiofs).
 *
 * Each becomes a share of the machine's one virtio-fs device, named by its number; vmm/fs.h has how they are served. What is a socket on
 * the host is none: bytes that go through it are relayed elsewhere. A path is looked up anew at each start, and one that is gone is
 * an error then.
 */
#include "cmd/runtime.h"

#include <stdio.h>
#include <sys/stat.h>

#include "cmd/roles.h"
#include "vmm/fs.h"

int share_main(int argc, char **argv)
{
	return fs_server_main(argc, argv);
}

/* Whether mount m is a share: 1 with *p, 0, or -1. */
static int take_share(struct json_object *m, struct fs_path *p, struct error **err)
{
	struct json_object *options = json_arr(m, "options");
	size_t i, n = options ? json_object_array_length(options) : 0;
	struct stat st;

	if (!json_obj(json_obj(m, "type"), "virtiofs"))
		return 0;
	*p = (struct fs_path){0};
	if (json_need_str(m, "source", &p->path, err) < 0)
		return -1;
	if (*p->path != '/' || stat(p->path, &st) < 0)
		return error_sys(err, *p->path == '/' ? errno : EINVAL, "mount source %s", p->path);
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "mount source %s: neither a directory nor a regular file",
				 p->path);
	for (i = 0; i < n; i++)
		p->readonly |=
			str_eq(json_object_get_string(json_object_array_get_idx(options, i)), "ro");
	return 1;
}

int runtime_shares_start(struct runtime *rt, struct error **err)
{
	struct json_object *mounts = rt->files ? NULL : json_arr(rt->config, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;
	struct fs_path paths[FUSE_SHARES];
	struct fs_server_config cfg = {
		.paths = paths,
		.place = rt->run_dir,
		.debug = rt->debug,
	};

	rt->share_of = xcalloc(n + 1, sizeof(*rt->share_of));
	rt->nshare_of = n;
	for (i = 0; i < n; i++) {
		struct fs_path p;
		int is = take_share(json_object_array_get_idx(mounts, i), &p, err);

		if (is < 0)
			return -1;
		if (!is)
			continue;
		if (cfg.npaths == FUSE_SHARES)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "more than %d shared directories", FUSE_SHARES);
		rt->share_of[i] = xasprintf("%zu", cfg.npaths);
		paths[cfg.npaths++] = p;
	}
	if (!cfg.npaths)
		return 0;
	rt->shares = fs_channel_new(err);
	return rt->shares ? fs_server_start(rt->shares, &cfg, err) : -1;
}

int runtime_shares_ready(struct runtime *rt, struct error **err)
{
	CLEANUP_FREE char *what = NULL;

	if (!rt->shares)
		return 0;
	if (fs_server_ready(rt->shares, &what, err) < 0)
		return -1;
	log_info("shares: their server: %s", what);
	return 0;
}

void runtime_shares_free(struct runtime *rt)
{
	size_t i;

	for (i = 0; i < rt->nshare_of; i++)
		free(rt->share_of[i]);
	free(STEAL(rt->share_of));
	rt->nshare_of = 0;
	fs_channel_free(STEAL(rt->shares));
}
