/* SPDX-License-Identifier: Apache-2.0 */
/* roles.h - the entry points of the roles; each returns the process's exit status. */
#ifndef CMD_ROLES_H
#define CMD_ROLES_H

#include "cmd/opt.h"

int cli_main(int argc, char **argv);
int apiserver_main(int argc, char **argv);
int images_main(int argc, char **argv);
int network_main(int argc, char **argv);
int runtime_main(int argc, char **argv);
/* share_main: the runtime helper's child that serves its shared directories; its words are vmm/fs.h's. */
int share_main(int argc, char **argv);

/* ---- roles.c: the words that start them, from tables as the commands' are ---- */
/* The roles' commands, NULL at the end; each has one verb, start. For the man pages. */
extern const struct opt_cmd *const role_cmds[];
extern const struct opt_cmd role_apiserver, role_images, role_network, role_runtime;

/*
 * role_parse: what `role start` was given. False when there is nothing to start: help or the version was asked for (*status 0) or the
 * words are wrong (*status 64), and that has been said. *out borrows from argv; opt_args_free() in any case.
 */
bool role_parse(const struct opt_cmd *role, int argc, char *const *argv, struct opt_args *out,
		int *status);
/* role_usage: the words are wrong in a way that the table does not know: says so, returns 64. */
int role_usage(const struct opt_cmd *role, const char *why);

#endif
