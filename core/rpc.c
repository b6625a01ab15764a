/* SPDX-License-Identifier: Apache-2.0 */
/* rpc.c - connections: what frames mean, requests from the peer, calls of ours. */
#include <fcntl.h>
#include <sys/socket.h>

#include "core/path.h"
#include "core/rpc_int.h"
#include "core/version.h"

/* ---- errors on the wire ---- */

struct json_object *rpc_error_to_json(const struct error *e)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "code", error_code_name(e->code));
	json_set_str(o, "message", e->msg);
	if (e->status)
		json_set_int(o, "status", e->status);
	if (e->cause)
		json_set(o, "cause", rpc_error_to_json(e->cause));
	return o;
}

/* Depth is bounded by that of the JSON it came in. */
struct error *rpc_error_from_json(struct json_object *o)
{
	struct json_object *cause = json_obj(o, "cause");
	struct error *e = NULL;

	error_set(&e, error_code_parse(json_str(o, "code", "unknown")), "%s",
		  json_str(o, "message", "unspecified error"));
	e->status = (int)MIN(MAX(json_int(o, "status", 0), 0), UINT8_MAX);
	if (cause)
		e->cause = rpc_error_from_json(cause);
	return e;
}

/* ---- life of a connection ---- */

void conn_ref(struct rpc_conn *c)
{
	c->refs++;
}

void conn_unref(struct rpc_conn *c)
{
	if (--c->refs)
		return;
	frame_drop_all(c);
	error_free(c->why);
	free_shared(c);
}

struct rpc_conn *conn_new(struct loop *l, int fd, const struct rpc_handler *h, void *ctx)
{
	struct rpc_conn *c = xcalloc(1, sizeof(*c));

	c->refs = 1;
	c->l = l;
	c->fd = fd;
	c->h = h;
	c->ctx = ctx;
	c->out_tail = &c->out;
	c->next_id = 1;
	fd_set_nonblock(fd, true);
	return c;
}

/* Ends I/O at once. */
static void conn_close(struct rpc_conn *c)
{
	loop_source_free(STEAL(c->src));
	loop_source_free(STEAL(c->hello_timer));
	if (c->fd >= 0)
		close(steal_fd(&c->fd));
	frame_drop_all(c);
}

static void call_reply(struct call *k, struct json_object *result, struct rpc_fds *fds,
		       const struct error *e)
{
	if (!k->abandoned && k->on_reply)
		k->on_reply(k->arg, result, fds, e);
	free(k);
}

void conn_fail_calls(struct rpc_conn *c)
{
	struct error *e = NULL;
	struct call *k;

	if (c->freed)
		error_set(&e, ERR_CANCELLED, "the connection was closed");
	else
		error_set(&e, ERR_INTERRUPTED, "the connection was lost");
	if (c->why) {
		CLEANUP_FREE char *text = error_text(c->why);

		error_free(e);
		e = NULL;
		error_set(&e, ERR_INTERRUPTED, "the connection was lost: %s", text);
	}
	while ((k = c->calls)) {
		c->calls = k->next;
		call_reply(k, NULL, NULL, e);
	}
	error_free(e);
}

static void conn_cancel_reqs(struct rpc_conn *c)
{
	struct rpc_req *r;
	bool again = true;

	/* A cancel function may answer its request, or others: start over after each. */
	while (again) {
		again = false;
		for (r = c->reqs; r; r = r->next) {
			loop_fn fn = STEAL(r->cancel);

			if (!fn)
				continue;
			fn(r->cancel_arg);
			again = true;
			break;
		}
	}
}

static void conn_finish(void *arg)
{
	struct rpc_conn *c = arg;

	if (!c->finished) {
		c->finished = true;
		conn_fail_calls(c);
		conn_cancel_reqs(c);
		server_conn_gone(c);
		if (!c->freed && c->h && c->h->on_close && (c->hello_seen || !c->server))
			c->h->on_close(c->ctx, c, c->why);
		if (!c->freed) {
			c->freed = true;
			c->refs--; /* the owner's; ours is still there */
		}
	}
	conn_unref(c);
}

