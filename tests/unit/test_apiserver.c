// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The apiserver with helpers that misbehave on demand. It starts its helpers from its own executable, which is this
 * program: by argv[0] it is the test, or a fake image, network or runtime helper. What a container's fake helper does
 * is in the container's label "mode"; what the fakes were told goes to calls.log in the run root.
 */
#include <dirent.h>

#include "tests/unit/apiserver_fixture.h"

#define MISSING "sha256:0000000000000000000000000000000000000000000000000000000000000000"

/* ---- fakes ---- */

static struct loop *fl;
static struct roots froots;
static const char *fake_id = "";

static void note(const char *text)
{
	CLEANUP_FREE char *path = xasprintf("%s/calls.log", froots.run);
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	dprintf(fd, "%s\n", text);
}

static void note_id(const char *what, struct json_object *params)
{
	CLEANUP_FREE char *line = xasprintf("%s %s", what, json_str(params, "id", ""));

	note(line);
}

static void i_rootfs(void *ctx, struct rpc_req *r, struct json_object *params)
{
	CLEANUP_CLOSE int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct error *e = NULL;

	if (str_eq(json_str(params, "manifest", ""), MISSING)) {
		error_set(&e, ERR_NOT_FOUND, "no such manifest");
		rpc_reply_error(r, e);
		return;
	}
	rpc_reply_fds(r, NULL, &fd, 1);
}

static void i_echo(void *ctx, struct rpc_req *r, struct json_object *params)
{
	struct json_object *ev = json_object_new_object();
	struct rpc_fds *f = rpc_req_fds(r);

	json_set_str(ev, "phase", "echo");
	rpc_progress(r, ev);
	rpc_reply_fds(r, json_object_get(params), f->fd, f->n);
}

static void i_cancelled(void *arg)
{
	note("cancelled");
	rpc_reply(arg, NULL);
}

static void i_hang(void *ctx, struct rpc_req *r, struct json_object *params)
{
	note("hanging");
	rpc_req_on_cancel(r, i_cancelled, r);
}

static void i_exit(void *ctx, struct rpc_req *r, struct json_object *params)
{
	_exit(1);
}

static void n_allocate(void *ctx, struct rpc_req *r, struct json_object *params)
{
	CLEANUP_CLOSE int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct json_object *o = json_object_new_object();

	note_id("allocate", params);
	json_set_str(o, "network", "default");
	json_set_str(o, "hostname", json_str(params, "hostname", ""));
	json_set_str(o, "ipv4Address", "192.168.64.9/24");
	rpc_reply_fds(r, o, &fd, 1);
}

static void n_release(void *ctx, struct rpc_req *r, struct json_object *params)
{
	note_id("release", params);
	rpc_reply(r, NULL);
}

static void n_other(void *ctx, struct rpc_req *r, struct json_object *params)
{
	note(rpc_req_method(r));
	rpc_reply(r, NULL);
}

static NORETURN void r_exit(int code, bool record)
{
	CLEANUP_FREE char *dir = xasprintf("%s/containers/%s", froots.app, fake_id);
	struct json_object *o = json_object_new_object();

	json_set_int(o, "exitCode", code);
	json_set_str(o, "exitedAt", "2026-01-02T03:04:05Z");
	if (record)
		state_write(path_open_dir(dir, NULL), "exit.json", o, NULL);
	_exit(0);
}

static void r_start(void *ctx, struct rpc_req *r, struct json_object *params)
{
	const char *mode =
		json_str(json_obj(json_obj(params, "configuration"), "labels"), "mode", "run");
	struct json_object *o, *t, *streams = json_arr(params, "streams");
	size_t nstreams = streams ? json_object_array_length(streams) : 0;
	struct error *e = NULL;

	if (str_eq(mode, "die"))
		_exit(1);
	if (str_eq(mode, "slow"))
		return;
	if (str_eq(mode, "fail")) {
		error_set(&e, ERR_NOT_FOUND, "exec nothing: no such file");
		rpc_reply_error(r, e);
		loop_stop(fl);
		return;
	}
	if (rpc_req_fds(r)->n !=
	    (size_t)(json_int(params, "ntaps", 0) + json_int(params, "nrootfs", 0)) + nstreams)
		_exit(1);
	o = json_object_new_object();
	t = json_object_new_object();
	json_set_int(t, "kernel", 42);
	json_set(o, "timings", t);
	json_set_str(o, "startedDate", "2026-01-02T03:04:05Z");
	json_set_str(o, "hostname", json_str(json_obj(params, "boot"), "hostname", ""));
	note(json_str(json_obj(params, "boot"), "hostname", ""));
	rpc_reply(r, o);
	if (str_eq(mode, "quick")) {
		loop_turn(fl, 50, NULL);
		r_exit(5, true);
	}
}

