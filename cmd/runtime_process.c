/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_process.c - the container's processes as this helper knows them, and the agent that
 * reports on them.
 *
 * A process counts as over when the guest said so and all its output has gone into the clients' pipes
 * (or DRAIN_MS have passed: one may have no room and no reader). What the guest says is checked: unknown
 * processes and states out of order are ignored and logged.
 */
#include "cmd/runtime.h"

#include <stdio.h>

#include "vmm/agent.h"

#define DRAIN_MS     3000
#define KEEP_EXITED  64 /* exec results kept for late waiters */
#define OOM_EVERY_US 100000

struct rt_process *runtime_process_find(struct runtime *rt, const char *id)
{
	struct rt_process *p;

	for (p = rt->procs; p; p = p->next)
		if (str_eq(p->id, id))
			return p;
	return NULL;
}

struct rt_process *runtime_process_new(struct runtime *rt, const char *id, bool log,
				       struct error **err)
{
	struct rt_process *p, **at = &rt->procs;

	if (rt->nprocs >= RUNTIME_MAX_PROCESSES) {
		error_set(err, ERR_INVALID_STATE, "too many processes in container %s", rt->id);
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	p->rt = rt;
	p->id = xstrdup(id);
	p->log = log;
	for (int k = 0; k < RT_STREAMS; k++)
		p->stream[k] = (struct rt_stream){.proc = p, .kind = k, .fd = -1};
	while (*at)
		at = &(*at)->next;
	*at = p;
	rt->nprocs++;
	return p;
}

void runtime_process_remove(struct rt_process *proc)
{
	struct rt_process **at = &proc->rt->procs;
	struct rt_waiter *w;

	while (*at && *at != proc)
		at = &(*at)->next;
	if (*at)
		*at = proc->next;
	proc->rt->nprocs--;
	while ((w = proc->waiters)) {
		struct error *e = NULL;

		proc->waiters = w->next;
		error_set(&e, ERR_NOT_FOUND, "process %s did not start", proc->id);
		if (w->req)
			rpc_reply_error(w->req, e);
		else
			error_free(e);
		free(w);
	}
	runtime_streams_close(proc);
	loop_source_free(proc->drain);
	buf_free(&proc->capture);
	free(proc->id);
	free(proc);
}

/* ---- waiters ---- */

static void waiter_cancelled(void *arg)
{
	struct rt_waiter *w = arg;

	rpc_reply(STEAL(w->req), NULL);
}

void runtime_waiter_add(struct rt_waiter **list, struct rpc_req *req)
{
	struct rt_waiter *w = xcalloc(1, sizeof(*w));

	w->req = req;
	w->next = *list;
	*list = w;
	rpc_req_on_cancel(req, waiter_cancelled, w);
}

static void process_answer(struct rt_process *proc, struct rpc_req *req)
{
	struct json_object *o = json_object_new_object();
	CLEANUP_FREE char *at = time_iso8601(proc->exited_at);

	json_set_int(o, "exitCode", proc->exit_code);
	json_set_str(o, "exitedAt", at);
	if (proc->t_asked)
		json_set_int(o, "guestUs", (int64_t)(proc->t_exited - proc->t_asked));
	rpc_reply(req, o);
}

void runtime_process_wait(struct rt_process *proc, struct rpc_req *req)
{
	if (proc->state == RT_PROC_EXITED)
		process_answer(proc, req);
	else
		runtime_waiter_add(&proc->waiters, req);
}

/* ---- the end of a process ---- */

/* forget_old: keeps the list of finished execs short. One that the agent has not answered for yet stays: a guest may
 * say that a process has ended before it says that it began. */
static void forget_old(struct runtime *rt)
{
	struct rt_process *p, *oldest = NULL;
	unsigned n = 0;

	for (p = rt->procs; p; p = p->next) {
		if (p == rt->procs || p->state != RT_PROC_EXITED || p->start_req || p->over)
			continue;
		n++;
		if (!oldest)
			oldest = p;
	}
	if (n > KEEP_EXITED)
		runtime_process_remove(oldest);
}

static void exec_over(struct rt_process *proc)
{
	struct json_object *o;

	if (!proc->task) {
		o = json_object_new_object();
		json_set_str(o, "execID", proc->id);
		json_set_int(o, "exitCode", proc->exit_code);
		runtime_notice(proc->rt, "execDied", o);
	}
	if (!proc->rt->vm_gone)
		forget_old(proc->rt);
}

static void process_over(struct rt_process *proc)
{
	struct runtime *rt = proc->rt;
	struct rt_waiter *w;

	proc->state = RT_PROC_EXITED;
	loop_source_free(STEAL(proc->drain));
	runtime_streams_close(proc);
	while ((w = proc->waiters)) {
		proc->waiters = w->next;
		if (w->req)
			process_answer(proc, w->req);
		free(w);
	}
	log_debug("process %s exited with %d", proc->id, proc->exit_code);
	if (proc == rt->procs)
		runtime_init_exited(rt);
	else if (proc->over)
		proc->over(proc);
	else
		exec_over(proc);
	runtime_check_over(rt);
}

static void process_drain_over(void *arg)
{
	struct rt_process *proc = arg;

	log_warn("process %s: output not taken in %d ms, dropped", proc->id, DRAIN_MS);
	process_over(proc);
}

void runtime_process_settle(struct rt_process *proc)
{
	if (proc->reported && proc->state != RT_PROC_EXITED && runtime_streams_drained(proc))
		process_over(proc);
}

void runtime_process_exited(struct rt_process *proc, int code)
{
	if (proc->reported)
		return;
	proc->reported = true;
	proc->exit_code = code;
	proc->exited_at = time_now();
	proc->t_exited = time_mono_us();
	proc->drain = loop_add_timer(proc->rt->loop, DRAIN_MS, process_drain_over, proc);
	runtime_streams_room(proc);
	runtime_process_settle(proc);
}

int runtime_program_status(const struct error *e)
{
	return e->code == ERR_NOT_FOUND ? 127 : 126;
}

/* ---- the agent ---- */

static void agent_ready(struct runtime *rt, struct json_object *params)
{
	if (rt->agent_ready)
		return;
	rt->agent_ready = true;
	rt->t_ready = time_mono_us();
	rt->guest_init_us = (uint64_t)MAX(json_int(params, "initUs", 0), 0);
	log_info("guest is up, kernel %.64s", json_str(params, "kernel", "?"));
}

static void agent_started(struct runtime *rt, struct rt_process *proc)
{
	if (proc->state != RT_PROC_STARTING)
		return;
	proc->state = RT_PROC_RUNNING;
	if (proc == rt->procs)
		runtime_init_started(rt);
}

static void agent_failed(struct runtime *rt, struct rt_process *proc, struct json_object *params)
{
	struct error *e = NULL;

	/* Once is enough: every further one would put off the end. */
	if (proc->state != RT_PROC_STARTING || proc != rt->procs || rt->start_error)
		return;
	error_set(&e, error_code_parse(json_str(params, "code", "")), "%.512s",
		  json_str(params, "message", "the process did not start"));
	runtime_init_failed(rt, e);
}

/* The guest says so when it happens, and with the end of a process, which may come first. Several at once are told as one: a
 * guest may say so as often as it likes, and each is an event for everyone who watches. */
static void agent_oom(struct runtime *rt)
{
	uint64_t now = time_mono_us();

	if (rt->oom && now - rt->t_oom < OOM_EVERY_US)
		return;
	if (!rt->oom)
		log_warn("a process was killed: the container is out of memory");
	rt->oom = true;
	rt->t_oom = now;
	runtime_notice(rt, "oom", NULL);
}

static void told_time(void *arg, struct json_object *result, struct rpc_fds *fds,
		      const struct error *e)
{
	((struct runtime *)arg)->telling_time = false;
}

/* One that does not answer is not told again, however often it asks. */
static void agent_asks_time(struct runtime *rt)
{
	struct json_object *o;

	if (rt->telling_time)
		return;
	rt->telling_time = true;
	o = json_object_new_object();
	json_set_int(o, "ns", time_now_ns());
	rpc_call_async(rt->agent, "clock", o, NULL, 0, told_time, NULL, rt);
}

static void agent_exited(struct runtime *rt, struct rt_process *proc, struct json_object *params)
{
	if (json_flag(params, "oom", false) && !proc->reported && !rt->oom)
		agent_oom(rt);
	runtime_process_exited(proc, (int)(json_int(params, "code", 255) & 0xff));
}

static void agent_nonsense(struct runtime *rt, const char *event)
{
	if (log_due(&rt->nonsense))
		log_warn("guest speaks of an unknown process (%.32s)", event);
}

static void agent_event(void *ctx, struct rpc_conn *c, const char *event,
			struct json_object *params)
{
	struct runtime *rt = ctx;
	struct rt_process *proc = runtime_process_find(rt, json_str(params, "process", ""));

