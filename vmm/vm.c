/* SPDX-License-Identifier: Apache-2.0 */
/* vm.c - what both engines share: memory, devices, and the way of their news to the owner's loop. */
#include <sys/eventfd.h>

#include "core/log.h"
#include "vmm/engine.h"

#define MEM_UNIT    (2ull << 20)
#define MEM_MIN     (32ull << 20)
#define DISK_QUEUES 4u

static int check_config(const struct vm_config *cfg, struct error **err)
{
	if (cfg->engine != VM_ENGINE_KVM && cfg->engine != VM_ENGINE_QEMU)
		return error_set(err, ERR_INVALID_ARGUMENT, "no engine chosen");
	if (cfg->vcpus < 1 || cfg->vcpus > VM_MAX_VCPUS)
		return error_set(err, ERR_INVALID_ARGUMENT, "a VM has 1 to %d CPUs, not %u",
				 VM_MAX_VCPUS, cfg->vcpus);
	if (cfg->mem_bytes < MEM_MIN || cfg->mem_bytes % MEM_UNIT)
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"a VM's memory is a multiple of 2 MiB from %llu MiB on, not %llu bytes",
			MEM_MIN >> 20, (unsigned long long)cfg->mem_bytes);
	if (!cfg->console || !cfg->stopped)
		return error_set(err, ERR_INVALID_ARGUMENT, "a VM needs its callbacks");
	return 0;
}

/* ---- devices ---- */

static int add_device(struct vm *vm, struct virtio_dev *dev, struct error **err)
{
	if (!dev)
		return -1;
	if (vm->ndevs == VM_MAX_DEVS) {
		virtio_free(dev);
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d devices in one VM",
				 VM_MAX_DEVS);
	}
	vm->devs[vm->ndevs++] = dev;
	return 0;
}

static void virtio_console_out(void *arg, const void *p, size_t len)
{
	vm_report_console(arg, p, len);
}

size_t vm_disks_max(const struct vm_config *cfg)
{
	bool kvm = cfg->engine == VM_ENGINE_KVM;
	size_t all = kvm ? VM_MAX_DEVS : VM_QEMU_DEVS;
	/* The generator of random numbers and the balloon are always there; QEMU's console is a serial port. */
	size_t others = cfg->nnics + (cfg->accept != NULL) + (cfg->fs != NULL) + 2 + kvm;

	return others < all ? all - others : 0;
}

/* The order is the guest's naming: the first disk is vda, the first NIC eth0. */
static int add_devices(struct vm *vm, const struct vm_config *cfg, struct error **err)
{
	const struct gmem *m = &vm->mem;
	struct loop *l = vm->loop;
	size_t i;

	for (i = 0; i < cfg->ndisks; i++) {
		struct vm_disk d = cfg->disks[i];

		/* One for each CPU, up to where more threads would only wait for the same disk. */
		d.queues = d.queues ? d.queues : MIN(cfg->vcpus, DISK_QUEUES);
		if (add_device(vm, virtio_blk_new(l, m, &d, err), err))
			return -1;
	}
	for (i = 0; i < cfg->nnics; i++)
		if (add_device(vm, virtio_net_new(l, m, &cfg->nics[i], err), err))
			return -1;
	if (cfg->accept &&
	    add_device(vm, virtio_vsock_new(l, m, cfg->cid, cfg->accept, cfg->arg, err), err))
		return -1;
	if (add_device(vm, virtio_rng_new(l, m, err), err))
		return -1;
	if (cfg->fs && add_device(vm, virtio_fs_new(l, m, cfg->fs, err), err))
		return -1;
	/* QEMU brings a serial port and a balloon of its own. */
	if (cfg->engine != VM_ENGINE_KVM)
		return 0;
	if (add_device(vm, virtio_console_new(l, m, virtio_console_out, vm, err), err))
		return -1;
	return add_device(vm, virtio_balloon_new(l, m, err), err);
}

/* ---- news from any thread ---- */

static void wake(struct vm *vm)
{
	uint64_t one = 1;

	if (write(vm->event_fd, &one, sizeof(one)) < 0)
		log_debug("vm: event descriptor is full");
}

void vm_report_console(struct vm *vm, const void *p, size_t len)
{
	size_t room, n;

	pthread_mutex_lock(&vm->event_lock);
	room = VM_CONSOLE_MAX - vm->console_buf.len;
	n = MIN(len, room);
	buf_append(&vm->console_buf, p, n);
	vm->console_lost += len - n;
	pthread_mutex_unlock(&vm->event_lock);
	wake(vm);
}

