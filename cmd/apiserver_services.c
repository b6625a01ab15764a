/* SPDX-License-Identifier: Apache-2.0 */
/* apiserver_services.c - the image and network helpers: started, watched, restarted, called. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "cmd/apiserver.h"
#include "core/proc.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define HEALTHY_US     (30ull * 1000000)
#define EARLY_US       1000000ull
#define END_GRACE_MS   3000
#define PROXY_CHECK_MS 10000

struct proxy {
	struct proxy *next, **pprev;
	struct service *svc;
	struct rpc_req *req;
	struct json_object *params;
	struct rpc_conn *conn;
	struct loop_source *timer;
};

static void service_spawn(struct service *svc);

/* ---- the standing connection ---- */

static void conn_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct service *svc = ctx;

	svc->conn = NULL;
	if (e)
		log_err(e, "%s", svc->label);
}

static const struct rpc_handler service_handler = {.service = APISERVER_LABEL,
						   .on_close = conn_closed};

static void reconciled(void *arg, struct json_object *result, struct rpc_fds *fds,
		       const struct error *e)
{
	if (e)
		log_err(e, "network.reconcile");
}

static int service_connect(struct service *svc, struct error **err)
{
	int fd;

	if (svc->conn)
		return 0;
	fd = svc->ending ? error_set(err, ERR_INVALID_STATE, "the system is stopping")
			 : rpc_socket_connect(svc->s->run_dir, svc->sock, err);
	if (fd < 0)
		return error_wrap(err, "%s", svc->label);
	svc->conn = rpc_conn_new(svc->s->loop, fd, &service_handler, svc);
	if (svc == &svc->s->svc[SVC_NETWORK] && !svc->s->adopting) {
		/* Leases whose release was lost with the helper before this one. */
		struct json_object *p = json_object_new_object();

		json_set(p, "ids", containers_active(svc->s));
		rpc_call_async(svc->conn, "network.reconcile", p, NULL, 0, reconciled, NULL, NULL);
	}
	return 0;
}

int service_call(struct apiserver *s, enum service_index i, const char *method,
		 struct json_object *params, rpc_reply_fn fn, void *arg, struct error **err)
{
	if (service_connect(&s->svc[i], err)) {
		json_object_put(params);
		return -1;
	}
	rpc_call_async(s->svc[i].conn, method, params, NULL, 0, fn, NULL, arg);
	return 0;
}

/* ---- calls passed on ---- */

static void proxy_free(struct proxy *p)
{
	*p->pprev = p->next;
	if (p->next)
		p->next->pprev = p->pprev;
	loop_source_free(p->timer);
	json_object_put(p->params);
	free(p);
}

static void proxy_reply(void *arg, struct json_object *result, struct rpc_fds *fds,
			const struct error *e)
{
	struct proxy *p = arg;
	struct rpc_conn *conn = p->conn;
	struct error *copy;

	if (e) {
		copy = error_copy(e);
		if (e->code == ERR_INTERRUPTED || e->code == ERR_CANCELLED)
			error_wrap(&copy, "%s", p->svc->label);
		rpc_reply_error(p->req, copy);
	} else {
		events_image_call(p->svc->s, rpc_req_method(p->req), p->params, result);
		rpc_reply_fds(p->req, json_object_get(result), fds->fd, fds->n);
	}
	proxy_free(p);
	rpc_conn_free(conn);
}

static void proxy_progress(void *arg, struct json_object *ev)
{
	rpc_progress(((struct proxy *)arg)->req, json_object_get(ev));
}

/* The client left: so do we, and the helper gives the call up. proxy_reply() is called for it. */
static void proxy_cancel(void *arg)
{
	rpc_conn_free(((struct proxy *)arg)->conn);
}

static void proxy_check(void *arg)
{
	struct proxy *p = arg;

	if (p->svc->pid)
		loop_set_timer(p->timer, PROXY_CHECK_MS);
	else
		rpc_conn_free(p->conn);
}

void service_proxy(struct apiserver *s, enum service_index i, struct rpc_req *req,
		   struct json_object *params)
{
	static const struct rpc_handler handler = {.service = APISERVER_LABEL};
	struct service *svc = &s->svc[i];
	struct rpc_fds *fds = rpc_req_fds(req);
	struct error *e = NULL;
	struct proxy *p;
	int fd = svc->ending ? error_set(&e, ERR_INVALID_STATE, "the system is stopping")
			     : rpc_socket_connect(s->run_dir, svc->sock, &e);

	if (fd < 0) {
		json_object_put(params);
		error_wrap(&e, "%s", svc->label);
		rpc_reply_error(req, e);
		return;
	}
	p = xcalloc(1, sizeof(*p));
	p->svc = svc;
	p->req = req;
	p->params = json_object_get(params);
	p->next = svc->proxies;
	p->pprev = &svc->proxies;
	if (p->next)
		p->next->pprev = &p->next;
	svc->proxies = p;
	p->conn = rpc_conn_new(s->loop, fd, &handler, NULL);
	p->timer = loop_add_timer(s->loop, PROXY_CHECK_MS, proxy_check, p);
	rpc_req_on_cancel(req, proxy_cancel, p);
	rpc_call_async(p->conn, rpc_req_method(req), params, fds->fd, fds->n, proxy_reply,
		       proxy_progress, p);
}

/* ---- the process ---- */

/* A helper that cannot start must not leave its callers waiting in the backlog. */
static void service_fail_calls(struct service *svc)
{
	if (svc->conn)
		rpc_conn_free(STEAL(svc->conn));
	while (svc->proxies)
		rpc_conn_free(svc->proxies->conn);
}

