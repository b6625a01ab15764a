/* SPDX-License-Identifier: Apache-2.0 */
/* apiserver_containers.c - the containers that exist: on disk, in memory, and as clients see them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "core/path.h"
#include "core/state.h"

#define CONFIG_MAX (1u << 20) /* bytes of one configuration */

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

/* Takes config. */
static struct container *container_new(struct apiserver *s, const char *id,
				       struct json_object *config, bool auto_remove)
{
	struct container *ct = xcalloc(1, sizeof(*ct)), **at = &s->containers;
	const char *date = json_str(config, "creationDate", "");

	ct->s = s;
	ct->id = xstrdup(id);
	ct->config = config;
	ct->auto_remove = auto_remove;
	ct->pidfd = -1;
	while (*at && strcmp(json_str((*at)->config, "creationDate", ""), date) <= 0)
		at = &(*at)->next;
	ct->next = *at;
	ct->pprev = at;
	if (ct->next)
		ct->next->pprev = &ct->next;
	*at = ct;
	return ct;
}

static void container_free(struct container *ct)
{
	*ct->pprev = ct->next;
	if (ct->next)
		ct->next->pprev = ct->pprev;
	if (ct->conn)
		rpc_conn_free(ct->conn);
	loop_source_free(ct->child);
	loop_source_free(ct->grace);
	loop_source_free(ct->adopt_timer);
	loop_source_free(ct->again);
	if (ct->pidfd >= 0)
		close(ct->pidfd);
	json_object_put(ct->config);
	json_object_put(ct->networks);
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

void container_set_exit(struct container *ct, int code, const char *at)
{
	struct exit_record *r = &ct->s->exits[ct->s->next_exit++ % APISERVER_EXITS];

	ct->has_exit = true;
	ct->exit_code = code & 0xff;
	free(ct->exited_at);
	ct->exited_at = xstrdup(at);
	free(r->id);
	free(r->at);
	*r = (struct exit_record){.id = xstrdup(ct->id), .at = xstrdup(at), .code = code & 0xff};
}

/* The helper wrote it, on whose other side is a guest: nothing but a time gets through. */
static bool is_time(const char *s)
{
	size_t n = strlen(s);

	return n >= 20 && n <= 32 && strspn(s, "0123456789-:.TZ") == n;
}

bool container_read_exit(struct container *ct)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(ct->s->containers_dir, ct->id, O_PATH | O_DIRECTORY, 0, NULL);
	CLEANUP_JSON struct json_object *o = dir < 0 ? NULL : state_read(dir, "exit.json", NULL);
	const char *at;

	if (!o || !json_object_is_type(json_get(o, "exitCode"), json_type_int))
		return false;
	at = json_str(o, "exitedAt", "");
	container_set_exit(ct, (int)(json_int(o, "exitCode", 255) & 0xff), is_time(at) ? at : "");
	return true;
}

/* ---- removal: off the list now, off the disk by and by ---- */

struct tree_work {
	struct apiserver *s;
	char *name;
};

static void tree_remove(void *arg)
{
	struct tree_work *w = arg;
	CLEANUP_ERROR struct error *e = NULL;

	if (path_remove_tree(w->s->containers_dir, w->name, &e))
		log_err(e, "remove container");
}

static void tree_removed(void *arg)
{
	struct tree_work *w = arg;

	free(w->name);
	free(w);
}

static void tree_later(struct apiserver *s, const char *name)
{
	struct tree_work *w = xcalloc(1, sizeof(*w));

	w->s = s;
	w->name = xstrdup(name);
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
	remove_logs(ct);
	container_free(ct);
	tree_later(s, name);
	return 0;
}

/* ---- what is on disk ---- */

static struct container *load_one(struct apiserver *s, const char *id, bool *was_started,
				  struct error **err)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(s->containers_dir, id, O_PATH | O_DIRECTORY, 0, err);
	CLEANUP_JSON struct json_object *options = NULL;
	struct json_object *config;
	struct container *ct;
	struct stat st;

	if (dir < 0)
		return NULL;
	config = state_read(dir, "config.json", err);
	if (!config)
		return NULL;
	json_set_str(config, "id",
		     id); /* the directory's name counts: a rename may have been cut short */
	options = state_read(dir, "options.json", NULL);
	ct = container_new(s, id, config, json_flag(options, "autoRemove", false));
	*was_started = !fstatat(dir, "boot.log", &st, 0) && st.st_size > 0;
	return ct;
}

int containers_load(struct apiserver *s, struct error **err)
{
	int fd = openat(s->containers_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct container *ct, *next;
	struct dirent *de;

	if (!d)
		return error_sys(err, errno, "read the containers' directory");
	while ((de = readdir(d))) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_FREE char *sock = xasprintf("%s.sock", de->d_name);
		bool was_started = false;
		struct stat st;

		if (!strncmp(de->d_name, ".new-", 5) || !strncmp(de->d_name, ".del-", 5))
			tree_later(s, de->d_name);
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

	for (ct = s->containers; ct; ct = ct->next) {
		const char *digest = json_str(json_obj(ct->config, "image"), "manifest", NULL);

		if (digest)
			json_add_str(list, digest);
	}
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

static struct json_object *container_json(struct container *ct)
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
	}
	if (ct->restarts)
		json_set_int(st, "restartCount", ct->restarts);
	json_set_str(o, "id", ct->id);
	json_set(o, "configuration", json_object_get(ct->config));
	json_set(o, "status", st);
	return o;
}

