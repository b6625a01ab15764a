/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile.c - a guest without a kernel: the worst driver that each of our devices can meet, inside a real machine.
 *
 * DOC: Theory of operation
 * It is an ELF64 file without a PVH note, so it is entered in 64-bit mode with a zero page and identity page tables (the
 * 64-bit boot protocol). It has no interrupts and no stack but the boot stack's few pages, uses general registers only,
 * and of memory accesses only plain moves: so it also runs on a /dev/kvm that interprets what it cannot run.
 *
 * Each case is a line on the serial port, "ok <class> <device>: <case>" or "not ok …"; the letters are those of tests/README.md. A case
 * first does its harm, then resets the device and lets it do what it is for, which must work. The last line is "done <n>".
 */
#include "tests/guest/driver.h"

static struct dev dev[SLOTS];
static unsigned ndev, ncases;

void guest_main(const uint8_t *zero_page);

/* The stack's own place, so that nothing depends on what the boot protocol left. */
__asm__(".pushsection .text.start,\"ax\"\n"
	".globl _start\n"
	"_start:\n"
	"	mov $0x3f0000,%esp\n"
	"	mov %rsi,%rdi\n"
	"	call guest_main\n"
	"1:	hlt\n"
	"	jmp 1b\n"
	".popsection\n");

/* ---- the machine ---- */

static void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0,%1" ::"a"(v), "Nd"(port));
}

/* Many bytes by one instruction. */
static void outs(uint16_t port, uint64_t at, uint64_t n)
{
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(n) : "d"(port) : "memory");
}

static void say(const char *s)
{
	while (*s)
		outb(0x3f8, (uint8_t)*s++);
}

static void say_number(unsigned v)
{
	char text[12], *p = text + sizeof(text) - 1;

	*p = 0;
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	say(p);
}

void result(int good, const char *class, const struct dev *d, const char *what)
{
	ncases++;
	say(good ? "\nok "
		 : "\nnot ok "); /* on a line of its own, whatever the console got before */
	say(class);
	say(" ");
	say(d ? d->name : "machine");
	say(": ");
	say(what);
	say("\n");
}

/* ---- what each device is for ---- */

static uint64_t blk_sectors(const struct dev *d)
{
	return get32(d->base + R_CONFIG) | (uint64_t)get32(d->base + R_CONFIG + 4) << 32;
}

static int is_ro(const struct dev *d)
{
	set(d, R_FEAT_SEL, 0);
	return !!(reg(d, R_FEATURES) & 1u << 5);
}

/* One request; the status byte, or -1. */
static int blk_do(struct dev *d, uint32_t type, uint64_t sector, uint32_t len)
{
	uint16_t dir = type == 1 || type >= 11 ? 0 : WRITE;

	put32(DATA, type);
	put32(DATA + 4, 0);
	put64(DATA + 8, sector);
	put8(DATA + 0x100, 0x77);
	put_desc(RING(0), 0, DATA, 16, NEXT, 1);
	put_desc(RING(0), 1, DATA + 0x1000, len, NEXT | dir, 2);
	put_desc(RING(0), 2, DATA + 0x100, 1, WRITE, 0);
	offer(d, 0, 0);
	return wait(d, 0, NULL) == USED_ONE ? get8(DATA + 0x100) : -1;
}

static int blk_works(struct dev *d)
{
	unsigned i;

	fill(DATA + 0x1000, 0xee, 512);
	if (blk_do(d, 0, 3, 512) != 0)
		return 0;
	for (i = 0; is_ro(d) && i < 512; i += 31)
		if (get8(DATA + 0x1000 + i) != GUEST_DISK_BYTE(3 * 512 + i))
			return 0;
	return 1;
}

static int rng_works(struct dev *d)
{
	uint32_t len = 0;
	uint64_t all = 0;
	unsigned i;

	fill(DATA, 0, 64);
	put_desc(RING(0), 0, DATA, 64, WRITE, 0);
	offer(d, 0, 0);
	if (wait(d, 0, &len) != USED_ONE || len != 64)
		return 0;
	for (i = 0; i < 64; i += 8)
		all |= get64(DATA + i);
	return all != 0;
}

