/* SPDX-License-Identifier: Apache-2.0 */
/* apiserver.c - the apiserver role: its start and end, its routes, and what concerns the system as a whole. */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "cmd/cgroup.h"
#include "cmd/roles.h"
#include "core/path.h"
#include "core/version.h"

/* ---- waiters ---- */

static void waiter_unlink(struct waiter *w)
{
	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
}

static void waiter_cancelled(void *arg)
{
	struct waiter *w = arg;

	/* A container to be deleted is deleted, whoever watches. */
	if (w->delete_after)
		return;
	waiter_unlink(w);
	rpc_reply(w->req, NULL);
	free_shared(w);
}

void waiter_add(struct waiter **list, struct rpc_req *req, bool delete_after)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	*w = (struct waiter){.req = req,
			     .next = *list,
			     .pprev = list,
			     .delete_after = delete_after};
	if (w->next)
		w->next->pprev = &w->next;
	*list = w;
	rpc_req_on_cancel(req, waiter_cancelled, w);
}

struct rpc_req *waiter_take(struct waiter **list, bool *delete_after)
{
	struct waiter *w = *list;
	struct rpc_req *req;

	if (!w)
		return NULL;
	waiter_unlink(w);
	req = w->req;
	*delete_after = w->delete_after;
	rpc_req_on_cancel(req, NULL, NULL);
	free_shared(w);
	return req;
}

/* ---- ping, status ---- */

static struct json_object *ping_json(struct apiserver *s)
{
	struct json_object *o = json_object_new_object();
	CLEANUP_FREE char *kernel = kernel_name(s);

	json_set_str(o, "appRoot", s->roots.app);
	json_set_str(o, "installRoot", s->roots.install);
	json_set_str(o, "logRoot", s->roots.log);
	json_set_str(o, "runRoot", s->roots.run);
	json_set_str(o, "apiServerVersion", version_release);
	json_set_str(o, "apiServerCommit", version_commit);
	json_set_str(o, "apiServerBuild", version_build);
	json_set_str(o, "apiServerAppName", "container-apiserver");
	json_set_str(o, "engine",
		     s->engine_state == ENGINE_CHECKING ? "checking"
		     : s->engine_state == ENGINE_NONE   ? "none"
							: vm_engine_name(s->engine));
	json_set_str(o, "engineReason", s->engine_why ? s->engine_why : "the self-test is running");
	json_set_str(o, "kernel", kernel);
	return o;
}

static void on_ping(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct json_object *o = ping_json(ctx);

	json_set_int(o, "pid", getpid());
	rpc_reply(req, o);
}

static void add_service(struct json_object *list, const char *label, pid_t pid, const char *state)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "label", label);
	json_set_int(o, "pid", pid);
	json_set_str(o, "state", state);
	json_object_array_add(list, o);
}

static struct json_object *status_json(struct apiserver *s)
{
	struct json_object *o = ping_json(s), *list = json_object_new_array();
	struct container *ct;
	int i;

	add_service(list, APISERVER_LABEL, getpid(), s->stopping ? "stopping" : "running");
	for (i = 0; i < SVC_COUNT; i++)
		add_service(list, s->svc[i].label, s->svc[i].pid,
			    s->svc[i].pid ? "running" : "restarting");
	for (ct = s->containers; ct; ct = ct->next) {
		CLEANUP_FREE char *label = xasprintf("container.runtime.%s", ct->id);

		if (ct->state != CT_STOPPED)
			add_service(list, label, ct->pid,
				    ct->state == CT_STARTING   ? "starting"
				    : ct->state == CT_STOPPING ? "stopping"
							       : "running");
	}
	json_set(o, "services", list);
	return o;
}

/* What a system can do is known a moment after its start: who asks earlier waits for it. */
static void on_status(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;

	if (s->engine_state == ENGINE_CHECKING)
		waiter_add(&s->status_reqs, req, false);
	else
		rpc_reply(req, status_json(s));
}

void status_engine_known(struct apiserver *s)
{
	struct rpc_req *req;
	bool unused;

	while ((req = waiter_take(&s->status_reqs, &unused)))
		rpc_reply(req, status_json(s));
}

/* ---- stopping ---- */

static void on_stop(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;

	waiter_add(&s->stop_reqs, req, false);
	apiserver_stop(s);
}

static void on_signal(void *arg, int signo)
{
	log_info("signal %d", signo);
	apiserver_stop(arg);
}

/* ---- routes ---- */

static void on_image(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	const char *method = rpc_req_method(req);
	struct json_object *p;
	struct error *e = NULL;

	if (!str_prefix(method, "image.") && !str_prefix(method, "registry.") &&
	    strcmp(method, "archive.member")) {
		error_set(&e, ERR_UNSUPPORTED, "no such method \"%.100s\"", method);
		rpc_reply_error(req, e);
		return;
	}
	if (strcmp(method, "image.delete") && strcmp(method, "image.prune")) {
		service_proxy(s, SVC_IMAGES, req, json_object_get(params));
		return;
	}
	p = json_sorted(params);
	json_set(p, "busy", containers_busy(s));
	service_proxy(s, SVC_IMAGES, req, p);
}

