/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - the configuration file: one table of keys, each with a type, bounds and a default.
 *
 * In the file a dotted key may be written either way: {"container.cpus": 2} or {"container": {"cpus": 2}}.
 */
#include <arpa/inet.h>
#include <fcntl.h>

#include "core/path.h"
#include "core/roots.h"
#include "core/str.h"

#define CONFIG_MAX_BYTES (1u << 20)

struct key {
	const char *name;
	enum { KEY_STR, KEY_INT } type;
	const char *str;                 /* default */
	int64_t (*dflt)(void);           /* default of an integer */
	int64_t min, max;                /* of an integer */
	int (*check)(const char *value); /* of a string; NULL: any */
	const char *expects;             /* what check() wants, for the message */
};

static int64_t default_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : MIN(n, 4);
}

static int64_t default_log_files(void)
{
	return 2;
}

static int check_engine(const char *v)
{
	return str_eq(v, "auto") || str_eq(v, "kvm") || str_eq(v, "qemu") ? 0 : -1;
}

static int check_level(const char *v)
{
	return str_eq(v, "debug") || str_eq(v, "info") || str_eq(v, "warning") || str_eq(v, "error")
		       ? 0
		       : -1;
}

static int check_size(const char *v)
{
	uint64_t n;

	return parse_size(v, &n, NULL);
}

static int check_subnet(const char *v)
{
	const char *slash = strchr(v, '/');
	CLEANUP_FREE char *addr = slash ? xstrndup(v, (size_t)(slash - v)) : NULL;
	struct in_addr a;
	uint64_t bits;

	if (!slash || inet_pton(AF_INET, addr, &a) != 1 || parse_u64(slash + 1, &bits) ||
	    bits < 8 || bits > 29)
		return -1;
	return ntohl(a.s_addr) & (0xffffffffu >> bits) ? -1 : 0;
}

static int check_path(const char *v)
{
	return *v == '/' ? 0 : -1;
}

/* "docker.io=https://mirror.example, …" */
static int check_mirrors(const char *v)
{
	CLEANUP_FREE char *copy = xstrdup(v);
	char *save = NULL, *item;

	for (item = strtok_r(copy, ", ", &save); item; item = strtok_r(NULL, ", ", &save)) {
		const char *eq = strchr(item, '=');

		if (!eq || eq == item ||
		    (!str_prefix(eq + 1, "http://") && !str_prefix(eq + 1, "https://")))
			return -1;
	}
	return 0;
}

/* docker-credential-<name> */
static int check_helper(const char *v)
{
	size_t n = strspn(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n && !v[n] ? 0 : -1;
}

/* "ghcr.io=pass, registry.example=ecr-login" */
static int check_helpers(const char *v)
{
	CLEANUP_FREE char *copy = xstrdup(v);
	char *save = NULL, *item;

	for (item = strtok_r(copy, ", ", &save); item; item = strtok_r(NULL, ", ", &save)) {
		const char *eq = strchr(item, '=');

		if (!eq || eq == item || check_helper(eq + 1))
			return -1;
	}
	return 0;
}

static int64_t default_timeout(void)
{
	return 60;
}

static const struct key keys[] = {
	{.name = "container.cpus", .type = KEY_INT, .dflt = default_cpus, .min = 1, .max = 255},
	{.name = "container.logFiles",
	 .type = KEY_INT,
	 .dflt = default_log_files,
	 .min = 1,
	 .max = 16},
	{.name = "container.logSize",
	 .str = "16m",
	 .check = check_size,
	 .expects = "a size such as \"16m\""},
	{.name = "container.memory",
	 .str = "1g",
	 .check = check_size,
	 .expects = "a size such as \"1g\""},
	{.name = "dns.domain"},
	{.name = "emulator.dir",
	 .str = "/usr/bin",
	 .check = check_path,
	 .expects = "an absolute path"},
	{.name = "engine", .str = "auto", .check = check_engine, .expects = "auto, kvm or qemu"},
	{.name = "kernel.path", .check = check_path, .expects = "an absolute path"},
	{.name = "log.level",
	 .str = "info",
	 .check = check_level,
	 .expects = "debug, info, warning or error"},
	{.name = "network.subnet",
	 .str = "192.168.64.0/24",
	 .check = check_subnet,
	 .expects = "a network such as 192.168.64.0/24, /8 to /29"},
	{.name = "qemu.path", .check = check_path, .expects = "an absolute path"},
	{.name = "registry.ca", .check = check_path, .expects = "an absolute path"},
	{.name = "registry.credHelpers",
	 .check = check_helpers,
	 .expects = "registry=helper pairs such as \"ghcr.io=pass\""},
	{.name = "registry.credsStore", .check = check_helper, .expects = "the name of a helper"},
	{.name = "registry.domain", .str = "docker.io"},
	{.name = "registry.insecure"},
	{.name = "registry.mirrors",
	 .check = check_mirrors,
	 .expects = "registry=URL pairs such as \"docker.io=https://mirror.example\""},
	{.name = "registry.timeout",
	 .type = KEY_INT,
	 .dflt = default_timeout,
	 .min = 1,
	 .max = 3600},
};

struct value {
	char *str; /* NULL: unset */
	int64_t num;
	char *source;
};

struct config {
	struct value v[ARRAY_SIZE(keys)];
};

static int key_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(keys[i].name, name))
			return (int)i;
	return -1;
}

