/* SPDX-License-Identifier: Apache-2.0 */
/* fs_channel.c - the slots of fs.h: shared memory, sealed so that neither side can take it away, and how each is woken. */
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/memfd.h>

#include "core/filter.h"
#include "core/path.h"
#include "vmm/fs.h"

#define PAGE      4096u
#define ROOM      ALIGN_UP(FUSE_MSG_MAX, PAGE)
#define MEM_BYTES (PAGE + FS_SLOTS * 2ull * ROOM)
#define SEALS     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS | FILTER_WORKERS, futex),
	FILTER_ALLOW(FILTER_FS, write),
};

enum slot_state { SLOT_IDLE, SLOT_POSTED, SLOT_ANSWERED };

/* In shared memory, a cache line each; every access is atomic, and what comes of it is a guess until it is bounded. */
struct slot_head {
	_Alignas(64) uint32_t state;
	uint32_t len, max, reply_len;
};

_Static_assert(FS_SLOTS * sizeof(struct slot_head) <= PAGE, "the heads fit their page");

static struct slot_head *head(struct fs_channel *ch, unsigned slot)
{
	return (struct slot_head *)ch->mem + slot;
}

uint8_t *fs_request(struct fs_channel *ch, unsigned slot)
{
	return ch->mem + PAGE + slot * 2ull * ROOM;
}

static uint8_t *reply_of(struct fs_channel *ch, unsigned slot)
{
	return fs_request(ch, slot) + ROOM;
}

/* Between processes: not FUTEX_PRIVATE_FLAG. */
static void futex(uint32_t *word, int op, uint32_t value)
{
	(void)syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

/* ---- both ends ---- */

static struct fs_channel *channel_alloc(void)
{
	struct fs_channel *ch = xcalloc(1, sizeof(*ch));

	ch->mem_fd = ch->done_fd = ch->sock = ch->peer = -1;
	return ch;
}

static int channel_map(struct fs_channel *ch, struct error **err)
{
	void *p = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ch->mem_fd, 0);

	if (p == MAP_FAILED)
		return error_sys(err, errno, "shares: map the slots");
	ch->mem = p;
	return 0;
}

static int channel_make(struct fs_channel *ch, struct error **err)
{
	int pair[2];

	ch->mem_fd = (int)syscall(SYS_memfd_create, "shares", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (ch->mem_fd < 0 || ftruncate(ch->mem_fd, MEM_BYTES) < 0 ||
	    fcntl(ch->mem_fd, F_ADD_SEALS, SEALS) < 0)
		return error_sys(err, errno, "shares: memory for the slots");
	ch->done_fd = eventfd(0, EFD_CLOEXEC);
	if (ch->done_fd < 0)
		return error_sys(err, errno, "shares: eventfd");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_sys(err, errno, "shares: socketpair");
	ch->sock = pair[0];
	ch->peer = pair[1];
	return channel_map(ch, err);
}

struct fs_channel *fs_channel_new(struct error **err)
{
	struct fs_channel *ch = channel_alloc();

	if (!channel_make(ch, err))
		return ch;
	fs_channel_free(ch);
	return NULL;
}

struct fs_channel *fs_channel_attach(int mem_fd, int done_fd, struct error **err)
{
	struct fs_channel *ch = channel_alloc();

	ch->mem_fd = mem_fd;
	ch->done_fd = done_fd;
	if (!channel_map(ch, err))
		return ch;
	fs_channel_free(ch);
	return NULL;
}

void fs_channel_free(struct fs_channel *ch)
{
	if (!ch)
		return;
	if (ch->mem)
		munmap(ch->mem, MEM_BYTES);
	base_close_fd(&ch->mem_fd);
	base_close_fd(&ch->done_fd);
	base_close_fd(&ch->sock);
	base_close_fd(&ch->peer);
	free(ch);
}

/* ---- the helper's ---- */

void fs_post(struct fs_channel *ch, unsigned slot, size_t len, size_t max)
{
	struct slot_head *h = head(ch, slot);

	__atomic_store_n(&h->len, (uint32_t)len, __ATOMIC_RELAXED);
	__atomic_store_n(&h->max, (uint32_t)MIN(max, FUSE_MSG_MAX), __ATOMIC_RELAXED);
	__atomic_store_n(&h->state, SLOT_POSTED, __ATOMIC_RELEASE);
	futex(&h->state, FUTEX_WAKE, 1);
}

bool fs_answered(struct fs_channel *ch, unsigned slot, const uint8_t **reply, size_t *len)
{
	struct slot_head *h = head(ch, slot);

	if (__atomic_load_n(&h->state, __ATOMIC_ACQUIRE) != SLOT_ANSWERED)
		return false;
	__atomic_store_n(&h->state, SLOT_IDLE, __ATOMIC_RELAXED);
	*reply = reply_of(ch, slot);
	*len = MIN(__atomic_load_n(&h->reply_len, __ATOMIC_RELAXED), FUSE_MSG_MAX);
	return true;
}

/* ---- the server's ---- */

void fs_serve(struct fs_channel *ch, unsigned slot, fs_handler fn, void *arg)
{
	uint8_t *own = xmalloc(FUSE_MSG_MAX);
	struct slot_head *h = head(ch, slot);
	uint64_t one = 1;

	for (;;) {
		uint32_t state = __atomic_load_n(&h->state, __ATOMIC_ACQUIRE);
		size_t len, max, n;

		if (state != SLOT_POSTED) {
			futex(&h->state, FUTEX_WAIT, state);
			continue;
		}
		len = MIN(__atomic_load_n(&h->len, __ATOMIC_RELAXED), FUSE_MSG_MAX);
		max = MIN(__atomic_load_n(&h->max, __ATOMIC_RELAXED), FUSE_MSG_MAX);
		memcpy(own, fs_request(ch, slot), len);
		n = fn(arg, own, len, reply_of(ch, slot), max);
		__atomic_store_n(&h->reply_len, (uint32_t)MIN(n, max), __ATOMIC_RELAXED);
		__atomic_store_n(&h->state, SLOT_ANSWERED, __ATOMIC_RELEASE);
		/* Nobody reads the counter; full, which it never is, it has woken everyone. */
		if (write(ch->done_fd, &one, sizeof(one)) < 0)
			continue;
	}
}
