// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_fuse_hostile.c - the FUSE server and a guest that wants what it was not given (attack class N): out of a share, at files by
 * numbers it makes up, at descriptors and memory of the host without end; while somebody on the host moves the same files.
 */
#include <linux/fs.h>
#include <pthread.h>
#include <sys/resource.h>

#include "tests/unit/fuse_client.h"

/* From here on no node keeps a descriptor that nobody uses. */
static void keep_none(struct client *c)
{
	struct fuse_entry_out e;

	c->f->max_open = c->f->nshares;
	(void)lookup(c, c->rw, ".x", &e);
	fuse_lock(c->f);
	while (c->f->oldest) { /* as fuse_node.c does when there are too many */
		struct fuse_node *n = c->f->oldest;

		c->f->oldest = n->newer;
		*(n->newer ? &n->newer->older : &c->f->newest) = NULL;
		n->newer = NULL;
		close(n->fd);
		n->fd = -1;
		c->f->nopen--;
	}
	fuse_unlock(c->f);
	assert_int_equal(c->f->nopen, c->f->nshares);
}

static void mkdir_host(const char *path)
{
	assert_int_equal(mkdirat(top_fd, path, 0755), 0);
}

/* ---- names ---- */

static void test_N_names(void **state)
{
	static char long_name[257];
	static const char *const bad[] = {"",    ".",         "..",        "/",
					  "a/b", "../secret", "../ro/old", "/etc/passwd",
					  "./x", "x/",        "x/..",      long_name};
	struct client *c = *state;
	uint64_t node, fh;
	size_t i;

	memset(long_name, 'n', 256);
	put("rw/good", "good");
	node = must_find(c, c->rw, "good");
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		const char *b = bad[i];
		size_t n = strlen(b) + 1;
		int want = b == long_name ? ENAMETOOLONG : EINVAL;
		char link[300] = {0};
		struct fuse_entry_out e;

		memcpy(link, b, n);
		memcpy(link + n, "to", 3);
		assert_int_equal(lookup(c, c->rw, b, &e), want);
		assert_int_equal(lookup(c, FUSE_ROOT_ID, b, &e), want);
		assert_int_equal(do_create(c, c->rw, b, O_RDWR, 0666, &node, &fh), want);
		assert_int_equal(ASK(c, FUSE_MKNOD, c->rw, b, n, struct fuse_mknod_in,
				     .mode = S_IFREG | 0666),
				 want);
		assert_int_equal(ASK(c, FUSE_MKDIR, c->rw, b, n, struct fuse_mknod_in,
				     .mode = 0777),
				 EINVAL);
		assert_int_equal(ASK(c, FUSE_MKDIR, c->rw, b, n, struct fuse_mkdir_in,
				     .mode = 0777),
				 want);
		assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, link, n + 3), want);
		assert_int_equal(ask(c, FUSE_UNLINK, c->rw, NULL, 0, b, n), want);
		assert_int_equal(ask(c, FUSE_RMDIR, c->rw, NULL, 0, b, n), want);
		node = must_find(c, c->rw, "good");
		assert_int_equal(ASK(c, FUSE_LINK, c->rw, b, n, struct fuse_link_in,
				     .oldnodeid = node),
				 want);
		assert_int_equal(do_rename(c, c->rw, b, c->rw, "new", 0), want);
		assert_int_equal(do_rename(c, c->rw, "good", c->rw, b, 0), want);
		assert_int_equal(do_rename(c, c->rw, "good", c->rw, b, RENAME_NOREPLACE), want);
	}
	/* No end, two where there is one, one where there are two. */
	assert_int_equal(ask(c, FUSE_LOOKUP, c->rw, NULL, 0, "good", 4), EINVAL);
	assert_int_equal(ask(c, FUSE_LOOKUP, c->rw, NULL, 0, NULL, 0), EINVAL);
	assert_int_equal(ask(c, FUSE_LOOKUP, c->rw, NULL, 0, "good\0x", 7), EINVAL);
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "link", 5), EINVAL);
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "link\0to", 7), EINVAL);
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "link\0", 6), ENOENT);
	assert_int_equal(ASK(c, FUSE_RENAME, c->rw, "good", 5, struct fuse_rename_in,
			     .newdir = c->rw),
			 EINVAL);
	assert_string_equal(get("secret"), "secret");
	assert_string_equal(get("rw/good"), "good");
	assert_false(exists("rw/new") || exists("rw/link"));
}

