/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netload.c - TCP streams between a guest and its host. As process 1 it is the guest: it takes the address in the
 * environment (the kernel makes words of its command line that it does not know variables: nl_ip, nl_peer), calls the
 * host and does what it is told. Otherwise it is the host:
 *
 *   netload ROUNDS SECONDS NAME=ADDRESS…    waits for those guests, then measures them in turn and prints
 *                                           "<row> <name> <Mbit/s>" for each measurement
 *   netload tsc                             prints the rate of this host's time stamp counter in kHz
 *
 * What is counted is what the host reads or writes in a window that begins when all streams are there and have run
 * for a moment.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PORT        5000
#define MAX_STREAMS 16
#define MAX_GUESTS  4
#define WARM_UP     0.4

static char buffer[256 << 10];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "netload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	if (inet_pton(AF_INET, ip, &a.sin_addr) != 1)
		die(ip);
	return a;
}

/* ---- the guest ---- */

static void load_modules(void)
{
	FILE *f = fopen("/modules.list", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		int fd;

		line[strcspn(line, "\n")] = 0;
		fd = open(line, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			fprintf(stderr, "netload: %s: %s\n", line, strerror(errno));
	}
}

static void configure(int sock, const char *name, const char *ip)
{
	struct sockaddr_in a = address(ip, 0), mask = address("255.255.255.0", 0);
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	memcpy(&r.ifr_addr, &a, sizeof(a));
	if (ioctl(sock, SIOCSIFADDR, &r))
		die("address");
	memcpy(&r.ifr_netmask, &mask, sizeof(mask));
	ioctl(sock, SIOCSIFNETMASK, &r);
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(sock, SIOCSIFFLAGS, &r))
		die("link up");
}

static int call(const char *peer, int port)
{
	struct sockaddr_in a = address(peer, port);
	int i;

	for (i = 0; i < 100; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
			return fd;
		close(fd);
		usleep(100000);
	}
	die("connect");
	return -1;
}

static void guest_stream(const char *peer, char way)
{
	int fd = call(peer, PORT + 1);

	if (way == 'T')
		while (write(fd, buffer, 128 << 10) > 0)
			;
	else
		while (read(fd, buffer, sizeof(buffer)) > 0)
			;
	_exit(0);
}

static int guest(void)
{
	const char *ip = getenv("nl_ip"), *peer = getenv("nl_peer");
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ctl;
	char cmd[2];

	signal(SIGPIPE, SIG_IGN);
	load_modules();
	if (!ip || !peer)
		die("no address on the command line");
	configure(sock, "eth0", ip);
	ctl = call(peer, PORT);
	while (read(ctl, cmd, 2) == 2) {
		for (int i = 0; i < cmd[1]; i++)
			if (!fork())
				guest_stream(peer, cmd[0]);
		while (wait(NULL) > 0)
			;
		if (write(ctl, "", 1) != 1)
			break;
	}
	return 0;
}

/* ---- the host ---- */

static int listener(int port)
{
	struct sockaddr_in a = address("0.0.0.0", port);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 64))
		die("listen");
	return fd;
}

/* Bytes moved until `end`. What is read is not looked at: MSG_TRUNC takes it off the socket without a copy. */
static uint64_t pump(struct pollfd *p, int n, char way, double end)
{
	uint64_t sum = 0;

	while (now() < end) {
		if (poll(p, (nfds_t)n, 100) < 0)
			die("poll");
		for (int i = 0; i < n; i++) {
			ssize_t got = 0;

			if (!p[i].revents)
				continue;
			if (way == 'T')
				got = recv(p[i].fd, buffer, 4 << 20, MSG_DONTWAIT | MSG_TRUNC);
			else
				got = send(p[i].fd, buffer, sizeof(buffer), MSG_DONTWAIT);
			if (got > 0)
				sum += (uint64_t)got;
		}
	}
	return sum;
}

static double measure(int ctl, int data, char way, int n, double seconds)
{
	struct linger rst = {.l_onoff = 1};
	struct pollfd p[MAX_STREAMS];
	char cmd[2] = {way, (char)n};
	double t0, t1;
	uint64_t sum;

	if (write(ctl, cmd, 2) != 2)
		die("the guest is gone");
	for (int i = 0; i < n; i++) {
		p[i] = (struct pollfd){.fd = accept(data, NULL, NULL),
				       .events = way == 'T' ? POLLIN : POLLOUT};
		if (p[i].fd < 0)
			die("accept");
	}
	(void)pump(p, n, way, now() + WARM_UP);
	t0 = now();
	sum = pump(p, n, way, t0 + seconds);
	t1 = now();
	for (int i = 0; i < n; i++) {
		setsockopt(p[i].fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
		close(p[i].fd);
	}
	if (read(ctl, cmd, 1) != 1)
		die("the guest is gone");
	return (double)sum * 8 / 1e6 / (t1 - t0);
}

struct peer {
	char name[32], ip[32];
	int ctl;
};

static void wait_for(struct peer *g, int n, int ctl)
{
	for (int have = 0; have < n;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		int fd = accept(ctl, (struct sockaddr *)&from, &len);
		char ip[INET_ADDRSTRLEN] = "";

		if (fd < 0)
			die("accept");
		inet_ntop(AF_INET, &from.sin_addr, ip, sizeof(ip));
		for (int i = 0; i < n; i++)
			if (!strcmp(ip, g[i].ip)) {
				g[i].ctl = fd;
				have++;
			}
	}
}

static int host(int argc, char **argv)
{
	static const struct {
		const char *row;
		char way;
		int n;
	} rows[] = {{"tx1", 'T', 1}, {"rx1", 'R', 1}, {"tx4", 'T', 4}, {"rx4", 'R', 4}};
	int rounds = atoi(argv[1]), n = argc - 3, ctl = listener(PORT), data = listener(PORT + 1);
	double seconds = atof(argv[2]);
	struct peer g[MAX_GUESTS] = {0};

	signal(SIGPIPE, SIG_IGN);
	if (n > MAX_GUESTS)
		return 64;
	for (int i = 0; i < n; i++)
		if (sscanf(argv[i + 3], "%31[^=]=%31s", g[i].name, g[i].ip) != 2)
			return 64;
	wait_for(g, n, ctl);
	for (int r = 0; r < rounds; r++)
		for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++)
			for (int i = 0; i < n; i++) {
				struct peer *p = &g[(i + r) % n];

				printf("%s %s %.1f\n", rows[row].row, p->name,
				       measure(p->ctl, data, rows[row].way, rows[row].n, seconds));
				fflush(stdout);
			}
	return 0;
}

static int tsc(void)
{
	double t0 = now(), t1;
	uint64_t c0 = __rdtsc(), c1;

	usleep(200000);
	c1 = __rdtsc();
	t1 = now();
	printf("%.0f\n", (double)(c1 - c0) / (t1 - t0) / 1000);
	return 0;
}

int main(int argc, char **argv)
{
	if (getpid() == 1 && getenv("nl_ip"))
		return guest();
	if (argc == 2 && !strcmp(argv[1], "tsc"))
		return tsc();
	if (argc >= 4)
		return host(argc, argv);
	fprintf(stderr, "usage: netload ROUNDS SECONDS NAME=ADDRESS… | netload tsc\n");
	return 64;
}
