// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_crash.c - attack class R: the store's process is killed, and its disk is full, before each call that changes a file.
 *
 * The calls are counted by functions of the same name here. For every number k a child pulls, loads or deletes and meets its
 * fate at the kth call; then the store is opened again, has to be whole and to work, and to hold nothing that no name leads to.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/oci_mock.h"

#define NAME "docker.io/library/x:t"

/* ---- fate ---- */
enum fate { FATE_NONE, FATE_KILL, FATE_FULL };
static enum fate fate;
static int fate_at; /* that call, and with FATE_FULL all after it */
static atomic_int calls;

static bool struck(void)
{
	int n = fate == FATE_NONE ? 0 : atomic_fetch_add(&calls, 1) + 1;

	if (n < fate_at || fate == FATE_NONE)
		return false;
	if (fate == FATE_KILL)
		kill(getpid(), SIGKILL);
	errno = ENOSPC;
	return true;
}

ssize_t write(int fd, const void *p, size_t n)
{
	return struck() ? -1 : syscall(SYS_write, fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
	return struck() ? -1 : syscall(SYS_pwrite64, fd, p, n, off);
}

int ftruncate(int fd, off_t size)
{
	return struck() ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
	return struck() ? -1 : (int)syscall(SYS_mkdirat, dir, name, mode);
}

int renameat(int a, const char *from, int b, const char *to)
{
	return struck() ? -1 : (int)syscall(SYS_renameat, a, from, b, to);
}

int fsync(int fd)
{
	return struck() ? -1 : (int)syscall(SYS_fsync, fd);
}

/* A full disk does not keep anyone from removing. */
int unlinkat(int dir, const char *name, int flags)
{
	if (fate == FATE_KILL)
		struck();
	return (int)syscall(SYS_unlinkat, dir, name, flags);
}

/* ---- what is done to a store ---- */
struct scene {
	struct fx *f;
	struct mock m;
	struct fx_image im;
	struct buf tar;
	char *ref;
	int (*run)(struct scene *s, struct error **err);
};

static int run_pull(struct scene *s, struct error **err)
{
	struct oci_pull_opts o = {.scheme = "http"};
	struct json_object *image = NULL;
	int rc = oci_pull(s->f->store, s->ref, &o, NULL, &image, err);

	json_object_put(image);
	return rc;
}

static int run_load(struct scene *s, struct error **err)
{
	struct json_object *images = NULL;
	CLEANUP_CLOSE int fd = memfd_create("archive", MFD_CLOEXEC);
	int rc;

	if (syscall(SYS_write, fd, s->tar.data, s->tar.len) != (long)s->tar.len ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, ERR_INTERNAL, "memfd");
	rc = oci_load(s->f->store, fd, false, NULL, &images, err);
	if (rc == 0)
		json_object_put(images);
	return rc;
}

static int run_delete(struct scene *s, struct error **err)
{
	const char *refs[] = {s->ref};
	struct json_object *out = NULL;
	int rc = oci_delete(s->f->store, refs, 1, false, NULL, &out, err);

	json_object_put(out);
	return rc;
}

static void reopen(struct scene *s)
{
	struct error *e = NULL;

	s->f->store = oci_store_open(s->f->dir, NULL, &e);
	if (!s->f->store)
		fail_msg("the store does not open again: %s", error_text(e));
}

static void close_store(struct scene *s)
{
	oci_store_free(STEAL(s->f->store));
}

static bool is_there(struct scene *s)
{
	return json_object_object_length(s->f->store->names) > 0;
}

static const char *disk_error(struct scene *s)
{
	CLEANUP_JSON struct json_object *r = NULL;
	CLEANUP_BUF struct buf b = {0};
	size_t i, n;
	int *fds;

	if (oci_resolve(s->f->store, s->ref, NULL, &r, NULL) < 0)
		return "it does not resolve";
	if (!blob_intact(s->f->store, -1, s->im.layer, fx_size(s->f, s->im.layer)))
		return "its layer's blob is gone";
	if (oci_rootfs(s->f->store, json_str(r, "manifest", ""), &fds, &n, NULL) < 0)
		return "it has no disk";
	for (i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
	return NULL;
}

/* All of an image, or nothing at all, and nothing besides. NULL, or what is wrong. */
static const char *store_error(struct scene *s)
{
	struct oci_store *st = s->f->store;
	uint64_t freed = 0;
	size_t one;

	if (fx_count(st->ingest))
		return "something was left in ingest";
	if (store_collect(st, NULL, NULL, &freed, NULL) < 0)
		return "nothing can be collected";
	one = is_there(s) ? 1 : 0;
	if (fx_count(st->blobs) != 3 * one || fx_count(st->layers) != one ||
	    fx_count(st->rootfs) > one)
		return one ? "parts of the image are gone" : "orphans stay";
	return one ? disk_error(s) : NULL;
}

static void scene_open(struct scene *s, struct fx *f)
{
	CLEANUP_BUF struct buf entries = {0};

	s->f = f;
	s->im = (struct fx_image){.text = "hello", .noise = 1500000};
	fx_make(f, &s->im);
	s->m = (struct mock){.manifest = s->im.manifest, .type = MEDIA_OCI_MANIFEST};
	if (s->run == run_load) {
		s->ref = xstrdup(NAME);
		fx_entry(&entries, MEDIA_OCI_MANIFEST, s->im.manifest, s->im.manifest_size, NULL,
			 NAME);
		fx_layout_tar(f, entries.data, &s->tar);
		tm_end(&s->tar);
	}
	mock_start(&s->m, f);
	if (!s->ref)
		s->ref = xasprintf("127.0.0.1:%d/r:t", s->m.port);
}

static void scene_close(struct scene *s)
{
	mock_stop(&s->m);
	free(s->ref);
	buf_free(&s->tar);
}

static void must(struct scene *s, int (*run)(struct scene *, struct error **), const char *when,
		 int k)
{
	struct error *e = NULL;

	if (run(s, &e) < 0)
		fail_msg("%s %d: %s", when, k, error_text(e));
}

/* ---- killed ---- */
static bool killed_at(struct scene *s, int k)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		s->f->store = oci_store_open(s->f->dir, NULL, NULL);
		fate_at = k;
		fate = FATE_KILL;
		_exit(s->f->store && s->run(s, NULL) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status);
}

static void kill_everywhere(struct scene *s, struct fx *f)
{
	bool deletes = s->run == run_delete;
	bool go_on = true;
	int k;

	scene_open(s, f);
	for (k = 1; go_on; k++) {
		const char *wrong;

		if (deletes)
			must(s, run_pull, "before", k);
		close_store(s);
		go_on = killed_at(s, k);
		reopen(s);
		wrong = store_error(s);
		if (wrong)
			fail_msg("killed at call %d: %s", k, wrong);
		/* And it works. */
		must(s, deletes ? run_pull : s->run, "after", k);
		assert_null(store_error(s));
		assert_true(is_there(s));
		must(s, run_delete, "deleted after", k);
		assert_null(store_error(s));
		assert_false(is_there(s));
	}
	print_message("killed at each of %d calls\n", k - 2);
	assert_true(k > 10);
	scene_close(s);
}

static void test_killed_pulling(void **state)
{
	struct scene s = {.run = run_pull};

	kill_everywhere(&s, *state);
}

static void test_killed_loading(void **state)
{
	struct scene s = {.run = run_load};

	kill_everywhere(&s, *state);
}

static void test_killed_deleting(void **state)
{
	struct scene s = {.run = run_delete};

	kill_everywhere(&s, *state);
}

/* ---- full ---- */
static void full_everywhere(struct scene *s, struct fx *f)
{
	int k, rc = -1;
	bool there;

	scene_open(s, f);
	for (k = 1; rc < 0; k++) {
		struct error *e = NULL;
		const char *wrong;

		atomic_store(&calls, 0);
		fate_at = k;
		fate = FATE_FULL;
		rc = s->run(s, &e);
		fate = FATE_NONE;
		if (rc < 0 && !error_is_full(e))
			fail_msg("full at call %d: %s", k, error_text(e));
		error_free(e);
		wrong = store_error(s);
		if (wrong)
			fail_msg("full at call %d: %s", k, wrong);
		/* The last sync of the names may fail with the name in place. */
		if (rc == 0)
			assert_true(is_there(s));
		there = is_there(s);
		/* What the disk says is what memory says. */
		close_store(s);
		reopen(s);
		assert_int_equal(is_there(s), there);
		must(s, s->run, "after", k);
		assert_true(is_there(s));
		must(s, run_delete, "deleted after", k);
		assert_null(store_error(s));
	}
	print_message("full at each of %d calls\n", k - 2);
	assert_true(k > 10);
	scene_close(s);
}

static void test_full_pulling(void **state)
{
	struct scene s = {.run = run_pull};

	full_everywhere(&s, *state);
}

static void test_full_loading(void **state)
{
	struct scene s = {.run = run_load};

	full_everywhere(&s, *state);
}

/* In memory where that can be: each k syncs a dozen files three times. */
static int setup(void **state)
{
	struct fx *f;

	fx_setup(state);
	f = *state;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 0;
	oci_store_free(f->store);
	assert_int_equal(mount("none", f->dir, "tmpfs", 0, "size=256m"), 0);
	f->store = oci_store_open(f->dir, NULL, NULL);
	return f->store ? 0 : -1;
}

static int teardown(void **state)
{
	struct fx *f = *state;

	oci_store_free(STEAL(f->store));
	umount2(f->dir, MNT_DETACH);
	return fx_teardown(state);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_killed_pulling), T(test_killed_loading), T(test_killed_deleting),
		T(test_full_pulling),   T(test_full_loading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
