/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio.h - what a virtio device and its transport (virtio-mmio, vhost-user) know of each other.
 *
 * DOC: Threads and locks
 * A device belongs to its loop's thread. Transports call from elsewhere (vCPU threads): the
 * virtio_* functions below take dev->lock themselves and never touch the loop. ops->config_*,
 * activate and reset run with dev->lock held.
 *
 * Without workers (dev->nworkers == 0) queue_kick and work run on the loop's thread with the lock
 * held. With workers each queue belongs to one of them (vq[].worker) and its queue_kick runs there,
 * without the lock: between the call and its return no other thread touches that queue's ring, so
 * virtio_pop(), virtq_push() and their kin need none. A worker looks at virtio_pausing() between
 * two requests and returns when it is set; it is called again afterwards. What it hands to the
 * kernel and does not wait for it counts in worker[].in_flight. virtio_worker.c has the rest.
 *
 * notify_irq is called by the queue's thread, or by any with the lock held: it must not take
 * dev->lock, so the transport keeps its interrupt status in an atomic.
 *
 * DOC: Life of a device
 * *_new() → the transport negotiates (virtio_ack_features, virtio_queue_set) → virtio_activate() on
 * DRIVER_OK, from where on rings cannot be changed → virtio_reset() → again. Each queue has a kick
 * descriptor that is watched all the time; activating kicks every queue once, so that no early
 * notification is lost.
 *
 * A driver that breaks the rules gets DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2) and a configuration
 * interrupt; the device does no more work until it is reset. Nobody else is harmed.
 */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include <pthread.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include "core/filter.h"
#include "core/loop.h"
#include "vmm/net_filter.h"
#include "vmm/virtq.h"
#include "vmm/vm.h"

#define VIRTIO_MAX_QUEUES  17 /* a network card of eight pairs with its control queue */
#define VIRTIO_MAX_WORKERS 8
#define VIRTIO_F(bit)      (1ull << (bit))

struct virtio_dev;

/* Members that may be NULL: config_write, activate, reset, work, drain, worker_fd, queue_stopped. */
struct virtio_dev_ops {
	const char *name;
	enum filter_profile filter; /* of its workers, if it has any */
	/* off + len has been checked against config_len. */
	void (*config_read)(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len);
	void (*config_write)(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len);
	/* -1: the device is broken. */
	int (*activate)(struct virtio_dev *dev);
	/* Must not wait for the loop. */
	void (*reset)(struct virtio_dev *dev);
	/* The queue's thread. */
	void (*queue_kick)(struct virtio_dev *dev, unsigned q);
	/* Loop's thread, some time after each activate, reset and virtio_wake(); not for devices with workers, whose
	 * queues are all kicked then. */
	void (*work)(struct virtio_dev *dev);
	/* The worker's thread: returns when worker[w].in_flight is 0, everything completed. */
	void (*drain)(struct virtio_dev *dev, unsigned w);
	/* The worker's thread: what virtio_worker_watch() watches is ready, and the queues whose bits are set in
	 * `running` may be used. Comes once for each change: the device goes on until it finds nothing more, or wakes
	 * itself. */
	void (*worker_fd)(struct virtio_dev *dev, unsigned w, uint32_t running);
	/* One queue was stopped alone (virtio_queue_stop); no worker runs. */
	void (*queue_stopped)(struct virtio_dev *dev, unsigned q);
	/* Loop's thread; frees the memory of dev too. */
	void (*free)(struct virtio_dev *dev);
	/* Without workers: queue_kick and work are called without the lock and take it themselves. */
	bool unlocked_kick;
};

/* A thread that serves some of a device's queues. The device sets in_flight on that thread; all else is
 * virtio_worker.c's. */
struct virtio_worker {
	struct virtio_dev *dev;
	uint8_t index;
	int epfd, wake_fd;
	unsigned in_flight; /* requests the kernel has */
	pthread_t thread;
	bool running;    /* there is a thread */
	bool busy, stop; /* under the lock */
};

