/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - text tables: a header, rows, columns two spaces apart, the last one unpadded.
 *
 * Cells come from images, registries and the network: control characters are shown as '?', so that no
 * name can send the terminal commands.
 */
#ifndef CMD_TABLE_H
#define CMD_TABLE_H

#include "core/str.h"

#define TABLE_MAX_COLS 16

struct table {
	size_t ncols;
	struct strv cells; /* header first, row by row */
};

/* table_init: titles is NULL-terminated, at most TABLE_MAX_COLS. */
void table_init(struct table *t, const char *const *titles);
/* table_cell: appends one cell (copied, made printable); NULL is "". */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *fmt, ...) PRINTF(2, 3);
/* table_render: a last row that is not complete is filled up. */
void table_render(struct table *t, struct buf *out);
void table_free(struct table *t);
#define CLEANUP_TABLE CLEANUP(table_free)

/* text_printable: a copy of s in which control characters (C0, DEL and, in UTF-8, C1) are '?'; newlines and
 * tabs stay when `lines`. The caller owns it. */
char *text_printable(const char *s, bool lines);

#endif
