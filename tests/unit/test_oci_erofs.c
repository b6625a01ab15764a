// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_erofs.c - layers merged into an image: the image spec's rules, metadata, limits (classes L and P).
 *
 * Every image goes through fsck.erofs, whose --extract gives the tree to compare with; extended attributes and exact metadata are
 * read through the kernel where it has EROFS and the test runs as root, in a mount namespace of its own.
 */
#include "tests/unit/tar_make.h"

#include <fcntl.h>
#include <fts.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include "core/path.h"
#include "core/proc.h"
#include "oci/tree.h"

#define MAX_LAYERS 8

struct image {
	char dir[32];
	int fd, layers[MAX_LAYERS];
	size_t n;
	struct error *err;
};

static char *fsck; /* path, or NULL */

static void image_open(struct image *im)
{
	memset(im, 0, sizeof(*im));
	strcpy(im->dir, "/tmp/test_erofs.XXXXXX");
	assert_non_null(mkdtemp(im->dir));
	im->fd = open(im->dir, O_RDONLY | O_DIRECTORY);
}

static void image_close(struct image *im)
{
	for (size_t i = 0; i < im->n; i++)
		close(im->layers[i]);
	close(im->fd);
	path_remove_tree(AT_FDCWD, im->dir, NULL);
	error_free(im->err);
}

static void add_layer(struct image *im, struct buf *b)
{
	struct error *err = NULL;
	char name[16];

	tm_end(b);
	struct tm_source src = {.p = b->data, .len = b->len};
	struct oci_reader r = {tm_read, &src};

	snprintf(name, sizeof(name), "layer%zu", im->n);
	mkdirat(im->fd, name, 0700);
	im->layers[im->n] = openat(im->fd, name, O_RDONLY | O_DIRECTORY);
	if (layer_unpack(&r, im->layers[im->n++], &err) < 0)
		fail_msg("unpack: %s", error_text(err));
}

static int merge(struct image *im)
{
	return rootfs_merge(im->layers, im->n, im->fd, &im->err);
}

static void append_file(int out, int dirfd, const char *name)
{
	int in = openat(dirfd, name, O_RDONLY);
	struct stat st;

	assert_true(in >= 0);
	fstat(in, &st);
	for (off_t left = st.st_size; left;) {
		ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)left, 0);

		assert_true(n > 0);
		left -= n;
	}
	close(in);
}

