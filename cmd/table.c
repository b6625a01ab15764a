/* SPDX-License-Identifier: Apache-2.0 */
/* table.c - column widths are counted in code points, which is right for all that names may hold. */
#include <stdarg.h>
#include <stdio.h>
#include "cmd/table.h"

char *text_printable(const char *s, bool lines)
{
	char *copy = xstrdup(s ? s : "");
	unsigned char *p = (unsigned char *)copy;

	for (; *p; p++) {
		if (lines && (*p == '\n' || *p == '\t'))
			continue;
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?';
	}
	return copy;
}

static size_t table_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_init(struct table *t, const char *const *titles)
{
	*t = (struct table){0};
	while (titles[t->ncols] && t->ncols < TABLE_MAX_COLS)
		strv_add(&t->cells, titles[t->ncols++]);
}

void table_cell(struct table *t, const char *text)
{
	strv_take(&t->cells, text_printable(text, false));
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	CLEANUP_FREE char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	table_cell(t, s);
}

void table_render(struct table *t, struct buf *out)
{
	size_t width[TABLE_MAX_COLS] = {0};

	if (!t->ncols)
		return;
	while (t->cells.n % t->ncols)
		table_cell(t, "");
	for (size_t i = 0; i < t->cells.n; i++)
		width[i % t->ncols] = MAX(width[i % t->ncols], table_width(t->cells.v[i]));
	for (size_t i = 0; i < t->cells.n; i++) {
		const char *cell = t->cells.v[i];
		size_t col = i % t->ncols;

		buf_puts(out, cell);
		if (col + 1 == t->ncols)
			buf_puts(out, "\n");
		else
			buf_printf(out, "%*s", (int)(width[col] - table_width(cell) + 2), "");
	}
}

void table_free(struct table *t)
{
	strv_free(&t->cells);
	*t = (struct table){0};
}
