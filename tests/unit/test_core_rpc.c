// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between honest peers, and what dishonest ones get. The server runs on a thread of its own. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "core/path.h"
#include "core/rpc.h"

static char root[] = "/tmp/test-core-rpc.XXXXXX";
static int dir = -1;
static struct loop *sl; /* the server's */
static struct rpc_server *server;
static pthread_t thread;
static int opened, closed, cancelled, notices;
static struct rpc_req *held;

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define INC(x)  __atomic_add_fetch(&(x), 1, __ATOMIC_SEQ_CST)

/* ---- the server ---- */

static void m_echo(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_reply(r, json_object_get(params));
}

static void m_fail(void *ctx, struct rpc_req *r, struct json_object *params)
{
	struct error *e = NULL;

	error_set(&e, ERR_NOT_FOUND, "inner");
	error_wrap(&e, "outer");
	rpc_reply_error(r, e);
}

/* Answers with the descriptors that came, last first, and what could be read from the first. */
static void m_fds(void *ctx, struct rpc_req *r, struct json_object *params)
{
	struct json_object *o = json_object_new_object();
	struct rpc_fds *f = rpc_req_fds(r);
	int back[RPC_MAX_FDS];
	char text[64] = "";
	size_t i;

	for (i = 0; i < f->n; i++)
		back[i] = f->fd[f->n - 1 - i];
	if (f->n && pread(f->fd[0], text, sizeof(text) - 1, 0) < 0)
		text[0] = '!';
	json_set_str(o, "text", text);
	json_set_int(o, "n", (int64_t)f->n);
	rpc_reply_fds(r, o, back, f->n);
}

static void m_progress(void *ctx, struct rpc_req *r, struct json_object *params)
{
	int i;

	for (i = 0; i < 3; i++) {
		struct json_object *o = json_object_new_object();

		json_set_int(o, "step", i);
		rpc_progress(r, o);
	}
	rpc_reply(r, NULL);
}

static void on_cancel(void *arg)
{
	INC(cancelled);
	rpc_reply(arg, NULL);
}

static void m_hang(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_req_on_cancel(r, on_cancel, r);
}

static void m_hold(void *ctx, struct rpc_req *r, struct json_object *params)
{
	held = r;
}

static void m_release(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_reply(held, NULL);
	held = NULL;
	rpc_reply(r, NULL);
}

static void m_big(void *ctx, struct rpc_req *r, struct json_object *params)
{
	size_t n = (size_t)json_int(params, "n", 0);
	CLEANUP_FREE char *s = xmalloc(n + 1);
	struct json_object *o = json_object_new_object();

	memset(s, 'x', n);
	s[n] = '\0';
	json_set_str(o, "s", s);
	rpc_reply(r, o);
}

static void m_drop(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_conn_free(rpc_req_conn(r));
	rpc_reply(r, NULL);
}

static void on_open(void *ctx, struct rpc_conn *c)
{
	INC(opened);
	rpc_notify(c, "welcome", NULL);
}

static void on_close(void *ctx, struct rpc_conn *c, const struct error *e)
{
	INC(closed);
}

static void on_event(void *ctx, struct rpc_conn *c, const char *event, struct json_object *params)
{
	INC(notices);
}

static const struct rpc_route routes[] = {
	{"echo", m_echo}, {"fail", m_fail}, {"fds", m_fds},         {"progress", m_progress},
	{"hang", m_hang}, {"hold", m_hold}, {"release", m_release}, {"big", m_big},
	{"drop", m_drop}, {NULL, NULL},
};

static const struct rpc_handler handler = {
	.service = "container.test",
	.routes = routes,
	.on_open = on_open,
	.on_close = on_close,
	.on_event = on_event,
};

static void *serve(void *arg)
{
	loop_run(sl, NULL);
	return NULL;
}

static int setup(void **state)
{
	int fd;

	if (!mkdtemp(root))
		return -1;
	dir = path_open_dir(root, NULL);
	sl = loop_new(NULL);
	fd = rpc_socket_listen(dir, "s.sock", NULL);
	if (fd < 0)
		return -1;
	server = rpc_server_new(sl, fd, &handler, NULL, NULL);
	return pthread_create(&thread, NULL, serve, NULL);
}

