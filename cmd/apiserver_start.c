/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_start.c - starting a container: several legs side by side, then one call to its helper.
 *
 *   engine known ─┐
 *   kernel ready ─┤
 *   image.rootfs ─┼─→ runtime.start (descriptors: taps, root file system, streams) ─→ answer
 *   network lease ┤
 *   files let go  ┤
 *   helper spawned┘
 *
 * The first leg that fails ends the start: the helper, if it is there, is made to end, and with its end
 * (container_ended) the lease is given back and the client gets the error. A leg that answers after that finds the
 * operation done; it is counted, so its memory is still there.
 */
#include <fcntl.h>
#include <signal.h>

#include "cmd/apiserver.h"
#include "cmd/cgroup.h"
#include "cmd/runtime.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/state.h"

#define HELPER_END_MS 2000 /* for a helper that answered with an error to end by itself */
#define MAX_SEGMENTS  200
#define FILES_WAIT_MS 60000 /* for tasks on the files of a container that is to be started */
#define NET_QUEUES    4

struct start_op {
	unsigned refs;
	struct apiserver *s;
	struct container *ct; /* NULL when it is over */
	struct rpc_req *req;
	struct json_object *params;
	struct json_object *config; /* the container's */
	struct error *e;            /* the first failure */
	unsigned legs;              /* still under way */
	bool wants_engine;
	char *kernel;
	char *kernel_src; /* to be imported first */
	struct error *kernel_err;
	bool wants_files;
	struct loop_source *files_timer;
	struct json_object *networks, *timings;
	int *rootfs;
	size_t nrootfs;
	int taps[VM_NIC_QUEUES]; /* queues of the one network's tap, or a socket */
	size_t ntaps;
	int keep; /* what lives as long as the machine has this open, -1: nothing */
	uint64_t t_image, t_network;
};

static void op_unref(struct start_op *op)
{
	size_t i;

	if (--op->refs)
		return;
	for (i = 0; i < op->nrootfs; i++)
		if (op->rootfs[i] >= 0)
			close(op->rootfs[i]);
	for (i = 0; i < op->ntaps; i++)
		close(op->taps[i]);
	base_close_fd(&op->keep);
	free_shared(op->rootfs);
	free_shared(op->kernel);
	free_shared(op->kernel_src);
	error_free(op->kernel_err);
	error_free(op->e);
	json_object_put(op->params);
	json_object_put(op->config);
	json_object_put(op->networks);
	json_object_put(op->timings);
	free_shared(op);
}

/* ---- failing ---- */

static void start_wrap(struct start_op *op)
{
	error_wrap(&op->e, op->ct->serves ? "files of container %s" : "start container %s",
		   files_name(op->ct));
}

void start_abort(struct container *ct, struct error *e)
{
	struct start_op *op = ct->start;

	if (!op || op->e) {
		error_free(e);
		return;
	}
	op->e = e;
	start_wrap(op);
	log_err(op->e, "container");
	if (ct->pidfd >= 0)
		container_kill_helper(ct);
	else
		container_ended(ct);
}

void start_ended(struct container *ct)
{
	struct start_op *op = STEAL(ct->start);

	ct->keep_log = true;
	ct->restarting = false;
	loop_source_free(STEAL(op->files_timer));
	if (!op->e) {
		error_set(&op->e, ERR_INTERNAL,
			  "its runtime helper ended; see container.runtime.%s.log in %s",
			  files_name(ct), ct->s->roots.log);
		start_wrap(op);
	}
	op->ct = NULL;
	if (op->req)
		rpc_reply_error(op->req, STEAL(op->e));
	else if (ct->serves)
		files_failed(ct, STEAL(op->e));
	op_unref(op);
}

/* ---- the call ---- */

static struct json_object *start_boot(struct start_op *op)
{
	struct json_object *boot = json_object_new_object();
	struct json_object *first = json_object_array_get_idx(op->networks, 0);
	const char *name =
		json_str(op->config, "hostname", json_str(first, "hostname", op->ct->id));
	CLEANUP_FREE char *host = xstrndup(name, strcspn(name, "."));

