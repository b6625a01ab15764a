/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc.c - the rate of the host's time stamp counter, which TCG's guests see as theirs.
 *
 * A machine on QEMU is "hardware reduced": it has no other clock to measure this one against that works on a busy host, and a
 * kernel that does not know the rate waits for ever when it calibrates the timer of its APIC. So it is told. The processor
 * does not say it everywhere (CPUID leaf 0x15 is Intel's, 0x40000010 some hypervisors'), nor does the kernel without
 * privileges: it is measured.
 */
#include <time.h>
#include <x86intrin.h>

#include "vmm/vm.h"

#define READINGS 16
#define WAIT_NS  20000000 /* good for 2 ppm */

/* One reading of both clocks, taken as close together as luck has it. */
static void read_clocks(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;
	unsigned i;

	for (i = 0; i < READINGS; i++) {
		uint64_t before = __rdtsc(), after;
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = __rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*tsc = before + best / 2;
		*ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	}
}

uint64_t vm_tsc_khz(void)
{
	struct timespec wait = {.tv_nsec = WAIT_NS};
	uint64_t tsc0 = 0, ns0 = 0, tsc1 = 0, ns1 = 0;

	read_clocks(&tsc0, &ns0);
	(void)nanosleep(&wait, NULL);
	read_clocks(&tsc1, &ns1);
	return (tsc1 - tsc0) * 1000000u / (ns1 - ns0);
}
