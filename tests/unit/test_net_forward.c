// links: net core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_net_forward.c - published ports: what may be said of them, their sockets, and the forwarder between two ends on loopback, which
 * this program plays both. Everything is one thread: the forwarder works when its loop is turned.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/filter.h"
#include "core/str.h"
#include "net/forward_int.h"

#define WAIT_US 20000000ull /* for what must come: measures nothing */

/* ---- what is under test, and its two ends ---- */

struct fixture {
	struct loop *l;
	struct net_forward *f;
	struct sockaddr_storage front; /* the published port */
	socklen_t front_len;
	int guest; /* listens, or is UDP's */
};

static void ok(int r, struct error *e)
{
	if (r < 0)
		fail_msg("%s", e ? error_text(e) : strerror(errno));
}

static int local(int type, struct sockaddr_in *a)
{
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*a);

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	ok(bind(fd, (struct sockaddr *)a, len), NULL);
	ok(getsockname(fd, (struct sockaddr *)a, &len), NULL);
	return fd;
}

static struct net_forward_cfg usual(void)
{
	return (struct net_forward_cfg){.guest.s_addr = htonl(INADDR_LOOPBACK),
					.max_conns = NET_FORWARD_CONNS,
					.held_many = NET_FORWARD_HELD,
					.max_peers = NET_FORWARD_PEERS,
					.connect_ms = NET_FORWARD_CONNECT_MS,
					.idle_ms = NET_FORWARD_IDLE_MS};
}

/* backlog < 0: nobody listens at the guest's port. */
static void open_fixture(struct fixture *x, const char *json, struct net_forward_cfg cfg,
			 int backlog)
{
	CLEANUP_JSON struct json_object *arr = json_parse(json, strlen(json), NULL);
	CLEANUP_FREE struct net_publish *p = NULL;
	struct sockaddr_in guest;
	struct error *e = NULL;
	size_t n = 0;
	int fd;

	*x = (struct fixture){.front_len = sizeof(x->front)};
	ok(net_publish_read(arr, &p, &n, &e), e);
	p->host_port = 0; /* whichever is free */
	x->l = loop_new(&e);
	x->f = net_forward_new(x->l, &cfg);
	x->guest = local(p->udp ? SOCK_DGRAM : SOCK_STREAM, &guest);
	if (!p->udp && backlog >= 0)
		ok(listen(x->guest, backlog), NULL);
	fd = net_publish_bind(p, 0, &e);
	ok(fd, e);
	ok(getsockname(fd, (struct sockaddr *)&x->front, &x->front_len), NULL);
	ok(net_forward_add(x->f, fd, p->udp, ntohs(guest.sin_port), &e), e);
}

#define TCP "[{\"hostPort\": 1, \"containerPort\": 1}]"
#define UDP "[{\"hostPort\": 1, \"containerPort\": 1, \"proto\": \"udp\"}]"

static void close_fixture(struct fixture *x)
{
	net_forward_free(x->f);
	loop_free(x->l);
	close(x->guest);
}

static void turn(struct fixture *x)
{
	ok(loop_turn(x->l, 1, NULL), NULL);
}

