/* SPDX-License-Identifier: Apache-2.0 */
/* op.c - operations on the store: pins, key locks, progress, cancellation, worker threads. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "core/log.h"
#include "core/path.h"
#include "oci/store.h"

#define PROGRESS_US  100000
#define LOCK_POLL_NS 100000000

void key_make(char out[KEY_MAX], const char *kind, const char *hex)
{
	snprintf(out, KEY_MAX, "%s/%s", kind, hex);
}

void op_begin(struct oci_op *op, struct oci_store *s, const struct oci_progress *p)
{
	*op = (struct oci_op){
		.s = s,
		.p = p,
		.pins = json_object_new_object(),
		.created = json_object_new_object(),
		.session_fd = -1,
	};
	atomic_init(&op->stop, false);
}

int op_session(struct oci_op *op, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();

	snprintf(op->session, sizeof(op->session), "session-%s", uuid);
	if (path_mkdirs_at(op->s->ingest, op->session, 0700, err) < 0)
		return -1;
	op->session_fd = path_open_beneath(op->s->ingest, op->session, O_DIRECTORY, 0, err);
	return op->session_fd < 0 ? -1 : 0;
}

void op_sync_later(struct oci_op *op, int fd)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0) { /* out of descriptors */
		fsync(fd);
		return;
	}
	sync_file_range(own, 0, 0, SYNC_FILE_RANGE_WRITE);
	pthread_mutex_lock(&op->s->lock);
	op->unsynced = xreallocarray(op->unsynced, op->n_unsynced + 1, sizeof(int));
	op->unsynced[op->n_unsynced++] = own;
	pthread_mutex_unlock(&op->s->lock);
}

int op_settle(struct oci_op *op, struct error **err)
{
	const int dirs[] = {op->s->blobs, op->s->layers, op->s->rootfs};
	int bad = 0;
	size_t i, n;
	int *fds;

	pthread_mutex_lock(&op->s->lock);
	fds = STEAL(op->unsynced);
	n = op->n_unsynced;
	op->n_unsynced = 0;
	pthread_mutex_unlock(&op->s->lock);
	/* Their writeback has begun, so the first sync has the journal commit for all. */
	for (i = 0; i < n; i++) {
		if (fsync(fds[i]) < 0)
			bad = errno;
		close(fds[i]);
	}
	free(fds);
	for (i = 0; i < ARRAY_SIZE(dirs); i++)
		if (fsync(dirs[i]) < 0)
			bad = errno;
	return bad ? error_sys(err, bad, "sync image store") : 0;
}

static void unpin(struct oci_store *s, const char *key)
{
	int64_t n = json_int(s->pins, key, 0);

	if (n > 1)
		json_set_int(s->pins, key, n - 1);
	else
		json_object_object_del(s->pins, key);
}

void op_end(struct oci_op *op)
{
	CLEANUP_ERROR struct error *why = NULL;
	struct json_object_iterator it, end;

	if (op->n_unsynced && op_settle(op, &why) < 0)
		log_err(why, "image store");
	pthread_mutex_lock(&op->s->lock);
	it = json_object_iter_begin(op->pins);
	end = json_object_iter_end(op->pins);
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it))
		unpin(op->s, json_object_iter_peek_name(&it));
	pthread_mutex_unlock(&op->s->lock);
	json_object_put(op->pins);
	json_object_put(op->created);
	if (op->session_fd >= 0)
		close(op->session_fd);
	if (op->session[0])
		path_remove_tree(op->s->ingest, op->session, NULL);
	op->session_fd = -1;
	op->session[0] = '\0';
}

void op_pin(struct oci_op *op, const char *kind, const char *hex)
{
	char key[KEY_MAX];

	key_make(key, kind, hex);
	pthread_mutex_lock(&op->s->lock);
	if (!json_get(op->pins, key)) {
		json_set_bool(op->pins, key, true);
		json_set_int(op->s->pins, key, json_int(op->s->pins, key, 0) + 1);
	}
	pthread_mutex_unlock(&op->s->lock);
}

void op_created(struct oci_op *op, const char *kind, const char *hex)
{
	char key[KEY_MAX];

	key_make(key, kind, hex);
	pthread_mutex_lock(&op->s->lock);
	json_set_bool(op->created, key, true);
	pthread_mutex_unlock(&op->s->lock);
}

int op_check(struct oci_op *op, struct error **err)
{
	if (atomic_load(&op->stop))
		return error_set(err, ERR_CANCELLED, "given up");
	if (op->p && op->p->cancelled && op->p->cancelled(op->p->arg))
		return error_set(err, ERR_CANCELLED, "cancelled");
	return 0;
}

