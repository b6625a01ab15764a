/* SPDX-License-Identifier: Apache-2.0 */
/* cli_list.c - see cli_list.h. */
#include <stdio.h>
#include "cmd/cli_list.h"
#include "cmd/filters.h"
#include "cmd/volume.h"
#include "cmd/when.h"

static const char *const keys[] = {"id",     "name",    "status", "label",  "ancestor", "exited",
				   "health", "network", "volume", "before", "since",    NULL};

static const char *container_state(struct json_object *o)
{
	return json_str(json_obj(o, "status"), "state", "unknown");
}

static struct json_object *container_config(struct json_object *o)
{
	return json_obj(o, "configuration");
}

/* ---- filters ---- */

int list_filters_check(const char *const *filters, struct error **err)
{
	return filters_check(filters, keys, err);
}

bool list_filters_status(const char *const *filters)
{
	static const char *const of[] = {"status", "exited", NULL};

	return filters_have(filters, of);
}

bool list_filters_config(const char *const *filters)
{
	static const char *const of[] = {"label", "ancestor", "network", "volume", NULL};

	return filters_have(filters, of);
}

/* The one that a filter names: by its id, or by the beginning of it when that is no other's. -1: none. */
static ssize_t position(struct json_object *list, const char *want)
{
	size_t n = json_object_array_length(list);
	ssize_t found = -1;

	for (size_t i = 0; i < n; i++) {
		const char *id = json_str(json_object_array_get_idx(list, i), "id", "");

		if (!strcmp(id, want))
			return (ssize_t)i;
		if (*want && str_prefix(id, want))
			found = found == -1 ? (ssize_t)i : -2;
	}
	return found < 0 ? -1 : found;
}

int list_cut(struct json_object *list, const char *const *filters, struct error **err)
{
	for (; *filters; filters++) {
		const char *before = filter_value(*filters, "before");
		const char *want = before ? before : filter_value(*filters, "since");
		ssize_t at;

		if (!want)
			continue;
		at = position(list, want);
		if (at < 0)
			return error_set(err, ERR_NOT_FOUND, "container not found: %.100s", want);
		if (before)
			json_object_array_del_idx(list, (size_t)at,
						  json_object_array_length(list) - (size_t)at);
		else
			json_object_array_del_idx(list, 0, (size_t)at + 1);
	}
	return 0;
}

static bool image_matches(struct json_object *config, const char *want)
{
	struct json_object *image = json_obj(config, "image");
	const char *ref = json_str(image, "reference", "");
	const char *digest = json_str(json_obj(image, "descriptor"), "digest", "");

	if (!*want)
		return false;
	if (!strcmp(digest, want) ||
	    (strlen(want) >= 12 && str_prefix(digest, "sha256:") && str_prefix(digest + 7, want)))
		return true;
	return filter_image(ref, want);
}

const char *list_health(struct json_object *o)
{
	return json_str(json_obj(json_obj(o, "status"), "health"), "status", "none");
}

static bool exited_with(struct json_object *o, const char *want)
{
	struct json_object *status = json_obj(o, "status");
	int64_t code;

	return json_get(status, "exitCode") && !parse_i64(want, &code) &&
	       code == json_int(status, "exitCode", 0);
}

/* By a member of an entry of one of the configuration's lists. */
static bool uses(struct json_object *config, const char *list, const char *const *members,
		 const char *want)
{
	struct json_object *arr = json_arr(config, list);

	for (size_t i = 0; arr && i < json_object_array_length(arr); i++)
		for (const char *const *m = members; *m; m++)
			if (!strcmp(json_str(json_object_array_get_idx(arr, i), *m, ""), want))
				return true;
	return false;
}

static bool has_volume(struct json_object *config, const char *name)
{
	struct json_object *mounts = json_arr(config, "mounts");

	for (size_t i = 0; mounts && i < json_object_array_length(mounts); i++)
		if (str_eq(volume_of(json_object_array_get_idx(mounts, i)), name))
			return true;
	return false;
}

