/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmboot.c - a developer's tool: boots a kernel in one microVM, its console on stdout, and says how it ended.
 *
 *   vmboot [-e auto|kvm|qemu] [-c cpus] [-m MiB] [-d disk]... [-n tap,ip,queues] [-a "words"] [-t seconds] [-p]
 *          kernel [initramfs...]
 *   vmboot -E                      only chooses the engine and says why
 *
 * -p pauses the guest for a second, a second after its start. Exit status: the enum vm_stop it ended with, 100 on
 * error, 101 when the time (-t, default 60) was up.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "core/log.h"
#include "core/str.h"
#include "tests/lab/map_file.h"
#include "vmm/vm.h"

#define MAX_PIECES 8

struct boot {
	struct loop *loop;
	struct vm *vm;
	int reason;
	bool paused;
};

static const char *const reasons[] = {
	[VM_STOP_POWEROFF] = "poweroff", [VM_STOP_RESET] = "reset",   [VM_STOP_PANIC] = "panic",
	[VM_STOP_CRASH] = "crash",       [VM_STOP_KILLED] = "killed",
};

static void on_console(void *arg, const void *p, size_t len)
{
	fwrite(p, 1, len, stdout);
	fflush(stdout);
}

static void on_stopped(void *arg, int reason, const char *detail)
{
	struct boot *b = arg;
	struct vm_times t;

	vm_times(b->vm, &t);
	b->reason = reason;
	printf("vmboot: %s%s%s; created %llu us before start, ran %llu us\n", reasons[reason],
	       detail ? ": " : "", detail ? detail : "",
	       (unsigned long long)(t.started - t.created),
	       (unsigned long long)(time_mono_us() - t.first_run));
	loop_stop(b->loop);
}

static int on_vsock(void *arg, uint32_t port, struct vsock_stream *s)
{
	return -1;
}

static void on_timeout(void *arg)
{
	struct boot *b = arg;

	printf("vmboot: time is up\n");
	b->reason = 101;
	loop_stop(b->loop);
}

static void on_pause(void *arg)
{
	CLEANUP_ERROR struct error *err = NULL;
	struct boot *b = arg;
	int rc = b->paused ? vm_resume(b->vm, &err) : vm_pause(b->vm, &err);
	CLEANUP_FREE char *text = rc ? error_text(err) : NULL;

	b->paused = !b->paused;
	printf("vmboot: %s%s\n", b->paused ? "paused" : "resumed", text ? text : "");
	if (b->paused)
		loop_add_timer(b->loop, 1000, on_pause, b);
}

static int open_disk(const char *path, struct vm_disk *d, struct vm_segment *seg,
		     struct error **err)
{
	struct stat st;

	*seg = (struct vm_segment){.fd = open(path, O_RDWR | O_CLOEXEC)};
	if (seg->fd < 0 || fstat(seg->fd, &st))
		return error_sys(err, errno, "open %s", path);
	seg->len = (uint64_t)st.st_size;
	*d = (struct vm_disk){.segs = seg, .nsegs = 1, .serial = "vmboot"};
	return 0;
}

/* tap,ip,queues */
static int open_nic(const char *spec, struct vm_nic *nic, struct error **err)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	char ip[INET_ADDRSTRLEN];
	unsigned queues = 1;

	*nic = (struct vm_nic){.mac = {0xf2, 0, 0, 0, 0, 1}, .mtu = 1500};
	if (sscanf(spec, "%15[^,],%15[^,],%u", ifr.ifr_name, ip, &queues) < 2 ||
	    inet_pton(AF_INET, ip, nic->ip4) != 1 || !queues || queues > VM_NIC_QUEUES)
		return error_set(err, ERR_INVALID_ARGUMENT, "not tap,ip,queues: %s", spec);
	if (queues > 1)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	for (; nic->nfds < queues; nic->nfds++) {
		nic->fd[nic->nfds] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
		if (nic->fd[nic->nfds] < 0 || ioctl(nic->fd[nic->nfds], TUNSETIFF, &ifr) < 0)
			return error_sys(err, errno, "tap %s", ifr.ifr_name);
	}
	return 0;
}

