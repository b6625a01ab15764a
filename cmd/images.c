/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images.c - container-core-images: the image store, served to the apiserver.
 *
 * One process owns the store. Short questions (list, inspect, resolve) are answered on the loop's thread;
 * what may take longer runs as a job on a thread of its own. A job's progress comes back to the loop by
 * loop_post(), since only the loop may touch a request; it is cancelled when the requester is gone.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "cmd/roles.h"
#include "core/log.h"
#include "core/path.h"
#include "core/roots.h"
#include "core/rpc.h"
#include "oci/oci.h"

#define LISTEN_FD 3

struct images {
	struct loop *loop;
	struct oci_store *store;
};

/* A call that runs on a thread. The thread reads params and fd and fills the results; everything else is
 * the loop's. Freed when it is answered and its last progress event has been delivered. */
struct job {
	struct images *im;
	struct rpc_req *req; /* NULL once answered */
	struct json_object *params;
	int fd;
	int (*run)(struct job *j, struct error **err);
	const char *method;
	atomic_bool cancel;
	atomic_int refs;
	struct json_object *result;
	int *fds;
	size_t nfds;
	struct error *err;
};

/* ---- jobs ---- */
static void job_put(struct job *j)
{
	size_t i;

	if (atomic_fetch_sub(&j->refs, 1) != 1)
		return;
	for (i = 0; i < j->nfds; i++)
		base_close_fd(&j->fds[i]);
	free(j->fds);
	base_close_fd(&j->fd);
	json_object_put(j->params);
	json_object_put(j->result);
	error_free(j->err);
	free(j);
}

static void job_work(void *arg)
{
	struct job *j = arg;

	if (j->run(j, &j->err) < 0 && !j->err)
		error_set(&j->err, ERR_INTERNAL, "%s failed", j->method);
}

static void job_done(void *arg)
{
	struct job *j = arg;
	struct rpc_req *req = STEAL(j->req);

	if (j->err) {
		log_err(j->err, "%s", j->method);
		rpc_reply_error(req, STEAL(j->err));
	} else {
		rpc_reply_fds(req, STEAL(j->result), j->fds, j->nfds);
	}
	job_put(j);
}

static void job_cancel(void *arg)
{
	struct job *j = arg;

	log_info("%s: the requester is gone", j->method);
	atomic_store(&j->cancel, true);
}

/* An event on its way from a job's thread to the requester. */
struct event {
	struct job *job;
	struct json_object *ev;
};

static void event_deliver(void *arg)
{
	struct event *e = arg;

	if (e->job->req && !atomic_load(&e->job->cancel))
		rpc_progress(e->job->req, e->ev);
	else
		json_object_put(e->ev);
	job_put(e->job);
	free(e);
}

static void job_event(struct job *j, struct json_object *ev)
{
	struct event *e = xcalloc(1, sizeof(*e));

	atomic_fetch_add(&j->refs, 1);
	e->job = j;
	e->ev = ev;
	loop_post(j->im->loop, event_deliver, e);
}

static void on_progress(void *arg, struct json_object *ev)
{
	struct json_object *copy = NULL;

	/* json-c counts references without locks: the loop gets an object of its own. */
	if (json_object_deep_copy(ev, &copy, NULL) == 0)
		job_event(arg, copy);
}

static bool job_cancelled(void *arg)
{
	struct job *j = arg;

	return atomic_load(&j->cancel);
}

static struct oci_progress job_progress(struct job *j)
{
	return (struct oci_progress){.fn = on_progress, .arg = j, .cancelled = job_cancelled};
}

static void job_start(struct images *im, struct rpc_req *req, struct json_object *params, int fd,
		      int (*run)(struct job *, struct error **))
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->im = im;
	j->req = req;
	j->fd = fd;
	j->run = run;
	j->method = rpc_req_method(req);
	atomic_init(&j->refs, 1);
	/* The thread must not share counters with the library's copy. */
	if (params && json_object_deep_copy(params, &j->params, NULL) < 0)
		abort(); /* out of memory */
	rpc_req_on_cancel(req, job_cancel, j);
	loop_work(im->loop, job_work, job_done, j);
}

