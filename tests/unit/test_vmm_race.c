// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_race.c - a driver that rewrites what is its own while the device reads it (attack class B, "copy, then validate, then use").
 *
 * Two CPUs meet in so few instructions only by luck. So the device's code runs here in single steps, by the CPU's trap flag, and
 * between two instructions the trap's handler may rewrite rings, headers and frames. What was judged and what is used must then be
 * the same read. The same numbers come each time; no thread but this one runs.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_vsock.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <x86intrin.h>

#include "tests/unit/net_frame.h"
#include "tests/unit/vmm_driver.h"
#include "vmm/net_filter.h"

#define N         VRING_DESC_F_NEXT
#define W         VRING_DESC_F_WRITE
#define I         VRING_DESC_F_INDIRECT
#define TRAP_FLAG (1ull << 8)
#define TABLE     (DRV_DATA + 0x1000)

/* With sanitizers a call takes five times the steps. */
#if defined(__SANITIZE_ADDRESS__)
#define ROUNDS(n) ((n) / 2)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ROUNDS(n) ((n) / 2)
#endif
#endif
#ifndef ROUNDS
#define ROUNDS(n) (n)
#endif

static struct {
	struct drv t;
	uint64_t rng;
	unsigned steps, begun; /* in all, and when the call began */
	unsigned odds;         /* of how many steps one rewrites */
	void (*rewrite)(struct drv *t);
} race;

static unsigned pick(unsigned n)
{
	race.rng = race.rng * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(race.rng >> 33) % n;
}

static void on_trap(int sig)
{
	race.steps++;
	if (!pick(race.odds))
		race.rewrite(&race.t);
}

static int setup(void **state)
{
	struct sigaction sa = {.sa_handler = on_trap};

	race.rng = 1;
	race.steps = race.begun = 0;
	drv_init(&race.t);
	return sigaction(SIGTRAP, &sa, NULL);
}

static int teardown(void **state)
{
	drv_fini(&race.t);
	return signal(SIGTRAP, SIG_DFL) == SIG_ERR;
}

/* What is called from here on sees about that many rewrites, if it takes as many steps as the call before it. */
static void steps_begin(void (*rewrite)(struct drv *t), unsigned times)
{
	race.rewrite = rewrite;
	race.odds = MAX((race.steps - race.begun) / times, 4u);
	race.begun = race.steps;
	__writeeflags(__readeflags() | TRAP_FLAG);
}

static void steps_end(void)
{
	__writeeflags(__readeflags() & ~TRAP_FLAG);
}

/* A device whose threads this one plays. */
static void start(struct virtio_dev *d)
{
	assert_non_null(d);
	d->no_threads = true;
	assert_int_equal(drv_start(&race.t, d, 0), 0);
}

/* One chain, in single steps. A device that was broken by it begins again. */
static void serve(unsigned q, void (*rewrite)(struct drv *t), unsigned times)
{
	struct virtio_dev *d = race.t.d;

	drv_offer(&race.t, q, 0);
	steps_begin(rewrite, times);
	d->ops->queue_kick(d, q);
	steps_end();
	if (!d->broken)
		return;
	virtio_reset(d);
	start(d);
}

/* Many rewrites and few in turn: with many, little is still right when it is judged. */
static unsigned often(unsigned i)
{
	return i & 4 ? 5 : 48;
}

/* ---- descriptors ---- */

