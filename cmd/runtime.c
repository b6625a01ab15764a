/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - the runtime role: one helper per container; see runtime.h for how it works. */
#include "cmd/runtime.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "cmd/roles.h"
#include "core/path.h"
#include "oci/oci.h"
#include "vmm/agent.h"
#include "vmm/jail.h"
#include "vmm/kernel.h"

#define RUNTIME_LISTEN_FD 3
#define MAX_NICS          8
#define LAST_WORDS_MS     1000   /* for what the agent said before the machine went */
#define START_MS          120000 /* for a guest on an emulated CPU of a busy host */
#define RESETS_MAX        5      /* of a machine whose timer does not fire */
#define AGAIN_MS          40000  /* after which it is more likely to hang than to be slow */
#define GRACE_MS          5000 /* for a guest that was told to go, before it is stopped from outside */
#define EXTENSIONS        12    /* so often again while its disks are at work: it syncs */
#define FILES_START_MS    30000 /* for the apiserver to start what it made for a container's files */

/* ---- the machine's way out ---- */

static void stop_answer(struct runtime *rt)
{
	struct rt_waiter *w;

	while ((w = rt->stop_waiters)) {
		rt->stop_waiters = w->next;
		if (w->req)
			rpc_reply(w->req, NULL);
		free(w);
	}
}

/* What a start failed with, and what the guest said before that. */
static int start_failure(const struct runtime *rt, enum error_code code, struct error **err,
			 const char *what)
{
	CLEANUP_FREE char *words = runtime_last_words(rt);

	if (words)
		return error_set(err, code, "%s; its console ended with \"%s\"", what, words);
	return error_set(err, code, "%s; its console said nothing", what);
}

/* finish: the machine is gone. Everyone is answered, then the helper ends. */
static void finish(struct runtime *rt)
{
	if (rt->state == RT_STOPPED)
		return;
	rt->state = RT_STOPPED;
	if (rt->start_req) {
		struct error *e = STEAL(rt->start_error);

		if (!e)
			start_failure(rt, ERR_INTERNAL, &e,
				      "the machine stopped before the process ran");
		rpc_reply_error(STEAL(rt->start_req), e);
		rt->exit_code = 1;
	}
	stop_answer(rt);
	loop_stop(rt->loop);
}

void runtime_check_over(struct runtime *rt)
{
	struct rt_process *p;

	if (!rt->machine_over)
		return;
	for (p = rt->procs; p; p = p->next)
		if (p->state != RT_PROC_EXITED)
			return;
	finish(rt);
}

void runtime_machine_over(struct runtime *rt)
{
	struct rt_process *p, *next;

	if (!rt->vm_gone || rt->machine_over)
		return;
	rt->machine_over = true;
	for (p = rt->procs; p; p = next) {
		next = p->next;
		runtime_process_exited(p, p == rt->procs && p->exit_code  ? p->exit_code
					  : p == rt->procs && !rt->killed ? 255
									  : 137);
	}
	runtime_check_over(rt);
}

/* The guest's last words may still be on their way here: the agent's stream is read to its end first, and then each process's output. */
static void vm_stopped(void *arg, int reason, const char *detail)
{
	static const char *const names[] = {"power-off", "reset", "panic", "crash", "killed"};
	struct runtime *rt = arg;

	log_info("machine stopped: %s%s%s", names[reason], detail ? ": " : "",
		 detail ? detail : "");
	rt->vm_gone = true;
	if ((reason == VM_STOP_PANIC || reason == VM_STOP_RESET || reason == VM_STOP_CRASH) &&
	    !(rt->procs && rt->procs->reported))
		rt->machine_end = names[reason];
	if (rt->start_req && !rt->start_error && reason != VM_STOP_POWEROFF) {
		CLEANUP_FREE char *what = xasprintf("the machine stopped (%s)%s%s", names[reason],
						    detail ? ": " : "", detail ? detail : "");

		start_failure(rt, ERR_INTERNAL, &rt->start_error, what);
	}
	if (rt->agent)
		loop_add_timer(rt->loop, LAST_WORDS_MS, (loop_fn)runtime_machine_over, rt);
	else
		runtime_machine_over(rt);
}

