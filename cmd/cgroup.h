/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h - a bound from outside on what one container's helper (and its QEMU) can take from the host.
 *
 * DOC: Theory of operation
 * The guest has no more memory and CPUs than it was given because its machine has no more. The group is the wall behind
 * that one: whatever a helper that was taken over does, it stays within what the container was given and what the
 * machine costs. cgroup v2 only:
 *
 *   <parent>/container.<tag>/<id>    cpu.max, memory.max, memory.oom.group, pids.max
 *
 * <parent> is the top of the hierarchy for root, and for others the group their own one is in (a systemd user manager
 * delegates that). No process is ever in container.<tag> itself, as v2 wants it. The apiserver makes the group, the helper
 * is born into it (CLONE_INTO_CGROUP): joining later would cost a wait for an RCU grace period, on the way of a start. (KVM
 * of Linux 5.4 to 6.12 waits for one when it creates a machine inside a group; `favordynmods` spares it.) After the helper's
 * end the apiserver removes it, and what an earlier one left when it starts.
 *
 * Hosts without it (no cgroup v2, no controllers, no right to) lack this wall only; the log says so.
 */
#ifndef CMD_CGROUP_H
#define CMD_CGROUP_H

#include "core/error.h"

struct cgroup_limits {
	unsigned cpus;
	uint64_t memory; /* bytes */
	unsigned tasks;
};

/* cgroup_make: the group of container id, with its limits; a descriptor of its directory, or -1. Unsupported when the host
 * has none of the three controllers for us. What of the limits could not be set is in the log. */
int cgroup_make(const char *tag, const char *id, const struct cgroup_limits *l, struct error **err);

/* cgroup_cpus: another number of CPUs for the group of id, where there is one. The memory stays that of the machine. */
void cgroup_cpus(const char *tag, const char *id, unsigned cpus);

/* cgroup_sweep: ends whatever is left in the group of id (NULL: none) and removes every group of this system that nobody is
 * in. False: that of id is still there, as processes end in their own time. */
bool cgroup_sweep(const char *tag, const char *id);

#endif
