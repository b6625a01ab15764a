// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_fuse_bounds.c - the FUSE server and requests beyond what they may (attack class N): changes of what is read-only, lengths and
 * offsets that lie, what is no file, many at once; and that all of it works with no more system calls and rights than it is given.
 */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

#include "core/filter.h"
#include "tests/unit/fuse_client.h"

static void mkdir_host(const char *path)
{
	assert_int_equal(mkdirat(top_fd, path, 0755), 0);
}

/* ---- read-only ---- */

static const uint64_t zero[16];

/* Every request that changes something, with what else is right with it. */
static const struct change {
	uint32_t opcode;
	bool dir; /* of the directory, not of the file in it */
	union fuse_arg arg;
	size_t narg;
	const char *data;
	size_t n;
} changes[] = {
#define ON_FILE               false
#define IN_DIR                true
#define ARG(field, type, ...) {.field = {__VA_ARGS__}}, sizeof(type)
#define NO_ARG                {0}, 0
	{FUSE_SETATTR, ON_FILE,
	 ARG(setattr, struct fuse_setattr_in, .valid = FATTR_MODE, .mode = 0777), NULL, 0},
	{FUSE_SETATTR, ON_FILE,
	 ARG(setattr, struct fuse_setattr_in, .valid = FATTR_UID | FATTR_GID), NULL, 0},
	{FUSE_SETATTR, ON_FILE, ARG(setattr, struct fuse_setattr_in, .valid = FATTR_SIZE), NULL, 0},
	{FUSE_SETATTR, ON_FILE,
	 ARG(setattr, struct fuse_setattr_in, .valid = FATTR_ATIME | FATTR_ATIME_NOW), NULL, 0},
	{FUSE_SETATTR, ON_FILE, ARG(setattr, struct fuse_setattr_in, .valid = FATTR_MTIME), NULL,
	 0},
	{FUSE_SETATTR, IN_DIR,
	 ARG(setattr, struct fuse_setattr_in, .valid = FATTR_MODE, .mode = 0777), NULL, 0},
	{FUSE_SYMLINK, IN_DIR, NO_ARG, "new\0to", 7},
	{FUSE_MKNOD, IN_DIR, ARG(mknod, struct fuse_mknod_in, .mode = S_IFREG | 0644), "new", 4},
	{FUSE_MKNOD, IN_DIR, ARG(mknod, struct fuse_mknod_in, .mode = S_IFIFO | 0644), "new", 4},
	{FUSE_MKDIR, IN_DIR, ARG(mkdir, struct fuse_mkdir_in, .mode = 0755), "new", 4},
	{FUSE_UNLINK, IN_DIR, NO_ARG, "old", 4},
	{FUSE_RMDIR, IN_DIR, NO_ARG, "dir", 4},
	{FUSE_CREATE, IN_DIR, ARG(create, struct fuse_create_in, .flags = O_RDWR, .mode = 0644),
	 "new", 4},
	{FUSE_CREATE, IN_DIR,
	 ARG(create, struct fuse_create_in, .flags = O_RDWR | O_TRUNC, .mode = 0644), "old", 4},
	{FUSE_OPEN, ON_FILE, ARG(open, struct fuse_open_in, .flags = O_WRONLY), NULL, 0},
	{FUSE_OPEN, ON_FILE, ARG(open, struct fuse_open_in, .flags = O_RDWR), NULL, 0},
	{FUSE_OPEN, ON_FILE, ARG(open, struct fuse_open_in, .flags = O_ACCMODE), NULL, 0},
	{FUSE_OPEN, ON_FILE, ARG(open, struct fuse_open_in, .flags = O_RDONLY | O_TRUNC), NULL, 0},
	{FUSE_OPEN, ON_FILE, ARG(open, struct fuse_open_in, .flags = O_RDWR | O_APPEND), NULL, 0},
	{FUSE_WRITE, ON_FILE, ARG(write, struct fuse_write_in, .size = 1), "x", 1},
	{FUSE_FALLOCATE, ON_FILE, ARG(fallocate, struct fuse_fallocate_in, .length = 100), NULL, 0},
	{FUSE_SETXATTR, ON_FILE, ARG(setxattr, uint64_t, .size = 1), "user.x\0v", 8},
	{FUSE_REMOVEXATTR, ON_FILE, NO_ARG, "user.x", 7},
	{FUSE_RENAME, IN_DIR, ARG(rename, struct fuse_rename_in, 0), "old\0new", 8},
	{FUSE_RENAME2, IN_DIR, ARG(rename2, struct fuse_rename2_in, .flags = RENAME_NOREPLACE),
	 "old\0new", 8},
	{FUSE_LINK, IN_DIR, ARG(link, struct fuse_link_in, 0), "new", 4},
};

