/* SPDX-License-Identifier: Apache-2.0 */
/* apiserver_run.c - running containers: their helper, its end, and the calls that need one. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cmd/apiserver.h"
#include "cmd/cgroup.h"
#include "cmd/cli_config.h"
#include "core/path.h"
#include "core/state.h"

#define ADOPT_MS         30000 /* a helper that says nothing until then is killed */
#define CGROUP_MS        500   /* for what was killed to be gone */
#define LINGER_MS        10000 /* for a helper whose connection is gone */
#define STOP_MARGIN_MS   80000 /* for a helper, beyond its timeout: its guest syncs */
#define STOP_MAX_SECONDS (24 * 3600)
#define STOP_SECONDS     5
#define EXEC_TEXT_MAX    256

/* ---- the helper ---- */

uint64_t proc_start_time(pid_t pid)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", (int)pid);
	CLEANUP_BUF struct buf b = {0};
	char *p, *save = NULL;
	uint64_t v = 0;
	int i;

	if (path_read_all(AT_FDCWD, path, 4096, &b, NULL))
		return 0;
	p = strrchr(b.data, ')'); /* the name before it may hold anything */
	p = p ? strtok_r(p + 1, " ", &save) : NULL;
	for (i = 3; p && i < 22; i++)
		p = strtok_r(NULL, " ", &save);
	return p && !parse_u64(p, &v) ? v : 0;
}

static void helper_died(void *arg, pid_t pid, int status)
{
	struct container *ct = arg;

	if (status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		log_error("container %s: helper %d made a system call that is in no rule of its "
			  "filter (core/filter.h); the kernel's audit log has its number",
			  ct->id, (int)pid);
	else
		log_info("container %s: helper %d ended", ct->id, (int)pid);
	container_ended(ct);
}

int container_watch(struct container *ct, pid_t pid, struct error **err)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return error_sys(err, errno, "watch process %d", (int)pid);
	fd_set_cloexec(fd, true);
	ct->child = loop_add_child(ct->s->loop, pid, helper_died, ct, err);
	if (!ct->child) {
		close(fd);
		return -1;
	}
	ct->pidfd = fd;
	ct->pid = pid;
	return 0;
}

void container_kill_helper(struct container *ct)
{
	ct->forced = true;
	if (ct->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, ct->pidfd, SIGKILL, NULL, 0);
}

static void grace_over(void *arg)
{
	struct container *ct = arg;

	log_warn("container %s: helper does not end: killed", ct->id);
	container_kill_helper(ct);
	if (ct->pidfd < 0)
		container_ended(ct); /* nobody we could wait for */
}

void container_grace(struct container *ct, int64_t ms)
{
	if (ct->grace)
		loop_set_timer(ct->grace, ms);
	else
		ct->grace = loop_add_timer(ct->s->loop, ms, grace_over, ct);
}

static void helper_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct container *ct = ctx;

	ct->conn = NULL;
	if (e)
		log_err(e, "container %s", ct->id);
	if (ct->state == CT_STOPPED)
		return;
	if (ct->pidfd < 0) {
		container_ended(ct);
		return;
	}
	if (ct->state == CT_RUNNING)
		ct->state = CT_STOPPING;
	container_grace(ct, LINGER_MS);
}

static const struct rpc_handler helper_handler = {.service = APISERVER_LABEL,
						  .on_close = helper_closed};

int container_attach(struct container *ct, struct error **err)
{
	CLEANUP_FREE char *sock = xasprintf("%s.sock", ct->id);
	int fd = rpc_socket_connect(ct->s->c_dir, sock, err);

	if (fd < 0)
		return error_wrap(err, "container %s", ct->id);
	ct->conn = rpc_conn_new(ct->s->loop, fd, &helper_handler, ct);
	return 0;
}

/* ---- the end ---- */

static void released(void *arg, struct json_object *result, struct rpc_fds *fds,
		     const struct error *e)
{
	if (e)
		log_err(e, "network.release");
}

static void cgroups_again(void *arg)
{
	struct apiserver *s = arg;

	(void)cgroup_sweep(s->roots.tag, NULL);
}