static void r_state(void *ctx, struct rpc_req *r, struct json_object *params)
{
	struct json_object *o = json_object_new_object(), *n = json_object_new_array();

	json_set_str(o, "state", "running");
	json_set_str(o, "startedDate", "2026-01-02T03:04:05Z");
	json_set(o, "networks", n);
	rpc_reply(r, o);
}

static void r_exec(void *ctx, struct rpc_req *r, struct json_object *params)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "process", "exec-1");
	rpc_reply(r, o);
}

static void r_wait(void *ctx, struct rpc_req *r, struct json_object *params)
{
	CLEANUP_FREE char *line = xasprintf("runtime.wait %s", fake_id);

	note(line); /* and never an answer */
}

static void r_kill(void *ctx, struct rpc_req *r, struct json_object *params)
{
	rpc_reply(r, NULL);
	loop_turn(fl, 50, NULL);
	r_exit((int)(128 + json_int(params, "signal", 0)),
	       json_int(params, "signal", 0) != SIGUSR1);
}

static void r_stop(void *ctx, struct rpc_req *r, struct json_object *params)
{
	r_exit(143, true);
}

static const struct rpc_route fake_routes[] = {
	{"image.rootfs", i_rootfs},
	{"image.echo", i_echo},
	{"image.delete", i_echo},
	{"image.hang", i_hang},
	{"image.exit", i_exit},
	{"network.allocate", n_allocate},
	{"network.release", n_release},
	{"runtime.start", r_start},
	{"runtime.state", r_state},
	{"runtime.exec", r_exec},
	{"runtime.wait", r_wait},
	{"runtime.kill", r_kill},
	{"runtime.stop", r_stop},
	{"*", n_other},
	{NULL, NULL},
};

static int fake_main(int argc, char **argv)
{
	static const struct rpc_handler h = {.service = "fake", .routes = fake_routes};

	if (argc < 2 || strcmp(argv[1], "start") ||
	    roots_init(&froots, NULL, NULL, NULL, NULL, NULL))
		return 64;
	if (argc > 3)
		fake_id = argv[3];
	fl = loop_new(NULL);
	rpc_server_new(fl, 3, &h, NULL, NULL);
	loop_run(fl, NULL);
	return 0;
}

/* ---- the test's side ---- */

static void create(const char *id, const char *mode, bool rm, const char *digest)
{
	CLEANUP_FREE char *p = xasprintf(
		"{\"configuration\": {\"id\": \"%s\", \"image\": {\"manifest\": \"%s\"}, "
		"\"initProcess\": {}, \"resources\": {\"cpus\": 1, \"memoryInBytes\": 268435456}, "
		"\"networks\": [{\"network\": \"default\", \"options\": {\"hostname\": "
		"\"%s.test.\"}}], "
		"\"labels\": {\"mode\": \"%s\"}}, \"options\": {\"autoRemove\": %s}}",
		id, digest, id, mode, rm ? "true" : "false");

	assert_int_equal(call("container.create", p, NULL, NULL), -1);
}

/* Whether the fakes come to note that line. */
static bool noted(const char *line)
{
	CLEANUP_FREE char *want = xasprintf("%s\n", line);
	int i;

	for (i = 0; i < 500; i++) {
		CLEANUP_BUF struct buf b = {0};

		if (!path_read_all(rootfd, "run/calls.log", 1 << 20, &b, NULL) &&
		    strstr(b.data, want))
			return true;
		usleep(10000);
	}
	return false;
}

static void set_kernel(void)
{
	assert_int_equal(path_mkdirs_at(rootfd, "app/kernels/k1", 0700, NULL), 0);
	if (symlinkat("k1", rootfd, "app/kernels/default"))
		assert_int_equal(errno, EEXIST);
}

