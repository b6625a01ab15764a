/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user.h - the back end of the vhost-user protocol: one of our devices served to a QEMU process. */
#ifndef VMM_VHOST_USER_H
#define VMM_VHOST_USER_H

#include "vmm/virtio.h"

struct vhost_user;

/* vhost_user_new: serves dev (borrowed) on a connected stream socket (owned from now on, also on failure). mem is the memory that the
 * front end shares: it must offer regions of mem->fd and of nothing else. Loop's thread. */
struct vhost_user *vhost_user_new(struct loop *l, int fd, struct virtio_dev *dev,
				  const struct gmem *mem, struct error **err);
/* vhost_user_finish: the front end has ended: reads what it left, serves what the guest had queued, resets the
 * device. NULL is fine. */
void vhost_user_finish(struct vhost_user *vu);
/* vhost_user_free: before the device is freed; the device is reset and sees mem again. NULL is fine. */
void vhost_user_free(struct vhost_user *vu);

#endif