/* ---- links on the host ---- */

static void test_N_links_are_not_followed(void **state)
{
	static const char *const to[] = {"../secret", "..", "/",   "/proc/self/fd/0",
					 "link0",     ".",  "good"};
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t node, fh, made;
	char name[8], path[16];
	size_t i;

	put("rw/good", "good");
	for (i = 0; i < ARRAY_SIZE(to); i++) {
		snprintf(name, sizeof(name), "link%zu", i);
		snprintf(path, sizeof(path), "rw/%s", name);
		assert_int_equal(symlinkat(to[i], top_fd, path), 0);
		node = must_find(c, c->rw, name);
		assert_int_equal(lookup(c, node, "secret", &e), ENOTDIR);
		assert_int_equal(do_open(c, node, O_RDONLY, &fh), EPERM);
		assert_int_equal(ASK(c, FUSE_OPENDIR, node, NULL, 0, struct fuse_open_in, 0),
				 ENOTDIR);
		assert_int_equal(do_create(c, c->rw, name, O_RDWR | O_TRUNC, 0666, &made, &fh),
				 ELOOP);
		assert_int_equal(do_create(c, node, "x", O_RDWR, 0666, &made, &fh), ENOTDIR);
		assert_int_equal(ASK_NAME(c, FUSE_MKDIR, node, "x", struct fuse_mkdir_in,
					  .mode = 0777),
				 ENOTDIR);
		assert_int_equal(do_rename(c, c->rw, "good", node, "x", 0), ENOTDIR);
		assert_int_equal(ask(c, FUSE_UNLINK, node, NULL, 0, "secret", 7), ENOTDIR);
		assert_int_equal(ASK(c, FUSE_SETATTR, node, NULL, 0, struct fuse_setattr_in,
				     .valid = FATTR_MODE, .mode = 0777),
				 EOPNOTSUPP);
		assert_int_equal(ASK(c, FUSE_SETATTR, node, NULL, 0, struct fuse_setattr_in,
				     .valid = FATTR_SIZE),
				 EINVAL);
	}
	assert_string_equal(get("secret"), "secret");
	assert_string_equal(get("rw/good"), "good");
}

struct swap {
	_Atomic bool stop;
	_Atomic unsigned turns;
};

/* dir and a link out of the share change places. */
static void *swap_main(void *arg)
{
	struct swap *s = arg;

	while (!s->stop) {
		if (renameat2(top_fd, "rw/d", top_fd, "rw/l", RENAME_EXCHANGE))
			return NULL;
		s->turns++;
	}
	return arg;
}

static void test_N_links_that_come_and_go(void **state)
{
	struct client *c = *state;
	struct swap s = {0};
	uint64_t d, deep, f, fh, made;
	unsigned ok = 0, stale = 0, i;
	struct fuse_entry_out e;
	pthread_t t;
	void *ret;
	int r;

	mkdir_host("rw/d");
	mkdir_host("rw/d/deep");
	put("rw/d/deep/f", "inside");
	mkdir_host("out");
	mkdir_host("out/deep");
	put("out/deep/f", "outside");
	assert_int_equal(symlinkat("../out", top_fd, "rw/l"), 0);
	d = must_find(c, c->rw, "d");
	deep = must_find(c, d, "deep");
	f = must_find(c, deep, "f");
	keep_none(c);
	assert_int_equal(pthread_create(&t, NULL, swap_main, &s), 0);
	for (i = 0; i < 1000000 && (i < 3000 || !ok || !stale); i++) {
		r = do_open(c, f, O_RDWR, &fh);
		assert_true(r == 0 || r == ESTALE);
		ok += !r;
		stale += r == ESTALE;
		if (!r) {
			assert_int_equal(do_read(c, f, fh, 0, 100), 0);
			assert_int_equal(c->len, 6);
			assert_memory_equal(BODY(c, char), "inside", 6);
			assert_int_equal(do_release(c, FUSE_RELEASE, f, fh), 0);
		}
		r = do_create(c, deep, "new", O_RDWR | O_TRUNC, 0666, &made, &fh);
		assert_true(r == 0 || r == ESTALE);
		if (!r) {
			(void)do_release(c, FUSE_RELEASE, made, fh);
			forget(c, made, 1);
		}
		r = lookup(c, d, "deep", &e);
		assert_true(r == ESTALE || (!r && e.nodeid == deep));
		r = lookup(c, c->rw, "d", &e);
		assert_int_equal(r, 0);
		if (S_ISDIR(e.attr.mode))
			assert_int_equal(e.nodeid, d);
		r = ask(c, FUSE_UNLINK, deep, NULL, 0, "f2", 3);
		assert_true(r == ESTALE || r == ENOENT);
	}
	s.stop = true;
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_non_null(ret);
	assert_true(ok && stale && s.turns > 100);
	assert_false(exists("out/deep/new"));
	assert_string_equal(get("out/deep/f"), "outside");
}