/* The request with the nodes and the open file it means. */
static int change(struct client *c, const struct change *g, uint64_t dir, uint64_t file,
		  uint64_t fh)
{
	union fuse_arg arg = g->arg;

	if (g->opcode == FUSE_WRITE || g->opcode == FUSE_FALLOCATE)
		arg.fh = fh;
	if (g->opcode == FUSE_RENAME || g->opcode == FUSE_RENAME2)
		arg.rename.newdir = dir;
	if (g->opcode == FUSE_LINK)
		arg.link.oldnodeid = file;
	return ask(c, g->opcode, g->dir ? dir : file, &arg, g->narg, g->data, g->n);
}

static void test_N_readonly(void **state)
{
	struct client *c = *state;
	struct stat dir_was, was, now;
	uint64_t node, fh, rw, rwh;
	size_t i;

	mkdir_host("ro/dir");
	was = host_stat("ro/old");
	dir_was = host_stat("ro");
	node = must_find(c, c->ro, "old");
	assert_int_equal(do_open(c, node, O_RDONLY, &fh), 0);
	for (i = 0; i < ARRAY_SIZE(changes); i++)
		if (change(c, &changes[i], c->ro, node, fh) != EROFS)
			fail_msg("change %zu (opcode %u) is not refused", i, changes[i].opcode);
	/* Through a file of another share. */
	assert_int_equal(do_create(c, c->rw, "w", O_RDWR, 0644, &rw, &rwh), 0);
	assert_int_equal(ASK(c, FUSE_COPY_FILE_RANGE, rw, NULL, 0, struct fuse_copy_file_range_in,
			     .fh_in = rwh, .nodeid_out = node, .fh_out = fh, .len = 1),
			 EROFS);
	assert_int_equal(ASK(c, FUSE_SETATTR, rw, NULL, 0, struct fuse_setattr_in,
			     .valid = FATTR_SIZE | FATTR_FH, .fh = fh),
			 EBADF);
	assert_int_equal(do_write(c, rw, fh, 0, "x", 1), EBADF);
	assert_int_equal(do_rename(c, c->rw, "w", c->ro, "w", 0), EXDEV);
	assert_int_equal(ASK_NAME(c, FUSE_LINK, c->ro, "w", struct fuse_link_in, .oldnodeid = rw),
			 EROFS);
	assert_int_equal(ASK_NAME(c, FUSE_LINK, c->rw, "w2", struct fuse_link_in,
				  .oldnodeid = node),
			 EXDEV);
	/* Nor the root. */
	for (i = 0; i < ARRAY_SIZE(changes); i++)
		if (changes[i].dir)
			assert_int_equal(change(c, &changes[i], FUSE_ROOT_ID, node, fh), EROFS);
	/* Reading is allowed, and leaves no trace: not even when it was. */
	assert_int_equal(do_read(c, node, fh, 0, 100), 0);
	assert_memory_equal(BODY(c, char), "old", 3);
	now = host_stat("ro/old");
	assert_memory_equal(&now, &was, sizeof(was));
	now = host_stat("ro");
	assert_memory_equal(&now, &dir_was, sizeof(was));
	assert_string_equal(get("ro/old"), "old");
}

