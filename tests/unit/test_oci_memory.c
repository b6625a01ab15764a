// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_memory.c - what unpacking holds in memory, whatever the image (class L): a child makes a big one, and its peak is looked at.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <malloc.h>
#include <sys/wait.h>
#include <zstd.h>

#include "core/proc.h"
#include "oci/tree.h"
#include "tests/unit/oci_fixture.h"

#define ENTRIES 1000000
/* Of a merge; of all that may run beside each other but a merge. The image helper has some 10 MiB of its own. */
#define ONE_KIB (24 << 10)
#define ALL_KIB (46 << 10)

static long status_kib(const char *key)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(path_read_all(AT_FDCWD, "/proc/self/status", 1 << 16, &b, NULL), 0);
	const char *p = strstr(b.data, key);

	assert_non_null(p);
	return atol(p + strlen(key));
}

/* What AddressSanitizer keeps is no peak of ours. */
#define PEAK_COUNTS (!SANITIZED)

/* Runs fn(arg) in a child, whose status is 0 when fn returned NULL and its peak was below `most`. */
static void in_child(const char *what, const char *(*fn)(void *), void *arg, long most)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const char *why = fn(arg);
		long peak = status_kib("VmHWM:");

		print_message("%s: VmHWM %ld KiB, RssAnon %ld KiB at its end%s%s\n", what, peak,
			      status_kib("RssAnon:"), why ? ": " : "", why ? why : "");
		_exit(why ? 1 : PEAK_COUNTS && peak > most ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- layers of very many files ---- */

struct many {
	unsigned per_dir, layers;
	int fd; /* of the directory it is made in */
};

struct flood {
	uint64_t at, end;
	unsigned per_dir;
	uint8_t h[512];
};

static ssize_t flood_read(void *arg, void *p, size_t n, struct error **err)
{
	struct flood *f = arg;
	size_t k = 0;

	for (; k + 512 <= n && f->at < f->end; k += 512, f->at++) {
		/* In no order. */
		uint32_t r = (uint32_t)f->at * 2654435761u;

		memset(f->h, 0, 100);
		snprintf((char *)f->h, 100, "usr/share/d%llu/%x-%llu",
			 (unsigned long long)(f->at / f->per_dir), r, (unsigned long long)f->at);
		tm_sum(f->h);
		memcpy((char *)p + k, f->h, 512);
	}
	return (ssize_t)k;
}

static const char *make_many(void *arg)
{
	const struct many *m = arg;
	struct error *err = NULL;
	int layers[8];

	for (unsigned k = 0; k < m->layers; k++) {
		struct flood f = {.per_dir = m->per_dir,
				  .at = (uint64_t)ENTRIES / m->layers * k,
				  .end = (uint64_t)ENTRIES / m->layers * (k + 1)};
		struct oci_reader r = {flood_read, &f};
		char name[12];

		snprintf(name, sizeof(name), "%u", k);
		mkdirat(m->fd, name, 0700);
		layers[k] = openat(m->fd, name, O_RDONLY | O_DIRECTORY);
		tm_header(f.h, &(struct tm_opts){.type = '0', .name = "f"}, 0);
		if (layer_unpack(&r, layers[k], &err) < 0)
			return error_text(err);
	}
	return rootfs_merge(layers, m->layers, m->fd, &err) < 0 ? error_text(err) : NULL;
}

static void many(const char *what, struct many m)
{
	char dir[] = "/tmp/test_memory.XXXXXX";
	struct stat st;

	assert_non_null(mkdtemp(dir));
	m.fd = open(dir, O_RDONLY | O_DIRECTORY);
	in_child(what, make_many, &m, ONE_KIB);
	assert_int_equal(fstatat(m.fd, "meta.erofs", &st, 0), 0);
	assert_true(st.st_size > ENTRIES * 64ll);
	/* All of its files are empty: the metadata is the whole image. */
	CLEANUP_FREE char *img = xasprintf("%s/meta.erofs", dir), *fsck = proc_find("fsck.erofs");

	if (fsck) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			execl(fsck, fsck, img, NULL);
			_exit(127);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	} else {
		print_message("fsck.erofs is not installed: not looked at by it\n");
	}
	close(m.fd);
	path_remove_tree(AT_FDCWD, dir, NULL);
}

static void test_many_files(void **state)
{
	many("a million files", (struct many){.per_dir = 100, .layers = 1});
}

static void test_many_layers(void **state)
{
	many("a million files, five layers", (struct many){.per_dir = 1000, .layers = 5});
}

/* ---- zstd windows ---- */

struct zlayer {
	struct oci_desc desc;
	char diff_id[OCI_DIGEST_LEN + 1];
};

struct zimage {
	struct fx *f;
	struct oci_op op;
	struct zlayer layers[8];
	size_t n;
};

