/* SPDX-License-Identifier: Apache-2.0 */
/* str.h - growable byte buffers, string vectors and strict number parsing. */
#ifndef CORE_STR_H
#define CORE_STR_H

#include "core/error.h"

/* A growable buffer. Zero-initialise; data is always NUL-terminated once anything was appended. */
struct buf {
	char *data;
	size_t len;
	size_t cap;
};

void buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
/* buf_consume: drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_free(struct buf *b);
#define CLEANUP_BUF CLEANUP(buf_free)

/* A NULL-terminated vector of owned strings. Zero-initialise. */
struct strv {
	char **v;
	size_t n;
};

void strv_add(struct strv *s, const char *str); /* copies */
void strv_take(struct strv *s, char *str);      /* takes ownership */
void strv_addf(struct strv *s, const char *fmt, ...) PRINTF(2, 3);
void strv_free(struct strv *s);
#define CLEANUP_STRV CLEANUP(strv_free)

bool str_eq(const char *a, const char *b); /* both may be NULL */
bool str_prefix(const char *s, const char *prefix);
bool str_suffix(const char *s, const char *suffix);

/* parse_u64: the whole string is a decimal number without sign or blanks. 0 or -1. */
int parse_u64(const char *s, uint64_t *out);
int parse_i64(const char *s, int64_t *out);

/* parse_size: "1.5g", "200m", "4096": binary suffixes b k m g t p with optional "b" or "ib", any
 * case; the result is bytes. 0 or -1 with *err. */
int parse_size(const char *s, uint64_t *out, struct error **err);

/* time_iso8601: UTC "2026-01-02T03:04:05Z" for a Unix time; the caller owns it. */
char *time_iso8601(int64_t unix_seconds);
int64_t time_now(void);    /* Unix seconds */
int64_t time_now_ns(void); /* Unix nanoseconds */
/* time_stamp: "2026-01-02T03:04:05.000000006Z" for Unix nanoseconds, always TIME_STAMP_LEN characters and a NUL: it sorts as text. */
#define TIME_STAMP_LEN 30
void time_stamp(int64_t ns, char out[TIME_STAMP_LEN + 1]);
uint64_t time_mono_us(void); /* CLOCK_MONOTONIC, microseconds */

/* random_bytes: from getrandom(2); never fails once the kernel's pool is up. */
void random_bytes(void *p, size_t n);
char *random_uuid(void); /* lower-case version 4; the caller owns it */

/* utf8_len: length of the well-formed UTF-8 sequence at s (NUL-terminated), 0 if it is none. */
size_t utf8_len(const char *s);
/* utf8_text: a copy of n bytes where '?' stands for NULs and what is no UTF-8; the caller owns it. */
char *utf8_text(const void *p, size_t n);

/* mac_parse: a network card's address, "f2:00:00:00:00:01" or with '-'; -1 when it is none, or all zeros, or a group's.
 * mac_text: the same with ':' and lower-case digits. */
int mac_parse(const char *s, uint8_t mac[6]);
void mac_text(const uint8_t mac[6], char out[18]);

/* hex_encode: writes 2n digits and a NUL to out. */
void hex_encode(const void *p, size_t n, char *out);

#endif
