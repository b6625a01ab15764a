/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio.c - what all devices share: kicks, activation, reset, interrupts, configuration space.
 *
 * Each queue's kick descriptor keeps its number for life; a transport that brings its own
 * (vhost-user) has it put in that number's place with dup3(). So it is with an interrupt's once
 * there is one: a worker may write to it at any moment.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "vmm/virtio.h"

FILTER_RULES = {
	/* Kicks and interrupts. Only the loop reads an eventfd: workers watch theirs for edges. */
	FILTER_ALLOW(FILTER_MAIN, read),
	FILTER_ALLOW(FILTER_OURS, write),
	/* vhost-user's eventfds take the place of ours. */
	FILTER_ALLOW(FILTER_MAIN_QEMU, dup3),
	FILTER_ALLOW(FILTER_MAIN_QEMU, close),
};

void virtio_eventfd_signal(int fd)
{
	uint64_t one = 1;

	/* EAGAIN means the counter is full: the other side has a wake-up pending anyhow. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_debug("virtio: eventfd %d: %s", fd, strerror(errno));
}

/* Returns false when the descriptor will never again be worth watching. */
static bool eventfd_drain(int fd)
{
	uint64_t n;
	ssize_t r = RETRY_EINTR(read(fd, &n, sizeof(n)));

	return r == (ssize_t)sizeof(n) || (r < 0 && errno == EAGAIN);
}

static void dev_lock(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
}

static void dev_unlock(struct virtio_dev *dev)
{
	pthread_mutex_unlock(&dev->lock);
}

/* Device's thread: runs a queue after a kick. */
static void dev_kick(struct virtio_dev *dev, unsigned q)
{
	bool go;

	dev_lock(dev);
	go = dev->active && !dev->broken && dev->vq[q].ready;
	if (go && !dev->ops->unlocked_kick)
		dev->ops->queue_kick(dev, q);
	dev_unlock(dev);
	if (go && dev->ops->unlocked_kick)
		dev->ops->queue_kick(dev, q);
}

static void dev_work(struct virtio_dev *dev)
{
	/* An unlocked_kick device may be freed by what its work leads to: work comes last and
	 * nothing follows it. */
	unsigned q;

	for (q = 0; q < dev->nqueues; q++)
		virtio_eventfd_signal(dev->kick_fd[q]);
	if (!dev->ops->work)
		return;
	if (dev->ops->unlocked_kick) {
		dev->ops->work(dev);
		return;
	}
	dev_lock(dev);
	dev->ops->work(dev);
	dev_unlock(dev);
}

static void on_kick(void *arg, int fd, uint32_t events)
{
	struct virtio_dev *dev = arg;
	unsigned q;

	for (q = 0; q < dev->nqueues; q++)
		if (dev->kick_fd[q] == fd)
			break;
	if (q == dev->nqueues)
		return;
	if (!eventfd_drain(fd)) {
		loop_source_free(STEAL(dev->kick_src[q]));
		return;
	}
	dev_kick(dev, q);
}

static void on_wake(void *arg, int fd, uint32_t events)
{
	eventfd_drain(fd);
	dev_work(arg);
}

int virtio_dev_init(struct virtio_dev *dev, const struct virtio_dev_ops *ops, uint32_t id,
		    struct loop *l, const struct gmem *m, struct error **err)
{
	pthread_mutexattr_t attr;
	unsigned i, q;

	dev->ops = ops;
	dev->id = id;
	dev->loop = l;
	dev->mem = m;
	dev->features_offered |= VIRTIO_F(VIRTIO_F_VERSION_1) |
				 VIRTIO_F(VIRTIO_RING_F_INDIRECT_DESC) |
				 VIRTIO_F(VIRTIO_RING_F_EVENT_IDX);
	for (q = 0; q < VIRTIO_MAX_QUEUES; q++)
		dev->kick_fd[q] = dev->call_fd[q] = -1;
	dev->wake_fd = -1;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&dev->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_cond_init(&dev->idle, NULL);
	pthread_cond_init(&dev->resumed, NULL);
	for (i = 0; i < VIRTIO_MAX_WORKERS; i++)
		dev->worker[i] = (struct virtio_worker){.dev = dev,
							.index = (uint8_t)i,
							.epfd = -1,
							.wake_fd = -1};

	for (q = 0; q < dev->nqueues; q++) {
		dev->kick_fd[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->kick_fd[q] < 0)
			return error_sys(err, errno, "virtio-%s: eventfd", ops->name);
	}
	if (virtio_workers_init(dev, err) < 0)
		return -1;
	if (dev->nworkers)
		return 0;
	dev->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->wake_fd < 0)
		return error_sys(err, errno, "virtio-%s: eventfd", ops->name);
	dev->wake_src = loop_add_fd(l, dev->wake_fd, EPOLLIN, on_wake, dev, err);
	if (!dev->wake_src)
		return -1;
	for (q = 0; q < dev->nqueues; q++) {
		dev->kick_src[q] = loop_add_fd(l, dev->kick_fd[q], EPOLLIN, on_kick, dev, err);
		if (!dev->kick_src[q])
			return -1;
	}
	return 0;
}

