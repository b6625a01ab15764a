/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_usage.c - system.df: who uses the disk, in allocated blocks.
 *
 * The image helper tells about its store; containers and volumes are counted on a worker thread, since trees may be large. The
 * thread gets copies of the names, configurations and states and touches nothing else.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "core/path.h"

#define USAGE_DEPTH 64

struct thing {
	char *name, *config;
	bool active;
};

struct tally {
	int64_t total, active;
	uint64_t size, reclaimable;
};

struct usage {
	struct apiserver *s;
	struct rpc_req *req;
	struct json_object *images;
	struct thing *containers;
	size_t n_containers;
	struct strv mounted; /* volumes that containers name */
	char *app;
	struct tally ct, vol;
};

static void tally_add(struct tally *t, uint64_t size, bool active)
{
	t->total++;
	t->active += active;
	t->size += size;
	if (!active)
		t->reclaimable += size;
}

static struct json_object *tally_json(const struct tally *t)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "total", t->total);
	json_set_int(o, "active", t->active);
	json_set_int(o, "sizeInBytes", (int64_t)t->size);
	json_set_int(o, "reclaimable", (int64_t)t->reclaimable);
	return o;
}

/* ---- the worker ---- */
static void add_mounts(struct usage *u, const char *text)
{
	CLEANUP_JSON struct json_object *config = json_parse(text, strlen(text), NULL);
	struct json_object *mounts = json_arr(config, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *type = json_obj(json_object_array_get_idx(mounts, i), "type");
		const char *name = json_str(json_obj(type, "volume"), "name", NULL);

		if (name)
			strv_add(&u->mounted, name);
	}
}

static bool is_mounted(const struct usage *u, const char *volume)
{
	for (size_t i = 0; i < u->mounted.n; i++)
		if (!strcmp(u->mounted.v[i], volume))
			return true;
	return false;
}

static void count_volumes(struct usage *u, int app)
{
	int fd = openat(app, "volumes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		base_close_fd(&fd);
		return;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			tally_add(&u->vol, path_usage(fd, e->d_name, USAGE_DEPTH),
				  is_mounted(u, e->d_name));
	closedir(d);
}

static void usage_work(void *arg)
{
	struct usage *u = arg;
	CLEANUP_CLOSE int app = path_open_dir(u->app, NULL);
	CLEANUP_CLOSE int all =
		app < 0 ? -1 : openat(app, "containers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < u->n_containers; i++) {
		tally_add(&u->ct, all < 0 ? 0 : path_usage(all, u->containers[i].name, USAGE_DEPTH),
			  u->containers[i].active);
		add_mounts(u, u->containers[i].config);
	}
	if (app >= 0)
		count_volumes(u, app);
}

/* ---- the loop ---- */
static void usage_free(struct usage *u)
{
	for (size_t i = 0; i < u->n_containers; i++) {
		free(u->containers[i].name);
		free(u->containers[i].config);
	}
	free(u->containers);
	strv_free(&u->mounted);
	json_object_put(u->images);
	free(u->app);
	free(u);
}

static void usage_done(void *arg)
{
	struct usage *u = arg;
	struct json_object *o = json_object_new_object();

	json_set(o, "images", json_object_get(u->images));
	json_set(o, "containers", tally_json(&u->ct));
	json_set(o, "volumes", tally_json(&u->vol));
	rpc_reply(u->req, o);
	usage_free(u);
}

static void images_told(void *arg, struct json_object *result, struct rpc_fds *fds,
			const struct error *e)
{
	struct usage *u = arg;
	struct container *ct;
	size_t n = 0;

	if (e) {
		struct error *copy = error_copy(e);

		error_wrap(&copy, "images");
		rpc_reply_error(u->req, copy);
		usage_free(u);
		return;
	}
	u->images = json_object_get(result);
	for (ct = u->s->containers; ct; ct = ct->next)
		n++;
	u->containers = xcalloc(n + 1, sizeof(*u->containers));
	for (ct = u->s->containers; ct; ct = ct->next)
		u->containers[u->n_containers++] = (struct thing){
			.name = xstrdup(ct->id),
			.config = xstrdup(ct->config),
			.active = ct->state != CT_STOPPED,
		};
	loop_work(u->s->loop, usage_work, usage_done, u);
}

void on_system_df(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct usage *u = xcalloc(1, sizeof(*u));
	struct json_object *p = json_object_new_object();
	struct error *e = NULL;

	u->s = s;
	u->req = req;
	u->app = xstrdup(s->roots.app);
	json_set(p, "busy", containers_busy(s));
	if (service_call(s, SVC_IMAGES, "image.usage", p, images_told, u, &e)) {
		rpc_reply_error(req, e);
		usage_free(u);
	}
}
