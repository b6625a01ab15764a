// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agentboot.c - the guest's init under a magnifying glass: boots one microVM over vmm/vm.h and plays the host of
 * vmm/agent.h, with nothing else of the product around it.
 *
 *   agentboot --kernel DIR --init FILE --lower IMG [--upper IMG] [options] -- command [arguments]
 *
 * runs the command in a guest, with our standard streams as its own, and exits as it exited. DIR is an imported
 * kernel (vmlinux, modules.cpio). Notices and replies go to stderr with --notices, the console with --console.
 *
 *   -t                      a pty (no raw mode: bytes go through as they are)
 *   --boot JSON             merged into the boot descriptor
 *   --process JSON          merged into the init process
 *   --call 'METHOD JSON'    a call to the agent after `started`; repeatable, in order; streams named by "stdin":
 *                           true etc. in a process object become ports: stdout and stderr go to our stderr, each
 *                           line led by "<id>: ", stdin is empty
 *   --after MS              wait that long before each call
 *   --stdin-after MS        begin to feed stdin only then
 *   --cpus N --mem MIB --engine auto|kvm|qemu --timeout S (default 120)
 *   --times                 milestones in µs to stderr
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "core/loop.h"
#include "core/path.h"
#include "core/rpc.h"
#include "vmm/agent.h"
#include "vmm/kernel.h"
#include "vmm/vm.h"

#define MAX_CALLS   32
#define MAX_STREAMS 128
#define FEED        65536

enum stream_kind { FEED_STDIN, FEED_NOTHING, TO_FD, TO_LINES };

struct stream {
	uint32_t port;
	enum stream_kind kind;
	int fd;
	char label[64];
	struct vsock_stream *s;
	struct loop_source *src;
	char buf[FEED];
	size_t off, len;
	bool eof;
	struct buf line;
};

static struct {
	struct loop *loop;
	struct vm *vm;
	struct rpc_conn *agent;
	const char *calls[MAX_CALLS];
	size_t ncalls, next_call;
	int after_ms, stdin_after_ms;
	bool notices, console, times;
	struct stream streams[MAX_STREAMS];
	size_t nstreams;
	uint32_t next_port;
	bool exited, failed, over;
	int code;
	uint64_t t0, t_control, t_ready, t_started, t_exited, t_stopped;
	long long init_us, uptime_us;
} h = {.next_port = AGENT_PORT_STDIO_MIN};

static NORETURN void die(const char *what, struct error *e)
{
	fprintf(stderr, "agentboot: %s: %s\n", what, e ? error_text(e) : strerror(errno));
	exit(125);
}

static uint32_t new_stream(enum stream_kind kind, int fd, const char *label)
{
	struct stream *s = &h.streams[h.nstreams++];

	if (h.nstreams > MAX_STREAMS)
		abort();
	s->port = h.next_port++;
	s->kind = kind;
	s->fd = fd;
	snprintf(s->label, sizeof(s->label), "%s", label);
	return s->port;
}

/* ---- streams ---- */

/* Passes on what was read; true when nothing waits for room. */
static bool flush(struct stream *s)
{
	s->off += vsock_stream_write(s->s, s->buf + s->off, s->len - s->off);
	return s->off == s->len;
}

/* One read for each time the descriptor is ready; a file, which cannot be polled, is read straight on. */
static void feed(void *arg)
{
	struct stream *s = arg;
	ssize_t n;

	while (s->s && !s->eof && flush(s)) {
		n = s->kind == FEED_STDIN ? RETRY_EINTR(read(s->fd, s->buf, sizeof(s->buf))) : 0;
		s->off = 0;
		s->len = n > 0 ? (size_t)n : 0;
		if (n <= 0) {
			s->eof = true;
			loop_source_free(s->src);
			s->src = NULL;
			vsock_stream_shutdown(s->s);
		} else if (s->src) {
			flush(s);
			break;
		}
	}
	if (s->src)
		loop_mod_fd(s->src, s->off == s->len ? EPOLLIN : 0);
}

