/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - the runtime role: one helper per container; see runtime.h for how it works. */
#include "cmd/runtime.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "cmd/roles.h"
#include "core/path.h"
#include "vmm/agent.h"
#include "vmm/jail.h"

#define RUNTIME_LISTEN_FD 3
#define LAST_WORDS_MS     1000 /* for what the agent said before the machine went */
#define GRACE_MS          5000 /* for a guest that was told to go, before it is stopped from outside */
#define EXTENSIONS        12    /* so often again while its disks are at work: it syncs */
#define FILES_START_MS    30000 /* for the apiserver to start what it made for a container's files */

/* ---- the machine's way out ---- */

static void stop_answer(struct runtime *rt)
{
	struct rt_waiter *w;

	while ((w = rt->stop_waiters)) {
		rt->stop_waiters = w->next;
		if (w->req)
			rpc_reply(w->req, NULL);
		free(w);
	}
}

int runtime_start_failure(const struct runtime *rt, enum error_code code, struct error **err,
			  const char *what)
{
	CLEANUP_FREE char *words = runtime_last_words(rt);

	if (words)
		return error_set(err, code, "%s; its console ended with \"%s\"", what, words);
	return error_set(err, code, "%s; its console said nothing", what);
}

void runtime_finish(void *arg)
{
	struct runtime *rt = arg;

	if (rt->state == RT_STOPPED)
		return;
	rt->state = RT_STOPPED;
	if (rt->start_req) {
		struct error *e = STEAL(rt->start_error);

		if (!e)
			runtime_start_failure(rt, ERR_INTERNAL, &e,
					      "the machine stopped before the process ran");
		rpc_reply_error(STEAL(rt->start_req), e);
		rt->exit_code = 1;
	}
	stop_answer(rt);
	loop_stop(rt->loop);
}

void runtime_check_over(struct runtime *rt)
{
	struct rt_process *p;

	if (!rt->machine_over)
		return;
	for (p = rt->procs; p; p = p->next)
		if (p->state != RT_PROC_EXITED)
			return;
	runtime_finish(rt);
}

void runtime_machine_over(struct runtime *rt)
{
	struct rt_process *p, *next;

	if (!rt->vm_gone || rt->machine_over)
		return;
	rt->machine_over = true;
	for (p = rt->procs; p; p = next) {
		next = p->next;
		runtime_process_exited(p, p == rt->procs && p->exit_code  ? p->exit_code
					  : p == rt->procs && !rt->killed ? 255
									  : 137);
	}
	runtime_check_over(rt);
}

/* The guest's last words may still be on their way here: the agent's stream is read to its end first, and then each process's output. */
void runtime_vm_stopped(void *arg, int reason, const char *detail)
{
	static const char *const names[] = {"power-off", "reset", "panic", "crash", "killed"};
	struct runtime *rt = arg;

	log_info("machine stopped: %s%s%s", names[reason], detail ? ": " : "",
		 detail ? detail : "");
	rt->vm_gone = true;
	if ((reason == VM_STOP_PANIC || reason == VM_STOP_RESET || reason == VM_STOP_CRASH) &&
	    !(rt->procs && rt->procs->reported))
		rt->machine_end = names[reason];
	if (rt->start_req && !rt->start_error && reason != VM_STOP_POWEROFF) {
		CLEANUP_FREE char *what = xasprintf("the machine stopped (%s)%s%s", names[reason],
						    detail ? ": " : "", detail ? detail : "");

		runtime_start_failure(rt, ERR_INTERNAL, &rt->start_error, what);
	}
	if (rt->agent)
		loop_add_timer(rt->loop, LAST_WORDS_MS, (loop_fn)runtime_machine_over, rt);
	else
		runtime_machine_over(rt);
}

static void stop_expired(void *arg)
{
	struct runtime *rt = arg;

	if (rt->stop_stage == 0 && rt->agent) {
		struct json_object *p = json_object_new_object();

		rt->stop_stage = 1;
		json_set_str(p, "process", "init");
		json_set_int(p, "signal", SIGKILL);
		rpc_call_async(rt->agent, "process.signal", p, NULL, 0, NULL, NULL, NULL);
		(void)vm_disks_work(rt->vm, &rt->disk_work);
		loop_set_timer(rt->stop_timer, GRACE_MS);
		return;
	}
	if (rt->vm_gone)
		return;
	if (rt->vm && vm_disks_work(rt->vm, &rt->disk_work) && rt->extended++ < EXTENSIONS) {
		loop_set_timer(rt->stop_timer, GRACE_MS);
		return;
	}
	log_warn("guest did not go in time: stopped from outside");
	rt->killed = true;
	if (rt->vm)
		vm_kill(rt->vm);
	else
		runtime_finish(rt);
}

