/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - error values with context.
 *
 * A function that can fail returns int, 0 or -1 (or a pointer, NULL on failure), and takes a last
 * argument `struct error **err`. On failure it sets *err to a new error the caller owns; on success
 * it leaves *err alone. err may be NULL when the caller does not care. Callers add context with
 * error_wrap(): "pull alpine: manifest: connection refused". Only the role's main function prints.
 *
 * The code words are those of the wire protocol and of `Error: <code>: "<message>"`.
 */
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

#include "core/base.h"

enum error_code {
	ERR_UNKNOWN,
	ERR_INVALID_ARGUMENT,
	ERR_INTERNAL,
	ERR_EXISTS,
	ERR_NOT_FOUND,
	ERR_CANCELLED,
	ERR_INVALID_STATE,
	ERR_EMPTY,
	ERR_TIMEOUT,
	ERR_UNSUPPORTED,
	ERR_INTERRUPTED,
};

struct error {
	enum error_code code;
	int sys;    /* errno behind it, 0 if none */
	int status; /* the exit status of a command that ends by it; 0: none of its own, so 1 */
	char *msg;
	struct error *cause; /* owned; NULL at the innermost */
};

/*
 * error_set: makes a new error in *err. Returns -1, so that `return error_set(err, ...)` reads
 * well. *err must be NULL or unset before (errors are set once).
 */
int error_set(struct error **err, enum error_code code, const char *fmt, ...) PRINTF(3, 4);

/* error_sys: as error_set, with strerror(sys) appended ("open /x: No such file or directory") and a
 * code derived from sys (ENOENT: notFound, EEXIST: exists, ETIMEDOUT: timeout, ENOSYS/EOPNOTSUPP:
 * unsupported, EINTR: interrupted, else internalError). Returns -1. */
int error_sys(struct error **err, int sys, const char *fmt, ...) PRINTF(3, 4);

/* error_wrap: puts context in front of the error in *err, keeping its code and status; it becomes the cause.
 * Returns -1. No-op when err or *err is NULL. */
int error_wrap(struct error **err, const char *fmt, ...) PRINTF(2, 3);

/* error_move: hands src (owned) to *dst; frees it when dst is NULL. Returns -1. */
int error_move(struct error **dst, struct error *src);

/* error_copy: the same error with its causes, owned by the caller; NULL gives NULL. */
struct error *error_copy(const struct error *e);

/* error_text: "outer: inner: innermost"; the caller owns the string. */
char *error_text(const struct error *e);

/* error_code_name / error_code_parse: "notFound" and back (unknown words give ERR_UNKNOWN). */
const char *error_code_name(enum error_code code);
enum error_code error_code_parse(const char *name);

void error_free(struct error *e); /* NULL is fine */
static inline void error_freep(struct error **e)
{
	error_free(*e);
}
#define CLEANUP_ERROR CLEANUP(error_freep)

#endif
