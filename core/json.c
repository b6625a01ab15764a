/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - strict JSON with bounds.
 *
 * A scan comes before json-c sees anything: it bounds depth and the number of values, because
 * json-c spends 150 bytes on an empty array, 800 on an empty object and 70 on a number, so that a
 * 16 MiB frame of "{}," would cost gigabytes: what passes costs 100 MiB at most. And it refuses NaN and Infinity, which json-c takes even in strict mode.
 */
#include <limits.h>

#include "core/json.h"
#include "core/str.h"

#define MAX_CONTAINERS (1u << 16) /* arrays and objects in one text */
#define MAX_VALUES     (1u << 19) /* commas, that is */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int json_bad(struct error **err, const char *what, size_t at)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "invalid JSON at byte %zu: %s", at, what);
}

/* The index just behind the string that begins at text[i] (a quote), or len when it does not end.
 */
static size_t skip_string(const char *text, size_t len, size_t i)
{
	for (i++; i < len; i++) {
		if (text[i] == '\\')
			i++;
		else if (text[i] == '"')
			return i + 1;
	}
	return len;
}

static int scan(const char *text, size_t len, struct error **err)
{
	size_t i = 0, depth = 0, containers = 0, values = 0;

	while (i < len) {
		char c = text[i];

		if (c == '"') {
			i = skip_string(text, len, i);
			continue;
		}
		if (c == '[' || c == '{') {
			if (++depth > JSON_MAX_DEPTH)
				return json_bad(err, "nested too deeply", i);
			if (++containers > MAX_CONTAINERS)
				return json_bad(err, "too many arrays and objects", i);
		} else if (c == ']' || c == '}') {
			if (!depth--)
				return json_bad(err, "unbalanced brackets", i);
		} else if (c == ',') {
			if (++values > MAX_VALUES)
				return json_bad(err, "too many values", i);
		} else if (c == '\0' || c == 'N' || c == 'I' || c == '\'' || c == '/') {
			return json_bad(err, "unexpected character", i);
		}
		i++;
	}
	return 0;
}

struct json_object *json_parse(const char *text, size_t len, struct error **err)
{
	struct json_tokener *tok;
	struct json_object *o;
	enum json_tokener_error je;
	size_t end;

	if (len > INT_MAX) {
		json_bad(err, "too long", 0);
		return NULL;
	}
	if (scan(text, len, err))
		return NULL;
	tok = json_tokener_new_ex(JSON_MAX_DEPTH + 1);
	if (!tok)
		abort();
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS |
					    JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tok, text, (int)len);
	je = json_tokener_get_error(tok);
	end = json_tokener_get_parse_end(tok);
	if (je == json_tokener_continue) { /* a bare number ends only with what follows it */
		o = json_tokener_parse_ex(tok, "\n", 1);
		je = json_tokener_get_error(tok);
		end = len;
	}
	json_tokener_free(tok);
	if (je != json_tokener_success) {
		json_object_put(o);
		json_bad(err,
			 je == json_tokener_continue ? "it ends too early"
						     : json_tokener_error_desc(je),
			 end);
		return NULL;
	}
	while (end < len && is_space(text[end]))
		end++;
	if (end < len) {
		json_object_put(o);
		json_bad(err, "trailing characters", end);
		return NULL;
	}
	if (!o)
		json_bad(err, "null", 0);
	return o;
}

/* Comments become blanks, so byte positions in messages stay right. */
struct json_object *json_parse_relaxed(const char *text, size_t len, struct error **err)
{
	CLEANUP_FREE char *copy = xmemdup(text, len);
	size_t i = 0, end;

	while (i < len) {
		if (copy[i] == '"') {
			i = skip_string(copy, len, i);
		} else if (copy[i] == '/' && i + 1 < len && copy[i + 1] == '/') {
			while (i < len && copy[i] != '\n')
				copy[i++] = ' ';
		} else if (copy[i] == '/' && i + 1 < len && copy[i + 1] == '*') {
			for (end = i + 2; end + 1 < len; end++)
				if (copy[end] == '*' && copy[end + 1] == '/')
					break;
			if (end + 1 >= len) {
				json_bad(err, "comment does not end", i);
				return NULL;
			}
			for (; i < end + 2; i++)
				if (copy[i] != '\n')
					copy[i] = ' ';
		} else {
			i++;
		}
	}
	return json_parse(copy, len, err);
}

struct json_object *json_get(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v))
		return NULL;
	return v;
}

static struct json_object *get_typed(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v = json_get(o, key);

	return json_object_is_type(v, type) ? v : NULL;
}

