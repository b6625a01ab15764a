// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_vsock.c - vsock streams: data, credit, half-close, refusal, and guests that lie (attack class E). */
#include <sys/socket.h>

#include "tests/unit/vsock_guest.h"

static void test_E_echo_and_close(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1024, 5000);
	struct virtio_vsock_hdr h;
	uint8_t p[RXLEN];

	send_op(f, OP(RW), 1024, 5000, "hello", 5);
	assert_int_equal(o->got, 5);
	assert_memory_equal(o->last, "hello", 5);
	assert_int_equal(vsock_stream_write(o->s, "world!", 6), 6);
	assert_true(recv_pkt(f, &h, p));
	assert_int_equal(h.op, OP(RW));
	assert_int_equal(h.len, 6);
	assert_int_equal(h.fwd_cnt, 5);
	assert_memory_equal(p, "world!", 6);

	/* Half-close from the guest: eof, and the other way still works. */
	h = hdr(OP(SHUTDOWN), 1024, 5000, 0);
	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_raw(f, &h, NULL, 0);
	assert_int_equal(o->eof, 1);
	assert_int_equal(o->closed, 0);
	assert_int_equal(vsock_stream_write(o->s, "bye", 3), 3);
	vsock_stream_shutdown(o->s);
	assert_true(recv_pkt(f, &h, p));
	assert_int_equal(h.op, OP(RW));
	assert_true(recv_pkt(f, &h, p));
	assert_int_equal(h.op, OP(SHUTDOWN));
	assert_int_equal(h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	drv_turns(&f->t, 2);
	assert_int_equal(o->closed, 1);
	/* The guest's RST ends it for good; the port may be used again. */
	send_op(f, OP(RST), 1024, 5000, NULL, 0);
	expect_nothing(f);
	dial(f, 1024, 5000);
}

static void test_E_guest_closes(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 2);
	struct virtio_vsock_hdr h = hdr(OP(SHUTDOWN), 1, 2, 0);

	/* Data the owner has not taken survives the guest's close, in order: data, eof, closed. */
	o->limit = 3;
	send_op(f, OP(RW), 1, 2, "abcdef", 6);
	assert_int_equal(o->got, 3);
	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV;
	send_raw(f, &h, NULL, 0);
	expect(f, OP(RST), 1, 2);
	assert_int_equal(o->eof, 0);
	assert_int_equal(o->closed, 0);
	assert_int_equal(vsock_stream_write(o->s, "x", 1), 1); /* nowhere to go: dropped */
	o->limit = SIZE_MAX;
	vsock_stream_resume(o->s);
	assert_int_equal(o->got, 6);
	assert_int_equal(o->eof, 1);
	assert_int_equal(o->closed, 1);
	expect_nothing(f);
}

