/* SPDX-License-Identifier: Apache-2.0 */
/* tar_int.h - between tar.c (blocks and members) and tar_pax.c (the records of extended headers).
 */
#ifndef OCI_TAR_INT_H
#define OCI_TAR_INT_H

#include "oci/tar.h"

#include <limits.h>

/* What the records of one or several pax headers said. Zero-initialise. */
struct tar_pax {
	char *path, *linkpath, *sparse_name;
	bool has_size, has_uid, has_gid, has_mtime, has_sparse;
	uint64_t size, uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	struct tar_xattr *xattrs;
	size_t nxattrs, xattr_bytes;
	unsigned sparse_major, sparse_minor;
	uint64_t sparse_size;
	uint64_t sparse_offset; /* format 0.0: an offset that waits for its length */
	struct tar_sparse *sparse;
	size_t nsparse, cap_sparse;
};

/* tar_pax_parse: adds the records in s[0..len). A global header may only set owners, times and
 * attributes. */
int tar_pax_parse(struct tar_pax *p, const char *s, size_t len, bool global, struct error **err);
/* tar_pax_segment: appends a data run to the sparse map; empty ones are dropped. */
int tar_pax_segment(struct tar_pax *p, uint64_t offset, uint64_t len, struct error **err);
void tar_pax_clear(struct tar_pax *p);

#endif
