/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_volumes.c - the volumes that exist.
 *
 * volumes/<name>/{entity.json, volume.img} below the app root: the first says what clients see, the second is the ext4 that the guests
 * of its containers mount. What is there is what the directory says; nothing is kept in memory but, beside each container, the names of those it
 * mounts. A volume appears by rename when it is complete and on the disk, and disappears by rename when it is deleted, so a crash leaves
 * only names that begin with a dot, which the next start removes.
 *
 * One that a container names, running or not, cannot be deleted, nor can one that a client just asked for to make a container with, as
 * long as its connection lasts; that, and the rename, happen on the loop. Making one takes as long
 * as the host's disk does and happens on a worker, under a name of its own; of two that make the same one the second finds it there. That
 * no two machines write to one is a lock's doing (cmd/runtime_volumes.c).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "cmd/volume.h"
#include "core/path.h"
#include "core/state.h"

#define ENTITY "entity.json"
#define IMAGE  "volume.img"

/* ---- what is there ---- */

static bool exists(struct apiserver *s, const char *name)
{
	struct stat st;

	return volume_name_ok(name) && !fstatat(s->volumes_dir, name, &st, AT_SYMLINK_NOFOLLOW) &&
	       S_ISDIR(st.st_mode);
}

static int not_found(const char *name, struct error **err)
{
	return error_set(err, ERR_NOT_FOUND, "volume not found: %.255s", name);
}

/* {id, configuration}, the caller's. */
static struct json_object *read_volume(struct apiserver *s, const char *name, struct error **err)
{
	CLEANUP_JSON struct json_object *entity = NULL;
	CLEANUP_CLOSE int dir = -1;
	CLEANUP_FREE char *source = NULL;
	struct json_object *o;

	if (!exists(s, name)) {
		not_found(name, err);
		return NULL;
	}
	dir = path_open_beneath(s->volumes_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err);
	entity = dir < 0 ? NULL : state_read(dir, ENTITY, err);
	if (!entity || !json_object_is_type(entity, json_type_object)) {
		if (entity)
			error_set(err, ERR_INTERNAL, ENTITY " is no object");
		error_wrap(err, "volume %s", name);
		return NULL;
	}
	/* The app root may be elsewhere by now. */
	source = xasprintf("%s/volumes/%s/" IMAGE, s->roots.app, name);
	json_set_str(entity, "name", name);
	json_set_str(entity, "source", source);
	o = json_object_new_object();
	json_set_str(o, "id", name);
	json_set(o, "configuration", STEAL(entity));
	return o;
}

/* All names; what else is in the directory is left out. */
static int all_names(struct apiserver *s, struct strv *names, struct error **err)
{
	int fd = openat(s->volumes_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d)
		return error_sys(err, errno, "read the volumes' directory");
	while ((de = readdir(d)))
		if (volume_name_ok(de->d_name))
			strv_add(names, de->d_name);
	closedir(d);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(json_str(*(struct json_object *const *)a, "id", ""),
		      json_str(*(struct json_object *const *)b, "id", ""));
}

/* What a crash left behind. */
int volumes_load(struct apiserver *s, struct error **err)
{
	int fd = openat(s->volumes_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d)
		return error_sys(err, errno, "read the volumes' directory");
	while ((de = readdir(d)))
		if (str_prefix(de->d_name, ".new-") || str_prefix(de->d_name, ".del-"))
			tree_later(s, s->volumes_dir, de->d_name);
	closedir(d);
	return 0;
}

