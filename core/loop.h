/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - an epoll event loop. Everything but loop_post() belongs to the thread that runs the
 * loop.
 *
 * A source may be freed at any time, also from its own callback or from another source's callback
 * in the same turn: its memory is kept until the turn ends and it is not called again.
 */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include <sys/epoll.h>
#include "core/error.h"

struct loop;
struct loop_source;

typedef void (*loop_fd_fn)(void *arg, int fd, uint32_t events);
typedef void (*loop_fn)(void *arg);
typedef void (*loop_signal_fn)(void *arg, int signo);
typedef void (*loop_child_fn)(void *arg, pid_t pid, int wait_status);

struct loop *loop_new(struct error **err);
void loop_free(struct loop *l);

/* loop_run: turns until loop_stop(); returns 0, or -1 when epoll itself fails. */
int loop_run(struct loop *l, struct error **err);
/* loop_turn: one turn, waiting at most timeout_ms (-1: for ever). */
int loop_turn(struct loop *l, int timeout_ms, struct error **err);
void loop_stop(struct loop *l);

/* loop_add_fd: watches fd (borrowed: freeing the source does not close it) for EPOLLIN/EPOLLOUT/…,
 * level-triggered unless EPOLLET is given. */
struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *arg,
				struct error **err);
int loop_mod_fd(struct loop_source *s, uint32_t events);

/* loop_add_timer: fires once after ms milliseconds; re-arm with loop_set_timer (ms < 0 disarms). */
struct loop_source *loop_add_timer(struct loop *l, int64_t ms, loop_fn fn, void *arg);
void loop_set_timer(struct loop_source *s, int64_t ms);

/* loop_add_signal: through signalfd; blocks the signal in the calling thread. Add before starting
 * threads so that they inherit the mask. */
struct loop_source *loop_add_signal(struct loop *l, int signo, loop_signal_fn fn, void *arg,
				    struct error **err);

/* loop_add_child: calls fn once with wait status when the child ends (through pidfd_open), reaping
 * it. For a process that is not our child the status is -1. */
struct loop_source *loop_add_child(struct loop *l, pid_t pid, loop_child_fn fn, void *arg,
				   struct error **err);

/* loop_signal_child: a signal for the child of a source that loop_add_child() made, and for nobody else, whatever became of its number. 0 or
 * -1 with errno. */
int loop_signal_child(struct loop_source *s, int signo);

/* loop_defer: runs fn at the end of this turn. Loop thread only. */
void loop_defer(struct loop *l, loop_fn fn, void *arg);

/* loop_post: runs fn on the loop's thread soon. Callable from any thread; in order of posting. */
void loop_post(struct loop *l, loop_fn fn, void *arg);

/* loop_source_free: stops and frees; NULL is fine. */
void loop_source_free(struct loop_source *s);

/*
 * loop_work: runs work(arg) on a thread of its own, then done(arg) on the loop's thread. At most
 * LOOP_MAX_WORK run at once, the rest queue.
 */
#define LOOP_MAX_WORK 16
void loop_work(struct loop *l, loop_fn work, loop_fn done, void *arg);

#endif
