/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_mounts.c - from --tmpfs, --mount and -v to the mounts of a configuration.
 *
 *   --tmpfs  path[:option,…]
 *   --mount  type=bind|virtiofs|tmpfs|volume,source=…,target=…[,readonly][,size=…][,mode=…]
 *   -v       path:target[:option,…]   name:target[:option,…]   target
 *
 * Each is first taken apart into a struct mount, then all go the same way. A source of -v with a '/' in it, or "." or "..", is a path of
 * the host, any other word is the name of a volume, and none at all is a volume that gets a name when it is made.
 */
#include "cmd/cli_mounts.h"

#include <stdlib.h>

#include "cmd/volume.h"

enum mount_type { MOUNT_VIRTIOFS, MOUNT_TMPFS, MOUNT_VOLUME };

static const struct {
	const char *name;
	enum mount_type type;
} types[] = {
	{"bind", MOUNT_VIRTIOFS},
	{"virtiofs", MOUNT_VIRTIOFS},
	{"tmpfs", MOUNT_TMPFS},
	{"volume", MOUNT_VOLUME},
};

/* Words of -v after the second colon. What docker's and podman's mean that a microVM has no use for (labels of SELinux, how mounts
 * propagate, consistency of caches) is taken and left out. */
static const struct {
	const char *name;
	bool kept;
} words[] = {
	{"ro", true},      {"rw", false},      {"noexec", true},     {"nosuid", true},
	{"nodev", true},   {"noatime", true},  {"readonly", false},  {"z", false},
	{"Z", false},      {"cached", false},  {"delegated", false}, {"consistent", false},
	{"nocopy", false}, {"private", false}, {"rprivate", false},  {"slave", false},
	{"rslave", false},
};

/* One of them, taken apart. The strings are borrowed from the text's copy. */
struct mount {
	const char *text; /* as it was given */
	enum mount_type type;
	const char *source, *target; /* NULL: not said */
	struct json_object *options; /* owned until it is in the configuration */
	bool readonly;
	bool sized; /* size or mode was said */
};

static void mount_free(struct mount *m)
{
	json_object_put(m->options);
}

static int bad(const struct mount *m, struct error **err, const char *why)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "invalid mount '%s': %s", m->text, why);
}

/* ---- destinations ---- */

/* The path without "//", "/." and a '/' at its end; NULL when it is not absolute, is the root, or goes up. The caller owns it. */
static char *clean_target(const char *path)
{
	CLEANUP_BUF struct buf b = {0};

	if (!path || *path != '/')
		return NULL;
	while (*path) {
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (n == 2 && !strncmp(path, "..", 2))
			return NULL;
		if (n && !(n == 1 && *path == '.'))
			buf_printf(&b, "/%.*s", (int)n, path);
		path += n;
	}
	return b.len ? STEAL(b.data) : NULL;
}

static bool target_taken(struct json_object *mounts, const char *target)
{
	for (size_t i = 0; i < json_object_array_length(mounts); i++)
		if (str_eq(json_str(json_object_array_get_idx(mounts, i), "destination", NULL),
			   target))
			return true;
	return false;
}

/* ---- what goes into the configuration ---- */

static struct json_object *one_member(const char *key, struct json_object *value)
{
	struct json_object *o = json_object_new_object();

	json_set(o, key, value);
	return o;
}

static int put_source(const struct mount *m, struct json_object *o, struct json_object *type,
		      struct error **err)
{
	struct json_object *v = json_object_new_object();
	CLEANUP_FREE char *full = NULL;

	switch (m->type) {
	case MOUNT_TMPFS:
		json_set(type, "tmpfs", v);
		json_set_str(o, "source", "tmpfs");
		return 0;
	case MOUNT_VOLUME:
		json_set(type, "volume", v);
		json_set_str(v, "name", m->source ? m->source : "");
		json_set_str(v, "format", "ext4");
		json_set(v, "cache", one_member("on", json_object_new_object()));
		json_set(v, "sync", one_member("fsync", json_object_new_object()));
		json_set_str(o, "source", m->source ? m->source : "");
		return 0;
	case MOUNT_VIRTIOFS:
		break;
	}
	json_set(type, "virtiofs", v);
	full = realpath(m->source, NULL);
	if (!full)
		return error_sys(err, errno, "invalid mount '%s': path '%s'", m->text, m->source);
	json_set_str(o, "source", full);
	return 0;
}

static int put_mount(struct mount *m, struct json_object *mounts, struct error **err)
{
	CLEANUP_FREE char *target = clean_target(m->target);
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *type = json_object_new_object();

	json_set(o, "type", type);
	if (!m->target)
		return bad(m, err, "it names no target");
	if (!target)
		return bad(m, err, "the target must be an absolute path below /, without ..");
	if (target_taken(mounts, target))
		return bad(m, err, "something else is mounted there already");
	if (m->sized && m->type != MOUNT_TMPFS)
		return bad(m, err, "size and mode are options of a tmpfs");
	if (m->type == MOUNT_TMPFS && m->source && *m->source)
		return bad(m, err, "a tmpfs has no source");
	if (m->type == MOUNT_VIRTIOFS && (!m->source || !*m->source))
		return bad(m, err, "it names no source");
	if (m->type == MOUNT_VOLUME && m->source && !volume_name_ok(m->source))
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid volume name '%s'", m->source);
	if (put_source(m, o, type, err))
		return -1;
	json_set_str(o, "destination", target);
	if (m->readonly)
		json_add_str(m->options, "ro");
	json_set(o, "options", STEAL(m->options));
	json_object_array_add(mounts, STEAL(o));
	return 0;
}

/* ---- --tmpfs ---- */