static void test_E_refused(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h;

	send_op(f, OP(REQUEST), 7777, 1, NULL, 0);
	expect(f, OP(RST), 7777, 1);
	f->reset_self = true;
	send_op(f, OP(REQUEST), 5, 1, NULL, 0);
	expect(f, OP(RST), 5, 1);
	expect_nothing(f);
	f->reset_self = false;
	f->rc = -1; /* set ops, then refused: not told again */
	send_op(f, OP(REQUEST), 5, 1, NULL, 0);
	expect(f, OP(RST), 5, 1);
	assert_int_equal(f->o[1].closed, 0);
	/* No such connection, whatever the packet. */
	send_op(f, OP(RW), 5, 1, "x", 1);
	expect(f, OP(RST), 5, 1);
	send_op(f, OP(SHUTDOWN), 5, 1, NULL, 0);
	expect(f, OP(RST), 5, 1);
	send_op(f, OP(RST), 5, 1, NULL, 0);
	/* Another type; another destination. */
	h = hdr(OP(REQUEST), 5, 1, 0);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_raw(f, &h, NULL, 0);
	assert_true(recv_pkt(f, &h, NULL));
	assert_int_equal(h.op, OP(RST));
	assert_int_equal(h.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
	/* Somebody else's CID is not answered. */
	h = hdr(OP(REQUEST), 5, 1, 0);
	h.src_cid = 43;
	send_raw(f, &h, NULL, 0);
	expect_nothing(f);
	assert_int_equal(f->n, 2);
}

static void test_E_lies(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	struct owner *o;

	/* len larger than what is there. */
	o = dial(f, 1, 1);
	h = hdr(OP(RW), 1, 1, 100);
	send_raw(f, &h, "short", 5);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->got, 0);
	assert_int_equal(o->closed, 1);
	assert_int_equal(o->eof, 0);
	o = dial(f, 1, 1);
	h = hdr(OP(RW), 1, 1, UINT32_MAX);
	send_raw(f, &h, "short", 5);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->closed, 1);
	/* len smaller: the rest is not data. */
	o = dial(f, 1, 1);
	h = hdr(OP(RW), 1, 1, 2);
	send_raw(f, &h, "short", 5);
	assert_int_equal(o->got, 2);
	/* A second request, an unknown op, data after the end. */
	send_op(f, OP(REQUEST), 1, 1, NULL, 0);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->closed, 1);
	o = dial(f, 1, 1);
	send_op(f, 99, 1, 1, NULL, 0);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->closed, 1);
	o = dial(f, 1, 1);
	h = hdr(OP(SHUTDOWN), 1, 1, 0);
	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_raw(f, &h, NULL, 0);
	send_op(f, OP(RW), 1, 1, "late", 4);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->got, 0);
	/* A packet shorter than a header ends the device's service. */
	drv_desc(&f->t, TX, 0, TXBUF, 43, 0, 0);
	drv_offer(&f->t, TX, 0);
	drv_kick(&f->t, TX);
	assert_true(drv_wait_broken(&f->t));
}

/* An owner that does not read: the guest may send what it was promised, not a byte more. */
static void test_E_credit_in(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 1);
	static uint8_t block[32768];
	struct virtio_vsock_hdr h;
	unsigned i;

	o->limit = 0;
	for (i = 0; i < 8; i++)
		send_op(f, OP(RW), 1, 1, block, sizeof(block));
	assert_int_equal(o->got, 0);
	expect_nothing(f);
	/* Asked, the host says that nothing was taken. */
	send_op(f, OP(CREDIT_REQUEST), 1, 1, NULL, 0);
	assert_true(recv_pkt(f, &h, NULL));
	assert_int_equal(h.op, OP(CREDIT_UPDATE));
	assert_int_equal(h.fwd_cnt, 0);
	assert_int_equal(h.buf_alloc, 8 * sizeof(block));
	/* Taking it brings an update without asking. */
	o->limit = SIZE_MAX;
	vsock_stream_resume(o->s);
	assert_int_equal(o->got, 8 * sizeof(block));
	assert_true(recv_pkt(f, &h, NULL));
	assert_int_equal(h.op, OP(CREDIT_UPDATE));
	assert_int_equal(h.fwd_cnt, 8 * sizeof(block));
	/* Now one byte too much. */
	o->limit = o->got;
	for (i = 0; i < 8; i++)
		send_op(f, OP(RW), 1, 1, block, sizeof(block));
	send_op(f, OP(RW), 1, 1, "x", 1);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->closed, 0); /* what is buffered can still be had */
	o->limit = SIZE_MAX;
	vsock_stream_resume(o->s);
	assert_int_equal(o->got, 16 * sizeof(block));
	assert_int_equal(o->closed, 1);
}

/* The guest's credit is kept; a nonsensical fwd_cnt gives none. */
static void test_EF_credit_out(void **state)
{
	struct fix *f = *state;
	struct owner *o;
	static uint8_t block[400000];
	struct virtio_vsock_hdr h = hdr(OP(REQUEST), 1, 1, 0);
	size_t sum = 0, took;

	h.buf_alloc = 10000;
	send_raw(f, &h, NULL, 0);
	expect(f, OP(RESPONSE), 1, 1);
	o = &f->o[0];
	took = vsock_stream_write(o->s, block, sizeof(block));
	assert_int_equal(took, 256 << 10); /* bounded */
	assert_int_equal(vsock_stream_write(o->s, block, 1), 0);
	while (recv_pkt(f, &h, NULL))
		sum += h.len;
	assert_int_equal(sum, 10000);
	h = hdr(OP(CREDIT_UPDATE), 1, 1, 0);
	h.buf_alloc = 10000;
	h.fwd_cnt = 20000; /* more than it was sent */
	send_raw(f, &h, NULL, 0);
	expect_nothing(f);
	assert_int_equal(o->writable, 0);
	h.buf_alloc = UINT32_MAX;
	h.fwd_cnt = 10000;
	send_raw(f, &h, NULL, 0);
	while (recv_pkt(f, &h, NULL))
		sum += h.len;
	assert_int_equal(sum, took);
	assert_int_equal(o->writable, 1);
}

