/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - structured records: one JSON object a line, {"time","level","service","pid","msg", ...}.
 *
 * A service logs to <log root>/<label>.log (rotated at 4 MiB, two generations kept) and, where
 * /run/systemd/journal/socket exists and no log root was asked for, to journald in its native
 * protocol. The CLI logs to stderr as plain text, only with --debug. Thread-safe.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/error.h"

enum log_level { LOG_LVL_DEBUG, LOG_LVL_INFO, LOG_LVL_WARN, LOG_LVL_ERROR };

/* log_level_of: a value of the key log.level; info for what is none. */
enum log_level log_level_of(const char *s);

/* log_init_stderr: plain text records of at least `min` to stderr, prefixed with name. */
void log_init_stderr(const char *name, enum log_level min);

/* log_init_service: records to dir/label.log (dir is created, 0700). label is copied. */
int log_init_service(const char *dir, const char *label, enum log_level min, struct error **err);

/* log_fd: the descriptor records go to now (for a jail's allow-list), -1 if none. */
int log_fd(void);

/* log_confine: from here on no file is opened or renamed: one that grew too large is emptied. */
void log_confine(void);

void log_msg(enum log_level lvl, const char *fmt, ...) PRINTF(2, 3);
/* log_due: counts in *n; true the first, second, fourth, eighth… time. What a guest can have logged as often as it likes is logged
 * then only: it must not push everything else out of the log, nor bring journald to refuse more of us. Any thread. */
bool log_due(unsigned *n);
#define log_debug(...) log_msg(LOG_LVL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LVL_INFO, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LVL_WARN, __VA_ARGS__)
#define log_error(...) log_msg(LOG_LVL_ERROR, __VA_ARGS__)

/* log_err: logs "<fmt>: <error chain>" at error level; does not free e. */
void log_err(const struct error *e, const char *fmt, ...) PRINTF(2, 3);

#endif
