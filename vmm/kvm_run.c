/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_run.c - the vCPU threads: KVM_RUN, and what to do with each exit. */
#include <stdio.h>
#include <sys/ioctl.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/acpi.h"
#include "vmm/kvm.h"

#define PORT_I8042        0x64
#define I8042_STATUS_OK   0x04 /* system flag: self-test passed, nothing to read */
#define I8042_PULSE_RESET 0xfe

FILTER_RULES = {
	FILTER_ALLOW_ARG(FILTER_VCPU, ioctl, 1, ~0u, KVM_RUN),
	FILTER_ALLOW_ARG(FILTER_VCPU, ioctl, 1, ~0u, KVM_KVMCLOCK_CTRL),
	FILTER_ALLOW_ARG(FILTER_VCPU, ioctl, 1, ~0u, KVM_GET_REGS), /* for the report of a crash */
	FILTER_ALLOW(FILTER_VCPU, rt_sigreturn),                    /* from the kick's handler */
};

static bool attention(struct kvm_machine *k)
{
	return __atomic_load_n(&k->attention, __ATOMIC_SEQ_CST);
}

void kvm_kick(struct kvm_machine *k)
{
	unsigned i;

	__atomic_store_n(&k->attention, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < k->nvcpus; i++) {
		struct kvm_vcpu *v = &k->vcpus[i];

		if (!v->created)
			continue;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(v->thread, KVM_KICK_SIGNAL);
	}
}

void kvm_end(struct kvm_machine *k, enum vm_stop reason, const char *detail)
{
	pthread_mutex_lock(&k->lock);
	if (k->end_reason < 0) {
		k->end_reason = (int)reason;
		k->end_detail = detail ? xstrdup(detail) : NULL;
	}
	k->stop = true;
	kvm_kick(k);
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->lock);
}

/* Between two entries into the guest: waits while the machine is paused. False: leave. */
static bool may_run(struct kvm_vcpu *v)
{
	struct kvm_machine *k = v->k;
	bool go;

	if (!attention(k))
		return true;
	pthread_mutex_lock(&k->lock);
	if (k->pause && !k->stop) {
		k->parked++;
		pthread_cond_broadcast(&k->cond);
		while (k->pause && !k->stop)
			pthread_cond_wait(&k->cond, &k->lock);
		k->parked--;
		/* Tells the guest that the lost time was not its fault (no soft-lockup report). */
		ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
	}
	go = !k->stop;
	pthread_mutex_unlock(&k->lock);
	return go;
}

/* ---- port I/O, a byte at a time: every device of ours is that narrow ---- */

static uint8_t port_read(struct kvm_machine *k, uint16_t port)
{
	if (port >= UART_BASE && port < UART_BASE + UART_SIZE)
		return uart_read(&k->uart, port - UART_BASE);
	if (port == ACPI_SLEEP_STATUS || port == ACPI_SLEEP_CONTROL)
		return 0;
	if (port == PORT_I8042)
		return I8042_STATUS_OK;
	return 0xff;
}

static void port_write(struct kvm_machine *k, uint16_t port, uint8_t val)
{
	if (port >= UART_BASE && port < UART_BASE + UART_SIZE)
		uart_write(&k->uart, port - UART_BASE, val);
	else if (port == ACPI_SLEEP_CONTROL && val == (ACPI_SLP_EN | ACPI_S5_SLP_TYP << 2))
		kvm_end(k, VM_STOP_POWEROFF, NULL);
	else if ((port == ACPI_RESET && val == ACPI_RESET_VALUE) ||
		 (port == PORT_I8042 && val == I8042_PULSE_RESET))
		kvm_end(k, VM_STOP_RESET, NULL);
}

static void port_io(struct kvm_vcpu *v)
{
	const struct kvm_run *r = v->run;
	uint64_t bytes = (uint64_t)r->io.size * r->io.count, i;
	uint8_t *p = (uint8_t *)v->run + r->io.data_offset;

	for (i = 0; i < bytes; i++) {
		uint16_t port = (uint16_t)(r->io.port + i % r->io.size);

		if (r->io.direction == KVM_EXIT_IO_IN)
			p[i] = port_read(v->k, port);
		else
			port_write(v->k, port, p[i]);
	}
}

