/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - lines of progress. */
#include <stdio.h>
#include <sys/ioctl.h>
#include "cmd/progress.h"
#include "cmd/table.h"
#include "core/str.h"

#define REDRAW_US 100000
#define BAR_WIDTH 20

void progress_init(struct progress *p, const char *mode)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	*p = (struct progress){.mode = PROGRESS_PLAIN};
	if (str_eq(mode, "none"))
		p->mode = PROGRESS_NONE;
	else if (str_eq(mode, "color"))
		p->mode = no_color && *no_color ? PROGRESS_ANSI : PROGRESS_COLOR;
	else if (str_eq(mode, "ansi"))
		p->mode = PROGRESS_ANSI;
	else if (!str_eq(mode, "plain") && isatty(STDERR_FILENO) && !str_eq(term, "dumb"))
		p->mode = PROGRESS_ANSI;
}

static void size_put(struct buf *b, int64_t n)
{
	static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
	double v = (double)n;
	size_t u = 0;

	while (v >= 1000 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1000;
		u++;
	}
	buf_printf(b, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static unsigned screen_width(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || w.ws_col < 20 ? 80 : w.ws_col;
}

static void item_line(const struct progress *p, const struct progress_item *it, struct buf *b)
{
	bool known = it->total > 0;
	int64_t done = MIN(it->done, it->total);
	int full = known ? (int)((double)done / (double)it->total * BAR_WIDTH) : 0;

	buf_printf(b, "  %s %s ", it->phase, it->name);
	if (known) {
		buf_puts(b, p->mode == PROGRESS_COLOR ? "\033[32m[" : "[");
		for (int i = 0; i < BAR_WIDTH; i++)
			buf_puts(b, i < full ? "=" : i == full ? ">" : " ");
		buf_puts(b, p->mode == PROGRESS_COLOR ? "]\033[0m " : "] ");
	}
	if (it->done > 0 || known)
		size_put(b, it->done);
	if (known) {
		buf_puts(b, " of ");
		size_put(b, it->total);
	}
}

/* Cuts a line to the screen so that it stays one line; escapes do not count as columns, and a colour ends with the line. */
static void clip(struct buf *b, size_t from, unsigned width)
{
	unsigned col = 0;
	bool escape = false, colour = false;

	for (size_t i = from; i < b->len; i++) {
		char c = b->data[i];

		if (c == '\033')
			escape = colour = true;
		else if (escape)
			escape = c != 'm';
		else if (((unsigned char)c & 0xc0) != 0x80 && ++col >= width) {
			b->len = i;
			b->data[i] = 0;
			buf_puts(b, colour ? "\033[0m" : "");
			return;
		}
	}
}

static void wipe(struct progress *p, struct buf *b)
{
	if (p->drawn)
		buf_printf(b, "\r\033[%uA\033[J", p->drawn);
	p->drawn = 0;
}

static void draw(struct progress *p)
{
	CLEANUP_BUF struct buf b = {0};
	unsigned width = screen_width();
	size_t shown = 0, from;

	wipe(p, &b);
	if (p->task) {
		buf_printf(&b, p->mode == PROGRESS_COLOR ? "\033[1m%s\033[0m\n" : "%s\n", p->task);
		p->drawn++;
	}
	for (size_t i = 0; i < p->n && shown < 12; i++) {
		const struct progress_item *it = &p->items[i];

		if (it->total > 0 && it->done >= it->total)
			continue;
		from = b.len;
		item_line(p, it, &b);
		clip(&b, from, width);
		buf_puts(&b, "\n");
		p->drawn++;
		shown++;
	}
	if (b.len)
		fwrite(b.data, 1, b.len, stderr);
	p->drawn_at = time_mono_us();
}

void progress_task(struct progress *p, int step, int of, const char *what)
{
	free(p->task);
	p->task = xasprintf("[%d/%d] %s", step, of, what);
	if (p->mode == PROGRESS_PLAIN)
		fprintf(stderr, "%s\n", p->task);
	else if (p->mode >= PROGRESS_ANSI)
		draw(p);
}

static struct progress_item *item_find(struct progress *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->items[i].name, name))
			return &p->items[i];
	if (p->n == PROGRESS_ITEMS) { /* the oldest one goes */
		free(p->items[0].name);
		free(p->items[0].phase);
		memmove(&p->items[0], &p->items[1], --p->n * sizeof(p->items[0]));
	}
	p->items[p->n] =
		(struct progress_item){.name = text_printable(name, false), .phase = xstrdup("")};
	return &p->items[p->n++];
}

static void show_message(struct progress *p, const char *message)
{
	CLEANUP_FREE char *text = text_printable(message, false);
	CLEANUP_BUF struct buf b = {0};

	wipe(p, &b);
	buf_printf(&b, "%s\n", text);
	fwrite(b.data, 1, b.len, stderr);
}

void progress_event(void *arg, struct json_object *ev)
{
	struct progress *p = arg;
	const char *name = json_str(ev, "item", NULL), *phase = json_str(ev, "phase", "");
	const char *message = json_str(ev, "message", NULL);
	struct progress_item *it;
	bool changed;

	if (p->mode == PROGRESS_NONE)
		return;
	if (!name) {
		if (message)
			show_message(p, message);
		return;
	}
	it = item_find(p, name);
	changed = strcmp(it->phase, phase) != 0;
	if (changed) {
		free(it->phase);
		it->phase = text_printable(phase, false);
	}
	it->done = MAX(json_int(ev, "done", 0), 0);
	it->total = MAX(json_int(ev, "total", 0), 0);
	if (p->mode == PROGRESS_PLAIN) {
		CLEANUP_BUF struct buf size = {0};

		if (!changed)
			return;
		if (it->total)
			size_put(&size, it->total);
		fprintf(stderr, "%s %s%s%s\n", it->phase, it->name, size.len ? " " : "",
			size.len ? size.data : "");
	} else if (changed || time_mono_us() - p->drawn_at >= REDRAW_US) {
		draw(p);
	}
}

void progress_end(struct progress *p)
{
	CLEANUP_BUF struct buf b = {0};

	wipe(p, &b);
	if (b.len)
		fwrite(b.data, 1, b.len, stderr);
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].name);
		free(p->items[i].phase);
	}
	free(p->task);
	*p = (struct progress){0};
}