void virtio_dev_fini(struct virtio_dev *dev)
{
	unsigned q;

	virtio_workers_fini(dev);
	loop_source_free(dev->wake_src);
	for (q = 0; q < VIRTIO_MAX_QUEUES; q++) {
		loop_source_free(dev->kick_src[q]);
		base_close_fd(&dev->kick_fd[q]);
		base_close_fd(&dev->call_fd[q]);
	}
	base_close_fd(&dev->wake_fd);
	pthread_cond_destroy(&dev->idle);
	pthread_cond_destroy(&dev->resumed);
	pthread_mutex_destroy(&dev->lock);
}

void virtio_free(struct virtio_dev *dev)
{
	if (dev)
		dev->ops->free(dev);
}

void virtio_wake(struct virtio_dev *dev)
{
	unsigned i;

	virtio_eventfd_signal(dev->wake_fd);
	for (i = 0; i < dev->nworkers; i++)
		virtio_worker_wake(dev, i);
}

void virtio_again(struct virtio_dev *dev, unsigned q)
{
	virtio_eventfd_signal(dev->kick_fd[q]);
}

int virtio_ack_features(struct virtio_dev *dev, uint64_t features)
{
	int rc = -1;

	dev_lock(dev);
	if (!dev->active && !(features & ~dev->features_offered)) {
		dev->features_acked = features;
		rc = 0;
	}
	dev_unlock(dev);
	return rc;
}

int virtio_queue_set(struct virtio_dev *dev, unsigned q, uint32_t size, uint64_t desc,
		     uint64_t avail, uint64_t used)
{
	int rc = -1;

	if (q >= dev->nqueues)
		return -1;
	dev_lock(dev);
	if (!dev->vq[q].ready && size && !(size & (size - 1)) && size <= dev->vq[q].max_size) {
		dev->vq[q].size = (uint16_t)size;
		dev->vq[q].desc = desc;
		dev->vq[q].avail = avail;
		dev->vq[q].used = used;
		rc = 0;
	}
	dev_unlock(dev);
	return rc;
}

static int queue_start(struct virtio_dev *dev, unsigned q, uint16_t next_avail)
{
	if (virtio_start_workers(dev, NULL))
		return -1;
	dev->vq[q].event_idx = virtio_has(dev, VIRTIO_RING_F_EVENT_IDX);
	dev->vq[q].indirect = virtio_has(dev, VIRTIO_RING_F_INDIRECT_DESC);
	return virtq_start(&dev->vq[q], dev->mem, next_avail);
}

static int dev_activate(struct virtio_dev *dev)
{
	dev->active = true;
	return dev->ops->activate ? dev->ops->activate(dev) : 0;
}

