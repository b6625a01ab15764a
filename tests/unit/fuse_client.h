/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_client.h - what a guest's kernel says to the FUSE server, byte by byte, and what it makes of the answer.
 *
 * A directory of the test's own (in memory, where fsync costs nothing) holds rw (share 0), ro (share 1, read-only) and file (share 2), and beside them `secret`, which no share
 * leads to.
 */
#ifndef TESTS_FUSE_CLIENT_H
#define TESTS_FUSE_CLIENT_H

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/path.h"
#include "vmm/fuse_impl.h"

#define SOMEONE 12345u /* who the server is when it is not root */

struct client {
	struct fuse *f;
	uint64_t unique;
	uint32_t uid, gid;
	size_t max;            /* room for the reply */
	size_t len;            /* of its body */
	uint64_t rw, ro, file; /* the shares' node ids */
	unsigned fds;          /* open before */
	_Alignas(8) uint8_t req[FUSE_MSG_MAX];
	_Alignas(8) uint8_t reply[FUSE_MSG_MAX];
};

static bool squash;
static char top[64];
static int top_fd = -1;

/* ---- one request ---- */

#define BODY(c, type) ((const type *)((c)->reply + sizeof(struct fuse_out_header)))

/* Sends what stands in c->req, n bytes with the header, and checks what every reply is. The errno, or 0. */
static UNUSED int send_raw(struct client *c, size_t n)
{
	struct fuse_out_header out;
	size_t got = fuse_handle(c->f, c->req, n, c->reply, c->max);

	c->len = 0;
	if (!got)
		return -1;
	assert_true(got >= sizeof(out) && got <= c->max);
	memcpy(&out, c->reply, sizeof(out));
	assert_int_equal(out.len, got);
	assert_int_equal(out.unique, c->unique);
	assert_true(out.error <= 0 && out.error > -512);
	if (out.error)
		assert_int_equal(got, sizeof(out));
	c->len = got - sizeof(out);
	return -out.error;
}

static UNUSED size_t put_header(struct client *c, uint32_t opcode, uint64_t node, size_t n)
{
	struct fuse_in_header in = {.len = (uint32_t)(sizeof(in) + n),
				    .opcode = opcode,
				    .unique = ++c->unique,
				    .nodeid = node,
				    .uid = c->uid,
				    .gid = c->gid,
				    .pid = 7};

	memcpy(c->req, &in, sizeof(in));
	return sizeof(in);
}

static UNUSED int ask(struct client *c, uint32_t opcode, uint64_t node, const void *arg,
		      size_t nargs, const void *data, size_t n)
{
	size_t at = put_header(c, opcode, node, nargs + n);

	if (nargs)
		memcpy(c->req + at, arg, nargs);
	if (n)
		memcpy(c->req + at + nargs, data, n);
	return send_raw(c, at + nargs + n);
}

/* With the fixed part as a literal: ASK(c, FUSE_READ, id, "", 0, struct fuse_read_in, .fh = 1) */
#define ASK(c, opcode, node, data, n, type, ...) \
	ask(c, opcode, node, &(type){__VA_ARGS__}, sizeof(type), data, n)
#define ASK_NAME(c, opcode, node, name, type, ...) \
	ASK(c, opcode, node, name, strlen(name) + 1, type, __VA_ARGS__)

/* ---- what tests ask often ---- */

static UNUSED int lookup(struct client *c, uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	int r = ask(c, FUSE_LOOKUP, dir, NULL, 0, name, strlen(name) + 1);

	*e = (struct fuse_entry_out){0};
	if (!r) {
		assert_int_equal(c->len, sizeof(*e));
		memcpy(e, BODY(c, struct fuse_entry_out), sizeof(*e));
		assert_true(e->nodeid > FUSE_ROOT_ID);
		assert_int_equal(e->entry_valid, 1);
		assert_int_equal(e->attr_valid, 1);
	}
	return r;
}