static void rewrite_ring(struct drv *t)
{
	static const struct {
		uint64_t at; /* of a descriptor */
		struct vring_desc d;
	} words[] = {
		{DRV_DESC(0), {DRV_DATA, 64, 0, 0}},
		{DRV_DESC(0), {DRV_DATA, 64, W, 0}},
		{DRV_DESC(0), {DRV_DATA, 64, N, 1}},
		{DRV_DESC(0), {DRV_DATA, 64, N, 0xffff}},
		{DRV_DESC(0), {DRV_DATA, UINT32_MAX, 0, 0}},
		{DRV_DESC(0), {DRV_MEM - 8, 64, 0, 0}},
		{DRV_DESC(0), {UINT64_MAX - 31, 64, 0, 0}},
		{DRV_DESC(0), {TABLE, 32, I, 0}},
		{DRV_DESC(0), {TABLE, UINT32_MAX & ~15u, I, 0}},
		{DRV_DESC(0), {DRV_MEM - 16, 32, I, 0}},
		{DRV_DESC(0) + 16, {DRV_DATA + 64, 64, W, 0}},
		{DRV_DESC(0) + 16, {DRV_DATA + 64, 64, N, 0}},
		{DRV_DESC(0) + 16, {DRV_MEM, 64, W, 0}},
		{TABLE, {DRV_DATA, 64, N, 1}},
		{TABLE, {DRV_DATA, 64, N, 2}},
		{TABLE, {DRV_DATA, UINT32_MAX, 0, 0}},
		{TABLE, {TABLE, 32, I, 0}},
		{TABLE + 16, {DRV_DATA, 64, W, 0}},
		{TABLE + 16, {DRV_MEM - 8, 64, W, 0}},
	};
	static const uint16_t heads[] = {0, 0, 1, DRV_SIZE, 0xffff},
			      idx[] = {1, 1, 1, DRV_SIZE, 500};
	uint16_t *avail = gmem_ptr(&t->m, DRV_AVAIL(0), 6);
	unsigned i = pick(ARRAY_SIZE(words));

	memcpy(gmem_ptr(&t->m, words[i].at, 16), &words[i].d, 16);
	avail[1] = idx[pick(ARRAY_SIZE(idx))];
	avail[2] = heads[pick(ARRAY_SIZE(heads))];
}

static void assert_inside(const struct drv *t, const struct virtq_chain *c)
{
	const uint8_t *base = t->m.regions[0].hva;
	size_t out = 0, in = 0;
	unsigned i;

	assert_true(c->nout + c->nin <= DRV_SIZE);
	for (i = 0; i < c->nout + c->nin; i++) {
		const uint8_t *p = c->iov[i].iov_base;

		assert_true(p >= base && p < base + DRV_MEM);
		assert_true(c->iov[i].iov_len <= (size_t)(base + DRV_MEM - p));
		*(i < c->nout ? &out : &in) += c->iov[i].iov_len;
	}
	assert_int_equal(c->out_len, out);
	assert_int_equal(c->in_len, in);
}

/* Whatever comes out lies inside memory, and its lengths are those of its parts. */
static void test_B_chain_rewritten(void **state)
{
	struct virtq q = {.max_size = 256,
			  .size = DRV_SIZE,
			  .desc = DRV_DESC(0),
			  .avail = DRV_AVAIL(0),
			  .used = DRV_USED(0),
			  .indirect = true};
	static struct virtq_chain c;
	unsigned i, good = 0, bad = 0;

	assert_int_equal(virtq_start(&q, &race.t.m, 0), 0);
	for (i = 0; i < ROUNDS(400); i++) {
		int rc;

		rewrite_ring(&race.t);
		q.last_avail = 0;
		steps_begin(rewrite_ring, 12);
		rc = virtq_pop(&q, &race.t.m, &c);
		steps_end();
		bad += rc < 0;
		if (rc <= 0)
			continue;
		good++;
		assert_inside(&race.t, &c);
		assert_int_equal(q.last_avail, 1);
	}
	assert_true(good > 5 && bad > 5);
	assert_true(race.steps > 20 * i);
}

/* ---- frames ---- */

#define VNET 12