static void stop_after(struct runtime *rt, int64_t ms)
{
	rt->state = RT_STOPPING;
	if (rt->vm)
		(void)vm_disks_work(rt->vm, &rt->disk_work);
	if (rt->stop_timer)
		loop_set_timer(rt->stop_timer, ms);
	else
		rt->stop_timer = loop_add_timer(rt->loop, ms, stop_expired, rt);
}

void runtime_init_exited(struct runtime *rt)
{
	if (rt->state == RT_STOPPED) {
		runtime_exit_record(rt, rt->procs->exit_code, rt->procs->exited_at);
		return;
	}
	runtime_exit_record(rt, rt->procs->exit_code, rt->procs->exited_at);
	rt->stop_stage = 1; /* the guest powers off by itself now */
	stop_after(rt, GRACE_MS);
}

void runtime_init_failed(struct runtime *rt, struct error *e)
{
	rt->start_error = e;
	/* Before it is ready it is the machine that fails, and not the program. */
	rt->procs->exit_code = e->status = rt->agent_ready ? runtime_program_status(e) : 1;
	runtime_exit_record(rt, rt->procs->exit_code, time_now());
	rt->stop_stage = 1;
	stop_after(rt, 1000);
}

/* ---- processes ---- */

static void exec_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			  const struct error *e)
{
	struct rt_process *proc = arg;
	struct rpc_req *req = STEAL(proc->start_req);
	struct json_object *o;
	struct error *own;

	if (e) {
		own = error_copy(e);
		own->status = proc->task ? 0 : runtime_program_status(e);
		runtime_process_remove(proc);
		rpc_reply_error(req, own);
		return;
	}
	if (proc->state == RT_PROC_STARTING)
		proc->state = RT_PROC_RUNNING;
	o = json_object_new_object();
	json_set_str(o, "process", proc->id);
	rpc_reply(req, o);
}

static void on_exec(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct json_object *in, *p;
	struct rt_process *proc = NULL;
	struct error *e = NULL;
	char id[48];

	if (rt->state != RT_RUNNING || !rt->agent) {
		error_set(&e, ERR_INVALID_STATE, "container %s is not running", rt->id);
		goto fail;
	}
	if (json_need_obj(params, "process", &in, &e) < 0 || runtime_awake(rt, &e) < 0)
		goto fail;
	if (rt->files) /* in no other life of the container is there one of that name */
		snprintf(id, sizeof(id), "%s%d-%u", RUNTIME_TASK, getpid(), ++rt->next_exec);
	else
		snprintf(id, sizeof(id), "exec-%u", ++rt->next_exec);
	proc = runtime_process_new(rt, id, false, &e);
	if (!proc || runtime_streams_open(proc, json_arr(params, "streams"), rpc_req_fds(req), 0,
					  json_flag(in, "tty", false), &e) < 0)
		goto fail;
	p = json_sorted(in);
	json_set_str(p, "id", id);
	proc->task = json_flag(in, "builtin", false);
	runtime_process_limits(rt, p);
	runtime_streams_ports(proc, p);
	proc->start_req = req;
	proc->t_asked = time_mono_us();
	rpc_call_async(rt->agent, "process.start", p, NULL, 0, exec_answered, NULL, proc);
	return;
fail:
	if (proc)
		runtime_process_remove(proc);
	rpc_reply_error(req, e);
}

/* need_process: the process a call names, "init" by default. */
static struct rt_process *need_process(struct runtime *rt, struct json_object *params,
				       struct error **err)
{
	const char *id = json_str(params, "process", "init");
	struct rt_process *p = runtime_process_find(rt, id);

	if (!p)
		error_set(err, ERR_NOT_FOUND, "no process %s in container %s", id, rt->id);
	return p;
}

static void on_wait(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	struct rt_process *p = need_process(ctx, params, &e);

	if (p)
		runtime_process_wait(p, req);
	else
		rpc_reply_error(req, e);
}

static void forward_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			     const struct error *e)
{
	struct rpc_req *req = arg;

	if (e)
		rpc_reply_error(req, error_copy(e));
	else
		rpc_reply(req, NULL);
}

