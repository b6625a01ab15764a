/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decompress.c - gzip, zstd, xz or plain bytes behind one reader.
 *
 * The kind is told by the first bytes, not by a media type or a file name: registries and archive
 * writers disagree about those, and the digest of the result is checked against the image's
 * configuration anyway. Memory is bounded whatever the input: 64 KiB of input, igzip's 85 KiB of state, or
 * the zstd window that the caller allows. xz, which no layer is in, only for who asks.
 */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_getFrameHeader() */
#include <igzip_lib.h>
#include <lzma.h>
#include <zstd.h>

#include "oci/stream.h"

#define IN_SIZE        (64u << 10)
#define XZ_MEMORY      (40ull << 20) /* all of its levels but 9, which wants 65 MiB */
#define ZSTD_SKIPPABLE 0x184D2A50u   /* low nibble varies */

struct decompress {
	struct oci_reader src;
	enum compression kind;
	unsigned char in[IN_SIZE];
	size_t pos, len; /* unread part of in */
	bool eof;        /* src has ended */
	bool started;    /* inside a member or frame */
	bool padding;    /* only zeros may follow */
	struct inflate_state *z;
	ZSTD_DStream *zstd;
	lzma_stream xz;
	uint64_t window; /* bytes that were taken */
	int (*take)(void *arg, uint64_t bytes, struct error **err);
	void *arg;
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

static void start_gzip(struct inflate_state *z)
{
	isal_inflate_init(z);
	z->crc_flag = ISAL_GZIP; /* header and checksum are its to look at */
}

static int default_window(void *arg, uint64_t bytes, struct error **err)
{
	if (bytes > WINDOW_SHARED)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "its zstd window is %llu MiB; at most %u MiB are supported",
				 (unsigned long long)bytes >> 20, (unsigned)(WINDOW_SHARED >> 20));
	return 0;
}

struct decompress *decompress_new(const struct oci_reader *src, struct error **err)
{
	struct decompress *d = xcalloc(1, sizeof(*d));

	d->src = *src;
	d->take = default_window;
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
	if (d->kind == COMPRESSION_GZIP) {
		d->z = xmalloc(sizeof(*d->z));
		start_gzip(d->z);
	}
	if (d->kind == COMPRESSION_ZSTD) {
		d->zstd = ZSTD_createDStream();
		if (!d->zstd)
			abort();
		/* check_window() judges each frame's, with a better message. */
		ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, WINDOW_MAX_LOG);
	}
	return d;
}

void decompress_allow_xz(struct decompress *d)
{
	static const unsigned char magic[] = {0xfd, '7', 'z', 'X'};

	if (d->kind == COMPRESSION_NONE && d->len - d->pos >= sizeof(magic) &&
	    !memcmp(d->in + d->pos, magic, sizeof(magic)))
		d->kind = COMPRESSION_XZ;
}

void decompress_windows(struct decompress *d, int (*take)(void *, uint64_t, struct error **),
			void *arg)
{
	d->take = take;
	d->arg = arg;
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
	struct inflate_state *z = d->z;
	int rc;

	z->next_in = d->in + d->pos;
	z->avail_in = (uint32_t)(d->len - d->pos);
	z->next_out = p;
	z->avail_out = (uint32_t)MIN(n, (size_t)1 << 30);
	rc = isal_inflate(z);
	d->pos = d->len - z->avail_in;
	*made = (size_t)(z->next_out - p);
	if (rc != ISAL_DECOMP_OK)
		return error_set(err, ERR_INVALID_ARGUMENT, "gzip data is damaged: %s",
				 rc == ISAL_INCORRECT_CHECKSUM ? "wrong checksum"
							       : "cannot be decoded");
	if (z->block_state == ISAL_BLOCK_FINISH) {
		d->started = false;
		start_gzip(z);
	}
	return 0;
}

/* Has the next n bytes in the buffer, or all there are. */
static int gather(struct decompress *d, size_t n, struct error **err)
{
	if (d->len - d->pos >= n || d->eof)
		return 0;
	memmove(d->in, d->in + d->pos, d->len - d->pos);
	d->len -= d->pos;
	d->pos = 0;
	while (d->len < n && !d->eof) {
		ssize_t got = d->src.read(d->src.arg, d->in + d->len, sizeof(d->in) - d->len, err);

		if (got < 0)
			return -1;
		d->eof = got == 0;
		d->len += (size_t)got;
	}
	return 0;
}

/* At the beginning of a frame. One that is cut off is the decoder's to complain about. */
static int check_window(struct decompress *d, struct error **err)
{
	ZSTD_frameHeader h;

	if (gather(d, ZSTD_FRAMEHEADERSIZE_MAX, err) < 0)
		return -1;
	size_t rc = ZSTD_getFrameHeader(&h, d->in + d->pos, d->len - d->pos);

	/* Older formats too, which the library would decode with windows of their own. */
	if (ZSTD_isError(rc))
		return error_set(err, ERR_INVALID_ARGUMENT, "zstd data is damaged: %s",
				 ZSTD_getErrorName(rc));
	if (rc != 0 || h.frameType != ZSTD_frame || h.windowSize <= d->window)
		return 0;
	if (d->take(d->arg, h.windowSize, err) < 0)
		return -1;
	d->window = h.windowSize;
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

static int start_xz(struct decompress *d, struct error **err)
{
	if (lzma_stream_decoder(&d->xz, XZ_MEMORY, 0) != LZMA_OK)
		return error_set(err, ERR_INTERNAL, "xz: cannot start");
	return 0;
}

static int step_xz(struct decompress *d, unsigned char *p, size_t n, size_t *made,
		   struct error **err)
{
	lzma_stream *x = &d->xz;
	lzma_ret rc;

	x->next_in = d->in + d->pos;
	x->avail_in = d->len - d->pos;
	x->next_out = p;
	x->avail_out = n;
	rc = lzma_code(x, LZMA_RUN);
	d->pos = d->len - x->avail_in;
	*made = n - x->avail_out;
	if (rc == LZMA_STREAM_END)
		d->started = false;
	else if (rc == LZMA_MEMLIMIT_ERROR)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "its xz data needs more than %u MiB to unpack",
				 (unsigned)(XZ_MEMORY >> 20));
	else if (rc != LZMA_OK && rc != LZMA_BUF_ERROR) /* the latter: no input left */
		return error_set(err, ERR_INVALID_ARGUMENT, "xz data is damaged");
	return 0;
}

static const struct {
	const char *name;
	int (*start)(struct decompress *d, struct error **err); /* of a member; may be NULL */
	int (*step)(struct decompress *d, unsigned char *p, size_t n, size_t *made,
		    struct error **err);
} decoders[] = {
	[COMPRESSION_GZIP] = {"gzip", NULL, step_gzip},
	[COMPRESSION_ZSTD] = {"zstd", check_window, step_zstd},
	[COMPRESSION_XZ] = {"xz", start_xz, step_xz},
};

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
			if (decoders[d->kind].start && decoders[d->kind].start(d, err) < 0)
				return -1;
		}
		if (fill(d, err) < 0)
			return -1;
		/* With no input left a decoder may still hold output; without any, it was cut off. */
		if (decoders[d->kind].step(d, p, n, &made, err) < 0)
			return -1;
		if (made == 0 && d->started && d->eof && d->pos == d->len)
			return error_set(err, ERR_INVALID_ARGUMENT, "%s data ends too early",
					 decoders[d->kind].name);
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
	free(d->z);
	ZSTD_freeDStream(d->zstd);
	lzma_end(&d->xz);
	d->take(d->arg, 0, NULL);
	free(d);
}