	if (json_get(op->config, "hostname"))
		json_set_str(boot, "hostname", name); /* as it was given */
	else
		json_set_str(boot, "hostname", *host ? host : op->ct->id);
	json_set(boot, "networks", json_object_get(op->networks));
	return boot;
}

static struct json_object *start_params(struct start_op *op)
{
	static const char *const same[] = {"streams", "rows",      "cols",
					   "env",     "keepStdin", "keepLog"};
	struct json_object *p = json_object_new_object(), *kernel = json_object_new_object();
	struct json_object *queues = json_object_new_array();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(same); i++)
		if (json_get(op->params, same[i]))
			json_set(p, same[i], json_object_get(json_get(op->params, same[i])));
	json_set(p, "configuration", json_object_get(op->config));
	json_set(p, "boot", start_boot(op));
	json_set_str(kernel, "dir", op->kernel);
	json_set(p, "kernel", kernel);
	json_set_str(p, "engine", vm_engine_name(op->s->engine));
	json_set_str(p, "qemuPath", config_str(op->s->config, "qemu.path"));
	json_set_str(p, "emulatorDir", config_str(op->s->config, "emulator.dir"));
	json_set_int(p, "tscKhz", (int64_t)op->s->tsc_khz);
	json_set_bool(p, "debug", op->s->verbose);
	json_set_int(p, "ntaps", (int64_t)op->ntaps);
	json_set(p, "queues", queues);
	if (op->ntaps)
		json_object_array_add(queues, json_object_new_int64((int64_t)op->ntaps));
	json_set_int(p, "nrootfs", (int64_t)op->nrootfs);
	json_set_int(p, "nkeep", op->keep >= 0);
	if (!op->ct->serves)
		json_set(p, "relays", sockets_relays(op->config));
	return p;
}

static void start_done(struct start_op *op, struct json_object *result)
{
	struct container *ct = op->ct;
	struct json_object *o = json_object_new_object(), *t = json_obj(result, "timings");
	CLEANUP_FREE char *now = time_iso8601(time_now());

	if (t) {
		json_object_object_foreach(t, stage, us)
		{
			json_set(op->timings, stage, json_object_get(us));
		}
	}
	ct->start = NULL;
	op->ct = NULL;
	if (ct->state == CT_STARTING)
		ct->state = CT_RUNNING;
	ct->started_at = xstrdup(json_str(result, "startedDate", now));
	ct->networks = json_object_get(op->networks);
	json_set_str(o, "startedDate", ct->started_at);
	json_set(o, "timings", json_object_get(op->timings));
	log_info("container %s runs", ct->id);
	if (!ct->serves) {
		events_container(ct, "start", NULL, NULL);
		if (ct->restarting)
			events_container(ct, "restart", NULL, NULL);
		container_watch_helper(ct, json_obj(result, "health"));
	}
	ct->restarting = false;
	if (op->req)
		rpc_reply(op->req, o);
	else
		json_object_put(o);
	op_unref(op); /* the container's reference */
	if (ct->serves)
		files_ready(ct);
}

static void start_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			   const struct error *e)
{
	struct start_op *op = arg;
	struct container *ct = op->ct;

	if (ct && !e) {
		start_done(op, result);
	} else if (ct && !op->e && e->code != ERR_INTERRUPTED && e->code != ERR_CANCELLED) {
		op->e = error_copy(e);
		start_wrap(op);
		log_err(op->e, "container");
		container_grace(ct, HELPER_END_MS);
	}
	/* When the connection was lost, the helper's end follows and says so. */
	op_unref(op);
}

