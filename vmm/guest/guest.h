/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.h - what the files of the guest's init share.
 *
 * DOC: Theory of operation
 * One thread, one epoll loop. The agent (PID 1 of the microVM) prepares disks, network and cgroups; each
 * process of the container starts as a child that finishes its own set-up (spawn.c), talks to the agent
 * over a socketpair meanwhile, and execs. The agent lives in the initramfs' mount namespace and
 * never resolves a path inside the container's root but through openat2.
 *
 * Nothing here waits for the container: what it could delay (pipes, ptys, its exit) is an event.
 */
#ifndef VMM_GUEST_GUEST_H
#define VMM_GUEST_GUEST_H

#include <sys/epoll.h>
#include <sys/types.h>

#include "core/json.h"
#include "core/path.h"
#include "core/str.h"
#include "vmm/agent.h"

#define GUEST_ROOT        "/root" /* where the container's root is put together */
#define GUEST_LOWER       "/lower"
#define GUEST_UPPER       "/upper"
#define GUEST_VOLUMES     "/volumes"           /* each in a directory that is its number */
#define GUEST_CHANGES     GUEST_UPPER "/upper" /* the overlay's upper directory */
#define GUEST_SHARES      "/shares"            /* what the host shares, entry by entry */
#define GUEST_CGROUP      "/sys/fs/cgroup/container"
#define GUEST_MAX_MOUNTS  256
#define GUEST_MAX_VOLUMES 32
#define GUEST_MAX_PROCS   512

/* ---- log.c: the kernel's log, which is the console until there is a host to tell ---- */
void guest_log(const char *fmt, ...) PRINTF(1, 2);
void guest_log_err(const struct error *e, const char *what);
extern bool guest_debug;

/* ---- ev.c ---- */
struct ev {
	int fd; /* borrowed */
	void (*fn)(struct ev *ev, uint32_t events);
	uint32_t events; /* as registered */
	bool added;
};

int ev_init(struct error **err);
int ev_add(struct ev *ev, int fd, uint32_t events, void (*fn)(struct ev *, uint32_t),
	   struct error **err);
void ev_mod(struct ev *ev, uint32_t events);
/* ev_del: no callback comes after this, not even from the turn being handled; the owner may be freed. */
void ev_del(struct ev *ev);
/* ev_turn: waits until something happens or the monotonic deadline (µs; 0: none) and runs callbacks. */
void ev_turn(uint64_t deadline_us);

/* ---- dial.c ---- */
/* guest_dial: starts connecting to a port of the host. Non-blocking: EPOLLOUT says when it is decided,
 * SO_ERROR how. */
int guest_dial(uint32_t port, struct error **err);

/* ---- wire.c: rpc.h framing, without descriptors ---- */
struct wire {
	struct ev ev;
	int fd;
	bool connected, greeted, closed;
	struct buf in, out;
	/* A call of the host: answered by wire_reply() or wire_reply_error() with its id, at once or later. */
	void (*on_call)(struct wire *w, int64_t id, const char *method, struct json_object *params);
	void (*on_close)(struct wire *w);
};

int wire_open(struct wire *w, int fd, struct error **err); /* owns fd; sends the hello */
void wire_notify(struct wire *w, const char *event,
		 struct json_object *params);                            /* consumes params */
void wire_reply(struct wire *w, int64_t id, struct json_object *result); /* consumes; NULL is {} */
void wire_reply_error(struct wire *w, int64_t id, const struct error *e);
void wire_shutdown(struct wire *w); /* no more from us; what is queued still goes */
void wire_close(struct wire *w);

/* ---- boot.c ---- */
int boot_early_mounts(struct error **err);
int boot_modules(struct error **err);
/* boot_modules_foreign: those that running programs of other architectures takes; when nobody will, they are dropped. */
int boot_modules_foreign(bool wanted, struct error **err);
/* boot_modules_shares: those that the host's shared directories take. Before boot_modules_later(). */
int boot_modules_shares(bool wanted, struct error **err);
/* boot_modules_nested: KVM's, for a container that is offered virtualization: afterwards there is a /dev/kvm. Before
 * boot_switch_root(). */
