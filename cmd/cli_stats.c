/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_stats.c - stats: what running containers use.
 *
 * The counters are those of the guest, but for what its machine takes of the host's memory; a table needs two samples, because CPU use
 * is a difference. A container that ends between them is left out.
 */
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include "cmd/cli.h"
#include "cmd/table.h"
#include "cmd/template.h"

#define SAMPLE_MS 2000

static const struct opt opt_stats[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Show containers that do not run as well", 0},
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.ID}} {{.CPUPerc}}'",
	 OPT_TEMPLATE},
	{"no-trunc", 0, OPT_FLAG, NULL, NULL, "Nothing is ever cut short; for scripts", 0},
	{"no-stream", 0, OPT_FLAG, NULL, NULL, "Print once and return", 0},
	{0},
};
static const struct opt *const stats_opts[] = {opt_stats, NULL};
static const struct opt_pos stats_pos[] = {
	{"containers", POS_MANY, "Container ids; all that run when there are none"},
	{0},
};

struct sample {
	char *id;
	struct json_object *o;
	uint64_t at; /* µs */
};

struct samples {
	struct sample *v;
	size_t n;
};

static void samples_free(struct samples *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->v[i].id);
		json_object_put(s->v[i].o);
	}
	free(s->v);
	*s = (struct samples){0};
}

/* Only what is known, and only numbers: a guest made them. */
static struct json_object *counters(const char *id, struct json_object *in)
{
	static const char *const keys[] = {
		"memoryUsageBytes", "memoryLimitBytes", "cpuUsageUsec",
		"networkRxBytes",   "networkTxBytes",   "blockReadBytes",
		"blockWriteBytes",  "numProcesses",     "memoryHostBytes",
	};
	struct json_object *o = json_object_new_object();

	json_set_str(o, "id", id);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_object_is_type(json_get(in, keys[i]), json_type_int))
			json_set_int(o, keys[i], MAX(json_int(in, keys[i], 0), 0));
	return o;
}

static int take_one(struct cli *c, const char *id, bool all, struct samples *out,
		    struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *params = json_object_new_object();
	struct error *e = NULL;

	json_set_str(params, "id", id);
	if (cli_call(c, "container.stats", params, &reply, &e) &&
	    (!all || e->code != ERR_INVALID_STATE))
		return error_move(err, e);
	error_free(e);
	out->v = xreallocarray(out->v, out->n + 1, sizeof(*out->v));
	out->v[out->n++] =
		(struct sample){.id = xstrdup(id), .o = counters(id, reply), .at = time_mono_us()};
	return 0;
}

/* The full ids of those asked for; of those that run when none is. */
static int wanted(struct cli *c, const struct opt_args *a, struct strv *ids, struct error **err)
{
	CLEANUP_JSON struct json_object *list = NULL;
	struct json_object *params;

	for (size_t i = 0; i < a->npos; i++) {
		CLEANUP_JSON struct json_object *found = NULL;
		struct json_object *one;

		if (cli_get(c, a->pos[i], &found, &one, err))
			return -1;
		strv_add(ids, json_str(one, "id", a->pos[i]));
	}
	if (a->npos)
		return 0;
	params = json_object_new_object();
	json_set_bool(params, "all", opt_has(a, "all"));
	if (cli_containers(c, "container.list", params, &list, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (opt_has(a, "all") ||
		    str_eq(json_str(json_obj(o, "status"), "state", NULL), "running"))
			strv_add(ids, json_str(o, "id", ""));
	}
	return 0;
}

/* One that was named must be there; of all, those that are. */
static int take(struct cli *c, const struct opt_args *a, bool strict, struct samples *out,
		struct error **err)
{
	CLEANUP_STRV struct strv ids = {0};

	if (wanted(c, a, &ids, err))
		return -1;
	for (size_t i = 0; i < ids.n; i++) {
		struct error *e = NULL;

		if (!take_one(c, ids.v[i], opt_has(a, "all"), out, &e))
			continue;
		if ((strict && a->npos) || !c->conn)
			return error_move(err, e);
		error_free(e);
	}
	return 0;
}

/* ---- the table ---- */

static char *size_text(struct json_object *o, const char *key)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	double v = (double)json_int(o, key, 0) / 1024;
	size_t u = 0;

	if (!json_get(o, key))
		return xstrdup("--");
	for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	return xasprintf("%.2f %s", v, units[u]);
}

static char *pair_text(struct json_object *o, const char *first, const char *second)
{
	CLEANUP_FREE char *a = size_text(o, first), *b = size_text(o, second);

	return xasprintf("%s / %s", a, b);
}

static char *percent_text(struct json_object *o, const char *key)
{
	struct json_object *v = json_get(o, key);

	return v ? xasprintf("%.2f%%", json_object_get_double(v)) : xstrdup("--");
}

static void set_percent(struct json_object *o, const char *key, double part, double whole)
{
	if (whole > 0)
		json_set(o, key, json_object_new_double(MAX(100.0 * part / whole, 0.0)));
}

/* What comes of two samples: the counters and, where they can be told, "cpuPercent" and "memoryPercent". */
static struct json_object *row_object(const struct sample *was, const struct sample *now)
{
	static const char cpu[] = "cpuUsageUsec";
	struct json_object *o = json_sorted(now->o);

	if (was && now->at > was->at && json_get(was->o, cpu) && json_get(now->o, cpu))
		set_percent(o, "cpuPercent",
			    (double)(json_int(now->o, cpu, 0) - json_int(was->o, cpu, 0)),
			    (double)(now->at - was->at));
	if (json_get(o, "memoryUsageBytes"))
		set_percent(o, "memoryPercent", (double)json_int(o, "memoryUsageBytes", 0),
			    (double)json_int(o, "memoryLimitBytes", 0));
	return o;
}