/* The same requests where they are allowed: so it is only the share that refused them. */
static void test_changes_are_right(void **state)
{
	struct client *c = *state;
	uint64_t node, fh;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		int want = changes[i].opcode == FUSE_OPEN && changes[i].arg.open.flags == O_ACCMODE
				   ? EINVAL
				   : 0;

		(void)mkdirat(top_fd, "rw/dir", 0755);
		(void)unlinkat(top_fd, "rw/new", 0);
		(void)unlinkat(top_fd, "rw/new", AT_REMOVEDIR);
		put("rw/old", "old");
		node = must_find(c, c->rw, "old");
		assert_int_equal(do_open(c, node, O_RDWR, &fh), 0);
		r = change(c, &changes[i], c->rw, node, fh);
		if (r != want && !(r == EOPNOTSUPP && (changes[i].opcode == FUSE_SETXATTR ||
						       changes[i].opcode == FUSE_REMOVEXATTR)))
			fail_msg("change %zu (opcode %u) gives %d, not %d", i, changes[i].opcode, r,
				 want);
		assert_int_equal(do_release(c, FUSE_RELEASE, node, fh), 0);
	}
}

/* ---- what is not of its length ---- */

static void test_N_lengths(void **state)
{
	struct client *c = *state;
	uint64_t node, fh;
	uint32_t op, n;
	size_t room;
	int r;

	assert_int_equal(do_create(c, c->rw, "f", O_RDWR, 0644, &node, &fh), 0);
	for (op = 0; op < 70; op++)
		for (n = 0; n < 136; n++) {
			/* Requests of zeros, of any length, to a file, to a directory and to nobody. */
			if (op == FUSE_DESTROY || op == FUSE_INIT)
				continue;
			(void)ask(c, op, n % 3 ? c->rw : node, NULL, 0, zero, MIN(n, sizeof(zero)));
			r = ask(c, op, 0, NULL, 0, zero, MIN(n, sizeof(zero)));
			assert_true(r == -1 || r > 0 || op == FUSE_INTERRUPT);
		}
	/* A header that says another length, or is none. */
	(void)put_header(c, FUSE_GETATTR, c->rw, 0);
	for (n = 0; n < sizeof(struct fuse_in_header); n++)
		assert_int_equal(send_raw(c, n), -1);
	(void)put_header(c, FUSE_STATFS, c->rw, 1);
	assert_int_equal(send_raw(c, sizeof(struct fuse_in_header)), EINVAL);
	/* No room for what would be said: then it is not done either. */
	for (room = 0; room < sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out) +
				      sizeof(struct fuse_open_out);
	     room++) {
		uint64_t made, mh;

		c->max = room;
		r = do_create(c, c->rw, "no-room", O_RDWR, 0644, &made, &mh);
		assert_int_equal(r, room < sizeof(struct fuse_out_header) ? -1 : EINVAL);
		r = ASK_NAME(c, FUSE_MKDIR, c->rw, "no-room", struct fuse_mkdir_in, .mode = 0755);
		if (room < sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out))
			assert_int_equal(r, room < sizeof(struct fuse_out_header) ? -1 : EINVAL);
		else
			assert_int_equal(ask(c, FUSE_RMDIR, c->rw, NULL, 0, "no-room", 8), 0);
	}
	c->max = sizeof(c->reply);
	assert_false(exists("rw/no-room"));
	assert_int_equal(init(c, 0), 0);
	assert_int_equal(c->f->nfiles, 0);
	assert_int_equal(c->f->nnodes, 3);
}