/* A layer of one file of `mib` MiB, compressed so that the decoder needs a window of 1 << wlog. */
static void add_zlayer(struct zimage *z, int wlog, size_t mib)
{
	CLEANUP_BUF struct buf tar = {0}, out = {0};
	struct zlayer *l = &z->layers[z->n++];
	CLEANUP_FREE uint32_t *data = xmalloc(mib << 20);
	struct error *err = NULL;
	ZSTD_CCtx *c = ZSTD_createCCtx();

	for (size_t i = 0; i < mib << 18; i++)
		data[i] = (uint32_t)(i / 3000 + z->n);
	tm_put(&tar, (struct tm_opts){.type = '0', .name = "f", .data = data, .len = mib << 20});
	tm_end(&tar);
	digest_of(tar.data, tar.len, l->diff_id);
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, wlog);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
	buf_reserve(&out, ZSTD_compressBound(tar.len));

	ZSTD_inBuffer in = {tar.data, tar.len, 0};
	ZSTD_outBuffer o = {out.data, out.cap, 0};

	/* In two steps: one that knew all of it would take the window that this needs. */
	in.size--;
	assert_false(ZSTD_isError(ZSTD_compressStream2(c, &o, &in, ZSTD_e_continue)));
	in.size++;
	assert_int_equal(ZSTD_compressStream2(c, &o, &in, ZSTD_e_end), 0);
	ZSTD_freeCCtx(c);
	l->desc.size = o.pos;
	l->desc.media_type = (char *)MEDIA_OCI_LAYER "+zstd";
	assert_int_equal(blob_put(&z->op, out.data, o.pos, l->desc.digest, &err), 0);
}

static int prepare_job(void *arg, void *worker, size_t i, struct error **err)
{
	struct zimage *z = arg;

	return layer_prepare(&z->op, &z->layers[i].desc, z->layers[i].diff_id, NULL, err);
}

static const char *prepare_all(void *arg)
{
	struct zimage *z = arg;
	struct op_jobs jobs = {.n = z->n, .threads = 16, .run = prepare_job, .arg = z};
	struct error *err = NULL;

	return op_parallel(&z->op, &jobs, &err) < 0 ? error_text(err) : NULL;
}

static void zimage_open(struct zimage *z, void **state)
{
	*z = (struct zimage){.f = *state};
	op_begin(&z->op, z->f->store, NULL);
}

/* However many layers there are, and however many threads unpack them. */
static void test_many_windows(void **state)
{
	struct zimage z;

	zimage_open(&z, state);
	for (int i = 0; i < 7; i++)
		add_zlayer(&z, 23, 12);
	add_zlayer(&z, 25, 40);
	malloc_trim(0);
	in_child("seven windows of 8 MiB, one of 32", prepare_all, &z, ALL_KIB);
	assert_int_equal(fx_count(z.f->store->layers), 8);
	op_end(&z.op);
}

static void test_window_too_large(void **state)
{
	struct error *err = NULL;
	struct zimage z;

	zimage_open(&z, state);
	add_zlayer(&z, 26, 1);
	assert_int_equal(prepare_job(&z, NULL, 0, &err), -1);
	CLEANUP_FREE char *text = error_text(err),
			  *want = xasprintf("unpack layer %.19s", z.layers[0].desc.digest);

	if (!strstr(text, want) || !strstr(text, "zstd window is 64 MiB; at most 32 MiB"))
		fail_msg("%s", text);
	error_free(err);
	op_end(&z.op);
}

/* An archive that is over at once, and mib MiB of zeros behind it: a few kilobytes. */
static void add_bomb(struct zimage *z, size_t mib)
{
	CLEANUP_BUF struct buf out = {0}, tar = {0};
	CLEANUP_FREE char *zeros = xcalloc(1, 1 << 20);
	struct zlayer *l = &z->layers[z->n++];
	ZSTD_CCtx *c = ZSTD_createCCtx();
	struct error *err = NULL;

	tm_end(&tar);
	digest_of(tar.data, tar.len, l->diff_id); /* it does not come to that */
	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 20);
	buf_reserve(&out, 4 << 20);

	ZSTD_outBuffer o = {out.data, out.cap, 0};

	for (size_t i = 0; i <= mib; i++) {
		ZSTD_inBuffer in = {i ? zeros : tar.data, i ? 1 << 20 : tar.len, 0};

		ZSTD_compressStream2(c, &o, &in, i == mib ? ZSTD_e_end : ZSTD_e_continue);
		assert_int_equal(in.pos, in.size);
	}
	ZSTD_freeCCtx(c);
	assert_true(o.pos < 1 << 20);
	l->desc.size = o.pos;
	l->desc.media_type = (char *)MEDIA_OCI_LAYER "+zstd";
	assert_int_equal(blob_put(&z->op, out.data, o.pos, l->desc.digest, &err), 0);
}

static const char *refuse_bomb(void *arg)
{
	struct zimage *z = arg;
	struct error *err = NULL;
	char *text;

	if (prepare_job(z, NULL, 0, &err) == 0)
		return "it was taken";
	text = error_text(err);
	return strstr(text, "more than 64 MiB behind the end of the archive") ? NULL : text;
}

static void test_L_bomb_behind_the_end(void **state)
{
	struct zimage z;

	zimage_open(&z, state);
	add_bomb(&z, 1024);
	in_child("a gigabyte behind the end of an archive", refuse_bomb, &z, ALL_KIB);
	assert_int_equal(fx_count(z.f->store->layers), 0);
	op_end(&z.op);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_files),
		cmocka_unit_test(test_many_layers),
		T(test_many_windows),
		T(test_window_too_large),
		T(test_L_bomb_behind_the_end),
	};

	alloc_give_back(); /* as the image helper does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
