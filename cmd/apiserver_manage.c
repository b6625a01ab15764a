/* SPDX-License-Identifier: Apache-2.0 */
/* apiserver_manage.c - what is done to containers beyond their start and end: restart, rename, prune, attach, pause. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "core/path.h"

/* ---- restart ---- */

void container_restart(struct container *ct, bool deleted)
{
	CLEANUP_JSON struct json_object *params = json_object_new_object();
	struct rpc_req *req = STEAL(ct->restart);
	struct error *e = NULL;

	if (!deleted && !ct->s->stopping) {
		json_set_bool(params, "keepStdin", ct->keep_stdin);
		ct->restarts = ct->failures = 0;
		ct->restarting = true;
		start_begin(ct, req, params);
		return;
	}
	error_set(&e, ERR_INVALID_STATE, "container %s was %s meanwhile", ct->id,
		  deleted ? "deleted" : "stopped with the system");
	rpc_reply_error(req, e);
}

void on_container_restart(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct error *e = NULL;
	struct container *ct = container_need(s, params, &e);
	int64_t timeout = -1, signo = 0;

	if (!ct ||
	    (json_get(params, "timeout") &&
	     json_need_int(params, "timeout", 0, INT32_MAX, &timeout, &e)) ||
	    (json_get(params, "signal") && json_need_int(params, "signal", 1, 64, &signo, &e)))
		goto fail;
	if (s->stopping || ct->restart) {
		error_set(&e, ERR_INVALID_STATE,
			  s->stopping ? "the system is stopping"
				      : "container %s is being restarted already",
			  ct->id);
		goto fail;
	}
	ct->restart = req;
	if (ct->state == CT_STOPPED) {
		container_restart(ct, false);
		return;
	}
	container_stop_defaults(ct, &signo, &timeout);
	container_stop(ct, signo, timeout);
	return;
fail:
	rpc_reply_error(req, e);
}

/* ---- rename ---- */

/* The names it is known by on its networks follow when they were its id. */
static void rename_config(struct json_object *config, const char *old, const char *name)
{
	struct json_object *nets = json_arr(config, "networks");
	size_t i, n = nets ? json_object_array_length(nets) : 0, len = strlen(old);

	json_set_str(config, "id", name);
	for (i = 0; i < n; i++) {
		struct json_object *o = json_obj(json_object_array_get_idx(nets, i), "options");
		const char *host = json_str(o, "hostname", "");
		CLEANUP_FREE char *now = NULL;

		if (!str_prefix(host, old) || (host[len] && host[len] != '.'))
			continue;
		now = xasprintf("%s%s", name, host + len);
		json_set_str(o, "hostname", now);
	}
}

static int rename_to(struct container *ct, const char *name, struct json_object *config,
		     struct error **err)
{
	struct apiserver *s = ct->s;
	CLEANUP_ERROR struct error *e = NULL;

	if (renameat2(s->containers_dir, ct->id, s->containers_dir, name, RENAME_NOREPLACE))
		return error_sys(err, errno, "rename container %s", ct->id);
	fsync(s->containers_dir);
	/* From here on the new name counts; containers_load() mends a configuration that still has the old one. */
	free(ct->id);
	ct->id = xstrdup(name);
	config_keep(ct, config);
	if (config_write(ct, config, &e))
		log_err(e, "container %s", name);
	return 0;
}

void on_container_rename(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct error *e = NULL;
	struct container *ct = container_need(s, params, &e);
	CLEANUP_JSON struct json_object *config = NULL;
	CLEANUP_FREE char *old = NULL;
	struct json_object *o;
	const char *name;

	if (!ct || json_need_str(params, "name", &name, &e))
		goto fail;
	if (!container_id_valid(name)) {
		error_set(&e, ERR_INVALID_ARGUMENT,
			  "invalid container id \"%.100s\": 2 to 63 letters, digits, '_', '.' or "
			  "'-', beginning with a letter or digit",
			  name);
		goto fail;
	}
	if (container_find(s, name)) {
		error_set(&e, ERR_EXISTS, "container already exists: %s", name);
		goto fail;
	}
	if (ct->state != CT_STOPPED) {
		error_set(&e, ERR_INVALID_STATE,
			  "container %s is running; only a stopped container can be renamed",
			  ct->id);
		goto fail;
	}
	if (files_check(ct, &e))
		goto fail;
	files_drop(ct);
	old = xstrdup(ct->id);
	config = container_config(ct);
	rename_config(config, old, name);
	if (rename_to(ct, name, config, &e))
		goto fail;
	log_info("container %s is now %s", old, name);
	events_container(ct, "rename", "oldName", old);
	o = json_object_new_object();
	json_set_str(o, "id", name);
	rpc_reply(req, o);
	return;
fail:
	rpc_reply_error(req, e);
}