/* Nobody takes receive buffers: resets pile up to a bound, then the guest's packets wait; and all come through later. */
static void test_E_rst_storm(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h = hdr(OP(RW), 9, 9, 0);
	uint32_t id, len, sent = 0, rsts = 0;

	assert_int_equal(gmem_write(&f->t.m, TXBUF, &h, sizeof(h)), 0);
	drv_desc(&f->t, TX, 0, TXBUF, sizeof(h), 0, 0);
	for (sent = 0; sent < 2000; sent++) {
		drv_offer(&f->t, TX, 0);
		drv_kick(&f->t, TX);
		drv_turns(&f->t, 1);
		if (!drv_used(&f->t, TX, &id, &len))
			break;
	}
	assert_in_range(sent, DRV_SIZE + 1, 400);
	while (recv_pkt(f, &h, NULL)) {
		assert_int_equal(h.op, OP(RST));
		rsts++;
	}
	assert_int_equal(rsts, sent + 1);
	assert_true(drv_used(&f->t, TX, &id, &len));
}

/* Makes n entries of a ring of 256 available, all of them descriptor 0. */
static void offer_many(struct fix *f, unsigned q, unsigned n)
{
	uint16_t *a = gmem_ptr(&f->t.m, DRV_AVAIL(q), 4);

	__atomic_store_n(&a[1], (uint16_t)(a[1] + n), __ATOMIC_RELEASE);
}

static uint16_t used_idx(struct fix *f, unsigned q)
{
	return *(volatile uint16_t *)gmem_ptr(&f->t.m, DRV_USED(q) + 2, 2);
}

/*
 * More resets than the guest's packets wait for, and a guest that puts its receive buffers back without a kick, which nobody
 * asks for as long as some are there: its packets are taken up again all the same.
 */
static void test_E_rst_storm_ends(void **state)
{
	struct fix *f = *state;
	struct vsock *v = container_of(f->t.d, struct vsock, dev);
	struct virtio_vsock_hdr h = hdr(OP(RW), 9, 9, 0);
	struct vsock_stream *s;
	unsigned q, i;
	uint16_t back = 0;

	virtio_reset(f->t.d);
	drv_turns(&f->t, 3);
	assert_int_equal(virtio_ack_features(f->t.d, f->t.d->features_offered), 0);
	for (q = 0; q < 3; q++) {
		memset(gmem_ptr(&f->t.m, DRV_DESC(q), 0x20000), 0, 0x20000);
		assert_int_equal(virtio_queue_set(f->t.d, q, 256, DRV_DESC(q), DRV_AVAIL(q),
						  DRV_USED(q)),
				 0);
	}
	assert_int_equal(virtio_activate(f->t.d), 0);
	for (i = 0; i < 40; i++) {
		struct virtio_vsock_hdr r = hdr(OP(REQUEST), 1, 100 + i, 0);

		assert_int_equal(gmem_write(&f->t.m, TXBUF, &r, sizeof(r)), 0);
		drv_desc(&f->t, TX, 0, TXBUF, sizeof(r), 0, 0);
		offer_many(f, TX, 1);
		drv_kick(&f->t, TX);
		drv_turns(&f->t, 1);
	}
	assert_int_equal(v->nstreams, 40);
	assert_int_equal(gmem_write(&f->t.m, TXBUF, &h, sizeof(h)), 0);
	offer_many(f, TX, 256);
	drv_kick(&f->t, TX);
	drv_turns(&f->t, 20);
	assert_int_equal(used_idx(f, TX), 40 + 256);
	for (s = v->all; s; s = s->all_next)
		vsock_stream_reset(s); /* what is left to be said of it holds it */
	assert_int_equal(v->nstreams, 0);
	offer_many(f, TX, 200);
	drv_kick(&f->t, TX);
	drv_turns(&f->t, 20);
	assert_int_equal(used_idx(f, TX), 40 + 256);
	drv_desc(&f->t, RX, 0, RXBUF(0), RXLEN, W, 0);
	offer_many(f, RX, 256);
	drv_kick(&f->t, RX);
	for (i = 0; i < 40; i++) {
		drv_turns(&f->t, 1);
		offer_many(f, RX, (uint16_t)(used_idx(f, RX) - back));
		back = used_idx(f, RX);
	}
	assert_int_equal(used_idx(f, TX), 40 + 256 + 200);
	assert_int_equal(used_idx(f, RX), 40 + 256 + 200);
}

