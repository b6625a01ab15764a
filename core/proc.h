/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h - starting children with exactly the descriptors they are meant to have.
 *
 * The child gets stdin/stdout/stderr and the listed descriptors at 3, 4, 5 …; everything else is
 * closed. It is in a session of its own when asked, has an empty signal mask and default
 * dispositions.
 */
#ifndef CORE_PROC_H
#define CORE_PROC_H

#include <sys/types.h>
#include "core/error.h"
#include "core/str.h"

struct proc_spec {
	const char *path; /* absolute, or NULL for /proc/self/exe */
	char *const *argv;
	char *const *envp; /* NULL: the caller's environment */
	int stdio[3];      /* -1: /dev/null */
	const int *fds;    /* become 3 .. 3+nfds-1 */
	size_t nfds;
	bool new_session;
	int death_signal; /* PR_SET_PDEATHSIG, 0 for none */
	bool own_pids; /* it is process 1 of a pid namespace and can name nobody else; where the host refuses that, the log says so. Not with cgroup */
	int cgroup; /* directory of the cgroup v2 it is born into; 0 or -1: the caller's. One that refuses it is no error */
	/* The child, before exec: gives up rights. System calls only (other threads' locks are held for ever). -1 with errno:
	 * the start fails with it. NULL: none. */
	int (*confine)(void *arg);
	void *confine_arg;
};

/* proc_spawn: 0 with *pid, or -1; a failing exec is reported here, not as an exit status. */
int proc_spawn(const struct proc_spec *spec, pid_t *pid, struct error **err);

/* proc_environment: those of our own environment's variables that begin with one of keep[0..n), and LC_ALL=C. */
void proc_environment(const char *const *keep, size_t n, struct strv *out);

/* What one of our processes needs that is in a jail: where the roots are. The environment is memory like any other, and what whoever
 * broke into that process would read first: no proxy's password, no token. */
void proc_environment_jailed(struct strv *out);

/* proc_find: absolute path of a program on PATH or in the usual directories, or NULL; owned by
 * caller. */
char *proc_find(const char *name);

/* Exit status as shells give it: code, or 128 + signal. */
int proc_exit_code(int wait_status);

#endif
