// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_ext4.c - the writable disk: e2fsck finds it clean, it is sparse, quick to make, and refuses what cannot be. */
#include "tests/unit/tar_make.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "core/path.h"
#include "core/proc.h"

static char *e2fsck, *debugfs;
static char dir[] = "/tmp/test_ext4.XXXXXX";
static int dirfd_;

static int run(char *const *argv, const char *out)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0600);

		dup2(fd, 1);
		dup2(fd, 2);
		execv(argv[0], argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_sizes(void **state)
{
	static const uint64_t sizes[] = {
		16ull << 20,  (16ull << 20) + 4095,  100ull << 20,
		128ull << 20, (128ull << 20) + 4096, (256ull << 20) + 8192,
		1ull << 30,   64ull << 30,           1ull << 40,
	};
	CLEANUP_FREE char *img = xasprintf("%s/disk", dir), *out = xasprintf("%s/out", dir);

	if (!e2fsck)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct error *err = NULL;
		struct stat st;
		uint64_t t = time_mono_us();

		if (ext4_create(dirfd_, "disk", sizes[i], &err) < 0)
			fail_msg("%s", error_text(err));
		t = time_mono_us() - t;
		assert_int_equal(stat(img, &st), 0);
		assert_true((uint64_t)st.st_size == ALIGN_DOWN(sizes[i], 4096));
		if (sizes[i] <= 64ull << 30)
			assert_true(st.st_blocks * 512 < 2 << 20);
		print_message("%6llu MiB: %llu us, %ld KiB\n", (unsigned long long)sizes[i] >> 20,
			      (unsigned long long)t, (long)st.st_blocks / 2);
		assert_int_equal(run((char *[]){e2fsck, "-fn", img, NULL}, out), 0);
		assert_int_equal(faccessat(dirfd_, "disk.tmp", F_OK, 0), -1);
	}
}

static void debug(const char *request, const char *want)
{
	CLEANUP_FREE char *img = xasprintf("%s/disk", dir), *out = xasprintf("%s/out", dir);
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(run((char *[]){debugfs, "-R", (char *)request, img, NULL}, out), 0);
	assert_int_equal(path_read_all(dirfd_, "out", 1 << 20, &b, NULL), 0);
	if (!strstr(b.data, want))
		fail_msg("%s: no \"%s\" in %s", request, want, b.data);
}

static void test_content(void **state)
{
	if (!debugfs)
		skip();
	assert_int_equal(ext4_create(dirfd_, "disk", 4ull << 30, NULL), 0);
	debug("stat /upper", "Mode:  0755");
	debug("stat /upper", "Type: directory");
	debug("stat /work", "Mode:  0755");
	debug("stat /work", "User:     0   Group:     0");
	debug("stat /", "Links: 5");
	debug("stats", "journal_data_ordered");
	debug("stats", "has_journal");
	debug("stats", "metadata_csum");
	debug("stats", "Reserved block count:     0");
	/* nothing left for the guest's lazy initialisation */
	CLEANUP_FREE char *img = xasprintf("%s/disk", dir), *out = xasprintf("%s/out", dir);
	CLEANUP_FREE char *dumpe2fs = proc_find("dumpe2fs");
	CLEANUP_BUF struct buf b = {0};
	size_t groups = 0, zeroed = 0;

	assert_non_null(dumpe2fs);
	assert_int_equal(run((char *[]){dumpe2fs, img, NULL}, out), 0);
	assert_int_equal(path_read_all(dirfd_, "out", 1 << 20, &b, NULL), 0);
	for (char *p = b.data; (p = strstr(p, ": (Blocks ")); p++)
		groups++;
	for (char *p = b.data; (p = strstr(p, "ITABLE_ZEROED")); p++)
		zeroed++;
	assert_int_equal(groups, 32);
	assert_int_equal(zeroed, 32);
}