void conn_break(struct rpc_conn *c, struct error *why)
{
	if (c->broken) {
		error_free(why);
		return;
	}
	c->broken = true;
	c->why = why;
	conn_close(c);
	if (!c->l)
		return;
	conn_ref(c);
	loop_defer(c->l, conn_finish, c);
}

void rpc_conn_free(struct rpc_conn *c)
{
	if (!c || c->freed)
		return;
	c->freed = true;
	c->broken = true;
	conn_close(c);
	if (!c->finished) {
		c->finished = true;
		conn_fail_calls(c);
		conn_cancel_reqs(c);
		server_conn_gone(c);
	}
	conn_unref(c);
}

bool rpc_conn_idle(struct rpc_conn *c)
{
	return !c->out;
}

size_t rpc_conn_queued(const struct rpc_conn *c)
{
	return c->queued;
}

/* ---- requests from the peer ---- */

static void req_free(struct rpc_req *r)
{
	*r->pprev = r->next;
	if (r->next)
		r->next->pprev = r->pprev;
	r->c->nreqs--;
	fds_close(&r->fds);
	json_object_put(r->params);
	conn_unref(r->c);
	free(r->method);
	free(r);
}

const char *rpc_req_method(struct rpc_req *r)
{
	return r->method;
}

struct rpc_fds *rpc_req_fds(struct rpc_req *r)
{
	return &r->fds;
}

struct rpc_conn *rpc_req_conn(struct rpc_req *r)
{
	return r->c;
}

void rpc_req_on_cancel(struct rpc_req *r, loop_fn fn, void *arg)
{
	r->cancel = fn;
	r->cancel_arg = arg;
}

static struct json_object *frame_for(int64_t id, const char *key, struct json_object *v)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "id", id);
	json_set(o, key, v ? v : json_object_new_object());
	return o;
}

void rpc_reply_error(struct rpc_req *r, struct error *e)
{
	CLEANUP_JSON struct json_object *o = frame_for(r->id, "error", rpc_error_to_json(e));
	struct rpc_conn *c = r->c;

	error_free(e);
	conn_ref(c);
	req_free(r);
	frame_send(c, o, NULL, 0, NULL);
	conn_unref(c);
}

void rpc_reply_fds(struct rpc_req *r, struct json_object *result, const int *fds, size_t nfds)
{
	CLEANUP_JSON struct json_object *o = frame_for(r->id, "result", result);
	struct error *e = NULL;

	if (frame_send(r->c, o, fds, nfds, &e)) {
		error_wrap(&e, "answer %s", r->method);
		rpc_reply_error(r, e);
		return;
	}
	req_free(r);
}

void rpc_reply(struct rpc_req *r, struct json_object *result)
{
	rpc_reply_fds(r, result, NULL, 0);
}

void rpc_progress(struct rpc_req *r, struct json_object *ev)
{
	CLEANUP_JSON struct json_object *o = frame_for(r->id, "event", ev);

	frame_send(r->c, o, NULL, 0, NULL);
}

static const struct rpc_route *route_find(const struct rpc_conn *c, const char *method)
{
	const struct rpc_route *t = c->h ? c->h->routes : NULL;

	for (; t && t->method; t++)
		if (!strcmp(t->method, method) || !strcmp(t->method, "*"))
			return t;
	return NULL;
}

static void protocol_error(struct rpc_conn *c, const char *what)
{
	struct error *e = NULL;

	error_set(&e, ERR_INVALID_ARGUMENT, "protocol error: %s", what);
	conn_break(c, e);
}

static void handle_call(struct rpc_conn *c, struct json_object *o, const char *method,
			struct rpc_fds *fds)
{
	struct json_object *params = json_get(o, "params");
	const struct rpc_route *t;
	struct error *e = NULL;
	struct rpc_req *r;

