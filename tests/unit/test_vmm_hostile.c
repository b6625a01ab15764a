// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_hostile.c - the worst driver inside a real machine (tests/guest/hostile.c), attack classes A to F, and a machine's
 * ends. It runs on whatever /dev/kvm there is: our own VMM with all devices, the guest's vCPU, no kernel.
 *
 * HOSTILE_GUEST names the guest's file; else it is beside this program.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/log.h"
#include "core/path.h"
#include "core/str.h"
#include "tests/guest/hostile.h"
#include "vmm/fs.h"
#include "vmm/kvm.h"

_Static_assert(GUEST_FS_MAX == FUSE_MSG_MAX && GUEST_FS_WORKERS == FS_WORKERS,
	       "the guest knows how much a request may be");

#define SERVED   7      /* exit status of a shares' server that was told to end */
#define HUNG_MS  20000  /* the server's patience with requests that are on their way */
#define WAIT_MS  300000 /* a /dev/kvm that interprets, on a busy host */
#define TEXT_MAX (4u << 20)

struct machine {
	struct loop *l;
	struct vm *vm;
	struct buf text;
	uint64_t console_bytes;
	int reason; /* -1: still there */
	int nic;    /* our end of its cable */
	int ro, rw; /* files of its disks */
	unsigned stalled;
	struct fs_channel *shares;
	pid_t server; /* of the shares */
};

static int guest_fd = -1;
static const char *no_kvm;

static void on_console(void *arg, const void *p, size_t len)
{
	struct machine *m = arg;
	size_t i, at = m->text.len;

	m->console_bytes += len;
	if (at >= TEXT_MAX)
		return;
	buf_append(&m->text, p, len);
	for (i = at; i < m->text.len; i++)
		if (!m->text.data[i])
			m->text.data[i] = '0';
}

static void on_stopped(void *arg, int reason, const char *detail)
{
	struct machine *m = arg;

	m->reason = reason;
	if (detail)
		print_message("stopped: %s\n", detail);
	loop_stop(m->l);
}

static size_t stall(void *arg, const void *p, size_t len)
{
	return 0;
}

static void stall_closed(void *arg)
{
	((struct machine *)arg)->stalled--;
}

static int on_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	static const struct vsock_stream_ops ops = {.data = stall, .closed = stall_closed};

	if (port != GUEST_PORT_STALL)
		return -1;
	((struct machine *)arg)->stalled++;
	vsock_stream_set_ops(s, &ops, arg);
	return 0;
}

static void on_time(void *arg)
{
	loop_stop(((struct machine *)arg)->l);
}

/* ---- the shares' server, a child ---- */

static struct fs_channel *served;
static unsigned hanging, times_let_go; /* atomic */

static size_t serve_one(void *arg, const void *req, size_t len, void *reply, size_t max)
{
	const struct fuse_in_header *h = req;
	struct fuse_out_header o = {.len = (uint32_t)(sizeof(o) + len - sizeof(*h)),
				    .unique = h->unique};
	unsigned ms, before = __atomic_load_n(&times_let_go, __ATOMIC_SEQ_CST);

	switch (h->opcode) {
	case GUEST_FS_HANG:
		__atomic_fetch_add(&hanging, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&times_let_go, __ATOMIC_SEQ_CST) == before)
			usleep(1000);
		break;
	case GUEST_FS_HUNG:
		for (ms = 0; ms < HUNG_MS; ms++, usleep(1000))
			if (__atomic_load_n(&hanging, __ATOMIC_SEQ_CST) == FS_WORKERS)
				break;
		o.error = ms < HUNG_MS ? 0 : -ETIMEDOUT;
		break;
	case GUEST_FS_GO:
		__atomic_store_n(&hanging, 0, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&times_let_go, 1, __ATOMIC_SEQ_CST);
		break;
	case GUEST_FS_END:
		_exit(SERVED);
	}
	memcpy(reply, &o, MIN(max, sizeof(o)));
	if (max > sizeof(o))
		memcpy((char *)reply + sizeof(o), h + 1, MIN(max, o.len) - sizeof(o));
	return o.len;
}

static void *serve_slot(void *arg)
{
	fs_serve(served, (unsigned)(uintptr_t)arg, serve_one, NULL);
}

/* Before the machine, which has threads. */
static void shares_new(struct machine *m)
{
	pthread_t t;
	uintptr_t i;

	m->shares = served = fs_channel_new(NULL);
	assert_non_null(served);
	m->server = fork();
	assert_true(m->server >= 0);
	if (!m->server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(served->sock);
		for (i = 0; i < FS_SLOTS; i++)
			if (pthread_create(&t, NULL, serve_slot, (void *)i))
				_exit(1);
		for (;;)
			pause();
	}
	close(steal_fd(&served->peer));
	assert_int_equal(fd_set_nonblock(served->sock, true), 0);
}

