/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm_boot.c - one start of our VMM under a stopwatch.
 *
 *   vmm_boot [-c cpus] [-m MiB] [-a words] [-w word] [-n] [-f] kernel [initramfs…]
 *
 * Boots as the runtime helper does, jail and filters included (-n: without), with the guest's console on stdout, and ends when that says
 * the word (PID1). Then it tells on stderr, in µs:
 *   stage <wall> <cpu> <name>          set-up, in order; the sum of all calls of that name
 *   own <wall> <cpu>                   KVM_CREATE_VM to the first entry into the guest: all of it
 *   first <wall> <cpu>                 -f: to the guest's first instruction, or rather its exit
 *   exit <number> <wall> <reason>      what came out of KVM_RUN, and what handling it took
 *   run <wall>                         inside KVM_RUN altogether: the guest and KVM
 *   private <KiB>                      memory that only this process has, the guest's apart
 * cpu is what this process used (on a busy machine wall is anything), the host kernel's work for it included.
 *
 * -f: only to the guest's first instruction. It is an `out`, put where the kernel would have begun: so any KVM will do, also one that
 * could not run a kernel.
 *
 * The product is measured as it is: the linker puts the wrappers below around its functions (-Wl,--wrap).
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/str.h"
#include "tests/lab/map_file.h"
#include "vmm/acpi.h"
#include "vmm/jail.h"
#include "vmm/kvm.h"

#define MAX_PIECES 4
#define REASONS    64
#define STAGES     48

/* ---- the stopwatch ---- */

struct clocks {
	uint64_t wall, cpu; /* ns; cpu: of all threads */
};

static struct stage {
	const char *name;
	struct clocks spent;
} stages[STAGES];
static unsigned nstages;

static struct {
	struct clocks begun, create_vm, entered, first_exit;
	uint64_t run, run_since; /* inside KVM_RUN: until then, and since when */
	uint64_t left;           /* when KVM_RUN last returned */
	uint32_t last;
	uint64_t count[REASONS], handling[REASONS];
} watch;

static bool only_first;
static struct vm *the_vm;

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static struct clocks clocks_now(void)
{
	return (struct clocks){now(), read_clock(CLOCK_PROCESS_CPUTIME_ID)};
}

static struct clocks clocks_since(struct clocks a, struct clocks b)
{
	return (struct clocks){b.wall - a.wall, b.cpu - a.cpu};
}

/* Adds the time since t to the stage of that name. Set-up is of one thread. */
static void note(const char *name, struct clocks t)
{
	unsigned i;

	t = clocks_since(t, clocks_now());
	for (i = 0; i < nstages; i++)
		if (str_eq(stages[i].name, name))
			break;
	if (i == STAGES)
		return;
	if (i == nstages)
		stages[nstages++].name = name;
	stages[i].spent.wall += t.wall;
	stages[i].spent.cpu += t.cpu;
}

#define WRAP(name, stage, params, args)         \
	int __real_##name params;               \
	int __wrap_##name params;               \
	int __wrap_##name params                \
	{                                       \
		struct clocks t = clocks_now(); \
		int rc;                         \
                                                \
		rc = __real_##name args;        \
		note(stage, t);                 \
		return rc;                      \
	}

WRAP(gmem_new, "guest memory", (uint64_t bytes, struct gmem *m, struct error **err),
     (bytes, m, err))
WRAP(boot_load_elf, "kernel",
     (int fd, const struct gmem *m, struct boot_kernel *k, struct error **err), (fd, m, k, err))
WRAP(boot_load_initrd, "initramfs",
     (const struct iovec *iov, size_t n, const struct gmem *m, const struct boot_kernel *k,
      uint64_t *gpa, uint64_t *len, struct error **err),
     (iov, n, m, k, gpa, len, err))
WRAP(acpi_build, "acpi tables",
     (const struct acpi_machine *m, uint64_t gpa, struct buf *out, struct error **err),
     (m, gpa, out, err))
WRAP(boot_write_params, "boot parameters",
     (const struct boot_params_in *in, const struct gmem *m, struct error **err), (in, m, err))
WRAP(jail_prepare, "jail: namespaces", (uid_t uid), (uid))
WRAP(jail_enter, "jail: empty root, user", (uid_t uid, const char *place, struct error **err),
     (uid, place, err))
WRAP(filter_arm, "filters: build", (unsigned engine, bool trap, struct error **err),
     (engine, trap, err))

void __real_filter_thread(enum filter_profile who);
void __wrap_filter_thread(enum filter_profile who);
void __wrap_filter_thread(enum filter_profile who)
{
	struct clocks t = clocks_now();

	__real_filter_thread(who);
	if (who == FILTER_MAIN)
		note("filters: main thread", t);
}

