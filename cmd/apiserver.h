/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver.h - inside the apiserver role: state, helpers, and the calls of clients.
 *
 * DOC: Theory of operation
 * One loop thread does everything; nothing on it waits for a helper. Slow work that is ours (choosing an engine,
 * importing a kernel, deleting trees) runs on worker threads.
 *
 * Helpers: the listening socket of a helper is made here and stays open here, so a connection made while the helper
 * restarts waits in the backlog and is served by its successor. The image and network helpers are our children and
 * end with us; a runtime helper lives on, and a new apiserver takes it over by its socket.
 *
 * Containers: containers/<id>/{config.json, options.json, exit.json, stdio.log, boot.log} below the app root (the log: cmd/stdlog.h). The
 * directory appears by rename when it is complete and disappears by rename when it is deleted, so a crash leaves only
 * names that begin with a dot, which the next start removes. What belongs to a running one is in the run root:
 * c/<id>.sock, c/<id>.json {pid, startTime}, c/<id>.d/. In memory is what every container is asked for, and its configuration as text.
 *
 * A container's state changes at three places: start (apiserver_start.c), the helper's answer, the helper's end
 * (container_ended). The end of the helper process is the end of the container: only then are waiters answered.
 */
#ifndef CMD_APISERVER_H
#define CMD_APISERVER_H

#include "core/log.h"
#include "core/roots.h"
#include "core/rpc.h"
#include "core/str.h"
#include "net/net.h"
#include "vmm/vm.h"

#define APISERVER_LABEL     "container.apiserver"
#define APISERVER_MIN_MEM   (200ll << 20)
#define APISERVER_EXITS     256 /* ends of containers that are gone, kept for late waiters */
#define APISERVER_MAX_CALLS 256 /* calls to one runtime helper that wait for an answer */

struct apiserver;
struct container;

/* ---- helpers that live as long as we do (apiserver_services.c) ---- */
enum service_index { SVC_IMAGES, SVC_NETWORK, SVC_COUNT };

struct proxy;
struct service {
	struct apiserver *s;
	const char *label, *role, *sock;
	const char *args[8]; /* after "start"; NULL-terminated */
	int listen_fd;
	pid_t pid; /* 0: not running */
	uint64_t started_us;
	int64_t backoff_ms;
	struct loop_source *child, *timer;
	struct rpc_conn *conn;
	struct proxy *proxies;
	bool ending;
};

/* services_start: makes the sockets and starts the helpers. */
int services_start(struct apiserver *s, struct error **err);
/* services_stop: SIGTERM, after a while SIGKILL; done(arg) when all have ended. */
void services_stop(struct apiserver *s, void (*done)(struct apiserver *s));
void services_free(struct apiserver *s);
/* service_call: as rpc_call_async over the standing connection; -1 when there can be none. params is consumed. */
int service_call(struct apiserver *s, enum service_index i, const char *method,
		 struct json_object *params, rpc_reply_fn fn, void *arg, struct error **err);
/* service_proxy: passes req on as it is, over a connection of its own, so that a client that leaves cancels its call.
 * params is consumed. */
void service_proxy(struct apiserver *s, enum service_index i, struct rpc_req *req,
		   struct json_object *params);

/* ---- containers ---- */
enum ct_state { CT_STOPPED, CT_STARTING, CT_RUNNING, CT_STOPPING };

/* A request that waits for something to end. Those whose client left take themselves out. */
struct waiter {
	struct waiter *next, **pprev;
	struct rpc_req *req;
	bool delete_after; /* of a container: container.delete with force */
};

/* Everyone who waits for one exec process; one call to the helper serves them all. */
struct exec_wait {
	struct exec_wait *next, **pprev;
	struct container *ct;
	char *process;
	struct waiter *waiters;
};

