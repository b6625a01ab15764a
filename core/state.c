/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - a reader sees the old file or the new one, whole, whenever the machine stops. */
#include <fcntl.h>
#include <stdio.h>

#include "core/path.h"
#include "core/state.h"

static int check_name(const char *name, struct error **err)
{
	if (!*name || *name == '.' || strchr(name, '/'))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" is not a plain file name",
				 name);
	return 0;
}

/* The directory itself has to reach the disk too; dirfd may be O_PATH, which cannot be synced. */
static int sync_dir(int dirfd)
{
	CLEANUP_CLOSE int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : fsync(fd);
}

static int write_tmp(int dirfd, const char *tmp, const void *p, size_t n, mode_t mode,
		     struct error **err)
{
	CLEANUP_CLOSE int fd =
		openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return error_sys(err, errno, "create");
	if (fchmod(fd, mode))
		return error_sys(err, errno, "chmod");
	if (fd_write_full(fd, p, n, err))
		return -1;
	if (fsync(fd))
		return error_sys(err, errno, "sync");
	return 0;
}

int state_write_text(int dirfd, const char *name, const void *p, size_t n, mode_t mode,
		     struct error **err)
{
	CLEANUP_FREE char *tmp = NULL;
	char hex[17];
	uint64_t r;

	if (check_name(name, err))
		return error_wrap(err, "write state");
	random_bytes(&r, sizeof(r));
	hex_encode(&r, sizeof(r), hex);
	tmp = xasprintf(".%s.%s", name, hex);
	if (write_tmp(dirfd, tmp, p, n, mode, err)) {
		unlinkat(dirfd, tmp, 0);
		return error_wrap(err, "write %s", name);
	}
	if (renameat(dirfd, tmp, dirfd, name)) {
		error_sys(err, errno, "rename");
		unlinkat(dirfd, tmp, 0);
		return error_wrap(err, "write %s", name);
	}
	if (sync_dir(dirfd))
		return error_sys(err, errno, "write %s: sync directory", name);
	return 0;
}

int state_write(int dirfd, const char *name, struct json_object *o, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	size_t len;
	const char *s = json_object_to_json_string_length(o,
							  JSON_C_TO_STRING_PRETTY |
								  JSON_C_TO_STRING_SPACED |
								  JSON_C_TO_STRING_NOSLASHESCAPE,
							  &len);

	if (len >= STATE_MAX_BYTES)
		return error_set(err, ERR_INVALID_ARGUMENT, "write %s: state is too large", name);
	buf_append(&b, s, len);
	buf_append(&b, "\n", 1);
	return state_write_text(dirfd, name, b.data, b.len, 0600, err);
}

struct json_object *state_read(int dirfd, const char *name, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_CLOSE int fd = -1;
	struct json_object *o;

	if (check_name(name, err)) {
		error_wrap(err, "read state");
		return NULL;
	}
	fd = RETRY_EINTR(openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
	if (fd < 0) {
		error_sys(err, errno, "read %s", name);
		return NULL;
	}
	if (fd_read_all(fd, STATE_MAX_BYTES, &b, err)) {
		error_wrap(err, "read %s", name);
		return NULL;
	}
	o = json_parse(b.data ? b.data : "", b.len, err);
	if (!o && err && *err) {
		(*err)->code = ERR_INTERNAL;
		error_wrap(err, "read %s", name);
	}
	return o;
}