/* Its wait status. */
static int shares_free(struct machine *m)
{
	int status = 0;

	kill(m->server, SIGKILL);
	assert_int_equal(waitpid(m->server, &status, 0), m->server);
	fs_channel_free(m->shares);
	return status;
}

/* ---- the machine ---- */

static int disk_file(void)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	unsigned i;

	assert_true(fd >= 0);
	for (i = 0; i < GUEST_SECTORS * 512; i++) {
		uint8_t b = GUEST_DISK_BYTE(i);

		assert_int_equal(pwrite(fd, &b, 1, i), 1);
	}
	return fd;
}

static void machine_new(struct machine *m, char mode)
{
	char cmdline[] = "mode=?";
	const uint8_t mac[] = {GUEST_MAC};
	struct vm_segment segs[2];
	struct vm_disk disks[2] = {{.segs = &segs[0], .nsegs = 1, .readonly = true},
				   {.segs = &segs[1], .nsegs = 1}};
	struct vm_nic nic = {.mtu = 1500};
	struct error *err = NULL;
	struct vm_config cfg = {
		.engine = VM_ENGINE_KVM,
		.vcpus = 1,
		.mem_bytes = GUEST_MEM_BYTES,
		.kernel_fd = guest_fd,
		.cmdline = cmdline,
		.disks = disks,
		.ndisks = 2,
		.nics = &nic,
		.nnics = 1,
		.cid = GUEST_CID,
		.accept = on_accept,
		.console = on_console,
		.stopped = on_stopped,
		.arg = m,
	};
	int sv[2];

	cmdline[5] = mode;
	*m = (struct machine){.l = loop_new(NULL), .reason = -1};
	assert_non_null(m->l);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv),
			 0);
	m->nic = sv[0];
	nic.fd[0] = sv[1];
	nic.nfds = 1;
	memcpy(nic.mac, mac, sizeof(mac));
	m->ro = disk_file();
	m->rw = disk_file();
	segs[0] = (struct vm_segment){.fd = m->ro, .len = GUEST_SECTORS * 512};
	segs[1] = (struct vm_segment){.fd = m->rw, .len = GUEST_SECTORS * 512};
	shares_new(m);
	cfg.fs = m->shares;
	m->vm = vm_new(m->l, &cfg, &err);
	if (!m->vm)
		fail_msg("%s", error_text(err));
	if (vm_start(m->vm, &err))
		fail_msg("%s", error_text(err));
}

/* What became of the shares' server: a wait status. */
static int machine_free(struct machine *m)
{
	vm_free(m->vm);
	(void)loop_turn(m->l, 0, NULL);
	loop_free(m->l);
	close(m->nic);
	close(m->ro);
	close(m->rw);
	buf_free(&m->text);
	return shares_free(m);
}

static void machine_run(struct machine *m, int64_t ms)
{
	struct loop_source *t = loop_add_timer(m->l, ms, on_time, m);

	assert_int_equal(loop_run(m->l, NULL), 0);
	if (m->reason >= 0)
		loop_source_free(t);
}

/* The read-only disk is as it was, and every frame that left bears the card's own address. */
static void check_outside(const struct machine *m)
{
	const uint8_t mac[] = {GUEST_MAC};
	uint8_t b[4096];
	unsigned i;
	ssize_t n;

	for (i = 0; i < GUEST_SECTORS * 512; i++) {
		assert_int_equal(pread(m->ro, b, 1, i), 1);
		assert_int_equal(b[0], GUEST_DISK_BYTE(i));
	}
	for (i = 0; (n = recv(m->nic, b, sizeof(b), MSG_DONTWAIT)) > 0; i++) {
		assert_true(n >= 12 + 14);
		assert_memory_equal(b + 12 + 6, mac, sizeof(mac));
	}
	print_message("%u frames left\n", i);
}

static unsigned lines_with(const struct machine *m, const char *begin, bool print)
{
	CLEANUP_FREE char *text = xstrndup(m->text.data ? m->text.data : "", m->text.len);
	char *line, *save = NULL;
	unsigned n = 0;

	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, begin, strlen(begin)))
			continue;
		n++;
		if (print)
			print_message("%s\n", line);
	}
	return n;
}

static void need_kvm(void)
{
	if (no_kvm) {
		print_message("# skip: %s\n", no_kvm);
		skip();
	}
}