	if (str_eq(event, "noTicks"))
		runtime_no_ticks(rt);
	else if (str_eq(event, "ready"))
		agent_ready(rt, params);
	else if (str_eq(event, "clock"))
		agent_asks_time(rt);
	else if (str_eq(event, "oom"))
		agent_oom(rt);
	else if (!proc)
		agent_nonsense(rt, event);
	else if (str_eq(event, "started"))
		agent_started(rt, proc);
	else if (str_eq(event, "failed"))
		agent_failed(rt, proc, params);
	else if (str_eq(event, "exited"))
		agent_exited(rt, proc, params);
	else
		log_debug("guest sent an unknown notice %.32s", event);
}

static void agent_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct runtime *rt = ctx;

	rt->agent = NULL;
	if (e)
		log_err(e, "agent");
	runtime_machine_over(rt);
}

static const struct rpc_handler agent_handler = {
	.service = "container.runtime",
	.on_event = agent_event,
	.on_close = agent_closed,
};

static int accept_control(struct runtime *rt, struct vsock_stream *s)
{
	CLEANUP_ERROR struct error *e = NULL;
	int fd;

	if (rt->agent || rt->agent_ready) {
		if (log_due(&rt->bad_dials))
			log_warn("guest dialled the control port again: refused");
		return -1;
	}
	fd = vsock_stream_to_fd(s, rt->loop, &e);
	if (fd < 0) {
		log_err(e, "control stream");
		return -1;
	}
	rt->agent = rpc_conn_new(rt->loop, fd, &agent_handler, rt);
	return 0;
}