static void clean_cgroup(struct container *ct)
{
	struct apiserver *s = ct->s;

	if (!cgroup_sweep(s->roots.tag, ct->id))
		loop_add_timer(s->loop, CGROUP_MS, cgroups_again, s);
}

static void clean_run_dir(struct container *ct)
{
	CLEANUP_FREE char *sock = xasprintf("%s.sock", ct->id);
	CLEANUP_FREE char *json = xasprintf("%s.json", ct->id);
	CLEANUP_FREE char *dir = xasprintf("%s.d", ct->id);
	CLEANUP_ERROR struct error *e = NULL;

	sockets_end(ct);
	unlinkat(ct->s->c_dir, sock, 0);
	unlinkat(ct->s->c_dir, json, 0);
	if (path_remove_tree(ct->s->c_dir, dir, &e))
		log_err(e, "container %s", ct->id);
	if (ct->leased) {
		struct json_object *p = json_object_new_object();

		ct->leased = false;
		events_network(ct, "disconnect");
		json_set_str(p, "id", ct->id);
		service_call(ct->s, SVC_NETWORK, "network.release", p, released, NULL, NULL);
	}
}

/* The helper writes how the container ended; one that was killed could not. */
static void find_exit(struct container *ct, bool ran)
{
	CLEANUP_CLOSE int dir = -1;
	CLEANUP_JSON struct json_object *o = NULL;
	CLEANUP_FREE char *now = NULL;

	if (container_read_exit(ct) || !ran)
		return;
	now = time_iso8601(time_now());
	container_set_exit(ct, ct->forced ? 128 + SIGKILL : 255, now);
	ct->machine_end = NULL;
	dir = path_open_beneath(ct->s->containers_dir, ct->id, O_RDONLY | O_DIRECTORY, 0, NULL);
	o = json_object_new_object();
	json_set_int(o, "exitCode", ct->exit_code);
	json_set_str(o, "exitedAt", now);
	if (dir >= 0)
		state_write(dir, "exit.json", o, NULL);
}

struct json_object *exit_json(int code, const char *at)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "exitCode", code);
	json_set_str(o, "exitedAt", at);
	return o;
}

static struct json_object *container_exit_json(const struct container *ct)
{
	struct json_object *o =
		exit_json(ct->has_exit ? ct->exit_code : 255, ct->exited_at ? ct->exited_at : "");

	json_set_str(o, "machine", ct->has_exit ? ct->machine_end : NULL);
	return o;
}

static void exec_free(struct exec_wait *w)
{
	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	free(w->process);
	free(w);
}

/* An earlier apiserver's container has been looked at. */
static void adopted(struct container *ct)
{
	loop_source_free(STEAL(ct->adopt_timer));
	if (!--ct->s->adopting)
		apiserver_ready(ct->s);
}

/* Somebody asked for the end, and not for that of the container as a whole. */
static bool is_stopped(const struct container *ct)
{
	const struct waiter *w;

	for (w = ct->stoppers; w && w->delete_after; w = w->next)
		;
	return w || ct->restart;
}

void container_ended(struct container *ct)
{
	struct apiserver *s = ct->s;
	bool ran = ct->state != CT_STARTING, remove = ct->auto_remove, delete_after,
	     deleted = false;
	struct rpc_req *req;

	if (ct->state == CT_STOPPED)
		return;
	ct->state = CT_STOPPED;
	if (ct->adopt_timer)
		adopted(ct);
	loop_source_free(STEAL(ct->child));
	loop_source_free(STEAL(ct->grace));
	if (ct->pidfd >= 0)
		close(steal_fd(&ct->pidfd));
	ct->pid = 0;
	if (ct->conn)
		rpc_conn_free(
			STEAL(ct->conn)); /* fails the calls under way, exec waits among them */
	if (!ct->serves)
		find_exit(ct, ran);
	clean_run_dir(ct);
	clean_cgroup(ct);
	if (ct->serves) {
		if (ct->start)
			start_ended(ct);
		files_ended(ct);
		apiserver_idle_check(s);
		return;
	}
	free(STEAL(ct->started_at));
	json_object_put(STEAL(ct->networks));
	json_object_put(STEAL(ct->health));
	ct->forced = ct->paused = false;
	log_info("container %s stopped, exit code %d", ct->id, ct->has_exit ? ct->exit_code : -1);
	if (ran)
		events_container_int(ct, "die", "exitCode", ct->has_exit ? ct->exit_code : 255);
	if (ran && (is_stopped(ct) || s->stopping))
		events_container(ct, "stop", NULL, NULL);
	if (ct->start)
		start_ended(ct);
	while ((req = waiter_take(&ct->waiters, &delete_after)))
		rpc_reply(req, container_exit_json(ct));
	while ((req = waiter_take(&ct->stoppers, &delete_after))) {
		deleted |= delete_after;
		rpc_reply(req, NULL);
	}
	remove |= deleted;
	if (ct->restart && !deleted && !s->stopping) {
		container_restart(ct, false); /* which may end at once, and ct with it */
		return;
	}
	if (ct->restart)
		container_restart(ct, deleted);
	if (remove) {
		CLEANUP_ERROR struct error *e = NULL;

		if (container_remove(ct, &e))
			log_err(e, "container");
	} else {
		policy_ended(ct, ran);
	}
	apiserver_idle_check(s);
}

