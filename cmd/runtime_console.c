/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_console.c - what a machine's console said: the boot log, and its end for the error of a start that failed.
 *
 * `container run` deletes a container that did not start, and its boot log with it; so the error says what the kernel said last. All of
 * it is the guest's: it is made printable here, and the log is bounded.
 */
#include <string.h>
#include <unistd.h>

#include "cmd/runtime.h"
#include "core/str.h"

#define WORDS_LINES 4
#define WORDS_LINE  160

static void words_add(struct runtime *rt, const char *p, size_t len)
{
	size_t room = sizeof(rt->words), keep;

	if (len > room) {
		p += len - room;
		len = room;
	}
	keep = MIN(rt->words_len, room - len);
	memmove(rt->words, rt->words + rt->words_len - keep, keep);
	memcpy(rt->words + keep, p, len);
	rt->words_len = keep + len;
}

void runtime_console(void *arg, const void *p, size_t len)
{
	struct runtime *rt = arg;

	words_add(rt, p, len);
	if (rt->boot_fd < 0 || rt->boot_bytes >= RUNTIME_BOOT_LOG_MAX)
		return;
	len = MIN(len, RUNTIME_BOOT_LOG_MAX - rt->boot_bytes);
	rt->boot_bytes += len;
	if (RETRY_EINTR(write(rt->boot_fd, p, len)) < 0)
		rt->boot_bytes = RUNTIME_BOOT_LOG_MAX;
}

static bool is_break(char c)
{
	return c == '\n' || c == '\r' || !c;
}

/* The line that ends before *end, which is moved to its front; empty ones are passed over. 0: there is none. */
static size_t line_before(const char *p, size_t *end)
{
	size_t at = *end, to;

	while (at && is_break(p[at - 1]))
		at--;
	to = at;
	while (at && !is_break(p[at - 1]))
		at--;
	*end = at;
	return to - at;
}

/* ASCII only, where text_printable() would keep bytes that are no UTF-8: it goes into a JSON answer. */
static void add_line(struct buf *b, const char *p, size_t n)
{
	buf_puts(b, b->len ? " | " : "");
	for (size_t i = 0; i < MIN(n, WORDS_LINE); i++)
		buf_append(b, p[i] >= ' ' && p[i] < 0x7f ? p + i : "?", 1);
}

char *runtime_last_words(const struct runtime *rt)
{
	CLEANUP_BUF struct buf b = {0};
	size_t at[WORDS_LINES], len[WORDS_LINES], end = rt->words_len, n = 0;

	while (n < WORDS_LINES && (len[n] = line_before(rt->words, &end))) {
		at[n++] = end;
		if (!end)
			break;
	}
	while (n--)
		add_line(&b, rt->words + at[n], len[n]);
	return b.len ? xstrdup(b.data) : NULL;
}
