/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - an epoll event loop.
 *
 * Every source is one allocation that epoll points at. Freeing one takes it out of epoll at once,
 * but events already fetched in this turn may still point at it; so it is marked dead, put on a
 * list, and given back when the outermost turn ends. Timers are a binary heap; signals and children
 * are descriptors (signalfd, pidfd) like any other. Other threads reach the loop by a list under a
 * mutex and an eventfd.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/filter.h"
#include "core/loop.h"
#include "core/str.h"

#define MAX_EVENTS 64

FILTER_RULES = {
	FILTER_ALLOW(FILTER_LOOPS, epoll_wait),
	FILTER_ALLOW(FILTER_LOOPS, epoll_ctl),
	FILTER_ALLOW(FILTER_MAIN, read), /* of the wake-up, of signals */
	FILTER_ALLOW(FILTER_LOOPS, close),
	/* loop_post() from anywhere */
	FILTER_ALLOW(FILTER_OURS, write),
};

enum source_kind { SRC_FD, SRC_TIMER, SRC_SIGNAL, SRC_CHILD };

struct loop_source {
	struct loop *l;
	enum source_kind kind;
	bool dead;
	int fd; /* ours for signals and children, borrowed for SRC_FD, -1 for timers */
	void *arg;
	union {
		loop_fd_fn fd_fn;
		loop_fn timer_fn;
		loop_signal_fn signal_fn;
		loop_child_fn child_fn;
	};
	pid_t pid;
	uint64_t due;   /* microseconds */
	size_t heap_at; /* index + 1 in the heap; 0: not armed */
	struct loop_source *next_dead, *next, **pprev;
};

struct task {
	struct task *next;
	loop_fn fn;
	void *arg;
};

struct task_list {
	struct task *head, **tail;
};

struct work {
	struct work *next;
	struct loop *l;
	loop_fn work, done;
	void *arg;
};

struct loop {
	int epfd, wakefd;
	bool stop;
	int depth; /* of turns: a callback may turn the loop */
	struct loop_source *sources, *dead;
	struct loop_source **heap;
	size_t nheap, heap_cap;
	struct task_list deferred;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t idle;
	struct task_list posted;
	struct work *queue, **queue_tail;
	unsigned running;
};

/* ---- lists of tasks ---- */

static void tasks_init(struct task_list *t)
{
	t->head = NULL;
	t->tail = &t->head;
}

static void tasks_add(struct task_list *t, loop_fn fn, void *arg)
{
	struct task *k = xcalloc(1, sizeof(*k));

	k->fn = fn;
	k->arg = arg;
	*t->tail = k;
	t->tail = &k->next;
}

static struct task *tasks_detach(struct task_list *t)
{
	struct task *k = t->head;

	tasks_init(t);
	return k;
}

static void tasks_run(struct task *k, bool call)
{
	while (k) {
		struct task *next = k->next;

		if (call)
			k->fn(k->arg);
		free(k);
		k = next;
	}
}

/* ---- the heap of timers ---- */

static void heap_put(struct loop *l, size_t i, struct loop_source *s)
{
	l->heap[i] = s;
	s->heap_at = i + 1;
}

static void heap_up(struct loop *l, size_t i)
{
	struct loop_source *s = l->heap[i];

	while (i && l->heap[(i - 1) / 2]->due > s->due) {
		heap_put(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(l, i, s);
}

static void heap_down(struct loop *l, size_t i)
{
	struct loop_source *s = l->heap[i];
	size_t c;

	while ((c = 2 * i + 1) < l->nheap) {
		if (c + 1 < l->nheap && l->heap[c + 1]->due < l->heap[c]->due)
			c++;
		if (l->heap[c]->due >= s->due)
			break;
		heap_put(l, i, l->heap[c]);
		i = c;
	}
	heap_put(l, i, s);
}

static void heap_remove(struct loop *l, struct loop_source *s)
{
	size_t i = s->heap_at - 1;
	struct loop_source *last;

	if (!s->heap_at)
		return;
	s->heap_at = 0;
	last = l->heap[--l->nheap];
	if (last == s)
		return;
	heap_put(l, i, last);
	heap_up(l, i);
	heap_down(l, last->heap_at - 1);
}

static void heap_insert(struct loop *l, struct loop_source *s)
{
	if (l->nheap == l->heap_cap) {
		l->heap_cap = l->heap_cap ? 2 * l->heap_cap : 16;
		l->heap = xreallocarray(l->heap, l->heap_cap, sizeof(*l->heap));
	}
	heap_put(l, l->nheap, s);
	heap_up(l, l->nheap++);
}

/* ---- sources ---- */

static struct loop_source *source_new(struct loop *l, enum source_kind kind, int fd, void *arg)
{
	struct loop_source *s = xcalloc(1, sizeof(*s));

	s->l = l;
	s->kind = kind;
	s->fd = fd;
	s->arg = arg;
	s->next = l->sources;
	s->pprev = &l->sources;
	if (s->next)
		s->next->pprev = &s->next;
	l->sources = s;
	return s;
}

static int source_watch(struct loop_source *s, uint32_t events, int op)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	return epoll_ctl(s->l->epfd, op, s->fd, &ev);
}

void loop_source_free(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	s->dead = true;
	if (s->fd >= 0)
		epoll_ctl(s->l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->fd >= 0 && s->kind != SRC_FD)
		close(s->fd);
	heap_remove(s->l, s);
	*s->pprev = s->next;
	if (s->next)
		s->next->pprev = s->pprev;
	if (!s->l->depth) {
		free_shared(s);
		return;
	}
	s->next_dead = s->l->dead;
	s->l->dead = s;
}

struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *arg,
				struct error **err)
{
	struct loop_source *s = source_new(l, SRC_FD, fd, arg);

