// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_workers.c - devices of several queues served by threads: who runs where, and what reset, stop and a broken
 * driver may expect of them (attack class A: reset with I/O in flight).
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "core/log.h"
#include "core/path.h"
#include "tests/unit/vmm_driver.h"

#define QUEUES  VIRTIO_MAX_QUEUES
#define WORKERS 4

/* A device that answers each chain with its queue's number, at once or (hold) only when it is drained. */
struct echo {
	struct virtio_dev dev;
	struct virtq_chain chain[QUEUES];
	pthread_t thread[QUEUES]; /* which served the queue last */
	unsigned served[QUEUES];
	bool hold;
	/* Queue 0 waits a while for queue 4, its worker's too, to start or stop meanwhile; whether it saw that. */
	bool linger, lingers, saw;
	struct held {
		struct {
			uint16_t head;
			uint8_t *at;
			unsigned q;
		} one[QUEUES * DRV_SIZE];
		unsigned n;
	} held[WORKERS]; /* its worker's own */
	unsigned drains, busy;
};

static void echo_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
}

static void answer(struct echo *e, unsigned q, uint16_t head, uint8_t *at)
{
	*at = (uint8_t)(0x80 + q);
	virtq_push(&e->dev.vq[q], head, 1);
	virtq_publish(&e->dev.vq[q]);
	virtio_notify(&e->dev, q);
}

static void linger(struct echo *e)
{
	const struct virtq *other = &e->dev.vq[4];
	bool before = other->ready;
	unsigned ms;

	__atomic_store_n(&e->lingers, true, __ATOMIC_SEQ_CST);
	for (ms = 0; ms < 100 && other->ready == before; ms++)
		usleep(1000);
	e->saw = ms < 100;
}

static void echo_kick(struct virtio_dev *dev, unsigned q)
{
	struct echo *e = container_of(dev, struct echo, dev);
	struct virtq_chain *c = &e->chain[q];
	struct held *h = &e->held[dev->vq[q].worker];

	/* Nobody is called for a queue that does not run, and nobody stops it meanwhile. */
	assert_true(dev->active && dev->vq[q].ready);
	e->thread[q] = pthread_self();
	__atomic_fetch_add(&e->busy, 1, __ATOMIC_SEQ_CST);
	if (!q && __atomic_exchange_n(&e->linger, false, __ATOMIC_SEQ_CST))
		linger(e);
	while (!virtio_pausing(dev) && virtio_next(dev, q, c)) {
		if (!c->in_len) {
			virtio_dev_broken(dev, "nowhere to answer");
			break;
		}
		e->served[q]++;
		if (!e->hold) {
			answer(e, q, c->head, c->iov[c->nout].iov_base);
			continue;
		}
		h->one[h->n].head = c->head;
		h->one[h->n].at = c->iov[c->nout].iov_base;
		h->one[h->n++].q = q;
		dev->worker[dev->vq[q].worker].in_flight++;
	}
	assert_true(dev->vq[q].ready);
	__atomic_fetch_sub(&e->busy, 1, __ATOMIC_SEQ_CST);
}

static void echo_drain(struct virtio_dev *dev, unsigned w)
{
	struct echo *e = container_of(dev, struct echo, dev);

	struct held *h = &e->held[w];

	__atomic_fetch_add(&e->drains, 1, __ATOMIC_SEQ_CST);
	while (h->n) {
		h->n--;
		answer(e, h->one[h->n].q, h->one[h->n].head, h->one[h->n].at);
	}
	dev->worker[w].in_flight = 0;
}

static void echo_reset(struct virtio_dev *dev)
{
	struct echo *e = container_of(dev, struct echo, dev);
	unsigned w;

	assert_int_equal(__atomic_load_n(&e->busy, __ATOMIC_SEQ_CST), 0);
	for (w = 0; w < WORKERS; w++)
		assert_int_equal(e->held[w].n, 0);
}

static void echo_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
	free(container_of(dev, struct echo, dev));
}

static const struct virtio_dev_ops echo_ops = {
	.name = "echo",
	.config_read = echo_config_read,
	.queue_kick = echo_kick,
	.drain = echo_drain,
	.reset = echo_reset,
	.free = echo_free,
};