static void stop_expired(void *arg)
{
	struct runtime *rt = arg;

	if (rt->stop_stage == 0 && rt->agent) {
		struct json_object *p = json_object_new_object();

		rt->stop_stage = 1;
		json_set_str(p, "process", "init");
		json_set_int(p, "signal", SIGKILL);
		rpc_call_async(rt->agent, "process.signal", p, NULL, 0, NULL, NULL, NULL);
		(void)vm_disks_work(rt->vm, &rt->disk_work);
		loop_set_timer(rt->stop_timer, GRACE_MS);
		return;
	}
	if (rt->vm_gone)
		return;
	if (rt->vm && vm_disks_work(rt->vm, &rt->disk_work) && rt->extended++ < EXTENSIONS) {
		loop_set_timer(rt->stop_timer, GRACE_MS);
		return;
	}
	log_warn("guest did not go in time: stopped from outside");
	rt->killed = true;
	if (rt->vm)
		vm_kill(rt->vm);
	else
		finish(rt);
}

static void stop_after(struct runtime *rt, int64_t ms)
{
	rt->state = RT_STOPPING;
	if (rt->vm)
		(void)vm_disks_work(rt->vm, &rt->disk_work);
	if (rt->stop_timer)
		loop_set_timer(rt->stop_timer, ms);
	else
		rt->stop_timer = loop_add_timer(rt->loop, ms, stop_expired, rt);
}

void runtime_init_exited(struct runtime *rt)
{
	if (rt->state == RT_STOPPED) {
		runtime_exit_record(rt, rt->procs->exit_code, rt->procs->exited_at);
		return;
	}
	runtime_exit_record(rt, rt->procs->exit_code, rt->procs->exited_at);
	rt->stop_stage = 1; /* the guest powers off by itself now */
	stop_after(rt, GRACE_MS);
}

void runtime_init_failed(struct runtime *rt, struct error *e)
{
	rt->start_error = e;
	/* Before it is ready it is the machine that fails, and not the program. */
	rt->procs->exit_code = e->status = rt->agent_ready ? runtime_program_status(e) : 1;
	runtime_exit_record(rt, rt->procs->exit_code, time_now());
	rt->stop_stage = 1;
	stop_after(rt, 1000);
}

/* ---- start ---- */

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
		.stopped = vm_stopped,
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
	    (!rt->files && runtime_volumes_plan(rt, err) < 0) ||
	    runtime_volumes_open(rt, disks + 2, volumes, err) < 0 ||
	    runtime_shares_start(rt, err) < 0)
		return -1;
	for (size_t i = 0; i < rt->nvolumes; i++)
		hold_fd(rt, volumes[i].fd);
	cfg.ndisks = 2 + rt->nvolumes;
	cfg.fs = rt->shares;
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

		start_failure(rt, ERR_TIMEOUT, &rt->start_error, what);
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
		start_failure(rt, ERR_INTERNAL, &rt->start_error,
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

static void on_start(void *ctx, struct rpc_req *req, struct json_object *params)
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
		loop_add_timer(rt->loop, 200, (loop_fn)finish, rt); /* after the answer is out */
		return;
	}
	rt->state = RT_STARTING;
	rt->start_req = req;
	loop_add_timer(rt->loop, START_MS, start_expired, rt);
	loop_add_timer(rt->loop, AGAIN_MS, start_again, rt);
}

/* ---- processes ---- */

static void exec_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			  const struct error *e)
{
	struct rt_process *proc = arg;
	struct rpc_req *req = STEAL(proc->start_req);
	struct json_object *o;
	struct error *own;

	if (e) {
		own = error_copy(e);
		own->status = proc->task ? 0 : runtime_program_status(e);
		runtime_process_remove(proc);
		rpc_reply_error(req, own);
		return;
	}
	if (proc->state == RT_PROC_STARTING)
		proc->state = RT_PROC_RUNNING;
	o = json_object_new_object();
	json_set_str(o, "process", proc->id);
	rpc_reply(req, o);
}

