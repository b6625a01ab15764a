/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_call.c - connections without a loop: the caller's thread waits in poll(2). */
#include <limits.h>
#include <poll.h>

#include "core/rpc_int.h"

/* One wait and what came of it. 0, or -1 when the time is up; a broken connection is the caller's
 * to see. */
static int conn_step(struct rpc_conn *c, uint64_t deadline, struct error **err)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN | (c->out ? POLLOUT : 0)};
	uint64_t now = time_mono_us();
	int ms = -1, n;

	if (deadline) {
		if (now >= deadline)
			return error_set(err, ERR_TIMEOUT, "no answer in time");
		ms = (int)MIN((deadline - now + 999) / 1000, (uint64_t)INT_MAX);
	}
	n = poll(&p, 1, ms);
	if (n < 0 && errno != EINTR)
		return error_sys(err, errno, "poll");
	if (n <= 0)
		return 0;
	if (p.revents & POLLOUT)
		frame_flush(c);
	if (!c->broken && (p.revents & (POLLIN | POLLHUP | POLLERR)) && frame_receive(c) > 0)
		conn_dispatch(c);
	return 0;
}

static uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? 0 : time_mono_us() + (uint64_t)timeout_ms * 1000 + 1;
}

static int conn_lost(struct rpc_conn *c, struct error **err)
{
	if (!c->why)
		return error_set(err, ERR_INTERRUPTED, "the peer closed the connection");
	error_move(err, STEAL(c->why));
	return error_wrap(err, "the connection was lost");
}

struct rpc_conn *rpc_connect(int fd, const char *service, int timeout_ms, struct error **err)
{
	struct rpc_conn *c = conn_new(NULL, fd, NULL, NULL);
	uint64_t deadline = deadline_of(timeout_ms);

	conn_send_hello(c, service);
	while (!c->hello_seen && !c->broken) {
		if (conn_step(c, deadline, err))
			goto fail;
	}
	if (c->hello_seen)
		return c;
	conn_lost(c, err);
fail:
	error_wrap(err, "hello");
	rpc_conn_free(c);
	return NULL;
}

struct answer {
	bool done;
	struct json_object *result;
	int *fds;
	size_t nfds, max;
	struct error *e;
};

static void answer_take(void *arg, struct json_object *result, struct rpc_fds *fds,
			const struct error *e)
{
	struct answer *a = arg;
	size_t i;

	a->done = true;
	if (e) {
		a->e = error_copy(e);
		return;
	}
	a->result = json_object_get(result);
	for (i = 0; fds && i < fds->n && a->nfds < a->max; i++)
		a->fds[a->nfds++] = rpc_fds_take(fds, i);
}

int rpc_call(struct rpc_conn *c, const char *method, struct json_object *params, const int *fds,
	     size_t nfds, rpc_progress_fn on_progress, void *arg, int timeout_ms,
	     struct json_object **result, int *reply_fds, size_t *nreply, struct error **err)
{
	uint64_t deadline = deadline_of(timeout_ms);
	struct answer a = {.fds = reply_fds, .max = reply_fds && nreply ? *nreply : 0};
	struct call *k;

	if (nreply)
		*nreply = 0;
	if (c->broken) {
		json_object_put(params);
		return conn_lost(c, err);
	}
	k = conn_call(c, method, params, fds, nfds, answer_take, on_progress, &a, err);
	if (!k)
		return -1;
	/* Progress callbacks get the caller's argument, the answer ours. */
	k->progress_arg = arg;
	while (!a.done && !c->broken) {
		if (conn_step(c, deadline, err)) {
			if (!a.done)
				k->abandoned = true;
			return error_wrap(err, "%s", method);
		}
	}
	if (!a.done) {
		k->abandoned = true;
		conn_lost(c, err);
		return error_wrap(err, "%s", method);
	}
	if (a.e)
		return error_move(err, a.e);
	if (nreply)
		*nreply = a.nfds;
	if (result)
		*result = a.result;
	else
		json_object_put(a.result);
	return 0;
}
