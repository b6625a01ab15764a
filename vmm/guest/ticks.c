/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticks.c - whether this machine's timer fires at all.
 *
 * Linux measures the local APIC's timer against the TSC for 100 ms when it boots (calibrate_APIC_clock()). QEMU's emulated CPU has no
 * other timer, and on a busy host it may stand still for just these 100 ms: then next to nothing is measured, the kernel takes the
 * timer for "too slow" and goes on without one. Whoever sleeps from then on sleeps for ever. Only the host can help, by a reset.
 */
#include <sys/timerfd.h>

#include "vmm/guest/guest.h"

#define FIRST_NS 100000
#define LATE_US  500000 /* what delivers the timer may have to wait for a CPU of the host's */
#define LOOKS    1000   /* at least: time passes without us, too */

bool ticks_fire(void)
{
	struct itimerspec in = {.it_value.tv_nsec = FIRST_NS};
	CLEANUP_CLOSE int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	uint64_t until = time_mono_us() + LATE_US, n;
	unsigned looks = 0;

	if (fd < 0 || timerfd_settime(fd, 0, &in, NULL))
		return true; /* not known */
	while (looks++ < LOOKS || time_mono_us() < until)
		if (read(fd, &n, sizeof(n)) == sizeof(n))
			return true;
	return false;
}
