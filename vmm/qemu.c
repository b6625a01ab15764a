/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu.c - the engine that uses QEMU's TCG as a CPU only.
 *
 * QEMU runs a microvm machine on our memfd and knows none of our files: kernel, initramfs and memory are inherited descriptors
 * (named /proc/self/fd/N), each device is a vhost-user connection to this process (vhost_user.c), the serial port and
 * QMP are inherited sockets. It is confined by its own seccomp filter, dies with us (PR_SET_PDEATHSIG), and is ended by
 * SIGKILL alone.
 *
 * Pausing is SIGSTOP: QMP's `stop` would also stop the vhost-user rings, which to a device looks like the guest having
 * reset it.
 *
 * How it ended is told by QMP's SHUTDOWN event (qmp.c); without one, QEMU crashed and its last words are the detail.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/memfd.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/rpc.h"
#include "vmm/engine.h"
#include "vmm/agent.h"
#include "vmm/qemu_tree.h"
#include "vmm/qmp.h"
#include "vmm/vhost_user.h"

#define CHILD_FD0 3 /* proc_spawn() puts the first inherited descriptor here */
#define MAX_FDS   (VM_MAX_DEVS + 8)
#define WORDS_MAX 2048 /* of QEMU's stderr kept for the error's detail */
#define GUEST_HZ  250

FILTER_RULES = {
	/* Ours, for the child: console, QMP, its end; its network card's connection. */
	FILTER_ALLOW(FILTER_MAIN_QEMU, read),
	FILTER_ALLOW(FILTER_MAIN_QEMU, write),
	FILTER_ALLOW(FILTER_MAIN_QEMU, accept4),
	FILTER_ALLOW_ARG(FILTER_MAIN_QEMU, getsockopt, 2, ~0u, SO_PEERCRED),
	/* By descriptor: without root the helper has its user's id, and a number could be any of the user's processes. */
	FILTER_ALLOW_ARG(FILTER_MAIN_QEMU, pidfd_send_signal, 1, ~0u, SIGKILL),
	FILTER_ALLOW_ARG(FILTER_MAIN_QEMU, pidfd_send_signal, 1, ~0u, SIGSTOP),
	FILTER_ALLOW_ARG(FILTER_MAIN_QEMU, pidfd_send_signal, 1, ~0u, SIGCONT),
	FILTER_ALLOW(FILTER_MAIN_QEMU, wait4),
	/* The child's, on top of its own sandbox: what no QEMU needs to be a CPU, and what a way out begins with. */
	FILTER_DENY_BUT(socket, 0, ~0u, AF_UNIX), /* vsock, for one, knows no namespaces */
	FILTER_DENY(ptrace),
	FILTER_DENY(process_vm_readv),
	FILTER_DENY(process_vm_writev),
	FILTER_DENY(pidfd_getfd),
	FILTER_DENY(kcmp),
	FILTER_DENY(unshare),
	FILTER_DENY(setns),
	FILTER_DENY(clone3),
	FILTER_DENY_ARG(clone, 0, CLONE_NEWUSER, CLONE_NEWUSER), /* the others need a right */
	FILTER_DENY(mount),
	FILTER_DENY(umount2),
	FILTER_DENY(pivot_root),
	FILTER_DENY(chroot),
	FILTER_DENY(move_mount),
	FILTER_DENY(open_tree),
	FILTER_DENY(fsopen),
	FILTER_DENY(fsmount),
	FILTER_DENY(fspick),
	FILTER_DENY(mount_setattr),
	FILTER_DENY(open_by_handle_at),
	FILTER_DENY(name_to_handle_at),
	FILTER_DENY(bpf),
	FILTER_DENY(perf_event_open),
	FILTER_DENY(userfaultfd),
	FILTER_DENY(io_uring_setup), /* it does without */
	FILTER_DENY(keyctl),
	FILTER_DENY(add_key),
	FILTER_DENY(request_key),
	FILTER_DENY(init_module),
	FILTER_DENY(finit_module),
	FILTER_DENY(kexec_load),
	FILTER_DENY(mknod),
	FILTER_DENY(mknodat),
	FILTER_DENY(acct),
	FILTER_DENY(quotactl),
	FILTER_DENY(swapon),
	FILTER_DENY(reboot),
};

