/* SPDX-License-Identifier: Apache-2.0 */
/* format.c - three writers over one walk of the object with sorted keys. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include "cmd/format.h"

enum format format_parse(const char *s)
{
	if (str_eq(s, "json"))
		return FORMAT_JSON;
	if (str_eq(s, "yaml"))
		return FORMAT_YAML;
	return str_eq(s, "toml") ? FORMAT_TOML : FORMAT_TABLE;
}

static int key_cmp(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Keys of the members that are not null, sorted; *n of them. The caller frees the vector. */
static const char **sorted_keys(struct json_object *o, size_t *n)
{
	const char **v = xcalloc((size_t)json_object_object_length(o) + 1, sizeof(*v));

	*n = 0;
	json_object_object_foreach(o, key, val)
	{
		if (val)
			v[(*n)++] = key;
	}
	qsort(v, *n, sizeof(*v), key_cmp);
	return v;
}

static bool is_empty(struct json_object *o)
{
	if (json_object_is_type(o, json_type_array))
		return json_object_array_length(o) == 0;
	if (json_object_is_type(o, json_type_object)) {
		size_t n;
		CLEANUP_FREE const char **keys = sorted_keys(o, &n);

		return n == 0;
	}
	return false;
}

static bool is_container(struct json_object *o)
{
	return json_object_is_type(o, json_type_array) || json_object_is_type(o, json_type_object);
}

/* A quoted string with JSON escapes, which YAML and TOML basic strings understand as well. */
static void put_quoted(struct buf *out, const char *s, size_t len, bool slash)
{
	static const char plain[] = "btnvfr";

	buf_puts(out, "\"");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\' || (c == '/' && slash))
			buf_printf(out, "\\%c", c);
		else if (c >= 8 && c <= 13 && c != 11)
			buf_printf(out, "\\%c", plain[c - 8]);
		else if (c < 0x20 || c == 0x7f)
			buf_printf(out, "\\u%04x", c);
		else
			buf_append(out, &s[i], 1);
	}
	buf_puts(out, "\"");
}

static void put_string(struct buf *out, struct json_object *o, bool slash)
{
	put_quoted(out, json_object_get_string(o), (size_t)json_object_get_string_len(o), slash);
}

static void put_scalar(struct buf *out, struct json_object *o, bool slash)
{
	if (json_object_is_type(o, json_type_string))
		put_string(out, o, slash);
	else
		buf_puts(out, o ? json_object_to_json_string(o) : "null");
}

/* ---- JSON ---- */

static void json_break(struct buf *out, bool pretty, int depth)
{
	if (pretty)
		buf_printf(out, "\n%*s", depth * 2, "");
}

static void json_put_value(struct buf *out, struct json_object *o, bool pretty, int depth)
{
	bool array = json_object_is_type(o, json_type_array);

	if (!is_container(o)) {
		put_scalar(out, o, true);
		return;
	}
	if (is_empty(o)) {
		buf_puts(out, array ? "[]" : "{}");
		return;
	}
	buf_puts(out, array ? "[" : "{");
	if (array) {
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			buf_puts(out, i ? "," : "");
			json_break(out, pretty, depth + 1);
			json_put_value(out, json_object_array_get_idx(o, i), pretty, depth + 1);
		}
	} else {
		size_t n;
		CLEANUP_FREE const char **keys = sorted_keys(o, &n);

		for (size_t i = 0; i < n; i++) {
			buf_puts(out, i ? "," : "");
			json_break(out, pretty, depth + 1);
			put_quoted(out, keys[i], strlen(keys[i]), true);
			buf_puts(out, pretty ? " : " : ":");
			json_put_value(out, json_get(o, keys[i]), pretty, depth + 1);
		}
	}
	json_break(out, pretty, depth);
	buf_puts(out, array ? "]" : "}");
}

void format_json(struct buf *out, struct json_object *o, bool pretty)
{
	json_put_value(out, o, pretty, 0);
	buf_puts(out, "\n");
}

/* ---- YAML ---- */

/* Plain scalars that a YAML reader takes for a string whatever its schema. */
static bool yaml_is_plain(const char *s)
{
	static const char *const words[] = {"true", "false", "null", "yes", "no",
					    "on",   "off",   "y",    "n"};

	if (!isalpha((unsigned char)*s) && *s != '/' && *s != '_')
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcasecmp(s, words[i]))
			return false;
	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_-./+@", *p) &&
		    !(*p == ':' && p[1] && p[1] != ' '))
			return false;
	return true;
}

static void yaml_put_string(struct buf *out, const char *s, size_t len)
{
	if (strlen(s) == len && yaml_is_plain(s))
		buf_puts(out, s);
	else
		put_quoted(out, s, len, false);
}

static void yaml_put_scalar(struct buf *out, struct json_object *o)
{
	if (json_object_is_type(o, json_type_array))
		buf_puts(out, "[]");
	else if (json_object_is_type(o, json_type_object))
		buf_puts(out, "{}");
	else if (json_object_is_type(o, json_type_string))
		yaml_put_string(out, json_object_get_string(o),
				(size_t)json_object_get_string_len(o));
	else
		put_scalar(out, o, false);
}