struct start_op;
struct events;
struct files;
struct dial;
struct container {
	struct container *next, **pprev;
	struct apiserver *s;
	char *id;
	char *config;              /* its configuration, as text: container_config() */
	char *brief;               /* of it what a list shows, as text */
	char *manifest, *created;  /* of it: the image's manifest (NULL: none), the date */
	struct strv volumes;       /* of it: the names of those it mounts, each once */
	const char *policy;        /* of it: the restart policy's name, a constant */
	int64_t retries;           /* of it: the policy's bound, 0: none */
	struct net_publish *ports; /* of it: published ports, NULL: none */
	size_t nports;
	bool auto_remove;
	enum ct_state state;
	char *started_at; /* NULL when not running */
	struct json_object *networks;
	struct json_object *health; /* as the helper told; NULL: no checks, or not running */
	bool has_exit;
	int exit_code;
	char *exited_at;
	const char *
		machine_end; /* "panic", "reset", "crash"; NULL: the container's process ended first */
	bool oom;            /* something in it was killed for want of memory */

	pid_t pid; /* of the helper; 0: none, or one whose pid is not known */
	int pidfd;
	bool forced;   /* killed from outside */
	bool keep_log; /* of the helper: a start failed */
	bool paused;
	bool keep_stdin; /* as the last start had it; a restart has it too */
	struct loop_source *child, *grace, *adopt_timer;
	struct rpc_conn *conn;
	unsigned calls; /* under way on conn */
	bool leased;    /* a network lease may exist */
	struct start_op *start;
	struct waiter *waiters;  /* container.wait: answered with the exit code */
	struct waiter *stoppers; /* container.stop and delete: answered with {} */
	struct exec_wait *execs;
	struct loop_source *again; /* starts it again; NULL: nothing is due */
	unsigned restarts;         /* by its policy since a user started it */
	unsigned failures;         /* of these, quick ends in a row */
	bool told;                 /* to stop, as the system stops */
	bool by_user;              /* stopped by a user, so no policy starts it */
	int64_t began;             /* of the last start, Unix seconds */
	struct rpc_req *restart;   /* container.restart that waits for the end, NULL: none */
	bool restarting;           /* the start under way is due to it */
	int *sockets;              /* that it publishes, until its helper has them; NULL: none */
	size_t nsockets;
	struct dial *dials; /* sockets of the host's that its helper waits for */
	unsigned ndials;
	struct files *files;  /* its files are being served while it is stopped */
	struct files *serves; /* this is no container but what serves one's files */
};

struct exit_record {
	char *id, *at;
	int code;
};

enum engine_state { ENGINE_CHECKING, ENGINE_READY, ENGINE_NONE };

struct apiserver {
	struct loop *loop;
	struct roots roots;
	struct config *config;
	bool debug;   /* records go to stderr too, those of helpers with them */
	bool verbose; /* --debug or log.level: runtime helpers and their guests say all */
	int ready_fd, lock_fd;
	int listen_fd;  /* a listening socket we were started with; -1: we make our own */
	bool activated; /* we were started with one: it outlives us, and so does its name */
	int run_dir, c_dir, containers_dir, kernels_dir, volumes_dir;
	struct rpc_server *server;
	struct service svc[SVC_COUNT];
	struct container *containers; /* oldest first */
	struct volume_hold *holds;
	struct tree_work *trees; /* being removed */
	struct events *events;
	struct exit_record exits[APISERVER_EXITS];
	size_t next_exit;
	unsigned adopting;
	unsigned next_files; /* a number for each helper that serves files */

	enum engine_state engine_state;
	enum vm_engine engine;
	char *engine_why;
	uint64_t tsc_khz; /* for the qemu engine; 0: not measured */
	struct error *engine_err;
	bool kernel_busy;
	bool no_cgroups; /* the host has none for helpers */

	bool stopping;
	struct waiter *stop_reqs;
	struct waiter *status_reqs;     /* system.status, until the engine is known */
	struct loop_source *turn_timer; /* the next container to be told */
	int64_t turn_ms;
	struct loop_source *exit_timer;
	int exit_tries;
};

/* apiserver.c */
void waiter_add(struct waiter **list, struct rpc_req *req, bool delete_after);
/* waiter_take: removes the first waiter and gives its request, NULL when there is none. */
struct rpc_req *waiter_take(struct waiter **list, bool *delete_after);
/* apiserver_ready: containers were adopted: begin to serve. */
void apiserver_ready(struct apiserver *s);