static bool one_matches(struct json_object *o, const char *key, const char *want)
{
	const char *id = json_str(o, "id", ""), *state = container_state(o);

	if (!strcmp(key, "id"))
		return *want && str_prefix(id, want);
	if (!strcmp(key, "name"))
		return strstr(id, want);
	if (!strcmp(key, "status"))
		return !strcmp(state, want) ||
		       (!strcmp(want, "exited") && !strcmp(state, "stopped"));
	if (!strcmp(key, "label"))
		return filter_label(json_obj(container_config(o), "labels"), want);
	if (!strcmp(key, "ancestor"))
		return image_matches(container_config(o), want);
	if (!strcmp(key, "exited"))
		return exited_with(o, want);
	if (!strcmp(key, "health"))
		return !strcmp(list_health(o), want);
	if (!strcmp(key, "network"))
		return uses(container_config(o), "networks", (const char *const[]){"network", NULL},
			    want);
	if (!strcmp(key, "volume"))
		return uses(container_config(o), "mounts",
			    (const char *const[]){"source", "destination", NULL}, want) ||
		       has_volume(container_config(o), want);
	return true; /* before, since: list_cut() */
}

bool list_matches(struct json_object *o, const char *const *filters)
{
	return filters_match(o, filters, keys, one_matches);
}

/* ---- ports ---- */

size_t list_ports(struct json_object *config, const char *to, bool lines, struct buf *out)
{
	struct json_object *ports = json_arr(config, "publishedPorts");
	size_t n = 0;

	for (size_t i = 0; ports && i < json_object_array_length(ports); i++) {
		struct json_object *p = json_object_array_get_idx(ports, i);
		const char *proto = json_str(p, "proto", "tcp"),
			   *host = json_str(p, "hostAddress", "");
		long long from = json_int(p, "hostPort", 0), port = json_int(p, "containerPort", 0);
		int64_t count = MIN(MAX(json_int(p, "count", 1), 1), 65535);
		bool v6 = strchr(host, ':');

		if (!*host)
			host = "0.0.0.0";
		for (int64_t k = 0; k < count; k++, from++, port++) {
			CLEANUP_FREE char *inner = xasprintf("%lld/%s", port, proto);
			CLEANUP_FREE char *outer =
				xasprintf(v6 ? "[%s]:%lld" : "%s:%lld", host, from);

			if (to && strcmp(to, inner) &&
			    (strcmp(proto, "tcp") || strtoll(to, NULL, 10) != port ||
			     strchr(to, '/')))
				continue;
			if (lines && to)
				buf_printf(out, "%s\n", outer);
			else if (lines)
				buf_printf(out, "%s -> %s\n", inner, outer);
			else
				buf_printf(out, "%s%s->%s", n ? ", " : "", outer, inner);
			n++;
		}
	}
	return n;
}

/* ---- fields ---- */

static char *field_command(struct json_object *config)
{
	struct json_object *init = json_obj(config, "initProcess"),
			   *args = json_arr(init, "arguments");
	struct buf b = {0};

	buf_puts(&b, json_str(init, "executable", ""));
	for (size_t i = 0; args && i < json_object_array_length(args); i++)
		buf_printf(&b, " %s", json_object_get_string(json_object_array_get_idx(args, i)));
	return b.data;
}

static char *field_labels(struct json_object *config)
{
	struct json_object *labels = json_obj(config, "labels");
	struct buf b = {0};

	buf_puts(&b, "");
	if (labels) {
		json_object_object_foreach(labels, key, value)
		{
			buf_printf(&b, "%s%s=%s", b.len ? "," : "", key,
				   json_object_get_string(value));
		}
	}
	return b.data;
}

/* A member of each of the networks, with commas between them. */
static char *field_networks(struct json_object *list, const char *member)
{
	struct buf b = {0};

	buf_puts(&b, "");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		buf_printf(&b, "%s%s", i ? "," : "",
			   json_str(json_object_array_get_idx(list, i), member, ""));
	return b.data;
}

static char *field_ports(struct json_object *config)
{
	struct buf b = {0};

	buf_puts(&b, "");
	list_ports(config, NULL, false, &b);
	return b.data;
}

/* "5 minutes" since a time text; the text itself when it is none. */
static char *since_text(const char *at, bool *is_span)
{
	int64_t now = time_now_ns(), ns;

	*is_span = !when_parse(at, now, &ns, NULL);
	return *is_span ? span_text(MAX(now - ns, 0) / 1000000000) : xstrdup(at);
}

static char *field_ago(const char *at)
{
	bool is_span;
	CLEANUP_FREE char *text = since_text(at, &is_span);

	return xasprintf("%s%s", text, is_span ? " ago" : "");
}

