/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opt.c - the command line parser.
 *
 * Long options take `--name value` or `--name=value`, short ones `-n value`, `-nvalue` or `-n=value`; flags
 * may be bundled (-it), a bundle may end with an option that takes a value. `--` ends the options. For
 * passthrough commands the first positional ends them as well.
 */
#include "cmd/opt.h"

const struct opt opt_common[] = {
	{"debug", 0, OPT_FLAG, NULL, NULL,
	 "Write debug messages to stderr [environment: CONTAINER_DEBUG]", 0},
	{"version", 0, OPT_FLAG, NULL, NULL, "Show the version", 0},
	{"help", 'h', OPT_FLAG, NULL, NULL, "Show help", 0},
	{0},
};

bool opt_names_match(const char *names, const char *word)
{
	size_t len = strlen(word);

	while (names && *names) {
		const char *bar = strchrnul(names, '|');

		if ((size_t)(bar - names) == len && !memcmp(names, word, len))
			return true;
		names = *bar ? bar + 1 : bar;
	}
	return false;
}

char *opt_key(const char *names)
{
	return xstrndup(names, (size_t)(strchrnul(names, '|') - names));
}

const struct opt_cmd *opt_find_sub(const struct opt_cmd *cmd, const char *word)
{
	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++)
		if (!strcmp(cmd->sub[i]->name, word) || opt_names_match(cmd->sub[i]->aliases, word))
			return cmd->sub[i];
	return NULL;
}

void opt_visit(const struct opt_cmd *cmd, void (*fn)(void *arg, const struct opt *o), void *arg)
{
	for (size_t t = 0; cmd->opts && cmd->opts[t]; t++)
		for (const struct opt *o = cmd->opts[t]; o->names; o++)
			fn(arg, o);
	for (const struct opt *o = opt_common; o->names; o++)
		fn(arg, o);
}

struct opt_wanted {
	const char *name; /* long, or NULL */
	char c;
	const struct opt *found;
};

static void opt_match(void *arg, const struct opt *o)
{
	struct opt_wanted *w = arg;

	if (w->found)
		return;
	if (w->name ? opt_names_match(o->names, w->name) : (o->c && o->c == w->c))
		w->found = o;
}

static const struct opt *opt_lookup(const struct opt_cmd *cmd, const char *name, char c)
{
	struct opt_wanted w = {.name = name, .c = c};

	opt_visit(cmd, opt_match, &w);
	return w.found;
}

static int opt_store(struct opt_args *a, const struct opt *o, const char *value, const char *shown,
		     struct error **err)
{
	if (o->choices && !opt_names_match(o->choices, value) &&
	    !((o->flags & OPT_TEMPLATE) && strstr(value, "{{")))
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"The value '%s' is invalid for '%s <%s>'. Please provide one of: %s", value,
			shown, o->arg, o->choices);
	a->given = xreallocarray(a->given, a->ngiven + 1, sizeof(a->given[0]));
	a->given[a->ngiven].opt = o;
	a->given[a->ngiven++].value = value;
	return 0;
}

static void opt_add_pos(struct opt_args *a, const char *word)
{
	a->pos = xreallocarray(a->pos, a->npos + 1, sizeof(a->pos[0]));
	a->pos[a->npos++] = word;
}

/* One `--long[=value]`; *i moves past a value that is a word of its own. */
static int opt_parse_long(const struct opt_cmd *cmd, int argc, char *const *argv, int *i,
			  struct opt_args *out, struct error **err)
{
	const char *word = argv[*i];
	const char *eq = strchr(word, '=');
	CLEANUP_FREE char *name =
		eq ? xstrndup(word + 2, (size_t)(eq - word) - 2) : xstrdup(word + 2);
	CLEANUP_FREE char *shown = xasprintf("--%s", name);
	const struct opt *o = opt_lookup(cmd, name, 0);

	if (!o)
		return error_set(err, ERR_INVALID_ARGUMENT, "Unknown option '%s'", shown);
	if (o->kind == OPT_FLAG) {
		if (eq)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "The option '%s' does not take a value", shown);
		return opt_store(out, o, "", shown, err);
	}
	if (eq)
		return opt_store(out, o, eq + 1, shown, err);
	if (*i + 1 >= argc)
		return error_set(err, ERR_INVALID_ARGUMENT, "Missing value for '%s <%s>'", shown,
				 o->arg);
	return opt_store(out, o, argv[++*i], shown, err);
}

