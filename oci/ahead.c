/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.c - a reader whose source runs on a thread of its own, a few chunks ahead.
 *
 * A ring of chunks: the source's thread fills them, the reader empties them. Either waits for the other, so memory is what the
 * ring holds.
 */
#include <pthread.h>

#include "oci/stream.h"

#define CHUNK  (128u << 10)
#define CHUNKS 4

struct ahead {
	struct oci_reader src;
	pthread_t thread;
	bool inline_reads; /* no thread could be made */
	uint8_t *buf;
	size_t at; /* of the reader in its chunk */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	size_t len[CHUNKS];
	uint64_t made, taken; /* chunks since the beginning */
	bool ended, stop;
	struct error *err;
};

/* Fills a chunk; 0 when the source has ended before its end. */
static int fill_chunk(struct ahead *a, uint8_t *p, size_t *len, struct error **err)
{
	*len = 0;
	while (*len < CHUNK) {
		ssize_t n = a->src.read(a->src.arg, p + *len, CHUNK - *len, err);

		if (n <= 0)
			return (int)n;
		*len += (size_t)n;
	}
	return 1;
}

static void *ahead_thread(void *arg)
{
	struct ahead *a = arg;
	int rc = 1;

	while (rc > 0) {
		struct error *e = NULL;
		size_t slot, len;

		pthread_mutex_lock(&a->lock);
		while (a->made - a->taken == CHUNKS && !a->stop)
			pthread_cond_wait(&a->changed, &a->lock);
		slot = a->made % CHUNKS;
		rc = a->stop ? 0 : 1;
		pthread_mutex_unlock(&a->lock);
		if (rc == 0)
			break;
		rc = fill_chunk(a, a->buf + slot * CHUNK, &len, &e);
		pthread_mutex_lock(&a->lock);
		a->len[slot] = len;
		a->made += len > 0;
		a->ended = rc <= 0;
		a->err = e;
		pthread_cond_signal(&a->changed);
		pthread_mutex_unlock(&a->lock);
	}
	return NULL;
}

struct ahead *ahead_new(const struct oci_reader *src)
{
	struct ahead *a = xcalloc(1, sizeof(*a));

	a->src = *src;
	a->buf = xmalloc((size_t)CHUNK * CHUNKS);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	a->inline_reads = pthread_create(&a->thread, NULL, ahead_thread, a) != 0;
	return a;
}

/* Waits until the reader has a chunk: its bytes, 0 at the end, -1. */
static ssize_t next_chunk(struct ahead *a, struct error **err)
{
	ssize_t n;

	pthread_mutex_lock(&a->lock);
	if (a->made > a->taken && a->at == a->len[a->taken % CHUNKS]) {
		a->taken++;
		a->at = 0;
		pthread_cond_signal(&a->changed);
	}
	while (a->made == a->taken && !a->ended)
		pthread_cond_wait(&a->changed, &a->lock);
	if (a->made > a->taken)
		n = (ssize_t)a->len[a->taken % CHUNKS];
	else
		n = a->err ? error_move(err, error_copy(a->err)) : 0;
	pthread_mutex_unlock(&a->lock);
	return n;
}

static ssize_t ahead_read(void *arg, void *p, size_t n, struct error **err)
{
	struct ahead *a = arg;
	ssize_t len;

	if (a->inline_reads)
		return a->src.read(a->src.arg, p, n, err);
	len = next_chunk(a, err);
	if (len <= 0)
		return len;
	n = MIN(n, (size_t)len - a->at);
	/* Only this thread moves `taken`: the chunk stays ours. */
	memcpy(p, a->buf + a->taken % CHUNKS * CHUNK + a->at, n);
	a->at += n;
	return (ssize_t)n;
}

struct oci_reader ahead_reader(struct ahead *a)
{
	return (struct oci_reader){.read = ahead_read, .arg = a};
}

void ahead_free(struct ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	if (!a->inline_reads)
		pthread_join(a->thread, NULL);
	error_free(a->err);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a->buf);
	free(a);
}
