/* SPDX-License-Identifier: Apache-2.0 */
/* cli_call.c - talking to the apiserver, and telling the user how it went. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include "cmd/cli.h"
#include "cmd/table.h"

#define CLI_PARALLEL_MAX 512 /* calls outstanding at once; below RPC_MAX_CALLS */

int cli_roots(struct cli *c, struct error **err)
{
	if (c->have_roots)
		return 0;
	if (roots_init(&c->roots, NULL, NULL, NULL, NULL, err))
		return -1;
	c->have_roots = true;
	return 0;
}

int cli_socket(struct cli *c, struct error **err)
{
	CLEANUP_FREE char *path = NULL;
	struct error *e = NULL;
	int fd;

	if (cli_roots(c, err))
		return -1;
	path = xasprintf("%s/apiserver.sock", c->roots.run);
	fd = rpc_socket_connect(AT_FDCWD, path, &e);
	if (fd >= 0)
		return fd;
	if (e && (e->sys == EACCES || e->sys == EPERM)) {
		error_wrap(&e, "this system belongs to another user");
		error_move(err, e);
		return -1;
	}
	error_free(e);
	return error_set(
		err, ERR_INVALID_STATE,
		"the container system is not running; start it with `container system start`");
}

int cli_connect(struct cli *c, struct error **err)
{
	int fd;

	if (c->conn)
		return 0;
	fd = cli_socket(c, err);
	if (fd < 0)
		return -1;
	c->conn = rpc_connect(fd, "container.cli", CLI_CONNECT_MS, err);
	if (!c->conn)
		return error_wrap(err, "the apiserver does not answer");
	return 0;
}

int cli_call(struct cli *c, const char *method, struct json_object *params,
	     struct json_object **result, struct error **err)
{
	if (cli_connect(c, err)) {
		json_object_put(params);
		return -1;
	}
	return rpc_call(c->conn, method, params, NULL, 0, NULL, NULL, -1, result, NULL, NULL, err);
}

static void part_take(void *arg, struct json_object *ev)
{
	struct json_object *list = arg, *part = json_arr(ev, "containers");

	for (size_t i = 0; part && i < json_object_array_length(part); i++)
		json_object_array_add(list, json_object_get(json_object_array_get_idx(part, i)));
}

int cli_containers(struct cli *c, const char *method, struct json_object *params,
		   struct json_object **list, struct error **err)
{
	CLEANUP_JSON struct json_object *all = json_object_new_array(), *last = NULL;

	if (cli_connect(c, err)) {
		json_object_put(params);
		return -1;
	}
	if (rpc_call(c->conn, method, params, NULL, 0, part_take, all, -1, &last, NULL, NULL, err))
		return -1;
	part_take(all, last);
	*list = STEAL(all);
	return 0;
}

/* ---- many calls side by side ---- */

struct each;
struct each_call {
	struct each *all;
	struct error *e;
	bool done;
};

struct each {
	struct loop *loop;
	struct rpc_conn *conn;
	struct each_call *calls;
	size_t pending;
	bool closed;
};

static void each_reply(void *arg, struct json_object *result, struct rpc_fds *fds,
		       const struct error *e)
{
	struct each_call *call = arg;

	if (e)
		call->e = error_copy(e);
	call->done = true;
	if (!--call->all->pending)
		loop_stop(call->all->loop);
}

static void each_close(void *ctx, struct rpc_conn *conn, const struct error *e)
{
	struct each *all = ctx;

	all->closed = true;
	loop_stop(all->loop);
}

static const struct rpc_handler each_handler = {.service = "container.cli", .on_close = each_close};

static int each_run(struct each *all, const char *method, const char *const *ids, size_t n,
		    struct json_object *extra, struct error **err)
{
	all->pending = n;
	for (size_t i = 0; i < n; i++) {
		struct json_object *p = json_object_new_object();

		json_set_str(p, "id", ids[i]);
		if (extra) {
			json_object_object_foreach(extra, key, val)
			{
				json_set(p, key, json_object_get(val));
			}
		}
		all->calls[i].all = all;
		rpc_call_async(all->conn, method, p, NULL, 0, each_reply, NULL, &all->calls[i]);
	}
	return n ? loop_run(all->loop, err) : 0;
}

static int call_each(struct cli *c, const char *method, const char *const *ids, size_t n,
		     struct json_object *extra, struct error **err)
{
	struct each all = {0};
	int fd, rc = -1;

	if (n > CLI_PARALLEL_MAX) {
		rc = call_each(c, method, ids, CLI_PARALLEL_MAX, extra, err);
		return rc ? rc
			  : call_each(c, method, ids + CLI_PARALLEL_MAX, n - CLI_PARALLEL_MAX,
				      extra, err);
	}
	fd = cli_socket(c, err);
	if (fd < 0)
		return -1;
	all.loop = loop_new(err);
	if (!all.loop) {
		close(fd);
		return -1;
	}
	all.calls = xcalloc(n + 1, sizeof(*all.calls));
	all.conn = rpc_conn_new(all.loop, fd, &each_handler, &all);
	if (all.conn)
		rc = each_run(&all, method, ids, n, extra, err);
	for (size_t i = 0; i < n && !rc; i++) {
		if (!all.calls[i].done)
			error_set(&all.calls[i].e, ERR_INTERRUPTED,
				  "%s: lost the connection to the apiserver", ids[i]);
		if (all.calls[i].e)
			cli_report(c, &all.calls[i].e);
		else
			cli_out(ids[i]);
	}
	for (size_t i = 0; i < n; i++)
		error_free(all.calls[i].e);
	if (all.conn && !all.closed)
		rpc_conn_free(all.conn);
	loop_free(all.loop);
	free(all.calls);
	return rc;
}