static void on_writable(void *arg)
{
	struct stream *s = arg;

	if (!s->src)
		feed(s);
	else if (s->s && flush(s))
		loop_mod_fd(s->src, EPOLLIN);
}

static void on_input(void *arg, int fd, uint32_t events)
{
	feed(arg);
}

static void print_lines(struct stream *s, bool all)
{
	char *nl;

	while (s->line.len && ((nl = memchr(s->line.data, '\n', s->line.len)) || all)) {
		size_t n = nl ? (size_t)(nl - s->line.data) : s->line.len;

		fprintf(stderr, "%s: %.*s\n", s->label, (int)n, s->line.data);
		buf_consume(&s->line, nl ? n + 1 : n);
	}
}

static size_t on_data(void *arg, const void *p, size_t len)
{
	struct stream *s = arg;

	if (s->kind == TO_LINES) {
		buf_append(&s->line, p, len);
		print_lines(s, false);
	} else if (s->kind == TO_FD && fd_write_full(s->fd, p, len, NULL)) {
		return len;
	}
	return len;
}

static void on_eof(void *arg)
{
	struct stream *s = arg;

	if (s->kind == TO_LINES)
		print_lines(s, true);
	s->eof = true;
	vsock_stream_shutdown(s->s);
}

static void on_closed(void *arg)
{
	struct stream *s = arg;

	loop_source_free(s->src);
	s->src = NULL;
	s->s = NULL;
}

static const struct vsock_stream_ops stream_ops = {
	.data = on_data,
	.eof = on_eof,
	.writable = on_writable,
	.closed = on_closed,
};

static void begin_feeding(void *arg)
{
	struct stream *s = arg;
	struct error *e = NULL;

	if (!s->s)
		return;
	/* A regular file cannot be polled; it is read straight on. */
	s->src =
		s->kind == FEED_STDIN ? loop_add_fd(h.loop, s->fd, EPOLLIN, on_input, s, &e) : NULL;
	error_free(e);
	if (!s->src)
		feed(s);
}

/* ---- the agent ---- */

static void do_calls(void *arg);

static void on_answer(void *arg, struct json_object *result, struct rpc_fds *fds,
		      const struct error *e)
{
	CLEANUP_FREE char *text = e ? error_text(e) : NULL;

	if (h.notices || e)
		fprintf(stderr, "answer %s: %s\n", (const char *)arg,
			e ? text : json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN));
	if (h.next_call < h.ncalls)
		loop_add_timer(h.loop, h.after_ms, do_calls, NULL);
}

static void name_streams(struct json_object *params)
{
	static const char *const names[3] = {"stdin", "stdout", "stderr"};
	int i;

	for (i = 0; i < 3; i++)
		if (json_flag(params, names[i], false))
			json_set_int(params, names[i],
				     new_stream(i ? TO_LINES : FEED_NOTHING, -1,
						json_str(params, "id", "?")));
}

static void do_calls(void *arg)
{
	const char *call = h.calls[h.next_call++], *space = strchr(call, ' ');
	char *method = xstrndup(call, space ? (size_t)(space - call) : strlen(call));
	struct error *e = NULL;
	struct json_object *params = space ? json_parse(space, strlen(space), &e) : NULL;

	if (space && !params)
		die(call, e);
	if (params && !strcmp(method, "process.start"))
		name_streams(params);
	if (h.agent)
		rpc_call_async(h.agent, method, params, NULL, 0, on_answer, NULL, method);
}

