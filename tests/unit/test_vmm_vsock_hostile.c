// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_vsock_hostile.c - more of what a guest may do to its vsock device (attack class E): addresses, lengths, ends, and all of it without end. */
#include "tests/unit/vsock_guest.h"

/* Packets for others than the host, and packets of kinds that carry nothing, with something: neither reaches a stream. */
static void test_E_addresses_and_lengths(void **state)
{
	static const uint64_t others[] = {0, 1, 3, CID, 1ull << 32 | 2, UINT64_MAX};
	static const uint16_t empty[] = {OP(REQUEST),  OP(RESPONSE),      OP(RST),
					 OP(SHUTDOWN), OP(CREDIT_UPDATE), OP(CREDIT_REQUEST)};
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	struct owner *o = dial(f, 1, 1);
	unsigned i, n = f->n;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		h = hdr(OP(RW), 1, 1, 4);
		h.dst_cid = others[i];
		send_raw(f, &h, "word", 4);
		assert_true(recv_pkt(f, &h, NULL));
		assert_int_equal(h.op, OP(RST));
		assert_int_equal(h.src_cid, others[i]);
		h = hdr(OP(REQUEST), 1, 2, 0);
		h.dst_cid = others[i];
		send_raw(f, &h, NULL, 0);
		assert_true(recv_pkt(f, &h, NULL));
		assert_int_equal(h.op, OP(RST));
		/* A reset is not answered, or two would go on for ever. */
		h = hdr(OP(RST), 1, 1, 0);
		h.dst_cid = others[i];
		send_raw(f, &h, NULL, 0);
	}
	h = hdr(OP(RST), 1, 1, 0);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_raw(f, &h, NULL, 0);
	expect_nothing(f);
	assert_int_equal(f->n, n);
	assert_int_equal(o->got, 0);
	assert_int_equal(o->closed, 0);

	send_op(f, OP(REQUEST), 1, 2, "word", 4);
	expect(f, OP(RST), 1, 2);
	assert_int_equal(f->n, n);
	for (i = 0; i < ARRAY_SIZE(empty); i++) {
		send_op(f, empty[i], 1, 1, "word", 4);
		expect(f, OP(RST), 1, 1);
		assert_int_equal(o->closed, 1);
		assert_int_equal(o->got, 0);
		o = dial(f, 1, 1);
	}
	expect_nothing(f);
}

/* More than a packet may hold is not taken as one: the guest's length is no length of ours. */
static void test_E_long_packets(void **state)
{
	static uint8_t block[VSOCK_MAX_PAYLOAD + 64];
	struct fix *f = *state;
	struct owner *o = dial(f, 1, 1);

	send_op(f, OP(RW), 1, 1, block, VSOCK_MAX_PAYLOAD);
	assert_int_equal(o->got, VSOCK_MAX_PAYLOAD);
	expect(f, OP(CREDIT_UPDATE), 1, 1);
	send_op(f, OP(RW), 1, 1, block, VSOCK_MAX_PAYLOAD + 1);
	expect(f, OP(RST), 1, 1);
	assert_int_equal(o->got, VSOCK_MAX_PAYLOAD);
	assert_int_equal(o->closed, 1);
}

/* Nothing to do: the loop sleeps, and does not go round and round over an end that it knows of. */
static void assert_idle(struct fix *f)
{
	uint64_t start;

	drv_turns(&f->t, 10);
	start = time_mono_us();
	(void)loop_turn(f->t.l, 50, NULL);
	assert_true(time_mono_us() - start > 40000);
}

static void half_close(struct fix *f, uint32_t gport, uint32_t flags)
{
	struct virtio_vsock_hdr h = hdr(OP(SHUTDOWN), 1, gport, 0);

	h.flags = flags;
	send_raw(f, &h, NULL, 0);
}

