/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_files.c - tasks (copy, export) on the files of a stopped container.
 *
 * The first task starts a runtime helper of its own that boots the container's disks without the container
 * (cmd/runtime.h); further ones go to the same helper, and a while after the last it is ended. For everyone else the
 * container is stopped all the time. To the code that handles helpers, this one belongs to a container too: a shadow
 * that is on no list, whose name no container can have.
 *
 * A start of the container waits until the tasks at work are done, and no new ones begin meanwhile; only one machine
 * has the disk at a time. What a task wrote is on the disk before it is over, so a shadow may be killed when idle.
 */
#include <signal.h>

#include "cmd/apiserver.h"

#define LINGER_MS 3000 /* for the next task: scripts copy one file after the other */

/* A task whose machine is not up yet. */
struct pending {
	struct pending *next, **pprev;
	struct rpc_req *req;
	struct json_object *params;
};

struct files {
	struct container *of; /* NULL: it is gone */
	struct container *shadow;
	char *name;     /* of the container, as it was */
	bool ending;    /* no more tasks but those that are here */
	bool stopped;   /* the machine was told to go */
	unsigned tasks; /* at work */
	struct loop_source *linger;
	struct pending *queue; /* the latest first */
};

/* ---- tasks that wait ---- */

static struct rpc_req *pending_take(struct pending *p, struct json_object **params)
{
	struct rpc_req *req = p->req;

	*p->pprev = p->next;
	if (p->next)
		p->next->pprev = p->pprev;
	*params = p->params;
	rpc_req_on_cancel(req, NULL, NULL);
	free_shared(p);
	return req;
}

static void pending_cancelled(void *arg)
{
	struct pending *p = arg;
	CLEANUP_JSON struct json_object *params = NULL;

	rpc_reply(pending_take(p, &params), NULL);
}

static void pending_add(struct files *f, struct rpc_req *req, struct json_object *params)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	*p = (struct pending){.req = req,
			      .params = json_object_get(params),
			      .next = f->queue,
			      .pprev = &f->queue};
	if (p->next)
		p->next->pprev = &p->next;
	f->queue = p;
	rpc_req_on_cancel(req, pending_cancelled, p);
}

static void queue_fail(struct files *f, struct error *e)
{
	while (f->queue) {
		CLEANUP_JSON struct json_object *params = NULL;

		rpc_reply_error(pending_take(f->queue, &params), error_copy(e));
	}
	error_free(e);
}

static void queue_go(struct files *f)
{
	while (f->queue) {
		CLEANUP_JSON struct json_object *params = NULL;
		struct rpc_req *req = pending_take(f->queue, &params);

		container_pass(f->shadow, req, params, "runtime.exec", true);
	}
}

/* ---- the machine ---- */

static struct files *files_new(struct container *ct)
{
	CLEANUP_FREE char *id = xasprintf(".%s.%u", ct->id, ++ct->s->next_files);
	struct files *f = xcalloc(1, sizeof(*f));

	f->of = ct;
	f->name = xstrdup(ct->id);
	f->shadow = container_shadow(ct, id);
	f->shadow->serves = f;
	ct->files = f;
	return f;
}

static void machine_start(struct files *f)
{
	CLEANUP_JSON struct json_object *params = json_object_new_object();

	start_begin(f->shadow, NULL, params); /* which may end at once */
}

static void machine_stop(struct files *f)
{
	f->ending = f->stopped = true;
	if (f->shadow->state == CT_STARTING || f->shadow->state == CT_RUNNING)
		container_stop(f->shadow, SIGTERM, 0);
}

static void lingered(void *arg)
{
	machine_stop(arg);
}

/* Nothing is left to do. */
static void idle(struct files *f)
{
	if (f->ending)
		machine_stop(f);
	else if (f->linger)
		loop_set_timer(f->linger, LINGER_MS);
	else
		f->linger = loop_add_timer(f->shadow->s->loop, LINGER_MS, lingered, f);
}

const char *files_name(const struct container *ct)
{
	return ct->serves ? ct->serves->name : ct->id;
}

/* ---- what happens to it ---- */

void files_ready(struct container *shadow)
{
	struct files *f = shadow->serves;

	queue_go(f);
	if (!shadow->calls) /* those who waited have left */
		idle(f);
}

void files_failed(struct container *shadow, struct error *e)
{
	if (shadow->serves->stopped)
		error_free(e); /* it was us */
	else
		queue_fail(shadow->serves, e);
}

void files_task_began(struct container *shadow)
{
	struct files *f = shadow->serves;

	f->tasks++;
	loop_source_free(STEAL(f->linger));
}

void files_task_over(struct container *shadow, const char *process, int code, const char *at)
{
	struct files *f = shadow->serves;

	exits_add(shadow->s, process, code, at);
	if (!--f->tasks && shadow->state == CT_RUNNING)
		idle(f);
}

/* Those that came when it was on its way out get a new one. */
static struct files *renew(struct files *f)
{
	struct files *next = files_new(f->of);

	next->queue = STEAL(f->queue);
	next->queue->pprev = &next->queue;
	return next;
}

void files_ended(struct container *shadow)
{
	struct files *f = shadow->serves, *next = NULL;
	struct container *ct = f->of;
	struct error *e = NULL;

	if (ct)
		ct->files = NULL;
	if (f->queue && ct && ct->state == CT_STOPPED && !ct->s->stopping) {
		next = renew(f);
	} else if (f->queue) {
		error_set(&e, ERR_INVALID_STATE, "container %s is %s", f->name,
			  ct && ct->state == CT_STARTING ? "being started" : "gone");
		queue_fail(f, e);
	}
	loop_source_free(f->linger);
	free(f->name);
	free(f);
	container_free(shadow);
	if (next)
		machine_start(next);
	else if (ct && ct->start)
		start_files_gone(ct);
}

/* ---- what containers ask ---- */

void files_exec(struct container *ct, struct rpc_req *req, struct json_object *params)
{
	struct files *f = ct->files;
	struct error *e = NULL;

	if (ct->s->stopping) {
		error_set(&e, ERR_INVALID_STATE, "the system is stopping");
		rpc_reply_error(req, e);
		return;
	}
	if (f) {
		pending_add(f, req, params);
		if (f->shadow->state == CT_RUNNING && !f->ending)
			queue_go(f);
		return;
	}
	f = files_new(ct);
	pending_add(f, req, params);
	machine_start(f);
}

int files_check(struct container *ct, struct error **err)
{
	if (!ct->files || (!ct->files->tasks && !ct->files->queue))
		return 0;
	return error_set(err, ERR_INVALID_STATE, "files of container %s are being copied", ct->id);
}

void files_drop(struct container *ct)
{
	struct files *f = STEAL(ct->files);
	struct error *e = NULL;

	if (!f)
		return;
	f->of = NULL;
	error_set(&e, ERR_NOT_FOUND, "container %s is gone", f->name);
	queue_fail(f, e);
	if (f->shadow->state == CT_STARTING)
		machine_stop(f);
	else
		container_kill_helper(f->shadow);
	/* When it is gone, so is f. */
}

void files_end(struct container *ct, bool cut)
{
	struct files *f = ct->files;

	if (!f)
		return;
	f->ending = true;
	if (cut || (!f->tasks && !f->queue))
		machine_stop(f);
}

struct container *files_helper(struct container *ct)
{
	struct files *f = ct->files;

	return f && f->shadow->state == CT_RUNNING && f->shadow->conn ? f->shadow : NULL;
}

struct start_op *files_start(struct container *ct)
{
	return ct->files ? ct->files->shadow->start : NULL;
}
