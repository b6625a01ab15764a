// SPDX-License-Identifier: Apache-2.0
/* udpecho.c - udpecho PORT: answers each datagram with itself and where it came from; static, for a guest. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char in[1024], out[1100];

	a.sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : "0"));
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		perror("udpecho");
		return 1;
	}
	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, in, sizeof(in) - 1, 0, (struct sockaddr *)&from, &len);

		if (n < 0)
			continue;
		in[n] = 0;
		n = snprintf(out, sizeof(out), "%s from %s\n", in, inet_ntoa(from.sin_addr));
		sendto(fd, out, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}