static void test_E_many_streams(void **state)
{
	struct fix *f = *state;
	uint32_t i;

	for (i = 0; i < 4096; i++) {
		send_op(f, OP(REQUEST), 1, i + 1, NULL, 0);
		expect(f, OP(RESPONSE), 1, i + 1);
	}
	send_op(f, OP(REQUEST), 1, 99999, NULL, 0);
	expect(f, OP(RST), 1, 99999);
	send_op(f, OP(RST), 1, 77, NULL, 0);
	dial(f, 1, 99999);
}

/* Two streams with much to say take turns. */
static void test_E_fair(void **state)
{
	struct fix *f = *state;
	struct owner *a = dial(f, 1, 1), *b = dial(f, 1, 2);
	static uint8_t block[40000];
	struct virtio_vsock_hdr h;
	uint32_t last = 0, i;

	assert_int_equal(vsock_stream_write(a->s, block, sizeof(block)), sizeof(block));
	assert_int_equal(vsock_stream_write(b->s, block, sizeof(block)), sizeof(block));
	for (i = 0; i < 16; i++) {
		assert_true(recv_pkt(f, &h, NULL));
		assert_int_equal(h.op, OP(RW));
		assert_true(h.dst_port != last);
		last = h.dst_port;
	}
}

/*
 * B: what is sent adds the buffer for what comes next, as another CPU of the guest could: each packet's two bytes are the
 * available index. One turn of the loop is over all the same, and everything comes in its order.
 */
static void test_B_growing_ring(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 1);
	static uint16_t data[20000];
	uint16_t *avail = gmem_ptr(&f->t.m, DRV_AVAIL(RX), 4 + 2 * DRV_SIZE);
	const uint16_t *used = gmem_ptr(&f->t.m, DRV_USED(RX), 4), before = used[1];
	unsigned i, turns;

	drv_desc(&f->t, RX, 0, RXBUF(0), sizeof(struct virtio_vsock_hdr), W | N, 1);
	drv_desc(&f->t, RX, 1, DRV_AVAIL(RX) + 2, 2, W, 0);
	memset(avail + 2, 0, 2 * DRV_SIZE);
	for (i = 0; i < ARRAY_SIZE(data); i++)
		data[i] = (uint16_t)(avail[1] + i + 1);
	assert_int_equal(vsock_stream_write(o->s, data, sizeof(data)), sizeof(data));
	drv_turns(&f->t, 1);
	assert_in_range((uint16_t)(used[1] - before), 1, 256);
	for (turns = 0; turns < 1000 && (uint16_t)(used[1] - before) < ARRAY_SIZE(data); turns++)
		drv_turns(&f->t, 1);
	assert_int_equal((uint16_t)(used[1] - before), ARRAY_SIZE(data));
	assert_int_equal(avail[1], data[ARRAY_SIZE(data) - 1]);
	assert_false(f->t.d->broken);
}

static size_t take_nothing(void *arg, const void *p, size_t len)
{
	return 0;
}

