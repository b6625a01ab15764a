/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_logs_container.c - logs: what the init process of a container wrote, or its machine's boot log.
 *
 * The apiserver hands over descriptors; everything else happens here. Standard output goes to standard output and standard error to
 * standard error, in the order of arrival. Following waits with inotify on the descriptors, so it goes on when the log is rotated, the
 * container is restarted or the apiserver is, and ends when the container is deleted.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "cmd/cli.h"
#include "cmd/stdlog.h"
#include "cmd/when.h"
#include "core/path.h"

#define OUT_MAX      65536u
#define EPIPE_STATUS (128 + 13)

static const struct opt opt_logs[] = {
	{"boot", 0, OPT_FLAG, NULL, NULL, "Show the boot log of the microVM instead", 0},
	{"follow", 'f', OPT_FLAG, NULL, NULL, "Keep printing what is added", 0},
	{"lines|tail", 'n', OPT_VALUE, "n", NULL,
	 "Only the last n lines that are not empty, or all", 0},
	{"since", 0, OPT_VALUE, "time", NULL,
	 "Only what was written since a date such as 2026-01-02T15:04:05Z, or for a duration such "
	 "as 10m",
	 0},
	{"until", 0, OPT_VALUE, "time", NULL, "Only what was written until then", 0},
	{"timestamps", 't', OPT_FLAG, NULL, NULL, "Put the time before each line", 0},
	{0},
};
static const struct opt *const logs_opts[] = {opt_logs, NULL};

/* ---- output: two streams in order ---- */

struct out {
	int fd;
	struct buf b;
};

static int out_flush(struct out *o, struct error **err)
{
	size_t n = o->b.len;

	o->b.len = 0;
	return n ? fd_write_full(o->fd, o->b.data, n, err) : 0;
}

static int out_put(struct out *o, int fd, const void *p, size_t n, struct error **err)
{
	if ((o->fd != fd || o->b.len + n > OUT_MAX) && out_flush(o, err))
		return -1;
	o->fd = fd;
	buf_append(&o->b, p, n);
	return 0;
}

/* ---- waiting for more ---- */

/* 1: look again; 0: there will be nothing more; -1. ms: as poll() has it. */
static int wait_more(int watch, const int *fds, size_t n, int ms, struct error **err)
{
	struct pollfd pf = {.fd = watch, .events = POLLIN};
	char events[4096];
	struct stat st;
	int rc = RETRY_EINTR(poll(&pf, 1, ms));

	if (rc < 0 || (rc > 0 && RETRY_EINTR(read(watch, events, sizeof(events))) < 0))
		return error_sys(err, errno, "watch the log");
	/* A container that is deleted takes its log along. */
	for (size_t i = 0; i < n; i++)
		if (!fstat(fds[i], &st) && !st.st_nlink)
			return 0;
	return 1;
}

static int watch_open(const int *fds, size_t n, struct error **err)
{
	int watch = inotify_init1(IN_CLOEXEC);
	char link[40];

	for (size_t i = 0; watch >= 0 && i < n; i++) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fds[i]);
		if (inotify_add_watch(watch, link, IN_MODIFY | IN_ATTRIB) < 0) {
			base_close_fd(&watch);
			watch = -1;
		}
	}
	return watch < 0 ? error_sys(err, errno, "watch the log") : watch;
}

/* ---- records ---- */

/* A record that is kept until it is known to be among the last n. */
struct kept {
	struct kept *next;
	bool counted; /* begins a line that is not empty */
	struct stdlog_record rec;
	char data[];
};

struct show {
	struct out out;
	bool stamps;
	bool open[2];                                              /* the stream is within a line */
	char since[TIME_STAMP_LEN + 1], until[TIME_STAMP_LEN + 1]; /* "": no bound */
	int64_t until_ns;
	bool over;     /* past `until` */
	int64_t lines; /* wanted; -1: all, and from then on */
	int64_t nkept;
	bool dropped;
	bool cut[2]; /* the stream's line has lost its beginning, and what is kept of it is not shown */
	struct kept *head, **tail;
	bool tail_open[2];
};

static void show_free(struct show *s)
{
	struct kept *k;

	while ((k = s->head)) {
		s->head = k->next;
		free(k);
	}
	buf_free(&s->out.b);
}

