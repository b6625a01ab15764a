/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - what the command groups share: the running command's context, calls to the apiserver, errors.
 *
 * A command's run function returns the exit status, or -1 with *err set: then `Error: <code>: "<message>"`
 * goes to stderr and the status is 1. Commands that go on after a failure (stop a b c) print it at once with
 * cli_report() and end with cli_status().
 */
#ifndef CMD_CLI_H
#define CMD_CLI_H

#include "cmd/format.h"
#include "cmd/opt.h"
#include "core/roots.h"
#include "core/rpc.h"

#define CLI_EXIT_USAGE  64
#define CLI_CONNECT_MS  10000
#define CLI_SERVER_NAME "container-apiserver"

struct cli {
	const struct opt_cmd *cmd;
	char path[64]; /* "container image pull" */
	bool debug;
	uint64_t t0; /* time_mono_us() at the start of main */
	bool failed; /* something was reported */
	struct roots roots;
	bool have_roots;
	struct rpc_conn *conn; /* blocking; NULL until the first call */
};

/* The command groups. */
extern const struct opt_cmd cmd_run, cmd_create, cmd_start; /* cli_run.c */
extern const struct opt_cmd cmd_exec;                       /* cli_exec.c */
extern const struct opt_cmd cmd_list, cmd_inspect, cmd_stop, cmd_restart, cmd_kill,
	cmd_delete;                               /* cli_container.c */
extern const struct opt_cmd cmd_logs;             /* cli_logs_container.c */
extern const struct opt_cmd cmd_events;           /* cli_events.c */
extern const struct opt_cmd cmd_update;           /* cli_update.c */
extern const struct opt_cmd cmd_diff, cmd_commit; /* cli_commit.c */
extern const struct opt_cmd cmd_image, cmd_pull, cmd_images, cmd_rmi, cmd_load; /* cli_image*.c */
extern const struct opt_cmd cmd_tag, cmd_save, cmd_push;         /* cli_image_move.c */
extern const struct opt_cmd cmd_history;                         /* cli_image_show.c */
extern const struct opt_cmd cmd_system_df;                       /* cli_df.c */
extern const struct opt_cmd cmd_system_doctor;                   /* cli_doctor.c */
extern const struct opt_cmd cmd_registry, cmd_login, cmd_logout; /* cli_registry.c */
extern const struct opt_cmd cmd_system;                          /* cli_system.c */
extern const struct opt_cmd cmd_system_start, cmd_system_stop;   /* cli_start.c */
extern const struct opt_cmd cmd_system_logs;                     /* cli_logs.c */
extern const struct opt_cmd cmd_root;                            /* cli.c */

extern const struct opt_cmd cmd_attach, cmd_pause, cmd_port, cmd_prune, cmd_rename, cmd_top,
	cmd_unpause, cmd_wait;                    /* cli_manage.c */
extern const struct opt_cmd cmd_copy, cmd_export; /* cli_copy.c */
extern const struct opt_cmd cmd_stats;            /* cli_stats.c */
extern const struct opt_cmd cmd_volume;           /* cli_volume.c */

/* Options of a process that several commands share (cli_run.c). */
extern const struct opt opt_process[];
/* Containers: any number of them, at least one, one (cli_call.c). */
extern const struct opt_pos pos_ids[], pos_some_ids[], pos_id[];

/* cli_roots: the roots from the environment, read once. */
int cli_roots(struct cli *c, struct error **err);

/* cli_connect: opens c->conn. When nothing listens the error (invalidState) names `container system start`. */
int cli_connect(struct cli *c, struct error **err);
/* cli_socket: a connected socket for a connection on a loop; owned by the caller. */
int cli_socket(struct cli *c, struct error **err);

/* cli_call: a blocking call over c->conn, connecting first. params is consumed; *result (may be NULL) is the
 * caller's. */
int cli_call(struct cli *c, const char *method, struct json_object *params,
	     struct json_object **result, struct error **err);

/* cli_containers: the containers that container.list or container.get answers with, which come in parts. params is consumed; *list, an
 * array, is the caller's. */
int cli_containers(struct cli *c, const char *method, struct json_object *params,
		   struct json_object **list, struct error **err);

/* cli_usage: prints a usage error of the running command; returns CLI_EXIT_USAGE. */
int cli_usage(struct cli *c, const char *fmt, ...) PRINTF(2, 3);
/* cli_report: prints *e as an error, frees it, sets c->failed. */
void cli_report(struct cli *c, struct error **e);
/* cli_status: 0, or 1 after a report. */
int cli_status(const struct cli *c);
/* cli_error_text: `notFound: "no such container: x" (cause: "…")`; the caller owns it. */
char *cli_error_text(const struct error *e);
/* cli_note: a line to stderr, made printable. */
void cli_note(const char *fmt, ...) PRINTF(1, 2);
/* cli_reclaimed: "Reclaimed 1.2 MB in disk space", "Zero KB" for nothing, to stderr. */
void cli_reclaimed(int64_t bytes);
/* cli_out: a line to stdout, made printable: ids, names, references. */
void cli_out(const char *line);
/* cli_flush: flushes stdout; the exit status for its state: `status`, 141 after a broken pipe, 1 otherwise. */
int cli_flush(int status);

/* cli_ids: the positionals, or with --all what `list` gives; each once. Neither or both is an error
 * (invalidArgument). state: NULL or the only state that --all takes. */
int cli_ids(struct cli *c, const struct opt_args *a, const char *what, const char *state,
	    struct strv *ids, struct error **err);

/* cli_each: `method` for each of cli_ids() at the same time, with {"id": …} and the members of extra (NULL: none); then prints the
 * id of each that succeeded and reports the others. The exit status, or -1. */
int cli_each(struct cli *c, const struct opt_args *a, const char *method, const char *state,
	     struct json_object *extra, struct error **err);

/* cli_get: one container by id or the beginning of its id; *one borrows from *reply, which is the caller's. */
int cli_get(struct cli *c, const char *id, struct json_object **reply, struct json_object **one,
	    struct error **err);

/* cli_generate: the hidden `--generate man|bash|zsh|fish DIR`. */
int cli_generate(const char *what, const char *dir, struct error **err);
/* cli_completion: prints the script for shell, one of GENERATE_SHELLS. */
#define GENERATE_SHELLS "bash|zsh|fish"
void cli_completion(const char *shell);

#endif
