/* SPDX-License-Identifier: Apache-2.0 */
/*
 * term.h - the user's terminal: raw mode that is always undone, and the window's size.
 *
 * There is one terminal, so the state is the process's. What was changed is put back by term_restore(), at
 * exit(), and from handlers for the signals a crash raises. Signals that end an attached command arrive
 * through its loop, which calls term_restore() itself.
 */
#ifndef CMD_TERM_H
#define CMD_TERM_H

#include "core/error.h"

/* term_raw: puts the terminal behind fd into raw mode. Once more after SIGCONT is fine. */
int term_raw(int fd, struct error **err);
/* term_restore: puts the terminal back; nothing when it is not raw. Async-signal-safe. */
void term_restore(void);
bool term_is_raw(void);

/* term_size: of the first of stdout, stdin, stderr that is a terminal. 0, or -1 when none is or it does not know. */
int term_size(unsigned *rows, unsigned *cols);

#endif
