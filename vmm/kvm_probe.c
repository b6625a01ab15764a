/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_probe.c - is /dev/kvm good for a Linux guest? Some hosts offer one that interprets kernel-mode code: it runs toy
 * guests slowly and fails at the first instruction it does not know.
 *
 * The probe's guest is a page of 64-bit code in ring 0. It does what kernels do and interpreters lack (cmpxchg16b, a
 * breakpoint through an IDT, XSAVE), telling each step by a byte on an I/O port, and then runs a counted loop, which the
 * host times and compares with the same loop in this process. The comparison is with ourselves because the machine we
 * are on may be emulated as a whole.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <x86intrin.h>

#include "vmm/kvm.h"

#define PROBE_MEM   0x10000u
#define PROBE_CODE  0x1000u
#define PROBE_PML4  0x2000u
#define PROBE_PDPT  0x3000u
#define PROBE_PD    0x4000u
#define PROBE_IDT   0x5000u
#define PROBE_GDT   0x8000u
#define PROBE_STACK 0xa000u
#define PROBE_PORT  0x10

#define PROBE_LOOPS      2000000 /* also in the assembly below: a few milliseconds */
#define PROBE_MAX_RATIO  20
#define PROBE_TIMEOUT_MS 200
#define PROBE_RETRY_MS   10
#define PROBE_TRIES      3

enum probe_step { STEP_NONE, STEP_CMPXCHG16B, STEP_INT3, STEP_XSAVE, STEP_LOOP, STEP_COUNT };

static const char *const step_names[STEP_COUNT] = {
	[STEP_NONE] = "the start", [STEP_CMPXCHG16B] = "cmpxchg16b", [STEP_INT3] = "int3",
	[STEP_XSAVE] = "xsave",    [STEP_LOOP] = "the timed loop",
};

/* r: how a register is spelled, "%" or, in a statement with operands, "%%". */
#define PROBE_LOOP(r) "1: lea 3(" r "rax)," r "rax; xor " r "rcx," r "rax; dec " r "ecx; jnz 1b\n"

extern const char probe_code[], probe_handler[], probe_code_end[];
/* Data at 0x6000, XSAVE area at 0x7000. */
__asm__(".pushsection .rodata\n"
	"probe_code:\n"
	"	mov $0x6000,%edi\n"
	"	xor %eax,%eax\n"
	"	xor %edx,%edx\n"
	"	mov $1,%ebx\n"
	"	mov $2,%ecx\n"
	"	lock cmpxchg16b (%rdi)\n"
	"	jnz 9f\n"
	"	mov $1,%al\n"
	"	out %al,$0x10\n"
	"	int3\n"
	"	cmp $0x33,%r8d\n"
	"	jne 9f\n"
	"	mov $2,%al\n"
	"	out %al,$0x10\n"
	"	mov %cr4,%rax\n"
	"	or $0x40000,%eax\n"
	"	mov %rax,%cr4\n"
	"	mov $3,%eax\n"
	"	xor %edx,%edx\n"
	"	xor %ecx,%ecx\n"
	"	xsetbv\n"
	"	mov $0x7000,%edi\n"
	"	xsave (%rdi)\n"
	"	xrstor (%rdi)\n"
	"	mov $3,%al\n"
	"	out %al,$0x10\n"
	"	mov $2000000,%ecx\n" PROBE_LOOP("%") "	mov $4,%al\n"
						     "	out %al,$0x10\n"
						     "9:	hlt\n"
						     "	jmp 9b\n"
						     "probe_handler:\n"
						     "	mov $0x33,%r8d\n"
						     "	iretq\n"
						     "probe_code_end:\n"
						     ".popsection\n");

struct probe {
	int sys_fd, vm_fd, vcpu_fd;
	uint8_t *mem;
	struct kvm_run *run;
	size_t run_size;
	enum probe_step step;
	bool slow;         /* the failure is one of time: a busy host may do better the next time */
	uint64_t deadline; /* CLOCK_MONOTONIC microseconds */
	uint64_t loop_started, loop_ticks;
};

static void probe_release(struct probe *p)
{
	if (p->run)
		munmap(p->run, p->run_size);
	if (p->mem)
		munmap(p->mem, PROBE_MEM);
	base_close_fd(&p->vcpu_fd);
	base_close_fd(&p->vm_fd);
	base_close_fd(&p->sys_fd);
}

static void put64(struct probe *p, uint32_t at, uint64_t v)
{
	memcpy(p->mem + at, &v, sizeof(v));
}

