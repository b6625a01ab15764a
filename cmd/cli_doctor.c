/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_doctor.c - system doctor: what this host lacks, and what to do about it.
 *
 * Each check looks at the host itself, with the rights of whoever asks, and needs no running system: the services do the same
 * things later with the same rights. A check ends in one of three states: ok; warning: it works, but slower, with less, or
 * not for everybody; missing: containers cannot run or cannot be reached.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "cmd/cli.h"
#include "cmd/table.h"
#include "core/path.h"
#include "core/proc.h"
#include "net/net.h"
#include "vmm/vm.h"

#define DISK_LOW (1ull << 30)

enum state { STATE_OK, STATE_WARNING, STATE_MISSING };

static const char *const state_names[] = {
	[STATE_OK] = "ok", [STATE_WARNING] = "warning", [STATE_MISSING] = "missing"};

struct finding {
	enum state state;
	char *detail;    /* owned */
	const char *fix; /* shown unless the state is ok, and then there is one */
};

struct doctor {
	struct cli *cli;
	struct config *config;
	bool kvm, qemu; /* engines that work */
};

static struct finding found(enum state state, const char *fix, char *detail)
{
	return (struct finding){.state = state, .fix = fix, .detail = detail};
}

static struct finding check_kvm(struct doctor *d)
{
	CLEANUP_ERROR struct error *e = NULL;
	enum vm_engine engine;
	char *why = NULL;

	d->kvm = !vm_engine_choose(VM_ENGINE_KVM, NULL, &engine, &why, &e);
	if (d->kvm)
		return found(STATE_OK, NULL, why);
	why = error_text(e);
	if (access("/dev/kvm", F_OK))
		return found(STATE_WARNING,
			     "enable virtualization in the firmware (or nested virtualization "
			     "where this host is a guest) and load "
			     "kvm_intel or kvm_amd; until then the qemu engine does, some 15 times "
			     "slower",
			     why);
	if (access("/dev/kvm", R_OK | W_OK))
		return found(STATE_WARNING, "join the group that owns /dev/kvm (usually kvm)", why);
	return found(STATE_WARNING,
		     "this host's /dev/kvm does not run a Linux guest; the qemu engine does, some "
		     "15 times slower",
		     why);
}

static struct finding check_qemu(struct doctor *d)
{
	CLEANUP_ERROR struct error *e = NULL;
	enum vm_engine engine;
	char *why = NULL;

	d->qemu = !vm_engine_choose(VM_ENGINE_QEMU, config_str(d->config, "qemu.path"), &engine,
				    &why, &e);
	if (d->qemu)
		return found(STATE_OK, NULL, why);
	if (d->kvm)
		return found(STATE_OK, NULL, xstrdup("not installed, and not needed with kvm"));
	return found(STATE_MISSING, "install the package qemu-system-x86, or make kvm work",
		     error_text(e));
}

static struct finding check_kernel(struct doctor *d)
{
	CLEANUP_FREE char *link = xasprintf("%s/kernels/default", d->cli->roots.app);
	CLEANUP_FREE char *file = xasprintf("%s/vmlinux", link);
	const char *path = config_str(d->config, "kernel.path");
	char to[256];
	ssize_t n;

	if (path && access(path, R_OK))
		return found(STATE_MISSING, "correct kernel.path in the configuration",
			     xasprintf("kernel.path: %s cannot be read", path));
	n = readlink(link, to, sizeof(to) - 1);
	if (n < 0 && errno == EACCES)
		return found(STATE_WARNING, "ask as the user whose system it is",
			     xasprintf("%s cannot be read", link));
	if (n <= 0 || access(file, R_OK))
		return found(STATE_MISSING,
			     "container system kernel set --recommended (after `make kernel`, or "
			     "with the package "
			     "linux-image-cloud-amd64)",
			     xstrdup("no default guest kernel"));
	return found(STATE_OK, NULL, xasprintf("%.*s", (int)n, to));
}

static struct finding check_tun(struct doctor *d)
{
	CLEANUP_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return found(STATE_OK, NULL, xstrdup("/dev/net/tun"));
	return found(STATE_MISSING,
		     errno == ENOENT || errno == ENODEV || errno == ENXIO
			     ? "load the module tun"
			     : "open /dev/net/tun for this user (mode 0666 is usual)",
		     xasprintf("/dev/net/tun: %s", strerror(errno)));
}

static struct finding check_nftables(struct doctor *d)
{
	CLEANUP_ERROR struct error *e = NULL;

