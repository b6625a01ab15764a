/* SPDX-License-Identifier: Apache-2.0 */
/* apiserver_containers.c - the containers that exist: on disk, in memory, and as clients see them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "cmd/stdlog.h"
#include "core/path.h"
#include "core/state.h"

#define LIST_PART (256u << 10) /* bytes of a list's text that go at once */

bool container_id_valid(const char *id)
{
	size_t i, n = strlen(id);

	if (n < 2 || n > 63)
		return false;
	for (i = 0; i < n; i++) {
		char c = id[i];
		bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

		if (!alnum && (!i || !strchr("_.-", c)))
			return false;
	}
	return true;
}

struct container *container_find(struct apiserver *s, const char *id)
{
	struct container *ct;

	for (ct = s->containers; ct; ct = ct->next)
		if (!strcmp(ct->id, id))
			return ct;
	return NULL;
}

struct container *container_named(struct apiserver *s, const char *id, struct error **err)
{
	struct container *ct = container_find(s, id), *found = NULL;
	CLEANUP_BUF struct buf names = {0};
	unsigned n = 0;

	if (ct)
		return ct;
	for (ct = *id ? s->containers : NULL; ct && n < 5; ct = ct->next) {
		if (!str_prefix(ct->id, id))
			continue;
		found = ct;
		buf_printf(&names, "%s%s", n++ ? ", " : "", ct->id);
	}
	if (!n)
		error_set(err, ERR_NOT_FOUND, "container not found: %.100s", id);
	else if (n > 1)
		error_set(err, ERR_INVALID_ARGUMENT, "container id \"%.100s\" is ambiguous: %s%s",
			  id, names.data, ct ? ", …" : "");
	return n == 1 ? found : NULL;
}

struct container *container_need(struct apiserver *s, struct json_object *params,
				 struct error **err)
{
	const char *id;

	if (json_need_str(params, "id", &id, err))
		return NULL;
	return container_named(s, id, err);
}

static struct container *container_new(struct apiserver *s, const char *id,
				       struct json_object *config, bool auto_remove)
{
	struct container *ct = xcalloc(1, sizeof(*ct)), **at = &s->containers;

	ct->s = s;
	ct->id = xstrdup(id);
	ct->auto_remove = auto_remove;
	ct->pidfd = -1;
	config_keep(ct, config);
	while (*at && strcmp((*at)->created, ct->created) <= 0)
		at = &(*at)->next;
	ct->next = *at;
	ct->pprev = at;
	if (ct->next)
		ct->next->pprev = &ct->next;
	*at = ct;
	return ct;
}

struct container *container_shadow(struct container *ct, const char *id)
{
	struct container *shadow = xcalloc(1, sizeof(*shadow));

	shadow->s = ct->s;
	shadow->id = xstrdup(id);
	shadow->config = xstrdup(ct->config);
	shadow->pidfd = -1;
	return shadow;
}

void container_free(struct container *ct)
{
	if (ct->pprev)
		*ct->pprev = ct->next;
	if (ct->next)
		ct->next->pprev = ct->pprev;
	if (ct->conn)
		rpc_conn_free(STEAL(ct->conn));
	sockets_end(ct);
	loop_source_free(ct->child);
	loop_source_free(ct->grace);
	loop_source_free(ct->adopt_timer);
	loop_source_free(ct->again);
	if (ct->pidfd >= 0)
		close(ct->pidfd);
	config_drop(ct);
	json_object_put(ct->networks);
	json_object_put(ct->health);
	free_shared(ct->started_at);
	free_shared(ct->exited_at);
	free_shared(ct->id);
	free_shared(ct);
}

void containers_free(struct apiserver *s)
{
	size_t i;

	while (s->containers)
		container_free(s->containers);
	for (i = 0; i < APISERVER_EXITS; i++) {
		free(s->exits[i].id);
		free(s->exits[i].at);
	}
}

/* ---- exits ---- */

