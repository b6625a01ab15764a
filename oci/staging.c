/* SPDX-License-Identifier: Apache-2.0 */
/* staging.c - directories that become visible whole or not at all. */
#include <fcntl.h>
#include <stdio.h>

#include "core/path.h"
#include "oci/store.h"

bool store_has_file(int dir, const char *hex, const char *name)
{
	char path[KEY_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", hex, name);
	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

int staging_open(struct staging *st, struct oci_store *s, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();

	*st = (struct staging){.s = s, .fd = -1};
	snprintf(st->name, sizeof(st->name), "tree-%s", uuid);
	if (path_mkdirs_at(s->ingest, st->name, 0700, err) < 0)
		return -1;
	st->fd = path_open_beneath(s->ingest, st->name, O_RDONLY | O_DIRECTORY, 0, err);
	return st->fd < 0 ? -1 : 0;
}

int staging_move(struct staging *st, struct oci_op *op, int to, const char *hex, struct error **err)
{
	/* What is there is incomplete, or the caller would not be here. */
	if (path_remove_tree(to, hex, err) < 0)
		return -1;
	if (renameat(st->s->ingest, st->name, to, hex) < 0)
		return error_sys(err, errno, "rename %s", hex);
	st->name[0] = '\0';
	op_sync_later(op, st->fd);
	return 0;
}

void staging_close(struct staging *st)
{
	base_close_fd(&st->fd);
	if (st->s && st->name[0])
		path_remove_tree(st->s->ingest, st->name, NULL);
}