/* All legs have answered. */
static void start_go(struct start_op *op)
{
	struct rpc_fds none = {0}, *streams = op->req ? rpc_req_fds(op->req) : &none;
	struct error *e = NULL;
	int fds[RPC_MAX_FDS];
	size_t n = 0, i;

	if (op->nrootfs > MAX_SEGMENTS) {
		error_set(&e, ERR_UNSUPPORTED,
			  "images of more than %d layers are not supported yet", MAX_SEGMENTS - 1);
		start_abort(op->ct, e);
		return;
	}
	if (!op->ct->conn) {
		error_set(&e, ERR_INTERNAL, "its runtime helper has closed the connection");
		start_abort(op->ct, e);
		return;
	}
	for (i = 0; i < op->ntaps; i++)
		fds[n++] = op->taps[i];
	for (i = 0; i < op->nrootfs; i++)
		fds[n++] = op->rootfs[i];
	for (i = 0; i < streams->n; i++)
		fds[n++] = streams->fd[i];
	if (op->keep >= 0)
		fds[n++] = op->keep;
	sockets_hand_over(op->ct);
	op->refs++;
	rpc_call_async(op->ct->conn, "runtime.start", start_params(op), fds, n, start_answered,
		       NULL, op);
	/* The message has its own copies; a pipe that stayed open here would never end for the client. */
	for (i = 0; i < streams->n; i++)
		close(rpc_fds_take(streams, i));
}

/* A leg is done; e (taken) when it failed. The leg's reference goes. */
static void leg_done(struct start_op *op, struct error *e)
{
	op->legs--;
	if (!op->ct || op->e)
		error_free(e);
	else if (e)
		start_abort(op->ct, e);
	else if (!op->legs)
		start_go(op);
	op_unref(op);
}

static void leg_begin(struct start_op *op)
{
	op->legs++;
	op->refs++;
}

/* ---- legs ---- */

static void image_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			   const struct error *e)
{
	struct start_op *op = arg;
	struct error *copy = NULL;
	size_t i;

	if (e) {
		copy = error_copy(e);
		error_wrap(&copy, "image");
	} else if (!fds->n) {
		error_set(&copy, ERR_INTERNAL, "image: the root file system has no parts");
	} else {
		op->rootfs = xcalloc(fds->n, sizeof(int));
		for (i = 0; i < fds->n; i++)
			op->rootfs[op->nrootfs++] = rpc_fds_take(fds, i);
		json_set_int(op->timings, "image", (int64_t)(time_mono_us() - op->t_image));
	}
	leg_done(op, copy);
}

static void network_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			     const struct error *e)
{
	struct start_op *op = arg;
	struct error *copy = NULL;
	size_t i, keep = json_int(result, "keep", 0) ? 1 : 0;

	if (e) {
		copy = error_copy(e);
		error_wrap(&copy, "network");
	} else if (fds->n <= keep || fds->n - keep > VM_NIC_QUEUES) {
		error_set(&copy, ERR_INTERNAL, "network: no tap device");
	} else {
		for (i = 0; i < fds->n - keep; i++)
			op->taps[op->ntaps++] = rpc_fds_take(fds, i);
		op->keep = keep ? rpc_fds_take(fds, i) : -1;
		json_object_object_del(result, "keep");
		if (op->ct)
			events_network(op->ct, "connect");
		json_object_array_add(op->networks, json_object_get(result));
		json_set_int(op->timings, "network", (int64_t)(time_mono_us() - op->t_network));
	}
	leg_done(op, copy);
}

static void leg_image(struct start_op *op)
{
	struct json_object *p = json_object_new_object();
	struct error *e = NULL;

	json_set_str(p, "manifest", json_str(json_obj(op->config, "image"), "manifest", ""));
	leg_begin(op);
	op->t_image = time_mono_us();
	if (service_call(op->s, SVC_IMAGES, "image.rootfs", p, image_answered, op, &e))
		leg_done(op, e);
}

/* Another container of ours that has a port this one is to have. */
static int check_ports(struct container *ct, struct error **err)
{
	char text[NET_PUBLISH_TEXT];
	struct container *o;

	for (o = ct->s->containers; ct->nports && o; o = o->next) {
		if (o == ct || o->state == CT_STOPPED || !o->leased)
			continue;
		for (size_t i = 0; i < ct->nports * o->nports; i++) {
			const struct net_publish *p = &ct->ports[i / o->nports];
			int at = net_publish_clash(p, &o->ports[i % o->nports]);

			if (at < 0)
				continue;
			net_publish_text(p, (unsigned)at, text);
			return error_set(err, ERR_INVALID_STATE,
					 "publish port %s: Address already in use by container %s",
					 text, o->id);
		}
	}
	return 0;
}