static void rewrite_frame(struct drv *t)
{
	uint8_t *p = gmem_ptr(&t->m, DRV_DATA, 4096), *f = p + VNET;

	switch (pick(8)) {
	case 0: /* offloads that nobody agreed on */
		p[0] = (uint8_t)pick(2);
		p[1] = (uint8_t)pick(2);
		p[6] = p[8] = (uint8_t)pick(64);
		break;
	case 1:
		memcpy(f + 6, pick(3) ? nf_mac : nf_other, 6);
		break;
	case 2:
		f[12] = 8;
		f[13] = pick(3) ? 0 : 6; /* ARP */
		break;
	case 3:
		f[14] = pick(3) ? 0x45 : 0x4f;
		break;
	case 4:
		f[23] = pick(2) ? IPPROTO_TCP : IPPROTO_UDP;
		f[35] = pick(3) ? 99 : 67; /* a DHCP server's port */
		break;
	default:
		memcpy(f + 26, pick(3) ? nf_ip : nf_ip_other, 4);
	}
}

/* What leaves is what was judged. */
static void test_BD_frame_rewritten(void **state)
{
	struct nf good = nf_ip4(nf_ip, nf_ip_other, IPPROTO_TCP);
	struct vm_nic nic = {.mtu = 1400, .nfds = 1};
	static uint8_t b[4096];
	struct net_ident own;
	unsigned i, left = 0;
	size_t end;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sv), 0);
	nic.fd[0] = sv[1];
	memcpy(nic.mac, nf_mac, 6);
	memcpy(nic.ip4, nf_ip, 4);
	net_ident_init(&own, nf_mac, nf_ip, NULL);
	start(virtio_net_new(race.t.l, &race.t.m, &nic, NULL));
	nf_put(&good, NULL, 26);
	nf_len(&good);
	for (i = 0; i < ROUNDS(60); i++) {
		memset(gmem_ptr(&race.t.m, DRV_DATA, VNET), 0, VNET);
		assert_int_equal(gmem_write(&race.t.m, DRV_DATA + VNET, good.b, good.n), 0);
		drv_desc(&race.t, 1, 0, DRV_DATA, VNET + (uint32_t)good.n, 0, 0);
		serve(1, rewrite_frame, often(i));
		if (recv(sv[0], b, sizeof(b), MSG_DONTWAIT) < 0)
			continue;
		left++;
		assert_int_equal(net_filter(&own, b + VNET, good.n, &end), NET_PASS);
		assert_int_equal(b[0] | b[1] | b[6] | b[8], 0);
	}
	assert_in_range(left, 1, i - 1);
	assert_true(race.steps > 100 * i);
	virtio_free(STEAL(race.t.d));
	close(sv[0]);
	close(sv[1]);
}

/* ---- disk requests ---- */

#define FILE_BYTES  65536u
#define DISK_AT     16384u /* the disk is these bytes of its file … */
#define DISK_BYTES  16384u
#define SECTORS     (DISK_BYTES / 512)
#define DATA        (DRV_DATA + 0x1000)
#define DATA_OUT    (DRV_DATA + 0x2000)
#define STATUS_BYTE (DRV_DATA + 0x100)
#define FOREIGN     0xee /* … and this is all around them */

static enum { TYPE, SECTOR, CLEAR_SECTOR, CLEAR_COUNT } focus;

/* Between right and wrong, of one field at a time: so the two looks that must not differ would see one each in a quarter of the cases. */
static void rewrite_request(struct drv *t)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
					 VIRTIO_BLK_T_WRITE_ZEROES};
	static const uint64_t sectors[] = {SECTORS, SECTORS + 8, UINT64_MAX - 7,
					   UINT64_MAX / 512 - 7};
	static const uint32_t counts[] = {SECTORS + 1, 1u << 21, UINT32_MAX};
	struct virtio_blk_outhdr *h = gmem_ptr(&t->m, DRV_DATA, sizeof(*h));
	struct virtio_blk_discard_write_zeroes *r = gmem_ptr(&t->m, DATA_OUT, sizeof(*r));
	bool right = pick(2);

	switch (focus) {
	case TYPE:
		h->type = types[pick(ARRAY_SIZE(types))];
		break;
	case SECTOR:
		h->sector = right ? 1 : sectors[pick(ARRAY_SIZE(sectors))];
		break;
	case CLEAR_SECTOR:
		r->sector = right ? 1 : sectors[pick(ARRAY_SIZE(sectors))];
		break;
	default:
		r->num_sectors = right ? 1 : counts[pick(ARRAY_SIZE(counts))];
	}
}

