/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_worker.c - threads that serve queues, and how the rest of the world stops them for a moment.
 *
 * A worker sleeps in one epoll_wait() for its queues' kicks, its own wake-up and one descriptor of the device's choice.
 * All are edge-triggered: eventfds need not be read, and a descriptor that is no eventfd cannot keep a thread busy.
 *
 * Between entering and leaving a "session" the worker uses its queues' rings without any lock: nobody else touches
 * them. Whoever has to (reset, a queue that is stopped, another view of guest memory) calls virtio_pause(): it says so
 * in dev->pausing, wakes the workers that have something to do, and waits until none has: a session ended, and of what
 * the worker had handed to the kernel everything has come back. A worker that finds dev->pausing set when it wants to
 * enter waits for virtio_resume(), and then looks at all its queues, because it may have left work undone.
 */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/virtio.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_WORKERS, epoll_wait),
};

#define WORKER_STACK (256u << 10)
#define TAG_WAKE     VIRTIO_MAX_QUEUES /* smaller tags are queues */
#define TAG_FD       (VIRTIO_MAX_QUEUES + 1)
#define ALL          (TAG_BIT(TAG_WAKE) - 1)
#define TAG_BIT(t)   (1u << (t))

_Static_assert(TAG_FD < 32, "a bit for each event");

static int watch(struct virtio_worker *w, int op, int fd, uint32_t events, uint32_t tag)
{
	struct epoll_event ev = {.events = events | EPOLLET, .data.u32 = tag};

	return epoll_ctl(w->epfd, op, fd, &ev);
}

/* ---- the worker's side ---- */

/* With the lock: which queues run and are this worker's. */
static uint32_t runnable(const struct virtio_worker *w)
{
	const struct virtio_dev *dev = w->dev;
	uint32_t mask = 0;
	unsigned q;

	for (q = 0; q < dev->nqueues && dev->active && !dev->broken; q++)
		if (dev->vq[q].worker == w->index && dev->vq[q].ready)
			mask |= TAG_BIT(q);
	return mask;
}

/* Waits while somebody has the device for himself. Returns true when that was so. */
static bool stand_aside(struct virtio_worker *w)
{
	struct virtio_dev *dev = w->dev;

	if (!dev->pausing)
		return false;
	if (w->in_flight) {
		w->busy = true;
		pthread_mutex_unlock(&dev->lock);
		dev->ops->drain(dev, w->index);
		pthread_mutex_lock(&dev->lock);
	}
	w->busy = false;
	pthread_cond_broadcast(&dev->idle);
	while (dev->pausing && !w->stop)
		pthread_cond_wait(&dev->resumed, &dev->lock);
	return true;
}

/* One session. False: the thread is to end. */
static bool session(struct virtio_worker *w, uint32_t events)
{
	struct virtio_dev *dev = w->dev;
	uint32_t running, kicked;
	bool stop;
	unsigned q;

	pthread_mutex_lock(&dev->lock);
	if (stand_aside(w) || events & TAG_BIT(TAG_WAKE))
		events |= ALL;
	running = w->stop ? 0 : runnable(w);
	w->busy = true;
	pthread_mutex_unlock(&dev->lock);

	/* A change that comes while nothing runs is not lost: when queues start they are all kicked. */
	if (running && events & TAG_BIT(TAG_FD))
		dev->ops->worker_fd(dev, w->index, running);
	kicked = running & events;
	for (q = 0; kicked >> q; q++)
		if (kicked & TAG_BIT(q))
			dev->ops->queue_kick(dev, q);

	pthread_mutex_lock(&dev->lock);
	w->busy = w->in_flight > 0;
	if (dev->pausing) {
		pthread_cond_broadcast(&dev->idle);
		virtio_worker_wake(dev, w->index);
	}
	stop = w->stop;
	pthread_mutex_unlock(&dev->lock);
	return !stop;
}

static void *worker_main(void *arg)
{
	struct virtio_worker *w = arg;
	struct epoll_event ev[VIRTIO_MAX_QUEUES + 2];
	uint32_t events = 0;
	char name[16];

	snprintf(name, sizeof(name), "%s%u", w->dev->ops->name, w->index);
	pthread_setname_np(pthread_self(), name);
	filter_thread(w->dev->ops->filter);
	while (session(w, events)) {
		int i, n = RETRY_EINTR(epoll_wait(w->epfd, ev, ARRAY_SIZE(ev), -1));

		events = 0;
		for (i = 0; i < n; i++)
			events |= TAG_BIT(ev[i].data.u32);
	}
	if (w->in_flight)
		w->dev->ops->drain(w->dev, w->index);
	return NULL;
}

