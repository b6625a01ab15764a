/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmapper FILE: looks at FILE through a shared mapping, changes it there, and has it on its disk: each byte becomes its complement. For a
 * guest, whose images have nothing that maps a file to write to it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDWR) : -1;
	struct stat st;
	unsigned char *p;
	off_t i;

	if (fd < 0 || fstat(fd, &st) || !st.st_size) {
		perror("open");
		return 1;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (i = 0; i < st.st_size; i++)
		p[i] = (unsigned char)~p[i];
	if (msync(p, (size_t)st.st_size, MS_SYNC)) {
		perror("msync");
		return 1;
	}
	return 0;
}
