/* SPDX-License-Identifier: Apache-2.0 */
/* rawsend.c - rawsend IF HEX…: sends each frame as it is through a packet socket; static, for a guest. */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), i, rc = fd < 0 || argc < 3;

	if (!rc)
		to.sll_ifindex = (int)if_nametoindex(argv[1]);
	for (i = 2; !rc && i < argc; i++) {
		unsigned char frame[1500];
		unsigned byte;
		size_t n = 0;

		while (n < sizeof(frame) && sscanf(argv[i] + 2 * n, "%2x", &byte) == 1)
			frame[n++] = (unsigned char)byte;
		if (sendto(fd, frame, n, 0, (struct sockaddr *)&to, sizeof(to)) != (ssize_t)n)
			rc = 1;
	}
	if (rc)
		perror("rawsend");
	return rc;
}
