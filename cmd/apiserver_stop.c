/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_stop.c - the end of the system: its containers, then its networks, then its services.
 *
 * Containers are told to stop one after another, the last that was started first, as what was started later may need what
 * was there before. The next one's turn comes when all that were told have ended, or a moment later: who does not listen
 * holds up nobody for long, and all of them together have SPREAD_MS before the last is told.
 */
#include "cmd/apiserver.h"

#define STOP_SECONDS  5     /* one that asks for more does not get it when everything ends */
#define TURN_MS       1000  /* between two containers */
#define SPREAD_MS     5000  /* between the first and the last */
#define TEARDOWN_MS   10000 /* what is not taken away by then stays on the host */
#define EXIT_CHECK_MS 5
#define EXIT_TRIES    200

/* ---- networks, services, ourselves ---- */

/* Gives the last answers time to leave. */
static void exit_check(void *arg)
{
	struct apiserver *s = arg;

	if (s->exit_tries++ < EXIT_TRIES && !rpc_server_idle(s->server))
		loop_set_timer(s->exit_timer, EXIT_CHECK_MS);
	else
		loop_stop(s->loop);
}

static void services_ended(struct apiserver *s)
{
	struct rpc_req *req;
	bool unused;

	while ((req = waiter_take(&s->stop_reqs, &unused)))
		rpc_reply(req, NULL);
	loop_source_free(s->exit_timer);
	s->exit_timer = loop_add_timer(s->loop, 0, exit_check, s);
}

static void teardown_over(void *arg)
{
	struct apiserver *s = arg;

	if (!s->exit_timer)
		return;
	loop_source_free(STEAL(s->exit_timer));
	services_stop(s, services_ended);
}

static void torn_down(void *arg, struct json_object *result, struct rpc_fds *fds,
		      const struct error *e)
{
	if (e)
		log_err(e, "network.teardown");
	teardown_over(arg);
}

/* ---- containers ---- */

static void tell(struct container *ct)
{
	int64_t signo = 0, timeout = -1;

	ct->told = true;
	container_stop_defaults(ct, &signo, &timeout);
	container_stop(ct, signo, MIN(timeout, STOP_SECONDS));
}

/* One that is still being started has no date yet: it is the latest. */
static bool started_after(const struct container *a, const struct container *b)
{
	return !a->started_at || (b->started_at && strcmp(a->started_at, b->started_at) >= 0);
}

/* The last started of those that were not told; *told: whether one that was told is still there. */
static struct container *latest(struct apiserver *s, bool *told)
{
	struct container *ct, *last = NULL;

	*told = false;
	for (ct = s->containers; ct; ct = ct->next) {
		if (ct->state == CT_STOPPED)
			continue;
		if (ct->told)
			*told = true;
		else if (!last || started_after(ct, last))
			last = ct;
	}
	return last;
}

static void next_turn(void *arg)
{
	struct apiserver *s = arg;
	struct container *ct;
	bool told;

	ct = latest(s, &told);
	if (!ct)
		return;
	loop_set_timer(s->turn_timer, s->turn_ms);
	tell(ct);
}

void apiserver_idle_check(struct apiserver *s)
{
	struct container *ct;
	bool told;

	if (!s->stopping || s->exit_timer)
		return;
	if (latest(s, &told) && !told)
		loop_set_timer(s->turn_timer, 0);
	for (ct = s->containers; ct; ct = ct->next)
		if (ct->state != CT_STOPPED || ct->files)
			return;
	s->exit_timer = loop_add_timer(s->loop, TEARDOWN_MS, teardown_over, s);
	if (service_call(s, SVC_NETWORK, "network.teardown", NULL, torn_down, s, NULL))
		teardown_over(s);
}

void apiserver_stop(struct apiserver *s)
{
	struct container *ct, *next;
	int64_t n = 0;

	if (s->stopping)
		return;
	log_info("stopping");
	s->stopping = true;
	for (ct = s->containers; ct; ct = next) {
		next = ct->next;
		files_end(ct, true);
		n += ct->state != CT_STOPPED;
	}
	s->turn_ms = MIN(TURN_MS, SPREAD_MS / MAX(n, 1));
	s->turn_timer = loop_add_timer(s->loop, 0, next_turn, s);
	apiserver_idle_check(s);
}
