/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_kernel.c - the engine and the guest kernels of this system.
 *
 * Kernels are directories below kernels/; `default` is a symlink to one. A new one is built under a name that begins
 * with a dot and renamed; one of the same name is exchanged with it, then removed, so a start that reads the directory
 * at that moment opens files of one or the other.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "core/path.h"
#include "core/state.h"
#include "vmm/kernel.h"

/* ---- engine ---- */

struct engine_work {
	struct apiserver *s;
	enum vm_engine wish, engine;
	char *qemu, *why;
	uint64_t tsc_khz;
	struct error *e;
};

static void engine_work(void *arg)
{
	struct engine_work *w = arg;

	if (!vm_engine_choose(w->wish, w->qemu, &w->engine, &w->why, &w->e) &&
	    w->engine == VM_ENGINE_QEMU)
		w->tsc_khz = vm_tsc_khz();
}

static void engine_worked(void *arg)
{
	struct engine_work *w = arg;
	struct apiserver *s = w->s;

	error_free(STEAL(s->engine_err));
	free(STEAL(s->engine_why));
	s->engine_state = w->e ? ENGINE_NONE : ENGINE_READY;
	s->engine = w->engine;
	s->tsc_khz = w->tsc_khz;
	s->engine_why = w->e ? error_text(w->e) : STEAL(w->why);
	s->engine_err = w->e;
	log_info("engine: %s: %s", w->e ? "none" : vm_engine_name(w->engine),
		 s->engine_why ? s->engine_why : "");
	free(w->why);
	free(w->qemu);
	free(w);
	status_engine_known(s);
	start_engine_known(s);
}

void engine_check(struct apiserver *s)
{
	const char *qemu = config_str(s->config, "qemu.path");
	struct engine_work *w = xcalloc(1, sizeof(*w));

	s->engine_state = ENGINE_CHECKING;
	w->s = s;
	w->qemu = qemu ? xstrdup(qemu) : NULL;
	if (vm_engine_parse(config_str(s->config, "engine"), &w->wish))
		w->wish = VM_ENGINE_AUTO;
	loop_work(s->loop, engine_work, engine_worked, w);
}

/* ---- kernels ---- */

static char *kernel_link(struct apiserver *s)
{
	char to[256];
	ssize_t n = readlinkat(s->kernels_dir, "default", to, sizeof(to) - 1);

	if (n <= 0)
		return NULL;
	to[n] = '\0';
	return strchr(to, '/') || *to == '.' ? NULL : xstrdup(to);
}