static int run(const struct vm_config *given, bool with_pause, int64_t timeout_ms,
	       struct error **err)
{
	struct boot b = {.loop = loop_new(err), .reason = 100};

	struct vm_config cfg = *given;

	if (!b.loop)
		return 100;
	cfg.arg = &b;
	b.vm = vm_new(b.loop, &cfg, err);
	if (!b.vm || vm_start(b.vm, err)) {
		vm_free(b.vm);
		return 100;
	}
	loop_add_timer(b.loop, timeout_ms, on_timeout, &b);
	if (with_pause)
		loop_add_timer(b.loop, 1000, on_pause, &b);
	if (loop_run(b.loop, err))
		b.reason = 100;
	vm_free(b.vm);
	loop_free(b.loop);
	return b.reason;
}

static int choose(struct vm_config *cfg, struct error **err)
{
	enum vm_engine wish = cfg->engine;
	uint64_t t = time_mono_us();
	CLEANUP_FREE char *why = NULL;

	if (vm_engine_choose(wish, NULL, &cfg->engine, &why, err))
		return -1;
	printf("vmboot: engine %s (%s), chosen in %llu us\n", vm_engine_name(cfg->engine), why,
	       (unsigned long long)(time_mono_us() - t));
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	struct vm_config cfg = {.vcpus = 1,
				.mem_bytes = 256ull << 20,
				.kernel_fd = -1,
				.cid = 3,
				.run_dir = "/tmp",
				.accept = on_vsock,
				.console = on_console,
				.stopped = on_stopped};
	struct vm_segment segs[MAX_PIECES];
	struct vm_disk disks[MAX_PIECES];
	struct iovec initrd[MAX_PIECES];
	struct vm_nic nic;
	struct error *err = NULL;
	bool with_pause = false, only_engine = false;
	int64_t timeout_ms = 60000;
	int c;

	log_init_stderr("vmboot", LOG_LVL_DEBUG);
	while ((c = getopt(argc, argv, "e:c:m:d:n:a:t:pE")) != -1) {
		switch (c) {
		case 'e':
			if (vm_engine_parse(optarg, &cfg.engine))
				return 64;
			break;
		case 'c':
			cfg.vcpus = (unsigned)atoi(optarg);
			break;
		case 'm':
			cfg.mem_bytes = (uint64_t)atoi(optarg) << 20;
			break;
		case 'a':
			cfg.cmdline = optarg;
			break;
		case 't':
			timeout_ms = atoi(optarg) * 1000ll;
			break;
		case 'd':
			if (cfg.ndisks == MAX_PIECES ||
			    open_disk(optarg, &disks[cfg.ndisks], &segs[cfg.ndisks], &err))
				return fail("vmboot", err, 100);
			cfg.ndisks++;
			break;
		case 'n':
			if (open_nic(optarg, &nic, &err))
				return fail("vmboot", err, 100);
			cfg.nics = &nic;
			cfg.nnics = 1;
			break;
		case 'p':
			with_pause = true;
			break;
		case 'E':
			only_engine = true;
			break;
		default:
			return 64;
		}
	}
	if (choose(&cfg, &err))
		return fail("vmboot", err, 100);
	if (only_engine)
		return 0;
	if (optind >= argc)
		return 64;
	cfg.kernel_fd = open(argv[optind++], O_RDONLY | O_CLOEXEC);
	for (; optind < argc && cfg.ninitrd < MAX_PIECES; optind++)
		if (map_file(argv[optind], &initrd[cfg.ninitrd++], &err))
			return fail("vmboot", err, 100);
	cfg.disks = disks;
	cfg.initrd = initrd;
	c = run(&cfg, with_pause, timeout_ms, &err);
	return err ? fail("vmboot", err, 100) : c;
}
