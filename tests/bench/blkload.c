/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blkload.c - the load of the disk bench: PID 1 of a small guest, or a program on a host. It reads and writes a disk
 * past the page cache with native asynchronous I/O and prints a line "blkload <row> <figure>" for each kind of load.
 *
 *   blkload DEVICE SECONDS ROW...      as PID 1 the words come from the command line: blkload=DEVICE,ORDERS
 *
 * As PID 1 it takes orders, so that several guests can be measured in turn: ORDERS is a disk whose first sector says
 * "NUMBER SECONDS ROW"; each new number is an order (0: none yet), after the row's line comes "blkload done NUMBER".
 * The row "off" ends the machine.
 *
 * Rows: randread1 randread32 (4 KiB reads per second), seqread (128 KiB, MiB/s), writeflush (4 KiB writes each followed
 * by a flush, per second), write (128 KiB sequential, 8 at a time, MiB/s).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>

#define MAX_DEPTH 64

static const struct row {
	const char *name;
	uint32_t bytes;
	unsigned depth;
	int write, sequential, flush;
} rows[] = {
	{"randread1", 4096, 1, 0, 0, 0}, {"randread32", 4096, 32, 0, 0, 0},
	{"seqread", 131072, 8, 0, 1, 0}, {"writeflush", 4096, 1, 1, 0, 1},
	{"write", 131072, 8, 1, 1, 0},
};

static const char *prefix = ""; /* the log level, in the kernel's log */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	printf("%sblkload error: %s: %s\n", prefix, what, strerror(errno));
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	exit(1);
}

struct load {
	const struct row *row;
	int fd;
	uint64_t bytes, next, seed;
	aio_context_t ctx;
	struct iocb cb[MAX_DEPTH];
	uint8_t *buf;
};

static uint64_t place(struct load *l)
{
	uint64_t slots = l->bytes / l->row->bytes;

	if (l->row->sequential)
		return l->next++ % slots * l->row->bytes;
	l->seed = l->seed * 6364136223846793005u + 1442695040888963407u;
	return (l->seed >> 33) % slots * l->row->bytes;
}

static void submit(struct load *l, unsigned *which, unsigned n)
{
	struct iocb *list[MAX_DEPTH];
	unsigned i;

	for (i = 0; i < n; i++) {
		struct iocb *cb = &l->cb[which[i]];

		*cb = (struct iocb){.aio_fildes = (uint32_t)l->fd,
				    .aio_lio_opcode =
					    l->row->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				    .aio_buf = (uintptr_t)(l->buf + which[i] * l->row->bytes),
				    .aio_nbytes = l->row->bytes,
				    .aio_offset = (int64_t)place(l),
				    .aio_data = which[i]};
		list[i] = cb;
	}
	for (i = 0; i < n;) {
		long rc = syscall(SYS_io_submit, l->ctx, n - i, list + i);

		if (rc <= 0)
			die("io_submit");
		i += (unsigned)rc;
	}
}

static unsigned reap(struct load *l, unsigned *which)
{
	struct io_event ev[MAX_DEPTH];
	long i, n = syscall(SYS_io_getevents, l->ctx, 1, MAX_DEPTH, ev, NULL);

	if (n < 1)
		die("io_getevents");
	for (i = 0; i < n; i++) {
		if (ev[i].res != l->row->bytes) {
			errno = (int)-ev[i].res;
			die("I/O");
		}
		which[i] = (unsigned)ev[i].data;
	}
	return (unsigned)n;
}

/* One operation after the other, the plain way. */
static uint64_t run_single(struct load *l, double until)
{
	uint64_t done = 0;

	for (; now() < until; done++) {
		off_t at = (off_t)place(l);
		ssize_t n = l->row->write ? pwrite(l->fd, l->buf, l->row->bytes, at)
					  : pread(l->fd, l->buf, l->row->bytes, at);

		if (n != (ssize_t)l->row->bytes || (l->row->flush && fdatasync(l->fd)))
			die("I/O");
	}
	return done;
}

