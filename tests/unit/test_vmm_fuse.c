// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_fuse.c - the FUSE server: each request on a directory of the host, as root and as a user. */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/mount.h>

#include "tests/unit/fuse_client.h"

static int send_init(struct client *c, uint32_t major, uint32_t minor, uint32_t flags,
		     struct fuse_init_out *out)
{
	int r = ASK(c, FUSE_INIT, 0, NULL, 0, struct fuse_init_in, .major = major, .minor = minor,
		    .flags = flags, .max_readahead = 1u << 30);

	*out = (struct fuse_init_out){0};
	if (!r)
		memcpy(out, BODY(c, struct fuse_init_out), sizeof(*out));
	return r;
}

static void test_init(void **state)
{
	const uint32_t never = FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS |
			       FUSE_POSIX_ACL | FUSE_EXPORT_SUPPORT | FUSE_DONT_MASK |
			       FUSE_NO_OPEN_SUPPORT | FUSE_SETXATTR_EXT;
	struct client *c = *state;
	struct fuse_init_out out;
	struct fuse_attr a;
	uint64_t fh;

	assert_int_equal(do_open(c, c->file, O_RDONLY, &fh), 0);
	/* Refused, and the session goes on. */
	assert_int_equal(send_init(c, 6, 99, ~0u, &out), EPROTO);
	assert_int_equal(send_init(c, 7, 30, ~0u, &out), EPROTO);
	assert_int_equal(send_init(c, 8, 0, ~0u, &out), 0);
	assert_int_equal(out.major, 7);
	assert_int_equal(getattr(c, c->file, &a), 0);
	/* A new one: nothing of before is known. */
	assert_int_equal(send_init(c, 7, 31, ~0u, &out), 0);
	assert_int_equal(out.minor, 31);
	assert_int_equal(out.max_write, FUSE_DATA_MAX);
	assert_int_equal(out.max_pages, 256);
	assert_int_equal(out.time_gran, 1);
	assert_true(out.max_readahead <= FUSE_DATA_MAX && out.max_background);
	assert_false(out.flags & never);
	assert_int_equal(out.flags & (FUSE_HANDLE_KILLPRIV | FUSE_HANDLE_KILLPRIV_V2),
			 FUSE_HANDLE_KILLPRIV_V2);
	assert_true(out.flags & FUSE_BIG_WRITES && out.flags & FUSE_ATOMIC_O_TRUNC &&
		    out.flags & FUSE_PARALLEL_DIROPS && out.flags & FUSE_DO_READDIRPLUS &&
		    out.flags & FUSE_READDIRPLUS_AUTO && out.flags & FUSE_AUTO_INVAL_DATA);
	assert_int_equal(getattr(c, c->file, &a), ESTALE);
	assert_int_equal(c->f->nfiles, 0);
	assert_int_equal(must_find(c, FUSE_ROOT_ID, "2"),
			 c->file); /* its number may stay: it is the same file */
	assert_int_equal(do_read(c, c->file, fh, 0, 1), EBADF);
	/* Only what the guest offered. */
	assert_int_equal(send_init(c, 7, 40, 0, &out), 0);
	assert_int_equal(out.flags, 0);
	assert_int_equal(out.minor, FUSE_KERNEL_MINOR_VERSION);
	assert_int_equal(out.max_pages, 0);
	assert_true(out.max_write <= 32 * 4096);
	assert_int_equal(send_init(c, 7, 37, FUSE_HANDLE_KILLPRIV, &out), 0);
	assert_int_equal(out.flags, FUSE_HANDLE_KILLPRIV);
	assert_int_equal(ask(c, FUSE_DESTROY, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(getattr(c, FUSE_ROOT_ID, &a), EPROTO);
}

/* ---- listings ---- */

struct seen {
	unsigned n, dots, nodes;
	uint64_t last, ino; /* of `want` */
	uint64_t up;        /* the number of .. */
	const char *want;
};

/* One request; what it says is added to *s. The number of entries. */
static unsigned list_once(struct client *c, uint32_t opcode, uint64_t node, uint64_t fh,
			  uint32_t size, struct seen *s)
{
	const uint8_t *p = BODY(c, uint8_t), *end;
	unsigned n = 0;

	assert_int_equal(ASK(c, opcode, node, NULL, 0, struct fuse_read_in, .fh = fh,
			     .offset = s->last, .size = size),
			 0);
	assert_true(c->len <= size && c->len % 8 == 0);
	for (end = p + c->len; p < end; n++) {
		struct fuse_entry_out e = {0};
		struct fuse_dirent d;
		char name[256];

		if (opcode == FUSE_READDIRPLUS) {
			memcpy(&e, p, sizeof(e));
			p += sizeof(e);
		}
		memcpy(&d, p, FUSE_NAME_OFFSET);
		assert_true(d.namelen > 0 && d.namelen < 256 && p + FUSE_DIRENT_SIZE(&d) <= end);
		memcpy(name, p + FUSE_NAME_OFFSET, d.namelen);
		name[d.namelen] = 0;
		assert_int_equal(strlen(name), d.namelen);
		p += FUSE_DIRENT_SIZE(&d);
		s->last = d.off;
		if (!strcmp(name, ".") || !strcmp(name, "..")) {
			assert_int_equal(e.nodeid, 0);
			s->dots++;
			if (name[1])
				s->up = d.ino;
			continue;
		}
		s->n++;
		if (e.nodeid) {
			assert_int_equal(e.attr.ino, d.ino);
			s->nodes++;
		}
		if (s->want && !strcmp(s->want, name))
			s->ino = d.ino;
	}
	return n;
}

static struct seen list_all(struct client *c, uint32_t opcode, uint64_t node, uint32_t size,
			    const char *want)
{
	struct seen s = {.want = want};
	uint64_t fh;

	assert_int_equal(ASK(c, FUSE_OPENDIR, node, NULL, 0, struct fuse_open_in, 0), 0);
	fh = BODY(c, struct fuse_open_out)->fh;
	while (list_once(c, opcode, node, fh, size, &s))
		;
	assert_int_equal(do_release(c, FUSE_RELEASEDIR, node, fh), 0);
	return s;
}

static void test_root(void **state)
{
	static const char *const none[] = {"3", "00", "01", "+1", "-1", "0 ", "4294967296", "x"};
	struct client *c = *state;
	struct fuse_entry_out e;
	struct fuse_attr a;
	struct seen s;
	size_t i;

	assert_int_equal(getattr(c, FUSE_ROOT_ID, &a), 0);
	assert_int_equal(a.mode, S_IFDIR | 0555);
	assert_int_equal(a.uid, 0);
	for (i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(lookup(c, FUSE_ROOT_ID, none[i], &e), ENOENT);
	assert_int_equal(lookup(c, FUSE_ROOT_ID, "0", &e), 0);
	assert_int_equal(e.attr.ino, host_stat("rw").st_ino);
	assert_true(S_ISDIR(e.attr.mode));
	assert_int_equal(lookup(c, FUSE_ROOT_ID, "2", &e), 0);
	assert_true(S_ISREG(e.attr.mode));
	s = list_all(c, FUSE_READDIR, FUSE_ROOT_ID, 4096, "2");
	assert_int_equal(s.n, 3);
	assert_int_equal(s.dots, 2);
	assert_int_equal(s.ino, host_stat("file").st_ino);
	s = list_all(c, FUSE_READDIRPLUS, FUSE_ROOT_ID, 200, NULL); /* one at a time */
	assert_int_equal(s.n, 3);
	assert_int_equal(s.nodes, 3);
	assert_int_equal(ask(c, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, NULL, 0), 0);
	assert_int_equal(BODY(c, struct fuse_statfs_out)->st.namelen, 255);
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, FUSE_ROOT_ID, "x", struct fuse_mkdir_in,
				  .mode = 0755),
			 EROFS);
}

/* ---- files ---- */

static void test_files(void **state)
{
	struct client *c = *state;
	uint64_t node, fh, again;
	struct fuse_attr a;

	assert_int_equal(do_create(c, c->rw, "a", O_RDWR | O_EXCL, S_IFREG | 0646, &node, &fh), 0);
	assert_int_equal(do_write(c, node, fh, 0, "hello", 5), 0);
	assert_int_equal(BODY(c, struct fuse_write_out)->size, 5);
	assert_string_equal(get("rw/a"), "hello");
	assert_int_equal(do_read(c, node, fh, 1, 100), 0);
	assert_int_equal(c->len, 4);
	assert_memory_equal(BODY(c, char), "ello", 4);
	assert_int_equal(getattr(c, node, &a), 0);
	assert_int_equal(a.size, 5);
	assert_int_equal(a.mode, S_IFREG | 0646); /* the server's own mask has no part in it */
	assert_int_equal(a.ino, host_stat("rw/a").st_ino);
	assert_int_equal(ASK(c, FUSE_FSYNC, node, NULL, 0, struct fuse_fsync_in, .fh = fh), 0);
	assert_int_equal(ASK(c, FUSE_FSYNC, node, NULL, 0, struct fuse_fsync_in, .fh = fh,
			     .fsync_flags = 1),
			 0);
	assert_int_equal(ASK(c, FUSE_FLUSH, node, NULL, 0, struct fuse_flush_in, .fh = fh), 0);
	assert_int_equal(do_release(c, FUSE_RELEASE, node, fh), 0);
	assert_int_equal(do_release(c, FUSE_RELEASE, node, fh), EBADF);
	assert_int_equal(do_read(c, node, fh, 0, 1), EBADF);
	assert_int_equal(must_find(c, c->rw, "a"), node);
	assert_int_equal(do_open(c, node, O_RDONLY, &again), 0);
	assert_int_not_equal(again, fh);
	assert_int_equal(do_read(c, node, again, 0, 5), 0);
	assert_int_equal(do_write(c, node, again, 0, "x", 1), EBADF);
	assert_int_equal(do_release(c, FUSE_RELEASE, node, again), 0);
	/* It is there. */
	assert_int_equal(do_create(c, c->rw, "a", O_RDWR | O_EXCL, 0600, &node, &fh), EEXIST);
	assert_int_equal(do_create(c, c->rw, "a", O_RDWR, 0600, &node, &fh), 0);
	assert_int_equal(do_read(c, node, fh, 0, 5), 0);
	assert_int_equal(c->len, 5);
	assert_int_equal(host_stat("rw/a").st_mode, S_IFREG | 0646);
	/* O_TRUNC */
	assert_int_equal(do_open(c, node, O_WRONLY | O_TRUNC, &again), 0);
	assert_string_equal(get("rw/a"), "");
}

static void test_append(void **state)
{
	struct client *c = *state;
	uint64_t node, fh;

	assert_int_equal(do_create(c, c->rw, "log", O_WRONLY | O_APPEND, 0644, &node, &fh), 0);
	assert_int_equal(do_write(c, node, fh, 0, "one ", 4), 0);
	/* Meanwhile the host appends; then what the guest appends at an old end does not overwrite it. */
	put("rw/log", "one two ");
	assert_int_equal(ASK(c, FUSE_WRITE, node, "three", 5, struct fuse_write_in, .fh = fh,
			     .offset = 4, .size = 5, .flags = O_APPEND),
			 0);
	assert_string_equal(get("rw/log"), "one two three");
	/* fcntl() has taken O_APPEND away: now the place counts. */
	assert_int_equal(do_write(c, node, fh, 0, "ONE", 3), 0);
	assert_string_equal(get("rw/log"), "ONE two three");
}

static void test_holes(void **state)
{
	struct client *c = *state;
	uint64_t node, fh, node2, fh2;

	assert_int_equal(do_create(c, c->rw, "sparse", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(do_write(c, node, fh, 1 << 20, "data", 4), 0);
	assert_int_equal(ASK(c, FUSE_LSEEK, node, NULL, 0, struct fuse_lseek_in, .fh = fh,
			     .offset = 0, .whence = SEEK_DATA),
			 0);
	assert_int_equal(BODY(c, struct fuse_lseek_out)->offset, 1 << 20);
	assert_int_equal(ASK(c, FUSE_LSEEK, node, NULL, 0, struct fuse_lseek_in, .fh = fh,
			     .offset = 0, .whence = SEEK_END),
			 EINVAL);
	assert_int_equal(ASK(c, FUSE_FALLOCATE, node, NULL, 0, struct fuse_fallocate_in, .fh = fh,
			     .offset = 1 << 20, .length = 4096,
			     .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
			 0);
	assert_int_equal(do_read(c, node, fh, 1 << 20, 10), 0);
	assert_int_equal(c->len, 4);
	assert_memory_equal(BODY(c, char), "\0\0\0\0", 4);
	assert_int_equal(ASK(c, FUSE_FALLOCATE, node, NULL, 0, struct fuse_fallocate_in, .fh = fh,
			     .length = 2 << 20),
			 0);
	assert_int_equal(host_stat("rw/sparse").st_size, 2 << 20);
	assert_int_equal(ASK(c, FUSE_FALLOCATE, node, NULL, 0, struct fuse_fallocate_in, .fh = fh,
			     .length = 4096, .mode = FALLOC_FL_COLLAPSE_RANGE),
			 EOPNOTSUPP);
	assert_int_equal(do_write(c, node, fh, 0, "source", 6), 0);
	assert_int_equal(do_create(c, c->rw, "copy", O_RDWR, 0644, &node2, &fh2), 0);
	assert_int_equal(ASK(c, FUSE_COPY_FILE_RANGE, node, NULL, 0, struct fuse_copy_file_range_in,
			     .fh_in = fh, .nodeid_out = node2, .fh_out = fh2, .off_out = 2,
			     .len = 6),
			 0);
	assert_int_equal(BODY(c, struct fuse_write_out)->size, 6);
	assert_int_equal(do_read(c, node2, fh2, 0, 100), 0);
	assert_memory_equal(BODY(c, char), "\0\0source", 8);
	/* Not known, so that no guest has the host's file systems written out. */
	assert_int_equal(ASK(c, FUSE_SYNCFS, FUSE_ROOT_ID, NULL, 0, struct fuse_syncfs_in, 0),
			 ENOSYS);
}

/* A file without a name is there as long as it is open. */
static void test_unlinked(void **state)
{
	struct client *c = *state;
	struct fuse_attr a;
	uint64_t node, fh;

	assert_int_equal(do_create(c, c->rw, "gone", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(do_write(c, node, fh, 0, "still", 5), 0);
	assert_int_equal(ask(c, FUSE_UNLINK, c->rw, NULL, 0, "gone", 5), 0);
	assert_false(exists("rw/gone"));
	assert_int_equal(getattr(c, node, &a), 0);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(do_read(c, node, fh, 0, 5), 0);
	assert_memory_equal(BODY(c, char), "still", 5);
	assert_int_equal(ASK(c, FUSE_SETATTR, node, NULL, 0, struct fuse_setattr_in,
			     .valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 2),
			 0);
	assert_int_equal(BODY(c, struct fuse_attr_out)->attr.size, 2);
	/* Forgotten before it is closed: it goes with the handle. */
	forget(c, node, 1);
	assert_int_equal(do_release(c, FUSE_RELEASE, node, fh), ESTALE);
	assert_int_equal(init(c, 0), 0);
	assert_int_equal(c->f->nnodes, 3);
}

/* What the host does is seen. */
static void test_host_changes(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	struct fuse_attr a;
	uint64_t node, fh;

	assert_int_equal(lookup(c, c->rw, "new", &e), ENOENT);
	put("rw/new", "1");
	node = must_find(c, c->rw, "new");
	assert_int_equal(do_open(c, node, O_RDONLY, &fh), 0);
	put("rw/new", "more");
	assert_int_equal(getattr(c, node, &a), 0);
	assert_int_equal(a.size, 4);
	assert_int_equal(do_read(c, node, fh, 0, 10), 0);
	assert_int_equal(c->len, 4);
	/* Moved: the node is still the file, its name leads to another. */
	assert_int_equal(renameat(top_fd, "rw/new", top_fd, "rw/moved"), 0);
	put("rw/new", "another");
	assert_int_equal(getattr(c, node, &a), 0);
	assert_int_equal(a.size, 4);
	assert_int_not_equal(must_find(c, c->rw, "new"), node);
	assert_int_equal(must_find(c, c->rw, "moved"), node);
}

static void test_single_file(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t fh;

	assert_int_equal(do_open(c, c->file, O_RDWR, &fh), 0);
	assert_int_equal(do_read(c, c->file, fh, 0, 100), 0);
	assert_memory_equal(BODY(c, char), "one file", 8);
	assert_int_equal(do_write(c, c->file, fh, 0, "ONE", 3), 0);
	assert_string_equal(get("file"), "ONE file");
	assert_int_equal(lookup(c, c->file, "x", &e), ENOTDIR);
	assert_int_equal(ASK(c, FUSE_OPENDIR, c->file, NULL, 0, struct fuse_open_in, 0), ENOTDIR);
	assert_int_equal(ASK(c, FUSE_SETATTR, c->file, NULL, 0, struct fuse_setattr_in,
			     .valid = FATTR_SIZE, .size = 3),
			 0);
	assert_string_equal(get("file"), "ONE");
	assert_int_equal(ask(c, FUSE_UNLINK, FUSE_ROOT_ID, NULL, 0, "2", 2), EROFS);
}

/* ---- names ---- */

static void test_tree(void **state)
{
	struct client *c = *state;
	uint64_t dir, dir2, node, deep;
	struct fuse_entry_out e;
	struct fuse_attr a;

	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, c->rw, "d", struct fuse_mkdir_in, .mode = 01777),
			 0);
	dir = BODY(c, struct fuse_entry_out)->nodeid;
	assert_int_equal(host_stat("rw/d").st_mode, S_IFDIR | 01777);
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, c->rw, "d", struct fuse_mkdir_in, .mode = 0755),
			 EEXIST);
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, c->rw, "d2", struct fuse_mkdir_in, .mode = 0755),
			 0);
	dir2 = BODY(c, struct fuse_entry_out)->nodeid;
	put("rw/d/f", "f");
	node = must_find(c, dir, "f");
	/* Renaming, and what has that name then. */
	assert_int_equal(do_rename(c, dir, "f", dir2, "g", 0), 0);
	assert_string_equal(get("rw/d2/g"), "f");
	assert_int_equal(must_find(c, dir2, "g"), node);
	put("rw/d/h", "h");
	assert_int_equal(do_rename(c, dir, "h", dir2, "g", RENAME_NOREPLACE), EEXIST);
	assert_int_equal(do_rename(c, dir, "h", dir2, "g", RENAME_EXCHANGE), 0);
	assert_string_equal(get("rw/d2/g"), "h");
	assert_string_equal(get("rw/d/h"), "f");
	assert_int_equal(must_find(c, dir, "h"), node);
	assert_int_equal(do_rename(c, dir, "h", dir2, "g", RENAME_WHITEOUT), EINVAL);
	assert_int_equal(do_rename(c, dir, "none", dir2, "g", 0), ENOENT);
	/* A directory that moves takes what is below it along; one cannot move into itself. */
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, dir2, "in", struct fuse_mkdir_in, .mode = 0755),
			 0);
	deep = BODY(c, struct fuse_entry_out)->nodeid;
	assert_int_equal(do_rename(c, c->rw, "d2", deep, "x", 0), EINVAL);
	assert_int_equal(do_rename(c, c->rw, "d2", dir, "x", 0), 0);
	assert_int_equal(must_find(c, dir2, "in"), deep);
	assert_int_equal(must_find(c, dir, "x"), dir2);
	/* Another share is another file system. */
	assert_int_equal(do_rename(c, c->rw, "d", c->ro, "d", 0), EXDEV);
	assert_int_equal(ASK_NAME(c, FUSE_LINK, c->rw, "l", struct fuse_link_in,
				  .oldnodeid = c->file),
			 EXDEV);
	/* Links of both kinds. */
	assert_int_equal(ASK_NAME(c, FUSE_LINK, c->rw, "hard", struct fuse_link_in,
				  .oldnodeid = node),
			 0);
	assert_int_equal(BODY(c, struct fuse_entry_out)->nodeid, node);
	assert_int_equal(BODY(c, struct fuse_entry_out)->attr.nlink, 2);
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "soft\0/etc/passwd", 17), 0);
	node = BODY(c, struct fuse_entry_out)->nodeid;
	assert_int_equal(ask(c, FUSE_READLINK, node, NULL, 0, NULL, 0), 0);
	assert_int_equal(c->len, 11);
	assert_memory_equal(BODY(c, char), "/etc/passwd", 11);
	assert_int_equal(getattr(c, node, &a), 0);
	assert_true(S_ISLNK(a.mode));
	assert_int_equal(ASK_NAME(c, FUSE_LINK, c->rw, "soft2", struct fuse_link_in,
				  .oldnodeid = node),
			 0);
	assert_true(S_ISLNK(host_stat("rw/soft2").st_mode));
	assert_int_equal(ask(c, FUSE_READLINK, dir, NULL, 0, NULL, 0), EINVAL);
	/* Gone. */
	assert_int_equal(ask(c, FUSE_RMDIR, c->rw, NULL, 0, "d", 2), ENOTEMPTY);
	assert_int_equal(ask(c, FUSE_UNLINK, c->rw, NULL, 0, "d", 2), EISDIR);
	assert_int_equal(ask(c, FUSE_RMDIR, c->rw, NULL, 0, "hard", 5), ENOTDIR);
	assert_int_equal(ask(c, FUSE_UNLINK, c->rw, NULL, 0, "hard", 5), 0);
	assert_int_equal(ask(c, FUSE_UNLINK, c->rw, NULL, 0, "hard", 5), ENOENT);
	assert_int_equal(ask(c, FUSE_RMDIR, dir2, NULL, 0, "in", 3), 0);
	assert_int_equal(lookup(c, dir2, "in", &e), ENOENT);
}

