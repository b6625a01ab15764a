/* SPDX-License-Identifier: Apache-2.0 */
/* seccomp.c - profiles, the default one among them, as entries; see seccomp.h. */
#include "vmm/seccomp.h"

#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/socket.h>

#include "core/caps.h"

#define BIT(cap)  (1ull << (cap))
#define MAX_RULES 4096
#define MAX_NAMES 65536
#define ERRNO_MAX 4095 /* what a filter may return */
#define ALLOW     SECCOMP_RET_ALLOW
#define REFUSE    (SECCOMP_RET_ERRNO | EPERM)
#define ABSENT    (SECCOMP_RET_ERRNO | ENOSYS)
#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
	 CLONE_NEWCGROUP)

/* ---- the default profile ---- */

static const char files[] =
	"_llseek access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 "
	"dup3 "
	"faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod "
	"fchmodat "
	"fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr "
	"fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat "
	"getcwd "
	"getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 "
	"inotify_rm_watch "
	"io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit "
	"ioctl "
	"ioprio_get ioprio_set lchown lchown32 lgetxattr link linkat listxattr llistxattr "
	"lremovexattr "
	"lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat "
	"open "
	"openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead "
	"readdir readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile "
	"sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink symlinkat sync "
	"sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat "
	"utimensat_time64 utimes write writev landlock_add_rule landlock_create_ruleset "
	"landlock_restrict_self";
static const char waiting[] =
	"_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 "
	"epoll_wait "
	"epoll_wait_old eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select "
	"futex "
	"futex_time64 futex_waitv get_robust_list set_robust_list membarrier rseq restart_syscall";
static const char memory[] =
	"brk madvise memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect "
	"mremap "
	"msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages";
static const char processes[] =
	"capget capset execve execveat exit exit_group fork vfork getpgid getpgrp getpid getppid "
	"getpriority getrlimit getrusage getsid gettid get_thread_area kill pause pidfd_getfd "
	"pidfd_open "
	"pidfd_send_signal prctl prlimit64 process_mrelease process_vm_readv process_vm_writev "
	"ptrace "
	"rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
	"rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max "
	"sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler "
	"sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr "
	"sched_setparam sched_setscheduler sched_yield seccomp setpgid setpriority setrlimit "
	"setsid "
	"set_thread_area set_tid_address sigaction sigaltstack signal signalfd signalfd4 "
	"sigpending "
	"sigprocmask sigreturn sigsuspend tgkill tkill ugetrlimit wait4 waitid waitpid arch_prctl "
	"modify_ldt";
static const char ids[] = "getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups "
			  "getgroups32 getresgid getresgid32 "
			  "getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid "
			  "setfsuid32 setgid setgid32 "
			  "setgroups setgroups32 setregid setregid32 setresgid setresgid32 "
			  "setresuid setresuid32 setreuid "
			  "setreuid32 setuid setuid32";
static const char clocks[] =
	"adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 "
	"clock_gettime "
	"clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep "
	"setitimer "
	"time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 "
	"timer_settime "
	"timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
	"timerfd_settime64 times";
static const char talking[] =
	"accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg "
	"recvmmsg_time64 recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair "
	"ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
	"mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop "
	"semtimedop_time64 shmat shmctl shmdt shmget";
static const char others[] = "getcpu getrandom sysinfo uname";

static const char mounts[] = "fsconfig fsmount fsopen fspick mount mount_setattr move_mount "
			     "open_tree pivot_root umount umount2";
static const char admin[] =
	"fanotify_init lookup_dcookie quotactl quotactl_fd setdomainname sethostname setns unshare";
static const char placing[] = "get_mempolicy mbind set_mempolicy set_mempolicy_home_node";
static const char keys[] = "add_key keyctl request_key";
static const char modules[] = "delete_module finit_module init_module";
static const char ports[] = "ioperm iopl";
static const char setting[] = "clock_settime clock_settime64 settimeofday stime";
static const char looking[] = "kcmp process_madvise";
static const char never[] =
	"io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load migrate_pages "
	"move_pages nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname swapoff swapon "
	"sysfs "
	"uselib userfaultfd ustat vm86 vm86old vmsplice";

#define ALWAYS(list)                             \
	{                                        \
		.names = (list), .action = ALLOW \
	}
