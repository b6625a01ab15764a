/* SPDX-License-Identifier: Apache-2.0 */
/* filters.h - what `--filter key=value` means, of whatever is listed. Pure functions; filters and keys end with NULL. */
#ifndef CMD_FILTERS_H
#define CMD_FILTERS_H

#include "core/json.h"

/* filter_value: what stands behind "key=", NULL when the filter has another key. */
const char *filter_value(const char *filter, const char *key);
/* filters_check: each has one of the keys; else -1 and an invalidArgument error that names them. */
int filters_check(const char *const *filters, const char *const *keys, struct error **err);
/* filters_have: one of them has one of the keys. */
bool filters_have(const char *const *filters, const char *const *keys);

typedef bool (*filter_fn)(struct json_object *o, const char *key, const char *want);
/* filters_match: of filters with the same key one has to fit, of labels each. */
bool filters_match(struct json_object *o, const char *const *filters, const char *const *keys,
		   filter_fn fits);

/* filter_image: a reference as a user writes it: docker.io/library/x:latest is x too. */
bool filter_image(const char *reference, const char *want);
/* filter_label: "key" or "key=value". */
bool filter_label(struct json_object *labels, const char *want);

#endif