/* ---- calls passed on to the helper ---- */

static struct exec_wait *exec_watch(struct container *ct, const char *process);

struct forward {
	struct container *ct;
	struct rpc_req *req;
	char *exec;   /* the command of a process that is started, NULL: something else */
	bool watched; /* the process it starts is waited for at once */
};

static void exec_event(struct container *ct, const char *command, struct json_object *result)
{
	struct json_object *o = events_container_attributes(ct);

	json_set_str(o, "execID", json_str(result, "process", ""));
	json_set_str(o, "execCommand", command);
	events_emit(ct->s, "container", "exec_start", ct->id, o);
}

static void forward_reply(void *arg, struct json_object *result, struct rpc_fds *fds,
			  const struct error *e)
{
	struct forward *f = arg;
	struct error *ended = NULL;

	f->ct->calls--;
	/* The helper's end is the container's: who asked in that moment is told what one is told who asks later. */
	if (e && e->code == ERR_INTERRUPTED && !f->watched)
		error_set(&ended, ERR_INVALID_STATE, "container %s is not running any more",
			  f->ct->id);
	if (!e && f->watched) {
		files_task_began(f->ct);
		exec_watch(f->ct, json_str(result, "process", ""));
	}
	if (e) {
		rpc_reply_error(f->req, ended ? ended : error_copy(e));
	} else {
		if (f->exec)
			exec_event(f->ct, f->exec, result);
		rpc_reply_fds(f->req, json_object_get(result), fds->fd, fds->n);
	}
	free(f->exec);
	free(f);
}

struct container *container_need_running(struct apiserver *s, struct json_object *params,
					 struct error **err)
{
	struct container *ct = container_need(s, params, err);

	if (!ct)
		return NULL;
	if (str_prefix(json_str(params, "process", ""), FILES_TASK)) {
		ct = files_helper(ct);
		if (!ct) {
			error_set(err, ERR_NOT_FOUND, "no process %s",
				  json_str(params, "process", ""));
			return NULL;
		}
	}
	if (ct->state != CT_RUNNING || !ct->conn) {
		error_set(err, ERR_INVALID_STATE, "container %s is not running", ct->id);
		return NULL;
	}
	if (ct->calls >= APISERVER_MAX_CALLS) {
		error_set(err, ERR_INVALID_STATE, "container %s does not answer", ct->id);
		return NULL;
	}
	return ct;
}

/* Takes exec. */
static void pass(struct container *ct, struct rpc_req *req, struct json_object *params,
		 const char *method, char *exec, bool watched)
{
	struct rpc_fds *fds = rpc_req_fds(req);
	struct forward *f = xcalloc(1, sizeof(*f));

	*f = (struct forward){.ct = ct, .req = req, .exec = exec, .watched = watched};
	ct->calls++;
	rpc_call_async(ct->conn, method, json_object_get(params), fds->fd, fds->n, forward_reply,
		       NULL, f);
}

void container_pass(struct container *ct, struct rpc_req *req, struct json_object *params,
		    const char *method, bool watched)
{
	pass(ct, req, params, method, NULL, watched);
}