static void on_exec(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct json_object *in, *p;
	struct rt_process *proc = NULL;
	struct error *e = NULL;
	char id[48];

	if (rt->state != RT_RUNNING || !rt->agent) {
		error_set(&e, ERR_INVALID_STATE, "container %s is not running", rt->id);
		goto fail;
	}
	if (json_need_obj(params, "process", &in, &e) < 0 || runtime_awake(rt, &e) < 0)
		goto fail;
	if (rt->files) /* in no other life of the container is there one of that name */
		snprintf(id, sizeof(id), "%s%d-%u", RUNTIME_TASK, getpid(), ++rt->next_exec);
	else
		snprintf(id, sizeof(id), "exec-%u", ++rt->next_exec);
	proc = runtime_process_new(rt, id, false, &e);
	if (!proc || runtime_streams_open(proc, json_arr(params, "streams"), rpc_req_fds(req), 0,
					  json_flag(in, "tty", false), &e) < 0)
		goto fail;
	p = json_sorted(in);
	json_set_str(p, "id", id);
	proc->task = json_flag(in, "builtin", false);
	runtime_process_limits(rt, p);
	runtime_streams_ports(proc, p);
	proc->start_req = req;
	proc->t_asked = time_mono_us();
	rpc_call_async(rt->agent, "process.start", p, NULL, 0, exec_answered, NULL, proc);
	return;
fail:
	if (proc)
		runtime_process_remove(proc);
	rpc_reply_error(req, e);
}

/* need_process: the process a call names, "init" by default. */
static struct rt_process *need_process(struct runtime *rt, struct json_object *params,
				       struct error **err)
{
	const char *id = json_str(params, "process", "init");
	struct rt_process *p = runtime_process_find(rt, id);

	if (!p)
		error_set(err, ERR_NOT_FOUND, "no process %s in container %s", id, rt->id);
	return p;
}

static void on_wait(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	struct rt_process *p = need_process(ctx, params, &e);

	if (p)
		runtime_process_wait(p, req);
	else
		rpc_reply_error(req, e);
}

static void forward_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			     const struct error *e)
{
	struct rpc_req *req = arg;

	if (e)
		rpc_reply_error(req, error_copy(e));
	else
		rpc_reply(req, NULL);
}

/* forward: a call about one process, passed to the agent with the members it may carry. */
static void forward(struct runtime *rt, struct rpc_req *req, struct json_object *params,
		    const char *method, const char *const *ints)
{
	struct error *e = NULL;
	struct rt_process *proc = need_process(rt, params, &e);
	CLEANUP_JSON struct json_object *p = json_object_new_object();
	int64_t v;

	if (proc && runtime_awake(rt, &e))
		goto fail;
	if (proc && (!rt->agent || !rt->agent_ready || proc->state == RT_PROC_EXITED)) {
		error_set(&e, ERR_INVALID_STATE, "process %s is not running", proc->id);
		proc = NULL;
	}
	if (!proc)
		goto fail;
	json_set_str(p, "process", proc->id);
	for (; *ints; ints++) {
		if (json_need_int(params, *ints, 0, 65535, &v, &e) < 0)
			goto fail;
		json_set_int(p, *ints, v);
	}
	rpc_call_async(rt->agent, method, STEAL(p), NULL, 0, forward_answered, NULL, req);
	return;
fail:
	rpc_reply_error(req, e);
}

static void on_kill(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const ints[] = {"signal", NULL};

	if (json_int(params, "signal", 0) == SIGKILL)
		runtime_unpause(ctx, NULL);
	forward(ctx, req, params, "process.signal", ints);
}

static void on_resize(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const ints[] = {"rows", "cols", NULL};

	forward(ctx, req, params, "process.resize", ints);
}

/* files_stop: the guest closes the disk and goes; tasks are cut off. */
static void files_stop(struct runtime *rt)
{
	if (rt->state == RT_STOPPING || rt->state == RT_STOPPED)
		return;
	rt->stop_stage = 1;
	if (rt->agent)
		rpc_call_async(rt->agent, "shutdown", NULL, NULL, 0, NULL, NULL, NULL);
	stop_after(rt, rt->agent ? GRACE_MS : 0);
}

