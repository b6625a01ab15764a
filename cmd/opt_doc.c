/* SPDX-License-Identifier: Apache-2.0 */
/* opt_doc.c - usage text, man pages and completion scripts, all made from the option tables. */
#include <ctype.h>
#include "cmd/opt.h"
#include "core/version.h"

#define HELP_COLUMN 32
#define HELP_WIDTH  100

/* "-e, --env <env>"; long names all. */
static void opt_put_names(struct buf *b, const struct opt *o)
{
	if (o->c)
		buf_printf(b, "-%c, ", o->c);
	for (const char *p = o->names; *p;) {
		const char *bar = strchrnul(p, '|');

		buf_puts(b, "--");
		buf_append(b, p, (size_t)(bar - p));
		if (*bar)
			buf_puts(b, ", ");
		p = *bar ? bar + 1 : bar;
	}
	if (o->kind != OPT_FLAG)
		buf_printf(b, " <%s>", o->arg);
}

static void put_pos(struct buf *b, const struct opt_pos *p)
{
	switch (p->kind) {
	case POS_ONE:
		buf_printf(b, " <%s>", p->name);
		break;
	case POS_OPTIONAL:
		buf_printf(b, " [<%s>]", p->name);
		break;
	case POS_MANY:
		buf_printf(b, " [<%s> ...]", p->name);
		break;
	case POS_SOME:
		buf_printf(b, " <%s> ...", p->name);
		break;
	}
}

void opt_usage_line(const struct opt_cmd *cmd, const char *path, struct buf *out)
{
	buf_puts(out, path);
	if (cmd->sub) {
		buf_puts(out, " <subcommand>");
		return;
	}
	if (cmd->opts && cmd->opts[0])
		buf_puts(out, " [<options>]");
	for (const struct opt_pos *p = cmd->pos; p && p->name; p++)
		put_pos(out, p);
}

/* "  left             text", the text wrapped below itself. */
static void help_entry(struct buf *b, const char *left, const char *text)
{
	size_t col = strlen(left) + 2;

	buf_printf(b, "  %s", left);
	if (col + 2 > HELP_COLUMN) {
		buf_puts(b, "\n");
		col = 0;
	}
	while (*text) {
		size_t word = strcspn(text, " ");

		if (col > HELP_COLUMN && col + 1 + word > HELP_WIDTH) {
			buf_puts(b, "\n");
			col = 0;
		}
		if (col < HELP_COLUMN) {
			buf_printf(b, "%*s", (int)(HELP_COLUMN - col), "");
			col = HELP_COLUMN;
		} else {
			buf_puts(b, " ");
			col++;
		}
		buf_append(b, text, word);
		col += word;
		text += word;
		text += strspn(text, " ");
	}
	buf_puts(b, "\n");
}

static void opt_put_text(struct buf *b, const struct opt *o)
{
	buf_puts(b, o->help);
	if (o->choices)
		buf_printf(b, " (%s)", o->choices);
	if (o->flags & OPT_LATER)
		buf_puts(b, " (not supported yet)");
}

static void help_option(void *arg, const struct opt *o)
{
	CLEANUP_BUF struct buf left = {0}, text = {0};

	if (o->flags & OPT_HIDDEN)
		return;
	buf_puts(&left, o->c ? "" : "    ");
	opt_put_names(&left, o);
	opt_put_text(&text, o);
	help_entry(arg, left.data, text.data);
}

static void help_subcommands(const struct opt_cmd *cmd, struct buf *out)
{
	const char *group = NULL;

	for (size_t i = 0; cmd->sub[i]; i++) {
		const struct opt_cmd *s = cmd->sub[i];
		CLEANUP_BUF struct buf left = {0};

		if (!s->group)
			continue;
		if (!group || strcmp(group, s->group))
			buf_printf(out, "\n%s:\n", s->group);
		group = s->group;
		buf_puts(&left, s->name);
		for (const char *p = s->aliases; p && *p;) {
			const char *bar = strchrnul(p, '|');

			buf_puts(&left, ", ");
			buf_append(&left, p, (size_t)(bar - p));
			p = *bar ? bar + 1 : bar;
		}
		help_entry(out, left.data, s->summary);
	}
}

void opt_help(const struct opt_cmd *cmd, const char *path, struct buf *out)
{
	buf_printf(out, "OVERVIEW: %s\n\nUSAGE: ", cmd->summary);
	opt_usage_line(cmd, path, out);
	buf_puts(out, "\n");
	if (cmd->pos && cmd->pos->name)
		buf_puts(out, "\nARGUMENTS:\n");
	for (const struct opt_pos *p = cmd->pos; p && p->name; p++) {
		CLEANUP_FREE char *left = xasprintf("<%s>", p->name);

		help_entry(out, left, p->help);
	}
	buf_puts(out, "\nOPTIONS:\n");
	opt_visit(cmd, help_option, out);
	if (cmd->sub) {
		help_subcommands(cmd, out);
		buf_printf(out, "\n  See '%s <subcommand> --help' for detailed help.\n", path);
	}
}

