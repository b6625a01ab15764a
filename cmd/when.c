/* SPDX-License-Identifier: Apache-2.0 */
/* when.c - see when.h. */
#include <stdio.h>
#include <time.h>
#include "cmd/when.h"
#include "core/str.h"

#define SECOND 1000000000ll

/* A decimal number with an optional fraction, at most nine digits of which count, as billionths. NULL when there is none, or too much. */
static const char *number(const char *p, int64_t *whole, int64_t *billionths, size_t *digits)
{
	int64_t unit = SECOND / 10;

	*whole = *billionths = 0;
	for (*digits = 0; *p >= '0' && *p <= '9'; p++, ++*digits)
		if (!mul_ok(*whole, 10, whole) || !add_ok(*whole, *p - '0', whole))
			return NULL;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10, ++*digits)
			*billionths += (*p - '0') * unit;
	}
	return *digits ? p : NULL;
}

static const char *unit_of(const char *p, int64_t *ns)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {
		{"ms", 1000000},       {"us", 1000},         {"\xc2\xb5s", 1000}, {"ns", 1},
		{"d", 86400 * SECOND}, {"h", 3600 * SECOND}, {"m", 60 * SECOND},  {"s", SECOND},
	};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (!str_prefix(p, units[i].name))
			continue;
		*ns = units[i].ns;
		return p + strlen(units[i].name);
	}
	return NULL;
}

/* bare: the unit of a number without one; 0: there must be one. */
static int span(const char *s, int64_t bare, int64_t *ns)
{
	int64_t sum = 0, whole, part, unit, v;
	const char *p = s, *after;
	size_t digits;

	while (*p) {
		p = number(p, &whole, &part, &digits);
		if (!p)
			return -1;
		if (!*p && bare && !sum) {
			unit = bare;
			after = p;
		} else {
			after = unit_of(p, &unit);
		}
		/* A fraction of a unit: exact enough, and without overflow. */
		if (!after || !mul_ok(whole, unit, &v) || !add_ok(sum, v, &sum) ||
		    !add_ok(sum, (int64_t)((__int128)part * unit / SECOND), &sum))
			return -1;
		p = after;
	}
	if (p == s)
		return -1;
	*ns = sum;
	return 0;
}

int span_parse(const char *s, int64_t *ns, struct error **err)
{
	if (span(s, SECOND, ns))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid duration '%.64s': such as 30s, 1m30s or 500ms expected",
				 s);
	return 0;
}

/* `n` digits at *p, and what they say is from min to max. */
static int field(const char **p, int n, int min, int max, int *out)
{
	int v = 0;

	for (int i = 0; i < n; i++, ++*p) {
		if (**p < '0' || **p > '9')
			return -1;
		v = v * 10 + (**p - '0');
	}
	*out = v;
	return v >= min && v <= max ? 0 : -1;
}

static int zone(const char **p, int64_t *seconds)
{
	int sign, h, m;

	*seconds = 0;
	if (!**p)
		return 0;
	if (**p == 'Z' || **p == 'z')
		return *++*p ? -1 : 0;
	sign = **p == '+' ? 1 : **p == '-' ? -1 : 0;
	++*p;
	if (!sign || field(p, 2, 0, 23, &h) || **p != ':')
		return -1;
	++*p;
	if (field(p, 2, 0, 59, &m) || **p)
		return -1;
	*seconds = sign * (h * 3600 + m * 60);
	return 0;
}

static int rfc3339(const char *p, int64_t *ns)
{
	struct tm tm = {0};
	int64_t whole, part = 0, offset, t;
	size_t digits;
	const char *q;

	if (field(&p, 4, 1970, 9999, &tm.tm_year) || *p++ != '-' ||
	    field(&p, 2, 1, 12, &tm.tm_mon) || *p++ != '-' || field(&p, 2, 1, 31, &tm.tm_mday))
		return -1;
	if (*p == 'T' || *p == 't' || *p == ' ') {
		p++;
		if (field(&p, 2, 0, 23, &tm.tm_hour) || *p++ != ':' ||
		    field(&p, 2, 0, 59, &tm.tm_min))
			return -1;
		if (*p == ':') {
			q = ++p;
			if (field(&p, 2, 0, 60, &tm.tm_sec))
				return -1;
			if (*p == '.' && !(p = number(q, &whole, &part, &digits)))
				return -1;
		}
	}
	if (zone(&p, &offset))
		return -1;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	t = timegm(&tm) - offset;
	/* An int64_t of nanoseconds ends in 2262; what is later is as good as never. */
	*ns = t > INT64_MAX / SECOND - 1 ? INT64_MAX : t * SECOND + part;
	return 0;
}

int when_parse(const char *s, int64_t now, int64_t *ns, struct error **err)
{
	int64_t whole, part, back;
	size_t digits;
	const char *p = number(s, &whole, &part, &digits);

	if (p && !*p && mul_ok(whole, SECOND, &whole)) {
		*ns = whole + part;
		return 0;
	}
	if (!span(s, 0, &back)) {
		*ns = MAX(now - back, 0);
		return 0;
	}
	if (!rfc3339(s, ns))
		return 0;
	return error_set(
		err, ERR_INVALID_ARGUMENT,
		"invalid time '%.64s': a duration such as 10m, Unix seconds or a date such as "
		"2026-01-02T15:04:05Z expected",
		s);
}

char *span_text(int64_t s)
{
	if (s < 1)
		return xstrdup("Less than a second");
	if (s == 1)
		return xstrdup("1 second");
	if (s < 60)
		return xasprintf("%lld seconds", (long long)s);
	if (s < 120)
		return xstrdup("About a minute");
	if (s < 3600)
		return xasprintf("%lld minutes", (long long)s / 60);
	if (s < 7200)
		return xstrdup("About an hour");
	if (s < 48 * 3600)
		return xasprintf("%lld hours", (long long)s / 3600);
	if (s < 14 * 86400)
		return xasprintf("%lld days", (long long)s / 86400);
	if (s < 60 * 86400)
		return xasprintf("%lld weeks", (long long)s / (7 * 86400));
	if (s < 2 * 365 * 86400)
		return xasprintf("%lld months", (long long)s / (30 * 86400));
	return xasprintf("%lld years", (long long)s / (365 * 86400));
}
