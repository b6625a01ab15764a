/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_health.c - health checks: a command that is run in the container again and again, and what that says.
 *
 * The configuration's "healthcheck" is what docker's images have, in nanoseconds:
 *     {"test": ["CMD", "curl", …] or ["CMD-SHELL", "…"], "interval", "timeout", "startPeriod", "startInterval", "retries"}
 * The state is `starting` until the command succeeds, `healthy` from then on, and `unhealthy` after as many failures in a row as
 * `retries`; those within the start period do not count before the first success. One check runs at a time, and the next one is due
 * an interval after its end. A machine that is paused is not asked.
 *
 * It lives in the helper, not in the apiserver, so that it goes on while there is none; whoever watches (runtime.watch) is told the
 * state at once and after each check.
 */
#include "cmd/runtime.h"

#include <stdio.h>

#define DEFAULT_INTERVAL  30000
#define DEFAULT_TIMEOUT   30000
#define DEFAULT_RETRIES   3
#define DEFAULT_START_INT 5000
#define PAUSED_MS         1000 /* between two looks at whether the machine goes on */
#define MAX_MS            (365ll * 86400 * 1000)
#define TIMED_OUT         (-1)

enum health_state { HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct health_result {
	int64_t start, end; /* Unix nanoseconds */
	int code;
	char *output;
};

struct health {
	struct runtime *rt;
	struct json_object *args;
	int64_t interval, timeout, start_period, start_interval; /* ms */
	int64_t retries;
	enum health_state state;
	bool was_healthy;
	unsigned streak, number;
	uint64_t began_us; /* the container's start */
	struct loop_source *timer, *late;
	struct rt_process *proc; /* the check under way */
	int64_t start;           /* of it */
	bool timed_out;
	struct health_result log[RUNTIME_HEALTH_LOG]; /* oldest first */
	unsigned nlog;
};

static const char *const state_name[] = {"starting", "healthy", "unhealthy"};

/* ---- what is told ---- */

struct json_object *runtime_health_json(struct runtime *rt)
{
	struct json_object *o, *log;
	struct health *h = rt->health;

