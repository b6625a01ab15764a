/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack.c - a file's content into the layer's data: as it is, or compressed in the way EROFS reads.
 *
 * DOC: What is compressed
 * A file's first 64 KiB decide: LZ4 has to save a quarter of their blocks, else all of the file stays as it is, and costs no
 * more than the attempt. So files of one block, media and archives are read straight from the page cache, as before. Files that the
 * archive stored with holes stay as they are too: theirs may be of any size, and cost nothing. In a compressed file each 64 KiB are a run of
 * their own; one that does not shrink is stored as it is, zeros are holes.
 * What a reader has to decompress for a byte is at most one run.
 */
#include "oci/layer_int.h"

#include <fcntl.h>
#include <lz4.h>
#include "core/path.h"
#include "oci/erofs_zip.h"

#define RUN_BYTES     (ZIP_RUN * ZIP_CLUSTER)
#define INDEX_ENTRIES 4096 /* buffered */

struct pack {
	int fd;
	uint64_t index_off; /* of entries[0] in the index */
	size_t n;           /* entries */
	uint64_t blocks;    /* of the current file */
	LZ4_stream_t lz4;
	struct zip_index entries[INDEX_ENTRIES];
	uint8_t in[RUN_BYTES], out[RUN_BYTES];
};

struct pack *pack_open(int dirfd, const char *name, struct error **err)
{
	int fd = openat(dirfd, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		error_sys(err, errno, "unpack layer: create %s", name);
		return NULL;
	}
	struct pack *p = xmalloc(sizeof(*p));

	p->fd = fd;
	p->index_off = p->n = 0;
	return p;
}

void pack_close(struct pack *p)
{
	if (!p)
		return;
	close(p->fd);
	free(p);
}

/* ---- the index ---- */

static int index_flush(struct pack *p, struct error **err)
{
	size_t len = p->n * sizeof(*p->entries);

	if (fd_write_full(p->fd, p->entries, len, err) < 0)
		return error_wrap(err, "write the layer's index");
	p->index_off += len;
	p->n = 0;
	return 0;
}

static int index_put(struct pack *p, struct zip_index e, struct error **err)
{
	p->entries[p->n++] = e;
	return p->n == INDEX_ENTRIES ? index_flush(p, err) : 0;
}

static int index_plain(struct pack *p, uint64_t block, size_t clusters, struct error **err)
{
	for (size_t i = 0; i < clusters; i++)
		if (index_put(p,
			      (struct zip_index){.advise = ZIP_PLAIN,
						 .blkaddr = (uint32_t)(block + i)},
			      err) < 0)
			return -1;
	p->blocks += clusters;
	return 0;
}

static int index_run(struct pack *p, uint64_t block, size_t blocks, size_t clusters,
		     struct error **err)
{
	struct zip_index e = {.advise = ZIP_HEAD, .blkaddr = (uint32_t)block};

	for (size_t i = 0; i < clusters; i++) {
		if (i) {
			e = (struct zip_index){.advise = ZIP_NONHEAD};
			e.delta[0] = (uint16_t)(i == 1 ? ZIP_BLOCKS | blocks : i);
			e.delta[1] = (uint16_t)(clusters - i);
		}
		if (index_put(p, e, err) < 0)
			return -1;
	}
	p->blocks += blocks;
	return 0;
}

/* ---- runs ---- */

/* Bytes that p->in[0..n) has compressed in p->out; 0 when more than `max` blocks would be needed, and for zeros, which are better
 * stored as they are: a hole. */
static size_t compress(struct pack *p, size_t n, size_t max)
{
	if (!max || mem_is_zero(p->in, n))
		return 0;
	int len = LZ4_compress_fast_extState(&p->lz4, (const char *)p->in, (char *)p->out, (int)n,
					     (int)(max * ZIP_CLUSTER), 1);

	return len > 0 ? (size_t)len : 0;
}

