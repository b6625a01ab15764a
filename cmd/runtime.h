/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime.h - inside the runtime role: one container, its machine, its processes and their streams.
 *
 * DOC: Theory of operation
 * The helper serves one socket (inherited at descriptor 3). runtime.start brings everything as
 * descriptors and builds the machine; the guest's agent then dials in over vsock: one control
 * stream that speaks rpc.h framing, and one stream per stdio of each process, told apart by port. A
 * process here is a small record: its streams, its waiters, its exit code. Ports are handed out
 * once and never again, so a guest that dials a stale or foreign port is refused.
 *
 * The machine's end ends the helper: the exit status is written to containers/<id>/exit.json first,
 * so that an apiserver that was away reads it later. Everything runs on one loop thread.
 *
 * DOC: The files of a stopped container
 * With --files the helper boots the container's disks for tasks of the agent's alone (copy, export): no process, no
 * network, no logs, no exit record; the record of "init" stands for the machine. Such a helper is the apiserver's own: it
 * lives as long as the connection, and nobody adopts it. The host never looks into the writable disk itself.
 */
#ifndef CMD_RUNTIME_H
#define CMD_RUNTIME_H

#include "cmd/stdlog.h"
#include "core/log.h"
#include "core/str.h"
#include "core/roots.h"
#include "core/rpc.h"
#include "vmm/vm.h"

#define RUNTIME_MAX_PROCESSES 512
#define RUNTIME_BOOT_LOG_MAX  (1u << 20)
#define RUNTIME_HEALTH_LOG    5 /* last results of health checks */
#define RUNTIME_CAPTURE_MAX   4096
#define RUNTIME_GUEST_CID     3
#define RUNTIME_TASK          "task-" /* how processes of a stopped container's files are named */
#define RUNTIME_OVERHEAD \
	(128ull << 20) /* guest memory for kernel and agent on top of what was promised */
#define RUNTIME_UPPER_BYTES (256ull << 30)
#define RUNTIME_FILES_MEM   (128ull << 20) /* what the tasks on a stopped container's files get */
#define RUNTIME_MAX_VOLUMES 32

#define SOCKETS_PUBLISHED_MAX 16
#define SOCKETS_SSH           (-1) /* the SSH agent's, which is no mount of the configuration */

struct runtime;
struct rt_process;
struct sockets;

enum rt_stream_kind { RT_STDIN, RT_STDOUT, RT_STDERR, RT_STREAMS };

/* One stdio stream of a process: a vsock port, the guest's stream once it dialled, and the client's
 * descriptor. */
struct rt_stream {
	struct rt_process *proc;
	enum rt_stream_kind kind;
	uint32_t port;           /* 0: not wanted */
	int fd;                  /* the client's end, non-blocking; -1 when none or gone */
	struct loop_source *src; /* watches fd */
	struct vsock_stream *vs; /* NULL before the guest dialled and after it is closed */
	bool done;               /* output: the guest sent its last byte; input: shut down */
	bool full;               /* output: the client's pipe took no more */
	bool keep;               /* input: outlives the client, for the next one that attaches */
	struct buf pending;      /* input read from fd that the guest had no credit for */
};

struct rt_waiter {
	struct rpc_req *req; /* NULL once its peer left */
	struct rt_waiter *next;
};

enum rt_proc_state { RT_PROC_STARTING, RT_PROC_RUNNING, RT_PROC_EXITED };

struct rt_process {
	struct runtime *rt;
	char *id; /* "init", "exec-1", … */
	enum rt_proc_state state;
	struct rt_stream stream[RT_STREAMS];
	bool log;      /* output goes to stdio.log */
	bool task;     /* of the agent's own */
	bool captures; /* output goes to `capture`, the beginning of it */
	struct buf capture;
	void (*over)(struct rt_process *proc); /* when it is over; NULL: nobody of ours asks */
	bool reported; /* the guest said it exited; waits for its last output */
	int exit_code;
	int64_t exited_at;
	uint64_t t_asked,
		t_exited; /* microseconds: the guest was told to start it, said it was over */
	struct loop_source *drain; /* bounds the wait for output after exit */
	struct rt_waiter *waiters;
	struct rpc_req *start_req; /* runtime.exec waiting for the guest's answer */
	struct rt_process *next;
};

enum rt_state { RT_CREATED, RT_STARTING, RT_RUNNING, RT_STOPPING, RT_STOPPED };