static void test_N_offsets(void **state)
{
	static const uint64_t far[] = {UINT64_MAX, UINT64_MAX - 5, INT64_MAX,
				       (uint64_t)INT64_MAX + 1, INT64_MAX - 5};
	struct client *c = *state;
	uint64_t node, fh;
	size_t i;

	assert_int_equal(do_create(c, c->rw, "f", O_RDWR, 0644, &node, &fh), 0);
	for (i = 0; i < ARRAY_SIZE(far); i++) {
		assert_int_equal(do_read(c, node, fh, far[i], 4096), EINVAL);
		assert_int_equal(do_write(c, node, fh, far[i], "0123456789", 10), EINVAL);
		assert_int_equal(ASK(c, FUSE_FALLOCATE, node, NULL, 0, struct fuse_fallocate_in,
				     .fh = fh, .offset = far[i], .length = 10),
				 EFBIG);
		assert_int_equal(ASK(c, FUSE_FALLOCATE, node, NULL, 0, struct fuse_fallocate_in,
				     .fh = fh, .offset = 10, .length = far[i]),
				 EFBIG);
		assert_int_equal(ASK(c, FUSE_COPY_FILE_RANGE, node, NULL, 0,
				     struct fuse_copy_file_range_in, .fh_in = fh, .off_in = far[i],
				     .nodeid_out = node, .fh_out = fh, .len = 10),
				 EINVAL);
		assert_int_equal(ASK(c, FUSE_COPY_FILE_RANGE, node, NULL, 0,
				     struct fuse_copy_file_range_in, .fh_in = fh, .off_out = far[i],
				     .nodeid_out = node, .fh_out = fh, .len = 10),
				 EINVAL);
		assert_true(ASK(c, FUSE_LSEEK, node, NULL, 0, struct fuse_lseek_in, .fh = fh,
				.offset = far[i], .whence = SEEK_DATA) > 0);
	}
	/* More than we answer at once, or than there is room for: a short answer would be the file's end. */
	assert_int_equal(do_read(c, node, fh, 0, FUSE_DATA_MAX), 0);
	assert_int_equal(do_read(c, node, fh, 0, FUSE_DATA_MAX + 1), EINVAL);
	assert_int_equal(do_read(c, node, fh, 0, UINT32_MAX), EINVAL);
	c->max = 100;
	assert_int_equal(do_read(c, node, fh, 0, 85), EINVAL);
	assert_int_equal(do_read(c, node, fh, 0, 84), 0);
	c->max = sizeof(c->reply);
	/* A size that is not that of the data. */
	assert_int_equal(ASK(c, FUSE_WRITE, node, "0123", 4, struct fuse_write_in, .fh = fh,
			     .size = 5),
			 EINVAL);
	assert_int_equal(ASK(c, FUSE_WRITE, node, "0123", 4, struct fuse_write_in, .fh = fh,
			     .size = 3),
			 EINVAL);
	assert_int_equal(ASK(c, FUSE_WRITE, node, "0123", 4, struct fuse_write_in, .fh = fh,
			     .size = UINT32_MAX),
			 EINVAL);
	assert_int_equal(host_stat("rw/f").st_size, 0);
	assert_int_equal(do_write(c, node, fh, 0, c->reply, FUSE_DATA_MAX), 0);
	assert_int_equal(BODY(c, struct fuse_write_out)->size, FUSE_DATA_MAX);
}

/* ---- what is no file ---- */

static void test_N_special(void **state)
{
	struct client *c = *state;
	uint64_t node, fh, made;
	struct fuse_attr a;

	/* Opening a FIFO waits for its other end; nobody may be made to. */
	assert_int_equal(mkfifoat(top_fd, "rw/fifo", 0666), 0);
	assert_int_equal(do_create(c, c->rw, "fifo", O_WRONLY, 0666, &made, &fh), EPERM);
	assert_int_equal(do_create(c, c->rw, "fifo", O_RDONLY | O_TRUNC, 0666, &made, &fh), EPERM);
	node = must_find(c, c->rw, "fifo");
	assert_int_equal(do_open(c, node, O_RDONLY, &fh), EPERM);
	assert_int_equal(ASK(c, FUSE_SETATTR, node, NULL, 0, struct fuse_setattr_in,
			     .valid = FATTR_SIZE, .size = 1),
			 EINVAL);
	assert_int_equal(ASK_NAME(c, FUSE_GETXATTR, node, "user.x", struct fuse_getxattr_in,
				  .size = 10),
			 ENODATA);
	/* A device is shown as what it is, which the guest makes its own of, or nothing; the host's is not opened. */
	if (squash || mknodat(top_fd, "rw/dev", S_IFCHR | 0666, makedev(1, 3)))
		return;
	node = must_find(c, c->rw, "dev");
	assert_int_equal(getattr(c, node, &a), 0);
	assert_true(S_ISCHR(a.mode) && a.rdev == 0x103);
	assert_int_equal(do_open(c, node, O_RDONLY, &fh), EPERM);
	assert_int_equal(do_create(c, c->rw, "dev", O_RDWR, 0666, &made, &fh), EPERM);
	assert_int_equal(ASK_NAME(c, FUSE_SETXATTR, node, "user.x", uint64_t, 0), EPERM);
}

