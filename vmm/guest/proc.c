/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.c - the container's processes as the agent knows them.
 *
 * A process is in the table from its start request until its exit has been told. On the way three things go on
 * side by side, each an event: its streams connect, its child sets itself up, and after the exit its output
 * drains. proc_settle() looks at all three and takes the next step when it is due:
 *   streams connected, pty here        -> the word to exec
 *   end of file from the child         -> started, or failed with what it said
 *   reaped, output at its end          -> exited
 *
 * After an exit the output ends when the last holder of the pipe is gone. The kernel sees to that when the
 * container's init ends; a daemon that an exec left behind may hold on, so it is given HOLD_US and no more.
 * A host that does not read is not hurried: what was written is not thrown away while the host is there.
 *
 * A machine that was booted for a stopped container's files has no init process; the host is told that one started all
 * the same, and asks for the end when it needs no more.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#include "vmm/guest/guest.h"

#define HOLD_US   3000000 /* an ended process's output may be held open this long */
#define ENDING_US 5000000 /* from the end of init to the end of all others */
#define INIT_ID   "init"

struct stream {
	struct ev ev;
	struct proc *proc;
	int fd; /* socket to the host; the pump's once it runs */
	bool connecting;
};

struct proc {
	struct proc *next;
	struct spec spec;
	struct child child;
	struct ev child_ev;
	int64_t call_id; /* -1: init, told by notices */
	struct stream stream[3];
	struct pump pump[3];
	bool pumping[3];
	int master;
	bool gone_ahead; /* has the word to exec */
	bool child_eof;  /* nothing more from the child's socket */
	bool announced;  /* started was told */
	bool reaped;
	bool froze; /* the container stands still while it runs */
	int status;
	uint64_t hold_until;
	uint64_t oom_before;
	struct error *failed;
};

static struct proc *procs;
static unsigned nprocs;
static struct proc *init_proc;
static bool init_over;
static uint64_t ending_until;
bool proc_no_init, proc_readonly;
static int predialled[3] = {-1, -1, -1};

static void proc_settle(struct proc *p);

static struct proc *proc_find(const char *id)
{
	struct proc *p;

	for (p = procs; p && strcmp(p->spec.id, id); p = p->next)
		;
	return p;
}

static void proc_free(struct proc *p)
{
	struct proc **at;
	int i;

	for (at = &procs; *at && *at != p; at = &(*at)->next)
		;
	if (*at) {
		*at = p->next;
		nprocs--;
	}
	for (i = 0; i < 3; i++) {
		ev_del(&p->stream[i].ev);
		if (p->pumping[i])
			pump_close(&p->pump[i]);
		else if (p->stream[i].fd >= 0)
			close(p->stream[i].fd);
		if (p->child.stdio[i] >= 0)
			close(p->child.stdio[i]);
	}
	ev_del(&p->child_ev);
	if (p->child.sock >= 0)
		close(p->child.sock);
	if (p->child.pidfd >= 0)
		close(p->child.pidfd);
	if (p->master >= 0)
		close(p->master);
	if (p == init_proc) {
		init_proc = NULL;
		init_over = true;
		ending_until = time_mono_us() + ENDING_US;
	}
	error_free(p->failed);
	spec_free(&p->spec);
	free(p);
}

/* ---- telling the host ---- */

static struct json_object *about(const struct proc *p)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "process", p->spec.id);
	return o;
}

static void tell_started(struct proc *p)
{
	struct json_object *o = about(p);

	p->announced = true;
	json_set_int(o, "pid", p->child.pid);
	if (p->call_id >= 0)
		wire_reply(&agent_wire, p->call_id, o);
	else
		wire_notify(&agent_wire, "started", o);
}

static void tell_failed(struct proc *p)
{
	if (p->call_id >= 0) {
		wire_reply_error(&agent_wire, p->call_id, p->failed);
	} else {
		CLEANUP_FREE char *text = error_text(p->failed);
		struct json_object *o = about(p);

		json_set_str(o, "code", error_code_name(p->failed->code));
		json_set_str(o, "message", text);
		wire_notify(&agent_wire, "failed", o);
	}
}