static void on_notice(void *ctx, struct rpc_conn *c, const char *event, struct json_object *params)
{
	bool init = !strcmp(json_str(params, "process", ""), "init");

	if (h.notices)
		fprintf(stderr, "notice %s %s\n", event,
			json_object_to_json_string_ext(params, JSON_C_TO_STRING_PLAIN));
	if (!strcmp(event, "ready")) {
		h.t_ready = time_mono_us();
		h.init_us = json_int(params, "initUs", 0);
		h.uptime_us = json_int(params, "uptimeUs", 0);
	} else if (!strcmp(event, "started") && init) {
		h.t_started = time_mono_us();
		if (h.ncalls)
			loop_add_timer(h.loop, h.after_ms, do_calls, NULL);
	} else if (!strcmp(event, "failed") && init) {
		h.failed = true;
		fprintf(stderr, "agentboot: failed: %s: %s\n", json_str(params, "code", "?"),
			json_str(params, "message", "?"));
	} else if (!strcmp(event, "exited") && init) {
		h.t_exited = time_mono_us();
		h.exited = true;
		h.code = (int)json_int(params, "code", 255);
	}
}

static void on_agent_closed(void *ctx, struct rpc_conn *c, const struct error *e)
{
	CLEANUP_FREE char *text = e ? error_text(e) : NULL;

	if (h.notices)
		fprintf(stderr, "control closed%s%s\n", e ? ": " : "", e ? text : "");
	h.agent = NULL;
}

static const struct rpc_handler handler = {
	.service = "container.runtime",
	.on_event = on_notice,
	.on_close = on_agent_closed,
};

static int on_accept(void *arg, uint32_t port, struct vsock_stream *s)
{
	size_t i;
	int fd;

	if (port == AGENT_PORT_CONTROL) {
		h.t_control = time_mono_us();
		fd = vsock_stream_to_fd(s, h.loop, NULL);
		h.agent = fd < 0 ? NULL : rpc_conn_new(h.loop, fd, &handler, NULL);
		return h.agent ? 0 : -1;
	}
	for (i = 0; i < h.nstreams; i++) {
		struct stream *t = &h.streams[i];

		if (t->port != port || t->s)
			continue;
		t->s = s;
		vsock_stream_set_ops(s, &stream_ops, t);
		if (t->kind == FEED_STDIN || t->kind == FEED_NOTHING)
			loop_add_timer(h.loop, t->kind == FEED_STDIN ? h.stdin_after_ms : 0,
				       begin_feeding, t);
		return 0;
	}
	fprintf(stderr, "agentboot: guest dialled unknown port %u\n", port);
	return -1;
}

/* ---- the machine ---- */

static void on_console(void *arg, const void *p, size_t len)
{
	if (h.console)
		fwrite(p, 1, len, stderr);
}

static void on_stopped(void *arg, int reason, const char *detail)
{
	static const char *const names[] = {"poweroff", "reset", "panic", "crash", "killed"};

	h.t_stopped = time_mono_us();
	h.over = true;
	if (h.notices || reason != VM_STOP_POWEROFF)
		fprintf(stderr, "stopped: %s %s\n", names[reason], detail ? detail : "");
	loop_stop(h.loop);
}

static void on_timeout(void *arg)
{
	fprintf(stderr, "agentboot: timeout\n");
	vm_free(h.vm);
	exit(124);
}

static void merge(struct json_object *to, const char *text)
{
	struct error *e = NULL;
	struct json_object *from = json_parse(text, strlen(text), &e);

	if (!from)
		die(text, e);
	json_object_object_foreach(from, key, val)
	{
		json_object_object_add(to, key, json_object_get(val));
	}
	json_object_put(from);
}

static void load(const char *path, struct buf *out)
{
	struct error *e = NULL;

	if (path_read_all(AT_FDCWD, path, 256u << 20, out, &e))
		die(path, e);
}

struct options {
	const char *kernel, *init, *lower, *upper, *boot, *process;
	int cpus, mem, timeout;
	bool tty;
	enum vm_engine engine;
};

static struct json_object *process_object(const struct options *o, char **argv)
{
	struct json_object *p = json_object_new_object(), *args = json_object_new_array();