/* ---- many at once ---- */

#define THREADS 4

struct crowd {
	struct client c;
	unsigned seed;
	bool resets;
};

static void *crowd_main(void *arg)
{
	struct crowd *w = arg;
	struct client *c = &w->c;
	uint64_t dir, node, fh;
	struct fuse_entry_out e;
	char name[16], to[16];
	unsigned i;

	for (i = 0; i < 3000; i++) {
		if (w->resets && i % 50 == 0)
			(void)init(c, FUSE_MAX_PAGES);
		dir = lookup(c, FUSE_ROOT_ID, "0", &e) ? 0 : e.nodeid;
		snprintf(name, sizeof(name), "f%u", (unsigned)rand_r(&w->seed) % 8);
		snprintf(to, sizeof(to), "f%u", (unsigned)rand_r(&w->seed) % 8);
		if (!do_create(c, dir, name, O_RDWR, 0644, &node, &fh)) {
			(void)do_write(c, node, fh, 0, "text", 4);
			(void)do_read(c, node, fh, 0, 4);
			(void)ASK_NAME(c, FUSE_LINK, dir, to, struct fuse_link_in,
				       .oldnodeid = node);
			if (i % 3)
				(void)do_release(c, FUSE_RELEASE, node, fh);
			if (i % 5)
				forget(c, node, 1);
		}
		(void)do_rename(c, dir, name, dir, to, i & 1 ? RENAME_EXCHANGE : 0);
		(void)ask(c, FUSE_UNLINK, dir, NULL, 0, to, strlen(to) + 1);
		if (!ASK(c, FUSE_OPENDIR, dir, NULL, 0, struct fuse_open_in, 0)) {
			fh = BODY(c, struct fuse_open_out)->fh;
			(void)ASK(c, FUSE_READDIRPLUS, dir, NULL, 0, struct fuse_read_in, .fh = fh,
				  .size = 4096);
			(void)do_release(c, FUSE_RELEASEDIR, dir, fh);
		}
	}
	return NULL;
}