void exits_add(struct apiserver *s, const char *id, int code, const char *at)
{
	struct exit_record *r = &s->exits[s->next_exit++ % APISERVER_EXITS];

	free(r->id);
	free(r->at);
	*r = (struct exit_record){.id = xstrdup(id), .at = xstrdup(at), .code = code & 0xff};
}

void container_set_exit(struct container *ct, int code, const char *at)
{
	ct->has_exit = true;
	ct->exit_code = code & 0xff;
	free(ct->exited_at);
	ct->exited_at = xstrdup(at);
	exits_add(ct->s, ct->id, code, at);
}

/* The helper wrote it, on whose other side is a guest: nothing but a time gets through. */
static bool is_time(const char *s)
{
	size_t n = strlen(s);

	return n >= 20 && n <= 32 && strspn(s, "0123456789-:.TZ") == n;
}

static const char *machine_end(const char *word)
{
	static const char *const ends[] = {"panic", "reset", "crash"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ends); i++)
		if (str_eq(word, ends[i]))
			return ends[i];
	return NULL;
}

bool container_read_exit(struct container *ct)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(ct->s->containers_dir, ct->id, O_PATH | O_DIRECTORY, 0, NULL);
	CLEANUP_JSON struct json_object *o = dir < 0 ? NULL : state_read(dir, "exit.json", NULL);
	const char *at;

	if (!o || !json_object_is_type(json_get(o, "exitCode"), json_type_int))
		return false;
	ct->oom = json_flag(o, "oomKilled", false);
	at = json_str(o, "exitedAt", "");
	container_set_exit(ct, (int)(json_int(o, "exitCode", 255) & 0xff), is_time(at) ? at : "");
	ct->machine_end = machine_end(json_str(o, "machine", NULL));
	return true;
}

/* ---- removal: off the list now, off the disk by and by ---- */

struct tree_work {
	struct tree_work *next, **pprev;
	int dir;
	char *name;
};

static void tree_remove(void *arg)
{
	struct tree_work *w = arg;
	CLEANUP_ERROR struct error *e = NULL;

	if (path_remove_tree(w->dir, w->name, &e))
		log_err(e, "remove what was deleted");
}

static void tree_removed(void *arg)
{
	struct tree_work *w = arg;

	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	free(w->name);
	free(w);
}

void trees_drop(struct apiserver *s)
{
	struct tree_work *w, *next;

	for (w = STEAL(s->trees); w; w = next) {
		next = w->next;
		free(w->name);
		free(w);
	}
}

void tree_later(struct apiserver *s, int dir, const char *name)
{
	struct tree_work *w = xcalloc(1, sizeof(*w));

	w->dir = dir;
	w->name = xstrdup(name);
	w->next = s->trees;
	w->pprev = &s->trees;
	if (w->next)
		w->next->pprev = &w->next;
	s->trees = w;
	loop_work(s->loop, tree_remove, tree_removed, w);
}

/* Its helper's log goes with it, unless that tells why it could not start. */
static void remove_logs(struct container *ct)
{
	static const char *const suffix[] = {"", ".1", ".2"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(suffix) && !ct->keep_log; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/container.runtime.%s.log%s",
						    ct->s->roots.log, ct->id, suffix[i]);

		unlink(path);
	}
}

int container_remove(struct container *ct, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();
	CLEANUP_FREE char *name = xasprintf(".del-%s", uuid);
	struct apiserver *s = ct->s;

	if (renameat(s->containers_dir, ct->id, s->containers_dir, name) && errno != ENOENT)
		return error_sys(err, errno, "delete container %s", ct->id);
	log_info("container %s deleted", ct->id);
	events_container(ct, "destroy", NULL, NULL);
	files_drop(ct);
	remove_logs(ct);
	container_free(ct);
	tree_later(s, s->containers_dir, name);
	return 0;
}

/* ---- what is on disk ---- */

