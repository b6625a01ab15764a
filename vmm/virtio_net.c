/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net.c - a network card (virtio 1.2 §5.1): pairs of queues on the queues of a tap, or one pair on a socket.
 *
 * Frames cross with the 12-byte virtio_net_hdr_v1 in front, on the tap too (TUNSETVNETHDRSZ), so that checksum and
 * segmentation offloads pass through: which of them the tap has is asked at the beginning, which of them the driver
 * takes is told to the tap when the driver is there. A SOCK_SEQPACKET or SOCK_DGRAM socket carries the same frames
 * without offloads; a SOCK_STREAM one is passt's (net_stream.h).
 *
 * Of several pairs the driver uses the first until it says on the control queue that it uses more (§5.1.6.5.5); with
 * vhost-user the front end has that queue, and a pair is in use when its rings run. The tap is told, or it would hand
 * frames to queues that nobody serves.
 */
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "vmm/net_impl.h"

#define QUEUE_SIZE 256
#define CONFIG_LEN 12 /* up to the MTU */

FILTER_RULES = {
	/* Offloads are switched when the driver is there: by the vCPU that says so, or the front end's loop. Queues when it
	 * uses them, by their worker, and when it is reset. */
	FILTER_ALLOW_ARG(FILTER_VCPU | FILTER_MAIN_QEMU, ioctl, 1, ~0u, TUNSETOFFLOAD),
	FILTER_ALLOW_ARG(FILTER_VCPU | FILTER_MAIN_QEMU | FILTER_NET, ioctl, 1, ~0u, TUNSETQUEUE),
};

_Static_assert(sizeof(struct virtio_net_hdr_v1) == 12, "vnet header (§5.1.6)");
_Static_assert(offsetof(struct virtio_net_config, mtu) + 2 == CONFIG_LEN, "configuration (§5.1.4)");

static struct net *net_of(struct virtio_dev *dev)
{
	return container_of(dev, struct net, dev);
}

static void net_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&net_of(dev)->config + off, len);
}

/* ---- pairs ---- */

/* The tap hands frames to the pair, or no longer does. */
static void attach(struct net_pair *p, bool on)
{
	struct ifreq ifr = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	if (!p->net->tap || p->net->npairs == 1 || p->attached == on)
		return;
	if (ioctl(p->fd, TUNSETQUEUE, &ifr) < 0)
		log_warn("net: TUNSETQUEUE: %s", strerror(errno));
	__atomic_store_n(&p->attached, on, __ATOMIC_RELAXED);
}

static bool in_use(const struct net_pair *p)
{
	struct virtio_dev *dev = &p->net->dev;

	if (!p->index)
		return true;
	if (!virtio_has(dev, VIRTIO_NET_F_MQ))
		return false;
	return !virtio_has(dev, VIRTIO_NET_F_CTRL_VQ) ||
	       p->index < __atomic_load_n(&p->net->active, __ATOMIC_ACQUIRE);
}

static void serve(struct net_pair *p, bool rx, bool tx)
{
	if (rx)
		attach(p, in_use(p));
	net_pair_serve(p, rx && p->attached, tx);
}

/* ---- the control queue (§5.1.6.5) ---- */

static uint8_t control(struct net *n, const struct virtq_chain *c)
{
	struct {
		struct virtio_net_ctrl_hdr h;
		uint16_t pairs;
	} __attribute__((packed)) cmd;

	if (virtq_read_out(c, 0, &cmd, sizeof(cmd)) != sizeof(cmd) ||
	    cmd.h.class != VIRTIO_NET_CTRL_MQ || cmd.h.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    !virtio_has(&n->dev, VIRTIO_NET_F_MQ) || !cmd.pairs || cmd.pairs > n->npairs)
		return VIRTIO_NET_ERR;
	__atomic_store_n(&n->active, cmd.pairs, __ATOMIC_RELEASE);
	virtio_wake(&n->dev); /* each worker attaches its own */
	return VIRTIO_NET_OK;
}

static void control_run(struct net *n, unsigned q)
{
	while (!virtio_pausing(&n->dev) && virtio_next(&n->dev, q, &n->ctrl)) {
		uint8_t ack = control(n, &n->ctrl);

		virtq_push(&n->dev.vq[q], n->ctrl.head,
			   (uint32_t)virtq_write_in(&n->ctrl, 0, &ack, 1));
		virtq_publish(&n->dev.vq[q]);
	}
	virtio_notify(&n->dev, q);
}

/* Its place depends on what the driver knows (§5.1.2). */
static bool is_control(const struct net *n, unsigned q)
{
	return virtio_has(&n->dev, VIRTIO_NET_F_CTRL_VQ) &&
	       q == (virtio_has(&n->dev, VIRTIO_NET_F_MQ) ? 2 * n->npairs : 2);
}

/* ---- operations ---- */

static void net_kick(struct virtio_dev *dev, unsigned q)
{
	struct net *n = net_of(dev);

	if (is_control(n, q))
		control_run(n, q);
	else if (q / 2 < n->npairs)
		serve(n->pair[q / 2], dev->vq[q & ~1u].ready, q % 2);
}

