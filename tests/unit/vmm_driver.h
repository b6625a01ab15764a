/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm_driver.h - the driver's side of virtqueues in plain test code: rings at fixed places of a small guest memory,
 * descriptors written one by one, so that a test can break any rule it likes.
 */
#ifndef TESTS_VMM_DRIVER_H
#define TESTS_VMM_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <cmocka.h>

#include "core/str.h"
#include "vmm/virtio.h"

#define DRV_MEM      (64ull << 20)
#define DRV_DESC(q)  (0x100000ull * ((q) + 1))
#define DRV_AVAIL(q) (DRV_DESC(q) + 0x8000)
#define DRV_USED(q)  (DRV_DESC(q) + 0x10000)
#define DRV_DATA     0x1800000ull
#define DRV_SIZE     16
#define DRV_WAIT_MS  3000

struct drv {
	struct loop *l;
	struct gmem m;
	struct virtio_dev *d;
	uint16_t avail[VIRTIO_MAX_QUEUES], used[VIRTIO_MAX_QUEUES];
};

static inline void drv_init(struct drv *t)
{
	*t = (struct drv){0};
	t->l = loop_new(NULL);
	assert_non_null(t->l);
	assert_int_equal(gmem_new(DRV_MEM, &t->m, NULL), 0);
}

static inline void drv_fini(struct drv *t)
{
	virtio_free(t->d);
	(void)loop_turn(t->l, 0, NULL);
	gmem_free(&t->m);
	loop_free(t->l);
}

/* Negotiates everything but `without`, sets all queues up and activates. */
static inline int drv_start(struct drv *t, struct virtio_dev *d, uint64_t without)
{
	unsigned q;

	t->d = d;
	assert_non_null(d);
	assert_int_equal(virtio_ack_features(d, d->features_offered & ~without), 0);
	for (q = 0; q < d->nqueues; q++) {
		memset(gmem_ptr(&t->m, DRV_DESC(q), 0x20000), 0, 0x20000);
		t->avail[q] = t->used[q] = 0;
		assert_int_equal(virtio_queue_set(d, q, DRV_SIZE, DRV_DESC(q), DRV_AVAIL(q),
						  DRV_USED(q)),
				 0);
	}
	return virtio_activate(d);
}

static inline void drv_desc_at(struct drv *t, uint64_t table, unsigned i, uint64_t addr,
			       uint32_t len, uint16_t flags, uint16_t next)
{
	struct vring_desc d = {.addr = addr, .len = len, .flags = flags, .next = next};

	assert_int_equal(gmem_write(&t->m, table + 16ull * i, &d, sizeof(d)), 0);
}

static inline void drv_desc(struct drv *t, unsigned q, unsigned i, uint64_t addr, uint32_t len,
			    uint16_t flags, uint16_t next)
{
	drv_desc_at(t, DRV_DESC(q), i, addr, len, flags, next);
}

static inline void drv_offer(struct drv *t, unsigned q, uint16_t head)
{
	uint16_t *a = gmem_ptr(&t->m, DRV_AVAIL(q), 4 + 2 * DRV_SIZE);

	a[2 + t->avail[q] % DRV_SIZE] = head;
	__atomic_store_n(&a[1], ++t->avail[q], __ATOMIC_RELEASE);
}

static inline void drv_kick(struct drv *t, unsigned q)
{
	uint64_t one = 1;

	assert_int_equal(write(virtio_kick_fd(t->d, q), &one, sizeof(one)), sizeof(one));
}

/* The next used element, if there is one. */
static inline bool drv_used(struct drv *t, unsigned q, uint32_t *id, uint32_t *len)
{
	const uint8_t *u = gmem_ptr(&t->m, DRV_USED(q), 4 + 8 * DRV_SIZE);
	uint16_t idx = __atomic_load_n((const uint16_t *)(u + 2), __ATOMIC_ACQUIRE);
	struct vring_used_elem e;

	if (idx == t->used[q])
		return false;
	memcpy(&e, u + 4 + 8 * (t->used[q]++ % DRV_SIZE), sizeof(e));
	*id = e.id;
	*len = e.len;
	return true;
}

/* Turns the loop until a used element comes. */
static inline bool drv_wait(struct drv *t, unsigned q, uint32_t *id, uint32_t *len)
{
	uint64_t end = time_mono_us() + DRV_WAIT_MS * 1000ull;

	while (time_mono_us() < end) {
		if (drv_used(t, q, id, len))
			return true;
		(void)loop_turn(t->l, 2, NULL);
	}
	return false;
}

static inline bool drv_wait_broken(struct drv *t)
{
	uint64_t end = time_mono_us() + DRV_WAIT_MS * 1000ull;

	while (time_mono_us() < end) {
		bool broken, told;

		pthread_mutex_lock(&t->d->lock);
		broken = t->d->broken;
		told = t->d->status & VIRTIO_CONFIG_S_NEEDS_RESET;
		pthread_mutex_unlock(&t->d->lock);
		if (broken)
			return told;
		(void)loop_turn(t->l, 2, NULL);
	}
	return false;
}

static inline void drv_turns(struct drv *t, unsigned n)
{
	while (n--)
		(void)loop_turn(t->l, 1, NULL);
}

#endif