/* Turns until the condition holds. */
#define UNTIL(x, condition)                                         \
	do {                                                        \
		uint64_t end_ = time_mono_us() + WAIT_US;           \
		while (!(condition)) {                              \
			turn(x);                                    \
			if (time_mono_us() > end_)                  \
				fail_msg("waited for " #condition); \
		}                                                   \
	} while (0)

static int dial(struct fixture *x)
{
	int fd = socket(x->front.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&x->front, x->front_len) && errno != EINPROGRESS)
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

static int answer_call(struct fixture *x)
{
	int fd;

	UNTIL(x, (fd = accept4(x->guest, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	return fd;
}

static void say(struct fixture *x, int fd, const char *text)
{
	size_t len = strlen(text);

	UNTIL(x, send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static void hear(struct fixture *x, int fd, const char *text)
{
	char got[64];
	ssize_t n;

	UNTIL(x, (n = recv(fd, got, sizeof(got) - 1, 0)) >= 0);
	got[n] = 0;
	assert_string_equal(got, text);
}

static unsigned conns(struct fixture *x)
{
	unsigned c, p;

	net_forward_count(x->f, &c, &p);
	return c;
}

static unsigned peers(struct fixture *x)
{
	unsigned c, p;

	net_forward_count(x->f, &c, &p);
	return p;
}

/* The error that reading ends with. */
static int end_of(struct fixture *x, int fd)
{
	char c;
	ssize_t n;

	UNTIL(x, (n = recv(fd, &c, 1, 0)) >= 0 || errno != EAGAIN);
	return n < 0 ? errno : 0;
}

/* ---- TCP ---- */

static void halves(const char *json)
{
	struct fixture x;
	int client, guest;

	open_fixture(&x, json, usual(), 8);
	client = dial(&x);
	guest = answer_call(&x);
	say(&x, client, "question");
	hear(&x, guest, "question");
	shutdown(client, SHUT_WR);
	hear(&x, guest, "");
	assert_int_equal(conns(&x), 1);
	say(&x, guest, "answer");
	hear(&x, client, "answer");
	close(guest);
	hear(&x, client, "");
	UNTIL(&x, !conns(&x));
	close(client);

	/* The other way round: the guest has no more to say, and listens. */
	client = dial(&x);
	guest = answer_call(&x);
	say(&x, guest, "banner");
	shutdown(guest, SHUT_WR);
	hear(&x, client, "banner");
	hear(&x, client, "");
	say(&x, client, "late");
	hear(&x, guest, "late");
	close(client);
	hear(&x, guest, "");
	UNTIL(&x, !conns(&x));
	close(guest);
	close_fixture(&x);
}

static void test_D_halves(void **state)
{
	halves(TCP);
}

static bool have_v6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	CLEANUP_CLOSE int fd = socket(AF_INET6, SOCK_STREAM, 0);

	return fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof(a));
}

static void test_v6(void **state)
{
	if (!have_v6()) {
		print_message("no IPv6 loopback here\n");
		skip();
	}
	halves("[{\"hostAddress\": \"::1\", \"hostPort\": 1, \"containerPort\": 1}]");
}

static void test_D_refused(void **state)
{
	struct fixture x;
	int client;

	open_fixture(&x, TCP, usual(), -1);
	client = dial(&x);
	assert_int_equal(end_of(&x, client), ECONNRESET);
	assert_int_equal(conns(&x), 0);
	close(client);
	close_fixture(&x);
}

/* A reset goes on as a reset, in both directions. */
static void test_D_reset(void **state)
{
	struct linger now = {.l_onoff = 1};
	struct fixture x;
	int client, guest, i;

	open_fixture(&x, TCP, usual(), 8);
	for (i = 0; i < 2; i++) {
		client = dial(&x);
		guest = answer_call(&x);
		say(&x, client, "x");
		hear(&x, guest, "x");
		setsockopt(i ? guest : client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(i ? guest : client);
		assert_int_equal(end_of(&x, i ? client : guest), ECONNRESET);
		UNTIL(&x, !conns(&x));
		close(i ? client : guest);
	}
	close_fixture(&x);
}

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

/* Sends until nobody takes any more; the number of bytes. */
static size_t flood(struct fixture *x, int fd)
{
	static uint8_t chunk[1 << 16];
	uint64_t quiet = time_mono_us();
	size_t total = 0;

	while (time_mono_us() - quiet < 100000) {
		ssize_t n;

		for (size_t i = 0; i < sizeof(chunk); i++)
			chunk[i] = byte_at(total + i);
		n = send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL);
		turn(x);
		if (n > 0) {
			total += (size_t)n;
			quiet = time_mono_us();
		}
		assert_true(total < 1u << 30);
	}
	return total;
}

static void drain(struct fixture *x, int fd, size_t total)
{
	static uint8_t chunk[1 << 16];
	size_t at = 0;

	while (at < total) {
		ssize_t n;

		UNTIL(x, (n = recv(fd, chunk, sizeof(chunk), 0)) > 0);
		for (ssize_t i = 0; i < n; i++)
			if (chunk[i] != byte_at(at + (size_t)i))
				fail_msg("byte %zu is wrong", at + (size_t)i);
		at += (size_t)n;
	}
	assert_int_equal(at, total);
}

#define STALLED 12

/* Readers that do not read: what is held for them is bounded, nobody else waits for them, and no byte is lost. */
static void test_D_slow_readers(void **state)
{
	struct net_forward_cfg cfg = usual();
	int client[STALLED], guest[STALLED], other, its, i;
	size_t sent[STALLED], full = 0;
	struct fixture x;

	cfg.held_many = 1 << 10;
	open_fixture(&x, TCP, cfg, STALLED);
	for (i = 0; i < STALLED; i++) {
		client[i] = dial(&x);
		guest[i] = answer_call(&x);
		sent[i] = flood(&x, i % 2 ? guest[i] : client[i]);
		full = MAX(full, net_forward_held(x.f));
	}
	assert_true(full > 0);
	assert_true(full <= cfg.held_many + FORWARD_CHUNK + STALLED * 4096);
	other = dial(&x);
	its = answer_call(&x);
	say(&x, other, "quick");
	hear(&x, its, "quick");
	for (i = 0; i < STALLED; i++)
		drain(&x, i % 2 ? client[i] : guest[i], sent[i]);
	assert_int_equal(net_forward_held(x.f), 0);
	for (i = 0; i < STALLED; i++) {
		close(client[i]);
		close(guest[i]);
	}
	close(other);
	close(its);
	UNTIL(&x, !conns(&x));
	close_fixture(&x);
}

/* How often the forwarder wakes in 100 ms in which nothing happens; a turn waits for a millisecond. */
static int restless(struct fixture *x)
{
	uint64_t until = time_mono_us() + 100000;
	int turns = 0;

	while (time_mono_us() < until) {
		turn(x);
		turns++;
	}
	return turns;
}

/* One that ends while its last bytes are on the way: they arrive, then the end; and nothing spins meanwhile, wherever the end
 * itself waits: with the client, which could not send all, or with the forwarder, which does not read on. */
static void end_behind_bytes(bool all_sent)
{
	static uint8_t chunk[1 << 16];
	struct fixture x;
	int client, guest;
	size_t sent = 0;

	open_fixture(&x, TCP, usual(), 8);
	client = dial(&x);
	guest = answer_call(&x);
	shutdown(guest, SHUT_WR);
	hear(&x, client, "");
	if (!all_sent)
		sent = flood(&x, client);
	for (bool last = false; all_sent && !last;) {
		last = net_forward_held(x.f) > 0;
		for (size_t i = 0; i < sizeof(chunk); i++)
			chunk[i] = byte_at(sent + i);
		UNTIL(&x, send(client, chunk, sizeof(chunk), MSG_NOSIGNAL) == sizeof(chunk));
		sent += sizeof(chunk);
		for (int i = 0; i < 5; i++)
			turn(&x);
	}
	shutdown(client, SHUT_WR);
	turn(&x);
	assert_true(restless(&x) <= 110);
	drain(&x, guest, sent);
	hear(&x, guest, "");
	UNTIL(&x, !conns(&x));
	close(client);
	close(guest);
	close_fixture(&x);
}

static void test_D_end_behind_bytes(void **state)
{
	end_behind_bytes(false);
	end_behind_bytes(true);
}

#define MANY  1000
#define BOUND 800

/* Beyond the bound nothing is accepted, and all are served in the end. */
static void test_D_thousand(void **state)
{
	static int client[MANY], guest[MANY];
	struct net_forward_cfg cfg = usual();
	struct rlimit r;
	struct fixture x;
	char text[16];
	int i;

	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_cur < 4 * MANY + 100) {
		print_message("only %lu descriptors\n", (unsigned long)r.rlim_cur);
		skip();
	}
	cfg.max_conns = BOUND;
	open_fixture(&x, TCP, cfg, MANY);
	for (i = 0; i < MANY; i++) {
		client[i] = dial(&x);
		turn(&x);
		snprintf(text, sizeof(text), "%d", i);
		say(&x, client[i], text);
		if (i < BOUND)
			guest[i] = answer_call(&x);
	}
	for (i = 0; i < 50; i++)
		turn(&x);
	assert_int_equal(conns(&x), BOUND);
	assert_int_equal(accept(x.guest, NULL, NULL), -1);
	for (i = 0; i < MANY; i++) {
		if (i >= BOUND)
			guest[i] = answer_call(&x);
		snprintf(text, sizeof(text), "%d", i);
		hear(&x, guest[i], text);
		say(&x, guest[i], text);
		hear(&x, client[i], text);
		close(client[i]);
		close(guest[i]);
	}
	UNTIL(&x, !conns(&x));
	close_fixture(&x);
}

/* A guest that does not answer: its queue is full. */
static void test_D_late(void **state)
{
	struct net_forward_cfg cfg = usual();
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	struct fixture x;
	int fill[8], client, i;
	uint64_t t;

	cfg.connect_ms = 300;
	open_fixture(&x, TCP, cfg, 0);
	ok(getsockname(x.guest, (struct sockaddr *)&a, &len), NULL);
	for (i = 0; i < 8; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fill[i], (struct sockaddr *)&a, len);
	}
	t = time_mono_us();
	client = dial(&x);
	UNTIL(&x, conns(&x) == 1);
	assert_int_equal(end_of(&x, client), ECONNRESET);
	assert_true(time_mono_us() - t >= 290000);
	assert_int_equal(conns(&x), 0);
	for (i = 0; i < 8; i++)
		close(fill[i]);
	close(client);
	close_fixture(&x);
}

/* ---- UDP ---- */

static int peer(struct fixture *x, in_addr_t to)
{
	struct sockaddr_in a = *(struct sockaddr_in *)&x->front;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(to);
	ok(connect(fd, (struct sockaddr *)&a, sizeof(a)), NULL);
	return fd;
}

/* The guest hears text; where from. */
static struct sockaddr_in heard(struct fixture *x, const char *text)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char got[64];
	ssize_t n;

	UNTIL(x, (n = recvfrom(x->guest, got, sizeof(got) - 1, 0, (struct sockaddr *)&from,
			       &len)) >= 0);
	got[n] = 0;
	assert_string_equal(got, text);
	return from;
}

static void reply(struct fixture *x, const struct sockaddr_in *to, const char *text)
{
	ok((int)sendto(x->guest, text, strlen(text), 0, (const struct sockaddr *)to, sizeof(*to)),
	   NULL);
}

/* Each hears its own answer, and from the address it wrote to: a connected socket takes no other. */
static void test_udp(void **state)
{
	struct sockaddr_in from[2];
	struct fixture x;
	int fd[2];

	open_fixture(&x, UDP, usual(), 0);
	fd[0] = peer(&x, INADDR_LOOPBACK);
	fd[1] = peer(&x, INADDR_LOOPBACK + 1);
	say(&x, fd[0], "one");
	from[0] = heard(&x, "one");
	say(&x, fd[1], "two");
	from[1] = heard(&x, "two");
	reply(&x, &from[1], "to two");
	reply(&x, &from[0], "to one");
	hear(&x, fd[0], "to one");
	hear(&x, fd[1], "to two");
	say(&x, fd[0], "again");
	assert_int_equal(heard(&x, "again").sin_port, from[0].sin_port);
	assert_int_equal(peers(&x), 2);
	close(fd[0]);
	close(fd[1]);
	close_fixture(&x);
}

/* The one that was silent longest goes; after a while all do. */
static void test_D_udp_bound(void **state)
{
	struct net_forward_cfg cfg = usual();
	struct sockaddr_in from[5];
	struct fixture x;
	int fd[5], i;
	char c;

	cfg.max_peers = 4;
	cfg.idle_ms = 300;
	open_fixture(&x, UDP, cfg, 0);
	for (i = 0; i < 4; i++) {
		fd[i] = peer(&x, INADDR_LOOPBACK);
		say(&x, fd[i], "hello");
		from[i] = heard(&x, "hello");
	}
	say(&x, fd[0], "still here");
	heard(&x, "still here");
	fd[4] = peer(&x, INADDR_LOOPBACK);
	say(&x, fd[4], "new");
	from[4] = heard(&x, "new");
	assert_int_equal(peers(&x), 4);
	reply(&x, &from[1], "forgotten");
	for (i = 0; i < 5; i++)
		if (i != 1)
			reply(&x, &from[i], "known");
	for (i = 0; i < 5; i++)
		if (i != 1)
			hear(&x, fd[i], "known");
	assert_int_equal(recv(fd[1], &c, 1, 0), -1);
	UNTIL(&x, !peers(&x));
	say(&x, fd[0], "back");
	heard(&x, "back");
	assert_int_equal(peers(&x), 1);
	for (i = 0; i < 5; i++)
		close(fd[i]);
	close_fixture(&x);
}

/* Nobody listens at the guest's port: that is said on the socket, which serves on. */
static void test_udp_refused(void **state)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	struct fixture x;
	int fd, i;

	open_fixture(&x, UDP, usual(), 0);
	fd = peer(&x, INADDR_LOOPBACK);
	ok(getsockname(x.guest, (struct sockaddr *)&a, &len), NULL);
	close(x.guest);
	say(&x, fd, "anybody?");
	for (i = 0; i < 20; i++)
		turn(&x);
	x.guest = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	ok(bind(x.guest, (struct sockaddr *)&a, len), NULL);
	say(&x, fd, "now?");
	heard(&x, "now?");
	assert_int_equal(peers(&x), 1);
	close(fd);
	close_fixture(&x);
}

