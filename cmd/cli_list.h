/* SPDX-License-Identifier: Apache-2.0 */
/* cli_list.h - which containers a list shows, and what a template can say of one. Pure functions. */
#ifndef CMD_CLI_LIST_H
#define CMD_CLI_LIST_H

#include "core/json.h"
#include "core/str.h"

/* list_filters_check: each "key=value" has a key that is known; else -1 and invalidArgument. */
int list_filters_check(const char *const *filters, struct error **err);
/* list_filters_status: one of them asks for a state or an exit code, so stopped containers are to be looked at too. */
bool list_filters_status(const char *const *filters);
/* list_filters_config: one of them asks for what only the whole configuration says. */
bool list_filters_config(const char *const *filters);
/* list_matches: values of one key are alternatives, different keys must all agree. o is an entry of container.list.
 * id: begins with; name: contains; status; label: key or key=value; ancestor: the image; exited: the code; health; network; volume: the
 * source or destination of a mount. */
bool list_matches(struct json_object *o, const char *const *filters);
/* list_cut: takes those out of a list, oldest first, that filters before= and since= do not want. -1 and notFound when such a one names
 * nobody in it. */
int list_cut(struct json_object *list, const char *const *filters, struct error **err);
/* list_health: "starting", "healthy", "unhealthy"; "none" without checks. */
const char *list_health(struct json_object *o);
/* list_size: what the container takes on the host's disk, "1.2MB"; "" when the list did not ask. The caller owns it. */
char *list_size(struct json_object *o);
/* list_field: for template_list(). */
char *list_field(struct json_object *o, const char *name);
/* list_ports: "0.0.0.0:8080->80/tcp, …" appended for the published ports of a configuration; with `to` only lines for
 * that "80" or "80/tcp", as `port` prints them. Returns how many there were. */
size_t list_ports(struct json_object *config, const char *to, bool lines, struct buf *out);

#endif