int op_wait(struct oci_op *op, struct error **err)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_nsec += LOCK_POLL_NS;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&op->s->changed, &op->s->lock, &at);
	return op_check(op, err);
}

int op_lock_key(struct oci_op *op, const char *kind, const char *hex, struct error **err)
{
	struct oci_store *s = op->s;
	char key[KEY_MAX];
	int rc = 0;

	key_make(key, kind, hex);
	pthread_mutex_lock(&s->lock);
	while (json_get(s->locked, key) && rc == 0)
		rc = op_wait(op, err);
	if (rc == 0)
		json_set_bool(s->locked, key, true);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void op_unlock_key(struct oci_op *op, const char *kind, const char *hex)
{
	char key[KEY_MAX];

	key_make(key, kind, hex);
	pthread_mutex_lock(&op->s->lock);
	json_object_object_del(op->s->locked, key);
	pthread_cond_broadcast(&op->s->changed);
	pthread_mutex_unlock(&op->s->lock);
}

struct op_item op_item_of(struct oci_op *op, const char *phase, const char *what,
			  const char *digest, uint64_t total)
{
	struct op_item i = {.op = op, .phase = phase, .total = total};

	snprintf(i.name, sizeof(i.name), "%s %.12s", what, digest_hex(digest));
	return i;
}

void op_item_at(struct op_item *i, uint64_t done)
{
	const struct oci_progress *p = i->op->p;
	CLEANUP_JSON struct json_object *ev = NULL;
	uint64_t now;

	if (!p || !p->fn || i->ended)
		return;
	now = time_mono_us();
	if (i->last_us && (done < i->total || !i->total) && now - i->last_us < PROGRESS_US)
		return;
	i->last_us = now;
	i->ended = i->total && done >= i->total;
	ev = json_object_new_object();
	json_set_str(ev, "item", i->name);
	json_set_str(ev, "phase", i->phase);
	json_set_int(ev, "done", (int64_t)done);
	json_set_int(ev, "total", (int64_t)i->total);
	p->fn(p->arg, ev);
}

void op_message(struct oci_op *op, const char *phase, const char *fmt, ...)
{
	CLEANUP_JSON struct json_object *ev = NULL;
	CLEANUP_FREE char *msg = NULL;
	va_list ap;

	if (!op->p || !op->p->fn)
		return;
	va_start(ap, fmt);
	if (vasprintf(&msg, fmt, ap) < 0)
		abort();
	va_end(ap);
	ev = json_object_new_object();
	json_set_str(ev, "phase", phase);
	json_set_str(ev, "message", msg);
	op->p->fn(op->p->arg, ev);
}

/* ---- worker threads ---- */
struct pool {
	struct oci_op *op;
	const struct op_jobs *jobs;
	atomic_size_t next;
	pthread_mutex_t lock;
	struct error *err; /* the first, under lock */
};

static void pool_fail(struct pool *p, struct error *e)
{
	pthread_mutex_lock(&p->lock);
	if (!p->err)
		p->err = STEAL(e);
	pthread_mutex_unlock(&p->lock);
	error_free(e);
	atomic_store(&p->op->stop, true);
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	const struct op_jobs *j = p->jobs;
	void *worker = j->worker_begin ? j->worker_begin(j->arg) : NULL;

	for (;;) {
		size_t i = atomic_fetch_add(&p->next, 1);
		struct error *e = NULL;

		if (i >= j->n || atomic_load(&p->op->stop))
			break;
		if (j->run(j->arg, worker, i, &e) < 0)
			pool_fail(p, e);
	}
	if (j->worker_end)
		j->worker_end(worker);
	return NULL;
}

int op_parallel(struct oci_op *op, const struct op_jobs *jobs, struct error **err)
{
	size_t want = MIN(jobs->n, (size_t)MAX(jobs->threads, 1));
	struct pool p = {.op = op, .jobs = jobs, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t t[16];
	size_t i, started = 0;

	want = MIN(want, ARRAY_SIZE(t));
	/* The calling thread is one of them, so that work goes on when no thread can be made. */
	for (i = 1; i < want; i++)
		if (pthread_create(&t[started], NULL, pool_thread, &p) == 0)
			started++;
	if (want)
		pool_thread(&p);
	for (i = 0; i < started; i++)
		pthread_join(t[i], NULL);
	if (p.err)
		return error_move(err, p.err);
	return 0;
}

bool error_is_full(const struct error *e)
{
	for (; e; e = e->cause)
		if (e->sys == ENOSPC || e->sys == EDQUOT)
			return true;
	return false;
}
