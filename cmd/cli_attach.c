/* SPDX-License-Identifier: Apache-2.0 */
/* cli_attach.c - the loop of an attached run, start or exec. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include "cmd/cli_attach.h"
#include "cmd/stdio.h"
#include "cmd/term.h"
#include "core/log.h"

#define DRAIN_MS        3000
#define BROKEN_GRACE_MS 5000
#define RECONNECT_MS    250
#define RECONNECT_TRIES 60
#define STREAMS_MAX     3
#define KEY_CTRL_P      0x10
#define KEY_CTRL_Q      0x11

enum { S_IN, S_OUT, S_ERR };

struct session {
	struct cli *c;
	struct attach *a;
	struct loop *loop;
	struct rpc_conn *conn;
	struct pump pump[STREAMS_MAX];
	int remote[STREAMS_MAX]; /* the runtime's ends, -1 once sent */
	const char *names[STREAMS_MAX];
	int fds[STREAMS_MAX];
	size_t nfds;
	unsigned open_outputs;
	char *process; /* exec's id */
	char *machine; /* how the machine ended under the process; NULL: it did not */
	bool waiting, exited, stopped;
	bool typed_p;     /* the last key was Ctrl-P */
	int64_t guest_us; /* of an exec: from asking the guest to its word that it is over */
	int exit_code, end_signals, pending_signal, tries;
	int broken; /* errno of a standard stream that cannot be written */
	struct error *e;
	struct loop_source *drain, *retry, *kill_timer, *sig[10];
	size_t nsig;
	uint64_t t_start, t_started, t_first;
	struct json_object *timings;
};

static void session_wait(struct session *s);

static struct error *copy_error(const struct error *e)
{
	CLEANUP_JSON struct json_object *o = rpc_error_to_json(e);

	return rpc_error_from_json(o);
}

static void session_end(struct session *s, struct error *e)
{
	if (s->stopped) {
		error_free(e);
		return;
	}
	s->stopped = true;
	s->e = e;
	loop_stop(s->loop);
}

static struct json_object *session_params(struct session *s)
{
	struct json_object *p = json_object_new_object();

	json_set_str(p, "id", s->a->id);
	json_set_str(p, "process", s->process);
	return p;
}

/* ---- signals ---- */

static void ignore_reply(void *arg, struct json_object *result, struct rpc_fds *fds,
			 const struct error *e)
{
	if (e)
		log_debug("%s: %s", (const char *)arg, e->msg ? e->msg : "");
}

static void session_signal(struct session *s, int signo)
{
	struct json_object *p;

	if (!s->a->started || !s->conn) {
		s->pending_signal = signo;
		return;
	}
	p = session_params(s);
	json_set_int(p, "signal", signo);
	rpc_call_async(s->conn, "container.kill", p, NULL, 0, ignore_reply, NULL, "container.kill");
}

static void session_resize(struct session *s)
{
	unsigned rows, cols;
	struct json_object *p;

	if (!s->a->started || !s->conn || term_size(&rows, &cols))
		return;
	p = session_params(s);
	json_set_int(p, "rows", rows);
	json_set_int(p, "cols", cols);
	rpc_call_async(s->conn, "container.resize", p, NULL, 0, ignore_reply, NULL,
		       "container.resize");
}

static void on_signal(void *arg, int signo)
{
	struct session *s = arg;

	if (signo == SIGWINCH) {
		session_resize(s);
	} else if (signo == SIGCONT) {
		if (term_is_raw())
			term_raw(STDIN_FILENO, NULL);
		session_resize(s);
	} else if (term_is_raw()) {
		s->exited = true;
		s->exit_code = 128 + signo;
		session_end(s, NULL);
	} else {
		if ((signo == SIGINT || signo == SIGTERM) && ++s->end_signals == 3) {
			s->exited = true;
			s->exit_code = 1;
			session_end(s, NULL);
			return;
		}
		session_signal(s, signo);
	}
}

