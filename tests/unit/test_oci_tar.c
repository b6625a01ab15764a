// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_tar.c - the tar reader on good archives, hostile ones (class L) and damaged ones. */
#include "tests/unit/tar_make.h"

struct archive {
	struct buf b;
	struct tm_source src;
	struct tar_reader *t;
	struct error *err;
	struct tar_entry e;
};

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct archive));
	return 0;
}

static int teardown(void **state)
{
	struct archive *a = *state;

	tar_close(a->t);
	buf_free(&a->b);
	error_free(a->err);
	free(a);
	return 0;
}

static int next(struct archive *a)
{
	if (!a->t) {
		struct oci_reader r = {tm_read, &a->src};

		a->src = (struct tm_source){a->b.data, a->b.len, 0, a->src.step};
		a->t = tar_open(&r, &a->err);
	}
	return tar_next(a->t, &a->e, &a->err);
}

static void assert_content(struct archive *a, const char *want, size_t n)
{
	char *got = calloc(1, n + 1);
	size_t at = 0;
	ssize_t r;

	assert_int_equal(a->e.size, n);
	while ((r = tar_read(a->t, got + at, MIN(n + 1 - at, 7), &a->err)) > 0)
		at += (size_t)r;
	assert_int_equal(r, 0);
	assert_int_equal(at, n);
	assert_memory_equal(got, want, n);
	free(got);
}

/* The first member is refused, and the message holds `word`. */
static void assert_refused(struct archive *a, const char *word)
{
	int r;

	while ((r = next(a)) == 1)
		;
	assert_int_equal(r, -1);
	char *text = error_text(a->err);

	if (!strstr(text, word))
		fail_msg("\"%s\" does not say \"%s\"", text, word);
	free(text);
}

static void test_members(void **state)
{
	struct archive *a = *state;

	for (size_t step = 0; step < 2; step++) {
		tar_close(STEAL(a->t));
		a->b.len = 0;
		a->src.step = step;
		tm_file(&a->b, "./a/b", "hello");
		tm_link(&a->b, '2', "s", "../x");
		tm_link(&a->b, '1', "h", "a/b");
		tm_put(&a->b, (struct tm_opts){.type = '3', .name = "c", .maj = 4, .min = 70000});
		tm_put(&a->b, (struct tm_opts){.type = 0, .name = "old/", .mode = 01777});
		tm_put(&a->b,
		       (struct tm_opts){.type = '6', .name = "f", .uid = 5, .gid = 6, .mtime = 7});
		tm_end(&a->b);
		assert_int_equal(next(a), 1);
		assert_int_equal(a->e.type, TAR_FILE);
		assert_string_equal(a->e.path, "./a/b");
		assert_content(a, "hello", 5);
		assert_int_equal(next(a), 1);
		assert_int_equal(a->e.type, TAR_SYMLINK);
		assert_string_equal(a->e.linkname, "../x");
		assert_int_equal(next(a), 1);
		assert_int_equal(a->e.type, TAR_HARDLINK);
		assert_string_equal(a->e.linkname, "a/b");
		assert_int_equal(next(a), 1);
		assert_int_equal(a->e.type, TAR_CHAR);
		assert_int_equal(a->e.devmajor, 4);
		assert_int_equal(a->e.devminor, 70000);
		assert_int_equal(next(a), 1);
		assert_int_equal(a->e.type, TAR_DIR);
		assert_int_equal(a->e.mode, 01777);
		assert_int_equal(next(a), 1);
		assert_int_equal(a->e.type, TAR_FIFO);
		assert_int_equal(a->e.uid, 5);
		assert_int_equal(a->e.gid, 6);
		assert_int_equal(a->e.mtime, 7);
		assert_int_equal(next(a), 0);
		assert_int_equal(next(a), 0);
	}
}

static void test_ends(void **state)
{
	struct archive *a = *state;

	assert_int_equal(next(a), 0); /* nothing at all */
	tar_close(STEAL(a->t));
	tm_file(&a->b, "a", "x");
	assert_int_equal(next(a), 1); /* no zero blocks at the end */
	assert_int_equal(next(a), 0);
	tar_close(STEAL(a->t));
	tm_end(&a->b);
	for (int i = 0; i < 100000; i++)
		buf_append(&a->b, "trailing", 8);
	assert_int_equal(next(a), 1);
	assert_int_equal(next(a), 0);
	assert_int_equal(a->src.pos, a->b.len); /* drained */
}

