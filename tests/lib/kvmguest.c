/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvmguest.c - runs in a container that was offered virtualization: says which version /dev/kvm speaks, and what a machine of
 * one instruction writes to a port. 16-bit code, so nothing needs to be set up.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define BASE 0x1000
#define PORT 0x10

static int must(const char *what, int rc)
{
	if (rc >= 0)
		return rc;
	perror(what);
	exit(1);
}

int main(void)
{
	static const uint8_t code[] = {
		0xb0, 42,   /* mov $42, %al */
		0xe6, PORT, /* out %al, $PORT */
		0xf4,       /* hlt */
	};
	int kvm = must("/dev/kvm", open("/dev/kvm", O_RDWR)), vm, vcpu, size;
	struct kvm_userspace_memory_region r = {.guest_phys_addr = BASE, .memory_size = 4096};
	struct kvm_sregs s;
	struct kvm_regs regs = {.rip = BASE, .rflags = 2};
	struct kvm_run *run;
	void *mem;

	printf("version %d\n", must("version", ioctl(kvm, KVM_GET_API_VERSION, 0)));
	vm = must("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0));
	mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(mem, code, sizeof(code));
	r.userspace_addr = (uintptr_t)mem;
	must("memory", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r));
	vcpu = must("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	size = must("size", ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	must("sregs", ioctl(vcpu, KVM_GET_SREGS, &s));
	s.cs.base = 0;
	s.cs.selector = 0;
	must("sregs", ioctl(vcpu, KVM_SET_SREGS, &s));
	must("regs", ioctl(vcpu, KVM_SET_REGS, &regs));
	must("KVM_RUN", ioctl(vcpu, KVM_RUN, 0));
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT) {
		printf("exit %u\n", run->exit_reason);
		return 1;
	}
	printf("the guest said %d\n", *((uint8_t *)run + run->io.data_offset));
	must("KVM_RUN", ioctl(vcpu, KVM_RUN, 0));
	return run->exit_reason != KVM_EXIT_HLT;
}
