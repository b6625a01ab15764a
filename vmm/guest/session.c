/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - the end of a process together with all that it began.
 *
 * A container's process starts as the leader of a session (tail.c), and what it starts belongs to that session, whatever process group
 * it is in, unless it makes one of its own as daemons do. Linux has no call that signals a session, so the agent's /proc is searched.
 * What is forked while that goes on is found by the next round; one that has been killed forks no more.
 */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>

#include "vmm/guest/guest.h"

#define ROUNDS    16
#define STAT_FILE (4u << 10)

/* Whether the process is of that session and has not ended: fields 3 and 6 of stat in proc(5), behind a name that may hold anything. */
static bool is_of(int proc, const char *pid, pid_t session)
{
	CLEANUP_FREE char *path = xasprintf("%s/stat", pid);
	CLEANUP_BUF struct buf b = {0};
	const char *p;
	char state;
	int sid;

	if (path_read_all(proc, path, STAT_FILE, &b, NULL) || !b.len)
		return false;
	p = strrchr(b.data, ')');
	return p && sscanf(p + 1, " %c %*d %*d %d", &state, &sid) == 2 && sid == session &&
	       state != 'Z' && state != 'X';
}

/* Whether there were any. */
static bool kill_round(pid_t session)
{
	DIR *d = opendir("/proc");
	struct dirent *de;
	bool any = false;

	while (d && (de = readdir(d)))
		if (isdigit((unsigned char)de->d_name[0]) && is_of(dirfd(d), de->d_name, session)) {
			kill(atoi(de->d_name), SIGKILL);
			any = true;
		}
	if (d)
		closedir(d);
	return any;
}

void session_kill(pid_t leader)
{
	int i;

	for (i = 0; i < ROUNDS && kill_round(leader); i++)
		;
}