	s->fd_fn = fn;
	if (source_watch(s, events, EPOLL_CTL_ADD)) {
		error_sys(err, errno, "watch descriptor %d", fd);
		s->fd = -1;
		loop_source_free(s);
		return NULL;
	}
	return s;
}

int loop_mod_fd(struct loop_source *s, uint32_t events)
{
	return s->dead ? -1 : source_watch(s, events, EPOLL_CTL_MOD);
}

struct loop_source *loop_add_timer(struct loop *l, int64_t ms, loop_fn fn, void *arg)
{
	struct loop_source *s = source_new(l, SRC_TIMER, -1, arg);

	s->timer_fn = fn;
	loop_set_timer(s, ms);
	return s;
}

void loop_set_timer(struct loop_source *s, int64_t ms)
{
	if (s->dead)
		return;
	heap_remove(s->l, s);
	if (ms < 0)
		return;
	s->due = time_mono_us() + (uint64_t)MIN(ms, INT64_MAX / 2000) * 1000;
	heap_insert(s->l, s);
}

struct loop_source *loop_add_signal(struct loop *l, int signo, loop_signal_fn fn, void *arg,
				    struct error **err)
{
	struct loop_source *s;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, signo);
	errno = pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = errno ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0) {
		error_sys(err, errno, "watch signal %d", signo);
		return NULL;
	}
	s = source_new(l, SRC_SIGNAL, fd, arg);
	s->signal_fn = fn;
	if (source_watch(s, EPOLLIN, EPOLL_CTL_ADD)) {
		error_sys(err, errno, "watch signal %d", signo);
		loop_source_free(s);
		return NULL;
	}
	return s;
}

struct loop_source *loop_add_child(struct loop *l, pid_t pid, loop_child_fn fn, void *arg,
				   struct error **err)
{
	struct loop_source *s;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0) {
		error_sys(err, errno, "watch process %d", (int)pid);
		return NULL;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	s = source_new(l, SRC_CHILD, fd, arg);
	s->child_fn = fn;
	s->pid = pid;
	if (source_watch(s, EPOLLIN, EPOLL_CTL_ADD)) {
		error_sys(err, errno, "watch process %d", (int)pid);
		loop_source_free(s);
		return NULL;
	}
	return s;
}

int loop_signal_child(struct loop_source *s, int signo)
{
	return (int)syscall(SYS_pidfd_send_signal, s->fd, signo, NULL, 0);
}

/* ---- deferred, posted, worked ---- */

void loop_defer(struct loop *l, loop_fn fn, void *arg)
{
	tasks_add(&l->deferred, fn, arg);
}

