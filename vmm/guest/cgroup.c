/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.c - cgroup v2 (Documentation/admin-guide/cgroup-v2.rst): one group below the root holds the
 * container; the agent stays alone in the root group, which has no limits. Children are born into the group
 * (CLONE_INTO_CGROUP): moving a process there later would wait for an RCU grace period. One that makes groups itself
 * may leave no room there for processes: then they join its first one (spawn.c).
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vmm/guest/guest.h"

#define CGROUP_MOUNT    "/sys/fs/cgroup"
#define CGROUP_MAX_FILE (64u << 10)
#define CPU_PERIOD      100000
#define MAX_CPUS        1024

static int group_fd = -1;
static struct ev events_ev;
static uint64_t kills_told;

static int write_at(int dirfd, const char *name, const char *text, struct error **err)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return error_sys(err, errno, "cgroup: write %s", name);
	return 0;
}

/* A number, or "max" for what is not positive. */
static int limit(const char *name, int64_t value, struct error **err)
{
	char text[64];

	if (value <= 0)
		return write_at(group_fd, name, "max", err);
	snprintf(text, sizeof(text), "%lld", (long long)value);
	return write_at(group_fd, name, text, err);
}

static int limit_cpus(int64_t cpus, struct error **err)
{
	char text[64];

	if (cpus < 0 || cpus > MAX_CPUS)
		return error_set(err, ERR_INVALID_ARGUMENT, "%lld cpus", (long long)cpus);
	if (!cpus)
		return write_at(group_fd, "cpu.max", "max", err);
	snprintf(text, sizeof(text), "%lld %d", (long long)cpus * CPU_PERIOD, CPU_PERIOD);
	return write_at(group_fd, "cpu.max", text, err);
}

/* Shares of cgroup v1, 2 to 262144, to a weight of 1 to 10000, as container runtimes do it; 0 is the weight of everyone. */
static int limit_weight(int64_t shares, struct error **err)
{
	char text[64];

	shares = MIN(MAX(shares, 0), 262144);
	snprintf(text, sizeof(text), "%lld",
		 shares < 2 ? (shares ? 1 : 100) : (long long)(1 + (shares - 2) * 9999 / 262142));
	return write_at(group_fd, "cpu.weight", text, err);
}

static int limit_low(int64_t bytes, struct error **err)
{
	char text[64];

	snprintf(text, sizeof(text), "%lld", (long long)MAX(bytes, 0));
	return write_at(group_fd, "memory.low", text, err);
}

int cgroup_limit(struct json_object *res, struct error **err)
{
	if ((json_get(res, "cpus") && limit_cpus(json_int(res, "cpus", 0), err)) ||
	    (json_get(res, "memory") && limit("memory.max", json_int(res, "memory", 0), err)) ||
	    (json_get(res, "pids") && limit("pids.max", json_int(res, "pids", 0), err)) ||
	    (json_get(res, "memoryLow") && limit_low(json_int(res, "memoryLow", 0), err)) ||
	    (json_get(res, "cpuShares") && limit_weight(json_int(res, "cpuShares", 0), err)))
		return -1;
	return 0;
}

static uint64_t count_kills(int fd)
{
	char text[512], *at;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	uint64_t v;

	text[MAX(n, 0)] = 0;
	at = strstr(text, "\noom_kill ");
	if (!at)
		return 0;
	at += strlen("\noom_kill ");
	at[strcspn(at, "\n")] = 0;
	return parse_u64(at, &v) ? 0 : v;
}

/* The kernel killed something for want of memory: the host is told, once for each time that something is new. */
static void on_events(struct ev *ev, uint32_t events)
{
	struct json_object *o;
	uint64_t kills = count_kills(ev->fd);

	if (kills <= kills_told)
		return;
	kills_told = kills;
	o = json_object_new_object();
	json_set_int(o, "kills", (int64_t)kills);
	wire_notify(&agent_wire, "oom", o);
}

