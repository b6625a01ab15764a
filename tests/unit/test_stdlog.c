// links: cmd core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_stdlog.c - the log of a container: records, rotation under a reader, floods (attack class F), files that are no logs; times. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "cmd/stdlog.h"
#include "cmd/when.h"
#include "core/path.h"

struct fix {
	char dir[64];
	int dirfd;
	struct stdlog_writer w;
	int fds[STDLOG_FILES_MAX];
	size_t n;
};

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test-stdlog.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = path_open_dir(f->dir, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	int tmp = path_open_dir("/tmp", NULL);

	stdlog_close(&f->w);
	while (f->n > 0)
		close(f->fds[--f->n]);
	close(f->dirfd);
	path_remove_tree(tmp, f->dir + 5, NULL);
	close(tmp);
	free(f);
	return 0;
}

/* A log of files of that many bytes, and descriptors for a reader. */
static void make(struct fix *f, int64_t size, unsigned files, bool keep)
{
	CLEANUP_JSON struct json_object *c = json_object_new_object();
	struct json_object *o = json_object_new_object();
	char name[16];

	json_set(c, "log", o);
	json_set_int(o, "maxSizeInBytes", size);
	json_set_int(o, "maxFiles", files);
	assert_int_equal(stdlog_check(c, NULL), 0);
	stdlog_close(&f->w);
	assert_int_equal(stdlog_open(&f->w, f->dirfd, c, keep, NULL), 0);
	while (f->n > 0)
		close(f->fds[--f->n]);
	for (; f->n < files; f->n++) {
		stdlog_name((unsigned)f->n, name);
		f->fds[f->n] = openat(f->dirfd, name, O_RDONLY | O_CLOEXEC);
		assert_true(f->fds[f->n] >= 0);
	}
}

static void put(struct fix *f, bool is_err, const char *text)
{
	stdlog_write(&f->w, is_err, text, strlen(text));
}

/* All there is, "o:" and "e:" before each record, "+" behind one that goes on. */
static void take(struct stdlog_reader *r, struct buf *out)
{
	struct stdlog_record rec;
	int rc;

	while ((rc = stdlog_next(r, &rec, NULL)) == 1) {
		buf_printf(out, "%s%c:", out->len ? " " : "", rec.is_err ? 'e' : 'o');
		buf_append(out, rec.text, rec.len);
		if (rec.partial)
			buf_puts(out, "+");
	}
	assert_int_equal(rc, 0);
	buf_puts(out, "");
}

static void assert_reads(struct fix *f, const char *want)
{
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	CLEANUP_BUF struct buf b = {0};

	stdlog_reader_init(&r, f->fds, f->n);
	take(&r, &b);
	assert_string_equal(b.data, want);
}

static void records(void **state)
{
	struct fix *f = *state;
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	struct stdlog_record rec;
	char now[TIME_STAMP_LEN + 1];

	make(f, STDLOG_SIZE_MIN, 2, false);
	time_stamp(time_now_ns(), now);
	put(f, false, "one\ntwo");
	put(f, true, "oops\n");
	put(f, false, " and a half\n\n");
	assert_reads(f, "o:one o:two+ e:oops o: and a half o:");
	stdlog_reader_init(&r, f->fds, f->n);
	assert_int_equal(stdlog_next(&r, &rec, NULL), 1);
	assert_true(strncmp(rec.time, now, TIME_STAMP_LEN) >= 0);
	assert_true(strncmp(rec.time, now, 4) == 0);
	/* Any byte but a newline. */
	stdlog_reader_free(&r);
	stdlog_write(&f->w, false, "\0\x1b\xff\r", 4);
	stdlog_reader_init(&r, f->fds, f->n);
	for (int i = 0; i < 6; i++)
		assert_int_equal(stdlog_next(&r, &rec, NULL), 1);
	assert_int_equal(rec.len, 4);
	assert_memory_equal(rec.text, "\0\x1b\xff\r", 4);
	assert_true(rec.partial);
	assert_int_equal(stdlog_next(&r, &rec, NULL), 0);
}

static void long_lines(void **state)
{
	struct fix *f = *state;
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	CLEANUP_FREE char *text = xmalloc(3 * STDLOG_TEXT_MAX);
	struct stdlog_record rec;
	size_t sum = 0;
	int n = 0;

	make(f, 1 << 20, 2, false);
	memset(text, 'x', 3 * STDLOG_TEXT_MAX);
	text[3 * STDLOG_TEXT_MAX - 1] = '\n';
	stdlog_write(&f->w, false, text, 3 * STDLOG_TEXT_MAX);
	stdlog_reader_init(&r, f->fds, f->n);
	for (; stdlog_next(&r, &rec, NULL) == 1; n++, sum += rec.len)
		assert_true(rec.len <= STDLOG_TEXT_MAX);
	assert_int_equal(sum, 3 * STDLOG_TEXT_MAX - 1);
	assert_int_equal(n, 3);
}

