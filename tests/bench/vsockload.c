/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsockload.c - the load of the vsock bench: PID 1 of a small guest. It dials the host and sends or takes bytes on each
 * stream as fast as they go, until it is stopped from outside; who counts is the host (vsock_host.c).
 *
 * The kernel's command line says what: vsockload=up,N or vsockload=down,N for N streams. Modules in /modules are loaded
 * first, in the order of their names.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define PORT_UP   10
#define PORT_DOWN 11
#define PIECE     65536
#define MAX       4096

static char piece[PIECE];

static void die(const char *what)
{
	printf("vsockload error: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	reboot(RB_POWER_OFF);
	exit(1);
}

static void load_modules(void)
{
	struct dirent **names;
	int i, n = scandir("/modules", &names, NULL, alphasort);

	for (i = 0; i < n; i++) {
		char path[512];
		int fd;

		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			die(names[i]->d_name);
		close(fd);
	}
}

static int dial(unsigned port)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK,
				.svm_cid = VMADDR_CID_HOST,
				.svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), tries;

	if (fd < 0)
		die("socket");
	for (tries = 0; connect(fd, (struct sockaddr *)&a, sizeof(a)); tries++) {
		if (tries == 500)
			die("connect");
		usleep(10000); /* the device comes up in its own time */
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		die("fcntl");
	return fd;
}

int main(void)
{
	static struct epoll_event ev[256];
	char text[4096] = "", *p;
	int ep = epoll_create1(EPOLL_CLOEXEC), up, count, i, n;
	struct rlimit lim = {MAX + 64, MAX + 64};
	FILE *f;

	mount("proc", "/proc", "proc", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	setrlimit(RLIMIT_NOFILE, &lim);
	f = fopen("/proc/cmdline", "r");
	if (!f || !fgets(text, sizeof(text), f) || !(p = strstr(text, "vsockload=")))
		die("command line");
	up = p[10] == 'u';
	count = atoi(strchr(p, ',') + 1);
	load_modules();
	if (count < 1 || count > MAX)
		die("count");
	for (i = 0; i < count; i++) {
		struct epoll_event e = {.events = up ? EPOLLOUT : EPOLLIN,
					.data.fd = dial(up ? PORT_UP : PORT_DOWN)};

		if (epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e))
			die("epoll");
	}
	for (;;) {
		n = epoll_wait(ep, ev, 256, -1);
		for (i = 0; i < n; i++) {
			ssize_t k = up ? write(ev[i].data.fd, piece, PIECE)
				       : read(ev[i].data.fd, piece, PIECE);

			if (k == 0 || (k < 0 && errno != EAGAIN))
				die("stream");
		}
	}
}