int virtio_activate(struct virtio_dev *dev)
{
	unsigned q;
	int rc = 0;

	dev_lock(dev);
	if (!dev->active && !dev->broken) {
		for (q = 0; q < dev->nqueues && !rc; q++)
			if (dev->vq[q].size)
				rc = queue_start(dev, q, 0);
		if (!rc)
			rc = dev_activate(dev);
		if (rc)
			virtio_dev_broken(dev, "bad rings");
	}
	dev_unlock(dev);
	virtio_wake(dev);
	return rc;
}

int virtio_queue_start(struct virtio_dev *dev, unsigned q, uint16_t next_avail)
{
	int rc = -1;

	if (q >= dev->nqueues)
		return -1;
	/* Its worker may be at another of its queues, and look at this one. */
	virtio_pause(dev);
	if (!dev->broken && !dev->vq[q].ready) {
		rc = queue_start(dev, q, next_avail);
		if (!rc && !dev->active)
			rc = dev_activate(dev);
		if (rc)
			virtio_dev_broken(dev, "bad rings");
	}
	virtio_resume(dev);
	virtio_wake(dev);
	return rc;
}

void virtio_drain(struct virtio_dev *dev)
{
	unsigned q, n;

	/* A worker's requests are waited for when the queue stops; nobody waits for the answers to others. */
	if (dev->nworkers)
		return;
	for (q = 0; q < dev->nqueues; q++) {
		for (n = 0; n < VIRTQ_MAX_SIZE; n++) {
			uint16_t before = dev->vq[q].last_avail;

			dev_kick(dev, q);
			if (!dev->vq[q].ready || dev->vq[q].last_avail == before)
				break;
		}
	}
}

uint16_t virtio_queue_stop(struct virtio_dev *dev, unsigned q)
{
	uint16_t next = 0;

	if (q >= dev->nqueues)
		return 0;
	virtio_pause(dev);
	next = dev->vq[q].last_avail;
	virtq_stop(&dev->vq[q]);
	if (dev->ops->queue_stopped)
		dev->ops->queue_stopped(dev, q);
	virtio_resume(dev);
	return next;
}

void virtio_reset(struct virtio_dev *dev)
{
	unsigned q;

	virtio_pause(dev);
	for (q = 0; q < dev->nqueues; q++)
		virtq_reset(&dev->vq[q]);
	dev->features_acked = 0;
	dev->status = 0;
	dev->active = dev->broken = false;
	if (dev->ops->reset)
		dev->ops->reset(dev);
	virtio_resume(dev);
	virtio_wake(dev);
}

void virtio_detach(struct virtio_dev *dev)
{
	virtio_pause(dev);
	dev->notify_irq = NULL;
	virtio_resume(dev);
}

int virtio_kick_fd(struct virtio_dev *dev, unsigned q)
{
	return q < dev->nqueues ? dev->kick_fd[q] : -1;
}

int virtio_set_kick_fd(struct virtio_dev *dev, unsigned q, int fd, struct error **err)
{
	CLEANUP_CLOSE int owned = fd;

	if (q >= dev->nqueues || fd < 0)
		return error_set(err, ERR_INVALID_ARGUMENT, "virtio-%s: kick for queue %u",
				 dev->ops->name, q);
	if (fd_set_nonblock(fd, true) < 0)
		return error_sys(err, errno, "virtio-%s: kick descriptor", dev->ops->name);
	loop_source_free(STEAL(dev->kick_src[q]));
	/* The front end may hold the old one, which then would stay watched under this number. */
	if (dev->nworkers)
		(void)virtio_worker_kick_fd(dev, q, false);
	if (dup3(fd, dev->kick_fd[q], O_CLOEXEC) < 0 ||
	    (dev->nworkers && virtio_worker_kick_fd(dev, q, true) < 0))
		return error_sys(err, errno, "virtio-%s: kick descriptor", dev->ops->name);
	if (!dev->nworkers) {
		dev->kick_src[q] =
			loop_add_fd(dev->loop, dev->kick_fd[q], EPOLLIN, on_kick, dev, err);
		if (!dev->kick_src[q])
			return -1;
	}
	virtio_wake(dev);
	return 0;
}