static void leg_network(struct start_op *op)
{
	struct json_object *nets = json_arr(op->config, "networks"), *options, *p;
	struct error *e = NULL;

	if (!nets || !json_object_array_length(nets) || op->ct->serves)
		return;
	options = json_obj(json_object_array_get_idx(nets, 0), "options");
	leg_begin(op);
	if (check_ports(op->ct, &e)) {
		leg_done(op, e);
		return;
	}
	p = json_object_new_object();
	json_set_str(p, "id", op->ct->id);
	json_set(p, "publishedPorts", json_object_get(json_get(op->config, "publishedPorts")));
	json_set_str(p, "hostname", json_str(options, "hostname", op->ct->id));
	json_set_str(p, "mac", json_str(options, "macAddress", NULL));
	if (json_get(options, "mtu"))
		json_set_int(p, "mtu", json_int(options, "mtu", 0));
	/* One queue for each CPU, up to where more threads would only wait for the same bridge. */
	json_set_int(p, "queues",
		     MAX(1,
			 MIN(json_int(json_obj(op->config, "resources"), "cpus", 1), NET_QUEUES)));
	op->ct->leased = true;
	op->t_network = time_mono_us();
	if (service_call(op->s, SVC_NETWORK, "network.allocate", p, network_answered, op, &e))
		leg_done(op, e);
}

static void kernel_work(void *arg)
{
	struct start_op *op = arg;

	const struct kernel_source from = {.binary = op->kernel_src, .fd = -1};

	kernel_import_as(op->s, &from, strrchr(op->kernel, '/') + 1, NULL, &op->kernel_err);
}

static void kernel_worked(void *arg)
{
	struct start_op *op = arg;

	if (op->kernel_err)
		error_wrap(&op->kernel_err, "kernel");
	leg_done(op, STEAL(op->kernel_err));
}

static void leg_kernel(struct start_op *op)
{
	const char *path = json_str(op->config, "kernel", NULL);
	struct error *e = NULL;
	bool ready = true;

	if (path)
		op->kernel = kernel_cached(op->s, path, &ready, &e);
	else
		op->kernel = kernel_default(op->s, &e);
	if (op->kernel && ready)
		return;
	leg_begin(op);
	if (!op->kernel) {
		leg_done(op, e);
		return;
	}
	op->kernel_src = xstrdup(path);
	loop_work(op->s->loop, kernel_work, kernel_worked, op);
}

static void leg_sockets(struct start_op *op)
{
	struct error *e = NULL;

	if (op->ct->serves || !sockets_begin(op->ct, op->config, op->params, &e))
		return;
	leg_begin(op);
	leg_done(op, e);
}

static void leg_engine(struct start_op *op)
{
	if (op->s->engine_state == ENGINE_READY)
		return;
	leg_begin(op);
	op->wants_engine = true;
	if (op->s->engine_state == ENGINE_NONE)
		engine_check(op->s); /* what was missing may be there by now */
}

static void engine_known(struct apiserver *s, struct start_op *op)
{
	if (!op || !op->wants_engine)
		return;
	op->wants_engine = false;
	leg_done(op, s->engine_state == ENGINE_READY ? NULL : error_copy(s->engine_err));
}

void start_engine_known(struct apiserver *s)
{
	struct container *ct, *next;

	for (ct = s->containers; ct; ct = next) {
		next = ct->next;
		engine_known(s, files_start(ct));
		engine_known(s, ct->start);
	}
}

static void files_late(void *arg)
{
	struct container *ct = arg;
	struct error *e = NULL;

	error_set(&e, ERR_INVALID_STATE, "files of container %s are being copied", ct->id);
	start_abort(ct, e);
}