int boot_modules_nested(bool wanted, struct error **err);
/* boot_modules_later: the modules that a start can do without; returns at once. */
void boot_modules_later(void);
/* boot_modules_rest: the same modules, now. */
void boot_modules_rest(void);
struct json_object *boot_descriptor(struct error **err);
/* boot_seccomp: takes the container's system call filter from the initramfs, when there is one. */
int boot_seccomp(struct error **err);
/* boot_switch_root: leaves the initramfs for a small tmpfs, so that containers can pivot away from it. */
int boot_switch_root(struct error **err);

/* ---- foreign.c ---- */
/* foreign_register: has the kernel run what the boot descriptor's "emulator" (may be NULL) is for with it. */
int foreign_register(struct json_object *emulator, struct error **err);

/* ---- disks.c: lower, upper and overlay in the agent's namespace ---- */
int disks_mount(struct json_object *root, struct error **err);
/* disks_mount_shares: the host's shared directories, on GUEST_SHARES, which no container sees: each share is bound to its place by
 * crootfs_setup(). */
int disks_mount_shares(struct error **err);
/* disks_volumes: mounts boot.json's "volumes", an array or NULL, each in GUEST_VOLUMES/<its number>. */
int disks_volumes(struct json_object *volumes, struct error **err);
/* disks_unmount: what was written is on the disks, and their file systems are clean. */
void disks_unmount(void);

/* ---- etc.c: files the container finds in /etc; before anything is mounted over them ---- */
int etc_write(int rootfd, struct json_object *boot, struct error **err);

/* ---- cpus.c ---- */
/* cpus_start: starts the CPUs that the kernel did not, after whatever else changes the kernel's code. One that fails is logged. */
void cpus_start(void);

/* ---- netcfg.c ---- */
/* netcfg_apply: call it when all CPUs run: a card uses as many of its queues as there are CPUs. */
int netcfg_apply(struct json_object *networks, struct error **err);

/* ---- cgroup.c ---- */
int cgroup_setup(struct json_object *resources, struct error **err);
int cgroup_limit(struct json_object *resources,
		 struct error **err); /* of these, those that are named */
int cgroup_fd(void);                  /* the container's group, for CLONE_INTO_CGROUP */
/* cgroup_of: the group below it that this process has moved to; owned by the caller; -1: none. */
int cgroup_of(pid_t pid);
uint64_t cgroup_oom_kills(void); /* so far, in the container */
void cgroup_kill(void);
void cgroup_freeze(bool on); /* calls nest */
struct json_object *stats_collect(void);

/* ---- mnt.c: mounts by descriptor (fsopen, open_tree, move_mount) ---- */
struct mnt_opts {
	uint64_t attrs; /* MOUNT_ATTR_* */
	bool bind, rbind;
	struct strv data; /* "key" or "key=value" for the file system */
};
void mnt_opts_parse(struct json_object *options, struct mnt_opts *o);
void mnt_opts_free(struct mnt_opts *o);
/* mnt_fs: a detached mount of a new file system; the caller owns the descriptor. */
int mnt_fs(const char *type, const char *source, const struct mnt_opts *o, struct error **err);
/* mnt_attach: puts a detached mount on target, resolved in-root; missing directories are made. */
int mnt_attach(int mfd, int rootfd, const char *target, bool file, struct error **err);
/* mnt_bind: clones what src (in-root) shows, a detached mount. */
int mnt_clone(int fd, bool recursive, struct error **err);
int mnt_set_attrs(int mfd, uint64_t set, bool recursive, struct error **err);
/* mnt_target: opens target in-root (O_PATH), creating it and its parents, never through a link out. */
int mnt_target(int rootfd, const char *target, bool file, struct error **err);

/* ---- crootfs.c: the container's mounts, run by the container's first process ---- */
int crootfs_setup(int rootfd, struct json_object *boot, struct error **err);
int crootfs_bind_console(int rootfd, int slave_fd, struct error **err);
int crootfs_sysctls(struct json_object *boot, struct error **err);
/* crootfs_restrict: masked and read-only paths. */
int crootfs_restrict(int rootfd, struct json_object *boot, struct error **err);
int crootfs_pivot(int rootfd, bool readonly, struct error **err);

