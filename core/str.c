/* SPDX-License-Identifier: Apache-2.0 */
/* str.c - growable byte buffers, string vectors, strict number parsing, times and random names. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "core/str.h"

void buf_reserve(struct buf *b, size_t more)
{
	size_t need, cap = b->cap ? b->cap : 64;

	if (!add_ok(b->len, more, &need) || !add_ok(need, 1u, &need))
		abort();
	if (need <= b->cap)
		return;
	while (cap < need)
		if (!mul_ok(cap, (size_t)2, &cap))
			abort();
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
	buf_reserve(b, n);
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	buf_append(b, text, (size_t)n);
}

void buf_consume(struct buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
	} else {
		memmove(b->data, b->data + n, b->len - n);
		b->len -= n;
	}
	if (b->data)
		b->data[b->len] = '\0';
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

void strv_take(struct strv *s, char *str)
{
	s->v = xreallocarray(s->v, s->n + 2, sizeof(*s->v));
	s->v[s->n++] = str;
	s->v[s->n] = NULL;
}

void strv_add(struct strv *s, const char *str)
{
	strv_take(s, xstrdup(str));
}

void strv_addf(struct strv *s, const char *fmt, ...)
{
	va_list ap;
	char *str;

	va_start(ap, fmt);
	if (vasprintf(&str, fmt, ap) < 0)
		abort();
	va_end(ap);
	strv_take(s, str);
}

void strv_free(struct strv *s)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct strv){0};
}

bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

bool str_prefix(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

bool str_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && !memcmp(s + n - m, suffix, m);
}

int parse_u64(const char *s, uint64_t *out)
{
	uint64_t v = 0;

	if (!s || !*s)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		if (!mul_ok(v, (uint64_t)10, &v) || !add_ok(v, (uint64_t)(*s - '0'), &v))
			return -1;
	}
	*out = v;
	return 0;
}

int parse_i64(const char *s, int64_t *out)
{
	bool neg = s && *s == '-';
	uint64_t v;

	if (!s || parse_u64(s + neg, &v) || v > (uint64_t)INT64_MAX + neg)
		return -1;
	*out = neg ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

/* The exponent (of 1024) a size suffix stands for; -1 if it is none. */
static int size_shift(const char *suffix)
{
	static const char units[] = "bkmgtp";
	const char *u;

	if (!*suffix)
		return 0;
	u = strchr(units, suffix[0] | 0x20);
	if (!u)
		return -1;
	if (u == units)
		return suffix[1] ? -1 : 0;
	suffix++;
	if (*suffix && strcasecmp(suffix, "b") && strcasecmp(suffix, "ib"))
		return -1;
	return 10 * (int)(u - units);
}

/*
 * The fraction is kept as a decimal numerator of at most nine digits, so no floating point is
 * involved and "0.1g" is the same number on every machine; further digits are cut off.
 */
int parse_size(const char *s, uint64_t *out, struct error **err)
{
	uint64_t whole = 0, frac = 0, scale = 1, v;
	const char *p = s;
	bool digits = false;
	int shift;

	for (; *p >= '0' && *p <= '9'; p++, digits = true)
		if (!mul_ok(whole, (uint64_t)10, &whole) ||
		    !add_ok(whole, (uint64_t)(*p - '0'), &whole))
			goto range;
	if (digits && *p == '.') {
		const char *first = ++p;

		for (; *p >= '0' && *p <= '9'; p++)
			if (scale < 1000000000) {
				frac = frac * 10 + (uint64_t)(*p - '0');
				scale *= 10;
			}
		if (p == first)
			digits = false;
	}
	shift = digits ? size_shift(p) : -1;
	if (shift < 0)
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid size \"%s\"", s);
	if (!mul_ok(whole, (uint64_t)1 << shift, &v))
		goto range;
	v = v + (uint64_t)(((unsigned __int128)frac << shift) / scale);
	if (v < whole)
		goto range;
	*out = v;
	return 0;
range:
	return error_set(err, ERR_INVALID_ARGUMENT, "size \"%s\" is too large", s);
}

char *time_iso8601(int64_t unix_seconds)
{
	time_t t = unix_seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return xstrdup("1970-01-01T00:00:00Z");
	return xasprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
			 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

int64_t time_now(void)
{
	return time(NULL);
}

int64_t time_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

void time_stamp(int64_t ns, char out[TIME_STAMP_LEN + 1])
{
	time_t t = ns / 1000000000 - (ns % 1000000000 < 0);
	struct tm tm;

	/* Four digits of a year: nothing before 1970, and the time_t of 9999 at most. */
	t = MIN(MAX(t, 0), 253402300799ll);
	gmtime_r(&t, &tm);
	snprintf(out, TIME_STAMP_LEN + 1, "%04u-%02u-%02uT%02u:%02u:%02u.%09uZ",
		 (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
		 (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		 (unsigned)tm.tm_sec % 100, (unsigned)(MAX(ns, 0) % 1000000000));
}

uint64_t time_mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void random_bytes(void *p, size_t n)
{
	unsigned char *c = p;

	while (n) {
		ssize_t r = RETRY_EINTR(getrandom(c, n, 0));

		if (r < 0)
			abort();
		c += r;
		n -= (size_t)r;
	}
}

char *random_uuid(void)
{
	unsigned char b[16];
	char hex[33];

	random_bytes(b, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40; /* version 4 */
	b[8] = (b[8] & 0x3f) | 0x80; /* RFC 4122 variant */
	hex_encode(b, sizeof(b), hex);
	return xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

size_t utf8_len(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2, i;
	/* The second byte's bounds rule out overlong forms, surrogates and what is beyond U+10FFFF. */
	unsigned low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
	unsigned high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4 || s[1] < low || s[1] > high)
		return 0;
	for (i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

char *utf8_text(const void *p, size_t n)
{
	char *s = xmalloc(n + 1);
	size_t i, len;

	if (n)
		memcpy(s, p, n);
	s[n] = 0;
	for (i = 0; i < n; i += len) {
		len = s[i] ? utf8_len(s + i) : 0;
		if (!len) {
			s[i] = '?';
			len = 1;
		}
	}
	return s;
}

void hex_encode(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *c = p;
	size_t i;

	for (i = 0; i < n; i++) {
		out[2 * i] = digits[c[i] >> 4];
		out[2 * i + 1] = digits[c[i] & 15];
	}
	out[2 * n] = '\0';
}

int mac_parse(const char *s, uint8_t mac[6])
{
	static const uint8_t zero[6];

	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? s[i] != ':' && s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return -1;
	if (s[17])
		return -1;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)strtoul((const char[]){s[3 * i], s[3 * i + 1], '\0'}, NULL, 16);
	return mac[0] & 1 || !memcmp(mac, zero, sizeof(zero)) ? -1 : 0;
}

void mac_text(const uint8_t mac[6], char out[18])
{
	snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
}