/* ---- messages ---- */

static void error_put(struct buf *b, const struct error *e)
{
	buf_printf(b, "%s: \"%s\"", error_code_name(e->code), e->msg ? e->msg : "");
	if (e->cause) {
		buf_puts(b, " (cause: \"");
		error_put(b, e->cause);
		buf_puts(b, "\")");
	}
}

char *cli_error_text(const struct error *e)
{
	CLEANUP_BUF struct buf b = {0};

	if (!e)
		return xstrdup("unknown: \"no details\"");
	error_put(&b, e);
	return text_printable(b.data, true);
}

void cli_report(struct cli *c, struct error **e)
{
	CLEANUP_FREE char *text = cli_error_text(*e);

	fflush(stdout);
	fprintf(stderr, "Error: %s\n", text);
	error_free(*e);
	*e = NULL;
	c->failed = true;
}

int cli_status(const struct cli *c)
{
	return c->failed ? 1 : 0;
}

static char *printable(const char *fmt, va_list ap)
{
	CLEANUP_FREE char *msg = NULL;

	if (vasprintf(&msg, fmt, ap) < 0)
		abort();
	return text_printable(msg, true);
}

int cli_usage(struct cli *c, const char *fmt, ...)
{
	CLEANUP_FREE char *shown = NULL;
	CLEANUP_BUF struct buf line = {0};
	va_list ap;

	va_start(ap, fmt);
	shown = printable(fmt, ap);
	va_end(ap);
	opt_usage_line(c->cmd, c->path, &line);
	fprintf(stderr, "Error: %s\nUsage: %s\n  See '%s --help' for more information.\n", shown,
		line.data, c->path);
	return CLI_EXIT_USAGE;
}

void cli_note(const char *fmt, ...)
{
	CLEANUP_FREE char *shown = NULL;
	va_list ap;

	va_start(ap, fmt);
	shown = printable(fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "%s\n", shown);
}

void cli_reclaimed(int64_t bytes)
{
	static const char *const units[] = {"KB", "MB", "GB", "TB"};
	double size = (double)bytes / 1000;
	size_t u = 0;

	for (; size >= 1000 && u + 1 < ARRAY_SIZE(units); u++)
		size /= 1000;
	if (size > 0)
		cli_note("Reclaimed %.*f %s in disk space", u ? 1 : 0, size, units[u]);
	else
		cli_note("Reclaimed Zero KB in disk space");
}

void cli_out(const char *line)
{
	CLEANUP_FREE char *shown = text_printable(line, false);

	puts(shown);
}

int cli_flush(int status)
{
	int rc = fflush(stdout);

	if (!rc && !ferror(stdout))
		return status;
	if (errno == EPIPE)
		return status ? status : 128 + 13; /* as a process that SIGPIPE ended */
	fprintf(stderr, "Error: internalError: \"cannot write to standard output: %s\"\n",
		strerror(errno));
	return status ? status : 1;
}

/* ---- ids ---- */

const struct opt_pos pos_ids[] = {{"container-ids", POS_MANY, "Container ids"}, {0}};
const struct opt_pos pos_some_ids[] = {{"container-ids", POS_SOME, "Container ids"}, {0}};
const struct opt_pos pos_id[] = {{"container-id", POS_ONE, "Container id"}, {0}};

static bool strv_has(const struct strv *s, const char *word)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->v[i], word))
			return true;
	return false;
}

static int all_ids(struct cli *c, const char *state, struct strv *ids, struct error **err)
{
	CLEANUP_JSON struct json_object *list = NULL;
	struct json_object *params = json_object_new_object();

	json_set_bool(params, "all", true);
	json_set_bool(params, "brief", true);
	if (cli_containers(c, "container.list", params, &list, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *id = json_str(o, "id", NULL);

		if (id && (!state || str_eq(json_str(json_obj(o, "status"), "state", NULL), state)))
			strv_add(ids, id);
	}
	return 0;
}

int cli_ids(struct cli *c, const struct opt_args *a, const char *what, const char *state,
	    struct strv *ids, struct error **err)
{
	bool all = opt_has(a, "all");

	if (all && a->npos)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "explicitly supplied %s(s) conflict with the --all flag", what);
	if (!all && !a->npos)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "no %ss specified and --all not supplied", what);
	if (all)
		return all_ids(c, state, ids, err);
	for (size_t i = 0; i < a->npos; i++)
		if (!strv_has(ids, a->pos[i]))
			strv_add(ids, a->pos[i]);
	return 0;
}

int cli_each(struct cli *c, const struct opt_args *a, const char *method, const char *state,
	     struct json_object *extra, struct error **err)
{
	CLEANUP_STRV struct strv ids = {0};

	if (cli_ids(c, a, "container", state, &ids, err) ||
	    call_each(c, method, (const char *const *)ids.v, ids.n, extra, err))
		return -1;
	return cli_status(c);
}

int cli_get(struct cli *c, const char *id, struct json_object **reply, struct json_object **one,
	    struct error **err)
{
	struct json_object *params = json_object_new_object(), *ids = json_object_new_array();

	json_add_str(ids, id);
	json_set(params, "ids", ids);
	if (cli_containers(c, "container.get", params, reply, err))
		return -1;
	*one = json_object_array_get_idx(*reply, 0);
	if (!*one)
		return error_set(err, ERR_NOT_FOUND, "container not found: %s", id);
	return 0;
}