void vm_report_stop(struct vm *vm, enum vm_stop reason, const char *detail)
{
	pthread_mutex_lock(&vm->event_lock);
	if (!vm->ended) {
		vm->ended = true;
		vm->end_reason = (int)reason;
		vm->end_detail = detail ? xstrdup(detail) : NULL;
	}
	pthread_mutex_unlock(&vm->event_lock);
	wake(vm);
}

void vm_report_links(void *arg)
{
	struct vm *vm = arg;

	pthread_mutex_lock(&vm->event_lock);
	vm->links_changed = true;
	pthread_mutex_unlock(&vm->event_lock);
	wake(vm);
}

void vm_first_run(struct vm *vm)
{
	uint64_t none = 0;

	__atomic_compare_exchange_n(&vm->times.first_run, &none, time_mono_us(), false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* ---- and to the loop's ---- */

/* A K occurs in the phrase only at its start, so after a mismatch nothing but a K can begin a new match. */
static void watch_for_panic(struct vm *vm, const char *p, size_t len)
{
	static const char phrase[] = "Kernel panic";
	size_t i;

	for (i = 0; i < len && !vm->panic_seen; i++) {
		if (p[i] == phrase[vm->panic_match])
			vm->panic_match++;
		else
			vm->panic_match = p[i] == phrase[0];
		vm->panic_seen = vm->panic_match == sizeof(phrase) - 1;
	}
}

static void deliver_console(struct vm *vm, struct buf *b, uint64_t lost)
{
	CLEANUP_FREE char *note = NULL;

	if (b->len) {
		watch_for_panic(vm, b->data, b->len);
		vm->console(vm->arg, b->data, b->len);
	}
	if (lost) {
		note = xasprintf("\n[%llu bytes of console output lost]\n",
				 (unsigned long long)lost);
		vm->console(vm->arg, note, strlen(note));
	}
}

static void on_event(void *arg, int fd, uint32_t events)
{
	CLEANUP_FREE char *detail = NULL;
	CLEANUP_BUF struct buf b = {0};
	struct vm *vm = arg;
	uint64_t count, lost;
	int reason;
	bool ended, links;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&vm->event_lock);
	b = vm->console_buf;
	vm->console_buf = (struct buf){0};
	lost = vm->console_lost;
	vm->console_lost = 0;
	links = vm->links_changed;
	vm->links_changed = false;
	ended = vm->ended && vm->state != VM_ENDED;
	reason = vm->end_reason;
	if (ended)
		detail = STEAL(vm->end_detail);
	pthread_mutex_unlock(&vm->event_lock);

	/* The owner must not free the VM from its console callback, but may from `stopped`: that one is the last. */
	deliver_console(vm, &b, lost);
	if (links && vm->ops->links)
		vm->ops->links(vm);
	if (!ended)
		return;
	vm->state = VM_ENDED;
	/* What the guest queued last may not have been looked at: its kick can come behind its end. */
	for (unsigned i = 0; i < vm->ndevs; i++)
		virtio_drain(vm->devs[i]);
	if (reason == VM_STOP_RESET && vm->panic_seen)
		reason = VM_STOP_PANIC;
	vm->stopped(vm->arg, reason, detail);
}

static int make_event(struct vm *vm, struct error **err)
{
	vm->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->event_fd < 0)
		return error_sys(err, errno, "eventfd");
	vm->event_src = loop_add_fd(vm->loop, vm->event_fd, EPOLLIN, on_event, vm, err);
	return vm->event_src ? 0 : -1;
}

/* ---- vm.h ---- */

struct vm *vm_new(struct loop *l, const struct vm_config *cfg, struct error **err)
{
	struct vm *vm;

