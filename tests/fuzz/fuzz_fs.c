// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_fs.c - the device of shared directories and its channel, between two that are hostile: the guest, and the server, which answers
 * what it was not asked, writes anywhere into the slots that it shares with the device, speaks, and hangs up. A server that is not
 * hostile takes turns with it, on slots that were written to behind its back. An answer is never longer than a message nor than its
 * chain, goes only to a chain that waits for one, and so to none from before a reset; whatever happened, a reset device works, or says EIO
 * when its server has gone.
 */
#include <linux/fuse.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "core/path.h"
#include "tests/fuzz/fuzz_virtio.h"
#include "vmm/fs.h"

/* fs_serve() does not return: here it ends where it would sleep, and keeps its requests in memory of ours. */
static jmp_buf asleep;
static uint8_t own[FUSE_MSG_MAX];

static void *own_memory(size_t n)
{
	FUZZ_CHECK(n == sizeof(own));
	return own;
}

static long not_asleep(long nr, ...)
{
	const char *name;
	unsigned flags;
	va_list ap;

	va_start(ap, nr);
	name = va_arg(ap, const char *);
	flags = va_arg(ap, unsigned); /* of a futex the operation */
	va_end(ap);
	if (nr == SYS_memfd_create)
		return memfd_create(name, flags);
	FUZZ_CHECK(nr == SYS_futex && (flags == FUTEX_WAIT || flags == FUTEX_WAKE));
	if (flags == FUTEX_WAIT)
		longjmp(asleep, 1);
	return 0;
}
#define syscall not_asleep
#define xmalloc own_memory
#include "vmm/fs_channel.c"
#undef xmalloc
#undef syscall

/* What the device takes, asks, and answers passes here. */
static bool checked_next(struct virtio_dev *d, unsigned q, struct virtq_chain *c);
static void checked_push(struct virtq *vq, uint16_t head, uint32_t len);

static void checked_post(struct fs_channel *c, unsigned slot, size_t len, size_t max)
{
	FUZZ_CHECK(len >= sizeof(struct fuse_in_header) && len <= FUSE_MSG_MAX);
	fs_post(c, slot, len, max);
}

/* Half an answer would be taken for a whole one. */
static size_t checked_write(const struct virtq_chain *c, size_t off, const void *p, size_t len)
{
	size_t n = virtq_write_in(c, off, p, len);

	FUZZ_CHECK(n == len);
	return n;
}
#define filter_table   filter_table_of_device
#define fs_post        checked_post
#define virtio_next    checked_next
#define virtq_push     checked_push
#define virtq_write_in checked_write
#include "vmm/virtio_fs.c"
#undef fs_post
#undef virtio_next
#undef virtq_push
#undef virtq_write_in

#define HIDDEN 0x4000u /* bytes of the high region that the guest does not have */
#define TABLE  (GUEST_DATA + 0x8000u)
#define REPLY  (GUEST_DATA + 0x4000u)
#define PIECES 48 /* of a request, with those of its answer */

static struct guest g;
static struct fs_channel *ch;
static unsigned words;                           /* messages of the server's */
static unsigned waiting[QUEUES][VIRTQ_MAX_SIZE]; /* chains that were taken, by their heads */

static struct vfs *dev(void)
{
	return container_of(g.d, struct vfs, dev);
}

/* ---- the device, looked at ---- */

static bool checked_next(struct virtio_dev *d, unsigned q, struct virtq_chain *c)
{
	if (!virtio_next(d, q, c))
		return false;
	waiting[q][c->head]++;
	return true;
}

static void checked_push(struct virtq *vq, uint16_t head, uint32_t len)
{
	unsigned q = (unsigned)(vq - g.d->vq), i;
	bool fits = false;

	FUZZ_CHECK(q < QUEUES && head < vq->size && waiting[q][head]);
	waiting[q][head]--;
	for (i = 0; i < FS_SLOTS; i++)
		fits |= dev()->req[i].q == q && dev()->req[i].chain.head == head &&
			len <= dev()->req[i].chain.in_len;
	FUZZ_CHECK(fits && len <= FUSE_MSG_MAX);
	virtq_push(vq, head, len);
}