static void test_mknod(void **state)
{
	static const struct {
		uint32_t mode;
		int error;
	} kinds[] = {
		{S_IFREG | 0640, 0},      {0640, 0},
		{S_IFIFO | 0622, 0},      {S_IFSOCK | 0755, 0},
		{S_IFCHR | 0666, EPERM},  {S_IFBLK | 0666, EPERM},
		{S_IFDIR | 0755, EINVAL}, {S_IFLNK | 0777, EINVAL},
		{0xf000 | 0600, EINVAL},
	};
	struct client *c = *state;
	char name[16], path[24];
	uint64_t fh;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		snprintf(path, sizeof(path), "rw/n%zu", i);
		assert_int_equal(ASK_NAME(c, FUSE_MKNOD, c->rw, name, struct fuse_mknod_in,
					  .mode = kinds[i].mode, .rdev = 0x103),
				 kinds[i].error);
		assert_int_equal(exists(path), !kinds[i].error);
		if (kinds[i].error)
			continue;
		assert_int_equal(host_stat(path).st_mode,
				 kinds[i].mode | (kinds[i].mode & S_IFMT ? 0 : S_IFREG));
		/* The guest's kernel never opens the others here. */
		if (S_ISFIFO(kinds[i].mode) || S_ISSOCK(kinds[i].mode))
			assert_int_equal(do_open(c, BODY(c, struct fuse_entry_out)->nodeid, O_RDWR,
						 &fh),
					 EPERM);
	}
}

