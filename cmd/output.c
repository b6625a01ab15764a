/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - see output.h. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/output.h"

int output_open(struct output *o, const char *path, struct error **err)
{
	struct stat st;

	*o = (struct output){.fd = STDOUT_FILENO, .path = path};
	if (!path || !strcmp(path, "-")) {
		o->path = NULL;
		if (isatty(STDOUT_FILENO))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "an archive is not written to a terminal; use --output");
		return 0;
	}
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		o->fd = open(path, O_WRONLY | O_CLOEXEC);
	} else {
		o->tmp = xasprintf("%s.%d.part", path, (int)getpid());
		o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	}
	return o->fd < 0 ? error_sys(err, errno, "open %s", path) : 0;
}

int output_commit(struct output *o, struct error **err)
{
	if (!o->tmp)
		return 0;
	if (rename(o->tmp, o->path) < 0)
		return error_sys(err, errno, "rename %s", o->path);
	free(STEAL(o->tmp));
	return 0;
}

void output_close(struct output *o)
{
	if (o->path)
		base_close_fd(&o->fd);
	if (o->tmp)
		unlink(o->tmp);
	free(o->tmp);
}