/* Takes exec. */
static void forward(struct apiserver *s, struct rpc_req *req, struct json_object *params,
		    const char *method, char *exec)
{
	struct error *e = NULL;
	struct container *ct = container_need_running(s, params, &e);

	if (ct) {
		pass(ct, req, params, method, exec, false);
		return;
	}
	rpc_reply_error(req, e);
	free(exec);
}

void container_forward(struct apiserver *s, struct rpc_req *req, struct json_object *params,
		       const char *method)
{
	forward(s, req, params, method, NULL);
}

/* What an event says of a command; tasks of the agent's own are no news. */
static char *exec_command(struct json_object *process)
{
	struct json_object *args = json_arr(process, "args");
	size_t i, n = args ? json_object_array_length(args) : 0;
	CLEANUP_BUF struct buf b = {0};

	if (json_flag(process, "builtin", false))
		return NULL;
	buf_puts(&b, "");
	for (i = 0; i < n && b.len < EXEC_TEXT_MAX; i++)
		buf_printf(&b, "%s%.*s", i ? " " : "", EXEC_TEXT_MAX,
			   json_object_get_string(json_object_array_get_idx(args, i)));
	return utf8_text(b.data, MIN(b.len, (size_t)EXEC_TEXT_MAX));
}

void on_container_exec(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct json_object *process, *streams = json_arr(params, "streams");
	struct error *e = NULL;
	struct container *ct = container_need(ctx, params, &e);

	if (!ct || json_need_obj(params, "process", &process, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	if ((streams ? json_object_array_length(streams) : 0) != rpc_req_fds(req)->n) {
		error_set(&e, ERR_INVALID_ARGUMENT, "streams and descriptors differ in number");
		rpc_reply_error(req, e);
		return;
	}
	if (ct->state == CT_STOPPED && json_flag(process, "builtin", false))
		files_exec(ct, req, params);
	else
		forward(ctx, req, params, "runtime.exec", exec_command(process));
}

void on_container_kill(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	int64_t signo;

	if (json_need_int(params, "signal", 1, 64, &signo, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	if (str_eq(json_str(params, "process", "init"), "init")) {
		struct container *ct = container_need(ctx, params, NULL);

		if (ct && signo == SIGKILL)
			policy_stopped_by_user(ct);
		if (ct && ct->state == CT_RUNNING)
			events_container_int(ct, "kill", "signal", signo);
	}
	container_forward(ctx, req, params, "runtime.kill");
}

void on_container_resize(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	int64_t rows, cols;

	if (json_need_int(params, "rows", 0, 65535, &rows, &e) ||
	    json_need_int(params, "cols", 0, 65535, &cols, &e))
		rpc_reply_error(req, e);
	else
		container_forward(ctx, req, params, "runtime.resize");
}

/* ---- wait ---- */

bool exits_answer(struct apiserver *s, const char *id, struct rpc_req *req)
{
	size_t i;

	for (i = 0; i < APISERVER_EXITS; i++) {
		size_t at = (s->next_exit + APISERVER_EXITS - 1 - i) % APISERVER_EXITS;

		if (!str_eq(s->exits[at].id, id))
			continue;
		rpc_reply(req, exit_json(s->exits[at].code, s->exits[at].at));
		return true;
	}
	return false;
}

static void wait_late(struct apiserver *s, struct rpc_req *req, struct json_object *params,
		      struct error *e)
{
	/* One that removes itself may be gone before its client asks. */
	if (exits_answer(s, json_str(params, "id", ""), req))
		error_free(e);
	else
		rpc_reply_error(req, e);
}

static void exec_waited(void *arg, struct json_object *result, struct rpc_fds *fds,
			const struct error *e)
{
	struct exec_wait *w = arg;
	CLEANUP_FREE char *now = time_iso8601(time_now());
	struct rpc_req *req;
	bool unused;

	w->ct->calls--;
	if (w->ct->serves)
		files_task_over(w->ct, w->process,
				e ? 128 + SIGKILL : (int)json_int(result, "exitCode", 255),
				e ? now : json_str(result, "exitedAt", now));
	while ((req = waiter_take(&w->waiters, &unused))) {
		if (!e)
			rpc_reply(req, json_object_get(result));
		else if (e->code == ERR_INTERRUPTED || e->code == ERR_CANCELLED)
			rpc_reply(req,
				  exit_json(128 + SIGKILL, now)); /* it went with the machine */
		else
			rpc_reply_error(req, error_copy(e));
	}
	exec_free(w);
}

/* Who waits for a process of the container's that runs; the first of them asks the helper. */
static struct exec_wait *exec_watch(struct container *ct, const char *process)
{
	struct exec_wait *w;
	struct json_object *p;

	for (w = ct->execs; w && strcmp(w->process, process); w = w->next)
		;
	if (w)
		return w;
	w = xcalloc(1, sizeof(*w));
	w->ct = ct;
	w->process = xstrdup(process);
	w->next = ct->execs;
	w->pprev = &ct->execs;
	if (w->next)
		w->next->pprev = &w->next;
	ct->execs = w;
	p = json_object_new_object();
	json_set_str(p, "process", process);
	ct->calls++;
	rpc_call_async(ct->conn, "runtime.wait", p, NULL, 0, exec_waited, NULL, w);
	return w;
}

static void exec_wait(struct apiserver *s, struct rpc_req *req, struct json_object *params,
		      const char *process)
{
	struct error *e = NULL;
	struct container *ct = container_need_running(s, params, &e);

	if (ct)
		waiter_add(&exec_watch(ct, process)->waiters, req, false);
	else
		rpc_reply_error(req, e);
}

void on_container_wait(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	const char *process = json_str(params, "process", "init");
	struct error *e = NULL;
	struct container *ct = container_need(s, params, &e);

	if (!ct) {
		wait_late(s, req, params, e);
		return;
	}
	if (str_prefix(process, FILES_TASK) && exits_answer(s, process, req))
		return;
	if (strcmp(process, "init")) {
		exec_wait(s, req, params, process);
		return;
	}
	if (ct->state != CT_STOPPED) {
		waiter_add(&ct->waiters, req, false);
	} else if (ct->has_exit) {
		rpc_reply(req, container_exit_json(ct));
	} else {
		error_set(&e, ERR_INVALID_STATE, "container %s is not running", ct->id);
		rpc_reply_error(req, e);
	}
}

/* ---- stop and delete ---- */

static void stop_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			  const struct error *e)
{
	/* The end of the helper is what counts. */
	if (e && e->code != ERR_INTERRUPTED && e->code != ERR_CANCELLED)
		log_err(e, "runtime.stop");
}

void container_stop(struct container *ct, int64_t signo, int64_t timeout)
{
	struct json_object *p;
	struct error *e = NULL;

	if (ct->state == CT_STARTING) {
		error_set(&e, ERR_CANCELLED, "container %s was stopped while it started", ct->id);
		start_abort(ct, e);
		return;
	}
	if (ct->state == CT_RUNNING)
		events_container_int(ct, "kill", "signal", signo);
	ct->state = CT_STOPPING;
	container_grace(ct, timeout * 1000 + STOP_MARGIN_MS);
	if (!ct->conn)
		return;
	p = json_object_new_object();
	json_set_int(p, "signal", signo);
	json_set_int(p, "timeout", timeout);
	rpc_call_async(ct->conn, "runtime.stop", p, NULL, 0, stop_answered, NULL, NULL);
}

void container_stop_defaults(struct container *ct, int64_t *signo, int64_t *timeout)
{
	CLEANUP_JSON struct json_object *config = container_config(ct);
	const char *name = json_str(config, "stopSignal", NULL);
	int n;

	if (*signo <= 0)
		*signo = name && !signal_parse(name, &n, NULL) ? n : SIGTERM;
	if (*timeout < 0)
		*timeout = MAX(json_int(config, "stopTimeout", STOP_SECONDS), 0);
	*timeout = MIN(*timeout, STOP_MAX_SECONDS);
}

void on_container_stop(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	struct container *ct = container_need(ctx, params, &e);
	int64_t timeout = -1, signo = 0;

	if (!ct ||
	    (json_get(params, "timeout") &&
	     json_need_int(params, "timeout", 0, INT32_MAX, &timeout, &e)) ||
	    (json_get(params, "signal") && json_need_int(params, "signal", 1, 64, &signo, &e))) {
		rpc_reply_error(req, e);
		return;
	}
	policy_stopped_by_user(ct);
	if (ct->state == CT_STOPPED) {
		rpc_reply(req, NULL);
		return;
	}
	container_stop_defaults(ct, &signo, &timeout);
	waiter_add(&ct->stoppers, req, false);
	if (ct->calls < APISERVER_MAX_CALLS)
		container_stop(ct, signo, timeout);
}

void on_container_delete(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	struct container *ct = container_need(ctx, params, &e);
	bool force = json_flag(params, "force", false);

	if (!ct || (!force && files_check(ct, &e)))
		goto fail;
	if (ct->state == CT_STOPPED) {
		if (container_remove(ct, &e))
			goto fail;
		rpc_reply(req, NULL);
		return;
	}
	if (!force) {
		error_set(&e, ERR_INVALID_STATE, "container %s is running and can not be deleted",
			  ct->id);
		goto fail;
	}
	waiter_add(&ct->stoppers, req, true);
	if (ct->state == CT_STARTING) {
		container_stop(ct, SIGKILL, 0);
		return;
	}
	events_container_int(ct, "kill", "signal", SIGKILL);
	ct->state = CT_STOPPING;
	if (ct->pidfd >= 0)
		container_kill_helper(ct);
	else
		container_stop(ct, SIGKILL, 0);
	return;
fail:
	rpc_reply_error(req, e);
}

/* ---- taking over what an earlier apiserver started ---- */

static void adopt_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			   const struct error *e)
{
	struct container *ct = arg;
	const char *state = json_str(result, "state", "");

	if (!ct->adopt_timer)
		return;
	if (e) {
		log_err(e, "container %s is not taken over", ct->id);
		if (ct->conn)
			container_grace(ct, 0);
	} else if (str_eq(state, "created")) {
		/* Its start was lost with the apiserver that made it. */
		container_stop(ct, SIGKILL, 0);
	} else {
		ct->paused = str_eq(state, "paused");
		if (str_eq(state, "stopping") || str_eq(state, "stopped")) {
			ct->state = CT_STOPPING;
			container_grace(ct, LINGER_MS);
		}
		ct->started_at = xstrdup(json_str(result, "startedDate", ct->created));
		ct->networks = json_arr(result, "networks")
				       ? json_object_get(json_arr(result, "networks"))
				       : NULL;
		log_info("container %s taken over (%s), pid %d", ct->id, state, (int)ct->pid);
		container_watch_helper(ct, json_obj(result, "health"));
	}
	adopted(ct);
}

static void adopt_late(void *arg)
{
	struct container *ct = arg;

	log_warn("container %s: the helper does not answer", ct->id);
	container_grace(ct, 0);
	adopted(ct);
}

/* The helper's pid, if it still is that process. */
static void adopt_process(struct container *ct)
{
	CLEANUP_FREE char *name = xasprintf("%s.json", ct->id);
	CLEANUP_JSON struct json_object *o = state_read(ct->s->c_dir, name, NULL);
	pid_t pid = (pid_t)json_int(o, "pid", 0);
	uint64_t start = (uint64_t)json_int(o, "startTime", 0);

	if (pid <= 0 || !start || container_watch(ct, pid, NULL))
		return;
	/* Checked after the pidfd was opened, which pins it. */
	if (proc_start_time(pid) == start)
		return;
	loop_source_free(STEAL(ct->child));
	close(steal_fd(&ct->pidfd));
	ct->pid = 0;
}

void container_adopt(struct container *ct)
{
	CLEANUP_JSON struct json_object *config = container_config(ct);
	struct json_object *nets = json_arr(config, "networks");
	CLEANUP_ERROR struct error *e = NULL;

	ct->leased = nets && json_object_array_length(nets);
	adopt_process(ct);
	if (container_attach(ct, &e)) {
		/* Nobody listens: the helper is gone, or going. */
		if (ct->pidfd >= 0)
			container_grace(ct, 0);
		else
			container_ended(ct);
		return;
	}
	ct->s->adopting++;
	ct->adopt_timer = loop_add_timer(ct->s->loop, ADOPT_MS, adopt_late, ct);
	rpc_call_async(ct->conn, "runtime.state", NULL, NULL, 0, adopt_answered, NULL, ct);
}
