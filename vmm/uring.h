/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring.h - a small io_uring: reads and syncs of files named beforehand, nothing else.
 *
 * DOC: Theory of operation
 * A ring is a second door to the kernel that no system call filter watches: whoever may submit to an unrestricted one may
 * open files and connect sockets. So io_uring_setup() is not among the calls of a thread in the jail. The ring is made
 * before (10 to 20 us, three pages), with the files it is for and the operations it may do, and is left disabled; enabling
 * it seals both for ever (IORING_REGISTER_RESTRICTIONS). A worker enables and maps it when it first has a use for it.
 *
 * One thread uses a ring: the one that opened it.
 */
#ifndef VMM_URING_H
#define VMM_URING_H

#include <sys/uio.h>
#include "core/base.h"

enum uring_op { URING_READ, URING_DATASYNC };

struct uring;

/*
 * uring_new: a ring, still disabled, for up to `entries` (a power of two) operations at a time on the nfds files, which
 * are meant by their index from now on and stay open as long as the ring. Syncs only when `writable`. NULL
 * when the host has no io_uring, or refuses it: then do without. Any thread.
 */
struct uring *uring_new(unsigned entries, const int *fds, unsigned nfds, bool writable);
/* uring_open: maps and enables it; the calling thread is from now on the only one to use it. -1 with errno. */
int uring_open(struct uring *u);
/* uring_free: nothing may be in flight. NULL is fine. */
void uring_free(struct uring *u);
/* uring_fd: for poll: readable when completions wait. Borrowed. */
int uring_fd(const struct uring *u);

/* uring_prepare: queues an operation; iov (of a read) must live until its completion. False when there is no room. */
bool uring_prepare(struct uring *u, enum uring_op op, unsigned file, const struct iovec *iov,
		   unsigned n, uint64_t off, uint64_t tag);
/*
 * uring_enter: hands what was prepared to the kernel and waits for `wait` completions. Returns how many of the prepared
 * operations the kernel took, in their order; the others are still prepared. -1 with errno: it took none.
 */
int uring_enter(struct uring *u, unsigned wait);
/* uring_unprepare: forgets what the kernel did not take. */
void uring_unprepare(struct uring *u);
/* uring_next: a completion: its tag and result (bytes, or -errno). */
bool uring_next(struct uring *u, uint64_t *tag, int *res);

#endif
