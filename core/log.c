/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - records to a file, to journald, to stderr; each on when its init function was called.
 *
 * A service's file is rotated by whoever writes the record that fills it: label.log becomes label.log.1, that
 * becomes label.log.2. A confined process (log_confine) has no directory left to do that in: it empties the file,
 * because a log must never fill the disk.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"

#define LOG_MAX_BYTES (4u << 20)
#define LOG_MAX_MSG   8192
#define JOURNAL_SOCK  "/run/systemd/journal/socket"

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char journal_priority[] = {'7', '6', '4', '3'};

FILTER_RULES = {
	/* Any thread may log: write(2) is virtio.c's already. */
	FILTER_ALLOW(FILTER_OURS & ~FILTER_FS, ftruncate),
	FILTER_ALLOW(FILTER_OURS & ~FILTER_FS, sendto), /* journald; the socket is connected */
};

static struct {
	pthread_mutex_t lock;
	enum log_level min, stderr_min;
	bool to_stderr;
	char *stderr_name, *label;
	int dirfd, fd, journal;
	off_t size;
} lg = {.lock = PTHREAD_MUTEX_INITIALIZER, .dirfd = -1, .fd = -1, .journal = -1};

enum log_level log_level_of(const char *s)
{
	return str_eq(s, "debug")     ? LOG_LVL_DEBUG
	       : str_eq(s, "warning") ? LOG_LVL_WARN
	       : str_eq(s, "error")   ? LOG_LVL_ERROR
				      : LOG_LVL_INFO;
}

void log_init_stderr(const char *name, enum log_level min)
{
	pthread_mutex_lock(&lg.lock);
	free(lg.stderr_name);
	lg.stderr_name = xstrdup(name);
	lg.stderr_min = min;
	lg.to_stderr = true;
	pthread_mutex_unlock(&lg.lock);
}

/* Opens label.log anew; the lock is held. */
static int file_open(void)
{
	CLEANUP_FREE char *name = xasprintf("%s.log", lg.label);
	struct stat st;

	if (lg.fd >= 0)
		close(lg.fd);
	lg.fd = openat(lg.dirfd, name,
		       O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (lg.fd < 0)
		return -1;
	lg.size = fstat(lg.fd, &st) ? 0 : st.st_size;
	return 0;
}

static bool file_move(void)
{
	CLEANUP_FREE char *name = xasprintf("%s.log", lg.label);
	CLEANUP_FREE char *one = xasprintf("%s.log.1", lg.label);
	CLEANUP_FREE char *two = xasprintf("%s.log.2", lg.label);
	int old = lg.fd;

	renameat(lg.dirfd, one, lg.dirfd, two);
	if (renameat(lg.dirfd, name, lg.dirfd, one))
		return false;
	lg.fd = -1;
	if (!file_open()) {
		close(old);
		return true;
	}
	lg.fd = old;
	return false;
}

static void file_rotate(void)
{
	if (lg.dirfd >= 0 && file_move())
		return;
	if (!ftruncate(lg.fd, 0))
		lg.size = 0;
}

void log_confine(void)
{
	pthread_mutex_lock(&lg.lock);
	if (lg.dirfd >= 0)
		close(lg.dirfd);
	lg.dirfd = -1;
	pthread_mutex_unlock(&lg.lock);
}

static int journal_open(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCK};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int log_init_service(const char *dir, const char *label, enum log_level min, struct error **err)
{
	int ret = 0;

	if (!*label || *label == '.' || strchr(label, '/'))
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid log label \"%s\"", label);
	if (dir && path_mkdirs(dir, 0700, err))
		return error_wrap(err, "log");
	pthread_mutex_lock(&lg.lock);
	free(lg.label);
	lg.label = xstrdup(label);
	lg.min = min;
	if (!dir) {
		lg.journal = journal_open();
		if (lg.journal < 0)
			ret = error_sys(err, errno, "log to journald");
	} else {
		if (lg.dirfd >= 0)
			close(lg.dirfd);
		lg.dirfd = path_open_dir(dir, err);
		if (lg.dirfd < 0)
			ret = error_wrap(err, "log");
		else if (file_open())
			ret = error_sys(err, errno, "log to %s/%s.log", dir, label);
	}
	pthread_mutex_unlock(&lg.lock);
	return ret;
}