/* ---- numbers ---- */

static void test_N_ids_guessed(void **state)
{
	static const uint64_t odd[] = {UINT64_MAX,
				       INT64_MAX,
				       UINT32_MAX,
				       UINT64_C(1) << 32,
				       UINT64_C(1) << 32 | 1,
				       UINT64_C(1) << 63 | 2};
	struct client *c = *state;
	uint64_t node, fh, dh, other, i;
	struct fuse_attr a;

	put("rw/a", "a");
	put("rw/b", "b");
	node = must_find(c, c->rw, "a");
	other = must_find(c, c->rw, "b");
	for (i = 0; i < 1000; i++) {
		bool known = i == FUSE_ROOT_ID || i == c->rw || i == c->ro || i == c->file ||
			     i == node || i == other;

		assert_int_equal(getattr(c, i, &a), known ? 0 : ESTALE);
	}
	for (i = 0; i < ARRAY_SIZE(odd); i++)
		assert_int_equal(getattr(c, odd[i], &a), ESTALE);
	assert_int_equal(getattr(c, node | UINT64_C(5) << 32, &a), ESTALE);
	assert_int_equal(ASK_NAME(c, FUSE_LINK, c->rw, "l", struct fuse_link_in, .oldnodeid = 999),
			 ESTALE);
	assert_int_equal(do_rename(c, c->rw, "a", UINT64_MAX, "b", 0), ESTALE);
	/* An open file is only good with its node and as what it is. */
	assert_int_equal(do_open(c, node, O_RDWR, &fh), 0);
	assert_int_equal(ASK(c, FUSE_OPENDIR, c->rw, NULL, 0, struct fuse_open_in, 0), 0);
	dh = BODY(c, struct fuse_open_out)->fh;
	for (i = 0; i < 1000; i++)
		assert_int_equal(do_read(c, node, i, 0, 1), i == fh ? 0 : EBADF);
	for (i = 0; i < ARRAY_SIZE(odd); i++)
		assert_int_equal(do_read(c, node, odd[i], 0, 1), EBADF);
	assert_int_equal(do_read(c, other, fh, 0, 1), EBADF);
	assert_int_equal(do_write(c, c->file, fh, 0, "x", 1), EBADF);
	assert_int_equal(do_read(c, c->rw, dh, 0, 1), EBADF);
	assert_int_equal(do_release(c, FUSE_RELEASE, c->rw, dh), EBADF);
	assert_int_equal(do_release(c, FUSE_RELEASEDIR, node, fh), EBADF);
	assert_int_equal(ASK(c, FUSE_READDIR, node, NULL, 0, struct fuse_read_in, .fh = fh,
			     .size = 100),
			 EBADF);
	assert_int_equal(ASK(c, FUSE_SETATTR, other, NULL, 0, struct fuse_setattr_in,
			     .valid = FATTR_SIZE | FATTR_FH, .fh = fh),
			 EBADF);
	assert_int_equal(ASK(c, FUSE_COPY_FILE_RANGE, node, NULL, 0, struct fuse_copy_file_range_in,
			     .fh_in = fh, .nodeid_out = other, .fh_out = fh, .len = 1),
			 EBADF);
	assert_int_equal(do_release(c, FUSE_RELEASE, node, fh), 0);
	assert_int_equal(do_read(c, node, fh, 0, 1), EBADF);
	/* Opened, closed and opened again: the old number stays bad. */
	assert_int_equal(do_open(c, node, O_RDWR, &i), 0);
	assert_int_equal(do_read(c, node, fh, 0, 1), EBADF);
}

