/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_setup.c - a vCPU's state before it runs: CPUID, MSRs, local APIC, and the registers of the kernel's entry. */
#include <sys/ioctl.h>

#include "vmm/kvm.h"

#define MSR_FEAT_CTL      0x3a
#define FEAT_CTL_LOCKED   (1u << 0)
#define FEAT_CTL_VMX      (1u << 2) /* outside SMX */
#define MSR_MISC_ENABLE   0x1a0
#define MISC_FAST_STRING  1
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE       (1u << 11)
#define MTRR_WRITE_BACK   6
#define APIC_LVT_LINT0    0x350
#define APIC_LVT_LINT1    0x360
#define APIC_MODE_EXTINT  0x700
#define APIC_MODE_NMI     0x400
#define CR0_PE            (1u << 0)
#define CR0_ET            (1u << 4)
#define CR0_PG            (1u << 31)
#define CR4_PAE           (1u << 5)
#define EFER_LME          (1u << 8)
#define EFER_LMA          (1u << 10)
#define RFLAGS_FIXED      2
#define SEL_CODE64        0x10 /* into boot.c's GDT */
#define SEL_DATA          0x18
#define SEL_CODE32        0x20
#define GDT_LIMIT         (5 * 8 - 1)
#define BOOT_STACK        0x8ff0

static int set_cpuid(struct kvm_machine *k, struct kvm_vcpu *v, struct error **err)
{
	CLEANUP_FREE struct kvm_cpuid2 *c = xmalloc(KVM_CPUID_BYTES);

	memcpy(c, k->cpuid, KVM_CPUID_BYTES);
	kvm_cpuid_adapt(c, v->index, k->nvcpus, k->nested);
	if (ioctl(v->fd, KVM_SET_CPUID2, c) < 0)
		return error_sys(err, errno, "KVM_SET_CPUID2");
	return 0;
}

/* The firmware's part: fast strings on, all memory write-back unless the kernel maps it otherwise. */
static int set_msrs(const struct kvm_vcpu *v, struct error **err)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e[2];
	} m = {
		.h.nmsrs = 2,
		.e = {{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK},
		      {.index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING}},
	};

	/* The count that went in is returned: a host may stop at an MSR it does not know, so the needed one is first. */
	if (ioctl(v->fd, KVM_SET_MSRS, &m) < 0)
		return error_sys(err, errno, "KVM_SET_MSRS");
	return 0;
}

/* The firmware's part of VMX: without it the instructions are there and refused (SDM 3C, 24.7). */
static int set_vmx(const struct kvm_machine *k, const struct kvm_vcpu *v, struct error **err)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e[1];
	} m = {.h.nmsrs = 1,
	       .e = {{.index = MSR_FEAT_CTL, .data = FEAT_CTL_LOCKED | FEAT_CTL_VMX}}};

	if (!k->nested || kvm_cpuid_nested(k->cpuid) != KVM_NESTED_VMX)
		return 0;
	if (ioctl(v->fd, KVM_SET_MSRS, &m) != 1)
		return error_sys(err, errno, "KVM_SET_MSRS: turn VMX on");
	return 0;
}

static int set_lapic(const struct kvm_vcpu *v, struct error **err)
{
	static const struct {
		uint32_t reg, val;
	} lvt[] = {{APIC_LVT_LINT0, APIC_MODE_EXTINT}, {APIC_LVT_LINT1, APIC_MODE_NMI}};
	struct kvm_lapic_state s;
	unsigned i;

	if (ioctl(v->fd, KVM_GET_LAPIC, &s) < 0)
		return error_sys(err, errno, "KVM_GET_LAPIC");
	for (i = 0; i < ARRAY_SIZE(lvt); i++)
		memcpy(s.regs + lvt[i].reg, &lvt[i].val, sizeof(lvt[i].val));
	if (ioctl(v->fd, KVM_SET_LAPIC, &s) < 0)
		return error_sys(err, errno, "KVM_SET_LAPIC");
	return 0;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool lng)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .db = !lng,
				    .s = 1,
				    .l = lng,
				    .g = 1};
}

static int set_sregs(const struct kvm_machine *k, const struct kvm_vcpu *v, struct error **err)
{
	bool pvh = k->kernel.pvh;
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return error_sys(err, errno, "KVM_GET_SREGS");
	s.cs = flat(pvh ? SEL_CODE32 : SEL_CODE64, 0xb, !pvh);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(SEL_DATA, 3, false);
	s.tr = (struct kvm_segment){.limit = 0x67, .type = 0xb, .present = 1};
	s.gdt.base = BOOT_GDT_GPA;
	s.gdt.limit = GDT_LIMIT;
	s.idt.limit = 0;
	s.cr0 = CR0_PE | CR0_ET;
	if (!pvh) {
		s.cr0 |= CR0_PG;
		s.cr3 = BOOT_PAGES_GPA;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
	}
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return error_sys(err, errno, "KVM_SET_SREGS");
	return 0;
}

static int set_regs(const struct kvm_machine *k, const struct kvm_vcpu *v, struct error **err)
{
	struct kvm_regs r = {.rip = k->kernel.entry, .rflags = RFLAGS_FIXED};

	if (k->kernel.pvh) {
		r.rbx = BOOT_START_GPA;
	} else {
		r.rsi = BOOT_ZERO_GPA;
		r.rsp = r.rbp = BOOT_STACK;
	}
	if (ioctl(v->fd, KVM_SET_REGS, &r) < 0)
		return error_sys(err, errno, "KVM_SET_REGS");
	return 0;
}

int kvm_vcpu_setup(struct kvm_machine *k, struct kvm_vcpu *v, struct error **err)
{
	if (set_cpuid(k, v, err) || set_msrs(v, err) || set_vmx(k, v, err) || set_lapic(v, err))
		return -1;
	if (v->index == 0 && (set_sregs(k, v, err) || set_regs(k, v, err)))
		return -1;
	return 0;
}