static void disk_test(bool readonly, unsigned rounds)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	struct vm_segment seg = {.fd = fd, .off = DISK_AT, .len = DISK_BYTES};
	struct vm_disk d = {.segs = &seg, .nsegs = 1, .readonly = readonly};
	static uint8_t file[FILE_BYTES], now[FILE_BYTES];
	unsigned i, done = 0;

	memset(file, FOREIGN, sizeof(file));
	memset(file + DISK_AT, 1, DISK_BYTES);
	assert_int_equal(pwrite(fd, file, sizeof(file), 0), sizeof(file));
	start(virtio_blk_new(race.t.l, &race.t.m, &d, NULL));
	for (i = 0; i < rounds; i++) {
		static const struct {
			uint32_t type, len, focus;
		} kinds[] = {
			{VIRTIO_BLK_T_IN, 512, SECTOR},
			{VIRTIO_BLK_T_DISCARD, 16, CLEAR_SECTOR},
			{VIRTIO_BLK_T_OUT, 4096, SECTOR},
			{VIRTIO_BLK_T_OUT, 512, TYPE},
			{VIRTIO_BLK_T_WRITE_ZEROES, 16, CLEAR_COUNT},
		};
		struct virtio_blk_outhdr h = {.type = kinds[i % ARRAY_SIZE(kinds)].type};
		struct virtio_blk_discard_write_zeroes r = {.num_sectors = 1};
		uint32_t len = kinds[i % ARRAY_SIZE(kinds)].len;
		uint8_t *status = gmem_ptr(&race.t.m, STATUS_BYTE, 1),
			*in = gmem_ptr(&race.t.m, DATA, 4096);

		assert_int_equal(gmem_write(&race.t.m, DRV_DATA, &h, sizeof(h)), 0);
		assert_int_equal(gmem_write(&race.t.m, DATA_OUT, &r, sizeof(r)), 0);
		memset(in, 2, 4096);
		*status = 0xff;
		drv_desc(&race.t, 0, 0, DRV_DATA, 16, N, 1);
		drv_desc(&race.t, 0, 1, DATA_OUT, len, N, 2);
		drv_desc(&race.t, 0, 2, DATA, len, N | W, 3);
		drv_desc(&race.t, 0, 3, STATUS_BYTE, 1, W, 0);
		focus = kinds[i % ARRAY_SIZE(kinds)].focus;
		serve(0, rewrite_request, 500);
		assert_int_not_equal(*status, 0xff);
		done += *status == VIRTIO_BLK_S_OK;
		/* Neither read from where the disk is not, nor written there, nor longer than it is. */
		assert_null(memchr(in, FOREIGN, 4096));
		assert_int_equal(pread(fd, now, sizeof(now), 0), sizeof(now));
		assert_memory_equal(now, file, DISK_AT);
		assert_memory_equal(now + DISK_AT + DISK_BYTES, file + DISK_AT + DISK_BYTES,
				    FILE_BYTES - DISK_AT - DISK_BYTES);
		assert_int_equal(lseek(fd, 0, SEEK_END), FILE_BYTES);
		if (readonly)
			assert_memory_equal(now, file, FILE_BYTES);
	}
	assert_in_range(done, 1, i - 1);
	assert_true(race.steps > 50 * i);
	virtio_free(STEAL(race.t.d));
	close(fd);
}

static void test_BC_request_rewritten(void **state)
{
	disk_test(false, ROUNDS(60));
}

static void test_BC_request_rewritten_readonly(void **state)
{
	disk_test(true, ROUNDS(32));
}