	while (*argv)
		json_add_str(args, *argv++);
	json_set_str(p, "id", "init");
	json_set(p, "args", args);
	json_set_str(p, "cwd", "/");
	json_set_bool(p, "tty", o->tty);
	json_set_int(p, "rows", 24);
	json_set_int(p, "cols", 80);
	json_set_int(p, "stdin", new_stream(FEED_STDIN, 0, "init"));
	json_set_int(p, "stdout", new_stream(TO_FD, 1, "init"));
	json_set_int(p, "stderr", o->tty ? 0 : new_stream(TO_FD, 2, "init"));
	if (o->process)
		merge(p, o->process);
	return p;
}

static struct json_object *boot_object(const struct options *o, char **argv)
{
	struct json_object *b = json_object_new_object(), *root = json_object_new_object();
	struct json_object *res = json_object_new_object(), *hosts = json_object_new_array();

	json_set_int(b, "version", AGENT_VERSION);
	json_set_str(b, "hostname", "agentboot");
	json_set_str(root, "lower", "/dev/vda");
	json_set_str(root, "lowerType", "erofs");
	if (o->upper) {
		json_set_str(root, "upper", "/dev/vdb");
		json_set_str(root, "upperType", "ext4");
	}
	json_set(b, "root", root);
	json_set_int(res, "cpus", o->cpus);
	json_set_int(res, "memory", (int64_t)o->mem << 20);
	json_set(b, "resources", res);
	json_set(b, "hosts", hosts);
	json_set(b, "process", process_object(o, argv));
	if (o->boot)
		merge(b, o->boot);
	return b;
}

static int open_disk(const char *path, int flags, struct vm_segment *seg)
{
	struct stat st;

	seg->fd = open(path, flags | O_CLOEXEC);
	if (seg->fd < 0 || fstat(seg->fd, &st))
		die(path, NULL);
	seg->len = (uint64_t)st.st_size;
	return 0;
}

static void build_initrd(const struct options *o, struct json_object *boot, struct buf *own,
			 struct buf *modules)
{
	CLEANUP_FREE char *mods = xasprintf("%s/modules.cpio", o->kernel);
	CLEANUP_BUF struct buf init = {0};
	const char *text = json_object_to_json_string_ext(boot, JSON_C_TO_STRING_PLAIN);

	load(o->init, &init);
	cpio_dir(own, "dev", 0755);
	cpio_node(own, "dev/console", 0600, 5, 1);
	cpio_file(own, "init", 0755, init.data, init.len);
	cpio_file(own, "boot.json", 0600, text, strlen(text));
	cpio_end(own);
	if (!access(mods, F_OK))
		load(mods, modules);
}

static void run(const struct options *o, char **argv)
{
	CLEANUP_BUF struct buf own = {0}, modules = {0};
	CLEANUP_FREE char *vmlinux = xasprintf("%s/vmlinux", o->kernel), *why = NULL;
	char run_dir[] = "/tmp/agentboot.XXXXXX";
	struct vm_segment seg[2] = {0};
	struct vm_disk disks[2] = {
		{.segs = &seg[0], .nsegs = 1, .readonly = true, .serial = "lower"},
		{.segs = &seg[1], .nsegs = 1, .serial = "upper"}};
	struct json_object *boot = boot_object(o, argv);
	struct iovec initrd[2];
	struct vm_config cfg = {
		.vcpus = (unsigned)o->cpus,
		.mem_bytes = (uint64_t)o->mem << 20,
		.kernel_fd = open(vmlinux, O_RDONLY | O_CLOEXEC),
		.initrd = initrd,
		.ninitrd = 2,
		.cmdline = h.console ? "ignore_loglevel" : "",
		.disks = disks,
		.ndisks = o->upper ? 2 : 1,
		.cid = 3,
		.run_dir = run_dir,
		.accept = on_accept,
		.console = on_console,
		.stopped = on_stopped,
	};
	CLEANUP_CLOSE int tmp = -1;
	struct error *e = NULL;

	if (cfg.kernel_fd < 0 || !mkdtemp(run_dir))
		die(vmlinux, NULL);
	if (vm_engine_choose(o->engine, NULL, &cfg.engine, &why, &e))
		die("engine", e);
	open_disk(o->lower, O_RDONLY, &seg[0]);
	if (o->upper)
		open_disk(o->upper, O_RDWR, &seg[1]);
	build_initrd(o, boot, &own, &modules);
	initrd[0] = (struct iovec){modules.data, modules.len};
	initrd[1] = (struct iovec){own.data, own.len};
	h.t0 = time_mono_us();
	h.vm = vm_new(h.loop, &cfg, &e);
	if (!h.vm || vm_start(h.vm, &e))
		die("machine", e);
	loop_add_timer(h.loop, o->timeout * 1000, on_timeout, NULL);
	if (loop_run(h.loop, &e))
		die("loop", e);
	vm_free(h.vm);
	tmp = path_open_dir("/tmp", &e);
	if (tmp < 0 || path_remove_tree(tmp, strrchr(run_dir, '/') + 1, &e))
		die(run_dir, e);
	json_object_put(boot);
}

