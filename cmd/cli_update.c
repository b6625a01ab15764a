/* SPDX-License-Identifier: Apache-2.0 */
/* cli_update.c - update: other limits for containers that are there. */
#include <stdio.h>
#include "cmd/cli.h"
#include "cmd/cli_config.h"

static const struct opt opt_update[] = {
	{"cpus", 'c', OPT_VALUE, "cpus", NULL,
	 "Number of CPUs; of a running container within those of its machine", 0},
	{"cpu-shares", 0, OPT_VALUE, "n", NULL,
	 "Weight of its processes beside others, 2 to 262144; 0 as at first", 0},
	{"memory", 'm', OPT_VALUE, "memory", NULL,
	 "Memory; of a running container within that of its machine", 0},
	{"memory-reservation", 0, OPT_VALUE, "memory", NULL,
	 "Memory that is not taken from it while others have some; 0: none", 0},
	{"pids-limit", 0, OPT_VALUE, "n", NULL, "Number of processes and threads; -1: no limit", 0},
	{"restart", 0, OPT_VALUE, "policy", NULL,
	 "When to start it again after its end: no, on-failure[:n], always or unless-stopped", 0},
	{0},
};
static const struct opt *const update_opts[] = {opt_update, NULL};

static int put_number(const struct opt_args *a, const char *opt, const char *key, int64_t min,
		      int64_t max, struct json_object *to, struct error **err)
{
	const char *text = opt_str(a, opt, NULL);
	int64_t v;

	if (!text)
		return 0;
	if (parse_i64(text, &v) || v < min || v > max)
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid value '%s' of --%s", text,
				 opt);
	json_set_int(to, key, v);
	return 0;
}

int update_build(const struct opt_args *a, struct json_object *out, struct error **err)
{
	struct json_object *res = json_object_new_object();
	const char *memory = opt_str(a, "memory", NULL),
		   *low = opt_str(a, "memory-reservation", NULL);
	int64_t bytes;
	uint64_t n;

	json_set(out, "resources", res);
	if (put_number(a, "cpus", "cpus", 1, CPUS_MAX, res, err) ||
	    put_number(a, "cpu-shares", "cpuShares", 0, 262144, res, err) ||
	    put_number(a, "pids-limit", "pids", -1, INT32_MAX, res, err) ||
	    (memory && memory_parse(memory, &bytes, err)))
		return -1;
	if (memory)
		json_set_int(res, "memoryInBytes", bytes);
	if (low && (parse_size(low, &n, err) || n > INT64_MAX))
		return error_wrap(err, "--memory-reservation");
	if (low)
		json_set_int(res, "memoryReservationInBytes", (int64_t)n);
	return restart_build(a, out, err);
}

static int run_update(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *extra = json_object_new_object();

	if (!a->ngiven)
		return cli_usage(c, "Missing an option that says what to update");
	return update_build(a, extra, err) ? -1
					   : cli_each(c, a, "container.update", NULL, extra, err);
}

const struct opt_cmd cmd_update = {
	.name = "update",
	.summary = "Change the limits of containers",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = update_opts,
	.pos = pos_some_ids,
	.notes = "A running container has the new limits at once, but no more CPUs and memory than "
		 "the machine that it "
		 "was started with; a stopped one has them from its next start on. Memory of a "
		 "running container "
		 "that is below what its processes need makes the kernel kill some.",
	.run = run_update,
};