/* A buffer for the device to read. */
static int takes(struct dev *d, unsigned q, uint32_t len)
{
	put_desc(RING(q), 0, DATA, len, 0, 0);
	offer(d, q, 0);
	return wait(d, q, NULL) == USED_ONE;
}

static int console_works(struct dev *d)
{
	put8(DATA, '#');
	put8(DATA + 1, '\n');
	return takes(d, 1, 2);
}

static int net_works(struct dev *d)
{
	static const uint8_t mac[6] = {GUEST_MAC};
	unsigned i;

	fill(DATA, 0, 12 + 60);
	for (i = 0; i < 6; i++) {
		put8(DATA + 12 + i, 0xff);
		put8(DATA + 18 + i, mac[i]);
	}
	put16(DATA + 24, 0xb588); /* a type of nobody's */
	return takes(d, 1, 12 + 60);
}

static void vsock_packet(uint64_t at, uint32_t dst_port, uint32_t src_port, uint16_t op,
			 uint32_t len)
{
	fill(at, 0, 44);
	put64(at, GUEST_CID);
	put64(at + 8, 2);
	put32(at + 16, src_port);
	put32(at + 20, dst_port);
	put32(at + 24, len);
	put16(at + 28, 1);
	put16(at + 30, op);
	put32(at + 36, 0x10000);
}

#define VSOCK_IN (DATA + 0x100000)

/* A receive buffer, and the packet that comes into it: its op, or -1. */
static int vsock_hear(struct dev *d)
{
	put_desc(RING(0), 0, VSOCK_IN, 0x1000, WRITE, 0);
	offer(d, 0, 0);
	return wait(d, 0, NULL) == USED_ONE ? get16(VSOCK_IN + 30) : -1;
}

static int vsock_send(struct dev *d, uint32_t dst_port, uint32_t src_port, uint16_t op,
		      uint32_t says, uint32_t len)
{
	vsock_packet(DATA, dst_port, src_port, op, says);
	return takes(d, 1, 44 + len);
}

/* Nobody listens on the port: refused. */
static int vsock_works(struct dev *d)
{
	return vsock_send(d, GUEST_PORT_NONE, 1000, 1, 0, 0) && vsock_hear(d) == 3;
}

static int balloon_works(struct dev *d)
{
	fill(DATA + 0x200000, 0x5a, 0x2000);
	put_desc(RING(2), 0, DATA + 0x200000, 0x1000, WRITE, 0);
	offer(d, 2, 0);
	return wait(d, 2, NULL) == USED_ONE && !get8(DATA + 0x200000) &&
	       get8(DATA + 0x201000) == 0x5a;
}

static int works(struct dev *d)
{
	switch (d->id) {
	case BLK:
		return blk_works(d);
	case RNG:
		return rng_works(d);
	case CONSOLE:
		return console_works(d);
	case NET:
		return net_works(d);
	case VSOCK:
		return vsock_works(d);
	case BALLOON:
		return balloon_works(d);
	case FS:
		return fs_works(d);
	default:
		return 0;
	}
}

/* The queue that the device reads as soon as it is told. */
static unsigned busy_queue(const struct dev *d)
{
	return d->id == CONSOLE || d->id == NET || d->id == VSOCK || d->id == FS;
}

static int recovers(struct dev *d)
{
	return start(d) && works(d);
}

/* ---- A: registers ---- */

/* Is the queue refused at QueueReady, or the device broken once it should run? */
static int bad_queue(struct dev *d, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	int refused;

	if (!negotiate(d))
		return 0;
	select_queue(d, 0, size, desc, avail, used);
	refused = !reg(d, R_READY);
	set(d, R_STATUS, 1 | 2 | S_FEATURES_OK | S_DRIVER_OK);
	set(d, R_NOTIFY, 0);
	return refused || (reg(d, R_STATUS) & S_RESET);
}