/* ---- vsock packets ---- */

#define CID   42
#define SHORT 5 /* bytes of a packet, all of them 'p'; those of one before it were 's' */

static struct vsock_stream *stream;
static size_t heard;
static bool stale;

static size_t on_data(void *arg, const void *p, size_t len)
{
	stale |= memchr(p, 's', len) && arg == &stale;
	heard += len;
	return len;
}

static void on_closed(void *arg)
{
	stream = NULL;
}

static int on_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	static const struct vsock_stream_ops ops = {.data = on_data, .closed = on_closed};

	stream = s;
	vsock_stream_set_ops(s, &ops, port == 1 ? &stale : NULL);
	return 0;
}

static void rewrite_packet(struct drv *t)
{
	static const uint32_t lens[] = {SHORT, SHORT, 0, SHORT + 1, 100, 65536, UINT32_MAX};
	struct virtio_vsock_hdr *h = gmem_ptr(&t->m, DRV_DATA, sizeof(*h));

	switch (pick(4)) {
	case 0:
		h->op = pick(4) ? VIRTIO_VSOCK_OP_RW : (uint16_t)pick(10);
		break;
	case 1:
		h->buf_alloc = pick(2) ? 0 : UINT32_MAX;
		h->fwd_cnt = pick(2) ? 0 : 0x80000000;
		break;
	default:
		h->len = lens[pick(ARRAY_SIZE(lens))];
	}
}

static void nothing(struct drv *t)
{
}

static void packet(uint16_t op, uint32_t port, uint32_t gport, char byte, uint32_t len,
		   void (*rewrite)(struct drv *t))
{
	static unsigned calls;
	struct virtio_vsock_hdr h = {.src_cid = CID,
				     .dst_cid = 2,
				     .src_port = gport,
				     .dst_port = port,
				     .len = len,
				     .type = VIRTIO_VSOCK_TYPE_STREAM,
				     .op = op,
				     .buf_alloc = 65536};

	assert_int_equal(gmem_write(&race.t.m, DRV_DATA, &h, sizeof(h)), 0);
	memset(gmem_ptr(&race.t.m, DRV_DATA + sizeof(h), MAX(len, 1u)), byte, len);
	drv_desc(&race.t, 1, 0, DRV_DATA, (uint32_t)sizeof(h) + len, 0, 0);
	/* What is told to the guest has somewhere to go. */
	drv_desc(&race.t, 0, 0, DRV_DATA + 0x100000, 4096, W, 0);
	drv_offer(&race.t, 0, 0);
	serve(1, rewrite, often(++calls));
}

/* A packet's length is that of the one look at it, and what it does not hold is nobody's. */
static void test_BE_packet_rewritten(void **state)
{
	unsigned i, streams = 0;

	heard = 0;
	stale = false;
	start(virtio_vsock_new(race.t.l, &race.t.m, CID, on_accept, NULL, NULL));
	packet(VIRTIO_VSOCK_OP_REQUEST, 2, 1, 0, 0, nothing);
	packet(VIRTIO_VSOCK_OP_RW, 2, 1, 's', 4096, nothing);
	assert_int_equal(heard, 4096);
	for (i = 0; i < ROUNDS(32); i++) {
		size_t before;

		if (!i || !stream) {
			packet(VIRTIO_VSOCK_OP_REQUEST, 1, ++streams, 0, 0, nothing);
		}
		before = heard;
		assert_non_null(stream);
		packet(VIRTIO_VSOCK_OP_RW, 1, streams, 'p', SHORT, rewrite_packet);
		assert_true(heard - before <= SHORT);
		assert_false(stale);
	}
	assert_true(heard > 4096);
	assert_true(race.steps > 50 * i);
	virtio_free(STEAL(race.t.d));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_B_chain_rewritten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_BD_frame_rewritten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_BC_request_rewritten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_BC_request_rewritten_readonly, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_BE_packet_rewritten, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