static struct json_object *wrap(const char *key, struct json_object *v)
{
	struct json_object *o = json_object_new_object();

	json_set(o, key, v);
	return o;
}

/* The strings of an array parameter; they stay the array's. */
static int need_strings(struct json_object *params, const char *key, const char ***out, size_t *n,
			struct error **err)
{
	struct json_object *arr;
	const char **v;
	size_t i;

	if (json_need_arr(params, key, &arr, err) < 0)
		return -1;
	*n = json_object_array_length(arr);
	v = xcalloc(*n + 1, sizeof(*v));
	for (i = 0; i < *n; i++) {
		struct json_object *s = json_object_array_get_idx(arr, i);

		if (!json_object_is_type(s, json_type_string)) {
			free(v);
			return error_set(err, ERR_INVALID_ARGUMENT, "%s[%zu] is not a string", key,
					 i);
		}
		v[i] = json_object_get_string(s);
	}
	*out = v;
	return 0;
}

/* ---- long calls ---- */
static int run_pull(struct job *j, struct error **err)
{
	struct oci_progress p = job_progress(j);
	struct oci_pull_opts o = {
		.scheme = json_str(j->params, "scheme", "auto"),
		.platform = json_str(j->params, "platform", NULL),
		.all_platforms = json_flag(j->params, "allPlatforms", false),
		.max_downloads =
			(int)MAX(0, MIN(json_int(j->params, "maxConcurrentDownloads", 0), 16)),
		.user = json_str(j->params, "user", NULL),
		.secret = json_str(j->params, "secret", ""),
	};
	struct json_object *image;
	const char *ref;

	if (json_need_str(j->params, "reference", &ref, err) < 0)
		return -1;
	if (oci_pull(j->im->store, ref, &o, &p, &image, err) < 0)
		return -1;
	log_info("pulled %s", ref);
	j->result = wrap("image", image);
	return 0;
}

static int run_push(struct job *j, struct error **err)
{
	struct oci_progress p = job_progress(j);
	struct oci_push_opts o = {
		.scheme = json_str(j->params, "scheme", "auto"),
		.platform = json_str(j->params, "platform", NULL),
		.user = json_str(j->params, "user", NULL),
		.secret = json_str(j->params, "secret", ""),
	};
	const char *ref;

	if (json_need_str(j->params, "reference", &ref, err) < 0 ||
	    oci_push(j->im->store, ref, &o, &p, &j->result, err) < 0)
		return -1;
	log_info("pushed %s", ref);
	return 0;
}

static int run_load(struct job *j, struct error **err)
{
	struct oci_progress p = job_progress(j);
	struct json_object *images;

	if (j->fd < 0)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "image.load needs a descriptor to read from");
	if (oci_load(j->im->store, j->fd, json_flag(j->params, "force", false), &p, &images, err) <
	    0)
		return -1;
	j->result = wrap("images", images);
	return 0;
}

static int run_member(struct job *j, struct error **err)
{
	struct oci_progress p = job_progress(j);
	struct oci_member m = {
		.url = json_str(j->params, "url", NULL),
		.fd = j->fd,
		.digest = json_str(j->params, "digest", NULL),
	};
	CLEANUP_FREE char *path = NULL;
	int fd;

	if (json_need_str(j->params, "member", &m.member, err) < 0)
		return -1;
	if (!m.url == (j->fd < 0))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "archive.member needs either a URL or a descriptor");
	if (m.url && !m.digest)
		return error_set(err, ERR_INVALID_ARGUMENT, "a URL needs the archive's digest");
	fd = oci_member(j->im->store, &m, &p, &path, err);
	if (fd < 0)
		return -1;
	j->fds = xcalloc(1, sizeof(*j->fds));
	j->fds[j->nfds++] = fd;
	j->result = json_object_new_object();
	json_set_str(j->result, "path", path);
	return 0;
}