static void class_A_queues(struct dev *d)
{
	static const struct {
		const char *what;
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{"queue of size 0", 0, RING(0), AVAIL(0), USED(0)},
		{"queue size no power of two", 12, RING(0), AVAIL(0), USED(0)},
		{"queue size beyond the maximum", 0x8000, RING(0), AVAIL(0), USED(0)},
		{"queue size of 32 bits", 0x80000010, RING(0), AVAIL(0), USED(0)},
		{"table not aligned", SIZE, RING(0) + 8, AVAIL(0), USED(0)},
		{"available ring not aligned", SIZE, RING(0), AVAIL(0) + 1, USED(0)},
		{"used ring not aligned", SIZE, RING(0), AVAIL(0), USED(0) + 2},
		{"table outside memory", SIZE, RAM_END, AVAIL(0), USED(0)},
		{"table across the end of memory", SIZE, RAM_END - 16, AVAIL(0), USED(0)},
		{"ring that wraps", SIZE, RING(0), ~1ull, USED(0)},
		{"used ring in the devices", SIZE, RING(0), AVAIL(0), MMIO},
		{"used ring in the hole", SIZE, RING(0), AVAIL(0), 0xc0000000},
	};
	unsigned i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int good = bad_queue(d, bad[i].size, bad[i].desc, bad[i].avail, bad[i].used);

		result(good && recovers(d), "A", d, bad[i].what);
	}
}

static void class_A_frozen(struct dev *d)
{
	unsigned q = busy_queue(d), r;
	int good = start(d);

	set(d, R_QUEUE_SEL, q);
	set(d, R_NUM, 4);
	for (r = R_DESC; r <= R_DEVICE; r += 0x10)
		set_address(d, r, RAM_END - 64);
	set(d, R_READY, 0);
	set(d, R_READY, 1);
	set(d, R_DRV_SEL, 0);
	set(d, R_DRV_FEAT, 0);
	result(good && reg(d, R_READY) == 1 && works(d), "A", d, "change after DRIVER_OK");
}

static void class_A_ranges(struct dev *d)
{
	static const uint32_t odd[] = {8,       0x7f,       0x80,       0xffff,
				       0x10000, 0x7fffffff, 0x80000000, 0xffffffff};
	unsigned i;
	int good = start(d);

	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		set(d, R_QUEUE_SEL, odd[i]);
		good &= reg(d, R_NUM_MAX) == 0 && reg(d, R_READY) == 0;
		set(d, R_READY, 1);
		good &= reg(d, R_READY) == 0;
		set(d, R_NOTIFY, odd[i]);
		set(d, R_FEAT_SEL, odd[i]);
		good &= reg(d, R_FEATURES) == 0;
	}
	result(good && works(d), "A", d, "selectors and notifications out of range");
}

static void class_A_widths(struct dev *d)
{
	uint64_t b = d->base;
	unsigned off;
	int good = start(d);

	good &= get8(b) == 0 && get16(b + R_MAGIC) == 0 && get64(b + R_MAGIC) == 0;
	put8(b + R_STATUS, 0);
	put16(b + R_STATUS, 0);
	put64(b + R_STATUS, 0);
	put32(b + R_STATUS + 1, 0);
	put8(b + R_STATUS + 3, 0xff);
	good &= reg(d, R_STATUS) == (1 | 2 | S_FEATURES_OK | S_DRIVER_OK);
	/* Configuration space: any width, across its end, across the page. */
	for (off = R_CONFIG; off < 0x200; off += 3) {
		(void)get8(b + off);
		(void)get16(b + off);
		(void)get64(b + off);
	}
	for (off = 0xff0; off < 0x1000; off++) {
		(void)get8(b + off);
		(void)get32(b + off);
		(void)get64(b + off);
		put8(b + off, 0xff);
		if (off < 0xff9)
			put64(b + off, ~0ull);
	}
	(void)get64(b + 0xfc); /* a register and the configuration */
	result(good && works(d), "A", d, "odd widths and offsets");
}

static void class_A_features(struct dev *d)
{
	int good;

	reset(d);
	set(d, R_STATUS, 1 | 2);
	set(d, R_DRV_SEL, 0);
	set(d, R_DRV_FEAT, ~0u);
	set(d, R_DRV_SEL, 1);
	set(d, R_DRV_FEAT, ~0u);
	set(d, R_STATUS, 1 | 2 | S_FEATURES_OK);
	good = !(reg(d, R_STATUS) & S_FEATURES_OK);
	set(d, R_STATUS, 1 | 2 | S_FEATURES_OK | S_DRIVER_OK);
	good &= !(reg(d, R_STATUS) & S_DRIVER_OK);
	result(good && recovers(d), "A", d, "features that were not offered");
	reset(d);
	set(d, R_STATUS, 0xff);
	result((reg(d, R_STATUS) & (S_DRIVER_OK | S_RESET)) == 0 && recovers(d), "A", d,
	       "all status bits at once");
}

