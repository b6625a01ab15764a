// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_jail.c - the jail's stages and the filters, each in a child of its own that probes from inside. The letter I in
 * a test's name is the attack class (jail set-up).
 *
 * A child tells what it found by its exit status: 0 is well, a line number where it is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/str.h"
#include "core/rpc.h"
#include "vmm/jail.h"
#include "vmm/vm.h"

#define NEED(cond)                          \
	do {                                \
		if (!(cond)) {              \
			fail_at = __LINE__; \
			_exit(1);           \
		}                           \
	} while (0)

static volatile int *fail_line;
#define fail_at (*fail_line)

static char place[64]; /* an empty directory */

/* Runs fn in a child; returns its wait status. */
static int in_child(void (*fn)(void))
{
	int status;
	pid_t pid;

	fail_at = 0;
	pid = fork();
	if (!pid) {
		alarm(20);
		fn();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (fail_at)
		print_message("child failed at line %d\n", fail_at);
	return status;
}

static void assert_well(void (*fn)(void))
{
	int status = in_child(fn);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void need_root(void)
{
	if (geteuid())
		skip();
}

static bool denied(int fd)
{
	return fd < 0;
}

/* ---- descriptors ---- */

static unsigned count_fds(void)
{
	unsigned n = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void audit_child(void)
{
	int allowed[] = {0, 1, 2, 9};

	NEED(dup2(2, 9) == 9 && dup2(2, 8) == 8 && dup2(2, 200) == 200 && dup2(2, 901) == 901);
	NEED(jail_audit(allowed, 4) >= 3);
	NEED(fcntl(9, F_GETFD) >= 0 && count_fds() == 4);
	NEED(jail_audit(allowed, 4) == 0);
}

static void test_I_inherited_fds_equal_the_list(void **state)
{
	assert_well(audit_child);
}

static void dir_child(void)
{
	struct error *e = NULL;

	NEED(open("/", O_RDONLY | O_DIRECTORY) >= 0);
	NEED(jail_prepare(0) >= 0);
	NEED(jail_enter(0, place, &e) < 0 && e && strstr(e->msg, "directories"));
}

static void test_I_open_directory_is_refused(void **state)
{
	need_root();
	assert_well(dir_child);
}

/* ---- the stages ---- */

static void close_others(void)
{
	int allowed[] = {0, 1, 2};

	jail_audit(allowed, 3);
}

static void limits_child(void)
{
	struct rlimit r;

	NEED(jail_prepare(0) & JAIL_LIMITS);
	NEED(!getrlimit(RLIMIT_CORE, &r) && r.rlim_max == 0);
	NEED(!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_max <= JAIL_NOFILE);
	NEED(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

static void test_limits_and_no_new_privs(void **state)
{
	assert_well(limits_child);
}

static void net_child(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), d;
	int n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "jail-test-%d", (int)getpid());
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);

	NEED(!bind(s, (struct sockaddr *)&sa, len) && !listen(s, 1));
	NEED(!connect(c, (struct sockaddr *)&sa, len));
	NEED(jail_prepare(0) & JAIL_NAMESPACES);
	/* What was connected stays; an abstract name of the host's cannot be reached any more. */
	NEED(write(c, "x", 1) == 1);
	d = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(connect(d, (struct sockaddr *)&sa, len) < 0 && errno == ECONNREFUSED);
}

static void test_I_abstract_sockets_are_gone(void **state)
{
	need_root();
	assert_well(net_child);
}

static void enter(void)
{
	uid_t uid = jail_uid();
	int done;

	close_others();
	done = jail_prepare(uid);
	NEED(done >= 0);
	done |= jail_enter(uid, place, NULL);
	NEED(done == (uid ? JAIL_ALL : JAIL_ALL & ~JAIL_UID));
}

static void root_child(void)
{
	static const char *const names[] = {"/etc/passwd",   "/proc/self/status",
					    "/dev/null",     "/tmp",
					    "../etc/passwd", "../../../../../etc/passwd"};
	size_t i;

	enter();
	for (i = 0; i < ARRAY_SIZE(names); i++)
		NEED(denied(open(names[i], O_RDONLY)) && errno == ENOENT);
	NEED(denied(open("/new", O_WRONLY | O_CREAT, 0600)));
	NEED(mkdir("/new", 0700) < 0);
	NEED(chroot("/") < 0 && errno == EPERM);
	NEED(syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL) < 0 && errno == EPERM);
	NEED(access("/..", F_OK) == 0 && denied(open("/../etc", O_RDONLY)));
}

static void test_I_root_is_empty_and_read_only(void **state)
{
	need_root();
	assert_well(root_child);
}

static void rights_child(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	uid_t r, e, s, want = JAIL_UID_BASE + (uid_t)getpid();
	gid_t groups[8];
	int cap;

	enter();
	NEED(!syscall(SYS_capget, &h, d));
	NEED(!d[0].effective && !d[0].permitted && !d[0].inheritable);
	NEED(!d[1].effective && !d[1].permitted && !d[1].inheritable);
	for (cap = 0; cap < 41; cap++)
		NEED(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) <= 0);
	NEED(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	NEED(!getresuid(&r, &e, &s) && r == want && e == want && s == want);
	NEED(getgid() == want && getgroups(8, groups) == 0);
	NEED(setuid(0) < 0 && setgid(0) < 0);
}

static void test_I_own_uid_no_capabilities_not_dumpable(void **state)
{
	need_root();
	if (!jail_uid())
		skip();
	assert_well(rights_child);
}

static void *thread_main(void *arg)
{
	*(bool *)arg = denied(open("/etc/passwd", O_RDONLY)) && geteuid() >= JAIL_UID_BASE;
	return NULL;
}

static void threads_child(void)
{
	pthread_t t;
	bool well = false;

	enter();
	NEED(!pthread_create(&t, NULL, thread_main, &well) && !pthread_join(t, NULL));
	NEED(well);
}

static void test_I_later_threads_are_inside(void **state)
{
	need_root();
	if (!jail_uid())
		skip();
	assert_well(threads_child);
}

/* A symlink in the way of the new root: the place is a link to a directory of the host. */
static void link_child(void)
{
	char link[80];
	int done;

	snprintf(link, sizeof(link), "%s.link", place);
	(void)unlink(link);
	NEED(!symlink("/etc", link));
	close_others();
	jail_prepare(0);
	done = jail_enter(0, link, NULL);
	NEED(done & JAIL_ROOT);
	NEED(denied(open("/passwd", O_RDONLY)) && denied(open("/etc/passwd", O_RDONLY)));
}

static void test_I_symlink_as_place_leads_nowhere(void **state)
{
	char link[80];

	need_root();
	assert_well(link_child);
	snprintf(link, sizeof(link), "%s.link", place);
	unlink(link);
}

static void no_place_child(void)
{
	int done;

	close_others();
	jail_prepare(0);
	done = jail_enter(0, "/nowhere/at/all", NULL);
	/* One stage failed: the others are done all the same. */
	NEED(done >= 0 && !(done & JAIL_ROOT) && done & JAIL_CAPABILITIES &&
	     done & JAIL_NOT_DUMPABLE);
}

static void test_a_failed_stage_leaves_the_others(void **state)
{
	need_root();
	assert_well(no_place_child);
}

/* Without root a user namespace gives what it can; where the host has none, the rest is done all the same. */
static void nobody_child(void)
{
	int done;

	close_others();
	NEED(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534));
	NEED(!prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); /* as a process is that began as this user */
	NEED(jail_uid() == 0);
	done = jail_prepare(0);
	NEED(done & JAIL_LIMITS && done & JAIL_NO_NEW_PRIVS);
	done |= jail_enter(0, place, NULL);
	NEED(done & JAIL_CAPABILITIES && done & JAIL_NOT_DUMPABLE && !(done & JAIL_UID));
	if (done & JAIL_NAMESPACES)
		NEED(done & JAIL_ROOT && denied(open("/etc/passwd", O_RDONLY)) &&
		     geteuid() == 65534);
	_exit(done & JAIL_NAMESPACES ? 0 : 2);
}