static struct echo *echo_new(struct drv *t)
{
	struct echo *e = xcalloc(1, sizeof(*e));
	unsigned q;

	e->dev.nqueues = QUEUES;
	e->dev.nworkers = WORKERS;
	for (q = 0; q < QUEUES; q++) {
		e->dev.vq[q].max_size = DRV_SIZE;
		e->dev.vq[q].worker = (uint8_t)(q % WORKERS);
	}
	assert_int_equal(virtio_dev_init(&e->dev, &echo_ops, 42, t->l, &t->m, NULL), 0);
	return e;
}

struct fix {
	struct drv t;
	struct echo *e;
};

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	drv_init(&f->t);
	f->e = echo_new(&f->t);
	f->t.d = &f->e->dev;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	free(f);
	return 0;
}

static void ask(struct drv *t, unsigned q, uint16_t head)
{
	drv_desc(t, q, head, DRV_DATA + 64 * q, 1, VRING_DESC_F_WRITE, 0);
	drv_offer(t, q, head);
	drv_kick(t, q);
}

static void test_queues(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	uint32_t id, len;
	unsigned q, i;

	assert_int_equal(drv_start(t, t->d, 0), 0);
	for (i = 0; i < 3; i++) {
		for (q = 0; q < QUEUES; q++)
			ask(t, q, (uint16_t)i);
		for (q = 0; q < QUEUES; q++) {
			assert_true(drv_wait(t, q, &id, &len));
			assert_int_equal(id, i);
			assert_int_equal(*(uint8_t *)gmem_ptr(&t->m, DRV_DATA + 64 * q, 1),
					 0x80 + q);
		}
	}
	virtio_pause(t->d);
	for (q = 0; q < QUEUES; q++) {
		assert_int_equal(f->e->served[q], 3);
		/* Each on the thread of its group. */
		assert_true(pthread_equal(f->e->thread[q], t->d->worker[q % WORKERS].thread));
		assert_false(pthread_equal(f->e->thread[q], pthread_self()));
	}
	virtio_resume(t->d);
}

struct later {
	struct virtio_dev *d;
	bool done;
};

