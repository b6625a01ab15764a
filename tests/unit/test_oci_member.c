// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_member.c - one file out of archives, good and hostile, and that nothing else of them stays. */
#include <lzma.h>

#include "tests/unit/oci_fixture.h"

#define FILE_LEN 200000u

/* What the archive holds under boot/kernel; it does not compress. */
static void noise(struct buf *b, unsigned seed)
{
	uint32_t x = 2463534242u + seed;

	for (unsigned i = 0; i < FILE_LEN; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		buf_append(b, &x, 1);
	}
}

static void xz(const struct buf *in, uint32_t preset, struct buf *out)
{
	size_t bound = lzma_stream_buffer_bound(in->len), at = 0;

	buf_reserve(out, bound);
	assert_int_equal(lzma_easy_buffer_encode(preset, LZMA_CHECK_CRC64, NULL,
						 (uint8_t *)in->data, in->len,
						 (uint8_t *)out->data + out->len, &at, bound),
			 LZMA_OK);
	out->len += at;
}

/* The archive most tests take a file from. */
static void archive(struct buf *tar)
{
	CLEANUP_BUF struct buf first = {0}, last = {0};

	noise(&first, 1);
	noise(&last, 2);
	tm_put(tar, (struct tm_opts){.type = '5', .name = "./boot/"});
	tm_put(tar, (struct tm_opts){.type = '2', .name = "./boot/link", .link = "../boot/kernel"});
	fx_add(tar, "./boot/kernel", first.data, first.len);
	fx_add(tar, "../boot/kernel", "out", 3);
	fx_add(tar, "./boot/kernel", last.data, last.len);
	tm_put(tar, (struct tm_opts){.type = '1', .name = "hard", .link = "./boot/link"});
	tm_put(tar, (struct tm_opts){.type = '2', .name = "up", .link = "../boot/kernel"});
	tm_put(tar, (struct tm_opts){.type = '2', .name = "abs", .link = "/boot/kernel"});
	tm_put(tar, (struct tm_opts){.type = '2', .name = "a", .link = "b"});
	tm_put(tar, (struct tm_opts){.type = '2', .name = "b", .link = "a"});
	tm_put(tar, (struct tm_opts){.type = '3', .name = "null", .maj = 1, .min = 3});
	tm_end(tar);
}

static int member(struct fx *f, const struct buf *bytes, const char *name, const char *digest,
		  char **path, struct error **err)
{
	CLEANUP_CLOSE int fd = fx_memfd(bytes);
	struct oci_member m = {.fd = fd, .member = name, .digest = digest};

	return oci_member(f->store, &m, NULL, path, err);
}

static void assert_refused(struct fx *f, const struct buf *bytes, const char *name,
			   const char *digest, const char *why)
{
	struct error *e = NULL;
	char *path = NULL;

	assert_int_equal(member(f, bytes, name, digest, &path, &e), -1);
	assert_null(path);
	fx_assert_error(e, why);
	fx_assert_empty(f);
}

/* It comes out whole, the last of its name, under the name behind all links. */
static void assert_found(struct fx *f, const struct buf *bytes, const char *name)
{
	CLEANUP_BUF struct buf want = {0}, got = {0};
	CLEANUP_FREE char *path = NULL;
	struct error *e = NULL;
	CLEANUP_CLOSE int fd = member(f, bytes, name, NULL, &path, &e);

	noise(&want, 2);
	if (fd < 0)
		fx_assert_error(e, "no error");
	assert_string_equal(path, "boot/kernel");
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	assert_int_equal(fd_read_all(fd, 1 << 20, &got, NULL), 0);
	assert_int_equal(got.len, want.len);
	assert_memory_equal(got.data, want.data, want.len);
	fx_assert_empty(f);
}

static void found(void **state)
{
	CLEANUP_BUF struct buf tar = {0}, gz = {0}, x = {0};

	archive(&tar);
	fx_gzip(&tar, &gz);
	xz(&tar, 1, &x);
	assert_found(*state, &tar, "boot/kernel");
	assert_found(*state, &gz, "/boot//kernel");
	assert_found(*state, &x, "./boot/link");
	assert_found(*state, &x, "hard");
}

