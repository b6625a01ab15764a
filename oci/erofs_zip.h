/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erofs_zip.h - how EROFS says where a compressed file's blocks are (Linux fs/erofs/erofs_fs.h, the "full" indexes).
 *
 * DOC: The index
 * Eight bytes for each 4 KiB of the file, a logical cluster. A run of them that was compressed together begins with a HEAD, which has
 * the address of its first block; the next one says how many blocks, and all but the first how far the run's ends are. PLAIN is one
 * cluster that is stored as it is. What the compressor made ends where its last block does, behind zeros.
 * Linux 5.13 and later read this.
 */
#ifndef OCI_EROFS_ZIP_H
#define OCI_EROFS_ZIP_H

#include <stddef.h>
#include <stdint.h>

#define ZIP_CLUSTER 4096u /* also the block */
#define ZIP_RUN \
	16u /* clusters compressed together, at most; of a file all runs but the last have so many */

#define ZIP_PLAIN   0u
#define ZIP_HEAD    1u
#define ZIP_NONHEAD 2u
#define ZIP_TYPE    3u /* mask, of advise */
#define ZIP_BLOCKS \
	0x800u /* in the first NONHEAD's delta[0]: the rest of it is the run's blocks, and it is 1 from the HEAD */

struct zip_index {
	uint16_t advise, offset; /* offset: 0, runs begin at clusters */
	union {
		uint32_t blkaddr;
		uint16_t delta[2]; /* clusters back to the HEAD, and on to the next one */
	};
};
_Static_assert(sizeof(struct zip_index) == 8, "EROFS full index");

static inline uint64_t zip_clusters(uint64_t size)
{
	return size / ZIP_CLUSTER + (size % ZIP_CLUSTER != 0);
}

#endif