/* ---- man pages ---- */

/* Text for roff: backslashes and hyphens escaped, no line may start with a control character. */
static void man_text(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if ((*s == '.' || *s == '\'') && (!b->len || b->data[b->len - 1] == '\n'))
			buf_puts(b, "\\&");
		if (*s == '\\')
			buf_puts(b, "\\e");
		else if (*s == '-')
			buf_puts(b, "\\-");
		else
			buf_append(b, s, 1);
	}
}

static void man_option(void *arg, const struct opt *o)
{
	struct buf *b = arg;
	CLEANUP_BUF struct buf names = {0}, text = {0};

	if (o->flags & OPT_HIDDEN)
		return;
	opt_put_names(&names, o);
	opt_put_text(&text, o);
	buf_puts(b, ".TP\n\\fB");
	man_text(b, names.data);
	buf_puts(b, "\\fR\n");
	man_text(b, text.data);
	buf_puts(b, ".\n");
}

static void man_subcommands(const struct opt_cmd *cmd, const char *path, struct buf *out)
{
	buf_puts(out, ".SH COMMANDS\n");
	for (size_t i = 0; cmd->sub[i]; i++) {
		const struct opt_cmd *s = cmd->sub[i];
		CLEANUP_FREE char *page = NULL;

		if (!s->group)
			continue;
		page = xasprintf("%s-%s", path, s->name);
		for (char *p = page; *p; p++)
			*p = *p == ' ' ? '-' : *p;
		buf_puts(out, ".TP\n\\fB");
		man_text(out, page);
		buf_puts(out, "\\fR(1)\n");
		man_text(out, s->summary);
		buf_puts(out, ".\n");
	}
}

static void man_title(struct buf *out, const char *path)
{
	for (; *path; path++) {
		char c = *path == ' ' ? '-' : (char)toupper((unsigned char)*path);

		buf_append(out, &c, 1);
	}
}

static void man_name(const char *path, struct buf *out)
{
	CLEANUP_FREE char *page = xstrdup(path);

	for (char *p = page; *p; p++)
		*p = *p == ' ' ? '-' : *p;
	man_text(out, page);
}

void opt_man(const struct opt_cmd *cmd, const char *path, struct buf *out)
{
	CLEANUP_BUF struct buf usage = {0};

	buf_puts(out, ".\\\" SPDX-License-Identifier: Apache-2.0\n");
	buf_puts(out, ".\\\" Made from the option tables in cmd/ by: container --generate man "
		      "DIR\n.TH \"");
	man_title(out, path);
	buf_printf(out, "\" \"1\" \"\" \"container %s\" \"container manual\"\n.SH NAME\n",
		   version_release);
	man_name(path, out);
	buf_puts(out, " \\- ");
	man_text(out, cmd->summary);
	opt_usage_line(cmd, path, &usage);
	buf_puts(out, "\n.SH SYNOPSIS\n\\fB");
	man_text(out, usage.data);
	buf_puts(out, "\\fR\n");
	if (cmd->notes) {
		buf_puts(out, ".SH DESCRIPTION\n");
		man_text(out, cmd->notes);
		buf_puts(out, "\n");
	}
	if (cmd->aliases) {
		buf_puts(out, ".SH ALIASES\n");
		for (const char *p = cmd->aliases; *p; p++)
			buf_append(out, *p == '|' ? " " : p, 1);
		buf_puts(out, "\n");
	}
	if (cmd->pos && cmd->pos->name)
		buf_puts(out, ".SH ARGUMENTS\n");
	for (const struct opt_pos *p = cmd->pos; p && p->name; p++) {
		buf_printf(out, ".TP\n\\fI%s\\fR\n", p->name);
		man_text(out, p->help);
		buf_puts(out, ".\n");
	}
	buf_puts(out, ".SH OPTIONS\n");
	opt_visit(cmd, man_option, out);
	if (cmd->sub)
		man_subcommands(cmd, path, out);
	if (strcmp(path, "container"))
		buf_puts(out, ".SH SEE ALSO\n\\fBcontainer\\fR(1)\n");
}

/* ---- completions ---- */

struct complete {
	struct buf *out;
	const char *path; /* "image pull", "" for the root */
	int shown;
};

/* Calls fn for cmd and all below it that are not hidden; path leaves out the program's name. */
static void each_command(const struct opt_cmd *cmd, const char *path,
			 void (*fn)(struct buf *out, const struct opt_cmd *c, const char *path),
			 struct buf *out)
{
	fn(out, cmd, path);
	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++) {
		CLEANUP_FREE char *sub = NULL;

		if (!cmd->sub[i]->group)
			continue;
		sub = xasprintf("%s%s%s", path, *path ? " " : "", cmd->sub[i]->name);
		each_command(cmd->sub[i], sub, fn, out);
	}
}

