/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_user.c - vhost-user, back end side (QEMU docs/interop/vhost-user).
 *
 * One connection is one device. The front end (QEMU) keeps the transport registers; it tells us features, the memory
 * table, the rings and their descriptors. Its messages are as little trusted as the guest: a QEMU that the guest took
 * over must not get at this process. So the memory table may only name our own memfd, which is mapped already: a table
 * is a view of that mapping, and no address in it is ever mapped or unmapped. A message that breaks the rules ends this
 * connection and stops this device.
 *
 * A ring runs when it has a size, addresses, a kick descriptor, and is enabled. GET_VRING_BASE stops it; when the last
 * one has stopped the guest has reset the device.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/vhost_user.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN_QEMU, sendmsg),
	FILTER_ALLOW(FILTER_MAIN_QEMU, recvmsg),
	FILTER_ALLOW(FILTER_MAIN_QEMU, close),
	/* fstat() of descriptors only: newfstatat with an empty path is what the C library makes of it */
	FILTER_ALLOW(FILTER_MAIN_QEMU, fstat),
	FILTER_ALLOW_ARG(FILTER_MAIN_QEMU, newfstatat, 3, ~0u, AT_EMPTY_PATH),
};

enum {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_LAST = VU_SET_CONFIG,
};

#define VU_VERSION      1u
#define VU_VERSION_MASK 3u
#define VU_REPLY        4u
#define VU_NEED_REPLY   8u
#define VU_F_PROTOCOL   (1ull << 30) /* VHOST_USER_F_PROTOCOL_FEATURES */
#define VU_P_MQ         (1ull << 0)
#define VU_P_REPLY_ACK  (1ull << 3)
#define VU_P_CONFIG     (1ull << 9)
#define VU_NO_FD        0x100u
#define VU_MAX_FDS      8
#define VU_CONFIG_MAX   256u
#define PIECES_TURN     64   /* headers and payloads taken in one turn of the loop */
#define PIECES_REST     1024 /* more than a socket holds */

struct vu_header {
	uint32_t request, flags, size;
};

struct vu_region {
	uint64_t gpa, size, user, offset;
};

union vu_payload {
	uint64_t u64;
	struct {
		uint32_t index, num;
	} state;
	struct {
		uint32_t index, flags;
		uint64_t desc, used, avail, log;
	} addr;
	struct {
		uint32_t n, padding;
		struct vu_region region[GMEM_MAX_REGIONS];
	} mem;
	struct {
		uint32_t offset, size, flags;
		uint8_t bytes[VU_CONFIG_MAX];
	} config;
	uint8_t raw[512];
};

struct vu_ring {
	uint32_t num;
	uint16_t base;
	uint64_t desc, used, avail; /* front end's addresses */
	bool have_addr, have_kick, enabled, running;
};

struct vhost_user {
	struct loop *loop;
	int fd;
	struct loop_source *src;
	struct virtio_dev *dev;
	const struct gmem *mem;
	struct gmem view; /* what the table made of mem */
	uint64_t user[GMEM_MAX_REGIONS];
	uint64_t protocol; /* acknowledged protocol features */
	bool protocol_acked;
	struct vu_ring ring[VIRTIO_MAX_QUEUES];
	/* The message being received. */
	struct vu_header hdr;
	union vu_payload in;
	size_t got; /* of header and payload */
	int fds[VU_MAX_FDS];
	unsigned nfds;
};

static void drop_fds(struct vhost_user *vu)
{
	while (vu->nfds)
		base_close_fd(&vu->fds[--vu->nfds]);
}

static int bad(struct error **err, const char *what)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "vhost-user: %s", what);
}

static int reply(struct vhost_user *vu, const void *p, uint32_t len, struct error **err)
{
	struct vu_header h = {.request = vu->hdr.request,
			      .flags = VU_VERSION | VU_REPLY,
			      .size = len};
	struct iovec iov[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)p, len}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n = RETRY_EINTR(sendmsg(vu->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL));

	/* The front end waits for each answer: there is always room. */
	if (n != (ssize_t)(sizeof(h) + len))
		return error_sys(err, n < 0 ? errno : EIO, "vhost-user: answer");
	return 0;
}