static int session_signals(struct session *s, struct error **err)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	static const int tty_signals[] = {SIGWINCH, SIGCONT};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		s->sig[s->nsig] = loop_add_signal(s->loop, signals[i], on_signal, s, err);
		if (!s->sig[s->nsig++])
			return -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tty_signals) && s->a->tty; i++) {
		s->sig[s->nsig] = loop_add_signal(s->loop, tty_signals[i], on_signal, s, err);
		if (!s->sig[s->nsig++])
			return -1;
	}
	return 0;
}

/* ---- streams ---- */

static void on_first(void *arg)
{
	struct session *s = arg;

	if (!s->t_first)
		s->t_first = time_mono_us();
}

static void session_kill(void *arg)
{
	session_signal(arg, SIGKILL);
}

/* Ends this client; the process goes on. */
static void session_leave(struct session *s, int status)
{
	s->exited = true;
	s->exit_code = status;
	session_end(s, NULL);
}

/* Ctrl-P Ctrl-Q, which may come in two pieces. */
static bool on_typed(void *arg, const char *p, size_t n)
{
	struct session *s = arg;

	for (size_t i = 0; i < n; i++) {
		if (s->typed_p && p[i] == KEY_CTRL_Q) {
			session_leave(s, 0);
			return false;
		}
		s->typed_p = p[i] == KEY_CTRL_P;
	}
	return true;
}

static void on_output_done(void *arg, struct pump *p)
{
	struct session *s = arg;

	s->open_outputs--;
	if (p->out_errno && s->a->running && !s->exited) {
		/* It was there before us, and goes on without us. */
		session_leave(s, 128 + SIGPIPE);
		return;
	}
	if (p->out_errno && !s->broken && !s->exited) {
		s->broken = p->out_errno;
		session_signal(s, SIGPIPE);
		s->kill_timer = loop_add_timer(s->loop, BROKEN_GRACE_MS, session_kill, s);
	}
	if (s->exited && !s->open_outputs)
		session_end(s, NULL);
}

/* One stream: a pipe, our end to its pump, the other end to go with the call. */
static int session_stream(struct session *s, int which, struct error **err)
{
	static const char *const names[] = {"stdin", "stdout", "stderr"};
	struct pump *p = &s->pump[which];
	int ends[2], ours, rc;

	if (pipe2(ends, O_CLOEXEC))
		return error_sys(err, errno, "pipe");
	ours = ends[which == S_IN];
	s->remote[which] = ends[which != S_IN];
	s->names[s->nfds] = names[which];
	s->fds[s->nfds++] = s->remote[which];
	p->arg = s;
	if (which == S_IN) {
		p->on_input = s->a->running && s->a->tty ? on_typed : NULL;
		rc = pump_start_input(p, s->loop, STDIN_FILENO, ours, err);
	} else {
		p->on_first = on_first;
		p->on_done = on_output_done;
		s->open_outputs++;
		rc = pump_start_output(p, s->loop, ours, which, err);
	}
	if (rc)
		close(ours);
	return rc;
}

static int session_streams(struct session *s, struct error **err)
{
	if (s->a->interactive && session_stream(s, S_IN, err))
		return -1;
	if (session_stream(s, S_OUT, err))
		return -1;
	if (!s->a->tty && session_stream(s, S_ERR, err))
		return -1;
	return 0;
}

/* ---- the connection ---- */

/* The process is over, but not its output: it may be held open for ever, or our reader take its time. */
static void drain_over(void *arg)
{
	struct session *s = arg;
	bool waits = false;

	for (int i = S_OUT; i <= S_ERR; i++)
		waits |= s->pump[i].loop && !s->pump[i].done && s->pump[i].len;
	if (waits)
		loop_set_timer(s->drain, DRAIN_MS);
	else
		session_end(s, NULL);
}

/* A call's failure may be the connection's: on_close has been told by the time this runs. */
static void wait_failed(void *arg)
{
	struct session *s = arg;

	if (s->conn && s->e)
		session_end(s, STEAL(s->e));
}

