// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_crash.c - attack class R: the store's process is killed, and its disk is full, before each call that changes a file; and
 * the order of those calls, for when the host's power goes.
 *
 * The calls are counted by functions of the same name here. For every number k a child pulls, loads, deletes, tags, commits or prunes
 * and meets its fate at the kth call; then the store is opened again, has to be whole and to work, and to hold nothing that no name leads to.
 *
 * A file is durable when it was synced after its last change, a name in a directory when the directory was. Every call is told to a
 * judge, who knows what has to be durable by then.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/oci_mock.h"

#define NAME  "docker.io/library/x:t"
#define OTHER "docker.io/library/y:t"

static bool in_memory; /* the store has a file system of its own, which may be filled */

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

/* ---- order ---- */
/* What was changed and not synced since. */
struct unsynced {
	ino_t ino;
	bool dirty;
};
static struct judge {
	bool sits;
	dev_t dev;            /* the store's file system */
	struct oci_store *st; /* NULL: being opened */
	struct unsynced files[4096];
	size_t n;
	unsigned named, published,
		removed; /* times that images.json, and that blobs and layers came and went */
	char wrong[256]; /* the first that was out of order */
	pthread_mutex_t lock;
} judge = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct unsynced *file_of(ino_t ino)
{
	size_t i;

	for (i = 0; i < judge.n && judge.files[i].ino != ino; i++)
		;
	if (i == ARRAY_SIZE(judge.files))
		abort();
	judge.files[i].ino = ino;
	judge.n = MAX(judge.n, i + 1);
	return &judge.files[i];
}

static ino_t ino_of(int fd)
{
	struct stat st = {0};

	fstat(fd, &st);
	return st.st_ino;
}

/* fd, a file or directory, was changed (or synced). */
static void told(int fd, bool dirty)
{
	struct stat st;

	if (!judge.sits || fstat(fd, &st) < 0 || st.st_dev != judge.dev)
		return;
	pthread_mutex_lock(&judge.lock);
	file_of(st.st_ino)->dirty = dirty;
	pthread_mutex_unlock(&judge.lock);
}

static void out_of_order(const char *what, const char *name)
{
	if (!judge.wrong[0])
		snprintf(judge.wrong, sizeof(judge.wrong), "%s: %s", what, name);
}

/* Everything below dir is durable, but for files smaller than `from` bytes: those that are found damaged by their digest. */
static void must_be_durable(int at, const char *name, off_t from, const char *when)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	if (file_of(st.st_ino)->dirty && (S_ISDIR(st.st_mode) ? from == 0 : st.st_size >= from))
		out_of_order(when, name);
	d = S_ISDIR(st.st_mode) ? fdopendir(fd) : NULL;
	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			must_be_durable(fd, e->d_name, from, when);
	if (d)
		closedir(d);
	else
		close(fd);
}

static bool is_dir(int fd, int which)
{
	return ino_of(fd) == ino_of(which);
}

static void judge_name(int dir, const char *from)
{
	static const char when[] = "not on the disk before the name that leads to it";

	judge.named++;
	must_be_durable(dir, from, 0, "images.json replaced by what is not on the disk");
	/* content/ itself has an index that is made again whenever the store is opened. */
	must_be_durable(judge.st->content, "blobs", 0, when);
	must_be_durable(judge.st->layers, ".", 0, when);
	must_be_durable(judge.st->rootfs, ".", 0, when);
}

/* Before what no name leads to any more is taken away. */
static void judge_removal(const char *name)
{
	judge.removed++;
	if (file_of(ino_of(judge.st->root))->dirty)
		out_of_order("taken away before its name is gone from the disk", name);
	must_be_durable(judge.st->root, "images.json", 0,
			"taken away before the names are written");
}

#define BIG   (1 << 20) /* from here on a blob is not read again to be believed */
#define SMALL 1024      /* a rootfs.json, which is */