/* A network card's connection: QEMU insists on a socket with a path for that. */
struct door {
	struct qemu *q;
	unsigned dev;
	int fd; /* listening; -1 once QEMU has come */
	struct loop_source *src;
};

struct qemu {
	struct vm *vm;
	struct strv argv;
	char *path;    /* of the program, no link in it */
	char *run_dir; /* where its root is made */
	/* Descriptors for the child; owned until it is started. */
	int child_fds[MAX_FDS];
	size_t nchild_fds;
	int child_stderr;
	int kernel_num; /* of a kernel that is a file of the host's; 0: a copy */
	/* Our ends. */
	int console_fd, stderr_fd;
	struct loop_source *console_src, *stderr_src, *child_src;
	struct qmp qmp;
	struct vhost_user *vu[VM_MAX_DEVS];
	struct door door[VM_MAX_DEVS];
	struct buf words;
	pid_t pid;
	bool running, killed;
};

/* ---- what the child inherits ---- */

/* Takes fd over; returns its number in the child. */
static int give_fd(struct qemu *q, int fd)
{
	q->child_fds[q->nchild_fds] = fd;
	return CHILD_FD0 + (int)q->nchild_fds++;
}

static int give_dup(struct qemu *q, int fd, int *num, struct error **err)
{
	int d = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (d < 0)
		return error_sys(err, errno, "qemu: duplicate descriptor");
	*num = give_fd(q, d);
	return 0;
}

/* The child opens it by its number: as another user it must be allowed to. */
static int give_kernel(struct qemu *q, int fd, int *num, struct error **err)
{
	CLEANUP_CLOSE int copy = -1;
	struct stat st;
	off_t at = 0;

	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "qemu: kernel");
	if (!q->vm->own_uid || st.st_mode & S_IROTH) {
		if (give_dup(q, fd, num, err) < 0)
			return -1;
		q->kernel_num = *num;
		return 0;
	}
	copy = (int)syscall(SYS_memfd_create, "kernel", MFD_CLOEXEC);
	while (copy >= 0 && at < st.st_size)
		if (sendfile(copy, fd, &at, (size_t)(st.st_size - at)) <= 0)
			return error_sys(err, errno, "qemu: copy the kernel");
	if (copy < 0)
		return error_sys(err, errno, "qemu: memfd for the kernel");
	*num = give_fd(q, steal_fd(&copy));
	return 0;
}

/* A socketpair: the child's end is given, ours is returned. */
static int give_socket(struct qemu *q, int *num, struct error **err)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_sys(err, errno, "qemu: socketpair");
	(void)fd_set_nonblock(sv[0], true);
	*num = give_fd(q, sv[1]);
	return sv[0];
}

/* All initramfs pieces in one memfd. */
static int give_initrd(struct qemu *q, const struct vm_config *cfg, int *num, struct error **err)
{
	CLEANUP_CLOSE int fd = (int)syscall(SYS_memfd_create, "initramfs", MFD_CLOEXEC);
	size_t i;

	if (fd < 0)
		return error_sys(err, errno, "qemu: memfd for the initramfs");
	for (i = 0; i < cfg->ninitrd; i++)
		if (fd_write_full(fd, cfg->initrd[i].iov_base, cfg->initrd[i].iov_len, err) < 0)
			return error_wrap(err, "qemu: initramfs");
	*num = give_fd(q, steal_fd(&fd));
	return 0;
}

/* ---- the command line ---- */

static const char *const fixed_args[] = {
	"-nodefaults", "-no-user-config",
	"-nographic",  "-display",
	"none",        "-no-reboot",
	"-accel",      "tcg,thread=multi",
	"-global",     "virtio-mmio.force-legacy=false",
	"-sandbox",    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
};

