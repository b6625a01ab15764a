/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image_show.c - which images a list shows, what a template can say of one, and image history. */
#include <fnmatch.h>
#include <stdio.h>
#include <time.h>
#include "cmd/cli_image.h"
#include "cmd/filters.h"
#include "cmd/table.h"
#include "cmd/template.h"

/* ---- filters ---- */

static const char *const filter_keys[] = {"reference", "label", "dangling", "before",
					  "since",     "until", NULL};

/* "2026-01-02T03:04:05Z" or with "+02:00", "2026-01-02", or seconds since 1970. 0, or -1. */
static int date_parse(const char *s, int64_t *out)
{
	struct tm t = {0};
	int h = 0, m = 0, date = 0, clock = 0;
	char sign = 'Z';

	if (parse_i64(s, out) == 0)
		return 0;
	if (sscanf(s, "%4d-%2d-%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &date) != 3 || !date)
		return -1;
	s += date;
	if (sscanf(s, "T%2d:%2d:%2d%n", &t.tm_hour, &t.tm_min, &t.tm_sec, &clock) == 3)
		s += clock;
	s += *s == '.' ? 1 + strspn(s + 1, "0123456789") : 0;
	if (*s && sscanf(s, "%c%2d:%2d", &sign, &h, &m) != 3 && strcmp(s, "Z") != 0)
		return -1;
	t.tm_year -= 1900;
	t.tm_mon--;
	*out = timegm(&t) - (sign == '-' ? -60 : 60) * (h * 60 + m);
	return 0;
}

/* "36h", "1h30m", "2d": so long ago; else a date. */
static int until_parse(const char *s, int64_t *out)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	int64_t ago = 0;
	const char *at = s;

	while (*at) {
		size_t digits = strspn(at, "0123456789"), u = 0;
		CLEANUP_FREE char *text = xstrndup(at, digits);
		int64_t n;

		while (u < ARRAY_SIZE(units) && units[u].unit != at[digits])
			u++;
		if (u == ARRAY_SIZE(units) || !digits || digits > 9 || parse_i64(text, &n))
			return date_parse(s, out);
		ago += n * units[u].seconds;
		at += digits + 1;
	}
	*out = time_now() - ago;
	return *s ? 0 : -1;
}

static int64_t created_at(struct json_object *image)
{
	int64_t at;

	return date_parse(json_str(json_obj(image, "configuration"), "creationDate", ""), &at) ? 0
											       : at;
}

/* The image that before= or since= names. */
static struct json_object *image_of(struct json_object *images, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(images); i++) {
		struct json_object *o = json_object_array_get_idx(images, i);
		CLEANUP_FREE char *repository = NULL, *tag = NULL, *both = NULL;

		image_split(image_name(o), &repository, &tag);
		both = xasprintf("%s:%s", repository, tag);
		if (!strcmp(name, both) || !strcmp(name, image_name(o)) ||
		    (!strcmp(name, repository) && !strcmp(tag, "latest")) ||
		    (strlen(name) >= 4 && str_prefix(json_str(o, "id", ""), name)))
			return o;
	}
	return NULL;
}

static struct json_object *first_config(struct json_object *image)
{
	struct json_object *variants = json_arr(image, "variants");

	if (!variants || !json_object_array_length(variants))
		return NULL;
	return json_obj(json_object_array_get_idx(variants, 0), "config");
}

/* "key" or "key=value", of any variant. */
static bool label_matches(struct json_object *image, const char *want)
{
	struct json_object *variants = json_arr(image, "variants");

	for (size_t i = 0; variants && i < json_object_array_length(variants); i++) {
		struct json_object *config =
			json_obj(json_object_array_get_idx(variants, i), "config");

		if (filter_label(json_obj(json_obj(config, "config"), "Labels"), want))
			return true;
	}
	return false;
}

static bool reference_matches(struct json_object *image, const char *pattern)
{
	CLEANUP_FREE char *name = NULL, *tag = NULL, *both = NULL;

	image_split(image_name(image), &name, &tag);
	both = xasprintf("%s:%s", name, tag);
	return !fnmatch(pattern, name, FNM_PATHNAME) || !fnmatch(pattern, both, FNM_PATHNAME) ||
	       !fnmatch(pattern, image_name(image), FNM_PATHNAME);
}

/* What the filters come to. */
struct wanted {
	const char *const *filters;
	int64_t after, before; /* created later than, earlier than */
};

