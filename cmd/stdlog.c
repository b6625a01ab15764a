/* SPDX-License-Identifier: Apache-2.0 */
/* stdlog.c - see stdlog.h. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/stdlog.h"
#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"

#define FLUSH_AT   32768u
#define READ_CHUNK 65536u
#define LINE_MAX_  (TIME_STAMP_LEN + 10 + STDLOG_TEXT_MAX) /* with its newline, a record */

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN, write),
	FILTER_ALLOW(FILTER_MAIN, ftruncate),
	FILTER_ALLOW(FILTER_MAIN, clock_gettime),
};

void stdlog_name(unsigned i, char out[16])
{
	if (i)
		snprintf(out, 16, "stdio.log.%u", i % 100);
	else
		strcpy(out, "stdio.log");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The number in a file's header; 0 when it has none. */
static uint64_t header_read(int fd)
{
	char text[STDLOG_HEADER_LEN + 1] = {0};
	uint64_t seq;

	if (RETRY_EINTR(pread(fd, text, STDLOG_HEADER_LEN, 0)) != STDLOG_HEADER_LEN ||
	    !str_prefix(text, "#log ") || text[STDLOG_HEADER_LEN - 1] != '\n')
		return 0;
	text[STDLOG_HEADER_LEN - 1] = 0;
	return parse_u64(text + 5, &seq) || seq == UINT64_MAX ? 0 : seq;
}

/* ---- writing ---- */

static void limits(struct json_object *config, int64_t *size, int64_t *files)
{
	struct json_object *o = json_obj(config, "log");

	*size = MIN(MAX(json_int(o, "maxSizeInBytes", STDLOG_SIZE), STDLOG_SIZE_MIN),
		    STDLOG_SIZE_MAX);
	*files = MIN(MAX(json_int(o, "maxFiles", STDLOG_FILES), 1), STDLOG_FILES_MAX);
}

int stdlog_check(struct json_object *config, struct error **err)
{
	struct json_object *o = json_get(config, "log");
	int64_t n;

	if (!o)
		return 0;
	if (!json_object_is_type(o, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"log\" must be an object");
	if ((json_get(o, "maxSizeInBytes") &&
	     json_need_int(o, "maxSizeInBytes", STDLOG_SIZE_MIN, STDLOG_SIZE_MAX, &n, err)) ||
	    (json_get(o, "maxFiles") && json_need_int(o, "maxFiles", 1, STDLOG_FILES_MAX, &n, err)))
		return -1;
	return 0;
}

/* Somebody may have put something else there: links are not followed but replaced. */
static int open_one(int dirfd, const char *name, struct error **err)
{
	const int flags = O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
	int fd = openat(dirfd, name, flags, 0600);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink != 1)) {
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		(void)unlinkat(dirfd, name, 0);
		fd = openat(dirfd, name, flags | O_EXCL, 0600);
	}
	return fd < 0 ? error_sys(err, errno, "open %s", name) : fd;
}

/* Begins the current file anew. */
static void begin(struct stdlog_writer *w)
{
	char text[STDLOG_HEADER_LEN + 1];

	snprintf(text, sizeof(text), "#log %020llu\n", (unsigned long long)++w->seq);
	if (ftruncate(w->fd[w->at], 0) < 0 ||
	    RETRY_EINTR(write(w->fd[w->at], text, STDLOG_HEADER_LEN)) != STDLOG_HEADER_LEN)
		log_warn("begin the container's log: %s", strerror(errno));
	w->bytes = STDLOG_HEADER_LEN;
	w->torn = false;
}

/* Goes on in the file that was written last, or begins the first one when nothing is kept. */
static void resume(struct stdlog_writer *w, bool keep)
{
	struct stat st;
	char last;

	w->at = 0;
	for (unsigned i = 0; i < w->n; i++) {
		uint64_t seq = header_read(w->fd[i]);

		if (seq <= w->seq)
			continue;
		w->seq = seq;
		w->at = i;
	}
	if (keep && w->seq && !fstat(w->fd[w->at], &st)) {
		w->bytes = st.st_size;
		w->torn = pread(w->fd[w->at], &last, 1, st.st_size - 1) != 1 || last != '\n';
		return;
	}
	w->at = 0;
	for (unsigned i = 1; i < w->n; i++)
		if (ftruncate(w->fd[i], 0))
			log_warn("empty the container's log: %s", strerror(errno));
	begin(w);
}

int stdlog_open(struct stdlog_writer *w, int dirfd, struct json_object *config, bool keep,
		struct error **err)
{
	int64_t files;
	char name[16];

	*w = (struct stdlog_writer){0};
	limits(config, &w->size, &files);
	for (unsigned i = 0; i < STDLOG_FILES_MAX; i++) {
		stdlog_name(i, name);
		if (i >= files) {
			(void)unlinkat(dirfd, name, 0);
			continue;
		}
		w->fd[i] = open_one(dirfd, name, err);
		if (w->fd[i] < 0) {
			stdlog_close(w);
			return -1;
		}
		w->n++;
	}
	resume(w, keep);
	return 0;
}

static void flush(struct stdlog_writer *w)
{
	size_t at = 0;

	if (!w->out.len)
		return;
	if (w->bytes + (int64_t)w->out.len > w->size) {
		w->at = (w->at + 1) % w->n;
		begin(w);
	}
	while (at < w->out.len) {
		ssize_t n = RETRY_EINTR(write(w->fd[w->at], w->out.data + at, w->out.len - at));

		if (n <= 0)
			break; /* a full disk loses log, never the container */
		at += (size_t)n;
	}
	w->torn = at < w->out.len;
	w->bytes += (int64_t)at;
	w->out.len = 0;
}