void on_volume_list(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	CLEANUP_STRV struct strv names = {0};
	struct json_object *o, *list;
	struct error *e = NULL;
	size_t i;

	if (all_names(s, &names, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	list = json_object_new_array();
	for (i = 0; i < names.n; i++) {
		CLEANUP_ERROR struct error *why = NULL;
		struct json_object *v = read_volume(s, names.v[i], &why);

		if (v)
			json_object_array_add(list, v);
		else
			log_err(why, "a volume is left aside");
	}
	json_object_array_sort(list, by_name);
	o = json_object_new_object();
	json_set(o, "volumes", list);
	rpc_reply(req, o);
}

void on_volume_inspect(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct json_object *names, *o, *list;
	struct error *e = NULL;
	size_t i;

	if (json_need_arr(params, "names", &names, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	list = json_object_new_array();
	for (i = 0; i < json_object_array_length(names) && !e; i++) {
		struct json_object *v = json_object_array_get_idx(names, i);
		const char *name =
			json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";

		v = read_volume(s, name, &e);
		if (v)
			json_object_array_add(list, v);
	}
	if (e) {
		json_object_put(list);
		rpc_reply_error(req, e);
		return;
	}
	o = json_object_new_object();
	json_set(o, "volumes", list);
	rpc_reply(req, o);
}

/* ---- who uses them ---- */

static struct container *user_of(struct apiserver *s, const char *name)
{
	struct container *ct;
	size_t i;

	for (ct = s->containers; ct; ct = ct->next)
		for (i = 0; i < ct->volumes.n; i++)
			if (!strcmp(ct->volumes.v[i], name))
				return ct;
	return NULL;
}

/* A volume that a client's next container will name. */
struct volume_hold {
	struct volume_hold *next;
	const struct rpc_conn *conn;
	char name[VOLUME_NAME_MAX + 1];
};

static void hold(struct apiserver *s, const struct rpc_conn *conn, const char *name)
{
	struct volume_hold *h = xcalloc(1, sizeof(*h));

	*h = (struct volume_hold){.next = s->holds, .conn = conn};
	snprintf(h->name, sizeof(h->name), "%s", name);
	s->holds = h;
}

/* By another client than this one. */
static bool held(const struct apiserver *s, const char *name, const struct rpc_conn *conn)
{
	const struct volume_hold *h;

	for (h = s->holds; h; h = h->next)
		if (h->conn != conn && !strcmp(h->name, name))
			return true;
	return false;
}

void volumes_let_go(struct apiserver *s, const struct rpc_conn *conn)
{
	struct volume_hold **hp = &s->holds, *h;

	while ((h = *hp)) {
		if (conn && h->conn != conn) {
			hp = &h->next;
			continue;
		}
		*hp = h->next;
		free(h);
	}
}

void volumes_keep(struct json_object *config, struct strv *out)
{
	struct json_object *mounts = json_arr(config, "mounts");
	size_t i, k, n = mounts ? json_object_array_length(mounts) : 0;

	strv_free(out);
	for (i = 0; i < n; i++) {
		const char *name = volume_of(json_object_array_get_idx(mounts, i));

		for (k = 0; name && k < out->n; k++)
			if (!strcmp(out->v[k], name))
				name = NULL;
		if (name)
			strv_add(out, name);
	}
}

int volumes_check(struct apiserver *s, struct json_object *config, struct error **err)
{
	struct json_object *mounts = json_arr(config, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);
		const char *name = volume_of(m);
		CLEANUP_FREE char *source = NULL;

		if (!name)
			continue;
		if (!exists(s, name))
			return not_found(name, err);
		source = xasprintf("%s/volumes/%s/" IMAGE, s->roots.app, name);
		json_set_str(m, "source", source);
	}
	return 0;
}

/* ---- create ---- */

struct making {
	struct apiserver *s;
	struct rpc_req *req;
	char *name, *tmp;
	uint64_t size;
	struct ext4_journal journal;
	struct json_object *entity;
	bool missing; /* one that is there will do */
	struct error *e;
};

static void making_free(struct making *m)
{
	error_free(m->e);
	json_object_put(m->entity);
	free(m->name);
	free(m->tmp);
	free(m);
}

static void made(struct making *m, bool created)
{
	struct json_object *o = json_object_new_object(), *v;
	struct error *e = NULL;

	v = read_volume(m->s, m->name, &e);
	if (!v) {
		json_object_put(o);
		rpc_reply_error(m->req, e);
		return;
	}
	json_set(o, "volume", v);
	json_set_bool(o, "created", created);
	rpc_reply(m->req, o);
}

static void make_work(void *arg)
{
	struct making *m = arg;
	int root = m->s->volumes_dir;
	CLEANUP_CLOSE int dir = -1;

	if (mkdirat(root, m->tmp, 0700)) {
		error_sys(&m->e, errno, "make its directory");
		return;
	}
	dir = path_open_beneath(root, m->tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &m->e);
	if (dir >= 0 && !ext4_create_volume(dir, IMAGE, m->size, &m->journal, &m->e) &&
	    !state_write(dir, ENTITY, m->entity, &m->e)) {
		if (renameat2(root, m->tmp, root, m->name, RENAME_NOREPLACE))
			error_sys(&m->e, errno, "name it");
		else
			fsync(root);
	}
	if (m->e)
		path_remove_tree(root, m->tmp, NULL);
}

static void events_volume(struct apiserver *s, const char *name, const char *action)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "driver", "local");
	events_emit(s, "volume", action, name, o);
}

static void make_done(void *arg)
{
	struct making *m = arg;

	if (!m->e) {
		log_info("volume %s created", m->name);
		events_volume(m->s, m->name, "create");
		made(m, true);
	} else if (m->e->code == ERR_EXISTS && m->missing) {
		made(m, false); /* another was as quick */
	} else if (m->e->code == ERR_EXISTS) {
		error_free(STEAL(m->e));
		error_set(&m->e, ERR_EXISTS, "volume already exists: %s", m->name);
		rpc_reply_error(m->req, STEAL(m->e));
	} else {
		error_wrap(&m->e, "create volume %s", m->name);
		log_err(m->e, "volume");
		rpc_reply_error(m->req, STEAL(m->e));
	}
	making_free(m);
}

/* What clients will see. */
static void put_entity(struct making *m, struct json_object *params, bool anonymous)
{
	struct json_object *labels = json_obj(params, "labels"),
			   *options = json_obj(params, "options"), *o = m->entity;
	CLEANUP_FREE char *now = time_iso8601(time_now());

	labels = labels ? json_sorted(labels) : json_object_new_object();
	if (anonymous)
		json_set_str(labels, VOLUME_ANONYMOUS, "");
	json_set_str(o, "name", m->name);
	json_set_str(o, "driver", "local");
	json_set_str(o, "format", "ext4");
	json_set_str(o, "creationDate", now);
	json_set(o, "labels", labels);
	json_set(o, "options", options ? json_sorted(options) : json_object_new_object());
	json_set_int(o, "sizeInBytes", (int64_t)m->size);
}

static int make_check(struct making *m, struct json_object *params, struct error **err)
{
	struct json_object *labels = json_get(params, "labels"),
			   *options = json_get(params, "options");
	const char *name = NULL;

	if (m->s->stopping)
		return error_set(err, ERR_INVALID_STATE, "the system is stopping");
	if (json_get(params, "name") && json_need_str(params, "name", &name, err))
		return -1;
	if (name && !volume_name_ok(name))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid volume name '%.255s': 1 to %d letters, digits, '_', '.' "
				 "or '-', beginning with a letter or digit",
				 name, VOLUME_NAME_MAX);
	if ((labels && !json_obj(params, "labels")) || (options && !json_obj(params, "options")))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "\"labels\" and \"options\" must be objects");
	m->name = name ? xstrdup(name) : random_uuid();
	if (labels_check(labels, err) || volume_options(options, &m->size, &m->journal, err))
		return -1;
	put_entity(m, params, !name);
	return 0;
}

