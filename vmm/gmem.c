/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gmem.c - guest memory in a memfd.
 *
 * The file holds the low region and then the high one, without the hole; it is mapped whole, so
 * that another view of the same file (the table a vhost-user front end sends) can be translated by
 * file offset alone.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/memfd.h>

#include "core/filter.h"
#include "vmm/gmem.h"

#define PAGE  4096ull
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

FILTER_RULES = {
	FILTER_ALLOW_ARG(FILTER_MAIN_KVM, fallocate, 1, ~0u, PUNCH),
	FILTER_ALLOW_ARG(FILTER_MAIN_KVM, madvise, 2, ~0u, MADV_DONTNEED),
};

int gmem_new(uint64_t bytes, struct gmem *m, struct error **err)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t low = MIN(bytes, GMEM_LOW_END);
	uint8_t *p;

	*m = (struct gmem){.fd = -1};
	if (!bytes || bytes & 4095 || bytes > (1ull << 46))
		return error_set(err, ERR_INVALID_ARGUMENT, "guest memory of %llu bytes",
				 (unsigned long long)bytes);
	fd = (int)syscall(SYS_memfd_create, "guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return error_sys(err, errno, "memfd for the guest's memory");
	if (ftruncate(fd, (off_t)bytes) < 0)
		return error_sys(err, errno, "size the guest's memory to %llu bytes",
				 (unsigned long long)bytes);
	/* QEMU has it too: were it cut short, whoever touches it here would end by SIGBUS. Holes can still be made. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_sys(err, errno, "seal the guest's memory");
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return error_sys(err, errno, "map the guest's memory");
	/* Guest memory in a core dump would be both huge and somebody's secrets. */
	(void)madvise(p, bytes, MADV_DONTDUMP);
	/* Where the host's shmem_enabled is "advise" or more: a guest's first touch of 4 KiB is what most of its start's exits are. */
	(void)madvise(p, bytes, MADV_HUGEPAGE);
	m->fd = steal_fd(&fd);
	m->nregions = 1;
	m->regions[0] = (struct gmem_region){.gpa = 0, .size = low, .fd_off = 0, .hva = p};
	if (bytes > low) {
		m->nregions = 2;
		m->regions[1] = (struct gmem_region){.gpa = GMEM_HIGH_START,
						     .size = bytes - low,
						     .fd_off = low,
						     .hva = p + low};
	}
	return 0;
}

uint64_t gmem_bytes(const struct gmem *m)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < m->nregions; i++)
		sum += m->regions[i].size;
	return sum;
}

void gmem_free(struct gmem *m)
{
	if (m->nregions)
		munmap(m->regions[0].hva, gmem_bytes(m));
	if (m->fd > 0)
		close(m->fd);
	*m = (struct gmem){.fd = -1};
}

void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	unsigned i;

	if (!len)
		return NULL;
	for (i = 0; i < m->nregions; i++) {
		const struct gmem_region *r = &m->regions[i];
		uint64_t off = gpa - r->gpa;

		/* gpa below the region wraps off to a huge number, which the first test refuses. */
		if (gpa >= r->gpa && off < r->size && len <= r->size - off)
			return r->hva + off;
	}
	return NULL;
}

/* The hole takes the pages from every mapping there is, QEMU's too. Those of the kernel's file that the guest wrote to are
 * ours alone: private copies, which the hole does not reach. */
void gmem_discard_at(const struct gmem *m, void *p, uint64_t len)
{
	uint8_t *base = m->regions[0].hva;
	uint64_t off = (uint64_t)((uint8_t *)p - base), from = ALIGN_UP(off, PAGE),
		 to = ALIGN_DOWN(off + len, PAGE);

	if (from >= to)
		return;
	/* Either may fail: the guest's memory is then as large as it was. */
	(void)fallocate(m->fd, PUNCH, (off_t)from, (off_t)(to - from));
	(void)madvise(base + from, to - from, MADV_DONTNEED);
}

void gmem_discard(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	void *p = gmem_ptr(m, gpa, len);

	if (p)
		gmem_discard_at(m, p, len);
}

int gmem_write(const struct gmem *m, uint64_t gpa, const void *p, uint64_t len)
{
	void *dst = gmem_ptr(m, gpa, len);

	if (!dst)
		return len ? -1 : 0;
	memcpy(dst, p, len);
	return 0;
}

int gmem_read(const struct gmem *m, uint64_t gpa, void *p, uint64_t len)
{
	const void *src = gmem_ptr(m, gpa, len);

	if (!src)
		return len ? -1 : 0;
	memcpy(p, src, len);
	__asm__ volatile("" ::
				 : "memory"); /* the copy is made once; nothing after this reads the
						 source again */
	return 0;
}