/* Appends p->out[0..len), which p->in[0..n) was compressed to, zeros before it. */
static int put_compressed(struct pack *p, struct layer_data *d, size_t n, size_t len,
			  struct error **err)
{
	size_t blocks = zip_clusters(len);

	if (index_run(p, data_end(d) / ZIP_CLUSTER, blocks, zip_clusters(n), err) < 0 ||
	    data_zeros(d, blocks * ZIP_CLUSTER - len, err) < 0)
		return -1;
	return data_put(d, p->out, len, err);
}

/* Appends p->in[0..n) as it is. */
static int put_plain(struct pack *p, struct layer_data *d, size_t n, struct error **err)
{
	size_t clusters = zip_clusters(n);

	if (index_plain(p, data_end(d) / ZIP_CLUSTER, clusters, err) < 0 ||
	    data_put(d, p->in, n, err) < 0)
		return -1;
	return data_zeros(d, clusters * ZIP_CLUSTER - n, err);
}

static int read_run(struct pack *p, struct tar_reader *t, size_t n, struct error **err)
{
	size_t have = 0;

	while (have < n) {
		ssize_t k = tar_read(t, p->in + have, n - have, err);

		if (k < 0)
			return -1;
		if (!k)
			return error_set(err, ERR_INTERNAL, "tar: a file is shorter than its size");
		have += (size_t)k;
	}
	return 0;
}

/* The file's first run is in p->in and, `len` bytes compressed, in p->out. */
static int put_runs(struct pack *p, struct layer_data *d, struct tar_reader *t, uint64_t size,
		    size_t len, struct error **err)
{
	size_t n = (size_t)MIN(size, (uint64_t)RUN_BYTES);

	p->blocks = 0;
	for (;;) {
		int rc = len ? put_compressed(p, d, n, len, err) : put_plain(p, d, n, err);

		if (rc < 0)
			return -1;
		size -= n;
		if (!size)
			return 0;
		n = (size_t)MIN(size, (uint64_t)RUN_BYTES);
		if (read_run(p, t, n, err) < 0)
			return -1;
		len = compress(p, n, zip_clusters(n) - 1);
	}
}

/* All of a file as it is; its first n bytes have been read into p->in. */
static int put_flat(struct pack *p, struct layer_data *d, struct tar_reader *t, uint64_t size,
		    size_t n, struct error **err)
{
	if (data_put(d, p->in, n, err) < 0 || data_file(d, t, size - n, err) < 0)
		return -1;
	return data_zeros(d, -size & (TREE_ALIGN - 1), err);
}

int pack_file(struct pack *p, struct layer_data *d, struct tar_reader *t, const struct tar_entry *e,
	      struct tree_entry *r, struct error **err)
{
	size_t n = (size_t)MIN(e->size, (uint64_t)RUN_BYTES), len;

	r->size = e->size;
	if (!e->size)
		return 0;
	if (data_check_size(d, e->size, err) < 0)
		return -1;
	r->data_off = data_end(d);
	if (n <= ZIP_CLUSTER || e->sparse)
		return put_flat(p, d, t, e->size, 0, err);
	if (read_run(p, t, n, err) < 0)
		return -1;
	len = compress(p, n, zip_clusters(n) * 3 / 4);
	if (!len)
		return put_flat(p, d, t, e->size, n, err);
	r->packed = true;
	r->index_off = p->index_off + p->n * sizeof(*p->entries);
	if (put_runs(p, d, t, e->size, len, err) < 0)
		return -1;
	r->blocks = (uint32_t)p->blocks;
	return 0;
}

int pack_finish(struct pack *p, uint64_t *len, struct error **err)
{
	if (index_flush(p, err) < 0)
		return -1;
	*len = p->index_off;
	sync_file_range(p->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	return 0;
}

int pack_sync(const struct pack *p, struct error **err)
{
	if (p->index_off && fsync(p->fd) < 0)
		return error_sys(err, errno, "sync the layer's index");
	return 0;
}