static int run_commit(struct job *j, struct error **err)
{
	struct oci_progress p = job_progress(j);
	struct oci_commit c = {
		.reference = json_str(j->params, "reference", NULL),
		.author = json_str(j->params, "author", NULL),
		.message = json_str(j->params, "message", NULL),
		.created_by = json_str(j->params, "createdBy", NULL),
		.config = json_obj(j->params, "config"),
	};
	struct json_object *image;

	if (json_need_str(j->params, "manifest", &c.manifest, err) < 0)
		return -1;
	if (j->fd < 0)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "image.commit needs a descriptor to read from");
	if (oci_commit(j->im->store, &c, j->fd, &p, &image, err) < 0)
		return -1;
	j->result = wrap("image", image);
	return 0;
}

static int run_delete(struct job *j, struct error **err)
{
	CLEANUP_FREE const char **refs = NULL;
	struct json_object *out = NULL;
	size_t n;
	int rc;

	if (need_strings(j->params, "references", &refs, &n, err) < 0)
		return -1;
	rc = oci_delete(j->im->store, refs, n, json_flag(j->params, "force", false),
			json_arr(j->params, "busy"), &out, err);
	if (rc == 0)
		j->result = out;
	else if (out) /* some names were unknown, the others are gone */
		job_event(j, out);
	return rc;
}

static int run_prune(struct job *j, struct error **err)
{
	return oci_prune(j->im->store, json_flag(j->params, "all", false),
			 json_arr(j->params, "only"), json_arr(j->params, "busy"), &j->result, err);
}

static int run_usage(struct job *j, struct error **err)
{
	return oci_usage(j->im->store, json_arr(j->params, "busy"), &j->result, err);
}

static int run_save(struct job *j, struct error **err)
{
	struct oci_save_opts o = {.platform = json_str(j->params, "platform", NULL)};
	const char *format = json_str(j->params, "format", "oci-archive");
	struct oci_progress p = job_progress(j);
	CLEANUP_FREE const char **refs = NULL;
	struct json_object *names;
	size_t n;

	o.docker = !strcmp(format, "docker-archive");
	if (!o.docker && strcmp(format, "oci-archive"))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "format \"%.40s\" is not oci-archive or docker-archive", format);
	if (j->fd < 0)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "image.save needs a descriptor to write to");
	if (need_strings(j->params, "references", &refs, &n, err) < 0 ||
	    oci_save(j->im->store, refs, n, j->fd, &o, &p, &names, err) < 0)
		return -1;
	j->result = wrap("names", names);
	return 0;
}

static int run_login(struct job *j, struct error **err)
{
	struct oci_progress p = job_progress(j);
	CLEANUP_FREE char *domain = NULL;
	const char *server, *user, *secret;

	if (json_need_str(j->params, "server", &server, err) < 0 ||
	    json_need_str(j->params, "user", &user, err) < 0 ||
	    json_need_str(j->params, "secret", &secret, err) < 0)
		return -1;
	if (oci_login(j->im->store, server, json_str(j->params, "scheme", "auto"), user, secret,
		      json_flag(j->params, "keep", true), &domain, &p, err) < 0)
		return -1;
	j->result = json_object_new_object();
	json_set_str(j->result, "server", domain);
	return 0;
}

static int run_logout(struct job *j, struct error **err)
{
	const char *server;

	if (json_need_str(j->params, "server", &server, err) < 0)
		return -1;
	return oci_logout(j->im->store, server, err);
}

static int run_logins(struct job *j, struct error **err)
{
	struct json_object *list;

	if (oci_logins(j->im->store, &list, err) < 0)
		return -1;
	j->result = wrap("registries", list);
	return 0;
}

static int run_rootfs(struct job *j, struct error **err)
{
	const char *digest;

	if (json_need_str(j->params, "manifest", &digest, err) < 0)
		return -1;
	return oci_rootfs(j->im->store, digest, &j->fds, &j->nfds, err);
}

static void on_pull(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_pull);
}

static void on_push(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_push);
}

static void on_load(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, rpc_fds_take(rpc_req_fds(req), 0), run_load);
}