#define WITH(list, caps)                                             \
	{.names = (list), .action = ALLOW, .with = (caps)},          \
	{                                                            \
		.names = (list), .action = REFUSE, .without = (caps) \
	}
#define PERSONALITY(v)                                              \
	{                                                           \
		.names = "personality", .action = ALLOW, .narg = 1, \
		.arg = { {.index = 0, .op = OP_EQ, .value = (v)} }  \
	}

/* Entries with capabilities are there for containers that have one of `with` or none of `without`. */
static const struct {
	const char *names;
	uint32_t action;
	uint64_t with, without;
	unsigned narg;
	struct seccomp_arg arg[2];
} standard[] = {
	ALWAYS(files),
	ALWAYS(waiting),
	ALWAYS(memory),
	ALWAYS(processes),
	ALWAYS(ids),
	ALWAYS(clocks),
	ALWAYS(talking),
	ALWAYS(others),
	PERSONALITY(PER_LINUX),
	PERSONALITY(PER_LINUX32),
	PERSONALITY(UNAME26),
	PERSONALITY(UNAME26 | PER_LINUX32),
	PERSONALITY(0xffffffff), /* asks */
	/* The guest's way to its host is the agent's alone. */
	{"socket", REFUSE, 0, 0, 1, {{0, OP_EQ, AF_VSOCK, 0}}},
	/* Programs that would write audit records, and may not, take this for a kernel without them. */
	{"socket",
	 SECCOMP_RET_ERRNO | EINVAL,
	 0,
	 BIT(CAP_AUDIT_WRITE),
	 2,
	 {{0, OP_EQ, AF_NETLINK, 0}, {2, OP_EQ, NETLINK_AUDIT, 0}}},
	ALWAYS("socket"),
	/* Threads and processes, not namespaces; the flags of clone3 are in memory, where no filter sees them. */
	{"clone clone3", ALLOW, BIT(CAP_SYS_ADMIN), 0, 0, {{0}}},
	{"clone", ALLOW, 0, 0, 1, {{0, OP_MASKED, NAMESPACES, 0}}},
	{"clone", REFUSE, 0, 0, 0, {{0}}},
	{"clone3", ABSENT, 0, 0, 0, {{0}}},
	WITH(mounts, BIT(CAP_SYS_ADMIN)),
	WITH(admin, BIT(CAP_SYS_ADMIN)),
	WITH(keys, BIT(CAP_SYS_ADMIN)),
	WITH("bpf", BIT(CAP_SYS_ADMIN) | BIT(CAP_BPF)),
	WITH("perf_event_open", BIT(CAP_SYS_ADMIN) | BIT(CAP_PERFMON)),
	WITH("syslog", BIT(CAP_SYS_ADMIN) | BIT(CAP_SYSLOG)),
	WITH("open_by_handle_at", BIT(CAP_DAC_READ_SEARCH)),
	WITH("reboot", BIT(CAP_SYS_BOOT)),
	WITH("chroot", BIT(CAP_SYS_CHROOT)),
	WITH(modules, BIT(CAP_SYS_MODULE)),
	WITH(placing, BIT(CAP_SYS_NICE)),
	WITH("acct", BIT(CAP_SYS_PACCT)),
	WITH(looking, BIT(CAP_SYS_PTRACE)),
	WITH(ports, BIT(CAP_SYS_RAWIO)),
	WITH(setting, BIT(CAP_SYS_TIME)),
	WITH("vhangup", BIT(CAP_SYS_TTY_CONFIG)),
	{.names = never, .action = REFUSE},
};

/* ---- entries ---- */

static int name_cmp(const void *key, const void *item)
{
	return strcmp(key, ((const struct seccomp_name *)item)->name);
}

static void entry_add(struct seccomp_calls *c, int nr, uint32_t rule)
{
	if (nr < 0)
		return;
	c->entry = xreallocarray(c->entry, c->n + 1, sizeof(*c->entry));
	c->entry[c->n++] = (struct seccomp_entry){.nr = (uint32_t)nr, .rule = rule};
}

static int rule_add(struct seccomp_set *set, const struct seccomp_rule *r, struct error **err)
{
	if (set->nrules >= MAX_RULES)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the seccomp profile has too many entries");
	set->rule = xreallocarray(set->rule, set->nrules + 1, sizeof(*set->rule));
	set->rule[set->nrules++] = *r;
	return 0;
}