static const struct rpc_route routes[] = {
	{"ping", on_ping},
	{"system.status", on_status},
	{"system.stop", on_stop},
	{"system.df", on_system_df},
	{"system.events", on_system_events},
	{"kernel.set", on_kernel_set},
	{"container.create", on_container_create},
	{"container.start", on_container_start},
	{"container.wait", on_container_wait},
	{"container.exec", on_container_exec},
	{"container.kill", on_container_kill},
	{"container.resize", on_container_resize},
	{"container.stop", on_container_stop},
	{"container.delete", on_container_delete},
	{"container.list", on_container_list},
	{"container.get", on_container_get},
	{"container.logs", on_container_logs},
	{"container.restart", on_container_restart},
	{"container.rename", on_container_rename},
	{"container.prune", on_container_prune},
	{"container.attach", on_container_attach},
	{"container.update", on_container_update},
	{"container.top", on_container_top},
	{"container.stats", on_container_stats},
	{"container.pause", on_container_pause},
	{"container.unpause", on_container_unpause},
	{"volume.create", on_volume_create},
	{"volume.delete", on_volume_delete},
	{"volume.list", on_volume_list},
	{"volume.inspect", on_volume_inspect},
	{"volume.prune", on_volume_prune},
	{"*", on_image},
	{NULL, NULL},
};

static void on_close(void *ctx, struct rpc_conn *c, const struct error *e)
{
	volumes_let_go(ctx, c);
}

static const struct rpc_handler handler = {.service = APISERVER_LABEL,
					   .routes = routes,
					   .on_close = on_close};

/* ---- start ---- */

void apiserver_ready(struct apiserver *s)
{
	CLEANUP_ERROR struct error *e = NULL;
	struct json_object *p;
	int fd;

	if (s->server || s->stopping)
		return;
	(void)cgroup_sweep(s->roots.tag, NULL);
	fd = steal_fd(&s->listen_fd);
	if (fd < 0)
		fd = rpc_socket_listen(s->run_dir, "apiserver.sock", &e);
	if (fd >= 0)
		s->server = rpc_server_new(s->loop, fd, &handler, s, &e);
	if (!s->server) {
		log_err(e, "apiserver");
		loop_stop(s->loop);
		return;
	}
	p = json_object_new_object();
	json_set(p, "ids", containers_active(s));
	service_call(s, SVC_NETWORK, "network.reconcile", p, NULL, NULL, NULL);
	log_info("release %s (%s, %s) serves %s/apiserver.sock", version_release, version_commit,
		 version_build, s->roots.run);
	if (s->ready_fd >= 0) {
		if (write(s->ready_fd, "1", 1) < 0)
			log_warn("readiness: %s", strerror(errno));
		close(steal_fd(&s->ready_fd));
	}
}

static int take_lock(struct apiserver *s, struct error **err)
{
	CLEANUP_BUF struct buf who = {0};

	s->lock_fd = path_open_beneath(s->run_dir, "apiserver.lock", O_RDWR | O_CREAT | O_NOFOLLOW,
				       0600, err);
	if (s->lock_fd < 0)
		return -1;
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return error_sys(err, errno, "lock %s/apiserver.lock", s->roots.run);
		fd_read_all(s->lock_fd, 64, &who, NULL);
		return error_set(err, ERR_EXISTS, "another apiserver (pid %s) runs with %s",
				 who.data && *who.data ? who.data : "unknown", s->roots.run);
	}
	if (ftruncate(s->lock_fd, 0) || dprintf(s->lock_fd, "%d", (int)getpid()) < 0)
		return error_sys(err, errno, "write %s/apiserver.lock", s->roots.run);
	return 0;
}

static int open_below(const char *root, const char *name, struct error **err)
{
	CLEANUP_FREE char *path = name ? xasprintf("%s/%s", root, name) : xstrdup(root);

	if (path_mkdirs(path, 0700, err))
		return -1;
	return path_open_dir(path, err);
}