static UNUSED uint64_t must_find(struct client *c, uint64_t dir, const char *name)
{
	struct fuse_entry_out e;

	assert_int_equal(lookup(c, dir, name, &e), 0);
	return e.nodeid;
}

static UNUSED int getattr(struct client *c, uint64_t node, struct fuse_attr *a)
{
	int r = ASK(c, FUSE_GETATTR, node, NULL, 0, struct fuse_getattr_in, 0);

	*a = (struct fuse_attr){0};
	if (!r) {
		assert_int_equal(c->len, sizeof(struct fuse_attr_out));
		*a = BODY(c, struct fuse_attr_out)->attr;
	}
	return r;
}

static UNUSED int do_open(struct client *c, uint64_t node, uint32_t flags, uint64_t *fh)
{
	int r = ASK(c, FUSE_OPEN, node, NULL, 0, struct fuse_open_in, .flags = flags);

	*fh = r ? 0 : BODY(c, struct fuse_open_out)->fh;
	return r;
}

static UNUSED int do_create(struct client *c, uint64_t dir, const char *name, uint32_t flags,
			    uint32_t mode, uint64_t *node, uint64_t *fh)
{
	int r = ASK_NAME(c, FUSE_CREATE, dir, name, struct fuse_create_in, .flags = flags,
			 .mode = mode);

	*node = *fh = 0;
	if (!r) {
		assert_int_equal(c->len,
				 sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out));
		*node = BODY(c, struct fuse_entry_out)->nodeid;
		*fh = ((const struct fuse_open_out *)(BODY(c, struct fuse_entry_out) + 1))->fh;
	}
	return r;
}

static UNUSED int do_write(struct client *c, uint64_t node, uint64_t fh, uint64_t off,
			   const void *p, size_t n)
{
	return ASK(c, FUSE_WRITE, node, p, n, struct fuse_write_in, .fh = fh, .offset = off,
		   .size = (uint32_t)n);
}

static UNUSED int do_read(struct client *c, uint64_t node, uint64_t fh, uint64_t off, uint32_t n)
{
	return ASK(c, FUSE_READ, node, NULL, 0, struct fuse_read_in, .fh = fh, .offset = off,
		   .size = n);
}

static UNUSED int do_release(struct client *c, uint32_t opcode, uint64_t node, uint64_t fh)
{
	return ASK(c, opcode, node, NULL, 0, struct fuse_release_in, .fh = fh);
}

static UNUSED void forget(struct client *c, uint64_t node, uint64_t n)
{
	assert_int_equal(ASK(c, FUSE_FORGET, node, NULL, 0, struct fuse_forget_in, .nlookup = n),
			 -1);
}

static UNUSED int init(struct client *c, uint32_t flags)
{
	return ASK(c, FUSE_INIT, 0, NULL, 0, struct fuse_init_in, .major = 7, .minor = 37,
		   .flags = flags, .max_readahead = 1 << 17);
}

static UNUSED int do_rename(struct client *c, uint64_t from, const char *old, uint64_t to,
			    const char *new, uint32_t flags)
{
	char names[600];
	int n = snprintf(names, sizeof(names), "%s%c%s", old, 0, new) + 1;

	return flags ? ASK(c, FUSE_RENAME2, from, names, (size_t)n, struct fuse_rename2_in,
			   .newdir = to, .flags = flags)
		     : ASK(c, FUSE_RENAME, from, names, (size_t)n, struct fuse_rename_in,
			   .newdir = to);
}

/* ---- the host's side ---- */

