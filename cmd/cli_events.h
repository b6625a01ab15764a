/* SPDX-License-Identifier: Apache-2.0 */
/* cli_events.h - which events are shown, and how. Pure functions. */
#ifndef CMD_CLI_EVENTS_H
#define CMD_CLI_EVENTS_H

#include "core/json.h"
#include "core/str.h"

/* events_filters_check: each "key=value" has a key that is known; else -1 and invalidArgument. */
int events_filters_check(const char *const *filters, struct error **err);
/* events_match: values of one key are alternatives, but labels must all be there; different keys must all agree. */
bool events_match(struct json_object *o, const char *const *filters);
/* events_text: "<time> <type> <action> <id> (key=value, …)" appended. */
void events_text(struct json_object *o, struct buf *out);
/* events_field: for template_render(). */
char *events_field(struct json_object *o, const char *name);

#endif
