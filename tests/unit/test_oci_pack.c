// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_pack.c - compressed files: what fsck.erofs (and this kernel, where it can) reads of the image is what the archive had, for all
 * sizes around blocks and runs and every kind of content.
 */
#include "tests/unit/tar_make.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "core/path.h"
#include "core/proc.h"
#include "oci/erofs_zip.h"
#include "oci/tree.h"

struct made {
	char dir[32];
	int fd, layers[2];
	struct buf tar;
	struct error *err;
};

static int setup(void **state)
{
	struct made *m = xcalloc(1, sizeof(*m));

	strcpy(m->dir, "/tmp/test_pack.XXXXXX");
	assert_non_null(mkdtemp(m->dir));
	m->fd = open(m->dir, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 2; i++) {
		char name[2] = {(char)('0' + i), 0};

		assert_int_equal(mkdirat(m->fd, name, 0700), 0);
		m->layers[i] = openat(m->fd, name, O_RDONLY | O_DIRECTORY);
	}
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct made *m = *state;

	close(m->layers[0]);
	close(m->layers[1]);
	close(m->fd);
	path_remove_tree(AT_FDCWD, m->dir, NULL);
	buf_free(&m->tar);
	error_free(m->err);
	free(m);
	return 0;
}

/* ---- contents ---- */

enum kind { TEXT, NOISE, ZEROS, TEXT_NOISE, NOISE_TEXT, TEXT_ZEROS, TEXT_NOISE_TEXT, KINDS };
static const char *const kinds[] = {"text",       "noise",      "zeros",          "text-noise",
				    "noise-text", "text-zeros", "text-noise-text"};

static void fill(uint8_t *p, size_t n, enum kind kind, unsigned seed)
{
	switch (kind) {
	case TEXT:
		for (size_t i = 0; i < n; i++)
			p[i] = (uint8_t)("the words of some text, "[i % 24] + (i / 7777) % 3);
		break;
	case NOISE:
		for (size_t i = 0; i < n; i++)
			p[i] = (uint8_t)(rand_r(&seed) >> 8);
		break;
	case ZEROS:
		memset(p, 0, n);
		break;
	case TEXT_NOISE:
	case NOISE_TEXT:
	case TEXT_ZEROS:
		fill(p, n / 2, kind == NOISE_TEXT ? NOISE : TEXT, seed);
		fill(p + n / 2, n - n / 2,
		     kind == TEXT_NOISE   ? NOISE
		     : kind == NOISE_TEXT ? TEXT
					  : ZEROS,
		     seed);
		break;
	default:
		fill(p, n / 3, TEXT, seed);
		fill(p + n / 3, n / 3, NOISE, seed);
		fill(p + n / 3 * 2, n - n / 3 * 2, TEXT, seed);
	}
}

static const size_t sizes[] = {0,      1,      4095,   4096,   4097,    8191,
			       8192,   8193,   12288,  61440,  65535,   65536,
			       65537,  69632,  69633,  131071, 131072,  131073,
			       200000, 262144, 262145, 300001, 1 << 20, (1 << 20) + 4097};

static void unpack(struct made *m, int layer)
{
	struct tm_source src = {.p = m->tar.data, .len = m->tar.len};
	struct oci_reader r = {tm_read, &src};

	tm_end(&m->tar);
	src.len = m->tar.len;
	if (layer_unpack(&r, m->layers[layer], &m->err) < 0)
		fail_msg("%s", error_text(m->err));
	m->tar.len = 0;
}

static void append(struct made *m, int out, int dirfd, const char *name)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(path_read_all(dirfd, name, 1 << 30, &b, NULL), 0);
	assert_int_equal(fd_write_full(out, b.data, b.len, NULL), 0);
}