static void test_udp_v6(void **state)
{
	struct sockaddr_in from;
	struct fixture x;
	int fd;

	if (!have_v6()) {
		print_message("no IPv6 loopback here\n");
		skip();
	}
	open_fixture(&x,
		     "[{\"hostAddress\": \"::\", \"hostPort\": 1, \"containerPort\": 1, \"proto\": "
		     "\"udp\"}]",
		     usual(), 0);
	((struct sockaddr_in6 *)&x.front)->sin6_addr = in6addr_loopback;
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	ok(connect(fd, (struct sockaddr *)&x.front, x.front_len), NULL);
	say(&x, fd, "six");
	from = heard(&x, "six");
	reply(&x, &from, "four");
	hear(&x, fd, "four");
	close(fd);
	close_fixture(&x);
}

/* ---- what may be published ---- */

static char *read_complaint(const char *json)
{
	CLEANUP_JSON struct json_object *arr = json_parse(json, strlen(json), NULL);
	CLEANUP_FREE struct net_publish *p = NULL;
	CLEANUP_ERROR struct error *e = NULL;
	size_t n;

	assert_non_null(arr);
	return net_publish_read(arr, &p, &n, &e) < 0 ? error_text(e) : NULL;
}

#define ONE(rest) "{\"hostPort\": 80, \"containerPort\": 80" rest "}"

