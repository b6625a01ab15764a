/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c - the tree file of a layer: written front to back through a buffer, read through a map.
 *
 * The header goes in last, so a file without a valid one was never finished.
 */
#include "oci/tree.h"

#include <fcntl.h>
#include <sys/mman.h>
#include "core/path.h"
#include "oci/erofs_zip.h"

#define TREE_MAGIC  "CTRTREE2"
#define TREE_MAGIC1 "CTRTREE1" /* no index, a shorter header */
#define TREE_BUFFER (128u << 10)

struct tree_header {
	char magic[8];
	uint64_t count;
	uint64_t data_len;
	uint64_t bytes; /* of the whole file */
	uint64_t index_len;
};
#define TREE_HEADER1 offsetof(struct tree_header, index_len)

#define TREE_PACKED 1u

/* Followed by path, NUL, link, NUL, attributes, and zeros up to a multiple of 8. */
struct tree_record {
	uint32_t len;
	uint16_t type;
	uint16_t path_len;
	uint16_t link_len;
	uint16_t flags;
	uint32_t xattr_len;
	uint32_t mode, uid, gid;
	uint32_t mtime_nsec, rdev; /* packed: rdev has the blocks */
	int64_t mtime;
	uint64_t size;
	uint64_t data_off; /* packed: index_off */
};

struct tree_writer {
	int fd;
	uint64_t count, bytes;
	struct buf buf;
};

struct tree_writer *tree_writer_open(int dirfd, const char *name, struct error **err)
{
	struct tree_header h = {0};
	int fd = openat(dirfd, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		error_sys(err, errno, "create %s", name);
		return NULL;
	}
	struct tree_writer *w = xcalloc(1, sizeof(*w));

	w->fd = fd;
	w->bytes = sizeof(h);
	buf_append(&w->buf, &h, sizeof(h));
	return w;
}

void tree_writer_free(struct tree_writer *w)
{
	if (!w)
		return;
	close(w->fd);
	buf_free(&w->buf);
	free(w);
}

static int tree_flush(struct tree_writer *w, struct error **err)
{
	if (w->buf.len && fd_write_full(w->fd, w->buf.data, w->buf.len, err) < 0)
		return error_wrap(err, "write the layer's tree");
	w->buf.len = 0;
	return 0;
}

int tree_put(struct tree_writer *w, const struct tree_entry *e, struct error **err)
{
	static const char zeros[8];
	size_t len = sizeof(struct tree_record) + e->path_len + e->link_len + 2 + e->xattr_len;
	size_t padded = ALIGN_UP(len, 8);
	struct tree_record r = {
		.len = (uint32_t)padded,
		.type = (uint16_t)e->type,
		.path_len = (uint16_t)e->path_len,
		.link_len = (uint16_t)e->link_len,
		.xattr_len = (uint32_t)e->xattr_len,
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime_nsec = e->mtime_nsec,
		.rdev = e->packed ? e->blocks : e->rdev,
		.mtime = e->mtime,
		.size = e->size,
		.data_off = e->packed ? e->index_off : e->data_off,
		.flags = e->packed ? TREE_PACKED : 0,
	};

	if (w->count == TREE_MAX_ENTRIES)
		return error_set(err, ERR_INVALID_ARGUMENT, "the layer has more than %u entries",
				 TREE_MAX_ENTRIES);
	buf_append(&w->buf, &r, sizeof(r));
	buf_append(&w->buf, e->path, e->path_len);
	buf_append(&w->buf, zeros, 1);
	if (e->link_len)
		buf_append(&w->buf, e->link, e->link_len);
	buf_append(&w->buf, zeros, 1);
	if (e->xattr_len)
		buf_append(&w->buf, e->xattrs, e->xattr_len);
	buf_append(&w->buf, zeros, padded - len);
	w->count++;
	w->bytes += padded;
	return w->buf.len >= TREE_BUFFER ? tree_flush(w, err) : 0;
}

int tree_writer_finish(struct tree_writer *w, uint64_t data_len, uint64_t index_len,
		       struct error **err)
{
	struct tree_header h = {.magic = TREE_MAGIC,
				.count = w->count,
				.data_len = data_len,
				.bytes = w->bytes,
				.index_len = index_len};

