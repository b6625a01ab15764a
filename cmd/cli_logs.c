/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_logs.c - system logs: the services' records, merged by time.
 *
 * Each service writes one JSON object a line to <log root>/<label>.log, with older generations in .log.1 and
 * .log.2. All within the wanted span are read, sorted by their time text (ISO 8601 in UTC sorts as text) and
 * printed as `time level label[pid] message`. Following watches the directory, so files that appear or are
 * rotated are noticed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "cmd/cli.h"
#include "cmd/table.h"
#include "core/path.h"
#include "core/proc.h"

#define LOG_FILE_MAX (16u << 20) /* a generation is rotated far below this */
#define FILES_MAX    4096

static const struct opt opt_system_logs[] = {
	{"follow", 'f', OPT_FLAG, NULL, NULL, "Keep printing new records; --last is ignored", 0},
	{"last", 0, OPT_VALUE, "time", NULL,
	 "How far to look back: N[m|h|d], a bare number is seconds; 5m when not given", 0},
	{0},
};
static const struct opt *const logs_opts[] = {opt_system_logs, NULL};
static const struct opt_pos logs_pos[] = {
	{"service", POS_MANY, "Only services whose label contains one of these words"},
	{0},
};

struct record {
	char *time, *line;
};

struct records {
	struct record *v;
	size_t n;
};

/* How far each file was read already, by its inode. */
struct seen {
	ino_t ino;
	off_t at;
};

struct reader {
	const struct opt_args *a;
	const char *since; /* time text; NULL: everything */
	struct records out;
	struct seen seen[FILES_MAX];
	size_t nseen;
};

static int parse_last(const char *s, int64_t *seconds)
{
	static const char units[] = "mhd";
	static const int64_t factor[] = {60, 3600, 86400};
	size_t len = strlen(s);
	const char *u = len ? strchr(units, s[len - 1]) : NULL;
	CLEANUP_FREE char *digits = xstrndup(s, len - (u ? 1 : 0));
	int64_t n, f = u ? factor[u - units] : 1;

	if (parse_i64(digits, &n) || n <= 0 || n > INT64_MAX / 86400 / 1000)
		return -1;
	*seconds = n * f;
	return 0;
}

static bool wanted(const struct opt_args *a, const char *label)
{
	if (!a->npos)
		return true;
	for (size_t i = 0; i < a->npos; i++)
		if (strstr(label, a->pos[i]))
			return true;
	return false;
}

static void add_record(struct reader *r, const char *text, size_t len)
{
	CLEANUP_JSON struct json_object *o = json_parse(text, len, NULL);
	const char *when = json_str(o, "time", NULL), *msg = json_str(o, "msg", NULL);
	CLEANUP_FREE char *raw = NULL;
	struct record *rec;

	if (!when || !msg || (r->since && strcmp(when, r->since) < 0) ||
	    !wanted(r->a, json_str(o, "service", "")))
		return;
	raw = xasprintf("%s %-5s %s[%lld] %s", when, json_str(o, "level", ""),
			json_str(o, "service", ""), (long long)json_int(o, "pid", 0), msg);
	r->out.v = xreallocarray(r->out.v, r->out.n + 1, sizeof(*r->out.v));
	rec = &r->out.v[r->out.n++];
	rec->time = xstrdup(when);
	rec->line = text_printable(raw, false);
}

static struct seen *seen_find(struct reader *r, ino_t ino)
{
	for (size_t i = 0; i < r->nseen; i++)
		if (r->seen[i].ino == ino)
			return &r->seen[i];
	if (r->nseen == FILES_MAX)
		return NULL;
	r->seen[r->nseen] = (struct seen){.ino = ino};
	return &r->seen[r->nseen++];
}

/* Adds the whole lines of a file that were not read before. */
static void read_file(struct reader *r, int dirfd, const char *name)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	struct seen *s;
	struct stat st;
	size_t len, from = 0;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > (off_t)LOG_FILE_MAX)
		return;
	s = seen_find(r, st.st_ino);
	if (s && st.st_size < s->at)
		s->at = 0;
	if (!s || st.st_size <= s->at)
		return;
	len = (size_t)(st.st_size - s->at);
	text = xmalloc(len);
	if (fd_pread_full(fd, text, len, s->at, NULL))
		return;
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\n')
			continue;
		add_record(r, text + from, i - from);
		from = i + 1;
	}
	s->at += (off_t)from;
}

static bool is_log(const char *name)
{
	return str_suffix(name, ".log") || str_suffix(name, ".log.1") || str_suffix(name, ".log.2");
}

