/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_start.c - runtime.start: from a configuration and descriptors to a machine that runs.
 *
 * All the machine will ever read or write is opened or taken here, then it is built, then the jail closes (runtime_jail.c), then its
 * first instruction runs. The answer waits for the agent's word that the container's process has started.
 */
#include "cmd/runtime.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/path.h"
#include "oci/oci.h"
#include "vmm/kernel.h"

#define MAX_NICS   8
#define START_MS   120000 /* for a guest on an emulated CPU of a busy host */
#define RESETS_MAX 5      /* of a machine whose timer does not fire */
#define AGAIN_MS   40000  /* after which it is more likely to hang than to be slow */

static struct json_object *start_timings(const struct runtime *rt)
{
	struct json_object *t = json_object_new_object();
	uint64_t boot = rt->t_ready - rt->t_vm, init = MIN(rt->guest_init_us, boot);

	json_set_int(t, "vmm", (int64_t)(rt->t_vm - rt->t_request));
	json_set_int(t, "kernel", (int64_t)(boot - init));
	json_set_int(t, "init", (int64_t)init);
	json_set_int(t, "process", (int64_t)(rt->t_started - rt->t_ready));
	return t;
}

void runtime_init_started(struct runtime *rt)
{
	struct json_object *o;
	CLEANUP_FREE char *at = NULL;

	rt->t_started = time_mono_us();
	rt->started_at = time_now();
	if (rt->state == RT_STARTING)
		rt->state = RT_RUNNING;
	if (!rt->files) {
		runtime_health_begin(rt);
		runtime_sockets_begin(rt);
	}
	if (!rt->start_req)
		return;
	at = time_iso8601(rt->started_at);
	o = json_object_new_object();
	json_set_str(o, "startedDate", at);
	json_set(o, "timings", start_timings(rt));
	runtime_health_put(rt, o);
	rpc_reply(STEAL(rt->start_req), o);
}

static void hold_fd(struct runtime *rt, int fd)
{
	rt->fds = xreallocarray(rt->fds, rt->nfds + 1, sizeof(*rt->fds));
	rt->fds[rt->nfds++] = fd;
}

static int take_segments(struct runtime *rt, struct rpc_fds *fds, size_t first, size_t n,
			 struct vm_segment *segs, size_t *nsegs, struct error **err)
{
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		int fd = rpc_fds_take(fds, first + i);

		if (fd < 0)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "root file system segment %zu is missing", i);
		hold_fd(rt, fd);
		if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "root file system segment %zu is no file", i);
		if (st.st_size > 0) /* a layer without file contents has an empty one */
			segs[(*nsegs)++] =
				(struct vm_segment){.fd = fd, .len = (uint64_t)st.st_size};
	}
	return 0;
}

