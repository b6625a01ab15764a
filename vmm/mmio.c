/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.c - virtio-mmio registers (virtio 1.2 §4.2.2).
 *
 * Every register is a 32-bit word at an aligned offset; other widths and offsets are undefined by the specification and
 * do nothing here. The configuration space from 0x100 on takes 1, 2, 4 and 8 byte accesses.
 *
 * Interrupts are edges: the status bit is set before the line is raised, and the driver acknowledges bits before it
 * looks at its queues, so an edge that comes between the two is served by that look.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "vmm/mmio.h"

#define MMIO_MAGIC   0x74726976 /* "virt" */
#define MMIO_VERSION 2
#define MMIO_VENDOR  0x524e5443 /* "CTNR" */
#define MMIO_CONFIG  0x100

/* Bits a driver may write to Status; NEEDS_RESET is the device's alone. */
#define STATUS_DRIVER                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

static void notify_irq(void *arg, int queue)
{
	struct vmmio *t = arg;

	__atomic_fetch_or(&t->isr, queue < 0 ? VIRTIO_MMIO_INT_CONFIG : VIRTIO_MMIO_INT_VRING,
			  __ATOMIC_SEQ_CST);
	t->raise(t->raise_arg);
}

void vmmio_init(struct vmmio *t, struct virtio_dev *dev, void (*raise)(void *arg), void *arg)
{
	*t = (struct vmmio){.dev = dev, .raise = raise, .raise_arg = arg};
	dev->notify_irq = notify_irq;
	dev->notify_arg = t;
}

static struct vmmio_queue *selected(struct vmmio *t)
{
	return t->queue_sel < t->dev->nqueues && t->queue_sel < VIRTIO_MAX_QUEUES
		       ? &t->q[t->queue_sel]
		       : NULL;
}

static uint32_t reg_read(struct vmmio *t, uint32_t off)
{
	struct virtio_dev *dev = t->dev;
	const struct vmmio_queue *q = selected(t);

	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MMIO_MAGIC;
	case VIRTIO_MMIO_VERSION:
		return MMIO_VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return MMIO_VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return t->dev_feat_sel < 2
			       ? (uint32_t)(dev->features_offered >> (32 * t->dev_feat_sel))
			       : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? dev->vq[t->queue_sel].max_size : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return __atomic_load_n(&t->isr, __ATOMIC_SEQ_CST);
	case VIRTIO_MMIO_STATUS:
		return dev->status;
	case VIRTIO_MMIO_SHM_LEN_LOW: /* no shared memory regions: length and base read as all ones */
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return dev->config_gen;
	default:
		return 0;
	}
}

/* Called without the device's lock: the reset waits for a worker that needs it to finish. */
static void reset(struct vmmio *t)
{
	virtio_reset(t->dev);
	pthread_mutex_lock(&t->dev->lock);
	memset(t->q, 0, sizeof(t->q));
	t->dev_feat_sel = t->drv_feat_sel = t->queue_sel = 0;
	t->drv_feat = 0;
	__atomic_store_n(&t->isr, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&t->dev->lock);
}

/* §3.1.1: FEATURES_OK sticks only for a set of features that was offered and that makes a modern device. */
static bool features_ok(struct vmmio *t)
{
	if (!(t->drv_feat & VIRTIO_F(VIRTIO_F_VERSION_1)))
		return false;
	return virtio_ack_features(t->dev, t->drv_feat) == 0;
}