static void on_member(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, rpc_fds_take(rpc_req_fds(req), 0), run_member);
}

static void on_commit(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, rpc_fds_take(rpc_req_fds(req), 0), run_commit);
}

static void on_delete(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_delete);
}

static void on_prune(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_prune);
}

static void on_usage(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_usage);
}

static void on_save(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, rpc_fds_take(rpc_req_fds(req), 0), run_save);
}

static void on_login(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_login);
}

static void on_logout(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_logout);
}

static void on_logins(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_logins);
}

static void on_rootfs(void *ctx, struct rpc_req *req, struct json_object *params)
{
	job_start(ctx, req, params, -1, run_rootfs);
}

/* ---- short calls ---- */
static void answer(struct rpc_req *req, int rc, struct json_object *result, struct error *err)
{
	if (rc == 0)
		rpc_reply(req, result);
	else
		rpc_reply_error(req, err);
}

static void on_list(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct images *im = ctx;
	struct json_object *images = NULL;
	struct error *err = NULL;
	int rc = oci_list(im->store, &images, &err);

	answer(req, rc, rc == 0 ? wrap("images", images) : NULL, err);
}

static void on_inspect(void *ctx, struct rpc_req *req, struct json_object *params)
{
	CLEANUP_FREE const char **refs = NULL;
	struct images *im = ctx;
	struct json_object *images = NULL;
	struct error *err = NULL;
	size_t n;
	int rc = need_strings(params, "references", &refs, &n, &err);

	if (rc == 0)
		rc = oci_inspect(im->store, refs, n, &images, &err);
	answer(req, rc, rc == 0 ? wrap("images", images) : NULL, err);
}

static void on_resolve(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct images *im = ctx;
	struct json_object *out = NULL;
	struct error *err = NULL;
	const char *ref;
	int rc = json_need_str(params, "reference", &ref, &err);

	if (rc == 0)
		rc = oci_resolve(im->store, ref, json_str(params, "platform", NULL), &out, &err);
	answer(req, rc, out, err);
}

static void on_config(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct images *im = ctx;
	struct json_object *config = NULL;
	struct error *err = NULL;
	const char *manifest;
	int rc = json_need_str(params, "manifest", &manifest, &err);

	if (rc == 0)
		rc = oci_config(im->store, manifest, &config, &err);
	answer(req, rc, rc ? NULL : wrap("config", config), err);
}

static void on_tag(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct images *im = ctx;
	const char *source, *target;
	struct error *err = NULL;
	int rc = json_need_str(params, "source", &source, &err);

	if (rc == 0)
		rc = json_need_str(params, "target", &target, &err);
	if (rc == 0)
		rc = oci_tag(im->store, source, target, &err);
	answer(req, rc, NULL, err);
}

static const struct rpc_route routes[] = {
	{"image.pull", on_pull},
	{"image.push", on_push},
	{"image.load", on_load},
	{"image.list", on_list},
	{"image.inspect", on_inspect},
	{"image.delete", on_delete},
	{"image.resolve", on_resolve},
	{"image.rootfs", on_rootfs},
	{"image.tag", on_tag},
	{"archive.member", on_member},
	{"image.save", on_save},
	{"image.commit", on_commit},
	{"image.config", on_config},
	{"image.prune", on_prune},
	{"image.usage", on_usage},
	{"registry.login", on_login},
	{"registry.logout", on_logout},
	{"registry.list", on_logins},
	{NULL, NULL},
};

static const struct rpc_handler handler = {.service = "container.images", .routes = routes};

/* ---- the process ---- */
static void on_signal(void *arg, int signo)
{
	struct images *im = arg;

	log_info("ending on signal %d", signo);
	loop_stop(im->loop);
}

static int open_store(struct images *im, const struct roots *roots, const struct config *c,
		      struct error **err)
{
	struct oci_registries o;
	const char *domain;

