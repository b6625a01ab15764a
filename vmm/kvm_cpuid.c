/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_cpuid.c - the processor a guest sees: what KVM supports, with a topology of n single-threaded cores in one
 * package, and without what makes no sense inside (performance counters, power management). Virtualization is for those
 * machines only that are to have it.
 */
#include <sys/ioctl.h>

#include "vmm/kvm.h"

#define BIT(n) (1u << (n))

/* leaf 1 */
#define L1_ECX_DTES64       BIT(2)
#define L1_ECX_MONITOR      BIT(3)
#define L1_ECX_VMX          BIT(5)
#define L1_ECX_PDCM         BIT(15)
#define L1_ECX_X2APIC       BIT(21)
#define L1_ECX_TSC_DEADLINE BIT(24)
#define L1_ECX_HYPERVISOR   BIT(31)
#define L1_EDX_DS           BIT(21)
#define L1_EDX_HTT          BIT(28)
/* leaf 6 */
#define L6_EAX_ARAT BIT(2) /* the APIC timer never stops */
/* leaf 0x80000001 */
#define L81_ECX_SVM        BIT(2)
#define L81_ECX_CMP_LEGACY BIT(1)
#define L81_ECX_PERFCTRS   (BIT(23) | BIT(24) | BIT(28)) /* core, north bridge, last level cache */
/* leaf 0xb level types */
#define LEVEL_SMT  1
#define LEVEL_CORE 2

static unsigned core_bits(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static struct kvm_cpuid_entry2 *add_entry(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e;

	if (c->nent >= KVM_CPUID_MAX)
		return NULL;
	e = &c->entries[c->nent++];
	*e = (struct kvm_cpuid_entry2){.function = function,
				       .index = index,
				       .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	return e;
}

static void drop_function(struct kvm_cpuid2 *c, uint32_t function)
{
	unsigned i, kept = 0;

	for (i = 0; i < c->nent; i++)
		if (c->entries[i].function != function)
			c->entries[kept++] = c->entries[i];
	c->nent = kept;
}

/* Extended topology (leaf 0xb): threads, then cores; a third entry of type 0 ends the list. */
static void add_topology(struct kvm_cpuid2 *c, unsigned index, unsigned n)
{
	const struct {
		uint32_t shift, count, type;
	} level[] = {{0, 1, LEVEL_SMT}, {core_bits(n), n, LEVEL_CORE}, {0, 0, 0}};
	uint32_t i;

	drop_function(c, 0xb);
	drop_function(c, 0x1f);
	for (i = 0; i < ARRAY_SIZE(level); i++) {
		struct kvm_cpuid_entry2 *e = add_entry(c, 0xb, i);

		if (!e)
			return;
		e->eax = level[i].shift;
		e->ebx = level[i].count;
		e->ecx = level[i].type << 8 | i;
		e->edx = index;
	}
}

/* Caches: level 3 and up is shared by all, the lower ones by nobody. eax: bits 5..7 level, 14..25 sharers - 1. */
static uint32_t cache_sharing(uint32_t eax, unsigned n)
{
	uint32_t level = eax >> 5 & 7, sharers = level >= 3 ? n - 1 : 0;

	return (eax & ~(0xfffu << 14)) | sharers << 14;
}

static void adapt_leaf_4(struct kvm_cpuid_entry2 *e, unsigned n)
{
	if (!(e->eax & 0x1f))
		return;
	e->eax = cache_sharing(e->eax, n);
	e->eax = (e->eax & ~(0x3fu << 26)) | (n - 1) << 26;
}

static void adapt_leaf_1(struct kvm_cpuid_entry2 *e, unsigned index, unsigned n)
{
	e->ebx = (e->ebx & 0xffff) | n << 16 | index << 24;
	e->ecx &= ~(L1_ECX_MONITOR | L1_ECX_PDCM | L1_ECX_DTES64);
	e->edx &= ~L1_EDX_DS;
	e->ecx |= L1_ECX_HYPERVISOR | L1_ECX_X2APIC | L1_ECX_TSC_DEADLINE;
	if (n > 1)
		e->edx |= L1_EDX_HTT;
	else
		e->edx &= ~L1_EDX_HTT;
}

static void adapt_entry(struct kvm_cpuid_entry2 *e, unsigned index, unsigned n)
{
	switch (e->function) {
	case 0x1:
		adapt_leaf_1(e, index, n);
		break;
	case 0x4:
		adapt_leaf_4(e, n);
		break;
	case 0x6:
		e->eax = L6_EAX_ARAT;
		e->ebx = e->ecx = e->edx = 0;
		break;
	case 0xa: /* performance counters: Intel's, and AMD's second version */
	case 0x80000022:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000001:
		e->ecx &= ~(L81_ECX_CMP_LEGACY | L81_ECX_PERFCTRS);
		if (n > 1)
			e->ecx |= L81_ECX_CMP_LEGACY;
		break;
	case 0x80000008: /* AMD: number of cores - 1, and how many bits of the APIC id say which */
		e->ecx = core_bits(n) << 12 | (n - 1);
		break;
	case 0x8000001d:
		if (e->eax & 0x1f)
			e->eax = cache_sharing(e->eax, n);
		break;
	case 0x8000001e: /* extended APIC id; core id, one thread a core; one node */
		e->eax = index;
		e->ebx = index;
		e->ecx = 0;
		break;
	default:
		break;
	}
}

static void hide_virtualization(struct kvm_cpuid2 *c)
{
	unsigned i;

	drop_function(c, 0x8000000a); /* SVM's own leaf */
	for (i = 0; i < c->nent; i++) {
		if (c->entries[i].function == 0x1)
			c->entries[i].ecx &= ~L1_ECX_VMX;
		if (c->entries[i].function == 0x80000001)
			c->entries[i].ecx &= ~L81_ECX_SVM;
	}
}

enum kvm_nested kvm_cpuid_nested(const struct kvm_cpuid2 *c)
{
	enum kvm_nested kind = KVM_NESTED_NONE;
	unsigned i;

	for (i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == 0x1 && e->ecx & L1_ECX_VMX)
			kind = KVM_NESTED_VMX;
		if (e->function == 0x80000001 && e->ecx & L81_ECX_SVM)
			kind = KVM_NESTED_SVM;
	}
	return kind;
}

void kvm_cpuid_adapt(struct kvm_cpuid2 *c, unsigned index, unsigned n, bool nested)
{
	unsigned i;

	if (!nested)
		hide_virtualization(c);
	for (i = 0; i < c->nent; i++)
		adapt_entry(&c->entries[i], index, n);
	add_topology(c, index, n);
}

int kvm_cpuid_supported(int sys_fd, struct kvm_cpuid2 *out, struct error **err)
{
	/* Room for the topology entries, which KVM may report fewer of. */
	out->nent = KVM_CPUID_MAX - 4;
	if (ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, out) < 0)
		return error_sys(err, errno, "KVM_GET_SUPPORTED_CPUID");
	return 0;
}
