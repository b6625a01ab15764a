// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_guest_user.c - who an image says its process is (attack class M): numbers that wrap or are negative, databases
 * that lie or are no files. The guest's file is included; each case runs in a child whose root is a made-up one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/path.h"
#include "vmm/guest/user.c"

static char root[] = "/tmp/test-user.XXXXXX";

static void put(const char *name, const char *text)
{
	CLEANUP_FREE char *path = xasprintf("%s/etc/%s", root, name);
	CLEANUP_CLOSE int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text), NULL), 0);
}

/* What "uid:gid" user_resolve() makes of a process object; -1 for an error. */
static int64_t resolve(const char *json)
{
	CLEANUP_JSON struct json_object *o = json_parse(json, strlen(json), NULL);
	int p[2], status;
	int64_t ids = -2;
	pid_t child;

	assert_non_null(o);
	assert_int_equal(pipe(p), 0);
	child = fork();
	if (!child) {
		struct user u = {0};

		alarm(10);
		if (chroot(root) || chdir("/"))
			_exit(2);
		ids = user_resolve(o, &u, NULL) ? -1 : (int64_t)u.uid << 16 | u.gid;
		_exit(write(p[1], &ids, sizeof(ids)) != sizeof(ids));
	}
	close(p[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(read(p[0], &ids, sizeof(ids)), sizeof(ids));
	close(p[0]);
	return ids;
}

static int64_t named(const char *name)
{
	CLEANUP_FREE char *json = xasprintf("{\"user\":{\"name\":\"%s\"}}", name);

	return resolve(json);
}

static int setup(void **state)
{
	CLEANUP_FREE char *etc = NULL;

	if (getuid())
		return -1;
	assert_non_null(mkdtemp(root));
	etc = xasprintf("%s/etc", root);
	return mkdir(etc, 0700);
}

static int teardown(void **state)
{
	CLEANUP_CLOSE int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);

	return path_remove_tree(tmp, root + strlen("/tmp/"), NULL);
}

#define IDS(u, g) ((int64_t)(u) << 16 | (g))

static void test_numbers(void **state)
{
	static const char *const bad[] = {
		"-1",          "4294967295",   "4294967296",   "18446744073709551616",
		"2147483648x", "0x0",          "+0",           " 0",
		"1:-1",        "1:4294967295", "1:4294967296", "1:0x1",
		"nobody-here", "1:nogroup",    "\\n0",         "99999999999999999999999"};
	size_t i;

	put("passwd", "root:x:0:0::/root:/bin/sh\n");
	put("group", "root:x:0:\n");
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		if (named(bad[i]) != -1)
			fail_msg("user \"%s\" was taken", bad[i]);
	assert_int_equal(named("4294967294:7"), IDS(4294967294u, 7));
	assert_int_equal(named("2147483648:7"), IDS(2147483648u, 7));
	assert_int_equal(named("root"), 0);
	assert_int_equal(resolve("{\"user\":{\"uid\":4294967296,\"gid\":0}}"), -1);
	assert_int_equal(resolve("{\"user\":{\"uid\":-1,\"gid\":0}}"), -1);
	assert_int_equal(
		resolve("{\"user\":{\"uid\":1,\"gid\":1},\"additionalGids\":[4294967295]}"), -1);
	assert_int_equal(resolve("{\"user\":{\"uid\":1,\"gid\":1},\"additionalGids\":[\"0\"]}"),
			 -1);
}

/* Lines that lie are no lines: a name must not come out as root because its number does not fit. */
static void test_lying_lines(void **state)
{
	put("passwd", "neg:x:-1:0::/:\nwrap:x:4294967296:0::/:\nhuge:x:4294967295:0::/"
		      ":\nshort:x\n:x:0:0::/:\n"
		      "gap:x::0::/:\nok:x:5:6::relative:\nok:x:0:0::/:\n");
	put("group", "neg:x:-1:\nwrap:x:4294967296:ok\nmore:x:9:ok,ok,,ok\n");
	assert_int_equal(named("neg"), -1);
	assert_int_equal(named("wrap"), -1);
	assert_int_equal(named("huge"), -1);
	assert_int_equal(named("short"), -1);
	assert_int_equal(named("gap"), -1);
	assert_int_equal(named("ok"), IDS(5, 6));
	assert_int_equal(named("ok:wrap"), -1);
	assert_int_equal(named("ok:more"), IDS(5, 9));
}

/* A database that is no file, or has no end, is an empty one. */
static void test_odd_databases(void **state)
{
	CLEANUP_FREE char *passwd = xasprintf("%s/etc/passwd", root),
			  *dev = xasprintf("%s/zero", root);

	assert_int_equal(unlink(passwd), 0);
	assert_int_equal(mkfifo(passwd, 0600), 0);
	assert_int_equal(named("ok"), -1);
	assert_int_equal(named("3:4"), IDS(3, 4));
	assert_int_equal(unlink(passwd), 0);
	if (!mknod(dev, S_IFCHR | 0600, makedev(1, 5))) {
		assert_int_equal(symlink("/zero", passwd), 0);
		assert_int_equal(named("ok"), -1);
		assert_int_equal(unlink(passwd), 0);
	}
	assert_int_equal(symlink("passwd", passwd), 0);
	assert_int_equal(named("ok"), -1);
	assert_int_equal(unlink(passwd), 0);
	put("passwd", "ok:x:5:6::/:\n");
	assert_int_equal(truncate(passwd, MAX_DATABASE + 1), 0);
	assert_int_equal(named("ok"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_lying_lines),
		cmocka_unit_test(test_odd_databases),
	};

	if (getuid()) {
		printf("skipped: needs root, for chroot\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
