/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.c - from a process object to a running child; what happens on the agent's side of the fork.
 *
 * A child begins as a copy of the agent, made by clone3(2) right into the container's cgroup. Over a socketpair
 * it sends its pty and, if something fails, why; it execs only when the agent says that all streams are
 * connected, so set-up and connecting overlap. The socket is close-on-exec: its end of file, without a failure
 * before, is the news that exec worked.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vmm/guest/guest.h"

#define MAX_ID      128
#define MAX_STRINGS 65536
#define MAX_PORT    (UINT32_MAX - 1)

static const char *const stream_names[3] = {"stdin", "stdout", "stderr"};

/* An array of strings without NULs. */
static int check_strings(struct json_object *arr, const char *what, struct error **err)
{
	size_t i, n = arr ? json_object_array_length(arr) : 0;

	if (n > MAX_STRINGS)
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: too many", what);
	for (i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(arr, i);

		if (!json_object_is_type(v, json_type_string) ||
		    strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
			return error_set(err, ERR_INVALID_ARGUMENT, "%s: not a string", what);
	}
	return 0;
}

static int parse_ports(struct json_object *o, struct spec *s, struct error **err)
{
	int i;

	for (i = 0; i < 3; i++) {
		int64_t port = json_int(o, stream_names[i], 0);

		if (port < 0 || port > MAX_PORT)
			return error_set(err, ERR_INVALID_ARGUMENT, "%s: bad port",
					 stream_names[i]);
		s->port[i] = (uint32_t)port;
	}
	if (s->tty && s->port[STDERR])
		return error_set(err, ERR_INVALID_ARGUMENT, "stderr cannot be apart with a tty");
	return 0;
}

int spec_parse(struct json_object *o, struct spec *s, struct error **err)
{
	*s = (struct spec){0};
	if (json_need_str(o, "id", &s->id, err) || json_need_arr(o, "args", &s->args, err))
		return -1;
	if (!*s->id || strlen(s->id) > MAX_ID)
		return error_set(err, ERR_INVALID_ARGUMENT, "bad process id");
	s->env = json_arr(o, "env");
	if (check_strings(s->args, "args", err) || check_strings(s->env, "env", err))
		return -1;
	if (!json_object_array_length(s->args) ||
	    !*json_object_get_string(json_object_array_get_idx(s->args, 0)))
		return error_set(err, ERR_INVALID_ARGUMENT, "no command to run");
	s->cwd = json_str(o, "cwd", "/");
	if (!*s->cwd)
		s->cwd = "/";
	if (*s->cwd != '/')
		return error_set(err, ERR_INVALID_ARGUMENT, "working directory %s is not absolute",
				 s->cwd);
	s->tty = json_flag(o, "tty", false);
	s->builtin = json_flag(o, "builtin", false);
	if (s->builtin && s->tty)
		return error_set(err, ERR_INVALID_ARGUMENT, "a task has no terminal");
	s->rows = (uint16_t)json_int(o, "rows", 0);
	s->cols = (uint16_t)json_int(o, "cols", 0);
	if (parse_ports(o, s, err) || cred_parse(o, &s->cred, err))
		return -1;
	s->json = json_object_get(o);
	return 0;
}

void spec_free(struct spec *s)
{
	json_object_put(s->json);
	s->json = NULL;
}

static void close_fds(int *fd, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (fd[i] >= 0)
			close(steal_fd(&fd[i]));
}

/* Pipes for the streams that have a port, /dev/null for the others; with a tty the child makes both sides. */
static int make_stdio(const struct spec *s, int ours[3], int theirs[3], struct error **err)
{
	int i, p[2];

	for (i = 0; i < 3; i++) {
		ours[i] = theirs[i] = -1;
		if (s->tty)
			continue;
		if (!s->port[i]) {
			theirs[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
			if (theirs[i] < 0)
				return error_sys(err, errno, "open /dev/null");
			continue;
		}
		if (pipe2(p, O_CLOEXEC))
			return error_sys(err, errno, "make a pipe");
		ours[i] = p[i == STDIN];
		theirs[i] = p[i != STDIN];
	}
	return 0;
}

static pid_t clone_into(uint64_t flags, int *pidfd)
{
	struct clone_args a = {
		.flags = flags | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)cgroup_fd(),
	};
	CLEANUP_CLOSE int below = -1;
	pid_t pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));

	if (pid >= 0 || errno != EBUSY)
		return pid;
	/* A container that makes groups with controllers has moved into one of them: no group has such ones below it and
	 * processes too (cgroup-v2.rst, "No Internal Process Constraint"). To where its first process is, then. */
	below = cgroup_of(proc_init_pid());
	if (below < 0) {
		errno = EBUSY;
		return -1;
	}
	a.cgroup = (uint64_t)below;
	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

