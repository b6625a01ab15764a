/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hidden.h - what a container finds hidden or read-only when nothing else is said: the guest needs the lists for
 * the default, the host for those who add to it.
 */
#ifndef CORE_HIDDEN_H
#define CORE_HIDDEN_H

static const char *const hidden_masked[] = {
	"/proc/asound",
	"/proc/acpi",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/sys/firmware",
	"/sys/devices/virtual/powercap",
};

static const char *const hidden_readonly[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

#endif
