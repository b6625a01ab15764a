/* SPDX-License-Identifier: Apache-2.0 */
/* inflate.c - CPU seconds that igzip and zlib take for the gzip files named, each five times in turn: prints both medians. */
#include <igzip_lib.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zlib.h>

#define OUT (128u << 10) /* as oci/ahead.c */
static unsigned char out[OUT];

static double cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double with_igzip(unsigned char *p, size_t n)
{
	struct inflate_state *z = malloc(sizeof(*z));
	double start = cpu();

	isal_inflate_init(z);
	z->crc_flag = ISAL_GZIP;
	z->next_in = p;
	z->avail_in = (unsigned)n;
	do {
		z->next_out = out;
		z->avail_out = OUT;
		if (isal_inflate(z) != ISAL_DECOMP_OK)
			exit(1);
	} while (z->block_state != ISAL_BLOCK_FINISH);
	free(z);
	return cpu() - start;
}

static double with_zlib(unsigned char *p, size_t n)
{
	z_stream z = {.next_in = p, .avail_in = (unsigned)n};
	double start = cpu();
	int rc;

	inflateInit2(&z, 15 + 16);
	do {
		z.next_out = out;
		z.avail_out = OUT;
		rc = inflate(&z, Z_NO_FLUSH);
	} while (rc == Z_OK);
	inflateEnd(&z);
	if (rc != Z_STREAM_END)
		exit(1);
	return cpu() - start;
}

static int up(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
	double a[5] = {0}, b[5] = {0};

	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");
		unsigned char *p;
		size_t n;

		if (!f || fseek(f, 0, SEEK_END) < 0)
			return 1;
		n = (size_t)ftell(f);
		rewind(f);
		p = malloc(n + 1);
		if (!p || fread(p, 1, n, f) != n)
			return 1;
		for (int r = 0; r < 5; r++) {
			a[r] += with_igzip(p, n);
			b[r] += with_zlib(p, n);
		}
		free(p);
		fclose(f);
	}
	qsort(a, 5, sizeof(*a), up);
	qsort(b, 5, sizeof(*b), up);
	printf("%.3f %.3f\n", a[2], b[2]);
	return 0;
}