static void forget(uint32_t queues)
{
	unsigned q;

	for (q = 0; q < QUEUES; q++)
		if (queues & 1u << q)
			memset(waiting[q], 0, sizeof(waiting[q]));
}

/* ---- the server ---- */

static size_t echo(void *arg, const void *req, size_t len, void *reply, size_t max)
{
	struct fuse_out_header o = {.len = sizeof(o)};

	FUZZ_CHECK(req == own && len <= FUSE_MSG_MAX && max <= FUSE_MSG_MAX);
	if (len >= sizeof(struct fuse_in_header))
		o.unique = ((const struct fuse_in_header *)req)->unique;
	memcpy(reply, &o, MIN(max, sizeof(o)));
	return arg ? *(const size_t *)arg : sizeof(o);
}

/* As it is meant to be, but for the length it says its answer has, which may be any. */
static void serve(unsigned slot, size_t *len)
{
	if (!setjmp(asleep))
		fs_serve(ch, slot, echo, len);
}

static void say(unsigned slot, uint32_t len)
{
	struct slot_head *h = head(ch, slot);

	h->reply_len = len;
	h->state = SLOT_ANSWERED;
}

static void lie(struct fz *f)
{
	uint8_t what = fz_u8(f);
	unsigned slot = fz_u8(f) % FS_SLOTS, i;
	struct fz run;
	size_t n;

	switch (what & 7) {
	case 0: /* an answer, with any bytes and any length */
		n = what & 8 ? fz_u32(f) : fz_u8(f);
		run = fz_take(f, fz_u8(f));
		memcpy(reply_of(ch, slot), run.p, run.n);
		say(slot, (uint32_t)n);
		break;
	case 1: /* everything is answered, asked or not */
		for (i = 0; i < FS_SLOTS; i++)
			say(i, fz_u16(f) * (what & 8 ? 0x101u : 1u));
		break;
	case 2: /* what stands about a slot */
		fz_bytes(f, head(ch, slot), 16);
		break;
	case 3: /* anything anywhere */
		i = fz_u32(f) % (MEM_BYTES - 256);
		run = fz_take(f, fz_u8(f));
		memcpy(ch->mem + i, run.p, run.n);
		break;
	case 4:
		run = fz_take(f, 1u + fz_u8(f));
		if (run.n && send(ch->peer, run.p, run.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			words++; /* no bytes would be taken for the end */
		break;
	case 5:
		if (what & 8 && ch->peer >= 0)
			close(steal_fd(&ch->peer));
		break;
	case 6: /* a request that is none of the device's */
		n = (size_t)fz_u64(f);
		if (what & 8) {
			fz_bytes(f, head(ch, slot), 16);
			head(ch, slot)->state = SLOT_POSTED;
		}
		serve(slot, &n);
		break;
	default:
		serve(slot, NULL);
	}
	if (what & 0x40)
		(void)loop_turn(g.l, 0, NULL);
	if (what & 0x80)
		guest_completions(&g, 0);
}

/* ---- the guest ---- */

/* A request that is one, in an indirect table: of many pieces when it is to be long, with room for its answer in many. */
static void ask(unsigned q, unsigned nout, uint32_t out, unsigned nin, uint32_t in)
{
	struct fuse_in_header h = {.len = nout * out, .opcode = FUSE_GETATTR, .unique = 77};
	struct vring_desc d = {.addr = TABLE,
			       .len = (nout + nin) * 16,
			       .flags = VRING_DESC_F_INDIRECT};
	unsigned i;

	FUZZ_CHECK(nout + nin <= PIECES);
	(void)gmem_write(&g.m, GUEST_DATA, &h, sizeof(h));
	(void)gmem_write(&g.m, GUEST_RING(q), &d, sizeof(d));
	for (i = 0; i < nout + nin; i++) {
		d = (struct vring_desc){.addr = i < nout ? GUEST_DATA : REPLY,
					.len = i < nout ? out : in,
					.next = (uint16_t)(i + 1)};
		d.flags = (i < nout ? 0 : VRING_DESC_F_WRITE) |
			  (i + 1 < nout + nin ? VRING_DESC_F_NEXT : 0);
		(void)gmem_write(&g.m, TABLE + 16ull * i, &d, sizeof(d));
	}
	guest_offer(&g, q, 0, 1);
	guest_kick(&g, q);
}

static void ask_of_input(struct fz *f)
{
	uint8_t how = fz_u8(f);
	unsigned nout = how & 2 ? fz_u8(f) % (PIECES / 2) : 1;
	unsigned nin = how & 4 ? fz_u8(f) % (PIECES / 2) : 1;

	/* FUSE_MSG_MAX is some seventeen pieces of the largest size. */
	ask(how & 1, nout, how & 8 ? fz_u16(f) : sizeof(struct fuse_in_header), nin,
	    how & 16 ? fz_u16(f) % 0xc000 : 64);
}

static void step(struct fz *f)
{
	uint8_t op = f->p[0];

	if (op & 0x80) {
		fz_u8(f);
		(op & 0x40 ? ask_of_input : lie)(f);
		return;
	}
	/* A reset, and a queue that is stopped alone: what waited does no longer. */
	if ((op & 15) == 9)
		forget(~0u);
	if ((op & 15) == 12)
		forget(1u << (op >> 4) % QUEUES);
	guest_step(&g, f);
}

/* ---- an input ---- */

/* A driver that behaves: it gets no answer to what was asked before it came, and one to what it asks. */
static void well_again(void)
{
	const uint8_t *low = g.m.regions[0].hva, *high = g.m.regions[1].hva;
	struct fuse_out_header o;
	struct fz none = {(const uint8_t *)"", 0};
	unsigned i;

	forget(~0u);
	virtio_reset(g.d);
	memset(g.m.regions[0].hva, 0, GUEST_LOW + GUEST_HIGH - HIDDEN);
	for (i = 0; i < FS_SLOTS; i++) {
		memset(reply_of(ch, i), 0xa5, 64);
		say(i, 64);
	}
	guest_start(&g, &none);
	/* It reads a message of the server's at a time. */
	for (i = 0; i < words + 2; i++)
		(void)loop_turn(g.l, 0, NULL);
	guest_completions(&g, 0);
	FUZZ_CHECK(g.d->active && mem_is_zero(low + GUEST_DATA, GUEST_LOW - GUEST_DATA) &&
		   mem_is_zero(high, GUEST_HIGH - HIDDEN));
	for (i = 0; i < FS_SLOTS; i++)
		FUZZ_CHECK(!dev()->req[i].busy);
	ask(REQUESTS, 1, sizeof(struct fuse_in_header), 1, 64);
	serve(0, NULL);
	guest_completions(&g, 0);
	FUZZ_CHECK(!gmem_read(&g.m, REPLY, &o, sizeof(o)) && !waiting[REQUESTS][0]);
	FUZZ_CHECK(o.len == sizeof(o) && o.unique == 77);
	FUZZ_CHECK(o.error == (dev()->dead ? -EIO : 0) && dev()->dead == (ch->peer < 0));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	guest_init(&g);
	g.m.regions[1].size -= HIDDEN;
	g.ring = 64;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *hidden = g.m.regions[1].hva + g.m.regions[1].size;
	struct fz f = {data, size};
	uint64_t fds = fuzz_open_fds();
	unsigned n;

	ch = fs_channel_new(NULL);
	FUZZ_CHECK(ch && !fd_set_nonblock(ch->sock, true));
	guest_take(&g, virtio_fs_new(g.l, &g.m, ch, NULL));
	memset(g.m.regions[0].hva, 0, GUEST_LOW + GUEST_HIGH - HIDDEN);
	memset(hidden, 0x5a, HIDDEN);
	forget(~0u);
	words = 0;
	guest_start(&g, &f);
	for (n = 0; f.n && n < GUEST_OPS; n++)
		step(&f);
	for (n = 0; n < QUEUES; n++)
		guest_kick(&g, n);
	(void)loop_turn(g.l, 0, NULL);
	well_again();
	for (n = 0; n < HIDDEN; n++)
		FUZZ_CHECK(hidden[n] == 0x5a);
	virtio_free(g.d);
	(void)loop_turn(g.l, 0, NULL);
	fs_channel_free(ch);
	FUZZ_CHECK(fuzz_open_fds() == fds);
	return 0;
}