static int reply_u64(struct vhost_user *vu, uint64_t v, struct error **err)
{
	return reply(vu, &v, sizeof(v), err);
}

/* ---- memory ---- */

static int add_region(struct vhost_user *vu, struct gmem *view, const struct vu_region *r, int fd,
		      const struct stat *ours, struct error **err)
{
	uint64_t end, total = gmem_bytes(vu->mem);
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_dev != ours->st_dev || st.st_ino != ours->st_ino)
		return bad(err, "memory that is not this machine's");
	if (!r->size || !add_ok(r->offset, r->size, &end) || end > total ||
	    !add_ok(r->gpa, r->size, &end) || !add_ok(r->user, r->size, &end))
		return bad(err, "memory region out of range");
	vu->user[view->nregions] = r->user;
	view->regions[view->nregions++] =
		(struct gmem_region){.gpa = r->gpa,
				     .size = r->size,
				     .fd_off = r->offset,
				     .hva = vu->mem->regions[0].hva + r->offset};
	return 0;
}

static int set_mem_table(struct vhost_user *vu, struct error **err)
{
	struct gmem view = {.fd = -1};
	struct stat ours;
	uint32_t i, n = vu->in.mem.n;

	if (n > GMEM_MAX_REGIONS || vu->hdr.size < 8 + n * sizeof(struct vu_region) ||
	    vu->nfds != n)
		return bad(err, "memory table of the wrong size");
	if (fstat(vu->mem->fd, &ours) < 0)
		return error_sys(err, errno, "vhost-user: guest memory");
	for (i = 0; i < n; i++)
		if (add_region(vu, &view, &vu->in.mem.region[i], vu->fds[i], &ours, err) < 0)
			return -1;
	/* Rings that run stay where they are: the mapping under all views is the same. */
	virtio_pause(vu->dev);
	vu->view = view;
	vu->dev->mem = &vu->view;
	virtio_resume(vu->dev);
	return 0;
}

static int to_gpa(const struct vhost_user *vu, uint64_t user, uint64_t *gpa)
{
	unsigned i;

	for (i = 0; i < vu->view.nregions; i++) {
		uint64_t off = user - vu->user[i];

		if (user >= vu->user[i] && off < vu->view.regions[i].size) {
			*gpa = vu->view.regions[i].gpa + off;
			return 0;
		}
	}
	return -1;
}

/* ---- rings ---- */

static struct vu_ring *ring_of(struct vhost_user *vu, uint64_t index)
{
	return index < vu->dev->nqueues ? &vu->ring[index] : NULL;
}

static int ring_try_start(struct vhost_user *vu, unsigned q, struct error **err)
{
	struct vu_ring *r = &vu->ring[q];
	uint64_t desc, avail, used;

	if (r->running || !r->have_addr || !r->have_kick || (!r->enabled && vu->protocol_acked))
		return 0;
	if (to_gpa(vu, r->desc, &desc) < 0 || to_gpa(vu, r->avail, &avail) < 0 ||
	    to_gpa(vu, r->used, &used) < 0)
		return bad(err, "ring outside the memory table");
	if (virtio_queue_set(vu->dev, q, r->num, desc, avail, used) < 0)
		return error_set(err, ERR_INVALID_ARGUMENT, "vhost-user: ring of %u entries",
				 r->num);
	/* Bad rings are the guest's doing: the device is out of service then, the connection goes on. */
	if (!virtio_queue_start(vu->dev, q, r->base))
		r->running = true;
	return 0;
}

static void ring_stop(struct vhost_user *vu, unsigned q)
{
	struct vu_ring *r = &vu->ring[q];

	if (r->running) {
		virtio_drain(vu->dev);
		r->base = virtio_queue_stop(vu->dev, q);
	}
	r->running = false;
}

