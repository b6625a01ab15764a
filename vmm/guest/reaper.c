/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reaper.c - the small init of `--init`: PID 1 of the container that runs one child, passes signals on to it,
 * reaps orphans, and ends as the child ends.
 *
 * All signals are blocked by the caller, stay so, and are taken one by one. To the kernel a blocked signal is never an ignored one,
 * so even those without a handler reach a namespace's PID 1 this way.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "vmm/guest/guest.h"

static void reap(pid_t child)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == child)
			_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

void reaper_main(pid_t child)
{
	sigset_t all;
	int sig;

	sigfillset(&all);
	prctl(PR_SET_NAME, "init");
	close_range(0, ~0u, 0);
	for (;;) {
		sig = sigwaitinfo(&all, NULL);
		if (sig == SIGCHLD)
			reap(child);
		else if (sig > 0)
			kill(child, sig);
	}
}