static void on_waited(void *arg, struct json_object *result, struct rpc_fds *fds,
		      const struct error *e)
{
	struct session *s = arg;

	s->waiting = false;
	if (s->stopped)
		return;
	if (e) {
		error_free(s->e);
		s->e = copy_error(e);
		loop_post(s->loop, wait_failed, s);
		return;
	}
	s->exited = true;
	s->exit_code = (int)(json_int(result, "exitCode", 255) & 0xff);
	s->guest_us = json_int(result, "guestUs", 0);
	if (json_str(result, "machine", NULL))
		s->machine = xstrdup(json_str(result, "machine", NULL));
	if (!s->open_outputs)
		session_end(s, NULL);
	else
		s->drain = loop_add_timer(s->loop, DRAIN_MS, drain_over, s);
}

static void session_wait(struct session *s)
{
	s->waiting = true;
	rpc_call_async(s->conn, "container.wait", session_params(s), NULL, 0, on_waited, NULL, s);
}

static void on_started(void *arg, struct json_object *result, struct rpc_fds *fds,
		       const struct error *e)
{
	struct session *s = arg;
	const char *process = json_str(result, "process", NULL);

	if (s->stopped)
		return;
	if (e) {
		session_end(s, copy_error(e));
		return;
	}
	s->a->started = true;
	s->t_started = time_mono_us();
	if (process)
		s->process = xstrdup(process);
	s->timings = json_object_get(json_obj(result, "timings"));
	session_wait(s);
	if (s->a->running && s->a->tty)
		session_resize(s); /* its terminal is as large as that of the last client */
	if (s->pending_signal)
		session_signal(s, s->pending_signal);
}

static void reconnect(void *arg);

static void on_close(void *ctx, struct rpc_conn *conn, const struct error *e)
{
	struct session *s = ctx;
	struct error *lost = NULL;

	s->conn = NULL;
	if (s->stopped || s->exited)
		return;
	if (!s->a->started) {
		error_set(&lost, ERR_INTERRUPTED, "lost the connection to the apiserver");
		session_end(s, lost);
		return;
	}
	if (!s->retry)
		s->retry = loop_add_timer(s->loop, RECONNECT_MS, reconnect, s);
	else
		loop_set_timer(s->retry, RECONNECT_MS);
}

static const struct rpc_handler session_handler = {.service = "container.cli",
						   .on_close = on_close};

static void reconnect(void *arg)
{
	struct session *s = arg;
	struct error *e = NULL;
	int fd;

	error_free(STEAL(s->e));
	fd = cli_socket(s->c, &e);
	if (fd >= 0) {
		s->conn = rpc_conn_new(s->loop, fd, &session_handler, s);
		session_wait(s);
		session_resize(s);
		return;
	}
	if (++s->tries < RECONNECT_TRIES) {
		error_free(e);
		loop_set_timer(s->retry, RECONNECT_MS);
		return;
	}
	error_wrap(&e, "lost the connection to the apiserver; container %s goes on without it",
		   s->a->id);
	session_end(s, e);
}

/* ---- start to end ---- */

static struct json_object *start_params(struct attach *a, const char *const *streams, size_t n)
{
	struct json_object *p = json_object_new_object(), *names = json_object_new_array(),
			   *size = p;
	unsigned rows, cols;

	json_set_str(p, "id", a->id);
	for (size_t i = 0; i < n; i++)
		json_add_str(names, streams[i]);
	json_set(p, "streams", names);
	json_set_str(p, "sshAuthSock", a->ssh);
	if (a->process) {
		json_set(p, "process", json_object_get(a->process));
		size = a->process;
	}
	if (a->tty && !term_size(&rows, &cols)) {
		json_set_int(size, "rows", rows);
		json_set_int(size, "cols", cols);
	}
	return p;
}

static const char *start_method(const struct attach *a)
{
	return a->process ? "container.exec" : a->running ? "container.attach" : "container.start";
}

static int session_open(struct session *s, struct error **err)
{
	int fd = cli_socket(s->c, err);

	if (fd < 0)
		return -1;
	s->loop = loop_new(err);
	if (!s->loop) {
		close(fd);
		return -1;
	}
	s->conn = rpc_conn_new(s->loop, fd, &session_handler, s);
	if (session_signals(s, err) || session_streams(s, err))
		return -1;
	if (s->a->tty && s->a->interactive && isatty(STDIN_FILENO))
		return term_raw(STDIN_FILENO, err);
	return 0;
}

