// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_layer.c - unpacking a layer: what is recorded, what is refused (class L), and what a failure leaves behind. */
#include "tests/unit/tar_make.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "core/path.h"
#include "oci/tree.h"

struct layer {
	char dir[32];
	int fd;
	struct buf b;
	struct error *err;
	struct tree_file f;
	struct buf data;
};

static int setup(void **state)
{
	struct layer *l = calloc(1, sizeof(*l));

	strcpy(l->dir, "/tmp/test_layer.XXXXXX");
	assert_non_null(mkdtemp(l->dir));
	l->fd = open(l->dir, O_RDONLY | O_DIRECTORY);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	struct layer *l = *state;

	tree_file_close(&l->f);
	close(l->fd);
	path_remove_tree(AT_FDCWD, l->dir, NULL);
	buf_free(&l->b);
	buf_free(&l->data);
	error_free(l->err);
	free(l);
	return 0;
}

static int unpack(struct layer *l)
{
	struct tm_source src = {.p = l->b.data, .len = l->b.len};
	struct oci_reader r = {tm_read, &src};

	return layer_unpack(&r, l->fd, &l->err);
}

static void unpack_ok(struct layer *l)
{
	tm_end(&l->b);
	if (unpack(l) < 0)
		fail_msg("%s", error_text(l->err));
	assert_int_equal(tree_file_open(&l->f, l->fd, "tree", NULL), 0);
	int fd = openat(l->fd, "data", O_RDONLY);
	struct stat st;

	fstat(fd, &st);
	assert_true((uint64_t)st.st_size == l->f.data_len);
	if (st.st_size < 1 << 20)
		assert_int_equal(fd_read_all(fd, 1 << 20, &l->data, NULL), 0);
	close(fd);
}