/* ---- directories ---- */

#define MANY 3000u

static void test_readdir(void **state)
{
	struct client *c = *state;
	struct seen s = {0}, first;
	uint64_t fh, where;
	char path[300];
	unsigned i;

	for (i = 0; i < MANY; i++) {
		/* up to the longest names there are */
		int at = snprintf(path, sizeof(path), "rw/%u", i);

		memset(path + at, 'n', i % 240);
		path[at + (int)(i % 240)] = 0;
		assert_int_equal(mknodat(top_fd, path, S_IFREG | 0600, 0), 0);
	}
	s = list_all(c, FUSE_READDIR, c->rw, 4096, "17nnnnnnnnnnnnnnnnn");
	assert_int_equal(s.n, MANY);
	assert_int_equal(s.dots, 2);
	assert_int_equal(s.ino, host_stat("rw/17nnnnnnnnnnnnnnnnn").st_ino);
	s = list_all(c, FUSE_READDIRPLUS, c->rw, 65536, NULL);
	assert_int_equal(s.n, MANY);
	assert_int_equal(s.nodes, MANY);
	assert_int_equal(c->f->nnodes, MANY + 3);
	/* Back to a place in the middle, after other requests and with entries gone. */
	assert_int_equal(ASK(c, FUSE_OPENDIR, c->rw, NULL, 0, struct fuse_open_in, 0), 0);
	fh = BODY(c, struct fuse_open_out)->fh;
	memset(&s, 0, sizeof(s));
	(void)list_once(c, FUSE_READDIR, c->rw, fh, 4096, &s);
	where = s.last;
	first = (struct seen){.last = where};
	(void)list_once(c, FUSE_READDIR, c->rw, fh, 4096, &first);
	s = (struct seen){.last = where};
	(void)list_once(c, FUSE_READDIR, c->rw, fh, 4096, &s);
	assert_int_equal(s.last, first.last);
	assert_int_equal(s.n, first.n);
	/* Too little room for one entry: nothing, and no harm. */
	s = (struct seen){0};
	assert_int_equal(list_once(c, FUSE_READDIRPLUS, c->rw, fh, 16, &s), 0);
	assert_int_equal(list_once(c, FUSE_READDIR, c->rw, fh, 0, &s), 0);
	assert_int_equal(ASK(c, FUSE_FSYNCDIR, c->rw, NULL, 0, struct fuse_fsync_in, .fh = fh), 0);
	assert_int_equal(ASK(c, FUSE_READDIR, c->rw, NULL, 0, struct fuse_read_in, .fh = fh,
			     .offset = UINT64_MAX, .size = 100),
			 EINVAL);
	/* What is above a share stays unknown, even as a number. */
	s = list_all(c, FUSE_READDIR, c->rw, 4096, NULL);
	assert_int_equal(s.n, MANY);
	assert_int_equal(s.up, FUSE_ROOT_INO);
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, c->rw, "in", struct fuse_mkdir_in, .mode = 0755),
			 0);
	s = list_all(c, FUSE_READDIR, BODY(c, struct fuse_entry_out)->nodeid, 4096, NULL);
	assert_int_equal(s.up, host_stat("rw").st_ino);
}

