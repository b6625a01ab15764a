/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opt.h - option tables: what a command takes, said once.
 *
 * The tables drive the parser, the usage text, the man pages and the shell completions, so these cannot
 * differ. Tables are constant data; a parse result borrows from argv and from the tables.
 */
#ifndef CMD_OPT_H
#define CMD_OPT_H

#include "core/str.h"

enum opt_kind { OPT_FLAG, OPT_VALUE, OPT_LIST };

/* Flags of an option. */
#define OPT_LATER    1u /* understood, but using it fails with "not supported yet" */
#define OPT_HIDDEN   2u
#define OPT_TEMPLATE 4u /* besides the choices anything with "{{" in it */

struct opt {
	const char
		*names; /* long names, "workdir|cwd"; the first one is the key. NULL ends a table */
	char c;         /* short name or 0 */
	enum opt_kind kind;
	const char *arg;     /* what the value is called in texts */
	const char *choices; /* "json|table"; NULL: anything */
	const char *help;    /* one sentence without the final dot */
	unsigned flags;
};

enum opt_pos_kind { POS_ONE, POS_OPTIONAL, POS_MANY, POS_SOME }; /* 1, 0–1, 0–n, 1–n */

struct opt_pos {
	const char *name; /* NULL ends a table */
	enum opt_pos_kind kind;
	const char *help;
};

struct cli;
struct opt_args;

struct opt_cmd {
	const char *name;
	const char *aliases; /* "ls|ps" or NULL */
	const char *summary;
	const char *group;                /* heading in the parent's help; NULL: hidden */
	const struct opt *const *opts;    /* tables, NULL-terminated; NULL: none */
	const struct opt_pos *pos;        /* NULL: none */
	const struct opt_cmd *const *sub; /* NULL-terminated; NULL: a leaf */
	bool passthrough;                 /* all after the first positional is taken as it is */
	const char *notes;                /* paragraph for the man page; NULL: none */
	int (*run)(struct cli *c, const struct opt_args *a, struct error **err);
};

/* Options that every command has. */
extern const struct opt opt_common[];

struct opt_args {
	struct {
		const struct opt *opt;
		const char *value; /* "" for flags */
	} * given;
	size_t ngiven;
	const char **pos;
	size_t npos;
};

/*
 * opt_parse: argv[0..argc) are the words after the command's name. -1 and an invalidArgument error whose
 * text is the usage error ("Unknown option '--x'"). --help and --version end parsing: what is wrong or
 * missing otherwise does not matter then. The caller frees *out with opt_args_free() in any case.
 */
int opt_parse(const struct opt_cmd *cmd, int argc, char *const *argv, struct opt_args *out,
	      struct error **err);
void opt_args_free(struct opt_args *a);
#define CLEANUP_OPTS CLEANUP(opt_args_free)

bool opt_has(const struct opt_args *a, const char *key);
/* opt_str: the last value given, or dflt. */
const char *opt_str(const struct opt_args *a, const char *key, const char *dflt);
/* opt_list: values in order; a NULL-terminated vector to be freed by the caller (the strings are not). */
const char **opt_list(const struct opt_args *a, const char *key, size_t *n);
/* opt_later: the first option given that is not supported yet, or NULL. */
const struct opt *opt_later(const struct opt_args *a);

/* opt_names_match: word is one of the names in "a|b|c". */
bool opt_names_match(const char *names, const char *word);
/* opt_key: the first of the names; the caller owns it. */
char *opt_key(const char *names);
/* opt_find_sub: the subcommand with that name or alias, or NULL. */
const struct opt_cmd *opt_find_sub(const struct opt_cmd *cmd, const char *word);
/* opt_visit: calls fn for every option of cmd, common ones last. */
void opt_visit(const struct opt_cmd *cmd, void (*fn)(void *arg, const struct opt *o), void *arg);

/* ---- texts made from the tables (opt_doc.c); path is "container image pull" ---- */
void opt_usage_line(const struct opt_cmd *cmd, const char *path, struct buf *out);
void opt_help(const struct opt_cmd *cmd, const char *path, struct buf *out);
void opt_man(const struct opt_cmd *cmd, const char *path, struct buf *out);
void opt_complete_bash(const struct opt_cmd *root, struct buf *out);
void opt_complete_zsh(const struct opt_cmd *root, struct buf *out);
void opt_complete_fish(const struct opt_cmd *root, struct buf *out);

#endif