static int print(struct show *s, const struct stdlog_record *rec, struct error **err)
{
	int fd = rec->is_err ? STDERR_FILENO : STDOUT_FILENO;

	if (s->stamps && !s->open[rec->is_err]) {
		static const char none[] = "-";

		if (out_put(&s->out, fd, rec->time ? rec->time : none,
			    rec->time ? TIME_STAMP_LEN : 1, err) ||
		    out_put(&s->out, fd, " ", 1, err))
			return -1;
	}
	s->open[rec->is_err] = rec->partial;
	if (out_put(&s->out, fd, rec->text, rec->len, err))
		return -1;
	return rec->partial ? 0 : out_put(&s->out, fd, "\n", 1, err);
}

static void keep(struct show *s, const struct stdlog_record *rec)
{
	struct kept *k = xmalloc(sizeof(*k) + rec->len + TIME_STAMP_LEN);
	bool begins = !s->tail_open[rec->is_err];

	s->tail_open[rec->is_err] = rec->partial;
	*k = (struct kept){.counted = begins && (rec->len || rec->partial), .rec = *rec};
	memcpy(k->data, rec->text, rec->len);
	k->rec.text = k->data;
	if (rec->time)
		k->rec.time = memcpy(k->data + rec->len, rec->time, TIME_STAMP_LEN);
	if (!s->head)
		s->tail = &s->head;
	*s->tail = k;
	s->tail = &k->next;
	s->nkept += k->counted;
	while ((k = s->head) && (s->nkept > s->lines || (s->dropped && !k->counted))) {
		s->dropped = true;
		s->cut[k->rec.is_err] = k->rec.partial;
		s->nkept -= k->counted;
		s->head = k->next;
		free(k);
	}
}

static int print_kept(struct show *s, struct error **err)
{
	struct kept *k;

	while ((k = s->head)) {
		bool *cut = &s->cut[k->rec.is_err];
		int rc = *cut ? 0 : print(s, &k->rec, err);

		*cut = *cut && k->rec.partial;
		s->head = k->next;
		free(k);
		if (rc)
			return -1;
	}
	s->lines = -1;
	return 0;
}

static bool is_before(const char *time, const char *bound)
{
	return *bound && time && strncmp(time, bound, TIME_STAMP_LEN) < 0;
}

static int show_new(struct show *s, struct stdlog_reader *r, struct error **err)
{
	struct stdlog_record rec;
	int rc;

	while (!s->over && (rc = stdlog_next(r, &rec, err)) != 0) {
		if (rc < 0)
			return -1;
		if (is_before(rec.time, s->since))
			continue;
		if (*s->until && rec.time && strncmp(rec.time, s->until, TIME_STAMP_LEN) > 0)
			s->over = true;
		else if (s->lines >= 0)
			keep(s, &rec);
		else if (print(s, &rec, err))
			return -1;
	}
	if (s->lines >= 0 && print_kept(s, err))
		return -1;
	return out_flush(&s->out, err);
}

/* Milliseconds until `until`, for poll(). */
static int time_left(const struct show *s)
{
	int64_t left = s->until_ns - time_now_ns();

	if (!*s->until)
		return -1;
	return left < 0 ? 0 : (int)MIN(left / 1000000 + 1, 3600000);
}

static int show_records(struct show *s, bool follow, const int *fds, size_t n, struct error **err)
{
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	CLEANUP_CLOSE int watch = -1;
	bool last;
	int rc = 1;

	stdlog_reader_init(&r, fds, n);
	if (follow) {
		watch = watch_open(fds, n, err);
		if (watch < 0)
			return -1;
	}
	do {
		last = time_left(s) == 0;
		if (show_new(s, &r, err))
			return -1;
		if (!follow || s->over || last || !rc)
			return 0;
		rc = wait_more(watch, fds, n, time_left(s), err);
	} while (rc >= 0);
	return -1;
}

/* ---- the boot log: text ---- */

/* The offset where the last n lines that are not empty begin; everything when n < 0. */
static int tail_offset(int fd, int64_t n, off_t *out, struct error **err)
{
	char chunk[65536];
	bool in_line = false;
	struct stat st;
	off_t pos;

	*out = 0;
	if (n < 0)
		return 0;
	if (fstat(fd, &st))
		return error_sys(err, errno, "log");
	if (n == 0)
		*out = st.st_size;
	for (pos = st.st_size; pos > 0 && n > 0;) {
		size_t len = (size_t)MIN(pos, (off_t)sizeof(chunk));

		if (fd_pread_full(fd, chunk, len, pos - (off_t)len, err))
			return -1;
		for (size_t i = len; i-- > 0; pos--) {
			if (chunk[i] == '\n' && in_line && --n == 0) {
				*out = pos;
				return 0;
			}
			in_line = chunk[i] != '\n';
		}
	}
	return 0;
}