static uint64_t run_deep(struct load *l, double until)
{
	unsigned which[MAX_DEPTH], n, busy;
	uint64_t done = 0;

	if (syscall(SYS_io_setup, MAX_DEPTH, &l->ctx))
		die("io_setup");
	for (n = 0; n < l->row->depth; n++)
		which[n] = n;
	submit(l, which, n);
	for (busy = n; busy;) {
		n = reap(l, which);
		busy -= n;
		done += n;
		if (now() < until) {
			submit(l, which, n);
			busy += n;
		}
	}
	syscall(SYS_io_destroy, l->ctx);
	return done;
}

static void run(const char *dev, double seconds, const char *name)
{
	struct load l = {.seed = 42};
	double t0, t1;
	uint64_t done;
	void *p;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strcmp(rows[i].name, name))
			l.row = &rows[i];
	errno = EINVAL;
	if (!l.row)
		die(name);
	l.fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (l.fd < 0)
		die(dev);
	if (ioctl(l.fd, BLKGETSIZE64, &l.bytes)) {
		struct stat st;

		if (fstat(l.fd, &st))
			die("size");
		l.bytes = (uint64_t)st.st_size;
	}
	if (posix_memalign(&p, 4096, (size_t)l.row->bytes * l.row->depth))
		die("memory");
	l.buf = p;
	memset(p, 0x5a, (size_t)l.row->bytes * l.row->depth);
	t0 = now();
	done = l.row->depth == 1 ? run_single(&l, t0 + seconds) : run_deep(&l, t0 + seconds);
	t1 = now();
	if (l.row->sequential)
		printf("%sblkload %s %.1f\n", prefix, name,
		       (double)(done * l.row->bytes) / 1048576 / (t1 - t0));
	else
		printf("%sblkload %s %.0f\n", prefix, name, (double)done / (t1 - t0));
	fflush(stdout);
	free(p);
	close(l.fd);
}

/* ---- as PID 1 ---- */

static void load_modules(void)
{
	struct dirent **list;
	int i, n = scandir("/modules", &list, NULL, alphasort);

	/* Twice: which of virtio and virtio_ring needs the other differs between kernels. */
	for (i = 0; i < 2 * n; i++) {
		const char *name = list[i % n]->d_name;
		char path[300];
		int fd;

		snprintf(path, sizeof(path), "/modules/%s", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && name[0] != '.')
			syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
}

static char *words(void)
{
	static char line[4096];
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, line, sizeof(line) - 1);
	char *at;

	if (n < 0)
		die("/proc/cmdline");
	line[n] = 0;
	at = strstr(line, "blkload=");
	if (!at)
		die("no blkload= on the command line");
	at += strlen("blkload=");
	at[strcspn(at, " \n")] = 0;
	return at;
}

/* Looks for an order some fifty times a second: next to no load on whoever is measured meanwhile. */
static void obey(const char *dev, const char *orders)
{
	int fd = open(orders, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unsigned long last = 0, number;
	char *sector = aligned_alloc(4096, 4096), row[32];
	double seconds;

	if (fd < 0 || !sector)
		die(orders);
	for (;;) {
		if (pread(fd, sector, 512, 0) != 512)
			die("orders");
		sector[511] = 0;
		if (sscanf(sector, "%lu %lf %31s", &number, &seconds, row) != 3 || number == last) {
			usleep(20000);
			continue;
		}
		if (!strcmp(row, "off"))
			return;
		run(dev, seconds, row);
		last = number;
		printf("%sblkload done %lu\n", prefix, number);
		fflush(stdout);
	}
}

static void as_init(void)
{
	char *save = NULL, *w, *dev;

	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("dev", "/dev", "devtmpfs", 0, NULL))
		die("mount");
	/* The kernel's log reaches a serial port whether that has an interrupt or not. */
	if (!freopen("/dev/kmsg", "w", stdout))
		die("/dev/kmsg");
	prefix = "<2>";
	load_modules();
	w = words();
	dev = strtok_r(w, ",", &save);
	w = strtok_r(NULL, ",", &save);
	if (!dev || !w)
		die("blkload=DEVICE,ORDERS");
	obey(dev, w);
	reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
	int i;

	if (getpid() == 1)
		as_init();
	if (argc < 4)
		return 64;
	for (i = 3; i < argc; i++)
		run(argv[1], atof(argv[2]), argv[i]);
	return 0;
}
