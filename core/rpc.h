/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc.h - framing and calls between the roles, and between the host and the guest's agent.
 *
 * DOC: Wire format
 * A frame is a 32-bit little-endian length (1 .. RPC_MAX_FRAME) followed by that many bytes of
 * JSON, one object. On Unix sockets, descriptors ride on the frame's first byte by SCM_RIGHTS, at
 * most RPC_MAX_FDS; such a frame says how many in a member "fds". The first frame each side sends is
 * its hello:
 *     {"hello": {"version": 1, "service": "container.apiserver", "release": "0.1.0"}}
 * A side that reads another major version, or anything but a hello first, closes the connection.
 * After it:
 *     {"id": 7, "method": "container.start", "params": {…}}       call
 *     {"id": 7, "result": {…}}                                    reply, or
 *     {"id": 7, "error": {"code": "notFound", "message": "…", "cause": {…}}}; with "status" (error.h)
 *                                                                  when there is one
 *     {"id": 7, "event": {…}}                                     progress of a call still running
 *     {"event": "exit", "params": {…}}                            notice, answers nothing
 * Both sides may call. Replies may come in any order. A frame that breaks the rules ends the
 * connection.
 *
 * Peers on Unix sockets are checked by SO_PEERCRED on accept: the effective uid must be ours or 0.
 *
 * DOC: Threads
 * A connection belongs to its loop's thread, or, when made by rpc_connect() with no loop, to the
 * thread that calls rpc_call().
 */
#ifndef CORE_RPC_H
#define CORE_RPC_H

#include "core/json.h"
#include "core/loop.h"

#define RPC_VERSION   1
#define RPC_MAX_FRAME (16u << 20)
#define RPC_MAX_FDS   250
#define RPC_MAX_CALLS 1024 /* calls outstanding from one peer */

struct rpc_conn;
struct rpc_req;

/* Descriptors that came with a frame. rpc_fds_take() hands one over; those not taken are closed by
 * the library when the callback that saw them returns (for a request: when it is answered). */
struct rpc_fds {
	int *fd;
	size_t n;
};
int rpc_fds_take(struct rpc_fds *fds, size_t i); /* -1 when there is no i-th, or it was taken */

typedef void (*rpc_method_fn)(void *ctx, struct rpc_req *req, struct json_object *params);

struct rpc_route {
	const char *method; /* "container.start"; a last entry "*" takes every other method */
	rpc_method_fn fn;
};

/* How a connection or a server answers and what it tells its owner. */
struct rpc_handler {
	const char *service;            /* for our hello */
	const struct rpc_route *routes; /* ends with {NULL, NULL}; NULL: every call is refused */
	void (*on_event)(void *ctx, struct rpc_conn *c, const char *event,
			 struct json_object *params);
	/* The connection is gone (peer closed, protocol error: e says which, may be NULL). c is
	 * freed after this returns. All pending calls have been failed before. */
	void (*on_close)(void *ctx, struct rpc_conn *c, const struct error *e);
	/* Server only: a peer was accepted and its hello is fine. */
	void (*on_open)(void *ctx, struct rpc_conn *c);
};

/* ---- serving ---- */
struct rpc_server;
/* rpc_socket_listen: binds and listens at dirfd/name (mode 0600), replacing a dead socket file;
 * paths of any length work. Returns the descriptor. */
int rpc_socket_listen(int dirfd, const char *name, struct error **err);
/* rpc_socket_remove: removes a socket file that nobody listens on; anything else stays. */
void rpc_socket_remove(int dirfd, const char *name);
/* rpc_server_new: serves a listening descriptor (owned from now on). h and ctx must outlive it. */
struct rpc_server *rpc_server_new(struct loop *l, int listen_fd, const struct rpc_handler *h,
				  void *ctx, struct error **err);
void rpc_server_free(struct rpc_server *s); /* closes all its connections too */
/* rpc_server_idle: nothing waits to be written on any of its connections. */
bool rpc_server_idle(const struct rpc_server *s);

const char *rpc_req_method(struct rpc_req *r);
struct rpc_fds *rpc_req_fds(struct rpc_req *r);
struct rpc_conn *rpc_req_conn(struct rpc_req *r);
/* rpc_req_on_cancel: fn(arg) when the peer vanishes before the answer. The request must still be
 * answered (the answer goes nowhere). */
void rpc_req_on_cancel(struct rpc_req *r, loop_fn fn, void *arg);
/* Each request is answered exactly once; the answer frees r. Takes ownership of result / e.
 * result NULL means {}. fds are duplicated into the message and stay the caller's. */
void rpc_reply(struct rpc_req *r, struct json_object *result);
void rpc_reply_fds(struct rpc_req *r, struct json_object *result, const int *fds, size_t nfds);
void rpc_reply_error(struct rpc_req *r, struct error *e);
/* rpc_progress: an event of this still running call. Takes ownership of ev. */
void rpc_progress(struct rpc_req *r, struct json_object *ev);

/* ---- connections ---- */
/* rpc_conn_new: speaks on a connected stream socket (owned from now on), on a loop. h may be NULL.
 */
struct rpc_conn *rpc_conn_new(struct loop *l, int fd, const struct rpc_handler *h, void *ctx);
void rpc_conn_free(struct rpc_conn *c); /* no on_close; pending calls are failed with cancelled */
bool rpc_conn_idle(struct rpc_conn *c); /* nothing waits to be written */
size_t rpc_conn_queued(const struct rpc_conn *c); /* bytes that wait */

/* Exactly one of result and e is set; both stay the library's (json_object_get() to keep result).
 */
typedef void (*rpc_reply_fn)(void *arg, struct json_object *result, struct rpc_fds *fds,
			     const struct error *e);
typedef void (*rpc_progress_fn)(void *arg, struct json_object *ev);

/* rpc_call_async: params is consumed (NULL means {}); fds are duplicated into the message. on_reply
 * is called exactly once, never before this returns. Both callbacks may be
 * NULL. */
void rpc_call_async(struct rpc_conn *c, const char *method, struct json_object *params,
		    const int *fds, size_t nfds, rpc_reply_fn on_reply, rpc_progress_fn on_progress,
		    void *arg);
/* rpc_notify: a notice that is not answered. params is consumed. */
void rpc_notify(struct rpc_conn *c, const char *event, struct json_object *params);

/* ---- blocking use (the CLI) ---- */
/* rpc_socket_connect: connects to dirfd/name or, with dirfd AT_FDCWD, to a path of any length. */
int rpc_socket_connect(int dirfd, const char *name, struct error **err);
/* rpc_socket_connect_now: the same without waiting, a non-blocking socket: errno EAGAIN in *err when the listener takes nobody now. */
int rpc_socket_connect_now(int dirfd, const char *name, struct error **err);
/* rpc_connect: a connection without a loop; exchanges hellos within timeout_ms. fd is owned. */
struct rpc_conn *rpc_connect(int fd, const char *service, int timeout_ms, struct error **err);
/* rpc_call: sends and waits. *result (may be NULL) is the caller's. reply_fds: up to *nreply
 * descriptors are stored and *nreply set; the rest are closed. timeout_ms < 0 waits for ever. A
 * remote error comes back as *err with its code and causes. */
int rpc_call(struct rpc_conn *c, const char *method, struct json_object *params, const int *fds,
	     size_t nfds, rpc_progress_fn on_progress, void *arg, int timeout_ms,
	     struct json_object **result, int *reply_fds, size_t *nreply, struct error **err);

/* Errors on the wire. */
struct json_object *rpc_error_to_json(const struct error *e);
struct error *rpc_error_from_json(struct json_object *o); /* never NULL */

#endif