/* Thousands of streams that nobody reads, neither here nor in the guest: one more is served as if it were alone. */
static void test_E_stalled(void **state)
{
	static const struct vsock_stream_ops deaf = {.data = take_nothing, .closed = on_closed};
	static uint8_t block[30000];
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	struct owner sink = {0}, *o;
	size_t sum = 0;
	uint32_t i;

	for (i = 0; i < 4000; i++) {
		h = hdr(OP(REQUEST), 1, 1000 + i, 0);
		h.buf_alloc = 100;
		send_raw(f, &h, NULL, 0);
		expect(f, OP(RESPONSE), 1, 1000 + i);
		o = &f->o[(f->n - 1) % ARRAY_SIZE(f->o)];
		vsock_stream_set_ops(o->s, &deaf, &sink);
		assert_int_equal(vsock_stream_write(o->s, block, 300), 300);
		assert_true(recv_pkt(f, &h, NULL));
		assert_int_equal(h.op, OP(RW));
		assert_int_equal(h.len, 100);
		h = hdr(OP(RW), 1, 1000 + i, 100);
		h.buf_alloc = 100; /* and nothing of it is free */
		send_raw(f, &h, block, 100);
	}
	expect_nothing(f);
	o = dial(f, 1, 1);
	send_op(f, OP(RW), 1, 1, "word", 4);
	assert_int_equal(o->got, 4);
	assert_int_equal(vsock_stream_write(o->s, block, sizeof(block)), sizeof(block));
	while (recv_pkt(f, &h, NULL)) {
		assert_int_equal(h.dst_port, 1);
		sum += h.op == OP(RW) ? h.len : 0;
	}
	assert_int_equal(sum, sizeof(block));
	assert_int_equal(sink.closed, 0);
	virtio_free(f->t.d);
	f->t.d = NULL;
	assert_int_equal(sink.closed, 4000);
}

static void test_AE_reset(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 1);
	unsigned i;

	o->limit = 2;
	send_op(f, OP(RW), 1, 1, "abcd", 4);
	virtio_reset(f->t.d);
	drv_turns(&f->t, 3);
	assert_int_equal(o->closed, 0); /* "cd" is still there for it */
	o->limit = SIZE_MAX;
	vsock_stream_resume(o->s);
	assert_int_equal(o->got, 4);
	assert_int_equal(o->closed, 1);
	assert_int_equal(o->eof, 0);
	assert_int_equal(drv_start(&f->t, f->t.d, 0), 0);
	for (i = 0; i < DRV_SIZE; i++)
		post_rx(f, i, RXLEN);
	dial(f, 1, 1);
}

/* A machine that ends right after its last packet: draining serves what no kick announced. */
static void test_E_drain(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 1);
	struct virtio_vsock_hdr h = hdr(OP(RW), 1, 1, 4);

	assert_int_equal(gmem_write(&f->t.m, TXBUF, &h, sizeof(h)), 0);
	drv_desc(&f->t, TX, 0, TXBUF, sizeof(h) + 4, 0, 0);
	drv_offer(&f->t, TX, 0);
	virtio_drain(f->t.d);
	assert_int_equal(o->got, 4);
}

static void test_E_pump(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	uint8_t p[RXLEN];
	char buf[64];

	f->to_fd = true;
	send_op(f, OP(REQUEST), 1, 1, NULL, 0);
	expect(f, OP(RESPONSE), 1, 1);
	assert_true(f->fd >= 0);
	send_op(f, OP(RW), 1, 1, "in", 2);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 2);
	assert_int_equal(send(f->fd, "out", 3, 0), 3);
	assert_true(recv_pkt(f, &h, p));
	assert_memory_equal(p, "out", 3);
	/* Half-close both ways. */
	h = hdr(OP(SHUTDOWN), 1, 1, 0);
	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_raw(f, &h, NULL, 0);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 0);
	assert_int_equal(send(f->fd, "more", 4, 0), 4);
	assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
	assert_true(recv_pkt(f, &h, p));
	assert_int_equal(h.len, 4);
	expect(f, OP(SHUTDOWN), 1, 1);
	send_op(f, OP(RST), 1, 1, NULL, 0);
	close(f->fd);

	/* The other end closes whole, with bytes still in the socket: they arrive, then the guest is told. */
	send_op(f, OP(REQUEST), 1, 2, NULL, 0);
	expect(f, OP(RESPONSE), 1, 2);
	assert_int_equal(send(f->fd, "last", 4, 0), 4);
	close(f->fd);
	assert_true(recv_pkt(f, &h, p));
	assert_int_equal(h.op, OP(RW));
	assert_memory_equal(p, "last", 4);
	assert_true(recv_pkt(f, &h, p));
	assert_int_equal(h.op, OP(SHUTDOWN));
	assert_int_equal(h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	send_op(f, OP(RST), 1, 2, NULL, 0);
	expect_nothing(f);
}

