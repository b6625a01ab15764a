/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_guest.h - a vsock device and both ends of its streams: a driver that says what it likes, and owners that take what they like. */
#ifndef TESTS_VSOCK_GUEST_H
#define TESTS_VSOCK_GUEST_H

#include <linux/virtio_vsock.h>
#include <sys/socket.h>

#include "tests/unit/vmm_driver.h"
#include "vmm/vsock_impl.h"

#define N        VRING_DESC_F_NEXT
#define W        VRING_DESC_F_WRITE
#define CID      42
#define RX       0
#define TX       1
#define TXBUF    DRV_DATA
#define RXBUF(i) (DRV_DATA + 0x100000 + 0x10000ull * (i))
#define RXLEN    4096
#define OP(x)    VIRTIO_VSOCK_OP_##x

struct owner {
	struct vsock_stream *s;
	struct fix *f;
	size_t got, limit; /* takes at most limit bytes altogether */
	unsigned eof, closed, writable;
	char last[64];
};

struct fix {
	struct drv t;
	struct owner o[8];
	unsigned n;
	int rc;          /* what accept says */
	bool reset_self; /* accept resets */
	bool to_fd, attach;
	int fd;
	unsigned over; /* attached streams that are */
};

static inline size_t on_data(void *arg, const void *p, size_t len)
{
	struct owner *o = arg;
	size_t n = MIN(len, o->limit - o->got);

	memcpy(o->last, p, MIN(n, sizeof(o->last)));
	o->got += n;
	return n;
}

static inline void on_eof(void *arg)
{
	((struct owner *)arg)->eof++;
}

static inline void on_writable(void *arg)
{
	((struct owner *)arg)->writable++;
}

static inline void on_closed(void *arg)
{
	((struct owner *)arg)->closed++;
}

static const struct vsock_stream_ops ops = {on_data, on_eof, on_writable, on_closed};

static inline void on_over(void *arg)
{
	((struct fix *)arg)->over++;
}

static inline int on_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	struct fix *f = arg;
	struct owner *o = &f->o[f->n % ARRAY_SIZE(f->o)];

	if (port == 7777)
		return -1;
	f->n++;
	if (f->attach) {
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		assert_int_equal(vsock_stream_attach(s, f->t.l, 999, on_over, f, NULL), -1);
		assert_int_equal(vsock_stream_attach(s, f->t.l, sv[0], on_over, f, NULL), 0);
		f->fd = sv[1];
		return 0;
	}
	if (f->to_fd) {
		f->fd = vsock_stream_to_fd(s, f->t.l, NULL);
		return f->fd < 0 ? -1 : 0;
	}
	*o = (struct owner){.s = s, .f = f, .limit = SIZE_MAX};
	vsock_stream_set_ops(s, &ops, o);
	if (f->reset_self)
		vsock_stream_reset(s);
	return f->rc;
}

static inline void post_rx(struct fix *f, unsigned i, uint32_t len)
{
	drv_desc(&f->t, RX, i, RXBUF(i), len, W, 0);
	drv_offer(&f->t, RX, (uint16_t)i);
}

static inline int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));
	unsigned i;

	drv_init(&f->t);
	assert_int_equal(drv_start(&f->t,
				   virtio_vsock_new(f->t.l, &f->t.m, CID, on_accept, f, NULL), 0),
			 0);
	for (i = 0; i < DRV_SIZE; i++)
		post_rx(f, i, RXLEN);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	free(f);
	return 0;
}

static inline struct virtio_vsock_hdr hdr(uint16_t op, uint32_t port, uint32_t gport, uint32_t len)
{
	return (struct virtio_vsock_hdr){.src_cid = CID,
					 .dst_cid = 2,
					 .src_port = gport,
					 .dst_port = port,
					 .len = len,
					 .type = VIRTIO_VSOCK_TYPE_STREAM,
					 .op = op,
					 .buf_alloc = 65536};
}

/* Sends one packet with really `have` payload bytes behind its header. */
static inline void send_raw(struct fix *f, const struct virtio_vsock_hdr *h, const void *p,
			    uint32_t have)
{
	uint32_t id, len;

	assert_int_equal(gmem_write(&f->t.m, TXBUF, h, sizeof(*h)), 0);
	assert_int_equal(gmem_write(&f->t.m, TXBUF + 64, p, have), 0);
	drv_desc(&f->t, TX, 0, TXBUF, sizeof(*h), have ? N : 0, 1);
	if (have)
		drv_desc(&f->t, TX, 1, TXBUF + 64, have, 0, 0);
	drv_offer(&f->t, TX, 0);
	drv_kick(&f->t, TX);
	assert_true(drv_wait(&f->t, TX, &id, &len));
}

static inline void send_op(struct fix *f, uint16_t op, uint32_t port, uint32_t gport, const void *p,
			   uint32_t len)
{
	struct virtio_vsock_hdr h = hdr(op, port, gport, len);

	send_raw(f, &h, p, len);
}

/* The next packet from the host, its payload in *p; the buffer is posted again. False when none comes. */
static inline bool recv_pkt(struct fix *f, struct virtio_vsock_hdr *h, uint8_t *p)
{
	uint32_t id, len, tries;

	for (tries = 0; tries < 20 && !drv_used(&f->t, RX, &id, &len); tries++)
		drv_turns(&f->t, 1);
	if (tries == 20)
		return false;
	assert_int_equal(gmem_read(&f->t.m, RXBUF(id), h, sizeof(*h)), 0);
	assert_int_equal(len, sizeof(*h) + h->len);
	assert_true(len <= RXLEN);
	if (p && h->len)
		assert_int_equal(gmem_read(&f->t.m, RXBUF(id) + sizeof(*h), p, h->len), 0);
	post_rx(f, id, RXLEN);
	drv_kick(&f->t, RX);
	return true;
}

static inline void expect(struct fix *f, uint16_t op, uint32_t port, uint32_t gport)
{
	struct virtio_vsock_hdr h;

	assert_true(recv_pkt(f, &h, NULL));
	assert_int_equal(h.op, op);
	assert_int_equal(h.src_cid, 2);
	assert_int_equal(h.dst_cid, CID);
	assert_int_equal(h.src_port, port);
	assert_int_equal(h.dst_port, gport);
	assert_int_equal(h.type, VIRTIO_VSOCK_TYPE_STREAM);
}

static inline void expect_nothing(struct fix *f)
{
	struct virtio_vsock_hdr h;

	assert_false(recv_pkt(f, &h, NULL));
}

static inline struct owner *dial(struct fix *f, uint32_t port, uint32_t gport)
{
	struct owner *o = &f->o[f->n % ARRAY_SIZE(f->o)];

	send_op(f, OP(REQUEST), port, gport, NULL, 0);
	expect(f, OP(RESPONSE), port, gport);
	return o;
}

#endif