static void words_option(void *arg, const struct opt *o)
{
	struct complete *c = arg;
	CLEANUP_FREE char *key = NULL;

	if (o->flags & (OPT_HIDDEN | OPT_LATER))
		return;
	key = opt_key(o->names);
	buf_printf(c->out, "%s--%s", c->shown++ ? " " : "", key);
	if (o->c)
		buf_printf(c->out, " -%c", o->c);
}

static void bash_case(struct buf *out, const struct opt_cmd *cmd, const char *path)
{
	struct complete c = {.out = out};

	buf_printf(out, "\t'%s') words='", path);
	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++)
		if (cmd->sub[i]->group)
			buf_printf(out, "%s ", cmd->sub[i]->name);
	opt_visit(cmd, words_option, &c);
	buf_puts(out, "' ;;\n");
}

static void bash_paths(struct buf *out, const struct opt_cmd *cmd, const char *path)
{
	if (*path)
		buf_printf(out, "|'%s'", path);
}

void opt_complete_bash(const struct opt_cmd *root, struct buf *out)
{
	buf_puts(out, "# bash completion for container, made by: container --generate bash DIR\n"
		      "_container()\n{\n"
		      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} path='' try words='' i\n"
		      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		      "\t\t[[ ${COMP_WORDS[i]} == -* ]] && continue\n"
		      "\t\ttry=\"${path:+$path }${COMP_WORDS[i]}\"\n"
		      "\t\tcase $try in\n"
		      "\t\t''");
	each_command(root, "", bash_paths, out);
	buf_puts(out, ") path=$try ;;\n\t\tesac\n\tdone\n\tcase $path in\n");
	each_command(root, "", bash_case, out);
	buf_puts(out, "\tesac\n"
		      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
		      "complete -o default -F _container container\n");
}

void opt_complete_zsh(const struct opt_cmd *root, struct buf *out)
{
	buf_puts(out, "#compdef container\n"
		      "# zsh completion for container, made by: container --generate zsh DIR\n"
		      "local at='' try word w\nlocal -a words_\n"
		      "for w in ${words[2,$((CURRENT - 1))]}; do\n"
		      "\t[[ $w == -* ]] && continue\n"
		      "\ttry=\"${at:+$at }$w\"\n"
		      "\tcase $try in\n\t(''");
	each_command(root, "", bash_paths, out);
	buf_puts(out, ") at=$try ;;\n\tesac\ndone\nlocal words=''\ncase $at in\n");
	each_command(root, "", bash_case, out);
	buf_puts(out, "esac\nwords_=(${=words})\ncompadd -- $words_\n_files\n");
}

/* Text within single quotes of a fish script. */
static void fish_quote(struct buf *b, const char *s)
{
	buf_puts(b, "'");
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			buf_puts(b, "\\");
		buf_append(b, s, 1);
	}
	buf_puts(b, "'");
}

static void fish_option(void *arg, const struct opt *o)
{
	struct complete *c = arg;
	CLEANUP_FREE char *key = NULL;

	if (o->flags & (OPT_HIDDEN | OPT_LATER))
		return;
	key = opt_key(o->names);
	buf_printf(c->out, "complete -c container -n '__container_at \"%s\"' -l %s", c->path, key);
	if (o->c)
		buf_printf(c->out, " -s %c", o->c);
	if (o->kind != OPT_FLAG)
		buf_puts(c->out, " -r");
	if (o->choices) {
		buf_puts(c->out, " -f -a '");
		for (const char *p = o->choices; *p; p++)
			buf_append(c->out, *p == '|' ? " " : p, 1);
		buf_puts(c->out, "'");
	}
	buf_puts(c->out, " -d ");
	fish_quote(c->out, o->help);
	buf_puts(c->out, "\n");
}

static void fish_command(struct buf *out, const struct opt_cmd *cmd, const char *path)
{
	struct complete c = {.out = out, .path = path};

	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++) {
		if (!cmd->sub[i]->group)
			continue;
		buf_printf(out, "complete -c container -f -n '__container_at \"%s\"' -a %s -d ",
			   path, cmd->sub[i]->name);
		fish_quote(out, cmd->sub[i]->summary);
		buf_puts(out, "\n");
	}
	opt_visit(cmd, fish_option, &c);
}

static void fish_paths(struct buf *out, const struct opt_cmd *cmd, const char *path)
{
	if (*path)
		buf_printf(out, " '%s'", path);
}

void opt_complete_fish(const struct opt_cmd *root, struct buf *out)
{
	buf_puts(out, "# fish completion for container, made by: container --generate fish DIR\n"
		      "function __container_at\n"
		      "\tset -l path ''\n"
		      "\tfor w in (commandline -opc)[2..-1]\n"
		      "\t\tstring match -q -- '-*' $w; and continue\n"
		      "\t\tset -l try (string trim -- \"$path $w\")\n"
		      "\t\tcontains -- $try");
	each_command(root, "", fish_paths, out);
	buf_puts(out, "; and set path $try\n\tend\n\ttest \"$path\" = \"$argv[1]\"\nend\n");
	each_command(root, "", fish_command, out);
}