static void test_N_forget(void **state)
{
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[3];
	} batch = {.in.count = UINT32_MAX};
	struct client *c = *state;
	uint64_t node, next, fh;
	struct fuse_attr a;
	size_t n;

	put("rw/a", "a");
	put("rw/b", "b");
	node = must_find(c, c->rw, "a");
	(void)must_find(c, c->rw, "a");
	(void)must_find(c, c->rw, "a");
	forget(c, node, 2);
	assert_int_equal(getattr(c, node, &a), 0);
	forget(c, node, UINT64_MAX); /* more than there are */
	assert_int_equal(getattr(c, node, &a), ESTALE);
	forget(c, node, 1);
	forget(c, FUSE_ROOT_ID, UINT64_MAX);
	forget(c, UINT64_MAX, UINT64_MAX);
	assert_int_equal(getattr(c, FUSE_ROOT_ID, &a), 0);
	/* Its number never means another file. */
	next = must_find(c, c->rw, "b");
	assert_int_not_equal(next, node);
	assert_int_equal(getattr(c, node, &a), ESTALE);
	/* A count of entries that are not there; the three that are count, whatever they say. */
	batch.one[0] = (struct fuse_forget_one){next, 1};
	batch.one[1] = (struct fuse_forget_one){node, 7};
	batch.one[2] = (struct fuse_forget_one){c->file, UINT64_MAX};
	assert_int_equal(ask(c, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0), -1);
	assert_int_equal(getattr(c, next, &a), ESTALE);
	assert_int_equal(getattr(c, c->file, &a), ESTALE);
	assert_int_equal(must_find(c, FUSE_ROOT_ID, "2"), c->file);
	for (n = 0; n < sizeof(batch); n++) {
		assert_int_equal(ask(c, FUSE_BATCH_FORGET, 0, &batch, n, NULL, 0), -1);
		assert_int_equal(ask(c, FUSE_FORGET, c->ro, &batch, MIN(n, 7), NULL, 0), -1);
	}
	assert_int_equal(getattr(c, c->ro, &a), 0);
	/* A file that is open, a directory that has one: what is still needed stays, and goes in the end. */
	c->file = must_find(c, FUSE_ROOT_ID, "2");
	mkdir_host("rw/d");
	put("rw/d/f", "f");
	node = must_find(c, c->rw, "d");
	next = must_find(c, node, "f");
	assert_int_equal(do_open(c, next, O_RDONLY, &fh), 0);
	forget(c, node, 1);
	assert_int_equal(do_read(c, next, fh, 0, 1), 0);
	assert_int_equal(do_release(c, FUSE_RELEASE, next, fh), 0);
	forget(c, next, 1);
	assert_int_equal(c->f->nnodes, 3);
}

/* ---- nodes whose descriptors are closed, and a host that moves things ---- */

/* The host turns name/<name>-below around, while the guest knows both by their descriptors. */
static void turn_over(struct client *c, const char *name, uint64_t *x, uint64_t *y)
{
	char path[32], below[32], in[80], there[40], now[80];
	struct fuse_attr a;

	snprintf(path, sizeof(path), "rw/%s", name);
	snprintf(below, sizeof(below), "%s-below", name);
	snprintf(in, sizeof(in), "%s/%s", path, below);
	snprintf(there, sizeof(there), "rw/%s", below);
	snprintf(now, sizeof(now), "%s/%s", there, name);
	mkdir_host(path);
	mkdir_host(in);
	*x = must_find(c, c->rw, name);
	*y = must_find(c, *x, below);
	assert_int_equal(getattr(c, *y, &a), 0);
	assert_int_equal(renameat(top_fd, in, top_fd, there), 0);
	assert_int_equal(renameat(top_fd, path, top_fd, now), 0);
	assert_int_equal(must_find(c, *y, name), *x);
}

