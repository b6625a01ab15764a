/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_start.c - system start and stop.
 *
 * Where systemd runs, knows our unit and the roots are the usual ones, it starts the apiserver. Else this program
 * starts itself as `container-apiserver start --daemon-ready-fd 3` in a session of its own and waits for a byte
 * on that descriptor; when the other end closes without one, the log says why.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include "cmd/cli.h"
#include "core/path.h"
#include "core/proc.h"

#define UNIT           "container-apiserver.service"
#define START_SECONDS  60
#define STOP_MS        90000
#define LOG_TAIL_LINES 5

/* ---- options ---- */

static const struct opt opt_start[] = {
	{"app-root", 'a', OPT_VALUE, "path", NULL,
	 "Where data is kept [environment: CONTAINER_APP_ROOT]", 0},
	{"install-root", 0, OPT_VALUE, "path", NULL,
	 "Where the programs are [environment: CONTAINER_INSTALL_ROOT]", 0},
	{"log-root", 0, OPT_VALUE, "path", NULL,
	 "Where services write their logs [environment: CONTAINER_LOG_ROOT]", 0},
	{"enable-kernel-install", 0, OPT_FLAG, NULL, NULL,
	 "Install the recommended kernel without asking when there is none", 0},
	{"disable-kernel-install", 0, OPT_FLAG, NULL, NULL, "Do not ask about the kernel", 0},
	{"timeout", 0, OPT_VALUE, "seconds", NULL,
	 "How long to wait for the apiserver, 60 when not given", 0},
	{0},
};
static const struct opt *const start_opts[] = {opt_start, NULL};

static int timeout_ms(const struct opt_args *a, int *out)
{
	const char *text = opt_str(a, "timeout", "60");
	char *end;
	double v = strtod(text, &end);

	if (!*text || *end || !(v > 0) || v > 86400)
		return -1;
	*out = (int)(v * 1000);
	return 0;
}

/* ---- by systemd ---- */

static bool unit_known(void)
{
	static const char *const dirs[] = {"/etc/systemd/system", "/run/systemd/system",
					   "/usr/local/lib/systemd/system",
					   "/usr/lib/systemd/system", "/lib/systemd/system"};

	if (access("/run/systemd/system", F_OK))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/" UNIT, dirs[i]);

		if (!access(path, F_OK))
			return true;
	}
	return false;
}

/* The unit knows the usual roots only. */
static bool roots_usual(const struct cli *c, const struct opt_args *a)
{
	static const char *const vars[] = {"CONTAINER_APP_ROOT", "CONTAINER_RUN_ROOT",
					   "CONTAINER_LOG_ROOT", "CONTAINER_INSTALL_ROOT",
					   "CONTAINER_CONFIG"};
	static const char *const flags[] = {"app-root", "install-root", "log-root"};

	for (size_t i = 0; i < ARRAY_SIZE(vars); i++)
		if (getenv(vars[i]))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (opt_has(a, flags[i]))
			return false;
	return geteuid() == 0;
}

static int systemctl(const char *program, const char *verb, struct error **err)
{
	char *argv[] = {"systemctl", (char *)verb, UNIT, NULL};
	struct proc_spec spec = {.path = program, .argv = argv, .stdio = {-1, 1, 2}};
	int status;
	pid_t pid;

	if (proc_spawn(&spec, &pid, err))
		return -1;
	if (RETRY_EINTR(waitpid(pid, &status, 0)) < 0)
		return error_sys(err, errno, "wait for systemctl");
	if (proc_exit_code(status))
		return error_set(err, ERR_INTERNAL, "systemctl %s " UNIT " failed with status %d",
				 verb, proc_exit_code(status));
	return 0;
}

/* ---- by ourselves ---- */

/* What services see of the caller's environment. The caller frees with strv_free(). */
static void service_environment(struct strv *out)
{
	static const char *const keep[] = {"CONTAINER_APP_ROOT=",
					   "CONTAINER_RUN_ROOT=",
					   "CONTAINER_LOG_ROOT=",
					   "CONTAINER_INSTALL_ROOT=",
					   "CONTAINER_CONFIG=",
					   "CONTAINER_ENGINE=",
					   "XDG_",
					   "HTTP_PROXY=",
					   "HTTPS_PROXY=",
					   "NO_PROXY=",
					   "http_proxy=",
					   "https_proxy=",
					   "no_proxy=",
					   "SSL_CERT_",
					   "PATH=",
					   "HOME=",
					   "TMPDIR="};

	proc_environment(keep, ARRAY_SIZE(keep), out);
}