	if (c->nreqs >= RPC_MAX_CALLS) {
		protocol_error(c, "too many calls at a time");
		return;
	}
	if (params && !json_object_is_type(params, json_type_object)) {
		protocol_error(c, "params must be an object");
		return;
	}
	r = xcalloc(1, sizeof(*r));
	r->c = c;
	conn_ref(c);
	r->id = json_int(o, "id", 0);
	r->method = xstrdup(method);
	r->params = params ? json_object_get(params) : json_object_new_object();
	r->fds = *fds;
	*fds = (struct rpc_fds){0};
	r->next = c->reqs;
	r->pprev = &c->reqs;
	if (r->next)
		r->next->pprev = &r->next;
	c->reqs = r;
	c->nreqs++;
	t = route_find(c, method);
	if (!t) {
		error_set(&e, ERR_UNSUPPORTED, "no such method \"%.100s\"", method);
		rpc_reply_error(r, e);
		return;
	}
	t->fn(c->ctx, r, r->params);
}

/* ---- calls of ours ---- */

struct call *conn_call(struct rpc_conn *c, const char *method, struct json_object *params,
		       const int *fds, size_t nfds, rpc_reply_fn on_reply,
		       rpc_progress_fn on_progress, void *arg, struct error **err)
{
	CLEANUP_JSON struct json_object *o = frame_for(c->next_id, "params", params);
	struct call *k;

	json_set_str(o, "method", method);
	/* In the list first: a failing send ends the connection, which fails the call. */
	k = xcalloc(1, sizeof(*k));
	*k = (struct call){.next = c->calls,
			   .id = c->next_id++,
			   .on_reply = on_reply,
			   .on_progress = on_progress,
			   .arg = arg,
			   .progress_arg = arg};
	c->calls = k;
	if (frame_send(c, o, fds, nfds, err)) {
		c->calls = k->next;
		free(k);
		error_wrap(err, "call %s", method);
		return NULL;
	}
	return k;
}

struct failed_call {
	rpc_reply_fn on_reply;
	void *arg;
	struct error *e;
};

static void failed_call_tell(void *arg)
{
	struct failed_call *f = arg;

	if (f->on_reply)
		f->on_reply(f->arg, NULL, NULL, f->e);
	error_free(f->e);
	free(f);
}

void rpc_call_async(struct rpc_conn *c, const char *method, struct json_object *params,
		    const int *fds, size_t nfds, rpc_reply_fn on_reply, rpc_progress_fn on_progress,
		    void *arg)
{
	struct error *e = NULL;
	struct failed_call *f;

	if (!c->finished && conn_call(c, method, params, fds, nfds, on_reply, on_progress, arg, &e))
		return;
	if (c->finished) {
		json_object_put(params);
		error_set(&e, ERR_INTERRUPTED, "call %s: the connection is closed", method);
	}
	f = xcalloc(1, sizeof(*f));
	*f = (struct failed_call){.on_reply = on_reply, .arg = arg, .e = e};
	loop_defer(c->l, failed_call_tell, f);
}

void rpc_notify(struct rpc_conn *c, const char *event, struct json_object *params)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();

	json_set_str(o, "event", event);
	json_set(o, "params", params ? params : json_object_new_object());
	frame_send(c, o, NULL, 0, NULL);
}

static struct call *call_find(struct rpc_conn *c, int64_t id)
{
	struct call *k;

	for (k = c->calls; k; k = k->next)
		if (k->id == id)
			return k;
	return NULL;
}

static void call_unlink(struct rpc_conn *c, struct call *k)
{
	struct call **p;

	for (p = &c->calls; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			return;
		}
}