static void no_kernel(void **state)
{
	CLEANUP_FREE char *text = NULL;

	create("nokernel", "run", false, DIGEST);
	assert_int_equal(call("container.start", "{\"id\": \"nokernel\"}", NULL, &text),
			 ERR_NOT_FOUND);
	assert_non_null(strstr(text, "container system kernel set --recommended"));
	assert_state("nokernel", "stopped");
	assert_int_equal(call_id("container.delete", "nokernel", NULL), -1);
	set_kernel();
}

static void second_server(void **state)
{
	pid_t pid = fork();
	int st;

	if (!pid) {
		char *argv[] = {"container-apiserver", "start", NULL};

		fclose(stderr);
		_exit(apiserver_main(2, argv));
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(WEXITSTATUS(st), 1);
}

static void creating(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"configuration\": []}",
		"{\"configuration\": {}}",
		"{\"configuration\": {\"id\": \"../x\"}}",
		"{\"configuration\": {\"id\": \"x\"}}",
		"{\"configuration\": {\"id\": \".x\"}}",
		"{\"configuration\": {\"id\": 5}}",
		"{\"configuration\": {\"id\": \"ok\", \"image\": {\"manifest\": \"sha256:zz\"}, "
		"\"initProcess\": {}, "
		"\"resources\": {\"cpus\": 1, \"memoryInBytes\": 268435456}}}",
		"{\"configuration\": {\"id\": \"ok\", \"image\": {\"manifest\": \"" DIGEST
		"\"}, \"initProcess\": {}, "
		"\"resources\": {\"cpus\": 0, \"memoryInBytes\": 268435456}}}",
		"{\"configuration\": {\"id\": \"ok\", \"image\": {\"manifest\": \"" DIGEST
		"\"}, \"initProcess\": {}, "
		"\"resources\": {\"cpus\": 1, \"memoryInBytes\": 209715199}}}",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(call("container.create", bad[i], NULL, NULL),
				 ERR_INVALID_ARGUMENT);
	create("twice", "run", false, DIGEST);
	assert_int_equal(
		call("container.create",
		     "{\"configuration\": {\"id\": \"twice\", \"image\": {\"manifest\": \"" DIGEST
		     "\"}, \"initProcess\": {}, \"resources\": {\"cpus\": 1, \"memoryInBytes\": "
		     "268435456}}}",
		     NULL, NULL),
		ERR_EXISTS);
	assert_int_equal(call_id("container.delete", "twice", NULL), -1);
	assert_state("twice", "none");
}

/* No method may end the server, whatever it is given. */
static void garbage(void **state)
{
	static const char *const methods[] = {
		"ping",
		"system.status",
		"kernel.set",
		"container.create",
		"container.start",
		"container.wait",
		"container.exec",
		"container.kill",
		"container.resize",
		"container.stop",
		"container.delete",
		"container.list",
		"container.get",
		"container.logs",
		"no.such",
	};
	static const char *const params[] = {
		"{}",
		"{\"id\": null, \"ids\": null, \"signal\": null}",
		"{\"id\": 1, \"ids\": 1, \"binary\": 1, \"recommended\": 1}",
		"{\"id\": \"\", \"ids\": [], \"signal\": -1}",
		"{\"id\": \"nobody\", \"ids\": [1, null, {}, \"nobody\"], \"process\": {}, "
		"\"streams\": {}}",
		"{\"id\": \"../../etc\", \"binary\": \"etc\", \"process\": \"x\", \"signal\": 9, "
		"\"rows\": -1, \"cols\": 1e9}",
		"{\"id\": \"garbage\", \"streams\": [\"stdin\", 5], \"process\": 1, \"signal\": "
		"\"9\", \"timeout\": -5}",
		"{\"id\": \"garbage\", \"signal\": 65, \"rows\": 1, \"cols\": 70000, \"force\": "
		"\"x\", \"process\": \"\"}",
	};
	size_t i, k;

	create("garbage", "run", false, DIGEST);
	call_ms =
		1000; /* who waits for the end of a container that never starts gets none, as it should be */
	for (i = 0; i < ARRAY_SIZE(methods); i++)
		for (k = 0; k < ARRAY_SIZE(params); k++)
			call(methods[i], params[k], NULL, NULL);
	call_ms = 15000;
	assert_int_equal(call("ping", "{}", NULL, NULL), -1);
	call_id("container.delete", "garbage", "\"force\": true");
}

static void running(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;

	create("runs", "run", false, DIGEST);
	assert_int_equal(call("container.start", "{\"id\": \"runs\", \"streams\": []}", &o, NULL),
			 -1);
	assert_int_equal(json_int(json_obj(o, "timings"), "kernel", 0), 42);
	assert_true(json_int(json_obj(o, "timings"), "spawn", -1) > 0);
	assert_true(json_int(json_obj(o, "timings"), "image", -1) > 0);
	assert_string_equal(json_str(o, "startedDate", ""), "2026-01-02T03:04:05Z");
	assert_true(noted("allocate runs"));
	assert_true(noted("runs")); /* the host name */
	assert_state("runs", "running");
	assert_int_equal(call_id("container.start", "runs", NULL), -1);
	assert_int_equal(call_id("container.delete", "runs", NULL), ERR_INVALID_STATE);
	assert_int_equal(call_id("container.exec", "runs", "\"process\": {}"), -1);
	assert_int_equal(call_id("container.kill", "runs", "\"signal\": 15"), -1);
	json_object_put(STEAL(o));
	assert_int_equal(call("container.wait", "{\"id\": \"runs\"}", &o, NULL), -1);
	assert_int_equal(json_int(o, "exitCode", -1), 143);
	assert_state("runs", "stopped");
	assert_true(noted("release runs"));
	assert_int_equal(call_id("container.kill", "runs", "\"signal\": 15"), ERR_INVALID_STATE);
	assert_int_equal(call_id("container.stop", "runs", NULL), -1);
	assert_int_equal(call_id("container.start", "runs", NULL), -1); /* again */
	assert_int_equal(call_id("container.stop", "runs", NULL), -1);
	assert_state("runs", "stopped");
	assert_int_equal(call_id("container.delete", "runs", NULL), -1);
	assert_int_equal(call_id("container.stop", "runs", NULL), ERR_NOT_FOUND);
}

static void helper_without_record(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;

	create("norecord", "run", false, DIGEST);
	assert_int_equal(call_id("container.start", "norecord", NULL), -1);
	assert_int_equal(call_id("container.kill", "norecord", "\"signal\": 10"), -1);
	assert_int_equal(call("container.wait", "{\"id\": \"norecord\"}", &o, NULL), -1);
	assert_int_equal(json_int(o, "exitCode", -1), 255);
	assert_int_equal(call_id("container.delete", "norecord", NULL), -1);
}

/* ---- a client's descriptors ---- */

static size_t server_fds(void)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/fd", (int)server);
	struct dirent *e;
	size_t n = 0;
	DIR *d = opendir(path);

	assert_non_null(d);
	while ((e = readdir(d)))
		n += *e->d_name != '.';
	closedir(d);
	return n;
}