/* An owner drops its stream out of the blue: the guest is told at once, not with the next packet. */
static void test_E_dropped(void **state)
{
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 1);

	drv_turns(&f->t, 2);
	vsock_stream_reset(o->s);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->closed, 0);
	expect_nothing(f);
}

/* A socket of somebody else's: as above, and its owner is told when both are gone, whoever goes first. */
static void test_attach(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	uint8_t p[RXLEN], big[16384];
	char buf[64];
	unsigned sent = 0;

	f->attach = true;
	send_op(f, OP(REQUEST), 1, 1, NULL, 0);
	expect(f, OP(RESPONSE), 1, 1);
	send_op(f, OP(RW), 1, 1, "in", 2);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 2);
	h = hdr(OP(SHUTDOWN), 1, 1, 0);
	h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_raw(f, &h, NULL, 0);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 0);
	assert_int_equal(f->over, 0);
	assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
	expect(f, OP(SHUTDOWN), 1, 1);
	drv_turns(&f->t, 2);
	assert_int_equal(f->over, 1);
	close(f->fd);
	send_op(f, OP(RST), 1, 1, NULL, 0);

	/* The client goes while the guest's bytes wait for it: they are dropped, and the guest is told. */
	send_op(f, OP(REQUEST), 1, 2, NULL, 0);
	expect(f, OP(RESPONSE), 1, 2);
	memset(big, 'x', sizeof(big));
	/* As much as was promised to be buffered, which is more than a socket takes. */
	for (; sent < VSOCK_BUF_LARGE / sizeof(big); sent++)
		send_op(f, OP(RW), 1, 2, big, sizeof(big));
	close(f->fd);
	for (bool told = false; !told;) {
		assert_true(recv_pkt(f, &h, p));
		told = h.op == OP(SHUTDOWN);
		if (told)
			assert_int_equal(h.flags,
					 VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	}
	send_op(f, OP(RST), 1, 2, NULL, 0);
	drv_turns(&f->t, 2);
	assert_int_equal(f->over, 2);
}

/* A guest that takes no more still sends: when nobody is there for that either, it is told, or it would write for ever. */
static void test_E_client_leaves_deaf_guest(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h = hdr(OP(SHUTDOWN), 1, 1, 0);
	char buf[8];

	f->attach = true;
	send_op(f, OP(REQUEST), 1, 1, NULL, 0);
	expect(f, OP(RESPONSE), 1, 1);
	h.flags = VIRTIO_VSOCK_SHUTDOWN_RCV;
	send_raw(f, &h, NULL, 0);
	send_op(f, OP(RW), 1, 1, "one", 3);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 3);
	/* The client ends its own direction: nothing the guest wants to know. */
	assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
	send_op(f, OP(RW), 1, 1, "two", 3);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 3);
	expect_nothing(f);
	close(f->fd);
	drv_turns(&f->t, 3);
	assert_true(recv_pkt(f, &h, NULL));
	assert_int_equal(h.op, OP(SHUTDOWN));
	assert_int_equal(h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	send_op(f, OP(RST), 1, 1, NULL, 0);
	assert_int_equal(f->over, 1);
}

/* Freeing the device with live streams tells every owner. */
static void test_E_device_freed(void **state)
{
	struct fix *f = *state;
	struct owner *a = dial(f, 1, 1), *b = dial(f, 1, 2);

	assert_int_equal(vsock_stream_write(a->s, "unsent", 6), 6);
	virtio_free(f->t.d);
	f->t.d = NULL;
	assert_int_equal(a->closed, 1);
	assert_int_equal(b->closed, 1);
	drv_turns(&f->t, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_E_echo_and_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_guest_closes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_lies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_credit_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_EF_credit_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_rst_storm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_rst_storm_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_many_streams, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_fair, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_growing_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_stalled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_AE_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_pump, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_client_leaves_deaf_guest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_device_freed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