static int record_cmp(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	return strcmp(x->time, y->time);
}

/* Reads what is new in all files and prints it in order. */
static int show_new(struct reader *r, const char *dir, struct error **err)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return errno == ENOENT ? 0 : error_sys(err, errno, "open %s", dir);
	while ((e = readdir(d)))
		if (is_log(e->d_name))
			read_file(r, dirfd(d), e->d_name);
	closedir(d);
	if (r->out.n)
		qsort(r->out.v, r->out.n, sizeof(*r->out.v), record_cmp);
	for (size_t i = 0; i < r->out.n; i++) {
		puts(r->out.v[i].line);
		free(r->out.v[i].time);
		free(r->out.v[i].line);
	}
	r->out.n = 0;
	fflush(stdout);
	return 0;
}

static int follow(struct reader *r, const char *dir, struct error **err)
{
	CLEANUP_CLOSE int watch = inotify_init1(IN_CLOEXEC);
	char events[4096];

	if (watch < 0 || inotify_add_watch(watch, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return error_sys(err, errno, "watch %s", dir);
	while (!ferror(stdout)) {
		if (show_new(r, dir, err))
			return -1;
		if (RETRY_EINTR(read(watch, events, sizeof(events))) < 0)
			return error_sys(err, errno, "watch %s", dir);
	}
	return 0;
}

static bool has_files(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d)))
		found = is_log(e->d_name);
	if (d)
		closedir(d);
	return found;
}

/* Services write to the journal, where there is one and no log root was given. */
static int from_journal(const char *program, const struct opt_args *a, int64_t seconds,
			struct error **err)
{
	static const char *const matches[] = {"_SYSTEMD_UNIT=container-apiserver.service", "+",
					      "CONTAINER_SERVICE=container.apiserver",
					      "CONTAINER_SERVICE=container.images",
					      "CONTAINER_SERVICE=container.network.default"};
	CLEANUP_STRV struct strv argv = {0};
	struct proc_spec spec = {.path = program, .stdio = {-1, 1, 2}};
	int status;
	pid_t pid;

	strv_add(&argv, "journalctl");
	strv_add(&argv, "--no-pager");
	strv_addf(&argv, "--since=-%llds", (long long)seconds);
	if (opt_has(a, "follow"))
		strv_add(&argv, "--follow");
	for (size_t i = 0; i < a->npos; i++)
		strv_addf(&argv, "CONTAINER_SERVICE=%s", a->pos[i]);
	for (size_t i = 0; !a->npos && i < ARRAY_SIZE(matches); i++)
		strv_add(&argv, matches[i]);
	spec.argv = argv.v;
	if (proc_spawn(&spec, &pid, err))
		return -1;
	if (RETRY_EINTR(waitpid(pid, &status, 0)) < 0)
		return error_sys(err, errno, "wait for journalctl");
	return proc_exit_code(status);
}

/* The running system knows its log root best: it may have been started with a flag. */
static char *log_dir(struct cli *c)
{
	CLEANUP_JSON struct json_object *ping = NULL;

	if (!cli_call(c, "ping", NULL, &ping, NULL) && *json_str(ping, "logRoot", ""))
		return xstrdup(json_str(ping, "logRoot", ""));
	return c->have_roots ? xstrdup(c->roots.log) : NULL;
}

static int run_system_logs(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct reader *r;
	CLEANUP_FREE char *dir = NULL, *since = NULL, *journalctl = NULL;
	int64_t seconds;
	int rc;

	if (parse_last(opt_str(a, "last", "5m"), &seconds))
		return cli_usage(c, "invalid --last value '%s'", opt_str(a, "last", ""));
	if (cli_roots(c, err))
		return -1;
	dir = log_dir(c);
	if (!has_files(dir) && !access("/run/systemd/journal/socket", F_OK) &&
	    (journalctl = proc_find("journalctl")))
		return from_journal(journalctl, a, seconds, err);
	r = xcalloc(1, sizeof(*r));
	r->a = a;
	since = time_iso8601(MAX(time_now() - seconds, 0));
	if (!opt_has(a, "follow") || opt_has(a, "last"))
		r->since = since;
	rc = opt_has(a, "follow") ? follow(r, dir, err) : show_new(r, dir, err);
	free(r->out.v);
	free(r);
	return rc;
}

const struct opt_cmd cmd_system_logs = {
	.name = "logs",
	.summary = "Fetch the logs of the container services",
	.group = SYSTEM_GROUP,
	.opts = logs_opts,
	.pos = logs_pos,
	.run = run_system_logs,
};
