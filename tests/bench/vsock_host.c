/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_host.c - the host's end of the vsock bench: boots the guest (vsockload.c), waits until all of its streams are there,
 * counts each stream's bytes for a while and prints "vsock <MB/s> <min> <median> <max>", the last three in bytes of one
 * stream.
 *
 *   vsock_host [-e kvm|qemu] [-n streams] [-t seconds] -d up|down kernel initramfs
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/log.h"
#include "core/str.h"
#include "vmm/vm.h"

#define MAX_STREAMS 4096
#define LOST_MS     300000
#define ENOUGH      131072u /* bytes of each stream */
#define PATIENCE    20      /* times the time that was asked for */

struct end {
	struct vsock_stream *s;
	uint64_t bytes;
	bool down;
};

static struct end ends[MAX_STREAMS];
static struct {
	struct loop *l;
	struct vm *vm;
	unsigned want, have;
	int64_t ms;
	uint64_t start;
	bool done;
} b;
static char piece[65536];

static size_t take(void *arg, const void *p, size_t len)
{
	((struct end *)arg)->bytes += len;
	return len;
}

static void give(void *arg)
{
	struct end *e = arg;
	size_t n;

	do {
		n = vsock_stream_write(e->s, piece, sizeof(piece));
		e->bytes += n;
	} while (n == sizeof(piece));
}

static void on_end(void *arg)
{
	((struct end *)arg)->s = NULL;
}

static int by_bytes(const void *x, const void *y)
{
	const struct end *a = x, *c = y;

	return a->bytes < c->bytes ? -1 : a->bytes > c->bytes;
}

/* On a slow machine it goes on until more went through than all buffers hold, or nobody could have starved. */
static void on_over(void *arg)
{
	double s = (double)(time_mono_us() - b.start) / 1e6;
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < b.have; i++)
		sum += ends[i].bytes;
	if (sum < b.have * ENOUGH && s < (double)b.ms / 1000 * PATIENCE) {
		loop_add_timer(b.l, b.ms, on_over, NULL);
		return;
	}
	qsort(ends, b.have, sizeof(ends[0]), by_bytes);
	printf("vsock %.1f %llu %llu %llu\n", (double)sum / s / 1e6,
	       (unsigned long long)ends[0].bytes, (unsigned long long)ends[b.have / 2].bytes,
	       (unsigned long long)ends[b.have - 1].bytes);
	b.done = true;
	loop_stop(b.l);
}

/* All there: from here on it counts. */
static void on_begin(void *arg)
{
	unsigned i;

	/* Not before: guests take hundreds of kilobytes of each stream without anybody reading. */
	b.start = time_mono_us();
	for (i = 0; i < b.have; i++) {
		ends[i].bytes = 0;
		if (ends[i].down)
			give(&ends[i]);
	}
	loop_add_timer(b.l, b.ms, on_over, NULL);
}

static int on_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	static const struct vsock_stream_ops ops = {.data = take,
						    .writable = give,
						    .closed = on_end};
	struct end *e = &ends[b.have];

	if ((port != 10 && port != 11) || b.have == b.want)
		return -1;
	b.have++;
	*e = (struct end){.s = s, .down = port == 11};
	vsock_stream_set_ops(s, &ops, e);
	if (b.have == b.want)
		loop_add_timer(b.l, 500, on_begin, NULL);
	return 0;
}

static void on_console(void *arg, const void *p, size_t len)
{
	fwrite(p, 1, len, stderr);
}

static void on_stopped(void *arg, int reason, const char *detail)
{
	fprintf(stderr, "machine stopped: %d%s%s\n", reason, detail ? ": " : "",
		detail ? detail : "");
	loop_stop(b.l);
}

static void on_lost(void *arg)
{
	fprintf(stderr, "%u of %u streams after %d s\n", b.have, b.want, LOST_MS / 1000);
	loop_stop(b.l);
}

int main(int argc, char **argv)
{
	CLEANUP_ERROR struct error *err = NULL;
	CLEANUP_FREE char *words = NULL;
	const char *dir = "up";
	struct iovec initrd;
	struct stat st;
	struct vm_config cfg = {.engine = VM_ENGINE_QEMU,
				.vcpus = 1,
				.mem_bytes = 512ull << 20,
				.initrd = &initrd,
				.ninitrd = 1,
				.cid = 3,
				.run_dir = "/tmp",
				.accept = on_accept,
				.console = on_console,
				.stopped = on_stopped};
	int c, fd;

	b.want = 1;
	b.ms = 3000;
	while ((c = getopt(argc, argv, "e:n:t:d:")) != -1) {
		if (c == 'e' && !vm_engine_parse(optarg, &cfg.engine))
			continue;
		else if (c == 'n')
			b.want = (unsigned)atoi(optarg);
		else if (c == 't')
			b.ms = (int64_t)(strtod(optarg, NULL) * 1000);
		else if (c == 'd')
			dir = optarg;
		else
			return 64;
	}
	if (argc - optind != 2 || b.ms < 1 || !b.want || b.want > MAX_STREAMS)
		return 64;
	log_init_stderr("vsock_host", LOG_LVL_WARN);
	cfg.kernel_fd = open(argv[optind], O_RDONLY | O_CLOEXEC);
	fd = open(argv[optind + 1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return 66;
	initrd.iov_base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	initrd.iov_len = (size_t)st.st_size;
	words = xasprintf("vsockload=%s,%u", dir, b.want);
	cfg.cmdline = words;
	b.l = loop_new(&err);
	b.vm = b.l ? vm_new(b.l, &cfg, &err) : NULL;
	if (!b.vm || vm_start(b.vm, &err)) {
		fprintf(stderr, "vsock_host: %s\n", error_text(err));
		return 1;
	}
	loop_add_timer(b.l, LOST_MS, on_lost, NULL);
	(void)loop_run(b.l, NULL);
	vm_free(b.vm);
	return b.done ? 0 : 1;
}
