/* SPDX-License-Identifier: Apache-2.0 */
/* commit_config.c - see commit_config.h. */
#include <ctype.h>
#include <strings.h>

#include "cmd/cli_config.h"
#include "cmd/commit_config.h"
#include "cmd/when.h"

static struct json_object *copy(struct json_object *o)
{
	struct json_object *c = NULL;

	if (o && json_object_deep_copy(o, &c, NULL))
		abort(); /* out of memory */
	return c;
}

/* ---- what the container has ---- */

/* The command line is the image's entrypoint and a command, as long as it begins so. */
static void put_command(struct json_object *config, struct json_object *init)
{
	struct json_object *entry = json_arr(config, "Entrypoint"),
			   *args = json_arr(init, "arguments");
	struct json_object *all = json_object_new_array(), *cmd;
	size_t i, n = entry ? json_object_array_length(entry) : 0, total;
	bool same = true;

	json_add_str(all, json_str(init, "executable", ""));
	for (i = 0; args && i < json_object_array_length(args); i++)
		json_object_array_add(all, json_object_get(json_object_array_get_idx(args, i)));
	total = json_object_array_length(all);
	for (i = 0; i < n && same; i++)
		same = i < total && json_object_equal(json_object_array_get_idx(entry, i),
						      json_object_array_get_idx(all, i));
	if (!same) {
		json_object_object_del(config, "Entrypoint");
		n = 0;
	}
	cmd = json_object_new_array();
	for (i = n; i < total; i++)
		json_object_array_add(cmd, json_object_get(json_object_array_get_idx(all, i)));
	json_set(config, "Cmd", cmd);
	json_object_put(all);
}

static void put_user(struct json_object *config, struct json_object *user)
{
	struct json_object *id = json_obj(user, "id");
	const char *raw = json_str(json_obj(user, "raw"), "userString", "");

	if (id) {
		CLEANUP_FREE char *text = xasprintf("%lld:%lld", (long long)json_int(id, "uid", 0),
						    (long long)json_int(id, "gid", 0));

		json_set_str(config, "User", text);
	} else if (*raw) {
		json_set_str(config, "User", raw);
	}
}

static struct json_object *member(struct json_object *config, const char *key)
{
	struct json_object *o = json_obj(config, key);

	if (!o) {
		o = json_object_new_object();
		json_set(config, key, o);
	}
	return o;
}

static void put_labels(struct json_object *config, struct json_object *labels)
{
	struct json_object *to = NULL;

	if (!labels || !json_object_object_length(labels))
		return;
	to = member(config, "Labels");
	json_object_object_foreach(labels, key, value)
	{
		json_set(to, key, json_object_get(value));
	}
}

static void put_health(struct json_object *config, struct json_object *check)
{
	static const char *const names[][2] = {
		{"interval", "Interval"},       {"timeout", "Timeout"},
		{"startPeriod", "StartPeriod"}, {"startInterval", "StartInterval"},
		{"retries", "Retries"},
	};
	struct json_object *o, *none;

	if (!check && !json_get(config, "Healthcheck"))
		return;
	o = json_object_new_object();
	if (check) {
		json_set(o, "Test", json_object_get(json_get(check, "test")));
	} else {
		none = json_object_new_array();
		json_add_str(none, "NONE");
		json_set(o, "Test", none);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (json_int(check, names[i][0], 0) > 0)
			json_set_int(o, names[i][1], json_int(check, names[i][0], 0));
	json_set(config, "Healthcheck", o);
}

struct json_object *commit_config(struct json_object *base, struct json_object *container)
{
	struct json_object *config = copy(json_obj(base, "config"));
	struct json_object *init = json_obj(container, "initProcess");

	if (!config)
		config = json_object_new_object();
	put_command(config, init);
	if (json_arr(init, "environment"))
		json_set(config, "Env", copy(json_arr(init, "environment")));
	json_set_str(config, "WorkingDir", json_str(init, "workingDirectory", NULL));
	put_user(config, json_obj(init, "user"));
	put_labels(config, json_obj(container, "labels"));
	json_set_str(config, "StopSignal", json_str(container, "stopSignal", NULL));
	put_health(config, json_obj(container, "healthcheck"));
	return config;
}

/* ---- instructions ---- */

/* The next word of *p, quotes taken off; NULL at the end, *bad for a quote without its end. The caller owns it. */
static char *next_word(const char **p, bool *bad)
{
	struct buf b = {0};
	const char *s = *p;
	char quote = 0;

	while (isspace((unsigned char)*s))
		s++;
	if (!*s)
		return NULL;
	buf_puts(&b, "");
	for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
		if (*s == '\\' && s[1] && quote != '\'')
			buf_append(&b, ++s, 1);
		else if (*s == quote)
			quote = 0;
		else if (!quote && (*s == '"' || *s == '\''))
			quote = *s;
		else
			buf_append(&b, s, 1);
	}
	*bad = quote != 0;
	*p = s;
	return b.data;
}

