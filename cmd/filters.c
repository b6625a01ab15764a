/* SPDX-License-Identifier: Apache-2.0 */
/* filters.c - see filters.h. */
#include "cmd/filters.h"
#include "core/str.h"

const char *filter_value(const char *filter, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(filter, key, n) && filter[n] == '=' ? filter + n + 1 : NULL;
}

static bool is_of(const char *filter, const char *const *keys)
{
	while (*keys && !filter_value(filter, *keys))
		keys++;
	return *keys;
}

int filters_check(const char *const *filters, const char *const *keys, struct error **err)
{
	CLEANUP_BUF struct buf names = {0};

	while (*filters && is_of(*filters, keys))
		filters++;
	if (!*filters)
		return 0;
	for (; *keys; keys++)
		buf_printf(&names, "%s%s", !names.len ? "" : keys[1] ? ", " : " or ", *keys);
	return error_set(err, ERR_INVALID_ARGUMENT,
			 "invalid filter '%s': %s, '=' and a value expected", *filters, names.data);
}

bool filters_have(const char *const *filters, const char *const *keys)
{
	while (*filters && !is_of(*filters, keys))
		filters++;
	return *filters;
}

bool filters_match(struct json_object *o, const char *const *filters, const char *const *keys,
		   filter_fn fits)
{
	for (; *keys; keys++) {
		bool asked = false, any = false, every = true;

		for (size_t i = 0; filters[i]; i++) {
			const char *want = filter_value(filters[i], *keys);
			bool fit = want && fits(o, *keys, want);

			asked |= want != NULL;
			any |= fit;
			every &= fit || !want;
		}
		if (asked && !(strcmp(*keys, "label") ? any : every))
			return false;
	}
	return true;
}

bool filter_image(const char *reference, const char *want)
{
	static const char *const prefix[] = {"", "docker.io/", "docker.io/library/"};

	for (size_t i = 0; i < ARRAY_SIZE(prefix); i++) {
		CLEANUP_FREE char *full = xasprintf("%s%s", prefix[i], want);
		CLEANUP_FREE char *latest = xasprintf("%s:latest", full);

		if (!strcmp(reference, full) || !strcmp(reference, latest))
			return true;
	}
	return false;
}

bool filter_label(struct json_object *labels, const char *want)
{
	const char *eq = strchr(want, '=');
	CLEANUP_FREE char *key = xstrndup(want, strcspn(want, "="));
	const char *value = json_str(labels, key, NULL);

	return value && (!eq || !strcmp(value, eq + 1));
}