static int run(char *const *argv)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execv(argv[0], argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Merges, makes <dir>/img, and has fsck.erofs check it and extract to <dir>/x. */
static void build(struct image *im)
{
	CLEANUP_FREE char *img = xasprintf("%s/img", im->dir);
	CLEANUP_FREE char *extract = xasprintf("--extract=%s/x", im->dir);

	if (merge(im) < 0)
		fail_msg("merge: %s", error_text(im->err));
	int out = open(img, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	append_file(out, im->fd, "meta.erofs");
	for (size_t i = 0; i < im->n; i++)
		append_file(out, im->layers[i], "data");
	close(out);
	path_remove_tree(im->fd, "x", NULL);
	assert_int_equal(run((char *[]){fsck, extract, img, NULL}), 0);
}

static int need_fsck(void **state)
{
	if (!fsck) {
		print_message("skipped: fsck.erofs is not installed\n");
		skip();
	}
	return 0;
}

/* ---- the rules ---- */

/* One layer from a script: d:dir f:file=content h:name>target s:name>target w:gone o:opaque */
static void script(struct image *im, const char *s)
{
	CLEANUP_FREE char *copy = xstrdup(s);
	CLEANUP_BUF struct buf b = {0};
	char *save;

	for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
		char *path = t + 2, *arg = path + strcspn(path, "=>");

		if (*arg)
			*arg++ = 0;
		char *slash = strrchr(path, '/');
		int dir = slash ? (int)(slash + 1 - path) : 0;
		CLEANUP_FREE char *wh = *t == 'o' ? xasprintf("%s/.wh..wh..opq", path)
						  : xasprintf("%.*s.wh.%s", dir, path, path + dir);

		switch (*t) {
		case 'd':
			tm_dir(&b, path);
			break;
		case 'f':
			tm_file(&b, path, arg);
			break;
		case 'h':
			tm_link(&b, '1', path, arg);
			break;
		case 's':
			tm_link(&b, '2', path, arg);
			break;
		default:
			tm_file(&b, wh, "");
		}
	}
	add_layer(im, &b);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* "a/ a/f=content*2 l->target": the extracted tree. */
static void listing(struct image *im, struct buf *out)
{
	CLEANUP_FREE char *root = xasprintf("%s/x", im->dir);
	FTS *fts = fts_open((char *[]){root, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
	char text[256];

	buf_append(out, "", 0);
	for (FTSENT *e; (e = fts_read(fts));) {
		const char *rel = e->fts_path + strlen(root) + 1;

		if (e->fts_level == 0 || e->fts_info == FTS_DP)
			continue;
		buf_printf(out, "%s%s", out->len ? " " : "", rel);
		ssize_t n = 0;

		if (e->fts_info == FTS_D) {
			buf_puts(out, "/");
		} else if (e->fts_info == FTS_SL) {
			n = readlink(e->fts_path, text, sizeof(text));
			buf_puts(out, "->");
		} else {
			int fd = open(e->fts_path, O_RDONLY);

			n = read(fd, text, sizeof(text));
			close(fd);
			buf_puts(out, "=");
		}
		buf_append(out, text, (size_t)n);
	}
	fts_close(fts);
}

static const struct {
	const char *layers[4];
	const char *want; /* NULL: refused, word says why */
	const char *word;
} rules[] = {
	{{"d:a f:a/b=1 f:a/c=2", "f:a/b=3"}, "a/ a/b=3 a/c=2", NULL},
	{{"f:a/b=1", "w:a/b f:a/b=2"}, "a/ a/b=2", NULL},
	{{"f:a/b=1", "f:a/b=2 w:a/b"}, "a/ a/b=2", NULL},
	{{"f:a/b=1 f:a/c=2", "w:a/b"}, "a/ a/c=2", NULL},
	{{"f:d/x=1 f:d/y/z=2 f:e=1", "w:d"}, "e=1", NULL},
	{{"f:d/x=1", "w:d", "f:d/y=2"}, "d/ d/y=2", NULL},
	{{"f:d/x=1 f:d/e/f=1", "f:d/y=2 o:d"}, "d/ d/y=2", NULL},
	{{"f:d/x=1 f:d/e/f=1", "o:d f:d/e/g=2"}, "d/ d/e/ d/e/g=2", NULL},
	{{"f:x=1", "f:y=2 o:."}, "y=2", NULL},
	{{"f:d/x=1", "f:d=2"}, "d=2", NULL},
	{{"f:d=1", "f:d/x=2"}, "d/ d/x=2", NULL},
	{{"f:d=1", "d:d"}, "d/", NULL},
	{{"f:d/x=1", "d:d"}, "d/ d/x=1", NULL},
	{{"f:d/x=1", "s:d>e"}, "d->e", NULL},
	{{"f:t/x=1 s:l>t", "d:l f:l/y=2"}, "l/ l/y=2 t/ t/x=1", NULL},
	{{"d:usr/lib s:lib>usr/lib", "f:lib/x=1"}, "lib->usr/lib usr/ usr/lib/ usr/lib/x=1", NULL},
	{{"s:l>../../../etc", "f:l/x=1"}, "etc/ etc/x=1 l->../../../etc", NULL},
	{{"s:l>/etc", "f:l/x=1"}, "etc/ etc/x=1 l->/etc", NULL},
	{{"d:a/b s:a/l>./.././c s:c>a/b", "f:a/l/x=1"},
	 "a/ a/b/ a/b/x=1 a/l->./.././c c->a/b",
	 NULL},
	{{"f:t/x=1 f:t/y=2 s:l>/t", "w:l/x"}, "l->/t t/ t/y=2", NULL},
	{{"f:t/x=1 s:l>/t", "o:l"}, "l->/t t/", NULL},
	{{"f:t/x=1 s:l>/t", "w:l"}, "t/ t/x=1", NULL},
	{{"f:t=1 s:l>t", "f:l/x=2"}, "l->t t/ t/x=2", NULL},
	{{"f:a=1", "h:b>a"}, "a=1 b=1", NULL},
	{{"f:a=1 h:b>a", "f:a=2"}, "a=2 b=1", NULL},
	{{"f:a=1 h:b>a", "w:a"}, "b=1", NULL},
	{{"f:t/a=1 s:l>t", "h:b>l/a"}, "b=1 l->t t/ t/a=1", NULL},
	{{"s:l>gone h:m>l"}, "l->gone m->gone", NULL},
	{{"f:a=1 h:a>a"}, "a=1", NULL},
	{{"f:d/x=1 h:d>d/x"}, "d=1", NULL},
	{{"f:a=1 f:a=2 d:a"}, "a/", NULL},
	{{"f:a=1", "w:nope/x w:b w:a/x"}, "a=1", NULL},
	{{"f:a=1", "w:a", "f:a=3", "w:a"}, "", NULL},
	{{"f:a/!=1 f:a/-=2 f:a/.x=3 f:a/~=4"}, "a/ a/!=1 a/-=2 a/.x=3 a/~=4", NULL},
	{{"s:a>b s:b>a f:a/x=1"}, NULL, "symbolic links"},
	{{"s:a>a/a f:a/x=1"}, NULL, "symbolic links"},
	{{"h:a>nope"}, NULL, "not in the image"},
	{{"d:d h:a>d"}, NULL, "a directory"},
	{{"f:a=1", "w:a h:b>a"}, NULL, "not in the image"},
};

static void test_rules(void **state)
{
	need_fsck(state);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		CLEANUP_BUF struct buf got = {0};
		struct image im;

		image_open(&im);
		for (size_t k = 0; k < 4 && rules[i].layers[k]; k++)
			script(&im, rules[i].layers[k]);
		if (rules[i].want) {
			build(&im);
			listing(&im, &got);
			if (!str_eq(got.data, rules[i].want))
				fail_msg("rule %zu: got \"%s\", want \"%s\"", i, got.data,
					 rules[i].want);
		} else {
			assert_int_equal(merge(&im), -1);
			CLEANUP_FREE char *text = error_text(im.err);

			if (!strstr(text, rules[i].word))
				fail_msg("rule %zu: %s", i, text);
			assert_int_equal(faccessat(im.fd, "meta.erofs", F_OK, 0), -1);
			assert_int_equal(faccessat(im.fd, "meta.erofs.tmp", F_OK, 0), -1);
		}
		image_close(&im);
	}
}

static void test_no_layers(void **state)
{
	CLEANUP_BUF struct buf got = {0}, b = {0};
	struct image im;

	need_fsck(state);
	image_open(&im);
	build(&im);
	listing(&im, &got);
	assert_string_equal(got.data, "");
	add_layer(&im, &b); /* and one of no members */
	build(&im);
	listing(&im, &got);
	assert_string_equal(got.data, "");
	image_close(&im);
}

/* ---- shapes ---- */

/* Names and sizes around what a block holds; attributes that push what follows them over it. */
static void shapes(struct buf *b)
{
	char name[300], target[4097], value[65000];

	memset(target, 't', sizeof(target));
	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "big/%0*d", 1 + i * 7 % 250, i);
		tm_pax1(b, "path", name);
		tm_file(b, "x", i % 3 ? "" : name);
	}
	for (size_t n = 1; n < 4096; n += n < 3800 ? 401 : 1) {
		snprintf(name, sizeof(name), "links/%zu", n);
		target[n] = 0;
		tm_pax1(b, "linkpath", target);
		tm_link(b, '2', name, "x");
		target[n] = 't';
	}
	for (size_t n = 1; n < sizeof(value); n += n < 3700 || n > 4200 ? 977 : 3) {
		CLEANUP_BUF struct buf rec = {0};

		tm_pax_record(&rec, "SCHILY.xattr.user.x", value, n);
		tm_pax(b, 'x', &rec);
		snprintf(name, sizeof(name), "xattr/%zu", n);
		if (n % 3 == 0)
			tm_file(b, name, "content");
		else if (n % 3 == 1)
			tm_dir(b, name);
		else
			tm_link(b, '2', name, "somewhere/else");
	}
	/* Directories of exactly a block, and a byte around it: 64 + 12 + 1 + 12 + 2 + (12 + n) * k */
	for (int last = 100; last < 140; last++) {
		for (int k = 0; k < 30; k++) {
			snprintf(name, sizeof(name), "exact%d/%0*d", last, k ? 120 : last, k);
			tm_pax1(b, "path", name);
			tm_file(b, "x", "");
		}
	}
}

static void test_shapes(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_BUF struct buf first = {0}, second = {0};
	struct image im;
	size_t links = 0, big = 0;

	need_fsck(state);
	image_open(&im);
	shapes(&b);
	add_layer(&im, &b);
	build(&im);
	CLEANUP_FREE char *root = xasprintf("%s/x", im.dir);
	FTS *fts = fts_open((char *[]){root, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, by_name);

	for (FTSENT *e; (e = fts_read(fts));) {
		if (strstr(e->fts_path, "/links/")) {
			assert_int_equal(e->fts_statp->st_size, atoi(e->fts_name));
			links++;
		} else if (strstr(e->fts_path, "/big/")) {
			int i = atoi(e->fts_name);

			/* the file's content is its own path */
			assert_int_equal(e->fts_statp->st_size, i % 3 ? 0 : 4 + e->fts_namelen);
			big++;
		}
	}
	fts_close(fts);
	assert_int_equal(big, 3000);
	assert_true(links > 90);
	/* The output depends on the layers alone. */
	assert_int_equal(path_read_all(im.fd, "meta.erofs", 64 << 20, &first, NULL), 0);
	assert_int_equal(merge(&im), 0);
	assert_int_equal(path_read_all(im.fd, "meta.erofs", 64 << 20, &second, NULL), 0);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);
	image_close(&im);
}

/* Random operations on few names: whatever comes out is a sound image. */
static void test_random(void **state)
{
	static const char *const names[] = {"a", "b",   "a/b", "b/a",   "a/b/c", "b/c",
					    "c", "c/a", "c/b", "a/a/a", "b/b",   "c/c/c"};
	static const char ops[] = "dddddffffffffhsswwo";
	unsigned seed = 3;
	int fine = 0;

	need_fsck(state);
	for (int round = 0; round < 150; round++) {
		struct image im;

		image_open(&im);
		for (int layer = 0; layer < 3; layer++) {
			CLEANUP_BUF struct buf s = {0};

			for (int k = 0; k < 8; k++) {
				char op = ops[rand_r(&seed) % (int)(sizeof(ops) - 1)];

				buf_printf(&s, "%c:%s%s%s ", op,
					   names[rand_r(&seed) % ARRAY_SIZE(names)],
					   op == 'f'          ? "="
					   : strchr("hs", op) ? ">"
							      : "",
					   strchr("fhs", op)
						   ? names[rand_r(&seed) % ARRAY_SIZE(names)]
						   : "");
			}
			script(&im, s.data);
		}
		if (merge(&im) == 0) {
			build(&im);
			fine++;
		} else {
			CLEANUP_FREE char *text = error_text(im.err);

			assert_true(strstr(text, "hard link") || strstr(text, "symbolic links"));
		}
		image_close(&im);
	}
	assert_true(fine > 20);
}

/* Links that each lead 1900 directories further down. */
static void test_deep(void **state)
{
	static const char *const links[] = {"l0", "l1", "l2"};
	CLEANUP_BUF struct buf b = {0};
	char deep[3801], path[4000] = "";
	struct image im;

	image_open(&im);
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i & 1 ? '/' : 'd';
	deep[sizeof(deep) - 1] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		snprintf(path, sizeof(path), "%s%s%s", i ? links[i - 1] : "", i ? "/" : "", deep);
		tm_pax1(&b, "path", path);
		tm_dir(&b, "x");
		tm_pax1(&b, "linkpath", path);
		tm_link(&b, '2', links[i], "x");
	}
	add_layer(&im, &b);
	assert_int_equal(merge(&im), -1);
	CLEANUP_FREE char *text = error_text(im.err);

	if (!strstr(text, "too deep"))
		fail_msg("%s", text);
	image_close(&im);
}