static char *stats_field(struct json_object *o, const char *name)
{
	if (!strcmp(name, "ID") || !strcmp(name, "Name") || !strcmp(name, "Container"))
		return xstrdup(json_str(o, "id", ""));
	if (!strcmp(name, "CPUPerc"))
		return percent_text(o, "cpuPercent");
	if (!strcmp(name, "MemUsage"))
		return pair_text(o, "memoryUsageBytes", "memoryLimitBytes");
	if (!strcmp(name, "MemPerc"))
		return percent_text(o, "memoryPercent");
	if (!strcmp(name, "MemHost"))
		return size_text(o, "memoryHostBytes");
	if (!strcmp(name, "NetIO"))
		return pair_text(o, "networkRxBytes", "networkTxBytes");
	if (!strcmp(name, "BlockIO"))
		return pair_text(o, "blockReadBytes", "blockWriteBytes");
	if (!strcmp(name, "PIDs"))
		return json_get(o, "numProcesses")
			       ? xasprintf("%lld", (long long)json_int(o, "numProcesses", 0))
			       : xstrdup("--");
	return NULL;
}

/* The rows of two rounds of samples; the caller owns the array. */
static struct json_object *rows(const struct samples *was, const struct samples *now)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < now->n; i++) {
		const struct sample *before = NULL;

		for (size_t k = 0; k < was->n && !before; k++)
			if (!strcmp(was->v[k].id, now->v[i].id))
				before = &was->v[k];
		json_object_array_add(list, row_object(before, &now->v[i]));
	}
	return list;
}

static void put_table(struct json_object *list, struct buf *out)
{
	static const char *const titles[] = {"Container ID", "Cpu %", "Memory Usage", "Net Rx/Tx",
					     "Block I/O",    "Pids",  "Host Memory",  NULL};
	static const char *const fields[] = {"ID",      "CPUPerc", "MemUsage", "NetIO",
					     "BlockIO", "PIDs",    "MemHost"};
	CLEANUP_TABLE struct table t = {0};

	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		for (size_t k = 0; k < ARRAY_SIZE(fields); k++) {
			CLEANUP_FREE char *text =
				stats_field(json_object_array_get_idx(list, i), fields[k]);

			table_cell(&t, text);
		}
	table_render(&t, out);
}

/* In the form asked for; *err when a template is broken. */
static int put_rows(const char *format, const struct samples *was, const struct samples *now,
		    struct error **err)
{
	CLEANUP_JSON struct json_object *list = rows(was, now);
	CLEANUP_BUF struct buf b = {0};

	if (template_is(format))
		return template_list(format, list, stats_field, err);
	put_table(list, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
	interrupted = signo;
}

static void pause_ms(long ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&ts, NULL); /* a signal ends it early, as it should */
}

/* On the terminal's second screen, so that the first is as it was afterwards. */
static int stream(struct cli *c, const struct opt_args *a, struct samples *was, struct error **err)
{
	struct sigaction sa = {.sa_handler = on_interrupt};
	bool screen = isatty(STDOUT_FILENO);
	int rc = 0;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (screen)
		fputs("\033[?1049h\033[?25l", stdout);
	while (!interrupted && !ferror(stdout)) {
		CLEANUP(samples_free) struct samples now = {0};
		struct samples old;

		rc = take(c, a, false, &now, err);
		if (rc)
			break;
		if (screen)
			fputs("\033[H\033[J", stdout);
		rc = put_rows(opt_str(a, "format", NULL), was, &now, err);
		if (rc || fflush(stdout))
			break;
		old = *was;
		*was = now;
		now = old;
		pause_ms(SAMPLE_MS);
	}
	if (screen)
		fputs("\033[?25h\033[?1049l", stdout);
	if (rc && interrupted) { /* the call was cut off, not refused */
		error_free(*err);
		*err = NULL;
		rc = 0;
	}
	return rc;
}

static int run_stats(struct cli *c, const struct opt_args *a, struct error **err)
{
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP(samples_free) struct samples first = {0}, second = {0};
	CLEANUP_BUF struct buf check = {0};
	const char *format = opt_str(a, "format", NULL);

	if (template_is(format) && template_render(format, NULL, true, stats_field, &check, err))
		return -1;
	if (take(c, a, true, &first, err))
		return -1;
	if (f != FORMAT_TABLE && !template_is(format)) {
		CLEANUP_JSON struct json_object *list = json_object_new_array();

		for (size_t i = 0; i < first.n; i++)
			json_object_array_add(list, json_object_get(first.v[i].o));
		format_print(f, list);
		return 0;
	}
	if (!opt_has(a, "no-stream"))
		return stream(c, a, &first, err);
	if (first.n)
		pause_ms(SAMPLE_MS);
	if (take(c, a, false, &second, err))
		return -1;
	return put_rows(format, &first, &second, err);
}

const struct opt_cmd cmd_stats = {
	.name = "stats",
	.summary = "Display resource usage statistics for containers",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = stats_opts,
	.pos = stats_pos,
	.notes = "CPU use is that of the last two seconds, where 100% is one CPU. Memory is what "
		 "the container's "
		 "processes and their cached files take inside; host memory is what its machine "
		 "takes of the host, which "
		 "is guest memory that was touched and not given back, and the VMM's own. Formats "
		 "other than the table "
		 "print the raw counters once. Fields of a template: ID, CPUPerc, MemUsage, "
		 "MemPerc, MemHost, "
		 "NetIO, BlockIO, PIDs.",
	.run = run_stats,
};
