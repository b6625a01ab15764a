/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - the time of day is the host's.
 *
 * KVM gives a guest the host's clock. QEMU's emulated machine has one that tells whole seconds, so a guest starts up to a second late, and
 * what the host's files in a shared directory say lies in its future; and its ticks are measured, not known. So init asks the host before
 * the container's process starts, and again from time to time; the answer is taken to be from the middle of the time it took. After the
 * first one small differences are made up for slowly, so that time does not go backwards.
 */
#include <sys/timex.h>
#include <time.h>

#include "vmm/guest/guest.h"

#define NEAR_NS  2000000ll   /* as good as right: the way of an answer is no more exact */
#define STEP_NS  500000000ll /* too much to make up for slowly */
#define WAIT_US  2000000ull  /* for the first answer */
#define AGAIN_US (600ull * 1000000)

static uint64_t asked, again; /* µs, 0: not */
static bool told;

static int64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void clock_ask(void)
{
	asked = time_mono_us();
	again = asked + AGAIN_US;
	wire_notify(&agent_wire, "clock", NULL);
}

void clock_heard(int64_t ns)
{
	int64_t off;

	if (!asked)
		return;
	ns += (int64_t)(time_mono_us() - asked) * 500;
	asked = 0;
	off = ns - realtime_ns();
	if (llabs(off) >= NEAR_NS && (!told || llabs(off) >= STEP_NS)) {
		struct timespec t;

		ns = realtime_ns() + off;
		t = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
		if (clock_settime(CLOCK_REALTIME, &t))
			guest_log("clock: %s", strerror(errno));
	} else if (llabs(off) >= NEAR_NS) {
		struct timex x = {.modes = ADJ_OFFSET_SINGLESHOT, .offset = (long)(off / 1000)};

		if (adjtimex(&x) < 0)
			guest_log("clock: %s", strerror(errno));
	}
	told = true;
}

void clock_wait(void)
{
	uint64_t until = time_mono_us() + WAIT_US;

	while (asked && !agent_wire.closed && time_mono_us() < until)
		ev_turn(until);
}

uint64_t clock_deadline(void)
{
	return again;
}

void clock_tick(void)
{
	if (again && time_mono_us() >= again)
		clock_ask();
}