static int add_tmpfs(char *text, struct mount *m, struct error **err)
{
	char *word;

	m->type = MOUNT_TMPFS;
	m->target = strsep(&text, ":");
	while ((word = strsep(&text, ",")))
		if (*word)
			json_add_str(m->options, word);
	if (*m->target == '/' && m->target[1])
		return 0;
	return error_set(err, ERR_INVALID_ARGUMENT, "invalid tmpfs '%s': an absolute path expected",
			 m->text);
}

/* ---- --mount ---- */

static int mount_type(struct mount *m, char *value, struct error **err)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(types[i].name, value)) {
			m->type = types[i].type;
			return 0;
		}
	return bad(m, err, "type is bind, virtiofs, tmpfs or volume");
}

static int mount_source(struct mount *m, char *value, struct error **err)
{
	if (!value || !*value || m->source)
		return bad(m, err, "source is said once, and not empty");
	m->source = value;
	return 0;
}

static int mount_target(struct mount *m, char *value, struct error **err)
{
	if (!value || !*value || m->target)
		return bad(m, err, "target is said once, and not empty");
	m->target = value;
	return 0;
}

static int mount_readonly(struct mount *m, char *value, struct error **err)
{
	if (value && strcmp(value, "true") && strcmp(value, "1") && strcmp(value, "false") &&
	    strcmp(value, "0"))
		return bad(m, err, "readonly is true or false");
	m->readonly = !value || !strcmp(value, "true") || !strcmp(value, "1");
	return 0;
}

static void add_pair(struct mount *m, const char *key, const char *value)
{
	CLEANUP_FREE char *s = xasprintf("%s=%s", key, value);

	json_add_str(m->options, s);
	m->sized = true;
}

static int mount_size(struct mount *m, char *value, struct error **err)
{
	CLEANUP_FREE char *bytes = NULL;
	uint64_t n;

	if (!value || parse_size(value, &n, NULL) || !n || n > INT64_MAX)
		return bad(m, err, "size is a number of bytes, with a suffix K, M, G, T or P");
	bytes = xasprintf("%llu", (unsigned long long)n);
	add_pair(m, "size", bytes);
	return 0;
}

static int mount_mode(struct mount *m, char *value, struct error **err)
{
	if (!value || !*value || strlen(value) > 4 || value[strspn(value, "01234567")])
		return bad(m, err, "mode is an octal number");
	add_pair(m, "mode", value);
	return 0;
}

/* Value is NULL for a key that stands alone. */
static const struct {
	const char *names; /* as in an option table */
	int (*take)(struct mount *m, char *value, struct error **err);
} keys[] = {
	{"type", mount_type},
	{"source|src", mount_source},
	{"target|dst|destination", mount_target},
	{"readonly|ro", mount_readonly},
	{"size|tmpfs-size", mount_size},
	{"mode|tmpfs-mode", mount_mode},
};

static int add_mount(char *text, struct mount *m, struct error **err)
{
	char *pair;

	while ((pair = strsep(&text, ","))) {
		char *value = pair, *key = strsep(&value, "=");
		size_t i;

		for (i = 0; i < ARRAY_SIZE(keys) && !opt_names_match(keys[i].names, key); i++)
			;
		if (i == ARRAY_SIZE(keys))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid mount '%s': there is no key '%s'", m->text, key);
		if (keys[i].take(m, value, err))
			return -1;
	}
	return 0;
}

/* ---- -v ---- */

static bool is_path(const char *source)
{
	return strchr(source, '/') || !strcmp(source, ".") || !strcmp(source, "..");
}

static int volume_words(char *text, struct mount *m, struct error **err)
{
	char *word;

	while ((word = strsep(&text, ","))) {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(words) && strcmp(words[i].name, word); i++)
			;
		if (i == ARRAY_SIZE(words))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid volume '%s': there is no option '%s'", m->text,
					 word);
		if (!strcmp(word, "ro") || !strcmp(word, "readonly"))
			m->readonly = true;
		else if (words[i].kept)
			json_add_str(m->options, word);
	}
	return 0;
}

static int add_volume(char *text, struct mount *m, struct error **err)
{
	char *first = strsep(&text, ":"), *second = strsep(&text, ":");

	m->target = second ? second : first;
	m->source = second ? first : NULL;
	m->type = m->source && is_path(m->source) ? MOUNT_VIRTIOFS : MOUNT_VOLUME;
	if (!*m->target || (m->source && !*m->source) || (text && strchr(text, ':')))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid volume '%s': [<path or name>:]<target>[:<options>] "
				 "expected",
				 m->text);
	return text ? volume_words(text, m, err) : 0;
}

/* ---- all of them ---- */

static const struct {
	const char *option;
	int (*take)(char *text, struct mount *m, struct error **err);
} flags[] = {{"tmpfs", add_tmpfs}, {"mount", add_mount}, {"volume", add_volume}};

static int put_one(size_t flag, const char *text, struct json_object *mounts, struct error **err)
{
	CLEANUP(mount_free)
	struct mount m = {.text = text, .options = json_object_new_array()};
	CLEANUP_FREE char *copy = xstrdup(text);

	return flags[flag].take(copy, &m, err) ? -1 : put_mount(&m, mounts, err);
}

int mounts_build(const struct opt_args *a, struct json_object *out, struct error **err)
{
	struct json_object *mounts = json_object_new_array();

	json_set(out, "mounts", mounts);
	for (size_t f = 0; f < ARRAY_SIZE(flags); f++) {
		size_t n;
		CLEANUP_FREE const char **v = opt_list(a, flags[f].option, &n);

		for (size_t i = 0; i < n; i++)
			if (put_one(f, v[i], mounts, err))
				return -1;
	}
	return 0;
}