static void leg_files(struct start_op *op)
{
	if (!op->ct->files)
		return;
	leg_begin(op);
	op->wants_files = true;
	op->files_timer = loop_add_timer(op->s->loop, FILES_WAIT_MS, files_late, op->ct);
	files_end(op->ct, false);
}

void start_files_gone(struct container *ct)
{
	struct start_op *op = ct->start;

	if (!op->wants_files)
		return;
	op->wants_files = false;
	loop_source_free(STEAL(op->files_timer));
	leg_done(op, NULL);
}

/* ---- the helper ---- */

static int helper_record(struct container *ct, struct error **err)
{
	CLEANUP_FREE char *name = xasprintf("%s.json", ct->id);
	CLEANUP_JSON struct json_object *o = json_object_new_object();

	json_set_int(o, "pid", ct->pid);
	json_set_int(o, "startTime", (int64_t)proc_start_time(ct->pid));
	return state_write(ct->s->c_dir, name, o, err);
}

/* What a machine costs the host beyond its guest's memory, generously: a bound must not stop one that is well. QEMU keeps up
 * to 1 GiB of translated code. */
#define MACHINE_MEMORY_KVM  (128ull << 20)
#define MACHINE_MEMORY_QEMU (1280ull << 20)
/* A server of shares: its slots, and what the guest has looked at of a large tree. */
#define SHARES_MEMORY (256ull << 20)
#define MACHINE_TASKS 64
#define DISK_TASKS    4 /* for each further disk */

static bool has_shares(struct json_object *config)
{
	struct json_object *mounts = json_arr(config, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	for (i = 0; i < n; i++)
		if (json_obj(json_obj(json_object_array_get_idx(mounts, i), "type"), "virtiofs"))
			return true;
	return false;
}

/* -1 where the host has no cgroup for it; said once. */
static int helper_cgroup(struct start_op *op)
{
	CLEANUP_ERROR struct error *e = NULL;
	struct apiserver *s = op->s;
	struct json_object *res = json_obj(op->config, "resources");
	bool kvm = s->engine_state == ENGINE_READY && s->engine == VM_ENGINE_KVM;
	struct cgroup_limits l = {
		.cpus = (unsigned)json_int(res, "cpus", 1),
		.memory = (uint64_t)json_int(res, "memoryInBytes", APISERVER_MIN_MEM) +
			  RUNTIME_OVERHEAD + (kvm ? MACHINE_MEMORY_KVM : MACHINE_MEMORY_QEMU) +
			  (has_shares(op->config) ? SHARES_MEMORY : 0),
	};
	int fd;

	l.tasks = MACHINE_TASKS + 2 * l.cpus + DISK_TASKS * (unsigned)op->ct->volumes.n;
	fd = s->no_cgroups ? -1 : cgroup_make(s->roots.tag, op->ct->id, &l, &e);
	if (fd < 0 && !s->no_cgroups) {
		log_err(e, "helpers have no cgroups of their own");
		s->no_cgroups = true;
	}
	return fd;
}

static int helper_spawn(struct start_op *op, struct error **err)
{
	struct container *ct = op->ct;
	CLEANUP_FREE char *sock = xasprintf("%s.sock", ct->id);
	char *argv[8] = {"container-runtime-linux", "start", "--id", (char *)files_name(ct)};
	size_t n = 4;
	CLEANUP_CLOSE int listen_fd = -1;
	CLEANUP_CLOSE int cgroup = helper_cgroup(op);
	CLEANUP_STRV struct strv env = {0};
	struct proc_spec spec = {
		.argv = argv,
		.cgroup = cgroup,
		.stdio = {-1, -1, op->s->debug ? STDERR_FILENO : -1},
		.fds = &listen_fd,
		.nfds = 1,
		.new_session = true,
	};
	uint64_t t = time_mono_us();
	pid_t pid;

	if (ct->serves) {
		argv[n++] = "--files";
		argv[n++] = ct->id;
	}
	if (op->s->verbose)
		argv[n++] = "--debug";
	proc_environment_jailed(&env);
	spec.envp = env.v;
	unlinkat(op->s->c_dir, sock, 0);
	listen_fd = rpc_socket_listen(op->s->c_dir, sock, err);
	if (listen_fd < 0 || proc_spawn(&spec, &pid, err))
		return error_wrap(err, "runtime helper");
	if (container_watch(ct, pid, err)) {
		kill(pid, SIGKILL);
		return error_wrap(err, "runtime helper");
	}
	/* A shadow's is not taken over by anyone. */
	if ((!ct->serves && helper_record(ct, err)) || container_attach(ct, err))
		return error_wrap(err, "runtime helper");
	json_set_int(op->timings, "spawn", (int64_t)(time_mono_us() - t));
	return 0;
}

/* ---- the request ---- */

static int check_streams(struct rpc_req *req, struct json_object *params, struct error **err)
{
	static const char *const names[] = {"stdin", "stdout", "stderr"};
	struct json_object *streams = json_arr(params, "streams");
	size_t i, k, n = streams ? json_object_array_length(streams) : 0;
	bool seen[3] = {false};

	if (json_get(params, "streams") && !streams)
		return error_set(err, ERR_INVALID_ARGUMENT, "\"streams\" must be an array");
	if (n != rpc_req_fds(req)->n)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "streams and descriptors differ in number");
	for (i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(streams, i);

		for (k = 0; k < 3; k++)
			if (json_object_is_type(v, json_type_string) &&
			    !strcmp(json_object_get_string(v), names[k]))
				break;
		if (k == 3 || seen[k])
			return error_set(err, ERR_INVALID_ARGUMENT, "unknown or repeated stream");
		seen[k] = true;
	}
	return 0;
}

