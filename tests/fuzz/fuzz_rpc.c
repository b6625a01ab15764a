// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_rpc.c - a server's side of the local protocol. Hostile: a client of the same user: frames of any length and text,
 * cut anywhere, descriptors where none belong or fewer than a frame claims, calls that are answered late or after the
 * client is gone. No descriptor may be left open.
 */
#include <stdarg.h>
#include <sys/socket.h>

#include "core/log.h"
#include "core/rpc_int.h"
#include "tests/fuzz/fuzz.h"

#define LATE  32
#define HELLO "{\"hello\":{\"version\":1,\"service\":\"fuzz\"}}"

static struct rpc_req *late[LATE];
static unsigned nlate;
static struct rpc_conn *conn;
static bool closed;

static void take(void *ctx, struct rpc_req *r, struct json_object *params)
{
	int fd = rpc_fds_take(rpc_req_fds(r), 0);

	if (fd >= 0) {
		rpc_reply_fds(r, json_object_get(params), &fd, 1);
		close(fd);
	} else {
		rpc_reply(r, json_object_get(params));
	}
}

static void on_cancel(void *arg)
{
	unsigned i = (unsigned)(uintptr_t)arg;

	FUZZ_CHECK(late[i]);
	rpc_reply(STEAL(late[i]), NULL);
}

static void hold(void *ctx, struct rpc_req *r, struct json_object *params)
{
	struct error *e = NULL;

	if (nlate == LATE) {
		error_set(&e, ERR_INVALID_STATE, "enough");
		rpc_reply_error(r, e);
		return;
	}
	if (nlate & 1)
		rpc_req_on_cancel(r, on_cancel, (void *)(uintptr_t)nlate);
	rpc_progress(r, NULL);
	late[nlate++] = r;
}

static void drop(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_reply(r, NULL);
	rpc_conn_free(conn);
	closed = true;
}

static void call_back(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_call_async(rpc_req_conn(r), "x", NULL, NULL, 0, NULL, NULL, NULL);
	rpc_reply(r, NULL);
}

static void on_event(void *ctx, struct rpc_conn *c, const char *event, struct json_object *params)
{
	FUZZ_CHECK(*event || !*event);
	(void)json_str(params, "process", "");
}

static void on_close(void *ctx, struct rpc_conn *c, const struct error *e)
{
	closed = true;
}

static const struct rpc_route routes[] = {
	{"a.take", take}, {"a.hold", hold}, {"a.drop", drop}, {"a.call", call_back}, {NULL, NULL}};
static const struct rpc_handler handler = {.service = "fuzz",
					   .routes = routes,
					   .on_event = on_event,
					   .on_close = on_close};

static void post(int fd, const void *p, size_t n, unsigned nfds, int pass)
{
	union {
		char room[CMSG_SPACE(sizeof(int) * 8)];
		struct cmsghdr align;
	} ctl = {0};
	struct iovec iov = {(void *)(uintptr_t)p, n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		int list[8];
		unsigned i;

		for (i = 0; i < nfds; i++)
			list[i] = pass;
		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		ctl.align.cmsg_level = SOL_SOCKET;
		ctl.align.cmsg_type = SCM_RIGHTS;
		ctl.align.cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(&ctl.align), list, sizeof(int) * nfds);
	}
	(void)sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void frame(int fd, const char *text, size_t len, unsigned nfds, int pass)
{
	char buf[4 + 1024];

	len = MIN(len, sizeof(buf) - 4);
	buf[0] = (char)len;
	buf[1] = (char)(len >> 8);
	buf[2] = buf[3] = 0;
	memcpy(buf + 4, text, len);
	post(fd, buf, 4 + len, nfds, pass);
}

static void step(int fd, struct fz *f, int pass)
{
	static const char *const methods[] = {"a.take", "a.hold", "a.drop", "a.call", "b"};
	uint8_t op = fz_u8(f), fds = fz_u8(f);
	char text[256];
	struct fz run;
	int n;

	switch (op & 3) {
	case 0:
		n = snprintf(text, sizeof(text),
			     "{\"id\":%d,\"method\":\"%s\",\"params\":{\"a\":1}", (int8_t)fz_u8(f),
			     methods[(op >> 2) % ARRAY_SIZE(methods)]);
		n += fds & 8 ? snprintf(text + n, sizeof(text) - (size_t)n, ",\"fds\":%u}", fds & 7)
			     : snprintf(text + n, sizeof(text) - (size_t)n, "}");
		frame(fd, text, (size_t)n, fds & 16 ? fds >> 5 : fds & 7, pass);
		break;
	case 1:
		run = fz_take(f, fz_u8(f));
		frame(fd, (const char *)run.p, run.n, op & 0x80 ? fds & 7 : 0, pass);
		break;
	case 2:
		run = fz_take(f, fz_u8(f) % 64);
		post(fd, run.p, run.n, op & 0x80 && run.n ? fds & 7 : 0, pass);
		break;
	default:
		if (nlate && late[fds % nlate])
			rpc_reply(STEAL(late[fds % nlate]), NULL);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_init_stderr("fuzz", LOG_LVL_ERROR + 1);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int pass = -1;
	struct fz f = {data, size};
	struct loop *l;
	uint64_t before;
	int sv[2];
	char drain[8192];
	unsigned n;

	if (pass < 0)
		pass = open("/dev/null", O_RDONLY | O_CLOEXEC);
	before = fuzz_open_fds();
	l = loop_new(NULL);
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	nlate = 0;
	closed = false;
	memset(late, 0, sizeof(late));
	conn = rpc_conn_new(l, sv[1], &handler, NULL);
	if (!(fz_u8(&f) & 1))
		frame(sv[0], HELLO, sizeof(HELLO) - 1, 0, pass);
	for (n = 0; f.n && n < 64 && !closed; n++) {
		step(sv[0], &f, pass);
		(void)loop_turn(l, 0, NULL);
		if (n % 3 == 0)
			while (recv(sv[0], drain, sizeof(drain), MSG_DONTWAIT) > 0)
				;
	}
	close(sv[0]);
	(void)loop_turn(l, 0, NULL);
	if (!closed)
		rpc_conn_free(conn);
	for (n = 0; n < nlate; n++)
		if (late[n])
			rpc_reply(STEAL(late[n]), NULL);
	(void)loop_turn(l, 0, NULL);
	loop_free(l);
	FUZZ_CHECK(fuzz_open_fds() == before);
	return 0;
}
