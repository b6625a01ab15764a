// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* Log records and rotation, children with exact descriptors, roots, configuration. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/log.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/roots.h"

static char root[] = "/tmp/test-core-misc.XXXXXX";
static int dir = -1;

static int setup(void **state)
{
	if (!mkdtemp(root))
		return -1;
	dir = path_open_dir(root, NULL);
	return dir < 0;
}

static int teardown(void **state)
{
	int tmp = path_open_dir("/tmp", NULL);
	int ret = path_remove_tree(tmp, strrchr(root, '/') + 1, NULL);

	close(tmp);
	close(dir);
	return ret;
}

/* ---- log ---- */

static off_t size_of(const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, 0) ? -1 : st.st_size;
}

static void log_records(void **state)
{
	CLEANUP_FREE char *logs = xasprintf("%s/l1", root);
	CLEANUP_BUF struct buf b = {0};
	struct json_object *o;
	struct error *e = NULL;
	char *line, *save;
	int n = 0;

	assert_int_equal(log_init_service(logs, "container.test", LOG_LVL_INFO, &e), 0);
	assert_true(log_fd() >= 0);
	log_debug("below the level");
	log_info("quote \" backslash \\ newline \n escape \x1b[31m bad \xff\xc3( good \xc3\xa9");
	error_set(&e, ERR_NOT_FOUND, "inner");
	error_wrap(&e, "outer");
	log_err(e, "doing %d", 5);
	error_free(e);
	assert_int_equal(path_read_all(dir, "l1/container.test.log", 1 << 20, &b, NULL), 0);
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		o = json_parse(line, strlen(line), NULL);
		assert_non_null(o);
		assert_string_equal(json_str(o, "service", ""), "container.test");
		assert_int_equal(json_int(o, "pid", 0), getpid());
		assert_int_equal(strlen(json_str(o, "time", "")),
				 strlen("2026-01-02T03:04:05.000000Z"));
		if (!n) {
			assert_non_null(strstr(json_str(o, "msg", ""),
					       "newline \n escape \x1b[31m bad \xef\xbf\xbd"));
			assert_non_null(strstr(json_str(o, "msg", ""), "good \xc3\xa9"));
		} else {
			assert_string_equal(json_str(o, "msg", ""), "doing 5: outer: inner");
			assert_string_equal(json_str(o, "level", ""), "error");
		}
		json_object_put(o);
		n++;
	}
	assert_int_equal(n, 2);
	assert_int_equal(log_init_service(logs, "../x", LOG_LVL_INFO, NULL), -1);
}

static void log_rotation(void **state)
{
	CLEANUP_FREE char *logs = xasprintf("%s/l2", root);
	CLEANUP_FREE char *big = xmalloc(8001);
	int i;

	memset(big, 'x', 8000);
	big[8000] = '\0';
	assert_int_equal(log_init_service(logs, "r", LOG_LVL_INFO, NULL), 0);
	for (i = 0; i < 3000; i++) /* 24 MB */
		log_info("%d %s", i, big);
	assert_in_range(size_of("l2/r.log"), 1, 4 << 20);
	assert_in_range(size_of("l2/r.log.1"), 4 << 20, (4 << 20) + 16384);
	assert_in_range(size_of("l2/r.log.2"), 4 << 20, (4 << 20) + 16384);
	assert_int_equal(size_of("l2/r.log.3"), -1);
}

/* ---- children ---- */

static int run(char *const *argv, const int *fds, size_t nfds, int out, bool session)
{
	struct proc_spec s = {.path = argv[0],
			      .argv = argv,
			      .stdio = {-1, out, -1},
			      .fds = fds,
			      .nfds = nfds,
			      .new_session = session};
	int status;
	pid_t pid;

	if (proc_spawn(&s, &pid, NULL))
		return -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return proc_exit_code(status);
}

static void spawn_fds(void **state)
{
	char *argv[] = {"/bin/sh", "-c",
			"echo 0 1 2 >&2; cat <&3; cat <&4; cat <&5; ls /proc/self/fd", NULL};
	char out[4096] = {0};
	int a[2], b[2], res[2], fds[3];
	ssize_t n;

	assert_int_equal(pipe(a) | pipe(b) | pipe(res),
			 0); /* not CLOEXEC: must be closed all the same */
	assert_int_equal(write(a[1], "AA", 2) + write(b[1], "BB", 2), 4);
	close(a[1]);
	close(b[1]);
	/* Sources that collide with the targets, in an order that naive dup2 would destroy; one twice. */
	assert_true(a[0] < 10);
	fds[0] = b[0];
	fds[1] = a[0];
	fds[2] = b[0];
	assert_int_equal(run(argv, fds, 3, res[1], true), 0);
	close(res[1]);
	n = read(res[0], out, sizeof(out) - 1);
	assert_true(n > 0);
	/* ls has its own descriptor of the directory besides 0 to 5. */
	assert_string_equal(out, "BBAA0\n1\n2\n3\n4\n5\n6\n");
	close(a[0]);
	close(b[0]);
	close(res[0]);
}