static void stop(void *arg)
{
	loop_stop(sl);
}

static int teardown(void **state)
{
	int tmp = path_open_dir("/tmp", NULL);
	int ret;

	loop_post(sl, stop, NULL);
	pthread_join(thread, NULL);
	rpc_server_free(server);
	loop_free(sl);
	ret = path_remove_tree(tmp, strrchr(root, '/') + 1, NULL);
	close(tmp);
	close(dir);
	return ret;
}

static struct rpc_conn *client(void)
{
	struct error *e = NULL;
	int fd = rpc_socket_connect(dir, "s.sock", &e);
	struct rpc_conn *c;

	assert_true(fd >= 0);
	c = rpc_connect(fd, "test", 5000, &e);
	assert_non_null(c);
	return c;
}

static int call(struct rpc_conn *c, const char *method, struct json_object *params,
		struct json_object **result, struct error **err)
{
	return rpc_call(c, method, params, NULL, 0, NULL, NULL, 5000, result, NULL, NULL, err);
}

/* Waits up to five seconds for a counter of the server's thread. */
static bool reaches(int *counter, int want)
{
	int i;

	for (i = 0; i < 500 && LOAD(*counter) < want; i++)
		usleep(10000);
	return LOAD(*counter) >= want;
}

/* Whoever was bad, the server still serves. */
static void assert_alive(void)
{
	struct rpc_conn *c = client();

	assert_int_equal(call(c, "echo", NULL, NULL, NULL), 0);
	rpc_conn_free(c);
}

/* ---- blocking ---- */