/* A to F: all that the guest does to its devices. */
static void test_ABCDEF_suite(void **state)
{
	struct machine m;
	unsigned good, bad;
	char done[32];
	int status;

	need_kvm();
	machine_new(&m, 's');
	machine_run(&m, WAIT_MS);
	good = lines_with(&m, "ok ", false);
	bad = lines_with(&m, "not ok ", true);
	print_message("%u cases, %u bad\n", good + bad, bad);
	lines_with(&m, "done", true);
	snprintf(done, sizeof(done), "done %u", good + bad);
	if (m.reason != VM_STOP_POWEROFF)
		print_message("%.*s\n", (int)MIN(m.text.len, 4000u),
			      m.text.data + m.text.len - MIN(m.text.len, 4000u));
	assert_int_equal(m.reason, VM_STOP_POWEROFF);
	assert_int_equal(bad, 0);
	assert_true(good > 400);
	/* The device of shared directories had its own, and the last of them after its server. */
	assert_true(lines_with(&m, "ok A fs: ", false) >= 20);
	assert_true(lines_with(&m, "ok B fs: ", false) >= 30);
	assert_true(lines_with(&m, "ok N ", false) >= 10);
	assert_int_equal(lines_with(&m, done, false), 1);
	check_outside(&m);
	status = machine_free(&m);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == SERVED);
}

/* How a machine can end: each is told for what it is. */
static void test_F_ends(void **state)
{
	static const struct {
		char mode;
		enum vm_stop reason;
	} ends[] = {{'r', VM_STOP_RESET}, {'t', VM_STOP_RESET}, {'k', VM_STOP_PANIC}};
	struct machine m;
	size_t i;

	need_kvm();
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		machine_new(&m, ends[i].mode);
		machine_run(&m, WAIT_MS);
		assert_int_equal(m.reason, ends[i].reason);
		machine_free(&m);
	}
}

/* A guest that never leaves by itself: paused, let go, killed. */
static void test_hang(void **state)
{
	struct machine m;

	need_kvm();
	machine_new(&m, 'h');
	machine_run(&m, 50);
	assert_int_equal(m.reason, -1);
	assert_int_equal(vm_pause(m.vm, NULL), 0);
	machine_run(&m, 50);
	assert_int_equal(m.reason, -1);
	assert_int_equal(vm_resume(m.vm, NULL), 0);
	machine_run(&m, 50);
	vm_kill(m.vm);
	machine_run(&m, WAIT_MS);
	assert_int_equal(m.reason, VM_STOP_KILLED);
	machine_free(&m);
	/* Freed while it runs, and while it is paused. */
	machine_new(&m, 'h');
	machine_free(&m);
	machine_new(&m, 'h');
	assert_int_equal(vm_pause(m.vm, NULL), 0);
	machine_free(&m);
}

/* F: output without end, by two ways: it comes, and the machine can still be stopped. */
static void test_F_flood(void **state)
{
	uint64_t end = time_mono_us() + WAIT_MS * 1000ull;
	struct machine m;

	need_kvm();
	machine_new(&m, 'f');
	while (m.console_bytes < 1u << 20 && m.reason < 0 && time_mono_us() < end)
		machine_run(&m, 20);
	assert_true(m.console_bytes >= 1u << 20);
	assert_int_equal(m.reason, -1);
	vm_kill(m.vm);
	machine_run(&m, WAIT_MS);
	assert_int_equal(m.reason, VM_STOP_KILLED);
	machine_free(&m);
}

/* F: while the owner does not look, what is kept for it is bounded, and it learns how much it missed. */
static void test_F_nobody_looks(void **state)
{
	static const char piece[65536];
	struct machine m;
	unsigned i;

	need_kvm();
	machine_new(&m, 'h');
	for (i = 0; i < 3 * VM_CONSOLE_MAX / sizeof(piece); i++)
		vm_report_console(m.vm, piece, sizeof(piece));
	assert_true(m.vm->console_buf.len <= VM_CONSOLE_MAX);
	machine_run(&m, 50);
	assert_in_range(m.console_bytes, VM_CONSOLE_MAX, VM_CONSOLE_MAX + 100);
	assert_int_equal(lines_with(&m, "[2097152 bytes of console output lost]", false), 1);
	machine_free(&m);
}

/* Why the guest cannot run here; NULL: it can. */
static const char *find_guest(void)
{
	static char path[4096];
	const char *named = getenv("HOSTILE_GUEST");
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
	int kvm = kvm_open(NULL);

	if (kvm < 0)
		return "no /dev/kvm";
	close(kvm);
	if (named) {
		guest_fd = open(named, O_RDONLY | O_CLOEXEC);
	} else if (n > 0) {
		path[n] = 0;
		strcpy(strrchr(path, '/') + 1, "hostile.elf");
		guest_fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return guest_fd < 0 ? "the guest's file is not there" : NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ABCDEF_suite),   cmocka_unit_test(test_F_ends),
		cmocka_unit_test(test_hang),           cmocka_unit_test(test_F_flood),
		cmocka_unit_test(test_F_nobody_looks),
	};

	log_init_stderr("test", LOG_LVL_ERROR);
	no_kvm = find_guest();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
