/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what the fuzz targets share: a cursor over the input, checks, files.
 *
 * An input is read front to back as numbers and byte runs; past its end everything is zero. So every input means
 * something, and cutting one short keeps the meaning of its beginning.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <fcntl.h>
#include <stdio.h>

#include "core/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct fz {
	const uint8_t *p;
	size_t n;
};

static inline void fz_bytes(struct fz *f, void *out, size_t n)
{
	size_t k = MIN(n, f->n);

	memset(out, 0, n);
	if (k)
		memcpy(out, f->p, k);
	f->p += k;
	f->n -= k;
}

#define FZ_NUMBER(name, type)                        \
	static inline UNUSED type name(struct fz *f) \
	{                                            \
		type v;                              \
                                                     \
		fz_bytes(f, &v, sizeof(v));          \
		return v;                            \
	}
FZ_NUMBER(fz_u8, uint8_t)
FZ_NUMBER(fz_u16, uint16_t)
FZ_NUMBER(fz_u32, uint32_t)
FZ_NUMBER(fz_u64, uint64_t)

/* fz_take: the next n bytes at most, in place. */
static inline UNUSED struct fz fz_take(struct fz *f, size_t n)
{
	struct fz r = {f->p, MIN(n, f->n)};

	f->p += r.n;
	f->n -= r.n;
	return r;
}

/* fz_string: the rest, or all up to a NUL, as a string the caller owns. */
static inline UNUSED char *fz_string(struct fz *f)
{
	const uint8_t *nul = f->n ? memchr(f->p, 0, f->n) : NULL;
	size_t n = nul ? (size_t)(nul - f->p) : f->n;
	char *s = xmalloc(n + 1);

	fz_bytes(f, s, n);
	s[n] = 0;
	if (nul)
		(void)fz_u8(f);
	return s;
}

/* What must hold whatever the input; a failure is a crash that libFuzzer keeps. */
#define FUZZ_CHECK(cond)                                                                   \
	do {                                                                               \
		if (!(cond)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                           \
		}                                                                          \
	} while (0)

/* A file without a name that holds n bytes, at its start. */
int fuzz_memfd(const void *p, size_t n);
/* Which of the first 64 descriptors are open: a bit each. */
uint64_t fuzz_open_fds(void);
/* A directory of this process's own on a memory file system, removed at exit. */
const char *fuzz_dir(void);

#endif