static int when_parse(struct wanted *w, struct json_object *images, const char *filter,
		      struct error **err)
{
	const char *before = filter_value(filter, "before"), *since = filter_value(filter, "since"),
		   *until = filter_value(filter, "until");
	struct json_object *other = NULL;
	int64_t at = 0;

	if (before || since) {
		other = image_of(images, before ? before : since);
		if (!other)
			return error_set(err, ERR_NOT_FOUND, "image not found: %s",
					 before ? before : since);
		at = created_at(other);
	}
	if (until && until_parse(until, &at))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid filter '%s': a time such as 24h or a date expected",
				 filter);
	if (since)
		w->after = MAX(w->after, at);
	else if (before || until)
		w->before = MIN(w->before, at);
	return 0;
}

static int filter_check(struct wanted *w, struct json_object *images, const char *filter,
			struct error **err)
{
	const char *dangling = filter_value(filter, "dangling");

	if (dangling && strcmp(dangling, "true") && strcmp(dangling, "false"))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid filter '%s': true or false expected", filter);
	return when_parse(w, images, filter, err);
}

static bool matches(struct json_object *image, const struct wanted *w)
{
	const char *const *filters = w->filters;
	bool named = false, asked = false;
	int64_t at = created_at(image);

	if (at <= w->after || at >= w->before)
		return false;
	for (; *filters; filters++) {
		const char *v;

		if ((v = filter_value(*filters, "reference"))) {
			asked = true;
			named = named || reference_matches(image, v);
		} else if ((v = filter_value(*filters, "label"))) {
			if (!label_matches(image, v))
				return false;
		} else if ((v = filter_value(*filters, "dangling"))) {
			if (!strcmp(v, "true") != (strchr(image_name(image), '@') != NULL))
				return false;
		}
	}
	return !asked || named;
}

int image_filter(struct json_object *images, const char *const *filters, struct error **err)
{
	struct wanted w = {.filters = filters, .after = INT64_MIN, .before = INT64_MAX};

	if (filters_check(filters, filter_keys, err))
		return -1;
	for (size_t i = 0; filters[i]; i++)
		if (filter_check(&w, images, filters[i], err))
			return -1;
	for (size_t i = json_object_array_length(images); i-- > 0;)
		if (!matches(json_object_array_get_idx(images, i), &w))
			json_object_array_del_idx(images, i, 1);
	return 0;
}

/* ---- fields ---- */

static int64_t total_size(struct json_object *image)
{
	struct json_object *variants = json_arr(image, "variants");
	int64_t sum = 0;

	for (size_t i = 0; variants && i < json_object_array_length(variants); i++)
		sum += json_int(json_object_array_get_idx(variants, i), "size", 0);
	return sum;
}

/* As Go prints a value: [a b], map[k:v]. */
static char *go_text(struct json_object *v)
{
	CLEANUP_BUF struct buf b = {0};

	if (json_object_is_type(v, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(v); i++)
			buf_printf(&b, "%s%s", i ? " " : "[",
				   json_object_get_string(json_object_array_get_idx(v, i)));
		buf_puts(&b, b.len ? "]" : "[]");
	} else if (json_object_is_type(v, json_type_object)) {
		json_object_object_foreach(v, key, val)
		{
			buf_printf(&b, "%s%s:%s", b.len ? " " : "map[", key,
				   json_object_get_string(val));
		}
		buf_puts(&b, b.len ? "]" : "map[]");
	} else {
		buf_puts(&b, v ? json_object_get_string(v) : "");
	}
	return STEAL(b.data);
}

/* What the configuration says, under docker's names. */
static char *config_field(struct json_object *image, const char *name)
{
	static const char *const keys[] = {"User",       "Env",    "Entrypoint", "Cmd",
					   "WorkingDir", "Labels", "StopSignal"};
	struct json_object *config = first_config(image);

	if (!strcmp(name, "Os"))
		return xstrdup(json_str(config, "os", ""));
	if (!strcmp(name, "Architecture"))
		return xstrdup(json_str(config, "architecture", ""));
	if (!strcmp(name, "Author"))
		return xstrdup(json_str(config, "author", ""));
	if (!str_prefix(name, "Config."))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(name + strlen("Config."), keys[i]))
			return go_text(json_get(json_obj(config, "config"), keys[i]));
	return NULL;
}