struct virtio_dev {
	const struct virtio_dev_ops *ops;
	uint32_t
		id; /* virtio device id (§5): 1 net, 2 blk, 3 console, 4 rng, 5 balloon, 19 vsock, 26 fs */
	uint16_t nqueues;    /* used entries of vq */
	uint8_t nworkers;    /* set before virtio_dev_init(), as are vq[].worker */
	uint32_t config_len; /* bytes of device configuration space */
	struct virtq vq[VIRTIO_MAX_QUEUES];
	uint64_t features_offered, features_acked;
	uint8_t status; /* as the driver wrote it, and VIRTIO_CONFIG_S_NEEDS_RESET by us */
	uint32_t config_gen;
	bool active;
	bool broken;            /* atomic */
	unsigned times_broken;  /* since it was made; resets do not change it */
	unsigned pausing;       /* atomic: how many want the device for themselves */
	const struct gmem *mem; /* changes while paused */
	struct loop *loop;
	pthread_mutex_t lock; /* recursive */
	/* queue -1: configuration change. NULL: call descriptors are written instead. */
	void (*notify_irq)(void *arg, int queue);
	void *notify_arg;
	/* Without notify_irq: the configuration has changed. Any thread, with the lock held; may be NULL. */
	void (*config_notify)(void *arg);
	void *config_arg;
	/* virtio.c's */
	int kick_fd[VIRTIO_MAX_QUEUES]; /* owned */
	int call_fd[VIRTIO_MAX_QUEUES]; /* owned, -1: none */
	struct loop_source *kick_src[VIRTIO_MAX_QUEUES];
	int wake_fd; /* -1 with workers */
	struct loop_source *wake_src;
	pthread_cond_t idle, resumed;
	struct virtio_worker worker[VIRTIO_MAX_WORKERS];
	bool no_threads; /* a test plays the workers */
};

/* ---- transports call these; any thread, they take the lock ---- */

/* virtio_ack_features: keeps only what was offered; -1 when the driver asked for more, or once
 * active. */
int virtio_ack_features(struct virtio_dev *dev, uint64_t features);
/* virtio_queue_set: size and guest-physical ring addresses; ignored with -1 when out of bounds
 * (size 0, not a power of two, above max_size; no such queue) or once the queue runs. Addresses are
 * checked by virtio_activate(). */
int virtio_queue_set(struct virtio_dev *dev, unsigned q, uint32_t size, uint64_t desc,
		     uint64_t avail, uint64_t used);
/* virtio_activate: DRIVER_OK. Queues with size 0 stay off. -1: the rings are bad, the device is
 * broken now. */
int virtio_activate(struct virtio_dev *dev);
void virtio_reset(struct virtio_dev *dev);
/* virtio_kick_fd: the eventfd whose counter stands for "queue q was notified"; stays the device's.
 */
int virtio_kick_fd(struct virtio_dev *dev, unsigned q);
/* virtio_set_call_fd: the eventfd written for queue q's interrupts when there is no notify_irq;
 * owned from now on, -1 takes it away. */
void virtio_set_call_fd(struct virtio_dev *dev, unsigned q, int fd);
/* virtio_pause: returns with the lock held once no worker uses a ring or guest memory and nothing is in flight, and
 * stays so until virtio_resume(), which gives the lock back. Not with the lock held, nor on a worker. */
void virtio_pause(struct virtio_dev *dev);
void virtio_resume(struct virtio_dev *dev);
/* virtio_detach: notify_irq is not called any more once this returns. */
void virtio_detach(struct virtio_dev *dev);
/* Configuration space; bytes out of range read as zero, writes there are ignored. */
void virtio_config_read(struct virtio_dev *dev, uint64_t off, void *buf, uint32_t len);
void virtio_config_write(struct virtio_dev *dev, uint64_t off, const void *buf, uint32_t len);

/* ---- loop's thread ---- */
/* virtio_set_kick_fd: another eventfd takes the place of queue q's (vhost-user); owned from now on.
 */
int virtio_set_kick_fd(struct virtio_dev *dev, unsigned q, int fd, struct error **err);
void virtio_free(struct virtio_dev *dev); /* NULL is fine; vCPUs must have stopped */
/* virtio_queue_start, virtio_queue_stop: one queue alone (vhost-user); start resumes at next_avail.
 */
int virtio_queue_start(struct virtio_dev *dev, unsigned q, uint16_t next_avail);
uint16_t virtio_queue_stop(struct virtio_dev *dev, unsigned q);

/* virtio_start_workers: the device's threads, if it is to have some. Without this call they come with the first queue. */
int virtio_start_workers(struct virtio_dev *dev, struct error **err);

/* virtio_drain: serves what the driver had queued when its machine stopped (a last kick may not have been seen yet), so
 * that nothing the guest sent is lost. Before virtio_queue_stop() or virtio_reset() of a machine that has ended. */
void virtio_drain(struct virtio_dev *dev);

