/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.h - a FUSE server (linux/fuse.h, protocol 7.31 or what both speak) over files and directories of the host: what stands
 * behind the virtio-fs device (virtio 1.2 §5.11).
 *
 * It turns one request's bytes into one reply's bytes and knows nothing of queues, guests or processes. The root (node 1) is a
 * directory of the server's own, read-only, whose entries "0", "1", … are the shares.
 */
#ifndef VMM_FUSE_H
#define VMM_FUSE_H

#include "core/error.h"

#define FUSE_DATA_MAX (1u << 20)              /* bytes of a read or a write */
#define FUSE_MSG_MAX  (FUSE_DATA_MAX + 4096u) /* of a request or a reply, headers and all */
#define FUSE_SHARES   64

struct fuse_share {
	int fd; /* O_PATH, of a directory or a regular file; taken */
	bool readonly;
};

struct fuse_config {
	const struct fuse_share *shares;
	size_t nshares;
	/* The process is not root: what belongs to its user and group is shown as root's, all else as nobody's, and what the guest
	 * makes belongs to it. Otherwise owners are as they are, and what the guest makes belongs to who made it there. */
	bool squash;
};

struct fuse;

/*
 * fuse_new: opens what it needs of /proc now; nothing else is opened but below the shares. In the process that will serve (its
 * descriptors go by number), with the RLIMIT_NOFILE it will have, of which all but a few are used; sets its umask to 0. The shares'
 * descriptors are taken in any case. NULL with *err.
 *
 * As root the process wants, until the end: CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_CHOWN, CAP_FSETID, CAP_SETUID and CAP_SETGID. The guest's
 * mount must have default_permissions, as virtio-fs's has: who may do what is decided there.
 */
struct fuse *fuse_new(const struct fuse_config *cfg, struct error **err);
/* fuse_handle: answers one request of len bytes (copied from the guest: nobody changes it meanwhile) into reply, which has room for
 * max bytes. Returns the reply's length, 0 when the request has none (FORGET). Any thread, several at a time; a call may take as
 * long as the host's file system does. */
size_t fuse_handle(struct fuse *f, const void *req, size_t len, void *reply, size_t max);
void fuse_free(struct fuse *f);

#endif
