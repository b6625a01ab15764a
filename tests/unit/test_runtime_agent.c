// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_runtime_agent.c - the runtime helper between an honest client and a guest that lies (attack class G). The role's
 * own handlers answer both, so its files are included whole; no machine runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "cmd/runtime.c"
#include "cmd/runtime_start.c"
#include "cmd/runtime_process.c"
#include "vmm/vsock_impl.h"

const unsigned char guest_init_start[1], guest_init_end[1];

struct fix {
	struct runtime rt;
	struct rpc_conn *served;
	int guest, client;
	char dir[64];
};

static void say(int fd, const char *fmt, ...) PRINTF(2, 3);
static void say(int fd, const char *fmt, ...)
{
	char text[1024];
	uint32_t n;
	va_list ap;

	va_start(ap, fmt);
	n = (uint32_t)vsnprintf(text + 4, sizeof(text) - 4, fmt, ap);
	va_end(ap);
	memcpy(text, &n, 4);
	assert_int_equal(send(fd, text, n + 4, MSG_NOSIGNAL), n + 4);
}

static void turns(struct fix *f)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_turn(f->rt.loop, 0, NULL), 0);
}

/* The next frame on fd, NULL when there is none. */
static struct json_object *hear(int fd)
{
	char text[4096];
	uint32_t n;

	if (recv(fd, &n, 4, MSG_DONTWAIT) != 4)
		return NULL;
	assert_true(n < sizeof(text));
	assert_int_equal(recv(fd, text, n, MSG_DONTWAIT), n);
	return json_parse(text, n, NULL);
}

static unsigned hear_all(int fd, const char *member)
{
	struct json_object *o;
	unsigned n = 0;

	while ((o = hear(fd))) {
		n += json_get(o, member) != NULL;
		json_object_put(o);
	}
	return n;
}

static void closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	container_of((struct runtime *)ctx, struct fix, rt)->served = NULL;
}