	domain = config_str(c, "registry.domain");
	o = (struct oci_registries){
		.ca = config_str(c, "registry.ca"),
		.insecure = config_str(c, "registry.insecure"),
		.mirrors = config_str(c, "registry.mirrors"),
		.internal = config_str(c, "dns.domain"),
		.stall_s = (int)config_int(c, "registry.timeout"),
	};
	im->store = oci_store_open(roots->app, domain, err);
	return im->store ? oci_store_registries(im->store, &o, err) : -1;
}

static int serve(struct images *im, const struct roots *roots, const struct config *c,
		 struct error **err)
{
	struct rpc_server *server;
	int rc;

	im->loop = loop_new(err);
	if (!im->loop)
		return -1;
	/* Before any thread, so that all inherit the mask. */
	if (!loop_add_signal(im->loop, SIGTERM, on_signal, im, err) ||
	    !loop_add_signal(im->loop, SIGINT, on_signal, im, err))
		return -1;
	if (open_store(im, roots, c, err) < 0)
		return -1;
	server = rpc_server_new(im->loop, LISTEN_FD, &handler, im, err);
	if (!server)
		return -1;
	log_info("serving images of %s", roots->app);
	rc = loop_run(im->loop, err);
	/* Jobs may still run on threads that use the store and the loop; the process ends with them, and
	 * what they were writing is swept when the store is opened next. */
	return rc;
}

/* What an image says is read here by several parsers; as root they need no more of it than to write below an app root
 * that belongs to another user. */
static int drop_privileges(struct error **err)
{
	static const cap_value_t keep[] = {CAP_DAC_OVERRIDE};
	cap_value_t c;
	cap_t caps;
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_sys(err, errno, "no_new_privs");
	if (geteuid() != 0)
		return 0;
	for (c = 0; cap_get_bound(c) >= 0; c++)
		if (c != CAP_DAC_OVERRIDE && cap_drop_bound(c) < 0 && errno != EPERM)
			return error_sys(err, errno, "drop capability %d", c);
	caps = cap_init();
	if (!caps)
		return error_sys(err, errno, "capabilities");
	rc = cap_set_flag(caps, CAP_PERMITTED, ARRAY_SIZE(keep), keep, CAP_SET);
	if (rc == 0)
		rc = cap_set_flag(caps, CAP_EFFECTIVE, ARRAY_SIZE(keep), keep, CAP_SET);
	if (rc == 0)
		rc = cap_set_proc(caps);
	if (rc < 0)
		error_sys(err, errno, "capabilities");
	cap_free(caps);
	return rc;
}

static int start(bool debug, struct error **err)
{
	struct images im = {0};
	struct config *config;
	struct roots roots;
	struct stat st;
	int rc;

	if (fstat(LISTEN_FD, &st) < 0 || !S_ISSOCK(st.st_mode))
		return error_set(
			err, ERR_INVALID_STATE,
			"descriptor 3 is not a listening socket: the apiserver starts this role");
	fd_set_cloexec(LISTEN_FD, true);
	if (roots_init(&roots, NULL, NULL, NULL, NULL, err) < 0)
		return -1;
	config = config_load(err);
	if (!config)
		return -1;
	rc = log_init_service(roots.log, "container.images",
			      debug ? LOG_LVL_DEBUG : log_level_of(config_str(config, "log.level")),
			      err);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	if (rc == 0)
		rc = drop_privileges(err);
	if (rc == 0)
		rc = serve(&im, &roots, config, err);
	config_free(config);
	return rc;
}

int images_main(int argc, char **argv)
{
	CLEANUP_ERROR struct error *err = NULL;
	CLEANUP_OPTS struct opt_args a = {0};
	CLEANUP_FREE char *text = NULL;
	int status;

	if (!role_parse(&role_images, argc, argv, &a, &status))
		return status;
	alloc_give_back(); /* as oci/memory.c counts on */
	/* No exit handlers: jobs may still be running in the libraries these would take down. */
	if (start(opt_has(&a, "debug"), &err) == 0)
		_exit(0);
	text = error_text(err);
	log_err(err, "container.images");
	fprintf(stderr, "Error: %s: \"%s\"\n", error_code_name(err->code), text);
	return 1;
}
