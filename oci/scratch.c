/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.c - memory in an unnamed file, and how much of it is resident.
 *
 * How much one touch maps is the kernel's to decide (what lies around it, whole folios of the page cache), so it is asked rather than
 * guessed: /proc/self/statm has the process's file pages, and few other things change them while a walk runs.
 */
#include "oci/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include "core/path.h"

#define SMALL       (4u << 20) /* mapped in all: not worth a look */
#define REST_PLACES 32         /* between two looks */

struct area {
	void *p;
	size_t len;
	enum { AREA_HEAP, AREA_FILE, AREA_LENT } kind;
};

struct scratch {
	int dir, fd, statm; /* fd, statm: -1 when there is none */
	uint64_t size;      /* of the file */
	uint64_t mapped;    /* bytes that resting lets go */
	uint64_t base;      /* file pages of the process before ours */
	unsigned visited;
	struct area *areas;
	size_t n;
};

/* File pages of the process, in bytes; UINT64_MAX when nobody says. */
static uint64_t file_resident(const struct scratch *s)
{
	unsigned long long total, resident, shared;
	char text[128];
	ssize_t n = s->statm < 0 ? -1 : pread(s->statm, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return UINT64_MAX;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu %llu", &total, &resident, &shared) != 3)
		return UINT64_MAX;
	return shared * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct scratch *scratch_new(int dirfd)
{
	struct scratch *s = xcalloc(1, sizeof(*s));

	s->dir = dirfd;
	s->fd = -1;
	s->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	s->base = file_resident(s);
	return s;
}

void scratch_free(struct scratch *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		if (s->areas[i].kind == AREA_FILE)
			munmap(s->areas[i].p, s->areas[i].len);
		else if (s->areas[i].kind == AREA_HEAP)
			free(s->areas[i].p);
	}
	free(s->areas);
	base_close_fd(&s->fd);
	base_close_fd(&s->statm);
	free(s);
}

static void add_area(struct scratch *s, struct area a)
{
	s->areas = xreallocarray(s->areas, s->n + 1, sizeof(*s->areas));
	s->areas[s->n++] = a;
	if (a.kind != AREA_HEAP)
		s->mapped += a.len;
}

bool scratch_reserve(struct scratch *s, size_t len, uint64_t *at)
{
	len = ALIGN_UP(len, 4096);
	if (s->fd < 0 && s->dir >= 0)
		s->fd = path_unnamed(s->dir, NULL);
	if (s->fd < 0 || posix_fallocate(s->fd, (off_t)s->size, (off_t)len) != 0)
		return false;
	*at = s->size;
	s->size += len;
	return true;
}

/* What a mapping's SIGBUS would do. */
static void must_be_whole(ssize_t done, size_t n)
{
	if (done != (ssize_t)n)
		abort();
}

void scratch_read(const struct scratch *s, uint64_t at, void *p, size_t n)
{
	must_be_whole(pread(s->fd, p, n, (off_t)at), n);
}

void scratch_write(const struct scratch *s, uint64_t at, const void *p, size_t n)
{
	must_be_whole(pwrite(s->fd, p, n, (off_t)at), n);
}

/* NULL where that cannot be. */
static void *map_more(struct scratch *s, size_t len)
{
	uint64_t at;
	void *p;

	if (!scratch_reserve(s, len, &at))
		return NULL;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, (off_t)at);
	if (p == MAP_FAILED)
		return NULL;
	/* One touch should map little: see above. */
	madvise(p, len, MADV_NOHUGEPAGE);
	madvise(p, len, MADV_RANDOM);
	return p;
}

void *scratch_alloc(struct scratch *s, size_t len)
{
	struct area a = {.len = ALIGN_UP(len, 4096), .kind = AREA_FILE};

	a.p = map_more(s, a.len);
	if (!a.p) {
		a.kind = AREA_HEAP;
		a.p = xcalloc(1, a.len);
	}
	add_area(s, a);
	return a.p;
}

void scratch_lend(struct scratch *s, const void *map, size_t len)
{
	add_area(s, (struct area){.p = (void *)map, .len = len, .kind = AREA_LENT});
}

void scratch_rest(struct scratch *s, unsigned places)
{
	s->visited += places;
	if (s->visited < REST_PLACES || s->mapped < SMALL)
		return;
	s->visited = 0;
	uint64_t now = file_resident(s);

	if (now < UINT64_MAX && now < s->base + SCRATCH_RESIDENT)
		return;
	/* Mappings of files lose nothing by this. */
	for (size_t i = 0; i < s->n; i++)
		if (s->areas[i].kind != AREA_HEAP)
			madvise(s->areas[i].p, s->areas[i].len, MADV_DONTNEED);
}
