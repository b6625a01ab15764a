/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_stats.c - container.stats: the guest's counters, and what the machine takes from the host.
 *
 * The guest says what its cgroup uses, which is what the container was promised memory for. What the host gave up for it is another
 * number: guest memory that was ever touched and not given back, and the helper's (and QEMU's) own. Guest memory is one file that
 * both may have mapped, so of shared memory the larger of the two counts, not the sum.
 */
#include <fcntl.h>
#include <stdio.h>

#include "cmd/apiserver.h"
#include "core/path.h"

#define PROC_MAX     (64u << 10)
#define CHILDREN_MAX 16

/* A "Key:  123 kB" line of /proc/<pid>/status in bytes; 0 when it has none. */
static int64_t status_bytes(const char *text, const char *key)
{
	const char *line = strstr(text, key);
	long long kib;

	return line && sscanf(line + strlen(key), " %lld kB", &kib) == 1 && kib > 0 &&
			       kib < INT64_MAX / 1024
		       ? kib * 1024
		       : 0;
}

static void add_process(pid_t pid, int64_t *own, int64_t *shared)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/status", (int)pid);
	CLEANUP_BUF struct buf b = {0};

	if (path_read_all(AT_FDCWD, path, PROC_MAX, &b, NULL) || !b.len)
		return;
	*own += status_bytes(b.data, "\nRssAnon:");
	*shared = MAX(*shared, status_bytes(b.data, "\nRssShmem:"));
}

static int64_t host_memory(const struct container *ct)
{
	CLEANUP_FREE char *path =
		xasprintf("/proc/%d/task/%d/children", (int)ct->pid, (int)ct->pid);
	CLEANUP_BUF struct buf b = {0};
	int64_t own = 0, shared = 0;
	char *word, *save = NULL;
	int n = 0;

	if (!ct->pid)
		return 0;
	add_process(ct->pid, &own, &shared);
	if (path_read_all(AT_FDCWD, path, PROC_MAX, &b, NULL) || !b.len)
		return own + shared;
	for (word = strtok_r(b.data, " \n", &save); word && n < CHILDREN_MAX;
	     word = strtok_r(NULL, " \n", &save), n++) {
		uint64_t pid;

		if (!parse_u64(word, &pid) && pid < INT32_MAX)
			add_process((pid_t)pid, &own, &shared);
	}
	return own + shared;
}

struct stats_call {
	struct container *ct;
	struct rpc_req *req;
};

static void stats_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			   const struct error *e)
{
	struct stats_call *call = arg;
	struct json_object *o;

	call->ct->calls--;
	if (e) {
		rpc_reply_error(call->req, error_copy(e));
	} else {
		o = json_sorted(result);
		json_set_int(o, "memoryHostBytes", host_memory(call->ct));
		rpc_reply(call->req, o);
	}
	free(call);
}

void on_container_stats(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	struct container *ct = container_need_running(ctx, params, &e);
	struct stats_call *call;

	if (!ct) {
		rpc_reply_error(req, e);
		return;
	}
	call = xcalloc(1, sizeof(*call));
	*call = (struct stats_call){.ct = ct, .req = req};
	ct->calls++;
	rpc_call_async(ct->conn, "runtime.stats", NULL, NULL, 0, stats_answered, NULL, call);
}