static int open_upper(struct runtime *rt, struct vm_segment *seg, struct error **err)
{
	struct stat st;
	int fd = openat(rt->dirfd, "upper.ext4", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno == ENOENT) {
		if (ext4_create(rt->dirfd, "upper.ext4", RUNTIME_UPPER_BYTES, err) < 0)
			return error_wrap(err, "create the writable disk");
		fd = openat(rt->dirfd, "upper.ext4", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_sys(err, errno, "open the writable disk");
	hold_fd(rt, fd);
	/* Two machines with one disk would ruin it. */
	if (runtime_lock(fd, LOCK_EX) < 0)
		return error_set(err, ERR_INVALID_STATE,
				 "the writable disk of container %s is in use by another machine",
				 rt->id);
	*seg = (struct vm_segment){.fd = fd, .len = (uint64_t)st.st_size};
	return 0;
}

static int parse_ip4(const char *cidr, uint8_t ip[4])
{
	CLEANUP_FREE char *s = cidr ? xstrndup(cidr, strcspn(cidr, "/")) : NULL;

	return s && inet_pton(AF_INET, s, ip) == 1 ? 0 : -1;
}

/* A card from what the network helper said of it, and the next descriptors. */
static int take_nic(struct runtime *rt, struct json_object *a, struct rpc_fds *fds, size_t first,
		    struct vm_nic *nic, struct error **err)
{
	unsigned i;

	nic->mtu = (uint16_t)json_int(a, "mtu", 1500);
	if (mac_parse(json_str(a, "macAddress", ""), nic->mac) < 0 ||
	    parse_ip4(json_str(a, "ipv4Address", NULL), nic->ip4) < 0)
		return error_set(err, ERR_INVALID_ARGUMENT, "a network without valid addresses");
	for (i = 0; i < nic->nfds; i++) {
		nic->fd[i] = rpc_fds_take(fds, first + i);
		if (nic->fd[i] < 0)
			return error_set(err, ERR_INVALID_ARGUMENT, "tap %zu is missing",
					 first + i);
		hold_fd(rt, nic->fd[i]);
	}
	return 0;
}

static struct json_object *array_at(struct json_object *a, size_t i)
{
	return a && i < json_object_array_length(a) ? json_object_array_get_idx(a, i) : NULL;
}

static int take_nics(struct runtime *rt, struct json_object *queues, struct rpc_fds *fds, size_t n,
		     struct vm_nic *nics, size_t *nnics, struct error **err)
{
	size_t at = 0;

	for (*nnics = 0; at < n; (*nnics)++) {
		struct json_object *a = array_at(rt->networks, *nnics);
		struct json_object *q = array_at(queues, *nnics);
		int64_t nfds = q ? json_object_get_int64(q) : 1;

		if (*nnics == MAX_NICS || !a || nfds < 1 || nfds > VM_NIC_QUEUES ||
		    (size_t)nfds > n - at)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "taps and networks differ in number");
		nics[*nnics] = (struct vm_nic){.nfds = (unsigned)nfds};
		if (take_nic(rt, a, fds, at, &nics[*nnics], err) < 0)
			return error_wrap(err, "network %zu", *nnics);
		at += (size_t)nfds;
	}
	return 0;
}

/* What the machine boots from: the kernel file and the pieces of its initramfs. */
struct boot_files {
	int kernel_fd;
	struct buf init, modules, nested, emulator, boot;
};

static void boot_files_free(struct boot_files *b)
{
	if (b->kernel_fd >= 0)
		close(b->kernel_fd);
	buf_free(&b->init);
	buf_free(&b->modules);
	buf_free(&b->nested);
	buf_free(&b->emulator);
	buf_free(&b->boot);
}

/* A piece that not every kernel has. */
static int read_piece(int dir, const char *name, struct buf *out, struct error **err)
{
	CLEANUP_ERROR struct error *none = NULL;

	if (path_read_all(dir, name, 64u << 20, out, &none) < 0 && none->code != ERR_NOT_FOUND)
		return error_move(err, STEAL(none));
	return 0;
}

/* Whether its guest is offered virtualization; a machine for files alone has no use for it. */
static bool nested(const struct runtime *rt)
{
	return !rt->files && json_flag(rt->config, "virtualization", false);
}

static int boot_files_open(struct runtime *rt, struct boot_files *b, struct json_object *params,
			   struct json_object *boot, struct error **err)
{
	const char *kernel_dir = json_str(json_obj(params, "kernel"), "dir", "");
	CLEANUP_CLOSE int dir = path_open_dir(kernel_dir, err);
	CLEANUP_BUF struct buf filter = {0};
	const char *text;

	if (dir < 0)
		return error_wrap(err, "guest kernel");
	b->kernel_fd = path_open_beneath(dir, "vmlinux", O_RDONLY, 0, err);
	if (b->kernel_fd < 0)
		return error_wrap(err, "guest kernel %s", kernel_dir);
	if (guest_init_cpio(&b->init, err) < 0)
		return -1;
	if (read_piece(dir, "modules.cpio", &b->modules, err) < 0 ||
	    (nested(rt) && read_piece(dir, KERNEL_NESTED, &b->nested, err) < 0))
		return -1;
	if (!rt->files && runtime_emulator(rt, json_str(params, "emulatorDir", "/usr/bin"), boot,
					   &b->emulator, err))
		return -1;
	text = json_object_to_json_string_ext(boot, JSON_C_TO_STRING_PLAIN);
	cpio_file(&b->boot, "boot.json", 0600, text, strlen(text));
	if (!rt->files && runtime_seccomp(rt, &filter, err) < 0)
		return -1;
	if (filter.len)
		cpio_file(&b->boot, "seccomp.bpf", 0600, filter.data, filter.len);
	cpio_end(&b->boot);
	return 0;
}

struct start_counts {
	int64_t ntaps, nrootfs, cpus, memory;
};

static int start_check(struct runtime *rt, struct json_object *params, struct start_counts *c,
		       struct error **err)
{
	struct json_object *config, *res;

	if (rt->state != RT_CREATED)
		return error_set(err, ERR_INVALID_STATE, "container %s was started already",
				 rt->id);
	if (json_need_obj(params, "configuration", &config, err) < 0 ||
	    json_need_int(params, "ntaps", 0, MAX_NICS * VM_NIC_QUEUES, &c->ntaps, err) < 0 ||
	    json_need_int(params, "nrootfs", 1, 200, &c->nrootfs, err) < 0 ||
	    json_need_obj(config, "resources", &res, err) < 0 ||
	    json_need_int(res, "cpus", 1, 64, &c->cpus, err) < 0 ||
	    json_need_int(res, "memoryInBytes", 16 << 20, 1ll << 42, &c->memory, err) < 0)
		return -1;
	rt->config = json_object_get(config);
	rt->networks = json_object_get(json_arr(json_obj(params, "boot"), "networks"));
	if (rt->files) {
		c->cpus = 1;
		c->memory = RUNTIME_FILES_MEM;
	}
	rt->caps = runtime_capabilities(rt->config, &rt->cap_mask, err);
	return rt->caps ? 0 : -1;
}

static int start_process(struct runtime *rt, struct json_object *params,
			 const struct start_counts *c, struct rpc_fds *fds, struct error **err)
{
	bool tty = json_flag(json_obj(rt->config, "initProcess"), "terminal", false);
	struct rt_process *init = runtime_process_new(rt, "init", !rt->files, err);

	if (!init)
		return -1;
	if (rt->files)
		return 0;
	if (runtime_streams_open(init, json_arr(params, "streams"), fds,
				 (size_t)(c->ntaps + c->nrootfs), tty, err) < 0)
		return -1;
	if (json_flag(params, "keepStdin", false))
		runtime_stdin_keep(init);
	return 0;
}

/* kernel_words: our words for the kernel's command line, then the container's own; owned by the caller. */
static char *kernel_words(struct runtime *rt, bool debug)
{
	struct json_object *words = rt->files ? NULL : json_arr(rt->config, "kernelArgs");
	struct buf b = {0};

	buf_puts(&b, debug ? "debug" : "quiet");
	for (size_t i = 0; words && i < json_object_array_length(words); i++)
		buf_printf(&b, " %s", json_object_get_string(json_object_array_get_idx(words, i)));
	return b.data;
}

/* What somebody else lives by as long as this machine does: it is held open, and that is all. The last ones of the call. */
static int take_kept(struct runtime *rt, struct json_object *params, struct rpc_fds *fds,
		     struct error **err)
{
	int64_t n = 0;

	if (json_get(params, "nkeep") && json_need_int(params, "nkeep", 0, MAX_NICS, &n, err) < 0)
		return -1;
	for (; n; n--) {
		int fd = rpc_fds_take(fds, fds->n - (size_t)n);

		if (fd < 0)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "a descriptor to be kept is missing");
		hold_fd(rt, fd);
	}
	return 0;
}

