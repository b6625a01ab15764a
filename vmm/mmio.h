/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h - the virtio-mmio transport, version 2 (virtio 1.2 §4.2), of the kvm engine.
 *
 * Registers are served from the vCPU threads under the device's lock. What the driver writes about a queue is staged
 * here and reaches the device only when QueueReady is set, so a queue can never change under the device; from
 * DRIVER_OK until reset queue registers do not take writes at all.
 */
#ifndef VMM_MMIO_H
#define VMM_MMIO_H

#include "vmm/virtio.h"

#define MMIO_BASE         0xd0000000ull /* device n at MMIO_BASE + n * MMIO_SIZE */
#define MMIO_SIZE         0x1000ull
#define MMIO_FIRST_GSI    5
#define MMIO_QUEUE_NOTIFY 0x050 /* offset, for ioeventfd */

struct vmmio {
	struct virtio_dev *dev; /* borrowed */
	uint32_t dev_feat_sel, drv_feat_sel, queue_sel;
	uint64_t drv_feat;
	struct vmmio_queue {
		uint32_t num;
		bool ready;
		uint64_t desc, driver, device;
	} q[VIRTIO_MAX_QUEUES];
	uint32_t isr; /* atomic: InterruptStatus */
	/* Makes an edge on the device's interrupt line; any thread. */
	void (*raise)(void *arg);
	void *raise_arg;
};

/* vmmio_init: binds transport and device (sets its notify_irq). Nothing to free. */
void vmmio_init(struct vmmio *t, struct virtio_dev *dev, void (*raise)(void *arg), void *arg);
/* vmmio_read, vmmio_write: an access of len (1, 2, 4 or 8) bytes at off inside the device's page, little-endian in
 * p. Accesses that the specification does not define read as zero and write nothing. Any thread. */
void vmmio_read(struct vmmio *t, uint64_t off, void *p, unsigned len);
void vmmio_write(struct vmmio *t, uint64_t off, const void *p, unsigned len);

#endif