int log_fd(void)
{
	int fd;

	pthread_mutex_lock(&lg.lock);
	fd = lg.fd >= 0 ? lg.fd : lg.journal >= 0 ? lg.journal : lg.to_stderr ? STDERR_FILENO : -1;
	pthread_mutex_unlock(&lg.lock);
	return fd;
}

/* Messages may quote what a guest or a registry said: control characters never reach a terminal raw. */
static void put_escaped(struct buf *b, const char *s, bool json)
{
	size_t n;

	while (*s) {
		unsigned char c = (unsigned char)*s;

		n = utf8_len(s);
		if (!n) {
			buf_puts(b, "\xef\xbf\xbd"); /* U+FFFD */
			n = 1;
		} else if (c < 0x20 || c == 0x7f) {
			buf_printf(b, json ? "\\u%04x" : "\\x%02x", c);
		} else {
			if (json && (c == '"' || c == '\\'))
				buf_append(b, "\\", 1);
			buf_append(b, s, n);
		}
		s += n;
	}
}

static void write_stderr(enum log_level lvl, const char *msg)
{
	CLEANUP_BUF struct buf b = {0};

	buf_printf(&b, "%s: %s: ", lg.stderr_name, level_names[lvl]);
	put_escaped(&b, msg, false);
	buf_append(&b, "\n", 1);
	if (write(STDERR_FILENO, b.data, b.len) < 0)
		lg.to_stderr = errno == EAGAIN || errno == EINTR;
}

static void write_file(enum log_level lvl, const char *msg)
{
	CLEANUP_BUF struct buf b = {0};
	struct timespec ts;
	struct tm tm;
	ssize_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	buf_printf(&b, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ\",\"level\":\"%s\"",
		   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		   ts.tv_nsec / 1000, level_names[lvl]);
	buf_puts(&b, ",\"service\":\"");
	put_escaped(&b, lg.label, true);
	buf_printf(&b, "\",\"pid\":%d,\"msg\":\"", (int)getpid());
	put_escaped(&b, msg, true);
	buf_puts(&b, "\"}\n");
	n = write(lg.fd, b.data, b.len);
	if (n > 0)
		lg.size += n;
	if (lg.size >= (off_t)LOG_MAX_BYTES)
		file_rotate();
}

static void journal_field(struct buf *b, const char *key, const char *value)
{
	uint64_t len = strlen(value);
	int i;

	/* The native protocol's binary form, which takes any value: key, newline, length, value. */
	buf_printf(b, "%s\n", key);
	for (i = 0; i < 8; i++) {
		char c = (char)(len >> (8 * i));

		buf_append(b, &c, 1);
	}
	buf_append(b, value, len);
	buf_append(b, "\n", 1);
}

static void write_journal(enum log_level lvl, const char *msg)
{
	CLEANUP_BUF struct buf b = {0};

	buf_printf(&b, "PRIORITY=%c\n", journal_priority[lvl]);
	journal_field(&b, "SYSLOG_IDENTIFIER", lg.label);
	journal_field(&b, "CONTAINER_SERVICE", lg.label);
	journal_field(&b, "MESSAGE", msg);
	send(lg.journal, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void record(enum log_level lvl, const char *msg)
{
	int saved = errno;

	pthread_mutex_lock(&lg.lock);
	if (lg.to_stderr && lvl >= lg.stderr_min)
		write_stderr(lvl, msg);
	if (lg.fd >= 0 && lvl >= lg.min)
		write_file(lvl, msg);
	if (lg.journal >= 0 && lvl >= lg.min)
		write_journal(lvl, msg);
	pthread_mutex_unlock(&lg.lock);
	errno = saved;
}

void log_msg(enum log_level lvl, const char *fmt, ...)
{
	char msg[LOG_MAX_MSG];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	record(lvl, msg);
}

bool log_due(unsigned *n)
{
	unsigned times = __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);

	return !(times & (times - 1));
}

void log_err(const struct error *e, const char *fmt, ...)
{
	CLEANUP_FREE char *text = error_text(e);
	CLEANUP_BUF struct buf b = {0};
	char msg[LOG_MAX_MSG];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	buf_printf(&b, "%s: %.*s", msg, LOG_MAX_MSG, text);
	record(LOG_LVL_ERROR, b.data);
}