static int setup(void **state)
{
	static struct rpc_handler served;
	struct fix *f = xcalloc(1, sizeof(*f));
	int a[2], b[2];

	served = handler;
	served.on_close = closed;
	strcpy(f->dir, "/tmp/test-agent.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
	f->guest = a[0];
	f->client = b[0];
	f->rt = (struct runtime){.loop = loop_new(NULL),
				 .id = (char *)"test",
				 .dirfd = open(f->dir, O_DIRECTORY | O_CLOEXEC),
				 .boot_fd = -1,
				 .caps = json_object_new_array(),
				 .state = RT_STARTING};
	assert_non_null(runtime_process_new(&f->rt, "init", true, NULL));
	f->rt.agent = rpc_conn_new(f->rt.loop, a[1], &agent_handler, &f->rt);
	f->served = rpc_conn_new(f->rt.loop, b[1], &served, &f->rt);
	say(f->guest, "{\"hello\":{\"version\":1}}");
	say(f->client, "{\"hello\":{\"version\":1}}");
	turns(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	int tmp;

	rpc_conn_free(f->served);
	runtime_sockets_free(&f->rt);
	rpc_conn_free(f->rt.agent); /* which answers what the health check still waits for */
	runtime_health_free(&f->rt);
	json_object_put(f->rt.config);
	while (f->rt.procs)
		runtime_process_remove(f->rt.procs);
	loop_free(f->rt.loop);
	error_free(f->rt.start_error);
	json_object_put(f->rt.caps);
	close(f->rt.dirfd);
	close(f->guest);
	close(f->client);
	tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(path_remove_tree(tmp, f->dir + strlen("/tmp/"), NULL), 0);
	close(tmp);
	free(f);
	return 0;
}

static void bring_up(struct fix *f)
{
	say(f->guest, "{\"event\":\"ready\"}");
	say(f->guest, "{\"event\":\"started\",\"params\":{\"process\":\"init\"}}");
	turns(f);
	assert_int_equal(f->rt.state, RT_RUNNING);
	hear_all(f->client, "hello");
	hear_all(f->guest, "hello");
}

static void exec(struct fix *f, unsigned id)
{
	say(f->client,
	    "{\"id\":%u,\"method\":\"runtime.exec\",\"params\":{\"process\":{},\"streams\":[]}}",
	    id);
	turns(f);
}

/* G: processes end before they begin, more of them than are remembered; then the guest answers. */
static void test_exit_before_start(void **state)
{
	struct fix *f = *state;
	unsigned i, n = KEEP_EXITED + 10;

	bring_up(f);
	for (i = 1; i <= n; i++) {
		exec(f, i);
		say(f->guest,
		    "{\"event\":\"exited\",\"params\":{\"process\":\"exec-%u\",\"code\":1}}", i);
		turns(f);
	}
	for (i = 1; i <= n; i++) {
		say(f->guest, i % 2 ? "{\"id\":%u,\"result\":{}}" : "{\"id\":%u,\"error\":{}}", i);
		turns(f);
	}
	assert_int_equal(hear_all(f->client, "id"), n);
	assert_non_null(f->rt.agent);
	/* What is over and answered is forgotten as ever. */
	exec(f, n + 1);
	say(f->guest, "{\"event\":\"exited\",\"params\":{\"process\":\"exec-%u\"}}", n + 1);
	say(f->guest, "{\"id\":%u,\"result\":{}}", n + 1);
	turns(f);
	assert_true(f->rt.nprocs < n);
}

/* G: who waits for a process that does not start is told. */
static void test_wait_for_failed(void **state)
{
	struct fix *f = *state;
	struct json_object *o;

	bring_up(f);
	exec(f, 1);
	say(f->client,
	    "{\"id\":2,\"method\":\"runtime.wait\",\"params\":{\"process\":\"exec-1\"}}");
	turns(f);
	say(f->guest, "{\"id\":1,\"error\":{\"code\":\"notFound\",\"message\":\"no such file\"}}");
	turns(f);
	o = hear(f->client);
	assert_non_null(json_obj(o, "error"));
	json_object_put(o);
	o = hear(f->client);
	assert_non_null(json_obj(o, "error"));
	json_object_put(o);
	assert_int_equal(f->rt.nprocs, 1);
}

/* G: a guest that asks for the time and never takes it is answered once. */
static void test_clock(void **state)
{
	struct fix *f = *state;
	int64_t before = time_now_ns(), ns;
	struct json_object *o;

	bring_up(f);
	for (int i = 0; i < 2000; i++) {
		say(f->guest, "{\"event\":\"clock\"}");
		turns(f);
	}
	o = hear(f->guest);
	assert_string_equal(json_str(o, "method", ""), "clock");
	ns = json_int(json_obj(o, "params"), "ns", 0);
	assert_true(ns >= before && ns <= time_now_ns());
	json_object_put(o);
	assert_int_equal(hear_all(f->guest, "method"), 0);
	say(f->guest, "{\"id\":1,\"result\":{}}");
	say(f->guest, "{\"event\":\"clock\"}");
	turns(f);
	assert_int_equal(hear_all(f->guest, "method"), 1);
}

/* G: a guest cannot put off its end by failing again and again. */
static void test_fails_once(void **state)
{
	struct fix *f = *state;
	struct error *first;

	say(f->guest, "{\"event\":\"failed\",\"params\":{\"process\":\"init\",\"message\":\"a\"}}");
	turns(f);
	first = f->rt.start_error;
	assert_non_null(first);
	assert_int_equal(f->rt.state, RT_STOPPING);
	say(f->guest, "{\"event\":\"failed\",\"params\":{\"process\":\"init\",\"message\":\"b\"}}");
	turns(f);
	assert_ptr_equal(f->rt.start_error, first);
	assert_string_equal(first->msg, "a");
}

/* A machine that hung after it had dialled is reset, and dials again. */
static void test_dials_again(void **state)
{
	struct fix *f = *state;
	struct rt_stream *out = &f->rt.procs->stream[RT_STDOUT];
	struct vsock_stream first = {0}, second = {0}, third = {0};

	*out = (struct rt_stream){.proc = f->rt.procs, .kind = RT_STDOUT, .port = 2, .fd = -1};
	assert_int_equal(runtime_accept(&f->rt, 2, &first), 0);
	assert_int_equal(runtime_accept(&f->rt, 2, &third), -1); /* twice in one life */
	first.ops->closed(first.arg);
	assert_int_equal(runtime_accept(&f->rt, 2, &second), 0);
	bring_up(f);
	second.ops->closed(second.arg);
	assert_int_equal(runtime_accept(&f->rt, 2, &third), -1);
	assert_true(out->done);
}

/* runtime.dialed with a descriptor (which is passed on), as an apiserver's connection sends it. */
static void dialed(struct fix *f, int64_t id, int fd)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} u = {.h = {.cmsg_level = SOL_SOCKET,
		     .cmsg_type = SCM_RIGHTS,
		     .cmsg_len = CMSG_LEN(sizeof(int))}};
	char text[256];
	uint32_t n = (uint32_t)snprintf(text + 4, sizeof(text) - 4,
					"{\"id\":99,\"method\":\"runtime.dialed\",\"params\":{"
					"\"id\":%lld},\"fds\":1}",
					(long long)id);
	struct iovec iov = {.iov_base = text, .iov_len = n + 4};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &u,
			   .msg_controllen = sizeof(u)};

	memcpy(text, &n, 4);
	memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	assert_int_equal(sendmsg(f->client, &m, MSG_NOSIGNAL), n + 4);
	close(fd);
}