/* A call that falls under the last rule added. */
static int name_add(struct seccomp_set *set, const char *name, struct error **err)
{
	const struct seccomp_name *n =
		bsearch(name, seccomp_names, seccomp_nnames, sizeof(*seccomp_names), name_cmp);

	if (!n)
		return 0;
	if (set->call[0].n >= MAX_NAMES || set->call[1].n >= MAX_NAMES)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the seccomp profile has too many names");
	entry_add(&set->call[0], n->nr64, (uint32_t)set->nrules - 1);
	entry_add(&set->call[1], n->nr32, (uint32_t)set->nrules - 1);
	return 0;
}

static int add_standard(struct seccomp_set *set, uint64_t caps, struct error **err)
{
	size_t i;

	set->fallback = ABSENT;
	set->i386 = true;
	for (i = 0; i < ARRAY_SIZE(standard); i++) {
		struct seccomp_rule r = {.action = standard[i].action, .nargs = standard[i].narg};
		CLEANUP_FREE char *copy = xstrdup(standard[i].names);
		char *rest = copy, *name;

		if ((standard[i].with && !(caps & standard[i].with)) ||
		    (caps & standard[i].without))
			continue;
		memcpy(r.arg, standard[i].arg, sizeof(standard[i].arg));
		if (rule_add(set, &r, err))
			return -1;
		while ((name = strsep(&rest, " ")))
			if (name_add(set, name, err))
				return -1;
	}
	return 0;
}

/* ---- JSON ---- */

static const struct {
	const char *name;
	uint32_t action;
	bool data;
} actions[] = {
	{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW, false},
	{"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO, true},
	{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD, false},
	{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD, false},
	{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS, false},
	{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP, false},
	{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE, true},
	{"SCMP_ACT_LOG", SECCOMP_RET_LOG, false},
};

static const char *const ops[] = {
	[OP_NE] = "SCMP_CMP_NE",
	[OP_LT] = "SCMP_CMP_LT",
	[OP_LE] = "SCMP_CMP_LE",
	[OP_EQ] = "SCMP_CMP_EQ",
	[OP_GE] = "SCMP_CMP_GE",
	[OP_GT] = "SCMP_CMP_GT",
	[OP_MASKED] = "SCMP_CMP_MASKED_EQ",
};

static int parse_action(struct json_object *o, const char *key, const char *ret_key, uint32_t *out,
			struct error **err)
{
	int64_t ret = EPERM;
	const char *name;
	size_t i;

	if (json_need_str(o, key, &name, err) ||
	    (json_get(o, ret_key) && json_need_int(o, ret_key, 0, ERRNO_MAX, &ret, err)))
		return -1;
	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(actions[i].name, name))
			continue;
		*out = actions[i].action | (actions[i].data ? (uint32_t)ret : 0);
		return 0;
	}
	return error_set(err, ERR_UNSUPPORTED, "seccomp action \"%.40s\" is not supported", name);
}

/* A number of 64 bits without a sign, which may be given as a negative one. */
static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *v = json_get(o, key);

	return v && json_object_get_int64(v) < 0 ? (uint64_t)json_object_get_int64(v)
						 : json_object_get_uint64(v);
}

static int parse_arg(struct json_object *o, struct seccomp_arg *a, struct error **err)
{
	int64_t index;
	const char *op;
	size_t i;

	if (json_need_int(o, "index", 0, SECCOMP_MAX_ARGS - 1, &index, err) ||
	    json_need_str(o, "op", &op, err))
		return -1;
	for (i = 0; i < ARRAY_SIZE(ops) && strcmp(ops[i], op); i++)
		;
	if (i == ARRAY_SIZE(ops))
		return error_set(err, ERR_INVALID_ARGUMENT, "unknown comparison \"%.40s\"", op);
	*a = (struct seccomp_arg){.index = (unsigned)index,
				  .op = (enum seccomp_op)i,
				  .value = number(o, "value"),
				  .value2 = number(o, "valueTwo")};
	return 0;
}