void stdlog_write(struct stdlog_writer *w, bool is_err, const void *p, size_t n)
{
	char head[TIME_STAMP_LEN + 12];
	const char *at = p, *end = at + n;

	if (!w->n)
		return;
	time_stamp(time_now_ns(), head);
	strcat(head, is_err ? " stderr " : " stdout ");
	while (at < end) {
		size_t room = MIN((size_t)(end - at), (size_t)STDLOG_TEXT_MAX);
		const char *eol = memchr(at, '\n', room);
		size_t len = eol ? (size_t)(eol - at) : room;

		if (w->torn)
			buf_puts(&w->out, "\n");
		w->torn = false;
		buf_append(&w->out, head, TIME_STAMP_LEN + 8);
		buf_append(&w->out, eol ? "F " : "P ", 2);
		buf_append(&w->out, at, len);
		buf_append(&w->out, "\n", 1);
		at += len + (eol ? 1 : 0);
		if (w->out.len >= FLUSH_AT)
			flush(w);
	}
	flush(w);
}

void stdlog_close(struct stdlog_writer *w)
{
	for (unsigned i = 0; i < w->n; i++)
		close(w->fd[i]);
	w->n = 0;
	buf_free(&w->out);
}

/* ---- reading ---- */

void stdlog_reader_init(struct stdlog_reader *r, const int *fds, size_t n)
{
	*r = (struct stdlog_reader){.cur = -1};
	for (r->n = 0; r->n < n && r->n < STDLOG_FILES_MAX; r->n++)
		r->fd[r->n] = fds[r->n];
}

void stdlog_reader_free(struct stdlog_reader *r)
{
	buf_free(&r->in);
}

static void parse(const char *line, size_t len, struct stdlog_record *rec)
{
	static const char like[] = "0000-00-00T00:00:00.000000000Z std";
	const char *p = line + TIME_STAMP_LEN;
	bool good = line && len >= TIME_STAMP_LEN + 10;

	*rec = (struct stdlog_record){.text = line, .len = len};
	for (size_t i = 0; good && like[i]; i++)
		good = like[i] == '0' ? is_digit(line[i]) : line[i] == like[i];
	good = good && (!memcmp(p, " stdout ", 8) || !memcmp(p, " stderr ", 8)) &&
	       (p[8] == 'F' || p[8] == 'P') && p[9] == ' ';
	if (!good)
		return;
	rec->time = line;
	rec->is_err = p[4] == 'e';
	rec->partial = p[8] == 'P';
	rec->text = p + 10;
	rec->len = len - TIME_STAMP_LEN - 10;
}

/* The oldest file that is newer than `than`; -1: none. */
static int file_after(const struct stdlog_reader *r, uint64_t than, uint64_t *seq)
{
	int found = -1;

	*seq = UINT64_MAX;
	for (unsigned i = 0; i < r->n; i++) {
		uint64_t s = header_read(r->fd[i]);

		if (s <= than || s >= *seq)
			continue;
		*seq = s;
		found = (int)i;
	}
	return found;
}

static void leave(struct stdlog_reader *r)
{
	r->last = r->seq;
	r->cur = -1;
	r->used = r->in.len = 0; /* a record that never got its end */
}

/* Reads on: 1 when something came, 0 when there is nothing now. */
static int refill(struct stdlog_reader *r, struct error **err)
{
	uint64_t seq;
	ssize_t n;
	int next;

	for (;;) {
		if (r->cur < 0) {
			r->cur = file_after(r, r->last, &r->seq);
			if (r->cur < 0)
				return 0;
			r->at = STDLOG_HEADER_LEN;
		}
		/* In this order: what the file gets after the next one exists is nothing. */
		next = file_after(r, r->seq, &seq);
		buf_consume(&r->in, r->used);
		r->used = 0;
		buf_reserve(&r->in, READ_CHUNK);
		n = RETRY_EINTR(pread(r->fd[r->cur], r->in.data + r->in.len, READ_CHUNK, r->at));
		if (n < 0)
			return error_sys(err, errno, "read the log");
		if (header_read(r->fd[r->cur]) != r->seq) {
			leave(r); /* the writer came round, and those bytes may be of either time */
			continue;
		}
		r->in.len += (size_t)n;
		r->at += n;
		if (n > 0)
			return 1;
		if (next < 0)
			return 0;
		leave(r);
	}
}

int stdlog_next(struct stdlog_reader *r, struct stdlog_record *rec, struct error **err)
{
	for (;;) {
		const char *line = r->in.data ? r->in.data + r->used : NULL;
		size_t have = r->in.len - r->used;
		const char *eol =
			line && have ? memchr(line, '\n', MIN(have, (size_t)LINE_MAX_)) : NULL;
		int rc;

		if (eol || have >= LINE_MAX_) {
			size_t len = eol ? (size_t)(eol - line) : LINE_MAX_;

			parse(line, len, rec);
			r->used += len + (eol ? 1 : 0);
			if (rec->len || rec->time)
				return 1;
			continue; /* behind a record that was torn */
		}
		rc = refill(r, err);
		if (rc <= 0)
			return rc;
	}
}