/* A call with n copies of fd; the error's code, or -1. */
static int call_fds(const char *method, const char *more, int fd, size_t n)
{
	CLEANUP_FREE char *p = xasprintf("{\"id\": \"hand\"%s%s}", *more ? ", " : "", more);
	struct rpc_conn *c = client();
	struct error *e = NULL;
	int fds[RPC_MAX_FDS], code = -1;

	assert_true(n <= RPC_MAX_FDS);
	for (size_t i = 0; i < n; i++)
		fds[i] = fd;
	if (rpc_call(c, method, parse(p), fds, n, NULL, NULL, 15000, NULL, NULL, NULL, &e)) {
		code = (int)e->code;
		error_free(e);
	}
	rpc_conn_free(c);
	return code;
}

/* As many descriptors as names of streams, each name once; anything else is refused and nothing of it stays open. What is right
 * is handed on to the helper, and not kept. */
static void handing_over(void **state)
{
	static const struct {
		const char *streams;
		size_t n;
	} wrong[] = {
		{"", 1},
		{"", RPC_MAX_FDS},
		{"\"streams\": []", 3},
		{"\"streams\": [\"stdin\"]", 0},
		{"\"streams\": [\"stdin\"]", RPC_MAX_FDS},
		{"\"streams\": [\"stdin\", \"stdout\", \"stderr\"]", 2},
		{"\"streams\": [\"stdin\", \"stdout\", \"stderr\"]", 4},
		{"\"streams\": [\"stdin\", \"stdin\", \"stdout\"]", 3},
		{"\"streams\": [\"stdin\", \"tty\", \"stdout\"]", 3},
		{"\"streams\": [\"stdin\", \"stdout\", \"stderr\", \"stdin\"]", 4},
		{"\"streams\": [1, 2, 3]", 3},
		{"\"streams\": [null]", 1},
		{"\"streams\": \"stdin\"", 1},
		{"\"streams\": {\"stdin\": 0}", 1},
	};
	static const char right[] = "\"streams\": [\"stdin\", \"stdout\", \"stderr\"]";
	size_t i, before;
	char byte;
	int p[2];

	create("hand", "run", false, DIGEST);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	before = server_fds();
	for (i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(call_fds("container.start", wrong[i].streams, p[1], wrong[i].n),
				 ERR_INVALID_ARGUMENT);
	for (i = 0; i < 500 && server_fds() > before; i++)
		usleep(10000);
	assert_true(server_fds() <= before);
	assert_state("hand", "stopped");
	assert_int_equal(call_fds("container.start", right, p[1], 3), -1);
	for (i = 0; i < 7; i++) /* more or fewer than named */
		assert_int_equal(call_fds("container.exec", wrong[i].streams, p[1], wrong[i].n),
				 ERR_INVALID_ARGUMENT);
	assert_int_equal(call_fds("container.attach", right, p[1], 2), ERR_INVALID_ARGUMENT);
	assert_int_equal(call_fds("container.attach", "", p[1], RPC_MAX_FDS), ERR_INVALID_ARGUMENT);
	assert_state("hand", "running");
	/* The fake helper lets go of its copies with its answer: nobody else may hold the pipe. */
	close(p[1]);
	assert_int_equal(fd_set_nonblock(p[0], true), 0);
	for (i = 0; i < 500 && read(p[0], &byte, 1) != 0; i++)
		usleep(10000);
	assert_true(i < 500);
	close(p[0]);
	assert_int_equal(call_id("container.delete", "hand", "\"force\": true"), -1);
}

static void remove_itself(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;

	create("quick", "quick", true, DIGEST);
	assert_int_equal(call_id("container.start", "quick", NULL), -1);
	assert_state("quick", "none");
	/* Late, but not too late. */
	assert_int_equal(call("container.wait", "{\"id\": \"quick\"}", &o, NULL), -1);
	assert_int_equal(json_int(o, "exitCode", -1), 5);
}

static void failing_starts(void **state)
{
	CLEANUP_FREE char *text = NULL;

	create("fails", "fail", false, DIGEST);
	assert_int_equal(call("container.start", "{\"id\": \"fails\"}", NULL, &text),
			 ERR_NOT_FOUND);
	assert_string_equal(text, "start container fails: exec nothing: no such file");
	assert_true(noted("release fails"));
	assert_state("fails", "stopped");
	assert_int_equal(call_id("container.delete", "fails", NULL), -1);
	create("dies", "die", false, DIGEST);
	assert_int_equal(call_id("container.start", "dies", NULL), ERR_INTERNAL);
	assert_true(noted("release dies"));
	assert_int_equal(call_id("container.delete", "dies", NULL), -1);
	create("noimage", "run", false, MISSING);
	assert_int_equal(call_id("container.start", "noimage", NULL), ERR_NOT_FOUND);
	assert_state("noimage", "stopped");
	assert_int_equal(call_id("container.delete", "noimage", NULL), -1);
}

/* A start that takes for ever is ended by stop, and by a forced delete. */
static void slow_start(void **state)
{
	struct rpc_conn *c = client();
	struct error *e = NULL;

	create("slow", "slow", false, DIGEST);
	assert_int_equal(rpc_call(c, "container.start", parse("{\"id\": \"slow\"}"), NULL, 0, NULL,
				  NULL, 200, NULL, NULL, NULL, &e),
			 -1);
	assert_int_equal(e->code, ERR_TIMEOUT);
	error_free(e);
	assert_int_equal(call_id("container.start", "slow", NULL), ERR_INVALID_STATE);
	assert_int_equal(call_id("container.stop", "slow", NULL), -1);
	assert_state("slow", "stopped");
	assert_int_equal(rpc_call(c, "container.start", parse("{\"id\": \"slow\"}"), NULL, 0, NULL,
				  NULL, 200, NULL, NULL, NULL, NULL),
			 -1);
	assert_int_equal(call_id("container.delete", "slow", "\"force\": true"), -1);
	assert_state("slow", "none");
	rpc_conn_free(c);
}

static int progressed;

static void on_progress(void *arg, struct json_object *ev)
{
	progressed += str_eq(json_str(ev, "phase", ""), "echo");
}

static void images(void **state)
{
	struct rpc_conn *c = client();
	struct json_object *o = NULL;
	struct error *e = NULL;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), back[2];
	size_t n = 2;

	create("busy", "run", false, DIGEST);
	assert_int_equal(rpc_call(c, "image.echo", parse("{\"a\": 1}"), &fd, 1, on_progress, NULL,
				  5000, &o, back, &n, &e),
			 0);
	assert_int_equal(n, 1);
	close(back[0]);
	close(fd);
	assert_int_equal(progressed, 1);
	assert_int_equal(json_int(o, "a", 0), 1);
	json_object_put(o);
	assert_int_equal(rpc_call(c, "image.delete", NULL, NULL, 0, NULL, NULL, 5000, &o, NULL,
				  NULL, &e),
			 0);
	assert_string_equal(json_object_get_string(
				    json_object_array_get_idx(json_arr(o, "busy"), 0)),
			    DIGEST);
	json_object_put(o);
	/* A client that leaves takes its call with it. */
	assert_int_equal(rpc_call(c, "image.hang", NULL, NULL, 0, NULL, NULL, 300, NULL, NULL, NULL,
				  NULL),
			 -1);
	assert_true(noted("hanging"));
	rpc_conn_free(c);
	assert_true(noted("cancelled"));
	/* A helper that dies fails its call, and is there again for the next. */
	assert_int_equal(call("image.exit", "{}", NULL, NULL), ERR_INTERRUPTED);
	assert_int_equal(call("image.echo", "{}", NULL, NULL), -1);
	assert_int_equal(call_id("container.delete", "busy", NULL), -1);
}

