/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - who may hold how much at once, so that the process stays below 64 MiB whatever it is asked to unpack.
 *
 * DOC: Shares
 * An unpacker needs 2 MiB, its zstd window comes on top; a merge needs up to 24 MiB (merge.c). So there are places for a few unpackers, a
 * sum that small windows share, and one place for what is big: a merge, or a window that has the small ones' share too. Those who find
 * no room wait. Nobody can wait for each other: an unpacker that waits for its window has a place that no window waits for, and whoever
 * has a window or the big place waits for nothing but its input.
 * That input may be a slow network, so a big window is only given to a blob that has been fetched.
 */
#include "oci/store.h"

#define UNPACKERS 4
#define WINDOWS   (16ull << 20) /* together */

static bool has_room(const struct memory *m, enum memory_use use, uint64_t n)
{
	switch (use) {
	case MEMORY_UNPACK:
		return m->unpackers < UNPACKERS;
	case MEMORY_WINDOW:
		return !m->alone && !m->wants_alone && m->windows + n <= WINDOWS;
	case MEMORY_MERGE:
		return !m->big;
	case MEMORY_WINDOW_ALONE:
		return !m->big && !m->windows;
	}
	return false;
}

/* more: 1 to take, -1 to give back. */
static void account(struct memory *m, enum memory_use use, uint64_t n, int more)
{
	switch (use) {
	case MEMORY_UNPACK:
		m->unpackers += (unsigned)more;
		break;
	case MEMORY_WINDOW:
		m->windows += more > 0 ? n : -n;
		break;
	case MEMORY_WINDOW_ALONE:
		m->alone = more > 0;
		m->big = more > 0;
		break;
	case MEMORY_MERGE:
		m->big = more > 0;
		break;
	}
}

int memory_take(struct oci_op *op, enum memory_use use, uint64_t n, struct feed *feed,
		struct error **err)
{
	struct oci_store *s = op->s;
	bool alone = use == MEMORY_WINDOW_ALONE;
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	s->memory.wants_alone += alone;
	while (!has_room(&s->memory, use, n) && rc == 0) {
		rc = op_wait(op, err);
		if (rc == 0 && feed && feed_lost(feed))
			rc = error_set(err, ERR_INTERNAL, "the transfer failed");
	}
	s->memory.wants_alone -= alone;
	if (rc == 0)
		account(&s->memory, use, n, 1);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void memory_give(struct oci_op *op, enum memory_use use, uint64_t n)
{
	pthread_mutex_lock(&op->s->lock);
	account(&op->s->memory, use, n, -1);
	pthread_cond_broadcast(&op->s->changed);
	pthread_mutex_unlock(&op->s->lock);
}

/* ---- windows ---- */

static int take_alone(struct window *w, uint64_t bytes, struct error **err)
{
	if (w->stream || bytes > WINDOW_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "its zstd window is %llu MiB; at most %llu MiB are supported%s",
				 (unsigned long long)bytes >> 20,
				 (w->stream ? WINDOW_SHARED : WINDOW_MAX) >> 20,
				 w->stream ? " in an archive" : "");
	if (w->feed && feed_wait_end(w->feed, err) < 0)
		return -1;
	return memory_take(w->op, MEMORY_WINDOW_ALONE, bytes, w->feed, err);
}

int window_take(void *arg, uint64_t bytes, struct error **err)
{
	struct window *w = arg;

	if (w->held)
		memory_give(w->op, w->use, w->held);
	w->held = 0;
	if (!bytes)
		return 0;
	w->use = bytes > WINDOW_SHARED ? MEMORY_WINDOW_ALONE : MEMORY_WINDOW;
	if ((w->use == MEMORY_WINDOW ? memory_take(w->op, w->use, bytes, w->feed, err)
				     : take_alone(w, bytes, err)) < 0)
		return -1;
	w->held = bytes;
	return 0;
}