int spawn_enter_error(int init_pidfd, const char *what, struct error **err)
{
	struct pollfd p = {.fd = init_pidfd, .events = POLLIN};
	int sys = errno;

	if (sys == ESRCH || poll(&p, 1, 0) == 1)
		return error_set(err, ERR_INVALID_STATE, "the container is not running any more");
	return error_sys(err, sys, "%s", what);
}

/* clone_exec: the child is born into the container's pid namespace; the agent itself never enters it, only
 * the namespace its next child gets, for as long as the call takes. */
static pid_t clone_exec(int init_pidfd, int *pidfd, struct error **err)
{
	CLEANUP_CLOSE int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	pid_t pid;
	int saved;

	if (own < 0)
		return error_sys(err, errno, "own pid namespace");
	if (setns(init_pidfd, CLONE_NEWPID))
		return spawn_enter_error(init_pidfd, "enter the container", err);
	pid = clone_into(CLONE_INTO_CGROUP, pidfd);
	if (!pid)
		return 0;
	saved = errno;
	if (setns(own, CLONE_NEWPID))
		guest_log("leave the container's pid namespace: %s", strerror(errno));
	errno = saved;
	return pid < 0 ? spawn_enter_error(init_pidfd, "make a process", err) : pid;
}

static int spawn(const struct spec *s, struct json_object *boot, int init_pidfd, struct child *c,
		 struct error **err)
{
	struct child_side side = {.spec = s, .sock = -1, .stdio = {-1, -1, -1}, .layers = {-1, -1}};
	int pair[2] = {-1, -1};

	*c = (struct child){.pid = -1, .pidfd = -1, .sock = -1, .stdio = {-1, -1, -1}};
	if (make_stdio(s, c->stdio, side.stdio, err))
		goto fail;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		error_sys(err, errno, "make a socketpair");
		goto fail;
	}
	side.sock = pair[1];
	c->sock = pair[0];
	if (boot) {
		c->pid = clone_into(CLONE_INTO_CGROUP | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS |
					    CLONE_NEWIPC,
				    &c->pidfd);
		if (!c->pid)
			child_init_main(&side, boot);
		if (c->pid < 0)
			error_sys(err, errno, "make the container's process");
	} else if (s->builtin) {
		c->pid = clone_into(task_freezes(s) ? 0 : CLONE_INTO_CGROUP, &c->pidfd);
		if (!c->pid)
			child_task_main(&side, init_pidfd);
		if (c->pid < 0)
			error_sys(err, errno, "make a process");
	} else {
		c->pid = clone_exec(init_pidfd, &c->pidfd, err);
		if (!c->pid)
			child_exec_main(&side, init_pidfd);
	}
	if (c->pid < 0)
		goto fail;
	close_fds(side.stdio, 3);
	close(side.sock);
	return 0;
fail:
	close_fds(side.stdio, 3);
	close_fds(c->stdio, 3);
	close_fds(pair, 2);
	c->sock = -1;
	return -1;
}

int spawn_init(const struct spec *s, struct json_object *boot, struct child *c, struct error **err)
{
	return spawn(s, boot, -1, c, err);
}

int spawn_exec(const struct spec *s, int init_pidfd, struct child *c, struct error **err)
{
	return spawn(s, NULL, init_pidfd, c, err);
}

void spawn_go(int sock)
{
	/* When the child is gone already its end of file says so. */
	if (send(sock, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}