void virtio_set_call_fd(struct virtio_dev *dev, unsigned q, int fd)
{
	CLEANUP_CLOSE int owned = fd;

	if (q >= dev->nqueues)
		return;
	if (fd >= 0)
		(void)fd_set_nonblock(fd, true);
	dev_lock(dev);
	/* One that is taken away stays: signals to it reach nobody who minds. */
	if (fd >= 0 && dev->call_fd[q] >= 0)
		(void)dup3(fd, dev->call_fd[q], O_CLOEXEC);
	else if (fd >= 0)
		__atomic_store_n(&dev->call_fd[q], steal_fd(&owned), __ATOMIC_RELEASE);
	/* Whatever was completed before the descriptor came would otherwise never be told. */
	virtio_eventfd_signal(dev->vq[q].ready ? dev->call_fd[q] : -1);
	dev_unlock(dev);
}

void virtio_config_read(struct virtio_dev *dev, uint64_t off, void *buf, uint32_t len)
{
	uint64_t end;

	memset(buf, 0, len);
	if (!add_ok(off, len, &end) || end > dev->config_len)
		return;
	dev_lock(dev);
	dev->ops->config_read(dev, (uint32_t)off, buf, len);
	dev_unlock(dev);
}

void virtio_config_write(struct virtio_dev *dev, uint64_t off, const void *buf, uint32_t len)
{
	uint64_t end;

	if (!dev->ops->config_write || !add_ok(off, len, &end) || end > dev->config_len)
		return;
	dev_lock(dev);
	dev->ops->config_write(dev, (uint32_t)off, buf, len);
	dev_unlock(dev);
}

static bool is_broken(const struct virtio_dev *dev)
{
	return __atomic_load_n(&dev->broken, __ATOMIC_RELAXED);
}

int virtio_pop(struct virtio_dev *dev, unsigned q, struct virtq_chain *c)
{
	int rc;

	if (!dev->active || is_broken(dev))
		return 0;
	rc = virtq_pop(&dev->vq[q], dev->mem, c);
	if (rc < 0)
		virtio_dev_broken(dev, "bad descriptor chain");
	return rc;
}

bool virtio_next(struct virtio_dev *dev, unsigned q, struct virtq_chain *c)
{
	for (;;) {
		int rc = virtio_pop(dev, q, c);

		if (rc)
			return rc > 0;
		if (!dev->active || is_broken(dev) || !virtq_want_kick(&dev->vq[q], true))
			return false;
	}
}

void virtio_notify(struct virtio_dev *dev, unsigned q)
{
	if (!virtq_should_notify(&dev->vq[q]))
		return;
	if (dev->notify_irq)
		dev->notify_irq(dev->notify_arg, (int)q);
	else
		virtio_eventfd_signal(__atomic_load_n(&dev->call_fd[q], __ATOMIC_ACQUIRE));
}

void virtio_config_changed(struct virtio_dev *dev)
{
	dev->config_gen++;
	if (dev->notify_irq)
		dev->notify_irq(dev->notify_arg, -1);
	else if (dev->config_notify)
		dev->config_notify(dev->config_arg);
}

void virtio_log_queues(struct virtio_dev *dev)
{
	char text[256];
	unsigned q;

	dev_lock(dev);
	for (q = 0; q < dev->nqueues && dev->active; q++) {
		virtq_describe(&dev->vq[q], text, sizeof(text));
		log_warn("virtio-%s queue %u: %s", dev->ops->name, q, text);
	}
	dev_unlock(dev);
}

void virtio_dev_broken(struct virtio_dev *dev, const char *why)
{
	dev_lock(dev);
	if (!dev->broken) {
		if (log_due(&dev->times_broken))
			log_warn("virtio-%s: %s; the device waits for a reset (no. %u)",
				 dev->ops->name, why, dev->times_broken);
		__atomic_store_n(&dev->broken, true, __ATOMIC_RELAXED);
		dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
		virtio_config_changed(dev);
	}
	dev_unlock(dev);
}