/* The last messages in the apiserver's log from this start on. */
static void log_tail(const struct cli *c, off_t from, struct buf *out)
{
	CLEANUP_FREE char *path = xasprintf("%s/container.apiserver.log", c->roots.log);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_STRV struct strv lines = {0};
	char chunk[16384];
	struct stat st;
	ssize_t n;
	char *rest, *line;

	if (fd < 0 || fstat(fd, &st))
		return;
	from = MAX(st.st_size < from ? 0 : from, st.st_size - (off_t)sizeof(chunk) + 1);
	n = pread(fd, chunk, sizeof(chunk) - 1, from);
	if (n <= 0)
		return;
	chunk[n] = 0;
	for (rest = chunk; (line = strsep(&rest, "\n"));) {
		CLEANUP_JSON struct json_object *o = json_parse(line, strlen(line), NULL);
		const char *level = json_str(o, "level", ""), *msg = json_str(o, "msg", NULL);

		if (msg && (str_prefix(level, "err") || str_prefix(level, "warn")))
			strv_add(&lines, msg);
	}
	for (size_t i = lines.n > LOG_TAIL_LINES ? lines.n - LOG_TAIL_LINES : 0; i < lines.n; i++)
		buf_printf(out, "%s%s", out->len ? "\n" : "", lines.v[i]);
}

static off_t log_size(const struct cli *c)
{
	CLEANUP_FREE char *path = xasprintf("%s/container.apiserver.log", c->roots.log);
	struct stat st;

	return stat(path, &st) ? 0 : st.st_size;
}

/* Why it did not start: what it wrote to stderr, else its log, else how it ended. */
static void start_reason(const struct cli *c, pid_t pid, int words, off_t log_from, struct buf *why)
{
	CLEANUP_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pf = {.fd = pidfd, .events = POLLIN};
	CLEANUP_BUF struct buf text = {0};
	int status;

	/* The descriptor closes a moment before the process is gone. */
	if (pidfd >= 0)
		RETRY_EINTR(poll(&pf, 1, 1000));
	if (!fd_read_all(words, 16384, &text, NULL) && text.len) {
		while (text.len && text.data[text.len - 1] == '\n')
			text.data[--text.len] = 0;
		buf_puts(why, text.data);
	} else {
		log_tail(c, log_from, why);
	}
	if (!why->len && waitpid(pid, &status, WNOHANG) == pid)
		buf_printf(why, "it ended with status %d", proc_exit_code(status));
	if (!why->len)
		buf_puts(why, "it gives no reason");
}

static int wait_ready(const struct cli *c, int fd, pid_t pid, int words, off_t log_from, int ms,
		      struct error **err)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	CLEANUP_BUF struct buf why = {0};
	int rc = RETRY_EINTR(poll(&pf, 1, ms));
	char byte;

	if (rc < 0)
		return error_sys(err, errno, "wait for the apiserver");
	if (!rc)
		return error_set(err, ERR_TIMEOUT,
				 "the apiserver (pid %d) is not ready after %d ms", (int)pid, ms);
	if (RETRY_EINTR(read(fd, &byte, 1)) == 1)
		return 0;
	start_reason(c, pid, words, log_from, &why);
	return error_set(err, ERR_INTERNAL,
			 "the apiserver did not start: %s (its log: %s/container.apiserver.log)",
			 why.data, c->roots.log);
}

static int spawn_apiserver(const struct cli *c, int ms, struct error **err)
{
	char *argv[] = {CLI_SERVER_NAME, "start", "--daemon-ready-fd", "3", NULL};
	CLEANUP_CLOSE int ready = -1, theirs = -1, words = -1;
	CLEANUP_STRV struct strv env = {0};
	off_t log_from = log_size(c);
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return error_sys(err, errno, "pipe");
	ready = ends[0];
	theirs = ends[1];
	words = memfd_create("apiserver-stderr", MFD_CLOEXEC);
	roots_setenv(&c->roots);
	service_environment(&env);
	if (chdir("/"))
		return error_sys(err, errno, "chdir /");
	struct proc_spec spec = {.argv = argv,
				 .envp = env.v,
				 .stdio = {-1, -1, words},
				 .fds = &theirs,
				 .nfds = 1,
				 .new_session = true};

	if (proc_spawn(&spec, &pid, err))
		return error_wrap(err, "start the apiserver");
	close(steal_fd(&theirs));
	return wait_ready(c, ready, pid, words, log_from, ms, err);
}

/* ---- kernel ---- */

static bool ask(const char *question)
{
	char line[64];

	fprintf(stderr, "%s [Y/n]: ", question);
	fflush(stderr);
	if (!fgets(line, sizeof(line), stdin))
		return false;
	return *line == '\n' || *line == 'y' || *line == 'Y';
}

static int kernel_install(struct cli *c, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *params = json_object_new_object();

	json_set_bool(params, "recommended", true);
	cli_note("Installing the recommended kernel...");
	if (cli_call(c, "kernel.set", params, &reply, err))
		return error_wrap(err, "the system runs, but no kernel could be installed");
	cli_note("Kernel %s installed (Linux %s)", json_str(reply, "name", ""),
		 json_str(reply, "release", ""));
	return 0;
}

static int offer_kernel(struct cli *c, const struct opt_args *a, struct json_object *ping,
			struct error **err)
{
	struct json_object *k = json_get(ping, "kernel");
	bool have =
		k && !(json_object_is_type(k, json_type_string) && !json_object_get_string_len(k));