/* Other file systems below a share, and other places of the same directory. */
static void mounts(struct client *c)
{
	char where[100], from[100];
	uint64_t a, b, in_a, in_b;
	struct fuse_attr x, y;
	struct seen s;

	assert_int_equal(mkdirat(top_fd, "rw/m", 0755), 0);
	assert_int_equal(mkdirat(top_fd, "rw/n", 0755), 0);
	assert_int_equal(mkdirat(top_fd, "rw/bound", 0755), 0);
	assert_int_equal(mkdirat(top_fd, "rw/dir", 0755), 0);
	assert_int_equal(mkdirat(top_fd, "rw/proc", 0755), 0);
	snprintf(where, sizeof(where), "%s/rw/m", top);
	assert_int_equal(mount("tmpfs", where, "tmpfs", 0, "mode=755"), 0);
	snprintf(where, sizeof(where), "%s/rw/n", top);
	assert_int_equal(mount("tmpfs", where, "tmpfs", 0, "mode=755"), 0);
	snprintf(from, sizeof(from), "%s/rw/dir", top);
	snprintf(where, sizeof(where), "%s/rw/bound", top);
	assert_int_equal(mount(from, where, NULL, MS_BIND, NULL), 0);
	snprintf(where, sizeof(where), "%s/rw/proc", top);
	assert_int_equal(mount("proc", where, "proc", 0, NULL), 0);
	put("rw/m/f", "m");
	put("rw/n/f", "n");
	assert_int_equal(host_stat("rw/m/f").st_ino,
			 host_stat("rw/n/f").st_ino); /* that is the point */
	a = must_find(c, c->rw, "m");
	b = must_find(c, c->rw, "n");
	assert_int_not_equal(a, b);
	in_a = must_find(c, a, "f");
	in_b = must_find(c, b, "f");
	assert_int_not_equal(in_a, in_b);
	assert_int_equal(getattr(c, in_a, &x), 0);
	assert_int_equal(getattr(c, in_b, &y), 0);
	assert_int_not_equal(x.ino, y.ino);
	s = list_all(c, FUSE_READDIR, a, 4096, "f");
	assert_int_equal(s.ino, x.ino);
	assert_int_not_equal(must_find(c, c->rw, "dir"), must_find(c, c->rw, "bound"));
	assert_int_equal(ASK_NAME(c, FUSE_LINK, b, "l", struct fuse_link_in, .oldnodeid = in_a),
			 EXDEV);
	/* Files whose size says nothing are read past the guest's page cache, others are not, also when they are empty. */
	a = must_find(c, must_find(c, c->rw, "proc"), "version");
	assert_int_equal(do_open(c, a, O_RDONLY, &b), 0);
	assert_true(BODY(c, struct fuse_open_out)->open_flags & FOPEN_DIRECT_IO);
	assert_int_equal(do_read(c, a, b, 0, 4096), 0);
	assert_true(c->len > 10);
	put("rw/empty", "");
	assert_int_equal(do_open(c, must_find(c, c->rw, "empty"), O_RDONLY, &b), 0);
	assert_false(BODY(c, struct fuse_open_out)->open_flags & FOPEN_DIRECT_IO);
}

