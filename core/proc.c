/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.c - fork and exec with an exact set of descriptors.
 *
 * The parent may have threads, so between fork and exec the child makes system calls only. It first lifts
 * every descriptor it needs above all targets, then puts each in place, then closes the rest. A pipe that
 * exec closes tells the parent whether exec came to be.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/sched.h>

#include "core/log.h"
#include "core/path.h"
#include "core/proc.h"

extern char **environ;

struct launch {
	const struct proc_spec *spec;
	const char *path;
	int *fds; /* what goes to 0 .. n-1 */
	size_t n;
	int status; /* write end of the pipe */
	bool own_pids;
	pid_t parent;
};

static NORETURN void child_fail(int status)
{
	int e = errno;

	if (write(status, &e, sizeof(e)) < 0)
		_exit(126);
	_exit(127);
}

static void child_signals(void)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};
	sigset_t none;
	int i;

	for (i = 1; i < NSIG; i++)
		sigaction(i, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_from(int first)
{
	long i, max;

	if (!syscall(SYS_close_range, (unsigned)first, ~0u, 0))
		return;
	max = sysconf(_SC_OPEN_MAX);
	for (i = first; i < max; i++)
		close((int)i);
}

/* Process 1 of a namespace sees no parent; but who reads from our pipe is there or not. */
static bool orphaned(const struct launch *l, int status)
{
	struct pollfd pf = {.fd = status};

	if (!l->own_pids)
		return getppid() != l->parent;
	return poll(&pf, 1, 0) != 0;
}

static NORETURN void child_run(struct launch *l)
{
	int above = (int)l->n + 1, status = l->status, placed;
	size_t i;

	status = fcntl(status, F_DUPFD_CLOEXEC, above);
	if (status < 0)
		_exit(126);
	for (i = 0; i < l->n; i++) {
		l->fds[i] = fcntl(l->fds[i], F_DUPFD_CLOEXEC, above);
		if (l->fds[i] < 0)
			child_fail(status);
	}
	for (i = 0; i < l->n; i++)
		if (dup2(l->fds[i], (int)i) < 0)
			child_fail(status);
	placed = dup3(status, (int)l->n, O_CLOEXEC);
	if (placed < 0)
		child_fail(status);
	close_from((int)l->n + 1);
	if (l->spec->new_session && setsid() < 0)
		child_fail(placed);
	/* No later: taking another user's id forgets the death signal. */
	if (l->spec->confine && l->spec->confine(l->spec->confine_arg) < 0)
		child_fail(placed);
	if (l->spec->death_signal) {
		if (prctl(PR_SET_PDEATHSIG, l->spec->death_signal))
			child_fail(placed);
		if (orphaned(l, placed))
			_exit(126); /* it died in between */
	}
	child_signals();
	execve(l->path, l->spec->argv, l->spec->envp ? l->spec->envp : environ);
	child_fail(placed);
}

/* Reads the child's errno; 0 when exec closed the pipe. */
static int read_status(int fd)
{
	int e = 0;
	ssize_t n = RETRY_EINTR(read(fd, &e, sizeof(e)));

	return n == sizeof(e) ? e : 0;
}

/* The C library's fork() runs what others registered for it; none of that matters before exec. */
static pid_t fork_into(int cgroup)
{
	struct clone_args a = {
		.flags = CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)cgroup,
	};

	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

static pid_t fork_pids(void)
{
	return (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
}

/* All its signals are blocked. */
static pid_t launch(struct launch *l)
{
	pid_t child = -1;

	l->own_pids = l->spec->own_pids;
	if (l->own_pids)
		child = fork_pids();
	else if (l->spec->cgroup > 0)
		child = fork_into(l->spec->cgroup);
	if (child < 0 && l->own_pids) {
		log_warn("%s: no pid namespace of its own: %s", l->path, strerror(errno));
		l->own_pids = false;
	}
	if (child < 0)
		child = fork();
	if (!child)
		child_run(l);
	return child;
}

int proc_spawn(const struct proc_spec *spec, pid_t *pid, struct error **err)
{
	CLEANUP_CLOSE int null = -1;
	CLEANUP_CLOSE int rd = -1;
	CLEANUP_CLOSE int wr = -1;
	CLEANUP_FREE int *fds = xcalloc(spec->nfds + 3, sizeof(int));
	struct launch l = {.spec = spec, .fds = fds, .n = spec->nfds + 3, .parent = getpid()};
	sigset_t all, old;
	int p[2], e;
	size_t i;
	pid_t child;

	l.path = spec->path ? spec->path : "/proc/self/exe";
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return error_sys(err, errno, "open /dev/null");
	for (i = 0; i < l.n; i++)
		fds[i] = i >= 3 ? spec->fds[i - 3] : spec->stdio[i] < 0 ? null : spec->stdio[i];
	if (pipe2(p, O_CLOEXEC))
		return error_sys(err, errno, "pipe");
	rd = p[0];
	wr = p[1];
	l.status = wr;
	/* Handlers of ours must not run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	child = launch(&l);
	e = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (child < 0)
		return error_sys(err, e, "fork");
	close(steal_fd(&wr));
	e = read_status(rd);
	if (e) {
		RETRY_EINTR(waitpid(child, NULL, 0));
		return error_sys(err, e, "start %s", spec->argv[0]);
	}
	*pid = child;
	return 0;
}

void proc_environment(const char *const *keep, size_t n, struct strv *out)
{
	for (char **e = environ; *e; e++)
		for (size_t i = 0; i < n; i++)
			if (str_prefix(*e, keep[i])) {
				strv_add(out, *e);
				break;
			}
	strv_add(out, "LC_ALL=C");
}

void proc_environment_jailed(struct strv *out)
{
	static const char *const keep[] = {"CONTAINER_APP_ROOT=",
					   "CONTAINER_RUN_ROOT=",
					   "CONTAINER_LOG_ROOT=",
					   "CONTAINER_INSTALL_ROOT=",
					   "XDG_",
					   "HOME=",
					   "PATH=",
					   "ASAN_OPTIONS=",
					   "UBSAN_OPTIONS="};

	proc_environment(keep, ARRAY_SIZE(keep), out);
}

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

static char *find_in(const char *dirs, const char *name)
{
	const char *end;

	for (; dirs && *dirs; dirs = *end ? end + 1 : end) {
		CLEANUP_FREE char *path = NULL;

		end = strchrnul(dirs, ':');
		if (*dirs !=
		    '/') /* an empty or relative entry means the current directory: never */
			continue;
		path = xasprintf("%.*s/%s", (int)(end - dirs), dirs, name);
		if (is_program(path))
			return STEAL(path);
	}
	return NULL;
}

char *proc_find(const char *name)
{
	static const char usual[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"
				    "usr/libexec:/usr/lib/qemu";
	char *found;

	if (strchr(name, '/'))
		return *name == '/' && is_program(name) ? xstrdup(name) : NULL;
	found = find_in(getenv("PATH"), name);
	return found ? found : find_in(usual, name);
}

int proc_exit_code(int wait_status)
{
	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status);
	if (WIFSIGNALED(wait_status))
		return 128 + WTERMSIG(wait_status);
	return 255;
}