static void digest(void **state)
{
	CLEANUP_BUF struct buf tar = {0};
	CLEANUP_FREE char *path = NULL;
	char right[OCI_DIGEST_LEN + 1], wrong[OCI_DIGEST_LEN + 1];

	archive(&tar);
	digest_of(tar.data, tar.len, right);
	digest_of(tar.data, tar.len - 1, wrong);
	CLEANUP_CLOSE int fd = member(*state, &tar, "boot/kernel", right, &path, NULL);

	assert_true(fd >= 0);
	assert_refused(*state, &tar, "boot/kernel", wrong, "digest");
	assert_refused(*state, &tar, "boot/kernel", "sha256:12", "no sha256 digest");
	assert_refused(*state, &tar, "boot/kernel", "../../etc/passwd", "no sha256 digest");
}

static void refused(void **state)
{
	CLEANUP_BUF struct buf tar = {0}, half = {0}, none = {0};

	archive(&tar);
	assert_refused(*state, &tar, "boot", NULL, "boot is no file");
	assert_refused(*state, &tar, "null", NULL, "null is no file");
	assert_refused(*state, &tar, "boot/none", NULL, "boot/none is not in the archive");
	assert_refused(*state, &tar, "up", NULL, "leads out of the archive");
	assert_refused(*state, &tar, "abs", NULL, "leads out of the archive");
	assert_refused(*state, &tar, "a", NULL, "too many links");
	assert_refused(*state, &tar, "../boot/kernel", NULL, "no path in an archive");
	assert_refused(*state, &tar, "./", NULL, "no path in an archive");
	buf_append(&half, tar.data, tar.len / 2);
	assert_refused(*state, &half, "boot/kernel", NULL, "archive");
	assert_refused(*state, &none, "boot/kernel", NULL, "is not in the archive");
}

/* Larger than any kernel, and not a byte of it there. */
static void too_large(void **state)
{
	CLEANUP_BUF struct buf tar = {0};
	uint8_t h[512];

	tm_header(h, &(struct tm_opts){.type = '0', .name = "big"}, (1ull << 30) + 1);
	buf_append(&tar, h, sizeof(h));
	assert_refused(*state, &tar, "big", NULL, "larger than 1024 MiB");
}

static void xz_streams(void **state)
{
	CLEANUP_BUF struct buf tar = {0}, x = {0}, head = {0}, tail = {0};

	archive(&tar);
	buf_append(&head, tar.data, 70001);
	buf_append(&tail, tar.data + 70001, tar.len - 70001);
	xz(&head, 0, &x);
	xz(&tail, 6, &x);
	assert_found(*state, &x, "boot/kernel");
}

static void xz_damaged(void **state)
{
	CLEANUP_BUF struct buf tar = {0}, x = {0}, big = {0}, half = {0};

	archive(&tar);
	xz(&tar, 9, &big);
	assert_refused(*state, &big, "boot/kernel", NULL, "more than 40 MiB");
	xz(&tar, 6, &x);
	buf_append(&half, x.data, x.len / 2);
	assert_refused(*state, &half, "boot/kernel", NULL, "ends too early");
	for (size_t at = 4; at < x.len; at += x.len / 7) {
		CLEANUP_BUF struct buf bad = {0};

		buf_append(&bad, x.data, x.len);
		bad.data[at] ^= 0x20;
		assert_refused(*state, &bad, "boot/kernel", NULL, "xz data ");
	}
	buf_append(&x, "more", 4);
	assert_refused(*state, &x, "boot/kernel", NULL, "xz data ends too early");
}

/* A layer in xz stays what it was: no layer. */
static void xz_is_no_layer(void **state)
{
	CLEANUP_BUF struct buf tar = {0}, x = {0};
	struct json_object *images = NULL;
	struct error *e = NULL;
	struct fx *f = *state;

	archive(&tar);
	xz(&tar, 1, &x);
	CLEANUP_CLOSE int fd = fx_memfd(&x);

	assert_int_equal(oci_load(f->store, fd, false, NULL, &images, &e), -1);
	error_free(e);
	fx_assert_empty(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(found, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(digest, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(refused, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(too_large, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(xz_streams, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(xz_damaged, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(xz_is_no_layer, fx_setup, fx_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