static void test_I_without_root(void **state)
{
	int status;

	need_root();
	assert_int_equal(chmod(place, 0755), 0);
	status = in_child(nobody_child);
	assert_true(WIFEXITED(status));
	print_message("user namespaces: %s\n", WEXITSTATUS(status) ? "no" : "yes");
	assert_int_not_equal(WEXITSTATUS(status), 1);
}

/* What a child that is confined so sees: it runs a shell. */
struct confined {
	uid_t uid;
	int fd; /* its descriptor 3; 0: none */
	struct jail_tree tree;
};

static int confine_fn(void *arg)
{
	struct confined *c = arg;

	return jail_child(c->uid, &c->tree);
}

static void child_says(struct confined *c, const char *script, struct buf *out)
{
	char *argv[] = {"sh", "-c", (char *)script, NULL};
	char piece[512];
	struct proc_spec spec = {.path = "/usr/bin/sh",
				 .argv = argv,
				 .stdio = {-1, -1, -1},
				 .fds = &c->fd,
				 .nfds = c->fd ? 1 : 0,
				 .death_signal = SIGKILL,
				 .own_pids = true,
				 .confine = confine_fn,
				 .confine_arg = c};
	int p[2], status;
	pid_t pid;
	ssize_t n;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	spec.stdio[1] = spec.stdio[2] = p[1];
	assert_int_equal(proc_spawn(&spec, &pid, NULL), 0);
	close(p[1]);
	while ((n = read(p[0], piece, sizeof(piece))) > 0)
		buf_append(out, piece, (size_t)n);
	close(p[0]);
	waitpid(pid, &status, 0);
	buf_append(out, "", 1);
}

