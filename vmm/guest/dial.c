/* SPDX-License-Identifier: Apache-2.0 */
/* dial.c - streams to the host: AF_VSOCK to CID 2 (virtio 1.2 §5.10.6). */
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "vmm/guest/guest.h"

/* The kernel's own patience is two seconds, which a busy host with an emulated CPU can need; who waits for this guest has a bound
 * of its own. */
#define DIAL_SECONDS 90

int guest_dial(uint32_t port, struct error **err)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = port,
	};
	struct timeval patience = {.tv_sec = DIAL_SECONDS};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_sys(err, errno, "vsock socket");
	(void)setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) && errno != EINPROGRESS) {
		error_sys(err, errno, "dial port %u", port);
		close(fd);
		return -1;
	}
	return fd;
}
