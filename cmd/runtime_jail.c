/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_jail.c - the helper in its jail (vmm/jail.h), and the files it still writes from there.
 *
 * No name can be opened, made or moved any more, so everything goes through descriptors from before: the log of the
 * container is a ring of files (stdlog.h), and the exit record is one write of fixed length into a file that was made empty at the start. A
 * reader finds it empty, which is no record, or whole; one that a power failure tore does not parse, which is no record
 * either. The container's directory stays root's and is out of reach; what is in those files may be anything a guest
 * that broke out of its machine wanted, and the apiserver reads them so.
 */
#include "cmd/runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/filter.h"
#include "core/path.h"
#include "vmm/jail.h"

#define EXIT_BYTES 128

FILTER_RULES = {
	/* stdio: pipes and terminals of clients; logs */
	FILTER_ALLOW(FILTER_MAIN, read),
	FILTER_ALLOW(FILTER_MAIN, write),
	FILTER_ALLOW(FILTER_MAIN, close),
	/* the exit record */
	FILTER_ALLOW(FILTER_MAIN, pwrite64),
	FILTER_ALLOW(FILTER_MAIN, fsync),
};

/* ---- files ---- */

static int open_new(struct runtime *rt, const char *name)
{
	(void)unlinkat(rt->dirfd, name, 0);
	return openat(rt->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

int runtime_files_open(struct runtime *rt, struct error **err)
{
	struct stat st;

	rt->exit_fd = open_new(rt, "exit.json");
	rt->boot_fd = openat(rt->dirfd, "boot.log",
			     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (rt->exit_fd < 0 || rt->boot_fd < 0)
		return error_sys(err, errno, "open the container's logs");
	/* Room for the exit status, which may come when the disk is full; where there is none already, or no such call, so be it. */
	(void)fallocate(rt->exit_fd, FALLOC_FL_KEEP_SIZE, 0, EXIT_BYTES);
	/* The boot log is kept over starts; one that outgrew its bound starts afresh. */
	if (fstat(rt->boot_fd, &st) == 0 && st.st_size >= RUNTIME_BOOT_LOG_MAX &&
	    ftruncate(rt->boot_fd, 0) < 0)
		return error_sys(err, errno, "truncate boot.log");
	return 0;
}

void runtime_exit_record(struct runtime *rt, int code, int64_t at)
{
	CLEANUP_FREE char *when = time_iso8601(at);
	CLEANUP_ERROR struct error *e = NULL;
	char text[EXIT_BYTES];
	const char *end = rt->machine_end;
	int n;

	if (rt->exit_fd < 0)
		return;
	n = snprintf(text, sizeof(text), "{\"exitCode\": %d, \"exitedAt\": \"%s\"%s%s%s%s}", code,
		     when, rt->oom ? ", \"oomKilled\": true" : "", end ? ", \"machine\": \"" : "",
		     end ? end : "", end ? "\"" : "");
	memset(text + n, ' ', sizeof(text) - (size_t)n);
	text[sizeof(text) - 1] = '\n';
	if (fd_pwrite_full(rt->exit_fd, text, sizeof(text), 0, &e) < 0)
		log_err(e, "record the exit status");
	else if (fsync(rt->exit_fd) < 0)
		log_warn("record the exit status: %s", strerror(errno));
}

/* ---- the jail ---- */

static int confine_process(struct runtime *rt, struct error **err)
{
	uint64_t t = time_mono_us();
	CLEANUP_ERROR struct error *e = NULL;
	int done;

	log_confine();
	close(steal_fd(&rt->dirfd));
	done = jail_enter(rt->own_uid, rt->run_dir, err);
	if (done < 0)
		return -1;
	rt->jailed = done & JAIL_ROOT || rt->own_uid;
	rt->jail_done |= done;
	log_info("jail: user %u, stages %#x of %#x, %llu us", geteuid(), rt->jail_done, JAIL_ALL,
		 (unsigned long long)(time_mono_us() - t));
	t = time_mono_us();
	if (filter_arm(rt->engine_rules, rt->debug, &e) < 0) {
		if (e->code != ERR_UNSUPPORTED)
			return error_move(err, STEAL(e));
		log_err(e, "jail: no system call filters");
	}
	log_info("jail: filters built in %llu us", (unsigned long long)(time_mono_us() - t));
	return 0;
}

static int confine(void *arg, enum vm_confine what, struct error **err)
{
	struct runtime *rt = arg;

	if (what == VM_CONFINE_PROCESS)
		return confine_process(rt, err);
	filter_thread(FILTER_MAIN);
	return 0;
}

void runtime_jail_plan(struct runtime *rt, struct vm_config *cfg)
{
	rt->own_uid = jail_uid();
	rt->engine_rules = cfg->engine == VM_ENGINE_KVM ? FILTER_MAIN_KVM : FILTER_MAIN_QEMU;
	cfg->own_uid = rt->own_uid;
	cfg->confine = confine;
}

void runtime_jail_prepare(struct runtime *rt)
{
	uint64_t t = time_mono_us();

	rt->jail_done = jail_prepare(rt->own_uid);
	log_info("jail: prepared in %llu us", (unsigned long long)(time_mono_us() - t));
}