/* Copies from *pos to the end. */
static int copy_rest(int fd, off_t *pos, struct error **err)
{
	char chunk[65536];
	ssize_t n;

	while ((n = RETRY_EINTR(pread(fd, chunk, sizeof(chunk), *pos))) > 0) {
		*pos += n;
		if (fd_write_full(STDOUT_FILENO, chunk, (size_t)n, err))
			return -1;
	}
	if (n < 0)
		return error_sys(err, errno, "read the log");
	return 0;
}

static int show_boot(bool follow, int64_t lines, int fd, struct error **err)
{
	CLEANUP_CLOSE int watch = -1;
	struct stat st;
	off_t pos;
	int rc = 1;

	if (follow) {
		watch = watch_open(&fd, 1, err);
		if (watch < 0)
			return -1;
	}
	if (tail_offset(fd, lines, &pos, err))
		return -1;
	do {
		/* It is cut when it has outgrown its bound. */
		if (!fstat(fd, &st) && st.st_size < pos)
			pos = 0;
		if (copy_rest(fd, &pos, err))
			return -1;
		if (!follow || !rc)
			return 0;
		rc = wait_more(watch, &fd, 1, -1, err);
	} while (rc >= 0);
	return -1;
}

/* ---- the command ---- */

static int bounds(const struct opt_args *a, struct show *s, struct error **err)
{
	int64_t now = time_now_ns(), ns;

	if (opt_has(a, "since")) {
		if (when_parse(opt_str(a, "since", ""), now, &ns, err))
			return -1;
		time_stamp(ns, s->since);
	}
	if (opt_has(a, "until")) {
		if (when_parse(opt_str(a, "until", ""), now, &s->until_ns, err))
			return -1;
		time_stamp(s->until_ns, s->until);
	}
	return 0;
}

static int show(const struct opt_args *a, struct show *s, const int *fds, size_t n,
		struct error **err)
{
	bool follow = opt_has(a, "follow");
	struct error *e = NULL;
	int rc;

	if (n < 2)
		return error_set(err, ERR_INTERNAL, "the apiserver sent no log");
	if (opt_has(a, "boot"))
		rc = show_boot(follow, s->lines, fds[0], &e);
	else
		rc = show_records(s, follow, fds + 1, n - 1, &e);
	if (e && e->sys == EPIPE) {
		error_free(e);
		return EPIPE_STATUS;
	}
	return rc ? error_move(err, e) : 0;
}

static int run_logs(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP(show_free) struct show s = {.lines = -1, .stamps = opt_has(a, "timestamps")};
	const char *text = opt_str(a, "lines", "all");
	int fds[1 + STDLOG_FILES_MAX], rc;
	size_t n = ARRAY_SIZE(fds);
	struct json_object *params;

	if (strcmp(text, "all") && (parse_i64(text, &s.lines) || s.lines < 0))
		return cli_usage(c, "The value '%s' is invalid for '-n <n>'", text);
	if (opt_has(a, "boot") && (opt_has(a, "since") || opt_has(a, "until") || s.stamps))
		return cli_usage(c, "`--boot` has no times: it cannot be used with `--since`, "
				    "`--until` or `--timestamps`");
	if (bounds(a, &s, err) || cli_connect(c, err))
		return -1;
	params = json_object_new_object();
	json_set_str(params, "id", a->pos[0]);
	if (rpc_call(c->conn, "container.logs", params, NULL, 0, NULL, NULL, CLI_CONNECT_MS, NULL,
		     fds, &n, err))
		return -1;
	rc = show(a, &s, fds, n, err);
	while (n-- > 0)
		close(fds[n]);
	return rc;
}

const struct opt_cmd cmd_logs = {
	.name = "logs",
	.summary = "Fetch the logs of a container",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = logs_opts,
	.pos = pos_id,
	.notes = "Prints what the init process wrote, standard output to standard output and "
		 "standard error to "
		 "standard error. What exec started is not recorded. A container's log begins anew "
		 "with each "
		 "start but those of its restart policy, and is bounded by --log-opt of run and "
		 "create. "
		 "Following ends when the container is deleted. Times are UTC when they have no "
		 "zone.",
	.run = run_logs,
};