struct json_object *json_arr(struct json_object *o, const char *key)
{
	return get_typed(o, key, json_type_array);
}

struct json_object *json_obj(struct json_object *o, const char *key)
{
	struct json_object *v = json_get(o, key);

	return v && json_object_is_type(v, json_type_object) ? v : NULL;
}

/* A string without an embedded NUL, or NULL. */
static const char *string_of(struct json_object *v)
{
	const char *s;

	if (!v || !json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

const char *json_str(struct json_object *o, const char *key, const char *dflt)
{
	const char *s = string_of(json_get(o, key));

	return s ? s : dflt;
}

int64_t json_int(struct json_object *o, const char *key, int64_t dflt)
{
	struct json_object *v = get_typed(o, key, json_type_int);

	return v ? json_object_get_int64(v) : dflt;
}

bool json_flag(struct json_object *o, const char *key, bool dflt)
{
	struct json_object *v = get_typed(o, key, json_type_boolean);

	return v ? json_object_get_boolean(v) : dflt;
}

static int need_fail(struct json_object *o, const char *key, const char *type, struct error **err)
{
	if (!json_get(o, key))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" is missing", key);
	return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" must be %s", key, type);
}

int json_need_str(struct json_object *o, const char *key, const char **out, struct error **err)
{
	const char *s = string_of(json_get(o, key));

	if (!s)
		return need_fail(o, key, "a string", err);
	*out = s;
	return 0;
}

int json_need_int(struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *out,
		  struct error **err)
{
	struct json_object *v = get_typed(o, key, json_type_int);
	int64_t n;

	if (!v)
		return need_fail(o, key, "an integer", err);
	n = json_object_get_int64(v);
	if (n < min || n > max)
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" must be between %lld and %lld",
				 key, (long long)min, (long long)max);
	*out = n;
	return 0;
}

int json_need_obj(struct json_object *o, const char *key, struct json_object **out,
		  struct error **err)
{
	struct json_object *v = json_obj(o, key);

	if (!v)
		return need_fail(o, key, "an object", err);
	*out = v;
	return 0;
}

int json_need_arr(struct json_object *o, const char *key, struct json_object **out,
		  struct error **err)
{
	struct json_object *v = json_arr(o, key);

	if (!v)
		return need_fail(o, key, "an array", err);
	*out = v;
	return 0;
}

void json_set(struct json_object *o, const char *key, struct json_object *v)
{
	if (json_object_object_add(o, key, v))
		abort();
}

void json_set_str(struct json_object *o, const char *key, const char *v)
{
	if (v)
		json_set(o, key, json_object_new_string(v));
}

void json_set_int(struct json_object *o, const char *key, int64_t v)
{
	json_set(o, key, json_object_new_int64(v));
}

void json_set_bool(struct json_object *o, const char *key, bool v)
{
	json_set(o, key, json_object_new_boolean(v));
}

void json_add_str(struct json_object *arr, const char *v)
{
	if (json_object_array_add(arr, json_object_new_string(v)))
		abort();
}

static int cmp_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static struct json_object *sorted_object(struct json_object *o)
{
	struct json_object *out = json_object_new_object();
	size_t n = (size_t)json_object_object_length(o), i = 0;
	CLEANUP_FREE const char **keys = xcalloc(n, sizeof(*keys));

	json_object_object_foreach(o, key, val)
	{
		(void)val;
		keys[i++] = key;
	}
	qsort(keys, n, sizeof(*keys), cmp_key);
	for (i = 0; i < n; i++)
		json_set(out, keys[i], json_sorted(json_get(o, keys[i])));
	return out;
}

struct json_object *json_sorted(struct json_object *o)
{
	struct json_object *out = NULL;
	size_t i, n;

	if (json_object_is_type(o, json_type_object))
		return sorted_object(o);
	if (json_object_is_type(o, json_type_array)) {
		n = json_object_array_length(o);
		out = json_object_new_array_ext((int)n);
		for (i = 0; i < n; i++)
			json_object_array_add(out, json_sorted(json_object_array_get_idx(o, i)));
		return out;
	}
	if (o && json_object_deep_copy(o, &out, NULL))
		abort();
	return out;
}

char *json_text(struct json_object *o)
{
	size_t len;
	const char *s = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

	return xmemdup(s, len + 1);
}

struct json_object *json_raw(const char *text)
{
	struct json_object *o = json_object_new_boolean(false);

	json_object_set_serializer(o, json_object_userdata_to_json_string, xstrdup(text),
				   json_object_free_userdata);
	return o;
}