/* ---- B: chains ---- */

struct chain {
	const char *what;
	uint16_t head, jump;
	struct desc d[3];  /* in the ring from 0 */
	struct desc in[3]; /* in TABLE */
};

static const struct chain chains[] = {
	{"loop to itself", 0, 1, {{DATA, 16, NEXT, 0}}, {{0}}},
	{"loop of two", 0, 1, {{DATA, 16, NEXT, 1}, {DATA, 16, NEXT, 0}}, {{0}}},
	{"next outside", 0, 1, {{DATA, 16, NEXT, SIZE}}, {{0}}},
	{"next far outside", 0, 1, {{DATA, 16, NEXT, 0xffff}}, {{0}}},
	{"head outside", SIZE, 1, {{0}}, {{0}}},
	{"head far outside", 0xffff, 1, {{0}}, {{0}}},
	{"available index jumps", 0, SIZE + 1, {{DATA, 16, 0, 0}}, {{0}}},
	{"available index goes back", 0, 0xffff, {{DATA, 16, 0, 0}}, {{0}}},
	{"indirect, empty", 0, 1, {{TABLE, 0, INDIRECT, 0}}, {{0}}},
	{"indirect, a piece of an entry", 0, 1, {{TABLE, 40, INDIRECT, 0}}, {{DATA, 16, 0, 0}}},
	{"indirect, huge", 0, 1, {{TABLE, 0xfffffff0, INDIRECT, 0}}, {{DATA, 16, 0, 0}}},
	{"indirect, outside memory", 0, 1, {{RAM_END, 16, INDIRECT, 0}}, {{0}}},
	{"indirect that wraps", 0, 1, {{~0xfull, 32, INDIRECT, 0}}, {{0}}},
	{"indirect in an indirect one",
	 0,
	 1,
	 {{TABLE, 16, INDIRECT, 0}},
	 {{TABLE, 16, INDIRECT, 0}}},
	{"indirect with a next one",
	 0,
	 1,
	 {{TABLE, 16, INDIRECT | NEXT, 1}, {DATA, 16, 0, 0}},
	 {{DATA, 16, 0, 0}}},
	{"indirect loop",
	 0,
	 1,
	 {{TABLE, 32, INDIRECT, 0}},
	 {{DATA, 16, NEXT, 1}, {DATA, 16, NEXT, 0}}},
	{"indirect, next outside", 0, 1, {{TABLE, 32, INDIRECT, 0}}, {{DATA, 16, NEXT, 2}}},
	{"address that wraps", 0, 1, {{~0xfffull, 0x2000, 0, 0}}, {{0}}},
	{"address outside memory", 0, 1, {{RAM_END, 16, 0, 0}}, {{0}}},
	{"address in the devices", 0, 1, {{MMIO, 16, 0, 0}}, {{0}}},
	{"range across the end of memory", 0, 1, {{RAM_END - 8, 16, 0, 0}}, {{0}}},
	{"length of 4 GiB", 0, 1, {{DATA, 0xffffffff, 0, 0}}, {{0}}},
	{"readable after writable", 0, 1, {{DATA, 16, NEXT | WRITE, 1}, {DATA, 16, 0, 0}}, {{0}}},
};

static void put_descs(uint64_t table, const struct desc *d)
{
	unsigned i;

	for (i = 0; i < 3; i++)
		put_desc(table, i, d[i].addr, d[i].len, d[i].flags, d[i].next);
}

static void class_B(struct dev *d)
{
	unsigned q = busy_queue(d), i;

	for (i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		const struct chain *c = &chains[i];
		int good = start(d);

		put_descs(RING(q), c->d);
		put_descs(TABLE, c->in);
		offer_many(d, q, c->head, c->jump);
		good &= wait(d, q, NULL) == BROKEN;
		/* It does no more, whatever it is told. */
		offer(d, q, 0);
		set(d, R_NOTIFY, q);
		good &= !!(reg(d, R_STATUS) & S_RESET);
		result(good && recovers(d), "B", d, c->what);
	}
}