static void wake(struct loop *l)
{
	uint64_t one = 1;

	/* A full counter (EAGAIN) wakes just as well. */
	if (write(l->wakefd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

void loop_post(struct loop *l, loop_fn fn, void *arg)
{
	/* The wake-up is under the lock, so that a loop being freed never loses its eventfd below
	 * us. */
	pthread_mutex_lock(&l->lock);
	tasks_add(&l->posted, fn, arg);
	wake(l);
	pthread_mutex_unlock(&l->lock);
}

static void run_posted(struct loop *l)
{
	struct task *k;
	uint64_t n;

	if (read(l->wakefd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		abort();
	pthread_mutex_lock(&l->lock);
	k = tasks_detach(&l->posted);
	pthread_mutex_unlock(&l->lock);
	tasks_run(k, true);
}

static void *worker(void *arg)
{
	struct work *w = arg, *next;
	struct loop *l = w->l;

	while (w) {
		w->work(w->arg);
		pthread_mutex_lock(&l->lock);
		tasks_add(&l->posted, w->done, w->arg);
		wake(l);
		next = l->queue;
		if (next) {
			l->queue = next->next;
			if (!l->queue)
				l->queue_tail = &l->queue;
		} else if (!--l->running) {
			pthread_cond_broadcast(&l->idle);
		}
		pthread_mutex_unlock(&l->lock);
		free(w);
		w = next;
	}
	return NULL;
}

/* A thread without signals: those are the loop's business. */
static int worker_start(struct work *w)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t t;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ret = pthread_create(&t, &attr, worker, w);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

void loop_work(struct loop *l, loop_fn work, loop_fn done, void *arg)
{
	struct work *w = xcalloc(1, sizeof(*w));
	bool start;

	*w = (struct work){.l = l, .work = work, .done = done, .arg = arg};
	pthread_mutex_lock(&l->lock);
	start = l->running < LOOP_MAX_WORK;
	if (start) {
		l->running++;
	} else {
		*l->queue_tail = w;
		l->queue_tail = &w->next;
	}
	pthread_mutex_unlock(&l->lock);
	if (!start || !worker_start(w))
		return;
	/* No thread to be had: a running one takes it later, or it is done here and now. */
	pthread_mutex_lock(&l->lock);
	if (--l->running) {
		*l->queue_tail = w;
		l->queue_tail = &w->next;
		w = NULL;
	}
	pthread_mutex_unlock(&l->lock);
	if (w) {
		w->work(w->arg);
		loop_post(l, w->done, w->arg);
		free(w);
	}
}

/* ---- turning ---- */

static void run_timers(struct loop *l)
{
	uint64_t now = time_mono_us();

	/* A timer that its own callback arms again for now is due in the next turn. */
	while (l->nheap && l->heap[0]->due <= now) {
		struct loop_source *s = l->heap[0];

		heap_remove(l, s);
		s->timer_fn(s->arg);
	}
}

static void run_signals(struct loop_source *s)
{
	struct signalfd_siginfo si;

	while (!s->dead && read(s->fd, &si, sizeof(si)) == sizeof(si))
		s->signal_fn(s->arg, (int)si.ssi_signo);
}

static void run_child(struct loop_source *s)
{
	loop_child_fn fn = s->child_fn;
	void *arg = s->arg;
	pid_t pid = s->pid;
	int status;
	pid_t r = RETRY_EINTR(waitpid(pid, &status, WNOHANG | __WALL));

	if (!r)
		return;
	if (r < 0)
		status = -1;
	epoll_ctl(s->l->epfd, EPOLL_CTL_DEL, s->fd, NULL); /* once; freeing stays the owner's */
	fn(arg, pid, status);
}

static void dispatch(struct loop *l, const struct epoll_event *ev)
{
	struct loop_source *s = ev->data.ptr;

	if (!s) {
		run_posted(l);
		return;
	}
	if (s->dead)
		return;
	switch (s->kind) {
	case SRC_FD:
		s->fd_fn(s->arg, s->fd, ev->events);
		break;
	case SRC_SIGNAL:
		run_signals(s);
		break;
	case SRC_CHILD:
		run_child(s);
		break;
	case SRC_TIMER:
		break;
	}
}

static int turn_timeout(struct loop *l, int timeout_ms)
{
	uint64_t now, ms;

	if (l->deferred.head)
		return 0;
	if (!l->nheap)
		return timeout_ms;
	now = time_mono_us();
	if (l->heap[0]->due <= now)
		return 0;
	ms = (l->heap[0]->due - now + 999) / 1000;
	if (timeout_ms >= 0 && (uint64_t)timeout_ms < ms)
		return timeout_ms;
	return (int)MIN(ms, (uint64_t)3600 * 1000);
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_source *s = l->dead;

		l->dead = s->next_dead;
		free_shared(s);
	}
}

int loop_turn(struct loop *l, int timeout_ms, struct error **err)
{
	struct epoll_event ev[MAX_EVENTS];
	int i, n;

	n = epoll_wait(l->epfd, ev, MAX_EVENTS, turn_timeout(l, timeout_ms));
	if (n < 0 && errno != EINTR)
		return error_sys(err, errno, "epoll_wait");
	l->depth++;
	for (i = 0; i < n; i++)
		dispatch(l, &ev[i]);
	run_timers(l);
	tasks_run(tasks_detach(&l->deferred), true);
	if (!--l->depth)
		bury(l);
	return 0;
}

int loop_run(struct loop *l, struct error **err)
{
	int ret = 0;

	while (!l->stop && !ret)
		ret = loop_turn(l, -1, err);
	l->stop = false;
	return ret;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

struct loop *loop_new(struct error **err)
{
	struct loop *l = xcalloc(1, sizeof(*l));
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

	tasks_init(&l->deferred);
	tasks_init(&l->posted);
	l->queue_tail = &l->queue;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->idle, NULL);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epfd < 0 || l->wakefd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev)) {
		error_sys(err, errno, "event loop");
		loop_free(l);
		return NULL;
	}
	return l;
}

void loop_free(struct loop *l)
{
	struct work *w;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	while ((w = l->queue)) {
		l->queue = w->next;
		free(w);
	}
	l->queue_tail = &l->queue;
	while (l->running)
		pthread_cond_wait(&l->idle, &l->lock);
	pthread_mutex_unlock(&l->lock);
	while (l->deferred.head)
		tasks_run(tasks_detach(&l->deferred), true);
	while (l->sources)
		loop_source_free(l->sources);
	bury(l);
	tasks_run(tasks_detach(&l->posted), false);
	if (l->epfd >= 0)
		close(l->epfd);
	if (l->wakefd >= 0)
		close(l->wakefd);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->idle);
	free(l->heap);
	free(l);
}