static void net_worker_fd(struct virtio_dev *dev, unsigned w, uint32_t running)
{
	struct net_pair *p = net_of(dev)->pair[w];

	serve(p, running & 1u << (2 * w), p->stream && running & 2u << (2 * w));
}

static unsigned guest_offloads(const struct net *n)
{
	static const struct {
		uint8_t feature, tun;
	} map[] = {
		{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM}, {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6}, {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
		{VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},   {NET_F_GUEST_USO4, NET_TUN_F_USO4},
		{NET_F_GUEST_USO6, NET_TUN_F_USO6},
	};
	unsigned off = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(map); i++)
		if (virtio_has(&n->dev, map[i].feature))
			off |= map[i].tun;
	/* A tap takes the two UDP bits together or not at all, and none without checksums. */
	if ((off & (NET_TUN_F_USO4 | NET_TUN_F_USO6)) != (NET_TUN_F_USO4 | NET_TUN_F_USO6))
		off &= ~(unsigned)(NET_TUN_F_USO4 | NET_TUN_F_USO6);
	/* Refused, those of the driver before this one would stay. */
	if (!(off & (TUN_F_TSO4 | TUN_F_TSO6)))
		off &= ~(unsigned)TUN_F_TSO_ECN;
	return off & TUN_F_CSUM ? off & n->offloads : 0;
}

/* Tells the tap which offloads the driver takes (GUEST_*): nothing else may come. */
static int net_activate(struct virtio_dev *dev)
{
	struct net *n = net_of(dev);
	unsigned i, off = guest_offloads(n);
	bool big = !n->tap || off & (TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO | NET_TUN_F_USO4);

	for (i = 0; i < n->npairs; i++)
		n->pair[i]->rx_want =
			NET_HDR + (big ? NET_FRAME_MAX : MAX(n->config.mtu, 1500u) + ETH_HLEN + 4);
	if (n->tap && ioctl(n->pair[0]->fd, TUNSETOFFLOAD, off) < 0)
		log_warn("net: TUNSETOFFLOAD: %s", strerror(errno));
	return 0;
}

static void net_reset(struct virtio_dev *dev)
{
	struct net *n = net_of(dev);
	unsigned i;

	n->active = 1;
	for (i = 0; i < n->npairs; i++) {
		n->pair[i]->pending = NULL;
		attach(n->pair[i], !i);
	}
}

/* vhost-user: the front end stopped a pair. */
static void net_stopped(struct virtio_dev *dev, unsigned q)
{
	struct net *n = net_of(dev);

	if (q && q / 2 < n->npairs)
		attach(n->pair[q / 2], false);
}

static void log_dropped(const struct net *n)
{
	unsigned v;

	for (v = NET_PASS + 1; v < NET_VERDICTS; v++) {
		uint64_t count = virtio_net_dropped(&n->dev, v);

		if (count)
			log_info("net: %llu frames of the guest's dropped: %s",
				 (unsigned long long)count, net_verdict_name(v));
	}
}

static void destroy(struct net *n)
{
	while (n->npairs) {
		struct net_pair *p = n->pair[--n->npairs];

		net_stream_free(p->stream);
		free(p);
	}
	free(n);
}

static void net_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
	log_dropped(net_of(dev));
	destroy(net_of(dev));
}

static const struct virtio_dev_ops net_ops = {
	.name = "net",
	.filter = FILTER_NET,
	.config_read = net_config_read,
	.activate = net_activate,
	.reset = net_reset,
	.queue_kick = net_kick,
	.queue_stopped = net_stopped,
	.worker_fd = net_worker_fd,
	.free = net_free,
};

void net_link_lost(struct net *n)
{
	pthread_mutex_lock(&n->dev.lock);
	if (n->config.status & VIRTIO_NET_S_LINK_UP) {
		n->config.status = 0;
		virtio_config_changed(&n->dev);
	}
	pthread_mutex_unlock(&n->dev.lock);
}

bool virtio_net_link_up(struct virtio_dev *dev)
{
	bool up;

	pthread_mutex_lock(&dev->lock);
	up = net_of(dev)->config.status & VIRTIO_NET_S_LINK_UP;
	pthread_mutex_unlock(&dev->lock);
	return up;
}

uint64_t virtio_net_dropped(const struct virtio_dev *dev, enum net_verdict v)
{
	const struct net *n = container_of(dev, struct net, dev);
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < n->npairs; i++)
		sum += __atomic_load_n(&n->pair[i]->dropped[v], __ATOMIC_RELAXED);
	return sum;
}

/* ---- making one ---- */

/* The offloads a tap of this kernel has; -1: it is no tap. */
static int probe_offloads(int fd)
{
	static const unsigned tries[] = {
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO | NET_TUN_F_USO4 |
			NET_TUN_F_USO6,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
		0,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tries); i++)
		if (!ioctl(fd, TUNSETOFFLOAD, tries[i]))
			return ioctl(fd, TUNSETOFFLOAD, 0) ? -1 : (int)tries[i];
	return -1;
}