static int start_machine(struct runtime *rt, struct json_object *params,
			 const struct start_counts *c, struct rpc_fds *fds, struct error **err)
{
	CLEANUP_FREE struct vm_segment *segs = xcalloc((size_t)c->nrootfs, sizeof(*segs));
	struct vm_segment upper, volumes[RUNTIME_MAX_VOLUMES];
	struct vm_nic nics[MAX_NICS];
	struct vm_disk disks[2 + RUNTIME_MAX_VOLUMES] = {
		{.segs = segs, .readonly = true, .serial = "rootfs"},
		{.segs = &upper, .nsegs = 1, .serial = "upper"}};
	CLEANUP(boot_files_free) struct boot_files files = {.kernel_fd = -1};
	CLEANUP_JSON struct json_object *boot = NULL;
	CLEANUP_FREE char *cmdline = kernel_words(rt, json_flag(params, "debug", false));
	struct iovec initrd[5];
	size_t room, more;
	struct vm_config cfg = {
		.vcpus = (unsigned)c->cpus,
		.mem_bytes = ALIGN_UP((uint64_t)c->memory + RUNTIME_OVERHEAD, 2ull << 20),
		.disks = disks,
		.ndisks = 2,
		.nics = nics,
		.initrd = initrd,
		.ninitrd = ARRAY_SIZE(initrd),
		.cmdline = cmdline,
		.nested = nested(rt),
		.cid = RUNTIME_GUEST_CID,
		.run_dir = rt->run_dir,
		.qemu_path = json_str(params, "qemuPath", NULL),
		.tsc_khz = (uint64_t)MAX(json_int(params, "tscKhz", 0), 0),
		.accept = runtime_accept,
		.console = runtime_console,
		.stopped = runtime_vm_stopped,
		.arg = rt,
	};

	if (vm_engine_parse(json_str(params, "engine", ""), &cfg.engine) < 0)
		return error_set(err, ERR_INVALID_ARGUMENT, "unknown engine");
	runtime_jail_plan(rt, &cfg);
	if (take_nics(rt, json_arr(params, "queues"), fds, (size_t)c->ntaps, nics, &cfg.nnics,
		      err) < 0 ||
	    take_segments(rt, fds, (size_t)c->ntaps, (size_t)c->nrootfs, segs, &disks[0].nsegs,
			  err) < 0 ||
	    take_kept(rt, params, fds, err) < 0 || open_upper(rt, &upper, err) < 0 ||
	    (!rt->files && runtime_volumes_plan(rt, err) < 0) || runtime_shares_start(rt, err) < 0)
		return -1;
	cfg.fs = rt->shares;
	room = vm_disks_max(&cfg);
	if (runtime_volumes_open(rt, room > 2 ? room - 2 : 0, disks + 2, &more, volumes, err) < 0)
		return -1;
	for (size_t i = 0; i < rt->nvolumes; i++)
		hold_fd(rt, volumes[i].fd);
	cfg.ndisks = 2 + more;
	boot = rt->files ? runtime_boot_files(rt, params)
			 : runtime_boot_json(rt, params, rt->procs, err);
	if (!boot || boot_files_open(rt, &files, params, boot, err) < 0)
		return -1;
	initrd[0] = (struct iovec){files.init.data, files.init.len};
	initrd[1] = (struct iovec){files.modules.data, files.modules.len};
	initrd[2] = (struct iovec){files.nested.data, files.nested.len};
	initrd[3] = (struct iovec){files.emulator.data, files.emulator.len};
	initrd[4] = (struct iovec){files.boot.data, files.boot.len};
	cfg.kernel_fd = files.kernel_fd;
	rt->vm = vm_new(rt->loop, &cfg, err);
	if (!rt->vm)
		return error_wrap(err, "build the machine");
	hold_fd(rt, steal_fd(&files.kernel_fd));
	rt->t_built = time_mono_us();
	if (runtime_shares_ready(rt, err) < 0)
		return -1;
	runtime_jail_prepare(rt);
	if (vm_start(rt->vm, err) < 0)
		return error_wrap(err, "start the machine");
	rt->t_vm = time_mono_us();
	return 0;
}