static bool port_used(const struct runtime *rt, uint32_t port)
{
	const struct rt_process *p;

	for (p = rt->procs; p; p = p->next)
		for (int k = 0; k < RT_STREAMS; k++)
			if (p->stream[k].port == port)
				return true;
	return runtime_sockets_port(rt, port);
}

uint32_t runtime_port_new(const struct runtime *rt)
{
	uint32_t port;

	do
		random_bytes(&port, sizeof(port));
	while (port < AGENT_PORT_STDIO_MIN || port >= UINT32_MAX - 1 || port_used(rt, port));
	return port;
}

int runtime_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	struct runtime *rt = arg;
	struct rt_process *p;
	int rc;

	if (port == AGENT_PORT_CONTROL)
		return accept_control(rt, s);
	if (port == AGENT_PORT_BOOTLOG)
		return runtime_accept_kmsg(rt, s);
	for (p = rt->procs; port && p; p = p->next)
		for (int k = 0; k < RT_STREAMS; k++)
			if (p->stream[k].port == port) {
				CLEANUP_ERROR struct error *e = NULL;

				if (runtime_stream_accept(&p->stream[k], s, &e) == 0)
					return 0;
				if (log_due(&rt->bad_dials))
					log_err(e, "stdio");
				return -1;
			}
	rc = runtime_sockets_accept(rt, port, s);
	if (rc <= 0)
		return rc;
	if (log_due(&rt->bad_dials))
		log_warn("guest dialled port %u, where nobody listens (no. %u)", port,
			 rt->bad_dials);
	return -1;
}
