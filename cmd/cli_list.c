/* SPDX-License-Identifier: Apache-2.0 */
/* cli_list.c - see cli_list.h. */
#include <stdio.h>
#include "cmd/cli_list.h"

static const char *const keys[] = {"id", "name", "status", "label", "ancestor"};

static const char *container_state(struct json_object *o)
{
	return json_str(json_obj(o, "status"), "state", "unknown");
}

static struct json_object *container_config(struct json_object *o)
{
	return json_obj(o, "configuration");
}

/* ---- filters ---- */

static bool has_key(const char *filter, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(filter, key, n) && filter[n] == '=';
}

int list_filters_check(const char *const *filters, struct error **err)
{
	for (; *filters; filters++) {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(keys) && !has_key(*filters, keys[i]); i++)
			;
		if (i == ARRAY_SIZE(keys))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid filter '%s': id, name, status, label or "
					 "ancestor, '=' and a value expected",
					 *filters);
	}
	return 0;
}

bool list_filters_status(const char *const *filters)
{
	for (; *filters; filters++)
		if (has_key(*filters, "status"))
			return true;
	return false;
}

static bool label_matches(struct json_object *config, const char *want)
{
	CLEANUP_FREE char *key = xstrndup(want, strcspn(want, "="));
	const char *value = json_str(json_obj(config, "labels"), key, NULL);
	const char *eq = strchr(want, '=');

	return value && (!eq || !strcmp(value, eq + 1));
}

/* What a user calls an image is its reference without what is understood. */
static bool image_matches(struct json_object *config, const char *want)
{
	static const char *const prefix[] = {"", "docker.io/", "docker.io/library/"};
	struct json_object *image = json_obj(config, "image");
	const char *ref = json_str(image, "reference", "");
	const char *digest = json_str(json_obj(image, "descriptor"), "digest", "");

	if (!*want)
		return false;
	if (!strcmp(digest, want) ||
	    (strlen(want) >= 12 && str_prefix(digest, "sha256:") && str_prefix(digest + 7, want)))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(prefix); i++) {
		CLEANUP_FREE char *full = xasprintf("%s%s", prefix[i], want);
		CLEANUP_FREE char *latest = xasprintf("%s:latest", full);

		if (!strcmp(ref, full) || !strcmp(ref, latest))
			return true;
	}
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
		return label_matches(container_config(o), want);
	return image_matches(container_config(o), want);
}

bool list_matches(struct json_object *o, const char *const *filters)
{
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		bool asked = false, agrees = false;

		for (size_t i = 0; filters[i] && !agrees; i++) {
			if (!has_key(filters[i], keys[k]))
				continue;
			asked = true;
			agrees = one_matches(o, keys[k], filters[i] + strlen(keys[k]) + 1);
		}
		/* Each label asked for must be there; they are no alternatives to each other. */
		for (size_t i = 0; filters[i] && agrees && !strcmp(keys[k], "label"); i++)
			if (has_key(filters[i], "label"))
				agrees = one_matches(o, "label", filters[i] + 6);
		if (asked && !agrees)
			return false;
	}
	return true;
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

static char *field_status(struct json_object *o)
{
	struct json_object *status = json_obj(o, "status");
	const char *state = container_state(o);

	if (json_get(status, "exitCode"))
		return xasprintf("Exited (%lld) %s", (long long)json_int(status, "exitCode", 0),
				 json_str(status, "exitedAt", ""));
	if (json_get(status, "startedDate"))
		return xasprintf("%s since %s", !strcmp(state, "paused") ? "Paused, up" : "Up",
				 json_str(status, "startedDate", ""));
	return xstrdup("Created");
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
	return NULL;
}
