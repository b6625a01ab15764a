/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - bytes on their way: SHA-256, readers over descriptors, decompression. One thread each. */
#ifndef OCI_STREAM_H
#define OCI_STREAM_H

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

/* ---- decompress.c ---- */
/* fd_reader: reads a borrowed descriptor from its current offset; `done` counts bytes. */
struct fd_reader {
	int fd;
	uint64_t done;
};
struct oci_reader fd_reader_of(struct fd_reader *r);

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD };

/* decompress_new: tells gzip (any number of members), zstd (any number of frames, windows up to 128 MiB)
 * and plain bytes apart by their first four bytes. src must outlive it. Truncated or damaged input and
 * bytes behind the end other than zeros are read errors. */
struct decompress;
struct decompress *decompress_new(const struct oci_reader *src, struct error **err);
enum compression decompress_kind(const struct decompress *d);
struct oci_reader decompress_reader(struct decompress *d);
void decompress_free(struct decompress *d);
static inline void decompress_freep(struct decompress **d)
{
	decompress_free(*d);
}

#endif