/* Writes a container's lines; the first one continues the current line when `inl`. */
static void yaml_put_block(struct buf *out, struct json_object *o, int depth, bool inl)
{
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			struct json_object *v = json_object_array_get_idx(o, i);

			buf_printf(out, "%*s- ", inl && !i ? 0 : depth * 2, "");
			if (is_container(v) && !is_empty(v)) {
				yaml_put_block(out, v, depth + 1, true);
			} else {
				yaml_put_scalar(out, v);
				buf_puts(out, "\n");
			}
		}
		return;
	}
	size_t n;
	CLEANUP_FREE const char **keys = sorted_keys(o, &n);

	for (size_t i = 0; i < n; i++) {
		struct json_object *v = json_get(o, keys[i]);

		buf_printf(out, "%*s", inl && !i ? 0 : depth * 2, "");
		yaml_put_string(out, keys[i], strlen(keys[i]));
		if (is_container(v) && !is_empty(v)) {
			buf_puts(out, ":\n");
			yaml_put_block(out, v, depth + json_object_is_type(v, json_type_object),
				       false);
		} else {
			buf_puts(out, ": ");
			yaml_put_scalar(out, v);
			buf_puts(out, "\n");
		}
	}
}

void format_yaml(struct buf *out, struct json_object *o)
{
	if (is_container(o) && !is_empty(o)) {
		yaml_put_block(out, o, 0, false);
		return;
	}
	yaml_put_scalar(out, o);
	buf_puts(out, "\n");
}

/* ---- TOML ---- */

static void toml_put_key(struct buf *out, const char *key)
{
	const char *p = key;

	while (isalnum((unsigned char)*p) || *p == '_' || *p == '-')
		p++;
	if (*key && !*p)
		buf_puts(out, key);
	else
		put_quoted(out, key, strlen(key), false);
}

static void toml_put_inline(struct buf *out, struct json_object *o)
{
	if (json_object_is_type(o, json_type_array)) {
		size_t shown = 0;

		buf_puts(out, "[");
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			struct json_object *v = json_object_array_get_idx(o, i);

			if (!v)
				continue;
			buf_puts(out, shown++ ? ", " : " ");
			toml_put_inline(out, v);
		}
		buf_puts(out, shown ? " ]" : "]");
	} else if (json_object_is_type(o, json_type_object)) {
		size_t n;
		CLEANUP_FREE const char **keys = sorted_keys(o, &n);

		buf_puts(out, "{");
		for (size_t i = 0; i < n; i++) {
			buf_puts(out, i ? ", " : " ");
			toml_put_key(out, keys[i]);
			buf_puts(out, " = ");
			toml_put_inline(out, json_get(o, keys[i]));
		}
		buf_puts(out, n ? " }" : "}");
	} else {
		put_scalar(out, o, false);
	}
}

/* An array that is written as [[tables]]: not empty, objects only. */
static bool toml_is_tables(struct json_object *o)
{
	if (!json_object_is_type(o, json_type_array) || !json_object_array_length(o))
		return false;
	for (size_t i = 0; i < json_object_array_length(o); i++)
		if (!json_object_is_type(json_object_array_get_idx(o, i), json_type_object))
			return false;
	return true;
}

static void toml_put_table(struct buf *out, const char *path, struct json_object *o);

static void toml_put_header(struct buf *out, const char *path, bool item)
{
	if (out->len)
		buf_puts(out, "\n");
	buf_printf(out, item ? "[[%s]]\n" : "[%s]\n", path);
}

static void toml_put_sub(struct buf *out, const char *path, const char *key, struct json_object *v)
{
	CLEANUP_BUF struct buf sub = {0};

	if (*path)
		buf_printf(&sub, "%s.", path);
	toml_put_key(&sub, key);
	if (json_object_is_type(v, json_type_object)) {
		toml_put_header(out, sub.data, false);
		toml_put_table(out, sub.data, v);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		toml_put_header(out, sub.data, true);
		toml_put_table(out, sub.data, json_object_array_get_idx(v, i));
	}
}

static void toml_put_table(struct buf *out, const char *path, struct json_object *o)
{
	size_t n;
	CLEANUP_FREE const char **keys = sorted_keys(o, &n);

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < n; i++) {
			struct json_object *v = json_get(o, keys[i]);
			bool sub = json_object_is_type(v, json_type_object) || toml_is_tables(v);

			if (sub != (pass == 1))
				continue;
			if (sub) {
				toml_put_sub(out, path, keys[i], v);
				continue;
			}
			toml_put_key(out, keys[i]);
			buf_puts(out, " = ");
			toml_put_inline(out, v);
			buf_puts(out, "\n");
		}
	}
}

void format_toml(struct buf *out, struct json_object *o)
{
	CLEANUP_JSON struct json_object *doc = NULL;

	if (json_object_is_type(o, json_type_object)) {
		toml_put_table(out, "", o);
		return;
	}
	doc = json_object_new_object();
	json_set(doc, "items", json_object_get(o));
	toml_put_table(out, "", doc);
}

void format_print(enum format f, struct json_object *o)
{
	CLEANUP_BUF struct buf b = {0};

	if (f == FORMAT_YAML)
		format_yaml(&b, o);
	else if (f == FORMAT_TOML)
		format_toml(&b, o);
	else
		format_json(&b, o, false);
	fwrite(b.data, 1, b.len, stdout);
}