static void test_refused(void **state)
{
	static const uint64_t sizes[] = {0, 4096, (16ull << 20) - 1, (16ull << 40) + 4096,
					 UINT64_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct error *err = NULL;

		assert_int_equal(ext4_create(dirfd_, "no", sizes[i], &err), -1);
		assert_int_equal(err->code, ERR_INVALID_ARGUMENT);
		error_free(err);
		assert_int_equal(faccessat(dirfd_, "no", F_OK, 0), -1);
		assert_int_equal(faccessat(dirfd_, "no.tmp", F_OK, 0), -1);
	}
	/* A link planted at the temporary name is not followed. */
	assert_int_equal(symlinkat("/tmp/test_ext4.elsewhere", dirfd_, "no.tmp"), 0);
	assert_int_equal(ext4_create(dirfd_, "no", 16 << 20, NULL), -1);
	assert_int_equal(access("/tmp/test_ext4.elsewhere", F_OK), -1);
}

/* Volumes of all sizes, with and without a journal of their own kind. */
static void test_volumes(void **state)
{
	static const struct {
		uint64_t size;
		struct ext4_journal j;
		const char *mode, *journal; /* what dumpe2fs says */
	} v[] = {
		{1 << 20, {0}, NULL, NULL},
		{(1 << 20) + 4095, {0}, NULL, NULL},
		{8 << 20, {0}, NULL, NULL},
		{8 << 20, {EXT4_ORDERED, 4 << 20}, "journal_data_ordered", "4096k"},
		{16 << 20, {0}, "journal_data_ordered", "4096k"},
		{100 << 20, {EXT4_WRITEBACK, 0}, "journal_data_writeback", "12M"},
		{1 << 30, {EXT4_WRITEBACK, 64 << 20}, "journal_data_writeback", "64M"},
		{1 << 30, {EXT4_DATA, 0}, "journal_data user_xattr", "16M"},
		{512ull << 30, {0}, "journal_data_ordered", "64M"},
	};
	CLEANUP_FREE char *img = xasprintf("%s/disk", dir), *out = xasprintf("%s/out", dir);

	if (!e2fsck || !debugfs)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		struct error *err = NULL;
		struct stat st;

		if (ext4_create_volume(dirfd_, "disk", v[i].size, &v[i].j, &err) < 0)
			fail_msg("%zu: %s", i, error_text(err));
		assert_int_equal(stat(img, &st), 0);
		assert_true((uint64_t)st.st_size == ALIGN_DOWN(v[i].size, 4096));
		assert_true(st.st_blocks * 512 < 2 << 20);
		assert_int_equal(run((char *[]){e2fsck, "-fn", img, NULL}, out), 0);
		debug("stat /", "Links: 2");
		debug("stat /", "Mode:  0755");
		debug("stat /", "User:     0   Group:     0");
		if (v[i].mode) {
			debug("stats", v[i].mode);
			debug("logdump -S", v[i].journal);
		} else {
			debug("stats", "Default mount options:    user_xattr acl");
		}
	}
}

static void test_volumes_refused(void **state)
{
	static const struct {
		uint64_t size, journal;
	} v[] = {
		{0, 0},
		{(1 << 20) - 1, 0},
		{(16ull << 40) + 1, 0},
		{UINT64_MAX, 0},
		{1 << 30, 1},
		{1 << 30, (4 << 20) - 1},
		{1 << 30, (512 << 20) + 1},
		{1 << 30, UINT64_MAX},
		{4 << 20, 4 << 20},
	};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		struct ext4_journal j = {.size = v[i].journal};
		CLEANUP_ERROR struct error *err = NULL;

		assert_int_equal(ext4_create_volume(dirfd_, "none", v[i].size, &j, &err), -1);
		assert_int_equal(err->code, ERR_INVALID_ARGUMENT);
		assert_int_equal(faccessat(dirfd_, "none", F_OK, 0), -1);
		assert_int_equal(faccessat(dirfd_, "none.tmp", F_OK, 0), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),           cmocka_unit_test(test_content),
		cmocka_unit_test(test_refused),         cmocka_unit_test(test_volumes),
		cmocka_unit_test(test_volumes_refused),
	};
	int rc;

	assert_non_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
	e2fsck = proc_find("e2fsck");
	debugfs = proc_find("debugfs");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	path_remove_tree(AT_FDCWD, dir, NULL);
	free(e2fsck);
	free(debugfs);
	return rc;
}