char *kernel_default(struct apiserver *s, struct error **err)
{
	CLEANUP_FREE char *name = kernel_link(s);
	struct stat st;

	if (name && !fstatat(s->kernels_dir, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		return xasprintf("%s/kernels/%s", s->roots.app, name);
	error_set(err, ERR_NOT_FOUND,
		  "no guest kernel is set; run `container system kernel set --recommended`");
	return NULL;
}

char *kernel_name(struct apiserver *s)
{
	CLEANUP_FREE char *name = kernel_link(s);
	CLEANUP_CLOSE int dir =
		name ? path_open_beneath(s->kernels_dir, name, O_PATH | O_DIRECTORY, 0, NULL) : -1;
	CLEANUP_JSON struct json_object *o = dir < 0 ? NULL : state_read(dir, "kernel.json", NULL);

	if (!name)
		return NULL;
	return xstrdup(json_str(o, "release", json_str(o, "name", name)));
}

char *kernel_cached(struct apiserver *s, const char *path, bool *ready, struct error **err)
{
	CLEANUP_FREE char *key = NULL, *name = NULL;
	uint64_t h = 14695981039346656037ull;
	struct stat st;
	const char *p;

	if (*path != '/') {
		error_set(err, ERR_INVALID_ARGUMENT, "kernel: \"%s\" is not an absolute path",
			  path);
		return NULL;
	}
	if (stat(path, &st)) {
		error_sys(err, errno, "kernel %s", path);
		return NULL;
	}
	key = xasprintf("%s %llu %llu %llu %lld.%09ld", path, (unsigned long long)st.st_dev,
			(unsigned long long)st.st_ino, (unsigned long long)st.st_size,
			(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	for (p = key; *p; p++)
		h = (h ^ (unsigned char)*p) * 1099511628211ull;
	name = xasprintf("file-%016llx", (unsigned long long)h);
	*ready = !fstatat(s->kernels_dir, name, &st, AT_SYMLINK_NOFOLLOW);
	return xasprintf("%s/kernels/%s", s->roots.app, name);
}

/* Whether a kernel of that name is there whose bytes are not these. */
static bool kernel_differs(struct apiserver *s, const char *name, struct json_object *o)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(s->kernels_dir, name, O_PATH | O_DIRECTORY, 0, NULL);
	CLEANUP_JSON struct json_object *old =
		dir < 0 ? NULL : state_read(dir, "kernel.json", NULL);

	return old && !str_eq(json_str(old, "sha256", ""), json_str(o, "sha256", NULL));
}

int kernel_import_as(struct apiserver *s, const struct kernel_source *from, const char *name,
		     struct json_object **info, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();
	CLEANUP_FREE char *tmp = xasprintf(".tmp-%s", uuid);
	CLEANUP_JSON struct json_object *o = NULL;
	CLEANUP_CLOSE int dir = -1;
	const char *to = name;

	if (mkdirat(s->kernels_dir, tmp, 0700))
		return error_sys(err, errno, "create kernel directory");
	dir = path_open_beneath(s->kernels_dir, tmp, O_RDONLY | O_DIRECTORY, 0, err);
	if (dir < 0 ||
	    (from->fd < 0 ? kernel_import(from->binary, from->modules, dir, &o, err)
			  : kernel_import_fd(from->fd, from->binary, from->modules, dir, &o, err)))
		goto fail;
	if (!to)
		to = json_str(o, "release", "kernel");
	if (!container_id_valid(to)) {
		error_set(err, ERR_INVALID_ARGUMENT, "\"%.100s\" cannot name a kernel", to);
		goto fail;
	}
	if (from->keep && kernel_differs(s, to, o)) {
		error_set(
			err, ERR_EXISTS,
			"another kernel is installed as %s; --force replaces it, --name gives this "
			"one another name",
			to);
		goto fail;
	}
	if (renameat2(s->kernels_dir, tmp, s->kernels_dir, to, RENAME_EXCHANGE) &&
	    (errno != ENOENT || renameat(s->kernels_dir, tmp, s->kernels_dir, to))) {
		error_sys(err, errno, "kernel %s", to);
		goto fail;
	}
	path_remove_tree(s->kernels_dir, tmp, NULL); /* the one that was exchanged */
	json_set_str(o, "directory", to);
	if (info)
		*info = STEAL(o);
	return 0;
fail:
	path_remove_tree(s->kernels_dir, tmp, NULL);
	return -1;
}

/* ---- kernel.set ---- */

struct kernel_set {
	struct apiserver *s;
	struct rpc_req *req;
	char *binary, *modules, *name;
	int fd; /* of the binary, when it came with the call */
	bool force;
	struct json_object *info;
	struct error *e;
};

static int kernel_switch(struct apiserver *s, const char *name, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();
	CLEANUP_FREE char *tmp = xasprintf(".link-%s", uuid);

	if (symlinkat(name, s->kernels_dir, tmp))
		return error_sys(err, errno, "set default kernel");
	if (renameat(s->kernels_dir, tmp, s->kernels_dir, "default")) {
		error_sys(err, errno, "set default kernel");
		unlinkat(s->kernels_dir, tmp, 0);
		return -1;
	}
	fsync(s->kernels_dir);
	return 0;
}

static void kernel_set_work(void *arg)
{
	struct kernel_set *k = arg;
	struct apiserver *s = k->s;

	if (!k->binary && kernel_recommended(s->roots.install, &k->binary, &k->modules, &k->e))
		return;
	struct kernel_source from = {.binary = k->binary,
				     .fd = k->fd,
				     .modules = k->modules,
				     .keep = !k->force};

	if (kernel_import_as(s, &from, k->name, &k->info, &k->e))
		return;
	kernel_switch(s, json_str(k->info, "directory", ""), &k->e);
}

static void kernel_set_done(void *arg)
{
	struct kernel_set *k = arg;
	struct json_object *o;

	k->s->kernel_busy = false;
	if (k->e) {
		log_err(k->e, "kernel.set");
		rpc_reply_error(k->req, STEAL(k->e));
	} else {
		o = json_object_new_object();
		json_set_str(o, "name", json_str(k->info, "directory", ""));
		json_set_str(o, "release", json_str(k->info, "release", ""));
		log_info("default kernel: %s", json_str(k->info, "directory", ""));
		rpc_reply(k->req, o);
	}
	json_object_put(k->info);
	base_close_fd(&k->fd);
	free(k->binary);
	free(k->modules);
	free(k->name);
	free(k);
}

static int absolute(struct json_object *params, const char *key, const char **out,
		    struct error **err)
{
	*out = NULL;
	if (!json_get(params, key))
		return 0;
	if (json_need_str(params, key, out, err))
		return -1;
	if (**out != '/')
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" must be an absolute path", key);
	return 0;
}

/* The binary is a path, or what it is called when it comes as a descriptor. */
static int kernel_set_check(struct json_object *params, bool has_fd, const char **binary,
			    const char **modules, struct error **err)
{
	const char *name = json_str(params, "name", NULL);
	bool recommended = json_flag(params, "recommended", false);

	*binary = json_str(params, "binary", NULL);
	if ((!has_fd && absolute(params, "binary", binary, err)) ||
	    absolute(params, "modules", modules, err))
		return -1;
	if (!*binary == !recommended || ((*modules || has_fd) && !*binary))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "either a binary or the recommended kernel must be asked for");
	if (name && (!container_id_valid(name) || !strcmp(name, "default")))
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid kernel name \"%.100s\"", name);
	return 0;
}

void on_kernel_set(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	const char *binary, *modules, *name = json_str(params, "name", NULL);
	bool recommended = json_flag(params, "recommended", false);
	struct rpc_fds *fds = rpc_req_fds(req);
	struct error *e = NULL;
	struct kernel_set *k;

	if (kernel_set_check(params, fds->n > 0, &binary, &modules, &e))
		goto fail;
	if (s->kernel_busy || s->stopping) {
		error_set(&e, ERR_INVALID_STATE, "a kernel is being set already");
		goto fail;
	}
	k = xcalloc(1, sizeof(*k));
	k->s = s;
	k->req = req;
	k->fd = rpc_fds_take(fds, 0);
	k->force = recommended || json_flag(params, "force", false);
	if (recommended)
		binary = config_str(s->config, "kernel.path");
	k->binary = binary ? xstrdup(binary) : NULL;
	k->modules = modules ? xstrdup(modules) : NULL;
	k->name = name ? xstrdup(name) : NULL;
	s->kernel_busy = true;
	loop_work(s->loop, kernel_set_work, kernel_set_done, k);
	return;
fail:
	rpc_reply_error(req, e);
}
