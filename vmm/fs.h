/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.h - a machine's shared directories: who serves them, and the way there.
 *
 * DOC: Theory of operation
 * Guest memory and the host's files are never in one process. The runtime helper has the virtio-fs device (virtio_fs.c); it
 * copies a request out of the queue into a slot of memory that it shares with a child, and a reply out of the slot into the
 * queue. The child, the server (fs_server.c), has fuse.h behind it, sees the slots and the shares, and nothing else of guest
 * or host.
 *
 *   queue ─copy→ slot[i].request ─copy→ fuse_handle() → slot[i].reply ─copy→ queue
 *                      futex →                        ← done (eventfd)
 *
 * Each slot has a thread of the server's, which sleeps on the slot's state (futex(2): a wake-up never blocks who gives it, an
 * eventfd that the other side filled would); the device's worker has `done` in its epoll. A slot belongs to the helper until
 * it is posted, and to the server until it is answered. Neither side believes the other: each keeps what it needs to know of a
 * slot to itself, bounds what the other wrote there, and the server parses a copy of its own.
 * The last slot is the high-priority queue's, so that a FORGET waits for no file system that hangs.
 *
 * The server lives as long as its socket: its end of file ends it, whichever way the helper went. When the server goes, every
 * request is answered with EIO from then on; the container lives, and what it does in its shares fails.
 */
#ifndef VMM_FS_H
#define VMM_FS_H

#include "vmm/fuse.h"

#define FS_WORKERS 4
#define FS_SLOTS   (FS_WORKERS + 1)
#define FS_HIPRIO  FS_WORKERS /* the slot of the high-priority queue */

struct fs_channel {
	uint8_t *mem; /* the slots */
	int mem_fd;
	int done_fd; /* eventfd, never read */
	int sock; /* ours; end of file: the other side is gone. Messages of the server's are for the log. */
	int peer; /* the server's, until it is started */
};

/* ---- fs_channel.c ---- */

/* fs_channel_new: for the helper. Owned by the caller; NULL with *err. */
struct fs_channel *fs_channel_new(struct error **err);
/* fs_channel_attach: for the server, from inherited descriptors, which are the channel's from now on. */
struct fs_channel *fs_channel_attach(int mem_fd, int done_fd, struct error **err);
void fs_channel_free(struct fs_channel *ch); /* NULL is fine */

/* The device's; its worker, or when no worker runs. */
/* fs_request: where the request of a slot of ours goes: FUSE_MSG_MAX bytes. */
uint8_t *fs_request(struct fs_channel *ch, unsigned slot);
/* fs_post: len bytes are there; the answer has max bytes' room at most. The slot is the server's now. */
void fs_post(struct fs_channel *ch, unsigned slot, size_t len, size_t max);
/* fs_answered: whether a posted slot is ours again; then *reply (which the server may still change: copy it, and believe none of
 * it) has *len bytes, never more than FUSE_MSG_MAX. */
bool fs_answered(struct fs_channel *ch, unsigned slot, const uint8_t **reply, size_t *len);

/* The server's: as fuse_handle(). */
typedef size_t (*fs_handler)(void *arg, const void *req, size_t len, void *reply, size_t max);
/* fs_serve: answers a slot's requests for ever. Any thread, one for each slot. */
NORETURN void fs_serve(struct fs_channel *ch, unsigned slot, fs_handler fn, void *arg);

/* ---- fs_server.c ---- */

#define FS_SERVER_NAME "container-share-linux"

struct fs_path {
	const char *path; /* absolute, of a directory or a regular file */
	bool readonly;
};

struct fs_server_config {
	const struct fs_path *paths; /* FUSE_SHARES at most; number N is the root's entry "N" */
	size_t npaths;
	const char *place; /* an empty directory of ours, on which its root is made for a moment */
	bool debug;        /* a filter names what it refuses */
};

/* fs_server_start: starts the process and returns. It is a child of the caller, and nobody waits for it but fs_server_ready().
 * Before the helper's jail. */
int fs_server_start(struct fs_channel *ch, const struct fs_server_config *cfg, struct error **err);
/* fs_server_ready: waits until it serves from within its jail; an error that names the path when one cannot be opened. *what says
 * how it is confined, the caller's. ch->sock does not block afterwards. */
int fs_server_ready(struct fs_channel *ch, char **what, struct error **err);
/* fs_server_main: the role: argv as fs_server_start() makes it. */
int fs_server_main(int argc, char **argv);

#endif