	if (!h)
		return NULL;
	o = json_object_new_object();
	log = json_object_new_array();
	json_set_str(o, "status", state_name[h->state]);
	json_set_int(o, "failingStreak", h->streak);
	for (unsigned i = 0; i < h->nlog; i++) {
		struct json_object *r = json_object_new_object();
		char at[TIME_STAMP_LEN + 1];

		time_stamp(h->log[i].start, at);
		json_set_str(r, "start", at);
		time_stamp(h->log[i].end, at);
		json_set_str(r, "end", at);
		json_set_int(r, "exitCode", h->log[i].code);
		json_set_str(r, "output", h->log[i].output);
		json_object_array_add(log, r);
	}
	json_set(o, "log", log);
	return o;
}

void runtime_health_put(struct runtime *rt, struct json_object *o)
{
	struct json_object *health = runtime_health_json(rt);

	if (health)
		json_set(o, "health", health);
}

static void tell(struct health *h)
{
	runtime_notice(h->rt, "health", runtime_health_json(h->rt));
}

/* ---- one check ---- */

static bool in_start_period(const struct health *h)
{
	return (int64_t)((time_mono_us() - h->began_us) / 1000) < h->start_period;
}

static void next_check(struct health *h)
{
	bool starting = !h->was_healthy && in_start_period(h);

	loop_set_timer(h->timer, starting ? h->start_interval : h->interval);
}

/* Takes output. */
static void log_result(struct health *h, int code, char *output)
{
	if (h->nlog == RUNTIME_HEALTH_LOG) {
		free(h->log[0].output);
		memmove(h->log, h->log + 1, sizeof(h->log) - sizeof(h->log[0]));
		h->nlog--;
	}
	h->log[h->nlog++] = (struct health_result){.start = h->start,
						   .end = time_now_ns(),
						   .code = code,
						   .output = output};
}

static void count(struct health *h, int code, char *output)
{
	enum health_state was = h->state;

	if (!code) {
		h->streak = 0;
		h->was_healthy = true;
		h->state = HEALTH_HEALTHY;
	} else if (h->was_healthy || !in_start_period(h)) {
		h->streak += h->streak < UINT16_MAX;
		if (h->streak >= h->retries)
			h->state = HEALTH_UNHEALTHY;
	}
	log_result(h, code, output);
	if (h->state != was)
		log_info("health: %s", state_name[h->state]);
	tell(h);
}

static void forget(void *arg)
{
	runtime_process_remove(arg);
}

/* The process of a check is over. */
static void check_over(struct rt_process *proc)
{
	struct health *h = proc->rt->health;

	loop_defer(proc->rt->loop, forget, proc);
	if (h->proc != proc)
		return;
	h->proc = NULL;
	loop_set_timer(h->late, -1);
	if (proc->rt->state != RT_RUNNING)
		return;
	if (!h->timed_out)
		count(h, proc->exit_code, utf8_text(proc->capture.data, proc->capture.len));
	next_check(h);
}

static void check_late(void *arg)
{
	struct health *h = arg;
	struct json_object *p;

	if (!h->proc || h->rt->state != RT_RUNNING)
		return;
	if (h->rt->paused) {
		loop_set_timer(h->late, PAUSED_MS);
		return;
	}
	if (h->rt->agent) {
		p = json_object_new_object();
		json_set_str(p, "process", h->proc->id);
		rpc_call_async(h->rt->agent, "process.end", p, NULL, 0, NULL, NULL, NULL);
	}
	/* A guest that does not even end it is failing all the more: each further time-out counts. */
	h->timed_out = true;
	count(h, TIMED_OUT,
	      xasprintf("Health check exceeded timeout (%lld.%03lld s)",
			(long long)h->timeout / 1000, (long long)h->timeout % 1000));
	h->start = time_now_ns();
	loop_set_timer(h->late, h->interval + h->timeout);
}

static void check_started(void *arg, struct json_object *result, struct rpc_fds *fds,
			  const struct error *e)
{
	struct runtime *rt = arg;
	struct health *h = rt->health;

	if (!e || !h->proc || h->proc->reported)
		return;
	buf_puts(&h->proc->capture, e->msg);
	runtime_process_exited(h->proc, runtime_program_status(e));
}

static int check_begin(struct health *h, struct error **err)
{
	struct runtime *rt = h->rt;
	struct json_object *p;
	char id[32];

	snprintf(id, sizeof(id), "health-%u", ++h->number);
	h->proc = runtime_process_new(rt, id, false, err);
	if (!h->proc)
		return -1;
	h->proc->over = check_over;
	runtime_streams_capture(h->proc);
	p = runtime_process_json(rt, h->proc, json_object_get(h->args), err);
	if (!p) {
		runtime_process_remove(STEAL(h->proc));
		return -1;
	}
	h->start = time_now_ns();
	h->timed_out = false;
	loop_set_timer(h->late, h->timeout);
	rpc_call_async(rt->agent, "process.start", p, NULL, 0, check_started, NULL, rt);
	return 0;
}

static void check_due(void *arg)
{
	struct health *h = arg;
	CLEANUP_ERROR struct error *e = NULL;

	if (h->rt->state != RT_RUNNING || !h->rt->agent || h->proc)
		return;
	if (h->rt->paused) {
		loop_set_timer(h->timer, PAUSED_MS);
	} else if (check_begin(h, &e)) {
		log_err(e, "health check");
		next_check(h);
	}
}

/* ---- set-up ---- */

static int64_t milliseconds(struct json_object *o, const char *key, int64_t dflt)
{
	int64_t ns = json_int(o, key, 0);

	return ns > 0 ? MIN(MAX(ns / 1000000, 1), MAX_MS) : dflt;
}

static struct json_object *command(struct json_object *o)
{
	struct json_object *test = json_arr(o, "test"), *args;
	size_t n = test ? json_object_array_length(test) : 0;
	const char *kind = n ? json_object_get_string(json_object_array_get_idx(test, 0)) : "";
	bool shell = str_eq(kind, "CMD-SHELL");

	if (n < 2 || !(shell || str_eq(kind, "CMD")))
		return NULL;
	args = json_object_new_array();
	if (shell) {
		json_add_str(args, "/bin/sh");
		json_add_str(args, "-c");
	}
	for (size_t i = 1; i < (shell ? 2 : n); i++)
		json_object_array_add(args, json_object_get(json_object_array_get_idx(test, i)));
	return args;
}

void runtime_health_begin(struct runtime *rt)
{
	struct json_object *o = json_obj(rt->config, "healthcheck"), *args = command(o);
	struct health *h;

	if (!args || rt->health) {
		json_object_put(args);
		return;
	}
	h = xcalloc(1, sizeof(*h));
	*h = (struct health){
		.rt = rt,
		.args = args,
		.interval = milliseconds(o, "interval", DEFAULT_INTERVAL),
		.timeout = milliseconds(o, "timeout", DEFAULT_TIMEOUT),
		.start_period = milliseconds(o, "startPeriod", 0),
		.start_interval = milliseconds(o, "startInterval", DEFAULT_START_INT),
		.retries =
			json_int(o, "retries", 0) > 0 ? json_int(o, "retries", 0) : DEFAULT_RETRIES,
		.began_us = time_mono_us(),
	};
	rt->health = h;
	h->timer = loop_add_timer(rt->loop, -1, check_due, h);
	h->late = loop_add_timer(rt->loop, -1, check_late, h);
	next_check(h);
	tell(h);
}

void runtime_health_free(struct runtime *rt)
{
	struct health *h = STEAL(rt->health);

	if (!h)
		return;
	loop_source_free(h->timer);
	loop_source_free(h->late);
	while (h->nlog > 0)
		free(h->log[--h->nlog].output);
	json_object_put(h->args);
	free(h);
}