static void status_write(struct vmmio *t, uint32_t val)
{
	struct virtio_dev *dev = t->dev;
	uint8_t fresh;

	val &= STATUS_DRIVER;
	/* Bits are only ever added; taking one away is what reset is for. */
	fresh = (uint8_t)(val & ~dev->status);
	if ((fresh & VIRTIO_CONFIG_S_FEATURES_OK) && !features_ok(t))
		fresh &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	if ((fresh & VIRTIO_CONFIG_S_DRIVER_OK) &&
	    !((dev->status | fresh) & VIRTIO_CONFIG_S_FEATURES_OK))
		fresh &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	dev->status |= fresh;
	if (fresh & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_activate(
			dev); /* on failure the device is broken now, and says so in Status */
}

/* QueueReady: what was staged goes to the device in one piece. */
static void queue_ready(struct vmmio *t, struct vmmio_queue *q, uint32_t val)
{
	if (val == 1 && !q->ready)
		q->ready = virtio_queue_set(t->dev, t->queue_sel, q->num, q->desc, q->driver,
					    q->device) == 0;
	else if (val == 0 && q->ready)
		/* Size 0 is how the device knows a queue that is off; the call itself refuses that size. */
		q->ready = false, t->dev->vq[t->queue_sel].size = 0;
}

static void set_low(uint64_t *v, uint32_t val)
{
	*v = (*v & ~0xffffffffull) | val;
}

static void set_high(uint64_t *v, uint32_t val)
{
	*v = (*v & 0xffffffffull) | (uint64_t)val << 32;
}

static void queue_write(struct vmmio *t, uint32_t off, uint32_t val)
{
	struct vmmio_queue *q = selected(t);

	if (!q || (t->dev->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (off == VIRTIO_MMIO_QUEUE_READY) {
		queue_ready(t, q, val);
		return;
	}
	if (q->ready)
		return;
	switch (off) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->num = val;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		set_low(&q->desc, val);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_high(&q->desc, val);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		set_low(&q->driver, val);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_high(&q->driver, val);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		set_low(&q->device, val);
		break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_high(&q->device, val);
		break;
	default:
		break;
	}
}

/* The slow way of a notification: the usual one is an ioeventfd and never leaves the kernel. */
static void queue_notify(struct vmmio *t, uint32_t q)
{
	uint64_t one = 1;

	if (q < t->dev->nqueues && q < VIRTIO_MAX_QUEUES &&
	    write(virtio_kick_fd(t->dev, q), &one, sizeof(one)) < 0)
		return; /* the counter is full: a kick is pending anyway */
}

static void drv_features(struct vmmio *t, uint32_t val)
{
	if (t->drv_feat_sel > 1 || (t->dev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	if (t->drv_feat_sel == 0)
		set_low(&t->drv_feat, val);
	else
		set_high(&t->drv_feat, val);
}

static void reg_write(struct vmmio *t, uint32_t off, uint32_t val)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		t->dev_feat_sel = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		t->drv_feat_sel = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		drv_features(t, val);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		t->queue_sel = val;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		queue_notify(t, val);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		__atomic_fetch_and(&t->isr, ~val, __ATOMIC_SEQ_CST);
		break;
	case VIRTIO_MMIO_STATUS:
		status_write(t, val);
		break;
	default:
		queue_write(t, off, val);
		break;
	}
}

static bool config_width(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

void vmmio_read(struct vmmio *t, uint64_t off, void *p, unsigned len)
{
	uint32_t val;

	memset(p, 0, len);
	if (off >= MMIO_CONFIG) {
		if (config_width(len))
			virtio_config_read(t->dev, off - MMIO_CONFIG, p, len);
		return;
	}
	if (len != 4 || off % 4)
		return;
	pthread_mutex_lock(&t->dev->lock);
	val = reg_read(t, (uint32_t)off);
	pthread_mutex_unlock(&t->dev->lock);
	memcpy(p, &val, sizeof(val));
}

void vmmio_write(struct vmmio *t, uint64_t off, const void *p, unsigned len)
{
	uint32_t val;

	if (off >= MMIO_CONFIG) {
		if (config_width(len))
			virtio_config_write(t->dev, off - MMIO_CONFIG, p, len);
		return;
	}
	if (len != 4 || off % 4)
		return;
	memcpy(&val, p, sizeof(val));
	if (off == VIRTIO_MMIO_STATUS && val == 0) {
		reset(t);
		return;
	}
	pthread_mutex_lock(&t->dev->lock);
	reg_write(t, (uint32_t)off, val);
	pthread_mutex_unlock(&t->dev->lock);
}
