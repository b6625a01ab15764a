// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that may not leave their root, trees that go away whole, state files that are never half written. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/path.h"
#include "core/state.h"

static char root[] = "/tmp/test-core-path.XXXXXX";
static int dir = -1;

static int setup(void **state)
{
	if (!mkdtemp(root))
		return -1;
	dir = path_open_dir(root, NULL);
	return dir < 0;
}

static int teardown(void **state)
{
	int tmp = path_open_dir("/tmp", NULL);
	int ret = path_remove_tree(tmp, strrchr(root, '/') + 1, NULL);

	close(tmp);
	close(dir);
	return ret;
}

static void put(const char *name, const char *text)
{
	int fd = path_open_beneath(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, NULL);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text), NULL), 0);
	close(fd);
}

static void refused(int fd, struct error **e)
{
	assert_int_equal(fd, -1);
	assert_non_null(*e);
	error_free(*e);
	*e = NULL;
}

static void escapes(void **state)
{
	struct error *e = NULL;
	int fd;

	assert_int_equal(path_mkdirs_at(dir, "a/b/c", 0755, &e), 0);
	put("a/passwd", "inside");
	assert_int_equal(symlinkat("/etc", dir, "abs"), 0);
	assert_int_equal(symlinkat("../../../../etc", dir, "up"), 0);
	assert_int_equal(symlinkat("../passwd", dir, "a/b/in"), 0);
	refused(path_open_beneath(dir, "abs/passwd", O_RDONLY, 0, &e), &e);
	refused(path_open_beneath(dir, "up/passwd", O_RDONLY, 0, &e), &e);
	refused(path_open_beneath(dir, "a/../../etc/passwd", O_RDONLY, 0, &e), &e);
	refused(path_open_beneath(dir, "/etc/passwd", O_RDONLY, 0, &e), &e);
	fd = path_open_beneath(dir, "a/b/in", O_RDONLY, 0, &e);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	/* In-root: links lead back into the root, never out. */
	refused(path_open_inroot(dir, "abs/passwd", O_RDONLY, 0, &e), &e);
	assert_int_equal(path_mkdirs_at(dir, "etc", 0755, &e), 0);
	put("etc/passwd", "inside");
	fd = path_open_inroot(dir, "up/passwd", O_RDONLY, 0, &e);
	assert_true(fd >= 0);
	close(fd);
	fd = path_open_inroot(dir, "/abs/../../../etc/passwd", O_RDONLY, 0, &e);
	assert_true(fd >= 0);
	close(fd);
	refused(path_open_inroot(dir, "../proc/self/root/etc/passwd", O_RDONLY, 0, &e), &e);
}

static void mkdirs(void **state)
{
	CLEANUP_FREE char *p = xasprintf("%s/x//y/z/", root);
	struct error *e = NULL;
	struct stat st;

	assert_int_equal(path_mkdirs(p, 0700, &e), 0);
	assert_int_equal(path_mkdirs(p, 0700, &e), 0);
	assert_int_equal(stat(p, &st), 0);
	put("x/file", "");
	refused(path_mkdirs_at(dir, "x/file/sub", 0700, &e), &e);
	refused(path_mkdirs_at(dir, "up/evil", 0700, &e), &e);
	refused(path_mkdirs_at(dir, "../evil", 0700, &e), &e);
	refused(path_mkdirs_at(dir, "/evil", 0700, &e), &e);
}

static void remove_tree(void **state)
{
	struct error *e = NULL;
	struct stat st;
	int i, fd, sub;

	assert_int_equal(path_mkdirs_at(dir, "keep", 0755, &e), 0);
	put("keep/me", "x");
	assert_int_equal(path_mkdirs_at(dir, "t/a/b", 0755, &e), 0);
	assert_int_equal(symlinkat("../keep", dir, "t/link"), 0);
	assert_int_equal(symlinkat("../../../keep", dir, "t/a/b/link"), 0);
	/* Deeper than any descriptor limit. */
	fd = path_open_beneath(dir, "t", O_RDONLY | O_DIRECTORY, 0, &e);
	for (i = 0; i < 1500; i++) {
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		sub = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		assert_true(sub >= 0);
		close(fd);
		fd = sub;
	}
	close(fd);
	assert_int_equal(path_remove_tree(dir, "t", &e), 0);
	assert_int_equal(fstatat(dir, "t", &st, 0), -1);
	assert_int_equal(fstatat(dir, "keep/me", &st, 0), 0);
	assert_int_equal(path_remove_tree(dir, "t", &e), 0);
	assert_int_equal(path_remove_tree(dir, "keep", &e), 0);
	refused(path_remove_tree(dir, "..", &e), &e);
	refused(path_remove_tree(dir, "a/b", &e), &e);
	refused(path_remove_tree(dir, "", &e), &e);
}

