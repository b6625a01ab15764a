/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.c - from the rules of all modules to BPF programs.
 *
 * Written here and not with libseccomp: threads and a child between fork and exec need the finished program in memory,
 * which that library (2.5) only writes to a descriptor, and the rules come as tables anyway. (Time says little: all of
 * a helper's filters are put together in some 30 us here, in 60 to 130 there.) A program is a chain: for each system
 * call one comparison, behind it either "allow" or the comparisons of one argument. The kernel remembers which calls are
 * always allowed, so the chain's length costs nothing there.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/str.h"

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#else
#error "no filter for this machine"
#endif

#define MAX_CODE 1000
#define MAX_ARGS 100 /* comparisons of one call's argument: jumps reach 255 instructions */

/* The linker's names for both ends of the section; a program without rules has none. */
extern const struct filter_rule __start_filter_rules[] __attribute__((weak));
extern const struct filter_rule __stop_filter_rules[] __attribute__((weak));

/* What the C library does in every thread: locks, memory, time, the end. No page becomes executable. */
FILTER_RULES = {
	FILTER_ALLOW(FILTER_EACH, futex), FILTER_ALLOW(FILTER_EACH, brk),
	FILTER_ALLOW_ARG(FILTER_EACH, mmap, 2, 4 /* PROT_EXEC */, 0),
	FILTER_ALLOW(FILTER_EACH, munmap), FILTER_ALLOW(FILTER_EACH, madvise),
	FILTER_ALLOW(FILTER_EACH, clock_gettime), /* where the vDSO cannot answer */
	FILTER_ALLOW(FILTER_VCPU | FILTER_WORKERS, exit),
	FILTER_ALLOW(FILTER_LOOPS | FILTER_FS, exit_group),
	/* A wait with a time limit goes on with it after a stop; only the loop has such. */
	FILTER_ALLOW(FILTER_LOOPS, restart_syscall),
	/* realloc of what is large */
	FILTER_ALLOW(FILTER_LOOPS, mremap),
	/* The next ones are for abort(). A server of files may have root's user id, and must not send signals: there abort() ends in
	 * SIGSYS. */
	FILTER_ALLOW(FILTER_EACH & ~FILTER_FS, rt_sigprocmask),
	FILTER_ALLOW(FILTER_EACH & ~FILTER_FS, gettid),
	FILTER_ALLOW(FILTER_EACH & ~FILTER_FS, getpid),
	FILTER_ALLOW_ARG(FILTER_EACH & ~FILTER_FS, tgkill, 0, ~0u, FILTER_SELF),
	/* main installs its own after the other threads did theirs; a second one is never needed */
};

static struct {
	bool armed, trap;
	int trap_fd;
	struct filter main, vcpu, blk, net, fs;
} armed;

/* ---- building ---- */

static int rule_cmp(const void *a, const void *b)
{
	const struct filter_rule *x = a, *y = b;

	if (x->nr != y->nr)
		return x->nr < y->nr ? -1 : 1;
	return (int)x->arg - (int)y->arg; /* the one without a condition first */
}

static struct filter_rule *collect(unsigned who, size_t *n)
{
	size_t total = ((uintptr_t)__stop_filter_rules - (uintptr_t)__start_filter_rules) /
		       sizeof(struct filter_rule),
	       i;
	struct filter_rule *r = xcalloc(total, sizeof(*r));

	*n = 0;
	for (i = 0; i < total; i++)
		if (__start_filter_rules[i].profiles & who)
			r[(*n)++] = __start_filter_rules[i];
	qsort(r, *n, sizeof(*r), rule_cmp);
	return r;
}

static void emit(struct filter *f, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (f->len < MAX_CODE)
		f->code[f->len] = (struct sock_filter){code, jt, jf, k};
	f->len++;
}

static void emit_load(struct filter *f, size_t offset)
{
	emit(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* One system call's rules r[0..n); falls through with the number loaded when it is another call. */
static void emit_call(struct filter *f, const struct filter_rule *r, size_t n, uint32_t hit,
		      uint32_t miss)
{
	bool any = !r[0].arg;
	size_t i;

	f->ncalls++;
	f->nrules += any ? 1 : (unsigned)n;
	emit(f, BPF_JMP | BPF_JEQ | BPF_K, r[0].nr, 0, (uint8_t)(any ? 1 : 4 * n + 1));
	for (i = 0; i < n && !any; i++) {
		/* Both machines we could run on are little-endian: the lower half comes first. */
		emit_load(f, offsetof(struct seccomp_data, args) + 8u * (r[i].arg - 1u));
		emit(f, BPF_ALU | BPF_AND | BPF_K, r[i].mask, 0, 0);
		emit(f, BPF_JMP | BPF_JEQ | BPF_K,
		     r[i].value == FILTER_SELF ? (uint32_t)getpid() : r[i].value, 0, 1);
		emit(f, BPF_RET | BPF_K, hit, 0, 0);
	}
	emit(f, BPF_RET | BPF_K, any ? hit : miss, 0, 0);
}

/* As if the kernel had no clone3, C libraries make their threads by clone, whose flags a filter can see. */
static uint32_t refuse(uint16_t nr)
{
	return SECCOMP_RET_ERRNO | (nr == SYS_clone3 ? ENOSYS : EPERM);
}

int filter_build(unsigned who, struct filter *out, struct error **err)
{
	uint32_t kill = armed.trap ? SECCOMP_RET_TRAP : SECCOMP_RET_KILL_PROCESS;
	uint32_t hit = SECCOMP_RET_ALLOW;
	uint32_t miss = who == FILTER_CHILD ? SECCOMP_RET_ALLOW : kill;
	size_t n, i, same;
	CLEANUP_FREE struct filter_rule *r = collect(who, &n);

	*out = (struct filter){.code = xcalloc(MAX_CODE, sizeof(struct sock_filter))};
	emit_load(out, offsetof(struct seccomp_data, arch));
	emit(out, BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
	emit(out, BPF_RET | BPF_K, kill, 0, 0);
	emit_load(out, offsetof(struct seccomp_data, nr));
	/* x32's numbers have bit 30 set: a list of what is refused must not be passed by that door. */
	emit(out, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
	emit(out, BPF_RET | BPF_K, kill, 0, 0);
	for (i = 0; i < n; i += same) {
		for (same = 1; i + same < n && r[i + same].nr == r[i].nr; same++)
			;
		if (same > MAX_ARGS / 2)
			out->len = MAX_CODE + 1;
		if (who != FILTER_CHILD)
			emit_call(out, &r[i], same, hit, miss);
		else if (r[i].profiles & FILTER_CHILD_ONLY)
			emit_call(out, &r[i], same, miss, refuse(r[i].nr));
		else
			emit_call(out, &r[i], same, refuse(r[i].nr), miss);
	}
	emit(out, BPF_RET | BPF_K, miss, 0, 0);
	if (out->len <= MAX_CODE)
		return 0;
	filter_free(out);
	return error_set(err, ERR_INTERNAL, "system call filter %#x is too long", who);
}

void filter_free(struct filter *f)
{
	free(f->code);
	*f = (struct filter){0};
}

/* ---- installing ---- */

int filter_install(const struct filter *f)
{
	struct sock_fprog p = {.len = (unsigned short)f->len, .filter = f->code};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p);
}

/* Only write(2) and exit: the thread may hold any lock. */
static void on_trap(int signo, siginfo_t *si, void *ctx)
{
	char line[160];
	int n = snprintf(line, sizeof(line),
			 "{\"level\":\"error\",\"msg\":\"system call %d is in no rule of this "
			 "thread's filter\"}\n",
			 si->si_syscall);

	if (write(armed.trap_fd, line, (size_t)n) < 0)
		_exit(128 + SIGSYS);
	_exit(128 + SIGSYS);
}

static int arm_begin(bool trap, struct error **err)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	if (SANITIZED)
		return error_set(err, ERR_UNSUPPORTED, "a sanitizer needs calls of its own");
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		return error_sys(err, errno, "seccomp");
	armed.trap = trap;
	armed.trap_fd = log_fd();
	if (trap) {
		struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

		sigaction(SIGSYS, &sa, NULL);
	}
	return 0;
}

int filter_arm_files(bool trap, struct error **err)
{
	if (arm_begin(trap, err) || filter_build(FILTER_FS, &armed.fs, err))
		return -1;
	armed.armed = true;
	return 0;
}

int filter_arm(unsigned engine, bool trap, struct error **err)
{
	if (arm_begin(trap, err))
		return -1;
	if (filter_build(FILTER_MAIN | engine, &armed.main, err) ||
	    filter_build(FILTER_VCPU, &armed.vcpu, err) ||
	    filter_build(FILTER_BLK, &armed.blk, err) || filter_build(FILTER_NET, &armed.net, err))
		return -1;
	armed.armed = true;
	log_info("filters: %u system calls for the helper, %u for a vCPU, %u for a disk, %u for a "
		 "network card; rules: %u, %u, %u, %u",
		 armed.main.ncalls, armed.vcpu.ncalls, armed.blk.ncalls, armed.net.ncalls,
		 armed.main.nrules, armed.vcpu.nrules, armed.blk.nrules, armed.net.nrules);
	return 0;
}

void filter_thread(enum filter_profile who)
{
	const struct filter *f = who == FILTER_MAIN   ? &armed.main
				 : who == FILTER_VCPU ? &armed.vcpu
				 : who == FILTER_BLK  ? &armed.blk
				 : who == FILTER_FS   ? &armed.fs
						      : &armed.net;
	sigset_t set;

	if (!armed.armed)
		return;
	if (armed.trap) {
		sigemptyset(&set);
		sigaddset(&set, SIGSYS);
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	}
	if (filter_install(f)) {
		log_error("system call filter: %s", strerror(errno));
		abort();
	}
}