/* A descriptor that changes while it is read, and buffers that are the ring: the device may break, nobody else. */
static void class_B_moving(struct dev *d)
{
	unsigned q = busy_queue(d), i, k;
	int good = start(d);

	for (i = 0; i < 40; i++) {
		put_desc(RING(q), 0, DATA, 16, 0, 0);
		offer(d, q, 0);
		for (k = 0; k < 30; k++) {
			put64(RING(q), k & 1 ? DATA : ~0ull);
			put32(RING(q) + 8, k & 1 ? 16 : 0xffffffff);
			put16(RING(q) + 12, k & 1 ? 0 : NEXT);
		}
		if (reg(d, R_STATUS) & S_RESET)
			good &= start(d);
		if (d->avail[q] - d->used[q] > 12)
			good &= start(d);
	}
	result(good && recovers(d), "B", d, "descriptor rewritten while it is read");
	good = start(d);
	put_desc(RING(q), 0, RING(q), 0x3000, d->id == RNG ? WRITE : 0, 0);
	offer(d, q, 0);
	(void)wait(d, q, NULL);
	put_desc(RING(q), 0, RING(q), 0x1000, NEXT, 1);
	put_desc(RING(q), 1, AVAIL(q), 0x3000 - 0x1000, WRITE, 0);
	offer(d, q, 0);
	(void)wait(d, q, NULL);
	result(good && recovers(d), "B", d, "buffers that are the ring");
	good = start(d);
	put_desc(RING(q), 0, DATA, 0, 0, 0);
	offer(d, q, 0);
	(void)wait(d, q, NULL);
	result(good && recovers(d), "B", d, "zero length");
}

/* ---- A and C: the disk ---- */

static void class_C(struct dev *d)
{
	uint64_t n;
	int good = start(d), ro = is_ro(d);

	n = blk_sectors(d);
	result(good && n == GUEST_SECTORS, "C", d, "capacity");
	result(blk_do(d, 0, n, 512) == 1 && blk_do(d, 0, n - 1, 1024) == 1, "C", d,
	       "beyond the capacity");
	result(blk_do(d, 0, ~0ull, 512) == 1 && blk_do(d, 0, ~0ull >> 9, 512) == 1 &&
		       blk_do(d, 0, 1ull << 55, 1024) == 1,
	       "C", d, "sector that wraps");
	result(blk_do(d, 0, 0, 100) == 1, "C", d, "piece of a sector");
	result(blk_do(d, 77, 0, 512) == 2 && blk_do(d, 0xffffffff, 0, 512) == 2, "C", d,
	       "unknown type");
	if (ro) {
		fill(DATA + 0x1000, 0xff, 512);
		result(blk_do(d, 1, 0, 512) == 1, "C", d, "write to a read-only disk");
		put64(DATA + 0x1000, 0);
		put32(DATA + 0x1008, 8);
		put32(DATA + 0x100c, 0);
		good = blk_do(d, 11, 0, 16);
		result(good == 1 || good == 2, "C", d, "discard of a read-only disk");
		good = blk_do(d, 13, 0, 16);
		result(good == 1 || good == 2, "C", d, "zeroes to a read-only disk");
	} else {
		put64(DATA + 0x1000, n - 1);
		put32(DATA + 0x1008, 8);
		put32(DATA + 0x100c, 0);
		result(blk_do(d, 13, 0, 16) == 1, "C", d, "zeroes beyond the capacity");
		put64(DATA + 0x1000, ~0ull);
		put32(DATA + 0x1008, 0xffffffff);
		result(blk_do(d, 11, 0, 16) == 1, "C", d, "discard that wraps");
	}
	result(works(d), "C", d, "works afterwards");
	/* A status byte that is not there. */
	good = start(d);
	put32(DATA, 0);
	put64(DATA + 8, 0);
	put_desc(RING(0), 0, DATA, 16, 0, 0);
	offer(d, 0, 0);
	(void)wait(d, 0, NULL);
	result(good && recovers(d), "B", d, "status byte missing");
	good = start(d);
	put_desc(RING(0), 0, DATA, 7, NEXT, 1);
	put_desc(RING(0), 1, DATA + 0x1000, 513, WRITE, 0);
	offer(d, 0, 0);
	(void)wait(d, 0, NULL);
	result(good && recovers(d), "C", d, "short header");
}