static void shells_tree(struct jail_tree *t)
{
	static const char *const paths[] = {"/lib",           "/lib64",
					    "/usr/lib",       "/usr/lib/locale",
					    "/usr/lib64",     "/usr/bin",
					    "/nowhere/at/all"};
	size_t i;

	t->place = place;
	for (i = 0; i < ARRAY_SIZE(paths); i++)
		jail_tree_add(t, paths[i]);
}

static void test_I_child_is_another_user_without_rights(void **state)
{
	struct confined c = {.uid = JAIL_UID_BASE + 1};
	CLEANUP_BUF struct buf out = {0};

	need_root();
	shells_tree(&c.tree);
	umask(077); /* as a service's may be */
	child_says(&c, "grep -E '^(Uid|CapBnd|CapEff):' /proc/self/status", &out);
	assert_non_null(strstr(out.data, "Uid:\t1879048193\t1879048193\t1879048193\t1879048193"));
	assert_non_null(strstr(out.data, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(out.data, "CapBnd:\t0000000000000000"));
	jail_tree_free(&c.tree);
}

/* Without another user id, so that nothing but the tree is in the way. */
static void test_I_child_sees_its_own_files_only(void **state)
{
	struct confined c = {0};
	CLEANUP_BUF struct buf out = {0};

	need_root();
	shells_tree(&c.tree);
	/* A link to a file elsewhere is kept as a link, and leads to nothing. */
	child_says(&c,
		   "exec 2>&-; cd /; echo / *; ls -A; ls -A proc; ls -d proc/self/fd/1; ls -A usr; "
		   "cd ..; ls -A;"
		   "for f in /x /proc/x /usr/x /usr/bin/x; do (: >$f) && echo wrote $f; done;"
		   "umount /usr/bin && echo rights; mkdir /new && echo made; echo end",
		   &out);
	assert_string_equal(out.data,
			    "/ lib lib64 proc usr\nlib\nlib64\nproc\nusr\nself\n"
			    "proc/self/fd/1\nbin\nlib\nlib64\nlib\nlib64\nproc\nusr\nend\n");
	jail_tree_free(&c.tree);
}

/* A file of its own user's that it has to read, by way of /proc. The tree's mounts are read-only; this one's was not. */
static void test_I_child_cannot_write_what_it_reads(void **state)
{
	static const char script[] =
		"exec 2>&-; cat <&3; cat /proc/self/fd/3; (echo x >/proc/self/fd/3) && echo wrote;"
		"(echo x >>/proc/self/fd/3) && echo appended; (: <>/proc/self/fd/3) && echo "
		"opened; echo end";
	CLEANUP_FREE char *path = xasprintf("%s.file", place);
	struct confined c = {.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
	CLEANUP_BUF struct buf out = {0}, left = {0};

	need_root();
	assert_true(c.fd > 2 && write(c.fd, "kernel\n", 7) == 7);
	close(c.fd);
	c.fd = open(path, O_RDONLY | O_CLOEXEC);
	shells_tree(&c.tree);
	c.tree.sealed = 3;
	child_says(&c, script, &out);
	assert_string_equal(out.data, "kernel\nkernel\nend\n");
	assert_int_equal(path_read_all(AT_FDCWD, path, 100, &left, NULL), 0);
	assert_string_equal(left.data, "kernel\n");
	/* One without a name is no reason to go without the rest. */
	unlink(path);
	out.len = 0;
	child_says(&c, "cat <&3; ls -d /etc 2>&-; echo end", &out);
	assert_string_equal(out.data,
			    "jail: a file can be opened for writing: mount\nkernel\nend\n");
	close(c.fd);
	jail_tree_free(&c.tree);
}

/* It is the first of its own, so no number it can say is anybody else's; its end is still known by its number here, and comes with ours. */
static void test_I_child_can_name_nobody(void **state)
{
	struct confined c = {0}; /* our user: nothing but the namespace is in the way */
	CLEANUP_FREE char *script = xasprintf(
		"echo $$; kill -0 %d 2>&- && echo us; kill -0 -1 2>&- && echo others; echo end",
		(int)getpid());
	CLEANUP_BUF struct buf out = {0};

	need_root();
	shells_tree(&c.tree);
	child_says(&c, script, &out);
	assert_string_equal(out.data, "1\nend\n");
	jail_tree_free(&c.tree);
}

static void test_a_child_without_a_tree_says_so(void **state)
{
	struct confined c = {.uid = JAIL_UID_BASE + 1, .tree.place = "/nowhere/at/all"};
	CLEANUP_BUF struct buf out = {0};

	need_root();
	child_says(&c, "id -u", &out);
	assert_string_equal(out.data, "jail: no file tree of its own: mount\n1879048193\n");
}

/* ---- filters ---- */

static void *const volatile linked[] = {(void *)vm_new, (void *)rpc_server_new,
					(void *)vsock_stream_to_fd};

static void arm(enum filter_profile who)
{
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(filter_arm(FILTER_MAIN_QEMU, false, NULL) == 0);
	filter_thread(who);
}

/* Each is forbidden in the profiles named with it. */
static const struct probe {
	const char *name;
	unsigned who;
	long nr, a0, a1, a2;
} probes[] = {
	{"openat", FILTER_OURS, SYS_openat, AT_FDCWD, (long)"/etc/passwd", 0},
	{"execve", FILTER_OURS, SYS_execve, (long)"/bin/sh", 0, 0},
	{"clone", FILTER_OURS, SYS_clone, 0, 0, 0},
	{"clone3", FILTER_OURS, SYS_clone3, 0, 0, 0},
	{"fork", FILTER_OURS, SYS_fork, 0, 0, 0},
	{"socket", FILTER_OURS, SYS_socket, AF_INET, SOCK_STREAM, 0},
	{"socketpair inet", FILTER_OURS, SYS_socketpair, AF_INET, SOCK_STREAM, 0},
	{"socketpair", FILTER_VCPU | FILTER_WORKERS, SYS_socketpair, AF_UNIX, SOCK_STREAM, 0},
	{"connect", FILTER_OURS, SYS_connect, 0, 0, 0},
	{"ptrace", FILTER_OURS, SYS_ptrace, 0, 0, 0},
	{"prctl", FILTER_OURS, SYS_prctl, PR_GET_DUMPABLE, 0, 0},
	{"seccomp", FILTER_OURS, SYS_seccomp, 0, 0, 0},
	{"mprotect", FILTER_OURS, SYS_mprotect, 0, 0, 4},
	{"mmap exec", FILTER_OURS, SYS_mmap, 0, 4096, 7},
	{"ioctl TIOCSTI", FILTER_OURS, SYS_ioctl, 0, 0x5412, 0},
	{"ioctl KVM_RUN", FILTER_MAIN | FILTER_WORKERS, SYS_ioctl, 0, 0xae80, 0},
	{"ioctl KVM_CREATE_VM", FILTER_OURS, SYS_ioctl, 0, 0xae01, 0},
	{"kill SIGTERM", FILTER_OURS, SYS_kill, 1, SIGTERM, 0},
	/* No process but our own is named by its number, and QEMU by its descriptor. */
	{"kill SIGKILL", FILTER_OURS, SYS_kill, INT_MAX, SIGKILL, 0},
	{"tgkill of another", FILTER_OURS, SYS_tgkill, INT_MAX, INT_MAX, SIGKILL},
	{"tgkill of whoever", FILTER_OURS, SYS_tgkill, -1, INT_MAX, SIGKILL},
	{"pidfd_send_signal SIGTERM", FILTER_OURS, SYS_pidfd_send_signal, -1, SIGTERM, 0},
	{"pidfd_open", FILTER_OURS, SYS_pidfd_open, 1, 0, 0},
	{"recvmsg", FILTER_VCPU | FILTER_WORKERS, SYS_recvmsg, -1, 0, 0},
	{"preadv", FILTER_MAIN | FILTER_VCPU | FILTER_NET, SYS_preadv, -1, 0, 0},
	{"fallocate", FILTER_VCPU | FILTER_NET, SYS_fallocate, -1, 3, 0},
	{"readv", FILTER_MAIN | FILTER_VCPU | FILTER_BLK, SYS_readv, -1, 0, 0},
	{"sendmsg", FILTER_VCPU | FILTER_BLK, SYS_sendmsg, -1, 0, 0},
	{"ioctl TUNSETQUEUE", FILTER_BLK, SYS_ioctl, -1, 0x400454d9, 0},
	{"ioctl TUNSETOFFLOAD", FILTER_WORKERS, SYS_ioctl, -1, 0x400454d0, 0},
	{"read", FILTER_VCPU | FILTER_WORKERS, SYS_read, -1, 0, 0},
	{"epoll_ctl", FILTER_VCPU | FILTER_WORKERS, SYS_epoll_ctl, -1, 0, 0},
	{"restart_syscall", FILTER_VCPU | FILTER_WORKERS, SYS_restart_syscall, 0, 0, 0},
	{"newfstatat by name", FILTER_OURS, SYS_newfstatat, AT_FDCWD, (long)"/", 0},
	{"x32 read", FILTER_OURS, 0x40000000, -1, 0, 0},
	{"io_uring_setup", FILTER_OURS, SYS_io_uring_setup, 1, 0, 0},
	/* Enabling a ring and entering it for completions is all that a disk's worker may. */
	{"io_uring_register files", FILTER_OURS, SYS_io_uring_register, -1, 2, 0},
	{"io_uring_enter without a wish for completions", FILTER_OURS, SYS_io_uring_enter, -1, 0,
	 0},
	{"io_uring_register enable", FILTER_MAIN | FILTER_VCPU | FILTER_NET, SYS_io_uring_register,
	 -1, 12, 0},
	{"preadv2 that waits", FILTER_OURS, SYS_preadv2, -1, 0, 0},
	{"setuid", FILTER_OURS, SYS_setuid, 0, 0, 0},
	/* The helper takes descriptors and passes none on. */
	{"fcntl F_DUPFD_CLOEXEC", FILTER_OURS, SYS_fcntl, 0, 1030, 0},
	{"fcntl F_SETFD", FILTER_OURS, SYS_fcntl, 0, 2, 0},
};

static const struct probe *probe;
static enum filter_profile profile;

/* What the loop does for QEMU it does not do for KVM, and the other way round. */
static void kvm_main_child(void)
{
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(filter_arm(FILTER_MAIN_KVM, false, NULL) == 0);
	filter_thread(FILTER_MAIN);
	syscall(SYS_pidfd_send_signal, -1, SIGCONT, NULL, 0);
	_exit(3);
}

static void qemu_main_child(void)
{
	arm(FILTER_MAIN);
	syscall(SYS_fallocate, -1, 3, 0, 0, 0, 0);
	_exit(3);
}

static void probe_child(void)
{
	arm(profile);
	syscall(probe->nr, probe->a0, probe->a1, probe->a2, 0, 0, 0);
	_exit(3); /* still alive */
}

static void test_I_forbidden_call_kills(void **state)
{
	static const enum filter_profile all[] = {FILTER_MAIN, FILTER_VCPU, FILTER_BLK, FILTER_NET};
	size_t i, k;

	if (SANITIZED)
		skip();
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		for (k = 0; k < ARRAY_SIZE(all); k++) {
			int status;

			if (!(probes[i].who & all[k]))
				continue;
			probe = &probes[i];
			profile = all[k];
			status = in_child(probe_child);
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
				fail_msg("%s in profile %d: status %#x", probe->name, profile,
					 status);
		}
	for (i = 0; i < 2; i++) {
		int status = in_child(i ? qemu_main_child : kvm_main_child);

		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	}
}

static void *nothing(void *arg)
{
	return arg;
}

static void allowed_child(void)
{
	int sv[2], fd = open("/dev/zero", O_RDONLY);
	struct stat st;
	char c = 0;
	void *p;

	arm(FILTER_MAIN);
	NEED(read(fd, &c, 1) == 1 && !fstat(fd, &st));
	NEED(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	NEED(send(sv[0], "x", 1, 0) == 1 && recv(sv[1], &c, 1, 0) == 1 && c == 'x');
	NEED(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
	p = malloc(8 << 20);
	NEED(p);
	p = realloc(p, 32 << 20);
	free(nothing(p));
	NEED(!syscall(SYS_tgkill, getpid(), gettid(), 0));
	NEED(syscall(SYS_pidfd_send_signal, -1, SIGSTOP, NULL, 0) < 0 && errno == EBADF);
	log_error("a record"); /* nowhere to, but the way there is allowed */
}

static void test_allowed_calls_work(void **state)
{
	if (SANITIZED)
		skip();
	assert_well(allowed_child);
}

static void *wait_for_ever(void *arg)
{
	pause();
	return arg;
}

static void killed_whole(void)
{
	pthread_t t;

	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	     !filter_arm(FILTER_MAIN_QEMU, false, NULL));
	NEED(!pthread_create(&t, NULL, wait_for_ever, NULL));
	filter_thread(FILTER_MAIN);
	syscall(SYS_openat, AT_FDCWD, "/", 0);
}

static void test_I_all_threads_die(void **state)
{
	int status;

	if (SANITIZED)
		skip();
	status = in_child(killed_whole);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* Firecracker's vCPU threads have 27 system calls in 49 rules, its main thread 50 in 76. */
static void test_sizes(void **state)
{
	static const struct {
		const char *name;
		unsigned who, calls, rules;
	} most[] = {
		{"vcpu", FILTER_VCPU, 27, 49},
		{"disk", FILTER_BLK, 27, 49},
		{"network card", FILTER_NET, 27, 49},
		{"main, kvm", FILTER_MAIN | FILTER_MAIN_KVM, 40, 60},
		{"main, qemu", FILTER_MAIN | FILTER_MAIN_QEMU, 40, 60},
	};
	struct filter f;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(most); i++) {
		assert_int_equal(filter_build(most[i].who, &f, NULL), 0);
		print_message("%s: %u system calls, %u rules, %zu instructions\n", most[i].name,
			      f.ncalls, f.nrules, f.len);
		assert_true(f.ncalls <= most[i].calls && f.nrules <= most[i].rules);
		filter_free(&f);
	}
	assert_int_equal(filter_build(FILTER_CHILD, &f, NULL), 0);
	print_message("child: refuses %u system calls, %zu instructions\n", f.ncalls, f.len);
	assert_true(f.ncalls >= 20);
	filter_free(&f);
}

static void child_filter_child(void)
{
	struct filter f;
	pthread_t t;

	NEED(!filter_build(FILTER_CHILD, &f, NULL));
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && !filter_install(&f));
	NEED(unshare(CLONE_NEWNS) < 0 && errno == EPERM);
	NEED(syscall(SYS_ptrace, 0, 0, 0, 0) < 0 && errno == EPERM);
	NEED(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM);
	NEED(open("/etc/passwd", O_RDONLY) >= 0);
	NEED(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) < 0 && errno == EPERM);
	NEED(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
	NEED(!pthread_create(&t, NULL, nothing, NULL) && !pthread_join(t, NULL));
	NEED(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
	NEED(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EPERM);
	NEED(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
	NEED(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == EPERM);
}

static void test_I_child_filter_refuses(void **state)
{
	assert_well(child_filter_child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_I_inherited_fds_equal_the_list),
		cmocka_unit_test(test_I_open_directory_is_refused),
		cmocka_unit_test(test_limits_and_no_new_privs),
		cmocka_unit_test(test_I_abstract_sockets_are_gone),
		cmocka_unit_test(test_I_root_is_empty_and_read_only),
		cmocka_unit_test(test_I_own_uid_no_capabilities_not_dumpable),
		cmocka_unit_test(test_I_later_threads_are_inside),
		cmocka_unit_test(test_I_symlink_as_place_leads_nowhere),
		cmocka_unit_test(test_a_failed_stage_leaves_the_others),
		cmocka_unit_test(test_I_without_root),
		cmocka_unit_test(test_I_child_is_another_user_without_rights),
		cmocka_unit_test(test_I_child_sees_its_own_files_only),
		cmocka_unit_test(test_I_child_cannot_write_what_it_reads),
		cmocka_unit_test(test_I_child_can_name_nobody),
		cmocka_unit_test(test_a_child_without_a_tree_says_so),
		cmocka_unit_test(test_I_forbidden_call_kills),
		cmocka_unit_test(test_allowed_calls_work),
		cmocka_unit_test(test_I_all_threads_die),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_I_child_filter_refuses),
	};
	int ret;

	fail_line = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(place, sizeof(place), "/tmp/test-jail.%d", (int)getpid());
	if (fail_line == MAP_FAILED || mkdir(place, 0700))
		return 1;
	/* Only modules that are linked have rules: all the product's are wanted. */
	if (!linked[0] || !linked[1] || !linked[2])
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(place);
	return ret;
}