static void args_machine(struct qemu *q, const struct vm_config *cfg, int mem)
{
	unsigned long long bytes = cfg->mem_bytes;
	size_t i;

	strv_add(&q->argv, q->path);
	strv_add(&q->argv, "-M");
	strv_add(&q->argv, "microvm,acpi=on,ioapic2=off,pit=off,pic=off,rtc=on,isa-serial=on,auto-"
			   "kernel-cmdline=off,"
			   "memory-backend=ram");
	for (i = 0; i < ARRAY_SIZE(fixed_args); i++)
		strv_add(&q->argv, fixed_args[i]);
	/* TCG emulates SVM, on any host. */
	strv_add(&q->argv, "-cpu");
	strv_add(&q->argv, cfg->nested ? "max" : "max,svm=off");
	/*
	 * With one vCPU TCG would leave out the barriers of the guest's locked instructions, as nobody else runs: but
	 * our devices do, and a driver's look at avail_event could overtake its new avail->idx: a lost notification. The room
	 * for a second vCPU that never comes makes it keep them.
	 */
	strv_add(&q->argv, "-smp");
	strv_addf(&q->argv, "%u,maxcpus=%u", cfg->vcpus, MAX(cfg->vcpus, 2u));
	strv_add(&q->argv, "-m");
	strv_addf(&q->argv, "%lluk", bytes >> 10);
	strv_add(&q->argv, "-object");
	strv_addf(&q->argv,
		  "memory-backend-file,id=ram,mem-path=/proc/self/fd/"
		  "%d,size=%llu,share=on,reserve=off",
		  mem, bytes);
}

static void args_boot(struct qemu *q, const struct vm_config *cfg, int kernel, int initrd)
{
	unsigned long long khz = cfg->tsc_khz ? cfg->tsc_khz : vm_tsc_khz();
	const char *one_cpu = "";

	strv_add(&q->argv, "-kernel");
	strv_addf(&q->argv, "/proc/self/fd/%d", kernel);
	if (initrd >= 0) {
		strv_add(&q->argv, "-initrd");
		strv_addf(&q->argv, "/proc/self/fd/%d", initrd);
	}
	strv_add(&q->argv, "-append");
	/*
	 * maxcpus=1: with several CPUs up, kernels that change their own code hung now and then on QEMU 7.2: most likely one vCPU
	 * thread translated what another was writing and kept it (a breakpoint of text_poke). So the kernel starts on one CPU, and
	 * the guest's init starts the others (guest/cpus.c).
	 */
	if (cfg->vcpus > 1)
		one_cpu = " maxcpus=1";
	/*
	 * lpj: else each further CPU measures for a third of a second what all of them have in common. It is right where the
	 * kernel's HZ is 250, and only delays of hardware that is not here are made of it.
	 *
	 * reboot=t: the restart that follows a panic is a triple fault, which -no-reboot turns into the end.
	 */
	strv_addf(&q->argv,
		  "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable tsc_early_khz=%llu "
		  "lpj=%llu no_timer_check "
		  "8250.nr_uarts=1 cryptomgr.notests random.trust_cpu=on%s%s%s",
		  khz, khz * 1000 / GUEST_HZ, one_cpu, cfg->cmdline && *cfg->cmdline ? " " : "",
		  cfg->cmdline ? cfg->cmdline : "");
}

static int args_chardevs(struct qemu *q, struct error **err)
{
	int num = 0;

	q->qmp.fd = give_socket(q, &num, err);
	if (q->qmp.fd < 0)
		return -1;
	strv_add(&q->argv, "-chardev");
	strv_addf(&q->argv, "socket,id=qmp,fd=%d", num);
	strv_add(&q->argv, "-mon");
	strv_add(&q->argv, "chardev=qmp,mode=control");
	q->console_fd = give_socket(q, &num, err);
	if (q->console_fd < 0)
		return -1;
	strv_add(&q->argv, "-chardev");
	strv_addf(&q->argv, "socket,id=con,fd=%d", num);
	strv_add(&q->argv, "-serial");
	strv_add(&q->argv, "chardev:con");
	return 0;
}

/* The n-th NIC's MAC and MTU: QEMU keeps the network card's configuration space itself. */
static const struct vm_nic *nic_of(const struct vm *vm, const struct vm_config *cfg, unsigned dev)
{
	size_t n = 0;
	unsigned i;

	for (i = 0; i < dev; i++)
		n += vm->devs[i]->id == VIRTIO_ID_NET;
	return n < cfg->nnics ? &cfg->nics[n] : NULL;
}

/*
 * The machine's table lists its transports from the last to the first, and that is the order in which the guest names
 * what it finds.
 */
static unsigned slot(unsigned i)
{
	return VM_QEMU_DEVS - 1 - i;
}