static void tell_exited(struct proc *p)
{
	struct json_object *o = about(p);
	int sig = WIFSIGNALED(p->status) ? WTERMSIG(p->status) : 0;
	int code = sig ? 128 + sig : WEXITSTATUS(p->status);

	json_set_int(o, "code", code);
	json_set_int(o, "signal", sig);
	/* Of the init process: whether anything in the container was killed so, as docker has it. */
	json_set_bool(o, "oom",
		      (p == init_proc || code == 128 + SIGKILL) &&
			      cgroup_oom_kills() > p->oom_before);
	wire_notify(&agent_wire, "exited", o);
}

static void proc_fail(struct proc *p, struct error *e)
{
	if (p->failed)
		error_free(e);
	else
		p->failed = e;
	if (p->child.pid > 0 && !p->reaped)
		kill(p->child.pid, SIGKILL);
}

/* ---- streams ---- */

static void pump_over(struct pump *pump)
{
	proc_settle(pump->arg);
}

static void start_pump(struct proc *p, int i, int inner)
{
	struct pump *pump = &p->pump[i];
	int sock = steal_fd(&p->stream[i].fd);

	p->pumping[i] = true;
	pump->on_done = pump_over;
	pump->arg = p;
	pump->dst_sock = i != STDIN;
	pump->to_tty = i == STDIN && p->spec.tty;
	if (pump_start(pump, i == STDIN ? sock : inner, i == STDIN ? inner : sock, NULL))
		pump_close(pump);
}

/* Starts what can be: a stream whose socket is connected and whose other side is here. */
static void start_pumps(struct proc *p)
{
	int i, inner;

	for (i = 0; i < 3; i++) {
		if (p->pumping[i] || p->stream[i].fd < 0 || p->stream[i].connecting)
			continue;
		if (p->spec.tty)
			inner = p->master >= 0 ? fcntl(p->master, F_DUPFD_CLOEXEC, 3) : -1;
		else
			inner = steal_fd(&p->child.stdio[i]);
		if (inner >= 0)
			start_pump(p, i, inner);
	}
}

static void stream_event(struct ev *ev, uint32_t events)
{
	struct stream *s = container_of(ev, struct stream, ev);
	socklen_t len = sizeof(int);
	struct error *e = NULL;
	int sys = 0;

	ev_del(ev);
	s->connecting = false;
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &sys, &len) || sys) {
		error_sys(&e, sys ? sys : errno, "connect a stream to the host");
		proc_fail(s->proc, e);
	}
	proc_settle(s->proc);
}

static int connect_streams(struct proc *p, bool use_predialled, struct error **err)
{
	int i;

	for (i = 0; i < 3; i++) {
		struct stream *s = &p->stream[i];

		if (!p->spec.port[i])
			continue;
		if (use_predialled && predialled[i] >= 0)
			s->fd = steal_fd(&predialled[i]);
		else
			s->fd = guest_dial(p->spec.port[i], err);
		if (s->fd < 0 || ev_add(&s->ev, s->fd, EPOLLOUT, stream_event, err))
			return -1;
		s->connecting = true;
	}
	return 0;
}

void proc_predial(struct json_object *process)
{
	static const char *const names[3] = {"stdin", "stdout", "stderr"};
	int i;

	for (i = 0; i < 3; i++) {
		int64_t port = json_int(process, names[i], 0);

		if (port > 0 && port < UINT32_MAX)
			predialled[i] = guest_dial((uint32_t)port, NULL);
	}
}

/* ---- the child's socket ---- */