static int get_vring_base(struct vhost_user *vu, struct error **err)
{
	uint32_t q = vu->in.state.index;
	struct vu_ring *r = ring_of(vu, q);
	union vu_payload out = {0};
	unsigned i;

	if (!r)
		return bad(err, "no such ring");
	ring_stop(vu, q);
	r->have_kick = false;
	out.state.index = q;
	out.state.num = r->base;
	for (i = 0; i < vu->dev->nqueues; i++)
		if (vu->ring[i].running)
			break;
	if (i == vu->dev->nqueues)
		virtio_reset(vu->dev);
	return reply(vu, &out, sizeof(out.state), err);
}

static int set_vring_addr(struct vhost_user *vu, struct error **err)
{
	struct vu_ring *r = ring_of(vu, vu->in.addr.index);

	if (!r)
		return bad(err, "no such ring");
	r->desc = vu->in.addr.desc;
	r->avail = vu->in.addr.avail;
	r->used = vu->in.addr.used;
	r->have_addr = true;
	return ring_try_start(vu, vu->in.addr.index, err);
}

static int set_vring_state(struct vhost_user *vu, struct error **err)
{
	struct vu_ring *r = ring_of(vu, vu->in.state.index);
	uint32_t num = vu->in.state.num;

	if (!r)
		return bad(err, "no such ring");
	switch (vu->hdr.request) {
	case VU_SET_VRING_NUM:
		r->num = num;
		return 0;
	case VU_SET_VRING_BASE:
		if (num > UINT16_MAX)
			return bad(err, "ring base");
		r->base = (uint16_t)num;
		return 0;
	default:
		r->enabled = num == 1;
		if (!r->enabled)
			ring_stop(vu, vu->in.state.index);
		return ring_try_start(vu, vu->in.state.index, err);
	}
}

static int set_vring_fd(struct vhost_user *vu, struct error **err)
{
	unsigned q = vu->in.u64 & 0xff;
	bool none = vu->in.u64 & VU_NO_FD;
	struct vu_ring *r = ring_of(vu, q);

	if (!r || vu->nfds != (none ? 0u : 1u))
		return bad(err, "ring descriptor");
	if (vu->hdr.request == VU_SET_VRING_ERR)
		return 0; /* errors are told by the log */
	if (vu->hdr.request == VU_SET_VRING_CALL) {
		virtio_set_call_fd(vu->dev, q, none ? -1 : steal_fd(&vu->fds[0]));
		return 0;
	}
	if (none)
		return bad(err, "polled rings are not supported yet");
	if (virtio_set_kick_fd(vu->dev, q, steal_fd(&vu->fds[0]), err) < 0)
		return -1;
	r->have_kick = true;
	return ring_try_start(vu, q, err);
}

/* ---- the rest ---- */

static int get_features(struct vhost_user *vu, struct error **err)
{
	return reply_u64(vu, vu->dev->features_offered | VU_F_PROTOCOL, err);
}

static int set_features(struct vhost_user *vu, struct error **err)
{
	uint64_t f = vu->in.u64;

	vu->protocol_acked = f & VU_F_PROTOCOL;
	f &= ~VU_F_PROTOCOL;
	if (f != vu->dev->features_acked && virtio_ack_features(vu->dev, f) < 0)
		return bad(err, "features that were not offered, or while the device runs");
	return 0;
}

/* QEMU keeps the configuration of network cards and of file systems itself and warns when it is offered; entropy has none. */
static uint64_t protocol_offered(const struct vhost_user *vu)
{
	uint32_t id = vu->dev->id;
	bool own = id == VIRTIO_ID_NET || id == VIRTIO_ID_FS || id == VIRTIO_ID_RNG;

	return VU_P_MQ | VU_P_REPLY_ACK | (own ? 0 : VU_P_CONFIG);
}

static int get_protocol_features(struct vhost_user *vu, struct error **err)
{
	return reply_u64(vu, protocol_offered(vu), err);
}

static int set_protocol_features(struct vhost_user *vu, struct error **err)
{
	if (vu->in.u64 & ~protocol_offered(vu))
		return bad(err, "protocol features that were not offered");
	vu->protocol = vu->in.u64;
	return 0;
}