static void assert_nothing_left(struct layer *l)
{
	static const char *const names[] = {"data",     "index",     "tree",
					    "data.tmp", "index.tmp", "tree.tmp"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(faccessat(l->fd, names[i], F_OK, 0), -1);
}

static void entry(struct layer *l, size_t *pos, enum tree_type type, const char *path,
		  struct tree_entry *e)
{
	assert_int_equal(tree_file_next(&l->f, pos, e, NULL), 1);
	assert_int_equal(e->type, type);
	assert_string_equal(e->path, path);
}

static void test_records(void **state)
{
	struct layer *l = *state;
	struct tree_entry e;
	size_t pos = 0;

	tm_dir(&l->b, "./");
	tm_file(&l->b, "./a//b", "hello");
	tm_file(&l->b, "/abs", "");
	tm_file(&l->b, "c/./d", "world!");
	tm_link(&l->b, '1', "h", "./a/./b");
	tm_link(&l->b, '2', "s", "../../etc//passwd");
	tm_put(&l->b, (struct tm_opts){.type = '4', .name = "dev", .maj = 259, .min = 70000});
	tm_file(&l->b, "c/.wh.gone", "ignored");
	tm_file(&l->b, "c/.wh..wh..opq", "");
	tm_file(&l->b, ".wh..wh..opq", "");
	tm_file(&l->b, ".wh..wh.plnk/1.2", "aufs");
	tm_put(&l->b,
	       (struct tm_opts){
		       .type = '6', .name = "ff", .mode = 04755, .uid = 3, .gid = 4, .mtime = 99});
	unpack_ok(l);
	entry(l, &pos, TREE_DIR, "", &e);
	entry(l, &pos, TREE_FILE, "a/b", &e);
	assert_int_equal(e.size, 5);
	assert_int_equal(e.data_off, 0);
	entry(l, &pos, TREE_FILE, "abs", &e);
	assert_int_equal(e.size, 0);
	entry(l, &pos, TREE_FILE, "c/d", &e);
	assert_int_equal(e.data_off, 4096);
	assert_memory_equal(l->data.data + 4096, "world!\0\0", 8);
	entry(l, &pos, TREE_HARDLINK, "h", &e);
	assert_string_equal(e.link, "a/b");
	entry(l, &pos, TREE_SYMLINK, "s", &e);
	assert_string_equal(e.link, "../../etc//passwd");
	entry(l, &pos, TREE_BLOCK, "dev", &e);
	assert_int_equal(e.rdev, (70000 & 0xff) | 259 << 8 | (70000 & ~0xff) << 12);
	entry(l, &pos, TREE_WHITEOUT, "c/gone", &e);
	entry(l, &pos, TREE_OPAQUE, "c", &e);
	entry(l, &pos, TREE_OPAQUE, "", &e);
	entry(l, &pos, TREE_FIFO, "ff", &e);
	assert_int_equal(e.mode, 04755);
	assert_int_equal(e.uid, 3);
	assert_int_equal(e.gid, 4);
	assert_int_equal(e.mtime, 99);
	assert_int_equal(tree_file_next(&l->f, &pos, &e, NULL), 0);
	assert_int_equal(l->data.len, 8192);
}

static void test_empty(void **state)
{
	struct layer *l = *state;
	struct tree_entry e;
	size_t pos = 0;

	assert_int_equal(unpack(l), 0); /* zero bytes, not even an end */
	assert_int_equal(tree_file_open(&l->f, l->fd, "tree", NULL), 0);
	assert_int_equal(tree_file_next(&l->f, &pos, &e, NULL), 0);
}

static void test_xattrs(void **state)
{
	static const struct {
		const char *name, *value;
		size_t len;
	} x[] = {
		{"user.a", "v1", 2},
		{"trusted.overlay.opaque", "y", 1},
		{"user.overlay.redirect", "y", 1},
		{"security.selinux", "label", 5},
		{"security.capability", "\1\0\0\2capcapcapcapcapc", 20},
		{"system.posix_acl_access", "\2\0\0\0\1\0\6\0\377\377\377\377", 12},
		{"com.apple.quarantine", "q", 1},
		{"trusted.t", "", 0},
	};
	static const char want[] = "\1\1\2\0av1\0"
				   "\12\6\24\0capability\1\0\0\2capcapcapcapcapc\0\0"
				   "\0\2\14\0\2\0\0\0\1\0\6\0\377\377\377\377"
				   "\1\4\0\0t\0\0";
	struct layer *l = *state;
	CLEANUP_BUF struct buf rec = {0};
	struct tree_entry e;
	size_t pos = 0;

	for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
		char key[64];

		snprintf(key, sizeof(key), "SCHILY.xattr.%s", x[i].name);
		tm_pax_record(&rec, key, x[i].value, x[i].len);
	}
	tm_pax(&l->b, 'x', &rec);
	tm_file(&l->b, "f", "");
	unpack_ok(l);
	entry(l, &pos, TREE_FILE, "f", &e);
	assert_int_equal(e.xattr_len, sizeof(want));
	assert_memory_equal(e.xattrs, want, sizeof(want));
}

static void test_holes(void **state)
{
	struct layer *l = *state;
	size_t n = 8 << 20, pos = 0;
	char *big = calloc(1, n);
	struct tree_entry e;
	struct stat st;
	char c;

	random_bytes(big, 64 << 10); /* such a file is not compressed */
	big[0] = 'a';
	big[n / 2] = 'b';
	big[n - 1] = 'c';
	tm_put(&l->b, (struct tm_opts){.type = '0', .name = "z", .data = big, .len = n});
	/* a terabyte file of which six bytes are there */
	CLEANUP_BUF struct buf rec = {0};

	tm_pax_record(&rec, "GNU.sparse.size", "1099511627776", 13);
	tm_pax_record(&rec, "GNU.sparse.map", "1099511627770,6", 15);
	tm_pax(&l->b, 'x', &rec);
	tm_file(&l->b, "sparse", "ending");
	unpack_ok(l);
	entry(l, &pos, TREE_FILE, "z", &e);
	entry(l, &pos, TREE_FILE, "sparse", &e);
	assert_false(e.packed);
	assert_true(e.size == 1ull << 40);
	int fd = openat(l->fd, "data", O_RDONLY);

	fstat(fd, &st);
	assert_true(st.st_blocks * 512 < 2 << 20);
	static const off_t at[] = {0, 4 << 20, (8 << 20) - 1, 1 << 20};
	static const char want[] = {'a', 'b', 'c', 0};

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		assert_int_equal(pread(fd, &c, 1, at[i]), 1);
		assert_int_equal(c, want[i]);
	}
	assert_int_equal(pread(fd, &c, 1, (off_t)(e.data_off + e.size - 1)), 1);
	assert_int_equal(c, 'g');
	close(fd);
	free(big);
}

