/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - bytes on their way: SHA-256, readers over descriptors, decompression, hand-over between threads. What is not
 * said to be shared belongs to one thread. */
#ifndef OCI_STREAM_H
#define OCI_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "oci/oci.h"

#define OCI_DIGEST_LEN 71 /* "sha256:" and 64 digits */
#define OCI_HEX_LEN    64

/* ---- digest.c ---- */
struct digest;
struct digest *digest_new(void);
void digest_reset(struct digest *d);
void digest_update(struct digest *d, const void *p, size_t n);
/* digest_final: writes "sha256:<hex>"; only digest_reset() or digest_free() may follow. */
void digest_final(struct digest *d, char out[OCI_DIGEST_LEN + 1]);
void digest_free(struct digest *d);
static inline void digest_freep(struct digest **d)
{
	digest_free(*d);
}
#define CLEANUP_DIGEST CLEANUP(digest_freep)
void digest_of(const void *p, size_t n, char out[OCI_DIGEST_LEN + 1]);
/* digest_hex: the hex part of a digest that oci_digest_check() took. */
static inline const char *digest_hex(const char *digest)
{
	return digest + sizeof("sha256:") - 1;
}
/* digest_hex_check: exactly 64 lower-case hex digits. */
bool digest_hex_check(const char *hex);

/* ---- feed.c: a file that is read while it is written, by one thread each ---- */
struct feed {
	int fd;                /* borrowed from the writer */
	atomic_bool abandoned; /* by the reader: the writer should give up */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	uint64_t size;     /* bytes that are there */
	unsigned restarts; /* how often the writer began again */
	enum { FEED_GROWS, FEED_WHOLE, FEED_LOST } state;
};
void feed_init(struct feed *f, int fd);
void feed_destroy(struct feed *f);
/* feed_grow: the writer has got to `size`; less than before is a new beginning. */
void feed_grow(struct feed *f, uint64_t size);
/* feed_end: what is there is all and right, or it never will be; the first call counts. */
void feed_end(struct feed *f, bool whole);
unsigned feed_restarts(struct feed *f);
bool feed_lost(struct feed *f);
/* feed_wait_end: until all of it is there and right; -1 when it never will be. */
int feed_wait_end(struct feed *f, struct error **err);
struct feed_reader {
	struct feed *feed;
	unsigned restarts;
	atomic_uint_fast64_t done; /* bytes read; any thread may look */
};
/* feed_reader_of: reads from the beginning. Waits for the writer; fails when that gave up or began again. */
struct oci_reader feed_reader_of(struct feed_reader *r, struct feed *f);

/* ---- ahead.c: a source on a thread of its own ---- */
struct ahead;
/* ahead_new: starts to read src, which must outlive it, up to 512 KiB ahead. */
struct ahead *ahead_new(const struct oci_reader *src);
struct oci_reader ahead_reader(struct ahead *a);
/* ahead_free: waits for the source to return from its read. NULL is fine. */
void ahead_free(struct ahead *a);
static inline void ahead_freep(struct ahead **a)
{
	ahead_free(*a);
}

/* ---- decompress.c ---- */
/* fd_reader: reads a borrowed descriptor from its current offset; `done` counts bytes. */
struct fd_reader {
	int fd;
	uint64_t done;
};
struct oci_reader fd_reader_of(struct fd_reader *r);

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD, COMPRESSION_XZ };

/* decompress_new: tells gzip (any number of members), zstd (any number of frames)
 * and plain bytes apart by their first four bytes. src must outlive it. Truncated or damaged input and
 * bytes behind the end other than zeros are read errors. */
/* zstd windows: up to this (all levels but "ultra"; RFC 8878 wants every decoder to take it) nobody has to be asked … */
#define WINDOW_SHARED (8ull << 20)
/* … and larger than this are refused whoever is asked. */
#define WINDOW_MAX     (1ull << WINDOW_MAX_LOG)
#define WINDOW_MAX_LOG 25
struct decompress;
struct decompress *decompress_new(const struct oci_reader *src, struct error **err);
/* decompress_windows: take(arg, n) is called, before any memory is, when zstd needs a window of n bytes, more than before, and
 * with 0 at the end; it may wait or refuse. Without: windows up to 8 MiB. Before the first read. */
void decompress_windows(struct decompress *d, int (*take)(void *, uint64_t, struct error **),
			void *arg);
/* decompress_allow_xz: xz too (any number of streams; at most 40 MiB of memory). Before the first read. */
void decompress_allow_xz(struct decompress *d);
enum compression decompress_kind(const struct decompress *d);
struct oci_reader decompress_reader(struct decompress *d);
void decompress_free(struct decompress *d);
static inline void decompress_freep(struct decompress **d)
{
	decompress_free(*d);
}

#endif