static struct json_object *wrapped(struct json_object *list)
{
	struct json_object *o = json_object_new_object();

	json_set(o, "containers", list);
	return o;
}

void on_container_list(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct json_object *list = json_object_new_array();
	bool all = json_flag(params, "all", false);
	struct container *ct;

	for (ct = s->containers; ct; ct = ct->next)
		if (all || ct->state == CT_RUNNING || ct->state == CT_STOPPING)
			json_object_array_add(list, container_json(ct));
	rpc_reply(req, wrapped(list));
}

void on_container_get(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	CLEANUP_BUF struct buf missing = {0};
	struct json_object *ids, *list;
	struct error *e = NULL;
	size_t i;

	if (json_need_arr(params, "ids", &ids, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	list = json_object_new_array();
	for (i = 0; i < json_object_array_length(ids) && missing.len < 4096; i++) {
		struct json_object *v = json_object_array_get_idx(ids, i);
		const char *id =
			json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
		CLEANUP_ERROR struct error *why = NULL;
		struct container *ct = container_named(s, id, &why);

		if (ct) {
			json_object_array_add(list, container_json(ct));
		} else if (why->code != ERR_NOT_FOUND) {
			json_object_put(list);
			rpc_reply_error(req, STEAL(why));
			return;
		} else {
			buf_printf(&missing, "%s%.100s", missing.len ? ", " : "", id);
		}
	}
	if (!missing.len) {
		rpc_reply(req, wrapped(list));
		return;
	}
	json_object_put(list);
	error_set(&e, ERR_NOT_FOUND, "container not found: %s", missing.data);
	rpc_reply_error(req, e);
}

/* ---- create ---- */

static int check_networks(struct json_object *config, struct error **err)
{
	struct json_object *nets = json_get(config, "networks");
	size_t i, n;

	if (!nets)
		return 0;
	if (!json_object_is_type(nets, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"networks\" must be an array");
	n = json_object_array_length(nets);
	for (i = 0; i < n; i++) {
		const char *name;

		if (json_need_str(json_object_array_get_idx(nets, i), "network", &name, err))
			return -1;
		if (strcmp(name, "default"))
			return error_set(err, ERR_NOT_FOUND, "network not found: %.100s", name);
	}
	if (n > 1)
		return error_set(err, ERR_UNSUPPORTED,
				 "more than one network is not supported yet");
	return 0;
}

static bool is_digest(const char *s)
{
	return str_prefix(s, "sha256:") && strlen(s) == 71 &&
	       strspn(s + 7, "0123456789abcdef") == 64;
}

static int check_config(struct json_object *config, struct error **err)
{
	struct json_object *image, *res, *init;
	const char *manifest;
	int64_t cpus, mem;
	size_t len;

	json_object_to_json_string_length(config, JSON_C_TO_STRING_PLAIN, &len);
	if (len > CONFIG_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "the configuration is too large");
	if (json_need_obj(config, "image", &image, err) ||
	    json_need_str(image, "manifest", &manifest, err) ||
	    json_need_obj(config, "initProcess", &init, err) ||
	    json_need_obj(config, "resources", &res, err) ||
	    json_need_int(res, "cpus", 1, 64, &cpus, err) ||
	    json_need_int(res, "memoryInBytes", 0, 1ll << 42, &mem, err))
		return -1;
	if (!is_digest(manifest))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"manifest\" is not a digest");
	if (mem < APISERVER_MIN_MEM)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "minimum memory amount allowed is 200 MiB (%lld bytes were given)",
				 (long long)mem);
	return policy_check(config, err) ? -1 : check_networks(config, err);
}

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
	if (choose_id(s, config, &id, &e) || check_config(config, &e))
		goto fail;
	json_set_str(config, "creationDate", now);
	json_set_bool(options, "autoRemove", auto_remove);
	if (write_container(s, id, config, options, &e))
		goto fail;
	o = json_object_new_object();
	json_set_str(o, "id", id);
	log_info("container %s created", id);
	container_new(s, id, json_object_get(config), auto_remove);
	rpc_reply(req, o);
	return;
fail:
	rpc_reply_error(req, e);
}

/* ---- logs ---- */

void on_container_logs(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const names[] = {"stdio.log", "boot.log"};
	struct apiserver *s = ctx;
	struct error *e = NULL;
	struct container *ct = container_need(s, params, &e);
	CLEANUP_CLOSE int dir = -1;
	int fds[2] = {-1, -1};
	size_t i;

	if (!ct)
		goto fail;
	dir = path_open_beneath(s->containers_dir, ct->id, O_PATH | O_DIRECTORY, 0, &e);
	if (dir < 0)
		goto fail;
	for (i = 0; i < 2; i++) {
		/* One that never started has none yet: it is empty. */
		fds[i] = path_open_beneath(dir, names[i],
					   O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600, &e);
		if (fds[i] < 0)
			goto fail;
	}
	rpc_reply_fds(req, NULL, fds, 2);
	goto out;
fail:
	rpc_reply_error(req, e);
out:
	for (i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}
