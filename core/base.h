/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - the vocabulary every file uses: scoped cleanup, ownership passing, checked sizes.
 *
 * Allocation: xmalloc() and friends never return NULL; they abort the process when memory is
 * exhausted. They are for sizes the program itself decides. A size that comes from a guest, an
 * image, a registry, a socket or a file is bounded first, by the caller, against a named limit.
 */
#ifndef CORE_BASE_H
#define CORE_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)                (((x) + ((a)-1)) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a)              ((x) & ~((__typeof__(x))(a)-1))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED            __attribute__((unused))
#define MUST_CHECK        __attribute__((warn_unused_result))
#define NORETURN          __attribute__((noreturn))

/* Retries a call that a signal interrupted. */
#define RETRY_EINTR(expr)                           \
	({                                          \
		__typeof__(expr) r_;                \
		do                                  \
			r_ = (expr);                \
		while (r_ == -1 && errno == EINTR); \
		r_;                                 \
	})

/* Scoped cleanup: `CLEANUP_FREE char *s = NULL;`, `CLEANUP_CLOSE int fd = -1;`. */
static inline void base_free_ptr(void *p)
{
	free(*(void **)p);
}

static inline void base_close_fd(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

/*
 * free_shared: frees an object that was found through an intrusive list or a reference count. clang's analyzer follows neither and would
 * call every later walk of the list a use after free; the sanitizer builds are what checks these.
 */
#ifdef __clang_analyzer__
#define free_shared(p) ((void)(p))
#else
#define free_shared(p) free(p)
#endif

/* Whether a sanitizer is in this build: it makes system calls and keeps memory that the product does not. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || \
	__has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* What only has to be there until the end of its scope counts as used; clang would warn, gcc does not. */
#define CLEANUP(fn)   __attribute__((cleanup(fn), unused))
#define CLEANUP_FREE  CLEANUP(base_free_ptr)
#define CLEANUP_CLOSE CLEANUP(base_close_fd)

/* Passes ownership on: returns the value and leaves NULL (or -1) behind. */
#define STEAL(p)                        \
	({                              \
		__typeof__(p) v_ = (p); \
		(p) = NULL;             \
		v_;                     \
	})

static inline int steal_fd(int *fd)
{
	int v = *fd;
	*fd = -1;
	return v;
}

/* Checked arithmetic: true when the sum or product fits. */
#define add_ok(a, b, out) (!__builtin_add_overflow(a, b, out))
#define mul_ok(a, b, out) (!__builtin_mul_overflow(a, b, out))

void *xmalloc(size_t n) __attribute__((malloc));
void *xcalloc(size_t n, size_t size) __attribute__((malloc));
void *xrealloc(void *p, size_t n);
/* xreallocarray: like xrealloc(p, n * size), aborts when the product wraps. */
void *xreallocarray(void *p, size_t n, size_t size);
char *xstrdup(const char *s);
/* alloc_give_back: from now on what is freed and large (128 KiB) goes back to the host at once; by default malloc's own limit
 * grows with what it saw. Once, at a process's start. */
void alloc_give_back(void);
/* mem_is_zero: n, at least 1, bytes of zeros. */
static inline bool mem_is_zero(const void *p, size_t n)
{
	const unsigned char *b = p;

	return !b[0] && !memcmp(b, b + 1, n - 1);
}
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
/* xasprintf: the caller owns the returned string. */
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

#endif
