// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: order, freeing from callbacks, threads, signals, children. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/loop.h"
#include "core/proc.h"
#include "core/str.h"

static struct loop *l;

static int setup(void **state)
{
	l = loop_new(NULL);
	return !l;
}

static int teardown(void **state)
{
	loop_free(l);
	return 0;
}

static void too_late(void *arg)
{
	*(bool *)arg = true;
	loop_stop(l);
}

/* Runs the loop until something stops it; false when five seconds pass first. */
static bool run(void)
{
	bool late = false;
	struct loop_source *t = loop_add_timer(l, 5000, too_late, &late);

	loop_run(l, NULL);
	loop_source_free(t);
	return !late;
}

/* ---- freeing each other ---- */

struct pair {
	struct loop_source *a, *b;
	int called;
};

static void free_both(void *arg, int fd, uint32_t events)
{
	struct pair *p = arg;

	p->called++;
	loop_source_free(STEAL(p->a));
	loop_source_free(STEAL(p->b));
	loop_stop(l);
}

static void free_in_callback(void **state)
{
	int x[2], y[2], i;

	for (i = 0; i < 100; i++) {
		struct pair p = {0};

		assert_int_equal(pipe2(x, O_CLOEXEC) | pipe2(y, O_CLOEXEC), 0);
		p.a = loop_add_fd(l, x[0], EPOLLIN, free_both, &p, NULL);
		p.b = loop_add_fd(l, y[0], EPOLLIN, free_both, &p, NULL);
		assert_int_equal(write(x[1], "x", 1) + write(y[1], "y", 1), 2);
		assert_true(run());
		assert_int_equal(p.called, 1); /* the other one was ready too, and gone */
		close(x[0]);
		close(x[1]);
		close(y[0]);
		close(y[1]);
	}
}

static void nested_free(void *arg, int fd, uint32_t events)
{
	struct pair *p = arg;

	p->called++;
	loop_source_free(STEAL(p->a));
	loop_turn(l, 0, NULL); /* must not give back the memory of the source being called */
	p->called++;
	loop_stop(l);
}

static void nested_turn(void **state)
{
	struct pair p = {0};
	int x[2];

	assert_int_equal(pipe2(x, O_CLOEXEC), 0);
	p.a = loop_add_fd(l, x[0], EPOLLIN, nested_free, &p, NULL);
	assert_int_equal(write(x[1], "x", 1), 1);
	assert_true(run());
	assert_int_equal(p.called, 2);
	close(x[0]);
	close(x[1]);
}

static void bad_fd(void **state)
{
	struct error *e = NULL;

	assert_null(loop_add_fd(l, 9999, EPOLLIN, free_both, NULL, &e));
	assert_int_equal(e->sys, EBADF);
	error_free(e);
}

/* ---- timers ---- */

static int order[64], norder;

static void note(void *arg)
{
	order[norder++] = (int)(intptr_t)arg;
	if (norder == 20)
		loop_stop(l);
}

static void timers(void **state)
{
	static const int ms[20] = {9,  3, 17, 1, 20, 5, 13, 2,  19, 7,
				   11, 4, 18, 6, 15, 8, 12, 10, 16, 14};
	struct loop_source *t[20], *never, *off;
	uint64_t t0 = time_mono_us();
	int i;

	norder = 0;
	for (i = 0; i < 20; i++)
		t[i] = loop_add_timer(l, ms[i] * 3, note, (void *)(intptr_t)ms[i]);
	never = loop_add_timer(l, -1, note, NULL);
	off = loop_add_timer(l, 1, note, NULL);
	loop_set_timer(off, -1);
	assert_true(run());
	assert_true(time_mono_us() - t0 >= 60000);
	for (i = 0; i < 20; i++)
		assert_int_equal(order[i], i + 1);
	for (i = 0; i < 20; i++)
		loop_source_free(t[i]);
	loop_source_free(never);
	loop_source_free(off);
}

struct again {
	struct loop_source *t;
	int n;
};

static void rearm(void *arg)
{
	struct again *a = arg;

	if (++a->n == 3) {
		loop_source_free(a->t);
		loop_stop(l);
	} else {
		loop_set_timer(a->t, 0);
	}
}

static void timer_rearm(void **state)
{
	struct again a = {0};

	a.t = loop_add_timer(l, 0, rearm, &a);
	assert_true(run());
	assert_int_equal(a.n, 3);
}

/* ---- deferred, posted, worked ---- */

static void defer_second(void *arg)
{
	note((void *)2);
	loop_stop(l);
}

static void defer_first(void *arg)
{
	note((void *)1);
	loop_defer(l, defer_second, NULL);
}

static void deferred(void **state)
{
	norder = 0;
	loop_defer(l, defer_first, NULL);
	assert_true(run());
	assert_int_equal(norder, 2);
	assert_int_equal(order[1], 2);
}

static int posted_next, posted_bad;