static struct json_object *parsed(const char *text)
{
	struct json_object *o = json_parse(text, strlen(text), NULL);

	assert_non_null(o);
	return o;
}

/* What of the events of the call `id` the client hears next, NULL when nothing. */
static struct json_object *hear_dial(struct fix *f)
{
	struct json_object *o = hear(f->client), *ev = json_object_get(json_obj(o, "event"));

	json_object_put(o);
	return ev;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* E: a process in the container that dials what comes next gets nobody's stream: nothing comes next. And it fills no log. */
static void test_E_ports(void **state)
{
	static uint32_t port[4096];
	struct fix *f = *state;
	struct vsock_stream s = {.refs = 100};
	unsigned near = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(port); i++) {
		port[i] = runtime_port_new(&f->rt);
		assert_true(port[i] >= AGENT_PORT_STDIO_MIN && port[i] < UINT32_MAX - 1);
		near += i && port[i] - port[i - 1] + 1000 < 2000;
	}
	assert_true(near < 3);
	qsort(port, ARRAY_SIZE(port), sizeof(*port), by_number);
	/* All over the range. */
	assert_true(port[ARRAY_SIZE(port) / 4] < 1u << 31);
	assert_true(port[3 * ARRAY_SIZE(port) / 4] > 1u << 31);
	for (i = 0; i < 1000; i++)
		assert_int_equal(runtime_accept(&f->rt, port[0], &s), -1);
}

/* E, G: a guest dials relays: as many at once as there may be, no port of nobody's; what it dialled is a number for the apiserver. */
static void test_E_relays(void **state)
{
	static struct vsock_stream s[300];
	static struct vsock gone = {.dead = true};
	struct fix *f = *state;
	CLEANUP_JSON struct json_object *boot = json_object_new_object(), *ev = NULL, *again = NULL;
	CLEANUP_JSON struct json_object *params =
		parsed("{\"relays\":[{\"mount\":3,\"path\":\"/x\",\"mode\":438}]}");
	uint32_t port;
	int pair[2];
	char c;

	f->rt.config = json_object_new_object();
	assert_int_equal(runtime_sockets_boot(&f->rt, params, boot, NULL), 0);
	port = (uint32_t)json_int(json_object_array_get_idx(json_arr(boot, "relays"), 0), "port",
				  0);
	assert_true(port >= AGENT_PORT_STDIO_MIN && runtime_sockets_port(&f->rt, port));
	bring_up(f);
	for (int i = 0; i < 300; i++) {
		s[i].refs = 100; /* of nobody's memory */
		assert_int_equal(runtime_accept(&f->rt, port, &s[i]), i < 256 ? 0 : -1);
	}
	assert_int_equal(runtime_accept(&f->rt, port + 1, &s[299]), -1);
	/* Nobody watched: who begins to is told of all that wait. */
	say(f->client, "{\"id\":5,\"method\":\"runtime.watch\",\"params\":{}}");
	turns(f);
	ev = hear_dial(f);
	assert_string_equal(json_str(ev, "event", ""), "dial");
	assert_int_equal(json_int(ev, "mount", 0), 3);
	assert_int_equal(hear_all(f->client, "event"), 255);
	/* Another apiserver is told again. */
	say(f->client, "{\"id\":6,\"method\":\"runtime.watch\",\"params\":{}}");
	turns(f);
	assert_int_equal(hear_all(f->client, "event"), 256);
	/* Nothing there: the guest's stream is reset, and there is room for one more. An answer comes once. */
	say(f->client, "{\"id\":7,\"method\":\"runtime.dialed\",\"params\":{\"id\":1}}");
	say(f->client, "{\"id\":8,\"method\":\"runtime.dialed\",\"params\":{\"id\":1}}");
	turns(f);
	assert_null(s[0].ops);
	assert_int_equal(hear_all(f->client, "error"), 1);
	s[256].refs = 100;
	assert_int_equal(runtime_accept(&f->rt, port, &s[256]), 0);
	turns(f);
	again = hear_dial(f);
	assert_int_equal(json_int(again, "id", 0), 257);
	/* What the guest said before the host's side was there: bytes wait, its end is passed on. */
	assert_int_equal(s[256].ops->data(s[256].arg, "abc", 3), 0);
	s[256].ops->eof(s[256].arg);
	s[256].hashed = true; /* the guest knows it still */
	s[256].v = &gone;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	dialed(f, 257, pair[0]);
	turns(f);
	assert_int_equal(recv(pair[1], &c, 1, MSG_DONTWAIT), 0);
	close(pair[1]);
	/* One that the guest gave up meanwhile is forgotten. */
	s[1].ops->closed(s[1].arg);
	say(f->client, "{\"id\":9,\"method\":\"runtime.dialed\",\"params\":{\"id\":2}}");
	turns(f);
	assert_int_equal(hear_all(f->client, "error"), 1);
	s[256].ops->closed(s[256].arg);
}