/* ---- everybody else's ---- */

void virtio_worker_wake(struct virtio_dev *dev, unsigned index)
{
	virtio_eventfd_signal(dev->worker[index].wake_fd);
}

static void wait_idle(struct virtio_worker *w)
{
	struct virtio_dev *dev = w->dev;

	if (!w->running) {
		/* No thread, or a test that plays it: what is in flight is waited for here. */
		if (w->in_flight)
			dev->ops->drain(dev, w->index);
		return;
	}
	if (w->busy)
		virtio_worker_wake(dev, w->index);
	while (w->busy)
		pthread_cond_wait(&dev->idle, &dev->lock);
}

void virtio_pause(struct virtio_dev *dev)
{
	unsigned i;

	pthread_mutex_lock(&dev->lock);
	__atomic_fetch_add(&dev->pausing, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < dev->nworkers; i++)
		wait_idle(&dev->worker[i]);
}

void virtio_resume(struct virtio_dev *dev)
{
	if (__atomic_sub_fetch(&dev->pausing, 1, __ATOMIC_SEQ_CST) == 0)
		pthread_cond_broadcast(&dev->resumed);
	pthread_mutex_unlock(&dev->lock);
}

int virtio_worker_watch(struct virtio_dev *dev, unsigned index, int fd, uint32_t events)
{
	return watch(&dev->worker[index], EPOLL_CTL_ADD, fd, events, TAG_FD);
}

int virtio_worker_kick_fd(struct virtio_dev *dev, unsigned q, bool on)
{
	return watch(&dev->worker[dev->vq[q].worker], on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
		     dev->kick_fd[q], EPOLLIN, q);
}

int virtio_workers_init(struct virtio_dev *dev, struct error **err)
{
	unsigned i, q;

	for (i = 0; i < dev->nworkers; i++) {
		struct virtio_worker *w = &dev->worker[i];

		w->epfd = epoll_create1(EPOLL_CLOEXEC);
		w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (w->epfd < 0 || w->wake_fd < 0 ||
		    watch(w, EPOLL_CTL_ADD, w->wake_fd, EPOLLIN, TAG_WAKE) < 0)
			return error_sys(err, errno, "virtio-%s: worker", dev->ops->name);
	}
	for (q = 0; q < dev->nqueues && dev->nworkers; q++)
		if (virtio_worker_kick_fd(dev, q, true) < 0)
			return error_sys(err, errno, "virtio-%s: watch queue %u", dev->ops->name,
					 q);
	return 0;
}

/* With the lock, or before anyone else knows the device. */
int virtio_start_workers(struct virtio_dev *dev, struct error **err)
{
	pthread_attr_t attr;
	unsigned i;
	int rc = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	for (i = 0; i < dev->nworkers && !dev->no_threads && !rc; i++) {
		struct virtio_worker *w = &dev->worker[i];

		if (w->running)
			continue;
		rc = pthread_create(&w->thread, &attr, worker_main, w);
		w->running = !rc;
	}
	pthread_attr_destroy(&attr);
	return rc ? error_sys(err, rc, "virtio-%s: thread", dev->ops->name) : 0;
}

void virtio_workers_fini(struct virtio_dev *dev)
{
	unsigned i;

	pthread_mutex_lock(&dev->lock);
	for (i = 0; i < dev->nworkers; i++) {
		dev->worker[i].stop = true;
		virtio_worker_wake(dev, i);
	}
	pthread_cond_broadcast(&dev->resumed);
	pthread_mutex_unlock(&dev->lock);
	for (i = 0; i < VIRTIO_MAX_WORKERS; i++) {
		struct virtio_worker *w = &dev->worker[i];

		if (w->running)
			pthread_join(w->thread, NULL);
		else if (w->in_flight)
			dev->ops->drain(dev, i);
		w->running = false;
		base_close_fd(&w->epfd);
		base_close_fd(&w->wake_fd);
	}
}
