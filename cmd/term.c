/* SPDX-License-Identifier: Apache-2.0 */
/* term.c - raw mode and window size. */
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include "cmd/term.h"

static struct termios term_saved;
static volatile sig_atomic_t term_fd = -1; /* in raw mode */

bool term_is_raw(void)
{
	return term_fd >= 0;
}

void term_restore(void)
{
	int saved = errno, fd = term_fd;

	term_fd = -1;
	if (fd >= 0)
		tcsetattr(fd, TCSADRAIN, &term_saved);
	errno = saved;
}

static void term_crash(int signo)
{
	term_restore();
	raise(signo); /* SA_RESETHAND: the default action this time */
}

static void term_guard(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE,
				      SIGTERM, SIGHUP, SIGINT,  SIGQUIT};
	struct sigaction sa = {.sa_handler = term_crash, .sa_flags = SA_RESETHAND | SA_NODEFER};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, NULL);
	atexit(term_restore);
}

int term_raw(int fd, struct error **err)
{
	static bool guarded;
	struct termios t;

	if (term_fd < 0 && tcgetattr(fd, &term_saved))
		return error_sys(err, errno, "read the terminal's settings");
	if (!guarded)
		term_guard();
	guarded = true;
	t = term_saved;
	cfmakeraw(&t);
	term_fd = fd;
	if (RETRY_EINTR(tcsetattr(fd, TCSADRAIN, &t)))
		return error_sys(err, errno, "put the terminal into raw mode");
	return 0;
}

int term_size(unsigned *rows, unsigned *cols)
{
	static const int fds[] = {STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO};
	struct winsize w;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (ioctl(fds[i], TIOCGWINSZ, &w))
			continue;
		if (!w.ws_row || !w.ws_col)
			return -1;
		*rows = w.ws_row;
		*cols = w.ws_col;
		return 0;
	}
	return -1;
}