/* A disk of the machine's, or one of several parts of one: 1, 2, …; 0: the whole. Byte numbers count on the disk. */
struct rt_volume {
	char *name;
	bool readonly;
	unsigned disk, part; /* disk: the first after the root's two is 0 */
	uint64_t start, bytes;
};

struct runtime {
	struct loop *loop;
	struct roots roots;
	char *id;
	int dirfd;     /* containers/<id> */
	char *run_dir; /* private to this machine */
	char *sock;    /* the socket's path */
	struct rpc_server *server;
	enum rt_state state;
	struct json_object *config;   /* the container's configuration */
	struct json_object *networks; /* attachments as the apiserver gave them */
	struct json_object *caps;     /* effective capability names */
	uint64_t cap_mask;
	int64_t started_at;
	struct vm *vm;
	struct fs_channel *shares; /* to the server of shared directories; NULL: none */
	char **share_of; /* for each mount of the configuration: the name of its share, NULL when it is none */
	size_t nshare_of;
	unsigned own_uid;      /* the jail's; 0: as we are */
	unsigned engine_rules; /* FILTER_MAIN_* */
	bool telling_time;     /* the agent has not answered yet */
	int *fds; /* taps, rootfs segments, upper disk, kernel: held while the machine runs */
	size_t nfds;
	struct rt_volume volumes[RUNTIME_MAX_VOLUMES];
	size_t nvolumes;
	struct rpc_conn *agent;
	bool agent_ready;
	unsigned resets;          /* of a machine that would not come up */
	struct rt_process *procs; /* init first */
	unsigned nprocs;
	unsigned next_exec;
	struct stdlog_writer log; /* what the init process writes */
	int boot_fd, exit_fd;     /* boot.log, exit.json */
	int jail_done;            /* enum jail_stage */
	bool debug;               /* a filter names what it refuses */
	bool files;               /* serves the files of a stopped container, and no more */
	bool jailed;              /* no file of the host can be opened any more */
	size_t boot_bytes;
	char words[768]; /* the end of what the console said */
	size_t words_len;
	struct rpc_req *start_req; /* runtime.start until the init process runs */
	struct error *start_error;
	struct rt_waiter *stop_waiters;
	struct loop_source *stop_timer;
	uint64_t disk_work;      /* vm_disks_work(), since it was last asked */
	unsigned extended;       /* how often a guest that writes was given more time */
	int stop_stage;          /* 0: SIGKILL inside is next; 1: the machine itself */
	bool vm_gone;            /* the machine stopped; its last output may still be here */
	bool machine_over;       /* and the agent has nothing more to say */
	const char *machine_end; /* "panic", "reset" or "crash"; NULL: as it should, or not yet */
	bool killed;             /* stopped from outside because the guest did not go */
	bool paused;
	bool oom;                     /* something in the container was killed for want of memory */
	uint64_t t_oom;               /* when that was told last */
	struct vsock_stream *kmsg;    /* the guest's kernel log */
	unsigned nonsense, bad_dials; /* of the guest's: how often, for log_due() */
	struct rpc_req *watch;        /* runtime.watch, who is told what happens; NULL: nobody */
	struct health *health;        /* NULL: no checks */
	struct sockets *sockets;      /* NULL: none cross the border */
	/* CLOCK_MONOTONIC microseconds of the start's milestones, and what the guest measured. */
	uint64_t t_request, t_built, t_vm, t_ready, t_started, guest_init_us;
	int exit_code; /* of the helper itself */
};

/* runtime_boot.c: the boot descriptor from the configuration; owned by the caller. */
struct json_object *runtime_boot_json(struct runtime *rt, struct json_object *params,
				      struct rt_process *init, struct error **err);
/* runtime_process_json: a process like the init process, but of `args` (consumed) and proc's streams, for the agent; owned by the
 * caller. */
struct json_object *runtime_process_json(struct runtime *rt, struct rt_process *proc,
					 struct json_object *args, struct error **err);
/* runtime_boot_files: the one of a machine that serves a stopped container's files. */
struct json_object *runtime_boot_files(struct runtime *rt, struct json_object *params);
/* runtime_capabilities: default set, then ALL drops, adds, single drops, also as a mask of 1 << number; owned by the
 * caller. */
struct json_object *runtime_capabilities(struct json_object *config, uint64_t *mask,
					 struct error **err);
/* runtime_process_limits: what every process of the container gets: capabilities, no_new_privs, OOM score. */
void runtime_process_limits(struct runtime *rt, struct json_object *process);
/* runtime_seccomp: the container's system call filter; nothing when it is unconfined. */
int runtime_seccomp(struct runtime *rt, struct buf *out, struct error **err);