static void blocking_calls(void **state)
{
	struct rpc_conn *c = client();
	struct json_object *p = json_object_new_object(), *r = NULL;
	struct error *e = NULL;
	char *text;
	int i;

	json_set_str(p, "k", "v");
	assert_int_equal(call(c, "echo", p, &r, &e), 0);
	assert_string_equal(json_str(r, "k", ""), "v");
	json_object_put(r);
	assert_int_equal(call(c, "fail", NULL, &r, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	text = error_text(e);
	assert_string_equal(text, "outer: inner");
	free(text);
	error_free(e);
	e = NULL;
	assert_int_equal(call(c, "nope", NULL, NULL, &e), -1);
	assert_int_equal(e->code, ERR_UNSUPPORTED);
	error_free(e);
	e = NULL;
	for (i = 0; i < 1000; i++)
		assert_int_equal(call(c, "echo", NULL, NULL, &e), 0);
	rpc_notify(c, "hi", NULL);
	assert_true(reaches(&notices, 1));
	rpc_conn_free(c);
}

static void descriptors(void **state)
{
	struct rpc_conn *c = client();
	struct json_object *r = NULL;
	struct error *e = NULL;
	int fds[RPC_MAX_FDS], back[RPC_MAX_FDS];
	struct stat a, b;
	size_t n, i, round, want;

	fds[0] = openat(dir, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fds[0], "hello", 5), 5);
	for (i = 1; i < RPC_MAX_FDS; i++)
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (round = 0; round < 40; round++) {
		want = round == 0 ? RPC_MAX_FDS : 1 + round % 7;
		n = RPC_MAX_FDS;
		assert_int_equal(rpc_call(c, "fds", NULL, fds, want, NULL, NULL, 5000, &r, back, &n,
					  &e),
				 0);
		assert_int_equal(n, want);
		assert_int_equal(json_int(r, "n", 0), want);
		assert_string_equal(json_str(r, "text", ""), "hello");
		json_object_put(r);
		assert_int_equal(fstat(fds[0], &a) | fstat(back[n - 1], &b), 0);
		assert_true(a.st_ino == b.st_ino);
		assert_true(fcntl(back[0], F_GETFD) & FD_CLOEXEC);
		for (i = 0; i < n; i++)
			close(back[i]);
	}
	/* More than the caller takes are closed; too many are refused before anything is sent. */
	n = 1;
	assert_int_equal(rpc_call(c, "fds", NULL, fds, 5, NULL, NULL, 5000, NULL, back, &n, &e), 0);
	assert_int_equal(n, 1);
	close(back[0]);
	assert_int_equal(rpc_call(c, "fds", NULL, fds, RPC_MAX_FDS + 1, NULL, NULL, 5000, NULL,
				  NULL, NULL, &e),
			 -1);
	error_free(e);
	rpc_conn_free(c);
	for (i = 0; i < RPC_MAX_FDS; i++)
		close(fds[i]);
}

static int steps;

static void on_progress(void *arg, struct json_object *ev)
{
	assert_ptr_equal(arg, &steps);
	assert_int_equal(json_int(ev, "step", -1), steps++);
}

static void progress(void **state)
{
	struct rpc_conn *c = client();

	steps = 0;
	assert_int_equal(rpc_call(c, "progress", NULL, NULL, 0, on_progress, &steps, 5000, NULL,
				  NULL, NULL, NULL),
			 0);
	assert_int_equal(steps, 3);
	rpc_conn_free(c);
}

static void timeouts(void **state)
{
	struct rpc_conn *c = client();
	struct error *e = NULL;

	assert_int_equal(rpc_call(c, "hold", NULL, NULL, 0, NULL, NULL, 50, NULL, NULL, NULL, &e),
			 -1);
	assert_int_equal(e->code, ERR_TIMEOUT);
	error_free(e);
	e = NULL;
	/* The late answer is not taken for that of a later call. */
	assert_int_equal(call(c, "release", NULL, NULL, &e), 0);
	assert_int_equal(call(c, "echo", NULL, NULL, &e), 0);
	rpc_conn_free(c);
}

static void cancel_on_disconnect(void **state)
{
	struct rpc_conn *c = client();
	int before = LOAD(cancelled);

	assert_int_equal(rpc_call(c, "hang", NULL, NULL, 0, NULL, NULL, 50, NULL, NULL, NULL, NULL),
			 -1);
	rpc_conn_free(c);
	assert_true(reaches(&cancelled, before + 1));
	assert_alive();
}

static void large(void **state)
{
	struct rpc_conn *c = client();
	struct json_object *p = json_object_new_object(), *r = NULL;
	struct error *e = NULL;

	json_set_int(p, "n", 8 << 20);
	assert_int_equal(call(c, "big", p, &r, &e), 0);
	assert_int_equal(strlen(json_str(r, "s", "")), 8 << 20);
	assert_int_equal(call(c, "echo", r, NULL, &e), 0);
	p = json_object_new_object();
	json_set_int(p, "n", RPC_MAX_FRAME);
	assert_int_equal(call(c, "big", p, NULL, &e),
			 -1); /* does not fit: an error, and the line stays up */
	error_free(e);
	assert_int_equal(call(c, "echo", NULL, NULL, NULL), 0);
	rpc_conn_free(c);
}

static void dropped_by_peer(void **state)
{
	struct rpc_conn *c = client();
	struct error *e = NULL;

	assert_int_equal(call(c, "drop", NULL, NULL, &e), -1);
	assert_int_equal(e->code, ERR_INTERRUPTED);
	error_free(e);
	e = NULL;
	assert_int_equal(call(c, "echo", NULL, NULL, &e), -1);
	error_free(e);
	rpc_conn_free(c);
	assert_alive();
}

/* ---- on a loop, both ways ---- */

struct async {
	struct loop *l;
	struct rpc_conn *c;
	int answers, errors, progress, events, closes, want;
	enum error_code code;
};

static void a_reply(void *arg, struct json_object *result, struct rpc_fds *fds,
		    const struct error *e)
{
	struct async *a = arg;

	assert_true(!result != !e);
	if (e) {
		a->errors++;
		a->code = e->code;
	}
	if (++a->answers == a->want)
		loop_stop(a->l);
}

static void a_progress(void *arg, struct json_object *ev)
{
	((struct async *)arg)->progress++;
}

static void a_event(void *ctx, struct rpc_conn *c, const char *event, struct json_object *params)
{
	((struct async *)ctx)->events++;
}

static void a_close(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct async *a = ctx;

	a->closes++;
	a->c = NULL;
	/* A call on a connection that is going is answered all the same. */
	rpc_call_async(c, "echo", NULL, NULL, 0, a_reply, NULL, a);
}

static const struct rpc_handler a_handler = {.service = "test",
					     .on_event = a_event,
					     .on_close = a_close};

static void a_late(void *arg)
{
	fail_msg("no answer in time");
}

static void async_open(struct async *a)
{
	*a = (struct async){.l = loop_new(NULL)};
	a->c = rpc_conn_new(a->l, rpc_socket_connect(dir, "s.sock", NULL), &a_handler, a);
	loop_add_timer(a->l, 10000, a_late, NULL);
}

static void async_calls(void **state)
{
	struct async a;
	int i;

	async_open(&a);
	a.want = 500 + 2;
	for (i = 0; i < 500; i++)
		rpc_call_async(a.c, "echo", NULL, NULL, 0, a_reply, NULL, &a);
	rpc_call_async(a.c, "progress", NULL, NULL, 0, a_reply, a_progress, &a);
	rpc_call_async(a.c, "fail", NULL, NULL, 0, a_reply, NULL, &a);
	assert_int_equal(a.answers, 0);
	loop_run(a.l, NULL);
	assert_int_equal(a.errors, 1);
	assert_int_equal(a.code, ERR_NOT_FOUND);
	assert_int_equal(a.progress, 3);
	assert_int_equal(a.events, 1); /* "welcome" */
	assert_true(rpc_conn_idle(a.c));
	/* Freed with calls under way: cancelled, no on_close. */
	a.want = 0;
	rpc_call_async(a.c, "hang", NULL, NULL, 0, a_reply, NULL, &a);
	rpc_conn_free(a.c);
	assert_int_equal(a.errors, 2);
	assert_int_equal(a.code, ERR_CANCELLED);
	assert_int_equal(a.closes, 0);
	loop_free(a.l);
}

static void async_lost(void **state)
{
	struct async a;

	async_open(&a);
	a.want = 3;
	rpc_call_async(a.c, "hang", NULL, NULL, 0, a_reply, NULL, &a);
	rpc_call_async(a.c, "drop", NULL, NULL, 0, a_reply, NULL, &a);
	loop_run(a.l, NULL);
	assert_int_equal(a.errors, 3); /* hang, drop, and the one on_close made */
	assert_int_equal(a.code, ERR_INTERRUPTED);
	assert_int_equal(a.closes, 1);
	loop_free(a.l);
}

static void pair_both_ways(void **state)
{
	struct loop *l = loop_new(NULL);
	struct async a = {.l = l, .want = 2}, b = {.l = l, .want = 99};
	struct rpc_handler ha = handler, hb = handler;
	int sv[2];

	ha.on_close = hb.on_close = NULL;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	a.c = rpc_conn_new(l, sv[0], &ha, NULL);
	b.c = rpc_conn_new(l, sv[1], &hb, NULL);
	rpc_call_async(a.c, "echo", NULL, NULL, 0, a_reply, NULL, &a);
	rpc_call_async(b.c, "fail", NULL, NULL, 0, a_reply, NULL, &a);
	loop_add_timer(l, 10000, a_late, NULL);
	loop_run(l, NULL);
	assert_int_equal(a.errors, 1);
	rpc_conn_free(a.c);
	rpc_conn_free(b.c);
	loop_free(l);
}

/* ---- hostile ---- */

static int raw_connect(void)
{
	int fd = rpc_socket_connect(dir, "s.sock", NULL);

	assert_true(fd >= 0);
	return fd;
}

static void raw_send(int fd, const char *text, size_t len)
{
	unsigned char h[4] = {(unsigned char)len, (unsigned char)(len >> 8),
			      (unsigned char)(len >> 16), (unsigned char)(len >> 24)};

	assert_int_equal(send(fd, h, 4, MSG_NOSIGNAL), 4);
	if (len)
		assert_true(send(fd, text, len, MSG_NOSIGNAL) >= 0);
}

static void raw_text(int fd, const char *text)
{
	raw_send(fd, text, strlen(text));
}

#define HELLO "{\"hello\": {\"version\": 1, \"service\": \"evil\"}}"

/* Reads until the peer hangs up; false when it does not within ms. */
static bool hung_up(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char b[4096];

	while (poll(&p, 1, ms) > 0) {
		ssize_t n = recv(fd, b, sizeof(b), MSG_DONTWAIT);

		if (!n || (n < 0 && errno != EAGAIN))
			return true;
	}
	return false;
}

static void hostile_frames(void **state)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"17",
		"{\"hello\": {\"version\": 2}}",
		"{\"hello\": {}}",
		"{\"hello\": 1}",
		"{\"id\": 1, \"method\": \"echo\"}",
		"GET / HTTP/1.1",
		"\"\\u0000\"",
	};
	static const char *const bad_after[] = {
		"{\"id\": 1}",
		"{\"id\": \"x\", \"method\": \"echo\"}",
		"{\"id\": 1, \"result\": {}}",
		"{\"id\": -1, \"error\": {}}",
		"{\"id\": 1, \"event\": {}}",
		"{\"id\": 1, \"method\": \"echo\", \"params\": []}",
		"{\"id\": 1, \"method\": \"echo\", \"fds\": 1}",
		"{\"id\": 1, \"method\": \"echo\", \"fds\": -1}",
		"{\"id\": 1, \"method\": \"echo\", \"fds\": \"x\"}",
		"nonsense",
	};
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = raw_connect();
		raw_text(fd, bad[i]);
		if (!hung_up(fd, 5000))
			fail_msg("not hung up: %s", bad[i]);
		close(fd);
	}
	for (i = 0; i < ARRAY_SIZE(bad_after); i++) {
		fd = raw_connect();
		raw_text(fd, HELLO);
		raw_text(fd, bad_after[i]);
		if (!hung_up(fd, 5000))
			fail_msg("not hung up: %s", bad_after[i]);
		close(fd);
	}
	fd = raw_connect();
	raw_send(fd, NULL, 0);
	assert_true(hung_up(fd, 5000));
	close(fd);
	fd = raw_connect();
	assert_int_equal(send(fd, "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
	assert_true(hung_up(fd, 5000));
	close(fd);
	assert_alive();
}

static void hostile_depth(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	int i, fd = raw_connect();

	raw_text(fd, HELLO);
	buf_puts(&b, "{\"id\": 1, \"method\": \"echo\", \"params\": {\"a\": ");
	for (i = 0; i < 100000; i++)
		buf_puts(&b, "[");
	raw_send(fd, b.data, b.len);
	assert_true(hung_up(fd, 5000));
	close(fd);
	assert_alive();
}

static void partial_frames(void **state)
{
	static const char call_text[] = "{\"id\": 3, \"method\": \"echo\", \"params\": {}}";
	unsigned char h[4] = {sizeof(call_text) - 1, 0, 0, 0};
	CLEANUP_BUF struct buf got = {0};
	char b[512];
	size_t i;
	ssize_t n;
	int fd = raw_connect();

	raw_text(fd, HELLO);
	for (i = 0; i < 4; i++, usleep(500))
		assert_int_equal(send(fd, h + i, 1, MSG_NOSIGNAL), 1);
	for (i = 0; i < sizeof(call_text) - 1; i++, usleep(500))
		assert_int_equal(send(fd, call_text + i, 1, MSG_NOSIGNAL), 1);
	while (!got.data || !memmem(got.data, got.len, "\"id\":3", 6)) {
		n = recv(fd, b, sizeof(b), 0);
		assert_true(n > 0);
		buf_append(&got, b, (size_t)n);
	}
	/* Gone in the middle of a frame. */
	assert_int_equal(send(fd, h, 4, MSG_NOSIGNAL), 4);
	assert_int_equal(send(fd, "{\"id", 4, MSG_NOSIGNAL), 4);
	close(fd);
	assert_alive();
}

static void send_with_fds(int fd, const char *data, size_t len, int nfds)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * 253)];
		struct cmsghdr align;
	} u;
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &u,
			   .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds)};
	struct cmsghdr *cm;
	int i;

	memset(&u, 0, sizeof(u));
	cm = CMSG_FIRSTHDR(&m);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
	for (i = 0; i < nfds; i++)
		((int *)(void *)CMSG_DATA(cm))[i] = 0;
	assert_true(sendmsg(fd, &m, MSG_NOSIGNAL) > 0);
}