static void test_pax(void **state)
{
	struct archive *a = *state;
	CLEANUP_BUF struct buf rec = {0};
	char longname[3000];

	for (size_t i = 0; i < sizeof(longname); i++)
		longname[i] = i % 200 ? 'n' : '/';
	longname[sizeof(longname) - 1] = 0;
	tm_pax_record(&rec, "uid", "77", 2);
	tm_pax_record(&rec, "SCHILY.xattr.user.g", "v", 1);
	tm_pax(&a->b, 'g', &rec);
	rec.len = 0;
	tm_pax_record(&rec, "path", longname, strlen(longname));
	tm_pax_record(&rec, "gid", "4294967296", 10);
	tm_pax_record(&rec, "mtime", "-1.5", 4);
	tm_pax_record(&rec, "SCHILY.xattr.user.x", "a\0b", 3);
	tm_pax_record(&rec, "comment", "ignored", 7);
	tm_pax(&a->b, 'x', &rec);
	tm_file(&a->b, "short", "data");
	tm_pax1(&a->b, "linkpath", longname);
	tm_link(&a->b, '2', "l", "x");
	tm_file(&a->b, "plain", "");
	assert_int_equal(next(a), 1);
	assert_string_equal(a->e.path, longname);
	assert_int_equal(a->e.uid, 77);
	assert_true(a->e.gid == 4294967296u);
	assert_int_equal(a->e.mtime, -2);
	assert_int_equal(a->e.mtime_nsec, 500000000);
	assert_int_equal(a->e.nxattrs, 1);
	assert_string_equal(a->e.xattrs[0].name, "user.x");
	assert_int_equal(a->e.xattrs[0].len, 3);
	assert_memory_equal(a->e.xattrs[0].value, "a\0b", 3);
	assert_content(a, "data", 4);
	assert_int_equal(next(a), 1);
	assert_string_equal(a->e.linkname, longname);
	assert_int_equal(next(a), 1);
	assert_string_equal(a->e.path, "plain");
	assert_string_equal(a->e.xattrs[0].name, "user.g");
	assert_int_equal(next(a), 0);
}

static void test_gnu(void **state)
{
	struct archive *a = *state;
	char name[300], h[512];

	memset(name, 'd', sizeof(name));
	name[150] = '/';
	name[299] = 0;
	tm_put(&a->b,
	       (struct tm_opts){.type = 'L', .name = "././@LongLink", .data = name, .len = 300});
	tm_put(&a->b,
	       (struct tm_opts){.type = 'K', .name = "././@LongLink", .data = name, .len = 300});
	tm_link(&a->b, '1', "cut", "cut");
	/* base-256: a size of 3, and an owner that octal cannot hold */
	tm_header((uint8_t *)h, &(struct tm_opts){.type = '0', .name = "b"}, 0);
	memset(h + 124, 0, 12);
	h[124] = (char)0x80;
	h[135] = 3;
	memset(h + 108, 0, 8);
	h[108] = (char)0x80;
	h[112] = 0x7f;
	tm_sum((uint8_t *)h);
	buf_append(&a->b, h, 512);
	tm_data(&a->b, "xyz", 3);
	assert_int_equal(next(a), 1);
	assert_string_equal(a->e.path, name);
	assert_string_equal(a->e.linkname, name);
	assert_int_equal(next(a), 1);
	assert_true(a->e.uid == 0x7f000000u);
	assert_content(a, "xyz", 3);
}

static void sparse_check(struct archive *a)
{
	char want[1000] = {0};

	memcpy(want + 100, "abc", 3);
	memcpy(want + 600, "defgh", 5);
	assert_int_equal(next(a), 1);
	assert_string_equal(a->e.path, "sp");
	assert_int_equal(a->e.nsparse, 2);
	assert_content(a, want, sizeof(want));
	assert_int_equal(next(a), 1);
	assert_string_equal(a->e.path, "after");
	assert_int_equal(next(a), 0);
	tar_close(STEAL(a->t));
	a->b.len = 0;
}