/* forward: a call about one process, passed to the agent with the members it may carry. */
static void forward(struct runtime *rt, struct rpc_req *req, struct json_object *params,
		    const char *method, const char *const *ints)
{
	struct error *e = NULL;
	struct rt_process *proc = need_process(rt, params, &e);
	CLEANUP_JSON struct json_object *p = json_object_new_object();
	int64_t v;

	if (proc && runtime_awake(rt, &e))
		goto fail;
	if (proc && (!rt->agent || !rt->agent_ready || proc->state == RT_PROC_EXITED)) {
		error_set(&e, ERR_INVALID_STATE, "process %s is not running", proc->id);
		proc = NULL;
	}
	if (!proc)
		goto fail;
	json_set_str(p, "process", proc->id);
	for (; *ints; ints++) {
		if (json_need_int(params, *ints, 0, 65535, &v, &e) < 0)
			goto fail;
		json_set_int(p, *ints, v);
	}
	rpc_call_async(rt->agent, method, STEAL(p), NULL, 0, forward_answered, NULL, req);
	return;
fail:
	rpc_reply_error(req, e);
}

static void on_kill(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const ints[] = {"signal", NULL};

	if (json_int(params, "signal", 0) == SIGKILL)
		runtime_unpause(ctx, NULL);
	forward(ctx, req, params, "process.signal", ints);
}

static void on_resize(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const ints[] = {"rows", "cols", NULL};

	forward(ctx, req, params, "process.resize", ints);
}

/* files_stop: the guest closes the disk and goes; tasks are cut off. */
static void files_stop(struct runtime *rt)
{
	if (rt->state == RT_STOPPING || rt->state == RT_STOPPED)
		return;
	rt->stop_stage = 1;
	if (rt->agent)
		rpc_call_async(rt->agent, "shutdown", NULL, NULL, 0, NULL, NULL, NULL);
	stop_after(rt, rt->agent ? GRACE_MS : 0);
}

/* Whoever had it made is gone. */
static void files_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct runtime *rt = ctx;

	if (rt->files)
		files_stop(rt);
}

static void files_unused(void *arg)
{
	struct runtime *rt = arg;

	if (rt->state == RT_CREATED)
		files_stop(rt);
}

static void on_stop(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	int64_t ms = json_int(params, "timeout", 5) * 1000;
	int64_t signo = json_int(params, "signal", SIGTERM);

	runtime_waiter_add(&rt->stop_waiters, req);
	if (rt->files) {
		files_stop(rt);
		return;
	}
	runtime_unpause(rt, NULL); /* one that sleeps hears no signal */
	if (rt->state == RT_RUNNING && rt->agent && signo > 0 && signo < 65 && ms > 0) {
		struct json_object *p = json_object_new_object();

		json_set_str(p, "process", "init");
		json_set_int(p, "signal", signo);
		rpc_call_async(rt->agent, "process.signal", p, NULL, 0, NULL, NULL, NULL);
		stop_after(rt, MIN(ms, 86400000));
	} else if (rt->state == RT_RUNNING && rt->agent) {
		stop_after(rt, 0); /* SIGKILL inside first: its files are synced on the way out */
	} else if (rt->state == RT_CREATED || rt->state == RT_STARTING) {
		rt->stop_stage = 1;
		stop_after(rt, 0);
	}
}

static void on_state(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const names[] = {"created", "starting", "running", "stopping",
					    "stopped"};
	struct runtime *rt = ctx;
	struct json_object *o = json_object_new_object();

	json_set_str(o, "state",
		     rt->state == RT_RUNNING && rt->paused ? "paused" : names[rt->state]);
	if (rt->started_at) {
		CLEANUP_FREE char *at = time_iso8601(rt->started_at);

		json_set_str(o, "startedDate", at);
	}
	json_set(o, "networks",
		 rt->networks ? json_object_get(rt->networks) : json_object_new_array());
	json_set_int(o, "processes", rt->nprocs);
	runtime_health_put(rt, o);
	rpc_reply(req, o);
}

static const struct rpc_route routes[] = {
	{"runtime.publish", runtime_on_publish},
	{"runtime.start", runtime_on_start},
	{"runtime.exec", on_exec},
	{"runtime.wait", on_wait},
	{"runtime.kill", on_kill},
	{"runtime.resize", on_resize},
	{"runtime.stop", on_stop},
	{"runtime.state", on_state},
	{"runtime.watch", runtime_on_watch},
	{"runtime.dialed", runtime_on_dialed},
	{"runtime.attach", runtime_on_attach},
	{"runtime.pause", runtime_on_pause},
	{"runtime.resume", runtime_on_resume},
	{"runtime.stats", runtime_on_stats},
	{"runtime.top", runtime_on_top},
	{"runtime.update", runtime_on_update},
	{NULL, NULL},
};

static const struct rpc_handler handler = {
	.service = "container.runtime",
	.routes = routes,
	.on_close = files_closed,
};

/* ---- the role ---- */

