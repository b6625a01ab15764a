/* SPDX-License-Identifier: Apache-2.0 */
/* cli_task.c - see cli_task.h. */
#include <fcntl.h>
#include <signal.h>
#include "cmd/cli_task.h"
#include "core/path.h"

#define SAID_MAX    4096
#define KILL_SIGNAL SIGKILL

void task_close(struct task *t)
{
	base_close_fd(&t->data);
	base_close_fd(&t->said);
	free(t->process);
}

static struct json_object *task_params(const char *id, const char *const *words, const char *stream)
{
	struct json_object *p = json_object_new_object(), *process = json_object_new_object();
	struct json_object *args = json_object_new_array(), *streams = json_object_new_array();

	for (; *words; words++)
		json_add_str(args, *words);
	json_set(process, "args", args);
	json_set_bool(process, "builtin", true);
	json_add_str(streams, stream);
	json_add_str(streams, "stderr");
	json_set_str(p, "id", id);
	json_set(p, "process", process);
	json_set(p, "streams", streams);
	return p;
}

/* words: the task (vmm/agent.h), NULL at the end; input: we write. */
int task_start(struct cli *c, struct task *t, const char *const *words, bool input,
	       struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	int data[2], said[2], fds[2], rc;

	if (cli_connect(c, err))
		return -1;
	if (pipe2(data, O_CLOEXEC))
		return error_sys(err, errno, "pipe");
	if (pipe2(said, O_CLOEXEC)) {
		close(data[0]);
		close(data[1]);
		return error_sys(err, errno, "pipe");
	}
	fds[0] = data[input ? 0 : 1];
	fds[1] = said[1];
	t->data = data[input ? 1 : 0];
	t->said = said[0];
	rc = rpc_call(c->conn, "container.exec",
		      task_params(t->id, words, input ? "stdin" : "stdout"), fds, 2, NULL, NULL, -1,
		      &reply, NULL, NULL, err);
	close(fds[0]);
	close(fds[1]);
	if (!rc)
		t->process = xstrdup(json_str(reply, "process", ""));
	return rc;
}

static struct json_object *process_params(const struct task *t)
{
	struct json_object *p = json_object_new_object();

	json_set_str(p, "id", t->id);
	json_set_str(p, "process", t->process);
	return p;
}

/* The end of the task; e (taken) is what went wrong on our side, which may be due to what went wrong on its side. */
int task_end(struct cli *c, struct task *t, struct error *e, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_FREE char *text = xcalloc(1, SAID_MAX + 1);
	size_t n = 0;
	ssize_t r;

	base_close_fd(&t->data);
	t->data = -1;
	if (e && e->sys != EPIPE) {
		struct json_object *p = process_params(t);

		json_set_int(p, "signal", KILL_SIGNAL);
		cli_call(c, "container.kill", p, NULL, NULL);
	}
	while (n < SAID_MAX && (r = RETRY_EINTR(read(t->said, text + n, SAID_MAX - n))) > 0)
		n += (size_t)r;
	if (cli_call(c, "container.wait", process_params(t), &reply, e ? NULL : err)) {
		return e ? error_move(err, e) : -1;
	}
	if (n && (!e || e->sys == EPIPE || e->code == ERR_EMPTY)) {
		error_free(e);
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: %s", t->id, text);
	}
	if (e)
		return error_move(err, e);
	if (json_int(reply, "exitCode", 255))
		return error_set(err, ERR_INTERRUPTED, "%s: the copying was cut off", t->id);
	return 0;
}

char *cli_full_id(struct cli *c, const char *name, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *one;

	if (cli_get(c, name, &reply, &one, err))
		return NULL;
	return xstrdup(json_str(one, "id", name));
}

int task_pass(int from, int to, struct error **err)
{
	char chunk[65536];
	ssize_t n;

	while ((n = RETRY_EINTR(read(from, chunk, sizeof(chunk)))) > 0)
		if (fd_write_full(to, chunk, (size_t)n, err))
			return -1;
	return n < 0 ? error_sys(err, errno, "read") : 0;
}