static void test_sparse(void **state)
{
	struct archive *a = *state;
	CLEANUP_BUF struct buf rec = {0};
	uint8_t h[512];
	char map[512] = "2\n100\n3\n600\n5\n";

	/* old GNU */
	tm_header(h, &(struct tm_opts){.type = 'S', .name = "sp"}, 8);
	tm_octal(h + 386, 12, 100);
	tm_octal(h + 398, 12, 3);
	tm_octal(h + 410, 12, 600);
	tm_octal(h + 422, 12, 5);
	tm_octal(h + 483, 12, 1000);
	tm_sum(h);
	buf_append(&a->b, h, 512);
	tm_data(&a->b, "abcdefgh", 8);
	tm_file(&a->b, "after", "");
	sparse_check(a);
	/* pax 0.0 */
	tm_pax_record(&rec, "GNU.sparse.size", "1000", 4);
	tm_pax_record(&rec, "GNU.sparse.numblocks", "2", 1);
	tm_pax_record(&rec, "GNU.sparse.offset", "100", 3);
	tm_pax_record(&rec, "GNU.sparse.numbytes", "3", 1);
	tm_pax_record(&rec, "GNU.sparse.offset", "600", 3);
	tm_pax_record(&rec, "GNU.sparse.numbytes", "5", 1);
	tm_pax(&a->b, 'x', &rec);
	tm_file(&a->b, "sp", "abcdefgh");
	tm_file(&a->b, "after", "");
	sparse_check(a);
	/* pax 0.1 */
	rec.len = 0;
	tm_pax_record(&rec, "GNU.sparse.size", "1000", 4);
	tm_pax_record(&rec, "GNU.sparse.map", "100,3,600,5", 11);
	tm_pax_record(&rec, "GNU.sparse.name", "sp", 2);
	tm_pax(&a->b, 'x', &rec);
	tm_file(&a->b, "GNUSparseFile.0/sp", "abcdefgh");
	tm_file(&a->b, "after", "");
	sparse_check(a);
	/* pax 1.0: the map is in the data */
	rec.len = 0;
	tm_pax_record(&rec, "GNU.sparse.major", "1", 1);
	tm_pax_record(&rec, "GNU.sparse.minor", "0", 1);
	tm_pax_record(&rec, "GNU.sparse.name", "sp", 2);
	tm_pax_record(&rec, "GNU.sparse.realsize", "1000", 4);
	tm_pax(&a->b, 'x', &rec);
	char data[520];

	memcpy(data, map, 512);
	memcpy(data + 512, "abcdefgh", 8);
	tm_put(&a->b, (struct tm_opts){.type = '0', .name = "x", .data = data, .len = 520});
	tm_file(&a->b, "after", "");
	sparse_check(a);
}

static const char *const bad_maps[] = {
	"600,5,100,3",
	"100,3,101,5",
	"100,3,998,5",
	"100,3",
	"100,3,600,5,700,1",
	"100,3,600",
	"100,-3,600,11",
	"100,3,9223372036854775807,5",
	"100,9223372036854775807,600,5",
	"",
};

static void test_sparse_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_maps); i++) {
		struct archive a = {0};
		CLEANUP_BUF struct buf rec = {0};

		tm_pax_record(&rec, "GNU.sparse.size", "1000", 4);
		tm_pax_record(&rec, "GNU.sparse.map", bad_maps[i], strlen(bad_maps[i]));
		tm_pax(&a.b, 'x', &rec);
		tm_file(&a.b, "sp", "abcdefgh");
		assert_refused(&a, "tar");
		tar_close(a.t);
		error_free(a.err);
		buf_free(&a.b);
	}
}

/* Changes field bytes of one header and expects a refusal. */
static void refuse_field(size_t off, const void *v, size_t n, bool sum, const char *word)
{
	struct archive a = {0};
	uint8_t h[512];

	tm_header(h, &(struct tm_opts){.type = '0', .name = "f"}, 0);
	memcpy(h + off, v, n);
	if (sum)
		tm_sum(h);
	buf_append(&a.b, h, 512);
	tm_end(&a.b);
	assert_refused(&a, word);
	tar_close(a.t);
	error_free(a.err);
	buf_free(&a.b);
}