/* A stream of which one direction is over may stay like that for days. It costs nothing, whoever ended it, and however often. */
static void test_E_half_closed_idle(void **state)
{
	struct fix *f = *state;
	static uint8_t block[4096];
	struct virtio_vsock_hdr h;
	struct owner *o;
	char buf[8];
	unsigned i;

	f->to_fd = true;
	/* The client ended its input; the other way works. */
	send_op(f, OP(REQUEST), 1, 1, NULL, 0);
	expect(f, OP(RESPONSE), 1, 1);
	assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
	expect(f, OP(SHUTDOWN), 1, 1);
	assert_idle(f);
	expect_nothing(f);
	send_op(f, OP(RW), 1, 1, "in", 2);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 2);
	assert_idle(f);
	/* And then it went whole, with the guest still there. */
	close(f->fd);
	assert_idle(f);
	expect(f, OP(SHUTDOWN), 1, 1);
	send_op(f, OP(RST), 1, 1, NULL, 0);

	/* The guest ended its side, again and again; the client does not mind. */
	send_op(f, OP(REQUEST), 1, 2, NULL, 0);
	expect(f, OP(RESPONSE), 1, 2);
	for (i = 0; i < 100; i++)
		half_close(f, 2, i % 3 ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0);
	assert_idle(f);
	expect_nothing(f);
	assert_int_equal(recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT), 0);
	assert_idle(f);
	send_op(f, OP(RST), 1, 2, NULL, 0);
	close(f->fd);

	/* The client went whole while the guest gives no credit: what it wrote waits, asleep. */
	h = hdr(OP(REQUEST), 1, 3, 0);
	h.buf_alloc = 0;
	send_raw(f, &h, NULL, 0);
	expect(f, OP(RESPONSE), 1, 3);
	assert_int_equal(send(f->fd, block, sizeof(block), 0), sizeof(block));
	close(f->fd);
	assert_idle(f);
	expect_nothing(f);
	send_op(f, OP(RST), 1, 3, NULL, 0);
	assert_idle(f);

	/* An owner hears of the end once. */
	f->to_fd = false;
	o = dial(f, 1, 4);
	for (i = 0; i < 100; i++)
		half_close(f, 4, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(o->eof, 1);
	assert_int_equal(o->closed, 0);
	assert_idle(f);
}

/* What all streams together may hold of the host's memory is bounded, however many there are. */
static void test_E_many_hold_little(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	uint64_t promised = 0;
	uint32_t i;

	for (i = 0; i < VSOCK_MAX_STREAMS; i++) {
		send_op(f, OP(REQUEST), 1, i + 1, NULL, 0);
		assert_true(recv_pkt(f, &h, NULL));
		assert_int_equal(h.op, OP(RESPONSE));
		promised += h.buf_alloc;
	}
	assert_true(promised <= (256ull << 20));
}

struct endless {
	struct fix *f;
	unsigned more, taken;
};

/* As another CPU of the guest's would: for each packet that is taken there is another. */
static size_t offer_again(void *arg, const void *p, size_t len)
{
	struct endless *e = arg;

	e->taken++;
	if (e->more) {
		e->more--;
		drv_offer(&e->f->t, TX, 0);
	}
	return len;
}

/* A guest that never stops sending has its turns like anybody else. */
static void test_E_endless_sender(void **state)
{
	static const struct vsock_stream_ops more_ops = {.data = offer_again};
	struct fix *f = *state;
	struct endless e = {.f = f, .more = 1000};
	struct owner *o = dial(f, 1, 1);
	struct virtio_vsock_hdr h = hdr(OP(RW), 1, 1, 1);

	vsock_stream_set_ops(o->s, &more_ops, &e);
	assert_int_equal(gmem_write(&f->t.m, TXBUF, &h, sizeof(h)), 0);
	drv_desc(&f->t, TX, 0, TXBUF, sizeof(h) + 1, 0, 0);
	drv_offer(&f->t, TX, 0);
	f->t.d->ops->queue_kick(f->t.d, TX);
	assert_in_range(e.taken, 1, 64);
	/* And the others of its packets come in the next ones. */
	drv_turns(&f->t, 100);
	assert_int_equal(e.taken, 1001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_E_addresses_and_lengths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_long_packets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_half_closed_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_many_hold_little, setup, teardown),
		cmocka_unit_test_setup_teardown(test_E_endless_sender, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
