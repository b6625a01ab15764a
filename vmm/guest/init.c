/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init.c - PID 1 of the microVM, from the kernel's first user-space instruction to power-off.
 *
 * The connection to the host is begun as soon as there is a vsock, long before it is needed: its round trips
 * pass while disks are mounted, and a failure there can be told to the host instead of the console only.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include "vmm/guest/guest.h"

#define AGENT_FILES 65536
#define FAREWELL_US 500000  /* for the host to have read our last words */
#define STOPPING_US 2000000 /* for the container's processes to die when nobody listens */

static struct ev signal_ev;

static NORETURN void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	guest_log("power off: %s", strerror(errno));
	for (;;)
		pause();
}

static void on_sigchld(struct ev *ev, uint32_t events)
{
	struct signalfd_siginfo si;

	while (read(ev->fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		;
	proc_reap();
}

/* The kernel gives PID 1 the console as 0 to 2, or nothing; either way they are to be /dev/null, so that no
 * descriptor of ours ever has a low number. */
static int settle_stdio(struct error **err)
{
	int fd = open("/dev/null", O_RDWR), i;

	if (fd < 0)
		return error_sys(err, errno, "open /dev/null");
	for (i = 0; i < 3; i++)
		if (fd != i && dup2(fd, i) < 0)
			return error_sys(err, errno, "stdio");
	if (fd > 2)
		close(fd);
	return 0;
}

static int settle_self(struct error **err)
{
	struct rlimit files = {.rlim_cur = AGENT_FILES, .rlim_max = AGENT_FILES * 16};
	CLEANUP_CLOSE int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	sigset_t mask;
	int fd;

	if (score >= 0 && write(score, "-1000", 5) < 0)
		return error_sys(err, errno, "oom_score_adj");
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_sys(err, errno, "signalfd");
	if (ev_init(err))
		return -1;
	return ev_add(&signal_ev, fd, EPOLLIN, on_sigchld, err);
}

static struct json_object *early(struct error **err)
{
	if (boot_early_mounts(err) || settle_stdio(err) || settle_self(err) || boot_modules(err) ||
	    boot_seccomp(err))
		return NULL;
	return boot_descriptor(err);
}

static int prepare(struct json_object *boot, struct error **err)
{
	struct json_object *emulator = json_obj(boot, "emulator");
	bool shares = json_flag(boot, "shares", false);

	if (boot_modules_foreign(emulator != NULL, err) || foreign_register(emulator, err) ||
	    boot_modules_shares(shares, err) ||
	    boot_modules_nested(json_flag(boot, "virtualization", false), err))
		return -1;
	if (boot_switch_root(err) || disks_mount(json_obj(boot, "root"), err) ||
	    disks_volumes(json_arr(boot, "volumes"), err) || (shares && disks_mount_shares(err)))
		return -1;
	if (cgroup_setup(json_obj(boot, "resources"), err))
		return -1;
	cpus_start();
	return netcfg_apply(json_arr(boot, "network"), err);
}

/* Lets the host read all we said: it answers our end of stream with its own. One ordered queue carries all
 * streams, so by then it has had every byte. */
static void farewell(void)
{
	uint64_t until = time_mono_us() + FAREWELL_US;
	bool said = false;

	while (!agent_wire.closed && time_mono_us() < until) {
		if (!said && !agent_wire.out.len && agent_wire.connected) {
			wire_shutdown(&agent_wire);
			said = true;
		}
		ev_turn(until);
	}
}

static void serve(void)
{
	bool rest_loaded = false;
	uint64_t stop_at = 0;

	while (!proc_over()) {
		uint64_t deadline = proc_deadline();

		if (agent_wire.closed && !stop_at)
			stop_at = time_mono_us() + STOPPING_US;
		if (stop_at && time_mono_us() >= stop_at)
			return;
		if (clock_deadline() && (!deadline || clock_deadline() < deadline))
			deadline = clock_deadline();
		if (stop_at && (!deadline || stop_at < deadline))
			deadline = stop_at;
		ev_turn(deadline);
		proc_tick();
		clock_tick();
		if (!rest_loaded && proc_running()) {
			rest_loaded = true;
			boot_modules_later();
			kmsg_open();
		}
	}
}

static void report_failure(const struct error *e)
{
	struct json_object *o = json_object_new_object();
	CLEANUP_FREE char *text = error_text(e);

	guest_log_err(e, "start");
	json_set_str(o, "process", "init");
	json_set_str(o, "code", error_code_name(e->code));
	json_set_str(o, "message", text);
	wire_notify(&agent_wire, "failed", o);
}

int main(void)
{
	uint64_t began = time_mono_us();
	struct error *e = NULL;
	struct json_object *boot;

	if (getpid() != 1) {
		fputs("This is the init of a microVM; it runs as its PID 1.\n", stderr);
		return 1;
	}
	boot = early(&e);
	if (!boot || agent_open(&e)) {
		guest_log_err(e, "boot");
		power_off();
	}
	if (!ticks_fire())
		agent_no_ticks();
	guest_debug = json_flag(boot, "debug", false);
	proc_predial(json_obj(boot, "process"));
	if (prepare(boot, &e)) {
		report_failure(e);
	} else if (json_flag(boot, "files", false)) {
		agent_ready(began);
		proc_tasks_only(json_flag(json_obj(boot, "root"), "readonly", false));
		serve();
	} else {
		agent_ready(began);
		if (json_flag(boot, "askClock", false))
			clock_ask();
		if (!sockets_open(boot, &e))
			clock_wait();
		if (e || proc_start(json_obj(boot, "process"), boot, -1, &e))
			report_failure(e);
		else
			serve();
	}
	disks_unmount();
	farewell();
	power_off();
}
