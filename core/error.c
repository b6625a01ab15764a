/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - error values with context: a chain, outermost first, each link owning the next. */
#include <stdarg.h>
#include <stdio.h>

#include "core/str.h"

static const char *const code_names[] = {
	[ERR_UNKNOWN] = "unknown",
	[ERR_INVALID_ARGUMENT] = "invalidArgument",
	[ERR_INTERNAL] = "internalError",
	[ERR_EXISTS] = "exists",
	[ERR_NOT_FOUND] = "notFound",
	[ERR_CANCELLED] = "cancelled",
	[ERR_INVALID_STATE] = "invalidState",
	[ERR_EMPTY] = "empty",
	[ERR_TIMEOUT] = "timeout",
	[ERR_UNSUPPORTED] = "unsupported",
	[ERR_INTERRUPTED] = "interrupted",
};

static enum error_code code_of_errno(int sys)
{
	switch (sys) {
	case ENOENT:
		return ERR_NOT_FOUND;
	case EEXIST:
		return ERR_EXISTS;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERR_UNSUPPORTED;
	case EINTR:
		return ERR_INTERRUPTED;
	case ECANCELED:
		return ERR_CANCELLED;
	default:
		return ERR_INTERNAL;
	}
}

static struct error *error_new(enum error_code code, int sys, char *msg, struct error *cause)
{
	struct error *e = xcalloc(1, sizeof(*e));

	e->code = code;
	e->sys = sys;
	e->msg = msg;
	e->cause = cause;
	return e;
}

static char *format(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	return s;
}

int error_set(struct error **err, enum error_code code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	*err = error_new(code, 0, format(fmt, ap), NULL);
	va_end(ap);
	return -1;
}

int error_sys(struct error **err, int sys, const char *fmt, ...)
{
	CLEANUP_FREE char *what = NULL;
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	what = format(fmt, ap);
	va_end(ap);
	*err = error_new(code_of_errno(sys), sys, xasprintf("%s: %s", what, strerror(sys)), NULL);
	return -1;
}

int error_wrap(struct error **err, const char *fmt, ...)
{
	va_list ap;

	if (!err || !*err)
		return -1;
	va_start(ap, fmt);
	*err = error_new((*err)->code, (*err)->sys, format(fmt, ap), *err);
	(*err)->status = (*err)->cause->status;
	va_end(ap);
	return -1;
}

int error_move(struct error **dst, struct error *src)
{
	if (dst)
		*dst = src;
	else
		error_free(src);
	return -1;
}

struct error *error_copy(const struct error *e)
{
	struct error *c;

	if (!e)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	*c = (struct error){.code = e->code,
			    .sys = e->sys,
			    .status = e->status,
			    .msg = xstrdup(e->msg),
			    .cause = error_copy(e->cause)};
	return c;
}

char *error_text(const struct error *e)
{
	struct buf b = {0};

	if (!e)
		return xstrdup("no error");
	for (; e; e = e->cause) {
		buf_puts(&b, e->msg);
		if (e->cause)
			buf_puts(&b, ": ");
	}
	return b.data;
}

const char *error_code_name(enum error_code code)
{
	if ((unsigned)code >= ARRAY_SIZE(code_names))
		code = ERR_UNKNOWN;
	return code_names[code];
}

enum error_code error_code_parse(const char *name)
{
	size_t i;

	for (i = 0; name && i < ARRAY_SIZE(code_names); i++)
		if (!strcmp(name, code_names[i]))
			return i;
	return ERR_UNKNOWN;
}

void error_free(struct error *e)
{
	while (e) {
		struct error *cause = e->cause;

		free(e->msg);
		free(e);
		e = cause;
	}
}