static void session_start(struct session *s)
{
	struct json_object *p = start_params(s->a, s->names, s->nfds);

	s->t_start = time_mono_us();
	rpc_call_async(s->conn, start_method(s->a), p, s->fds, s->nfds, on_started, NULL, s);
	for (int i = 0; i < STREAMS_MAX; i++)
		base_close_fd(&s->remote[i]);
	memset(s->remote, 0xff, sizeof(s->remote));
}

static void session_close(struct session *s)
{
	s->stopped = true;
	for (int i = 0; i < STREAMS_MAX; i++) {
		pump_stop(&s->pump[i]);
		base_close_fd(&s->remote[i]);
	}
	if (s->conn)
		rpc_conn_free(STEAL(s->conn));
	for (size_t i = 0; i < s->nsig; i++)
		loop_source_free(s->sig[i]);
	loop_source_free(s->drain);
	loop_source_free(s->retry);
	loop_source_free(s->kill_timer);
	if (s->loop)
		loop_free(s->loop);
	json_object_put(s->timings);
	error_free(s->e);
	free(s->process);
	free(s->machine);
	free(s);
}

void attach_timing(const char *stage, int64_t us)
{
	fprintf(stderr, "timing %s %lld\n", stage, (long long)us);
}

static void session_timings(struct session *s)
{
	if (!s->a->timings || !s->a->started)
		return;
	if (s->timings) {
		json_object_object_foreach(s->timings, stage, us)
		{
			attach_timing(stage, json_object_get_int64(us));
		}
	}
	attach_timing("cli_before_start", (int64_t)(s->t_start - s->c->t0));
	attach_timing("cli_start", (int64_t)(s->t_started - s->t_start));
	if (s->t_first)
		attach_timing("first_output", (int64_t)(s->t_first - s->c->t0));
	if (s->guest_us)
		attach_timing("guest", s->guest_us);
	attach_timing("cli_total", (int64_t)(time_mono_us() - s->c->t0));
}

/* What was cut off in the middle of a line does not get the next prompt, or an error, behind it. */
static void leave_line(const struct session *s)
{
	const struct pump *p = &s->pump[S_OUT];

	if (!term_is_raw() || !p->total || p->last == '\n' || (s->exited && s->exit_code < 128))
		return;
	if (write(STDOUT_FILENO, "\r\n", 2) < 0)
		log_debug("terminal: %s", strerror(errno));
}

int attach_run(struct cli *c, struct attach *a, struct error **err)
{
	struct session *s = xcalloc(1, sizeof(*s));
	struct error *e = NULL;
	int code = -1;

	s->c = c;
	s->a = a;
	memset(s->remote, 0xff, sizeof(s->remote));
	if (!session_open(s, &e)) {
		session_start(s);
		loop_run(s->loop, &e);
	}
	leave_line(s);
	term_restore();
	if (!e)
		e = STEAL(s->e);
	if (!e && s->broken && s->broken != EPIPE)
		error_sys(&e, s->broken, "write the output of %s", a->id);
	if (e)
		error_move(err, e);
	else if (s->exited)
		code = s->exit_code;
	else
		error_set(err, ERR_INTERNAL, "the event loop ended early");
	if (s->machine)
		cli_note("Error: the machine of container %s ended under it (%s); see container "
			 "logs --boot %s",
			 a->id, s->machine, a->id);
	session_timings(s);
	session_close(s);
	return code;
}

int attach_detached(struct cli *c, struct attach *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	uint64_t t = time_mono_us();
	struct json_object *stages, *params;

	params = start_params(a, NULL, 0);
	json_set_bool(params, "keepStdin", a->interactive && !a->process);
	if (cli_call(c, start_method(a), params, &reply, err))
		return -1;
	a->started = true;
	if (!a->timings)
		return 0;
	stages = json_obj(reply, "timings");
	if (stages) {
		json_object_object_foreach(stages, stage, us)
		{
			attach_timing(stage, json_object_get_int64(us));
		}
	}
	attach_timing("cli_before_start", (int64_t)(t - c->t0));
	attach_timing("cli_total", (int64_t)(time_mono_us() - c->t0));
	return 0;
}
