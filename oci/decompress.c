/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decompress.c - gzip, zstd or plain bytes behind one reader.
 *
 * The kind is told by the first bytes, not by a media type or a file name: registries and archive
 * writers disagree about those, and the digest of the result is checked against the image's
 * configuration anyway. Memory is bounded whatever the input: 64 KiB of input, zlib's 32 KiB window, or
 * a zstd window of at most 128 MiB.
 */
#include <zlib.h>
#include <zstd.h>

#include "oci/stream.h"

#define IN_SIZE        (64u << 10)
#define ZSTD_MAX_WLOG  27
#define ZSTD_SKIPPABLE 0x184D2A50u /* low nibble varies */

struct decompress {
	struct oci_reader src;
	enum compression kind;
	unsigned char in[IN_SIZE];
	size_t pos, len; /* unread part of in */
	bool eof;        /* src has ended */
	bool started;    /* inside a member or frame */
	bool padding;    /* only zeros may follow */
	z_stream z;
	ZSTD_DStream *zstd;
};

static ssize_t fd_read(void *arg, void *p, size_t n, struct error **err)
{
	struct fd_reader *r = arg;
	ssize_t got = RETRY_EINTR(read(r->fd, p, n));

	if (got < 0)
		return error_sys(err, errno, "read");
	r->done += (uint64_t)got;
	return got;
}

struct oci_reader fd_reader_of(struct fd_reader *r)
{
	return (struct oci_reader){.read = fd_read, .arg = r};
}

static int fill(struct decompress *d, struct error **err)
{
	ssize_t n;

	if (d->pos < d->len || d->eof)
		return 0;
	n = d->src.read(d->src.arg, d->in, sizeof(d->in), err);
	if (n < 0)
		return -1;
	d->eof = n == 0;
	d->pos = 0;
	d->len = (size_t)n;
	return 0;
}

static enum compression sniff(const unsigned char *p, size_t n)
{
	uint32_t magic;

	if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b)
		return COMPRESSION_GZIP;
	if (n < 4)
		return COMPRESSION_NONE;
	magic = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	if (magic == ZSTD_MAGICNUMBER || (magic & ~0xfu) == ZSTD_SKIPPABLE)
		return COMPRESSION_ZSTD;
	return COMPRESSION_NONE;
}

struct decompress *decompress_new(const struct oci_reader *src, struct error **err)
{
	struct decompress *d = xcalloc(1, sizeof(*d));

	d->src = *src;
	while (d->len < 4) { /* a pipe may hand out single bytes */
		ssize_t n = src->read(src->arg, d->in + d->len, sizeof(d->in) - d->len, err);

		if (n < 0) {
			free(d);
			return NULL;
		}
		if (n == 0) {
			d->eof = true;
			break;
		}
		d->len += (size_t)n;
	}
	d->kind = sniff(d->in, d->len);
	if (d->kind == COMPRESSION_GZIP && inflateInit2(&d->z, 15 + 16) != Z_OK)
		abort(); /* out of memory */
	if (d->kind == COMPRESSION_ZSTD) {
		d->zstd = ZSTD_createDStream();
		if (!d->zstd)
			abort();
		ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_MAX_WLOG);
	}
	return d;
}

enum compression decompress_kind(const struct decompress *d)
{
	return d->kind;
}

/* Between members: nothing more, padding, or another member. 1: go on decoding, 0: end. */
static int next_member(struct decompress *d, struct error **err)
{
	for (;;) {
		if (fill(d, err) < 0)
			return -1;
		if (d->pos == d->len)
			return 0;
		if (d->in[d->pos] == 0)
			d->padding = true;
		else if (d->padding)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "bytes behind the end of the compressed data");
		else
			return 1;
		d->pos++;
	}
}

static int step_gzip(struct decompress *d, unsigned char *p, size_t n, size_t *made,
		     struct error **err)
{
	int rc;

	d->z.next_in = d->in + d->pos;
	d->z.avail_in = (uInt)(d->len - d->pos);
	d->z.next_out = p;
	d->z.avail_out = (uInt)MIN(n, (size_t)1 << 30);
	rc = inflate(&d->z, Z_NO_FLUSH);
	d->pos = d->len - d->z.avail_in;
	*made = (size_t)(d->z.next_out - p);
	if (rc == Z_STREAM_END) {
		d->started = false;
		inflateReset2(&d->z, 15 + 16);
		return 0;
	}
	if (rc != Z_OK && rc != Z_BUF_ERROR)
		return error_set(err, ERR_INVALID_ARGUMENT, "gzip data is damaged: %s",
				 d->z.msg ? d->z.msg : "cannot be decoded");
	return 0;
}

static int step_zstd(struct decompress *d, unsigned char *p, size_t n, size_t *made,
		     struct error **err)
{
	ZSTD_inBuffer in = {d->in + d->pos, d->len - d->pos, 0};
	ZSTD_outBuffer out = {p, n, 0};
	size_t rc = ZSTD_decompressStream(d->zstd, &out, &in);

	d->pos += in.pos;
	*made = out.pos;
	if (ZSTD_isError(rc))
		return error_set(err, ERR_INVALID_ARGUMENT, "zstd data is damaged: %s",
				 ZSTD_getErrorName(rc));
	if (rc == 0)
		d->started = false;
	return 0;
}

static ssize_t decompress_read(void *arg, void *p, size_t n, struct error **err)
{
	struct decompress *d = arg;
	size_t made = 0;
	int more;

	if (n == 0)
		return 0;
	if (d->kind == COMPRESSION_NONE) {
		if (fill(d, err) < 0)
			return -1;
		made = MIN(n, d->len - d->pos);
		memcpy(p, d->in + d->pos, made);
		d->pos += made;
		return (ssize_t)made;
	}
	while (made == 0) {
		if (!d->started) {
			more = next_member(d, err);
			if (more <= 0)
				return more;
			d->started = true;
		}
		if (fill(d, err) < 0)
			return -1;
		/* With no input left a decoder may still hold output; without any, it was cut off. */
		if ((d->kind == COMPRESSION_GZIP ? step_gzip : step_zstd)(d, p, n, &made, err) < 0)
			return -1;
		if (made == 0 && d->started && d->eof && d->pos == d->len)
			return error_set(err, ERR_INVALID_ARGUMENT, "%s data ends too early",
					 d->kind == COMPRESSION_GZIP ? "gzip" : "zstd");
	}
	return (ssize_t)made;
}

struct oci_reader decompress_reader(struct decompress *d)
{
	return (struct oci_reader){.read = decompress_read, .arg = d};
}

void decompress_free(struct decompress *d)
{
	if (!d)
		return;
	if (d->kind == COMPRESSION_GZIP)
		inflateEnd(&d->z);
	ZSTD_freeDStream(d->zstd);
	free(d);
}