char *image_field(struct json_object *image, const char *name)
{
	struct json_object *config = json_obj(image, "configuration");
	const char *digest = json_str(json_obj(config, "descriptor"), "digest", "");
	CLEANUP_FREE char *repository = NULL, *tag = NULL;

	image_split(image_name(image), &repository, &tag);
	if (!strcmp(name, "ID"))
		return xasprintf("%.12s", json_str(image, "id", ""));
	if (!strcmp(name, "Id"))
		return xasprintf("sha256:%s", json_str(image, "id", ""));
	if (!strcmp(name, "Repository") || !strcmp(name, "Name"))
		return STEAL(repository);
	if (!strcmp(name, "Tag"))
		return STEAL(tag);
	if (!strcmp(name, "Digest"))
		return xstrdup(digest);
	if (!strcmp(name, "Reference"))
		return xstrdup(image_name(image));
	if (!strcmp(name, "CreatedAt") || !strcmp(name, "Created"))
		return xstrdup(json_str(config, "creationDate", ""));
	if (!strcmp(name, "Size"))
		return size_text(total_size(image));
	return config_field(image, name);
}

/* ---- history ---- */

static const struct opt opt_history[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.CreatedBy}}'", OPT_TEMPLATE},
	{"no-trunc", 0, OPT_FLAG, NULL, NULL, "Do not cut long commands", 0},
	{0},
};
static const struct opt *const history_opts[] = {opt_history, NULL};
static const struct opt_pos history_pos[] = {{"image", POS_ONE, "Image reference, or id"}, {0}};

static void put_history(struct table *t, struct json_object *h, bool whole)
{
	const char *by = json_str(h, "created_by", "");

	table_cellf(t, "%.19s", json_str(h, "created", ""));
	if (whole || strlen(by) <= 60)
		table_cell(t, by);
	else
		table_cellf(t, "%.57s...", by);
	table_cell(t, json_flag(h, "empty_layer", false) ? "no" : "yes");
	table_cell(t, json_str(h, "comment", ""));
}

static char *history_field(struct json_object *h, const char *name)
{
	if (!strcmp(name, "CreatedAt"))
		return xstrdup(json_str(h, "created", ""));
	if (!strcmp(name, "CreatedBy"))
		return xstrdup(json_str(h, "created_by", ""));
	if (!strcmp(name, "Layer"))
		return xstrdup(json_flag(h, "empty_layer", false) ? "no" : "yes");
	if (!strcmp(name, "Comment"))
		return xstrdup(json_str(h, "comment", ""));
	return NULL;
}

/* The last step first; never NULL, the caller's. */
static struct json_object *history_reversed(struct json_object *history)
{
	struct json_object *out = json_object_new_array();

	for (size_t i = history ? json_object_array_length(history) : 0; i-- > 0;)
		json_object_array_add(out, json_object_get(json_object_array_get_idx(history, i)));
	return out;
}

static int run_history(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"CREATED", "CREATED BY", "LAYER", "COMMENT", NULL};
	const char *format = opt_str(a, "format", NULL);
	enum format f = format_parse(format);
	CLEANUP_JSON struct json_object *reply = NULL, *steps = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *images, *history;

	if (cli_call(c, "image.inspect", image_references(a), &reply, err) ||
	    json_need_arr(reply, "images", &images, err))
		return -1;
	history = json_arr(first_config(json_object_array_get_idx(images, 0)), "history");
	steps = history_reversed(history);
	if (template_is(format))
		return template_list(format, steps, history_field, err);
	if (f != FORMAT_TABLE) {
		CLEANUP_JSON struct json_object *none = json_object_new_array();

		format_print(f, history ? history : none);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(steps); i++)
		put_history(&t, json_object_array_get_idx(steps, i), opt_has(a, "no-trunc"));
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_image_history = {
	.name = "history",
	.summary = "Show how an image was made, the last step first",
	.group = IMAGE_GROUP,
	.opts = history_opts,
	.pos = history_pos,
	.notes = "What the image's configuration says of itself; LAYER tells whether the step "
		 "made a layer.",
	.run = run_history,
};

const struct opt_cmd cmd_history = {
	.name = "history",
	.summary = "Short for `container image history`",
	.group = IMAGE_GROUP,
	.opts = history_opts,
	.pos = history_pos,
	.run = run_history,
};
