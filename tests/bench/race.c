/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race.c - how long a command takes to say a word.
 *
 *   race [-t seconds] WORD COMMAND [ARG…]
 *
 * prints "wall <µs> guest <µs> user <µs> system <µs> maxrss <KiB>": from before the fork to WORD on the command's standard output, and
 * what its threads had used by then (guest: inside a virtual machine; counted in ticks). The command has a second to end by itself.
 * Exit status: 1 when the word did not come.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIELD_UTIME 14 /* proc(5), /proc/pid/stat */
#define FIELD_STIME 15
#define FIELD_GUEST 43
#define GRACE_MS    1000

static long long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

/* Fields of /proc/pid/stat that are times, in µs. The command's name ends at the last parenthesis. */
static void read_times(pid_t pid, long long *user, long long *sys, long long *guest)
{
	long long tick = 1000000 / sysconf(_SC_CLK_TCK);
	char path[64], text[2048], *p, *save = NULL;
	int field = 3;
	size_t n;
	FILE *f;

	*user = *sys = *guest = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')');
	for (p = p ? strtok_r(p + 1, " ", &save) : NULL; p;
	     p = strtok_r(NULL, " ", &save), field++) {
		if (field == FIELD_UTIME)
			*user = atoll(p) * tick;
		else if (field == FIELD_STIME)
			*sys = atoll(p) * tick;
		else if (field == FIELD_GUEST)
			*guest = atoll(p) * tick;
	}
}

/* 0 when the word came by the time. */
static int wait_word(int fd, const char *word, long long until)
{
	char text[65536];
	size_t have = 0, keep = strlen(word);

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		long long left = until - now_us();
		ssize_t n;

		if (left <= 0 || poll(&p, 1, (int)(left / 1000) + 1) <= 0)
			return -1;
		n = read(fd, text + have, sizeof(text) - 1 - have);
		if (n <= 0)
			return -1;
		have += (size_t)n;
		if (memmem(text, have, word, keep))
			return 0;
		if (have > sizeof(text) / 2) {
			memmove(text, text + have - keep, keep);
			have = keep;
		}
	}
}

static void end(pid_t pid, struct rusage *use)
{
	long long until = now_us() + GRACE_MS * 1000;
	struct timespec ms = {.tv_nsec = 1000000};

	while (now_us() < until) {
		if (wait4(pid, NULL, WNOHANG, use) == pid)
			return;
		nanosleep(&ms, NULL);
	}
	kill(pid, SIGKILL);
	while (wait4(pid, NULL, 0, use) < 0 && errno == EINTR)
		;
}

int main(int argc, char **argv)
{
	long long t0, t, user, sys, guest, seconds = 60;
	struct rusage use = {0};
	int p[2], c, rc;
	pid_t pid;

	while ((c = getopt(argc, argv, "+t:")) != -1) {
		if (c != 't')
			return 64;
		seconds = atoll(optarg);
	}
	if (argc - optind < 2 || pipe(p))
		return 64;
	t0 = now_us();
	pid = fork();
	if (pid < 0)
		return 71;
	if (!pid) {
		dup2(p[1], 1);
		close(p[0]);
		close(p[1]);
		execvp(argv[optind + 1], argv + optind + 1);
		_exit(127);
	}
	close(p[1]);
	rc = wait_word(p[0], argv[optind], t0 + seconds * 1000000);
	t = now_us() - t0;
	read_times(pid, &user, &sys, &guest);
	if (rc)
		kill(pid, SIGKILL);
	end(pid, &use);
	printf("wall %lld guest %lld user %lld system %lld maxrss %ld\n", t, guest, user - guest,
	       sys, use.ru_maxrss);
	return rc ? 1 : 0;
}
