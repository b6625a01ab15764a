/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.h - the part of Go's templates that people use with --format: "{{.ID}}\t{{.Image}}", "{{json .}}",
 * and "table " in front for a header.
 */
#ifndef CMD_TEMPLATE_H
#define CMD_TEMPLATE_H

#include "core/json.h"
#include "core/str.h"

/* template_is: the value of --format is a template and no format's name. */
bool template_is(const char *format);

/* The value of a field (owned by the caller), or NULL when there is none of that name. */
typedef char *(*template_field_fn)(struct json_object *o, const char *name);

/* template_render: one object's line, with its newline, appended to out; o may be NULL to check the template or,
 * with `header`, to write the fields' names in capitals. Values are made printable. -1 and invalidArgument when the
 * template is broken or a field is unknown. */
int template_render(const char *text, struct json_object *o, bool header, template_field_fn field,
		    struct buf *out, struct error **err);

/* template_list: prints one line for each object of an array to stdout, as a table when the template says so. */
int template_list(const char *text, struct json_object *list, template_field_fn field,
		  struct error **err);

#endif