static int get_queue_num(struct vhost_user *vu, struct error **err)
{
	/* For a network card it counts pairs. */
	return reply_u64(vu, vu->dev->nqueues / (vu->dev->id == VIRTIO_ID_NET ? 2 : 1), err);
}

static int config_access(struct vhost_user *vu, struct error **err)
{
	uint32_t size = vu->in.config.size;

	if (size > VU_CONFIG_MAX || vu->hdr.size != 12 + size)
		return bad(err, "configuration access of the wrong size");
	if (vu->hdr.request == VU_SET_CONFIG) {
		virtio_config_write(vu->dev, vu->in.config.offset, vu->in.config.bytes, size);
		return 0;
	}
	memset(vu->in.config.bytes, 0, sizeof(vu->in.config.bytes));
	if (vu->in.config.offset < vu->dev->config_len)
		virtio_config_read(vu->dev, vu->in.config.offset, vu->in.config.bytes,
				   MIN(size, vu->dev->config_len - vu->in.config.offset));
	return reply(vu, &vu->in, vu->hdr.size, err);
}

static int nothing(struct vhost_user *vu, struct error **err)
{
	return 0;
}

static const struct {
	int (*fn)(struct vhost_user *vu, struct error **err);
	uint32_t min, max; /* payload */
	bool answers;      /* has a reply of its own */
} messages[VU_LAST + 1] = {
	[VU_GET_FEATURES] = {get_features, 0, 0, true},
	[VU_SET_FEATURES] = {set_features, 8, 8, false},
	[VU_SET_OWNER] = {nothing, 0, 0, false},
	[VU_SET_MEM_TABLE] = {set_mem_table, 8, 8 + GMEM_MAX_REGIONS * sizeof(struct vu_region),
			      false},
	[VU_SET_VRING_NUM] = {set_vring_state, 8, 8, false},
	[VU_SET_VRING_ADDR] = {set_vring_addr, 40, 40, false},
	[VU_SET_VRING_BASE] = {set_vring_state, 8, 8, false},
	[VU_GET_VRING_BASE] = {get_vring_base, 8, 8, true},
	[VU_SET_VRING_KICK] = {set_vring_fd, 8, 8, false},
	[VU_SET_VRING_CALL] = {set_vring_fd, 8, 8, false},
	[VU_SET_VRING_ERR] = {set_vring_fd, 8, 8, false},
	[VU_GET_PROTOCOL_FEATURES] = {get_protocol_features, 0, 0, true},
	[VU_SET_PROTOCOL_FEATURES] = {set_protocol_features, 8, 8, false},
	[VU_GET_QUEUE_NUM] = {get_queue_num, 0, 0, true},
	[VU_SET_VRING_ENABLE] = {set_vring_state, 8, 8, false},
	[VU_GET_CONFIG] = {config_access, 12, 12 + VU_CONFIG_MAX, true},
	[VU_SET_CONFIG] = {config_access, 12, 12 + VU_CONFIG_MAX, false},
};

static int handle(struct vhost_user *vu, struct error **err)
{
	uint32_t req = vu->hdr.request;

	if (messages[req].fn(vu, err) < 0)
		return -1;
	if (!messages[req].answers && vu->hdr.flags & VU_NEED_REPLY &&
	    vu->protocol & VU_P_REPLY_ACK)
		return reply_u64(vu, 0, err);
	return 0;
}

static int check_header(const struct vhost_user *vu, struct error **err)
{
	uint32_t req = vu->hdr.request;

	if ((vu->hdr.flags & VU_VERSION_MASK) != VU_VERSION || vu->hdr.flags & VU_REPLY)
		return bad(err, "message of another version");
	if (req > VU_LAST || !messages[req].fn)
		return error_set(err, ERR_UNSUPPORTED, "vhost-user: message %u is not supported",
				 req);
	if (vu->hdr.size < messages[req].min || vu->hdr.size > messages[req].max)
		return error_set(err, ERR_INVALID_ARGUMENT, "vhost-user: message %u of %u bytes",
				 req, vu->hdr.size);
	return 0;
}