/* Four threads, one of which begins again all the time: nothing is used after it went, nothing is left. */
static void test_N_crowd(void **state)
{
	struct client *c = *state;
	struct crowd *w = xcalloc(THREADS, sizeof(*w));
	pthread_t t[THREADS];
	unsigned i;

	c->f->max_open = 8;
	for (i = 0; i < THREADS; i++) {
		w[i].c.f = c->f;
		w[i].c.max = c->max;
		w[i].seed = i;
		w[i].resets = !i;
		assert_int_equal(pthread_create(&t[i], NULL, crowd_main, &w[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	free(w);
	assert_int_equal(init(c, 0), 0);
	assert_int_equal(c->f->nnodes, 3);
	assert_int_equal(c->f->nopen, 3);
	assert_int_equal(c->f->nfiles, 0);
}

/* ---- confined ---- */

/* All requests there are. */
static int all_requests(struct client *c)
{
	uint64_t node = 0, fh = 0, dh, i;
	int bad = 0;

	c->uid = c->gid = squash ? 0 : 1000;
	bad += do_create(c, c->rw, "old", O_RDWR, 0644, &node, &fh);
	c->uid = c->gid = 0;
	for (i = 0; i < ARRAY_SIZE(changes); i++)
		(void)change(c, &changes[i], c->rw, node, fh);
	node = must_find(c, c->rw, "new");
	bad += do_open(c, node, O_RDWR, &fh);
	bad += do_read(c, node, fh, 0, 10);
	bad += ASK(c, FUSE_FSYNC, node, NULL, 0, struct fuse_fsync_in, .fh = fh);
	bad += ASK(c, FUSE_FSYNC, node, NULL, 0, struct fuse_fsync_in, .fh = fh, .fsync_flags = 1);
	bad += ASK(c, FUSE_WRITE, node, "x", 1, struct fuse_write_in, .fh = fh, .size = 1,
		   .write_flags = 4, .flags = O_APPEND);
	(void)ASK(c, FUSE_LSEEK, node, NULL, 0, struct fuse_lseek_in, .fh = fh,
		  .whence = SEEK_HOLE);
	(void)ASK(c, FUSE_COPY_FILE_RANGE, node, NULL, 0, struct fuse_copy_file_range_in,
		  .fh_in = fh, .nodeid_out = node, .fh_out = fh, .off_out = 4096, .len = 1);
	(void)ASK_NAME(c, FUSE_GETXATTR, node, "user.x", struct fuse_getxattr_in, .size = 10);
	(void)ASK(c, FUSE_LISTXATTR, node, NULL, 0, struct fuse_getxattr_in, .size = 10);
	bad += do_release(c, FUSE_RELEASE, node, fh);
	bad += ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "link\0to", 8);
	bad += ask(c, FUSE_READLINK, BODY(c, struct fuse_entry_out)->nodeid, NULL, 0, NULL, 0);
	bad += ask(c, FUSE_STATFS, c->rw, NULL, 0, NULL, 0);
	bad += ASK(c, FUSE_OPENDIR, c->rw, NULL, 0, struct fuse_open_in, 0);
	dh = BODY(c, struct fuse_open_out)->fh;
	for (i = 0; i < 2; i++)
		bad += ASK(c, i ? FUSE_READDIRPLUS : FUSE_READDIR, c->rw, NULL, 0,
			   struct fuse_read_in, .fh = dh, .size = 1 << 20);
	bad += do_release(c, FUSE_RELEASEDIR, c->rw, dh);
	for (i = 0; i < 9000; i++) { /* tables that grow, until they move */
		char name[16];

		snprintf(name, sizeof(name), "m%u", (unsigned)i);
		bad += ASK_NAME(c, FUSE_MKNOD, c->rw, name, struct fuse_mknod_in,
				.mode = S_IFREG | 0644);
	}
	return bad + init(c, 0);
}

/* As the process that serves a machine's shares is: an empty root, few capabilities, nobody may look at it. */
static int confine(void)
{
	static const cap_value_t keep[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,
					   CAP_FSETID, CAP_SETUID,       CAP_SETGID};
	cap_t caps = cap_init();
	int bad = 0;

	if (!squash) {
		bad |= fchdir(top_fd) || mkdir("empty", 0755) || chroot("empty") || chdir("/");
		bad |= setgroups(0, NULL) ||
		       cap_set_flag(caps, CAP_PERMITTED, ARRAY_SIZE(keep), keep, CAP_SET) ||
		       cap_set_flag(caps, CAP_EFFECTIVE, ARRAY_SIZE(keep), keep, CAP_SET) ||
		       cap_set_proc(caps);
	}
	cap_free(caps);
	return bad || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void test_N_filter(void **state)
{
	struct client *c = *state;
	struct filter filter;
	int status;
	pid_t pid;

	if (SANITIZED)
		skip(); /* it makes calls of its own */
	assert_int_equal(filter_build(FILTER_FS, &filter, NULL), 0);
	pid = fork();
	if (!pid) {
		alloc_give_back(); /* what is large is mapped, and moves when it grows */
		fuse_free(c->f);   /* descriptors go by number, in another process */
		if (start(c) || confine() || filter_install(&filter))
			_exit(2);
		_exit(all_requests(c) ? 1 : 0);
	}
	filter_free(&filter);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_N_readonly), TEST(test_changes_are_right), TEST(test_N_lengths),
		TEST(test_N_offsets),  TEST(test_N_special),         TEST(test_N_crowd),
		TEST(test_N_filter),
	};

	return run_both(tests, ARRAY_SIZE(tests), 0);
}
