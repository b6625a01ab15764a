/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_ops.c - what can be asked of a running container: attach, pause, counters, processes; and its boot log.
 *
 * A paused machine answers nothing, so a call that needs its agent is refused at once instead of hanging.
 */
#include "cmd/runtime.h"

#include "vmm/agent.h"

int runtime_awake(struct runtime *rt, struct error **err)
{
	return rt->paused ? error_set(err, ERR_INVALID_STATE, "container %s is paused", rt->id) : 0;
}

static int running(struct runtime *rt, struct error **err)
{
	if (rt->state != RT_RUNNING || !rt->agent)
		return error_set(err, ERR_INVALID_STATE, "container %s is not running", rt->id);
	return 0;
}

/* ---- pause ---- */

int runtime_unpause(struct runtime *rt, struct error **err)
{
	if (!rt->paused)
		return 0;
	if (vm_resume(rt->vm, err))
		return -1;
	rt->paused = false;
	return 0;
}

void runtime_on_pause(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct error *e = NULL;

	if (running(rt, &e) || vm_pause(rt->vm, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	rt->paused = true;
	rpc_reply(req, NULL);
}

void runtime_on_resume(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct error *e = NULL;

	if (running(rt, &e) || runtime_unpause(rt, &e))
		rpc_reply_error(req, e);
	else
		rpc_reply(req, NULL);
}

/* ---- attach ---- */

void runtime_on_attach(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct error *e = NULL;

	if (running(rt, &e) ||
	    runtime_streams_attach(rt->procs, json_arr(params, "streams"), rpc_req_fds(req), &e))
		rpc_reply_error(req, e);
	else
		rpc_reply(req, NULL);
}

/* ---- questions to the agent ---- */

static void answered(void *arg, struct json_object *result, struct rpc_fds *fds,
		     const struct error *e)
{
	struct rpc_req *req = arg;

	if (e)
		rpc_reply_error(req, error_copy(e));
	else
		rpc_reply(req, json_object_get(result));
}

static void ask(struct runtime *rt, struct rpc_req *req, const char *method)
{
	struct error *e = NULL;

	if (running(rt, &e) || runtime_awake(rt, &e))
		rpc_reply_error(req, e);
	else
		rpc_call_async(rt->agent, method, NULL, NULL, 0, answered, NULL, req);
}

void runtime_on_stats(void *ctx, struct rpc_req *req, struct json_object *params)
{
	ask(ctx, req, "stats");
}

void runtime_on_top(void *ctx, struct rpc_req *req, struct json_object *params)
{
	ask(ctx, req, "top");
}

/* ---- the boot log ---- */

static size_t kmsg_data(void *arg, const void *p, size_t len)
{
	struct runtime *rt = arg;

	/* Past the bound it is taken and dropped: a reset from inside a callback would pull the stream away. */
	runtime_console(rt, p, len);
	return len;
}

static void kmsg_eof(void *arg)
{
	struct runtime *rt = arg;

	if (rt->kmsg)
		vsock_stream_shutdown(rt->kmsg);
}

static void kmsg_closed(void *arg)
{
	struct runtime *rt = arg;

	rt->kmsg = NULL;
}

int runtime_accept_kmsg(struct runtime *rt, struct vsock_stream *s)
{
	static const struct vsock_stream_ops ops = {
		.data = kmsg_data,
		.eof = kmsg_eof,
		.closed = kmsg_closed,
	};

	if (rt->kmsg)
		return -1;
	rt->kmsg = s;
	vsock_stream_set_ops(s, &ops, rt);
	return 0;
}