/* Many reads, then a reset under them: what comes after it must not write to memory any more. */
static void class_A_in_flight(struct dev *d)
{
	unsigned i, round;
	int good = 1;

	for (round = 0; round < 10 && good; round++) {
		good = start(d);
		for (i = 0; i < 5; i++) {
			uint64_t at = DATA + 0x10000ull * i;

			put32(at, 0);
			put64(at + 8, 0);
			put_desc(RING(0), 3 * i, at, 16, NEXT, (uint16_t)(3 * i + 1));
			put_desc(RING(0), 3 * i + 1, at + 0x1000, GUEST_SECTORS * 512, NEXT | WRITE,
				 (uint16_t)(3 * i + 2));
			put_desc(RING(0), 3 * i + 2, at + 0x100, 1, WRITE, 0);
			offer(d, 0, (uint16_t)(3 * i));
		}
		reset(d);
		for (i = 0; i < 5; i++)
			fill(DATA + 0x10000ull * i + 0x1000, 0xaa, 64);
		for (i = 0; i < 50; i++)
			(void)reg(d, R_STATUS);
		for (i = 0; i < 5; i++)
			good &= get8(DATA + 0x10000ull * i + 0x1000) == 0xaa;
	}
	result(good && recovers(d), "A", d, "reset with I/O in flight");
}

/* ---- D: the network ---- */

static void class_D(struct dev *d)
{
	static const struct {
		const char *what;
		uint8_t flags, gso;
		uint16_t hdr_len, gso_size, csum_start, csum_offset;
		uint32_t len;
	} bad[] = {
		{"runt", 0, 0, 0, 0, 0, 0, 12},
		{"half a header", 0, 0, 0, 0, 0, 0, 5},
		{"frame of a byte", 0, 0, 0, 0, 0, 0, 13},
		{"giant", 0, 0, 0, 0, 0, 0, 0x20000},
		{"checksum outside the frame", 1, 0, 0, 0, 0xffff, 0xffff, 72},
		{"checksum that wraps", 1, 0, 0, 0, 60, 0xfffe, 72},
		{"segments of nothing", 0, 1, 54, 0, 0, 0, 72},
		{"unknown segmentation", 0, 0x7f, 54, 1, 0, 0, 72},
		{"header beyond the frame", 0, 1, 0xffff, 1, 0, 0, 72},
	};
	unsigned i, k;
	int good;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		good = start(d) && works(d);
		put8(DATA, bad[i].flags);
		put8(DATA + 1, bad[i].gso);
		put16(DATA + 2, bad[i].hdr_len);
		put16(DATA + 4, bad[i].gso_size);
		put16(DATA + 6, bad[i].csum_start);
		put16(DATA + 8, bad[i].csum_offset);
		good &= takes(d, 1, bad[i].len) || (reg(d, R_STATUS) & S_RESET);
		result(good && recovers(d), "D", d, bad[i].what);
	}
	good = start(d) && works(d);
	for (i = 0; i < 6; i++) {
		for (k = 0; k < 6; k++)
			put8(DATA + 18 + k, k == i ? 0x99 : 0);
		good &= takes(d, 1, 72);
	}
	result(good && works(d), "D", d, "another's MAC address");
}

/* ---- E: vsock ---- */