static UNUSED void put(const char *path, const char *text)
{
	int fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* What the host reads; the caller's until the next call. */
static UNUSED const char *get(const char *path)
{
	static char text[4096];
	int fd = openat(top_fd, path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return "(none)";
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n >= 0);
	text[n] = 0;
	close(fd);
	return text;
}

static UNUSED bool exists(const char *path)
{
	return !faccessat(top_fd, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

static UNUSED struct stat host_stat(const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(top_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static UNUSED unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* In memory, where fsync costs nothing, unless the test is about what only disks have. */
static const char *place = "/dev/shm";

/* A server of the shares; the descriptors it goes by are this process's. */
static UNUSED int start(struct client *c)
{
	struct fuse_share shares[3];
	struct fuse_config cfg = {.shares = shares, .nshares = 3, .squash = squash};

	shares[0] = (struct fuse_share){openat(top_fd, "rw", O_PATH | O_CLOEXEC), false};
	shares[1] = (struct fuse_share){openat(top_fd, "ro", O_PATH | O_CLOEXEC), true};
	shares[2] = (struct fuse_share){openat(top_fd, "file", O_PATH | O_CLOEXEC), false};
	c->f = fuse_new(&cfg, NULL);
	if (!c->f || init(c, FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 | FUSE_HANDLE_KILLPRIV))
		return -1;
	c->rw = must_find(c, FUSE_ROOT_ID, "0");
	c->ro = must_find(c, FUSE_ROOT_ID, "1");
	c->file = must_find(c, FUSE_ROOT_ID, "2");
	return 0;
}

static UNUSED int setup(void **state)
{
	struct client *c = xcalloc(1, sizeof(*c));

	snprintf(top, sizeof(top), "%s/test-fuse.XXXXXX", access(place, W_OK) ? "/tmp" : place);
	if (!mkdtemp(top) || (top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	mkdirat(top_fd, "rw", 0755);
	mkdirat(top_fd, "ro", 0755);
	put("file", "one file");
	put("secret", "secret");
	put("ro/old", "old");
	c->fds = open_fds();
	c->max = sizeof(c->reply);
	*state = c;
	return start(c);
}

/* Where files are on a disk. */
static UNUSED int setup_disk(void **state)
{
	int r;

	place = "/tmp";
	r = setup(state);
	place = "/dev/shm";
	return r;
}

static UNUSED int teardown(void **state)
{
	struct client *c = *state;
	int tmp, r;

	fuse_free(c->f);
	assert_int_equal(open_fds(), c->fds);
	free(c);
	tmp = openat(top_fd, "..", O_RDONLY | O_DIRECTORY);
	close(top_fd);
	r = path_remove_tree(tmp, strrchr(top, '/') + 1, NULL);
	close(tmp);
	return r;
}

static UNUSED int become_someone(void)
{
	return setgroups(0, NULL) || setresgid(SOMEONE, SOMEONE, SOMEONE) ||
	       setresuid(SOMEONE, SOMEONE, SOMEONE);
}

/* One test in a process of that user's; what it says goes to standard error, as only one process may speak for the program. */
static UNUSED void as_user(void **state)
{
	const struct CMUnitTest *test = *state;
	int status = -1;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		squash = true;
		if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || become_someone())
			_exit(1);
		status = _cmocka_run_group_tests(test->name, test, 1, NULL, NULL);
		fflush(NULL);
		_exit(status != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Runs the tests as root, and again as a user, with squash, but for the last nroot, which need root's rights. */
static UNUSED int run_both(const struct CMUnitTest *tests, size_t n, size_t nroot)
{
	struct CMUnitTest *all = xcalloc(2 * n, sizeof(*all));
	char **names = xcalloc(n, sizeof(*names));
	size_t i, nall = n;
	int bad;

	if (geteuid()) {
		print_message("not root: only as a user\n");
		squash = true;
		bad = _cmocka_run_group_tests("as a user", tests, n - nroot, NULL, NULL);
		nall = 0;
	}
	if (nall) {
		memcpy(all, tests, n * sizeof(*all));
		for (i = 0; i < n - nroot; i++) {
			names[i] = xasprintf("%s, as a user", tests[i].name);
			all[nall++] =
				(struct CMUnitTest){.name = names[i],
						    .test_func = as_user,
						    .initial_state = (void *)(uintptr_t)&tests[i]};
		}
		bad = _cmocka_run_group_tests("as root, and as a user", all, nall, NULL, NULL);
	}
	for (i = 0; i < n; i++)
		free(names[i]);
	free(names);
	free(all);
	return bad;
}

#endif
