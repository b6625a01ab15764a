/* SPDX-License-Identifier: Apache-2.0 */
/* uring.c - io_uring by its bare system calls. The kernel is trusted: what it writes into the rings is believed. */
#include <linux/io_uring.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/filter.h"
#include "core/log.h"
#include "vmm/uring.h"

FILTER_RULES = {
	FILTER_ALLOW_ARG(FILTER_BLK, io_uring_enter, 3, ~0u, IORING_ENTER_GETEVENTS),
	FILTER_ALLOW_ARG(FILTER_BLK, io_uring_register, 1, ~0u, IORING_REGISTER_ENABLE_RINGS),
};

/* Of Linux 5.19 and 6.0; headers may be older. (With DEFER_TASKRUN of 6.1 nothing would tell epoll of a completion.) */
#define SETUP_COOP_TASKRUN  (1u << 8)
#define SETUP_SINGLE_ISSUER (1u << 12)

struct uring {
	int fd;
	struct io_uring_params p;
	/* NULL until opened. One mapping holds both rings (IORING_FEAT_SINGLE_MMAP). */
	uint8_t *rings;
	size_t rings_size;
	struct io_uring_sqe *sqes;
	uint32_t tail, taken; /* of the submission ring: what we put, what the kernel took */
};

static int sys_register(int fd, unsigned op, const void *arg, unsigned n)
{
	return (int)syscall(SYS_io_uring_register, fd, op, arg, n);
}

static int setup(unsigned entries, struct io_uring_params *p)
{
	static const uint32_t flags[] = {SETUP_SINGLE_ISSUER | SETUP_COOP_TASKRUN, 0};
	int fd = -1;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags) && fd < 0; i++) {
		*p = (struct io_uring_params){.flags = IORING_SETUP_R_DISABLED | flags[i]};
		fd = (int)syscall(SYS_io_uring_setup, entries, p);
		if (fd < 0 && errno != EINVAL)
			break;
	}
	return fd;
}

/* Only these operations, and only on registered files. */
static int restrict_to(int fd, bool writable)
{
	struct io_uring_restriction r[] = {
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	};

	return sys_register(fd, IORING_REGISTER_RESTRICTIONS, r, writable ? 4 : 3);
}

struct uring *uring_new(unsigned entries, const int *fds, unsigned nfds, bool writable)
{
	const uint32_t need = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
	struct io_uring_params p;
	CLEANUP_CLOSE int fd = setup(entries, &p);
	struct uring *u;

	if (fd < 0 || (p.features & need) != need || restrict_to(fd, writable) < 0 ||
	    sys_register(fd, IORING_REGISTER_FILES, fds, nfds) < 0) {
		static bool said; /* for one queue of all: they have the host in common */

		if (!said)
			log_info("io_uring: %s; disks do without", strerror(errno));
		said = true;
		return NULL;
	}
	u = xcalloc(1, sizeof(*u));
	*u = (struct uring){.fd = steal_fd(&fd), .p = p};
	return u;
}

int uring_open(struct uring *u)
{
	const struct io_uring_params *p = &u->p;
	size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
	size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	uint32_t *array, i;
	void *at;

	u->rings_size = MAX(sq, cq);
	at = mmap(NULL, u->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd,
		  IORING_OFF_SQ_RING);
	if (at == MAP_FAILED)
		return -1;
	u->rings = at;
	at = mmap(NULL, p->sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		  MAP_SHARED, u->fd, IORING_OFF_SQES);
	if (at == MAP_FAILED)
		return -1;
	u->sqes = at;
	/* Entry n of the ring is always element n of the array. */
	array = (uint32_t *)(u->rings + p->sq_off.array);
	for (i = 0; i < p->sq_entries; i++)
		array[i] = i;
	return sys_register(u->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

void uring_free(struct uring *u)
{
	if (!u)
		return;
	if (u->sqes)
		munmap(u->sqes, u->p.sq_entries * sizeof(struct io_uring_sqe));
	if (u->rings)
		munmap(u->rings, u->rings_size);
	close(u->fd);
	free(u);
}

int uring_fd(const struct uring *u)
{
	return u->fd;
}

static uint32_t *ring_at(const struct uring *u, uint32_t off)
{
	return (uint32_t *)(u->rings + off);
}

bool uring_prepare(struct uring *u, enum uring_op op, unsigned file, const struct iovec *iov,
		   unsigned n, uint64_t off, uint64_t tag)
{
	static const uint8_t code[] = {
		[URING_READ] = IORING_OP_READV, [URING_DATASYNC] = IORING_OP_FSYNC};

	if (u->tail - u->taken == u->p.sq_entries)
		return false;
	u->sqes[u->tail++ & (u->p.sq_entries - 1)] = (struct io_uring_sqe){
		.opcode = code[op],
		.flags = IOSQE_FIXED_FILE,
		.fd = (int)file,
		.off = off,
		.addr = (uintptr_t)iov,
		.len = n,
		.fsync_flags = op == URING_DATASYNC ? IORING_FSYNC_DATASYNC : 0,
		.user_data = tag,
	};
	return true;
}

int uring_enter(struct uring *u, unsigned wait)
{
	uint32_t before = u->taken;
	long rc;

	__atomic_store_n(ring_at(u, u->p.sq_off.tail), u->tail, __ATOMIC_RELEASE);
	rc = RETRY_EINTR(syscall(SYS_io_uring_enter, u->fd, u->tail - u->taken, wait,
				 IORING_ENTER_GETEVENTS, NULL, 0));
	/* The call may fail in its second half, behind the submissions. */
	u->taken = __atomic_load_n(ring_at(u, u->p.sq_off.head), __ATOMIC_ACQUIRE);
	if (rc < 0 && u->taken == before)
		return -1;
	return (int)(u->taken - before);
}

void uring_unprepare(struct uring *u)
{
	u->tail = u->taken;
	__atomic_store_n(ring_at(u, u->p.sq_off.tail), u->tail, __ATOMIC_RELEASE);
}

bool uring_next(struct uring *u, uint64_t *tag, int *res)
{
	const struct io_uring_cqe *cqes =
		(const struct io_uring_cqe *)(u->rings + u->p.cq_off.cqes);
	uint32_t *headp = ring_at(u, u->p.cq_off.head), head = *headp;
	const struct io_uring_cqe *c = &cqes[head & (u->p.cq_entries - 1)];

	if (head == __atomic_load_n(ring_at(u, u->p.cq_off.tail), __ATOMIC_ACQUIRE))
		return false;
	*tag = c->user_data;
	*res = c->res;
	__atomic_store_n(headp, head + 1, __ATOMIC_RELEASE);
	return true;
}