static const struct {
	char type;
	const char *name, *link, *word;
} refused[] = {
	{'0', "../x", NULL, ".."},
	{'0', "a/../../x", NULL, ".."},
	{'0', "a/..", NULL, ".."},
	{'5', "..", NULL, ".."},
	{'1', "h", "../../etc/passwd", ".."},
	{'1', "h", "/", "root"},
	{'0', "a/.wh..", NULL, "whiteout"},
	{'0', "a/.wh...", NULL, "whiteout"},
	{'0', "a/.wh.", NULL, "whiteout"},
	{'0', ".wh.d/x", NULL, "whiteout"},
	{'0', "/", NULL, "root"},
	{'2', "./", "/etc", "root"},
	{'0', "a/.wh.../x", NULL, "whiteout"},
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct layer *l;

		setup((void **)&l);
		tm_file(&l->b, "fine", "content");
		tm_put(&l->b, (struct tm_opts){.type = refused[i].type,
					       .name = refused[i].name,
					       .link = refused[i].link});
		tm_end(&l->b);
		if (unpack(l) == 0)
			fail_msg("%s was accepted", refused[i].name);
		char *text = error_text(l->err);

		if (!strstr(text, refused[i].word))
			fail_msg("%s: %s", refused[i].name, text);
		free(text);
		assert_nothing_left(l);
		teardown((void **)&l);
	}
}

static void test_bad_attributes(void **state)
{
	static const struct {
		const char *key, *value, *word;
	} bad[] = {
		{"SCHILY.xattr.system.posix_acl_access", "u::rw-", "attribute"},
		{"SCHILY.xattr.security.capability", "\1\1\1\2 and too long to be one",
		 "bad extended attribute security.capability"},
		{"SCHILY.xattr.security.capability", "\1\1\1\4twelve more", "attribute"},
		{"SCHILY.xattr.security.capability", "\1\1", "attribute"},
		{"uid", "4294967295", "owner"},
		{"gid", "99999999999", "owner"},
		{"GNU.sparse.size", "9000000000000000000", "sparse"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct layer *l;

		setup((void **)&l);
		tm_pax1(&l->b, bad[i].key, bad[i].value);
		tm_file(&l->b, "f", "x");
		tm_end(&l->b);
		assert_int_equal(unpack(l), -1);
		char *text = error_text(l->err);

		if (!strstr(text, bad[i].word))
			fail_msg("%s: %s", bad[i].key, text);
		free(text);
		assert_nothing_left(l);
		teardown((void **)&l);
	}
}

/* A hole of exabytes is refused before anything is written. */
static void test_hole_bomb(void **state)
{
	struct layer *l = *state;
	CLEANUP_BUF struct buf rec = {0};

	tm_pax_record(&rec, "GNU.sparse.size", "9000000000000000000", 19);
	tm_pax_record(&rec, "GNU.sparse.map", "0,1", 3);
	tm_pax(&l->b, 'x', &rec);
	tm_file(&l->b, "f", "x");
	tm_end(&l->b);
	assert_int_equal(unpack(l), -1);
	assert_nothing_left(l);
}

static void test_truncated(void **state)
{
	struct layer *l = *state;
	char big[10000];

	memset(big, 'x', sizeof(big));
	tm_put(&l->b, (struct tm_opts){.type = '0', .name = "f", .data = big, .len = sizeof(big)});
	l->b.len -= 1024;
	assert_int_equal(unpack(l), -1);
	assert_nothing_left(l);
}

/* An endless file: what a decompressor makes of a bomb. Of noise, which does not become smaller here. */
static ssize_t endless(void *arg, void *p, size_t n, struct error **err)
{
	uint64_t *given = arg;
	uint8_t h[512];

	if (!*given) {
		tm_header(h, &(struct tm_opts){.type = '0', .name = "bomb"}, 0);
		tm_octal(h + 124, 12, 077777777777);
		tm_sum(h);
		memcpy(p, h, 512);
		*given = 512;
		return 512;
	}
	random_bytes(p, n);
	*given += n;
	return (ssize_t)n;
}

static void full_disk(const char *dir)
{
	struct error *err = NULL;
	uint64_t given = 0;
	struct oci_reader r = {endless, &given};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=16m") < 0)
		_exit(77);
	int fd = open(dir, O_RDONLY | O_DIRECTORY);

	if (layer_unpack(&r, fd, &err) == 0)
		_exit(1);
	char *text = error_text(err);

	if (!strstr(text, "full"))
		_exit(2);
	/* It stops when the disk is full, and gives the space back. */
	if (given > 64 << 20 || faccessat(fd, "data.tmp", F_OK, 0) == 0)
		_exit(3);
	_exit(0);
}

static void test_full_disk(void **state)
{
	struct layer *l = *state;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		full_disk(l->dir);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: mounting a small tmpfs needs root\n");
		skip();
	}
	assert_int_equal(status, 0);
}