static void reading(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	struct error *e = NULL;
	char c[8];
	int fd;

	put("ten", "0123456789");
	assert_int_equal(path_read_all(dir, "ten", 10, &b, &e), 0);
	assert_string_equal(b.data, "0123456789");
	buf_free(&b);
	refused(path_read_all(dir, "ten", 9, &b, &e), &e);
	buf_free(&b);
	assert_int_equal(path_read_all(AT_FDCWD, "/proc/self/status", 1 << 20, &b, &e), 0);
	assert_true(b.len > 100);
	fd = openat(dir, "ten", O_RDONLY);
	assert_int_equal(fd_pread_full(fd, c, 4, 6, &e), 0);
	assert_memory_equal(c, "6789", 4);
	refused(fd_pread_full(fd, c, 4, 7, &e), &e);
	close(fd);
}

static int count_files(void)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void state_basics(void **state)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *r;
	struct error *e = NULL;
	struct stat st;
	int before;

	json_set_str(o, "k", "a/b");
	before = count_files();
	assert_int_equal(state_write(dir, "s.json", o, &e), 0);
	assert_int_equal(state_write(dir, "s.json", o, &e), 0);
	assert_int_equal(count_files(), before + 1); /* no temporary left */
	assert_int_equal(fstatat(dir, "s.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	r = state_read(dir, "s.json", &e);
	assert_string_equal(json_str(r, "k", ""), "a/b");
	json_object_put(r);
	assert_null(state_read(dir, "absent.json", &e));
	assert_int_equal(e->code, ERR_NOT_FOUND);
	error_free(e);
	e = NULL;
	put("broken.json", "{\"a\":");
	assert_null(state_read(dir, "broken.json", &e));
	assert_int_equal(e->code, ERR_INTERNAL);
	error_free(e);
	e = NULL;
	refused(state_write(dir, "../s.json", o, &e), &e);
	refused(state_write(dir, ".s", o, &e), &e);
	assert_int_equal(symlinkat("/etc/passwd", dir, "link.json"), 0);
	assert_null(state_read(dir, "link.json", NULL));
	/* Writing replaces a link, never its target. */
	assert_int_equal(state_write(dir, "link.json", o, &e), 0);
	assert_int_equal(fstatat(dir, "link.json", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
}

/* A writer is killed at random moments; every reader sees one whole version or the other. */
static void state_atomic(void **state)
{
	CLEANUP_JSON struct json_object *a = json_object_new_object();
	CLEANUP_FREE char *big = xmalloc(200001);
	int round, i, seen[2] = {0, 0};

	memset(big, 'x', 200000);
	big[200000] = '\0';
	json_set_str(a, "v", "small");
	assert_int_equal(state_write(dir, "atomic.json", a, NULL), 0);
	/* A writer may be slow to begin: on until both were seen. */
	for (round = 0; round < 20 || (!(seen[0] && seen[1]) && round < 2000); round++) {
		pid_t pid = fork();

		if (!pid) {
			struct json_object *o = json_object_new_object();

			for (i = 0;; i++) {
				json_set_str(o, "v", i & 1 ? "small" : big);
				if (state_write(dir, "atomic.json", o, NULL))
					_exit(1);
			}
		}
		for (i = 0; i < 10; i++) {
			CLEANUP_JSON struct json_object *o = state_read(dir, "atomic.json", NULL);

			assert_non_null(o);
			seen[strlen(json_str(o, "v", "")) > 10]++;
			usleep(300);
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	assert_true(seen[0] && seen[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escapes),      cmocka_unit_test(mkdirs),
		cmocka_unit_test(remove_tree),  cmocka_unit_test(reading),
		cmocka_unit_test(state_basics), cmocka_unit_test(state_atomic),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
