/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.c - the kvm engine: builds the machine (memory slots, in-kernel interrupt controllers, ioeventfds and irqfds, the
 * kernel and its tables), starts and stops its vCPU threads.
 *
 * There is no PIT: the ACPI tables say that the hardware is reduced, so kernels take their time from kvmclock, the TSC
 * and the local APIC.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "core/log.h"
#include "vmm/acpi.h"
#include "vmm/kvm.h"

#define TSS_GPA          0xfffbd000u /* three pages and one, in no memory slot, for Intel hosts' real mode */
#define IDENTITY_MAP_GPA 0xfffbc000ull
#define VCPU_STACK       (256u << 10)
#define PAUSE_TIMEOUT_S  5

int kvm_open(struct error **err)
{
	CLEANUP_CLOSE int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0)
		return error_sys(err, errno, "open /dev/kvm");
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return error_set(err, ERR_UNSUPPORTED, "/dev/kvm speaks API version %d, not %d",
				 version, KVM_API_VERSION);
	return steal_fd(&fd);
}

static void on_kick(int signo)
{
}

void kvm_install_kick(void)
{
	struct sigaction sa = {.sa_handler = on_kick}; /* no SA_RESTART: KVM_RUN must end */

	sigaction(KVM_KICK_SIGNAL, &sa, NULL);
}

static int check_caps(int fd, struct error **err)
{
	static const struct {
		int cap;
		const char *name;
	} need[] = {{KVM_CAP_IRQCHIP, "IRQCHIP"},
		    {KVM_CAP_USER_MEMORY, "USER_MEMORY"},
		    {KVM_CAP_IRQFD, "IRQFD"},
		    {KVM_CAP_IOEVENTFD, "IOEVENTFD"},
		    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
		    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER"},
		    {KVM_CAP_EXT_CPUID, "EXT_CPUID"}};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(need); i++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, need[i].cap) <= 0)
			return error_set(err, ERR_UNSUPPORTED, "/dev/kvm lacks KVM_CAP_%s",
					 need[i].name);
	return 0;
}

/* ---- interrupts and notifications ---- */

static void raise_fd(void *arg)
{
	uint64_t one = 1;

	if (write(*(int *)arg, &one, sizeof(one)) < 0)
		return; /* the counter is full: an interrupt is pending anyway */
}

static void uart_raise(void *arg)
{
	struct kvm_machine *k = arg;

	raise_fd(&k->uart_irq_fd);
}

static void uart_out(void *arg, const void *p, size_t len)
{
	struct kvm_machine *k = arg;

	vm_report_console(k->vm, p, len);
}

static int new_irqfd(const struct kvm_machine *k, uint32_t gsi, struct error **err)
{
	CLEANUP_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct kvm_irqfd irq = {.gsi = gsi};

	if (fd < 0)
		return error_sys(err, errno, "eventfd");
	irq.fd = (uint32_t)fd;
	if (ioctl(k->vm_fd, KVM_IRQFD, &irq) < 0)
		return error_sys(err, errno, "KVM_IRQFD for interrupt %u", gsi);
	return steal_fd(&fd);
}

static int wire_device(struct kvm_machine *k, unsigned n, struct error **err)
{
	struct virtio_dev *dev = k->vm->devs[n];
	unsigned q;

	k->irq_fd[n] = new_irqfd(k, MMIO_FIRST_GSI + n, err);
	if (k->irq_fd[n] < 0)
		return -1;
	vmmio_init(&k->mmio[n], dev, raise_fd, &k->irq_fd[n]);
	for (q = 0; q < dev->nqueues; q++) {
		struct kvm_ioeventfd io = {
			.addr = MMIO_BASE + n * MMIO_SIZE + MMIO_QUEUE_NOTIFY,
			.len = 4,
			.datamatch = q,
			.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
			.fd = virtio_kick_fd(dev, q),
		};

		if (ioctl(k->vm_fd, KVM_IOEVENTFD, &io) < 0)
			return error_sys(err, errno, "KVM_IOEVENTFD for %s queue %u",
					 dev->ops->name, q);
	}
	return 0;
}

static int wire(struct kvm_machine *k, struct error **err)
{
	unsigned n;

	k->uart_irq_fd = new_irqfd(k, UART_GSI, err);
	if (k->uart_irq_fd < 0)
		return -1;
	for (n = 0; n < k->vm->ndevs; n++)
		if (wire_device(k, n, err))
			return -1;
	return 0;
}

/* ---- the machine ---- */

/* AMD's first four counters are there whatever CPUID says: they go with the machine's. KVM before 5.18 cannot, and then they stay. */
static void without_counters(const struct kvm_machine *k)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_PMU_CAPABILITY, .args = {KVM_PMU_CAP_DISABLE}};

	if (ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		log_debug("kvm: performance counters: %s", strerror(errno));
}

