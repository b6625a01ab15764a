// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_core_archive.c - trees through tar streams, by the rules of their destination, and streams that mean harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "core/archive_int.h"
#include "core/path.h"

static char root[] = "/tmp/test-archive.XXXXXX";
static int rootfd = -1;

static int setup(void **state)
{
	if (!mkdtemp(root))
		return -1;
	rootfd = path_open_dir(root, NULL);
	return rootfd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	int tmp = path_open_dir("/tmp", NULL);

	path_remove_tree(tmp, strrchr(root, '/') + 1, NULL);
	close(tmp);
	close(rootfd);
	return 0;
}

static void put_text(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = openat(rootfd, path, O_WRONLY | O_CREAT | O_TRUNC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text), NULL), 0);
}

static void assert_text(const char *path, const char *want)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(path_read_all(rootfd, path, 4096, &b, NULL), 0);
	assert_string_equal(b.data ? b.data : "", want);
}

static int stream(void)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int extract(int fd, const char *dest, unsigned flags)
{
	lseek(fd, 0, SEEK_SET);
	return archive_extract(fd, rootfd, dest, path_open_inroot, flags, NULL);
}

static void make_tree(void)
{
	char longname[181];

	memset(longname, 'n', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = 0;
	assert_int_equal(mkdirat(rootfd, "tree", 0755), 0);
	assert_int_equal(mkdirat(rootfd, "tree/sub", 0755), 0);
	put_text("tree/a", "one");
	put_text("tree/empty", "");
	put_text("tree/sub/b", "two");
	{
		CLEANUP_FREE char *path = xasprintf("tree/sub/%s", longname);

		put_text(path, "long");
	}
	assert_int_equal(symlinkat("../../../etc", rootfd, "tree/link"), 0);
	assert_int_equal(mkfifoat(rootfd, "tree/fifo", 0600), 0);
}

static void round_trip(void **state)
{
	CLEANUP_CLOSE int fd = stream();
	char target[64] = {0};
	struct stat st;

	make_tree();
	assert_int_equal(archive_put(fd, rootfd, "tree", "tree", 0, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	assert_int_equal(extract(fd, "copy", 0), 0); /* a new name */
	assert_text("copy/a", "one");
	assert_text("copy/sub/b", "two");
	assert_text("copy/empty", "");
	assert_true(readlinkat(rootfd, "copy/link", target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "../../../etc");
	assert_int_equal(fstatat(rootfd, "copy/fifo", &st, 0), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(fstatat(rootfd, "copy/a", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	{
		CLEANUP_FREE char *path =
			xasprintf("copy/sub/%.*s", 180,
				  "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
				  "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
				  "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn");

		assert_text(path, "long");
	}
	assert_int_equal(extract(fd, "copy", 0), 0); /* a directory that exists */
	assert_text("copy/tree/sub/b", "two");
	assert_int_equal(extract(fd, "fresh/", 0), 0);
	assert_text("fresh/sub/b", "two");
	assert_int_equal(extract(fd, "copy/a", 0), -1); /* a file */
	assert_text("copy/a", "one");
	assert_int_equal(extract(fd, "no/such/parent", 0), -1);
	assert_int_equal(extract(fd, "nodir", ARCHIVE_AS_IS), -1);
	assert_int_equal(extract(fd, "copy/sub", ARCHIVE_AS_IS), 0);
	assert_text("copy/sub/tree/a", "one");
}

static void one_file(void **state)
{
	CLEANUP_CLOSE int fd = stream();

	put_text("single", "text");
	assert_int_equal(archive_put(fd, rootfd, "single", "single", 0, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	assert_int_equal(extract(fd, "missing/", 0), -1);
	assert_int_equal(extract(fd, "renamed", 0), 0);
	assert_text("renamed", "text");
	put_text("renamed", "something longer that was there");
	assert_int_equal(extract(fd, "renamed", 0), 0);
	assert_text("renamed", "text");
	assert_int_equal(extract(fd, "renamed/", 0), -1);
	/* A link at the destination is replaced, not followed. */
	put_text("victim", "kept");
	assert_int_equal(symlinkat("victim", rootfd, "bait"), 0);
	assert_int_equal(extract(fd, "bait", 0), 0);
	assert_text("victim", "kept");
	assert_text("bait", "text");
	assert_int_equal(archive_put(fd, rootfd, "nothing", "nothing", 0, NULL), -1);
}

/* One file of three names in the tree is one file of three names in the copy. */
static void hard_links(void **state)
{
	CLEANUP_CLOSE int fd = stream();
	struct stat a, b, c;

	assert_int_equal(mkdirat(rootfd, "hard", 0755), 0);
	assert_int_equal(mkdirat(rootfd, "hard/sub", 0755), 0);
	put_text("hard/a", "linked");
	assert_int_equal(linkat(rootfd, "hard/a", rootfd, "hard/b", 0), 0);
	assert_int_equal(linkat(rootfd, "hard/a", rootfd, "hard/sub/c", 0), 0);
	assert_int_equal(archive_put(fd, rootfd, "hard", "hard", 0, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	assert_int_equal(extract(fd, "hard2", 0), 0);
	assert_int_equal(fstatat(rootfd, "hard2/a", &a, 0) | fstatat(rootfd, "hard2/b", &b, 0) |
				 fstatat(rootfd, "hard2/sub/c", &c, 0),
			 0);
	assert_true(a.st_ino == b.st_ino && b.st_ino == c.st_ino && a.st_nlink == 3);
	assert_text("hard2/sub/c", "linked");
}

/* Modes and times of directories, those that may not be written to as well. */
static void dir_modes(void **state)
{
	struct timespec t[2] = {{.tv_sec = 1000000}, {.tv_sec = 1234567}};
	CLEANUP_CLOSE int fd = stream();
	struct stat st;

	assert_int_equal(mkdirat(rootfd, "modes", 0755), 0);
	assert_int_equal(mkdirat(rootfd, "modes/ro", 0755), 0);
	put_text("modes/ro/file", "x");
	assert_int_equal(fchmodat(rootfd, "modes/ro", 0551, 0), 0);
	assert_int_equal(fchmodat(rootfd, "modes", 01777, 0), 0);
	assert_int_equal(utimensat(rootfd, "modes/ro", t, 0), 0);
	assert_int_equal(archive_put(fd, rootfd, "modes", "modes", 0, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	assert_int_equal(extract(fd, "modes2", 0), 0);
	assert_int_equal(fstatat(rootfd, "modes2/ro", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0551);
	assert_int_equal(st.st_mtime, 1234567);
	assert_int_equal(fstatat(rootfd, "modes2", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
}

/* "." goes into a directory that is there, or becomes the one that is not. */
static void contents(void **state)
{
	CLEANUP_CLOSE int fd = stream(), dir = -1;

	assert_int_equal(mkdirat(rootfd, "cont", 0755), 0);
	assert_int_equal(mkdirat(rootfd, "cont/sub", 0755), 0);
	assert_int_equal(mkdirat(rootfd, "there", 0755), 0);
	put_text("cont/a", "one");
	put_text("cont/sub/b", "two");
	dir = openat(rootfd, "cont", O_RDONLY | O_DIRECTORY);
	assert_int_equal(archive_put_open(fd, dir, ".", 0, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	assert_int_equal(extract(fd, "there", 0), 0);
	assert_text("there/a", "one");
	assert_text("there/sub/b", "two");
	assert_int_equal(extract(fd, "not-there", 0), 0);
	assert_text("not-there/a", "one");
	assert_text("not-there/sub/b", "two");
	assert_int_equal(extract(fd, "there/a", 0), -1);
}

#define HOLE (1ll << 33)

static void sparse(void **state)
{
	CLEANUP_CLOSE int fd = stream(), file = -1;
	struct stat st, tar;
	char byte;

	put_text("holes", "begin");
	file = openat(rootfd, "holes", O_RDWR);
	assert_int_equal(pwrite(file, "middle", 6, HOLE / 2), 6);
	assert_int_equal(ftruncate(file, HOLE), 0);
	fstat(file, &st);
	if (st.st_blocks * 512 > 1 << 20)
		skip(); /* a file system without holes */
	assert_int_equal(archive_put(fd, rootfd, "holes", "holes", ARCHIVE_SPARSE, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	fstat(fd, &tar);
	assert_true(tar.st_size < 1 << 20);
	assert_int_equal(extract(fd, "holes2", 0), 0);
	close(file);
	file = openat(rootfd, "holes2", O_RDONLY);
	fstat(file, &st);
	assert_true(st.st_size == HOLE && st.st_blocks * 512 < 1 << 20);
	assert_int_equal(pread(file, &byte, 1, HOLE / 2 + 5), 1);
	assert_int_equal(byte, 'e');
	assert_int_equal(pread(file, &byte, 1, HOLE - 1), 1);
	assert_int_equal(byte, 0);
}

static void attributes(void **state)
{
	CLEANUP_CLOSE int fd = stream(), file = -1;
	char value[8] = {0};

	put_text("attrs", "x");
	file = openat(rootfd, "attrs", O_RDWR);
	if (fsetxattr(file, "user.test", "a\0b\n", 4, 0))
		skip(); /* a file system without attributes */
	assert_int_equal(archive_put(fd, rootfd, "attrs", "attrs", ARCHIVE_OWNER, NULL), 0);
	assert_int_equal(archive_finish(fd, NULL), 0);
	assert_int_equal(extract(fd, "attrs2", ARCHIVE_OWNER), 0);
	close(file);
	file = openat(rootfd, "attrs2", O_RDONLY);
	assert_int_equal(fgetxattr(file, "user.test", value, sizeof(value)), 4);
	assert_memory_equal(value, "a\0b\n", 4);
	assert_int_equal(extract(fd, "attrs3", 0), 0);
	close(file);
	file = openat(rootfd, "attrs3", O_RDONLY);
	assert_int_equal(fgetxattr(file, "user.test", value, sizeof(value)), -1);
}

/* ---- streams made by hand ---- */

static void member(int fd, const char *name, char type, const char *link, const char *data)
{
	struct tar_header h = {.magic = "ustar", .version = {'0', '0'}, .type = type};
	char block[TAR_BLOCK] = {0};
	unsigned sum = 0;

	memcpy(h.name, name, MIN(strlen(name), sizeof(h.name)));
	memcpy(h.link, link, MIN(strlen(link), sizeof(h.link)));
	snprintf(h.mode, sizeof(h.mode), "%07o", 0755);
	snprintf(h.size, sizeof(h.size), "%011o", (unsigned)strlen(data));
	memset(h.sum, ' ', sizeof(h.sum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((unsigned char *)&h)[i];
	snprintf(h.sum, sizeof(h.sum), "%06o", sum);
	assert_int_equal(fd_write_full(fd, &h, sizeof(h), NULL), 0);
	if (!*data)
		return;
	memcpy(block, data, strlen(data));
	assert_int_equal(fd_write_full(fd, block, sizeof(block), NULL), 0);
}

static void assert_absent(const char *path)
{
	assert_int_equal(faccessat(rootfd, path, F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void hostile(void **state)
{
	CLEANUP_CLOSE int up = stream(), link = stream(), top = stream(), other = stream(),
			  hard = stream(), pax = stream();
	struct stat st;

	assert_int_equal(mkdirat(rootfd, "in", 0755), 0);
	put_text("secret", "kept");
	member(up, "x/../../escaped", '0', "", "bad");
	assert_int_equal(extract(up, "in", 0), -1);
	assert_absent("escaped");
	/* A link first, then a file through it. */
	member(link, "x", '5', "", "");
	member(link, "x/l", '2', "..", "");
	member(link, "x/l/through", '0', "", "bad");
	assert_int_equal(extract(link, "in", 0), -1);
	assert_absent("in/through");
	/* The one name itself as a link. */
	member(top, "y", '2', ".", "");
	member(top, "y/through", '0', "", "bad");
	assert_int_equal(extract(top, "here", 0), -1);
	assert_absent("through");
	/* Another first name ends up below the one asked for all the same. */
	member(other, "z", '5', "", "");
	member(other, "secret", '0', "", "bad");
	assert_int_equal(extract(other, "zz", 0), -1); /* z is a directory by then */
	assert_text("secret", "kept");
	/* Hard links stay inside. */
	member(hard, "h", '5', "", "");
	member(hard, "h/l", '1', "../secret", "");
	assert_int_equal(extract(hard, "hh", 0), -1);
	assert_absent("hh/l");
	/* Lengths that lie. */
	member(pax, "p", 'x', "", "999999999999 path=x\n");
	assert_int_equal(extract(pax, "in", 0), -1);
	assert_int_equal(fstatat(rootfd, "secret", &st, 0), 0);
	assert_int_equal(st.st_nlink, 1);
}

static void broken(void **state)
{
	CLEANUP_CLOSE int empty = stream(), junk = stream(), cut = stream(), odd = stream();
	char noise[1024];

	memset(noise, 'x', sizeof(noise));
	assert_int_equal(extract(empty, "in", 0), -1);
	assert_int_equal(fd_write_full(junk, noise, sizeof(noise), NULL), 0);
	assert_int_equal(extract(junk, "in", 0), -1);
	member(cut, "cut", '0', "", "text");
	assert_int_equal(ftruncate(cut, TAR_BLOCK + 2), 0);
	assert_int_equal(extract(cut, "in", 0), -1);
	member(odd, "odd", 'Q', "", "");
	assert_int_equal(extract(odd, "in", 0), -1);
}

/* Maps that lie: about order, sums, ends and digits; the last is fine. */
static void hostile_maps(void **state)
{
	static const struct {
		const char *pax, *map;
		bool good;
	} c[] = {
		{"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "1\n90\n20\n", false},
		{"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "2\n10\n5\n3\n1\n", false},
		{"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "99999999999\n", false},
		{"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "1\n18446744073709551615\n5\n", false},
		{"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "1\n-1\n5\n", false},
		{"22 GNU.sparse.major=0\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "1\n10\n0\n", false},
		{"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=100\n",
		 "1\n10\n0\n", true},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		CLEANUP_CLOSE int fd = stream();
		char map[TAR_BLOCK + 1];

		memset(map, ' ', TAR_BLOCK); /* member() takes the data's length from the text */
		map[TAR_BLOCK] = 0;
		memcpy(map, c[i].map, strlen(c[i].map));
		member(fd, "pax", 'x', "", c[i].pax);
		member(fd, "maps", '0', "", map);
		assert_int_equal(archive_finish(fd, NULL), 0);
		assert_int_equal(extract(fd, "maps", 0), c[i].good ? 0 : -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip), cmocka_unit_test(one_file),
		cmocka_unit_test(hostile),    cmocka_unit_test(broken),
		cmocka_unit_test(hard_links), cmocka_unit_test(dir_modes),
		cmocka_unit_test(contents),   cmocka_unit_test(sparse),
		cmocka_unit_test(attributes), cmocka_unit_test(hostile_maps),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