/* runtime_shares.c */
/* runtime_shares_start: finds what of the configuration's mounts is to be shared and starts the server of it, if there is any; sets
 * rt->shares and rt->share_of. Its error names the path. */
int runtime_shares_start(struct runtime *rt, struct error **err);
/* runtime_shares_ready: waits until it serves. */
int runtime_shares_ready(struct runtime *rt, struct error **err);
void runtime_shares_free(struct runtime *rt);
/* runtime_volumes.c */
/* runtime_lock: flock(2) of a disk's file, LOCK_EX or LOCK_SH. -1 when another machine has it after 3 s: the kernel lets go of an io_uring's
 * files a while after its process. */
int runtime_lock(int fd, int how);
/* runtime_volumes_plan: which volumes the configuration mounts, to rt->volumes. */
int runtime_volumes_plan(struct runtime *rt, struct error **err);
/* runtime_volumes_open: opens and locks their images, to segs, one each of rt->nvolumes, whose descriptors are the caller's; and describes the
 * disks that they are on, which borrow from segs: *ndisks, no more than room, where 0 counts as 1. Before the jail; takes up to 3 s for
 * one that another machine has. */
int runtime_volumes_open(struct runtime *rt, size_t room, struct vm_disk *disks, size_t *ndisks,
			 struct vm_segment *segs, struct error **err);
/* runtime_volumes_boot: "volumes" of the boot descriptor. runtime_volume_index: which of them has the name, -1: none. */
void runtime_volumes_boot(struct runtime *rt, struct json_object *boot);
int runtime_volume_index(struct runtime *rt, const char *name);
void runtime_volumes_free(struct runtime *rt);

/* runtime_emulator.c */
/* runtime_emulator: when the image is of another architecture: its emulator, from dir, as a piece of the initramfs, and
 * what init is to register in boot. */
int runtime_emulator(struct runtime *rt, const char *dir, struct json_object *boot,
		     struct buf *cpio, struct error **err);

/* runtime_stdio.c */
/* runtime_streams_open: gives proc the streams named in `streams` (array of
 * "stdin"|"stdout"|"stderr"), taking one descriptor each from fds, from index `first` on; output
 * streams exist for a logging process even when unnamed. */
int runtime_streams_open(struct rt_process *proc, struct json_object *streams, struct rpc_fds *fds,
			 size_t first, bool tty, struct error **err);
void runtime_streams_ports(struct rt_process *proc, struct json_object *process);
/* runtime_streams_capture: the beginning of what proc writes is kept in proc->capture. */
void runtime_streams_capture(struct rt_process *proc);
int runtime_stream_accept(struct rt_stream *s, struct vsock_stream *vs, struct error **err);
/* runtime_stdin_keep: gives proc a standard input that does not end with the client that has it. */
void runtime_stdin_keep(struct rt_process *proc);
/* runtime_streams_attach: connects a client's descriptors (all of fds, as `streams` names them) to the streams of a
 * running process. A stream that another client still holds is an error; one that is over or never was is closed. */
int runtime_streams_attach(struct rt_process *proc, struct json_object *streams,
			   struct rpc_fds *fds, struct error **err);
bool runtime_streams_drained(const struct rt_process *proc);
/* runtime_streams_room: the process is over: pipes that are full get room for all that is still here, so that nobody waits for their readers. */
void runtime_streams_room(struct rt_process *proc);
void runtime_streams_close(struct rt_process *proc);

/* runtime_console.c */
/* runtime_console: the console's bytes, arg a struct runtime. */
void runtime_console(void *arg, const void *p, size_t len);
/* runtime_last_words: the console's last lines as one printable line, the caller's; NULL when it said nothing. */
char *runtime_last_words(const struct runtime *rt);

/* runtime_jail.c */
/* runtime_files_open: what will be written to in the container's directory. */
int runtime_files_open(struct runtime *rt, struct error **err);
void runtime_exit_record(struct runtime *rt, int code, int64_t at);
/* runtime_jail_plan: fills the members of cfg that concern the jail; runtime_jail_prepare: between vm_new and vm_start. */
void runtime_jail_plan(struct runtime *rt, struct vm_config *cfg);
void runtime_jail_prepare(struct runtime *rt);

/* runtime_process.c */
struct rt_process *runtime_process_new(struct runtime *rt, const char *id, bool log,
				       struct error **err);
