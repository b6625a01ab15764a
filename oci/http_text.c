/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_text.c - what a registry says in words and numbers beside its answers: errors, warnings, when to come again.
 *
 * All of it is written by whoever runs the registry and shown to people: it is cut, and what is no printable character
 * does not get through.
 */
#include <curl/curl.h>

#include "oci/http.h"

#define TEXT_MAX      240
#define RETRY_MAX_S   3600
#define WARNING_START "299 - \""

/* The caller owns it. */
static char *plain(const char *s)
{
	char *out = xstrndup(s, TEXT_MAX), *p;

	for (p = out; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	return out;
}

char *http_error_text(const char *body, size_t n)
{
	CLEANUP_JSON struct json_object *o = n ? json_parse(body, n, NULL) : NULL;
	struct json_object *errors = o ? json_arr(o, "errors") : NULL;
	struct json_object *from = o;
	const char *text;

	if (errors && json_object_array_length(errors))
		from = json_object_array_get_idx(errors, 0);
	if (!json_object_is_type(from, json_type_object))
		return NULL;
	text = json_str(from, "message", json_str(from, "details", json_str(from, "code", "")));
	return *text ? plain(text) : NULL;
}

char *http_warning_text(const char *value)
{
	CLEANUP_BUF struct buf b = {0};

	if (!str_prefix(value, WARNING_START))
		return NULL;
	for (value += strlen(WARNING_START); *value && *value != '"'; value++) {
		if (*value == '\\' && value[1])
			value++;
		buf_append(&b, value, 1);
	}
	return b.len ? plain(b.data) : NULL;
}

int64_t http_retry_after(const char *value)
{
	int64_t s;

	if (parse_i64(value, &s) < 0) {
		time_t at = curl_getdate(value, NULL);

		s = at == (time_t)-1 ? 0 : (int64_t)at - time_now();
	}
	return MAX(0, MIN(s, RETRY_MAX_S));
}
