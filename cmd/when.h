/* SPDX-License-Identifier: Apache-2.0 */
/* when.h - spans and points of time as people write them. Pure functions. */
#ifndef CMD_WHEN_H
#define CMD_WHEN_H

#include "core/error.h"

/* span_parse: "1h30m", "1.5s", "300ms", "2d"; units d, h, m, s, ms, us (or µs) and ns, and a number alone is seconds. *ns is not
 * negative. -1 and invalidArgument otherwise. */
int span_parse(const char *s, int64_t *ns, struct error **err);

/*
 * when_parse: a span back from `now` ("10m", with a unit), Unix seconds ("1700000000.25"), or RFC 3339:
 * "2026-01-02[T15:04[:05[.999]]][Z|±hh:mm]", in UTC when no zone is given. *ns are Unix nanoseconds. -1 and invalidArgument otherwise.
 */
int when_parse(const char *s, int64_t now, int64_t *ns, struct error **err);

/* span_text: "3 hours", "About a minute": a span of seconds the way docker's lists say it; the caller owns it. */
char *span_text(int64_t seconds);

#endif