static void handle_reply(struct rpc_conn *c, struct json_object *o, struct rpc_fds *fds)
{
	struct json_object *result = json_get(o, "result");
	struct json_object *error = json_obj(o, "error");
	struct call *k = call_find(c, json_int(o, "id", 0));
	struct error *e;

	if (!k) {
		protocol_error(c, "an answer to no call");
		return;
	}
	if (!error && !json_object_is_type(result, json_type_object)) {
		protocol_error(c, "an answer must be an object");
		return;
	}
	call_unlink(c, k);
	e = error ? rpc_error_from_json(error) : NULL;
	call_reply(k, error ? NULL : result, fds, e);
	error_free(e);
}

static void handle_progress(struct rpc_conn *c, struct json_object *o)
{
	struct call *k = call_find(c, json_int(o, "id", 0));
	struct json_object *ev = json_obj(o, "event");

	if (!k || !ev)
		protocol_error(c, "progress of no call");
	else if (!k->abandoned && k->on_progress)
		k->on_progress(k->progress_arg, ev);
}

/* ---- frames ---- */

void conn_send_hello(struct rpc_conn *c, const char *service)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *h = json_object_new_object();

	json_set_int(h, "version", RPC_VERSION);
	json_set_str(h, "service", service ? service : "container");
	json_set_str(h, "release", version_release);
	json_set(o, "hello", h);
	frame_send(c, o, NULL, 0, NULL);
}

static void handle_hello(struct rpc_conn *c, struct json_object *o)
{
	struct json_object *h = json_obj(o, "hello");
	struct error *e = NULL;

	if (!h) {
		protocol_error(c, "no hello");
		return;
	}
	if (json_int(h, "version", 0) != RPC_VERSION) {
		error_set(&e, ERR_UNSUPPORTED,
			  "the peer (release %.40s) speaks another version of the protocol",
			  json_str(h, "release", "unknown"));
		conn_break(c, e);
		return;
	}
	c->hello_seen = true;
	loop_source_free(STEAL(c->hello_timer));
	if (c->server)
		server_conn_open(c);
}

static void handle_frame(struct rpc_conn *c, struct json_object *o, struct rpc_fds *fds)
{
	const char *method = json_str(o, "method", NULL);
	const char *event = json_str(o, "event", NULL);
	bool has_id = json_object_is_type(json_get(o, "id"), json_type_int);

	if (!c->hello_seen)
		handle_hello(c, o);
	else if (has_id && method)
		handle_call(c, o, method, fds);
	else if (has_id && (json_get(o, "result") || json_get(o, "error")))
		handle_reply(c, o, fds);
	else if (has_id && json_get(o, "event"))
		handle_progress(c, o);
	else if (!has_id && event) {
		if (c->h && c->h->on_event)
			c->h->on_event(c->ctx, c, event, json_get(o, "params"));
	} else
		protocol_error(c, "neither call nor answer nor notice");
}

void conn_dispatch(struct rpc_conn *c)
{
	struct json_object *o;
	struct rpc_fds fds;

	conn_ref(c);
	while (!c->broken && (o = frame_next(c, &fds))) {
		handle_frame(c, o, &fds);
		fds_close(&fds);
		json_object_put(o);
	}
	conn_unref(c);
}

void conn_watch(struct rpc_conn *c)
{
	bool want = c->out != NULL;

	if (!c->src || c->watch_out == want)
		return;
	c->watch_out = want;
	loop_mod_fd(c->src, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void conn_io(void *arg, int fd, uint32_t events)
{
	struct rpc_conn *c = arg;

	conn_ref(c);
	if (events & EPOLLOUT)
		frame_flush(c);
	if (!c->broken && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && frame_receive(c) > 0)
		conn_dispatch(c);
	conn_unref(c);
}

struct rpc_conn *rpc_conn_new(struct loop *l, int fd, const struct rpc_handler *h, void *ctx)
{
	struct rpc_conn *c = conn_new(l, fd, h, ctx);
	struct error *e = NULL;

	c->src = loop_add_fd(l, fd, EPOLLIN, conn_io, c, &e);
	if (!c->src)
		conn_break(c, e);
	conn_send_hello(c, h ? h->service : NULL);
	return c;
}