/* What was published has to be what the configuration says, and comes before the start. */
static void test_E_publish(void **state)
{
	struct fix *f = *state;
	CLEANUP_JSON struct json_object *boot = json_object_new_object();

	say(f->client, "{\"id\":5,\"method\":\"runtime.publish\",\"params\":{}}");
	turns(f);
	assert_int_equal(hear_all(f->client, "error"), 1);
	f->rt.config = parsed("{\"publishedSockets\":[{\"containerPath\":\"/x\"}]}");
	assert_int_equal(runtime_sockets_boot(&f->rt, NULL, boot, NULL), -1);
}

/* G: notices about nobody, of no kind, in no order, change nothing. */
static void test_nonsense(void **state)
{
	struct fix *f = *state;

	say(f->guest, "{\"event\":\"exited\",\"params\":{\"process\":\"exec-9\",\"code\":0}}");
	say(f->guest, "{\"event\":\"started\"}");
	say(f->guest, "{\"event\":\"boo\",\"params\":{\"process\":\"init\"}}");
	say(f->guest, "{\"id\":1,\"method\":\"runtime.exec\",\"params\":{}}");
	turns(f);
	assert_int_equal(f->rt.state, RT_STARTING);
	assert_int_equal(f->rt.nprocs, 1);
	assert_non_null(f->rt.agent);
	assert_int_equal(hear_all(f->guest, "error"), 1);
	/* An answer to what nobody asked ends the connection. */
	say(f->guest, "{\"id\":77,\"result\":{}}");
	turns(f);
	assert_null(f->rt.agent);
}

/* F: what a guest may do wrong as often as it likes does not fill the log. */
static void test_F_log_flood(void **state)
{
	struct fix *f = *state;
	CLEANUP_BUF struct buf b = {0};
	unsigned lines = 0, i;

	assert_int_equal(log_init_service(f->dir, "guest", LOG_LVL_INFO, NULL), 0);
	for (i = 0; i < 5000; i++) {
		assert_int_equal(runtime_accept(&f->rt, 9, NULL), -1);
		assert_int_equal(runtime_accept(&f->rt, AGENT_PORT_CONTROL, NULL), -1);
		say(f->guest, "{\"event\":\"started\",\"params\":{\"process\":\"exec-9\"}}");
		turns(f);
	}
	assert_int_equal(path_read_all(f->rt.dirfd, "guest.log", 4 << 20, &b, NULL), 0);
	for (i = 0; i < b.len; i++)
		lines += b.data[i] == '\n';
	assert_in_range(lines, 2, 14 + 13);
}

