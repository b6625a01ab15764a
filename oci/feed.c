/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed.c - a file read by one thread while another is still writing it.
 *
 * The file is the buffer between the two: memory stays bounded however far the writer is ahead, and what was fetched before a
 * connection broke is there for a reader that comes late. The end of the file is told only when the writer says that
 * all of it is right, so whatever a reader makes of the bytes can be thrown away until then.
 */
#include <limits.h>

#include "core/path.h"
#include "oci/stream.h"

void feed_init(struct feed *f, int fd)
{
	*f = (struct feed){.fd = fd};
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
}

void feed_destroy(struct feed *f)
{
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
}

void feed_grow(struct feed *f, uint64_t size)
{
	pthread_mutex_lock(&f->lock);
	if (size < f->size)
		f->restarts++;
	f->size = size;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

void feed_end(struct feed *f, bool whole)
{
	pthread_mutex_lock(&f->lock);
	if (f->state == FEED_GROWS)
		f->state = whole ? FEED_WHOLE : FEED_LOST;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

unsigned feed_restarts(struct feed *f)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->restarts;
	pthread_mutex_unlock(&f->lock);
	return n;
}

bool feed_lost(struct feed *f)
{
	bool lost;

	pthread_mutex_lock(&f->lock);
	lost = f->state == FEED_LOST;
	pthread_mutex_unlock(&f->lock);
	return lost;
}

int feed_wait_end(struct feed *f, struct error **err)
{
	int rc;

	pthread_mutex_lock(&f->lock);
	while (f->state == FEED_GROWS)
		pthread_cond_wait(&f->changed, &f->lock);
	rc = f->state == FEED_WHOLE ? 0 : -1;
	pthread_mutex_unlock(&f->lock);
	return rc < 0 ? error_set(err, ERR_INTERNAL, "the transfer failed") : 0;
}

/* Bytes that may be read at `at`: 0 at the end, -1 when there is no sense in going on. */
static ssize_t wait_for_bytes(struct feed_reader *r, uint64_t at, struct error **err)
{
	struct feed *f = r->feed;
	ssize_t n;

	pthread_mutex_lock(&f->lock);
	while (f->size <= at && f->state == FEED_GROWS && f->restarts == r->restarts)
		pthread_cond_wait(&f->changed, &f->lock);
	if (f->restarts != r->restarts)
		n = error_set(err, ERR_INTERNAL, "the transfer began again");
	else if (f->state == FEED_LOST)
		n = error_set(err, ERR_INTERNAL, "the transfer failed");
	else
		n = (ssize_t)MIN(f->size - MIN(at, f->size), (uint64_t)SSIZE_MAX);
	pthread_mutex_unlock(&f->lock);
	return n;
}

static ssize_t feed_read(void *arg, void *p, size_t n, struct error **err)
{
	struct feed_reader *r = arg;
	uint64_t at = atomic_load(&r->done);
	ssize_t have = wait_for_bytes(r, at, err);

	if (have <= 0)
		return have;
	n = MIN(n, (size_t)have);
	if (fd_pread_full(r->feed->fd, p, n, (off_t)at, err) < 0)
		return -1;
	atomic_store(&r->done, at + n);
	return (ssize_t)n;
}

struct oci_reader feed_reader_of(struct feed_reader *r, struct feed *f)
{
	r->feed = f;
	r->restarts = feed_restarts(f);
	atomic_init(&r->done, 0);
	return (struct oci_reader){.read = feed_read, .arg = r};
}
