// SPDX-License-Identifier: Apache-2.0
/*
 * sock.c - both ends of a Unix socket, for either side of a machine's border. Static, so that it runs in any container.
 *
 *   sock serve PATH LABEL [MODE [BACKLOG]]  serves, a process for each client, by the first line that one sends:
 *                                           who: LABEL · sum: reads to the end, says count and hash · gen N: sends N bytes · echo
 *   sock who PATH           prints what the server says               sock sum|gen|echo PATH BYTES   moves that much, checks it, prints "ok"
 *   sock many PATH N BYTES  N clients that are all connected at once, each an echo of BYTES; prints "N ok"
 *   sock raw PATH           sends standard input, prints what comes until the end or, after the first bytes, nothing for half a second
 *   sock hold PATH          asks for 64 MiB and does not read them; prints "held", waits to be killed
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE    65536
#define HELD     (64ull << 20)
#define MAX_MANY 512

static void fail(const char *what)
{
	fprintf(stderr, "sock: %s: %s\n", what, errno ? strerror(errno) : "wrong");
	exit(1);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)((at * 2654435761u) >> 13 ^ at);
}

static uint64_t hash(uint64_t h, const uint8_t *p, size_t n)
{
	while (n--)
		h = (h ^ *p++) * 1099511628211ull;
	return h;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		fail(path);
	}
	strcpy(sa.sun_path, path);
	return sa;
}

static void put(int fd, const void *p, size_t n)
{
	for (const uint8_t *q = p; n;) {
		ssize_t w = send(fd, q, n, MSG_NOSIGNAL);

		if (w <= 0)
			fail("send");
		q += w;
		n -= (size_t)w;
	}
}

static void generate(int fd, uint64_t n)
{
	uint8_t b[PIECE];

	for (uint64_t at = 0; at < n;) {
		size_t k = n - at < PIECE ? (size_t)(n - at) : PIECE;

		for (size_t i = 0; i < k; i++)
			b[i] = pattern(at + i);
		put(fd, b, k);
		at += k;
	}
}

/* ---- the server ---- */

static void echo(int fd)
{
	uint8_t b[PIECE];
	ssize_t n;

	while ((n = read(fd, b, sizeof(b))) > 0)
		put(fd, b, (size_t)n);
}

static void sum(int fd)
{
	uint8_t b[PIECE];
	uint64_t h = 1, total = 0;
	char text[64];
	ssize_t n;

	while ((n = read(fd, b, sizeof(b))) > 0) {
		h = hash(h, b, (size_t)n);
		total += (uint64_t)n;
	}
	put(fd, text,
	    (size_t)snprintf(text, sizeof(text), "%llu %016llx", (unsigned long long)total,
			     (unsigned long long)h));
}

static void serve_one(int fd, const char *label)
{
	char line[64];
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(fd, &line[n], 1) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
	if (!strcmp(line, "who"))
		put(fd, label, strlen(label));
	else if (!strcmp(line, "echo"))
		echo(fd);
	else if (!strcmp(line, "sum"))
		sum(fd);
	else if (!strncmp(line, "gen ", 4))
		generate(fd, strtoull(line + 4, NULL, 10));
	_exit(0);
}

static void serve(const char *path, const char *label, mode_t mode, int backlog)
{
	struct sockaddr_un sa = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), c;

	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || chmod(path, mode) ||
	    listen(fd, backlog))
		fail(path);
	signal(SIGCHLD, SIG_IGN);
	puts("serving");
	fflush(stdout);
	for (;;) {
		c = accept(fd, NULL, NULL);
		if (c < 0)
			continue;
		if (!fork()) {
			close(fd);
			serve_one(c, label);
		}
		close(c);
	}
}

/* ---- clients ---- */

static int dial(const char *path, const char *command)
{
	struct sockaddr_un sa = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		fail(path);
	put(fd, command, strlen(command));
	return fd;
}