/* A guest that hangs or halts before its process runs says nothing more. */
static void start_expired(void *arg)
{
	struct runtime *rt = arg;

	if (!rt->start_req || rt->vm_gone)
		return;
	if (!rt->start_error) {
		CLEANUP_FREE char *what =
			xasprintf("the guest did not come up in %d s", START_MS / 1000);

		runtime_start_failure(rt, ERR_TIMEOUT, &rt->start_error, what);
	}
	vm_kill(rt->vm);
}

static bool coming_up(const struct runtime *rt)
{
	return rt->start_req && rt->vm && !rt->vm_gone && !rt->agent_ready && !rt->start_error;
}

void runtime_no_ticks(struct runtime *rt)
{
	if (!coming_up(rt))
		return;
	if (rt->resets++ == RESETS_MAX) {
		runtime_start_failure(rt, ERR_INTERNAL, &rt->start_error,
				      "the machine's timer does not fire");
		vm_kill(rt->vm);
		return;
	}
	/* Where a reset is no help the guest goes on as it can. */
	log_warn("the machine's timer does not fire: it %s",
		 vm_again(rt->vm) ? "is reset" : "goes on without");
}

/* A start on QEMU's emulated CPU that hangs for a reason nobody knows may come up the second time. */
static void start_again(void *arg)
{
	struct runtime *rt = arg;
	CLEANUP_FREE char *words = runtime_last_words(rt);

	if (!coming_up(rt))
		return;
	vm_log_queues(rt->vm);
	if (vm_again(rt->vm))
		log_warn("the guest did not come up in %d s: its machine is reset; %s dialled us, "
			 "its console ended with \"%s\"",
			 AGAIN_MS / 1000, rt->agent ? "it has" : "it never", words ? words : "");
}

/* What serves the files of a stopped container leaves its log alone. */
static int start_log(struct runtime *rt, struct json_object *params, struct error **err)
{
	if (rt->files)
		return 0;
	return stdlog_open(&rt->log, rt->dirfd, rt->config, json_flag(params, "keepLog", false),
			   err);
}

void runtime_on_start(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct start_counts counts = {0};
	struct error *e = NULL;

	rt->t_request = time_mono_us();
	if (rt->state != RT_CREATED) {
		error_set(&e, ERR_INVALID_STATE, "container %s was started already", rt->id);
		rpc_reply_error(req, e);
		return;
	}
	if (start_check(rt, params, &counts, &e) < 0 || start_log(rt, params, &e) < 0 ||
	    start_process(rt, params, &counts, rpc_req_fds(req), &e) < 0 ||
	    start_machine(rt, params, &counts, rpc_req_fds(req), &e) < 0) {
		log_err(e, "start");
		rpc_reply_error(req, e);
		rt->exit_code = 1;
		rt->state = RT_STOPPING;
		loop_add_timer(rt->loop, 200, runtime_finish, rt); /* after the answer is out */
		return;
	}
	rt->state = RT_STARTING;
	rt->start_req = req;
	loop_add_timer(rt->loop, START_MS, start_expired, rt);
	loop_add_timer(rt->loop, AGAIN_MS, start_again, rt);
}