/* ---- user.c: names from the container's /etc, which the caller has made its root ---- */
struct user {
	uint32_t uid, gid;
	uint32_t *groups;
	size_t ngroups;
	char *home; /* never NULL */
};
int user_resolve(struct json_object *process, struct user *u, struct error **err);

/* ---- cred.c ---- */
struct cred {
	uint64_t caps;
	bool no_new_privs;
	struct {
		int resource;
		uint64_t soft, hard;
	} limits[16];
	size_t nlimits;
	int oom_score_adj;
};
int cred_parse(struct json_object *process, struct cred *c, struct error **err);
/* cred_oom_score: while the agent's own /proc is in sight. */
void cred_oom_score(const struct cred *c);
int cred_limits(const struct cred *c, struct error **err);
/* cred_become: bounding set, groups, ids, capabilities, no_new_privs, in that order. What it takes to install a filter
 * without no_new_privs is kept, permitted but not effective. */
int cred_become(const struct cred *c, const struct user *u, struct error **err);
/* cred_confine: the filter, if there is one, and the last privilege goes; nothing but exec may follow. */
int cred_confine(const struct cred *c, const struct user *u, struct error **err);
extern struct buf cred_filter; /* struct sock_filter[]; empty: none */

/* ---- pump.c: bytes from one descriptor to another ---- */
struct pump {
	struct ev src_ev, dst_ev;
	int src, dst; /* owned; -1 once done */
	char *buf;
	size_t start, end;
	bool src_eof, done;
	bool to_tty;   /* end of input is typed, not closed */
	bool dst_sock; /* end is told by shutdown(), the socket stays until close */
	char last;     /* last byte read */
	void (*on_done)(struct pump *p);
	void *arg;
};
/* pump_start: owns src and dst, both non-blocking from now on. on_done is called once, never from here. */
int pump_start(struct pump *p, int src, int dst, struct error **err);
/* pump_finish: takes what src has now and no more. */
void pump_finish(struct pump *p);
void pump_close(struct pump *p); /* drops everything; no on_done */

/* ---- spawn.c ---- */
enum { STDIN, STDOUT, STDERR };

/* A parsed process object; strings borrow from json. */
struct spec {
	struct json_object *json;
	const char *id, *cwd;
	struct json_object *args, *env;
	bool tty;
	bool builtin; /* args are a task of the agent's own (task.c) instead of a program */
	uint16_t rows, cols;
	uint32_t port[3];
	struct cred cred;
};
int spec_parse(struct json_object *process, struct spec *s,
	       struct error **err); /* keeps a reference */
void spec_free(struct spec *s);

/* What the child says over its socketpair: one datagram each; then end of file when exec succeeded. */
enum child_msg { CHILD_PTY = 1, CHILD_FAILED = 2 };

struct child {
	pid_t pid;
	int pidfd;    /* init only, else -1 */
	int sock;     /* owned by the caller */
	int stdio[3]; /* our ends of the pipes, -1 where there is none */
};
/* spawn_init: the container's first process, in namespaces of its own. boot may hold "init": true. */
int spawn_init(const struct spec *s, struct json_object *boot, struct child *c, struct error **err);
/* spawn_exec: one more, in the namespaces of init_pidfd. A task of the agent's stays in the agent's pid namespace, where the
 * container cannot reach it; without a container (-1) it sees the root file system with nothing mounted in it. */
int spawn_exec(const struct spec *s, int init_pidfd, struct child *c, struct error **err);
/* spawn_enter_error: -1 with *err, from errno after `what` failed: the container may have ended in that moment. */
int spawn_enter_error(int init_pidfd, const char *what, struct error **err);
void spawn_go(int sock); /* streams are connected: exec */

/* What a child gets: exists on its side of the fork only. */
struct child_side {
	const struct spec *spec;
	int sock;
	int stdio[3];  /* pipe ends or /dev/null; with tty -1 until the slave is there */
	int layers[2]; /* of a task: TASK_CHANGES and TASK_IMAGE before they get these numbers */
};
NORETURN void child_init_main(struct child_side *c, struct json_object *boot);
NORETURN void child_exec_main(struct child_side *c, int init_pidfd);
NORETURN void child_task_main(struct child_side *c, int init_pidfd);