static struct container *load_one(struct apiserver *s, const char *id, bool *was_started,
				  struct error **err)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(s->containers_dir, id, O_PATH | O_DIRECTORY, 0, err);
	CLEANUP_JSON struct json_object *options = NULL, *config = NULL;
	struct stat st;

	if (dir < 0)
		return NULL;
	config = state_read(dir, "config.json", err);
	if (config && !json_object_is_type(config, json_type_object)) {
		error_set(err, ERR_INTERNAL, "config.json is no object");
		return NULL;
	}
	if (!config)
		return NULL;
	json_set_str(config, "id",
		     id); /* the directory's name counts: a rename may have been cut short */
	options = state_read(dir, "options.json", NULL);
	*was_started = !fstatat(dir, "boot.log", &st, 0) && st.st_size > 0;
	return container_new(s, id, config, json_flag(options, "autoRemove", false));
}

/* What belonged to helpers that served files, which end with the apiserver that made them. */
static void remove_shadows(struct apiserver *s)
{
	int fd = openat(s->c_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (*de->d_name == '.' && strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			path_remove_tree(s->c_dir, de->d_name, NULL);
	if (d)
		closedir(d);
}

int containers_load(struct apiserver *s, struct error **err)
{
	int fd = openat(s->containers_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct container *ct, *next;
	struct dirent *de;

	if (!d)
		return error_sys(err, errno, "read the containers' directory");
	remove_shadows(s);
	while ((de = readdir(d))) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_FREE char *sock = xasprintf("%s.sock", de->d_name);
		bool was_started = false;
		struct stat st;

		if (!strncmp(de->d_name, ".new-", 5) || !strncmp(de->d_name, ".del-", 5))
			tree_later(s, s->containers_dir, de->d_name);
		if (!container_id_valid(de->d_name))
			continue;
		ct = load_one(s, de->d_name, &was_started, &e);
		if (!ct) {
			log_err(e, "container %s is left aside", de->d_name);
			continue;
		}
		if (!fstatat(s->c_dir, sock, &st, AT_SYMLINK_NOFOLLOW)) {
			ct->state = CT_RUNNING; /* until proven otherwise */
			continue;
		}
		container_read_exit(ct);
		if (ct->auto_remove && was_started)
			container_remove(ct, NULL);
		else
			policy_found(ct, was_started);
	}
	closedir(d);
	s->adopting++; /* ours, so that the last answer comes after the last question */
	for (ct = s->containers; ct; ct = next) {
		next = ct->next;
		if (ct->state == CT_RUNNING)
			container_adopt(ct);
	}
	if (!--s->adopting)
		apiserver_ready(s);
	return 0;
}

/* ---- lists ---- */

struct json_object *containers_busy(struct apiserver *s)
{
	struct json_object *list = json_object_new_array();
	struct container *ct;

	for (ct = s->containers; ct; ct = ct->next)
		if (ct->manifest)
			json_add_str(list, ct->manifest);
	return list;
}

struct json_object *containers_active(struct apiserver *s)
{
	struct json_object *list = json_object_new_array();
	struct container *ct;

	for (ct = s->containers; ct; ct = ct->next)
		if (ct->state != CT_STOPPED)
			json_add_str(list, ct->id);
	return list;
}

/* As clients see it; with `brief` with no more of its configuration than a table shows. */
static struct json_object *container_json(struct container *ct, bool brief)
{
	static const char *const names[] = {
		[CT_STOPPED] = "stopped",
		[CT_STARTING] = "stopped", /* it does not run yet */
		[CT_RUNNING] = "running",
		[CT_STOPPING] = "stopping",
	};
	struct json_object *o = json_object_new_object(), *st = json_object_new_object();

	json_set_str(st, "state",
		     ct->state == CT_RUNNING && ct->paused ? "paused" : names[ct->state]);
	json_set(st, "networks",
		 ct->networks ? json_object_get(ct->networks) : json_object_new_array());
	json_set_str(st, "startedDate", ct->started_at);
	if (ct->state == CT_STOPPED && ct->has_exit) {
		json_set_int(st, "exitCode", ct->exit_code);
		json_set_str(st, "exitedAt", ct->exited_at);
		json_set_str(st, "machine", ct->machine_end);
		if (ct->oom)
			json_set_bool(st, "oomKilled", true);
	}
	if (ct->health && ct->state == CT_RUNNING)
		json_set(st, "health", json_object_get(ct->health));
	if (ct->restarts)
		json_set_int(st, "restartCount", ct->restarts);
	json_set_str(o, "id", ct->id);
	json_set(o, "configuration", json_raw(brief ? ct->brief : ct->config));
	json_set(o, "status", st);
	return o;
}

/* And what it takes on the disk: its writable disk and its logs. */
static void add_size(struct container *ct, struct json_object *o)
{
	json_set_int(json_obj(o, "status"), "diskUsageInBytes",
		     (int64_t)path_usage(ct->s->containers_dir, ct->id, 1));
}

/* A list is text from the start: of a thousand trees at once malloc gives little back. Empties it. */
static struct json_object *list_take(struct buf *list)
{
	struct json_object *o = json_object_new_object();

	buf_puts(list, list->len ? "]" : "[]");
	json_set(o, "containers", json_raw(list->data));
	buf_consume(list, list->len);
	return o;
}

/* Takes o. What is long goes in parts, as events before the answer: one text may hold so many values and no more (core/json.c). */
static void list_add(struct rpc_req *req, struct buf *list, struct json_object *o)
{
	buf_puts(list, list->len ? "," : "[");
	buf_puts(list, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
								 JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	if (list->len >= LIST_PART)
		rpc_progress(req, list_take(list));
}

void on_container_list(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	CLEANUP_BUF struct buf list = {0};
	bool all = json_flag(params, "all", false), size = json_flag(params, "size", false);
	bool brief = json_flag(params, "brief", false);
	struct container *ct;

	for (ct = s->containers; ct; ct = ct->next) {
		struct json_object *o;

		if (!all && ct->state != CT_RUNNING && ct->state != CT_STOPPING)
			continue;
		o = container_json(ct, brief);
		if (size)
			add_size(ct, o);
		list_add(req, &list, o);
	}
	rpc_reply(req, list_take(&list));
}

void on_container_get(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	CLEANUP_BUF struct buf missing = {0}, list = {0};
	struct json_object *ids;
	struct error *e = NULL;
	size_t i;

	if (json_need_arr(params, "ids", &ids, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	for (i = 0; i < json_object_array_length(ids) && missing.len < 4096; i++) {
		struct json_object *v = json_object_array_get_idx(ids, i);
		const char *id =
			json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
		CLEANUP_ERROR struct error *why = NULL;
		struct container *ct = container_named(s, id, &why);

		if (ct) {
			list_add(req, &list, container_json(ct, false));
		} else if (why->code != ERR_NOT_FOUND) {
			rpc_reply_error(req, STEAL(why));
			return;
		} else {
			buf_printf(&missing, "%s%.100s", missing.len ? ", " : "", id);
		}
	}
	if (!missing.len) {
		rpc_reply(req, list_take(&list));
		return;
	}
	error_set(&e, ERR_NOT_FOUND, "container not found: %s", missing.data);
	rpc_reply_error(req, e);
}

/* ---- create ---- */

static int write_container(struct apiserver *s, const char *id, struct json_object *config,
			   struct json_object *options, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();
	CLEANUP_FREE char *tmp = xasprintf(".new-%s", uuid);
	CLEANUP_CLOSE int dir = -1;

	if (mkdirat(s->containers_dir, tmp, 0700))
		return error_sys(err, errno, "create container %s", id);
	dir = path_open_beneath(s->containers_dir, tmp, O_RDONLY | O_DIRECTORY, 0, err);
	if (dir < 0 || state_write(dir, "config.json", config, err) ||
	    state_write(dir, "options.json", options, err))
		goto fail;
	if (renameat2(s->containers_dir, tmp, s->containers_dir, id, RENAME_NOREPLACE)) {
		error_sys(err, errno, "rename");
		goto fail;
	}
	fsync(s->containers_dir);
	return 0;
fail:
	path_remove_tree(s->containers_dir, tmp, NULL);
	return error_wrap(err, "create container %s", id);
}

/* The id: given, or made and put into the configuration. */
static int choose_id(struct apiserver *s, struct json_object *config, const char **id,
		     struct error **err)
{
	if (!json_get(config, "id")) {
		CLEANUP_FREE char *uuid = random_uuid();

		json_set_str(config, "id", uuid);
	}
	if (json_need_str(config, "id", id, err))
		return -1;
	if (!container_id_valid(*id))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid container id \"%.100s\": 2 to 63 letters, digits, '_', "
				 "'.' or '-', "
				 "beginning with a letter or digit",
				 *id);
	if (container_find(s, *id))
		return error_set(err, ERR_EXISTS, "container already exists: %s", *id);
	return 0;
}

void on_container_create(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	CLEANUP_JSON struct json_object *config = NULL;
	CLEANUP_JSON struct json_object *options = json_object_new_object();
	CLEANUP_FREE char *now = time_iso8601(time_now());
	struct json_object *given, *o;
	struct error *e = NULL;
	bool auto_remove = json_flag(json_obj(params, "options"), "autoRemove", false);
	const char *id;

	if (s->stopping) {
		error_set(&e, ERR_INVALID_STATE, "the system is stopping");
		goto fail;
	}
	if (json_need_obj(params, "configuration", &given, &e))
		goto fail;
	config = json_sorted(given);
	if (choose_id(s, config, &id, &e) || config_check(config, &e) ||
	    volumes_check(s, config, &e))
		goto fail;
	json_set_str(config, "creationDate", now);
	json_set_bool(options, "autoRemove", auto_remove);
	if (write_container(s, id, config, options, &e))
		goto fail;
	o = json_object_new_object();
	json_set_str(o, "id", id);
	log_info("container %s created", id);
	events_container(container_new(s, id, config, auto_remove), "create", NULL, NULL);
	volumes_let_go(s, rpc_req_conn(req));
	rpc_reply(req, o);
	return;
fail:
	rpc_reply_error(req, e);
}

/* ---- logs ---- */

/* Before its first start a container has none yet: they are empty. */
static int open_log(int dir, const char *name, int flags, struct error **err)
{
	return path_open_beneath(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | flags, 0600, err);
}

/* boot.log, then the files of the ring; *n of them. */
static int open_logs(struct container *ct, int *fds, size_t *n, struct error **err)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(ct->s->containers_dir, ct->id, O_PATH | O_DIRECTORY, 0, err);
	CLEANUP_JSON struct json_object *config = container_config(ct);
	int64_t files = json_int(json_obj(config, "log"), "maxFiles", STDLOG_FILES);
	char name[16];

	if (dir < 0)
		return -1;
	fds[0] = open_log(dir, "boot.log", O_CREAT, err);
	if (fds[0] < 0)
		return -1;
	for (*n = 1; *n <= STDLOG_FILES_MAX && (int64_t)*n <= files; ++*n) {
		stdlog_name((unsigned)*n - 1, name);
		fds[*n] = open_log(dir, name, O_CREAT, err);
		if (fds[*n] < 0)
			return -1;
	}
	return 0;
}

void on_container_logs(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct error *e = NULL;
	struct container *ct = container_need(s, params, &e);
	int fds[1 + STDLOG_FILES_MAX];
	size_t n = 0;

	if (ct && !open_logs(ct, fds, &n, &e))
		rpc_reply_fds(req, NULL, fds, n);
	else
		rpc_reply_error(req, e);
	while (n-- > 0)
		if (fds[n] >= 0)
			close(fds[n]);
}