static void test_N_stale(void **state)
{
	struct client *c = *state;
	uint64_t d, f, g, x, y, made, fh;
	struct fuse_attr a;
	unsigned i;

	mkdir_host("rw/d");
	put("rw/d/f", "f");
	put("rw/d/g", "g");
	d = must_find(c, c->rw, "d");
	f = must_find(c, d, "f");
	g = must_find(c, d, "g");
	keep_none(c);
	assert_int_equal(getattr(c, f, &a), 0);
	/* Another file has its name, and maybe its number. */
	for (i = 0; i < 20; i++) {
		assert_int_equal(unlinkat(top_fd, "rw/d/f", 0), 0);
		put("rw/d/f", "another");
		assert_int_equal(do_open(c, f, O_RDONLY, &fh), ESTALE);
	}
	assert_int_equal(symlinkat("/etc/passwd", top_fd, "rw/d/h"), 0);
	assert_int_equal(renameat(top_fd, "rw/d/h", top_fd, "rw/d/f"), 0);
	assert_int_equal(getattr(c, f, &a), ESTALE);
	/* The guest moves its directory: what is below is found under the new name. */
	assert_int_equal(do_rename(c, c->rw, "d", c->rw, "e", 0), 0);
	assert_int_equal(getattr(c, g, &a), 0);
	/* The host does: lost until it is looked up again, and back when it is back. */
	assert_int_equal(renameat(top_fd, "rw/e", top_fd, "rw/d"), 0);
	assert_int_equal(getattr(c, g, &a), ESTALE);
	assert_int_equal(symlinkat("d", top_fd, "rw/e"), 0); /* though this leads there */
	assert_int_equal(getattr(c, g, &a), ESTALE);
	assert_int_equal(do_create(c, d, "new", O_RDWR, 0666, &made, &fh), ESTALE);
	assert_int_equal(must_find(c, c->rw, "d"), d);
	assert_int_equal(getattr(c, g, &a), 0);
	assert_int_equal(unlinkat(top_fd, "rw/d/g", 0), 0);
	assert_int_equal(getattr(c, g, &a), ESTALE);
	/* Two directories that were each below the other; two more of which nothing is heard again. */
	c->f->max_open = 100;
	turn_over(c, "u", &x, &y);
	forget(c, x, 100);
	forget(c, y, 100);
	turn_over(c, "x", &x, &y);
	keep_none(c);
	assert_int_equal(getattr(c, x, &a), ESTALE);
	assert_int_equal(must_find(c, c->rw, "x-below"), y);
	assert_int_equal(getattr(c, x, &a), 0);
	forget(c, x, 100);
	forget(c, y, 100);
	forget(c, f, 100);
	forget(c, g, 100);
	forget(c, d, 100);
	assert_int_equal(c->f->nnodes, 3);
}

/* A new file has the number of one that went, as on ext4 the next one has: it is still another. */
static void test_N_number_used_again(void **state)
{
	struct client *c = *state;
	struct fuse_attr a;
	uint64_t node;
	unsigned i;
	ino_t ino;

	put("rw/f", "first");
	ino = host_stat("rw/f").st_ino;
	node = must_find(c, c->rw, "f");
	keep_none(c);
	for (i = 0; i < 100; i++) {
		assert_int_equal(unlinkat(top_fd, "rw/f", 0), 0);
		put("rw/f", "second");
		assert_int_equal(getattr(c, node, &a), ESTALE);
		if (host_stat("rw/f").st_ino == ino)
			break;
	}
	if (i == 100) {
		print_message("numbers are not used again here\n");
		skip();
	}
	assert_int_not_equal(must_find(c, c->rw, "f"), node);
}

/* Deeper than any path the kernel takes at once; each level is found again from the share down. */
static void test_N_deep(void **state)
{
	struct client *c = *state;
	uint64_t at = c->rw, ids[60];
	struct fuse_attr a;
	char name[256];
	unsigned i;

	memset(name, 'd', sizeof(name));
	name[250] = 0;
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		assert_int_equal(ASK_NAME(c, FUSE_MKDIR, at, name, struct fuse_mkdir_in,
					  .mode = 0755),
				 0);
		at = ids[i] = BODY(c, struct fuse_entry_out)->nodeid;
	}
	keep_none(c);
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(getattr(c, ids[ARRAY_SIZE(ids) - 1 - i], &a), 0);
	/* A way that is longer than we walk is none. */
	for (i = 0; i < 300; i++) {
		assert_int_equal(ASK_NAME(c, FUSE_MKDIR, at, name, struct fuse_mkdir_in,
					  .mode = 0755),
				 i < 202 ? 0 : ESTALE);
		if (i == 202)
			break;
		at = BODY(c, struct fuse_entry_out)->nodeid;
	}
	c->f->max_open = 1000;
	assert_int_equal(getattr(c, ids[40], &a), 0);
}

/* ---- without end ---- */