/* Whether one of the names is a capability in the set, or an architecture we are. */
static bool names_us(struct json_object *which, uint64_t caps, bool *named)
{
	static const char *const arches[] = {"amd64", "x86_64", "x86"};
	struct json_object *c = json_arr(which, "caps"), *a = json_arr(which, "arches");
	size_t i, k;

	*named = (c && json_object_array_length(c)) || (a && json_object_array_length(a));
	for (i = 0; c && i < json_object_array_length(c); i++) {
		const char *s = json_object_get_string(json_object_array_get_idx(c, i));
		int cap = s ? caps_find(s) : -1;

		if (cap >= 0 && caps & BIT(cap))
			return true;
	}
	for (i = 0; a && i < json_object_array_length(a); i++)
		for (k = 0; k < ARRAY_SIZE(arches); k++)
			if (str_eq(json_object_get_string(json_object_array_get_idx(a, i)),
				   arches[k]))
				return true;
	return false;
}

static bool concerns(struct json_object *o, uint64_t caps)
{
	bool named;

	if (names_us(json_obj(o, "excludes"), caps, &named))
		return false;
	return names_us(json_obj(o, "includes"), caps, &named) || !named;
}

static int add_entry(struct seccomp_set *set, struct json_object *o, uint64_t caps,
		     struct error **err)
{
	struct json_object *args = json_arr(o, "args"), *names = json_arr(o, "names");
	size_t i, nargs = args ? json_object_array_length(args) : 0;
	struct seccomp_rule r = {.nargs = (unsigned)nargs};

	if (nargs > SECCOMP_MAX_ARGS)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d arguments",
				 SECCOMP_MAX_ARGS);
	if (parse_action(o, "action", "errnoRet", &r.action, err))
		return -1;
	for (i = 0; i < nargs; i++)
		if (parse_arg(json_object_array_get_idx(args, i), &r.arg[i], err))
			return -1;
	if (!concerns(o, caps))
		return 0;
	if (rule_add(set, &r, err))
		return -1;
	if (json_str(o, "name", NULL) && name_add(set, json_str(o, "name", ""), err))
		return -1;
	for (i = 0; names && i < json_object_array_length(names); i++) {
		struct json_object *v = json_object_array_get_idx(names, i);

		if (!json_object_is_type(v, json_type_string))
			return error_set(err, ERR_INVALID_ARGUMENT, "a name is not a string");
		if (name_add(set, json_object_get_string(v), err))
			return -1;
	}
	return 0;
}

static bool lists(struct json_object *arr, const char *what)
{
	size_t i;

	for (i = 0; arr && i < json_object_array_length(arr); i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(arr, i)), what))
			return true;
	return false;
}

static bool wants_i386(struct json_object *profile)
{
	struct json_object *map = json_arr(profile, "archMap");
	size_t i;

	for (i = 0; map && i < json_object_array_length(map); i++) {
		struct json_object *o = json_object_array_get_idx(map, i);

		if (str_eq(json_str(o, "architecture", NULL), "SCMP_ARCH_X86_64") &&
		    lists(json_arr(o, "subArchitectures"), "SCMP_ARCH_X86"))
			return true;
	}
	return lists(json_arr(profile, "architectures"), "SCMP_ARCH_X86");
}

static int add_profile(struct seccomp_set *set, struct json_object *profile, uint64_t caps,
		       struct error **err)
{
	struct json_object *calls = json_get(profile, "syscalls");
	size_t i, n;

	if (calls && !json_object_is_type(calls, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"syscalls\" must be an array");
	if (parse_action(profile, "defaultAction", "defaultErrnoRet", &set->fallback, err))
		return -1;
	set->i386 = wants_i386(profile);
	n = calls ? json_object_array_length(calls) : 0;
	for (i = 0; i < n; i++)
		if (add_entry(set, json_object_array_get_idx(calls, i), caps, err))
			return error_wrap(err, "entry %zu", i);
	return 0;
}

int seccomp_compile(struct json_object *profile, uint64_t caps, struct buf *out, struct error **err)
{
	struct seccomp_set set = {0};
	int rc = profile ? add_profile(&set, profile, caps, err) : add_standard(&set, caps, err);

	if (!rc)
		rc = seccomp_code(&set, out, err);
	free(set.rule);
	free(set.call[0].entry);
	free(set.call[1].entry);
	return rc ? error_wrap(err, "seccomp profile") : 0;
}