static void args_nic(struct qemu *q, const struct vm_nic *n, unsigned i)
{
	const char *mq = n->nfds > 1 ? "on" : "off";

	strv_add(&q->argv, "-netdev");
	strv_addf(&q->argv, "vhost-user,id=n%u,chardev=c%u,queues=%u", i, i, n->nfds);
	strv_add(&q->argv, "-device");
	strv_addf(
		&q->argv,
		"virtio-net-device,netdev=n%u,bus=virtio-mmio-bus.%u,mac=%02x:%02x:%02x:%02x:%"
		"02x:%02x,host_mtu=%u,ctrl_vq=%s,mq=%s,ctrl_rx=off,ctrl_vlan=off,ctrl_rx_extra=off,"
		"ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off",
		i, slot(i), n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
		n->mtu, mq, mq);
}

static void door_close(struct door *d)
{
	if (d->fd < 0)
		return;
	loop_source_free(STEAL(d->src));
	base_close_fd(&d->fd);
	d->fd = -1;
}

static void on_door(void *arg, int fd, uint32_t events)
{
	CLEANUP_CLOSE int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	CLEANUP_ERROR struct error *e = NULL;
	struct door *d = arg;
	struct ucred who;
	socklen_t len = sizeof(who);

	if (c < 0)
		return;
	if (getsockopt(c, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.pid != d->q->pid) {
		log_warn("qemu: process %d at the door of our qemu", (int)who.pid);
		return;
	}
	d->q->vu[d->dev] = vhost_user_new(d->q->vm->loop, steal_fd(&c), d->q->vm->devs[d->dev],
					  &d->q->vm->mem, &e);
	if (!d->q->vu[d->dev])
		log_err(e, "qemu: network card");
	door_close(d);
}

/*
 * A listening socket that has a name in run_dir for a moment only. The child reaches it through a descriptor of the
 * socket's own inode: so no path is too long, and a child that is another user needs no directory, which would be a way to
 * everything.
 */
static int door_open(struct qemu *q, const struct vm_config *cfg, unsigned i, struct error **err)
{
	struct door *d = &q->door[i];
	CLEANUP_CLOSE int dir =
		cfg->run_dir ? path_open_dir(cfg->run_dir, err)
			     : error_set(err, ERR_INVALID_ARGUMENT, "qemu: no run directory");
	uid_t uid = q->vm->own_uid;
	char name[24];
	int inode;

	if (dir < 0)
		return -1;
	d->q = q;
	d->dev = i;
	snprintf(name, sizeof(name), "nic%u.sock", i);
	d->fd = rpc_socket_listen(dir, name, err);
	if (d->fd < 0)
		return -1;
	d->src = loop_add_fd(q->vm->loop, d->fd, EPOLLIN, on_door, d, err);
	if (!d->src)
		return -1;
	inode = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (inode < 0)
		return error_sys(err, errno, "qemu: open %s", name);
	if ((uid && fchownat(inode, "", uid, uid, AT_EMPTY_PATH)) || unlinkat(dir, name, 0)) {
		close(inode);
		return error_sys(err, errno, "qemu: give %s away", name);
	}
	strv_add(&q->argv, "-chardev");
	strv_addf(&q->argv, "socket,id=c%u,path=/proc/self/fd/%d", i, give_fd(q, inode));
	return 0;
}

static int args_connection(struct qemu *q, unsigned i, struct error **err)
{
	int num = 0, fd = give_socket(q, &num, err);

	if (fd < 0)
		return -1;
	q->vu[i] = vhost_user_new(q->vm->loop, fd, q->vm->devs[i], &q->vm->mem, err);
	strv_add(&q->argv, "-chardev");
	strv_addf(&q->argv, "socket,id=c%u,fd=%d", i, num);
	return q->vu[i] ? 0 : -1;
}

/*
 * QEMU has no vhost-user balloon, and needs none: it gives back what the guest reports by punching holes into our memory's
 * file. The last of the slots; a machine whose devices take them all goes without.
 */
static void args_balloon(struct qemu *q)
{
	if (q->vm->ndevs == VM_QEMU_DEVS)
		return;
	strv_add(&q->argv, "-device");
	strv_addf(&q->argv,
		  "virtio-balloon-device,free-page-reporting=on,deflate-on-oom=on,"
		  "bus=virtio-mmio-bus.%u",
		  slot(q->vm->ndevs));
}

static int args_device(struct qemu *q, const struct vm_config *cfg, unsigned i, struct error **err)
{
	struct vm *vm = q->vm;
	struct virtio_dev *dev = vm->devs[i];

	if ((dev->id == VIRTIO_ID_NET ? door_open(q, cfg, i, err) : args_connection(q, i, err)) < 0)
		return -1;
	switch (dev->id) {
	case VIRTIO_ID_BLOCK:
		strv_add(&q->argv, "-device");
		strv_addf(&q->argv,
			  "vhost-user-blk,chardev=c%u,bus=virtio-mmio-bus.%u,num-queues=%u,queue-"
			  "size=%u",
			  i, slot(i), dev->nqueues, dev->vq[0].max_size);
		return 0;
	case VIRTIO_ID_NET:
		dev->config_notify = vm_report_links;
		dev->config_arg = vm;
		args_nic(q, nic_of(vm, cfg, i), i);
		return 0;
	case VIRTIO_ID_VSOCK:
		strv_add(&q->argv, "-device");
		strv_addf(&q->argv, "vhost-user-vsock-device,chardev=c%u,bus=virtio-mmio-bus.%u", i,
			  slot(i));
		return 0;
	case VIRTIO_ID_RNG:
		strv_add(&q->argv, "-device");
		strv_addf(&q->argv, "vhost-user-rng,chardev=c%u,bus=virtio-mmio-bus.%u", i,
			  slot(i));
		return 0;
	case VIRTIO_ID_FS:
		strv_add(&q->argv, "-device");
		strv_addf(&q->argv,
			  "vhost-user-fs-device,chardev=c%u,bus=virtio-mmio-bus.%u,"
			  "tag=" AGENT_SHARES_TAG ",queue-size=%u,num-request-queues=%u",
			  i, slot(i), dev->vq[0].max_size, dev->nqueues - 1u);
		return 0;
	default:
		return error_set(err, ERR_UNSUPPORTED,
				 "qemu engine: a virtio-%s device is not supported",
				 dev->ops->name);
	}
}

/* ---- news from the child ---- */

static void on_console(void *arg, int fd, uint32_t events)
{
	struct qemu *q = arg;
	char piece[4096];
	ssize_t n = RETRY_EINTR(read(fd, piece, sizeof(piece)));

	if (n > 0) {
		vm_first_run(q->vm);
		vm_report_console(q->vm, piece, (size_t)n);
	} else if (n == 0 || errno != EAGAIN) {
		loop_source_free(STEAL(q->console_src));
	}
}

static void on_stderr(void *arg, int fd, uint32_t events)
{
	struct qemu *q = arg;
	char piece[1024];
	ssize_t n = RETRY_EINTR(read(fd, piece, sizeof(piece)));

	if (n > 0) {
		buf_append(&q->words, piece, (size_t)n);
		if (q->words.len > WORDS_MAX)
			buf_consume(&q->words, q->words.len - WORDS_MAX);
		log_info("qemu: %.*s", (int)(piece[n - 1] == '\n' ? n - 1 : n), piece);
	} else if (n == 0 || errno != EAGAIN) {
		loop_source_free(STEAL(q->stderr_src));
	}
}

/* Reads what the child left behind. */
static void read_rest(struct qemu *q)
{
	unsigned i;

	qmp_rest(&q->qmp);
	for (i = 0; i < 1024 && q->console_src; i++)
		on_console(q, q->console_fd, EPOLLIN);
	for (i = 0; i < 64 && q->stderr_src; i++)
		on_stderr(q, q->stderr_fd, EPOLLIN);
}

static char *crash_detail(const struct qemu *q, int status)
{
	const char *words = q->words.data ? q->words.data : "";
	size_t len = q->words.len;

	while (len && words[len - 1] == '\n')
		len--;
	if (status >= 0 && WIFSIGNALED(status))
		return xasprintf("qemu ended by signal %d%s%.*s", WTERMSIG(status), len ? ": " : "",
				 (int)len, words);
	return xasprintf("qemu ended with status %d%s%.*s", status < 0 ? -1 : WEXITSTATUS(status),
			 len ? ": " : "", (int)len, words);
}

static void on_child(void *arg, pid_t pid, int status)
{
	CLEANUP_FREE char *detail = NULL;
	struct qemu *q = arg;
	unsigned i;

	q->running = false;
	q->child_src = NULL;
	read_rest(q);
	for (i = 0; i < VM_MAX_DEVS; i++)
		vhost_user_finish(q->vu[i]);
	if (q->killed) {
		vm_report_stop(q->vm, VM_STOP_KILLED, NULL);
	} else if (q->qmp.ended && status == 0) {
		vm_report_stop(q->vm, q->qmp.reason, NULL);
	} else {
		detail = crash_detail(q, status);
		vm_report_stop(q->vm, VM_STOP_CRASH, detail);
	}
}

/* ---- the engine ---- */

static int find_program(struct qemu *q, const struct vm_config *cfg, struct error **err)
{
	CLEANUP_FREE char *found =
		cfg->qemu_path ? xstrdup(cfg->qemu_path) : proc_find("qemu-system-x86_64");

	q->path = found ? realpath(found, NULL) : NULL;
	if (!q->path)
		return error_set(err, ERR_NOT_FOUND,
				 "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)");
	q->run_dir = xstrdup(cfg->run_dir ? cfg->run_dir : "");
	return 0;
}

static int qemu_create(struct vm *vm, const struct vm_config *cfg, struct error **err)
{
	struct qemu *q = xcalloc(1, sizeof(*q));
	int mem = -1, kernel = -1, initrd = -1;
	unsigned i;

	vm->priv = q;
	q->vm = vm;
	q->console_fd = q->qmp.fd = q->stderr_fd = q->child_stderr = -1;
	for (i = 0; i < VM_MAX_DEVS; i++)
		q->door[i].fd = -1;
	if (find_program(q, cfg, err) < 0 || give_dup(q, vm->mem.fd, &mem, err) < 0 ||
	    give_kernel(q, cfg->kernel_fd, &kernel, err) < 0)
		return -1;
	if (cfg->ninitrd && give_initrd(q, cfg, &initrd, err) < 0)
		return -1;
	args_machine(q, cfg, mem);
	args_boot(q, cfg, kernel, initrd);
	if (args_chardevs(q, err) < 0)
		return -1;
	if (vm->ndevs > VM_QEMU_DEVS)
		return error_set(err, ERR_UNSUPPORTED,
				 "the qemu engine has room for %d devices, not %u", VM_QEMU_DEVS,
				 vm->ndevs);
	for (i = 0; i < vm->ndevs; i++)
		if (args_device(q, cfg, i, err) < 0)
			return -1;
	args_balloon(q);
	return 0;
}

static int watch(struct qemu *q, struct error **err)
{
	struct loop *l = q->vm->loop;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_sys(err, errno, "qemu: pipe");
	q->stderr_fd = p[0];
	q->child_stderr = p[1];
	(void)fd_set_nonblock(q->stderr_fd, true);
	q->stderr_src = loop_add_fd(l, q->stderr_fd, EPOLLIN, on_stderr, q, err);
	if (!q->stderr_src)
		return -1;
	q->console_src = loop_add_fd(l, q->console_fd, EPOLLIN, on_console, q, err);
	if (!q->console_src)
		return -1;
	return qmp_watch(&q->qmp, l, err);
}

static void close_child_fds(struct qemu *q)
{
	while (q->nchild_fds)
		base_close_fd(&q->child_fds[--q->nchild_fds]);
	base_close_fd(&q->child_stderr);
	q->child_stderr = -1;
}

struct child_jail {
	struct filter filter;
	struct jail_tree tree;
	uid_t uid;
};

static void child_jail_free(struct child_jail *j)
{
	filter_free(&j->filter);
	jail_tree_free(&j->tree);
}

/* In the child. The limits, no_new_privs and namespaces of jail_prepare() are its already. */
static int confine_child(void *arg)
{
	const struct child_jail *j = arg;

	return jail_child(j->uid, &j->tree) || filter_install(&j->filter) ? -1 : 0;
}

static void reap(struct qemu *q)
{
	(void)RETRY_EINTR(waitpid(q->pid, NULL, 0));
	q->running = false;
}

/*
 * The child stays in our session, which is the helper's own and has no terminal. Where the scheduler weighs sessions
 * against each other (autogroup) a session of its own would make each of a request's two ways, to the device's thread
 * and back, wait for the other group's turn.
 */
static int qemu_start(struct vm *vm, struct error **err)
{
	struct qemu *q = vm->priv;
	CLEANUP(child_jail_free) struct child_jail jail = {.uid = vm->own_uid};
	char *env[] = {"LC_ALL=C", NULL};
	struct proc_spec spec = {
		.path = q->path,
		.argv = q->argv.v,
		.envp = env,
		.stdio = {-1, -1, -1},
		.fds = q->child_fds,
		.nfds = q->nchild_fds,
		.death_signal = SIGKILL,
		.own_pids = vm->confine != NULL,
		.confine = vm->confine ? confine_child : NULL,
		.confine_arg = &jail,
	};

	if (watch(q, err) < 0 || filter_build(FILTER_CHILD, &jail.filter, err) < 0)
		return -1;
	qemu_tree(q->path, q->run_dir, &jail.tree);
	jail.tree.sealed = q->kernel_num;
	spec.stdio[1] = spec.stdio[2] = q->child_stderr;
	if (proc_spawn(&spec, &q->pid, err) < 0)
		return error_wrap(err, "start qemu");
	q->running = true;
	close_child_fds(q);
	q->child_src = loop_add_child(vm->loop, q->pid, on_child, q, err);
	if (q->child_src)
		return 0;
	/* Not in the jail yet. */
	kill(q->pid, SIGKILL);
	reap(q);
	return -1;
}

static void qemu_kill(struct vm *vm)
{
	struct qemu *q = vm->priv;

	if (!q->running)
		return;
	q->killed = true;
	(void)loop_signal_child(q->child_src, SIGKILL);
}

static int qemu_signal(struct vm *vm, int signo, struct error **err)
{
	struct qemu *q = vm->priv;

	if (!q->running)
		return error_set(err, ERR_INVALID_STATE, "the machine does not run");
	if (loop_signal_child(q->child_src, signo) < 0)
		return error_sys(err, errno, "signal qemu");
	return 0;
}

static int qemu_pause(struct vm *vm, struct error **err)
{
	return qemu_signal(vm, SIGSTOP, err);
}

static int qemu_resume(struct vm *vm, struct error **err)
{
	return qemu_signal(vm, SIGCONT, err);
}

static void qemu_links(struct vm *vm)
{
	struct qemu *q = vm->priv;
	unsigned i;

	for (i = 0; i < vm->ndevs; i++)
		if (vm->devs[i]->id == VIRTIO_ID_NET && !virtio_net_link_up(vm->devs[i]))
			qmp_link_down(&q->qmp, i);
}

/* QEMU is told what is to be left. */
static void qemu_balloon(struct vm *vm, uint64_t bytes)
{
	struct qemu *q = vm->priv;

	qmp_balloon(&q->qmp, vm->mem_bytes - bytes);
}

static void qemu_again(struct vm *vm)
{
	struct qemu *q = vm->priv;

	qmp_reset(&q->qmp);
}

static void qemu_destroy(struct vm *vm)
{
	struct qemu *q = vm->priv;
	unsigned i;

	if (!q)
		return;
	if (q->running) {
		(void)loop_signal_child(q->child_src, SIGKILL);
		reap(q);
	}
	loop_source_free(q->child_src);
	for (i = 0; i < VM_MAX_DEVS; i++) {
		vhost_user_free(q->vu[i]);
		door_close(&q->door[i]);
	}
	loop_source_free(q->console_src);
	loop_source_free(q->stderr_src);
	base_close_fd(&q->console_fd);
	base_close_fd(&q->stderr_fd);
	close_child_fds(q);
	strv_free(&q->argv);
	qmp_free(&q->qmp);
	buf_free(&q->words);
	free(q->path);
	free(q->run_dir);
	free(q);
	vm->priv = NULL;
}

const struct vm_ops vm_qemu_ops = {
	.name = "qemu",
	.create = qemu_create,
	.start = qemu_start,
	.kill = qemu_kill,
	.pause = qemu_pause,
	.resume = qemu_resume,
	.links = qemu_links,
	.balloon = qemu_balloon,
	.again = qemu_again,
	.destroy = qemu_destroy,
};