static void on_signal(void *arg, int signo)
{
	struct runtime *rt = arg;

	log_info("signal %d: stopping", signo);
	if (rt->files) {
		files_stop(rt);
		return;
	}
	runtime_unpause(rt, NULL);
	rt->stop_stage = rt->agent ? 0 : 1;
	stop_after(rt, 0);
}

static int runtime_open(struct runtime *rt, const char *id, const char *files, bool debug,
			unsigned strange, struct error **err)
{
	CLEANUP_FREE char *dir = NULL, *label = xasprintf("container.runtime.%s", id);
	const char *name = files ? files : id;

	if (roots_init(&rt->roots, NULL, NULL, NULL, NULL, err) < 0)
		return -1;
	if (log_init_service(rt->roots.log, label, debug ? LOG_LVL_DEBUG : LOG_LVL_INFO, err) < 0)
		return -1;
	rt->id = xstrdup(id);
	rt->debug = debug;
	rt->files = files != NULL;
	dir = xasprintf("%s/containers/%s", rt->roots.app, id);
	rt->dirfd = path_open_dir(dir, err);
	if (rt->dirfd < 0)
		return -1;
	rt->run_dir = xasprintf("%s/c/%s.d", rt->roots.run, name);
	rt->sock = xasprintf("%s/c/%s.sock", rt->roots.run, name);
	if (path_mkdirs(rt->run_dir, 0700, err) < 0 || (!files && runtime_files_open(rt, err) < 0))
		return -1;
	rt->loop = loop_new(err);
	if (!rt->loop || !loop_add_signal(rt->loop, SIGTERM, on_signal, rt, err) ||
	    !loop_add_signal(rt->loop, SIGINT, on_signal, rt, err))
		return -1;
	if (files)
		loop_add_timer(rt->loop, FILES_START_MS, files_unused, rt);
	if (strange)
		log_warn("%u descriptors were inherited that should not be there: closed", strange);
	rt->server = rpc_server_new(rt->loop, RUNTIME_LISTEN_FD, &handler, rt, err);
	return rt->server ? 0 : -1;
}

static int run_dir_remove(struct runtime *rt, struct error **err)
{
	const char *name = strrchr(rt->run_dir, '/') + 1;
	CLEANUP_FREE char *parent = xstrndup(rt->run_dir, (size_t)(name - rt->run_dir));
	CLEANUP_CLOSE int dir = path_open_dir(parent, err);

	return dir < 0 ? -1 : path_remove_tree(dir, name, err);
}

/* runtime_close: removes what the helper made in the run directory and gives the machine back. */
static void runtime_close(struct runtime *rt)
{
	CLEANUP_ERROR struct error *e = NULL;
	uint64_t until = time_mono_us() + 100000;

	/* Answers leave before the sockets close; a client that does not read is not waited for. */
	while (!rpc_server_idle(rt->server) && time_mono_us() < until &&
	       loop_turn(rt->loop, 5, &e) == 0)
		;
	if (rt->agent)
		rpc_conn_free(rt->agent);
	if (rt->vm)
		vm_free(rt->vm);
	runtime_shares_free(rt);
	runtime_health_free(rt);
	runtime_sockets_free(rt);
	runtime_volumes_free(rt);
	if (!rt->jailed) { /* else the apiserver does it */
		unlink(rt->sock);
		if (run_dir_remove(rt, &e) < 0)
			log_err(e, "clean up");
	}
	rpc_server_free(rt->server);
}

int runtime_main(int argc, char **argv)
{
	static const int inherited[] = {0, 1, 2, RUNTIME_LISTEN_FD};
	struct runtime rt = {.dirfd = -1, .boot_fd = -1, .exit_fd = -1};
	unsigned strange;
	CLEANUP_OPTS struct opt_args a = {0};
	CLEANUP_ERROR struct error *e = NULL;
	const char *id, *files;
	int status;

	if (!role_parse(&role_runtime, argc, argv, &a, &status))
		return status;
	signal(SIGPIPE, SIG_IGN); /* a client that left is no reason to end a machine */
	id = opt_str(&a, "id", "");
	files = opt_str(&a, "files", NULL);
	if (!*id || strchr(id, '/') || id[0] == '.' || (files && strchr(files, '/')))
		return role_usage(&role_runtime, "'--id' names no container");
	strange = jail_audit(inherited, ARRAY_SIZE(inherited));
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (runtime_open(&rt, id, files, opt_has(&a, "debug"), strange, &e) < 0 ||
	    loop_run(rt.loop, &e) < 0) {
		CLEANUP_FREE char *text = error_text(e);

		log_err(e, "runtime %s", id);
		fprintf(stderr, "container-runtime-linux: %s\n", text);
		return 1;
	}
	runtime_close(&rt);
	return rt.exit_code;
}