static void test_foreign_data(void **state)
{
	struct image im;

	image_open(&im);
	script(&im, "f:a=1");
	int fd = openat(im.layers[0], "data", O_WRONLY | O_TRUNC);

	close(fd);
	assert_int_equal(merge(&im), -1);
	image_close(&im);
}

/* ---- through the kernel ---- */

static int attach_loop(const char *img)
{
	int ctl = open("/dev/loop-control", O_RDWR), file = open(img, O_RDONLY), n, fd = -1;
	struct loop_config c = {.fd = (uint32_t)file,
				.info = {.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR}};
	char dev[32];

	for (int tries = 0; ctl >= 0 && tries < 20; tries++) {
		n = ioctl(ctl, LOOP_CTL_GET_FREE);
		snprintf(dev, sizeof(dev), "/dev/loop%d", n);
		fd = open(dev, O_RDONLY);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) == 0)
			return fd;
		close(fd);
		fd = -1;
	}
	return fd;
}

#define CHECK(x)                                                                \
	do {                                                                    \
		if (!(x)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			_exit(1);                                               \
		}                                                               \
	} while (0)

static void check_mounted(const char *root)
{
	struct stat st, st2;
	char v[5000];

	CHECK(chdir(root) == 0);
	CHECK(lstat("f", &st) == 0 && st.st_mode == (S_IFREG | 04755) && st.st_size == 7);
	CHECK(st.st_uid == 100000 && st.st_gid == 200000 && st.st_nlink == 3);
	CHECK(st.st_mtim.tv_sec == -2 && st.st_mtim.tv_nsec == 500000000);
	CHECK(lstat("d/h", &st2) == 0 && st2.st_ino == st.st_ino);
	CHECK(getxattr("f", "user.big", v, sizeof(v)) == 4500 && v[0] == 'B' && v[4499] == 'B');
	CHECK(getxattr("f", "security.capability", v, sizeof(v)) == 20);
	CHECK(lgetxattr("l", "trusted.t", v, sizeof(v)) == 3 && memcmp(v, "abc", 3) == 0);
	CHECK(readlink("l", v, sizeof(v)) == 6 && memcmp(v, "target", 6) == 0);
	CHECK(lstat("c", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(259, 70000));
	CHECK(lstat("b", &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == makedev(1, 3));
	CHECK(lstat("p", &st) == 0 && S_ISFIFO(st.st_mode));
	CHECK(lstat("d", &st) == 0 && st.st_nlink == 3 && st.st_mode == (S_IFDIR | 01777));
	CHECK(lstat(".", &st) == 0 && st.st_nlink == 3 && st.st_mode == (S_IFDIR | 0750));
	CHECK(lstat("d/nope", &st) < 0 && errno == ENOENT);
	_exit(0);
}

static void mount_and_check(struct image *im)
{
	CLEANUP_FREE char *img = xasprintf("%s/img", im->dir), *at = xasprintf("%s/m", im->dir);
	int loop = attach_loop(img);
	char dev[32], link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", loop);
	ssize_t n = readlink(link, dev, sizeof(dev) - 1);

	if (loop < 0 || n < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(77);
	dev[n] = 0;
	mkdir(at, 0700);
	if (mount(dev, at, "erofs", MS_RDONLY, NULL) < 0)
		_exit(errno == ENODEV ? 77 : 2);
	close(loop);
	check_mounted(at);
}

static void test_mounted(void **state)
{
	CLEANUP_BUF struct buf b = {0}, rec = {0};
	char big[4500];
	struct image im;
	int status;

	need_fsck(state);
	image_open(&im);
	tm_put(&b, (struct tm_opts){.type = '5', .name = "./", .mode = 0750});
	tm_put(&b, (struct tm_opts){.type = '5', .name = "d", .mode = 01777});
	tm_dir(&b, "d/sub");
	memset(big, 'B', sizeof(big));
	tm_pax_record(&rec, "SCHILY.xattr.user.big", big, sizeof(big));
	tm_pax_record(&rec, "SCHILY.xattr.security.capability",
		      "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	tm_pax_record(&rec, "uid", "100000", 6);
	tm_pax_record(&rec, "gid", "200000", 6);
	tm_pax_record(&rec, "mtime", "-1.5", 4);
	tm_pax(&b, 'x', &rec);
	tm_put(&b, (struct tm_opts){
			   .type = '0', .name = "f", .data = "content", .len = 7, .mode = 04755});
	tm_link(&b, '1', "d/h", "f");
	tm_pax1(&b, "SCHILY.xattr.trusted.t", "abc");
	tm_link(&b, '2', "l", "target");
	tm_put(&b, (struct tm_opts){.type = '3', .name = "c", .maj = 259, .min = 70000});
	tm_put(&b, (struct tm_opts){.type = '4', .name = "b", .maj = 1, .min = 3});
	tm_put(&b, (struct tm_opts){.type = '6', .name = "p"});
	add_layer(&im, &b);
	b.len = 0;
	tm_link(&b, '1', "d/h2", "d/h");
	add_layer(&im, &b);
	build(&im);
	pid_t pid = fork();

	if (pid == 0)
		mount_and_check(&im);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	image_close(&im);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: needs root, a loop device and a kernel with EROFS\n");
		skip();
	}
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),   cmocka_unit_test(test_no_layers),
		cmocka_unit_test(test_shapes),  cmocka_unit_test(test_random),
		cmocka_unit_test(test_deep),    cmocka_unit_test(test_foreign_data),
		cmocka_unit_test(test_mounted),
	};
	int rc;

	fsck = proc_find("fsck.erofs");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(fsck);
	return rc;
}