static void on_posted(void *arg)
{
	if ((int)(intptr_t)arg != posted_next++)
		posted_bad++;
	if (posted_next == 10000)
		loop_stop(l);
}

static void *poster(void *arg)
{
	int i;

	for (i = 0; i < 10000; i++)
		loop_post(l, on_posted, (void *)(intptr_t)i);
	return NULL;
}

static void posting(void **state)
{
	pthread_t t;

	posted_next = posted_bad = 0;
	assert_int_equal(pthread_create(&t, NULL, poster, NULL), 0);
	assert_true(run());
	pthread_join(t, NULL);
	assert_int_equal(posted_bad, 0);
}

static pthread_t main_thread;
static int works_running, works_peak, works_done;

static void work(void *arg)
{
	int now = __atomic_add_fetch(&works_running, 1, __ATOMIC_SEQ_CST);
	int peak = __atomic_load_n(&works_peak, __ATOMIC_SEQ_CST);

	while (now > peak && !__atomic_compare_exchange_n(&works_peak, &peak, now, false,
							  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	if (pthread_equal(pthread_self(), main_thread))
		abort();
	usleep(2000);
	__atomic_sub_fetch(&works_running, 1, __ATOMIC_SEQ_CST);
}

static void work_done(void *arg)
{
	if (!pthread_equal(pthread_self(), main_thread))
		abort();
	if (++works_done == 100)
		loop_stop(l);
}

static void working(void **state)
{
	int i;

	main_thread = pthread_self();
	for (i = 0; i < 100; i++)
		loop_work(l, work, work_done, NULL);
	assert_true(run());
	assert_int_equal(works_done, 100);
	assert_in_range(works_peak, 2, LOOP_MAX_WORK);
}

static void work_at_free(void **state)
{
	struct loop *other = loop_new(NULL);
	int i;

	works_running = 0;
	for (i = 0; i < 40; i++)
		loop_work(other, work, work_done, NULL);
	loop_free(other); /* waits for what runs, forgets the rest */
	assert_int_equal(works_running, 0);
}

/* ---- signals and children ---- */

static void on_signal(void *arg, int signo)
{
	*(int *)arg = signo;
	loop_stop(l);
}

static void signals(void **state)
{
	int got = 0;
	struct loop_source *s = loop_add_signal(l, SIGUSR1, on_signal, &got, NULL);

	assert_non_null(s);
	kill(getpid(), SIGUSR1);
	assert_true(run());
	assert_int_equal(got, SIGUSR1);
	loop_source_free(s);
}

struct ended {
	struct loop_source *s;
	int status, calls;
};

static void on_child(void *arg, pid_t pid, int status)
{
	struct ended *e = arg;

	e->status = status;
	e->calls++;
	loop_source_free(STEAL(e->s));
	loop_stop(l);
}

static void children(void **state)
{
	struct ended e = {0};
	pid_t pid = fork();

	if (!pid)
		_exit(7);
	e.s = loop_add_child(l, pid, on_child, &e, NULL);
	assert_non_null(e.s);
	assert_true(run());
	assert_int_equal(proc_exit_code(e.status), 7);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	e.s = loop_add_child(l, pid, on_child, &e, NULL);
	kill(pid, SIGKILL);
	assert_true(run());
	assert_int_equal(proc_exit_code(e.status), 137);
	assert_int_equal(e.calls, 2);
	/* A signal by the source is that child's alone, and nobody's when it is gone. */
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	e.s = loop_add_child(l, pid, on_child, &e, NULL);
	assert_int_equal(loop_signal_child(e.s, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &e.status, 0), pid);
	assert_int_equal(proc_exit_code(e.status), 128 + SIGTERM);
	assert_int_equal(loop_signal_child(e.s, SIGTERM), -1);
	assert_int_equal(errno, ESRCH);
	loop_source_free(e.s);
}

static void foreign_child(void **state)
{
	struct ended e = {0};
	int p[2], go[2];
	pid_t child, grandchild = 0;

	assert_int_equal(pipe(p) | pipe(go), 0);
	child = fork();
	if (!child) {
		pid_t g = fork();
		char c;

		if (!g) {
			close(go[1]);
			_exit(read(go[0], &c, 1) < 0);
		}
		if (write(p[1], &g, sizeof(g)) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(read(p[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	waitpid(child, NULL, 0);
	e.s = loop_add_child(l, grandchild, on_child, &e, NULL);
	assert_non_null(e.s);
	close(go[1]);
	assert_true(run());
	assert_int_equal(e.status, -1);
	close(p[0]);
	close(p[1]);
	close(go[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(free_in_callback), cmocka_unit_test(nested_turn),
		cmocka_unit_test(bad_fd),           cmocka_unit_test(timers),
		cmocka_unit_test(timer_rearm),      cmocka_unit_test(deferred),
		cmocka_unit_test(posting),          cmocka_unit_test(working),
		cmocka_unit_test(work_at_free),     cmocka_unit_test(signals),
		cmocka_unit_test(children),         cmocka_unit_test(foreign_child),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