static void test_D_read(void **state)
{
	static const char *const good[] = {
		"[]",
		"[" ONE("") "]",
		"[{\"hostPort\": 1, \"containerPort\": 65535}]",
		"[{\"hostPort\": 60000, \"containerPort\": 1, \"count\": 4096}]",
		"[" ONE(", \"hostAddress\": \"127.0.0.1\"") "," ONE(
			", \"hostAddress\": \"127.0.0.2\"") "]",
		"[" ONE(", \"proto\": \"udp\"") "," ONE("") "," ONE(
			", \"hostAddress\": \"::\"") "]",
	};
	static const struct {
		const char *json, *says;
	} bad[] = {
		{"{}", "must be an array"},
		{"[1]", "hostPort"},
		{"[{\"hostPort\": 80}]", "containerPort"},
		{"[{\"hostPort\": 0, \"containerPort\": 80}]", "hostPort"},
		{"[{\"hostPort\": 65536, \"containerPort\": 80}]", "hostPort"},
		{"[{\"hostPort\": 80, \"containerPort\": -1}]", "containerPort"},
		{"[" ONE(", \"count\": 0") "]", "count"},
		{"[" ONE(", \"count\": \"2\"") "]", "count"},
		{"[" ONE(", \"count\": 65500") "]", "beyond 65535"},
		{"[" ONE(", \"count\": 4097") "]", "at most 4096"},
		{"[" ONE(", \"proto\": \"sctp\"") "]", "invalid protocol 'sctp'"},
		{"[" ONE(", \"hostAddress\": \"localhost\"") "]",
		 "invalid host address 'localhost'"},
		{"[" ONE(", \"hostAddress\": \"::1%lo\"") "]", "invalid host address"},
		{"[" ONE("") "," ONE("") "]",
		 "host port 0.0.0.0:80/tcp is published more than once"},
		{"[" ONE("") "," ONE(", \"hostAddress\": \"127.0.0.1\"") "]", "127.0.0.1:80/tcp"},
		{"[" ONE(", \"hostAddress\": \"127.0.0.1\"") "," ONE("") "]", "0.0.0.0:80/tcp"},
		{"[" ONE(", \"count\": 10") ",{\"hostPort\": 89, \"containerPort\": 1}]",
		 ":89/tcp"},
	};
	CLEANUP_BUF struct buf b = {0};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		CLEANUP_FREE char *why = read_complaint(good[i]);

		if (why)
			fail_msg("%s: %s", good[i], why);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_FREE char *why = read_complaint(bad[i].json);

		if (!why || !strstr(why, bad[i].says))
			fail_msg("%s: %s", bad[i].json, why ? why : "taken");
	}
	for (i = 0; i <= NET_PUBLISH_SPECS; i++)
		buf_printf(&b, "%c{\"hostPort\": %zu, \"containerPort\": 1}", i ? ',' : '[', i + 1);
	buf_puts(&b, "]");
	{
		CLEANUP_FREE char *why = read_complaint(b.data);

		assert_non_null(why);
		assert_non_null(strstr(why, "at most 64"));
	}
}

