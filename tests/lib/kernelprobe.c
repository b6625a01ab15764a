/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernelprobe.c - runs in a privileged container: uses what no program of the demo image asks a kernel for. A line for each thing, its name
 * and "ok", or what went wrong. With a number: takes so many MiB of memory, and says so.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/fuse.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static void say(const char *what, long rc)
{
	printf("%s %s\n", what, rc >= 0 ? "ok" : strerror(errno));
}

/* What ran, and did not do what it is for. */
static int no(void)
{
	errno = EPROTO;
	return -1;
}

/* ---- io_uring ---- */

/* One request there and back. */
static long io_uring(void)
{
	struct io_uring_params p = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 8, &p);
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	char *sq, *cq;

	if (fd < 0)
		return -1;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*cqe), PROT_READ | PROT_WRITE,
		  MAP_SHARED, fd, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		return -1;
	*sqe = (struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = 42};
	*(unsigned *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -1;
	cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return cqe->user_data == 42 && cqe->res == 0 ? 0 : no();
}

/* ---- BPF ---- */

static int bpf(int cmd, union bpf_attr *a)
{
	return (int)syscall(SYS_bpf, cmd, a, sizeof(*a));
}

/* One that says 0: of a socket's filter, that nothing passes. */
static int bpf_load(unsigned type)
{
	struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K},
				  {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr a = {.prog_type = type,
			    .insns = (unsigned long)code,
			    .insn_cnt = 2,
			    .license = (unsigned long)"GPL"};

	return bpf(BPF_PROG_LOAD, &a);
}

static long bpf_map(void)
{
	union bpf_attr a = {.map_type = BPF_MAP_TYPE_HASH,
			    .key_size = 4,
			    .value_size = 4,
			    .max_entries = 4};
	unsigned key = 7, value = 11, got = 0;
	int fd = bpf(BPF_MAP_CREATE, &a);

	if (fd < 0)
		return -1;
	a = (union bpf_attr){.map_fd = fd,
			     .key = (unsigned long)&key,
			     .value = (unsigned long)&value};
	if (bpf(BPF_MAP_UPDATE_ELEM, &a) < 0)
		return -1;
	a.value = (unsigned long)&got;
	if (bpf(BPF_MAP_LOOKUP_ELEM, &a) < 0)
		return -1;
	return got == 11 ? 0 : no();
}

/* A program that runs: what it lets through is none. */
static long bpf_runs(void)
{
	int prog = bpf_load(BPF_PROG_TYPE_SOCKET_FILTER), sv[2];
	char c;

	if (prog < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sv) < 0)
		return -1;
	if (send(sv[0], "a", 1, 0) != 1 || recv(sv[1], &c, 1, 0) != 1)
		return -1;
	if (setsockopt(sv[1], SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)) < 0 ||
	    send(sv[0], "b", 1, 0) != 1)
		return -1;
	return recv(sv[1], &c, 1, 0) < 0 && errno == EAGAIN ? 0 : no();
}

/* ---- sockets and links ---- */

/* The host's machine monitor answers that nobody listens there. */
static long vsock(void)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK,
				.svm_cid = VMADDR_CID_HOST,
				.svm_port = 0x7fff0001};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNRESET ? 0 : no();
}

static int set_address(int s, const char *name, const char *address)
{
	struct ifreq r = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&r.ifr_addr;

	strcpy(r.ifr_name, name);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = inet_addr(address);
	if (ioctl(s, SIOCSIFADDR, &r) < 0)
		return -1;
	in->sin_addr.s_addr = inet_addr("255.255.255.0");
	if (ioctl(s, SIOCSIFNETMASK, &r) < 0)
		return -1;
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(s, SIOCSIFFLAGS, &r);
}

/* What is sent to an address behind it comes out of it. */
static long tun(void)
{
	struct ifreq r = {.ifr_name = "probe0", .ifr_flags = IFF_TUN | IFF_NO_PI};
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(9),
				 .sin_addr.s_addr = inet_addr("10.77.0.2")};
	int fd = open("/dev/net/tun", O_RDWR), s = socket(AF_INET, SOCK_DGRAM, 0), i;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	unsigned char b[2048];
	ssize_t n;

	if (fd < 0 || s < 0 || ioctl(fd, TUNSETIFF, &r) < 0 ||
	    set_address(s, "probe0", "10.77.0.1") < 0)
		return -1;
	if (sendto(s, "over tun", 8, 0, (struct sockaddr *)&to, sizeof(to)) != 8)
		return -1;
	for (i = 0; i < 20 && poll(&p, 1, 5000) == 1; i++) { /* IPv6 has something to say as well */
		n = read(fd, b, sizeof(b));
		if (n == 20 + 8 + 8 && b[0] == 0x45 && !memcmp(b + 28, "over tun", 8))
			return 0;
	}
	return no();
}

/* ---- FUSE ---- */

#define ROOT_MODE (S_IFDIR | 0751)