static int watch_oom(struct error **err)
{
	int fd = openat(group_fd, "memory.events", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_sys(err, errno, "cgroup: open memory.events");
	count_kills(fd); /* what is new is what was not read */
	return ev_add(&events_ev, fd, EPOLLPRI, on_events, err);
}

int cgroup_setup(struct json_object *res, struct error **err)
{
	if (mount("cgroup2", CGROUP_MOUNT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) &&
	    errno != EBUSY)
		return error_sys(err, errno, "mount cgroup2");
	if (mkdir(GUEST_CGROUP, 0755) && errno != EEXIST)
		return error_sys(err, errno, "mkdir %s", GUEST_CGROUP);
	group_fd = open(GUEST_CGROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group_fd < 0)
		return error_sys(err, errno, "open %s", GUEST_CGROUP);
	if (write_at(AT_FDCWD, CGROUP_MOUNT "/cgroup.subtree_control", "+cpu +memory +pids", err))
		return -1;
	/* Counts what each disk did for the container; a kernel may do without. */
	write_at(AT_FDCWD, CGROUP_MOUNT "/cgroup.subtree_control", "+io", NULL);
	return cgroup_limit(res, err) ? -1 : watch_oom(err);
}

int cgroup_fd(void)
{
	return group_fd;
}

int cgroup_of(pid_t pid)
{
	static const char ours[] = "0::/container";
	CLEANUP_BUF struct buf b = {0};
	char proc[40], *line, *save = NULL;

	snprintf(proc, sizeof(proc), "/proc/%d/cgroup", (int)pid);
	if (path_read_all(AT_FDCWD, proc, CGROUP_MAX_FILE, &b, NULL) || !b.len)
		return -1;
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (str_prefix(line, ours) && line[sizeof(ours) - 1] == '/')
			return openat(group_fd, line + sizeof(ours),
				      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return -1;
}

void cgroup_freeze(bool on)
{
	static unsigned depth;

	depth = on ? depth + 1 : MAX(depth, 1u) - 1;
	if (group_fd >= 0 && depth <= 1)
		write_at(group_fd, "cgroup.freeze", depth ? "1" : "0", NULL);
}

void cgroup_kill(void)
{
	if (group_fd >= 0)
		write_at(group_fd, "cgroup.kill", "1",
			 NULL); /* 5.14; the pid namespace does the rest */
}

/* The number after "key " in a flat keyed file, or a file's only number with key NULL; 0 when absent. */
static uint64_t read_stat(const char *name, const char *key)
{
	CLEANUP_BUF struct buf b = {0};
	char *line, *save = NULL;
	uint64_t v = 0;

	if (group_fd < 0 || path_read_all(group_fd, name, CGROUP_MAX_FILE, &b, NULL) || !b.len)
		return 0;
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t n = key ? strlen(key) : 0;

		if (!key)
			return parse_u64(line, &v) ? 0 : v;
		if (!strncmp(line, key, n) && line[n] == ' ')
			return parse_u64(line + n + 1, &v) ? 0 : v;
	}
	return 0;
}

uint64_t cgroup_oom_kills(void)
{
	return read_stat("memory.events", "oom_kill");
}

/* Sums received and sent bytes of all links but lo. */
static void net_bytes(uint64_t *rx, uint64_t *tx)
{
	CLEANUP_BUF struct buf b = {0};
	char *line, *save = NULL;

	if (path_read_all(AT_FDCWD, "/proc/net/dev", CGROUP_MAX_FILE, &b, NULL) || !b.len)
		return;
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long r, t;
		char name[32];

		if (sscanf(line, " %31[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &r, &t) ==
			    3 &&
		    strcmp(name, "lo")) {
			*rx += r;
			*tx += t;
		}
	}
}

/* Sums what the virtio disks moved, in 512-byte sectors (Documentation/block/stat.rst: fields 3 and 7). */
static void disk_bytes(uint64_t *rd, uint64_t *wr)
{
	char path[40], c;

	for (c = 'a'; c <= 'z'; c++) {
		CLEANUP_BUF struct buf b = {0};
		unsigned long long r, w;

		snprintf(path, sizeof(path), "/sys/block/vd%c/stat", c);
		if (path_read_all(AT_FDCWD, path, CGROUP_MAX_FILE, &b, NULL) || !b.len)
			return;
		if (sscanf(b.data, "%*u %*u %llu %*u %*u %*u %llu", &r, &w) == 2) {
			*rd += r * 512;
			*wr += w * 512;
		}
	}
}

struct json_object *stats_collect(void)
{
	struct json_object *o = json_object_new_object();
	uint64_t rx = 0, tx = 0, rd = 0, wr = 0;

	net_bytes(&rx, &tx);
	disk_bytes(&rd, &wr);
	json_set_int(o, "memoryUsageBytes", (int64_t)read_stat("memory.current", NULL));
	json_set_int(o, "memoryLimitBytes", (int64_t)read_stat("memory.max", NULL));
	json_set_int(o, "cpuUsageUsec", (int64_t)read_stat("cpu.stat", "usage_usec"));
	json_set_int(o, "networkRxBytes", (int64_t)rx);
	json_set_int(o, "networkTxBytes", (int64_t)tx);
	json_set_int(o, "blockReadBytes", (int64_t)rd);
	json_set_int(o, "blockWriteBytes", (int64_t)wr);
	json_set_int(o, "numProcesses", (int64_t)read_stat("pids.current", NULL));
	json_set_int(o, "oomKills", (int64_t)cgroup_oom_kills());
	return o;
}