	if (!net_nft_check(&e))
		return found(STATE_OK, NULL, xstrdup("the kernel takes our tables"));
	if (e->sys == EPERM) {
		CLEANUP_FREE char *passt = proc_find("passt");

		return passt ? found(STATE_OK, NULL,
				     xasprintf("not allowed to this user: containers get out "
					       "through %s",
					       passt))
			     : found(STATE_WARNING,
				     "install passt (Debian: package passt), or run the system as "
				     "root",
				     xstrdup("not allowed to this user"));
	}
	return found(STATE_MISSING, "load the module nf_tables (and nft_masq, nft_ct)",
		     error_text(e));
}

/* Name servers that a container could ask: one on the host's loopback is out of its reach. */
static struct finding check_dns(struct doctor *d)
{
	CLEANUP_BUF struct buf text = {0};
	unsigned all = 0, usable = 0;
	char *line, *save = NULL;

	if (path_read_all(AT_FDCWD, "/etc/resolv.conf", 64 << 10, &text, NULL) < 0 || !text.data)
		return found(STATE_WARNING, "give the host a name server",
			     xstrdup("no /etc/resolv.conf"));
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct in_addr a;
		char ip[64];

		if (sscanf(line, " nameserver %63s", ip) != 1)
			continue;
		all++;
		usable += inet_pton(AF_INET, ip, &a) == 1 && ntohl(a.s_addr) >> 24 != 127;
	}
	if (usable)
		return found(STATE_OK, NULL, xasprintf("%u name servers for containers", usable));
	return found(STATE_WARNING, "give containers a name server of their own: run --dns ADDRESS",
		     xasprintf("none of %u name servers in /etc/resolv.conf can be reached from a "
			       "container",
			       all));
}

static struct finding check_cgroup(struct doctor *d)
{
	static const char *const want[] = {"cpu", "memory", "pids"};
	CLEANUP_BUF struct buf have = {0}, lacking = {0};
	const char *fix =
		"boot with systemd.unified_cgroup_hierarchy=1 and the controllers enabled";
	struct statfs fs;
	size_t i;

	if (statfs("/sys/fs/cgroup", &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		return found(STATE_WARNING, fix,
			     xstrdup("/sys/fs/cgroup is not cgroup v2: limits hold inside the "
				     "machine only"));
	path_read_all(AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", 4096, &have, NULL);
	buf_puts(&have, " ");
	for (i = 0; i < ARRAY_SIZE(want); i++)
		if (!strstr(have.data, want[i]))
			buf_printf(&lacking, " %s", want[i]);
	if (lacking.len)
		return found(STATE_WARNING, fix, xasprintf("cgroup v2 without%s", lacking.data));
	if (access("/sys/fs/cgroup/cgroup.procs", W_OK))
		return found(
			STATE_WARNING, "run the system as root, or in a delegated cgroup",
			xstrdup("cgroup v2, not writable: limits hold inside the machine only"));
	return found(STATE_OK, NULL, xstrdup("v2 with cpu, memory and pids"));
}

static struct finding check_io_uring(struct doctor *d)
{
	char params[120] = {0}; /* struct io_uring_params; of 1 entry */
	CLEANUP_CLOSE int fd = (int)syscall(SYS_io_uring_setup, 1, params);

	if (fd >= 0)
		return found(STATE_OK, NULL, xstrdup("for disks with many requests"));
	return found(STATE_OK, NULL, xasprintf("not used: %s", strerror(errno)));
}

static struct finding check_memory(struct doctor *d)
{
	const char *text = config_str(d->config, "container.memory"), *at;
	CLEANUP_BUF struct buf info = {0};
	unsigned long long kib = 0;
	uint64_t want = 0;

	path_read_all(AT_FDCWD, "/proc/meminfo", 16 << 10, &info, NULL);
	at = info.data ? strstr(info.data, "MemAvailable:") : NULL;
	if (!at || sscanf(at, "MemAvailable: %llu", &kib) != 1 || parse_size(text, &want, NULL))
		return found(STATE_WARNING, "mount /proc", xstrdup("/proc/meminfo does not say"));
	return found(kib << 10 > want ? STATE_OK : STATE_WARNING,
		     "a container gets container.memory unless `run --memory` says otherwise",
		     xasprintf("%llu MiB available, a container may use %llu", kib >> 10,
			       (unsigned long long)want >> 20));
}

/* The nearest of path and what it lies in that exists. */
static char *existing(const char *path)
{
	char *p = xstrdup(path), *slash;

	while (access(p, F_OK) && (slash = strrchr(p, '/')) && slash > p)
		*slash = '\0';
	return p;
}

/* The disk of the images and containers: room, and files with holes. */
static struct finding check_disk(struct doctor *d)
{
	CLEANUP_FREE char *dir = existing(d->cli->roots.app);
	CLEANUP_FREE char *inside = xasprintf("%s/.", dir);
	CLEANUP_CLOSE int fd = -1;
	uint64_t avail;
	struct statfs fs;

	if (statfs(dir, &fs) < 0)
		return found(STATE_MISSING, "name another directory in CONTAINER_APP_ROOT",
			     xasprintf("%s: %s", dir, strerror(errno)));
	avail = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	if (access(inside, W_OK))
		return found(
			STATE_MISSING,
			"give this user the directory, or name another one in CONTAINER_APP_ROOT",
			xasprintf("%s: %s", dir, strerror(errno)));
	if (avail < DISK_LOW)
		return found(STATE_WARNING, "container image prune --all; container prune",
			     xasprintf("%s: %llu MiB free", dir, (unsigned long long)avail >> 20));
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 && (ftruncate(fd, 1 << 20) ||
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)))
		return found(
			STATE_WARNING, "put CONTAINER_APP_ROOT on ext4, xfs, btrfs or tmpfs",
			xasprintf("%s cannot punch holes: what containers delete is not given back",
				  dir));
	return found(STATE_OK, NULL,
		     xasprintf("%s: %llu GiB free", dir, (unsigned long long)avail >> 30));
}

static struct finding check_services(struct doctor *d)
{
	CLEANUP_ERROR struct error *e = NULL;
	struct json_object *reply = NULL;
	int rc = cli_call(d->cli, "ping", NULL, &reply, &e);

