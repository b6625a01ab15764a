/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_attach.h - a process in a container with the user's terminal or pipes around it.
 *
 * DOC: Theory of operation
 * One pipe per stream is made here, the far ends go with the call that starts the process, and the bytes flow
 * between us and the runtime helper; the apiserver never sees them. So when the apiserver is restarted an
 * attached command goes on: it connects again and waits for the same process.
 *
 * Signals: without a terminal in raw mode INT, TERM, HUP, QUIT, USR1 and USR2 are passed on to the process; the
 * third INT or TERM ends us with status 1. In raw mode keys reach the process as bytes, and a signal to us ends us
 * with 128+n. When nobody reads our output any more the process gets SIGPIPE, as it would without us in between,
 * and SIGKILL five seconds later.
 */
#ifndef CMD_CLI_ATTACH_H
#define CMD_CLI_ATTACH_H

#include "cmd/cli.h"

struct attach {
	const char *id; /* of the container */
	struct json_object
		*process; /* exec: the process object (borrowed); NULL: start the container */
	bool running;     /* attach to the init process of a container that runs */
	bool interactive, tty;
	bool timings;    /* print `timing <stage> <microseconds>` lines at the end */
	const char *ssh; /* of a start: the SSH agent's socket, "": none; NULL: not asked for */
	bool started;    /* out: the process was started */
};

/* attach_run: starts, carries the streams, waits. The exit status of the process, or -1 with *err. */
int attach_run(struct cli *c, struct attach *a, struct error **err);

/* attach_detached: starts without streams; 0 or -1. */
int attach_detached(struct cli *c, struct attach *a, struct error **err);

/* attach_timing: a line `timing <stage> <us>` on stderr. */
void attach_timing(const char *stage, int64_t us);

#endif
