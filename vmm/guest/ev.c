/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ev.c - the event loop: epoll, level-triggered, one thread.
 *
 * An event source is part of the object it serves. ev_del() also strikes the source from the batch being
 * handled, so that a callback may free any object.
 */
#include "vmm/guest/guest.h"

#define BATCH 64

static int epfd = -1;
static struct epoll_event batch[BATCH];
static int batch_n, batch_i;

int ev_init(struct error **err)
{
	epfd = epoll_create1(EPOLL_CLOEXEC);
	return epfd < 0 ? error_sys(err, errno, "epoll_create") : 0;
}

int ev_add(struct ev *ev, int fd, uint32_t events, void (*fn)(struct ev *, uint32_t),
	   struct error **err)
{
	struct epoll_event e = {.events = events, .data.ptr = ev};

	ev->fd = fd;
	ev->fn = fn;
	ev->events = events;
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e))
		return error_sys(err, errno, "watch descriptor %d", fd);
	ev->added = true;
	return 0;
}

void ev_mod(struct ev *ev, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = ev};

	if (!ev->added || ev->events == events)
		return;
	ev->events = events;
	epoll_ctl(epfd, EPOLL_CTL_MOD, ev->fd, &e);
}

void ev_del(struct ev *ev)
{
	int i;

	if (!ev->added)
		return;
	ev->added = false;
	epoll_ctl(epfd, EPOLL_CTL_DEL, ev->fd, NULL);
	for (i = batch_i; i < batch_n; i++)
		if (batch[i].data.ptr == ev)
			batch[i].data.ptr = NULL;
}

void ev_turn(uint64_t deadline_us)
{
	int timeout = -1;

	if (deadline_us) {
		uint64_t now = time_mono_us();

		timeout =
			deadline_us <= now ? 0 : (int)MIN((deadline_us - now + 999) / 1000, 60000u);
	}
	batch_n = epoll_wait(epfd, batch, BATCH, timeout);
	for (batch_i = 0; batch_i < batch_n;) {
		struct ev *ev = batch[batch_i].data.ptr;
		uint32_t events = batch[batch_i].events;

		batch_i++;
		if (ev)
			ev->fn(ev, events);
	}
	batch_n = batch_i = 0;
}
