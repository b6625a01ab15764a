/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stdlog.h - what a container's init process wrote: a ring of files with a record a line.
 *
 * DOC: Format
 *     2026-01-02T03:04:05.000000006Z stdout F text
 *     2026-01-02T03:04:05.000000007Z stderr P text whose line is not over yet
 * as kubelets' container runtimes have it: time of arrival, stream, F (full) when the process wrote a line's end behind it and P
 * (partial) when the line goes on with the stream's next record. Text is at most STDLOG_TEXT_MAX bytes, anything but a newline.
 *
 * DOC: Rotation
 * The writer sits in a jail where nothing can be opened or renamed, so there is a fixed number of files, stdio.log, stdio.log.1, …,
 * open from before. Each begins with a header, "#log " and a sequence number of 20 digits. One that is full is followed by the next
 * of the ring, which is emptied, gets the next number, and is written. So at most `files` times `size` bytes are kept, nothing is
 * copied, and a reader that holds the files open finds its way by the numbers: when the number of the file that it reads has changed
 * the writer came round, and what it had not read is lost.
 *
 * What is in the files may be anything that a guest which broke out of its machine wanted: the reader bounds and checks it.
 */
#ifndef CMD_STDLOG_H
#define CMD_STDLOG_H

#include "core/json.h"
#include "core/str.h"

#define STDLOG_FILES_MAX  16
#define STDLOG_SIZE_MIN   (64ll << 10)
#define STDLOG_SIZE_MAX   (1ll << 40)
#define STDLOG_SIZE       (16ll << 20) /* of one file, and how many, when nothing is said */
#define STDLOG_FILES      2
#define STDLOG_HEADER_LEN 26u
#define STDLOG_TEXT_MAX   16384u

/* stdlog_name: "stdio.log", "stdio.log.1", … */
void stdlog_name(unsigned i, char out[16]);

/* ---- writing ---- */
struct stdlog_writer {
	int fd[STDLOG_FILES_MAX];
	unsigned n, at; /* n 0: nothing is written */
	uint64_t seq;
	int64_t bytes, size; /* in the current file; bound of one */
	bool torn;           /* the last write failed half-way */
	struct buf out;
};

/* stdlog_open: opens or makes the files in dirfd by "log" of a container's configuration (NULL: as when nothing is said). Without
 * `keep` what is there goes. */
int stdlog_open(struct stdlog_writer *w, int dirfd, struct json_object *config, bool keep,
		struct error **err);
/* stdlog_write: n bytes of standard output or error. What cannot be written is lost, never waited for. */
void stdlog_write(struct stdlog_writer *w, bool is_err, const void *p, size_t n);
void stdlog_close(struct stdlog_writer *w);
/* stdlog_check: "log" of a configuration: {"maxSizeInBytes", "maxFiles"}. */
int stdlog_check(struct json_object *config, struct error **err);

/* ---- reading ---- */
struct stdlog_record {
	const char
		*time; /* TIME_STAMP_LEN characters, no NUL; NULL: the file has none that is one */
	bool is_err, partial;
	const char *text; /* borrowed until the next call */
	size_t len;
};

struct stdlog_reader {
	int fd[STDLOG_FILES_MAX]; /* borrowed */
	unsigned n;
	int cur; /* index, -1: none */
	uint64_t seq, last;
	off_t at;
	struct buf in;
	size_t used;
};

void stdlog_reader_init(struct stdlog_reader *r, const int *fds, size_t n);
/* stdlog_next: 1 and a record, 0 when there is none now, -1 on error. */
int stdlog_next(struct stdlog_reader *r, struct stdlog_record *rec, struct error **err);
void stdlog_reader_free(struct stdlog_reader *r);
#define CLEANUP_STDLOG_READER CLEANUP(stdlog_reader_free)

#endif