/* A layer of very many members needs no more memory than a small one. */
struct flood {
	uint64_t left;
	uint8_t h[512];
};

static ssize_t flood_read(void *arg, void *p, size_t n, struct error **err)
{
	struct flood *f = arg;
	size_t k = 0;

	for (; k + 512 <= n && f->left; k += 512, f->left--) {
		tm_octal(f->h + 1, 20, f->left);
		tm_sum(f->h);
		memcpy((char *)p + k, f->h, 512);
	}
	return (ssize_t)k;
}

static void test_million_entries(void **state)
{
	struct layer *l = *state;
	struct flood f = {.left = 1000000};
	struct oci_reader r = {flood_read, &f};
	struct rusage before, after;

	tm_header(f.h, &(struct tm_opts){.type = '0', .name = "f"}, 0);
	getrusage(RUSAGE_SELF, &before);
	assert_int_equal(layer_unpack(&r, l->fd, NULL), 0);
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_maxrss - before.ru_maxrss < 32 << 10);
	assert_int_equal(tree_file_open(&l->f, l->fd, "tree", NULL), 0);
	assert_int_equal(l->f.count, 1000000);
}

/* A damaged tree file is an error, never a crash. */
static void test_damaged_tree(void **state)
{
	struct layer *l = *state;
	CLEANUP_BUF struct buf whole = {0};
	unsigned seed = 7;

	tm_file(&l->b, "a/b", "hello");
	tm_link(&l->b, '2', "s", "target");
	unpack_ok(l);
	buf_append(&whole, l->f.map, l->f.len);
	for (int round = 0; round < 3000; round++) {
		struct tree_file f = {0};
		struct tree_entry e;
		size_t pos = 0;
		int fd = openat(l->fd, "bad", O_CREAT | O_TRUNC | O_WRONLY, 0600);

		for (int k = rand_r(&seed) % 3; k >= 0; k--)
			whole.data[(size_t)rand_r(&seed) % whole.len] = (char)rand_r(&seed);
		assert_int_equal(fd_write_full(fd, whole.data, whole.len - (round % 5 ? 0 : 8),
					       NULL),
				 0);
		close(fd);
		if (tree_file_open(&f, l->fd, "bad", NULL) == 0) {
			while (tree_file_next(&f, &pos, &e, NULL) == 1)
				assert_true(strlen(e.path) <= e.path_len);
			tree_file_close(&f);
		}
		memcpy(whole.data, l->f.map, l->f.len);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_records),
		T(test_empty),
		T(test_xattrs),
		T(test_holes),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bad_attributes),
		T(test_hole_bomb),
		T(test_truncated),
		T(test_full_disk),
		T(test_million_entries),
		T(test_damaged_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