/* ---- tail.c: the last steps in the child, up to execve; returns only on failure ---- */
int tail_exec(const struct spec *s, const int stdio[3], struct error **err);
/* tail_pty: a pty in the devpts of the container whose root is rootfd. */
int tail_pty(const struct spec *s, int rootfd, int *master, int *slave, struct error **err);

/* ---- task.c: what the agent does itself with the container's files, in a child of its own ---- */
#define TASK_CHANGES 3 /* a task's descriptors: the overlay's upper directory, */
#define TASK_IMAGE   4 /* and what is below it */
/* task_inside: whether a task sees what is mounted in a running container. */
bool task_inside(const struct spec *s);
/* task_freezes: whether the container stands still meanwhile; such a task is not in its cgroup. */
bool task_freezes(const struct spec *s);
NORETURN void task_main(const struct spec *s, const int stdio[3], const int layers[2]);

/* ---- reaper.c: the small init of "init": true ---- */
NORETURN void reaper_main(pid_t child);

/* ---- proc.c ---- */
int proc_start(struct json_object *process, struct json_object *boot, int64_t call_id,
	       struct error **err);
int proc_signal(const char *id, int signo, struct error **err);
int proc_kill_session(const char *id, struct error **err); /* all that it began, too */
int proc_resize(const char *id, unsigned rows, unsigned cols, struct error **err);
/* proc_predial: starts connecting a process's streams early; used by the proc_start() that follows. */
void proc_predial(struct json_object *process);
void proc_reap(void);         /* after SIGCHLD */
void proc_kill_all(void);     /* SIGKILL to the container's init */
uint64_t proc_deadline(void); /* µs, 0: none; proc_tick() wants to be called then */
void proc_tick(void);
bool proc_running(void); /* the init process has started and not ended */
bool proc_over(void);    /* the init process has ended or never started, and all is told */
/* proc_tasks_only: there will be no init process; tasks are served until the host asks for the end. */
void proc_tasks_only(bool readonly);
extern bool proc_no_init;  /* proc_tasks_only() was called, */
extern bool proc_readonly; /* and the root file system is not to be changed */

pid_t proc_init_pid(void); /* -1 when it does not run */

/* ---- sockets.c: Unix sockets across the machine's border ---- */
/* sockets_open: listens for the boot descriptor's relays; before the container's first process is made. */
int sockets_open(struct json_object *boot, struct error **err);
/* sockets_mount: puts the relays where the container finds them; run by its first process, after all other mounts. */
int sockets_mount(int rootfd, struct json_object *boot, struct error **err);
/* sockets_connect: the host's call socket.connect; *result (the caller's) stays NULL unless there is something to say. */
int sockets_connect(struct json_object *params, struct json_object **result, struct error **err);

/* ---- clock.c ---- */
/* clock_ask: asks the host what time it is, now and every ten minutes. clock_wait: until it has said so, or for two seconds. */
void clock_ask(void);
void clock_wait(void);
/* clock_heard: the answer: it is ns since the epoch on the host. */
void clock_heard(int64_t ns);
/* clock_deadline: when clock_tick() has something to do (µs; 0: never). */
uint64_t clock_deadline(void);
void clock_tick(void);

/* ---- ticks.c ---- */
/* ticks_fire: false when a timer of a tenth of a millisecond has not fired after half a second. */
bool ticks_fire(void);

/* ---- session.c ---- */
void session_kill(pid_t leader); /* SIGKILL to all of its session */

/* ---- kmsg.c: the kernel's log to the host ---- */
void kmsg_open(void); /* dials; a failure is logged and otherwise none */

/* ---- top.c ---- */
struct json_object *top_collect(void);

/* ---- agent.c ---- */
extern struct wire agent_wire;
int agent_open(struct error **err);
/* agent_no_ticks: tells the host so; returns when it has been told. */
void agent_no_ticks(void);
void agent_ready(uint64_t began_us);
extern bool agent_stopping; /* the host asked for the end, or is gone */

#endif
