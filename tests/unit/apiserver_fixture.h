/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_fixture.h - an apiserver in a process of its own, with roots in a temporary directory, and calls to it.
 *
 * It and its helpers are started from the test's own executable: main() looks at argv[0] first.
 */
#ifndef TESTS_APISERVER_FIXTURE_H
#define TESTS_APISERVER_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "cmd/roles.h"
#include "core/path.h"
#include "core/roots.h"
#include "core/rpc.h"
#include "core/state.h"

#define DIGEST "sha256:1111111111111111111111111111111111111111111111111111111111111111"

#define IS_ROLE(argv)   (!strncmp((argv)[0], "container-", 10))
#define IS_SERVER(argv) (!strcmp((argv)[0], "container-apiserver"))

static char root[] = "/tmp/test-apiserver.XXXXXX";
static int rootfd = -1;
static pid_t server;

static int start_server(void)
{
	CLEANUP_FREE char *fdarg = NULL;
	int p[2];
	char c;

	if (pipe2(p, O_CLOEXEC))
		return -1;
	server = fork();
	if (!server) {
		char *argv[] = {"container-apiserver", "start", "--daemon-ready-fd", NULL, NULL};

		/* A new program: what the test has in its heap is none of the server's. */
		argv[3] = fdarg = xasprintf("%d", p[1]);
		fcntl(p[1], F_SETFD, 0);
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	close(p[1]);
	c = read(p[0], &c, 1) == 1 ? 1 : 0;
	close(p[0]);
	return c ? 0 : -1;
}

static int server_setup(void **state)
{
	static const char config[] = "{\"engine\": \"qemu\", \"qemu.path\": \"/bin/sh\"}";
	CLEANUP_FREE char *app = NULL, *run = NULL, *cfg = NULL;

	if (!mkdtemp(root))
		return -1;
	rootfd = path_open_dir(root, NULL);
	app = xasprintf("%s/app", root);
	run = xasprintf("%s/run", root);
	cfg = xasprintf("%s/config.json", root);
	setenv("CONTAINER_APP_ROOT", app, 1);
	setenv("CONTAINER_RUN_ROOT", run, 1);
	setenv("CONTAINER_CONFIG", cfg, 1);
	unsetenv("CONTAINER_LOG_ROOT");
	unsetenv("CONTAINER_ENGINE");
	if (state_write_text(rootfd, "config.json", config, strlen(config), 0600, NULL))
		return -1;
	return start_server();
}

static int server_teardown(void **state)
{
	int tmp = path_open_dir("/tmp", NULL), i, st = 0;

	kill(server, SIGTERM);
	for (i = 0; i < 1000 && waitpid(server, &st, WNOHANG) == 0; i++)
		usleep(10000);
	path_remove_tree(tmp, strrchr(root, '/') + 1, NULL);
	close(tmp);
	close(rootfd);
	return st;
}

/* As a crash would end it; the next one finds what is there. */
UNUSED static void next_server(void)
{
	int st;

	kill(server, SIGKILL);
	waitpid(server, &st, 0);
	assert_int_equal(start_server(), 0);
}

static struct rpc_conn *client(void)
{
	int fd = rpc_socket_connect(rootfd, "run/apiserver.sock", NULL);

	assert_true(fd >= 0);
	return rpc_connect(fd, "test", 5000, NULL);
}

static struct json_object *parse(const char *text)
{
	struct json_object *o = json_parse(text, strlen(text), NULL);

	assert_non_null(o);
	return o;
}

static void add_all(struct json_object *to, struct json_object *from)
{
	for (size_t i = 0; from && i < json_object_array_length(from); i++)
		json_object_array_add(to, json_object_get(json_object_array_get_idx(from, i)));
}

/* A part of a list of containers. */
static size_t parts_seen;
static void take_part(void *arg, struct json_object *ev)
{
	parts_seen++;
	add_all(arg, json_arr(ev, "containers"));
}

static int call_ms = 15000; /* how long an answer is waited for */

/* One call on a connection of its own: the error's code, or -1 when it went well. */
static int call(const char *method, const char *params, struct json_object **result, char **text)
{
	CLEANUP_JSON struct json_object *parts = json_object_new_array(), *answer = NULL;
	struct rpc_conn *c = client();
	struct error *e = NULL;
	int code = -1;

	assert_non_null(c);
	if (rpc_call(c, method, parse(params), NULL, 0, take_part, parts, call_ms, &answer, NULL,
		     NULL, &e)) {
		code = (int)e->code;
		if (text)
			*text = error_text(e);
		error_free(e);
	} else if (result) {
		if (json_object_array_length(parts)) {
			add_all(parts, json_arr(answer, "containers"));
			json_set(answer, "containers", STEAL(parts));
		}
		*result = STEAL(answer);
	}
	rpc_conn_free(c);
	return code;
}

UNUSED static int call_id(const char *method, const char *id, const char *more)
{
	CLEANUP_FREE char *p =
		xasprintf("{\"id\": \"%s\"%s%s}", id, more ? ", " : "", more ? more : "");

	return call(method, p, NULL, NULL);
}

static char *state_of(const char *id)
{
	CLEANUP_FREE char *p = xasprintf("{\"ids\": [\"%s\"]}", id);
	CLEANUP_JSON struct json_object *o = NULL;

	if (call("container.get", p, &o, NULL) != -1)
		return xstrdup("none");
	return xstrdup(json_str(json_obj(json_object_array_get_idx(json_arr(o, "containers"), 0),
					 "status"),
				"state", "?"));
}

UNUSED static void assert_state(const char *id, const char *want)
{
	CLEANUP_FREE char *s = NULL;
	int i;

	for (i = 0; i < 500; i++) {
		free(s);
		s = state_of(id);
		if (!strcmp(s, want))
			return;
		usleep(10000);
	}
	assert_string_equal(s, want);
}

/* The image and the network helper: they are there, and nothing is asked of them. */
UNUSED static int helper_main(void)
{
	static const struct rpc_route routes[] = {{NULL, NULL}};
	static const struct rpc_handler h = {.service = "fake", .routes = routes};
	struct loop *l = loop_new(NULL);

	rpc_server_new(l, 3, &h, NULL, NULL);
	return loop_run(l, NULL);
}

#endif
