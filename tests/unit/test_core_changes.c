// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_core_changes.c - what an overlay's upper directory says: additions, changes, deletions, replaced directories, hostile trees. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <cmocka.h>

#include "core/archive.h"
#include "core/changes.h"
#include "core/path.h"

struct fix {
	char dir[64];
	int top, upper, lower, out;
};

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test-changes.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->top = path_open_dir(f->dir, NULL);
	mkdirat(f->top, "upper", 0755);
	mkdirat(f->top, "lower", 0755);
	mkdirat(f->top, "out", 0755);
	f->upper = path_open_beneath(f->top, "upper", O_RDONLY | O_DIRECTORY, 0, NULL);
	f->lower = path_open_beneath(f->top, "lower", O_RDONLY | O_DIRECTORY, 0, NULL);
	f->out = path_open_beneath(f->top, "out", O_RDONLY | O_DIRECTORY, 0, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	int tmp = path_open_dir("/tmp", NULL);

	close(f->upper);
	close(f->lower);
	close(f->out);
	close(f->top);
	assert_int_equal(path_remove_tree(tmp, f->dir + 5, NULL), 0);
	close(tmp);
	free(f);
	return 0;
}

static void file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void dir(int at, const char *name)
{
	assert_int_equal(mkdirat(at, name, 0755), 0);
}

static void whiteout(int at, const char *name)
{
	assert_int_equal(mknodat(at, name, S_IFCHR, makedev(0, 0)), 0);
}

static void opaque(int at, const char *name)
{
	int fd = path_open_beneath(at, name, O_RDONLY | O_DIRECTORY, 0, NULL);

	assert_int_equal(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), 0);
	close(fd);
}

static void assert_list(struct fix *f, const char *want)
{
	int fd = openat(f->top, "list", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(changes_list(fd, f->upper, f->lower, NULL), 0);
	assert_int_equal(fd_read_all(fd, 65536, &b, NULL), 0);
	close(fd);
	for (size_t i = 0; i < b.len; i++)
		if (!b.data[i])
			b.data[i] = ' ';
	assert_string_equal(b.data ? b.data : "", want);
}

/* The layer, unpacked as it is below out. */
static void layer(struct fix *f)
{
	int fd = openat(f->top, "layer", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(changes_layer(fd, f->upper, f->lower, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(archive_extract(fd, f->out, ".", path_open_inroot,
					 ARCHIVE_AS_IS | ARCHIVE_OWNER, NULL),
			 0);
	close(fd);
}

static bool has(int at, const char *path)
{
	struct stat st;

	return !fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW);
}

static void nothing(void **state)
{
	struct fix *f = *state;
	int fd;

	dir(f->lower, "etc");
	assert_list(f, "");
	/* What init writes is not the container's. */
	dir(f->upper, "etc");
	file(f->upper, "etc/hosts", "x");
	file(f->upper, "etc/resolv.conf", "x");
	dir(f->upper, "proc");
	dir(f->upper, "dev");
	dir(f->upper, "dev/shm");
	assert_list(f, "");
	fd = openat(f->top, "layer", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(changes_layer(fd, f->upper, f->lower, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 1024); /* the end and nothing else */
	close(fd);
}

static void kinds(void **state)
{
	struct fix *f = *state;
	struct stat st;

	dir(f->lower, "etc");
	file(f->lower, "etc/passwd", "a");
	file(f->lower, "etc/motd", "m");
	dir(f->lower, "var");
	dir(f->lower, "same");
	dir(f->upper, "etc");
	file(f->upper, "etc/passwd", "b");
	file(f->upper, "etc/new", "n");
	whiteout(f->upper, "etc/motd");
	whiteout(f->upper, "etc/never");
	dir(f->upper, "same"); /* copied up, and nothing came of it */
	dir(f->upper, "var");
	assert_int_equal(fchmodat(f->upper, "var", 0700, 0), 0);
	dir(f->upper, "srv");
	dir(f->upper, "srv/a");
	file(f->upper, "srv/a/b", "c");
	assert_int_equal(symlinkat("/etc/passwd", f->upper, "srv/link"), 0);
	assert_int_equal(linkat(f->upper, "srv/a/b", f->upper, "srv/hard", 0), 0);
	assert_int_equal(mkfifoat(f->upper, "srv/pipe", 0600), 0);
	assert_list(f, "C/etc D/etc/motd A/etc/new C/etc/passwd A/srv A/srv/a A/srv/a/b "
		       "A/srv/hard A/srv/link A/srv/pipe C/var ");
	layer(f);
	assert_true(has(f->out, "etc/.wh.motd"));
	assert_false(has(f->out, "etc/.wh.never"));
	assert_true(has(f->out, "etc/new"));
	assert_true(has(f->out, "srv/a/b"));
	assert_false(has(f->out, "same"));
	assert_int_equal(fstatat(f->out, "srv/link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(fstatat(f->out, "var", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(fstatat(f->out, "etc/.wh.motd", &st, 0), 0);
	assert_int_equal(st.st_size, 0);
}

static void replaced(void **state)
{
	struct fix *f = *state;

	dir(f->lower, "opt");
	dir(f->lower, "opt/old");
	file(f->lower, "opt/gone", "1");
	file(f->lower, "opt/kept", "1");
	dir(f->upper, "opt");
	opaque(f->upper, "opt");
	file(f->upper, "opt/kept", "2");
	dir(f->upper, "opt/old");
	file(f->upper, "opt/old/x", "3");
	assert_list(f, "C/opt D/opt/gone C/opt/kept C/opt/old A/opt/old/x ");
	layer(f);
	assert_true(has(f->out, "opt/.wh..wh..opq"));
	assert_true(has(f->out, "opt/kept"));
	assert_true(has(f->out, "opt/old/x"));
	assert_false(has(f->out, "opt/.wh.gone"));
	assert_false(has(f->out, "opt/old/.wh..wh..opq"));
}

/* A file where a directory was, and the other way round. */
static void types(void **state)
{
	struct fix *f = *state;

	dir(f->lower, "a");
	file(f->lower, "a/x", "1");
	file(f->lower, "b", "1");
	file(f->upper, "a", "2");
	dir(f->upper, "b");
	file(f->upper, "b/y", "3");
	assert_list(f, "C/a A/b A/b/y ");
}

/* A tree that is too deep, and attributes of overlays that are mounted otherwise, are errors and no crash. */
static void hostile(void **state)
{
	struct fix *f = *state;
	int at = dup(f->upper), next, null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	dir(f->upper, "r");
	next = path_open_beneath(f->upper, "r", O_RDONLY | O_DIRECTORY, 0, NULL);
	assert_int_equal(fsetxattr(next, "trusted.overlay.redirect", "/etc", 4, 0), 0);
	close(next);
	assert_int_equal(changes_list(null, f->upper, f->lower, NULL), -1);
	assert_int_equal(unlinkat(f->upper, "r", AT_REMOVEDIR), 0);
	for (int i = 0; i < 300; i++) {
		dir(at, "d");
		next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(changes_list(null, f->upper, f->lower, NULL), -1);
	assert_int_equal(changes_layer(null, f->upper, f->lower, NULL), -1);
	/* Nobody reads: an error too. */
	assert_int_equal(changes_list(-1, f->upper, f->lower, NULL), -1);
	close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(types, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile, setup, teardown),
	};

	if (geteuid()) /* only root makes whiteouts */
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