/* Many containers need many descriptors. */
static void raise_limits(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* What an import left behind that a crash cut short. */
static void clean_kernels(struct apiserver *s)
{
	int fd = openat(s->kernels_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		CLEANUP_ERROR struct error *e = NULL;

		if ((str_prefix(de->d_name, ".tmp-") || str_prefix(de->d_name, ".link-")) &&
		    path_remove_tree(s->kernels_dir, de->d_name, &e))
			log_err(e, "kernels");
	}
	if (d)
		closedir(d);
}

static int apiserver_open(struct apiserver *s, struct error **err)
{
	enum log_level level;

	s->config = config_load(err);
	if (!s->config)
		return -1;
	s->run_dir = open_below(s->roots.run, NULL, err);
	if (s->run_dir < 0 || take_lock(s, err))
		return -1;
	level = s->debug ? LOG_LVL_DEBUG : log_level_of(config_str(s->config, "log.level"));
	s->verbose = level == LOG_LVL_DEBUG;
	if (log_init_service(s->roots.log, APISERVER_LABEL, level, err))
		return -1;
	s->c_dir = open_below(s->roots.run, "c", err);
	s->containers_dir = s->c_dir < 0 ? -1 : open_below(s->roots.app, "containers", err);
	s->kernels_dir = s->containers_dir < 0 ? -1 : open_below(s->roots.app, "kernels", err);
	s->volumes_dir = s->kernels_dir < 0 ? -1 : open_below(s->roots.app, "volumes", err);
	if (s->volumes_dir < 0)
		return -1;
	clean_kernels(s);
	roots_setenv(&s->roots);
	s->loop = loop_new(err);
	if (!s->loop || !loop_add_signal(s->loop, SIGTERM, on_signal, s, err) ||
	    !loop_add_signal(s->loop, SIGINT, on_signal, s, err))
		return -1;
	events_init(s);
	engine_check(s);
	if (services_start(s, err))
		return -1;
	return volumes_load(s, err) ? -1 : containers_load(s, err);
}

static void apiserver_close(struct apiserver *s)
{
	if (s->server && !s->activated)
		unlinkat(s->run_dir, "apiserver.sock", 0);
	rpc_server_free(s->server);
	volumes_let_go(s, NULL);
	(void)cgroup_sweep(s->roots.tag, NULL);
	containers_free(s);
	services_free(s);
	events_free(s);
	loop_free(s->loop);
	trees_drop(s);
	config_free(s->config);
	roots_free(&s->roots);
	error_free(s->engine_err);
	free(s->engine_why);
}

/* The descriptor that --daemon-ready-fd names, -1 when none does. */
static int ready_fd_of(const struct opt_args *a, int *fd)
{
	const char *text = opt_str(a, "daemon-ready-fd", NULL);
	uint64_t n;

	*fd = -1;
	if (!text)
		return 0;
	if (parse_u64(text, &n) || n > INT32_MAX || fcntl((int)n, F_GETFD) < 0)
		return role_usage(&role_apiserver, "'--daemon-ready-fd' names no open descriptor");
	*fd = (int)n;
	return 0;
}

/*
 * activation_socket: the listening socket that systemd opened for us (sd_listen_fds(3): LISTEN_PID names us, the first descriptor is 3), -1
 * when there is none. The variables are not for our children.
 */
static int activation_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int listening = 0, domain = 0, fd = -1;
	socklen_t len = sizeof(int);
	uint64_t who, n;

	if (pid && count && !parse_u64(pid, &who) && who == (uint64_t)getpid() &&
	    !parse_u64(count, &n) && n >= 1)
		fd = 3;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (fd < 0)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) || !listening ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_UNIX)
		return -1;
	fd_set_cloexec(fd, true);
	return fd;
}

/* A list of all containers is megabytes for a moment, and so is a kernel that is imported. The few worker threads share one heap. */
static void tune_memory(void)
{
	alloc_give_back();
	mallopt(M_ARENA_MAX, 1);
}

int apiserver_main(int argc, char **argv)
{
	CLEANUP_OPTS struct opt_args a = {0};
	struct apiserver s = {.listen_fd = -1,
			      .lock_fd = -1,
			      .run_dir = -1,
			      .c_dir = -1,
			      .containers_dir = -1,
			      .kernels_dir = -1,
			      .volumes_dir = -1};
	CLEANUP_ERROR struct error *e = NULL;
	int status;

	if (!role_parse(&role_apiserver, argc, argv, &a, &status) ||
	    (status = ready_fd_of(&a, &s.ready_fd)))
		return status;
	umask(077);
	tune_memory();
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	raise_limits();
	s.debug = opt_has(&a, "debug");
	s.listen_fd = activation_socket();
	s.activated = s.listen_fd >= 0;
	if (s.ready_fd >= 0)
		fd_set_cloexec(s.ready_fd, true);
	if (s.debug)
		log_init_stderr("container-apiserver", LOG_LVL_DEBUG);
	if (roots_init(&s.roots, opt_str(&a, "app-root", NULL), opt_str(&a, "run-root", NULL),
		       opt_str(&a, "log-root", NULL), opt_str(&a, "install-root", NULL), &e) ||
	    apiserver_open(&s, &e) || loop_run(s.loop, &e)) {
		CLEANUP_FREE char *text = error_text(e);

		log_err(e, "apiserver");
		fprintf(stderr, "container-apiserver: %s\n", text);
		return 1;
	}
	apiserver_close(&s);
	return s.stopping ? 0 : 1;
}
