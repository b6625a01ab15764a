/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rpc_int.h - what the files of the RPC layer share: frame.c moves bytes and descriptors, rpc.c
 * gives frames their meaning, rpc_server.c accepts, rpc_socket.c names sockets, rpc_call.c blocks.
 *
 * A connection is counted: its owner holds one reference, each request not yet answered one, and
 * each dispatch one while it runs. A failure never calls back from below the caller: it marks the
 * connection broken and finishes it at the end of the loop's turn.
 */
#ifndef CORE_RPC_INT_H
#define CORE_RPC_INT_H

#include "core/rpc.h"
#include "core/str.h"

#define RPC_MAX_QUEUED (64u << 20) /* bytes that wait for a peer that does not read */
#define RPC_HELLO_MS   10000
#define RPC_READ_CHUNK (64u << 10)

struct out_frame {
	struct out_frame *next;
	char *data;
	size_t len, off;
	int *fds;
	size_t nfds;
};

/* A call of ours that was not answered yet, or, abandoned, whose answer nobody wants. */
struct call {
	struct call *next;
	int64_t id;
	bool abandoned;
	rpc_reply_fn on_reply;
	rpc_progress_fn on_progress;
	void *arg, *progress_arg; /* the same but for blocking calls */
};

struct rpc_req {
	struct rpc_req *next, **pprev; /* in the connection's list */
	struct rpc_conn *c;            /* a reference */
	int64_t id;
	char *method;
	struct json_object *params;
	struct rpc_fds fds;
	loop_fn cancel;
	void *cancel_arg;
};

struct rpc_conn {
	unsigned refs;
	struct loop *l; /* NULL: blocking */
	int fd;
	struct loop_source *src, *hello_timer;
	bool watch_out;
	const struct rpc_handler *h; /* NULL once freed by its owner */
	void *ctx;
	struct rpc_server *server;
	struct rpc_conn *next, **pprev; /* in the server's list */

	bool hello_seen;
	bool broken;   /* no more I/O; `why` says why */
	bool finished; /* the owner was told */
	bool freed;    /* the owner has let go */
	struct error *why;

	struct buf in;
	size_t in_off; /* frames before it are done */
	int *in_fds;   /* arrived, not yet claimed by a frame */
	size_t n_in_fds;

	struct out_frame *out, **out_tail;
	size_t queued;

	int64_t next_id;
	struct call *calls;
	struct rpc_req *reqs;
	size_t nreqs;
};

/* frame.c */
/* frame_send: queues one object (borrowed) with copies of fds and writes what goes at once. -1 with
 * *err when the frame is too large or descriptors cannot be copied; a broken connection swallows
 * it. */
int frame_send(struct rpc_conn *c, struct json_object *o, const int *fds, size_t nfds,
	       struct error **err);
void frame_flush(struct rpc_conn *c);
/* frame_receive: reads once. 1: something came, 0: nothing now, -1: the connection is broken
 * (conn_break was called). */
int frame_receive(struct rpc_conn *c);
/* frame_next: the next whole frame, NULL when there is none yet or the connection broke. *fds:
 * descriptors the frame claims, owned by the caller. */
struct json_object *frame_next(struct rpc_conn *c, struct rpc_fds *fds);
void frame_drop_all(struct rpc_conn *c);
void fds_close(struct rpc_fds *fds);

/* rpc.c */
struct rpc_conn *conn_new(struct loop *l, int fd, const struct rpc_handler *h, void *ctx);
void conn_ref(struct rpc_conn *c);
void conn_unref(struct rpc_conn *c);
void conn_break(struct rpc_conn *c, struct error *why); /* takes why, which may be NULL */
void conn_dispatch(struct rpc_conn *c);                 /* handles the frames that are there */
void conn_fail_calls(struct rpc_conn *c);
void conn_send_hello(struct rpc_conn *c, const char *service);
void conn_watch(struct rpc_conn *c);
struct call *conn_call(struct rpc_conn *c, const char *method, struct json_object *params,
		       const int *fds, size_t nfds, rpc_reply_fn on_reply,
		       rpc_progress_fn on_progress, void *arg, struct error **err);

/* rpc_server.c */
void server_conn_open(struct rpc_conn *c); /* its hello was fine */
void server_conn_gone(struct rpc_conn *c);

#endif
