/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - what a long call is doing, on stderr.
 *
 * ansi and color redraw a few lines in place, at most ten times a second, and wipe them at the end; plain
 * writes one line per change of phase, without escapes. The cursor is never hidden, so a signal leaves
 * nothing to put back.
 */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include "core/json.h"

enum progress_mode { PROGRESS_NONE, PROGRESS_PLAIN, PROGRESS_ANSI, PROGRESS_COLOR };

#define PROGRESS_CHOICES "auto|none|ansi|plain|color"
#define PROGRESS_ITEMS   64

struct progress_item {
	char *name, *phase;
	int64_t done, total;
};

struct progress {
	enum progress_mode mode;
	char *task; /* "[1/6] Fetching image" */
	struct progress_item items[PROGRESS_ITEMS];
	size_t n;
	unsigned drawn; /* lines on the screen */
	uint64_t drawn_at;
};

/* progress_init: mode is one of PROGRESS_CHOICES; auto is ansi on a terminal, else plain. NO_COLOR turns color
 * into ansi. */
void progress_init(struct progress *p, const char *mode);
/* progress_task: the step that begins now, e.g. (1, 6, "Fetching image"). */
void progress_task(struct progress *p, int step, int of, const char *what);
/* progress_event: an rpc_progress_fn; arg is the struct progress. Events are {"item", "phase", "done", "total"} or
 * {"phase", "message"}. */
void progress_event(void *arg, struct json_object *ev);
/* progress_end: wipes what was drawn and frees all. */
void progress_end(struct progress *p);

#endif