	if (check_config(cfg, err))
		return NULL;
	vm = xcalloc(1, sizeof(*vm));
	*vm = (struct vm){.loop = l,
			  .ops = cfg->engine == VM_ENGINE_KVM ? &vm_kvm_ops : &vm_qemu_ops,
			  .vcpus = cfg->vcpus,
			  .mem_bytes = cfg->mem_bytes,
			  .mem.fd = -1,
			  .console = cfg->console,
			  .stopped = cfg->stopped,
			  .confine = cfg->confine,
			  .arg = cfg->arg,
			  .own_uid = cfg->own_uid,
			  .event_fd = -1,
			  .times.created = time_mono_us()};
	pthread_mutex_init(&vm->event_lock, NULL);
	if (make_event(vm, err) || gmem_new(cfg->mem_bytes, &vm->mem, err) ||
	    add_devices(vm, cfg, err) || vm->ops->create(vm, cfg, err)) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

static int confine(struct vm *vm, enum vm_confine what, struct error **err)
{
	return vm->confine ? vm->confine(vm->arg, what, err) : 0;
}

static int start_workers(struct vm *vm, struct error **err)
{
	unsigned i;

	for (i = 0; i < vm->ndevs; i++)
		if (virtio_start_workers(vm->devs[i], err))
			return -1;
	return 0;
}

/* Threads have the namespaces and rights of the one that makes them: so they come after it has given up its own. */
int vm_start(struct vm *vm, struct error **err)
{
	if (vm->state != VM_CREATED)
		return error_set(err, ERR_INVALID_STATE, "the VM was started before");
	vm->times.started = time_mono_us();
	if ((vm->ops->start && vm->ops->start(vm, err)) || confine(vm, VM_CONFINE_PROCESS, err) ||
	    start_workers(vm, err) || (vm->ops->run && vm->ops->run(vm, err)) ||
	    confine(vm, VM_CONFINE_CALLS, err))
		return -1;
	vm->state = VM_RUNNING;
	if (vm->ops->go)
		vm->ops->go(vm);
	return 0;
}

void vm_kill(struct vm *vm)
{
	if (vm->state != VM_ENDED)
		vm->ops->kill(vm);
}

int vm_pause(struct vm *vm, struct error **err)
{
	if (vm->state == VM_PAUSED)
		return 0;
	if (vm->state != VM_RUNNING)
		return error_set(err, ERR_INVALID_STATE, "the VM does not run");
	if (vm->ops->pause(vm, err))
		return -1;
	vm->state = VM_PAUSED;
	return 0;
}

int vm_resume(struct vm *vm, struct error **err)
{
	if (vm->state == VM_RUNNING)
		return 0;
	if (vm->state != VM_PAUSED)
		return error_set(err, ERR_INVALID_STATE, "the VM does not run");
	if (vm->ops->resume(vm, err))
		return -1;
	vm->state = VM_RUNNING;
	return 0;
}

bool vm_again(struct vm *vm)
{
	if (vm->state != VM_RUNNING || !vm->ops->again)
		return false;
	vm->ops->again(vm);
	return true;
}

void vm_log_queues(const struct vm *vm)
{
	unsigned i;

	for (i = 0; i < vm->ndevs; i++)
		virtio_log_queues(vm->devs[i]);
}

bool vm_disks_work(const struct vm *vm, uint64_t *seen)
{
	uint64_t done = 0, before = *seen;
	bool now = false;
	unsigned i;

	for (i = 0; i < vm->ndevs; i++)
		if (vm->devs[i]->id == VIRTIO_ID_BLOCK)
			done += virtio_blk_work(vm->devs[i], &now);
	*seen = done;
	return now || done != before;
}

void vm_balloon(struct vm *vm, uint64_t bytes)
{
	unsigned i;

	bytes = MIN(bytes, vm->mem_bytes - MEM_MIN);
	for (i = 0; i < vm->ndevs; i++)
		if (vm->devs[i]->id == VIRTIO_ID_BALLOON)
			virtio_balloon_want(vm->devs[i], bytes);
	if (vm->ops->balloon)
		vm->ops->balloon(vm, bytes);
}

void vm_free(struct vm *vm)
{
	unsigned i;

	if (!vm)
		return;
	vm->ops->destroy(vm);
	for (i = 0; i < vm->ndevs; i++)
		virtio_free(vm->devs[i]);
	loop_source_free(vm->event_src);
	if (vm->event_fd >= 0)
		close(vm->event_fd);
	gmem_free(&vm->mem);
	buf_free(&vm->console_buf);
	free(vm->end_detail);
	pthread_mutex_destroy(&vm->event_lock);
	free(vm);
}

void vm_times(const struct vm *vm, struct vm_times *t)
{
	*t = vm->times;
	t->first_run = __atomic_load_n(&vm->times.first_run, __ATOMIC_RELAXED);
}
