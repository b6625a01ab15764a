// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_vsock.c - the vsock device and its streams. Hostile: packet headers (addresses, ops, lengths, credit), in any
 * order. The host's owners of streams behave in every way the interface allows: they refuse, read slowly, write, shut
 * down, reset, and drop a stream from within its own callbacks. No more than the promised credit may ever be buffered,
 * and whatever happened, a reset of the device ends every stream.
 */
#include "tests/fuzz/fuzz_virtio.h"
#include "vmm/vsock_impl.h"

#define CID    3
#define OWNERS 16
#define PORTS  24

struct owner {
	struct vsock_stream *s;
	uint8_t habit;
	uint32_t turn;
};

static struct guest g;
static struct owner owners[OWNERS];
static uint8_t habits;

static size_t on_data(void *arg, const void *p, size_t len)
{
	struct owner *o = arg;

	FUZZ_CHECK(o->s && len);
	FUZZ_CHECK(o->s->rx.len <= o->s->alloc);
	switch (o->habit & 7) {
	case 0:
		return len / 2;
	case 1:
		return 0;
	case 2:
		vsock_stream_reset(STEAL(o->s));
		return len;
	case 3:
		(void)vsock_stream_write(o->s, p, len);
		return len;
	case 4:
		if (o->turn++ % 3 == 2)
			vsock_stream_shutdown(o->s);
		return len;
	default:
		return len;
	}
}

static void on_eof(void *arg)
{
	struct owner *o = arg;

	FUZZ_CHECK(o->s);
	if (o->habit & 8)
		vsock_stream_shutdown(o->s);
	else if (o->habit & 16)
		vsock_stream_reset(STEAL(o->s));
}

static void on_writable(void *arg)
{
	struct owner *o = arg;
	static const char more[100];

	FUZZ_CHECK(o->s);
	if (o->habit & 32)
		(void)vsock_stream_write(o->s, more, sizeof(more));
	else if (o->habit & 64)
		vsock_stream_reset(STEAL(o->s));
}

static void on_closed(void *arg)
{
	struct owner *o = arg;

	FUZZ_CHECK(o->s);
	o->s = NULL;
}

static const struct vsock_stream_ops ops = {.data = on_data,
					    .eof = on_eof,
					    .writable = on_writable,
					    .closed = on_closed};

static int on_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	unsigned i;

	for (i = 0; i < OWNERS; i++)
		if (!owners[i].s)
			break;
	if (i == OWNERS || port % 8 == 7)
		return -1;
	owners[i] = (struct owner){.s = s, .habit = (uint8_t)(habits + port)};
	vsock_stream_set_ops(s, &ops, &owners[i]);
	if (port % 8 == 6) {
		vsock_stream_reset(STEAL(owners[i].s)); /* takes it, then thinks better of it */
		return 0;
	}
	if (port % 8 == 5)
		(void)vsock_stream_write(s, "hello", 5);
	return 0;
}

static void host(struct guest *guest, struct fz *f)
{
	struct owner *o = &owners[fz_u8(f) % OWNERS];
	static uint8_t bytes[40000];
	uint8_t what = fz_u8(f);

	if (!o->s)
		return;
	switch (what & 7) {
	case 0:
	case 1:
		FUZZ_CHECK(vsock_stream_write(o->s, bytes, fz_u16(f) % sizeof(bytes)) <=
			   sizeof(bytes));
		break;
	case 2:
		vsock_stream_shutdown(o->s);
		break;
	case 3:
		vsock_stream_reset(STEAL(o->s));
		break;
	case 4:
		vsock_stream_finish(o->s);
		break;
	default:
		o->habit = (uint8_t)(what >> 3);
		vsock_stream_resume(o->s);
	}
}

/* One packet with a header that is right but for what the input changes. */
static void packet(struct fz *f)
{
	uint8_t how = fz_u8(f), ports = fz_u8(f);
	struct virtio_vsock_hdr h = {
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = 1000u + (ports >> 6),
		.dst_port = ports % PORTS,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = how & 7,
		.buf_alloc = 65536,
	};
	struct vring_desc d = {.addr = GUEST_DATA, .len = sizeof(h)};
	uint16_t len = 0;

	if (how & 8)
		h.flags = fz_u8(f) & 3;
	if (how & 16) {
		h.buf_alloc = fz_u32(f);
		h.fwd_cnt = fz_u32(f);
	}
	if (h.op == VIRTIO_VSOCK_OP_RW)
		len = fz_u16(f) % 40000;
	h.len = len;
	if (how & 32)
		h.len = fz_u32(f);
	if (how & 64) {
		h.src_cid = fz_u8(f);
		h.dst_cid = fz_u64(f);
		h.type = fz_u16(f);
		h.op = fz_u16(f);
	}
	d.len += len;
	(void)gmem_write(&g.m, GUEST_DATA, &h, sizeof(h));
	(void)gmem_write(&g.m, GUEST_RING(1), &d, sizeof(d));
	guest_offer(&g, 1, 0, 1);
	guest_kick(&g, 1);
}

static void rx_buffers(struct fz *f)
{
	unsigned n = fz_u8(f) % 8;

	while (n--) {
		struct vring_desc d = {.addr = GUEST_DATA + 0xa000,
				       .len = 4096,
				       .flags = VRING_DESC_F_WRITE};

		(void)gmem_write(&g.m, GUEST_RING(0), &d, sizeof(d));
		guest_offer(&g, 0, 0, 1);
	}
	guest_kick(&g, 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	guest_init(&g);
	g.host = host;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	struct vsock_stream *s;
	struct vsock *v;
	unsigned n;

	guest_take(&g, virtio_vsock_new(g.l, &g.m, CID, on_accept, NULL, NULL));
	v = container_of(g.d, struct vsock, dev);
	habits = fz_u8(&f);
	memset(g.m.regions[0].hva, 0, GUEST_LOW + GUEST_HIGH);
	guest_start(&g, &f);
	for (n = 0; f.n && n < GUEST_OPS; n++) {
		uint8_t op = f.p[0];

		if (op & 0x80) {
			fz_u8(&f);
			(op & 0x40 ? packet : rx_buffers)(&f);
		} else {
			guest_step(&g, &f);
		}
	}
	virtio_reset(g.d);
	for (n = 0; n < 3; n++)
		(void)loop_turn(g.l, 0, NULL);
	FUZZ_CHECK(!v->nstreams);
	for (n = 0; n < OWNERS; n++)
		if (owners[n].s) /* still has bytes to read: the host lets go of it */
			vsock_stream_reset(STEAL(owners[n].s));
	(void)loop_turn(g.l, 0, NULL);
	for (s = v->all; s; s = s->all_next) /* only a list that is emptied later still knows it */
		FUZZ_CHECK(!s->hashed && !s->ops && s->refs == s->in_ready + s->in_wake);
	virtio_free(g.d);
	(void)loop_turn(g.l, 0, NULL);
	return 0;
}