/* F: nor does it give those who watch an event for each time it says that it has no memory. */
static void test_F_oom_flood(void **state)
{
	struct fix *f = *state;
	uint64_t start = time_mono_us();
	unsigned told = 0, i;

	say(f->client, "{\"id\":1,\"method\":\"runtime.watch\"}");
	turns(f);
	for (i = 0; i < 5000; i++) {
		say(f->guest, "{\"event\":\"oom\"}");
		turns(f);
		told += hear_all(f->client, "event");
	}
	assert_true(f->rt.oom);
	assert_in_range(told, 1, 1 + (time_mono_us() - start) / OOM_EVERY_US);
}

/* E, J: a client that hung up while a process writes to it must not end the helper, and the machine with it. */
static void test_E_client_hangs_up(void **state)
{
	static char *argv[] = {(char *)"container-runtime-linux", (char *)"start", (char *)"--id",
			       (char *)"x", NULL};
	struct fix *f = *state;
	pid_t child = fork();
	int status;

	if (!child) {
		/* Far enough to fail for want of a container. */
		setenv("CONTAINER_APP_ROOT", f->dir, 1);
		setenv("CONTAINER_RUN_ROOT", f->dir, 1);
		setenv("CONTAINER_LOG_ROOT", f->dir, 1);
		_exit(runtime_main(4, argv) && signal(SIGPIPE, SIG_DFL) == SIG_IGN ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* F: whatever a guest writes to its console, the host keeps a bounded part of it. */
static void test_F_console_flood(void **state)
{
	struct fix *f = *state;
	static const char page[65536];
	struct stat st;

	f->rt.boot_fd = openat(f->rt.dirfd, "boot.log", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(f->rt.boot_fd >= 0);
	for (size_t n = 0; n < 4 * (size_t)RUNTIME_BOOT_LOG_MAX; n += sizeof(page))
		runtime_console(&f->rt, page, sizeof(page));
	assert_int_equal(fstat(f->rt.boot_fd, &st), 0);
	assert_true(st.st_size > 0 && st.st_size <= RUNTIME_BOOT_LOG_MAX);
	close(f->rt.boot_fd);
	f->rt.boot_fd = -1;
}

/* R: what the helper made in the run directory goes with it. */
static void test_run_dir_goes(void **state)
{
	struct fix *f = *state;
	CLEANUP_FREE char *dir = xasprintf("%s/x.d", f->dir), *sock = xasprintf("%s/sock", dir);

	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(mkdir(sock, 0700), 0);
	f->rt.run_dir = dir;
	assert_int_equal(run_dir_remove(&f->rt, NULL), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(run_dir_remove(&f->rt, NULL), 0);
	f->rt.run_dir = NULL;
}

/* ---- health checks ---- */

/* Waits for the next check's start and answers it; its end follows when code is not negative. */
static void check(struct fix *f, int code)
{
	struct json_object *o = NULL;
	char id[32];

	for (int i = 0; i < 500 && !o; i++) {
		assert_int_equal(loop_turn(f->rt.loop, 10, NULL), 0);
		o = hear(f->guest);
	}
	assert_non_null(o);
	assert_string_equal(json_str(o, "method", ""), "process.start");
	snprintf(id, sizeof(id), "%s", json_str(json_obj(o, "params"), "id", ""));
	assert_true(str_prefix(id, "health-"));
	say(f->guest, "{\"id\":%lld,\"result\":{}}", (long long)json_int(o, "id", 0));
	if (code >= 0)
		say(f->guest, "{\"event\":\"exited\",\"params\":{\"process\":\"%s\",\"code\":%d}}",
		    id, code);
	json_object_put(o);
	turns(f);
}

static void assert_health(struct fix *f, const char *status, int64_t streak, size_t kept)
{
	CLEANUP_JSON struct json_object *o = runtime_health_json(&f->rt);

	assert_string_equal(json_str(o, "status", ""), status);
	assert_int_equal(json_int(o, "failingStreak", -1), streak);
	assert_int_equal(json_object_array_length(json_arr(o, "log")), kept);
}

static void health_config(struct fix *f, const char *check)
{
	CLEANUP_FREE char *text = xasprintf("{\"initProcess\": {}, \"healthcheck\": %s}", check);

	f->rt.config = json_parse(text, strlen(text), NULL);
	assert_non_null(f->rt.config);
	bring_up(f);
}

/* The state follows the exit codes; five results are kept; who watches is told at once and of each. */
static void test_health(void **state)
{
	struct fix *f = *state;
	struct json_object *o;

	health_config(f, "{\"test\": [\"CMD\", \"x\"], \"interval\": 1000000, \"retries\": 2}");
	say(f->client, "{\"id\":1,\"method\":\"runtime.watch\"}");
	turns(f);
	o = hear(f->client);
	assert_string_equal(json_str(json_obj(o, "event"), "status", ""), "starting");
	json_object_put(o);
	check(f, 1);
	assert_health(f, "starting", 1, 1);
	check(f, 1);
	assert_health(f, "unhealthy", 2, 2);
	check(f, 0);
	assert_health(f, "healthy", 0, 3);
	for (int i = 0; i < 4; i++)
		check(f, 1);
	assert_health(f, "unhealthy", 4, RUNTIME_HEALTH_LOG);
	assert_int_equal(hear_all(f->client, "event"), 7);
	assert_true(f->rt.nprocs <= 2); /* what is over is forgotten */
}

/* In the start period failures do not count, until there was a success. */
static void test_health_start_period(void **state)
{
	struct fix *f = *state;

	health_config(f,
		      "{\"test\": [\"CMD-SHELL\", \"x\"], \"interval\": 1000000, \"retries\": 1, "
		      "\"startPeriod\": 3600000000000, \"startInterval\": 1000000}");
	check(f, 1);
	check(f, 1);
	assert_health(f, "starting", 0, 2);
	check(f, 0);
	assert_health(f, "healthy", 0, 3);
	check(f, 1);
	assert_health(f, "unhealthy", 1, 4);
}

/* G: a guest whose checks never end is unhealthy, and asked no more than once at a time. */
static void test_health_hangs(void **state)
{
	struct fix *f = *state;
	unsigned started = 1, ended = 0;

	health_config(f,
		      "{\"test\": [\"CMD\", \"x\"], \"interval\": 1000000, \"timeout\": 20000000, "
		      "\"retries\": 2}");
	check(f, -1);
	for (int i = 0; i < 300 && f->rt.nprocs == 2; i++) {
		CLEANUP_JSON struct json_object *h = runtime_health_json(&f->rt), *o = NULL;

		assert_int_equal(loop_turn(f->rt.loop, 10, NULL), 0);
		o = hear(f->guest);
		started += str_eq(json_str(o, "method", NULL), "process.start");
		ended += str_eq(json_str(o, "method", NULL), "process.end");
		if (json_int(h, "failingStreak", 0) >= 3)
			break;
	}
	assert_int_equal(started, 1);
	assert_true(ended >= 2);
	assert_int_equal(f->rt.nprocs, 2);
	{
		CLEANUP_JSON struct json_object *h = runtime_health_json(&f->rt);

		assert_string_equal(json_str(h, "status", ""), "unhealthy");
	}
}

/* ---- what the apiserver hands over ---- */

static size_t open_fds(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static struct rpc_fds some_fds(size_t n, const char *path)
{
	struct rpc_fds fds = {.fd = xcalloc(n + 1, sizeof(int)), .n = n};

	for (size_t i = 0; i < n; i++)
		fds.fd[i] = open(path, O_RDONLY | O_CLOEXEC);
	return fds;
}

/* Closes what was taken and what was not: no descriptor is in both. */
static void let_go(struct fix *f, struct rpc_fds *fds)
{
	while (f->rt.nfds)
		assert_int_equal(close(f->rt.fds[--f->rt.nfds]), 0);
	for (size_t i = 0; i < fds->n; i++)
		assert_true(fds->fd[i] < 0 || !close(fds->fd[i]));
	free(fds->fd);
}

/* I: descriptors of a start that are fewer, more or others than its numbers say. */
static void test_start_descriptors(void **state)
{
	static const struct {
		const char *queues;
		size_t said, sent;
		bool good;
	} taps[] = {
		{"[1,1]", 2, 2, true},
		{"[2,3]", 5, 9, true}, /* the rest are the root's and the streams' */
		{"[1,1]", 2, 1, false},
		{"[1,1]", 3, 3, false},
		{"[2]", 1, 1, false},
		{"[0]", 1, 1, false},
		{"[-1]", 1, 1, false},
		{"[9]", 9, 9, false},
		{"[9223372036854775807]", 2, 2, false},
		{"[\"x\", null]", 2, 2, false},
		{"{}", 3, 3, false},
	};
	static const char *const streams[] = {"[\"stdin\",\"stdin\"]", "[\"tty\"]", "[null]", "[1]",
					      "[\"stdin\",\"stdout\",\"stderr\"]"};
	static const struct {
		const char *params;
		size_t sent, held;
		bool good;
	} kept[] = {
		{"{}", 2, 0, true},
		{"{\"nkeep\": 0}", 2, 0, true},
		{"{\"nkeep\": 1}", 2, 1, true},
		{"{\"nkeep\": 1}", 0, 0, false},
		{"{\"nkeep\": 3}", 2, 0, false},
		{"{\"nkeep\": -1}", 2, 0, false},
		{"{\"nkeep\": 9}", 9, 0, false},
		{"{\"nkeep\": \"1\"}", 2, 0, false},
	};
	static const char networks[] =
		"[{\"macAddress\":\"f2:00:00:00:00:01\",\"ipv4Address\":\"10.0.0.2/24\"},"
		"{\"macAddress\":\"f2:00:00:00:00:02\",\"ipv4Address\":\"10.0.0.3/24\"}]";
	struct fix *f = *state;
	size_t before, i, n;

	f->rt.networks = json_parse(networks, strlen(networks), NULL);
	before = open_fds();
	for (i = 0; i < ARRAY_SIZE(taps); i++) {
		CLEANUP_JSON struct json_object *q =
			json_parse(taps[i].queues, strlen(taps[i].queues), NULL);
		struct rpc_fds fds = some_fds(taps[i].sent, "/dev/null");
		struct vm_nic nics[MAX_NICS];

		assert_int_equal(take_nics(&f->rt,
					   json_object_is_type(q, json_type_array) ? q : NULL, &fds,
					   taps[i].said, nics, &n, NULL),
				 taps[i].good ? 0 : -1);
		assert_int_equal(f->rt.nfds, taps[i].good ? taps[i].said : f->rt.nfds);
		let_go(f, &fds);
	}
	for (i = 0; i < 3; i++) { /* all there; one short; none of them a file */
		struct rpc_fds fds = some_fds(5, i == 2 ? "/dev/null" : "/proc/self/exe");
		struct vm_segment segs[8];

		n = 0;
		assert_int_equal(take_segments(&f->rt, &fds, 2, i == 1 ? 4 : 3, segs, &n, NULL),
				 i == 0 ? 0 : -1);
		let_go(f, &fds);
	}
	for (i = 0; i < ARRAY_SIZE(streams); i++) {
		CLEANUP_JSON struct json_object *s =
			json_parse(streams[i], strlen(streams[i]), NULL);
		struct rpc_fds fds = some_fds(4, "/dev/null");
		struct rt_process *p = runtime_process_new(&f->rt, "hostile", false, NULL);

		assert_non_null(p);
		assert_int_equal(runtime_streams_open(p, s, &fds, i % 2 ? SIZE_MAX : 2, false,
						      NULL),
				 -1);
		runtime_process_remove(p);
		let_go(f, &fds);
	}
	for (i = 0; i < ARRAY_SIZE(kept); i++) {
		CLEANUP_JSON struct json_object *p =
			json_parse(kept[i].params, strlen(kept[i].params), NULL);
		struct rpc_fds fds = some_fds(kept[i].sent, "/dev/null");
		size_t held = f->rt.nfds;

		assert_int_equal(take_kept(&f->rt, p, &fds, NULL), kept[i].good ? 0 : -1);
		assert_int_equal(f->rt.nfds - held, kept[i].held);
		let_go(f, &fds);
	}
	assert_int_equal(open_fds(), before);
	json_object_put(STEAL(f->rt.networks));
	free(STEAL(f->rt.fds));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exit_before_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wait_for_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fails_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dials_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_relays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_publish, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_log_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_oom_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_client_hangs_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_console_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_run_dir_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_health, setup, teardown),
		cmocka_unit_test_setup_teardown(test_health_start_period, setup, teardown),
		cmocka_unit_test_setup_teardown(test_health_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_descriptors, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
