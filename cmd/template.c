/* SPDX-License-Identifier: Apache-2.0 */
/* template.c - see template.h. */
#include <ctype.h>
#include <stdio.h>
#include "cmd/format.h"
#include "cmd/table.h"
#include "cmd/template.h"

#define NAME_MAX_LEN 64

bool template_is(const char *format)
{
	return format && strstr(format, "{{");
}

/* What stands between the braces, without the blanks around it. */
static int put_action(const char *at, size_t len, struct json_object *o, bool header,
		      template_field_fn field, struct buf *out, struct error **err)
{
	CLEANUP_FREE char *word = NULL, *value = NULL, *shown = NULL;
	CLEANUP_JSON struct json_object *none = NULL;

	while (len && isspace((unsigned char)*at))
		at++, len--;
	while (len && isspace((unsigned char)at[len - 1]))
		len--;
	word = xstrndup(at, len);
	if (!strcmp(word, "json .")) {
		if (o)
			buf_puts(out, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
		return 0;
	}
	if (*word != '.' || len < 2 || len > NAME_MAX_LEN)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "template: '{{%s}}' is not understood; fields are written {{.ID}}",
				 word);
	if (!o)
		none = json_object_new_object();
	value = field(o ? o : none, word + 1);
	if (!value)
		return error_set(err, ERR_INVALID_ARGUMENT, "template: there is no field '%s'",
				 word);
	if (header) {
		for (char *p = word + 1; *p; p++)
			*p = (char)toupper((unsigned char)*p);
		buf_puts(out, word + 1);
	} else if (o) {
		shown = text_printable(value, false);
		buf_puts(out, shown);
	}
	return 0;
}

int template_render(const char *text, struct json_object *o, bool header, template_field_fn field,
		    struct buf *out, struct error **err)
{
	const char *p = str_prefix(text, "table ") ? text + 6 : text;

	while (*p) {
		const char *end;

		if (p[0] == '\\' && (p[1] == 't' || p[1] == 'n')) {
			buf_puts(out, p[1] == 't' ? "\t" : "\n");
			p += 2;
			continue;
		}
		if (p[0] != '{' || p[1] != '{') {
			buf_append(out, p++, 1);
			continue;
		}
		end = strstr(p, "}}");
		if (!end)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "template: '{{' without its '}}'");
		if (put_action(p + 2, (size_t)(end - p - 2), o, header, field, out, err))
			return -1;
		p = end + 2;
	}
	buf_puts(out, "\n");
	return 0;
}

/* The lines of text, whose cells are parted by tabs, as a table. */
static void put_table(char *text)
{
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_TABLE struct table t = {0};
	const char *titles[TABLE_MAX_COLS + 1] = {NULL};
	char *rest = text, *line = strsep(&rest, "\n"), *cell;
	size_t n = 0;

	while ((cell = strsep(&line, "\t")) && n < TABLE_MAX_COLS)
		titles[n++] = cell;
	table_init(&t, titles);
	while ((line = strsep(&rest, "\n"))) {
		if (!*line && !rest)
			break;
		for (size_t i = 0; i < n; i++) {
			cell = strsep(&line, "\t");
			table_cell(&t, cell ? cell : "");
		}
	}
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
}

int template_list(const char *text, struct json_object *list, template_field_fn field,
		  struct error **err)
{
	bool table = str_prefix(text, "table ");
	CLEANUP_BUF struct buf b = {0}, check = {0};

	/* A broken template is an error with nothing to list too. */
	if (template_render(text, NULL, true, field, table ? &b : &check, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (template_render(text, json_object_array_get_idx(list, i), false, field, &b,
				    err))
			return -1;
	if (table)
		put_table(b.data);
	else if (b.len)
		fwrite(b.data, 1, b.len, stdout);
	return 0;
}
