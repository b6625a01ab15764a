/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tail.c - the last steps of every process: terminal, limits, user, capabilities, directory, program. The
 * container's root is the root already, and what is found there is the image's.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "vmm/guest/guest.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define TTY_GID      5
#define PTMX_MAJOR   5
#define PTMX_MINOR   2

/* A container that has been running may have put anything at the path: it must be a devpts' own ptmx. */
int tail_pty(const struct spec *s, int rootfd, int *master, int *slave, struct error **err)
{
	struct winsize ws = {.ws_row = s->rows, .ws_col = s->cols};
	CLEANUP_CLOSE int probe = path_open_inroot(rootfd, "/dev/pts/ptmx", O_PATH, 0, err), m = -1;
	struct statfs fs;
	struct stat st;
	int zero = 0;

	if (probe < 0 || fstat(probe, &st) || fstatfs(probe, &fs))
		return probe < 0 ? -1 : error_sys(err, errno, "ptmx");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(PTMX_MAJOR, PTMX_MINOR) ||
	    fs.f_type != DEVPTS_SUPER_MAGIC)
		return error_set(err, ERR_INVALID_STATE, "/dev/pts/ptmx is not a pty multiplexer");
	m = path_open_inroot(rootfd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0, err);
	if (m < 0)
		return -1;
	if (ioctl(m, TIOCSPTLCK, &zero))
		return error_sys(err, errno, "unlock the pty");
	*slave = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return error_sys(err, errno, "open the pty");
	if ((ws.ws_row || ws.ws_col) && ioctl(m, TIOCSWINSZ, &ws))
		return error_sys(err, errno, "set the window size");
	*master = steal_fd(&m);
	return 0;
}

static int take_stdio(const struct spec *s, const int stdio[3], const struct user *u,
		      struct error **err)
{
	struct stat st;
	int i;

	for (i = 0; i < 3; i++)
		if (dup2(stdio[i], i) <
		    0) /* all of them are above 2: the agent keeps 0 to 2 taken */
			return error_sys(err, errno, "stdio");
	if (s->tty && ioctl(0, TIOCSCTTY, 0))
		return error_sys(err, errno, "take the terminal");
	/* So that a process of any user may open /dev/stdout again. */
	for (i = 0; i < 3; i++)
		if (!fstat(i, &st) && (S_ISFIFO(st.st_mode) || s->tty) &&
		    fchown(i, u->uid, s->tty ? TTY_GID : u->gid))
			return error_sys(err, errno, "stdio owner");
	return 0;
}

static bool has_key(const struct strv *env, const char *key)
{
	size_t i, n = strlen(key);

	for (i = 0; i < env->n; i++)
		if (!strncmp(env->v[i], key, n) && env->v[i][n] == '=')
			return true;
	return false;
}

static void make_env(const struct spec *s, const struct user *u, struct strv *env)
{
	size_t i, n = s->env ? json_object_array_length(s->env) : 0;

	for (i = 0; i < n; i++)
		strv_add(env, json_object_get_string(json_object_array_get_idx(s->env, i)));
	if (!has_key(env, "PATH"))
		strv_add(env, "PATH=" DEFAULT_PATH);
	if (!has_key(env, "HOME"))
		strv_addf(env, "HOME=%s", u->home);
	if (s->tty && !has_key(env, "TERM"))
		strv_add(env, "TERM=xterm");
}

/* Tries each directory of PATH; the error that says most wins: a file that may not be run over none. */
static int exec_on_path(char **argv, char **envp)
{
	const char *path = DEFAULT_PATH;
	int best = ENOENT;
	size_t i;

	for (i = 0; envp[i]; i++)
		if (!strncmp(envp[i], "PATH=", 5))
			path = envp[i] + 5;
	while (*path) {
		size_t n = strcspn(path, ":");
		CLEANUP_FREE char *file = xasprintf("%.*s/%s", (int)n, path, argv[0]);

		if (n)
			execve(file, argv, envp);
		else
			execve(argv[0], argv, envp);
		if (errno == EACCES)
			best = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR)
			return errno;
		path += n + (path[n] == ':');
	}
	return best;
}

static int run(const struct spec *s, const struct strv *env, struct error **err)
{
	size_t i, n = json_object_array_length(s->args);
	char **argv = xcalloc(n + 1, sizeof(*argv));
	int e;

	for (i = 0; i < n; i++)
		argv[i] = xstrdup(json_object_get_string(json_object_array_get_idx(s->args, i)));
	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, env->v);
		e = errno;
	} else {
		e = exec_on_path(argv, env->v);
	}
	return error_sys(err, e, "exec %s", argv[0]);
}

int tail_exec(const struct spec *s, const int stdio[3], struct error **err)
{
	struct user u = {0};
	struct strv env = {0};

	if (setsid() < 0 && errno != EPERM)
		return error_sys(err, errno, "new session");
	if (user_resolve(s->json, &u, err) || take_stdio(s, stdio, &u, err))
		return -1;
	umask(022);
	if (path_mkdirs(s->cwd, 0755, err) || cred_limits(&s->cred, err) ||
	    cred_become(&s->cred, &u, err))
		return -1;
	if (chdir(s->cwd))
		return error_sys(err, errno, "change to directory %s", s->cwd);
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC))
		return error_sys(err, errno, "close descriptors");
	make_env(s, &u, &env);
	return cred_confine(&s->cred, &u, err) ? -1 : run(s, &env, err);
}