static void *reset_later(void *arg)
{
	struct later *l = arg;

	virtio_reset(l->d);
	__atomic_store_n(&l->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* What a worker has not finished is finished before a reset returns, and not after it. */
static void test_A_reset_in_flight(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	struct later l = {.d = t->d};
	uint32_t id, len;
	pthread_t th;
	unsigned i;

	f->e->hold = true;
	assert_int_equal(drv_start(t, t->d, 0), 0);
	for (i = 0; i < 5; i++)
		ask(t, 2, (uint16_t)i);
	for (i = 0; i < 3000 && __atomic_load_n(&f->e->served[2], __ATOMIC_SEQ_CST) < 5; i++)
		drv_turns(t, 1);
	assert_false(drv_used(t, 2, &id, &len));
	assert_int_equal(pthread_create(&th, NULL, reset_later, &l), 0);
	pthread_join(th, NULL);
	assert_true(l.done);
	assert_int_equal(f->e->drains, 1);
	for (i = 0; i < 5; i++)
		assert_true(drv_used(t, 2, &id, &len));
	memset(gmem_ptr(&t->m, DRV_USED(2), 256), 0, 256);
	f->e->hold = false;
	assert_int_equal(drv_start(t, t->d, 0), 0);
	drv_turns(t, 5);
	assert_false(drv_used(t, 2, &id, &len));
	ask(t, 2, 7);
	assert_true(drv_wait(t, 2, &id, &len));
	assert_int_equal(id, 7);
}

struct storm {
	struct drv *t;
	bool stop;
};

static void *kicker(void *arg)
{
	struct storm *s = arg;
	unsigned q = 0;

	while (!__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST))
		drv_kick(s->t, q++ % QUEUES);
	return NULL;
}

/* Resets, single queues stopped and started, another view of memory, while all queues are busy: the device's own
 * assertions hold, and it works in the end. */
static void test_A_reset_storm(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	struct storm s = {.t = t};
	struct gmem view = t->m;
	uint32_t id, len;
	pthread_t th;
	unsigned i, q;

	assert_int_equal(drv_start(t, t->d, 0), 0);
	assert_int_equal(pthread_create(&th, NULL, kicker, &s), 0);
	for (i = 0; i < 400; i++) {
		for (q = 0; q < QUEUES; q++) {
			drv_desc(t, q, 0, DRV_DATA + 64 * q, 1, VRING_DESC_F_WRITE, 0);
			drv_offer(t, q, 0);
		}
		__atomic_store_n(&f->e->hold, i & 1, __ATOMIC_SEQ_CST);
		if (i % 3 == 0) {
			uint16_t next = virtio_queue_stop(t->d, i % QUEUES);

			assert_int_equal(virtio_queue_start(t->d, i % QUEUES, next), 0);
		} else if (i % 3 == 1) {
			virtio_pause(t->d);
			t->d->mem = t->d->mem == &view ? &t->m : &view;
			virtio_resume(t->d);
		} else {
			virtio_reset(t->d);
			/* After a reset nothing is written any more. */
			for (q = 0; q < QUEUES; q++)
				memset(gmem_ptr(&t->m, DRV_USED(q), 256), 0xa5, 256);
			for (q = 0; q < QUEUES; q++)
				assert_int_equal(*(uint16_t *)gmem_ptr(&t->m, DRV_USED(q) + 2, 2),
						 0xa5a5);
			assert_int_equal(drv_start(t, t->d, 0), 0);
		}
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_SEQ_CST);
	pthread_join(th, NULL);
	virtio_reset(t->d);
	f->e->hold = false;
	t->d->mem = &t->m;
	assert_int_equal(drv_start(t, t->d, 0), 0);
	for (q = 0; q < QUEUES; q++) {
		ask(t, q, 3);
		assert_true(drv_wait(t, q, &id, &len));
		assert_int_equal(id, 3);
	}
}

/* One queue's driver breaks the rules: its whole device waits for a reset, another device does not notice. */
static void test_B_broken_alone(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t, other;
	struct echo *e2;
	uint32_t id, len;
	unsigned q;

	assert_int_equal(drv_start(t, t->d, 0), 0);
	drv_init(&other);
	e2 = echo_new(&other);
	assert_int_equal(drv_start(&other, &e2->dev, 0), 0);

	drv_desc(t, 5, 0, DRV_MEM, 16, VRING_DESC_F_WRITE, 0);
	drv_offer(t, 5, 0);
	drv_kick(t, 5);
	assert_true(drv_wait_broken(t));
	for (q = 0; q < QUEUES; q++) {
		if (q == 5)
			continue;
		ask(t, q, 0);
		drv_turns(t, 1);
		assert_false(drv_used(t, q, &id, &len));
	}
	for (q = 0; q < QUEUES; q++) {
		ask(&other, q, 0);
		assert_true(drv_wait(&other, q, &id, &len));
	}
	assert_int_equal(e2->dev.status & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	ask(t, 5, 0);
	assert_true(drv_wait(t, 5, &id, &len));
	drv_fini(&other);
}

/* As often as it likes: what is said of it stays little. */
static void test_B_broken_often(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	char dir[] = "/tmp/test-workers.XXXXXX";
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_CLOSE int dirfd = -1, tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);
	unsigned lines = 0, i;

	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(log_init_service(dir, "device", LOG_LVL_INFO, NULL), 0);
	for (i = 0; i < 300; i++) {
		assert_int_equal(drv_start(t, t->d, 0), 0);
		drv_desc(t, 5, 0, DRV_MEM, 16, VRING_DESC_F_WRITE, 0);
		drv_offer(t, 5, 0);
		drv_kick(t, 5);
		assert_true(drv_wait_broken(t));
		virtio_reset(t->d);
	}
	assert_int_equal(path_read_all(dirfd, "device.log", 4 << 20, &b, NULL), 0);
	for (i = 0; i < b.len; i++)
		lines += b.data[i] == '\n';
	assert_in_range(lines, 1, 9); /* 1, 2, 4, … 256 */
	assert_int_equal(path_remove_tree(tmp, dir + strlen("/tmp/"), NULL), 0);
}

static void test_one_queue_stops(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	uint16_t next;
	uint32_t id, len;

	assert_int_equal(drv_start(t, t->d, 0), 0);
	ask(t, 1, 0);
	assert_true(drv_wait(t, 1, &id, &len));
	next = virtio_queue_stop(t->d, 1);
	assert_int_equal(next, 1);
	ask(t, 1, 1);
	ask(t, 5, 0); /* the same worker's */
	assert_true(drv_wait(t, 5, &id, &len));
	assert_false(drv_used(t, 1, &id, &len));
	/* Started again, it looks at what came meanwhile without being kicked. */
	assert_int_equal(virtio_queue_start(t->d, 1, next), 0);
	assert_true(drv_wait(t, 1, &id, &len));
	assert_int_equal(id, 1);
}

/* While a worker is at one of its queues no other of them begins: a device may look at both (a network card's pair does). */
static void test_one_queue_starts(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	uint32_t id, len;
	uint16_t next;
	unsigned i;

	assert_int_equal(drv_start(t, t->d, 0), 0);
	next = virtio_queue_stop(t->d, 4);
	__atomic_store_n(&f->e->linger, true, __ATOMIC_SEQ_CST);
	ask(t, 0, 0);
	for (i = 0; i < 3000 && !__atomic_load_n(&f->e->lingers, __ATOMIC_SEQ_CST); i++)
		drv_turns(t, 1);
	assert_int_equal(virtio_queue_start(t->d, 4, next), 0);
	assert_false(f->e->saw);
	assert_true(drv_wait(t, 0, &id, &len));
	ask(t, 4, 1);
	assert_true(drv_wait(t, 4, &id, &len));
	assert_false(f->e->saw);
}

/* Another kick descriptor takes the place of the first; the old one, still open elsewhere, means nothing any more. */
static void test_A_kick_replaced(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	int fd = eventfd(0, EFD_NONBLOCK), old, sv[2], file;
	uint32_t id, len;

	assert_int_equal(drv_start(t, t->d, 0), 0);
	old = dup(virtio_kick_fd(t->d, 3));
	assert_int_equal(virtio_set_kick_fd(t->d, 3, dup(fd), NULL), 0);
	drv_desc(t, 3, 0, DRV_DATA, 1, VRING_DESC_F_WRITE, 0);
	drv_turns(t, 5);
	drv_offer(t, 3, 0);
	assert_int_equal(write(old, &(uint64_t){1}, 8), 8);
	drv_turns(t, 20);
	assert_false(drv_used(t, 3, &id, &len));
	assert_int_equal(write(fd, &(uint64_t){1}, 8), 8);
	assert_true(drv_wait(t, 3, &id, &len));
	/* No eventfd, always readable: it can wake the worker once, not keep it busy; a file is refused. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(virtio_set_kick_fd(t->d, 3, sv[0], NULL), 0);
	file = open("/proc/self/exe", O_RDONLY);
	assert_int_equal(virtio_set_kick_fd(t->d, 3, file, NULL), -1);
	ask(t, 7, 0);
	assert_true(drv_wait(t, 7, &id, &len));
	close(old);
	close(fd);
	close(sv[1]);
}

/* Freed with requests in flight: they are waited for. */
static void test_A_freed_in_flight(void **state)
{
	struct drv t;
	struct echo *e;
	uint32_t id, len;
	unsigned i;

	drv_init(&t);
	e = echo_new(&t);
	e->hold = true;
	assert_int_equal(drv_start(&t, &e->dev, 0), 0);
	ask(&t, 0, 0);
	for (i = 0; i < 3000 && !__atomic_load_n(&e->served[0], __ATOMIC_SEQ_CST); i++)
		drv_turns(&t, 1);
	virtio_free(STEAL(t.d));
	assert_true(drv_used(&t, 0, &id, &len));
	drv_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_queues, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_reset_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_reset_storm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_broken_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_broken_often, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_queue_stops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_queue_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_kick_replaced, setup, teardown),
		cmocka_unit_test(test_A_freed_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