/* Whoever had it made is gone. */
static void files_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	struct runtime *rt = ctx;

	if (rt->files)
		files_stop(rt);
}

static void files_unused(void *arg)
{
	struct runtime *rt = arg;

	if (rt->state == RT_CREATED)
		files_stop(rt);
}

static void on_stop(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	int64_t ms = json_int(params, "timeout", 5) * 1000;
	int64_t signo = json_int(params, "signal", SIGTERM);

	runtime_waiter_add(&rt->stop_waiters, req);
	if (rt->files) {
		files_stop(rt);
		return;
	}
	runtime_unpause(rt, NULL); /* one that sleeps hears no signal */
	if (rt->state == RT_RUNNING && rt->agent && signo > 0 && signo < 65 && ms > 0) {
		struct json_object *p = json_object_new_object();

		json_set_str(p, "process", "init");
		json_set_int(p, "signal", signo);
		rpc_call_async(rt->agent, "process.signal", p, NULL, 0, NULL, NULL, NULL);
		stop_after(rt, MIN(ms, 86400000));
	} else if (rt->state == RT_RUNNING && rt->agent) {
		stop_after(rt, 0); /* SIGKILL inside first: its files are synced on the way out */
	} else if (rt->state == RT_CREATED || rt->state == RT_STARTING) {
		rt->stop_stage = 1;
		stop_after(rt, 0);
	}
}

static void on_state(void *ctx, struct rpc_req *req, struct json_object *params)
{
	static const char *const names[] = {"created", "starting", "running", "stopping",
					    "stopped"};
	struct runtime *rt = ctx;
	struct json_object *o = json_object_new_object();

	json_set_str(o, "state",
		     rt->state == RT_RUNNING && rt->paused ? "paused" : names[rt->state]);
	if (rt->started_at) {
		CLEANUP_FREE char *at = time_iso8601(rt->started_at);

		json_set_str(o, "startedDate", at);
	}
	json_set(o, "networks",
		 rt->networks ? json_object_get(rt->networks) : json_object_new_array());
	json_set_int(o, "processes", rt->nprocs);
	runtime_health_put(rt, o);
	rpc_reply(req, o);
}

static const struct rpc_route routes[] = {
	{"runtime.publish", runtime_on_publish},
	{"runtime.start", on_start},
	{"runtime.exec", on_exec},
	{"runtime.wait", on_wait},
	{"runtime.kill", on_kill},
	{"runtime.resize", on_resize},
	{"runtime.stop", on_stop},
	{"runtime.state", on_state},
	{"runtime.watch", runtime_on_watch},
	{"runtime.dialed", runtime_on_dialed},
	{"runtime.attach", runtime_on_attach},
	{"runtime.pause", runtime_on_pause},
	{"runtime.resume", runtime_on_resume},
	{"runtime.stats", runtime_on_stats},
	{"runtime.top", runtime_on_top},
	{"runtime.update", runtime_on_update},
	{NULL, NULL},
};

static const struct rpc_handler handler = {
	.service = "container.runtime",
	.routes = routes,
	.on_close = files_closed,
};

/* ---- the role ---- */

static void on_signal(void *arg, int signo)
{
	struct runtime *rt = arg;

	log_info("signal %d: stopping", signo);
	if (rt->files) {
		files_stop(rt);
		return;
	}
	runtime_unpause(rt, NULL);
	rt->stop_stage = rt->agent ? 0 : 1;
	stop_after(rt, 0);
}

