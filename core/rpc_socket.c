/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc_socket.c - Unix sockets by directory and name.
 *
 * sun_path holds 108 bytes, roots may be longer. /proc/self/fd/<dir>/<name> is always short enough
 * to bind; to connect, the socket file itself is opened as a path and named by its descriptor
 * alone.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/path.h"
#include "core/rpc.h"

static int unix_socket(int flags, struct error **err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		error_sys(err, errno, "socket");
	return fd;
}

static int connect_to(int dirfd, const char *name, int flags, struct error **err)
{
	CLEANUP_CLOSE int path = openat(dirfd, name, O_PATH | O_CLOEXEC);
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (path < 0)
		return error_sys(err, errno, "connect to %s", name);
	fd = unix_socket(flags, err);
	if (fd < 0)
		return -1;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d", path);
	if (RETRY_EINTR(connect(fd, (struct sockaddr *)&sa, sizeof(sa))))
		return error_sys(err, errno, "connect to %s", name);
	return steal_fd(&fd);
}

int rpc_socket_connect(int dirfd, const char *name, struct error **err)
{
	return connect_to(dirfd, name, 0, err);
}

int rpc_socket_connect_now(int dirfd, const char *name, struct error **err)
{
	return connect_to(dirfd, name, SOCK_NONBLOCK, err);
}

/* Whether name is free to be replaced: absent, or a socket nobody listens on. */
static int check_dead(int dirfd, const char *name, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;
	struct stat st;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (errno == ENOENT)
			return 0;
		return error_sys(err, errno, "%s", name);
	}
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, ERR_EXISTS, "%s exists and is not a socket", name);
	fd = rpc_socket_connect_now(dirfd, name, &e);
	if (fd >= 0 || e->sys == EAGAIN) {
		if (fd >= 0)
			close(fd);
		return error_set(err, ERR_EXISTS, "%s is in use by another process", name);
	}
	if (e->sys == ECONNREFUSED || e->sys == ENOENT)
		return 0;
	return error_move(err, STEAL(e));
}

static int open_parent(int dirfd, const char *name, const char **base)
{
	const char *slash = strrchr(name, '/');
	CLEANUP_FREE char *parent = slash ? xstrndup(name, (size_t)(slash - name)) : xstrdup(".");

	*base = slash ? slash + 1 : name;
	return openat(dirfd, *parent ? parent : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void rpc_socket_remove(int dirfd, const char *name)
{
	const char *base;
	CLEANUP_CLOSE int pfd = open_parent(dirfd, name, &base);

	if (pfd >= 0 && !check_dead(pfd, base, NULL))
		unlinkat(pfd, base, 0);
}

/* The socket is bound under another name and renamed when it listens, so that whoever finds it can
 * connect. */
int rpc_socket_listen(int dirfd, const char *name, struct error **err)
{
	const char *base;
	CLEANUP_CLOSE int pfd = open_parent(dirfd, name, &base);
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char tmp[32], hex[17];
	uint64_t r;

	if (pfd < 0)
		return error_sys(err, errno, "listen on %s", name);
	if (check_dead(pfd, base, err))
		return error_wrap(err, "listen");
	fd = unix_socket(0, err);
	if (fd < 0)
		return -1;
	random_bytes(&r, sizeof(r));
	hex_encode(&r, sizeof(r), hex);
	snprintf(tmp, sizeof(tmp), ".%s.sock", hex);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", pfd, tmp);
	/* The mode of the socket is that of its file from the first moment. */
	if (fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return error_sys(err, errno, "listen on %s", name);
	if (listen(fd, 128) || renameat(pfd, tmp, pfd, base)) {
		error_sys(err, errno, "listen on %s", name);
		unlinkat(pfd, tmp, 0);
		return -1;
	}
	fd_set_nonblock(fd, true);
	return steal_fd(&fd);
}
