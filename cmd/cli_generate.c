/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate.c - writes man pages and completion scripts to a directory. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include "cmd/cli.h"
#include "cmd/roles.h"
#include "core/path.h"

static int write_file(const char *dir, const char *name, const struct buf *b, struct error **err)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", dir, name);
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return error_sys(err, errno, "open %s", path);
	if (fd_write_full(fd, b->data, b->len, err))
		return error_wrap(err, "write %s", path);
	return 0;
}

static int write_man(const struct opt_cmd *cmd, const char *path, const char *dir,
		     struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_FREE char *name = xasprintf("%s.1", path);

	for (char *p = name; *p; p++)
		*p = *p == ' ' ? '-' : *p;
	opt_man(cmd, path, &b);
	if (write_file(dir, name, &b, err))
		return -1;
	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++) {
		CLEANUP_FREE char *sub = xasprintf("%s %s", path, cmd->sub[i]->name);

		if (cmd->sub[i]->group && write_man(cmd->sub[i], sub, dir, err))
			return -1;
	}
	return 0;
}

static const struct {
	const char *what, *file;
	void (*fn)(const struct opt_cmd *root, struct buf *out);
} scripts[] = {
	{"bash", "container.bash", opt_complete_bash},
	{"zsh", "_container", opt_complete_zsh},
	{"fish", "container.fish", opt_complete_fish},
};

void cli_completion(const char *shell)
{
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		CLEANUP_BUF struct buf b = {0};

		if (strcmp(shell, scripts[i].what))
			continue;
		scripts[i].fn(&cmd_root, &b);
		fwrite(b.data, 1, b.len, stdout);
	}
}

int cli_generate(const char *what, const char *dir, struct error **err)
{
	if (path_mkdirs(dir, 0755, err))
		return -1;
	if (!strcmp(what, "man")) {
		for (size_t i = 0; role_cmds[i]; i++)
			if (write_man(role_cmds[i], role_cmds[i]->name, dir, err))
				return -1;
		return write_man(&cmd_root, cmd_root.name, dir, err);
	}
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		CLEANUP_BUF struct buf b = {0};

		if (strcmp(what, scripts[i].what))
			continue;
		scripts[i].fn(&cmd_root, &b);
		return write_file(dir, scripts[i].file, &b, err);
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "cannot generate '%s': man, bash, zsh or fish",
			 what);
}
