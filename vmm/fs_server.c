/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_server.c - the process that serves a machine's shares (fs.h).
 *
 * It is this program anew, started before the helper's jail with three descriptors: its socket as standard error, the slots'
 * memory, and the eventfd. What it does, in order: namespaces of its own; each share as a mount that is cut off from the rest of
 * the tree (jail_share); an empty root; the capabilities that serving files needs; a thread for each slot; the filter.
 *
 * Root keeps, of its capabilities, what makes the guest's root an owner of files and no more:
 *   CAP_CHOWN         owners are changed
 *   CAP_DAC_OVERRIDE  files of others are read and written, whatever their mode
 *   CAP_FOWNER        modes, times and attributes of others' files; removing from sticky directories
 *   CAP_FSETID        set-group-ID bits survive a chmod
 *   CAP_SETUID, CAP_SETGID  what a user of the guest makes is made as that user (setfsuid, setfsgid)
 * Not CAP_MKNOD (no device nodes), CAP_DAC_READ_SEARCH (open_by_handle_at), CAP_LINUX_IMMUTABLE, CAP_SYS_RESOURCE (quotas hold).
 * The guest's kernel has checked who may do what before a request comes; a user who is not root keeps nothing, and the
 * guest's root can do what that user can.
 *
 * The user id stays: another one would own the files that are made. Root without CAP_KILL may signal root's processes, so no
 * call that sends signals is in the filter.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/str.h"
#include "vmm/fs.h"
#include "vmm/jail.h"

#define SOCK_FD      STDERR_FILENO
#define MEM_FD       3
#define DONE_FD      4
#define STACK        (512u << 10)
#define READY_WAIT_S 30
#define WORDS_MAX    4096
#define READY        'R' /* first byte of a message: it serves; how it is confined follows */
#define FAILED       'E' /* it does not; why follows */
#define CAP(name)    (1ull << CAP_##name)
#define ROOT_CAPS \
	(CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FOWNER) | CAP(FSETID) | CAP(SETUID) | CAP(SETGID))

FILTER_RULES = {
	/* The first thread waits for the socket's end, and then ends them all. */
	FILTER_ALLOW(FILTER_FS, read),
};

/* ---- the helper's side ---- */

int fs_server_start(struct fs_channel *ch, const struct fs_server_config *cfg, struct error **err)
{
	CLEANUP(strv_free) struct strv argv = {0};
	int fds[] = {ch->mem_fd, ch->done_fd};
	struct proc_spec spec = {
		.stdio = {-1, -1, ch->peer},
		.fds = fds,
		.nfds = ARRAY_SIZE(fds),
		.death_signal = SIGKILL,
	};
	pid_t pid;
	size_t i;

	strv_add(&argv, FS_SERVER_NAME);
	strv_add(&argv, cfg->place);
	strv_add(&argv, cfg->debug ? "debug" : "quiet");
	for (i = 0; i < cfg->npaths; i++)
		strv_addf(&argv, "%s:%s", cfg->paths[i].readonly ? "ro" : "rw", cfg->paths[i].path);
	spec.argv = argv.v;
	if (proc_spawn(&spec, &pid, err) < 0)
		return error_wrap(err, "start the server of shares");
	base_close_fd(&ch->peer);
	ch->peer = -1;
	return 0;
}

