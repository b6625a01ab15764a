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

/* ---- telling the apiserver ---- */

void runtime_notice(struct runtime *rt, const char *event, struct json_object *o)
{
	if (!rt->watch) {
		json_object_put(o);
		return;
	}
	if (!o)
		o = json_object_new_object();
	json_set_str(o, "event", event);
	rpc_progress(rt->watch, o);
}

static void unwatch(void *arg)
{
	struct runtime *rt = arg;

	rpc_reply(STEAL(rt->watch), NULL);
}

void runtime_on_watch(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct json_object *health = runtime_health_json(rt);

	/* One at a time: an apiserver that comes later is the one that there is. */
	if (rt->watch) {
		rpc_req_on_cancel(rt->watch, NULL, NULL);
		unwatch(rt);
	}
	rt->watch = req;
	rpc_req_on_cancel(req, unwatch, rt);
	if (health)
		runtime_notice(rt, "health", health);
	runtime_sockets_watched(rt);
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

/* Takes params. */
static void ask(struct runtime *rt, struct rpc_req *req, const char *method,
		struct json_object *params)
{
	struct error *e = NULL;

	if (!running(rt, &e) && !runtime_awake(rt, &e)) {
		rpc_call_async(rt->agent, method, params, NULL, 0, answered, NULL, req);
		return;
	}
	json_object_put(params);
	rpc_reply_error(req, e);
}

void runtime_on_stats(void *ctx, struct rpc_req *req, struct json_object *params)
{
	ask(ctx, req, "stats", NULL);
}

void runtime_on_top(void *ctx, struct rpc_req *req, struct json_object *params)
{
	ask(ctx, req, "top", NULL);
}

/* ---- limits ---- */

/* The machine is what it is: `key` within what it was started with. */
static int within(struct runtime *rt, struct json_object *res, const char *key, const char *what,
		  struct error **err)
{
	int64_t have = json_int(json_obj(rt->config, "resources"), key, 0);

	if (!json_get(res, key) || json_int(res, key, 0) <= have)
		return 0;
	return error_set(
		err, ERR_INVALID_ARGUMENT,
		"the machine of container %s was started with %s of %lld: stop the container to "
		"give it more",
		rt->id, what, (long long)have);
}

/* What a container may no longer use, its machine gives back. */
static void balloon(struct runtime *rt, struct json_object *res)
{
	int64_t had = json_int(json_obj(rt->config, "resources"), "memoryInBytes", 0);
	int64_t has = json_int(res, "memoryInBytes", had);

	vm_balloon(rt->vm, has < had ? (uint64_t)(had - has) : 0);
}

void runtime_on_update(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const names[][2] = {
		{"cpus", "cpus"},
		{"memoryInBytes", "memory"},
		{"memoryReservationInBytes", "memoryLow"},
		{"cpuShares", "cpuShares"},
		{"pids", "pids"},
	};
	struct runtime *rt = ctx;
	struct json_object *res = json_obj(params, "resources"), *p;
	struct error *e = NULL;

	if (within(rt, res, "cpus", "a number of CPUs", &e) ||
	    within(rt, res, "memoryInBytes", "a memory", &e)) {
		rpc_reply_error(req, e);
		return;
	}
	if (json_get(res, "memoryInBytes") && !rt->paused)
		balloon(rt, res);
	p = json_object_new_object();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (json_get(res, names[i][0]))
			json_set_int(p, names[i][1], json_int(res, names[i][0], 0));
	ask(rt, req, "limits", p);
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
