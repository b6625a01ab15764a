// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_fuse.c - the FUSE server: each request on a directory of the host, as root and as a user. */
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/unit/fuse_client.h"

static void test_files(void **state)
{
	struct client *c = *state;
	uint64_t node, fh, again;
	struct fuse_attr a;

	assert_int_equal(do_create(c, c->rw, "a", O_RDWR, S_IFREG | 0640, &node, &fh), 0);
	assert_int_equal(do_write(c, node, fh, 0, "hello", 5), 0);
	assert_int_equal(BODY(c, struct fuse_write_out)->size, 5);
	assert_string_equal(get("rw/a"), "hello");
	assert_int_equal(do_read(c, node, fh, 1, 100), 0);
	assert_int_equal(c->len, 4);
	assert_memory_equal(BODY(c, char), "ello", 4);
	assert_int_equal(getattr(c, node, &a), 0);
	assert_int_equal(a.size, 5);
	assert_int_equal(a.mode, S_IFREG | 0640);
	assert_int_equal(a.ino, host_stat("rw/a").st_ino);
	assert_int_equal(do_release(c, FUSE_RELEASE, node, fh), 0);
	assert_int_equal(do_read(c, node, fh, 0, 1), EBADF);
	assert_int_equal(must_find(c, c->rw, "a"), node);
	assert_int_equal(do_open(c, node, O_RDONLY, &again), 0);
	assert_int_not_equal(again, fh);
	assert_int_equal(do_read(c, node, again, 0, 5), 0);
	assert_int_equal(do_write(c, node, again, 0, "x", 1), EBADF);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_files),
	};

	return RUN_BOTH(tests);
}
