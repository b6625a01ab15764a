/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.c - shared directories (virtio 1.2 §5.11): requests of the guest's FUSE client, answered by another process (fs.h).
 *
 * One worker serves both queues. It takes a chain when it has an idle slot for it, copies its readable part there, and goes on;
 * when the server has answered it copies the reply into the chain's writable part. What finds no idle slot stays in the ring.
 *
 * A reset drops what is under way: such a slot's answer, when it comes, goes nowhere, and until then the slot is not used. It does
 * not wait: the host's file system may hang, and a guest must be able to go. Hence nothing counts as in flight (virtio.h).
 *
 * What no FUSE client sends is answered with an error where there is room for one: a header that is not whole, a request longer
 * than FUSE_MSG_MAX. Once the server is gone everything is answered with EIO.
 */
#include <linux/fuse.h>
#include <sys/epoll.h>

#include "core/log.h"
#include "core/path.h"
#include "vmm/agent.h"
#include "vmm/fs.h"
#include "vmm/virtio.h"

#define QUEUE_SIZE VIRTQ_MAX_SIZE /* a message of FUSE_MSG_MAX has 260 pieces */
#define HIPRIO     0
#define REQUESTS   1
#define QUEUES     2
#define WORDS_MAX  1024 /* of a message of the server's */

FILTER_RULES = {
	/* The server's words and its end. */
	FILTER_ALLOW(FILTER_MAIN, read),
};

/* A slot as the device knows it. */
struct fs_req {
	bool busy;       /* posted and not answered */
	bool dropped;    /* nobody waits for the answer any more */
	unsigned q;      /* whose chain it is */
	uint64_t unique; /* of the request's header */
	struct virtq_chain chain;
};

/* The configuration space (§5.11.4) without what takes VIRTIO_FS_F_NOTIFICATION. */
struct fs_config {
	char tag[36];
	uint32_t num_request_queues;
};

struct vfs {
	struct virtio_dev dev;
	struct fs_config cfg;
	struct fs_channel *ch; /* borrowed */
	struct loop_source *src;
	bool dead; /* atomic: the server is gone */
	struct fs_req req[FS_SLOTS];
};

static struct vfs *vfs_of(struct virtio_dev *dev)
{
	return container_of(dev, struct vfs, dev);
}

static void vfs_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&vfs_of(dev)->cfg + off, len);
}

static bool is_dead(const struct vfs *v)
{
	return __atomic_load_n(&v->dead, __ATOMIC_ACQUIRE);
}

/* ---- answers ---- */

static void answer(struct vfs *v, struct fs_req *r, const void *p, size_t len)
{
	/* Half a reply would be taken for a whole one. */
	if (len > r->chain.in_len)
		len = 0;
	len = virtq_write_in(&r->chain, 0, p, len);
	virtq_push(&v->dev.vq[r->q], r->chain.head, (uint32_t)len);
	virtq_publish(&v->dev.vq[r->q]);
	virtio_notify(&v->dev, r->q);
}

static void answer_error(struct vfs *v, struct fs_req *r, int error)
{
	struct fuse_out_header h = {.len = sizeof(h), .error = -error, .unique = r->unique};

	answer(v, r, &h, sizeof(h));
}

/* Takes what the server has answered. */
static void reap(struct vfs *v)
{
	bool dead = is_dead(v);
	unsigned i;

	for (i = 0; i < FS_SLOTS; i++) {
		struct fs_req *r = &v->req[i];
		const uint8_t *reply;
		bool answered;
		size_t len;

		if (!r->busy)
			continue;
		answered = fs_answered(v->ch, i, &reply, &len);
		if (!answered && !dead)
			continue;
		r->busy = false;
		if (r->dropped)
			continue;
		if (answered)
			answer(v, r, reply, len);
		else
			answer_error(v, r, EIO);
	}
}

/* ---- requests ---- */

static struct fs_req *idle_slot(struct vfs *v, unsigned q)
{
	unsigned i, first = q == HIPRIO ? FS_HIPRIO : 0, end = q == HIPRIO ? FS_SLOTS : FS_WORKERS;

	for (i = first; i < end; i++)
		if (!v->req[i].busy)
			return &v->req[i];
	return NULL;
}

