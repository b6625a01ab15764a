// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_merge.c - layers put on each other. Hostile: up to three layers of records with names that collide: links in
 * circles and out of the root, hard links to what another layer removes, whiteouts through links, files where
 * directories were. The image of what is left is written as EROFS.
 *
 * Files may be compressed: each layer has a run of clusters that shrank to one block, and some that are stored as they are. An even
 * first byte damages the index too.
 *
 * With FUZZ_KEEP=DIR every image made is kept there with its data behind it, for fsck.erofs (run.sh does that).
 */
#include <lz4.h>
#include <sys/stat.h>

#include "core/path.h"
#include "oci/erofs_zip.h"
#include "oci/tree.h"
#include "oci/oci.h"
#include "tests/fuzz/fuzz.h"

#define LAYERS 3
#define BLOCKS 8
#define DATA   (BLOCKS * TREE_ALIGN)
#define RUN    5 /* clusters in the last block */
#define INDEX  (RUN + BLOCKS - 1)

static int dirs[LAYERS], out;
static struct zip_index index_[INDEX];
static const char *keep;

static const char *const names[] = {"a", "b", "c", "etc", ".wh.x", "long"};

static void add_name(struct buf *b, uint8_t pick)
{
	static char longest[256];

	if (!longest[0])
		memset(longest, 'n', 255);
	buf_puts(b, pick % ARRAY_SIZE(names) == 5 ? longest + (pick & 0xf8) / 4
						  : names[pick % ARRAY_SIZE(names)]);
}

static void make_path(struct buf *b, struct fz *f)
{
	unsigned n = 1 + fz_u8(f) % 4;

	while (n--) {
		add_name(b, fz_u8(f));
		if (n)
			buf_puts(b, "/");
	}
}

/* A link says anything. */
static void make_target(struct buf *b, struct fz *f)
{
	uint8_t how = fz_u8(f);
	unsigned n = 1 + how % 4;

	if (how & 0x80)
		buf_puts(b, "/");
	if (how & 0x40)
		buf_puts(b, "../");
	if (how & 0x20)
		buf_puts(b, "./");
	while (n--) {
		uint8_t pick = fz_u8(f);

		if (pick > 240)
			buf_puts(b, "..");
		else
			add_name(b, pick);
		buf_puts(b, n ? pick & 0x40 ? "//" : "/" : "");
	}
	for (n = how & 0x10 ? 40 : 0; n; n--) /* long enough for a block of its own */
		buf_puts(b, "/and/so/on/and/so/on/and/so/on/and/so/on/and/so/on/and/so/on/and/so/"
			    "on/and/so/on");
}

static void make_xattrs(struct buf *b, struct fz *f)
{
	unsigned n = fz_u8(f) % 3;

	while (n--) {
		uint8_t len = fz_u8(f), h[4] = {2, 1, len, 0};
		static const uint8_t value[259];

		buf_append(b, h, 4);
		buf_append(b, n ? "k1" : "k0", 2);
		buf_append(b, value, len);
		buf_append(b, value, -b->len & 3);
	}
}

static void put(struct tree_writer *w, struct fz *f)
{
	struct buf path = {0}, link = {0}, xattrs = {0};
	uint8_t type = fz_u8(f);
	struct tree_entry e = {.type = TREE_DIR + type % TREE_OPAQUE, .link = ""};

	if (type & 0x80 && (e.type == TREE_DIR || e.type == TREE_OPAQUE))
		buf_puts(&path, "");
	else
		make_path(&path, f);
	if (e.type == TREE_HARDLINK)
		make_path(&link, f);
	if (e.type == TREE_SYMLINK)
		make_target(&link, f);
	if (e.type == TREE_FILE && type & 0x20) {
		unsigned more = fz_u16(f) % ((INDEX - RUN) * ZIP_CLUSTER + 1);

		e.packed = true;
		e.size = RUN * ZIP_CLUSTER + more;
		e.blocks = 1 + (uint32_t)zip_clusters(more);
	} else if (e.type == TREE_FILE) {
		e.data_off = fz_u8(f) % 8 * TREE_ALIGN;
		e.size = fz_u16(f) % (DATA - e.data_off + 1);
	}
	e.mode = fz_u16(f) & 07777;
	if (type & 0x40) {
		make_xattrs(&xattrs, f);
		e.uid = fz_u32(f);
		e.mtime = (int64_t)fz_u64(f);
		e.mtime_nsec = fz_u32(f) % 1000000000;
		e.rdev = fz_u32(f);
	}
	e.path = path.data ? path.data : "";
	e.path_len = path.len;
	e.link = link.data ? link.data : "";
	e.link_len = link.len;
	e.xattrs = xattrs.data;
	e.xattr_len = xattrs.len;
	FUZZ_CHECK(!tree_put(w, &e, NULL));
	buf_free(&path);
	buf_free(&link);
	buf_free(&xattrs);
}

