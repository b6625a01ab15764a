/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.c - the guest's side of the control connection: the frames of core/rpc.h (a little-endian length,
 * then one JSON object), hello first both ways, no descriptors.
 *
 * The host is trusted with the guest's life, but its frames are checked all the same: a broken one ends the
 * connection, as the protocol says, and with it the machine.
 */
#include <sys/socket.h>

#include "vmm/guest/guest.h"

#define WIRE_VERSION   1
#define WIRE_MAX_FRAME (16u << 20)
#define WIRE_CHUNK     16384

static void wire_fail(struct wire *w)
{
	if (w->closed)
		return;
	wire_close(w);
	if (w->on_close)
		w->on_close(w);
}

static void wire_flush(struct wire *w)
{
	while (w->connected && !w->closed && w->out.len) {
		ssize_t n = send(w->fd, w->out.data, w->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			wire_fail(w);
			return;
		}
		buf_consume(&w->out, (size_t)n);
	}
	if (!w->closed)
		ev_mod(&w->ev, EPOLLIN | (w->out.len || !w->connected ? EPOLLOUT : 0));
}

static void wire_send(struct wire *w, struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	size_t n = strlen(text);
	uint8_t head[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};

	if (!w->closed && n <= WIRE_MAX_FRAME) {
		buf_append(&w->out, head, sizeof(head));
		buf_append(&w->out, text, n);
		wire_flush(w);
	}
	json_object_put(o);
}

void wire_notify(struct wire *w, const char *event, struct json_object *params)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "event", event);
	json_set(o, "params", params ? params : json_object_new_object());
	wire_send(w, o);
}

void wire_reply(struct wire *w, int64_t id, struct json_object *result)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "id", id);
	json_set(o, "result", result ? result : json_object_new_object());
	wire_send(w, o);
}

static struct json_object *error_json(const struct error *e)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "code", error_code_name(e->code));
	json_set_str(o, "message", e->msg);
	if (e->cause)
		json_set(o, "cause", error_json(e->cause));
	return o;
}

void wire_reply_error(struct wire *w, int64_t id, const struct error *e)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "id", id);
	json_set(o, "error", error_json(e));
	wire_send(w, o);
}

/* One frame; -1 when it breaks the rules. */
static int wire_frame(struct wire *w, const char *p, size_t n)
{
	CLEANUP_JSON struct json_object *o = json_parse(p, n, NULL);
	struct json_object *hello, *params;
	const char *method;

	if (!o || !json_object_is_type(o, json_type_object))
		return -1;
	hello = json_obj(o, "hello");
	if (!w->greeted) {
		if (!hello || json_int(hello, "version", 0) != WIRE_VERSION)
			return -1;
		w->greeted = true;
		return 0;
	}
	method = json_str(o, "method", NULL);
	if (!method)
		return json_get(o, "event") ? 0 : -1; /* we make no calls, so no reply is due */
	if (!json_object_is_type(json_get(o, "id"), json_type_int))
		return -1;
	params = json_obj(o, "params");
	w->on_call(w, json_int(o, "id", 0), method, params);
	return 0;
}

static void wire_parse(struct wire *w)
{
	size_t used = 0;

	while (!w->closed && w->in.len - used >= 4) {
		const uint8_t *h = (const uint8_t *)w->in.data + used;
		uint32_t n = h[0] | h[1] << 8 | h[2] << 16 | (uint32_t)h[3] << 24;

		if (!n || n > WIRE_MAX_FRAME) {
			wire_fail(w);
			return;
		}
		if (w->in.len - used - 4 < n)
			break;
		used += 4;
		if (wire_frame(w, w->in.data + used, n)) {
			wire_fail(w);
			return;
		}
		used += n;
	}
	if (!w->closed)
		buf_consume(&w->in, used);
}

static void wire_event(struct ev *ev, uint32_t events)
{
	struct wire *w = container_of(ev, struct wire, ev);
	ssize_t n;

	if (!w->connected && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		socklen_t len = sizeof(int);
		int e = 0;

		if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &e, &len) || e) {
			guest_log("control connection: %s", strerror(e ? e : errno));
			wire_fail(w);
			return;
		}
		w->connected = true;
	}
	if (events & EPOLLOUT)
		wire_flush(w);
	if (w->closed || !(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	buf_reserve(&w->in, WIRE_CHUNK);
	n = recv(w->fd, w->in.data + w->in.len, WIRE_CHUNK, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		wire_fail(w);
		return;
	}
	w->in.len += (size_t)n;
	wire_parse(w);
}

int wire_open(struct wire *w, int fd, struct error **err)
{
	struct json_object *o = json_object_new_object(), *h = json_object_new_object();

	w->fd = fd;
	if (ev_add(&w->ev, fd, EPOLLIN | EPOLLOUT, wire_event, err)) {
		close(fd);
		json_object_put(o);
		json_object_put(h);
		w->closed = true;
		return -1;
	}
	json_set_int(h, "version", WIRE_VERSION);
	json_set_str(h, "service", "container.agent");
	json_set_str(h, "release", "1");
	json_set(o, "hello", h);
	wire_send(w, o);
	return 0;
}

void wire_shutdown(struct wire *w)
{
	if (!w->closed && !w->out.len)
		shutdown(w->fd, SHUT_WR);
}

void wire_close(struct wire *w)
{
	if (w->closed)
		return;
	w->closed = true;
	ev_del(&w->ev);
	close(w->fd);
	buf_free(&w->out);
	/* in stays: a caller further up the stack may be reading a frame in it */
}