static int open_fds(void)
{
	int i, n = 0;

	for (i = 0; i < 4096; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static void hostile_fds(void **state)
{
	static const char one[] = "\x28\0\0\0{\"id\": 1, \"method\": \"echo\", \"params\":{}}";
	int before, fd, i;

	assert_alive();
	usleep(50000);
	before = open_fds();
	/* Descriptors no frame claims. */
	fd = raw_connect();
	raw_text(fd, HELLO);
	send_with_fds(fd, one, 44, 253);
	assert_true(hung_up(fd, 5000));
	close(fd);
	/* Piles of them behind a frame that never ends. */
	fd = raw_connect();
	raw_text(fd, HELLO);
	assert_int_equal(send(fd, "\xff\xff\x0f\0", 4, MSG_NOSIGNAL), 4);
	for (i = 0; i < 3; i++)
		send_with_fds(fd, "x", 1, 200);
	assert_true(hung_up(fd, 5000));
	close(fd);
	for (i = 0; i < 100 && open_fds() > before; i++)
		usleep(10000);
	assert_int_equal(open_fds(), before);
	assert_alive();
}

static void never_reads(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	int before = LOAD(closed), fd = raw_connect(), i;

	raw_text(fd, HELLO);
	for (i = 0; i < 20; i++) {
		CLEANUP_FREE char *t =
			xasprintf("{\"id\": %d, \"method\": \"big\", \"params\": {\"n\": 8000000}}",
				  i + 1);

		raw_text(fd, t);
	}
	assert_true(reaches(&closed, before + 1));
	close(fd);
	assert_alive();
}

static void too_many_calls(void **state)
{
	int before = LOAD(cancelled), fd = raw_connect(), i;

	raw_text(fd, HELLO);
	for (i = 0; i <= RPC_MAX_CALLS; i++) {
		CLEANUP_FREE char *t = xasprintf("{\"id\": %d, \"method\": \"hang\"}", i + 1);
		unsigned char h[4] = {(unsigned char)strlen(t), 0, 0, 0};

		if (send(fd, h, 4, MSG_NOSIGNAL) < 0 || send(fd, t, strlen(t), MSG_NOSIGNAL) < 0)
			break;
	}
	assert_true(hung_up(fd, 5000));
	assert_true(reaches(&cancelled, before + RPC_MAX_CALLS));
	close(fd);
	assert_alive();
}

static void half_open(void **state)
{
	int before = LOAD(opened), fd = raw_connect();

	assert_false(hung_up(fd, 1000));
	assert_alive(); /* others are served meanwhile */
	assert_true(hung_up(fd, 12000));
	assert_int_equal(LOAD(opened), before + 1);
	close(fd);
}

static int parked[2];

static void park(void *arg)
{
	char c;

	if (read(parked[0], &c, 1) < 0)
		abort();
}

/* The server shares our descriptor table: without any left, accepting waits and then goes on. */
static void accept_emfile(void **state)
{
	struct rlimit old, low;
	int fd, i;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(pipe(parked), 0);
	loop_post(sl, park, NULL);
	fd = raw_connect();
	raw_text(fd, HELLO);
	for (i = 0; fcntl(i, F_GETFD) >= 0; i++)
		;
	low = old;
	low.rlim_cur = (rlim_t)i; /* none is free below it */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(write(parked[1], "x", 1), 1);
	assert_false(hung_up(fd, 300));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	raw_text(fd, "{\"id\": 1, \"method\": \"drop\"}");
	assert_true(hung_up(fd, 5000));
	close(fd);
	close(parked[0]);
	close(parked[1]);
	assert_alive();
}

/* ---- names ---- */

static void sockets(void **state)
{
	struct error *e = NULL;
	CLEANUP_FREE char *deep = xasprintf("%0*d/%0*d", 120, 1, 120, 2);
	CLEANUP_FREE char *name = xasprintf("%s/l.sock", deep);
	CLEANUP_FREE char *full = xasprintf("%s/%s", root, name);
	struct stat st;
	int fd, c, conns[8], n = 0;

	assert_int_equal(path_mkdirs_at(dir, deep, 0700, &e), 0);
	fd = rpc_socket_listen(dir, name, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstatat(dir, name, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	c = rpc_socket_connect(AT_FDCWD, full, &e);
	assert_true(c >= 0);
	close(c);
	assert_int_equal(rpc_socket_listen(dir, name, &e), -1); /* in use */
	assert_int_equal(e->code, ERR_EXISTS);
	error_free(e);
	e = NULL;
	close(fd);
	assert_int_equal(rpc_socket_connect(dir, name, &e), -1);
	assert_int_equal(e->sys, ECONNREFUSED);
	error_free(e);
	e = NULL;
	fd = rpc_socket_listen(dir, name, &e); /* dead: replaced */
	assert_true(fd >= 0);
	rpc_socket_remove(dir, name); /* somebody listens: it stays */
	c = rpc_socket_connect_now(dir, name, &e);
	assert_true(c >= 0);
	assert_true(fcntl(c, F_GETFL) & O_NONBLOCK);
	close(c);
	/* With a full backlog it is in use as well, and nobody waits for it. */
	assert_int_equal(listen(fd, 0), 0);
	while ((c = rpc_socket_connect_now(dir, name, &e)) >= 0 && n < (int)ARRAY_SIZE(conns))
		conns[n++] = c;
	assert_int_equal(e->sys, EAGAIN);
	error_free(e);
	e = NULL;
	assert_int_equal(rpc_socket_listen(dir, name, &e), -1);
	assert_int_equal(e->code, ERR_EXISTS);
	error_free(e);
	e = NULL;
	rpc_socket_remove(dir, name);
	assert_int_equal(fstatat(dir, name, &st, 0), 0);
	while (n)
		close(conns[--n]);
	close(fd);
	rpc_socket_remove(dir, name);
	assert_int_equal(fstatat(dir, name, &st, 0), -1);
	rpc_socket_remove(dir, name); /* absent: nothing */
	assert_int_equal(rpc_socket_connect(dir, "none.sock", &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	error_free(e);
	e = NULL;
	fd = openat(dir, "plain", O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(rpc_socket_listen(dir, "plain", &e), -1);
	error_free(e);
	rpc_socket_remove(dir, "plain");
	assert_int_equal(fstatat(dir, "plain", &st, 0), 0);
}

static void wire_errors(void **state)
{
	struct json_object *o = json_object_new_object();
	struct error *e = rpc_error_from_json(NULL);

	assert_int_equal(e->code, ERR_UNKNOWN);
	error_free(e);
	json_set_int(o, "code", 3);
	json_set_str(o, "message", "%s%n");
	e = rpc_error_from_json(o);
	assert_string_equal(e->msg, "%s%n");
	assert_int_equal(e->status, 0);
	error_free(e);
	json_object_put(o);
	/* An exit status goes with its error, through wrapping and over the wire. */
	e = NULL;
	error_set(&e, ERR_NOT_FOUND, "no program");
	e->status = 127;
	error_wrap(&e, "start it");
	o = rpc_error_to_json(e);
	error_free(e);
	e = rpc_error_from_json(o);
	assert_int_equal(e->status, 127);
	assert_int_equal(e->cause->status, 127);
	error_free(e);
	json_set_int(o, "status", 256 + 3);
	e = rpc_error_from_json(o);
	assert_int_equal(e->status, 255);
	error_free(e);
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocking_calls),
		cmocka_unit_test(descriptors),
		cmocka_unit_test(progress),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(cancel_on_disconnect),
		cmocka_unit_test(large),
		cmocka_unit_test(dropped_by_peer),
		cmocka_unit_test(async_calls),
		cmocka_unit_test(async_lost),
		cmocka_unit_test(pair_both_ways),
		cmocka_unit_test(hostile_frames),
		cmocka_unit_test(hostile_depth),
		cmocka_unit_test(partial_frames),
		cmocka_unit_test(hostile_fds),
		cmocka_unit_test(never_reads),
		cmocka_unit_test(too_many_calls),
		cmocka_unit_test(half_open),
		cmocka_unit_test(accept_emfile),
		cmocka_unit_test(sockets),
		cmocka_unit_test(wire_errors),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