static void test_N_descriptors(void **none)
{
	struct rlimit was, few;
	void *fixture = NULL, **state = &fixture;
	struct client *c;
	uint64_t *ids = xcalloc(4000, sizeof(*ids)), *fh = xcalloc(64, sizeof(*fh)), dir[10];
	struct fuse_attr a;
	char path[32];
	unsigned i, k, most = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = (struct rlimit){64, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(setup(state), 0);
	c = *state;
	for (i = 0; i < 10; i++) {
		snprintf(path, sizeof(path), "rw/d%u", i);
		mkdir_host(path);
		dir[i] = must_find(c, c->rw, path + 3);
	}
	for (i = 0; i < 4000; i++) {
		snprintf(path, sizeof(path), "rw/d%u/f%u", i % 10, i);
		assert_int_equal(mknodat(top_fd, path, S_IFREG | 0644, 0), 0);
		ids[i] = must_find(c, dir[i % 10], strrchr(path, '/') + 1);
		if (i % 100 == 0)
			most = MAX(most, open_fds());
	}
	for (i = 0; i < 4000; i++) {
		k = i * 2741 % 4000;
		assert_int_equal(getattr(c, ids[k], &a), 0);
		snprintf(path, sizeof(path), "rw/d%u/f%u", k % 10, k);
		if (i % 100 == 0)
			assert_int_equal(a.ino, host_stat(path).st_ino);
		most = i % 100 ? most : MAX(most, open_fds());
	}
	assert_true(most > 16 && most < 58);
	/* Open files: a part of what there is, and the rest goes on. */
	for (i = 0; i < 64 && !do_open(c, ids[i], O_RDONLY, &fh[i]); i++)
		;
	assert_int_equal(do_open(c, ids[i], O_RDONLY, &fh[63]), ENFILE);
	assert_true(i >= 8 && i < 32);
	for (k = 0; k < 4000; k += 10)
		assert_int_equal(getattr(c, ids[k], &a), 0);
	for (k = 0; k < i; k++)
		assert_int_equal(do_read(c, ids[k], fh[k], 0, 10), 0);
	assert_int_equal(ASK(c, FUSE_OPENDIR, c->rw, NULL, 0, struct fuse_open_in, 0), ENFILE);
	assert_int_equal(do_release(c, FUSE_RELEASE, ids[0], fh[0]), 0);
	assert_int_equal(do_open(c, ids[63], O_RDONLY, &fh[0]), 0);
	assert_true(open_fds() < 60);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(teardown(state), 0);
	free(ids);
	free(fh);
}

static void test_N_many_nodes(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t node[97], made, fh;
	char path[32];
	unsigned i;

	c->f->max_nodes = 100;
	for (i = 0; i < 200; i++) {
		snprintf(path, sizeof(path), "rw/f%u", i);
		put(path, "x");
	}
	for (i = 0; i < 97; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		node[i] = must_find(c, c->rw, path);
	}
	assert_int_equal(lookup(c, c->rw, "f100", &e), ENOMEM);
	assert_int_equal(lookup(c, c->rw, "f50", &e), 0);
	assert_int_equal(do_create(c, c->rw, "new", O_RDWR, 0644, &made, &fh), ENOMEM);
	assert_int_equal(ASK(c, FUSE_OPENDIR, c->rw, NULL, 0, struct fuse_open_in, 0), 0);
	fh = BODY(c, struct fuse_open_out)->fh;
	assert_int_equal(ASK(c, FUSE_READDIRPLUS, c->rw, NULL, 0, struct fuse_read_in, .fh = fh,
			     .size = 65536),
			 0);
	assert_true(c->len > 200 * 160); /* all are named */
	assert_int_equal(c->f->nnodes, 100);
	forget(c, node[0], 100);
	assert_int_equal(lookup(c, c->rw, "f100", &e), 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_N_names),
		TEST(test_N_links_are_not_followed),
		TEST(test_N_links_that_come_and_go),
		TEST(test_N_ids_guessed),
		TEST(test_N_forget),
		TEST(test_N_stale),
		cmocka_unit_test_setup_teardown(test_N_number_used_again, setup_disk, teardown),
		TEST(test_N_deep),
		cmocka_unit_test(test_N_descriptors),
		TEST(test_N_many_nodes),
	};

	return run_both(tests, ARRAY_SIZE(tests), 0);
}
