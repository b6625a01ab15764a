// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_agent.c - the agent's protocol as the runtime helper hears it. Hostile: the guest: frames of any bytes, notices
 * about processes that exist or not and in any order, answers to calls that were or were not made, at the worst moment.
 * The client beside it is honest: it executes, waits and kills meanwhile. The runtime role's own code answers both, so
 * it is included here whole.
 */
#include <sys/socket.h>
#include <sys/uio.h>

#include "cmd/runtime.c"
#include "cmd/runtime_process.c"
#include "tests/fuzz/fuzz.h"

const unsigned char guest_init_start[1], guest_init_end[1];

#define OPS       96
#define HELLO     "{\"hello\":{\"version\":1,\"service\":\"fuzz\",\"release\":\"0\"}}"
#define FRAME_MAX 4096

struct world {
	struct runtime rt;
	int guest, client; /* our ends */
	struct rpc_conn *served;
	unsigned next_id;
};

static void frame(int fd, const void *p, size_t n)
{
	uint8_t len[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
	struct iovec iov[2] = {{len, 4}, {(void *)(uintptr_t)p, n}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	(void)sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say(int fd, const char *fmt, ...) PRINTF(2, 3);
static void say(int fd, const char *fmt, ...)
{
	char text[FRAME_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	frame(fd, text, MIN((size_t)n, sizeof(text) - 1));
}

/* on_close of a client is nobody's business: the apiserver's connection is freed with the server. */
static void served_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct world *w = container_of((struct runtime *)ctx, struct world, rt);

	w->served = NULL;
}

static void world_open(struct world *w)
{
	static struct rpc_handler served;
	struct json_object *o = json_object_new_object();
	int a[2], b[2];
	struct rt_process *init;

	*w = (struct world){.next_id = 1};
	served = handler;
	served.on_close = served_closed;
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a));
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b));
	w->guest = a[0];
	w->client = b[0];
	w->rt.loop = loop_new(NULL);
	w->rt.id = xstrdup("fuzz");
	w->rt.dirfd = open(fuzz_dir(), O_DIRECTORY | O_CLOEXEC);
	w->rt.boot_fd = -1;
	w->rt.config = o;
	w->rt.caps = json_object_new_array();
	w->rt.state = RT_STARTING;
	init = runtime_process_new(&w->rt, "init", true, NULL);
	FUZZ_CHECK(init && !runtime_streams_open(init, NULL, NULL, 0, false, NULL));
	w->rt.agent = rpc_conn_new(w->rt.loop, a[1], &agent_handler, &w->rt);
	w->served = rpc_conn_new(w->rt.loop, b[1], &served, &w->rt);
	say(w->client, HELLO);
}

static void world_close(struct world *w)
{
	unsigned i;

	close(w->guest);
	(void)loop_turn(w->rt.loop, 0, NULL);
	if (w->rt.agent)
		rpc_conn_free(w->rt.agent);
	w->rt.agent = NULL;
	close(w->client);
	(void)loop_turn(w->rt.loop, 0, NULL);
	stop_answer(&w->rt);
	if (w->rt.start_req)
		rpc_reply(STEAL(w->rt.start_req), NULL);
	while (w->rt.procs) {
		struct rt_process *p = w->rt.procs;
		struct rt_waiter *wait;

		FUZZ_CHECK(!p->start_req); /* its call was failed with the agent's connection */
		while ((wait = p->waiters)) {
			p->waiters = wait->next;
			FUZZ_CHECK(!wait->req); /* cancelled with the client's */
			free(wait);
		}
		runtime_process_remove(p);
	}
	if (w->served)
		rpc_conn_free(w->served);
	for (i = 0; i < 2; i++)
		(void)loop_turn(w->rt.loop, 0, NULL);
	error_free(w->rt.start_error);
	json_object_put(w->rt.config);
	json_object_put(w->rt.caps);
	close(w->rt.dirfd);
	free(w->rt.id);
	loop_free(w->rt.loop);
}

static const char *process_name(struct fz *f, char out[16])
{
	uint8_t n = fz_u8(f);

	if (n < 128)
		snprintf(out, 16, n % 4 ? "exec-%u" : "init", 1 + n / 4);
	else
		snprintf(out, 16, "nobody-%u", n);
	return out;
}