static void test_fields_refused(void **state)
{
	static const uint8_t minus[12] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					  0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
	static const uint8_t huge[12] = {0x80, 0, 0, 0, 0x80};
	static const uint8_t wide[12] = {0x80, 0, 1};

	refuse_field(124, minus, 12, true, "size");
	refuse_field(124, huge, 12, true, "size"); /* 2^63 */
	refuse_field(124, wide, 12, true, "size"); /* beyond 64 bits */
	refuse_field(124, "-0000000001", 12, true, "size");
	refuse_field(124, "0000000009", 11, true, "size");
	refuse_field(124, "77777777777", 11, true, "truncated");
	refuse_field(108, minus, 8, true, "uid");
	refuse_field(100, "zzz", 4, true, "mode");
	refuse_field(0, "g", 1, false, "checksum");
	refuse_field(148, "\0\0\0\0\0\0\0\0", 8, false, "checksum");
	refuse_field(156, "M", 1, true, "type");
	refuse_field(156, "\x80", 1, true, "type");
	refuse_field(0, "", 1, true, "no name");
	refuse_field(156, "2", 1, true, "no target");
}

/* Of many members, which it is. */
static void test_refused_says_where(void **state)
{
	struct archive *a = *state;
	uint8_t h[512];

	tm_file(&a->b, "first", "x");
	tm_file(&a->b, "second", "y");
	tm_header(h, &(struct tm_opts){.type = '3', .name = "third", .maj = 5000}, 0);
	buf_append(&a->b, h, 512);
	tm_end(&a->b);
	assert_refused(a, "member 3, \"third\": tar header: device major");
}

static const struct {
	const char *key, *value, *word;
} bad_pax[] = {
	{"uid", "-1", "uid"},
	{"uid", "0x10", "uid"},
	{"gid", "99999999999999999999", "gid"},
	{"size", "-5", "size"},
	{"size", "9223372036854775808", "size"},
	{"mtime", "1.2.3", "mtime"},
	{"mtime", "abc", "mtime"},
	{"SCHILY.xattr.", "v", "attribute"},
};

static void pax_refused(const void *rec, size_t n, char type, const char *word)
{
	struct archive a = {0};

	tm_put(&a.b, (struct tm_opts){.type = type, .name = "p", .data = rec, .len = n});
	tm_file(&a.b, "f", "");
	assert_refused(&a, word);
	tar_close(a.t);
	error_free(a.err);
	buf_free(&a.b);
}

static void test_pax_refused(void **state)
{
	static const char *const malformed[] = {
		"0 a=b\n", "7 a=b\n", "5 a=b\n", "a=b\n",    "6 a=b ", "99999999999999999999 a=b\n",
		"6 =ab\n", "5 ab\n",  "6",       "-6 a=b\n",
	};
	CLEANUP_BUF struct buf rec = {0};

	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++)
		pax_refused(malformed[i], strlen(malformed[i]), 'x', "malformed");
	for (size_t i = 0; i < ARRAY_SIZE(bad_pax); i++) {
		rec.len = 0;
		tm_pax_record(&rec, bad_pax[i].key, bad_pax[i].value, strlen(bad_pax[i].value));
		pax_refused(rec.data, rec.len, 'x', bad_pax[i].word);
	}
	rec.len = 0;
	tm_pax_record(&rec, "path", "a\0b", 3);
	pax_refused(rec.data, rec.len, 'x', "path");
	rec.len = 0;
	tm_pax_record(&rec, "path", "elsewhere", 9);
	pax_refused(rec.data, rec.len, 'g', "path");
	char *big = calloc(1, TAR_MAX_PAX + 1);

	pax_refused(big, TAR_MAX_PAX + 1, 'x', "extended header");
	pax_refused(big, TAR_MAX_PATH + 2, 'L', "extended header");
	memset(big, 'v', TAR_MAX_PAX);
	rec.len = 0;
	tm_pax_record(&rec, "SCHILY.xattr.user.x", big, TAR_MAX_XATTR + 1);
	pax_refused(rec.data, rec.len, 'x', "attributes");
	rec.len = 0;
	tm_pax_record(&rec, "path", big, 256);
	pax_refused(rec.data, rec.len, 'x', "component");
	for (size_t i = 0; i < 6000; i += 2)
		big[i] = '/';
	rec.len = 0;
	tm_pax_record(&rec, "path", big, TAR_MAX_PATH);
	pax_refused(rec.data, rec.len, 'x', "longer");
	rec.len = 0;
	for (int i = 0; i < TAR_MAX_XATTRS + 1; i++) {
		char key[64];

		snprintf(key, sizeof(key), "SCHILY.xattr.user.%d", i);
		tm_pax_record(&rec, key, "v", 1);
	}
	pax_refused(rec.data, rec.len, 'x', "attributes");
	free(big);
}

