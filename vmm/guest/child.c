/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.c - the child's side of the fork: namespaces and mounts, then the common tail (tail.c).
 *
 * Until it execs the child is a copy of the agent, with its memory and descriptors, inside the container. The
 * agent is not dumpable, so nobody in there may look into it.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/guest/guest.h"

#define EXIT_SETUP 127

static void reset_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* One datagram: kind, error code, text; with a descriptor when fd is not -1. */
static void tell(int sock, enum child_msg kind, enum error_code code, const char *text, int fd)
{
	char head[2] = {(char)kind, (char)code};
	struct iovec iov[2] = {
		{.iov_base = head, .iov_len = 2},
		{.iov_base = (char *)text, .iov_len = MIN(strlen(text), (size_t)4000)},
	};
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} u = {0};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	if (fd >= 0) {
		m.msg_control = u.room;
		m.msg_controllen = sizeof(u.room);
		u.h.cmsg_level = SOL_SOCKET;
		u.h.cmsg_type = SCM_RIGHTS;
		u.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	}
	if (RETRY_EINTR(sendmsg(sock, &m, MSG_NOSIGNAL)) < 0)
		_exit(EXIT_SETUP);
}

static NORETURN void fail(struct child_side *c, struct error *e)
{
	CLEANUP_FREE char *text = error_text(e);

	tell(c->sock, CHILD_FAILED, e->code, text, -1);
	_exit(EXIT_SETUP);
}

/* A slave for all three streams, the master to the agent. */
static int make_tty(struct child_side *c, int rootfd, bool console, struct error **err)
{
	int master = -1, slave = -1, i;

	if (tail_pty(c->spec, rootfd, &master, &slave, err))
		return -1;
	if (console && crootfs_bind_console(rootfd, slave, err))
		return -1;
	tell(c->sock, CHILD_PTY, 0, "", master);
	close(master);
	for (i = 0; i < 3; i++)
		c->stdio[i] = slave;
	return 0;
}

/* Waits for the word to start, then becomes the program. */
static NORETURN void finish(struct child_side *c)
{
	struct error *e = NULL;
	char go;

	if (RETRY_EINTR(recv(c->sock, &go, 1, 0)) != 1)
		_exit(EXIT_SETUP);
	if (c->spec->builtin) {
		close(c->sock); /* as an exec would */
		task_main(c->spec, c->stdio, c->layers);
	}
	tail_exec(c->spec, c->stdio, &e);
	fail(c, e);
}

static int build_container(struct child_side *c, struct json_object *boot, struct error **err)
{
	const char *hostname = json_str(boot, "hostname", "");
	CLEANUP_CLOSE int rootfd = -1;

	if (unshare(CLONE_NEWCGROUP))
		return error_sys(err, errno, "cgroup namespace");
	rootfd = path_open_dir(GUEST_ROOT, err);
	if (rootfd < 0 || etc_write(rootfd, boot, err) || crootfs_setup(rootfd, boot, err))
		return -1;
	if (c->spec->tty && make_tty(c, rootfd, true, err))
		return -1;
	if (*hostname && sethostname(hostname, strlen(hostname)))
		return error_sys(err, errno, "set the host name");
	if (crootfs_sysctls(boot, err) || crootfs_restrict(rootfd, boot, err))
		return -1;
	return crootfs_pivot(rootfd, json_flag(json_obj(boot, "root"), "readonly", false), err);
}

void child_init_main(struct child_side *c, struct json_object *boot)
{
	struct error *e = NULL;
	sigset_t all;
	pid_t pid;

	reset_signals();
	umask(0);
	cred_oom_score(&c->spec->cred);
	if (build_container(c, boot, &e))
		fail(c, e);
	if (!json_flag(boot, "init", false))
		finish(c);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL); /* none must be lost before the reaper looks */
	pid = fork();
	if (pid < 0) {
		error_sys(&e, errno, "fork");
		fail(c, e);
	}
	if (pid)
		reaper_main(pid);
	reset_signals();
	finish(c);
}

void child_exec_main(struct child_side *c, int init_pidfd)
{
	struct error *e = NULL;
	CLEANUP_CLOSE int rootfd = -1;

	reset_signals();
	umask(0);
	cred_oom_score(&c->spec->cred);
	if (setns(init_pidfd, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP)) {
		spawn_enter_error(init_pidfd, "enter the container", &e);
		fail(c, e);
	}
	if (c->spec->tty) {
		rootfd = path_open_dir("/", &e);
		if (rootfd < 0 || make_tty(c, rootfd, false, &e))
			fail(c, e);
	}
	finish(c);
}

/* The root file system as it is on the disk, alone in a mount namespace. */
static int enter_files(struct child_side *c, struct error **err)
{
	static const char *const dirs[2] = {GUEST_CHANGES, GUEST_LOWER};
	CLEANUP_CLOSE int rootfd = -1;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		CLEANUP_CLOSE int fd = path_open_dir(dirs[i], err);

		if (fd < 0)
			return -1;
		/* Out of the way of the numbers they get in the end. */
		c->layers[i] = fcntl(fd, F_DUPFD_CLOEXEC, TASK_IMAGE + 1);
		if (c->layers[i] < 0)
			return error_sys(err, errno, "open %s", dirs[i]);
	}
	if (unshare(CLONE_NEWNS))
		return error_sys(err, errno, "mount namespace");
	rootfd = path_open_dir(GUEST_ROOT, err);
	return rootfd < 0 ? -1 : crootfs_pivot(rootfd, !proc_no_init || proc_readonly, err);
}

void child_task_main(struct child_side *c, int init_pidfd)
{
	struct error *e = NULL;
	int rc = 0;

	reset_signals();
	if (init_pidfd >= 0 && task_inside(c->spec)) {
		if (setns(init_pidfd, CLONE_NEWNS))
			rc = spawn_enter_error(init_pidfd, "enter the container", &e);
	} else {
		rc = enter_files(c, &e);
	}
	if (rc)
		fail(c, e);
	finish(c);
}