	if (have || opt_has(a, "disable-kernel-install"))
		return 0;
	if (opt_has(a, "enable-kernel-install"))
		return kernel_install(c, err);
	if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
		cli_note("No default kernel configured.");
		if (ask("Install the recommended default kernel?"))
			return kernel_install(c, err);
	}
	cli_note("No guest kernel is installed: use `container system kernel set --recommended`, "
		 "or --binary FILE");
	return 0;
}

/* ---- start ---- */

static int start_roots(struct cli *c, const struct opt_args *a, struct error **err)
{
	if (c->have_roots)
		roots_free(&c->roots);
	c->have_roots = false;
	if (roots_init(&c->roots, opt_str(a, "app-root", NULL), NULL, opt_str(a, "log-root", NULL),
		       opt_str(a, "install-root", NULL), err))
		return -1;
	c->have_roots = true;
	return 0;
}

static int start_server(struct cli *c, const struct opt_args *a, int ms, struct error **err)
{
	CLEANUP_FREE char *program = NULL;

	if (unit_known() && roots_usual(c, a) && (program = proc_find("systemctl")))
		return systemctl(program, "start", err);
	return spawn_apiserver(c, ms, err);
}

/*
 * Whether a server answers: 1 with its *ping, 0 when none is there, -1. One that was killed a moment ago may still take a
 * connection and then close it: that is looked at again until the socket is silent, for at most ms.
 */
static int server_answers(struct cli *c, int ms, struct json_object **ping, struct error **err)
{
	uint64_t until = time_mono_us() + (uint64_t)ms * 1000;

	for (;;) {
		struct timespec pause = {.tv_nsec = 20000000};
		struct error *e = NULL;

		if (!cli_call(c, "ping", NULL, ping, &e))
			return 1;
		rpc_conn_free(STEAL(c->conn));
		if (e->code == ERR_INVALID_STATE) {
			error_free(e);
			return 0;
		}
		if (e->code != ERR_INTERRUPTED || time_mono_us() > until)
			return error_move(err, e);
		error_free(e);
		nanosleep(&pause, NULL);
	}
}

static int run_system_start(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *ping = NULL;
	int ms, running;

	if (timeout_ms(a, &ms))
		return cli_usage(c, "The value '%s' is invalid for '--timeout <seconds>'",
				 opt_str(a, "timeout", ""));
	if (opt_has(a, "enable-kernel-install") && opt_has(a, "disable-kernel-install"))
		return cli_usage(c,
				 "--enable-kernel-install conflicts with --disable-kernel-install");
	if (start_roots(c, a, err))
		return -1;
	running = server_answers(c, ms, &ping, err);
	if (running < 0)
		return -1;
	if (running)
		cli_note("The container system is already running.");
	else if (start_server(c, a, ms, err) || cli_call(c, "ping", NULL, &ping, err))
		return -1;
	return offer_kernel(c, a, ping, err);
}

const struct opt_cmd cmd_system_start = {
	.name = "start",
	.summary = "Start the container services",
	.group = SYSTEM_GROUP,
	.opts = start_opts,
	.run = run_system_start,
};

/* ---- stop ---- */

/*
 * The apiserver's pid by its own word, 0 when it says none. The socket does not know: SO_PEERCRED names who called listen(2), and that is
 * systemd where the unit of the socket is in use.
 */
static pid_t server_pid(struct cli *c)
{
	CLEANUP_JSON struct json_object *o = NULL;
	int64_t pid;

	if (rpc_call(c->conn, "ping", NULL, NULL, 0, NULL, NULL, STOP_MS, &o, NULL, NULL, NULL))
		return 0;
	pid = json_int(o, "pid", 0);
	return pid > 0 && pid < INT32_MAX ? (pid_t)pid : 0;
}

static int run_system_stop(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_CLOSE int pidfd = -1;
	struct pollfd pf = {.events = POLLIN};
	struct error *e = NULL;
	pid_t pid;

	if (cli_connect(c, &e)) {
		if (!e || e->code != ERR_INVALID_STATE)
			return error_move(err, e);
		cli_note("%s", e->msg);
		error_free(e);
		return 0;
	}
	pid = server_pid(c);
	pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (rpc_call(c->conn, "system.stop", NULL, NULL, 0, NULL, NULL, STOP_MS, NULL, NULL, NULL,
		     &e)) {
		/* It may be gone before its answer was. */
		if (!e || e->code == ERR_TIMEOUT || e->code == ERR_UNSUPPORTED)
			return error_move(err, e);
		error_free(e);
	}
	pf.fd = pidfd;
	if (pidfd >= 0 && RETRY_EINTR(poll(&pf, 1, STOP_MS)) == 0)
		return error_set(err, ERR_TIMEOUT, "the apiserver (pid %d) still runs after %d s",
				 (int)pid, STOP_MS / 1000);
	return 0;
}

const struct opt_cmd cmd_system_stop = {
	.name = "stop",
	.summary = "Stop all containers and the container services",
	.group = SYSTEM_GROUP,
	.notes = "Containers are told to stop in the order of their starts, backwards: each when "
		 "the "
		 "one before has ended, or a second after it was told. None gets more than five "
		 "seconds.",
	.run = run_system_stop,
};