static int take_fds(struct vhost_user *vu, struct msghdr *m, struct error **err)
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t i, n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (vu->nfds < VU_MAX_FDS)
				vu->fds[vu->nfds++] = fd;
			else
				close(fd);
		}
	}
	return m->msg_flags & MSG_CTRUNC ? bad(err, "too many descriptors") : 0;
}

/* 1: something was read; 0: nothing to read now; -1: error or end. */
static int receive(struct vhost_user *vu, struct error **err)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * VU_MAX_FDS)];
	} ctl;
	size_t h = sizeof(vu->hdr);
	struct iovec iov = {(char *)&vu->hdr + vu->got, h - vu->got};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &ctl,
			   .msg_controllen = sizeof(ctl)};
	ssize_t n;

	if (vu->got >= h)
		iov = (struct iovec){vu->in.raw + (vu->got - h), vu->hdr.size - (vu->got - h)};
	n = RETRY_EINTR(recvmsg(vu->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
	if (n < 0)
		return errno == EAGAIN ? 0 : error_sys(err, errno, "vhost-user: receive");
	if (take_fds(vu, &m, err) < 0)
		return -1;
	if (!n)
		return error_set(err, ERR_EMPTY, "vhost-user: closed");
	vu->got += (size_t)n;
	return 1;
}

/* Takes at most so many pieces: a front end that never stops talking must not keep the loop. */
static int run(struct vhost_user *vu, unsigned pieces, struct error **err)
{
	while (pieces--) {
		bool was_header = vu->got < sizeof(vu->hdr);
		int rc = receive(vu, err);

		if (rc <= 0)
			return rc;
		if (was_header && vu->got == sizeof(vu->hdr) && check_header(vu, err) < 0)
			return -1;
		if (vu->got < sizeof(vu->hdr) || vu->got < sizeof(vu->hdr) + vu->hdr.size)
			continue;
		rc = handle(vu, err);
		drop_fds(vu);
		vu->got = 0;
		memset(&vu->in, 0, sizeof(vu->in));
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* The connection is over: the device stops and forgets the guest. */
static void end(struct vhost_user *vu)
{
	unsigned q;

	loop_source_free(STEAL(vu->src));
	base_close_fd(&vu->fd);
	vu->fd = -1;
	drop_fds(vu);
	for (q = 0; q < vu->dev->nqueues; q++)
		ring_stop(vu, q);
	virtio_reset(vu->dev);
}

void vhost_user_finish(struct vhost_user *vu)
{
	if (!vu || vu->fd < 0)
		return;
	(void)run(vu, PIECES_REST, NULL);
	end(vu);
}

static void on_message(void *arg, int fd, uint32_t events)
{
	CLEANUP_ERROR struct error *e = NULL;
	struct vhost_user *vu = arg;

	if (!run(vu, PIECES_TURN, &e))
		return;
	if (e->code != ERR_EMPTY && e->sys != ECONNRESET)
		log_err(e, "virtio-%s", vu->dev->ops->name);
	end(vu);
}

struct vhost_user *vhost_user_new(struct loop *l, int fd, struct virtio_dev *dev,
				  const struct gmem *mem, struct error **err)
{
	struct vhost_user *vu = xcalloc(1, sizeof(*vu));
	unsigned q;

	vu->loop = l;
	vu->fd = fd;
	vu->dev = dev;
	vu->mem = mem;
	/* QEMU's virtio-mmio tells the driver 1024 entries whatever the device says. */
	for (q = 0; q < dev->nqueues; q++)
		dev->vq[q].max_size = VIRTQ_MAX_SIZE;
	vu->src = loop_add_fd(l, fd, EPOLLIN, on_message, vu, err);
	if (vu->src)
		return vu;
	close(fd);
	free(vu);
	return NULL;
}

void vhost_user_free(struct vhost_user *vu)
{
	if (!vu)
		return;
	end(vu);
	virtio_pause(vu->dev);
	vu->dev->mem = vu->mem;
	virtio_resume(vu->dev);
	free(vu);
}
