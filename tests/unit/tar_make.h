/* SPDX-License-Identifier: Apache-2.0 */
/* tar_make.h - builds tar archives for tests, good and bad ones, in memory; and reads them in pieces of any size. */
#ifndef TESTS_TAR_MAKE_H
#define TESTS_TAR_MAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "oci/tar.h"

struct tm_opts {
	char type;
	const char *name, *link;
	const void *data;
	size_t len;
	unsigned mode;
	unsigned long uid, gid, mtime, maj, min;
};

/* n-1 octal digits and a NUL. */
static inline void tm_octal(uint8_t *f, int n, uint64_t v)
{
	f[--n] = 0;
	while (n--) {
		f[n] = (uint8_t)('0' + (v & 7));
		v >>= 3;
	}
}

static inline void tm_sum(uint8_t *h)
{
	unsigned sum = 0;

	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	tm_octal(h + 148, 7, sum);
}

/* A header with every field set from o; size as given. */
static inline void tm_header(uint8_t *h, const struct tm_opts *o, uint64_t size)
{
	memset(h, 0, 512);
	strncpy((char *)h, o->name, 100);
	tm_octal(h + 100, 8, o->mode ? o->mode : 0644);
	tm_octal(h + 108, 8, o->uid);
	tm_octal(h + 116, 8, o->gid);
	tm_octal(h + 124, 12, size);
	tm_octal(h + 136, 12, o->mtime);
	h[156] = (uint8_t)o->type;
	if (o->link)
		strncpy((char *)h + 157, o->link, 100);
	memcpy(h + 257, "ustar\00000", 8);
	tm_octal(h + 329, 8, o->maj);
	tm_octal(h + 337, 8, o->min);
	tm_sum(h);
}

static inline void tm_data(struct buf *b, const void *p, size_t n)
{
	static const char zeros[512];

	buf_append(b, p, n);
	buf_append(b, zeros, -n & 511);
}

static inline void tm_put(struct buf *b, struct tm_opts o)
{
	uint8_t h[512];

	tm_header(h, &o, o.len);
	buf_append(b, h, 512);
	if (o.len)
		tm_data(b, o.data, o.len);
}

static inline void tm_pax_record(struct buf *rec, const char *key, const void *v, size_t n)
{
	size_t body = strlen(key) + n + 3, len = body, digits;

	do {
		digits = (size_t)snprintf(NULL, 0, "%zu", len);
		if (len == body + digits)
			break;
		len = body + digits;
	} while (1);
	buf_printf(rec, "%zu %s=", len, key);
	buf_append(rec, v, n);
	buf_append(rec, "\n", 1);
}

static inline void tm_pax(struct buf *b, char type, const struct buf *rec)
{
	tm_put(b, (struct tm_opts){
			  .type = type, .name = "PaxHeader", .data = rec->data, .len = rec->len});
}

/* One record in a header of its own. */
static inline void tm_pax1(struct buf *b, const char *key, const char *value)
{
	CLEANUP_BUF struct buf rec = {0};

	tm_pax_record(&rec, key, value, strlen(value));
	tm_pax(b, 'x', &rec);
}

static inline void tm_file(struct buf *b, const char *name, const char *content)
{
	tm_put(b, (struct tm_opts){
			  .type = '0', .name = name, .data = content, .len = strlen(content)});
}

static inline void tm_dir(struct buf *b, const char *name)
{
	tm_put(b, (struct tm_opts){.type = '5', .name = name, .mode = 0755});
}

static inline void tm_link(struct buf *b, char type, const char *name, const char *target)
{
	tm_put(b, (struct tm_opts){.type = type, .name = name, .link = target, .mode = 0777});
}

static inline void tm_end(struct buf *b)
{
	static const char zeros[1024];

	buf_append(b, zeros, sizeof(zeros));
}

/* A source over memory that hands out at most `step` bytes a call. */
struct tm_source {
	const char *p;
	size_t len, pos, step;
};

static inline ssize_t tm_read(void *arg, void *p, size_t n, struct error **err)
{
	struct tm_source *s = arg;

	n = MIN(n, s->len - s->pos);
	if (s->step)
		n = MIN(n, s->step);
	if (n)
		memcpy(p, s->p + s->pos, n);
	s->pos += n;
	return (ssize_t)n;
}

#endif