static void class_E(struct dev *d)
{
	uint32_t i, alloc, sent = 0, port = 2000;
	int good = start(d), op = -1;

	result(good && vsock_send(d, GUEST_PORT_NONE, 5, 5, 0, 0) && vsock_hear(d) == 3, "E", d,
	       "data for no connection");
	result(vsock_send(d, GUEST_PORT_STALL, 6, 99, 0, 0) && vsock_hear(d) == 3, "E", d,
	       "unknown op");
	good = vsock_send(d, GUEST_PORT_STALL, 7, 1, 0, 0) && vsock_hear(d) == 2;
	good &= vsock_send(d, GUEST_PORT_STALL, 7, 5, 0xffffffff, 16) && vsock_hear(d) == 3;
	result(good, "E", d, "length beyond the chain");
	/* A stranger's address is not answered, and the next one is. */
	vsock_packet(DATA, GUEST_PORT_NONE, 8, 1, 0);
	put64(DATA, GUEST_CID + 1);
	good = takes(d, 1, 44);
	result(good && works(d), "E", d, "another's CID");
	/* More than the credit that was given. */
	good = vsock_send(d, GUEST_PORT_STALL, 9, 1, 0, 0) && vsock_hear(d) == 2;
	alloc = get32(VSOCK_IN + 36);
	put_desc(RING(0), 0, VSOCK_IN, 0x1000, WRITE, 0);
	offer(d, 0, 0);
	for (i = 0; good && i < 64 && sent <= alloc; i++, sent += 0x8000)
		good &= vsock_send(d, GUEST_PORT_STALL, 9, 5, 0x8000, 0x8000);
	good &= wait(d, 0, NULL) == USED_ONE;
	op = get16(VSOCK_IN + 30);
	result(good && op == 3 && sent > alloc, "E", d, "more than the credit");
	/* Resets by the hundred, and none taken: the device lets them wait, then all come. */
	good = start(d);
	for (i = 0; i < 200 && good; i++)
		good = vsock_send(d, GUEST_PORT_NONE, port + i, 5, 0, 0);
	for (i = 0; i < 200 && good; i++)
		good = vsock_hear(d) == 3;
	result(good && works(d), "E", d, "storm of resets");
	/* A connection that is there, and a reset of the device under it. */
	good = vsock_send(d, GUEST_PORT_STALL, 10, 1, 0, 0) && vsock_hear(d) == 2;
	good &= start(d) && vsock_send(d, GUEST_PORT_STALL, 10, 5, 0, 0) && vsock_hear(d) == 3;
	result(good && works(d), "E", d, "reset with a live stream");
	/* A receive buffer without room for a header. */
	good = start(d);
	put_desc(RING(0), 0, VSOCK_IN, 20, WRITE, 0);
	offer(d, 0, 0);
	/* Which is seen first, the packet taken or the device broken, is not said. */
	(void)vsock_send(d, GUEST_PORT_NONE, 11, 5, 0, 0);
	good &= wait(d, 0, NULL) == BROKEN;
	result(good && recovers(d), "E", d, "receive buffer too small");
}

/* ---- the balloon ---- */

static void class_balloon(struct dev *d)
{
	static const uint32_t odd[] = {0xffffffff, 0x80000000, RAM_END >> 12, 0xd0000, 0xfee00};
	unsigned i;
	int good = start(d);

	for (i = 0; i < 1000; i++)
		put32(DATA + 4 * i, odd[i % 5]);
	good &= takes(d, 0, 4000) && takes(d, 0, 3) && takes(d, 1, 4000);
	result(good && works(d), "B", d, "pages that are no memory");
	good = start(d);
	put_desc(RING(2), 0, RING(2), 0x3000, WRITE, 0);
	offer(d, 2, 0);
	(void)wait(d, 2, NULL);
	result(good && recovers(d), "B", d, "the ring given away");
}

/* ---- the machine ---- */

static void class_A_machine(void)
{
	uint64_t at;
	unsigned i;

	/* Where no device is: all ones, and writes go nowhere. */
	int good = get32(MMIO + ndev * MMIO_SIZE) == 0xffffffff && get8(MMIO + 0xff000) == 0xff;

	for (i = 0; i < 64; i++) {
		at = MMIO + (uint64_t)ndev * MMIO_SIZE + i * 0xff8;
		put32(at, i);
		put64(at, ~0ull);
		(void)get64(at);
	}
	result(good, "A", NULL, "addresses of no device");
	for (i = 0; i < 0x10000; i += 0x1f3) {
		uint32_t v;
		uint16_t port = (uint16_t)i;

		if (port >= 0x600 && port < 0x603)
			continue;
		__asm__ volatile("inb %1,%%al" : "=a"(v) : "Nd"(port));
		__asm__ volatile("inl %1,%%eax" : "=a"(v) : "Nd"(port));
		if (port < 0x3f0 || port > 0x3ff)
			__asm__ volatile("outl %%eax,%0" ::"Nd"(port), "a"(0));
	}
	result(1, "A", NULL, "ports of no device");
}

