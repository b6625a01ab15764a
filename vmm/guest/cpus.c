/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpus.c - the virtual CPUs that the kernel left alone because the host said maxcpus=1.
 *
 * The qemu engine does that: see there. A kernel changes its own code mostly while it starts, when static keys are
 * switched and modules come; so all that happens first, on one CPU, and the others begin just before the container does.
 */
#include <fcntl.h>
#include <stdio.h>

#include "vmm/guest/guest.h"

#define MAX_CPUS 64

static int cpu_open(unsigned cpu)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	return open(path, O_RDWR | O_CLOEXEC);
}

void cpus_start(void)
{
	bool any = false;
	unsigned cpu;

	for (cpu = 1; cpu < MAX_CPUS; cpu++) {
		CLEANUP_CLOSE int fd = cpu_open(cpu);
		char state = 0;

		if (fd < 0)
			return; /* they are numbered without a gap */
		if (read(fd, &state, 1) != 1 || state != '0')
			continue;
		if (!any)
			boot_modules_rest();
		any = true;
		/* One CPU less still runs the container, as it would had the kernel itself failed to start it. */
		if (write(fd, "1", 1) != 1)
			guest_log("start CPU %u: %s", cpu, strerror(errno));
	}
}