void on_volume_create(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct making *m = xcalloc(1, sizeof(*m));
	CLEANUP_FREE char *uuid = random_uuid();
	struct error *e = NULL;

	*m = (struct making){.s = s, .req = req, .missing = json_flag(params, "missing", false)};
	m->tmp = xasprintf(".new-%s", uuid);
	m->entity = json_object_new_object();
	if (make_check(m, params, &e)) {
		rpc_reply_error(req, e);
		making_free(m);
		return;
	}
	if (m->missing)
		hold(s, rpc_req_conn(req), m->name);
	if (!exists(s, m->name)) {
		loop_work(s->loop, make_work, make_done, m);
		return;
	}
	if (m->missing) {
		made(m, false);
	} else {
		error_set(&e, ERR_EXISTS, "volume already exists: %s", m->name);
		rpc_reply_error(req, e);
	}
	making_free(m);
}

/* ---- delete, prune ---- */

static int remove_volume(struct apiserver *s, const char *name, const struct rpc_conn *conn,
			 struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid(), *gone = xasprintf(".del-%s", uuid);
	struct container *ct = user_of(s, name);

	if (!exists(s, name))
		return not_found(name, err);
	if (ct)
		return error_set(err, ERR_INVALID_STATE,
				 "volume %s is in use by container %s and cannot be deleted", name,
				 ct->id);
	if (held(s, name, conn))
		return error_set(err, ERR_INVALID_STATE,
				 "volume %s is in use by a container that is being made", name);
	if (renameat(s->volumes_dir, name, s->volumes_dir, gone))
		return error_sys(err, errno, "delete volume %s", name);
	fsync(s->volumes_dir);
	log_info("volume %s deleted", name);
	events_volume(s, name, "destroy");
	tree_later(s, s->volumes_dir, gone);
	return 0;
}

void on_volume_delete(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	const char *name;

	if (json_need_str(params, "name", &name, &e) ||
	    remove_volume(ctx, name, rpc_req_conn(req), &e))
		rpc_reply_error(req, e);
	else
		rpc_reply(req, NULL);
}

void on_volume_prune(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	CLEANUP_STRV struct strv names = {0};
	struct json_object *o, *deleted;
	struct error *e = NULL;
	int64_t reclaimed = 0;
	size_t i;

	if (all_names(s, &names, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	deleted = json_object_new_array();
	for (i = 0; i < names.n; i++) {
		CLEANUP_ERROR struct error *why = NULL;
		int64_t size;

		if (user_of(s, names.v[i]) || held(s, names.v[i], NULL))
			continue;
		size = (int64_t)path_usage(s->volumes_dir, names.v[i], 1);
		if (remove_volume(s, names.v[i], NULL, &why)) {
			log_err(why, "prune");
			continue;
		}
		json_add_str(deleted, names.v[i]);
		reclaimed += size;
	}
	o = json_object_new_object();
	json_set(o, "deleted", deleted);
	json_set_int(o, "reclaimed", reclaimed);
	rpc_reply(req, o);
}