/* apiserver_stop.c: the end of the system */
/* apiserver_stop: begins it; stop_reqs are answered at its end. A second call has no effect. */
void apiserver_stop(struct apiserver *s);
/* apiserver_idle_check: while stopping, after a container ended: the next one's turn, or what comes after containers. */
void apiserver_idle_check(struct apiserver *s);

/* apiserver_containers.c: what exists */
int containers_load(struct apiserver *s, struct error **err);
void containers_free(struct apiserver *s);
struct container *container_find(struct apiserver *s, const char *id);
/* container_named: the container with that id or, when there is none, the only one whose id begins with it. */
struct container *container_named(struct apiserver *s, const char *id, struct error **err);
/* container_need: the container params name, or NULL with an error naming it. */
struct container *container_need(struct apiserver *s, struct json_object *params,
				 struct error **err);
/* container_remove: takes it out of memory and off the disk. It must be stopped. */
int container_remove(struct container *ct, struct error **err);
/* container_shadow: one that is on no list and on no disk, but can have a helper; container_free it at the end. */
struct container *container_shadow(struct container *ct, const char *id);
void container_free(struct container *ct);
bool container_id_valid(const char *id);
/* tree_later: removes name below dir, one of s's that stay open, on a worker. */
void tree_later(struct apiserver *s, int dir, const char *name);
/* trees_drop: when there are no workers any more: what they did not get to is the next start's to sweep. */
void trees_drop(struct apiserver *s);
void container_set_exit(struct container *ct, int code, const char *at);
/* container_read_exit: exit.json into ct; false when there is none. */
bool container_read_exit(struct container *ct);
struct json_object *containers_busy(struct apiserver *s);   /* manifests in use */
struct json_object *containers_active(struct apiserver *s); /* ids that are not stopped */
void on_container_create(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_list(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_get(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_logs(void *ctx, struct rpc_req *req, struct json_object *params);

/* apiserver_config.c: what a container was made from */
/* container_config: a tree of it, the caller's. */
struct json_object *container_config(const struct container *ct);
/* config_check: what a client wants to make a container from; what would be found wrong at each start is found wrong here. */
int config_check(struct json_object *config, struct error **err);
/* config_keep: takes over what config (borrowed) says; config_write: into the container's directory too. */
void config_keep(struct container *ct, struct json_object *config);
int config_write(struct container *ct, struct json_object *config, struct error **err);
void config_drop(struct container *ct);

/* apiserver_volumes.c: what outlives containers */
/* volumes_load: at the start: removes what a crash left half made or half deleted. */
int volumes_load(struct apiserver *s, struct error **err);
/* volumes_keep: the names of the volumes that a configuration mounts; replaces what is in out. */
void volumes_keep(struct json_object *config, struct strv *out);
/* volumes_check: those that a configuration mounts are there; their images become the mounts' sources. */
int volumes_check(struct apiserver *s, struct json_object *config, struct error **err);
/* volumes_let_go: what a client had made for its next container needs no holding any more: that is there, or the client is gone. NULL:
 * of all clients. */
void volumes_let_go(struct apiserver *s, const struct rpc_conn *conn);
void on_volume_create(void *ctx, struct rpc_req *req, struct json_object *params);
void on_volume_delete(void *ctx, struct rpc_req *req, struct json_object *params);
void on_volume_list(void *ctx, struct rpc_req *req, struct json_object *params);
void on_volume_inspect(void *ctx, struct rpc_req *req, struct json_object *params);
void on_volume_prune(void *ctx, struct rpc_req *req, struct json_object *params);

/* apiserver_run.c: what runs */
/* container_attach: a connection to the helper's socket. */
int container_attach(struct container *ct, struct error **err);
/* container_watch: watches the helper process; with check, only when its start time is start_time. */
int container_watch(struct container *ct, pid_t pid, struct error **err);
void container_kill_helper(struct container *ct);
void container_grace(struct container *ct,
		     int64_t ms); /* SIGKILL for the helper when it is still there then */
void container_ended(struct container *ct);
void container_stop(struct container *ct, int64_t signo, int64_t timeout);
void container_adopt(struct container *ct);
void on_container_wait(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_exec(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_kill(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_resize(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_stop(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_delete(void *ctx, struct rpc_req *req, struct json_object *params);
/* proc_start_time: field 22 of /proc/<pid>/stat, 0 when there is no such process. */
uint64_t proc_start_time(pid_t pid);

/* container_need_running: as container_need, and it runs and its helper can be asked. */
struct container *container_need_running(struct apiserver *s, struct json_object *params,
					 struct error **err);
/* container_forward: passes a call with its descriptors on to the helper of the running container that params name. */
void container_forward(struct apiserver *s, struct rpc_req *req, struct json_object *params,
		       const char *method);
/* container_pass: the same to a helper that is known to be there; watched: a process it makes is waited for at once. */
void container_pass(struct container *ct, struct rpc_req *req, struct json_object *params,
		    const char *method, bool watched);
/* exit_json: the answer to container.wait. exits_answer: answers from the records of ends; false when there is none. */
struct json_object *exit_json(int code, const char *at);
bool exits_answer(struct apiserver *s, const char *id, struct rpc_req *req);
void exits_add(struct apiserver *s, const char *id, int code, const char *at);
/* container_stop_defaults: signal and seconds of a stop that were not given (signo 0, timeout -1). */
void container_stop_defaults(struct container *ct, int64_t *signo, int64_t *timeout);

/* apiserver_policy.c */
int policy_check(struct json_object *config, struct error **err);
void policy_keep(struct container *ct, struct json_object *config);
void policy_started(struct container *ct);
void policy_stopped_by_user(struct container *ct); /* and what was due is not any more */
/* policy_ended: ran: it had started. */
void policy_ended(struct container *ct, bool ran); /* starts it again by and by when it is to */
void policy_changed(struct container *ct);         /* to another one */
void policy_found(struct container *ct, bool was_started); /* at the apiserver's start, stopped */

/* apiserver_manage.c: docker's habits */
void on_container_restart(void *ctx, struct rpc_req *req, struct json_object *params);
/* container_restart: after the end: starts it again for the request that waits, or refuses that. */
void container_restart(struct container *ct, bool deleted);
void on_container_rename(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_prune(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_attach(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_top(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_pause(void *ctx, struct rpc_req *req, struct json_object *params);
void on_container_unpause(void *ctx, struct rpc_req *req, struct json_object *params);

/* apiserver_stats.c */
void on_container_stats(void *ctx, struct rpc_req *req, struct json_object *params);

/* apiserver_update.c */
void on_container_update(void *ctx, struct rpc_req *req, struct json_object *params);

/* apiserver_watch.c: what helpers tell of their own accord */
/* container_watch_helper: asks the helper of a container that runs to tell; `health` (borrowed, NULL: no checks) is what it said already. */
void container_watch_helper(struct container *ct, struct json_object *health);
/* health_check: "healthcheck" of a configuration (cmd/runtime_health.c). */
int health_check(struct json_object *config, struct error **err);

/* apiserver_sockets.c: Unix sockets across the machine's border */
/* sockets_check: "publishedSockets" of a configuration. */
int sockets_check(struct json_object *config, struct error **err);
/* sockets_begin: before a start: makes what the container publishes, and takes the SSH agent's socket from params into the configuration
 * (both trees borrowed). On failure sockets_end() is still to be called, as at the end of each container. */
int sockets_begin(struct container *ct, struct json_object *config, struct json_object *params,
		  struct error **err);
/* sockets_relays: the host's sockets that the container uses, `relays` of runtime.start; the caller's. */
struct json_object *sockets_relays(struct json_object *config);
/* sockets_hand_over: to the container's helper, before runtime.start. */
void sockets_hand_over(struct container *ct);
void sockets_end(struct container *ct);
/* sockets_dial: the helper wants a connection (event "dial": {id, mount}); it is answered by runtime.dialed. */
void sockets_dial(struct container *ct, struct json_object *ev);

/* apiserver_events.c */
/* events_init: with the history of before. */
void events_init(struct apiserver *s);
void events_free(struct apiserver *s);
/* events_emit: something happened. attributes (strings) are consumed; NULL: none. */
void events_emit(struct apiserver *s, const char *type, const char *action, const char *id,
		 struct json_object *attributes);
/* events_container: with image, name and labels as attributes, and one more when key is not NULL. */
void events_container(struct container *ct, const char *action, const char *key, const char *value);
void events_container_int(struct container *ct, const char *action, const char *key, int64_t value);
struct json_object *events_container_attributes(struct container *ct);
void events_network(struct container *ct, const char *action);
/* events_image_call: a call to the image helper that succeeded. */
void events_image_call(struct apiserver *s, const char *method, struct json_object *params,
		       struct json_object *result);
void on_system_events(void *ctx, struct rpc_req *req, struct json_object *params);
/* apiserver_files.c: the files of a stopped container */
#define FILES_TASK "task-" /* how processes that work on them are named (RUNTIME_TASK) */
/* files_exec: container.exec of a task, for a stopped container. */
void files_exec(struct container *ct, struct rpc_req *req, struct json_object *params);
/* files_check: -1 and an invalidState error while a task is at work on the container's files. */
int files_check(struct container *ct, struct error **err);
/* files_drop: the container goes, or its name: ends what serves its files at once. */
void files_drop(struct container *ct);
/* files_end: no more tasks; those at work are waited for, or cut off. When ct is being started, start_files_gone() follows. */
void files_end(struct container *ct, bool cut);
/* files_name: the id of a container, and of the one whose files a shadow serves. */
const char *files_name(const struct container *ct);
/* What happens to the helper that serves files (a shadow): */
void files_ready(struct container *shadow);
void files_failed(struct container *shadow, struct error *e); /* takes e */
void files_task_began(struct container *shadow);
void files_task_over(struct container *shadow, const char *process, int code, const char *at);
void files_ended(struct container *shadow);           /* frees it */
struct container *files_helper(struct container *ct); /* NULL: none that can be asked */
struct start_op *files_start(struct container *ct);

/* apiserver_start.c */
/* start_files_gone: what served the files of a container that is being started has ended. */
void start_files_gone(struct container *ct);
/* start_begin: starts a stopped container for req, which is answered when it runs or does not; NULL: nobody asks. */
void start_begin(struct container *ct, struct rpc_req *req, struct json_object *params);
void on_container_start(void *ctx, struct rpc_req *req, struct json_object *params);
/* start_ended: the helper has ended while the start was under way; answers the client. */
void start_ended(struct container *ct);
/* start_abort: gives the start up (takes e); the container ends. */
void start_abort(struct container *ct, struct error *e);
/* status_engine_known: the engine was chosen: answers the calls of system.status that waited for it. */
void status_engine_known(struct apiserver *s);
/* start_engine_known: the engine was chosen: starts that waited for it go on. */
void start_engine_known(struct apiserver *s);

/* apiserver_usage.c */
void on_system_df(void *ctx, struct rpc_req *req, struct json_object *params);

/* apiserver_kernel.c */
void engine_check(struct apiserver *s);
/* kernel_default: directory of the default kernel; the caller owns it. NULL and an error that says what to do. */
char *kernel_default(struct apiserver *s, struct error **err);
/* kernel_cached: the directory an ad-hoc kernel is imported to, keyed by what the file is now; *ready says whether it is
 * there already. */
char *kernel_cached(struct apiserver *s, const char *path, bool *ready, struct error **err);
struct kernel_source {
	const char *binary;  /* a path, or what fd is called */
	int fd;              /* borrowed; -1: open the path */
	const char *modules; /* a directory, or NULL */
	bool keep;           /* another kernel of the same name is not replaced */
};
/* kernel_import_as: blocking, for a worker: imports into kernels/<name> (NULL: its release), replacing what was there. */
int kernel_import_as(struct apiserver *s, const struct kernel_source *from, const char *name,
		     struct json_object **info, struct error **err);
char *kernel_name(struct apiserver *s); /* of the default; NULL when there is none */
void on_kernel_set(void *ctx, struct rpc_req *req, struct json_object *params);

#endif
