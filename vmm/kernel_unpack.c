/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_unpack.c - the four compressions that kernels and modules come in, into a bounded buffer.
 *
 * The input is whatever a user calls a kernel. The output grows as data comes, never by a size the
 * input claims, and stops at the caller's limit; the decoders' own memory is limited too.
 */
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <igzip_lib.h>
#include <zstd.h>

#include "vmm/kernel_priv.h"

#define CHUNK            (1u << 20)
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20) /* a legacy block never unpacks to more */
#define XZ_MAX_MEMORY    (256u << 20)
#define ZSTD_MAX_WINDOW  27 /* what `zstd -22 --ultra` uses, 128 MiB */

static const struct {
	enum unpack_kind kind;
	const char *name;
	uint8_t magic[6];
	uint8_t len;
} kinds[] = {
	{UNPACK_GZIP, "gzip", {0x1f, 0x8b}, 2},
	{UNPACK_ZSTD, "zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4},
	{UNPACK_LZ4, "lz4", {0x02, 0x21, 0x4c, 0x18}, 4},
	{UNPACK_XZ, "xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6},
};

enum unpack_kind unpack_kind_of(const void *p, size_t n)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (n >= kinds[i].len && !memcmp(p, kinds[i].magic, kinds[i].len))
			return kinds[i].kind;
	return UNPACK_NONE;
}

const char *unpack_kind_name(enum unpack_kind k)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == k)
			return kinds[i].name;
	return "none";
}

/* Room for the next piece of output: at most CHUNK and never beyond the limit by more than one
 * byte, which is how running over it is noticed. */
static size_t room(struct buf *out, size_t start, size_t max)
{
	size_t used = out->len - start;
	size_t want = MIN((size_t)CHUNK, max - used + 1);

	buf_reserve(out, want);
	return want;
}

static int too_big(size_t max, struct error **err)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "unpacks to more than %zu MiB", max >> 20);
}

static int unpack_gzip(const uint8_t *p, size_t n, size_t max, struct buf *out, struct error **err)
{
	CLEANUP_FREE struct inflate_state *z = xmalloc(sizeof(*z));
	size_t start = out->len, got;
	int r;

	isal_inflate_init(z);
	z->crc_flag = ISAL_GZIP;
	z->next_in = (uint8_t *)p;
	z->avail_in = (uint32_t)n;
	do {
		size_t want = room(out, start, max);

		z->next_out = (uint8_t *)out->data + out->len;
		z->avail_out = (uint32_t)want;
		r = isal_inflate(z);
		got = want - z->avail_out;
		out->len += got;
	} while (r == ISAL_DECOMP_OK && z->block_state != ISAL_BLOCK_FINISH && got &&
		 out->len - start <= max);
	if (out->len - start > max)
		return too_big(max, err);
	if (r != ISAL_DECOMP_OK || z->block_state != ISAL_BLOCK_FINISH)
		return error_set(err, ERR_INVALID_ARGUMENT, "gzip: damaged or truncated data");
	return 0;
}

static int unpack_zstd(const uint8_t *p, size_t n, size_t max, struct buf *out, struct error **err)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = {.src = p, .size = n};
	size_t start = out->len, r = 1, before;

	if (!d)
		return error_set(err, ERR_INTERNAL, "zstd: out of memory");
	ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_MAX_WINDOW);
	do {
		size_t want = room(out, start, max);
		ZSTD_outBuffer o = {.dst = out->data + out->len, .size = want};

		before = in.pos;
		r = ZSTD_decompressStream(d, &o, &in);
		out->len += o.pos;
		if (!ZSTD_isError(r) && r != 0 && !o.pos && in.pos == before)
			break; /* wants more input than there is */
	} while (!ZSTD_isError(r) && r != 0 && out->len - start <= max);
	ZSTD_freeDCtx(d);
	if (out->len - start > max)
		return too_big(max, err);
	if (ZSTD_isError(r))
		return error_set(err, ERR_INVALID_ARGUMENT, "zstd: %s", ZSTD_getErrorName(r));
	return r ? error_set(err, ERR_INVALID_ARGUMENT, "zstd: truncated data") : 0;
}

static int unpack_xz(const uint8_t *p, size_t n, size_t max, struct buf *out, struct error **err)
{
	lzma_stream s = LZMA_STREAM_INIT;
	size_t start = out->len;
	lzma_ret r;

	/* Kernel modules are packed with CRC32 and kernels with the x86 filter: the common decoder
	 * has both. */
	if (lzma_stream_decoder(&s, XZ_MAX_MEMORY, 0) != LZMA_OK)
		return error_set(err, ERR_INTERNAL, "xz: cannot start");
	s.next_in = p;
	s.avail_in = n;
	do {
		size_t want = room(out, start, max);

		s.next_out = (uint8_t *)out->data + out->len;
		s.avail_out = want;
		r = lzma_code(&s, s.avail_in ? LZMA_RUN : LZMA_FINISH);
		out->len += want - s.avail_out;
	} while (r == LZMA_OK && out->len - start <= max);
	lzma_end(&s);
	if (out->len - start > max)
		return too_big(max, err);
	if (r == LZMA_MEMLIMIT_ERROR)
		return error_set(err, ERR_INVALID_ARGUMENT, "xz: needs more than %u MiB to unpack",
				 XZ_MAX_MEMORY >> 20);
	if (r != LZMA_STREAM_END)
		return error_set(err, ERR_INVALID_ARGUMENT, "xz: damaged or truncated data");
	return 0;
}

static uint32_t le32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The legacy frame has no end mark: blocks, each led by its packed size, until the data ends. What
 * a kernel's build appends is four bytes, too few for a block. */
static int unpack_lz4(const uint8_t *p, size_t n, size_t max, struct buf *out, struct error **err)
{
	size_t start = out->len, pos = 4;
	bool any = false;

	while (n - pos > 4) {
		uint32_t size = le32(p + pos);
		size_t cap;
		int got;

		pos += 4;
		if (size == LZ4_LEGACY_MAGIC)
			continue; /* concatenated frames */
		if (!size || size > n - pos || size > (uint32_t)LZ4_compressBound(LZ4_LEGACY_BLOCK))
			return error_set(err, ERR_INVALID_ARGUMENT, "lz4: bad block size %u", size);
		cap = MIN((size_t)LZ4_LEGACY_BLOCK, max - (out->len - start));
		buf_reserve(out, cap);
		got = LZ4_decompress_safe((const char *)p + pos, out->data + out->len, (int)size,
					  (int)cap);
		if (got < 0)
			return cap < LZ4_LEGACY_BLOCK
				       ? too_big(max, err)
				       : error_set(err, ERR_INVALID_ARGUMENT, "lz4: damaged data");
		out->len += (size_t)got;
		pos += size;
		any = true;
	}
	return any ? 0 : error_set(err, ERR_INVALID_ARGUMENT, "lz4: truncated data");
}

int unpack(enum unpack_kind k, const void *p, size_t n, size_t max, struct buf *out,
	   struct error **err)
{
	if (n > UINT_MAX || max > INT_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "too large");
	switch (k) {
	case UNPACK_GZIP:
		return unpack_gzip(p, n, max, out, err);
	case UNPACK_ZSTD:
		return unpack_zstd(p, n, max, out, err);
	case UNPACK_LZ4:
		return n < 4 ? error_set(err, ERR_INVALID_ARGUMENT, "lz4: truncated data")
			     : unpack_lz4(p, n, max, out, err);
	case UNPACK_XZ:
		return unpack_xz(p, n, max, out, err);
	case UNPACK_NONE:
		break;
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "unknown compression");
}