static int open_tap(struct net_pair *p, struct error **err)
{
	int sz = (int)NET_HDR, off;

	if (ioctl(p->fd, TUNSETVNETHDRSZ, &sz) < 0)
		return error_sys(err, errno, "tap: header size");
	off = probe_offloads(p->fd);
	if (off < 0)
		return error_sys(err, errno, "tap: offloads");
	p->net->offloads = (unsigned)off;
	p->net->tap = true;
	return 0;
}

static int open_backend(struct net_pair *p, int fd, struct error **err)
{
	int type = 0;
	socklen_t len = sizeof(type);

	p->fd = fd;
	p->attached = true;
	if (fd_set_nonblock(fd, true) < 0)
		return error_sys(err, errno, "network descriptor");
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return open_tap(p, err);
	if (type == SOCK_STREAM)
		p->stream = net_stream_new(fd);
	return 0;
}

static void offer(struct net *n)
{
	static const struct {
		uint8_t tun, bits[3];
	} map[] = {
		{TUN_F_CSUM, {VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_CSUM}},
		{TUN_F_TSO4, {VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_CSUM}},
		{TUN_F_TSO6, {VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_CSUM}},
		{TUN_F_TSO_ECN, {VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_CSUM}},
		{TUN_F_UFO, {VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_CSUM}},
		{NET_TUN_F_USO4, {NET_F_HOST_USO, NET_F_GUEST_USO4, NET_F_GUEST_USO6}},
	};
	uint64_t f = VIRTIO_F(VIRTIO_NET_F_MAC) | VIRTIO_F(VIRTIO_NET_F_MRG_RXBUF) |
		     VIRTIO_F(VIRTIO_NET_F_STATUS);
	size_t i, k;

	if (n->config.mtu)
		f |= VIRTIO_F(VIRTIO_NET_F_MTU);
	if (n->npairs > 1)
		f |= VIRTIO_F(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_F(VIRTIO_NET_F_MQ);
	for (i = 0; i < ARRAY_SIZE(map); i++)
		for (k = 0; k < 3 && n->offloads & map[i].tun; k++)
			f |= VIRTIO_F(map[i].bits[k]);
	n->dev.features_offered = f;
}

static int add_pairs(struct net *n, const struct vm_nic *nic, struct error **err)
{
	if (!nic->nfds || nic->nfds > VM_NIC_QUEUES)
		return error_set(err, ERR_INVALID_ARGUMENT, "a network card with %u queues",
				 nic->nfds);
	for (; n->npairs < nic->nfds; n->npairs++) {
		struct net_pair *p = xcalloc(1, sizeof(*p));

		p->net = n;
		p->index = n->npairs;
		n->pair[n->npairs] = p;
		if (open_backend(p, nic->fd[p->index], err) < 0) {
			n->npairs++;
			return -1;
		}
		if (nic->nfds > 1 && !n->tap)
			return error_set(err, ERR_INVALID_ARGUMENT, "several queues on a socket");
	}
	return 0;
}

static void init_queues(struct net *n)
{
	unsigned q;

	n->dev.nworkers = (uint8_t)n->npairs;
	n->dev.nqueues = (uint16_t)(2 * n->npairs + (n->npairs > 1));
	for (q = 0; q < n->dev.nqueues; q++) {
		n->dev.vq[q].max_size = QUEUE_SIZE;
		n->dev.vq[q].worker = (uint8_t)(q / 2 < n->npairs ? q / 2 : 0);
	}
}

struct virtio_dev *virtio_net_new(struct loop *l, const struct gmem *m, const struct vm_nic *nic,
				  struct error **err)
{
	struct net *n = xcalloc(1, sizeof(*n));
	unsigned i;

	net_ident_init(&n->id, nic->mac, nic->ip4, nic->has_ip6 ? nic->ip6 : NULL);
	memcpy(n->config.mac, nic->mac, ETH_ALEN);
	n->config.status = VIRTIO_NET_S_LINK_UP;
	n->config.mtu = nic->mtu;
	n->dev.config_len = CONFIG_LEN;
	n->active = 1;
	if (add_pairs(n, nic, err) < 0) {
		destroy(n);
		return NULL;
	}
	n->config.max_virtqueue_pairs = (uint16_t)n->npairs;
	offer(n);
	init_queues(n);
	if (virtio_dev_init(&n->dev, &net_ops, VIRTIO_ID_NET, l, m, err) < 0)
		goto fail;
	for (i = 0; i < n->npairs; i++) {
		struct net_pair *p = n->pair[i];

		attach(p, !i);
		if (virtio_worker_watch(&n->dev, i, p->fd, EPOLLIN | (p->stream ? EPOLLOUT : 0u)) <
		    0) {
			error_sys(err, errno, "watch the network");
			goto fail;
		}
	}
	return &n->dev;
fail:
	net_free(&n->dev);
	return NULL;
}