/* A bundle `-itvalue`. */
static int opt_parse_short(const struct opt_cmd *cmd, int argc, char *const *argv, int *i,
			   struct opt_args *out, struct error **err)
{
	const char *p = argv[*i] + 1;

	while (*p) {
		char shown[3] = {'-', *p, 0};
		const struct opt *o = opt_lookup(cmd, NULL, *p++);

		if (!o)
			return error_set(err, ERR_INVALID_ARGUMENT, "Unknown option '%s'",
					 p - argv[*i] == 2 ? argv[*i] : shown);
		if (o->kind == OPT_FLAG) {
			if (opt_store(out, o, "", shown, err))
				return -1;
			continue;
		}
		if (*p)
			return opt_store(out, o, *p == '=' ? p + 1 : p, shown, err);
		if (*i + 1 >= argc)
			return error_set(err, ERR_INVALID_ARGUMENT, "Missing value for '%s <%s>'",
					 shown, o->arg);
		return opt_store(out, o, argv[++*i], shown, err);
	}
	return 0;
}

static int opt_check_pos(const struct opt_cmd *cmd, const struct opt_args *a, struct error **err)
{
	size_t n = a->npos;

	for (const struct opt_pos *p = cmd->pos; p && p->name; p++) {
		if ((p->kind == POS_ONE || p->kind == POS_SOME) && n == 0)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "Missing expected argument '<%s>'", p->name);
		if (p->kind == POS_MANY || p->kind == POS_SOME)
			return 0;
		if (n)
			n--;
	}
	if (n && !cmd->sub)
		return error_set(err, ERR_INVALID_ARGUMENT, "Unexpected argument '%s'",
				 a->pos[a->npos - n]);
	return 0;
}

int opt_parse(const struct opt_cmd *cmd, int argc, char *const *argv, struct opt_args *out,
	      struct error **err)
{
	bool raw = false;

	*out = (struct opt_args){0};
	for (int i = 0; i < argc; i++) {
		const char *w = argv[i];
		int rc = 0;

		if (raw || w[0] != '-' || !w[1]) {
			opt_add_pos(out, w);
			raw = raw || cmd->passthrough || cmd->sub;
		} else if (!strcmp(w, "--")) {
			raw = true;
		} else if (w[1] == '-') {
			rc = opt_parse_long(cmd, argc, argv, &i, out, err);
		} else {
			rc = opt_parse_short(cmd, argc, argv, &i, out, err);
		}
		if (rc)
			return -1;
		if (out->ngiven && (opt_has(out, "help") || opt_has(out, "version")))
			return 0;
	}
	return opt_check_pos(cmd, out, err);
}

void opt_args_free(struct opt_args *a)
{
	free(a->given);
	free(a->pos);
	*a = (struct opt_args){0};
}

static bool opt_is(const struct opt *o, const char *key)
{
	size_t len = strlen(key);

	return !strncmp(o->names, key, len) && (!o->names[len] || o->names[len] == '|');
}

bool opt_has(const struct opt_args *a, const char *key)
{
	return opt_str(a, key, NULL) != NULL;
}

const char *opt_str(const struct opt_args *a, const char *key, const char *dflt)
{
	for (size_t i = a->ngiven; i-- > 0;)
		if (opt_is(a->given[i].opt, key))
			return a->given[i].value;
	return dflt;
}

const char **opt_list(const struct opt_args *a, const char *key, size_t *n)
{
	const char **v = xcalloc(a->ngiven + 1, sizeof(*v));

	*n = 0;
	for (size_t i = 0; i < a->ngiven; i++)
		if (opt_is(a->given[i].opt, key))
			v[(*n)++] = a->given[i].value;
	return v;
}

const struct opt *opt_later(const struct opt_args *a)
{
	for (size_t i = 0; i < a->ngiven; i++)
		if (a->given[i].opt->flags & OPT_LATER)
			return a->given[i].opt;
	return NULL;
}
