/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc.c - prints the rate of this host's time stamp counter in kHz.
 *
 * Under TCG the guest's counter is the host's. A guest kernel that has to measure it against an emulated timer may wait for ever on a
 * busy host; told the rate, it does not try.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(void)
{
	struct timespec wait = {.tv_nsec = 50000000};
	uint64_t n0 = now_ns(), t0 = __rdtsc(), n1, t1;

	nanosleep(&wait, NULL);
	n1 = now_ns();
	t1 = __rdtsc();
	printf("%llu\n", (unsigned long long)((t1 - t0) * 1000000u / (n1 - n0)));
	return 0;
}