static void keep_image(void)
{
	static unsigned n;
	char *name = xasprintf("%s/%u.erofs", keep, n++);
	int i, fd = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	struct buf b = {0};

	FUZZ_CHECK(fd >= 0 && !path_read_all(out, "meta.erofs", 64u << 20, &b, NULL));
	for (i = 0; i < LAYERS; i++)
		FUZZ_CHECK(!path_read_all(dirs[i], "data", DATA, &b, NULL));
	FUZZ_CHECK(!fd_write_full(fd, b.data, b.len, NULL));
	buf_free(&b);
	close(fd);
	free(name);
}

/* A layer's data and index: the last block is what RUN clusters were compressed to, the others are as they are. */
static void make_data(int dir)
{
	static char text[RUN * ZIP_CLUSTER], block[ZIP_CLUSTER];
	char packed[ZIP_CLUSTER];
	int len, fd = openat(dir, "data", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	memset(text, 't', sizeof(text));
	len = LZ4_compress_default(text, packed, sizeof(text), sizeof(packed));
	FUZZ_CHECK(len > 0);
	memcpy(block + sizeof(block) - len, packed, (size_t)len);
	FUZZ_CHECK(fd >= 0 && !fd_pwrite_full(fd, block, sizeof(block), DATA - ZIP_CLUSTER, NULL));
	close(fd);
	index_[0] = (struct zip_index){.advise = ZIP_HEAD, .blkaddr = BLOCKS - 1};
	for (unsigned i = 1; i < INDEX; i++) {
		index_[i] = (struct zip_index){.advise = i < RUN ? ZIP_NONHEAD : ZIP_PLAIN};
		if (i < RUN) {
			index_[i].delta[0] = (uint16_t)(i == 1 ? ZIP_BLOCKS | 1 : i);
			index_[i].delta[1] = (uint16_t)(RUN - i);
		} else {
			index_[i].blkaddr = i - RUN;
		}
	}
}

static void put_index(int dir)
{
	int fd = openat(dir, "index", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	FUZZ_CHECK(fd >= 0 && !fd_pwrite_full(fd, index_, sizeof(index_), 0, NULL));
	close(fd);
}

/* Changes some bytes of a layer's file to what the input says. */
static void damage(int dir, const char *name, struct fz *f)
{
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	struct stat st;

	FUZZ_CHECK(fd >= 0 && !fstat(fd, &st));
	for (int i = 0; f->n && i < 8; i++) {
		off_t at = fz_u16(f) % st.st_size;
		uint8_t byte = fz_u8(f);

		FUZZ_CHECK(pwrite(fd, &byte, 1, at) == 1);
	}
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int base = open(fuzz_dir(), O_DIRECTORY | O_CLOEXEC), i;

	keep = getenv("FUZZ_KEEP");
	for (i = 0; i <= LAYERS; i++) {
		char name[2] = {(char)('0' + i), 0};

		FUZZ_CHECK(!mkdirat(base, name, 0700));
		*(i < LAYERS ? &dirs[i] : &out) = openat(base, name, O_DIRECTORY | O_CLOEXEC);
		if (i == LAYERS)
			break;
		make_data(dirs[i]);
		put_index(dirs[i]);
	}
	close(base);
	return 0;
}

/* An odd first byte: layers of well-formed records. Even: the tree file's own bytes are the input's, as if the cache
 * had been damaged. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	bool sane = fz_u8(&f) & 1;
	int i;

	for (i = 0; i < LAYERS; i++) {
		struct tree_writer *w = tree_writer_open(dirs[i], "tree", NULL);
		unsigned n;

		FUZZ_CHECK(w);
		for (n = fz_u8(&f) % 24; n; n--)
			put(w, &f);
		FUZZ_CHECK(!tree_writer_finish(w, DATA, sizeof(index_), NULL));
		tree_writer_free(w);
	}
	if (!sane) {
		damage(dirs[0], "tree", &f);
		damage(dirs[0], "index", &f);
	}
	if (rootfs_merge(dirs, LAYERS, out, NULL) == 0 && keep && sane)
		keep_image();
	if (!sane)
		put_index(dirs[0]);
	return 0;
}