	if (tree_flush(w, err) < 0 || fd_pwrite_full(w->fd, &h, sizeof(h), 0, err) < 0)
		return -1;
	sync_file_range(w->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	return 0;
}

int tree_writer_sync(struct tree_writer *w, struct error **err)
{
	return fsync(w->fd) < 0 ? error_sys(err, errno, "sync the layer's tree") : 0;
}

/* ---- reading ---- */

static int tree_damaged(struct error **err)
{
	return error_set(err, ERR_INTERNAL, "the layer's tree file is damaged");
}

/* A file mapped to read in no order. *map is NULL for an empty one. */
static int map_file(int dirfd, const char *name, const uint8_t **map, size_t *len,
		    struct error **err)
{
	CLEANUP_CLOSE int fd = path_open_beneath(dirfd, name, O_RDONLY, 0, err);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "stat %s", name);
	if (!S_ISREG(st.st_mode))
		return tree_damaged(err);
	*len = (size_t)st.st_size;
	if (!*len)
		return 0;
	void *p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);

	if (p == MAP_FAILED)
		return error_sys(err, errno, "map %s", name);
	madvise(p, *len, MADV_NOHUGEPAGE); /* tree_rest(): one touch should map little */
	*map = p;
	return 0;
}

static int read_header(struct tree_file *f, struct error **err)
{
	struct tree_header h = {0};

	if (f->len < TREE_HEADER1)
		return tree_damaged(err);
	f->first = TREE_HEADER1;
	if (memcmp(f->map, TREE_MAGIC1, sizeof(h.magic)) != 0)
		f->first = sizeof(h);
	if (f->len < f->first)
		return tree_damaged(err);
	memcpy(&h, f->map, f->first);
	if (f->first == sizeof(h) && memcmp(h.magic, TREE_MAGIC, sizeof(h.magic)) != 0)
		return tree_damaged(err);
	f->count = h.count;
	f->data_len = h.data_len;
	f->index_len = h.index_len;
	if (h.bytes != f->len || h.count > TREE_MAX_ENTRIES || h.data_len % TREE_ALIGN)
		return tree_damaged(err);
	return 0;
}

static int open_index(struct tree_file *f, int dirfd, struct error **err)
{
	size_t len;

	if (!f->index_len)
		return 0;
	if (map_file(dirfd, "index", &f->index, &len, err) < 0)
		return -1;
	if (len == f->index_len)
		return 0;
	f->index_len = len; /* of the mapping */
	return tree_damaged(err);
}

int tree_file_open(struct tree_file *f, int dirfd, const char *name, struct error **err)
{
	*f = (struct tree_file){0};
	if (map_file(dirfd, name, &f->map, &f->len, err) == 0 && read_header(f, err) == 0 &&
	    open_index(f, dirfd, err) == 0)
		return 0;
	tree_file_close(f);
	return -1;
}

void tree_file_close(struct tree_file *f)
{
	if (f->map)
		munmap((void *)f->map, f->len);
	if (f->index)
		munmap((void *)f->index, f->index_len);
	memset(f, 0, sizeof(*f));
}

static bool content_fits(const struct tree_file *f, const struct tree_entry *e)
{
	if (e->type != TREE_FILE)
		return true;
	if (e->packed)
		return e->size && e->index_off % sizeof(struct zip_index) == 0 &&
		       e->index_off <= f->index_len &&
		       zip_clusters(e->size) <=
			       (f->index_len - e->index_off) / sizeof(struct zip_index);
	return e->data_off % TREE_ALIGN == 0 && e->data_off <= f->data_len &&
	       e->size <= f->data_len - e->data_off;
}

int tree_file_next(const struct tree_file *f, size_t *pos, struct tree_entry *e, struct error **err)
{
	struct tree_record r;

	if (!*pos)
		*pos = f->first;
	if (*pos == f->len)
		return 0;
	if (f->len - *pos < sizeof(r))
		return tree_damaged(err);
	const char *p = (const char *)f->map + *pos;

	memcpy(&r, p, sizeof(r));
	size_t need = sizeof(r) + r.path_len + r.link_len + 2u + (size_t)r.xattr_len;

	if (r.len > f->len - *pos || r.len % 8 || need > r.len || r.xattr_len % 4 ||
	    r.type < TREE_DIR || r.type > TREE_OPAQUE || p[sizeof(r) + r.path_len] ||
	    p[sizeof(r) + r.path_len + 1 + r.link_len])
		return tree_damaged(err);
	*e = (struct tree_entry){
		.type = (enum tree_type)r.type,
		.path = p + sizeof(r),
		.path_len = r.path_len,
		.link = p + sizeof(r) + r.path_len + 1,
		.link_len = r.link_len,
		.mode = r.mode,
		.uid = r.uid,
		.gid = r.gid,
		.mtime = r.mtime,
		.mtime_nsec = r.mtime_nsec,
		.size = r.size,
		.data_off = r.data_off,
		.rdev = r.rdev,
		.xattrs = p + sizeof(r) + r.path_len + r.link_len + 2,
		.xattr_len = r.xattr_len,
	};
	if (r.flags & TREE_PACKED && e->type == TREE_FILE) {
		e->packed = true;
		e->index_off = r.data_off;
		e->blocks = r.rdev;
		e->data_off = e->rdev = 0;
	}
	if (!content_fits(f, e))
		return tree_damaged(err);
	*pos += r.len;
	return 1;
}