static void guest_step(struct world *w, struct fz *f)
{
	static const char *const events[] = {"ready", "started", "failed", "exited", "surprise"};
	uint8_t op = fz_u8(f);
	char name[16];
	struct fz run;

	switch (op & 7) {
	case 0:
	case 1:
		say(w->guest,
		    "{\"event\":\"%s\",\"params\":{\"process\":\"%s\",\"code\":%d,\"message\":"
		    "\"m\"}}",
		    events[(op >> 3) % ARRAY_SIZE(events)], process_name(f, name),
		    (int8_t)fz_u8(f));
		break;
	case 2:
		say(w->guest, "{\"id\":%u,\"result\":{\"pid\":7}}", 1u + fz_u8(f));
		break;
	case 3:
		say(w->guest, "{\"id\":%u,\"error\":{\"code\":\"notFound\",\"message\":\"no\"}}",
		    1u + fz_u8(f));
		break;
	case 4:
		say(w->guest, "{\"id\":%u,\"method\":\"runtime.exec\",\"params\":{}}", fz_u8(f));
		break;
	case 5: /* a frame of any text */
		run = fz_take(f, fz_u8(f));
		frame(w->guest, run.p, run.n);
		break;
	case 6: /* bytes that are no frame */
		run = fz_take(f, fz_u8(f) % 32);
		(void)send(w->guest, run.p, run.n, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	default:
		if (op & 0x80)
			say(w->guest, "{\"id\":%u,\"event\":{\"x\":1}}", fz_u8(f));
		else
			say(w->guest, HELLO);
	}
}

static void client_step(struct world *w, struct fz *f)
{
	uint8_t op = fz_u8(f);
	char name[16];

	switch (op & 3) {
	case 0:
		say(w->client,
		    "{\"id\":%u,\"method\":\"runtime.exec\",\"params\":{\"process\":{\"args\":["
		    "\"x\"]},\"streams\":[]}}",
		    w->next_id++);
		break;
	case 1:
		say(w->client,
		    "{\"id\":%u,\"method\":\"runtime.wait\",\"params\":{\"process\":\"%s\"}}",
		    w->next_id++, process_name(f, name));
		break;
	case 2:
		say(w->client,
		    "{\"id\":%u,\"method\":\"runtime.kill\",\"params\":{\"process\":\"%s\","
		    "\"signal\":9}}",
		    w->next_id++, process_name(f, name));
		break;
	default: /* many at once: what has exited is forgotten after KEEP_EXITED */
		for (unsigned n = fz_u8(f) % 80; n; n--) {
			say(w->client,
			    "{\"id\":%u,\"method\":\"runtime.exec\",\"params\":{\"process\":{},"
			    "\"streams\":[]}}",
			    w->next_id++);
			if (op & 4)
				say(w->guest,
				    "{\"event\":\"exited\",\"params\":{\"process\":\"exec-%u\","
				    "\"code\":0}}",
				    w->rt.next_exec + n);
		}
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_init_stderr("fuzz", LOG_LVL_ERROR + 1);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	char drain[8192];
	struct world w;
	unsigned n;

	world_open(&w);
	n = fz_u8(&f);
	if (n & 1)
		say(w.guest, HELLO);
	if (n & 2) {
		say(w.guest, "{\"event\":\"ready\",\"params\":{\"initUs\":5}}");
		say(w.guest, "{\"event\":\"started\",\"params\":{\"process\":\"init\",\"pid\":2}}");
	}
	(void)loop_turn(w.rt.loop, 0, NULL);
	for (n = 0; f.n && n < OPS; n++) {
		uint8_t op = fz_u8(&f);

		(op & 1 ? client_step : guest_step)(&w, &f);
		if (op & 2)
			continue;
		(void)loop_turn(w.rt.loop, 0, NULL);
		while (recv(w.guest, drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
		while (recv(w.client, drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
	}
	(void)loop_turn(w.rt.loop, 0, NULL);
	world_close(&w);
	return 0;
}