static void exec_waits(void **state)
{
	struct rpc_conn *c[40];
	CLEANUP_JSON struct json_object *o = NULL;
	int i, n;

	create("execs", "run", false, DIGEST);
	assert_int_equal(call_id("container.start", "execs", NULL), -1);
	for (i = 0; i < 40; i++) {
		c[i] = client();
		assert_int_equal(rpc_call(c[i], "container.wait",
					  parse("{\"id\": \"execs\", \"process\": \"exec-1\"}"),
					  NULL, 0, NULL, NULL, 20, NULL, NULL, NULL, NULL),
				 -1);
		rpc_conn_free(c[i]);
	}
	{
		CLEANUP_BUF struct buf b = {0};
		const char *p;

		assert_int_equal(path_read_all(rootfd, "run/calls.log", 1 << 20, &b, NULL), 0);
		for (n = 0, p = b.data; (p = strstr(p, "runtime.wait execs\n")); p++)
			n++;
		assert_int_equal(n, 1); /* one question to the helper for all of them */
	}
	assert_int_equal(call_id("container.delete", "execs", "\"force\": true"), -1);
}

static void prefixes(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;
	CLEANUP_FREE char *text = NULL;

	create("pre", "run", false, DIGEST);
	create("prefix-a", "run", false, DIGEST);
	create("prefix-b", "run", false, DIGEST);
	assert_int_equal(call("container.get", "{\"ids\": [\"pre\", \"prefix-b\"]}", &o, NULL), -1);
	assert_int_equal(call("container.delete", "{\"id\": \"prefix\"}", NULL, &text),
			 ERR_INVALID_ARGUMENT);
	assert_string_equal(text, "container id \"prefix\" is ambiguous: prefix-a, prefix-b");
	assert_int_equal(call("container.get", "{\"ids\": [\"prefix-\"]}", NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call_id("container.delete", "", NULL), ERR_NOT_FOUND);
	assert_int_equal(call_id("container.delete", "prefix-a", NULL), -1);
	assert_int_equal(call_id("container.delete", "prefi", NULL), -1);
	assert_state("prefix-b", "none");
	assert_int_equal(call_id("container.delete", "pre", NULL), -1);
}

static void renaming(void **state)
{
	create("old", "run", false, DIGEST);
	create("taken", "run", false, DIGEST);
	assert_int_equal(call_id("container.rename", "old", "\"name\": \"taken\""), ERR_EXISTS);
	assert_int_equal(call_id("container.rename", "old", "\"name\": \"../x\""),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call_id("container.rename", "old", "\"name\": \"new\""), -1);
	assert_state("old", "none");
	assert_state("new", "stopped");
	assert_int_equal(faccessat(rootfd, "app/containers/new/config.json", F_OK, 0), 0);
	assert_int_equal(call_id("container.start", "new", NULL), -1);
	assert_int_equal(call_id("container.rename", "new", "\"name\": \"newer\""),
			 ERR_INVALID_STATE);
	assert_int_equal(call_id("container.delete", "new", "\"force\": true"), -1);
	assert_int_equal(call_id("container.delete", "taken", NULL), -1);
}

static void restarting(void **state)
{
	create("again", "run", true, DIGEST);
	assert_int_equal(call_id("container.restart", "again", NULL), -1); /* from stopped */
	assert_state("again", "running");
	assert_int_equal(call_id("container.restart", "again", "\"timeout\": 1"), -1);
	assert_state("again", "running"); /* not removed in between */
	assert_true(noted("release again"));
	assert_int_equal(call_id("container.pause", "again", NULL), -1);
	assert_state("again", "paused");
	assert_int_equal(call_id("container.pause", "again", NULL), ERR_INVALID_STATE);
	assert_int_equal(call_id("container.unpause", "again", NULL), -1);
	assert_state("again", "running");
	assert_int_equal(call_id("container.unpause", "again", NULL), ERR_INVALID_STATE);
	assert_int_equal(call_id("container.stop", "again", NULL), -1);
	assert_state("again", "none");
	create("gone", "fail", true, DIGEST);
	assert_int_equal(call_id("container.restart", "gone", NULL), ERR_NOT_FOUND);
}

static void pruning(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;

	create("stays", "run", false, DIGEST);
	create("goes", "run", false, DIGEST);
	assert_int_equal(call_id("container.start", "stays", NULL), -1);
	assert_int_equal(call("container.prune", "{}", &o, NULL), -1);
	assert_int_equal(json_object_array_length(json_arr(o, "deleted")), 1);
	assert_string_equal(json_object_get_string(
				    json_object_array_get_idx(json_arr(o, "deleted"), 0)),
			    "goes");
	assert_true(json_int(o, "reclaimed", 0) > 0);
	assert_state("stays", "running");
	assert_state("goes", "none");
	assert_int_equal(call_id("container.delete", "stays", "\"force\": true"), -1);
}

static void create_policy(const char *id, const char *mode, const char *policy)
{
	CLEANUP_FREE char *p = xasprintf(
		"{\"configuration\": {\"id\": \"%s\", \"image\": {\"manifest\": \"%s\"}, "
		"\"initProcess\": {}, \"resources\": {\"cpus\": 1, \"memoryInBytes\": 268435456}, "
		"\"networks\": [{\"network\": \"default\"}], \"labels\": {\"mode\": \"%s\"}, "
		"\"restartPolicy\": %s}}",
		id, DIGEST, mode, policy);

	assert_int_equal(call("container.create", p, NULL, NULL), -1);
}

/* How often it was started, once that does not change any more. */
static int starts_of(const char *id, int at_least)
{
	CLEANUP_FREE char *want = xasprintf("allocate %s\n", id);
	int i, n = 0, quiet = 0;

	for (i = 0; i < 100 && (n < at_least || quiet < 12); i++) {
		CLEANUP_BUF struct buf b = {0};
		const char *p;
		int was = n;

		assert_int_equal(path_read_all(rootfd, "run/calls.log", 1 << 20, &b, NULL), 0);
		for (n = 0, p = b.data; (p = strstr(p, want)); p++)
			n++;
		quiet = n == was ? quiet + 1 : 0;
		usleep(50000);
	}
	return n;
}

/* What a machine that booted leaves behind. */
static void pretend_ran(const char *id)
{
	CLEANUP_FREE char *path = xasprintf("app/containers/%s/boot.log", id);
	CLEANUP_CLOSE int fd = openat(rootfd, path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
}

static void policies(void **state)
{
	int st;

	assert_int_equal(call("container.create",
			      "{\"configuration\": {\"image\": {\"manifest\": \"" DIGEST
			      "\"}, \"initProcess\": {}, \"resources\": {\"cpus\": 1, "
			      "\"memoryInBytes\": 268435456}, \"restartPolicy\": {\"name\": "
			      "\"sometimes\"}}}",
			      NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	/* Ends with 5 each time: the first start and two more. */
	create_policy("flaky", "quick", "{\"name\": \"on-failure\", \"maximumRetryCount\": 2}");
	assert_int_equal(call_id("container.start", "flaky", NULL), -1);
	assert_int_equal(starts_of("flaky", 3), 3);
	assert_state("flaky", "stopped");
	assert_int_equal(call_id("container.start", "flaky", NULL), -1); /* by hand: begins anew */
	assert_int_equal(starts_of("flaky", 6), 6);
	assert_state("flaky", "stopped");
	assert_int_equal(call_id("container.delete", "flaky", NULL), -1);
	/* What a user stops stays stopped. */
	create_policy("steady", "run", "{\"name\": \"unless-stopped\"}");
	assert_int_equal(call_id("container.start", "steady", NULL), -1);
	assert_int_equal(call_id("container.kill", "steady", "\"signal\": 15"), -1);
	assert_int_equal(starts_of("steady", 2), 2); /* not stopped, but ended */
	assert_state("steady", "running");
	assert_int_equal(call_id("container.stop", "steady", NULL), -1);
	assert_int_equal(starts_of("steady", 2), 2);
	assert_state("steady", "stopped");
	/* A failing start of the user's is not repeated. */
	create_policy("never", "fail", "{\"name\": \"always\"}");
	assert_int_equal(call_id("container.start", "never", NULL), ERR_NOT_FOUND);
	assert_int_equal(starts_of("never", 1), 1);
	assert_int_equal(call_id("container.delete", "never", NULL), -1);
	/* An apiserver that comes later: `always` runs again, what a user stopped does not. */
	create_policy("boots", "run", "{\"name\": \"always\"}");
	pretend_ran("boots");
	pretend_ran("steady");
	kill(server, SIGTERM);
	waitpid(server, &st, 0);
	assert_int_equal(start_server(), 0);
	assert_state("boots", "running");
	assert_state("steady", "stopped");
	assert_int_equal(starts_of("steady", 2), 2);
	assert_int_equal(call_id("container.delete", "boots", "\"force\": true"), -1);
	assert_state("boots", "none");
	assert_int_equal(call_id("container.delete", "steady", NULL), -1);
}

static void adoption(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;
	CLEANUP_FREE char *state_now = NULL;
	int st;

	create("survivor", "run", false, DIGEST);
	create("removed", "run", true, DIGEST);
	assert_int_equal(call_id("container.start", "survivor", NULL), -1);
	assert_int_equal(call_id("container.start", "removed", NULL), -1);
	assert_int_equal(mkdirat(rootfd, "app/containers/.new-crash", 0700), 0);
	next_server();
	/* Ready means that all are taken over. */
	state_now = state_of("survivor");
	assert_string_equal(state_now, "running");
	assert_int_equal(call_id("container.exec", "survivor", "\"process\": {}"), -1);
	assert_int_equal(call_id("container.kill", "removed", "\"signal\": 15"), -1);
	assert_state("removed", "none");
	assert_int_equal(call("container.stop", "{\"id\": \"survivor\"}", NULL, NULL), -1);
	assert_int_equal(call("container.wait", "{\"id\": \"survivor\"}", &o, NULL), -1);
	assert_int_equal(json_int(o, "exitCode", -1), 143);
	assert_true(noted("release survivor"));
	assert_int_equal(call_id("container.delete", "survivor", NULL), -1);
	for (st = 0; st < 300 && !faccessat(rootfd, "app/containers/.new-crash", F_OK, 0); st++)
		usleep(10000);
	assert_true(st < 300);
}

/* Not root, no namespaces: nothing here needs them, but the network leg is skipped for others than root. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_kernel),     cmocka_unit_test(second_server),
		cmocka_unit_test(creating),      cmocka_unit_test(garbage),
		cmocka_unit_test(running),       cmocka_unit_test(helper_without_record),
		cmocka_unit_test(remove_itself), cmocka_unit_test(failing_starts),
		cmocka_unit_test(slow_start),    cmocka_unit_test(images),
		cmocka_unit_test(exec_waits),    cmocka_unit_test(prefixes),
		cmocka_unit_test(renaming),      cmocka_unit_test(restarting),
		cmocka_unit_test(pruning),       cmocka_unit_test(policies),
		cmocka_unit_test(adoption),      cmocka_unit_test(handing_over),
	};

	if (IS_ROLE(argv))
		return IS_SERVER(argv) ? apiserver_main(argc, argv) : fake_main(argc, argv);
	if (geteuid()) {
		printf("needs root: the network leg of a start\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, server_setup, server_teardown);
}