/* A chain was popped into the slot. */
static void request(struct vfs *v, unsigned q, struct fs_req *r)
{
	unsigned slot = (unsigned)(r - v->req);
	struct fuse_in_header h = {0};
	size_t len = r->chain.out_len;

	(void)virtq_read_out(&r->chain, 0, &h, sizeof(h));
	r->q = q;
	r->unique = h.unique;
	if (len < sizeof(h) || len > FUSE_MSG_MAX) {
		answer_error(v, r, EINVAL);
		return;
	}
	if (is_dead(v)) {
		answer_error(v, r, EIO);
		return;
	}
	if (virtq_read_out(&r->chain, 0, fs_request(v->ch, slot), len) != len) {
		answer_error(v, r, EINVAL);
		return;
	}
	r->busy = true;
	r->dropped = false;
	fs_post(v->ch, slot, len, r->chain.in_len);
}

static void take(struct vfs *v, unsigned q)
{
	struct fs_req *r;

	while (!virtio_pausing(&v->dev) && (r = idle_slot(v, q)) &&
	       virtio_next(&v->dev, q, &r->chain))
		request(v, q, r);
}

static void vfs_kick(struct virtio_dev *dev, unsigned q)
{
	struct vfs *v = vfs_of(dev);

	/* An answer that came while no queue ran was told to nobody. */
	reap(v);
	take(v, q);
}

static void vfs_worker_fd(struct virtio_dev *dev, unsigned w, uint32_t running)
{
	struct vfs *v = vfs_of(dev);
	unsigned q;

	reap(v);
	for (q = 0; q < QUEUES; q++)
		if (running & (1u << q))
			take(v, q);
}

static void drop(struct vfs *v, uint32_t queues)
{
	unsigned i;

	for (i = 0; i < FS_SLOTS; i++)
		if (v->req[i].busy && queues & (1u << v->req[i].q))
			v->req[i].dropped = true;
}

static void vfs_reset(struct virtio_dev *dev)
{
	drop(vfs_of(dev), ~0u);
}

static void vfs_queue_stopped(struct virtio_dev *dev, unsigned q)
{
	drop(vfs_of(dev), 1u << q);
}

/* ---- the server's words ---- */

static void on_server(void *arg, int fd, uint32_t events)
{
	struct vfs *v = arg;
	char text[WORDS_MAX];
	ssize_t n = RETRY_EINTR(read(fd, text, sizeof(text)));

	if (n > 0) {
		log_warn("shares: %.*s", (int)(text[n - 1] == '\n' ? n - 1 : n), text);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	log_error(
		"shares: their server has ended: what the container does there fails from now on");
	loop_source_free(STEAL(v->src));
	__atomic_store_n(&v->dead, true, __ATOMIC_RELEASE);
	virtio_wake(&v->dev);
}

/* ---- life ---- */

static void vfs_free(struct virtio_dev *dev)
{
	struct vfs *v = vfs_of(dev);

	loop_source_free(v->src);
	virtio_dev_fini(dev);
	free(v);
}

static const struct virtio_dev_ops vfs_ops = {
	.name = "fs",
	.filter = FILTER_BLK, /* of which it needs a few: kicks, the server's wake-up */
	.config_read = vfs_config_read,
	.reset = vfs_reset,
	.queue_kick = vfs_kick,
	.worker_fd = vfs_worker_fd,
	.queue_stopped = vfs_queue_stopped,
	.free = vfs_free,
};

static int vfs_init(struct vfs *v, struct loop *l, const struct gmem *m, struct error **err)
{
	unsigned q;

	v->dev.nqueues = QUEUES;
	v->dev.nworkers = 1;
	v->dev.config_len = sizeof(v->cfg);
	for (q = 0; q < QUEUES; q++)
		v->dev.vq[q].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&v->dev, &vfs_ops, VIRTIO_ID_FS, l, m, err) < 0)
		return -1;
	if (virtio_worker_watch(&v->dev, 0, v->ch->done_fd, EPOLLIN) < 0)
		return error_sys(err, errno, "virtio-fs: watch the server");
	v->src = loop_add_fd(l, v->ch->sock, EPOLLIN, on_server, v, err);
	return v->src ? 0 : -1;
}

struct virtio_dev *virtio_fs_new(struct loop *l, const struct gmem *m, struct fs_channel *ch,
				 struct error **err)
{
	struct vfs *v = xcalloc(1, sizeof(*v));

	v->ch = ch;
	v->cfg = (struct fs_config){.tag = AGENT_SHARES_TAG, .num_request_queues = QUEUES - 1};
	if (vfs_init(v, l, m, err) < 0) {
		vfs_free(&v->dev);
		return NULL;
	}
	return &v->dev;
}
