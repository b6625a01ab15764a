/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - one microVM: what the runtime role sees of vmm/.
 *
 * DOC: Theory of operation
 * A VM is guest memory (a memfd), vCPUs, and virtio devices served in this process. Two engines run
 * the vCPUs: kvm   our VMM on /dev/kvm: threads, in-kernel irqchip, virtio-mmio transport,
 * ioeventfd and irqfd; qemu  qemu-system-x86_64 -M microvm with TCG as a CPU only; the same devices
 * are served over vhost-user. Everything here is called on the loop's thread; callbacks come on it
 * too.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <sys/uio.h>
#include "core/loop.h"
#include "vmm/vsock.h"

enum vm_engine { VM_ENGINE_AUTO, VM_ENGINE_KVM, VM_ENGINE_QEMU };

/* A piece of a disk: len bytes of fd from off. len must be a multiple of 512 but for the last
 * segment, which is padded with zeroes up to the next sector. Descriptors are borrowed. */
struct vm_segment {
	int fd;
	uint64_t off, len;
};

struct vm_disk {
	const struct vm_segment *segs; /* shown to the guest as one disk, in order */
	size_t nsegs;
	bool readonly;   /* enforced by the device */
	char serial[21]; /* virtio-blk id string */
	unsigned queues; /* 0: vm_new() chooses */
};

#define VM_NIC_QUEUES 8

/* A network card. Each descriptor is a queue of one tap (IFF_TAP|IFF_NO_PI|IFF_VNET_HDR, and IFF_MULTI_QUEUE when there
 * are several), or the only one is a connected stream socket as passt speaks on it (vmm/net_stream.h). Borrowed. What
 * the guest sends must come from these addresses (vmm/net_filter.h). */
struct vm_nic {
	int fd[VM_NIC_QUEUES];
	unsigned nfds;
	uint8_t mac[6];
	uint16_t mtu;
	uint8_t ip4[4]; /* network byte order; zero: none */
	uint8_t ip6[16];
	bool has_ip6;
};

struct fs_channel;

/* PROCESS: children are started, threads are not, nothing has to be opened any more. CALLS: all threads are there and
 * have their filters; the calling one is the last. */
enum vm_confine { VM_CONFINE_PROCESS, VM_CONFINE_CALLS };

struct vm_config {
	enum vm_engine engine; /* KVM or QEMU, already chosen */
	unsigned vcpus;
	uint64_t mem_bytes;         /* multiple of 2 MiB */
	int kernel_fd;              /* ELF vmlinux (vmm/kernel.h made it) */
	const struct iovec *initrd; /* concatenated into one initramfs; borrowed during vm_new */
	size_t ninitrd;
	const char *cmdline;         /* our words; the engine adds its own */
	const struct vm_disk *disks; /* appear as /dev/vda, /dev/vdb, … in this order */
	size_t ndisks;
	const struct vm_nic *nics; /* eth0, eth1, … */
	size_t nnics;
	struct fs_channel
		*fs; /* where requests on shared directories go (vmm/fs.h); NULL: none; borrowed */
	uint64_t cid;
	const char *run_dir;    /* for sockets of the qemu engine; private to this VM */
	const char *qemu_path;  /* NULL: search PATH */
	uint64_t tsc_khz;       /* vm_tsc_khz(), for the qemu engine; 0: vm_new() measures it */
	vsock_accept_fn accept; /* guest's vsock connections */
	/* Bytes the guest wrote to its console. The receiver bounds what it keeps. */
	void (*console)(void *arg, const void *p, size_t len);
	/* The machine is gone; called once. Exit status is not known here (the agent told it
	 * before). */
	void (*stopped)(void *arg, int reason, const char *detail);
	/* Called twice by vm_start(), always before the guest's first instruction; may be NULL. -1: the start fails. */
	int (*confine)(void *arg, enum vm_confine what, struct error **err);
	void *arg;        /* for all four */
	unsigned own_uid; /* user and group of the qemu engine's child; 0: as we are */
	bool nested; /* the guest is offered virtualization; where the host cannot, vm_new() fails with VM_NO_NESTED */
};

enum vm_stop { VM_STOP_POWEROFF, VM_STOP_RESET, VM_STOP_PANIC, VM_STOP_CRASH, VM_STOP_KILLED };

#define VM_NO_NESTED "nested virtualization is not supported on the platform"

struct vm;

/* vm_disks_max: how many disks the machine may have beside the configuration's other devices and a balloon. */
size_t vm_disks_max(const struct vm_config *cfg);
/* vm_new: builds the machine: memory, kernel and initramfs in place, devices ready; nothing runs
 * yet, not even a thread. */
struct vm *vm_new(struct loop *l, const struct vm_config *cfg, struct error **err);
int vm_start(struct vm *vm, struct error **err);
/* vm_kill: stops at once, wherever the guest is; `stopped` follows from the loop. */
void vm_kill(struct vm *vm);
int vm_pause(struct vm *vm, struct error **err);
int vm_resume(struct vm *vm, struct error **err);
/* vm_again: a machine that does not come up begins anew, as with a reset button. For an engine on which it may help; elsewhere false, and
 * nothing happens. */
bool vm_again(struct vm *vm);
/* vm_log_queues: warns of where each device's queues are, for a machine that hangs. */
void vm_log_queues(const struct vm *vm);
/* vm_disks_work: whether the guest's disks have something to do, or had since *seen, which is renewed (0 at first). */
bool vm_disks_work(const struct vm *vm, uint64_t *seen);
/* vm_balloon: asks the guest to do without so many bytes of its memory, which the host gets back. It may give fewer, and
 * takes them again when it would run out. Nothing happens in a machine whose devices left no room for a balloon. */
void vm_balloon(struct vm *vm, uint64_t bytes);
/* vm_free: stops if needed (without calling `stopped`) and gives everything back. */
void vm_free(struct vm *vm);

/* Milestones in CLOCK_MONOTONIC microseconds, 0 if not reached. */
struct vm_times {
	uint64_t created, started, first_run;
};
void vm_times(const struct vm *vm, struct vm_times *t);

/*
 * vm_engine_choose: resolves AUTO. kvm when /dev/kvm passes a self-test (a few-instruction guest
 * that must run at native speed and execute what only real virtualization can: cmpxchg16b, int3,
 * XSAVE), else qemu when the program is there. An explicit wish that cannot be met is an error.
 * *why says in a phrase which and why; owned by the caller. With neither usable the error
 * (unsupported) names both remedies.
 */
int vm_engine_choose(enum vm_engine wish, const char *qemu_path, enum vm_engine *out, char **why,
		     struct error **err);
/* vm_tsc_khz: the rate of the host's time stamp counter. Takes 20 ms. Any thread. */
uint64_t vm_tsc_khz(void);
const char *vm_engine_name(enum vm_engine e);
int vm_engine_parse(const char *s, enum vm_engine *out);

#endif