/* Whether the container can be started; 1 when it runs already. */
static int check_state(struct apiserver *s, struct container *ct, struct error **err)
{
	if (s->stopping)
		return error_set(err, ERR_INVALID_STATE, "the system is stopping");
	if (ct->state == CT_RUNNING)
		return 1;
	if (ct->state == CT_STARTING)
		return error_set(err, ERR_INVALID_STATE, "container %s is being started already",
				 ct->id);
	if (ct->state == CT_STOPPING)
		return error_set(err, ERR_INVALID_STATE, "container %s is stopping", ct->id);
	return 0;
}

void start_begin(struct container *ct, struct rpc_req *req, struct json_object *params)
{
	struct start_op *op = xcalloc(1, sizeof(*op));
	struct error *e = NULL;

	*op = (struct start_op){.refs = 2, .s = ct->s, .ct = ct, .req = req, .keep = -1};
	op->params = json_object_get(params);
	op->config = container_config(ct);
	op->networks = json_object_new_array();
	op->timings = json_object_new_object();
	ct->start = op;
	ct->state = CT_STARTING;
	ct->has_exit = ct->oom = false;
	ct->keep_log = false;
	if (!ct->serves)
		policy_started(ct);
	ct->keep_stdin = json_flag(params, "keepStdin", false);
	op->legs = 1; /* this function */
	/* The cheap checks first; then what others do for us; our own part while they work. Each may end it all. */
	leg_files(op);
	leg_kernel(op);
	if (op->ct)
		leg_sockets(op);
	if (op->ct)
		leg_engine(op);
	if (op->ct)
		leg_image(op);
	if (op->ct)
		leg_network(op);
	if (op->ct && helper_spawn(op, &e)) {
		leg_done(op, e);
		return;
	}
	leg_done(op, NULL);
}

void on_container_start(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct error *e = NULL;
	struct container *ct = container_need(s, params, &e);
	struct json_object *o;
	int r;

	if (!ct || check_streams(req, params, &e)) {
		rpc_reply_error(req, e);
		return;
	}
	r = check_state(s, ct, &e);
	if (r < 0) {
		rpc_reply_error(req, e);
	} else if (r > 0) {
		o = json_object_new_object();
		json_set_str(o, "startedDate", ct->started_at);
		json_set(o, "timings", json_object_new_object());
		rpc_reply(req, o);
	} else {
		ct->restarts = ct->failures = 0;
		start_begin(ct, req, params);
	}
}