static int make_vm(struct kvm_machine *k, struct error **err)
{
	uint64_t identity = IDENTITY_MAP_GPA;

	k->vm_fd = ioctl(k->sys_fd, KVM_CREATE_VM, 0);
	if (k->vm_fd < 0)
		return error_sys(err, errno, "KVM_CREATE_VM");
	if (ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return error_sys(err, errno, "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(k->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA) < 0)
		return error_sys(err, errno, "KVM_SET_TSS_ADDR");
	if (ioctl(k->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return error_sys(err, errno, "KVM_CREATE_IRQCHIP");
	without_counters(k);
	return 0;
}

static int map_memory(const struct kvm_machine *k, struct error **err)
{
	const struct gmem *m = &k->vm->mem;
	unsigned i;

	for (i = 0; i < m->nregions; i++) {
		struct kvm_userspace_memory_region r = {
			.slot = i,
			.guest_phys_addr = m->regions[i].gpa,
			.memory_size = m->regions[i].size,
			.userspace_addr = (uintptr_t)m->regions[i].hva,
		};

		if (ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
			return error_sys(err, errno, "KVM_SET_USER_MEMORY_REGION %#llx",
					 (unsigned long long)r.guest_phys_addr);
	}
	return 0;
}

static int load(struct kvm_machine *k, const struct vm_config *cfg, struct error **err)
{
	struct acpi_machine acpi = {.vcpus = k->nvcpus,
				    .nmmio = k->vm->ndevs,
				    .mmio_base = MMIO_BASE,
				    .mmio_size = MMIO_SIZE,
				    .first_gsi = MMIO_FIRST_GSI,
				    .uart = true};
	struct boot_params_in in = {.kernel = &k->kernel, .rsdp_gpa = ACPI_TABLES_GPA};
	CLEANUP_FREE char *cmdline = NULL;
	CLEANUP_BUF struct buf tables = {0};
	const struct gmem *m = &k->vm->mem;

	if (boot_load_elf(cfg->kernel_fd, m, &k->kernel, err) ||
	    boot_load_initrd(cfg->initrd, cfg->ninitrd, m, &k->kernel, &in.initrd_gpa,
			     &in.initrd_len, err))
		return -1;
	if (acpi_build(&acpi, ACPI_TABLES_GPA, &tables, err))
		return -1;
	if (gmem_write(m, ACPI_TABLES_GPA, tables.data, tables.len))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "guest memory too small for its ACPI tables");
	/* The caller's words come last, so that they win over ours. */
	cmdline = xasprintf(
		"console=ttyS0 quiet reboot=t panic=-1 pci=off i8042.noaux i8042.nomux "
		"i8042.dumbkbd 8250.nr_uarts=1 tsc=reliable no_timer_check cryptomgr.notests "
		"random.trust_cpu=on%s%s",
		cfg->cmdline && *cfg->cmdline ? " " : "", cfg->cmdline ? cfg->cmdline : "");
	in.cmdline = cmdline;
	return boot_write_params(&in, m, err);
}

static int make_vcpu(struct kvm_machine *k, unsigned index, struct error **err)
{
	struct kvm_vcpu *v = &k->vcpus[index];
	void *p;

	v->fd = ioctl(k->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (v->fd < 0)
		return error_sys(err, errno, "KVM_CREATE_VCPU %u", index);
	p = mmap(NULL, k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (p == MAP_FAILED)
		return error_sys(err, errno, "map vCPU %u", index);
	v->run = p;
	return kvm_vcpu_setup(k, v, err);
}

static int make_vcpus(struct kvm_machine *k, struct error **err)
{
	int size = ioctl(k->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	unsigned i;

	if (size < (int)sizeof(struct kvm_run))
		return error_set(err, ERR_UNSUPPORTED, "KVM_GET_VCPU_MMAP_SIZE: %d", size);
	k->run_size = (size_t)size;
	k->cpuid = xcalloc(1, KVM_CPUID_BYTES);
	if (kvm_cpuid_supported(k->sys_fd, k->cpuid, err))
		return -1;
	if (k->nested && kvm_cpuid_nested(k->cpuid) == KVM_NESTED_NONE)
		return error_set(err, ERR_UNSUPPORTED, "%s", VM_NO_NESTED);
	for (i = 0; i < k->nvcpus; i++)
		if (make_vcpu(k, i, err))
			return -1;
	return 0;
}

static struct kvm_machine *new_machine(struct vm *vm)
{
	struct kvm_machine *k = xcalloc(1, sizeof(*k));
	unsigned i;

	k->vm = vm;
	k->sys_fd = k->vm_fd = k->uart_irq_fd = -1;
	k->nvcpus = vm->vcpus;
	k->vcpus = xcalloc(k->nvcpus, sizeof(*k->vcpus));
	k->end_reason = -1;
	for (i = 0; i < k->nvcpus; i++)
		k->vcpus[i] = (struct kvm_vcpu){.k = k, .index = i, .fd = -1};
	for (i = 0; i < VM_MAX_DEVS; i++)
		k->irq_fd[i] = -1;
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->cond, NULL);
	uart_init(&k->uart, uart_out, uart_raise, k);
	return k;
}

static int kvm_create(struct vm *vm, const struct vm_config *cfg, struct error **err)
{
	struct kvm_machine *k = new_machine(vm);

	vm->priv = k;
	k->nested = cfg->nested;
	kvm_install_kick();
	k->sys_fd = kvm_open(err);
	if (k->sys_fd < 0 || check_caps(k->sys_fd, err) || make_vm(k, err) || map_memory(k, err) ||
	    wire(k, err) || load(k, cfg, err) || make_vcpus(k, err))
		return error_wrap(err, "kvm engine");
	return 0;
}

static int start_thread(struct kvm_vcpu *v, const pthread_attr_t *attr)
{
	int rc;

	/* Under the lock: the thread counts itself out under it, and kvm_kick() looks at `created`. */
	pthread_mutex_lock(&v->k->lock);
	rc = pthread_create(&v->thread, attr, kvm_vcpu_main, v);
	if (!rc) {
		v->created = true;
		v->k->live++;
	}
	pthread_mutex_unlock(&v->k->lock);
	return rc;
}

static int kvm_run(struct vm *vm, struct error **err)
{
	struct kvm_machine *k = vm->priv;
	pthread_attr_t attr;
	unsigned i;
	int rc = 0;

	/* As if paused, until kvm_go(). */
	k->pause = k->attention = true;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK);
	/* The boot vCPU last: it may end the machine at once, and then all have to be there to be stopped. */
	for (i = k->nvcpus; i-- > 0 && !rc;)
		rc = start_thread(&k->vcpus[i], &attr);
	pthread_attr_destroy(&attr);
	return rc ? error_sys(err, rc, "start vCPU threads") : 0;
}

static void kvm_kill(struct vm *vm)
{
	struct kvm_machine *k = vm->priv;
	bool idle;

	kvm_end(k, VM_STOP_KILLED, NULL);
	pthread_mutex_lock(&k->lock);
	idle = k->live == 0;
	pthread_mutex_unlock(&k->lock);
	if (idle)
		vm_report_stop(vm, VM_STOP_KILLED, NULL);
}

/* With the lock. */
static void let_run(struct kvm_machine *k)
{
	k->pause = false;
	if (!k->stop)
		__atomic_store_n(&k->attention, false, __ATOMIC_SEQ_CST);
	pthread_cond_broadcast(&k->cond);
}

/* All or none: when one is held up (by a reset that waits for a disk, say) the others run on, as the owner takes the machine to. */
static int kvm_pause(struct vm *vm, struct error **err)
{
	struct kvm_machine *k = vm->priv;
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PAUSE_TIMEOUT_S;
	pthread_mutex_lock(&k->lock);
	k->pause = true;
	kvm_kick(k);
	while (k->parked < k->live && !k->stop && !rc)
		rc = pthread_cond_clockwait(&k->cond, &k->lock, CLOCK_MONOTONIC, &until);
	if (k->parked >= k->live || k->stop)
		rc = 0;
	if (rc)
		let_run(k);
	pthread_mutex_unlock(&k->lock);
	if (rc)
		return error_sys(err, rc, "pause the vCPUs");
	return 0;
}

static int kvm_resume(struct vm *vm, struct error **err)
{
	struct kvm_machine *k = vm->priv;

	pthread_mutex_lock(&k->lock);
	let_run(k);
	pthread_mutex_unlock(&k->lock);
	return 0;
}

static void kvm_go(struct vm *vm)
{
	(void)kvm_resume(vm, NULL);
}

static void free_vcpu(struct kvm_machine *k, struct kvm_vcpu *v)
{
	if (v->created)
		pthread_join(v->thread, NULL);
	if (v->run)
		munmap(v->run, k->run_size);
	if (v->fd >= 0)
		close(v->fd);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* Devices live on a little longer and may have threads. */
static void unwire_device(struct kvm_machine *k, unsigned n)
{
	virtio_detach(k->vm->devs[n]);
	close_fd(k->irq_fd[n]);
}

static void kvm_destroy(struct vm *vm)
{
	struct kvm_machine *k = vm->priv;
	unsigned i;

	if (!k)
		return;
	kvm_end(k, VM_STOP_KILLED, NULL);
	for (i = 0; i < k->nvcpus; i++)
		free_vcpu(k, &k->vcpus[i]);
	for (i = 0; i < vm->ndevs; i++)
		unwire_device(k, i);
	close_fd(k->uart_irq_fd);
	close_fd(k->vm_fd);
	close_fd(k->sys_fd);
	uart_fini(&k->uart);
	pthread_cond_destroy(&k->cond);
	pthread_mutex_destroy(&k->lock);
	free(k->end_detail);
	free(k->vcpus);
	free(k->cpuid);
	free(k);
	vm->priv = NULL;
}

const struct vm_ops vm_kvm_ops = {
	.name = "kvm",
	.create = kvm_create,
	.run = kvm_run,
	.go = kvm_go,
	.kill = kvm_kill,
	.pause = kvm_pause,
	.resume = kvm_resume,
	.destroy = kvm_destroy,
};
