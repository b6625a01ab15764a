/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.h - memory that lies in an unnamed file: what is not being looked at, the kernel can write out and take back.
 *
 * DOC: Residence
 * A mapped page counts as ours as long as it is mapped. So whoever walks over a lot of scratch says so (scratch_rest()); when too
 * much is resident all of it is let go, and what is touched next comes back from the page cache. Nothing is lost by that.
 */
#ifndef OCI_SCRATCH_H
#define OCI_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a walk may have resident of its scratch and of what was lent, about. */
#define SCRATCH_RESIDENT (8u << 20)

struct scratch;
/* scratch_new: the file is made below dirfd (borrowed) with the first allocation; -1, or a file system that cannot: plain memory. */
struct scratch *scratch_new(int dirfd);
/* scratch_free: and all that came from it. NULL is fine. */
void scratch_free(struct scratch *s);
/* scratch_alloc: zeros, never NULL. Its blocks are reserved, so that no write to it can fail. */
void *scratch_alloc(struct scratch *s, size_t len);
/*
 * scratch_reserve: len bytes of zeros in the file that are not mapped, from *at on; false where there is no file. For what is touched in
 * no order at all: a few bytes by a system call cost less there than a page that is mapped, made dirty and let go for each.
 * scratch_read, scratch_write: n bytes of those. Their blocks are reserved; a disk that fails ends the process, as a mapping would.
 */
bool scratch_reserve(struct scratch *s, size_t len, uint64_t *at);
void scratch_read(const struct scratch *s, uint64_t at, void *p, size_t n);
void scratch_write(const struct scratch *s, uint64_t at, const void *p, size_t n);
/* scratch_lend: a mapping of a file that is not written, the caller's, is let go with the rest. It must outlive s or the last rest. */
void scratch_lend(struct scratch *s, const void *map, size_t len);
/* scratch_rest: call often; places: a guess at how many distant places of scratch were touched since; SCRATCH_LENT: one of what was
 * lent, out of order. */
#define SCRATCH_LENT 32
void scratch_rest(struct scratch *s, unsigned places);

#endif