/* ---- prune ---- */

/* Bytes a container's files take on the disk; there are no directories among them. */
static int64_t disk_use(struct container *ct)
{
	int fd = path_open_beneath(ct->s->containers_dir, ct->id, O_RDONLY | O_DIRECTORY, 0, NULL);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t sum = 0;
	struct dirent *de;
	struct stat st;

	while (d && (de = readdir(d)))
		if (!fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
			sum += (int64_t)st.st_blocks * 512;
	if (d)
		closedir(d);
	return sum;
}

void on_container_prune(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct json_object *o = json_object_new_object(), *ids = json_object_new_array();
	struct container *ct, *next;
	int64_t reclaimed = 0;

	for (ct = s->containers; ct; ct = next) {
		CLEANUP_FREE char *id = xstrdup(ct->id);
		CLEANUP_ERROR struct error *e = NULL;
		int64_t size;

		next = ct->next;
		if (ct->state != CT_STOPPED || ct->again || files_check(ct, NULL))
			continue; /* it runs, or is about to, or somebody is at its files */
		size = disk_use(ct);
		if (container_remove(ct, &e)) {
			log_err(e, "prune");
			continue;
		}
		json_add_str(ids, id);
		reclaimed += size;
	}
	json_set(o, "deleted", ids);
	json_set_int(o, "reclaimed", reclaimed);
	rpc_reply(req, o);
}

/* ---- calls for the helper ---- */

void on_container_attach(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct json_object *streams = json_arr(params, "streams");
	struct error *e = NULL;

	if ((streams ? json_object_array_length(streams) : 0) == rpc_req_fds(req)->n) {
		container_forward(ctx, req, params, "runtime.attach");
		return;
	}
	error_set(&e, ERR_INVALID_ARGUMENT, "streams and descriptors differ in number");
	rpc_reply_error(req, e);
}

void on_container_top(void *ctx, struct rpc_req *req, struct json_object *params)
{
	container_forward(ctx, req, params, "runtime.top");
}

struct pause_call {
	struct container *ct;
	struct rpc_req *req;
	bool paused;
};

static void pause_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			   const struct error *e)
{
	struct pause_call *p = arg;

	p->ct->calls--;
	if (e) {
		rpc_reply_error(p->req, error_copy(e));
	} else {
		p->ct->paused = p->paused;
		log_info("container %s %s", p->ct->id, p->paused ? "paused" : "goes on");
		events_container(p->ct, p->paused ? "pause" : "unpause", NULL, NULL);
		rpc_reply(p->req, NULL);
	}
	free(p);
}

static void pause_or_not(struct apiserver *s, struct rpc_req *req, struct json_object *params,
			 bool paused)
{
	struct error *e = NULL;
	struct container *ct = container_need_running(s, params, &e);
	struct pause_call *p;

	if (!ct) {
		rpc_reply_error(req, e);
		return;
	}
	if (ct->paused == paused)
		error_set(&e, ERR_INVALID_STATE, "container %s is %s", ct->id,
			  paused ? "paused already" : "not paused");
	if (e) {
		rpc_reply_error(req, e);
		return;
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct pause_call){.ct = ct, .req = req, .paused = paused};
	ct->calls++;
	rpc_call_async(ct->conn, paused ? "runtime.pause" : "runtime.resume", NULL, NULL, 0,
		       pause_answered, NULL, p);
}

void on_container_pause(void *ctx, struct rpc_req *req, struct json_object *params)
{
	pause_or_not(ctx, req, params, true);
}

void on_container_unpause(void *ctx, struct rpc_req *req, struct json_object *params)
{
	pause_or_not(ctx, req, params, false);
}
