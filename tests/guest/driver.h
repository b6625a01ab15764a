/* SPDX-License-Identifier: Apache-2.0 */
/* driver.h - of the test guest: memory, registers, and a driver that knows how to behave. */
#ifndef TESTS_GUEST_DRIVER_H
#define TESTS_GUEST_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "tests/guest/hostile.h"

#define MMIO      0xd0000000ull
#define MMIO_SIZE 0x1000ull
#define SLOTS     16
#define RING(q)   (0x400000ull + 0x10000ull * (q))
#define AVAIL(q)  (RING(q) + 0x1000)
#define USED(q)   (RING(q) + 0x2000)
#define TABLE     0x600000ull /* indirect descriptors */
#define DATA      0x800000ull
#define SIZE      16u
#define QUEUES    8
#define RAM_END   GUEST_MEM_BYTES
#define PATIENCE  100000u /* looks at a register before a wait is over */

/* Registers (virtio 1.2 §4.2.2). */
#define R_MAGIC      0x00
#define R_VERSION    0x04
#define R_ID         0x08
#define R_FEATURES   0x10
#define R_FEAT_SEL   0x14
#define R_DRV_FEAT   0x20
#define R_DRV_SEL    0x24
#define R_QUEUE_SEL  0x30
#define R_NUM_MAX    0x34
#define R_NUM        0x38
#define R_READY      0x44
#define R_NOTIFY     0x50
#define R_ISR        0x60
#define R_ACK        0x64
#define R_STATUS     0x70
#define R_DESC       0x80
#define R_DRIVER     0x90
#define R_DEVICE     0xa0
#define R_GENERATION 0xfc
#define R_CONFIG     0x100

#define S_DRIVER_OK   4
#define S_FEATURES_OK 8
#define S_RESET       0x40
#define F_INDIRECT    (1u << 28)
#define F_EVENT_IDX   (1u << 29)

#define NEXT     1
#define WRITE    2
#define INDIRECT 4

enum { NET = 1, BLK = 2, CONSOLE = 3, RNG = 4, BALLOON = 5, VSOCK = 19, FS = 26 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct dev {
	uint64_t base;
	uint32_t id;
	unsigned queues;
	uint16_t avail[QUEUES], used[QUEUES];
	const char *name;
};

/* ---- memory ---- */

static inline void barrier(void)
{
	__asm__ volatile("" ::: "memory");
}

/* One plain move of that many bits, whatever the compiler would make of it: get8() and put8() to get64() and put64(). */
#define MOVES(bits, mov)                                                         \
	static inline uint##bits##_t get##bits(uint64_t at)                      \
	{                                                                        \
		uint##bits##_t v;                                                \
                                                                                 \
		__asm__ volatile(mov " (%1),%0" : "=q"(v) : "r"(at) : "memory"); \
		return v;                                                        \
	}                                                                        \
	static inline void put##bits(uint64_t at, uint##bits##_t v)              \
	{                                                                        \
		__asm__ volatile(mov " %0,(%1)" ::"q"(v), "r"(at) : "memory");   \
	}

MOVES(8, "movb")
MOVES(16, "movw")
MOVES(32, "movl")
MOVES(64, "movq")

static inline void fill(uint64_t at, uint8_t v, uint32_t n)
{
	uint64_t all = v * 0x0101010101010101ull;

	for (; n >= 8; n -= 8, at += 8)
		put64(at, all);
	while (n--)
		put8(at++, v);
}

/* ---- a driver that knows how to behave ---- */

static inline uint32_t reg(const struct dev *d, unsigned r)
{
	return get32(d->base + r);
}

static inline void set(const struct dev *d, unsigned r, uint32_t v)
{
	put32(d->base + r, v);
}

static inline void set_address(const struct dev *d, unsigned r, uint64_t v)
{
	set(d, r, (uint32_t)v);
	set(d, r + 4, (uint32_t)(v >> 32));
}

static inline void reset(struct dev *d)
{
	unsigned i;

	set(d, R_STATUS, 0);
	for (i = 0; i < QUEUES; i++)
		d->avail[i] = d->used[i] = 0;
}

static inline void select_queue(const struct dev *d, unsigned q, uint32_t size, uint64_t desc,
				uint64_t avail, uint64_t used)
{
	set(d, R_QUEUE_SEL, q);
	set(d, R_NUM, size);
	set_address(d, R_DESC, desc);
	set_address(d, R_DRIVER, avail);
	set_address(d, R_DEVICE, used);
	set(d, R_READY, 1);
}

/* Up to FEATURES_OK, with everything but event indices. */
static inline int negotiate(struct dev *d)
{
	uint32_t low, high;

	reset(d);
	set(d, R_STATUS, 1 | 2);
	set(d, R_FEAT_SEL, 0);
	low = reg(d, R_FEATURES);
	set(d, R_FEAT_SEL, 1);
	high = reg(d, R_FEATURES);
	set(d, R_DRV_SEL, 0);
	set(d, R_DRV_FEAT, low & ~F_EVENT_IDX);
	set(d, R_DRV_SEL, 1);
	set(d, R_DRV_FEAT, high);
	set(d, R_STATUS, 1 | 2 | S_FEATURES_OK);
	return !!(reg(d, R_STATUS) & S_FEATURES_OK);
}

static inline int start(struct dev *d)
{
	unsigned q;

	if (!negotiate(d))
		return 0;
	for (q = 0; q < d->queues; q++) {
		put32(AVAIL(q), 0);
		put32(USED(q), 0);
		select_queue(d, q, SIZE, RING(q), AVAIL(q), USED(q));
	}
	set(d, R_STATUS, 1 | 2 | S_FEATURES_OK | S_DRIVER_OK);
	return reg(d, R_STATUS) == (1 | 2 | S_FEATURES_OK | S_DRIVER_OK);
}

static inline void put_desc(uint64_t table, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
			    uint16_t next)
{
	uint64_t at = table + 16 * i;

	put64(at, addr);
	put32(at + 8, len);
	put16(at + 12, flags);
	put16(at + 14, next);
}

static inline void offer_many(struct dev *d, unsigned q, uint16_t head, uint16_t jump)
{
	put16(AVAIL(q) + 4 + 2 * (d->avail[q] % SIZE), head);
	d->avail[q] = (uint16_t)(d->avail[q] + jump);
	barrier();
	put16(AVAIL(q) + 2, d->avail[q]);
	set(d, R_NOTIFY, q);
}

static inline void offer(struct dev *d, unsigned q, uint16_t head)
{
	offer_many(d, q, head, 1);
}

enum { TIMEOUT, USED_ONE, BROKEN };

/* Until a used element comes, or the device wants a reset. */
static inline int wait(struct dev *d, unsigned q, uint32_t *len)
{
	unsigned i;

	for (i = 0; i < PATIENCE; i++) {
		if (get16(USED(q) + 2) != d->used[q]) {
			if (len)
				*len = get32(USED(q) + 4 + 8 * (d->used[q] % SIZE) + 4);
			d->used[q]++;
			return USED_ONE;
		}
		if (reg(d, R_STATUS) & S_RESET)
			return BROKEN;
	}
	return TIMEOUT;
}

/* ---- hostile.c's ---- */

/* result: a case's line. class: a letter of tests/README.md. d: NULL is the machine. */
void result(int good, const char *class, const struct dev *d, const char *what);

/* ---- hostile_fs.c's ---- */

int fs_works(struct dev *d);
void class_fs(struct dev *d);
/* fs_server_goes: what it had and what comes then. Its shares do not come back. */
void fs_server_goes(struct dev *d);

#endif
