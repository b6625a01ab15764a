// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_fuse_kernel.c - the FUSE server and a real client: this host's kernel, through /dev/fuse, as virtio-fs in a guest would be. What
 * programs do on the mount has to come out as on the directory behind it.
 */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "tests/unit/fuse_client.h"

#define SERVERS 3

struct session {
	struct client *c;
	int ns;
	char where[80];
	int mnt; /* share 0 as the kernel shows it */
};

/* A process of its own, so that its end ends every request that waits for it. */
static pid_t server;
static int dev_fd = -1; /* its /dev/fuse */

static void too_late(int signo)
{
	kill(server, SIGKILL);
}

/* One request after the other, until the mount has gone. */
static void *serve(void *arg)
{
	struct client *c = arg;
	uint8_t *req = xmalloc(FUSE_MSG_MAX), *reply = xmalloc(FUSE_MSG_MAX);
	ssize_t n;
	size_t out;

	while ((n = RETRY_EINTR(read(dev_fd, req, FUSE_MSG_MAX))) > 0) {
		out = fuse_handle(c->f, req, (size_t)n, reply, FUSE_MSG_MAX);
		/* ENOENT: nobody waits for it any more. */
		if (out && write(dev_fd, reply, out) != (ssize_t)out && errno != ENOENT)
			break;
	}
	free(req);
	free(reply);
	return NULL;
}

static void serve_all(struct client *c)
{
	pthread_t thread[SERVERS];
	unsigned i;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	fuse_free(c->f); /* the one of the process before */
	if (start(c))
		_exit(1);
	c->f->max_open = 8; /* nodes are opened again all the time */
	for (i = 0; i < SERVERS; i++)
		if (pthread_create(&thread[i], NULL, serve, c))
			_exit(1);
	for (i = 0; i < SERVERS; i++)
		pthread_join(thread[i], NULL);
	_exit(0);
}

static int begin(struct session *s, int dev)
{
	char options[200], share[100];

	snprintf(s->where, sizeof(s->where), "%s/mnt", top);
	snprintf(share, sizeof(share), "%s/0", s->where);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", dev);
	if (mkdirat(top_fd, "mnt", 0755) ||
	    mount("container", s->where, "fuse", MS_NODEV, options)) {
		print_message("mount: %s\n", strerror(errno));
		return -1;
	}
	dev_fd = dev;
	server = fork();
	if (!server)
		serve_all(s->c);
	close(dev);
	signal(SIGALRM, too_late);
	alarm(60);
	s->mnt = open(share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->mnt < 0 || fchmodat(top_fd, "rw", 0777, 0);
}

static int mount_it(void **state)
{
	struct session *s = xcalloc(1, sizeof(*s));
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	void *fixture = NULL;

	s->ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	s->mnt = -1;
	*state = s;
	if (dev < 0 || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		print_message("no /dev/fuse, or no right to mount\n");
		base_close_fd(&dev);
		return 0;
	}
	if (setup(&fixture))
		return -1;
	s->c = fixture;
	s->c->fds--; /* dev, which the server has */
	return begin(s, dev);
}

static int unmount_it(void **state)
{
	struct session *s = *state;
	void *fixture = s->c;
	int r = 0, status;

	if (s->c) {
		base_close_fd(&s->mnt);
		assert_int_equal(umount2(s->where, 0), 0); /* nothing is still busy */
		assert_int_equal(waitpid(server, &status, 0), server);
		assert_int_equal(status, 0);
		alarm(0);
		r = teardown(&fixture);
		assert_int_equal(setns(s->ns, CLONE_NEWNS), 0);
	}
	close(s->ns);
	free(s);
	return r;
}

#define MOUNTED(s)                                       \
	({                                               \
		struct session *s_ = *state;             \
		if (s_->mnt < 0)                         \
			skip(); /* said when mounting */ \
		s_;                                      \
	})

/* ---- contents ---- */

#define BIG (5u << 20)

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

static void test_contents(void **state)
{
	struct session *s = MOUNTED(state);
	uint8_t *data = xmalloc(BIG), *map;
	struct stat a, b;
	int fd, host, copy;
	size_t i;

	for (i = 0; i < BIG; i++)
		data[i] = byte_at(i);
	fd = openat(s->mnt, "big", O_RDWR | O_CREAT | O_EXCL, 0640);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, data, BIG, NULL), 0);
	assert_int_equal(fsync(fd), 0);
	host = openat(top_fd, "rw/big", O_RDWR);
	map = mmap(NULL, BIG, PROT_READ, MAP_SHARED, host, 0);
	assert_true(map != MAP_FAILED);
	assert_memory_equal(map, data, BIG);
	munmap(map, BIG);
	/* Written through a mapping. */
	map = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	assert_memory_equal(map, data, BIG);
	memcpy(map + 12345, "mapped", 6);
	assert_int_equal(msync(map, BIG, MS_SYNC), 0);
	munmap(map, BIG);
	assert_int_equal(pread(host, data, 6, 12345), 6);
	assert_memory_equal(data, "mapped", 6);
	/* What the host writes is there after the next open. */
	assert_int_equal(pwrite(host, "host", 4, 0), 4);
	close(fd);
	fd = openat(s->mnt, "big", O_RDWR | O_APPEND);
	assert_int_equal(pread(fd, data, 4, 0), 4);
	assert_memory_equal(data, "host", 4);
	assert_int_equal(write(fd, "end", 3), 3);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(host, &b), 0);
	assert_true(a.st_size == BIG + 3 && b.st_size == BIG + 3 && a.st_ino == b.st_ino &&
		    a.st_mode == b.st_mode);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 1 << 20);
	copy = openat(s->mnt, "copy", O_RDWR | O_CREAT, 0600);
	assert_int_equal(copy_file_range(fd, &(loff_t){12345}, copy, NULL, 100, 0), 100);
	assert_int_equal(ftruncate(copy, 50), 0);
	assert_int_equal(host_stat("rw/copy").st_size, 50);
	/* Without a name. */
	assert_int_equal(unlinkat(s->mnt, "copy", 0), 0);
	assert_int_equal(fstat(copy, &a), 0);
	assert_int_equal(a.st_nlink, 0);
	assert_int_equal(pwrite(copy, "x", 1, 0), 1);
	close(copy);
	close(fd);
	close(host);
	free(data);
}