static int64_t kept(struct fix *f)
{
	int64_t sum = 0;
	struct stat st;

	for (size_t i = 0; i < f->n; i++) {
		assert_int_equal(fstat(f->fds[i], &st), 0);
		assert_true(st.st_size <= f->w.size);
		sum += st.st_size;
	}
	return sum;
}

/* F: whatever a process writes, the host keeps a bounded part of it, the newest. */
static void test_F_flood(void **state)
{
	struct fix *f = *state;
	static char lines[65536], one[65536];
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	struct stdlog_record rec;
	int64_t least = 2 * STDLOG_SIZE_MIN - 70000;
	int n = 0;

	make(f, STDLOG_SIZE_MIN, 3, false);
	memset(lines, '\n', sizeof(lines));
	memset(one, 'x', sizeof(one));
	for (int i = 0; i < 40; i++) {
		stdlog_write(&f->w, i & 1, i % 3 ? lines : one, sizeof(lines));
		assert_true(kept(f) <= 3 * STDLOG_SIZE_MIN);
	}
	assert_true(kept(f) >= least);
	put(f, false, "\nlast\n");
	stdlog_reader_init(&r, f->fds, f->n);
	while (stdlog_next(&r, &rec, NULL) == 1)
		n++;
	assert_true(n > 1000);
	assert_int_equal(rec.len, 4);
	assert_memory_equal(rec.text, "last", 4);
}

/* A reader that keeps up misses nothing however often the log is turned over. */
static void test_F_follow(void **state)
{
	struct fix *f = *state;
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	struct stdlog_record rec;
	char text[512], want[16];
	int got = 0;

	make(f, STDLOG_SIZE_MIN, 2, false);
	stdlog_reader_init(&r, f->fds, f->n);
	memset(text, 'y', sizeof(text));
	for (int i = 0; i < 3000; i++) {
		text[snprintf(text, sizeof(text), "%06d", i)] = ' ';
		text[sizeof(text) - 1] = '\n';
		stdlog_write(&f->w, false, text, sizeof(text));
		if (i % 50)
			continue;
		while (stdlog_next(&r, &rec, NULL) == 1) {
			snprintf(want, sizeof(want), "%06d", got++);
			assert_memory_equal(rec.text, want, 6);
		}
		assert_int_equal(got, i + 1);
	}
	assert_true(f->w.seq > 10);
}

/* One that does not finds the oldest that is left, and no line twice or mixed. */
static void test_F_follow_late(void **state)
{
	struct fix *f = *state;
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	struct stdlog_record rec;
	int last = -1, i;
	char text[64];

	make(f, STDLOG_SIZE_MIN, 2, false);
	stdlog_reader_init(&r, f->fds, f->n);
	for (i = 0; i < 40000; i++) {
		snprintf(text, sizeof(text), "%08d\n", i);
		stdlog_write(&f->w, false, text, 9);
		if (i % 10000 == 5000 && stdlog_next(&r, &rec, NULL) == 1) {
			int v = atoi(rec.text);

			assert_int_equal(rec.len, 8);
			assert_true(v > last && v <= i);
			last = v;
		}
	}
	while (stdlog_next(&r, &rec, NULL) == 1) {
		int v = atoi(rec.text);

		assert_int_equal(rec.len, 8);
		assert_true(v > last);
		last = v;
	}
	assert_int_equal(last, i - 1);
}

/* A container that starts again: its log begins anew, or goes on; a reader goes along with both. */
static void starts(void **state)
{
	struct fix *f = *state;
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	CLEANUP_BUF struct buf b = {0};

	make(f, STDLOG_SIZE_MIN, 2, false);
	put(f, false, "first\n");
	stdlog_reader_init(&r, f->fds, f->n);
	take(&r, &b);
	stdlog_close(&f->w);
	assert_int_equal(stdlog_open(&f->w, f->dirfd, NULL, true, NULL), 0);
	put(f, false, "second\n");
	take(&r, &b);
	stdlog_close(&f->w);
	assert_int_equal(stdlog_open(&f->w, f->dirfd, NULL, false, NULL), 0);
	put(f, true, "third\n");
	take(&r, &b);
	assert_string_equal(b.data, "o:first o:second e:third");
	assert_reads(f, "e:third");
	/* Fewer files than before: the others go. */
	make(f, STDLOG_SIZE_MIN, 1, false);
	assert_int_equal(faccessat(f->dirfd, "stdio.log.1", F_OK, 0), -1);
	put(f, false, "alone\n");
	assert_reads(f, "o:alone");
}