static const char *ioctl_stage(unsigned long request)
{
	static const struct {
		unsigned long request;
		const char *name;
	} names[] = {
		{KVM_GET_API_VERSION, "capabilities"},
		{KVM_CHECK_EXTENSION, "capabilities"},
		{KVM_CREATE_VM, "KVM_CREATE_VM"},
		{KVM_SET_IDENTITY_MAP_ADDR, "addresses"},
		{KVM_SET_TSS_ADDR, "addresses"},
		{KVM_CREATE_IRQCHIP, "interrupt controllers"},
		{KVM_SET_USER_MEMORY_REGION, "memory slots"},
		{KVM_IRQFD, "irqfd"},
		{KVM_IOEVENTFD, "ioeventfd"},
		{KVM_CREATE_VCPU, "vcpu"},
		{KVM_GET_VCPU_MMAP_SIZE, "vcpu"},
		{KVM_GET_SUPPORTED_CPUID, "cpuid"},
		{KVM_SET_CPUID2, "cpuid"},
		{KVM_SET_MSRS, "registers"},
		{KVM_GET_LAPIC, "registers"},
		{KVM_SET_LAPIC, "registers"},
		{KVM_GET_SREGS, "registers"},
		{KVM_SET_SREGS, "registers"},
		{KVM_SET_REGS, "registers"},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].request == request)
			return names[i].name;
	return "other ioctls";
}

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

static int timed_run(int fd, void *arg)
{
	struct kvm_machine *k = the_vm->priv;
	uint64_t t = now();
	int rc;

	if (watch.left && watch.last < REASONS)
		watch.handling[watch.last] += t - watch.left;
	if (!watch.entered.wall)
		watch.entered = clocks_now();
	__atomic_store_n(&watch.run_since, t, __ATOMIC_RELAXED);
	rc = __real_ioctl(fd, KVM_RUN, arg);
	watch.left = now();
	__atomic_store_n(&watch.run_since, 0, __ATOMIC_RELAXED);
	watch.run += watch.left - t;
	watch.last = rc ? KVM_EXIT_INTR : k->vcpus[0].run->exit_reason;
	if (watch.last < REASONS)
		watch.count[watch.last]++;
	if (only_first && !rc) {
		watch.first_exit = clocks_now();
		kvm_end(k, watch.last == KVM_EXIT_IO ? VM_STOP_POWEROFF : VM_STOP_CRASH, NULL);
	}
	return rc;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	struct clocks t;
	int rc;

	if (request == KVM_RUN)
		return timed_run(fd, arg);
	t = clocks_now();
	rc = __real_ioctl(fd, request, arg);
	if (request == KVM_CREATE_VM)
		watch.create_vm = t;
	if (!watch.entered.wall)
		note(ioctl_stage(request), t);
	return rc;
}

/* ---- memory ---- */

static int smaps_fd = -1; /* from before the jail, where there is no /proc */

/* A line of smaps: a mapping's first, or a figure of it. The guest's are its memory and the kernel's pages that lie in it. */
static void add_private(const char *line, bool *guest, unsigned long *kib)
{
	unsigned long a, b;

	if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
		*guest = strstr(line, "guest-memory") || strstr(line, "vmlinux");
	else if (!*guest && (sscanf(line, "Private_Clean: %lu", &a) == 1 ||
			     sscanf(line, "Private_Dirty: %lu", &a) == 1))
		*kib += a;
}

static unsigned long private_kib(void)
{
	static char text[8192];
	size_t have = 0;
	bool guest = false;
	unsigned long kib = 0;
	ssize_t n;

	while ((n = read(smaps_fd, text + have, sizeof(text) - 1 - have)) > 0) {
		char *line = text, *nl;

		have += (size_t)n;
		text[have] = 0;
		for (; (nl = strchr(line, '\n')); line = nl + 1) {
			*nl = 0;
			add_private(line, &guest, &kib);
		}
		have -= (size_t)(line - text);
		memmove(text, line, have);
	}
	return kib;
}

/* ---- the machine ---- */

struct boot {
	struct loop *loop;
	const char *word;
	struct buf said;
	bool jail, over;
	uid_t uid;
	char place[256];
	int reason;
};

static void on_console(void *arg, const void *p, size_t len)
{
	struct boot *b = arg;

	if (write(1, p, len) < 0)
		b->reason = 71;
	buf_append(&b->said, p, len);
	if (!b->over && memmem(b->said.data, b->said.len, b->word, strlen(b->word))) {
		b->over = true;
		loop_stop(b->loop);
	}
}

static void on_stopped(void *arg, int reason, const char *detail)
{
	struct boot *b = arg;

	b->over = reason == VM_STOP_POWEROFF && only_first;
	if (!b->over)
		fprintf(stderr, "vmm_boot: ended early (%d) %s\n", reason, detail ? detail : "");
	loop_stop(b->loop);
}

