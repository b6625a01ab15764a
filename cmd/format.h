/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - results as JSON, YAML or TOML text.
 *
 * All three come from a json-c object: keys are sorted, null members are left out. JSON escapes '/' as
 * "\/"; pretty JSON is indented by two. TOML puts an array under `items`, as a document must be a table.
 */
#ifndef CMD_FORMAT_H
#define CMD_FORMAT_H

#include "core/json.h"
#include "core/str.h"

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_YAML, FORMAT_TOML };

#define FORMAT_CHOICES "json|table|yaml|toml"

/* format_parse: one of FORMAT_CHOICES; anything else (NULL too) is the table. */
enum format format_parse(const char *s);

/* Each ends its text with a newline. */
void format_json(struct buf *out, struct json_object *o, bool pretty);
void format_yaml(struct buf *out, struct json_object *o);
void format_toml(struct buf *out, struct json_object *o);
/* format_print: writes o in a format other than the table to stdout; JSON is compact. */
void format_print(enum format f, struct json_object *o);

#endif