static int received_fd(struct msghdr *m)
{
	struct cmsghdr *h;
	int fd = -1;

	for (h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
		    h->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	return fd;
}

static void child_said(struct proc *p, const char *msg, size_t n, int fd)
{
	struct error *e = NULL;

	if (n >= 2 && msg[0] == CHILD_PTY && fd >= 0 && p->master < 0) {
		p->master = fd;
		return;
	}
	if (fd >= 0)
		close(fd);
	if (n >= 2 && msg[0] == CHILD_FAILED) {
		error_set(&e, (enum error_code)msg[1], "%.*s", (int)(n - 2), msg + 2);
		proc_fail(p, e);
	}
}

static void child_event(struct ev *ev, uint32_t events)
{
	struct proc *p = container_of(ev, struct proc, child_ev);
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	char msg[4096];
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(msg)};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &u,
		.msg_controllen = sizeof(u),
	};
	ssize_t n = recvmsg(p->child.sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	/* One that failed and ended before it took its word to start: that is told first, and then what it said. */
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(p->child.sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		child_said(p, msg, (size_t)n, received_fd(&m));
	} else {
		ev_del(ev);
		close(steal_fd(&p->child.sock));
		p->child_eof = true;
	}
	proc_settle(p);
}

/* ---- steps ---- */

static bool streams_ready(const struct proc *p)
{
	int i;

	for (i = 0; i < 3; i++)
		if (p->stream[i].connecting)
			return false;
	return !p->spec.tty || p->master >= 0;
}

static bool output_over(const struct proc *p)
{
	int i;

	for (i = STDOUT; i <= STDERR; i++)
		if (p->pumping[i] && !p->pump[i].done)
			return false;
	return true;
}

static void proc_settle(struct proc *p)
{
	if (p->failed) {
		if (p->reaped) {
			tell_failed(p);
			proc_free(p);
		}
		return;
	}
	start_pumps(p);
	if (!p->gone_ahead && !p->child_eof && streams_ready(p)) {
		p->gone_ahead = true;
		spawn_go(p->child.sock);
	}
	if (p->child_eof && !p->announced) {
		/* One that was killed on its way here has started and ended, as far as anyone can tell. */
		tell_started(p);
	}
	if (p->announced && p->reaped && output_over(p)) {
		tell_exited(p);
		proc_free(p);
	}
}

static struct proc *proc_new(struct error **err)
{
	struct proc *p;
	int i;

	if (nprocs >= GUEST_MAX_PROCS) {
		error_set(err, ERR_INVALID_STATE, "too many processes at once");
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	p->master = -1;
	p->child = (struct child){.pid = -1, .pidfd = -1, .sock = -1, .stdio = {-1, -1, -1}};
	for (i = 0; i < 3; i++) {
		p->stream[i].proc = p;
		p->stream[i].fd = -1;
	}
	return p;
}

/* The child is there: from now on failures go through proc_fail(). */
static void watch_child(struct proc *p)
{
	struct error *e = NULL;

	p->next = procs;
	procs = p;
	nprocs++;
	if (ev_add(&p->child_ev, p->child.sock, EPOLLIN, child_event, &e))
		proc_fail(p, e);
}

int proc_start(struct json_object *process, struct json_object *boot, int64_t call_id,
	       struct error **err)
{
	struct proc *p;
	int r;

