/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stdio.h - carries bytes between the user's standard streams and the pipes of a process in a container.
 *
 * DOC: Blocking
 * The user's descriptors may be shared with other programs (a terminal, a pipe), so they are never made
 * O_NONBLOCK. They are read and written only after poll() says so, and written in pieces that then cannot
 * block: up to PIPE_BUF to a pipe or terminal. Our own ends of the pipes to the runtime are non-blocking.
 */
#ifndef CMD_STDIO_H
#define CMD_STDIO_H

#include "core/loop.h"

#define PUMP_BUF 65536

struct pump {
	struct loop *loop;
	int in, out;            /* -1 once closed or given up */
	bool user_in;           /* `in` is the user's: read only after poll, never closed */
	bool user_out;          /* `out` is the user's */
	bool in_file, out_file; /* cannot be watched by epoll: a regular file */
	int out_errno; /* why `out` was given up, 0 if it was not; EPIPE: its reader has gone */
	bool done;
	size_t chunk; /* largest single write */
	struct loop_source *src_in, *src_out;
	size_t at, len; /* buffered bytes are buf[at..at+len) */
	uint64_t total; /* bytes read so far */
	char last;      /* the last byte written */
	/* Called on the first byte, when the pump has ended (end of input and all written, or broken). */
	void (*on_first)(void *arg);
	/* May be NULL. Looks at what the user typed; false ends the pump without passing it on. */
	bool (*on_input)(void *arg, const char *p, size_t n);
	void (*on_done)(void *arg, struct pump *p);
	void *arg;
	char buf[PUMP_BUF];
};

/* pump_start: p is zeroed but for on_first, on_done, arg. `ours` is owned by the pump from now on. */
int pump_start_input(struct pump *p, struct loop *l, int user_fd, int ours, struct error **err);
int pump_start_output(struct pump *p, struct loop *l, int ours, int user_fd, struct error **err);
/* pump_stop: ends it, closing our side; on_done is not called. Fine when not started. */
void pump_stop(struct pump *p);

#endif
