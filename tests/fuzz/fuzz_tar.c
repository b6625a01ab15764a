// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_tar.c - layer archives. Hostile: headers, pax records, GNU long names, numbers in octal and base-256, sparse
 * maps, the order of it all, and the compression around it. The reader gets its bytes in pieces of odd sizes. What a
 * member says must be within tar.h's bounds, and a file must give exactly the bytes it promised.
 */
#include "oci/stream.h"
#include "oci/tar.h"
#include "tests/fuzz/fuzz.h"

#define TOTAL_MAX (8ull << 20)

struct source {
	const uint8_t *p;
	size_t n, piece;
};

static ssize_t pieces(void *arg, void *p, size_t n, struct error **err)
{
	struct source *s = arg;

	n = MIN(n, MIN(s->piece, s->n));
	memcpy(p, s->p, n);
	s->p += n;
	s->n -= n;
	return (ssize_t)n;
}

static void check(const struct tar_entry *e)
{
	uint64_t at = 0;
	size_t i;

	FUZZ_CHECK(strlen(e->path) <= TAR_MAX_PATH && strlen(e->linkname) <= TAR_MAX_PATH);
	FUZZ_CHECK(e->mode <= 07777 && e->nxattrs <= TAR_MAX_XATTRS && e->mtime_nsec < 1000000000);
	FUZZ_CHECK(e->type == TAR_FILE || !e->size);
	for (i = 0; i < e->nxattrs; i++)
		FUZZ_CHECK(e->xattrs[i].name && e->xattrs[i].len <= TAR_MAX_XATTR);
	for (i = 0; e->sparse && i < e->nsparse; i++) {
		FUZZ_CHECK(e->sparse[i].offset >= at &&
			   e->sparse[i].len <= e->size - e->sparse[i].offset);
		at = e->sparse[i].offset + e->sparse[i].len;
	}
}

/* -1: the archive ended in the middle. */
static int content(struct tar_reader *t, const struct tar_entry *e, bool runs, uint64_t *total)
{
	static uint8_t room[8192];
	uint64_t done = 0, hole = 0;
	ssize_t n;

	for (;;) {
		n = runs ? tar_read_run(t, room, sizeof(room), &hole, NULL)
			 : tar_read(t, room, sizeof(room), NULL);
		if (n < 0)
			return -1;
		done += (uint64_t)n + hole;
		FUZZ_CHECK(done <= e->size);
		*total += (uint64_t)n;
		if (!n && !hole)
			break;
		if (*total > TOTAL_MAX)
			return -1; /* a hole of an exabyte, read as zeros */
		hole = 0;
	}
	FUZZ_CHECK(done == e->size);
	return 0;
}

static void archive(const struct oci_reader *r, uint8_t how)
{
	struct tar_reader *t = tar_open(r, NULL);
	struct tar_entry e;
	uint64_t total = 0;
	unsigned n = 0;

	FUZZ_CHECK(t);
	while (tar_next(t, &e, NULL) == 1 && n++ < 1000) {
		check(&e);
		if (e.type == TAR_FILE && !(how & 2) && content(t, &e, how & 1, &total) < 0)
			break;
	}
	tar_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source s;
	struct oci_reader r = {pieces, &s}, plain;
	struct decompress *d;
	uint8_t how;

	if (!size)
		return 0;
	how = data[0];
	s = (struct source){data + 1, size - 1, how & 4 ? 7 + how / 8 : SIZE_MAX};
	d = decompress_new(&r, NULL);
	if (!d)
		return 0;
	plain = decompress_reader(d);
	archive(&plain, how);
	decompress_free(d);
	return 0;
}
