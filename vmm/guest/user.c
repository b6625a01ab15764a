/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user.c - who a process runs as, by the container's own /etc/passwd and /etc/group.
 *
 * Runs in the child once the container's root is its root, so plain paths stay inside. The files are the
 * image's: they may be anything, so only regular files of bounded size are read, line by line.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "vmm/guest/guest.h"

#define MAX_DATABASE (4u << 20)
#define MAX_GROUPS   1024
#define MAX_FIELDS   7
#define MAX_ID       (UINT32_MAX - 1)

/* An absent or odd database is an empty one. */
static void read_database(const char *path, struct buf *out)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	    fd_read_all(fd, MAX_DATABASE, out, NULL))
		buf_free(out);
	buf_puts(out, "");
}

/* Cuts the next line off *text into its fields; missing ones are "". False at the end. */
static bool next_line(char **text, char *field[MAX_FIELDS])
{
	static char none[1];
	char *line = *text, *end;
	int i;

	if (!*line)
		return false;
	end = strchr(line, '\n');
	*text = end ? end + 1 : line + strlen(line);
	if (end)
		*end = 0;
	for (i = 0; i < MAX_FIELDS; i++) {
		field[i] = line ? line : none;
		line = line ? strchr(line, ':') : NULL;
		if (line)
			*line++ = 0;
	}
	return true;
}

static bool parse_id(const char *s, uint32_t *id)
{
	uint64_t v;

	if (parse_u64(s, &v) || v > MAX_ID)
		return false;
	*id = (uint32_t)v;
	return true;
}

static void add_group(struct user *u, uint32_t gid)
{
	size_t i;

	for (i = 0; i < u->ngroups; i++)
		if (u->groups[i] == gid)
			return;
	if (u->ngroups >= MAX_GROUPS)
		return;
	u->groups = xreallocarray(u->groups, u->ngroups + 1, sizeof(*u->groups));
	u->groups[u->ngroups++] = gid;
}

/* Looks name (else, when NULL, *uid) up in passwd; fills what it finds. */
static bool find_user(const char *name, struct user *u, char **login)
{
	CLEANUP_BUF struct buf db = {0};
	char *f[MAX_FIELDS], *text;
	uint32_t uid, gid;

	read_database("/etc/passwd", &db);
	for (text = db.data; next_line(&text, f);) {
		if (!*f[0] || !parse_id(f[2], &uid) || !parse_id(f[3], &gid))
			continue;
		if (name ? strcmp(f[0], name) != 0 : uid != u->uid)
			continue;
		u->uid = uid;
		u->gid = gid;
		if (*f[5] == '/') {
			free(u->home);
			u->home = xstrdup(f[5]);
		}
		*login = xstrdup(f[0]);
		return true;
	}
	return false;
}

static bool find_group(const char *name, uint32_t *gid)
{
	CLEANUP_BUF struct buf db = {0};
	char *f[MAX_FIELDS], *text;

	read_database("/etc/group", &db);
	for (text = db.data; next_line(&text, f);)
		if (*f[0] && !strcmp(f[0], name) && parse_id(f[2], gid))
			return true;
	return false;
}

/* Adds every group that lists login as a member. */
static void member_groups(const char *login, struct user *u)
{
	CLEANUP_BUF struct buf db = {0};
	char *f[MAX_FIELDS], *text, *m, *save;
	uint32_t gid;

	read_database("/etc/group", &db);
	for (text = db.data; next_line(&text, f);) {
		if (!*f[0] || !parse_id(f[2], &gid))
			continue;
		save = NULL;
		for (m = strtok_r(f[3], ",", &save); m; m = strtok_r(NULL, ",", &save))
			if (!strcmp(m, login))
				add_group(u, gid);
	}
}

/* "user", "uid", "user:group", "uid:gid" and mixtures. */
static int by_name(const char *spec, struct user *u, struct error **err)
{
	CLEANUP_FREE char *name = xstrdup(spec), *login = NULL;
	char *group = strchr(name, ':');

	if (group)
		*group++ = 0;
	if (!*name)
		u->uid = 0;
	if (!*name || !find_user(name, u, &login)) {
		if (*name && !parse_id(name, &u->uid))
			return error_set(
				err, ERR_INVALID_ARGUMENT,
				"unable to find user %s: no matching entries in passwd file", name);
		find_user(NULL, u, &login);
	}
	if (group && *group) {
		if (!find_group(group, &u->gid) && !parse_id(group, &u->gid))
			return error_set(
				err, ERR_INVALID_ARGUMENT,
				"unable to find group %s: no matching entries in group file",
				group);
	} else if (login) {
		member_groups(login, u);
	}
	return 0;
}

static int add_named(struct json_object *names, struct user *u, struct error **err)
{
	size_t i;

	for (i = 0; names && i < json_object_array_length(names) && i < MAX_GROUPS; i++) {
		struct json_object *v = json_object_array_get_idx(names, i);
		const char *name =
			json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
		uint32_t gid;

		if (!find_group(name, &gid))
			return error_set(
				err, ERR_INVALID_ARGUMENT,
				"unable to find group %s: no matching entries in group file", name);
		add_group(u, gid);
	}
	return 0;
}

int user_resolve(struct json_object *process, struct user *u, struct error **err)
{
	struct json_object *user = json_obj(process, "user"),
			   *extra = json_arr(process, "additionalGids");
	const char *name = json_str(user, "name", NULL);
	int64_t uid = 0, gid = 0;
	size_t i;

	u->home = xstrdup("/");
	if (name) {
		if (by_name(name, u, err))
			return -1;
	} else if (user) {
		CLEANUP_FREE char *login = NULL;

		if (json_need_int(user, "uid", 0, MAX_ID, &uid, err) ||
		    json_need_int(user, "gid", 0, MAX_ID, &gid, err))
			return -1;
		u->uid = (uint32_t)uid;
		find_user(NULL, u, &login);
		u->gid = (uint32_t)gid;
	} else {
		CLEANUP_FREE char *login = NULL;

		find_user(NULL, u, &login);
	}
	for (i = 0; extra && i < json_object_array_length(extra) && i < MAX_GROUPS; i++) {
		struct json_object *g = json_object_array_get_idx(extra, i);
		int64_t v = json_object_get_int64(g);

		if (!json_object_is_type(g, json_type_int) || v < 0 || v > MAX_ID)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "additionalGids: not a group id");
		add_group(u, (uint32_t)v);
	}
	return add_named(json_arr(process, "additionalGroups"), u, err);
}
