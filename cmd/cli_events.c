/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_events.c - events: what happens to containers, images, networks and volumes, as it happens.
 *
 * The apiserver sends all there is in the span asked for; filters and forms are ours.
 */
#include <stdio.h>
#include "cmd/cli.h"
#include "cmd/cli_events.h"
#include "cmd/filters.h"
#include "cmd/table.h"
#include "cmd/template.h"
#include "cmd/when.h"

static const char *const keys[] = {"container", "event", "image",  "label",
				   "network",   "type",  "volume", NULL};

/* ---- filters ---- */

static struct json_object *attributes(struct json_object *o)
{
	return json_obj(json_obj(o, "actor"), "attributes");
}

int events_filters_check(const char *const *filters, struct error **err)
{
	return filters_check(filters, keys, err);
}

static bool one_matches(struct json_object *o, const char *key, const char *want)
{
	const char *type = json_str(o, "type", ""), *action = json_str(o, "action", "");
	const char *id = json_str(json_obj(o, "actor"), "id", "");
	struct json_object *attr = attributes(o);

	if (!strcmp(key, "type"))
		return !strcmp(type, want);
	if (!strcmp(key, "event")) /* "health_status" is "health_status: healthy" too */
		return !strcmp(action, want) ||
		       (str_prefix(action, want) && action[strlen(want)] == ':');
	if (!strcmp(key, "container"))
		return !strcmp(type, "container") ? *want && str_prefix(id, want)
						  : !strcmp(json_str(attr, "container", ""), want);
	if (!strcmp(key, "volume"))
		return !strcmp(type, "volume") && !strcmp(id, want);
	if (!strcmp(key, "network"))
		return !strcmp(type, "network") && !strcmp(id, want);
	if (!strcmp(key, "image"))
		return filter_image(!strcmp(type, "image") ? id : json_str(attr, "image", ""),
				    want);
	return filter_label(attr, want);
}

bool events_match(struct json_object *o, const char *const *filters)
{
	return filters_match(o, filters, keys, one_matches);
}

/* ---- forms ---- */

void events_text(struct json_object *o, struct buf *out)
{
	struct json_object *attr = attributes(o);
	const char *before = " (";

	buf_printf(out, "%s %s %s %s", json_str(o, "time", ""), json_str(o, "type", ""),
		   json_str(o, "action", ""), json_str(json_obj(o, "actor"), "id", ""));
	if (attr) {
		CLEANUP_JSON struct json_object *sorted = json_sorted(attr);

		json_object_object_foreach(sorted, key, value)
		{
			buf_printf(out, "%s%s=%s", before, key, json_object_get_string(value));
			before = ", ";
		}
	}
	if (*before == ',')
		buf_puts(out, ")");
}

char *events_field(struct json_object *o, const char *name)
{
	struct json_object *actor = json_obj(o, "actor"), *attr = json_obj(actor, "attributes");
	static const char prefix[] = "Actor.Attributes.";

	if (!strcmp(name, "Type"))
		return xstrdup(json_str(o, "type", ""));
	if (!strcmp(name, "Action") || !strcmp(name, "Status"))
		return xstrdup(json_str(o, "action", ""));
	if (!strcmp(name, "ID") || !strcmp(name, "Actor.ID"))
		return xstrdup(json_str(actor, "id", ""));
	if (!strcmp(name, "From"))
		return xstrdup(json_str(attr, "image", ""));
	if (!strcmp(name, "Time"))
		return xasprintf("%lld", (long long)json_int(o, "timeNano", 0) / 1000000000);
	if (!strcmp(name, "TimeNano"))
		return xasprintf("%lld", (long long)json_int(o, "timeNano", 0));
	if (!strcmp(name, "Scope"))
		return xstrdup("local");
	if (str_prefix(name, prefix))
		return xstrdup(json_str(attr, name + strlen(prefix), ""));
	return NULL;
}

/* ---- the command ---- */

static const struct opt opt_events[] = {
	{"filter", 'f', OPT_LIST, "filter", NULL,
	 "Only those that fit: container=, event=, image=, label=, network=, type= or volume= and "
	 "a value",
	 0},
	{"format", 0, OPT_VALUE, "format", "json",
	 "Form of the output: json, an object a line, or a template of fields such as '{{.Action}} "
	 "{{.ID}}'",
	 OPT_TEMPLATE},
	{"since", 0, OPT_VALUE, "time", NULL,
	 "Begin with those since a date such as 2026-01-02T15:04:05Z, or in a duration such as 10m",
	 0},
	{"until", 0, OPT_VALUE, "time", NULL,
	 "End then; what has happened already is all when it is past", 0},
	{0},
};
static const struct opt *const events_opts[] = {opt_events, NULL};

struct show {
	const char *const *filters;
	const char *format;
};

static void show_event(void *arg, struct json_object *o)
{
	struct show *s = arg;
	CLEANUP_BUF struct buf b = {0};

	if (!events_match(o, s->filters))
		return;
	if (template_is(s->format)) {
		template_render(s->format, o, false, events_field, &b, NULL);
		fwrite(b.data, 1, b.len, stdout);
	} else if (s->format) {
		format_print(FORMAT_JSON, o);
	} else {
		events_text(o, &b);
		cli_out(b.data);
	}
	if (fflush(stdout))
		exit(cli_flush(0)); /* nobody reads any more */
}

static int put_time(const struct opt_args *a, const char *key, int64_t now,
		    struct json_object *params, struct error **err)
{
	int64_t ns;

	if (!opt_has(a, key))
		return 0;
	if (when_parse(opt_str(a, key, ""), now, &ns, err))
		return -1;
	json_set_int(params, key, ns);
	return 0;
}

static int run_events(struct cli *c, const struct opt_args *a, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);
	struct show s = {.filters = filters, .format = opt_str(a, "format", NULL)};
	CLEANUP_JSON struct json_object *params = json_object_new_object();
	CLEANUP_BUF struct buf check = {0};
	int64_t now = time_now_ns();

	if (events_filters_check(filters, err) ||
	    (template_is(s.format) &&
	     template_render(s.format, NULL, true, events_field, &check, err)) ||
	    put_time(a, "since", now, params, err) || put_time(a, "until", now, params, err) ||
	    cli_connect(c, err))
		return -1;
	/* An end in the past makes no sense without a beginning. */
	if (json_int(params, "until", INT64_MAX) <= now && !json_get(params, "since"))
		json_set_int(params, "since", 0);
	return rpc_call(c->conn, "system.events", STEAL(params), NULL, 0, show_event, &s, -1, NULL,
			NULL, NULL, err);
}

const struct opt_cmd cmd_events = {
	.name = "events",
	.summary = "Show what happens to containers, images, networks and volumes",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = events_opts,
	.notes =
		"Prints an event a line until it is interrupted or --until has passed: of "
		"containers create, start, "
		"exec_start, exec_die, kill, stop, die, oom, pause, unpause, restart, rename, "
		"update, commit, "
		"destroy and health_status; of images pull, push, tag, load, save and "
		"delete; of networks "
		"connect and disconnect; of volumes create and destroy. Filters with the same key "
		"are alternatives, labels must "
		"all be there. "
		"The last ones, 700 or more, are kept for --since. One who reads too slowly is cut "
		"off. Fields of a template: Type, Action, ID, From, Time, TimeNano, "
		"Scope, "
		"Actor.ID, Actor.Attributes.<name>; {{json .}} is the whole object.",
	.run = run_events,
};