static void take(int fd, uint64_t n)
{
	uint8_t b[PIECE];
	uint64_t at = 0;
	ssize_t k;

	while ((k = read(fd, b, sizeof(b))) > 0)
		for (ssize_t i = 0; i < k; i++, at++)
			if (b[i] != pattern(at)) {
				errno = 0;
				fail("a byte");
			}
	errno = 0;
	if (k < 0 || at != n)
		fail("length");
}

static void client_sum(const char *path, uint64_t n)
{
	int fd = dial(path, "sum\n");
	char want[64], got[64] = "";
	uint8_t b[PIECE];
	uint64_t h = 1;
	size_t len = 0;
	ssize_t k;

	for (uint64_t at = 0; at < n;) {
		size_t m = n - at < PIECE ? (size_t)(n - at) : PIECE;

		for (size_t i = 0; i < m; i++)
			b[i] = pattern(at + i);
		h = hash(h, b, m);
		at += m;
	}
	snprintf(want, sizeof(want), "%llu %016llx", (unsigned long long)n, (unsigned long long)h);
	generate(fd, n);
	shutdown(fd, SHUT_WR);
	while (len < sizeof(got) - 1 && (k = read(fd, got + len, sizeof(got) - 1 - len)) > 0)
		len += (size_t)k;
	errno = 0;
	if (strcmp(got, want))
		fail(got);
}

static void client_echo(const char *path, uint64_t n)
{
	int fd = dial(path, "echo\n");

	if (!fork()) {
		generate(fd, n);
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	take(fd, n);
}

static void many(const char *path, int n, uint64_t bytes)
{
	int fd[MAX_MANY];

	if (n < 1 || n > MAX_MANY)
		fail("number");
	for (int i = 0; i < n; i++)
		fd[i] = dial(path, "echo\n");
	for (int i = n - 1; i >= 0; i--) {
		generate(fd[i], bytes);
		shutdown(fd[i], SHUT_WR);
	}
	for (int i = 0; i < n; i++)
		take(fd[i], bytes);
}

static void who(const char *path)
{
	int fd = dial(path, "who\n");
	char b[256];
	ssize_t n;

	while ((n = read(fd, b, sizeof(b))) > 0)
		fwrite(b, 1, (size_t)n, stdout);
	if (n < 0)
		fail("read");
	putchar('\n');
}

static void raw(const char *path)
{
	struct pollfd p = {.fd = dial(path, ""), .events = POLLIN};
	char b[PIECE];
	ssize_t n;
	int ms = 20000;

	while ((n = read(STDIN_FILENO, b, sizeof(b))) > 0)
		put(p.fd, b, (size_t)n);
	for (; poll(&p, 1, ms) > 0; ms = 500) {
		n = read(p.fd, b, sizeof(b));
		if (n <= 0)
			break;
		fwrite(b, 1, (size_t)n, stdout);
	}
}

static void hold(const char *path)
{
	char line[64];

	snprintf(line, sizeof(line), "gen %llu\n", HELD);
	dial(path, line);
	puts("held");
	fflush(stdout);
	pause();
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";
	uint64_t n = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	char line[64];

	if (!strcmp(verb, "serve") && argc > 3) {
		serve(path, argv[3], argc > 4 ? (mode_t)strtoul(argv[4], NULL, 8) : 0600,
		      argc > 5 ? atoi(argv[5]) : 128);
	} else if (!strcmp(verb, "who")) {
		who(path);
		return 0;
	} else if (!strcmp(verb, "raw")) {
		raw(path);
		return 0;
	} else if (!strcmp(verb, "hold")) {
		hold(path);
	} else if (!strcmp(verb, "sum")) {
		client_sum(path, n);
	} else if (!strcmp(verb, "echo")) {
		client_echo(path, n);
	} else if (!strcmp(verb, "gen")) {
		snprintf(line, sizeof(line), "gen %llu\n", (unsigned long long)n);
		take(dial(path, line), n);
	} else if (!strcmp(verb, "many") && argc > 4) {
		many(path, (int)n, strtoull(argv[4], NULL, 0));
		printf("%d ", (int)n);
	} else {
		fprintf(stderr, "usage: sock serve|who|sum|gen|echo|many|hold PATH …\n");
		return 64;
	}
	puts("ok");
	return 0;
}