static void fill_memory(struct probe *p)
{
	uint64_t handler = PROBE_CODE + ((uintptr_t)probe_handler - (uintptr_t)probe_code);

	memcpy(p->mem + PROBE_CODE, probe_code, (uintptr_t)probe_code_end - (uintptr_t)probe_code);
	put64(p, PROBE_PML4, PROBE_PDPT | 3);
	put64(p, PROBE_PDPT, PROBE_PD | 3);
	put64(p, PROBE_PD, 0x83); /* the first 2 MiB */
	/* Vector 3: a 64-bit interrupt gate to selector 8 (handler below 64 KiB). */
	put64(p, PROBE_IDT + 3 * 16, handler | 8ull << 16 | 0x8eull << 40);
	put64(p, PROBE_GDT + 8, 0x00af9b000000ffffull);
	put64(p, PROBE_GDT + 16, 0x00cf93000000ffffull);
}

static int make_vm(struct probe *p, struct error **err)
{
	struct kvm_userspace_memory_region r = {.memory_size = PROBE_MEM};
	void *m;

	p->vm_fd = ioctl(p->sys_fd, KVM_CREATE_VM, 0);
	if (p->vm_fd < 0)
		return error_sys(err, errno, "KVM_CREATE_VM");
	m = mmap(NULL, PROBE_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return error_sys(err, errno, "map the probe's memory");
	p->mem = m;
	fill_memory(p);
	r.userspace_addr = (uintptr_t)m;
	/* Intel hosts need a place for their real-mode TSS; others ignore it. */
	ioctl(p->vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (ioctl(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return error_sys(err, errno, "KVM_SET_USER_MEMORY_REGION");
	return 0;
}

static int make_vcpu(struct probe *p, struct error **err)
{
	CLEANUP_FREE struct kvm_cpuid2 *c = xcalloc(1, KVM_CPUID_BYTES);
	int size = ioctl(p->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *m;

	p->vcpu_fd = ioctl(p->vm_fd, KVM_CREATE_VCPU, 0);
	if (p->vcpu_fd < 0 || size < (int)sizeof(struct kvm_run))
		return error_sys(err, errno, "KVM_CREATE_VCPU");
	p->run_size = (size_t)size;
	m = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu_fd, 0);
	if (m == MAP_FAILED)
		return error_sys(err, errno, "map the vCPU");
	p->run = m;
	if (kvm_cpuid_supported(p->sys_fd, c, err))
		return -1;
	kvm_cpuid_adapt(c, 0, 1, false);
	if (ioctl(p->vcpu_fd, KVM_SET_CPUID2, c) < 0)
		return error_sys(err, errno, "KVM_SET_CPUID2");
	return 0;
}

static int set_registers(struct probe *p, struct error **err)
{
	struct kvm_regs r = {.rip = PROBE_CODE, .rsp = PROBE_STACK, .rflags = 2};
	struct kvm_sregs s;

	if (ioctl(p->vcpu_fd, KVM_GET_SREGS, &s) < 0)
		return error_sys(err, errno, "KVM_GET_SREGS");
	s.cs = (struct kvm_segment){.limit = 0xffffffff,
				    .selector = 8,
				    .type = 0xb,
				    .present = 1,
				    .s = 1,
				    .l = 1,
				    .g = 1};
	s.ss = (struct kvm_segment){.limit = 0xffffffff,
				    .selector = 16,
				    .type = 3,
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1};
	s.ds = s.es = s.fs = s.gs = s.ss;
	s.tr = (struct kvm_segment){.limit = 0x67, .type = 0xb, .present = 1};
	s.gdt = (struct kvm_dtable){.base = PROBE_GDT, .limit = 23};
	s.idt = (struct kvm_dtable){.base = PROBE_IDT, .limit = 4 * 16 - 1};
	s.cr0 = 0x80000011; /* PG, ET, PE */
	s.cr3 = PROBE_PML4;
	s.cr4 = 0x620;  /* PAE, OSFXSR, OSXMMEXCPT */
	s.efer = 0x500; /* LMA, LME */
	if (ioctl(p->vcpu_fd, KVM_SET_SREGS, &s) < 0)
		return error_sys(err, errno, "KVM_SET_SREGS");
	if (ioctl(p->vcpu_fd, KVM_SET_REGS, &r) < 0)
		return error_sys(err, errno, "KVM_SET_REGS");
	return 0;
}

/* 1: the step byte was the last one, 0: go on, -1: wrong. */
static int on_port(struct probe *p, struct error **err)
{
	const struct kvm_run *r = p->run;
	uint8_t step = *((const uint8_t *)r + r->io.data_offset);

	if (r->io.direction != KVM_EXIT_IO_OUT || r->io.port != PROBE_PORT || step != p->step + 1)
		return error_set(err, ERR_UNSUPPORTED, "/dev/kvm went astray after %s",
				 step_names[p->step]);
	p->step = (enum probe_step)step;
	if (p->step == STEP_XSAVE)
		p->loop_started = __rdtsc();
	if (p->step != STEP_LOOP)
		return 0;
	p->loop_ticks = __rdtsc() - p->loop_started;
	return 1;
}

static int bad_exit(const struct probe *p, struct error **err)
{
	const char *at = step_names[p->step + 1];

	if (p->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		return error_set(
			err, ERR_UNSUPPORTED,
			"/dev/kvm interprets kernel-mode code (KVM_EXIT_INTERNAL_ERROR at %s)", at);
	if (p->run->exit_reason == KVM_EXIT_SHUTDOWN)
		return error_set(err, ERR_UNSUPPORTED,
				 "/dev/kvm cannot run kernel-mode code (shutdown at %s)", at);
	return error_set(err, ERR_UNSUPPORTED,
			 "/dev/kvm cannot run kernel-mode code (exit %u at %s)",
			 p->run->exit_reason, at);
}

static int run_guest(struct probe *p, struct error **err)
{
	for (;;) {
		int rc;

		p->slow = time_mono_us() > p->deadline;
		if (p->slow)
			return error_set(err, ERR_UNSUPPORTED,
					 "/dev/kvm is far slower than the machine (no answer from "
					 "%s in %d ms)",
					 step_names[p->step + 1], PROBE_TIMEOUT_MS);
		if (ioctl(p->vcpu_fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			return error_sys(err, errno, "KVM_RUN");
		}
		if (p->run->exit_reason == KVM_EXIT_INTR)
			continue;
		if (p->run->exit_reason != KVM_EXIT_IO)
			return bad_exit(p, err);
		rc = on_port(p, err);
		if (rc)
			return rc < 0 ? -1 : 0;
	}
}

/* The guest's loop, here. In ticks of the TSC, as a host's clock may be as coarse as its timer interrupt. */
static uint64_t native_loop_ticks(void)
{
	uint64_t t = __rdtsc();
	uint32_t n = PROBE_LOOPS;

	__asm__ volatile(PROBE_LOOP("%%") : "+c"(n) : : "rax", "cc");
	return MAX(__rdtsc() - t, 1);
}

static int compare_speed(struct probe *p, char **why, struct error **err)
{
	uint64_t native = native_loop_ticks();

	p->slow = p->loop_ticks / PROBE_MAX_RATIO > native;
	if (p->slow)
		return error_set(err, ERR_UNSUPPORTED,
				 "/dev/kvm is %llu times slower than the machine",
				 (unsigned long long)(p->loop_ticks / native));
	*why = xasprintf("/dev/kvm runs kernel-mode code at %.1f times the native time",
			 (double)p->loop_ticks / (double)native);
	return 0;
}

/* KVM_RUN of a guest that never exits ends by a signal to this thread; it repeats, as the first may come too early. */
static int arm_timer(timer_t *t, struct error **err)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KVM_KICK_SIGNAL};
	struct itimerspec at = {.it_value.tv_nsec = PROBE_TIMEOUT_MS * 1000000l,
				.it_interval.tv_nsec = PROBE_RETRY_MS * 1000000l};

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &ev, t) || timer_settime(*t, 0, &at, NULL))
		return error_sys(err, errno, "timer");
	return 0;
}

static int run_timed(struct probe *p, struct error **err)
{
	sigset_t kick, before;
	timer_t timer;
	int rc;

	kvm_install_kick();
	p->deadline = time_mono_us() + PROBE_TIMEOUT_MS * 1000ull;
	if (arm_timer(&timer, err))
		return -1;
	sigemptyset(&kick);
	sigaddset(&kick, KVM_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, &before);
	rc = run_guest(p, err);
	/* Before the mask comes back, so that a last signal finds the empty handler and is not left pending. */
	timer_delete(timer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

static int probe_all(struct probe *p, char **why, struct error **err)
{
	p->sys_fd = kvm_open(err);
	if (p->sys_fd < 0)
		return -1;
	if (make_vm(p, err) || make_vcpu(p, err) || set_registers(p, err) || run_timed(p, err))
		return -1;
	return compare_speed(p, why, err);
}

/* 0, -1, or 1: too slow this time. */
static int probe_once(char **why)
{
	CLEANUP(probe_release) struct probe p = {.sys_fd = -1, .vm_fd = -1, .vcpu_fd = -1};
	CLEANUP_ERROR struct error *err = NULL;

	if (!probe_all(&p, why, &err))
		return 0;
	*why = error_text(err);
	return p.slow ? 1 : -1;
}

int kvm_probe(char **why)
{
	int tries = PROBE_TRIES, rc;

	while ((rc = probe_once(why)) > 0 && --tries > 0)
		free(*why);
	return rc ? -1 : 0;
}
