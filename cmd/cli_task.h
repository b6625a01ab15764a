/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_task.h - a task of the guest's agent with a container's files (vmm/agent.h), whether the container runs or not. Its streams are
 * pipes made here, as with exec.
 */
#ifndef CMD_CLI_TASK_H
#define CMD_CLI_TASK_H

#include "cmd/cli.h"

struct task {
	const char *id;
	char *process;
	int data, said; /* our ends */
};

/* task_start: words are the task's, NULL at the end; input: we write to t->data, else we read. t->id is set. */
int task_start(struct cli *c, struct task *t, const char *const *words, bool input,
	       struct error **err);
/* task_end: the end of the task; e (taken) is what went wrong on our side, which may be due to what went wrong on its side. */
int task_end(struct cli *c, struct task *t, struct error *e, struct error **err);
void task_close(struct task *t);
/* task_pass: bytes as they are, from one descriptor to the other. */
int task_pass(int from, int to, struct error **err);
/* cli_full_id: of a container by the beginning of its id; owned by the caller. */
char *cli_full_id(struct cli *c, const char *name, struct error **err);

#endif
