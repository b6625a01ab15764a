/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gmem.h - guest memory: one memfd, mapped once, shown to the guest as up to eight regions.
 *
 * The guest's addresses are hostile numbers: nothing dereferences one but through gmem_ptr(). The
 * mapping lives as long as the struct, so a pointer stays good until gmem_free(); what it points at
 * may change under the reader at any time (other vCPUs run), which is why callers copy first and
 * validate the copy.
 */
#ifndef VMM_GMEM_H
#define VMM_GMEM_H

#include "core/error.h"

#define GMEM_MAX_REGIONS 8
#define GMEM_LOW_END     0xC0000000ull  /* RAM below 4 GiB ends here; above it: MMIO and firmware */
#define GMEM_HIGH_START  0x100000000ull /* the rest continues at 4 GiB */

struct gmem {
	int fd;            /* memfd, owned; -1 when not made by gmem_new() */
	unsigned nregions; /* used entries of regions, ascending by gpa */
	struct gmem_region {
		uint64_t gpa, size;
		uint64_t fd_off; /* where in fd the region starts */
		uint8_t *hva;    /* where it is mapped here */
	} regions[GMEM_MAX_REGIONS];
};

/* gmem_new: bytes of zeroed RAM (a multiple of the page size): a low region up to GMEM_LOW_END and
 * the rest from GMEM_HIGH_START. The whole memfd is one contiguous mapping (regions[0].hva),
 * MAP_SHARED | MAP_NORESERVE. */
int gmem_new(uint64_t bytes, struct gmem *m, struct error **err);
void gmem_free(struct gmem *m); /* of a zeroed or failed one too (fd <= 0 means none) */

/* gmem_ptr: NULL unless [gpa, gpa+len) lies wholly inside one region. len 0 gives NULL. Any thread.
 */
void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len);
/* gmem_write, gmem_read: copies inside one region; -1 when the range is not. Any thread. */
int gmem_write(const struct gmem *m, uint64_t gpa, const void *p, uint64_t len);
int gmem_read(const struct gmem *m, uint64_t gpa, void *p, uint64_t len);
/* gmem_discard: gives the host back what whole pages lie in the range; they read as zeroes afterwards, or as the file
 * mapped over them (boot_elf.c). gmem_discard_at: the same by a pointer that gmem_ptr() gave. Loop's thread; of memory
 * made by gmem_new(). */
void gmem_discard(const struct gmem *m, uint64_t gpa, uint64_t len);
void gmem_discard_at(const struct gmem *m, void *p, uint64_t len);
/* gmem_bytes: sum of the regions. */
uint64_t gmem_bytes(const struct gmem *m);

#endif