/* What a writer that was killed, or a guest that broke out, left behind. */
static void test_F_foreign(void **state)
{
	struct fix *f = *state;
	static char junk[200000];
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	struct stdlog_record rec;
	size_t sum = 0;
	int fd;

	make(f, STDLOG_SIZE_MIN, 2, false);
	put(f, false, "good\n");
	fd = openat(f->dirfd, "stdio.log", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "2026-01-", 8), 8);
	close(fd);
	make(f, STDLOG_SIZE_MIN, 2, true);
	put(f, false, "again\n");
	assert_reads(f, "o:good o:2026-01- o:again");
	/* No newline for ever, no header, numbers that wrap. */
	memset(junk, 'z', sizeof(junk));
	fd = openat(f->dirfd, "stdio.log.1", O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "#log 99999999999999999999\n", 26), 26);
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	assert_reads(f, "o:good o:2026-01- o:again");
	assert_int_equal(pwrite(fd, "#log 00000000000000000007\n", 26, 0), 26);
	stdlog_reader_init(&r, f->fds, f->n);
	while (stdlog_next(&r, &rec, NULL) == 1) {
		assert_true(rec.len < 32768);
		sum += rec.len;
	}
	assert_true(sum > sizeof(junk) / 2);
	close(fd);
	/* A link in its place is not followed. */
	assert_int_equal(unlinkat(f->dirfd, "stdio.log", 0), 0);
	assert_int_equal(symlinkat("/dev/null", f->dirfd, "stdio.log"), 0);
	make(f, STDLOG_SIZE_MIN, 2, false);
	put(f, false, "here\n");
	assert_reads(f, "o:here");
}

static void limits(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} cases[] = {
		{"{}", 0},
		{"{\"log\": {}}", 0},
		{"{\"log\": {\"maxSizeInBytes\": 65536, \"maxFiles\": 16}}", 0},
		{"{\"log\": {\"maxSizeInBytes\": 1}}", -1},
		{"{\"log\": {\"maxFiles\": 17}}", -1},
		{"{\"log\": {\"maxFiles\": 0}}", -1},
		{"{\"log\": 7}", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_JSON struct json_object *o =
			json_parse(cases[i].text, strlen(cases[i].text), NULL);

		assert_int_equal(stdlog_check(o, NULL), cases[i].rc);
	}
}

/* ---- times ---- */

static void spans(void **state)
{
	static const struct {
		const char *text;
		int64_t ns; /* -1: refused */
	} cases[] = {
		{"5", 5000000000},
		{"1.5", 1500000000},
		{"300ms", 300000000},
		{"1m30s", 90000000000},
		{"2d", 172800000000000},
		{"1h", 3600000000000},
		{"0.5h", 1800000000000},
		{"7us", 7000},
		{"9ns", 9},
		{"0", 0},
		{"", -1},
		{"x", -1},
		{"5x", -1},
		{"-5", -1},
		{"5m 3s", -1},
		{"1m30", -1},
		{"99999999999999999999", -1},
		{"9999999999999d", -1},
		{"m", -1},
		{".", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t ns = -1;

		assert_int_equal(span_parse(cases[i].text, &ns, NULL), cases[i].ns < 0 ? -1 : 0);
		assert_int_equal(ns, cases[i].ns);
	}
}

static void times(void **state)
{
	const int64_t s = 1000000000, now = 1767366245 * s;
	const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{"10m", now - 600 * s},
		{"1767366245", now},
		{"1767366245.25", now + s / 4},
		{"2026-01-02T15:04:05Z", now},
		{"2026-01-02t15:04:05.000000006z", now + 6},
		{"2026-01-02 15:04:05", now},
		{"2026-01-02T17:34:05+02:30", now},
		{"2026-01-02T15:04", now - 5 * s},
		{"2026-01-02", now - 54245 * s},
		{"9999-12-31", INT64_MAX},
		{"2026-13-02", -1},
		{"2026-01-02T25:00", -1},
		{"2026-01-02T15:04:05+2", -1},
		{"2026-01-02T15:04:05Zx", -1},
		{"yesterday", -1},
		{"", -1},
	};
	char text[TIME_STAMP_LEN + 1];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t ns = -1;

		assert_int_equal(when_parse(cases[i].text, now, &ns, NULL),
				 cases[i].ns < 0 ? -1 : 0);
		assert_int_equal(ns, cases[i].ns);
	}
	time_stamp(now + 7, text);
	assert_string_equal(text, "2026-01-02T15:04:05.000000007Z");
	time_stamp(INT64_MAX, text);
	assert_int_equal(strlen(text), TIME_STAMP_LEN);
	time_stamp(-1, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
}

static void span_words(void **state)
{
	static const struct {
		int64_t s;
		const char *text;
	} cases[] = {
		{0, "Less than a second"}, {1, "1 second"},       {59, "59 seconds"},
		{60, "About a minute"},    {3599, "59 minutes"},  {3600, "About an hour"},
		{86400, "24 hours"},       {259200, "3 days"},    {1814400, "3 weeks"},
		{8640000, "3 months"},     {94608000, "3 years"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_FREE char *t = span_text(cases[i].s);

		assert_string_equal(t, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records, setup, teardown),
		cmocka_unit_test_setup_teardown(long_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_follow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_follow_late, setup, teardown),
		cmocka_unit_test_setup_teardown(starts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_foreign, setup, teardown),
		cmocka_unit_test(limits),
		cmocka_unit_test(spans),
		cmocka_unit_test(times),
		cmocka_unit_test(span_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