	json_object_put(reply);
	if (!rc)
		return found(STATE_OK, NULL, xstrdup("running"));
	return found(STATE_WARNING, "container system start", error_text(e));
}

static const struct check {
	const char *name;
	struct finding (*fn)(struct doctor *d);
} checks[] = {
	{"kvm", check_kvm},       {"qemu", check_qemu}, /* after kvm: it matters without */
	{"kernel", check_kernel}, {"tun", check_tun},       {"nftables", check_nftables},
	{"dns", check_dns},       {"cgroup", check_cgroup}, {"io_uring", check_io_uring},
	{"memory", check_memory}, {"disk", check_disk},     {"services", check_services},
};

static struct json_object *examine(struct doctor *d, unsigned *missing)
{
	struct json_object *list = json_object_new_array();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(checks); i++) {
		struct finding f = checks[i].fn(d);
		struct json_object *o = json_object_new_object();

		json_set_str(o, "check", checks[i].name);
		json_set_str(o, "state", state_names[f.state]);
		json_set_str(o, "detail", f.detail);
		if (f.state != STATE_OK)
			json_set_str(o, "fix", f.fix);
		json_object_array_add(list, o);
		*missing += f.state == STATE_MISSING;
		free(f.detail);
	}
	return list;
}

static void print_table(struct json_object *list)
{
	static const char *const titles[] = {"CHECK", "STATE", "DETAIL", NULL};
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	size_t i;

	table_init(&t, titles);
	for (i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *fix = json_str(o, "fix", NULL);

		table_cell(&t, json_str(o, "check", ""));
		table_cell(&t, json_str(o, "state", ""));
		table_cell(&t, json_str(o, "detail", ""));
		if (fix) {
			table_cell(&t, "");
			table_cell(&t, "");
			table_cellf(&t, "-> %s", fix);
		}
	}
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
}

static int run_doctor(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *list = NULL;
	enum format f = format_parse(opt_str(a, "format", NULL));
	struct doctor d = {.cli = c};
	unsigned missing = 0;

	if (cli_roots(c, err))
		return -1;
	d.config = config_load(err);
	if (!d.config)
		return -1;
	list = examine(&d, &missing);
	config_free(d.config);
	if (f == FORMAT_TABLE)
		print_table(list);
	else
		format_print(f, list);
	return missing ? 1 : 0;
}

static const struct opt opt_doctor[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{0},
};
static const struct opt *const doctor_opts[] = {opt_doctor, NULL};

const struct opt_cmd cmd_system_doctor = {
	.name = "doctor",
	.summary = "Show what this host lacks, and what to do about it",
	.group = SYSTEM_GROUP,
	.opts = doctor_opts,
	.notes = "The exit status is 1 when something is missing without which containers do not "
		 "run.",
	.run = run_doctor,
};