static const struct option longs[] = {
	{"kernel", 1, NULL, 'k'},  {"init", 1, NULL, 'i'},    {"lower", 1, NULL, 'l'},
	{"upper", 1, NULL, 'u'},   {"boot", 1, NULL, 'b'},    {"process", 1, NULL, 'p'},
	{"call", 1, NULL, 'c'},    {"after", 1, NULL, 'a'},   {"stdin-after", 1, NULL, 's'},
	{"cpus", 1, NULL, 'C'},    {"mem", 1, NULL, 'm'},     {"engine", 1, NULL, 'e'},
	{"timeout", 1, NULL, 'T'}, {"notices", 0, NULL, 'n'}, {"console", 0, NULL, 'o'},
	{"times", 0, NULL, 'M'},   {NULL, 0, NULL, 0},
};

static int option(struct options *o, int c)
{
	switch (c) {
	case 'k':
		o->kernel = optarg;
		break;
	case 'i':
		o->init = optarg;
		break;
	case 'l':
		o->lower = optarg;
		break;
	case 'u':
		o->upper = optarg;
		break;
	case 'b':
		o->boot = optarg;
		break;
	case 'p':
		o->process = optarg;
		break;
	case 'c':
		if (h.ncalls == MAX_CALLS)
			return -1;
		h.calls[h.ncalls++] = optarg;
		break;
	case 'a':
		h.after_ms = atoi(optarg);
		break;
	case 's':
		h.stdin_after_ms = atoi(optarg);
		break;
	case 'C':
		o->cpus = atoi(optarg);
		break;
	case 'm':
		o->mem = atoi(optarg);
		break;
	case 'e':
		return vm_engine_parse(optarg, &o->engine);
	case 'T':
		o->timeout = atoi(optarg);
		break;
	case 't':
		o->tty = true;
		break;
	case 'n':
		h.notices = true;
		break;
	case 'o':
		h.console = true;
		break;
	case 'M':
		h.times = true;
		break;
	default:
		return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {.cpus = 1, .mem = 256, .timeout = 120, .engine = VM_ENGINE_AUTO};
	struct error *e = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "+t", longs, NULL)) != -1)
		if (option(&o, c))
			return 64;
	if (!o.kernel || !o.init || !o.lower || optind == argc) {
		fprintf(stderr, "usage: agentboot --kernel DIR --init FILE --lower IMG [options] "
				"-- command\n");
		return 64;
	}
	signal(SIGPIPE, SIG_IGN);
	h.loop = loop_new(&e);
	if (!h.loop)
		die("loop", e);
	run(&o, argv + optind);
	if (h.times)
		fprintf(stderr,
			"times: control %lld ready %lld started %lld exited %lld stopped %lld; "
			"guest: init began "
			"%lld, took %lld\n",
			(long long)(h.t_control - h.t0), (long long)(h.t_ready - h.t0),
			(long long)(h.t_started - h.t0), (long long)(h.t_exited - h.t0),
			(long long)(h.t_stopped - h.t0), h.uptime_us, h.init_us);
	loop_free(h.loop);
	return h.failed ? 126 : h.exited ? h.code : 125;
}