/* ---- names ---- */

static unsigned count(int at, const char *name)
{
	DIR *d = fdopendir(openat(at, name, O_RDONLY | O_DIRECTORY));
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void test_names(void **state)
{
	struct session *s = MOUNTED(state);
	char name[300], target[64] = {0};
	struct stat a, b;
	unsigned i;
	int fd;

	assert_int_equal(mkdirat(s->mnt, "d", 0755), 0);
	for (i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "d/%u-%0*u", i, (int)(i % 200) + 1, i);
		fd = openat(s->mnt, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
	assert_int_equal(count(s->mnt, "d"), 1500);
	assert_int_equal(count(top_fd, "rw/d"), 1500);
	for (i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "d/%u-%0*u", i, (int)(i % 200) + 1, i);
		assert_int_equal(fstatat(s->mnt, name, &a, 0), 0);
		if (i % 2)
			assert_int_equal(unlinkat(s->mnt, name, 0), 0);
	}
	assert_int_equal(count(s->mnt, "d"), 750);
	/* Renaming with what is open; over what is there; two at once. */
	assert_int_equal(mkdirat(s->mnt, "e", 0755), 0);
	assert_int_equal(renameat(s->mnt, "d/0-0", s->mnt, "e/moved"), 0);
	assert_int_equal(renameat(s->mnt, "e", s->mnt, "d/e"), 0);
	assert_int_equal(fstatat(s->mnt, "d/e/moved", &a, 0), 0);
	assert_int_equal(fstatat(top_fd, "rw/d/e/moved", &b, 0), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(renameat2(s->mnt, "d/e/moved", s->mnt, "d/e", RENAME_NOREPLACE), -1);
	assert_int_equal(renameat2(s->mnt, "d/e/moved", s->mnt, "d/2-002", RENAME_EXCHANGE), 0);
	assert_int_equal(renameat(s->mnt, "d", s->mnt, "d/e/x"), -1);
	assert_int_equal(errno, EINVAL);
	/* Links. */
	assert_int_equal(linkat(s->mnt, "d/2-002", s->mnt, "hard", 0), 0);
	assert_int_equal(host_stat("rw/hard").st_nlink, 2);
	assert_int_equal(symlinkat("../../secret", s->mnt, "soft"), 0);
	assert_int_equal(readlinkat(s->mnt, "soft", target, sizeof(target)), 12);
	assert_string_equal(target, "../../secret");
	/* It is the reader's kernel that follows it, from where the reader sees it. */
	fd = openat(s->mnt, "soft", O_RDONLY);
	assert_int_equal(read(fd, target, sizeof(target)), 6);
	assert_memory_equal(target, "secret", 6);
	close(fd);
	assert_int_equal(unlinkat(s->mnt, "d", AT_REMOVEDIR), -1);
	assert_int_equal(errno, ENOTEMPTY);
	assert_int_equal(openat(s->mnt, "none", O_RDONLY), -1);
	assert_int_equal(errno, ENOENT);
}

/* ---- attributes, as who ---- */

static int as_someone(int (*fn)(struct session *s), struct session *s)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setgroups(0, NULL) || setresgid(100, 100, 100) || setresuid(1000, 1000, 1000))
			_exit(99);
		_exit(fn(s));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int user_writes(struct session *s)
{
	int fd = openat(s->mnt, "open/mine", O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0 || write(fd, "mine", 4) != 4 || mkdirat(s->mnt, "open/dir", 0700))
		return 1;
	if (openat(s->mnt, "closed/x", O_RDWR | O_CREAT, 0600) >= 0 || errno != EACCES)
		return 2;
	if (openat(s->mnt, "closed", O_RDONLY) >= 0 || errno != EACCES)
		return 3;
	if (!fchownat(s->mnt, "open/mine", 0, 0, 0) || errno != EPERM)
		return 4;
	if (!fchmodat(s->mnt, "closed", 0777, 0) || errno != EPERM)
		return 5;
	/* Set-user-id goes when another writes. */
	fd = openat(s->mnt, "suid", O_WRONLY);
	return fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 6;
}

static void test_owners(void **state)
{
	struct session *s = MOUNTED(state);
	struct timespec t[2] = {{100, 5}, {200, 6}};
	struct statvfs fs;
	struct stat st;
	int fd;

	assert_int_equal(mkdirat(s->mnt, "open", 0777) | fchmodat(s->mnt, "open", 01777, 0), 0);
	assert_int_equal(mkdirat(s->mnt, "closed", 0700), 0);
	fd = openat(s->mnt, "suid", O_WRONLY | O_CREAT, 0777);
	assert_int_equal(fchmod(fd, 06777), 0);
	assert_int_equal(write(fd, "x", 1), 1); /* root may */
	assert_int_equal(host_stat("rw/suid").st_mode, S_IFREG | 06777);
	assert_int_equal(as_someone(user_writes, s), 0);
	assert_int_equal(host_stat("rw/suid").st_mode, S_IFREG | 0777);
	st = host_stat("rw/open/mine");
	assert_true(st.st_uid == 1000 && st.st_gid == 100 && st.st_mode == (S_IFREG | 0600));
	assert_int_equal(host_stat("rw/open/dir").st_uid, 1000);
	assert_int_equal(fchownat(s->mnt, "suid", 7, 8, 0), 0);
	assert_true(host_stat("rw/suid").st_uid == 7 && host_stat("rw/suid").st_gid == 8);
	assert_int_equal(utimensat(s->mnt, "suid", t, 0), 0);
	st = host_stat("rw/suid");
	assert_true(st.st_atim.tv_sec == 100 && st.st_atim.tv_nsec == 5 &&
		    st.st_mtim.tv_sec == 200 && st.st_mtim.tv_nsec == 6);
	assert_int_equal(fstatvfs(s->mnt, &fs), 0);
	assert_true(fs.f_blocks > 0 && fs.f_namemax == 255);
	if (!fsetxattr(fd, "user.a", "value", 5, 0)) {
		char value[8];

		assert_int_equal(fgetxattr(fd, "user.a", value, sizeof(value)), 5);
		assert_int_equal(flistxattr(fd, NULL, 0), 7);
	}
	assert_int_equal(fsetxattr(fd, "trusted.a", "value", 5, 0), -1);
	assert_int_equal(errno, EOPNOTSUPP);
	close(fd);
}

/* ---- what is no regular file, programs, locks ---- */

static void test_special(void **state)
{
	struct session *s = MOUNTED(state);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char byte = 0;
	int r, w, sock, peer, status;
	pid_t pid;

	assert_int_equal(mkfifoat(s->mnt, "fifo", 0600), 0);
	r = openat(s->mnt, "fifo", O_RDONLY | O_NONBLOCK);
	w = openat(s->mnt, "fifo", O_WRONLY | O_NONBLOCK);
	assert_true(r >= 0 && w >= 0 && write(w, "x", 1) == 1 && read(r, &byte, 1) == 1 &&
		    byte == 'x');
	close(r);
	close(w);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/0/sock", s->where);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(sock, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(sock, 1), 0);
	assert_int_equal(connect(peer, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	close(sock);
	close(peer);
	assert_int_equal(mknodat(s->mnt, "dev", S_IFCHR | 0666, 0x103), -1);
	assert_int_equal(errno, EPERM);
	/* A program, and locks of both kinds between two that have it open. */
	w = openat(s->mnt, "script", O_WRONLY | O_CREAT, 0755);
	assert_int_equal(write(w, "#!/bin/sh\nexit 33\n", 18), 18);
	assert_int_equal(flock(w, LOCK_EX), 0);
	r = openat(s->mnt, "script", O_RDONLY);
	assert_int_equal(flock(r, LOCK_SH | LOCK_NB), -1);
	close(w);
	assert_int_equal(flock(r, LOCK_SH | LOCK_NB), 0);
	close(r);
	pid = fork();
	if (!pid) {
		snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/0/script", s->where);
		execl(sa.sun_path, "script", NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 33);
}

static void test_shares(void **state)
{
	struct session *s = MOUNTED(state);
	char path[100], text[16] = {0};
	struct stat st;
	int fd;

	assert_int_equal(count(s->mnt, ".."), 3);
	snprintf(path, sizeof(path), "%s/1/old", s->where);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 3);
	close(fd);
	assert_int_equal(open(path, O_WRONLY), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(unlink(path), -1);
	assert_int_equal(errno, EROFS);
	snprintf(path, sizeof(path), "%s/1/new", s->where);
	assert_int_equal(open(path, O_WRONLY | O_CREAT, 0644), -1);
	assert_int_equal(errno, EROFS);
	snprintf(path, sizeof(path), "%s/new", s->where);
	assert_int_equal(mkdir(path, 0755), -1);
	assert_int_equal(errno, EROFS);
	snprintf(path, sizeof(path), "%s/2", s->where);
	fd = open(path, O_RDWR);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_memory_equal(text, "one file", 8);
	close(fd);
	/* What the host makes, changes and removes is seen in a second, also where there was nothing. */
	assert_int_equal(fstatat(s->mnt, "later", &st, 0), -1);
	put("rw/later", "1");
	assert_int_equal(fstatat(s->mnt, "later", &st, 0), 0);
	assert_int_equal(st.st_size, 1);
	put("rw/later", "longer");
	usleep(1100000);
	assert_int_equal(fstatat(s->mnt, "later", &st, 0), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(unlinkat(top_fd, "rw/later", 0), 0);
	usleep(1100000);
	assert_int_equal(fstatat(s->mnt, "later", &st, 0), -1);
	/* A tree that moves, whose nodes' descriptors are few. */
	assert_int_equal(mkdirat(s->mnt, "a", 0755) | mkdirat(s->mnt, "a/b", 0755) |
				 mkdirat(s->mnt, "a/b/c", 0755),
			 0);
	for (fd = 0; fd < 50; fd++) {
		snprintf(path, sizeof(path), "a/b/c/%d", fd);
		assert_int_equal(mknodat(s->mnt, path, S_IFREG | 0600, 0), 0);
	}
	assert_int_equal(renameat(s->mnt, "a/b", s->mnt, "b"), 0);
	for (fd = 0; fd < 50; fd++) {
		snprintf(path, sizeof(path), "b/c/%d", fd);
		assert_int_equal(fchmodat(s->mnt, path, 0640, 0), 0);
		snprintf(path, sizeof(path), "rw/b/c/%d", fd);
		assert_int_equal(host_stat(path).st_mode, S_IFREG | 0640);
	}
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, mount_it, unmount_it)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_contents), TEST(test_names),  TEST(test_owners),
		TEST(test_special),  TEST(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