static void judge_rename(int a, const char *from, int b, const char *to)
{
	static const char when[] = "has its name and is not on the disk";
	struct oci_store *st = judge.st;

	if (is_dir(b, st->root) && !strcmp(to, "images.json"))
		judge_name(a, from);
	if (is_dir(a, st->blobs) || is_dir(a, st->layers) || is_dir(a, st->rootfs))
		judge_removal(from);
	if (is_dir(b, st->layers) || is_dir(b, st->rootfs)) {
		judge.published++;
		must_be_durable(a, from, is_dir(b, st->layers) ? 1 : SMALL, when);
	}
	/* What a load publishes waits for the sync before the names, whatever its size. */
	if (is_dir(b, st->blobs)) {
		judge.published++;
		if (is_dir(a, st->ingest))
			must_be_durable(a, from, BIG, when);
	}
}

static void told_rename(int a, const char *from, int b, const char *to)
{
	if (!judge.sits)
		return;
	pthread_mutex_lock(&judge.lock);
	if (judge.st)
		judge_rename(a, from, b, to);
	file_of(ino_of(a))->dirty = true;
	file_of(ino_of(b))->dirty = true;
	pthread_mutex_unlock(&judge.lock);
}

/* ---- the calls ---- */
ssize_t write(int fd, const void *p, size_t n)
{
	told(fd, true);
	return struck() ? -1 : syscall(SYS_write, fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
	told(fd, true);
	return struck() ? -1 : syscall(SYS_pwrite64, fd, p, n, off);
}

int ftruncate(int fd, off_t size)
{
	told(fd, true);
	return struck() ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
	int rc = struck() ? -1 : (int)syscall(SYS_mkdirat, dir, name, mode);

	if (rc == 0)
		told(dir, true);
	return rc;
}

int renameat(int a, const char *from, int b, const char *to)
{
	told_rename(a, from, b, to);
	return struck() ? -1 : (int)syscall(SYS_renameat, a, from, b, to);
}

int fsync(int fd)
{
	told(fd, false);
	return struck() ? -1 : (int)syscall(SYS_fsync, fd);
}

/* A full disk does not keep anyone from removing. */
int unlinkat(int dir, const char *name, int flags)
{
	told(dir, true);
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
	int (*before)(struct scene *s, struct error **err); /* what run needs; may be NULL */
	int (*run)(struct scene *s, struct error **err);
	int (*again)(struct scene *s, struct error **err); /* if run was half done; may be NULL */
	int (*undo)(struct scene *s, struct error **err);  /* what run did; may be NULL */
	bool keeps; /* the image is there before, and stays */
	int adds;   /* names */
	int least;  /* calls that it has */
};

static bool is_there(struct scene *s)
{
	return json_get(s->f->store->names, s->ref) != NULL;
}

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

static int delete_name(struct scene *s, const char *name, struct error **err)
{
	struct json_object *out = NULL;
	int rc = oci_delete(s->f->store, &name, 1, false, NULL, &out, err);

	json_object_put(out);
	return rc;
}

static int run_delete(struct scene *s, struct error **err)
{
	return delete_name(s, s->ref, err);
}

static int run_tag(struct scene *s, struct error **err)
{
	return oci_tag(s->f->store, s->ref, OTHER, err);
}

static int undo_other(struct scene *s, struct error **err)
{
	return delete_name(s, OTHER, err);
}

static int commit(struct scene *s, const char *name, struct error **err)
{
	CLEANUP_JSON struct json_object *image = NULL;
	CLEANUP_BUF struct buf layer = {0};
	CLEANUP_CLOSE int fd = memfd_create("layer", MFD_CLOEXEC);
	struct oci_commit c = {.manifest = s->im.manifest, .reference = name};

	fx_add(&layer, "more", "text", 4);
	tm_end(&layer);
	if (syscall(SYS_write, fd, layer.data, layer.len) != (long)layer.len ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, ERR_INTERNAL, "memfd");
	return oci_commit(s->f->store, &c, fd, NULL, &image, err);
}

static int run_commit(struct scene *s, struct error **err)
{
	return commit(s, OTHER, err);
}

static int before_other(struct scene *s, struct error **err)
{
	return is_there(s) ? 0 : run_load(s, err);
}

static int run_none(struct scene *s, struct error **err)
{
	return 0;
}

/* An image without a name: its layers are also those of one that has one. */
static int before_prune(struct scene *s, struct error **err)
{
	return before_other(s, err) < 0 ? -1 : commit(s, NULL, err);
}

static int run_prune(struct scene *s, struct error **err)
{
	struct json_object *out = NULL;
	int rc = oci_prune(s->f->store, false, NULL, NULL, &out, err);

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

static const char *disk_error(struct scene *s, const char *name)
{
	CLEANUP_JSON struct json_object *r = NULL;
	size_t i, n;
	int *fds;

	if (oci_resolve(s->f->store, name, NULL, &r, NULL) < 0)
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

static int64_t usage(struct scene *s)
{
	CLEANUP_JSON struct json_object *o = NULL;

	return oci_usage(s->f->store, NULL, &o, NULL) < 0 ? -1 : json_int(o, "sizeInBytes", -1);
}

/* Names, and images that are not the one of s->ref. */
static void count_names(struct scene *s, size_t *names, size_t *others)
{
	*names = *others = 0;
	json_object_object_foreach(s->f->store->names, name, desc)
	{
		(void)name;
		++*names;
		*others += !str_eq(json_str(desc, "digest", ""), s->im.manifest);
	}
}

static const char *names_error(struct scene *s)
{
	json_object_object_foreach(s->f->store->names, name, desc)
	{
		const char *wrong = disk_error(s, name);

		(void)desc;
		if (wrong)
			return wrong;
	}
	return NULL;
}

/* All of each image, or nothing at all of it, and nothing besides. NULL, or what is wrong. Collects. */
static const char *store_error(struct scene *s)
{
	struct oci_store *st = s->f->store;
	int64_t before = usage(s);
	uint64_t freed = 0;
	size_t names, others, one;

	if (fx_count(st->ingest))
		return "something was left in ingest";
	if (store_collect(st, NULL, NULL, &freed, NULL) < 0)
		return "nothing can be collected";
	if (before < 0 || before - (int64_t)freed != usage(s))
		return "what is used does not add up";
	count_names(s, &names, &others);
	one = names > others;
	if (s->keeps && !is_there(s))
		return "the image is gone that should not be";
	if (others > 1 || fx_count(st->blobs) != 3 * (one + others) ||
	    fx_count(st->layers) != one + others || fx_count(st->rootfs) > one + others)
		return names ? "parts of the images are gone, or orphans stay" : "orphans stay";
	return names_error(s);
}

static void scene_open(struct scene *s, struct fx *f)
{
	CLEANUP_BUF struct buf entries = {0};

	s->f = f;
	s->im = (struct fx_image){.text = "hello", .noise = 1500000};
	fx_make(f, &s->im);
	s->m = (struct mock){.manifest = s->im.manifest, .type = MEDIA_OCI_MANIFEST};
	if (s->run == run_load || s->keeps) {
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

static int names_of(struct scene *s)
{
	size_t names, others;

	count_names(s, &names, &others);
	return (int)names;
}

static void check(struct scene *s, const char *how, int k)
{
	const char *wrong = store_error(s);

	if (wrong)
		fail_msg("%s call %d: %s", how, k, wrong);
}

/* It works, to the end, and back to where it began. */
static void works(struct scene *s, int k, int names)
{
	if (s->again)
		must(s, s->again, "again", k);
	must(s, s->run, "after", k);
	check(s, "done after", k);
	assert_int_equal(names_of(s), names + s->adds);
	if (!s->undo)
		return;
	must(s, s->undo, "undone after", k);
	check(s, "undone after", k);
	assert_int_equal(names_of(s), names);
}

static void kill_everywhere(struct scene *s, struct fx *f)
{
	bool go_on = true;
	int k, names;

	scene_open(s, f);
	for (k = 1; go_on; k++) {
		if (s->before)
			must(s, s->before, "before", k);
		names = names_of(s);
		close_store(s);
		go_on = killed_at(s, k);
		reopen(s);
		check(s, "killed at", k);
		works(s, k, names);
	}
	print_message("killed at each of %d calls\n", k - 2);
	assert_true(k - 2 >= s->least);
	scene_close(s);
}

static const struct scene pull = {.run = run_pull, .undo = run_delete, .adds = 1, .least = 20};
static const struct scene load = {.run = run_load, .undo = run_delete, .adds = 1, .least = 20};
static const struct scene delete = {
	.before = run_pull, .run = run_delete, .again = run_pull, .adds = -1, .least = 10};
static const struct scene tag = {.before = before_other,
				 .run = run_tag,
				 .undo = undo_other,
				 .keeps = true,
				 .adds = 1,
				 .least = 4};
static const struct scene commits = {.before = before_other,
				     .run = run_commit,
				     .undo = undo_other,
				     .keeps = true,
				     .adds = 1,
				     .least = 20};
static const struct scene prune = {
	.before = before_prune, .run = run_prune, .keeps = true, .adds = -1, .least = 10};

static void test_killed_pulling(void **state)
{
	struct scene s = pull;

	kill_everywhere(&s, *state);
}

static void test_killed_loading(void **state)
{
	struct scene s = load;

	kill_everywhere(&s, *state);
}

static void test_killed_deleting(void **state)
{
	struct scene s = delete;

	kill_everywhere(&s, *state);
}

static void test_killed_tagging(void **state)
{
	struct scene s = tag;

	kill_everywhere(&s, *state);
}

static void test_killed_committing(void **state)
{
	struct scene s = commits;

	kill_everywhere(&s, *state);
}

static void test_killed_pruning(void **state)
{
	struct scene s = prune;

	kill_everywhere(&s, *state);
}

/* ---- full ---- */
static int run_full(struct scene *s, int k)
{
	struct error *e = NULL;
	int rc;

	atomic_store(&calls, 0);
	fate_at = k;
	fate = FATE_FULL;
	rc = s->run(s, &e);
	fate = FATE_NONE;
	if (rc < 0 && !error_is_full(e))
		fail_msg("full at call %d: %s", k, error_text(e));
	error_free(e);
	return rc;
}

static void full_everywhere(struct scene *s, struct fx *f)
{
	int k, rc = -1, names, now;

	scene_open(s, f);
	for (k = 1; rc < 0; k++) {
		if (s->before)
			must(s, s->before, "before", k);
		names = names_of(s);
		rc = run_full(s, k);
		check(s, "full at", k);
		/* The last sync of the names may fail with the name in place. */
		now = names_of(s);
		assert_true(now == names + s->adds || (rc < 0 && now == names));
		/* What the disk says is what memory says. */
		close_store(s);
		reopen(s);
		assert_int_equal(names_of(s), now);
		works(s, k, names);
	}
	print_message("full at each of %d calls\n", k - 2);
	assert_true(k - 2 >= s->least);
	scene_close(s);
}

static void test_full_pulling(void **state)
{
	struct scene s = pull;

	full_everywhere(&s, *state);
}

static void test_full_loading(void **state)
{
	struct scene s = load;

	full_everywhere(&s, *state);
}

static void test_full_tagging(void **state)
{
	struct scene s = tag;

	full_everywhere(&s, *state);
}

static void test_full_committing(void **state)
{
	struct scene s = commits;

	full_everywhere(&s, *state);
}

static void test_full_pruning(void **state)
{
	struct scene s = prune;

	full_everywhere(&s, *state);
}

/* Not a block is left, and the way out is to delete something. */
static void fill(struct fx *f)
{
	CLEANUP_FREE char *path = xasprintf("%s/filler", f->dir), *chunk = xcalloc(1, 1 << 20);
	CLEANUP_CLOSE int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	size_t n;

	assert_true(fd >= 0);
	for (n = 1 << 20; n >= 512; n /= 2)
		while (syscall(SYS_write, fd, chunk, n) == (long)n)
			;
}

static void remove_on_full(struct scene s, struct fx *f)
{
	CLEANUP_FREE char *filler = xasprintf("%s/filler", f->dir);

	scene_open(&s, f);
	must(&s, s.before, "before", 0);
	fill(f);
	must(&s, s.run, "on a full disk", 0);
	unlink(filler);
	check(&s, "removed on a full disk at", 0);
	close_store(&s);
	reopen(&s);
	check(&s, "opened again at", 0);
	assert_int_equal(names_of(&s), s.keeps ? 1 : 0);
	must(&s, s.before, "again", 0);
	check(&s, "again at", 0);
	must(&s, s.run, "again", 0);
	must(&s, s.keeps ? run_delete : run_none, "in the end", 0);
	assert_int_equal(fx_count(f->store->blobs), 0);
	scene_close(&s);
	fx_forget(f);
}

static void test_full_removing(void **state)
{
	if (!in_memory) {
		print_message("no file system of its own: nothing is filled\n");
		skip();
	}
	remove_on_full(delete, *state);
	remove_on_full(prune, *state);
}

/* ---- order ---- */
static void sit(struct scene *s, bool opening)
{
	struct stat st;

	assert_int_equal(stat(s->f->dir, &st), 0);
	judge.dev = st.st_dev;
	judge.st = opening ? NULL : s->f->store;
	judge.named = judge.published = judge.removed = 0;
	judge.sits = true;
}

static int stores;

/* Runs it before the judge, who sees that many images.json, blobs and layers that come, and those that go. */
static void in_order(const struct scene *of, struct fx *f, unsigned come, unsigned go)
{
	struct scene s = *of;
	size_t len = strlen(f->dir);

	judge.n = 0;
	judge.wrong[0] = '\0';
	/* A new store, so that its directories are judged too. */
	s.f = f;
	close_store(&s);
	snprintf(f->dir + len, sizeof(f->dir) - len, "/new-%d", stores++);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	sit(&s, true);
	reopen(&s);
	sit(&s, false);
	scene_open(&s, f);
	if (s.before)
		must(&s, s.before, "before", 0);
	sit(&s, false);
	must(&s, s.run, "in order", 0);
	judge.sits = false;
	if (judge.wrong[0])
		fail_msg("out of order: %s", judge.wrong);
	assert_int_equal(judge.named, 1);
	assert_int_equal(judge.published, come);
	assert_int_equal(judge.removed, go);
	/* What was told is true when the host's power goes now. */
	if (file_of(ino_of(f->store->root))->dirty)
		fail_msg("done, and the name is not on the disk");
	scene_close(&s);
	fx_forget(f);
	f->dir[len] = '\0';
}

static void test_order_coming(void **state)
{
	struct fx *f = *state;

	in_order(&pull, f, 5, 0);
	in_order(&load, f, 5, 0);
	in_order(&tag, f, 0, 0);
	in_order(&commits, f, 5, 0);
}

static void test_order_going(void **state)
{
	struct fx *f = *state;

	in_order(&delete, f, 0, 5);
	in_order(&prune, f, 0, 5);
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
	in_memory = true;
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
		T(test_killed_pulling),  T(test_killed_loading),    T(test_killed_deleting),
		T(test_killed_tagging),  T(test_killed_committing), T(test_killed_pruning),
		T(test_full_pulling),    T(test_full_loading),      T(test_full_tagging),
		T(test_full_committing), T(test_full_pruning),      T(test_full_removing),
		T(test_order_coming),    T(test_order_going),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