/* A file system that knows its root and nothing else. */
static void fuse_serve(int fd)
{
	static char in[1 << 18];
	struct {
		struct fuse_out_header h;
		union {
			struct fuse_init_out init;
			struct fuse_attr_out attr;
		};
	} out;

	while (read(fd, in, sizeof(in)) > 0) {
		const struct fuse_in_header *h = (void *)in;

		memset(&out, 0, sizeof(out));
		out.h = (struct fuse_out_header){.len = sizeof(out.h), .unique = h->unique};
		if (h->opcode == FUSE_INIT) {
			out.init.major = FUSE_KERNEL_VERSION;
			out.init.minor = FUSE_KERNEL_MINOR_VERSION;
			out.init.max_write = 4096;
			out.h.len += sizeof(out.init);
		} else if (h->opcode == FUSE_GETATTR) {
			out.attr.attr.mode = ROOT_MODE;
			out.attr.attr.ino = 1;
			out.attr.attr.nlink = 2;
			out.h.len += sizeof(out.attr);
		} else {
			out.h.error = -ENOSYS;
		}
		if (h->opcode != FUSE_FORGET && write(fd, &out, out.h.len) < 0)
			_exit(1);
	}
	_exit(0);
}

static long fuse(void)
{
	int fd = open("/dev/fuse", O_RDWR);
	char options[80];
	struct stat st;
	pid_t child;
	long rc = -1;

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (fd < 0 || (mkdir("/tmp/fuse", 0755) < 0 && errno != EEXIST) ||
	    mount("probe", "/tmp/fuse", "fuse", 0, options) < 0)
		return -1;
	child = fork();
	if (!child)
		fuse_serve(fd);
	if (child > 0 && !stat("/tmp/fuse", &st))
		rc = st.st_mode == ROOT_MODE ? 0 : no();
	umount2("/tmp/fuse", MNT_DETACH);
	return rc;
}

/* ---- namespaces, seccomp ---- */

/* In a child: another one than before, so the kernel has them. */
static long namespace(const char *link, int flag)
{
	char path[64], before[64] = "", after[64] = "";
	int status = 0;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", link);
	if (fork()) {
		wait(&status);
		errno = WEXITSTATUS(status);
		return status ? -1 : 0;
	}
	if (readlink(path, before, 63) < 0 || unshare(flag) < 0)
		_exit(errno);
	/* Children are the first in a new one of processes, or of time. */
	if ((flag == CLONE_NEWPID || flag == CLONE_NEWTIME) && fork()) {
		wait(&status);
		_exit(WEXITSTATUS(status));
	}
	if (flag == CLONE_NEWPID)
		_exit(getpid() == 1 ? 0 : EPROTO);
	_exit(readlink(path, after, 63) > 0 && strcmp(before, after) ? 0 : EPROTO);
}

static void namespaces(void)
{
	static const struct {
		const char *name, *link;
		int flag;
	} all[] = {{"namespace-mount", "mnt", CLONE_NEWNS},
		   {"namespace-uts", "uts", CLONE_NEWUTS},
		   {"namespace-ipc", "ipc", CLONE_NEWIPC},
		   {"namespace-net", "net", CLONE_NEWNET},
		   {"namespace-pid", "pid", CLONE_NEWPID},
		   {"namespace-user", "user", CLONE_NEWUSER},
		   {"namespace-cgroup", "cgroup", CLONE_NEWCGROUP},
		   {"namespace-time", "time", CLONE_NEWTIME}};
	unsigned i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		say(all[i].name, namespace(all[i].link, all[i].flag));
}

static long seccomp_listener(void)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {1, code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);
}

/* A call that cannot fail does. */
static long seccomp_filter(void)
{
	struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      offsetof(struct seccomp_data, nr)),
				     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
				     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
				     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {4, code};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) < 0)
		return -1;
	return syscall(SYS_getppid) == -1 && errno == EDOM ? 0 : no();
}

static int take(unsigned mib)
{
	char *p = mmap(NULL, (size_t)mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return 1;
	memset(p, 1, (size_t)mib << 20);
	printf("took %u MiB\n", mib);
	return 0;
}

int main(int argc, char **argv)
{
	setbuf(stdout, NULL); /* children have nothing to say again */
	if (argc > 1)
		return take((unsigned)atoi(argv[1]));
	say("io_uring", io_uring());
	say("bpf-map", bpf_map());
	say("bpf-prog", bpf_load(BPF_PROG_TYPE_CGROUP_SKB));
	say("bpf-runs", bpf_runs());
	say("vsock", vsock());
	say("packet", socket(AF_PACKET, SOCK_RAW, 0));
	say("tun-passes", tun());
	say("fuse-serves", fuse());
	say("fanotify", fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
	say("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
	namespaces();
	say("namespaces", unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
				  CLONE_NEWCGROUP | CLONE_NEWPID));
	say("user-namespace", unshare(CLONE_NEWUSER));
	say("seccomp", seccomp_listener());
	say("seccomp-holds", seccomp_filter());
	return 0;
}