static void test_mounts(void **none)
{
	void *fixture = NULL, **state = &fixture;
	static const char *const places[] = {"rw/m", "rw/n", "rw/bound", "rw/proc"};
	int old = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	char where[100];
	size_t i;

	if (old < 0 || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		print_message("no right to mount\n");
		skip();
	}
	assert_int_equal(setup(state), 0);
	mounts(*state);
	for (i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(where, sizeof(where), "%s/%s", top, places[i]);
		assert_int_equal(umount2(where, MNT_DETACH), 0);
	}
	assert_int_equal(teardown(state), 0);
	assert_int_equal(setns(old, CLONE_NEWNS), 0);
	close(old);
}

static void test_ino(void **state)
{
	struct client *c = *state;
	uint64_t dev = 0x800000001, big = UINT64_C(1) << 50, i;

	/* Never the same for two files, and the same every time. */
	assert_int_equal(fuse_ino(c->f, c->f->dev[0], 5), 5);
	assert_int_not_equal(fuse_ino(c->f, dev, 5), 5);
	assert_int_equal(fuse_ino(c->f, dev, 5), fuse_ino(c->f, dev, 5));
	assert_int_not_equal(fuse_ino(c->f, dev, big), fuse_ino(c->f, dev + 1, big));
	assert_int_not_equal(fuse_ino(c->f, dev, big), fuse_ino(c->f, dev, big + 1));
	assert_int_not_equal(fuse_ino(c->f, dev, big), big);
	for (i = 0; i < FUSE_DEVS_MAX + 10; i++)
		assert_int_not_equal(fuse_ino(c->f, dev + i, 5), 5);
	assert_int_equal(c->f->ndevs, FUSE_DEVS_MAX);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_init),
		TEST(test_root),
		TEST(test_files),
		TEST(test_append),
		TEST(test_holes),
		TEST(test_unlinked),
		TEST(test_host_changes),
		TEST(test_single_file),
		TEST(test_tree),
		TEST(test_mknod),
		TEST(test_readdir),
		TEST(test_ino),
		cmocka_unit_test(test_mounts),
	};

	return run_both(tests, ARRAY_SIZE(tests), 1);
}
