/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmp.c - QEMU's monitor (QMP, docs/interop/qmp-spec in QEMU's sources): a line of JSON each way.
 *
 * Commands are sent and their answers not waited for: what fails is a warning in QEMU's log at most. What QEMU says is taken
 * as from anybody: lines of bounded length, strict JSON.
 *
 * QEMU runs with -no-reboot: a reset by the guest is its end. A reset of ours is not, so set-action says so before, and takes it
 * back before the CPUs run on: a guest may end itself as soon as it runs.
 */
#include <stdio.h>

#include "core/json.h"
#include "core/log.h"
#include "core/path.h"
#include "vmm/qmp.h"

#define QMP_MAX  (256u << 10) /* the registers of 64 CPUs are the most it is asked for */
#define REST_MAX 256          /* reads */

static void say(struct qmp *q, const char *text)
{
	size_t len = strlen(text);

	if (RETRY_EINTR(write(q->fd, text, len)) != (ssize_t)len)
		log_warn("qemu: its monitor takes nothing: %s", strerror(errno));
}

static void say_event(struct qmp *q, struct json_object *o)
{
	const char *event = json_str(o, "event", NULL);
	const char *reason = json_str(json_obj(o, "data"), "reason", "");

	if (str_eq(event, "GUEST_PANICKED")) {
		q->ended = true;
		q->reason = VM_STOP_PANIC;
	} else if (str_eq(event, "SHUTDOWN") && !q->ended) {
		q->ended = true;
		q->reason = str_eq(reason, "guest-reset")   ? VM_STOP_RESET
			    : str_eq(reason, "guest-panic") ? VM_STOP_PANIC
							    : VM_STOP_POWEROFF;
	}
}

/* Of `info registers` the lines with the instruction pointers: "RIP=ffffffff810a2b3c RFL=…", or EIP. Of CPUs nobody has started yet
 * there is nothing to say. */
static void log_registers(const char *text)
{
	static const char unstarted[] = "IP=0000fff0";

	for (const char *at = text; (at = strstr(at, "IP=")) && at > text; at += 3)
		if (!str_prefix(at, unstarted))
			log_warn("qemu: a CPU was at %.*s", (int)strcspn(at, "\r\n") + 1, at - 1);
}

static void take_line(struct qmp *q, const char *line, size_t len)
{
	CLEANUP_JSON struct json_object *o = json_parse(line, len, NULL);

	if (!o)
		return;
	/* Events come only after the capabilities negotiation. */
	if (json_obj(o, "QMP"))
		say(q, "{\"execute\":\"qmp_capabilities\"}\n");
	if (str_eq(json_str(o, "id", NULL), "registers"))
		log_registers(json_str(o, "return", ""));
	say_event(q, o);
}

static void on_qmp(void *arg, int fd, uint32_t events)
{
	struct qmp *q = arg;
	char piece[4096], *nl;
	ssize_t n = RETRY_EINTR(read(fd, piece, sizeof(piece)));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || q->in.len + (size_t)n > QMP_MAX) {
		loop_source_free(STEAL(q->src));
		return;
	}
	buf_append(&q->in, piece, (size_t)n);
	while ((nl = memchr(q->in.data, '\n', q->in.len))) {
		size_t len = (size_t)(nl - q->in.data);

		take_line(q, q->in.data, len);
		buf_consume(&q->in, len + 1);
	}
}

int qmp_watch(struct qmp *q, struct loop *l, struct error **err)
{
	q->src = loop_add_fd(l, q->fd, EPOLLIN, on_qmp, q, err);
	return q->src ? 0 : -1;
}

void qmp_rest(struct qmp *q)
{
	for (unsigned i = 0; i < REST_MAX && q->src; i++)
		on_qmp(q, q->fd, EPOLLIN);
}

void qmp_free(struct qmp *q)
{
	loop_source_free(STEAL(q->src));
	base_close_fd(&q->fd);
	buf_free(&q->in);
}

void qmp_link_down(struct qmp *q, unsigned nic)
{
	char line[128];

	snprintf(line, sizeof(line),
		 "{\"execute\":\"set_link\",\"arguments\":{\"name\":\"n%u\",\"up\":false}}\n", nic);
	say(q, line);
}

void qmp_balloon(struct qmp *q, uint64_t bytes)
{
	char line[128];

	snprintf(line, sizeof(line), "{\"execute\":\"balloon\",\"arguments\":{\"value\":%llu}}\n",
		 (unsigned long long)bytes);
	say(q, line);
}

void qmp_reset(struct qmp *q)
{
	say(q, "{\"execute\":\"human-monitor-command\",\"id\":\"registers\",\"arguments\":"
	       "{\"command-line\":\"info registers -a\"}}\n"
	       "{\"execute\":\"stop\"}\n"
	       "{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"reset\"}}\n"
	       "{\"execute\":\"system_reset\"}\n"
	       "{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"shutdown\"}}\n"
	       "{\"execute\":\"cont\"}\n");
}
