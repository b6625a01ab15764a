/* SPDX-License-Identifier: Apache-2.0 */
/* agent.c - the control connection: what the host may ask (vmm/agent.h). */
#include <sys/utsname.h>

#include "vmm/guest/guest.h"

#define MAX_SIGNAL 64

struct wire agent_wire;
bool agent_stopping;

static void on_start(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;

	/* Answered when the process has started, or not. */
	if (proc_start(params, NULL, id, &e))
		wire_reply_error(&agent_wire, id, e);
}

static void on_signal(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;
	const char *process;
	int64_t signo;

	if (json_need_str(params, "process", &process, &e) ||
	    json_need_int(params, "signal", 1, MAX_SIGNAL, &signo, &e) ||
	    proc_signal(process, (int)signo, &e))
		wire_reply_error(&agent_wire, id, e);
	else
		wire_reply(&agent_wire, id, NULL);
}

static void on_end(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;
	const char *process;

	if (json_need_str(params, "process", &process, &e) || proc_kill_session(process, &e))
		wire_reply_error(&agent_wire, id, e);
	else
		wire_reply(&agent_wire, id, NULL);
}

static void on_resize(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;
	const char *process;
	int64_t rows, cols;

	if (json_need_str(params, "process", &process, &e) ||
	    json_need_int(params, "rows", 0, UINT16_MAX, &rows, &e) ||
	    json_need_int(params, "cols", 0, UINT16_MAX, &cols, &e) ||
	    proc_resize(process, (unsigned)rows, (unsigned)cols, &e))
		wire_reply_error(&agent_wire, id, e);
	else
		wire_reply(&agent_wire, id, NULL);
}

static void on_shutdown(int64_t id, struct json_object *params)
{
	wire_reply(&agent_wire, id, NULL);
	agent_stopping = true;
	proc_kill_all();
}

static void on_stats(int64_t id, struct json_object *params)
{
	wire_reply(&agent_wire, id, stats_collect());
}

static void on_top(int64_t id, struct json_object *params)
{
	wire_reply(&agent_wire, id, top_collect());
}

static void on_limits(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;

	if (cgroup_limit(params, &e))
		wire_reply_error(&agent_wire, id, e);
	else
		wire_reply(&agent_wire, id, NULL);
}

static void on_clock(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;
	int64_t ns;

	if (json_need_int(params, "ns", 0, INT64_MAX, &ns, &e)) {
		wire_reply_error(&agent_wire, id, e);
		return;
	}
	clock_heard(ns);
	wire_reply(&agent_wire, id, NULL);
}

static void on_socket_connect(int64_t id, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;
	struct json_object *result = NULL;

	if (sockets_connect(params, &result, &e))
		wire_reply_error(&agent_wire, id, e);
	else
		wire_reply(&agent_wire, id, result);
}

static const struct {
	const char *method;
	void (*fn)(int64_t id, struct json_object *params);
} calls[] = {
	{"process.start", on_start},
	{"process.signal", on_signal},
	{"process.end", on_end},
	{"process.resize", on_resize},
	{"shutdown", on_shutdown},
	{"stats", on_stats},
	{"top", on_top},
	{"limits", on_limits},
	{"clock", on_clock},
	{"socket.connect", on_socket_connect},
};

static void on_call(struct wire *w, int64_t id, const char *method, struct json_object *params)
{
	CLEANUP_ERROR struct error *e = NULL;
	size_t i;

	if (!params) {
		error_set(&e, ERR_INVALID_ARGUMENT, "%.64s: params is not an object", method);
		wire_reply_error(w, id, e);
		return;
	}
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		if (!strcmp(calls[i].method, method)) {
			calls[i].fn(id, params);
			return;
		}
	}
	error_set(&e, ERR_UNSUPPORTED, "the guest knows no call %.64s", method);
	wire_reply_error(w, id, e);
}

/* Without its host a guest has no purpose. */
static void on_close(struct wire *w)
{
	agent_stopping = true;
	proc_kill_all();
}

int agent_open(struct error **err)
{
	int fd = guest_dial(AGENT_PORT_CONTROL, err);

	agent_wire.on_call = on_call;
	agent_wire.on_close = on_close;
	return fd < 0 ? -1 : wire_open(&agent_wire, fd, err);
}

void agent_no_ticks(void)
{
	wire_notify(&agent_wire, "noTicks", NULL);
	while (agent_wire.out.len && !agent_wire.closed)
		ev_turn(0); /* streams need no timer */
}

void agent_ready(uint64_t began_us)
{
	struct json_object *o = json_object_new_object();
	struct utsname u;

	if (uname(&u))
		u.release[0] = 0;
	json_set_int(o, "uptimeUs", (int64_t)began_us);
	json_set_str(o, "kernel", u.release);
	json_set_int(o, "initUs", (int64_t)(time_mono_us() - began_us));
	wire_notify(&agent_wire, "ready", o);
}