/* As somebody without rights; the exit status says what the error was. */
static int bind_as_nobody(struct net_publish *p)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		CLEANUP_ERROR struct error *e = NULL;

		if (!geteuid() && setresuid(12345, 12345, 12345))
			_exit(2);
		if (net_publish_bind(p, 0, &e) >= 0)
			_exit(3);
		_exit(strstr(e->msg, "host port 80 (127.0.0.1:80/tcp)") &&
				      strstr(e->msg, "root privileges")
			      ? 0
			      : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_bind(void **state)
{
	struct net_publish p = {.addr = {127, 0, 0, 1}, .count = 1};
	CLEANUP_ERROR struct error *e = NULL;
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	CLEANUP_CLOSE int udp = -1;
	CLEANUP_CLOSE int tcp = net_publish_bind(&p, 0, NULL);
	char text[64];

	ok(getsockname(tcp, (struct sockaddr *)&a, &len), NULL);
	p.host_port = ntohs(a.sin_port);
	assert_int_equal(net_publish_bind(&p, 0, &e), -1);
	assert_int_equal(e->sys, EADDRINUSE);
	snprintf(text, sizeof(text), "publish port 127.0.0.1:%u/tcp: Address already in use",
		 p.host_port);
	assert_string_equal(e->msg, text);
	if (have_v6()) { /* IPv6's any address is not IPv4's */
		CLEANUP_CLOSE int six = -1;

		p.v6 = true;
		memset(p.addr, 0, sizeof(p.addr));
		six = net_publish_bind(&p, 0, NULL);
		assert_true(six >= 0);
		p = (struct net_publish){.addr = {127, 0, 0, 1},
					 .count = 1,
					 .host_port = p.host_port};
	}
	p.udp = true;
	udp = net_publish_bind(&p, 0, NULL);
	assert_true(udp >= 0);
	assert_int_equal(net_publish_bind(&p, 0, NULL), -1); /* not shared */
	p = (struct net_publish){.addr = {127, 0, 0, 1}, .count = 1, .host_port = 80};
	assert_int_equal(bind_as_nobody(&p), 0);
}

/* ---- the system calls of the process that forwards ---- */

static const struct {
	const char *what;
	bool allowed;
	long nr, a, b, c;
} calls[] = {
	{"socket inet", true, SYS_socket, AF_INET, SOCK_STREAM, 0},
	{"shutdown", true, SYS_shutdown, -1, SHUT_WR, 0},
	{"getsockopt SO_ERROR", true, SYS_getsockopt, -1, SOL_SOCKET, SO_ERROR},
	{"socket unix", false, SYS_socket, AF_UNIX, SOCK_STREAM, 0},
	{"socket inet6", false, SYS_socket, AF_INET6, SOCK_STREAM, 0},
	{"socket packet", false, SYS_socket, AF_PACKET, SOCK_RAW, 0},
	{"socket netlink", false, SYS_socket, AF_NETLINK, SOCK_RAW, 0},
	{"bind", false, SYS_bind, -1, 0, 0},
	{"listen", false, SYS_listen, -1, 0, 0},
	{"setsockopt SO_MARK", false, SYS_setsockopt, -1, SOL_SOCKET, SO_MARK},
	{"openat", false, SYS_openat, AT_FDCWD, (long)"/etc/passwd", 0},
	{"execve", false, SYS_execve, (long)"/bin/sh", 0, 0},
	{"clone", false, SYS_clone, 0, 0, 0},
	{"kill", false, SYS_kill, 1, SIGTERM, 0},
	{"ptrace", false, SYS_ptrace, 0, 0, 0},
	{"mprotect", false, SYS_mprotect, 0, 0, 4},
	{"mmap exec", false, SYS_mmap, 0, 4096, 7},
	{"ioctl", false, SYS_ioctl, 0, 0x5412, 0},
	{"io_uring_setup", false, SYS_io_uring_setup, 1, 0, 0},
};

static void confined_call(size_t i)
{
	struct filter f;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || filter_build(FILTER_FORWARD, &f, NULL) < 0 ||
	    filter_install(&f))
		_exit(99);
	syscall(calls[i].nr, calls[i].a, calls[i].b, calls[i].c, 0, 0, 0);
	syscall(SYS_exit_group, 0);
}

static void test_D_filter(void **state)
{
	if (SANITIZED) {
		print_message("a sanitizer needs calls of its own\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int status;
		pid_t pid = fork();

		if (!pid)
			confined_call(i);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (calls[i].allowed ? status != 0
				     : !WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: status %#x", calls[i].what, (unsigned)status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_D_read),
		cmocka_unit_test(test_bind),
		cmocka_unit_test(test_D_halves),
		cmocka_unit_test(test_v6),
		cmocka_unit_test(test_D_refused),
		cmocka_unit_test(test_D_reset),
		cmocka_unit_test(test_D_slow_readers),
		cmocka_unit_test(test_D_end_behind_bytes),
		cmocka_unit_test(test_D_thousand),
		cmocka_unit_test(test_D_late),
		cmocka_unit_test(test_udp),
		cmocka_unit_test(test_D_udp_bound),
		cmocka_unit_test(test_udp_refused),
		cmocka_unit_test(test_udp_v6),
		cmocka_unit_test(test_D_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