static void service_respawn(void *arg)
{
	struct service *svc = arg;
	CLEANUP_ERROR struct error *e = NULL;

	loop_source_free(STEAL(svc->timer));
	service_spawn(svc);
	/* A release may have been lost with the one before it: it is told who is left, and not only when the next container starts. */
	if (svc == &svc->s->svc[SVC_NETWORK] && service_connect(svc, &e))
		log_err(e, "%s", svc->label);
}

static void service_later(struct service *svc)
{
	svc->timer = loop_add_timer(svc->s->loop, svc->backoff_ms, service_respawn, svc);
	svc->backoff_ms = MIN(2 * svc->backoff_ms, BACKOFF_MAX_MS);
}

static void (*on_all_ended)(struct apiserver *s);

static void check_all_ended(struct apiserver *s)
{
	void (*fn)(struct apiserver * s2) = on_all_ended;
	int i;

	for (i = 0; i < SVC_COUNT; i++)
		if (s->svc[i].pid)
			return;
	on_all_ended = NULL;
	if (fn)
		fn(s);
}

static void service_died(void *arg, pid_t pid, int status)
{
	struct service *svc = arg;
	uint64_t lived = time_mono_us() - svc->started_us;

	loop_source_free(STEAL(svc->child));
	svc->pid = 0;
	if (svc->ending) {
		loop_source_free(STEAL(svc->timer));
		check_all_ended(svc->s);
		return;
	}
	log_error("%s (pid %d) ended with status %d, will be restarted", svc->label, (int)pid,
		  proc_exit_code(status));
	if (lived >= HEALTHY_US)
		svc->backoff_ms = BACKOFF_MIN_MS;
	if (lived < EARLY_US)
		service_fail_calls(svc);
	service_later(svc);
}

static void service_spawn(struct service *svc)
{
	const char *argv[16] = {svc->role, "start"};
	CLEANUP_ERROR struct error *e = NULL;
	struct proc_spec spec = {
		.argv = (char *const *)argv,
		.stdio = {-1, -1, svc->s->debug ? STDERR_FILENO : -1},
		.fds = &svc->listen_fd,
		.nfds = 1,
		.death_signal = SIGTERM,
	};
	size_t i;

	for (i = 0; svc->args[i]; i++)
		argv[2 + i] = svc->args[i];
	svc->started_us = time_mono_us();
	if (!proc_spawn(&spec, &svc->pid, &e)) {
		svc->child = loop_add_child(svc->s->loop, svc->pid, service_died, svc, &e);
		if (svc->child) {
			log_info("%s started, pid %d", svc->label, (int)svc->pid);
			return;
		}
		kill(svc->pid, SIGKILL);
		svc->pid = 0;
	}
	log_err(e, "start %s", svc->label);
	service_fail_calls(svc);
	service_later(svc);
}

static void service_init(struct apiserver *s, enum service_index i, const char *label,
			 const char *role, const char *sock)
{
	s->svc[i] = (struct service){.s = s,
				     .label = label,
				     .role = role,
				     .sock = sock,
				     .listen_fd = -1,
				     .backoff_ms = BACKOFF_MIN_MS};
}

int services_start(struct apiserver *s, struct error **err)
{
	const char **args;
	int i;

	service_init(s, SVC_IMAGES, "container.images", "container-core-images", "images.sock");
	service_init(s, SVC_NETWORK, "container.network.default", "container-network-vmnet",
		     "network-default.sock");
	args = s->svc[SVC_NETWORK].args;
	args[0] = "--name";
	args[1] = "default";
	args[2] = "--subnet";
	args[3] = config_str(s->config, "network.subnet");
	for (i = 0; i < SVC_COUNT; i++) {
		struct service *svc = &s->svc[i];

		/* We hold the system's lock: whoever listens there is a helper of an apiserver that is gone. */
		unlinkat(s->run_dir, svc->sock, 0);
		svc->listen_fd = rpc_socket_listen(s->run_dir, svc->sock, err);
		if (svc->listen_fd < 0)
			return -1;
		service_spawn(svc);
	}
	return 0;
}

static void end_late(void *arg)
{
	struct service *svc = arg;

	if (svc->pid) {
		log_warn("%s does not end: killed", svc->label);
		kill(svc->pid, SIGKILL);
	}
}

void services_stop(struct apiserver *s, void (*done)(struct apiserver *s))
{
	int i;

	on_all_ended = done;
	for (i = 0; i < SVC_COUNT; i++) {
		struct service *svc = &s->svc[i];

		svc->ending = true;
		loop_source_free(STEAL(svc->timer));
		service_fail_calls(svc);
		if (!svc->pid)
			continue;
		kill(svc->pid, SIGTERM);
		svc->timer = loop_add_timer(s->loop, END_GRACE_MS, end_late, svc);
	}
	check_all_ended(s);
}

void services_free(struct apiserver *s)
{
	int i;

	for (i = 0; i < SVC_COUNT; i++) {
		struct service *svc = &s->svc[i];

		if (!svc->label)
			continue;
		svc->ending = true;
		service_fail_calls(svc);
		loop_source_free(STEAL(svc->child));
		loop_source_free(STEAL(svc->timer));
		if (svc->pid)
			kill(svc->pid, SIGTERM);
		if (svc->listen_fd >= 0) {
			close(steal_fd(&svc->listen_fd));
			unlinkat(s->run_dir, svc->sock, 0);
		}
	}
}
