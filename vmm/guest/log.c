/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - records to /dev/kmsg: before the host can be told, the console is all there is. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "vmm/guest/guest.h"

bool guest_debug;

void guest_log(const char *fmt, ...)
{
	static int fd = -1;
	char line[512];
	int n, len;
	va_list ap;

	if (fd < 0)
		fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	len = snprintf(line, sizeof(line), "<3>init: ");
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - (size_t)len, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	n = MIN(n + len, (int)sizeof(line) - 1);
	if (write(fd, line, (size_t)n) < 0)
		return; /* nobody left to tell */
}

void guest_log_err(const struct error *e, const char *what)
{
	CLEANUP_FREE char *text = e ? error_text(e) : xstrdup("unknown error");

	guest_log("%s: %s", what, text);
}
