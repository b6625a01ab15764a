/* SPDX-License-Identifier: Apache-2.0 */
/* dial.c - streams to the host: AF_VSOCK to CID 2 (virtio 1.2 §5.10.6). */
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "vmm/guest/guest.h"

int guest_dial(uint32_t port, struct error **err)
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = port,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_sys(err, errno, "vsock socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) && errno != EINPROGRESS) {
		error_sys(err, errno, "dial port %u", port);
		close(fd);
		return -1;
	}
	return fd;
}