static void spawn_clean(void **state)
{
	char *argv[] = {"/bin/sh", "-c",
			"grep -E '^Sig(Blk|Ign)' /proc/self/status | grep -v 0000000000000000 ; "
			"kill -TERM $$; exit 3",
			NULL};
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(run(argv, NULL, 0, -1, false), 128 + SIGTERM);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

static void spawn_fails(void **state)
{
	char *argv[] = {"/nonexistent/program", NULL};
	struct proc_spec s = {.path = argv[0], .argv = argv, .stdio = {-1, -1, -1}};
	struct error *e = NULL;
	pid_t pid = 0;

	assert_int_equal(proc_spawn(&s, &pid, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	assert_non_null(strstr(e->msg, "/nonexistent/program"));
	assert_int_equal(pid, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing left to reap */
	error_free(e);
}

static void dies_with_its_parent(bool own_pids)
{
	char *argv[] = {"/bin/sleep", "30", NULL};
	struct proc_spec s = {.path = argv[0],
			      .argv = argv,
			      .stdio = {-1, -1, -1},
			      .own_pids = own_pids,
			      .death_signal = SIGKILL};
	pid_t pid = 0, middle;
	int p[2], i;

	assert_int_equal(pipe(p), 0);
	middle = fork();
	if (!middle) {
		if (proc_spawn(&s, &pid, NULL) || write(p[1], &pid, sizeof(pid)) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(read(p[0], &pid, sizeof(pid)), sizeof(pid));
	waitpid(middle, NULL, 0);
	for (i = 0; i < 200; i++) {
		CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", (int)pid);
		CLEANUP_BUF struct buf b = {0};

		if (path_read_all(AT_FDCWD, path, 4096, &b, NULL) || strstr(b.data, ") Z "))
			break;
		usleep(10000);
	}
	assert_true(i < 200);
	close(p[0]);
	close(p[1]);
}

static void spawn_death(void **state)
{
	dies_with_its_parent(false);
	if (!geteuid())
		dies_with_its_parent(true);
}

/* In the child, before it asks for the signal: until the parent is gone, which alone can write to the pipe. */
static int parent_goes(void *arg)
{
	char c;

	return (int)read(3, &c, 1);
}

/* A parent that dies before that is noticed too. */
static void spawn_orphan(bool own_pids)
{
	char *argv[] = {"/bin/sleep", "30", NULL};
	int alive[2], over[2], fds[2];
	struct proc_spec s = {.path = argv[0],
			      .argv = argv,
			      .stdio = {-1, -1, -1},
			      .fds = fds,
			      .nfds = 2,
			      .own_pids = own_pids,
			      .confine = parent_goes,
			      .death_signal = SIGKILL};
	struct pollfd pf = {.events = POLLIN};
	pid_t pid, middle;

	assert_int_equal(pipe(alive), 0);
	assert_int_equal(pipe(over), 0);
	fds[0] = alive[0];
	fds[1] = over[1];
	middle = fork();
	if (!middle) {
		close(over[0]);
		_exit(proc_spawn(&s, &pid, NULL) ? 1 : 0);
	}
	close(alive[0]);
	close(alive[1]);
	close(over[1]);
	usleep(100000); /* it is in proc_spawn() by then; before that there would be nothing to see */
	kill(middle, SIGKILL);
	waitpid(middle, NULL, 0);
	pf.fd = over[0];
	assert_int_equal(poll(&pf, 1, 10000), 1);
	assert_true(pf.revents & POLLHUP);
	close(over[0]);
}

static void spawn_orphans(void **state)
{
	spawn_orphan(false);
	if (!geteuid())
		spawn_orphan(true);
}

static void find(void **state)
{
	CLEANUP_FREE char *sh = proc_find("sh");
	CLEANUP_FREE char *rel = proc_find("./sh");
	CLEANUP_FREE char *none = proc_find("no-such-program-here");

	assert_non_null(sh);
	assert_int_equal(sh[0], '/');
	assert_null(rel);
	assert_null(none);
}

/* ---- roots and configuration ---- */

static void roots(void **state)
{
	struct error *e = NULL;
	struct roots r, q;

	unsetenv("CONTAINER_LOG_ROOT");
	setenv("CONTAINER_APP_ROOT", "/env/app", 1);
	setenv("CONTAINER_RUN_ROOT", "/env/run//", 1);
	assert_int_equal(roots_init(&r, NULL, NULL, NULL, NULL, &e), 0);
	assert_string_equal(r.app, "/env/app");
	assert_string_equal(r.run, "/env/run");
	assert_string_equal(r.log, "/env/app/log");
	assert_false(r.log_set);
	assert_int_equal(strlen(r.tag), 8);
	assert_int_equal(roots_init(&q, "/flag/./app/", NULL, "/var/log/x", NULL, &e), 0);
	assert_string_equal(q.app, "/flag/app");
	assert_string_equal(q.log, "/var/log/x");
	assert_true(q.log_set);
	assert_string_not_equal(q.tag, r.tag);
	roots_setenv(&q);
	assert_string_equal(getenv("CONTAINER_APP_ROOT"), "/flag/app");
	assert_string_equal(getenv("CONTAINER_LOG_ROOT"), "/var/log/x");
	roots_free(&q);
	roots_free(&r);
	assert_int_equal(roots_init(&r, "/a/../b", NULL, NULL, NULL, &e), -1);
	assert_null(r.app);
	error_free(e);
}

static struct config *load(const char *text, struct error **e)
{
	CLEANUP_FREE char *file = xasprintf("%s/config.json", root);
	int fd = openat(dir, "config.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(fd_write_full(fd, text, strlen(text), NULL), 0);
	close(fd);
	setenv("CONTAINER_CONFIG", file, 1);
	return config_load(e);
}

static void config_good(void **state)
{
	struct error *e = NULL;
	struct config *c;
	struct json_object *list;

	unsetenv("CONTAINER_ENGINE");
	c = load("{ // comment\n \"container\": {\"cpus\": 3}, \"container.memory\": \"512m\", "
		 "\"engine\": \"kvm\"}",
		 &e);
	assert_non_null(c);
	assert_int_equal(config_int(c, "container.cpus"), 3);
	assert_string_equal(config_str(c, "container.memory"), "512m");
	assert_string_equal(config_str(c, "engine"), "kvm");
	assert_string_equal(config_str(c, "network.subnet"), "192.168.64.0/24");
	assert_null(config_str(c, "dns.domain"));
	assert_null(config_str(c, "no.such"));
	list = config_list(c);
	assert_true(json_object_array_length(list) >= 8);
	assert_string_equal(json_str(json_object_array_get_idx(list, 0), "source", ""),
			    getenv("CONTAINER_CONFIG"));
	json_object_put(list);
	config_free(c);
	setenv("CONTAINER_ENGINE", "qemu", 1);
	c = load("{\"engine\": \"kvm\"}", &e);
	assert_string_equal(config_str(c, "engine"), "qemu");
	config_free(c);
	unsetenv("CONTAINER_ENGINE");
}

static void config_bad(void **state)
{
	static const struct {
		const char *text, *names;
	} bad[] = {
		{"{\"container\": {\"cpu\": 3}}", "container.cpu"},
		{"{\"container.cpus\": \"3\"}", "container.cpus"},
		{"{\"container.cpus\": 0}", "container.cpus"},
		{"{\"container\": 1}", "container"},
		{"{\"engine\": \"xen\"}", "engine"},
		{"{\"engine\": {}}", "engine"},
		{"{\"container.memory\": \"lots\"}", "container.memory"},
		{"{\"network.subnet\": \"192.168.64.1/24\"}", "network.subnet"},
		{"{\"network.subnet\": \"fd00::/64\"}", "network.subnet"},
		{"{\"qemu.path\": \"qemu\"}", "qemu.path"},
		{"{\"\": 1}", "unknown key"},
		{"[]", "object"},
		{"{", "JSON"},
	};
	struct error *e = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_FREE char *text = NULL;

		assert_null(load(bad[i].text, &e));
		text = error_text(e);
		assert_non_null(strstr(text, bad[i].names));
		assert_non_null(strstr(text, "config.json"));
		error_free(e);
		e = NULL;
	}
	setenv("CONTAINER_CONFIG", "/nonexistent/config.json", 1);
	assert_null(config_load(&e));
	error_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_records),   cmocka_unit_test(log_rotation),
		cmocka_unit_test(spawn_fds),     cmocka_unit_test(spawn_clean),
		cmocka_unit_test(spawn_fails),   cmocka_unit_test(spawn_death),
		cmocka_unit_test(spawn_orphans), cmocka_unit_test(find),
		cmocka_unit_test(roots),         cmocka_unit_test(config_good),
		cmocka_unit_test(config_bad),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
