/* SPDX-License-Identifier: Apache-2.0 */
/* layer_data.c - a layer's data file: written front to back through a buffer, zeros left as holes. */
#include "oci/layer_int.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include "core/path.h"

#define LAYER_BUFFER (512u << 10)
#define LAYER_WRITEBACK \
	(8u             \
	 << 20) /* started in steps of this, so that the sync in the end has little to wait for */
#define LAYER_CHUNK    (64u << 10)  /* zeros become holes in units of this */
#define LAYER_MAX_DATA (4ull << 40) /* logical bytes of one layer, holes included */
#define LAYER_MAX_RESERVE \
	(64ull << 20) /* left free on the host's disk, or a twentieth of a small one */

static int data_error(struct error **err, int sys)
{
	if (sys == ENOSPC || sys == EDQUOT)
		return error_sys(err, sys, "unpack layer: the image store's disk is full");
	return error_sys(err, sys, "unpack layer: write data");
}

/* Refuses to fill the host's disk to the last block, whatever a layer expands to. */
static int data_check_space(struct layer_data *d, struct error **err)
{
	struct statvfs v;

	if (fstatvfs(d->fd, &v) < 0)
		return error_sys(err, errno, "unpack layer: statvfs");
	uint64_t reserve = MIN(LAYER_MAX_RESERVE, (uint64_t)v.f_blocks * v.f_frsize / 20);

	if ((uint64_t)v.f_bavail * v.f_frsize < reserve + LAYER_BUFFER / 16)
		return data_error(err, ENOSPC);
	return 0;
}

static int data_write(struct layer_data *d, size_t from, size_t to, struct error **err)
{
	while (from < to) {
		ssize_t w = RETRY_EINTR(
			pwrite(d->fd, d->buf + from, to - from, (off_t)(d->off + from)));

		if (w < 0)
			return data_error(err, errno);
		from += (size_t)w;
	}
	return 0;
}

/* Writes the buffer out, chunks of zeros left as holes. Unless `all`, an incomplete last chunk
 * stays in the buffer. */
static int data_flush(struct layer_data *d, bool all, struct error **err)
{
	size_t end = all ? d->len : ALIGN_DOWN(d->len, LAYER_CHUNK), from = 0;

	if (!end)
		return 0;
	if (data_check_space(d, err) < 0)
		return -1;
	for (size_t at = 0; at < end; at += LAYER_CHUNK) {
		size_t n = MIN((size_t)LAYER_CHUNK, end - at);

		if (!mem_is_zero(d->buf + at, n))
			continue;
		if (data_write(d, from, at, err) < 0)
			return -1;
		from = at + n;
	}
	if (data_write(d, from, end, err) < 0)
		return -1;
	memmove(d->buf, d->buf + end, d->len - end);
	d->len -= end;
	d->off += end;
	if (d->off - d->started >= LAYER_WRITEBACK) {
		sync_file_range(d->fd, (off_t)d->started, (off_t)(d->off - d->started),
				SYNC_FILE_RANGE_WRITE);
		d->started = d->off;
	}
	return 0;
}

int data_check_size(const struct layer_data *d, uint64_t more, struct error **err)
{
	if (more > LAYER_MAX_DATA || d->off + d->len > LAYER_MAX_DATA - more)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the layer's files have more than %llu bytes", LAYER_MAX_DATA);
	return 0;
}

int data_zeros(struct layer_data *d, uint64_t n, struct error **err)
{
	while (n) {
		size_t k = MIN(n, (uint64_t)(LAYER_BUFFER - d->len));

		memset(d->buf + d->len, 0, k);
		d->len += k;
		n -= k;
		if (d->len == LAYER_BUFFER && data_flush(d, false, err) < 0)
			return -1;
		/* Whole chunks of a long hole need not go through the buffer. */
		if (!d->len) {
			d->off += ALIGN_DOWN(n, LAYER_CHUNK);
			n -= ALIGN_DOWN(n, LAYER_CHUNK);
		}
	}
	return 0;
}

int data_put(struct layer_data *d, const void *p, size_t n, struct error **err)
{
	while (n) {
		size_t k = MIN(n, LAYER_BUFFER - d->len);

		memcpy(d->buf + d->len, p, k);
		d->len += k;
		p = (const char *)p + k;
		n -= k;
		if (d->len == LAYER_BUFFER && data_flush(d, false, err) < 0)
			return -1;
	}
	return 0;
}

int data_file(struct layer_data *d, struct tar_reader *t, uint64_t left, struct error **err)
{
	uint64_t hole;

	while (left) {
		ssize_t n = tar_read_run(t, d->buf + d->len, LAYER_BUFFER - d->len, &hole, err);

		if (n < 0)
			return -1;
		if (!n && !hole)
			return error_set(err, ERR_INTERNAL, "tar: a file is shorter than its size");
		d->len += (size_t)n;
		left -= (uint64_t)n + hole;
		if (d->len == LAYER_BUFFER && data_flush(d, false, err) < 0)
			return -1;
		if (hole && data_zeros(d, hole, err) < 0)
			return -1;
	}
	return 0;
}

int data_finish(struct layer_data *d, uint64_t *len, struct error **err)
{
	*len = d->off + d->len;
	if (data_flush(d, true, err) < 0)
		return -1;
	return ftruncate(d->fd, (off_t)*len) < 0 ? data_error(err, errno) : 0;
}

int data_sync(const struct layer_data *d, struct error **err)
{
	return fsync(d->fd) < 0 ? data_error(err, errno) : 0;
}

uint64_t data_end(const struct layer_data *d)
{
	return d->off + d->len;
}

int data_open(struct layer_data *d, int dirfd, const char *name, struct error **err)
{
	*d = (struct layer_data){
		.fd = openat(dirfd, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW,
			     0600),
	};
	if (d->fd < 0)
		return error_sys(err, errno, "unpack layer: create data");
	d->buf = xmalloc(LAYER_BUFFER);
	return 0;
}

void data_close(struct layer_data *d)
{
	free(STEAL(d->buf));
	base_close_fd(&d->fd);
}