static int words(const char *text, struct strv *out, struct error **err)
{
	bool bad = false;
	char *word;

	while (!bad && (word = next_word(&text, &bad)))
		strv_take(out, word);
	return bad ? error_set(err, ERR_INVALID_ARGUMENT, "a quote has no end") : 0;
}

/* ["a", "b"]; NULL when it is none. */
static struct json_object *json_form(const char *text)
{
	struct json_object *o = *text == '[' ? json_parse(text, strlen(text), NULL) : NULL;
	bool good = json_object_is_type(o, json_type_array);

	for (size_t i = 0; good && i < json_object_array_length(o); i++)
		good = json_object_is_type(json_object_array_get_idx(o, i), json_type_string);
	if (good)
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *command_form(const char *text)
{
	struct json_object *o = json_form(text);

	if (o)
		return o;
	o = json_object_new_array();
	json_add_str(o, "/bin/sh");
	json_add_str(o, "-c");
	json_add_str(o, text);
	return o;
}

static int do_cmd(struct json_object *c, const char *text, struct error **err)
{
	json_set(c, "Cmd", command_form(text));
	return 0;
}

static int do_entrypoint(struct json_object *c, const char *text, struct error **err)
{
	json_set(c, "Entrypoint", command_form(text));
	return 0;
}

/* "K=V K2=V2", or "K V" with the rest of the line. */
static int pairs(const char *text, struct strv *out, struct error **err)
{
	size_t n = strcspn(text, " \t=");
	CLEANUP_STRV struct strv all = {0};

	if (text[n] && text[n] != '=') {
		CLEANUP_FREE char *key = xstrndup(text, n);

		strv_addf(out, "%s=%s", key, text + n + strspn(text + n, " \t"));
		return 0;
	}
	if (words(text, &all, err))
		return -1;
	for (size_t i = 0; i < all.n; i++) {
		if (!strchr(all.v[i], '=') || *all.v[i] == '=')
			return error_set(err, ERR_INVALID_ARGUMENT, "'%s': key=value expected",
					 all.v[i]);
		strv_add(out, all.v[i]);
	}
	return 0;
}

static int do_env(struct json_object *c, const char *text, struct error **err)
{
	CLEANUP_STRV struct strv v = {0};
	struct json_object *env;
	static char *const nobody[] = {NULL};

	if (pairs(text, &v, err) || env_merge(json_arr(c, "Env"), (const char *const[]){NULL},
					      (const char *const *)v.v, nobody, &env, err))
		return -1;
	json_set(c, "Env", env);
	return 0;
}

static int do_label(struct json_object *c, const char *text, struct error **err)
{
	CLEANUP_STRV struct strv v = {0};

	if (pairs(text, &v, err))
		return -1;
	for (size_t i = 0; i < v.n; i++) {
		char *eq = strchr(v.v[i], '=');

		*eq = 0;
		json_set_str(member(c, "Labels"), v.v[i], eq + 1);
	}
	return 0;
}

static int do_expose(struct json_object *c, const char *text, struct error **err)
{
	CLEANUP_STRV struct strv v = {0};

	if (words(text, &v, err))
		return -1;
	for (size_t i = 0; i < v.n; i++) {
		CLEANUP_FREE char *port =
			strchr(v.v[i], '/') ? xstrdup(v.v[i]) : xasprintf("%s/tcp", v.v[i]);
		CLEANUP_FREE char *number = xstrndup(port, strcspn(port, "/"));
		uint64_t n;

		if (parse_u64(number, &n) || !n || n > 65535)
			return error_set(err, ERR_INVALID_ARGUMENT, "'%s' is no port", v.v[i]);
		json_set(member(c, "ExposedPorts"), port, json_object_new_object());
	}
	return 0;
}

static int do_volume(struct json_object *c, const char *text, struct error **err)
{
	CLEANUP_JSON struct json_object *list = json_form(text);
	CLEANUP_STRV struct strv v = {0};

	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		strv_add(&v, json_object_get_string(json_object_array_get_idx(list, i)));
	if (!list && words(text, &v, err))
		return -1;
	for (size_t i = 0; i < v.n; i++)
		json_set(member(c, "Volumes"), v.v[i], json_object_new_object());
	return 0;
}

static int do_workdir(struct json_object *c, const char *text, struct error **err)
{
	const char *was = json_str(c, "WorkingDir", "/");
	CLEANUP_FREE char *path =
		*text == '/' ? xstrdup(text)
			     : xasprintf("%s%s%s", was, str_suffix(was, "/") ? "" : "/", text);

	json_set_str(c, "WorkingDir", path);
	return 0;
}

static int do_user(struct json_object *c, const char *text, struct error **err)
{
	json_set_str(c, "User", text);
	return 0;
}

static int do_stopsignal(struct json_object *c, const char *text, struct error **err)
{
	int signo;

	if (signal_parse(text, &signo, err))
		return -1;
	json_set_str(c, "StopSignal", text);
	return 0;
}

static int do_onbuild(struct json_object *c, const char *text, struct error **err)
{
	struct json_object *list = json_arr(c, "OnBuild");

	if (!list) {
		list = json_object_new_array();
		json_set(c, "OnBuild", list);
	}
	json_add_str(list, text);
	return 0;
}

/* "--interval=1s", … in front of CMD; *p is set behind them. */
static int health_options(const char **p, struct json_object *o, struct error **err)
{
	static const char *const names[][2] = {
		{"--interval=", "Interval"},        {"--timeout=", "Timeout"},
		{"--start-period=", "StartPeriod"}, {"--start-interval=", "StartInterval"},
		{"--retries=", "Retries"},
	};

	while (str_prefix(*p, "--")) {
		size_t n = strcspn(*p, " \t"), i;
		CLEANUP_FREE char *word = xstrndup(*p, n);
		int64_t v;

		for (i = 0; i < ARRAY_SIZE(names) && !str_prefix(word, names[i][0]); i++)
			;
		if (i == ARRAY_SIZE(names))
			return error_set(err, ERR_INVALID_ARGUMENT, "'%s' is unknown", word);
		const char *value = word + strlen(names[i][0]);

		if (i + 1 == ARRAY_SIZE(names) ? parse_i64(value, &v) : span_parse(value, &v, NULL))
			return error_set(err, ERR_INVALID_ARGUMENT, "'%s' is invalid", word);
		json_set_int(o, names[i][1], v);
		*p += n + strspn(*p + n, " \t");
	}
	return 0;
}

static int do_healthcheck(struct json_object *c, const char *text, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *test, *list;

	if (health_options(&text, o, err))
		return -1;
	test = json_object_new_array();
	json_set(o, "Test", test);
	if (!strcasecmp(text, "NONE")) {
		json_add_str(test, "NONE");
	} else if (strncasecmp(text, "CMD", 3) || !isspace((unsigned char)text[3])) {
		return error_set(err, ERR_INVALID_ARGUMENT, "NONE or CMD and a command expected");
	} else {
		text += 3 + strspn(text + 3, " \t");
		list = json_form(text);
		json_add_str(test, list ? "CMD" : "CMD-SHELL");
		for (size_t i = 0; list && i < json_object_array_length(list); i++)
			json_object_array_add(test,
					      json_object_get(json_object_array_get_idx(list, i)));
		if (!list)
			json_add_str(test, text);
		json_object_put(list);
	}
	json_set(c, "Healthcheck", STEAL(o));
	return 0;
}

int commit_change(struct json_object *config, const char *text, struct error **err)
{
	static const struct {
		const char *name;
		int (*fn)(struct json_object *c, const char *text, struct error **err);
	} all[] = {
		{"CMD", do_cmd},         {"ENTRYPOINT", do_entrypoint},   {"ENV", do_env},
		{"EXPOSE", do_expose},   {"HEALTHCHECK", do_healthcheck}, {"LABEL", do_label},
		{"ONBUILD", do_onbuild}, {"STOPSIGNAL", do_stopsignal},   {"USER", do_user},
		{"VOLUME", do_volume},   {"WORKDIR", do_workdir},
	};
	size_t n, i;
	const char *rest;

	text += strspn(text, " \t");
	n = strcspn(text, " \t");
	rest = text + n + strspn(text + n, " \t");
	for (i = 0; i < ARRAY_SIZE(all); i++)
		if (strlen(all[i].name) == n && !strncasecmp(text, all[i].name, n))
			break;
	if (i == ARRAY_SIZE(all) || !*rest)
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"invalid change '%.100s': CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, "
			"LABEL, "
			"ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR and a value expected",
			text);
	if (all[i].fn(config, rest, err))
		return error_wrap(err, "change '%.100s'", text);
	return 0;
}