/* Whether name is the first part of some key. */
static bool is_section(const char *name)
{
	size_t i, n = strlen(name);

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strncmp(keys[i].name, name, n) && keys[i].name[n] == '.')
			return true;
	return false;
}

static int set_str(struct config *c, int k, const char *s, const char *source, struct error **err)
{
	if (keys[k].check && keys[k].check(s))
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: \"%s\" must be %s, not \"%s\"",
				 source, keys[k].name, keys[k].expects, s);
	free(c->v[k].str);
	c->v[k].str = xstrdup(s);
	free(c->v[k].source);
	c->v[k].source = xstrdup(source);
	return 0;
}

static int set_value(struct config *c, int k, struct json_object *o, const char *file,
		     struct error **err)
{
	const struct key *key = &keys[k];
	int64_t n;

	if (key->type == KEY_STR) {
		const char *s = json_object_get_string(o);

		if (!json_object_is_type(o, json_type_string) ||
		    strlen(s) != (size_t)json_object_get_string_len(o))
			return error_set(err, ERR_INVALID_ARGUMENT, "%s: \"%s\" must be a string",
					 file, key->name);
		return set_str(c, k, s, file, err);
	}
	n = json_object_get_int64(o);
	if (!json_object_is_type(o, json_type_int) || n < key->min || n > key->max)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%s: \"%s\" must be an integer between %lld and %lld", file,
				 key->name, (long long)key->min, (long long)key->max);
	c->v[k].num = n;
	free(c->v[k].source);
	c->v[k].source = xstrdup(file);
	return 0;
}

static int read_section(struct config *c, const char *prefix, struct json_object *o,
			const char *file, struct error **err)
{
	json_object_object_foreach(o, name, val)
	{
		CLEANUP_FREE char *full =
			*prefix ? xasprintf("%s.%s", prefix, name) : xstrdup(name);
		int k = key_find(full);

		if (k >= 0) {
			if (set_value(c, k, val, file, err))
				return -1;
		} else if (is_section(full)) {
			if (!json_object_is_type(val, json_type_object))
				return error_set(err, ERR_INVALID_ARGUMENT,
						 "%s: \"%s\" must be an object", file, full);
			if (read_section(c, full, val, file, err))
				return -1;
		} else {
			return error_set(err, ERR_INVALID_ARGUMENT, "%s: unknown key \"%s\"", file,
					 full);
		}
	}
	return 0;
}

static int read_file(struct config *c, const char *file, bool required, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_JSON struct json_object *o = NULL;

	if (path_read_all(AT_FDCWD, file, CONFIG_MAX_BYTES, &b, &e)) {
		if (!required && (e->sys == ENOENT || e->sys == ENOTDIR))
			return 0;
		error_move(err, STEAL(e));
		return error_wrap(err, "configuration");
	}
	o = json_parse_relaxed(b.data, b.len, err);
	if (!o)
		return error_wrap(err, "%s", file);
	if (!json_object_is_type(o, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: must be an object", file);
	return read_section(c, "", o, file, err);
}

static char *default_file(void)
{
	const char *dir = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (!geteuid())
		return xstrdup("/etc/container/config.json");
	if (dir && *dir == '/')
		return xasprintf("%s/container/config.json", dir);
	return home && *home == '/' ? xasprintf("%s/.config/container/config.json", home) : NULL;
}

struct config *config_load(struct error **err)
{
	struct config *c = xcalloc(1, sizeof(*c));
	const char *env = getenv("CONTAINER_CONFIG"), *engine = getenv("CONTAINER_ENGINE");
	bool required = env && *env;
	CLEANUP_FREE char *file = required ? xstrdup(env) : default_file();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		c->v[i].str = keys[i].str ? xstrdup(keys[i].str) : NULL;
		c->v[i].num = keys[i].dflt ? keys[i].dflt() : 0;
		c->v[i].source = xstrdup("default");
	}
	if (file && read_file(c, file, required, err))
		goto fail;
	if (engine && *engine && set_str(c, key_find("engine"), engine, "CONTAINER_ENGINE", err))
		goto fail;
	return c;
fail:
	config_free(c);
	return NULL;
}

void config_free(struct config *c)
{
	size_t i;

	for (i = 0; c && i < ARRAY_SIZE(keys); i++) {
		free(c->v[i].str);
		free(c->v[i].source);
	}
	free(c);
}

const char *config_str(const struct config *c, const char *key)
{
	int k = key_find(key);

	return k < 0 ? NULL : c->v[k].str;
}

int64_t config_int(const struct config *c, const char *key)
{
	int k = key_find(key);

	return k < 0 ? 0 : c->v[k].num;
}

struct json_object *config_list(const struct config *c)
{
	struct json_object *list = json_object_new_array();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		struct json_object *o = json_object_new_object();
		const struct value *v = &c->v[i];

		json_set_str(o, "key", keys[i].name);
		if (keys[i].type == KEY_INT)
			json_set_int(o, "value", v->num);
		else
			json_set(o, "value", v->str ? json_object_new_string(v->str) : NULL);
		json_set_str(o, "source", v->source);
		json_object_array_add(list, o);
	}
	return list;
}