struct rt_process *runtime_process_find(struct runtime *rt, const char *id);
void runtime_process_exited(struct rt_process *proc, int code);
/* runtime_program_status: the status of a process that the guest could not begin, as shells say it: 127 not found, 126 cannot run. */
int runtime_program_status(const struct error *e);
void runtime_process_settle(struct rt_process *proc); /* after each stream's end */
void runtime_process_remove(struct rt_process *proc);
void runtime_process_wait(struct rt_process *proc, struct rpc_req *req);
void runtime_waiter_add(struct rt_waiter **list, struct rpc_req *req);
/* runtime_port_new: a port for the guest's agent to dial, of nobody else's and not to be guessed: any process in there that makes itself a
 * vsock socket could be faster than the agent, and have another's stream. */
uint32_t runtime_port_new(const struct runtime *rt);
/* runtime_accept: vm_config.accept. */
int runtime_accept(void *arg, uint32_t port, struct vsock_stream *s);

/* runtime_ops.c: calls about a running container that need the guest or the machine */
/* runtime_awake: -1 and an invalidState error while the machine is paused. */
int runtime_awake(struct runtime *rt, struct error **err);
/* runtime_unpause: lets a paused machine go on. */
int runtime_unpause(struct runtime *rt, struct error **err);
/* runtime_notice: tells who watches; o (consumed, may be NULL) are the event's members. */
void runtime_notice(struct runtime *rt, const char *event, struct json_object *o);
void runtime_on_watch(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_on_attach(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_on_pause(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_on_resume(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_on_stats(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_on_update(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_on_top(void *ctx, struct rpc_req *req, struct json_object *params);
/* runtime_accept_kmsg: the guest's kernel log goes to boot.log. */
int runtime_accept_kmsg(struct runtime *rt, struct vsock_stream *s);

/* runtime_health.c */
/* runtime_health_begin: the init process runs: checks begin when the configuration asks for some. */
void runtime_health_begin(struct runtime *rt);
/* runtime_health_json: {"status", "failingStreak", "log": [{"start", "end", "exitCode", "output"}]}, NULL without checks. */
struct json_object *runtime_health_json(struct runtime *rt);
/* runtime_health_put: the same as member "health" of o, when there is any. */
void runtime_health_put(struct runtime *rt, struct json_object *o);
void runtime_health_free(struct runtime *rt);

/* runtime_sockets.c */
/* runtime_on_publish: before runtime.start: listening sockets, in the order of the configuration's publishedSockets. */
void runtime_on_publish(void *ctx, struct rpc_req *req, struct json_object *params);
/* runtime_on_dialed: what the apiserver connected to because of an event "dial"; without a descriptor there was nothing. */
void runtime_on_dialed(void *ctx, struct rpc_req *req, struct json_object *params);
/* runtime_sockets_boot: "sockets" and "relays" of the boot descriptor, from the configuration and `relays` of params: [{mount, path, mode}]. */
int runtime_sockets_boot(struct runtime *rt, struct json_object *params, struct json_object *boot,
			 struct error **err);
void runtime_sockets_begin(struct runtime *rt);                     /* the init process runs */
void runtime_sockets_watched(struct runtime *rt);                   /* another apiserver watches */
bool runtime_sockets_port(const struct runtime *rt, uint32_t port); /* one of theirs */
/* runtime_sockets_accept: as vsock_accept_fn; 1: the port is none of theirs. */
int runtime_sockets_accept(struct runtime *rt, uint32_t port, struct vsock_stream *s);
void runtime_sockets_free(struct runtime *rt); /* after the machine */

/* runtime.c */
void runtime_init_exited(
	struct runtime *rt); /* the container's process is over and its output is out */
/* runtime_machine_over: nothing more comes from the guest. runtime_check_over: ends the helper once every process has too. */
/* runtime_start_failure: sets what a start failed with, and what the guest said before that; -1. */
int runtime_start_failure(const struct runtime *rt, enum error_code code, struct error **err,
			  const char *what);
/* runtime_vm_stopped: vm_config's `stopped`. */
void runtime_vm_stopped(void *arg, int reason, const char *detail);
/* runtime_finish: the machine is gone. Everyone is answered, then the helper ends. */
void runtime_finish(void *arg);
void runtime_machine_over(struct runtime *rt);
void runtime_check_over(struct runtime *rt);
/* ---- runtime_start.c ---- */
void runtime_on_start(void *ctx, struct rpc_req *req, struct json_object *params);
void runtime_init_started(struct runtime *rt);
void runtime_init_failed(struct runtime *rt, struct error *e); /* takes e */
void runtime_no_ticks(struct runtime *rt); /* the guest says that its timer does not fire */

#endif