static void find_devices(void)
{
	static const struct {
		uint32_t id;
		const char *name;
	} names[] = {{NET, "net"}, {BLK, "blk"},         {CONSOLE, "console"},
		     {RNG, "rng"}, {BALLOON, "balloon"}, {VSOCK, "vsock"},
		     {FS, "fs"}};
	unsigned i, k, q;

	for (i = 0; i < SLOTS; i++) {
		struct dev *d = &dev[ndev];

		d->base = MMIO + i * MMIO_SIZE;
		if (reg(d, R_MAGIC) != 0x74726976)
			return;
		d->id = reg(d, R_ID);
		d->name = "unknown";
		for (k = 0; k < sizeof(names) / sizeof(names[0]); k++)
			if (names[k].id == d->id)
				d->name = names[k].name;
		for (q = 0; q < QUEUES; q++) {
			set(d, R_QUEUE_SEL, q);
			if (!reg(d, R_NUM_MAX))
				break;
		}
		d->queues = q;
		ndev++;
	}
}

/* What the device before left would be page numbers to the balloon, when it is given a ring or a request of another's: this program's
 * own, and its page tables'. */
static void forget(void)
{
	unsigned q;

	fill(DATA, 0xff, 0x1000);
	for (q = 0; q < QUEUES; q++)
		fill(RING(q), 0, 0x3000);
}

static void suite(void)
{
	unsigned i;

	find_devices();
	for (i = 0; i < ndev; i++) {
		struct dev *d = &dev[i];

		forget();
		result(reg(d, R_VERSION) == 2 && recovers(d), "A", d, "works");
		class_A_queues(d);
		class_A_frozen(d);
		class_A_ranges(d);
		class_A_widths(d);
		class_A_features(d);
		class_B(d);
		class_B_moving(d);
		if (d->id == BLK) {
			class_C(d);
			class_A_in_flight(d);
		}
		if (d->id == NET)
			class_D(d);
		if (d->id == VSOCK)
			class_E(d);
		if (d->id == BALLOON)
			class_balloon(d);
		if (d->id == FS)
			class_fs(d);
	}
	class_A_machine();
	/* One device after the other was broken and mended: all of them still work, side by side with a broken one. */
	for (i = 0; i < ndev; i++) {
		struct dev *bad = &dev[i], *d = &dev[(i + 1) % ndev];

		(void)bad_queue(bad, SIZE, RAM_END, AVAIL(0), USED(0));
		result(recovers(d), "A", d, "works beside a broken device");
	}
	for (i = 0; i < ndev; i++)
		if (dev[i].id == FS)
			fs_server_goes(&dev[i]);
	for (i = 0; i < ndev; i++)
		result(recovers(&dev[i]), "N", &dev[i], "works when the shares' server has gone");
	say("\ndone ");
	say_number(ncases);
	say("\n");
}

/* ---- entry ---- */

static char mode_of(const uint8_t *zero_page)
{
	const char *p = (const char *)(uintptr_t)get32((uint64_t)(uintptr_t)zero_page + 0x228);

	for (; *p; p++)
		if (p[0] == 'm' && p[1] == 'o' && p[2] == 'd' && p[3] == 'e' && p[4] == '=')
			return p[5];
	return 's';
}

static void triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = {0, 0};

	__asm__ volatile("lidt %0; ud2" ::"m"(none));
}

static void flood(void)
{
	struct dev *d = dev;
	unsigned i;

	find_devices();
	while (d->id != CONSOLE)
		d++;
	(void)start(d);
	fill(DATA, 'x', 0x10000);
	for (i = 0;; i++) {
		put_desc(RING(1), i % SIZE, DATA, 0x10000, 0, 0);
		offer(d, 1, (uint16_t)(i % SIZE));
		if (i % 8 == 7)
			while ((uint16_t)(i + 1 - get16(USED(1) + 2)) > 4)
				(void)reg(d, R_STATUS);
		outs(0x3f8, DATA, 0x1000);
	}
}

void guest_main(const uint8_t *zero_page)
{
	switch (mode_of(zero_page)) {
	case 's':
		suite();
		outb(0x600, 0x20 | 5 << 2);
		break;
	case 'k':
		say("Kernel panic - not syncing: none here\n");
		outb(0x602, 1);
		break;
	case 'r':
		outb(0x602, 1);
		break;
	case 't':
		triple_fault();
		break;
	case 'f':
		flood();
		break;
	default:
		break;
	}
	for (;;)
		barrier();
}
