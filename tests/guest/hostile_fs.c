/* SPDX-License-Identifier: Apache-2.0 */
/* hostile_fs.c - shared directories: what their device is for, and what no driver should ask of it. Its server is the test's (GUEST_FS_*). */
#include "tests/guest/driver.h"

#define HIPRIO   0
#define REQUESTS 1
#define HDR      40 /* struct fuse_in_header */
#define OUT      16 /* struct fuse_out_header */
#define EIO      5
#define EINVAL   22
#define BODY     24
#define ROOM     256
#define UNIQUE   1000
#define A_LOOK   50u /* looks at a register, for what shall not come */

#define REQUEST(n) (DATA + 0x1000ull * (n))
#define ANSWER(n)  (DATA + 0x100000ull + 0x1000ull * (n))
#define LARGE      (DATA + 0x200000ull)
#define LARGE_TOO  (DATA + 0x600000ull)

static int gone; /* the server */

static uint8_t body(unsigned i)
{
	return (uint8_t)(i * 7 + 1);
}

/* Request n has descriptors 2n and 2n + 1. */
static void ask(struct dev *d, unsigned q, unsigned n, uint32_t opcode, uint32_t len, uint32_t room)
{
	uint64_t at = REQUEST(n);
	unsigned i;

	fill(at, 0, HDR);
	put32(at, len);
	put32(at + 4, opcode);
	put64(at + 8, UNIQUE + n);
	for (i = 0; i < BODY; i++)
		put8(at + HDR + i, body(i));
	fill(ANSWER(n), 0xee, ROOM + 8);
	put_desc(RING(q), 2 * n, at, len, room ? NEXT : 0, (uint16_t)(2 * n + 1));
	put_desc(RING(q), 2 * n + 1, ANSWER(n), room, WRITE, 0);
	offer(d, q, (uint16_t)(2 * n));
}

/* The next answer on a queue, whose server is a process that has to get its turn: its request, or -1. */
static int answer(struct dev *d, unsigned q, uint32_t *len)
{
	unsigned at = d->used[q] % SIZE, i;
	int how = TIMEOUT;

	for (i = 0; i < 10 && how == TIMEOUT; i++)
		how = wait(d, q, len);
	return how == USED_ONE ? (int)get32(USED(q) + 4 + 8 * at) / 2 : -1;
}

/* Is it to request n, so long, and with this error? */
static int answered(struct dev *d, unsigned q, unsigned n, uint32_t want, int error)
{
	uint32_t len = 0;

	if (answer(d, q, &len) != (int)n || len != want)
		return 0;
	return want < OUT ||
	       (get64(ANSWER(n) + 8) == UNIQUE + n && get32(ANSWER(n) + 4) == (uint32_t)-error);
}

static int none(struct dev *d, unsigned q)
{
	unsigned i;

	for (i = 0; i < A_LOOK; i++)
		if (get16(USED(q) + 2) != d->used[q] || reg(d, R_STATUS) & S_RESET)
			return 0;
	return 1;
}

/* A request that behaves, and its answer. */
static int echo(struct dev *d, unsigned q, unsigned n)
{
	unsigned i;

	ask(d, q, n, GUEST_FS_ECHO, HDR + BODY, ROOM);
	if (gone)
		return answered(d, q, n, OUT, EIO);
	if (!answered(d, q, n, OUT + BODY, 0) || get8(ANSWER(n) + OUT + BODY) != 0xee)
		return 0;
	for (i = 0; i < BODY; i++)
		if (get8(ANSWER(n) + OUT + i) != body(i))
			return 0;
	return 1;
}

int fs_works(struct dev *d)
{
	return echo(d, REQUESTS, 0) && echo(d, HIPRIO, 1);
}

static int recovers(struct dev *d)
{
	return start(d) && fs_works(d);
}

/* Every worker of the server's has a request and answers none. */
static int all_hang(struct dev *d)
{
	unsigned n;

	for (n = 0; n < GUEST_FS_WORKERS; n++)
		ask(d, REQUESTS, n, GUEST_FS_HANG, HDR, ROOM);
	ask(d, HIPRIO, 7, GUEST_FS_HUNG, HDR, ROOM);
	return answered(d, HIPRIO, 7, OUT, 0);
}

static int let_go(struct dev *d)
{
	ask(d, HIPRIO, 7, GUEST_FS_GO, HDR, ROOM);
	return answered(d, HIPRIO, 7, OUT, 0);
}

/* So many answers, one to each request from 0 on, with this error. */
static int all_answered(struct dev *d, unsigned count, int error)
{
	unsigned seen = 0, i;
	uint32_t len = 0;
	int n;

	for (i = 0; i < count; i++) {
		n = answer(d, REQUESTS, &len);
		if (n < 0 || len < OUT || get64(ANSWER(n) + 8) != UNIQUE + (unsigned)n ||
		    get32(ANSWER(n) + 4) != (uint32_t)-error)
			return 0;
		seen |= 1u << n;
	}
	return seen == (1u << count) - 1 && none(d, REQUESTS);
}

/* ---- A: resets ---- */