static void mmio(struct kvm_vcpu *v)
{
	struct kvm_run *r = v->run;
	uint64_t n = (r->mmio.phys_addr - MMIO_BASE) / MMIO_SIZE;
	uint64_t off = (r->mmio.phys_addr - MMIO_BASE) % MMIO_SIZE;
	unsigned len = MIN(r->mmio.len, (uint32_t)sizeof(r->mmio.data));

	if (r->mmio.phys_addr < MMIO_BASE || n >= v->k->vm->ndevs) {
		if (!r->mmio.is_write)
			memset(r->mmio.data, 0xff, sizeof(r->mmio.data));
		return;
	}
	if (r->mmio.is_write)
		vmmio_write(&v->k->mmio[n], off, r->mmio.data, len);
	else
		vmmio_read(&v->k->mmio[n], off, r->mmio.data, len);
}

static void system_event(struct kvm_vcpu *v)
{
	uint32_t type = v->run->system_event.type;

	if (type == KVM_SYSTEM_EVENT_SHUTDOWN)
		kvm_end(v->k, VM_STOP_POWEROFF, NULL);
	else if (type == KVM_SYSTEM_EVENT_CRASH)
		kvm_end(v->k, VM_STOP_PANIC, NULL);
	else
		kvm_end(v->k, VM_STOP_RESET, NULL);
}

/* The guest did what KVM cannot carry on with: its registers say where. */
static void crash(struct kvm_vcpu *v, const char *what, uint64_t code)
{
	CLEANUP_FREE char *detail = NULL;
	struct kvm_regs regs = {0};

	ioctl(v->fd, KVM_GET_REGS, &regs);
	detail = xasprintf("vCPU %u: %s (code %#llx) at rip %#llx", v->index, what,
			   (unsigned long long)code, (unsigned long long)regs.rip);
	kvm_end(v->k, VM_STOP_CRASH, detail);
}

/* A triple fault is how Linux resets with reboot=t; which CPU it was tells one that was meant from one that was not. (AMD's
 * leaves no registers behind that say more.) */
static void reset(struct kvm_vcpu *v)
{
	CLEANUP_FREE char *detail = xasprintf("triple fault of vCPU %u", v->index);

	kvm_end(v->k, VM_STOP_RESET, detail);
}

static void handle_exit(struct kvm_vcpu *v)
{
	struct kvm_run *r = v->run;

	switch (r->exit_reason) {
	case KVM_EXIT_IO:
		port_io(v);
		break;
	case KVM_EXIT_MMIO:
		mmio(v);
		break;
	case KVM_EXIT_SHUTDOWN:
		reset(v);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		system_event(v);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		crash(v, "KVM internal error", r->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		crash(v, "KVM cannot enter the guest", r->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		crash(v, "unexpected exit from KVM_RUN", r->exit_reason);
		break;
	}
}

static void leave(struct kvm_machine *k)
{
	enum vm_stop reason = VM_STOP_KILLED;
	CLEANUP_FREE char *detail = NULL;
	bool last;

	pthread_mutex_lock(&k->lock);
	last = --k->live == 0;
	if (last) {
		if (k->end_reason >= 0)
			reason = (enum vm_stop)k->end_reason;
		detail = STEAL(k->end_detail);
	}
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->lock);
	if (last) {
		uart_flush(&k->uart);
		vm_report_stop(k->vm, reason, detail);
	}
}

static void block_signals(void)
{
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, KVM_KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

void *kvm_vcpu_main(void *arg)
{
	struct kvm_vcpu *v = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(pthread_self(), name);
	block_signals();
	filter_thread(FILTER_VCPU);
	if (v->index == 0 && may_run(v))
		vm_first_run(v->k->vm);
	while (may_run(v)) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0) {
			handle_exit(v);
		} else if (errno == EINTR || errno == EAGAIN) {
			/* First this, then the look at `attention`: a kick in between is not lost. */
			__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		} else {
			crash(v, "KVM_RUN failed", (uint64_t)errno);
		}
	}
	leave(v->k);
	return NULL;
}