/* Merges both layers and has fsck.erofs extract the image to <dir>/x. False: it is not installed. */
static bool extract(struct made *m)
{
	CLEANUP_FREE char *fsck = proc_find("fsck.erofs"), *img = xasprintf("%s/img", m->dir),
			  *to = xasprintf("--extract=%s/x", m->dir);
	int status, out = open(img, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (rootfs_merge(m->layers, 2, m->fd, &m->err) < 0)
		fail_msg("%s", error_text(m->err));
	append(m, out, m->fd, "meta.erofs");
	append(m, out, m->layers[0], "data");
	append(m, out, m->layers[1], "data");
	close(out);
	if (!fsck)
		return false;
	pid_t pid = fork();

	if (pid == 0) {
		execl(fsck, fsck, to, img, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return true;
}

static void put_file(struct made *m, enum kind kind, size_t n, size_t xattr)
{
	CLEANUP_FREE uint8_t *p = xmalloc(n + 1);
	CLEANUP_FREE char *name = xasprintf("%s-%zu-%zu", kinds[kind], n, xattr);
	char value[64] = "";

	if (xattr) {
		CLEANUP_BUF struct buf rec = {0};

		memset(value, 'v', xattr);
		tm_pax_record(&rec, "SCHILY.xattr.user.x", value, xattr);
		tm_pax(&m->tar, 'x', &rec);
	}
	fill(p, n, kind, (unsigned)n);
	tm_put(&m->tar, (struct tm_opts){.type = '0', .name = name, .data = p, .len = n});
}

static void check_file(struct made *m, enum kind kind, size_t n, size_t xattr)
{
	CLEANUP_FREE uint8_t *p = xmalloc(n + 1);
	CLEANUP_FREE char *name = xasprintf("x/%s-%zu-%zu", kinds[kind], n, xattr);
	CLEANUP_BUF struct buf got = {0};

	fill(p, n, kind, (unsigned)n);
	assert_int_equal(path_read_all(m->fd, name, 64 << 20, &got, NULL), 0);
	if (got.len != n || (n && memcmp(got.data, p, n) != 0))
		fail_msg("%s is not what it was", name);
}

static void each_file(struct made *m, int part,
		      void (*fn)(struct made *, enum kind, size_t, size_t))
{
	for (int k = 0; k < KINDS; k++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			if ((i + (size_t)k) % 2 == (size_t)part)
				fn(m, (enum kind)k, sizes[i], sizes[i] < 100000 ? (i * 3) % 40 : 0);
}

static void test_contents(void **state)
{
	struct made *m = *state;

	for (int part = 0; part < 2; part++) {
		each_file(m, part, put_file);
		unpack(m, part);
	}
	if (!extract(m)) {
		print_message("skipped: fsck.erofs is not installed\n");
		skip();
	}
	for (int part = 0; part < 2; part++)
		each_file(m, part, check_file);
}

/* ---- what is worth it ---- */

static void find(struct made *m, const struct tree_file *f, const char *name, struct tree_entry *e)
{
	size_t pos = 0;

	while (tree_file_next(f, &pos, e, NULL) == 1)
		if (str_eq(e->path, name))
			return;
	fail_msg("%s is not there", name);
}

static void test_choice(void **state)
{
	static const struct {
		enum kind kind;
		size_t n;
		bool packed;
		uint32_t most; /* blocks */
	} want[] = {
		{TEXT, 4096, false, 0},     {TEXT, 4097, true, 1},
		{TEXT, 1 << 20, true, 16},  {NOISE, 1 << 20, false, 0},
		{ZEROS, 1 << 20, false, 0}, {NOISE_TEXT, 1 << 20, false, 0},
	};
	struct made *m = *state;
	struct tree_file f;
	struct tree_entry e;
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		put_file(m, want[i].kind, want[i].n, 0);
	/* Zeros in a packed file are a hole. */
	put_file(m, TEXT_ZEROS, 8 << 20, 0);
	unpack(m, 0);
	assert_int_equal(tree_file_open(&f, m->layers[0], "tree", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		CLEANUP_FREE char *name = xasprintf("%s-%zu-0", kinds[want[i].kind], want[i].n);

		find(m, &f, name, &e);
		if (e.packed != want[i].packed || (e.packed && e.blocks > want[i].most))
			fail_msg("%s: packed %d, %u blocks", name, e.packed, e.blocks);
	}
	find(m, &f, "text-zeros-8388608-0", &e);
	assert_true(e.packed);
	assert_int_equal(fstatat(m->layers[0], "data", &st, 0), 0);
	assert_true(st.st_blocks * 512 < 4 << 20);
	tree_file_close(&f);
}

/* ---- damage, and what was there before ---- */

/* Addresses and types that make no sense: an error or an image, never a crash. */
static void test_damaged_index(void **state)
{
	struct made *m = *state;
	CLEANUP_BUF struct buf index = {0};
	unsigned seed = 5;

	put_file(m, TEXT_NOISE_TEXT, 300001, 0);
	unpack(m, 0);
	unpack(m, 1);
	assert_int_equal(path_read_all(m->layers[0], "index", 1 << 20, &index, NULL), 0);
	for (int round = 0; round < 300; round++) {
		int fd = openat(m->layers[0], "index", O_WRONLY);
		off_t at = (off_t)((size_t)rand_r(&seed) % index.len);
		uint8_t byte = (uint8_t)rand_r(&seed);
		struct error *err = NULL;

		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		if (rootfs_merge(m->layers, 2, m->fd, &err) < 0) {
			CLEANUP_FREE char *text = error_text(err);

			assert_string_equal(text, "the layer's index is damaged");
			error_free(err);
		}
		assert_int_equal(pwrite(fd, index.data, index.len, 0), index.len);
		close(fd);
	}
	/* One that is too short belongs to another tree. */
	assert_int_equal(unlinkat(m->layers[0], "index", 0), 0);
	assert_int_equal(rootfs_merge(m->layers, 2, m->fd, NULL), -1);
	assert_int_equal(close(openat(m->layers[0], "index", O_CREAT | O_WRONLY, 0600)), 0);
	assert_int_equal(rootfs_merge(m->layers, 2, m->fd, NULL), -1);
}

/* A layer as an earlier version left it: no index, and a tree that has no word of one. */
static void test_first_version(void **state)
{
	struct made *m = *state;
	CLEANUP_BUF struct buf tree = {0};
	uint64_t len;
	int fd;

	put_file(m, NOISE, 70000, 3);
	put_file(m, TEXT, 100, 0);
	unpack(m, 0);
	put_file(m, TEXT, 70000, 0);
	unpack(m, 1);
	assert_int_equal(path_read_all(m->layers[0], "tree", 1 << 20, &tree, NULL), 0);
	memcpy(tree.data, "CTRTREE1", 8);
	len = tree.len - 8;
	memcpy(tree.data + 24, &len, 8);
	memmove(tree.data + 32, tree.data + 40, tree.len - 40);
	fd = openat(m->layers[0], "tree", O_WRONLY | O_TRUNC);
	assert_int_equal(fd_write_full(fd, tree.data, len, NULL), 0);
	close(fd);
	assert_int_equal(unlinkat(m->layers[0], "index", 0), 0);
	if (!extract(m)) {
		print_message("skipped: fsck.erofs is not installed\n");
		skip();
	}
	check_file(m, NOISE, 70000, 3);
	check_file(m, TEXT, 100, 0);
	check_file(m, TEXT, 70000, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_contents),
		T(test_choice),
		T(test_damaged_index),
		T(test_first_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
