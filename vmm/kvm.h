/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.h - inside the kvm engine: the machine, its vCPUs, and how they are stopped.
 *
 * DOC: Threads
 * One thread per vCPU lives in KVM_RUN. Whoever wants it out (pause, kill, another vCPU that ended the machine) sets
 * `attention`, then the vCPU's immediate_exit, then sends KVM_KICK_SIGNAL, whose handler does nothing: a signal that
 * comes just before KVM_RUN is caught by immediate_exit, one that comes during it ends it with EINTR. All other signals
 * are blocked in these threads. The last thread to leave reports the end, so when the owner hears of it nothing runs.
 */
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <linux/kvm.h>
#include <signal.h>
#include "vmm/boot.h"
#include "vmm/engine.h"
#include "vmm/mmio.h"
#include "vmm/uart.h"

#define KVM_KICK_SIGNAL (SIGRTMIN + 4)
#define KVM_CPUID_MAX   256

struct kvm_vcpu {
	struct kvm_machine *k;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool created; /* the thread, to be joined */
};

struct kvm_machine {
	struct vm *vm;
	int sys_fd, vm_fd;
	size_t run_size;
	unsigned nvcpus;
	bool nested; /* the guest may have virtualization */
	struct kvm_vcpu *vcpus;
	struct boot_kernel kernel;
	struct kvm_cpuid2 *cpuid; /* kvm_cpuid_supported()'s */

	struct vmmio mmio[VM_MAX_DEVS];
	int irq_fd[VM_MAX_DEVS]; /* eventfds bound to the interrupt lines */
	struct uart uart;
	int uart_irq_fd;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t cond;  /* parked or live changed, or pause ended */
	bool attention;       /* atomic: stop or pause is set */
	bool stop, pause;
	unsigned live, parked;
	int end_reason; /* -1: not decided */
	char *end_detail;
};

/* kvm_open: opens /dev/kvm and checks its API version. Returns the descriptor or -1. */
int kvm_open(struct error **err);
/* kvm_install_kick: installs the empty handler of KVM_KICK_SIGNAL; more than once is fine. */
void kvm_install_kick(void);

/* kvm_vcpu_setup: CPUID, MSRs, local APIC and, for vCPU 0, the registers of the kernel's entry. */
int kvm_vcpu_setup(struct kvm_machine *k, struct kvm_vcpu *v, struct error **err);
/* kvm_vcpu_main: a vCPU's thread; arg is a struct kvm_vcpu. */
void *kvm_vcpu_main(void *arg);
/* kvm_end: the machine is to end for this reason (the first one counts): every vCPU leaves soon. Any thread. */
void kvm_end(struct kvm_machine *k, enum vm_stop reason, const char *detail);
/* kvm_kick: makes every vCPU look at `attention`; with k->lock held. */
void kvm_kick(struct kvm_machine *k);

#define KVM_CPUID_BYTES \
	(sizeof(struct kvm_cpuid2) + KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2))
/* kvm_cpuid_supported: what KVM can show a guest; *out has KVM_CPUID_BYTES. Slow where the host is a guest itself. */
int kvm_cpuid_supported(int sys_fd, struct kvm_cpuid2 *out, struct error **err);
/* kvm_cpuid_adapt: edits that into what the guest's CPUID instruction answers on vCPU index of n; nested: it may have virtualization. */
void kvm_cpuid_adapt(struct kvm_cpuid2 *c, unsigned index, unsigned n, bool nested);
/* kvm_cpuid_nested: which virtualization is in there. Of what KVM supports: that which the host's kvm_intel or kvm_amd nests. */
enum kvm_nested { KVM_NESTED_NONE, KVM_NESTED_VMX, KVM_NESTED_SVM };
enum kvm_nested kvm_cpuid_nested(const struct kvm_cpuid2 *c);

#endif
