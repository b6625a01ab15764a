/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.h - system call filters whose rules stand next to the calls that need them.
 *
 * DOC: Theory of operation
 * A module that makes system calls in a confined thread says so in a table of its own:
 *
 *	FILTER_RULES = {
 *		FILTER_ALLOW(FILTER_MAIN, epoll_wait),
 *		FILTER_ALLOW_ARG(FILTER_VCPU, ioctl, 1, ~0u, KVM_RUN),
 *	};
 *
 * The linker lays the tables of all modules in a program one behind the other; filter_arm() sorts them into one BPF
 * program per profile, and each thread of such a profile takes it on with filter_thread(). What is in no table ends
 * the process (SECCOMP_RET_KILL_PROCESS). FILTER_CHILD is the other way round: its rules are refused with EPERM (clone3 with ENOSYS)
 * and everything else passes, because it is for a foreign program.
 *
 * Only the lower 32 bits of an argument are compared: use it for arguments that the kernel takes as int.
 */
#ifndef CORE_FILTER_H
#define CORE_FILTER_H

#include <sys/syscall.h>
#include "core/error.h"

enum filter_profile {
	FILTER_MAIN = 1,  /* the runtime helper's loop */
	FILTER_VCPU = 2,  /* a vCPU of the kvm engine */
	FILTER_BLK = 4,   /* a disk's own thread */
	FILTER_CHILD = 8, /* a program started by us: what it must not do */
	/* What the loop does with one of the engines only. */
	FILTER_MAIN_KVM = 16,
	FILTER_MAIN_QEMU = 32,
	FILTER_NET = 64,      /* a network card's own thread */
	FILTER_FS = 128,      /* a thread that serves shared directories, in a process of its own */
	FILTER_FORWARD = 256, /* the forwarder of a container's ports, a process of its own */
	FILTER_CHILD_ONLY = 512, /* as FILTER_CHILD, which has it too: all of a call but this */
};
#define FILTER_SELF    0xfffffffeu /* as an argument's value: the process that builds the filter */
#define FILTER_WORKERS (FILTER_BLK | FILTER_NET)
#define FILTER_OURS    (FILTER_MAIN | FILTER_VCPU | FILTER_WORKERS | FILTER_FS)
#define FILTER_LOOPS   (FILTER_MAIN | FILTER_FORWARD)
#define FILTER_EACH    (FILTER_OURS | FILTER_FORWARD)

struct filter_rule {
	uint16_t nr;
	uint16_t profiles; /* 0: padding between two tables */
	uint32_t arg; /* 0: whatever the arguments are; n: argument n - 1 & mask must be value */
	uint32_t mask, value;
};

/* Sanitizers put padding around variables, but not around those in sections of their own. */
#define FILTER_RULES                                   \
	static const struct filter_rule filter_table[] \
		__attribute__((section("filter_rules"), used, aligned(16)))
#define FILTER_ALLOW(who, call)                     \
	{                                           \
		.nr = SYS_##call, .profiles = (who) \
	}
#define FILTER_ALLOW_ARG(who, call, n, bits, wanted)                                 \
	{                                                                            \
		.nr = SYS_##call, .profiles = (who), .arg = (n) + 1, .mask = (bits), \
		.value = (wanted)                                                    \
	}
#define FILTER_DENY(call)                                  \
	{                                                  \
		.nr = SYS_##call, .profiles = FILTER_CHILD \
	}
#define FILTER_DENY_ARG(call, n, bits, refused) \
	FILTER_ALLOW_ARG(FILTER_CHILD, call, n, bits, refused)
/* A call that passes with that value alone; the one rule of its call. */
#define FILTER_DENY_BUT(call, n, bits, wanted) \
	FILTER_ALLOW_ARG(FILTER_CHILD | FILTER_CHILD_ONLY, call, n, bits, wanted)

struct sock_filter;
struct filter {
	struct sock_filter *code; /* owned */
	size_t len;
	unsigned ncalls; /* different system calls it names */
	unsigned nrules; /* with each wanted value of an argument counted as one */
};

/* filter_build: the program of one profile, or of several together, out of all tables. Fails when it would be too long. */
int filter_build(unsigned who, struct filter *out, struct error **err);
void filter_free(struct filter *f);

/*
 * filter_arm: builds the filters for our own threads; from here on filter_thread() installs them. engine: which of
 * FILTER_MAIN_* the main thread's has too. With trap set a
 * forbidden call is named in the log before the process ends (for debugging: a handler is one more thing to attack).
 * Unsupported in sanitizer builds and where the kernel has no filters. Before the threads start.
 */
int filter_arm(unsigned engine, bool trap, struct error **err);

/* filter_thread: the calling thread keeps to its profile from here on. Nothing when not armed; aborts when armed and the
 * kernel refuses. Needs no_new_privs. */
void filter_thread(enum filter_profile who);

/* filter_arm_files: as filter_arm(), for a process whose threads are all FILTER_FS. */
int filter_arm_files(bool trap, struct error **err);

/* filter_install: as filter_thread() but for a program at hand; system calls only, so also between fork and exec. 0 or
 * -1 with errno. */
int filter_install(const struct filter *f);

#endif