static int confine(void *arg, enum vm_confine what, struct error **err)
{
	struct boot *b = arg;

	if (!b->jail)
		return 0;
	if (what == VM_CONFINE_CALLS) {
		filter_thread(FILTER_MAIN);
		return 0;
	}
	return jail_enter(b->uid, b->place, err) < 0 || filter_arm(FILTER_MAIN_KVM, false, err) ? -1
												: 0;
}

/* out %al, $0x10; hlt: instead of the kernel's first instructions. */
static int put_first_instruction(struct error **err)
{
	static const uint8_t code[] = {0xe6, 0x10, 0xf4};
	struct kvm_machine *k = the_vm->priv;

	if (gmem_write(&the_vm->mem, k->kernel.entry, code, sizeof(code)))
		return error_set(err, ERR_INTERNAL, "entry point outside memory");
	return 0;
}

static const char *reason_name(unsigned r)
{
	static const char *const names[REASONS] = {
		[KVM_EXIT_IO] = "port", [KVM_EXIT_MMIO] = "mmio",         [KVM_EXIT_INTR] = "kick",
		[KVM_EXIT_HLT] = "hlt", [KVM_EXIT_SHUTDOWN] = "shutdown",
	};

	return names[r] ? names[r] : "other";
}

static void print_span(const char *what, struct clocks from, struct clocks to)
{
	struct clocks t = clocks_since(from, to);

	fprintf(stderr, "%s %.1f %.1f\n", what, (double)t.wall / 1e3, (double)t.cpu / 1e3);
}

static void report(void)
{
	uint64_t since = __atomic_load_n(&watch.run_since, __ATOMIC_RELAXED);
	unsigned i;

	print_span("before", watch.begun, watch.create_vm);
	for (i = 0; i < nstages; i++)
		fprintf(stderr, "stage %.1f %.1f %s\n", (double)stages[i].spent.wall / 1e3,
			(double)stages[i].spent.cpu / 1e3, stages[i].name);
	print_span("own", watch.create_vm, watch.entered);
	if (only_first)
		print_span("first", watch.create_vm, watch.first_exit);
	for (i = 0; i < REASONS; i++)
		if (watch.count[i])
			fprintf(stderr, "exit %llu %.1f %s\n", (unsigned long long)watch.count[i],
				(double)watch.handling[i] / 1e3, reason_name(i));
	fprintf(stderr, "run %.1f\n", (double)(watch.run + (since ? now() - since : 0)) / 1e3);
	fprintf(stderr, "private %lu\n", private_kib());
}

static int run(struct boot *b, struct vm_config *cfg, struct error **err)
{
	b->loop = loop_new(err);
	if (!b->loop)
		return -1;
	cfg->arg = b;
	if (b->jail)
		cfg->own_uid = b->uid = jail_uid();
	the_vm = vm_new(b->loop, cfg, err);
	if (!the_vm || (only_first && put_first_instruction(err)))
		return -1;
	if (b->jail)
		jail_prepare(b->uid);
	if (vm_start(the_vm, err) || loop_run(b->loop, err))
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	struct boot b = {.word = "PID1", .jail = true};
	struct vm_config cfg = {.engine = VM_ENGINE_KVM,
				.vcpus = 1,
				.mem_bytes = 128ull << 20,
				.cid = 3,
				.console = on_console,
				.stopped = on_stopped,
				.confine = confine};
	struct iovec initrd[MAX_PIECES];
	struct error *err = NULL;
	int c;

	watch.begun = clocks_now();
	while ((c = getopt(argc, argv, "c:m:a:w:nf")) != -1) {
		switch (c) {
		case 'c':
			cfg.vcpus = (unsigned)atoi(optarg);
			break;
		case 'm':
			cfg.mem_bytes = (uint64_t)atoi(optarg) << 20;
			break;
		case 'a':
			cfg.cmdline = optarg;
			break;
		case 'w':
			b.word = optarg;
			break;
		case 'n':
			b.jail = false;
			break;
		case 'f':
			only_first = true;
			break;
		default:
			return 64;
		}
	}
	if (optind >= argc)
		return 64;
	log_init_stderr("vmm_boot", LOG_LVL_WARN);
	smaps_fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	/* Whoever set TMPDIR clears it: from the jail it is out of reach. */
	snprintf(b.place, sizeof(b.place), "%s/vmm_boot.XXXXXX", getenv("TMPDIR") ?: "/tmp");
	if (!mkdtemp(b.place))
		return 71;
	cfg.kernel_fd = open(argv[optind], O_RDONLY | O_CLOEXEC);
	while (++optind < argc && cfg.ninitrd < MAX_PIECES)
		if (map_file(argv[optind], &initrd[cfg.ninitrd++], &err))
			return fail("vmm_boot", err, 70);
	cfg.initrd = initrd;
	if (run(&b, &cfg, &err))
		return fail("vmm_boot", err, 70);
	report();
	return b.over ? 0 : 1;
}