int fs_server_ready(struct fs_channel *ch, char **what, struct error **err)
{
	struct timeval limit = {.tv_sec = READY_WAIT_S};
	char text[WORDS_MAX];
	ssize_t n;

	*what = NULL;
	(void)setsockopt(ch->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	for (;;) {
		n = RETRY_EINTR(read(ch->sock, text, sizeof(text)));
		if (n < 0)
			return error_sys(err, errno, "shares: their server does not begin");
		if (n == 0)
			return error_set(err, ERR_INTERNAL, "shares: their server has ended");
		if (text[0] == FAILED)
			return error_set(err, ERR_INVALID_ARGUMENT, "%.*s", (int)n - 1, text + 1);
		if (text[0] == READY)
			break;
		log_warn("shares: %.*s", (int)(text[n - 1] == '\n' ? n - 1 : n), text);
	}
	*what = xstrndup(text + 1, (size_t)n - 1);
	return fd_set_nonblock(ch->sock, true) < 0 ? error_sys(err, errno, "shares: socket") : 0;
}

/* ---- the server's ---- */

struct server {
	struct fs_channel *ch;
	struct fuse *fuse;
};

struct slot_thread {
	struct server *s;
	unsigned slot;
};

static size_t handle(void *arg, const void *req, size_t len, void *reply, size_t max)
{
	return fuse_handle(((struct server *)arg)->fuse, req, len, reply, max);
}

static void *slot_main(void *arg)
{
	struct slot_thread *t = arg;
	char name[16];

	snprintf(name, sizeof(name), "share%u", t->slot);
	(void)prctl(PR_SET_NAME, name);
	filter_thread(FILTER_FS);
	fs_serve(t->s->ch, t->slot, handle, t->s);
}

static int start_threads(struct server *s, struct error **err)
{
	static struct slot_thread slots[FS_SLOTS];
	pthread_attr_t attr;
	pthread_t thread;
	unsigned i;
	int rc = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	for (i = 0; i < FS_SLOTS && !rc; i++) {
		slots[i] = (struct slot_thread){s, i};
		rc = pthread_create(&thread, &attr, slot_main, &slots[i]);
	}
	pthread_attr_destroy(&attr);
	return rc ? error_sys(err, rc, "shares: threads") : 0;
}

/* "ro:/path" or "rw:/path". */
static int open_share(const char *word, struct fuse_share *s, struct error **err)
{
	struct stat st;

	if (!str_prefix(word, "ro:") && !str_prefix(word, "rw:"))
		return error_set(err, ERR_INVALID_ARGUMENT, "shares: \"%s\" is no share", word);
	s->readonly = word[1] == 'o';
	s->fd = jail_share(word + 3, s->readonly, err);
	if (s->fd < 0)
		return -1;
	if (fstat(s->fd, &st) < 0)
		return error_sys(err, errno, "share %s", word + 3);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "share %s: neither a directory nor a regular file", word + 3);
	return 0;
}

static int begin(struct server *s, int argc, char **argv, int *stages, struct error **err)
{
	struct fuse_share shares[FUSE_SHARES];
	struct fuse_config cfg = {.shares = shares, .squash = geteuid() != 0};
	CLEANUP_ERROR struct error *e = NULL;
	int i;

	s->ch = fs_channel_attach(MEM_FD, DONE_FD, err);
	if (!s->ch || argc < 3 || argc - 3 > FUSE_SHARES)
		return s->ch ? error_set(err, ERR_INVALID_ARGUMENT, "shares: wrong words") : -1;
	*stages = jail_files_prepare();
	for (i = 3; i < argc; i++)
		if (open_share(argv[i], &shares[cfg.nshares++], err) < 0)
			return -1;
	*stages |= jail_files_enter(argv[1]);
	s->fuse = fuse_new(&cfg, err);
	if (!s->fuse)
		return -1;
	*stages |= jail_files_drop(cfg.squash ? 0 : ROOT_CAPS);
	if (filter_arm_files(str_eq(argv[2], "debug"), &e) < 0) {
		if (e->code != ERR_UNSUPPORTED)
			return error_move(err, STEAL(e));
		log_err(e, "jail: no system call filter");
	}
	return start_threads(s, err);
}

static void say(char kind, const char *text)
{
	CLEANUP_FREE char *m = xasprintf("%c%s", kind, text);

	if (write(SOCK_FD, m, MIN(strlen(m), WORDS_MAX)) < 0)
		_exit(1);
}

int fs_server_main(int argc, char **argv)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_FREE char *text = NULL;
	static struct server s;
	int stages = 0;
	ssize_t n;
	char byte;

	log_init_stderr("shares", LOG_LVL_WARN);
	umask(0); /* the guest's processes have their own */
	if (begin(&s, argc, argv, &stages, &e) < 0) {
		text = error_text(e);
		say(FAILED, text);
		return 1;
	}
	text = xasprintf("user %u, stages %#x", geteuid(), stages);
	filter_thread(FILTER_FS);
	say(READY, text);
	/* Nothing is ever sent here: what comes is the end. */
	do
		n = read(SOCK_FD, &byte, sizeof(byte));
	while (n > 0 || (n < 0 && errno == EINTR));
	_exit(0);
}