static void test_truncated(void **state)
{
	CLEANUP_BUF struct buf whole = {0};
	char name[2000];

	memset(name, 'n', sizeof(name));
	for (size_t i = 100; i < sizeof(name); i += 100)
		name[i] = '/';
	name[sizeof(name) - 1] = 0;
	tm_pax1(&whole, "path", name);
	tm_file(&whole, "f", "some content");
	/* Cut anywhere but at the very start or in the padding of the last member, a member is lost. */
	for (size_t cut = 1; cut < whole.len - 500; cut += 37) {
		struct archive a = {0};

		buf_append(&a.b, whole.data, cut);
		assert_refused(&a, "truncated");
		tar_close(a.t);
		error_free(a.err);
		buf_free(&a.b);
	}
}

/* As umoci writes layers: nothing behind the last member's content. */
static void test_no_padding(void **state)
{
	struct archive *a = *state;

	tm_file(&a->b, "f", "some content");
	a->b.len -= 500;
	assert_int_equal(next(a), 1);
	assert_content(a, "some content", 12);
	assert_int_equal(next(a), 0);
	assert_null(a->err);
}

static void test_zero_block_inside(void **state)
{
	struct archive *a = *state;
	static const char zeros[512];

	buf_append(&a->b, zeros, 512);
	tm_file(&a->b, "f", "");
	assert_refused(a, "zero block");
}

/* Damaged archives end in an error or an end, in bounded time, and never read out of bounds (run under ASan). */
static void test_mutations(void **state)
{
	CLEANUP_BUF struct buf whole = {0};
	CLEANUP_BUF struct buf rec = {0};
	unsigned seed = 1;

	tm_pax_record(&rec, "GNU.sparse.map", "100,3,600,5", 11);
	tm_pax_record(&rec, "GNU.sparse.size", "1000", 4);
	tm_pax_record(&rec, "SCHILY.xattr.user.x", "v", 1);
	tm_pax_record(&rec, "mtime", "12.5", 4);
	tm_pax(&whole, 'x', &rec);
	tm_file(&whole, "sp", "abcdefgh");
	tm_put(&whole, (struct tm_opts){.type = 'L', .name = "L", .data = "abc", .len = 4});
	tm_file(&whole, "f", "content");
	tm_end(&whole);
	for (int round = 0; round < 20000; round++) {
		struct archive a = {0};
		char tmp[256];
		uint64_t total = 0;
		ssize_t r = 0;

		buf_append(&a.b, whole.data, whole.len);
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			a.b.data[(size_t)rand_r(&seed) % a.b.len] = (char)rand_r(&seed);
		/* Make half the damaged headers believable. */
		for (size_t h = 0; (round & 1) && h + 512 <= a.b.len; h += 512)
			if (memcmp(a.b.data + h + 257, "ustar", 5) == 0)
				tm_sum((uint8_t *)a.b.data + h);
		for (int n = 0; n < 50 && r >= 0 && next(&a) == 1; n++)
			while (total < 100000 && (r = tar_read(a.t, tmp, sizeof(tmp), &a.err)) > 0)
				total += (uint64_t)r;
		assert_true(r >= 0 || a.err);
		tar_close(a.t);
		error_free(a.err);
		buf_free(&a.b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_members, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pax, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gnu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sparse, setup, teardown),
		cmocka_unit_test(test_sparse_refused),
		cmocka_unit_test(test_fields_refused),
		cmocka_unit_test_setup_teardown(test_refused_says_where, setup, teardown),
		cmocka_unit_test(test_pax_refused),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test_setup_teardown(test_no_padding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zero_block_inside, setup, teardown),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
