/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top.c - the container's processes, from the agent's /proc.
 *
 * A process belongs to the container when it has a number in a second pid namespace (NSpid in proc(5)); that number
 * is the one the container knows it by. Names and arguments are the processes' own to choose: what is not printable
 * ASCII is shown as '?'.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "vmm/guest/guest.h"

#define TOP_MAX     4096
#define COMMAND_MAX 1024
#define PROC_FILE   (16u << 10)

/* The text after "key:\t", up to the end of the line; NULL when there is none. */
static const char *status_field(const char *text, const char *key)
{
	size_t n = strlen(key);

	while (text) {
		if (!strncmp(text, key, n) && text[n] == ':')
			return text + n + 1;
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return NULL;
}

/* The last of the numbers on the line; *count says how many there are. */
static long last_number(const char *line, unsigned *count)
{
	long v = 0;
	char *end;

	*count = 0;
	while (line && *line && *line != '\n') {
		long n = strtol(line, &end, 10);

		if (end == line)
			break;
		v = n;
		(*count)++;
		line = end;
	}
	return v;
}

/* User and system time in milliseconds: fields 14 and 15 of stat, in ticks. */
static int64_t cpu_ms(int dir)
{
	CLEANUP_BUF struct buf b = {0};
	unsigned long long user, sys;
	const char *p;
	long hz = sysconf(_SC_CLK_TCK);

	if (path_read_all(dir, "stat", PROC_FILE, &b, NULL) || !b.len)
		return 0;
	p = strrchr(b.data, ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			 &sys) != 2)
		return 0;
	return (int64_t)((user + sys) * 1000 / (unsigned long long)MAX(hz, 1));
}

/* The arguments with blanks between them, or the name in brackets, as ps shows it. */
static void put_command(struct json_object *o, int dir, const char *status)
{
	char text[COMMAND_MAX + 1];
	CLEANUP_CLOSE int fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, COMMAND_MAX);
	size_t i, len;

	while (n > 0 && !text[n - 1])
		n--;
	if (n <= 0) {
		const char *name = status_field(status, "Name");
		const char *at = name ? name + strspn(name, " \t") : "?";

		n = snprintf(text, sizeof(text), "[%.*s]", (int)strcspn(at, "\n"), at);
	}
	len = MIN((size_t)n, COMMAND_MAX);
	for (i = 0; i < len; i++)
		text[i] = !text[i] ? ' ' : isprint((unsigned char)text[i]) ? text[i] : '?';
	text[len] = 0;
	json_set_str(o, "command", text);
}

/* NULL when it is none of the container's, or has ended meanwhile. */
static struct json_object *describe(int proc, const char *pid)
{
	CLEANUP_CLOSE int dir = openat(proc, pid, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_BUF struct buf b = {0};
	struct json_object *o;
	const char *uid;
	unsigned n;
	long inner;

	if (dir < 0 || path_read_all(dir, "status", PROC_FILE, &b, NULL) || !b.len)
		return NULL;
	inner = last_number(status_field(b.data, "NSpid"), &n);
	if (n < 2)
		return NULL;
	uid = status_field(b.data, "Uid");
	o = json_object_new_object();
	json_set_int(o, "pid", inner);
	json_set_int(o, "uid", uid ? strtol(uid, NULL, 10) : 0);
	json_set_int(o, "timeMs", cpu_ms(dir));
	put_command(o, dir, b.data);
	return o;
}

struct json_object *top_collect(void)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	DIR *d = opendir("/proc");
	struct dirent *de;

	while (d && (de = readdir(d)) && json_object_array_length(list) < TOP_MAX) {
		struct json_object *p = isdigit((unsigned char)de->d_name[0])
						? describe(dirfd(d), de->d_name)
						: NULL;

		if (p)
			json_object_array_add(list, p);
	}
	if (d)
		closedir(d);
	json_set(o, "processes", list);
	return o;
}
