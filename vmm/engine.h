/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - inside vmm/: what an engine implements and what vm.c offers to it.
 *
 * DOC: Theory of operation
 * vm.c owns what both engines share: guest memory, the list of virtio devices, the callbacks of vm_config. An engine
 * (kvm.c, qemu.c) puts vCPUs around them. Whatever an engine has to tell (console bytes, the end of the machine) goes
 * through vm_report_*(), which any thread may call; vm.c hands it to the owner on the loop's thread, console bytes
 * always before the end they explain, and the end exactly once.
 */
#ifndef VMM_ENGINE_H
#define VMM_ENGINE_H

#include <pthread.h>
#include "core/str.h"
#include "vmm/gmem.h"
#include "vmm/virtio.h"
#include "vmm/vm.h"

/* Of the kvm engine one IOAPIC pin from 5 to 23 each. With ioapic2=on the qemu engine had 24, whose interrupts get lost on QEMU 7.2. */
#define VM_MAX_DEVS    16
#define VM_QEMU_DEVS   8
#define VM_MAX_VCPUS   64
#define VM_CMDLINE_MAX 2047 /* Linux's COMMAND_LINE_SIZE without its NUL */

struct vm_ops {
	const char *name;
	/* Sees the whole configuration (only borrowed); memory and devices are there already. On failure destroy() is
	 * still called. */
	int (*create)(struct vm *vm, const struct vm_config *cfg, struct error **err);
	/* start: child processes. run: threads, none of which enters the guest before go, which cannot fail. All may be
	 * NULL. */
	int (*start)(struct vm *vm, struct error **err);
	int (*run)(struct vm *vm, struct error **err);
	void (*go)(struct vm *vm);
	/* Asks for the end and returns; vm_report_stop(VM_STOP_KILLED) follows. Harmless when it has ended. */
	void (*kill)(struct vm *vm);
	int (*pause)(struct vm *vm, struct error **err);
	int (*resume)(struct vm *vm, struct error **err);
	/* A network card's link was lost: for an engine that keeps the cards' configuration itself; may be NULL. */
	void (*links)(struct vm *vm);
	/* Of an engine that has a balloon of its own; as vm_balloon(). */
	void (*balloon)(struct vm *vm, uint64_t bytes);
	/* Of an engine whose machines may hang; as vm_again(). */
	void (*again)(struct vm *vm);
	/* Ends what runs, waits for it, and frees priv. priv may be NULL. */
	void (*destroy)(struct vm *vm);
};

enum vm_state { VM_CREATED, VM_RUNNING, VM_PAUSED, VM_ENDED };

struct vm {
	struct loop *loop;
	const struct vm_ops *ops;
	void *priv; /* the engine's */
	unsigned vcpus;
	uint64_t mem_bytes;
	struct gmem mem;
	struct virtio_dev *devs[VM_MAX_DEVS];
	unsigned ndevs;
	enum vm_state state; /* loop thread */
	struct vm_times times;

	void (*console)(void *arg, const void *p, size_t len);
	void (*stopped)(void *arg, int reason, const char *detail);
	int (*confine)(void *arg, enum vm_confine what, struct error **err);
	void *arg;
	unsigned own_uid;

	/* The way from any thread to the loop. */
	int event_fd;
	struct loop_source *event_src;
	pthread_mutex_t event_lock; /* guards the fields below */
	struct buf console_buf;
	uint64_t console_lost;
	bool links_changed;
	bool ended;
	int end_reason;
	char *end_detail;

	/* Loop thread: a matcher for "Kernel panic" in the console's bytes. */
	unsigned panic_match;
	bool panic_seen;
};

/* vm_report_console: guest console bytes, from any thread. At most VM_CONSOLE_MAX wait for the loop; more are
 * dropped and counted, so that a guest that floods its console cannot grow this process. */
#define VM_CONSOLE_MAX (1u << 20)
void vm_report_console(struct vm *vm, const void *p, size_t len);

/* vm_report_stop: the machine has ended (nothing of it runs any more), from any thread. The first report counts.
 * VM_STOP_RESET becomes VM_STOP_PANIC when the console told of a kernel panic. detail may be NULL; copied. */
void vm_report_stop(struct vm *vm, enum vm_stop reason, const char *detail);

/* vm_report_links: makes ops->links run on the loop's thread; arg is the vm. Any thread. */
void vm_report_links(void *arg);

/* vm_first_run: notes the time at which the first vCPU entered the guest; once. Any thread. */
void vm_first_run(struct vm *vm);

extern const struct vm_ops vm_kvm_ops, vm_qemu_ops;

/*
 * kvm_probe: can /dev/kvm run a Linux guest? Runs a guest of a few instructions for at most 200 ms (three times when it
 * is only too slow). 0, with *why a
 * phrase about what was seen, or -1 with *why the reason in a phrase. *why is owned by the caller. Not bound to a
 * thread, but installs the handler of KVM_KICK_SIGNAL.
 */
int kvm_probe(char **why);

#endif