	if (!boot && !proc_running() && (!proc_no_init || agent_stopping))
		return error_set(err, ERR_INVALID_STATE, "the container is not running");
	p = proc_new(err);
	if (!p)
		return -1;
	p->call_id = call_id;
	r = spec_parse(process, &p->spec, err);
	if (!r && (proc_find(p->spec.id) || (!boot && !strcmp(p->spec.id, INIT_ID))))
		r = error_set(err, ERR_EXISTS, "process %s exists", p->spec.id);
	if (!r && proc_no_init && !p->spec.builtin)
		r = error_set(err, ERR_INVALID_STATE, "the container is not running");
	if (!r)
		r = connect_streams(p, boot != NULL, err);
	p->oom_before = cgroup_oom_kills();
	if (!r)
		r = boot ? spawn_init(&p->spec, boot, &p->child, err)
			 : spawn_exec(&p->spec, init_proc ? init_proc->child.pidfd : -1, &p->child,
				      err);
	if (r) {
		proc_free(p);
		return -1;
	}
	if (boot)
		init_proc = p;
	p->froze = task_freezes(&p->spec);
	if (p->froze)
		cgroup_freeze(true);
	watch_child(p);
	proc_settle(p); /* one without streams has nothing else to wait for */
	return 0;
}

int proc_signal(const char *id, int signo, struct error **err)
{
	struct proc *p = proc_find(id);

	if (!p)
		return error_set(err, ERR_NOT_FOUND, "no process %s", id);
	if (p->reaped)
		return 0; /* it is ending already */
	return kill(p->child.pid, signo) ? error_sys(err, errno, "signal %s", id) : 0;
}

int proc_kill_session(const char *id, struct error **err)
{
	struct proc *p = proc_find(id);

	if (!p)
		return error_set(err, ERR_NOT_FOUND, "no process %s", id);
	if (!p->reaped)
		kill(p->child.pid, SIGKILL); /* it may not have come to its session yet */
	session_kill(p->child.pid);
	return 0;
}

int proc_resize(const char *id, unsigned rows, unsigned cols, struct error **err)
{
	struct winsize ws = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
	struct proc *p = proc_find(id);

	if (!p)
		return error_set(err, ERR_NOT_FOUND, "no process %s", id);
	if (p->master < 0)
		return error_set(err, ERR_INVALID_STATE, "process %s has no terminal", id);
	return ioctl(p->master, TIOCSWINSZ, &ws) ? error_sys(err, errno, "resize %s", id) : 0;
}

static void proc_ended(struct proc *p, int status)
{
	p->reaped = true;
	p->status = status;
	p->hold_until = time_mono_us() + HOLD_US;
	if (p->pumping[STDIN] && !p->pump[STDIN].done)
		pump_close(&p->pump[STDIN]);
	if (p->froze)
		cgroup_freeze(false);
	p->froze = false;
	if (p == init_proc)
		cgroup_kill(); /* what its pid namespace's end did not reach */
	proc_settle(p);
}

void proc_reap(void)
{
	struct proc *p;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (p = procs; p && p->child.pid != pid; p = p->next)
			;
		if (p)
			proc_ended(p, status);
	}
}

void proc_kill_all(void)
{
	if (init_proc && !init_proc->reaped)
		kill(init_proc->child.pid, SIGKILL);
	cgroup_kill();
	if (proc_no_init)
		ending_until = time_mono_us() + ENDING_US;
}

void proc_tasks_only(bool readonly)
{
	struct json_object *o = json_object_new_object();

	proc_no_init = true;
	proc_readonly = readonly;
	json_set_str(o, "process", INIT_ID);
	wire_notify(&agent_wire, "started", o);
}

uint64_t proc_deadline(void)
{
	uint64_t d = procs ? ending_until : 0;
	struct proc *p;

	for (p = procs; p; p = p->next)
		if (p->hold_until && (!d || p->hold_until < d))
			d = p->hold_until;
	return d;
}

void proc_tick(void)
{
	uint64_t now = time_mono_us();
	struct proc *p, *next;
	int i;

	for (p = procs; p; p = next) {
		next = p->next;
		if (!p->hold_until || p->hold_until > now)
			continue;
		p->hold_until = 0;
		/* on_done may free p with the last pump: settle only after both were told. */
		for (i = STDOUT; i <= STDERR; i++) {
			bool last = i == STDERR || !p->pumping[STDERR] || p->pump[STDERR].done;

			if (p->pumping[i] && !p->pump[i].done)
				pump_finish(&p->pump[i]);
			if (last)
				break;
		}
	}
}

bool proc_running(void)
{
	return init_proc && init_proc->announced && !init_proc->reaped;
}

pid_t proc_init_pid(void)
{
	return proc_running() ? init_proc->child.pid : -1;
}

bool proc_over(void)
{
	if (!init_over && !(proc_no_init && agent_stopping))
		return false;
	return !procs || time_mono_us() >= ending_until;
}
