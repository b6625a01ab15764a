/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kmsg.c - the kernel's log to the host, as `dmesg` would print it.
 *
 * The console shows only what is urgent, as each character there costs a start time. The whole log takes this way
 * when the container runs: from the ring's beginning, then what is added (Documentation/ABI/testing/dev-kmsg). A
 * record is "prio,seq,microseconds,flags;text\n" with more lines that describe a device. What is sent is bounded:
 * processes in the container may write there too.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "vmm/guest/guest.h"

#define RECORD_MAX 8192 /* as the kernel writes them, escapes and all */
#define QUEUE_MAX  16384
#define TOTAL_MAX  (1u << 20)

static struct ev log_ev, sock_ev;
static int log_fd = -1, sock_fd = -1;
static struct buf queue;
static size_t total;

static void kmsg_close(void)
{
	ev_del(&log_ev);
	ev_del(&sock_ev);
	close(steal_fd(&log_fd));
	close(steal_fd(&sock_fd));
	buf_free(&queue);
}

/* One record, NUL-terminated. */
static void add_record(char *text)
{
	char *fields = text, *body = strchr(text, ';'), *end;
	unsigned long long us;

	if (!body)
		return;
	*body++ = 0;
	end = strchr(body, '\n');
	if (end)
		*end = 0;
	if (sscanf(fields, "%*u,%*u,%llu", &us) != 1)
		return;
	buf_printf(&queue, "[%5llu.%06llu] %s\n", us / 1000000, us % 1000000, body);
}

/* Takes records while there are some and room for them. */
static void read_log(void)
{
	char text[RECORD_MAX + 1];

	while (queue.len < QUEUE_MAX && total < TOTAL_MAX) {
		size_t before = queue.len;
		ssize_t n = read(log_fd, text, RECORD_MAX);

		if (n < 0 && (errno == EPIPE || errno == EINTR))
			continue; /* older ones were overwritten */
		if (n <= 0)
			return;
		text[n] = 0;
		add_record(text);
		total += queue.len - before;
	}
}

/* Sends what can be sent; -1 when the host wants no more. */
static int send_queue(void)
{
	while (queue.len) {
		ssize_t n = send(sock_fd, queue.data, queue.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -1;
		buf_consume(&queue, (size_t)n);
	}
	return 0;
}

static void kmsg_turn(void)
{
	read_log();
	if (send_queue() || (total >= TOTAL_MAX && !queue.len)) {
		kmsg_close();
		return;
	}
	ev_mod(&sock_ev, queue.len ? EPOLLOUT : 0);
	ev_mod(&log_ev, queue.len < QUEUE_MAX && total < TOTAL_MAX ? EPOLLIN : 0);
}

static void on_log(struct ev *ev, uint32_t events)
{
	kmsg_turn();
}

static void on_sock(struct ev *ev, uint32_t events)
{
	socklen_t len = sizeof(int);
	struct error *e = NULL;
	int sys = 0;

	if (getsockopt(sock_fd, SOL_SOCKET, SO_ERROR, &sys, &len) || sys ||
	    (events & (EPOLLERR | EPOLLHUP))) {
		kmsg_close();
		return;
	}
	if (!log_ev.added && ev_add(&log_ev, log_fd, EPOLLIN, on_log, &e)) {
		guest_log_err(e, "kernel log");
		error_free(e);
		kmsg_close();
		return;
	}
	kmsg_turn();
}

void kmsg_open(void)
{
	CLEANUP_ERROR struct error *e = NULL;

	if (guest_debug)
		return; /* the console has it all */
	log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0) {
		guest_log("open /dev/kmsg: %s", strerror(errno));
		return;
	}
	sock_fd = guest_dial(AGENT_PORT_BOOTLOG, &e);
	if (sock_fd >= 0 && !ev_add(&sock_ev, sock_fd, EPOLLOUT, on_sock, &e))
		return;
	guest_log_err(e, "kernel log");
	close(steal_fd(&log_fd));
	if (sock_fd >= 0)
		close(steal_fd(&sock_fd));
}