static int runtime_open(struct runtime *rt, const char *id, const char *files, bool debug,
			unsigned strange, struct error **err)
{
	CLEANUP_FREE char *dir = NULL, *label = xasprintf("container.runtime.%s", id);
	const char *name = files ? files : id;

	if (roots_init(&rt->roots, NULL, NULL, NULL, NULL, err) < 0)
		return -1;
	if (log_init_service(rt->roots.log, label, debug ? LOG_LVL_DEBUG : LOG_LVL_INFO, err) < 0)
		return -1;
	rt->id = xstrdup(id);
	rt->debug = debug;
	rt->files = files != NULL;
	rt->next_port = AGENT_PORT_STDIO_MIN;
	dir = xasprintf("%s/containers/%s", rt->roots.app, id);
	rt->dirfd = path_open_dir(dir, err);
	if (rt->dirfd < 0)
		return -1;
	rt->run_dir = xasprintf("%s/c/%s.d", rt->roots.run, name);
	rt->sock = xasprintf("%s/c/%s.sock", rt->roots.run, name);
	if (path_mkdirs(rt->run_dir, 0700, err) < 0 || (!files && runtime_files_open(rt, err) < 0))
		return -1;
	rt->loop = loop_new(err);
	if (!rt->loop || !loop_add_signal(rt->loop, SIGTERM, on_signal, rt, err) ||
	    !loop_add_signal(rt->loop, SIGINT, on_signal, rt, err))
		return -1;
	if (files)
		loop_add_timer(rt->loop, FILES_START_MS, files_unused, rt);
	if (strange)
		log_warn("%u descriptors were inherited that should not be there: closed", strange);
	rt->server = rpc_server_new(rt->loop, RUNTIME_LISTEN_FD, &handler, rt, err);
	return rt->server ? 0 : -1;
}

static int run_dir_remove(struct runtime *rt, struct error **err)
{
	const char *name = strrchr(rt->run_dir, '/') + 1;
	CLEANUP_FREE char *parent = xstrndup(rt->run_dir, (size_t)(name - rt->run_dir));
	CLEANUP_CLOSE int dir = path_open_dir(parent, err);

	return dir < 0 ? -1 : path_remove_tree(dir, name, err);
}

/* runtime_close: removes what the helper made in the run directory and gives the machine back. */
static void runtime_close(struct runtime *rt)
{
	CLEANUP_ERROR struct error *e = NULL;
	uint64_t until = time_mono_us() + 100000;

	/* Answers leave before the sockets close; a client that does not read is not waited for. */
	while (!rpc_server_idle(rt->server) && time_mono_us() < until &&
	       loop_turn(rt->loop, 5, &e) == 0)
		;
	if (rt->agent)
		rpc_conn_free(rt->agent);
	if (rt->vm)
		vm_free(rt->vm);
	runtime_shares_free(rt);
	runtime_health_free(rt);
	runtime_sockets_free(rt);
	runtime_volumes_free(rt);
	if (!rt->jailed) { /* else the apiserver does it */
		unlink(rt->sock);
		if (run_dir_remove(rt, &e) < 0)
			log_err(e, "clean up");
	}
	rpc_server_free(rt->server);
}

int runtime_main(int argc, char **argv)
{
	static const int inherited[] = {0, 1, 2, RUNTIME_LISTEN_FD};
	struct runtime rt = {.dirfd = -1, .boot_fd = -1, .exit_fd = -1};
	unsigned strange;
	CLEANUP_OPTS struct opt_args a = {0};
	CLEANUP_ERROR struct error *e = NULL;
	const char *id, *files;
	int status;

	if (!role_parse(&role_runtime, argc, argv, &a, &status))
		return status;
	signal(SIGPIPE, SIG_IGN); /* a client that left is no reason to end a machine */
	id = opt_str(&a, "id", "");
	files = opt_str(&a, "files", NULL);
	if (!*id || strchr(id, '/') || id[0] == '.' || (files && strchr(files, '/')))
		return role_usage(&role_runtime, "'--id' names no container");
	strange = jail_audit(inherited, ARRAY_SIZE(inherited));
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (runtime_open(&rt, id, files, opt_has(&a, "debug"), strange, &e) < 0 ||
	    loop_run(rt.loop, &e) < 0) {
		CLEANUP_FREE char *text = error_text(e);

		log_err(e, "runtime %s", id);
		fprintf(stderr, "container-runtime-linux: %s\n", text);
		return 1;
	}
	runtime_close(&rt);
	return rt.exit_code;
}