/* It does not wait for the server, whose answers then go nowhere; its slots are of use again. */
static void class_A_reset(struct dev *d)
{
	unsigned round, n;
	int good = 1;

	for (round = 0; round < 3 && good; round++) {
		good = start(d) && all_hang(d);
		reset(d);
		good &= reg(d, R_STATUS) == 0 && start(d);
		ask(d, REQUESTS, 5, GUEST_FS_ECHO, HDR, ROOM);
		good &= none(d, REQUESTS) && let_go(d);
		good &= answered(d, REQUESTS, 5, OUT, 0) && none(d, REQUESTS);
		for (n = 0; n < GUEST_FS_WORKERS; n++)
			good &= get8(ANSWER(n)) == 0xee;
	}
	result(good && fs_works(d) && recovers(d), "A", d, "reset with requests in flight");
	good = start(d) && all_hang(d);
	for (n = 0; n < 30; n++) {
		good &= start(d);
		ask(d, n & 1, 6, GUEST_FS_ECHO, HDR, ROOM);
	}
	good &= start(d) && let_go(d);
	result(good && recovers(d), "A", d, "storm of resets while the server hangs");
}

/* ---- B: requests ---- */

static void class_B_short(struct dev *d)
{
	uint32_t len = 0;
	int good = start(d);

	ask(d, REQUESTS, 0, GUEST_FS_ECHO, HDR - 1, ROOM);
	result(good && answered(d, REQUESTS, 0, OUT, EINVAL) && fs_works(d), "B", d,
	       "header that is not whole");
	put_desc(RING(REQUESTS), 0, ANSWER(0), ROOM, WRITE, 0);
	offer(d, REQUESTS, 0);
	good = answer(d, REQUESTS, &len) == 0 && len == OUT;
	result(good && fs_works(d), "B", d, "nothing asked");
	ask(d, REQUESTS, 0, GUEST_FS_ECHO, HDR, 0);
	good = answered(d, REQUESTS, 0, 0, 0);
	ask(d, HIPRIO, 1, GUEST_FS_ECHO, HDR - 1, 0);
	good &= answered(d, HIPRIO, 1, 0, 0);
	result(good && fs_works(d), "B", d, "no room for an answer");
	ask(d, REQUESTS, 0, GUEST_FS_ECHO, HDR + BODY, OUT - 1);
	good = answered(d, REQUESTS, 0, OUT - 1, 0);
	result(good && get8(ANSWER(0) + OUT - 1) == 0xee && fs_works(d), "B", d,
	       "answer longer than its room");
}

static void class_B_long(struct dev *d)
{
	const uint32_t max = GUEST_FS_MAX;
	int good = start(d);

	fill(LARGE, 0, HDR);
	put32(LARGE + 4, GUEST_FS_ECHO);
	put64(LARGE + 8, UNIQUE);
	put64(LARGE + max - 8, 0x1122334455667788);
	put64(LARGE_TOO + max - HDR + OUT, 0x5a);
	put_desc(RING(REQUESTS), 0, LARGE, max, NEXT, 1);
	put_desc(RING(REQUESTS), 1, LARGE_TOO, max, WRITE, 0);
	offer(d, REQUESTS, 0);
	good &= answer(d, REQUESTS, &(uint32_t){0}) == 0;
	good &= get64(LARGE_TOO + max - HDR + OUT - 8) == 0x1122334455667788;
	result(good && get8(LARGE_TOO + max - HDR + OUT) == 0x5a, "B", d,
	       "request as long as a message");
	put_desc(RING(REQUESTS), 0, LARGE, max + 1, NEXT, 1);
	put_desc(RING(REQUESTS), 1, ANSWER(0), ROOM, WRITE, 0);
	offer(d, REQUESTS, 0);
	good = answered(d, REQUESTS, 0, OUT, EINVAL);
	result(good && fs_works(d), "B", d, "request longer than a message");
	put_desc(RING(REQUESTS), 0, LARGE, RAM_END - LARGE, NEXT, 2);
	put_desc(RING(REQUESTS), 2, 0x100000, RAM_END - 0x100000, NEXT, 3);
	put_desc(RING(REQUESTS), 3, 0x100000, RAM_END - 0x100000, NEXT, 1);
	offer(d, REQUESTS, 0);
	good = answered(d, REQUESTS, 0, OUT, EINVAL);
	result(good && fs_works(d), "B", d, "request longer than memory");
}

static void class_B_many(struct dev *d)
{
	unsigned n;
	int good = start(d);

	for (n = 0; n < SIZE / 2; n++)
		ask(d, REQUESTS, n, GUEST_FS_ECHO, HDR + n, ROOM);
	result(good && all_answered(d, SIZE / 2, 0) && fs_works(d), "B", d,
	       "more requests than are served");
	good = start(d) && all_hang(d);
	for (n = 0; n < 20; n++)
		good &= echo(d, HIPRIO, 6);
	good &= none(d, REQUESTS) && let_go(d);
	result(good && all_answered(d, GUEST_FS_WORKERS, 0) && fs_works(d), "B", d,
	       "the other queue while the server hangs");
}

void class_fs(struct dev *d)
{
	static const char tag[] = "container";
	unsigned i;
	int good = start(d);

	for (i = 0; i < 36; i++)
		good &= get8(d->base + R_CONFIG + i) == (i < sizeof(tag) ? (uint8_t)tag[i] : 0);
	good &= get32(d->base + R_CONFIG + 36) == 1;
	result(good, "A", d, "configuration");
	class_A_reset(d);
	class_B_short(d);
	class_B_long(d);
	class_B_many(d);
}

/* ---- N: the server ---- */

void fs_server_goes(struct dev *d)
{
	int good = start(d) && all_hang(d);

	ask(d, HIPRIO, 7, GUEST_FS_END, HDR, ROOM);
	gone = 1;
	good &= answered(d, HIPRIO, 7, OUT, EIO);
	good &= all_answered(d, GUEST_FS_WORKERS, EIO);
	result(good, "N", d, "requests of a server that goes");
	result(fs_works(d), "N", d, "requests to a server that has gone");
	result(recovers(d) && recovers(d), "N", d, "reset without a server");
}