/* ---- devices call these, with the lock held or on the queue's worker ---- */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_dev_ops *ops, uint32_t id,
		    struct loop *l, const struct gmem *m, struct error **err);
void virtio_dev_fini(struct virtio_dev *dev); /* without the lock; what virtio_dev_init() made */
/* virtio_pop: virtq_pop on a ready queue; 0 when the device is not active. A bad chain breaks the
 * device. */
int virtio_pop(struct virtio_dev *dev, unsigned q, struct virtq_chain *c);
/* virtio_next: virtio_pop, and when the ring is empty asks for a kick and looks once more. */
bool virtio_next(struct virtio_dev *dev, unsigned q, struct virtq_chain *c);
/* virtio_notify: an interrupt for queue q if the driver wants one. */
void virtio_notify(struct virtio_dev *dev, unsigned q);
void virtio_config_changed(struct virtio_dev *dev);
/* virtio_log_queues: warns of where each queue is, for a machine that hangs. Any thread. */
void virtio_log_queues(struct virtio_dev *dev);
void virtio_dev_broken(struct virtio_dev *dev, const char *why);
/* virtio_wake: makes ops->work run on the device's thread soon, or all workers look at all their queues. Any thread. */
void virtio_wake(struct virtio_dev *dev);
/* virtio_again: queue_kick is called once more for this queue, on a later turn of the loop. Without workers. Any thread. */
void virtio_again(struct virtio_dev *dev, unsigned q);
/* virtio_worker_wake: one worker only. Any thread. */
void virtio_worker_wake(struct virtio_dev *dev, unsigned w);
/* virtio_worker_watch: ops->worker_fd is called when `events` (EPOLLIN, EPOLLOUT) become true of fd; one descriptor for
 * each worker; closing it ends that. 0, or -1 with errno. */
int virtio_worker_watch(struct virtio_dev *dev, unsigned w, int fd, uint32_t events);
static inline bool virtio_pausing(const struct virtio_dev *dev)
{
	return __atomic_load_n(&dev->pausing, __ATOMIC_RELAXED);
}
static inline bool virtio_has(const struct virtio_dev *dev, unsigned bit)
{
	return dev->features_acked & VIRTIO_F(bit);
}

/* ---- between virtio.c and virtio_worker.c ---- */
void virtio_eventfd_signal(int fd);
int virtio_workers_init(struct virtio_dev *dev, struct error **err);
void virtio_workers_fini(struct virtio_dev *dev);
/* Whether queue q's kick descriptor is watched. */
int virtio_worker_kick_fd(struct virtio_dev *dev, unsigned q, bool on);

/* ---- the devices; loop's thread; descriptors in the configurations are borrowed ---- */
struct virtio_dev *virtio_blk_new(struct loop *l, const struct gmem *m, const struct vm_disk *d,
				  struct error **err);
/* virtio_blk_work: how many requests it has answered; *now becomes true when it is at one. Any thread. */
uint64_t virtio_blk_work(const struct virtio_dev *dev, bool *now);
struct virtio_dev *virtio_net_new(struct loop *l, const struct gmem *m, const struct vm_nic *n,
				  struct error **err);
/* Frames of the guest's that were dropped for this reason (vmm/net_filter.h); any thread. */
uint64_t virtio_net_dropped(const struct virtio_dev *dev, enum net_verdict v);
bool virtio_net_link_up(struct virtio_dev *dev);
struct virtio_dev *virtio_vsock_new(struct loop *l, const struct gmem *m, uint64_t cid,
				    vsock_accept_fn accept, void *arg, struct error **err);
struct virtio_dev *virtio_rng_new(struct loop *l, const struct gmem *m, struct error **err);
struct virtio_dev *virtio_fs_new(struct loop *l, const struct gmem *m, struct fs_channel *ch,
				 struct error **err);
struct virtio_dev *virtio_balloon_new(struct loop *l, const struct gmem *m, struct error **err);
/* virtio_balloon_want: how many bytes the guest shall do without; it may give fewer. Any thread. virtio_balloon_given: how
 * many it says it does. */
void virtio_balloon_want(struct virtio_dev *dev, uint64_t bytes);
uint64_t virtio_balloon_given(struct virtio_dev *dev);
/* fn gets what the guest writes to /dev/hvc0 (loop's thread, lock not held). */
struct virtio_dev *virtio_console_new(struct loop *l, const struct gmem *m,
				      void (*fn)(void *arg, const void *p, size_t len), void *arg,
				      struct error **err);

#endif