static char *field_status(struct json_object *o)
{
	struct json_object *status = json_obj(o, "status");
	const char *health = list_health(o);
	CLEANUP_FREE char *text = NULL;
	bool is_span;

	if (json_get(status, "exitCode")) {
		text = field_ago(json_str(status, "exitedAt", ""));
		return xasprintf("Exited (%lld) %s", (long long)json_int(status, "exitCode", 0),
				 text);
	}
	if (!json_get(status, "startedDate"))
		return xstrdup("Created");
	text = since_text(json_str(status, "startedDate", ""), &is_span);
	if (!strcmp(container_state(o), "paused"))
		return xasprintf("Up %s (Paused)", text);
	if (!strcmp(health, "none"))
		return xasprintf("Up %s", text);
	return xasprintf("Up %s (%s%s)", text, !strcmp(health, "starting") ? "health: " : "",
			 health);
}

/* One label: Label "key". */
static char *field_label(struct json_object *config, const char *name)
{
	size_t n = strlen(name);
	CLEANUP_FREE char *key = NULL;

	if (n < 9 || !str_prefix(name, "Label \"") || name[n - 1] != '"')
		return NULL;
	key = xstrndup(name + 7, n - 8);
	return xstrdup(json_str(json_obj(config, "labels"), key, ""));
}

static char *field_mounts(struct json_object *config)
{
	return field_networks(json_arr(config, "mounts"), "destination");
}

char *list_size(struct json_object *o)
{
	static const char *const units[] = {"kB", "MB", "GB", "TB"};
	double v = (double)json_int(json_obj(o, "status"), "diskUsageInBytes", 0) / 1000;
	size_t u = 0;

	if (!json_get(json_obj(o, "status"), "diskUsageInBytes"))
		return xstrdup("");
	for (; v >= 1000 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1000;
	return xasprintf("%.3g%s", v, units[u]);
}

char *list_field(struct json_object *o, const char *name)
{
	struct json_object *config = container_config(o), *status = json_obj(o, "status");
	struct json_object *res = json_obj(config, "resources");

	if (!strcmp(name, "ID") || !strcmp(name, "Names") || !strcmp(name, "Name"))
		return xstrdup(json_str(o, "id", ""));
	if (!strcmp(name, "Image"))
		return xstrdup(json_str(json_obj(config, "image"), "reference", ""));
	if (!strcmp(name, "Command"))
		return field_command(config);
	if (!strcmp(name, "CreatedAt"))
		return xstrdup(json_str(config, "creationDate", ""));
	if (!strcmp(name, "StartedAt"))
		return xstrdup(json_str(status, "startedDate", ""));
	if (!strcmp(name, "State"))
		return xstrdup(container_state(o));
	if (!strcmp(name, "Status"))
		return field_status(o);
	if (!strcmp(name, "Health"))
		return xstrdup(list_health(o));
	if (!strcmp(name, "RunningFor"))
		return field_ago(json_str(config, "creationDate", ""));
	if (!strcmp(name, "Size"))
		return list_size(o);
	if (!strcmp(name, "Mounts"))
		return field_mounts(config);
	if (!strcmp(name, "ExitCode"))
		return json_get(status, "exitCode")
			       ? xasprintf("%lld", (long long)json_int(status, "exitCode", 0))
			       : xstrdup("");
	if (!strcmp(name, "Labels"))
		return field_labels(config);
	if (!strcmp(name, "Ports"))
		return field_ports(config);
	if (!strcmp(name, "Networks"))
		return field_networks(json_arr(config, "networks"), "network");
	if (!strcmp(name, "IP"))
		return field_networks(json_arr(status, "networks"), "ipv4Address");
	if (!strcmp(name, "OS"))
		return xstrdup(json_str(json_obj(config, "platform"), "os", ""));
	if (!strcmp(name, "Arch"))
		return xstrdup(json_str(json_obj(config, "platform"), "architecture", ""));
	if (!strcmp(name, "CPUs"))
		return xasprintf("%lld", (long long)json_int(res, "cpus", 0));
	if (!strcmp(name, "Memory"))
		return xasprintf("%lld", (long long)json_int(res, "memoryInBytes", 0));
	return field_label(config, name);
}
