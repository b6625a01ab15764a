/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail.h - how the process that serves a machine gives up what it no longer needs.
 *
 * DOC: Theory of operation
 * The guest is hostile from its first instruction, so all of this happens before it: everything the machine will ever
 * need is open by then, as descriptors. In order, because each stage needs what a later one takes away:
 *
 *   jail_audit()    first thing in the process: of what was inherited, only what is meant to be there stays
 *   jail_prepare()  resource limits, no_new_privs, namespaces of its own for network, IPC and host name; a child started
 *                   after it (the qemu engine's) shares them. Needs to be the only thread.
 *   jail_child()    in that child, before it becomes another program: a root with that program's files only, read-only; the
 *                   user id and capabilities as below. Dumpable it is again when it is executed: its /proc belongs to its own
 *                   user id, which only this process has besides, and neither can trace (filters).
 *   jail_enter()    after the child: an empty read-only root file system, an own user id, no capabilities, not dumpable.
 *                   Needs to be the only thread still: threads made later inherit it all.
 *   filter_thread() each thread; the helper's main thread last (core/filter.h)
 *
 * Taps, disks, logs and sockets go on working: they are open. Nothing can be opened any more; what has to be written at
 * the end (exit.json) is written through a descriptor from before. A descriptor of a directory would be a way out of the
 * empty root, so none may be left: jail_enter() looks.
 *
 * Every container has a user id of its own: JAIL_UID_BASE plus the helper's pid, which nobody else has while it lives.
 * That range is given out by nobody (systemd's "UIDS-GIDS" leaves 1879048192 and up alone), and nothing on disk is ever
 * owned by it but the sockets of a run directory.
 *
 * Where the host refuses a stage (no root and no user namespaces; inside another container) the rest is done all the
 * same and the log says what is missing. Only a directory left open is an error: that would be our own bug.
 */
#ifndef VMM_JAIL_H
#define VMM_JAIL_H

#include <sys/types.h>
#include "core/error.h"

#define JAIL_UID_BASE 0x70000000u /* 1879048192; pids are below 2^22 */
#define JAIL_NOFILE   4096
#define JAIL_NPROC    512 /* threads of one uid: ours and QEMU's */

/* Stages that were done, for the log and for tests. */
enum jail_stage {
	JAIL_LIMITS = 1 << 0,
	JAIL_NO_NEW_PRIVS = 1 << 1,
	JAIL_NAMESPACES = 1 << 2, /* network, IPC, host name */
	JAIL_ROOT = 1 << 3,       /* the empty root file system */
	JAIL_UID = 1 << 4,
	JAIL_CAPABILITIES = 1 << 5,
	JAIL_NOT_DUMPABLE = 1 << 6,
	JAIL_ALL = (1 << 7) - 1,
};

/* jail_audit: closes every descriptor that is not in allowed[0..n). Returns how many others there were. */
unsigned jail_audit(const int *allowed, size_t n);

/* jail_uid: the user (and group) id this process would get; 0 when it is not root or its user namespace lacks that id,
 * and it stays who it is. */
uid_t jail_uid(void);

/* jail_prepare, jail_enter: return the stages done (enum jail_stage), or -1. uid: jail_uid()'s. place:
 * an empty directory of ours on which the new root is made for a moment. */
int jail_prepare(uid_t uid);
int jail_enter(uid_t uid, const char *place, struct error **err);

/*
 * The jail of a process that serves files of the host: every stage but the own user id, which would be the wrong one for them.
 *
 *   jail_files_prepare()  as jail_prepare(), with a mount namespace too, and as many descriptors as the host allows
 *   jail_share()          a piece of the tree there, cut off: what is opened from its descriptor can lead nowhere else, whatever
 *                         ".." or link is tried, and no device node in it can be opened. Mounts below it come along as they
 *                         are now. Where the host refuses that, the plain directory. -1 with *err, which names the path.
 *   jail_files_enter()    the empty root, where only /proc/self/fd is for now, cut off as well: who needs it opens it
 *   jail_files_drop()     that goes too, and the capabilities but `keep` (1 << number); not dumpable. Both need to be the only
 *                         thread.
 *
 * Return the stages done, or -1.
 */
int jail_files_prepare(void);
int jail_share(const char *path, bool readonly, struct error **err);
int jail_files_enter(const char *place);
int jail_files_drop(uint64_t keep);

/* What a child sees of the host's files: each at its path, directories with all below. sealed: a regular file's descriptor, as the
 * child has it (0: none), that it is to read alone. It could open /proc/self/fd/N anew, and for writing where the file is its user's: so the
 * descriptor is made one of a read-only mount. A file that lost its name stays as it is. */
struct jail_tree {
	int sealed;
	const char *place; /* as jail_enter()'s; borrowed */
	struct jail_path {
		char *path, *link; /* link: what the symbolic link at path says; NULL: it is none */
		bool dir;
	} * v;
	size_t n;
};

/* jail_tree_add: one file, directory or symbolic link more, the link itself; nothing where there is none, or where what is above
 * it is in the tree already. */
void jail_tree_add(struct jail_tree *t, const char *path);
void jail_tree_free(struct jail_tree *t);

/* jail_child: what a child does between fork and exec: a root of that tree and its own /proc/self, nothing else; no
 * capabilities, uid when it is not 0. System calls only. Where the host refuses the tree it stays with the whole one, and says so on
 * its standard error. 0 or -1 with errno. */
int jail_child(uid_t uid, const struct jail_tree *t);

#endif
