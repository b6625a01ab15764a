// links: cmd core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_opt.c - the command line parser over tables of its own. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>

#include "cmd/opt.h"

static const struct opt table[] = {
	{"interactive", 'i', OPT_FLAG, NULL, NULL, "in", 0},
	{"tty", 't', OPT_FLAG, NULL, NULL, "tty", 0},
	{"env", 'e', OPT_LIST, "env", NULL, "env", 0},
	{"workdir|cwd", 'w', OPT_VALUE, "dir", NULL, "dir", 0},
	{"format", 0, OPT_VALUE, "format", "json|table", "format", 0},
	{"publish", 'p', OPT_LIST, "spec", NULL, "ports", OPT_LATER},
	{0},
};
static const struct opt *const tables[] = {table, NULL};
static const struct opt_pos run_pos[] = {{"image", POS_ONE, "i"},
					 {"arguments", POS_MANY, "a"},
					 {0}};
static const struct opt_pos some_pos[] = {{"ids", POS_SOME, "i"}, {0}};
static const struct opt_cmd run = {.name = "run",
				   .opts = tables,
				   .pos = run_pos,
				   .passthrough = true,
				   .group = "G",
				   .summary = "Runs"};
static const struct opt_cmd inspect = {
	.name = "inspect", .opts = tables, .pos = some_pos, .group = "G", .summary = "Inspects"};
static const struct opt_cmd none = {.name = "none", .opts = tables, .summary = "Nothing"};

#define PARSE(cmd, a, e, ...)                                     \
	({                                                        \
		char *words_[] = {__VA_ARGS__};                   \
		opt_parse(cmd, ARRAY_SIZE(words_), words_, a, e); \
	})

static void test_bundles(void **state)
{
	CLEANUP_OPTS struct opt_args a = {0};

	assert_int_equal(PARSE(&run, &a, NULL, "-ite", "A=1", "-w/x", "img"), 0);
	assert_true(opt_has(&a, "interactive"));
	assert_true(opt_has(&a, "tty"));
	assert_string_equal(opt_str(&a, "env", NULL), "A=1");
	assert_string_equal(opt_str(&a, "workdir", NULL), "/x");
	assert_int_equal(a.npos, 1);
}

static void test_long_forms(void **state)
{
	CLEANUP_OPTS struct opt_args a = {0};

	assert_int_equal(PARSE(&run, &a, NULL, "--env=A=b=c", "--env", "B", "--cwd=/y", "-w=/z",
			       "img"),
			 0);
	size_t n;
	CLEANUP_FREE const char **env = opt_list(&a, "env", &n);

	assert_int_equal(n, 2);
	assert_string_equal(env[0], "A=b=c");
	assert_string_equal(env[1], "B");
	assert_null(env[2]);
	assert_string_equal(opt_str(&a, "workdir", NULL), "/z");
	assert_false(opt_has(&a, "work"));
	assert_false(opt_has(&a, "cwd")); /* the key is the first name */
}

static void test_passthrough(void **state)
{
	CLEANUP_OPTS struct opt_args a = {0}, b = {0};

	assert_int_equal(PARSE(&run, &a, NULL, "-i", "img", "-t", "--help", "--", "x"), 0);
	assert_int_equal(a.npos, 5);
	assert_false(opt_has(&a, "tty"));
	assert_false(opt_has(&a, "help"));
	assert_string_equal(a.pos[3], "--");
	assert_int_equal(PARSE(&run, &b, NULL, "--", "-img", "-t"), 0);
	assert_string_equal(b.pos[0], "-img");
	assert_string_equal(b.pos[1], "-t");
}

static void test_options_after_ids(void **state)
{
	CLEANUP_OPTS struct opt_args a = {0};

	assert_int_equal(PARSE(&inspect, &a, NULL, "one", "-i", "two", "-", "--", "-t"), 0);
	assert_int_equal(a.npos, 4);
	assert_string_equal(a.pos[2], "-");
	assert_string_equal(a.pos[3], "-t");
	assert_true(opt_has(&a, "interactive"));
	assert_false(opt_has(&a, "tty"));
}

static void refused(const struct opt_cmd *cmd, int n, char **words, const char *text)
{
	CLEANUP_OPTS struct opt_args a = {0};
	CLEANUP_ERROR struct error *e = NULL;

	assert_int_equal(opt_parse(cmd, n, words, &a, &e), -1);
	assert_non_null(e);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	if (!strstr(e->msg, text))
		fail_msg("\"%s\" is not in \"%s\"", text, e->msg);
}

#define REFUSED(cmd, text, ...)                                 \
	({                                                      \
		char *words_[] = {__VA_ARGS__};                 \
		refused(cmd, ARRAY_SIZE(words_), words_, text); \
	})

static void test_usage_errors(void **state)
{
	REFUSED(&run, "Unknown option '--nope'", "--nope", "img");
	REFUSED(&run, "Unknown option '-x'", "-ix", "img");
	REFUSED(&run, "Missing value for '--env <env>'", "--env");
	REFUSED(&run, "Missing value for '-e <env>'", "-ie");
	REFUSED(&run, "does not take a value", "--tty=yes", "img");
	REFUSED(&run, "Missing expected argument '<image>'", "-i");
	REFUSED(&run, "'xml' is invalid for '--format <format>'", "--format", "xml", "img");
	REFUSED(&inspect, "Missing expected argument '<ids>'", "-i");
	REFUSED(&none, "Unexpected argument 'x'", "x");
	REFUSED(&run, "Unknown option '--env-'", "--env-=x", "img");
}

static void test_help_wins(void **state)
{
	CLEANUP_OPTS struct opt_args a = {0}, b = {0};

	assert_int_equal(PARSE(&run, &a, NULL, "-h"), 0); /* no image is missed */
	assert_true(opt_has(&a, "help"));
	assert_int_equal(PARSE(&run, &b, NULL, "--version", "--nope"), 0);
	assert_true(opt_has(&b, "version"));
}

static void test_later(void **state)
{
	CLEANUP_OPTS struct opt_args a = {0}, b = {0};

	assert_int_equal(PARSE(&run, &a, NULL, "-p", "80:80", "img"), 0);
	assert_non_null(opt_later(&a));
	assert_int_equal(PARSE(&run, &b, NULL, "img", "-p", "80:80"), 0);
	assert_null(opt_later(&b));
}

static void test_names(void **state)
{
	assert_true(opt_names_match("ls|ps", "ps"));
	assert_false(opt_names_match("ls|ps", "p"));
	assert_false(opt_names_match("ls|ps", "ls|ps"));
	assert_false(opt_names_match("ls|ps", ""));
	assert_false(opt_names_match(NULL, "ls"));
}

static void test_texts(void **state)
{
	CLEANUP_BUF struct buf b = {0}, m = {0};

	opt_help(&run, "container run", &b);
	assert_non_null(
		strstr(b.data, "USAGE: container run [<options>] <image> [<arguments> ...]\n"));
	assert_non_null(strstr(b.data, "-w, --workdir, --cwd <dir>"));
	assert_non_null(strstr(b.data, "(not supported yet)"));
	assert_non_null(strstr(b.data, "-h, --help"));
	for (const char *line = b.data; *line; line += strcspn(line, "\n") + 1)
		assert_true(strcspn(line, "\n") <= 100);
	opt_man(&run, "container run", &m);
	assert_non_null(strstr(m.data, ".TH \"CONTAINER-RUN\" \"1\""));
	assert_non_null(strstr(m.data, "\\fB\\-w, \\-\\-workdir, \\-\\-cwd <dir>\\fR"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bundles),      cmocka_unit_test(test_long_forms),
		cmocka_unit_test(test_passthrough),  cmocka_unit_test(test_options_after_ids),
		cmocka_unit_test(test_usage_errors), cmocka_unit_test(test_help_wins),
		cmocka_unit_test(test_later),        cmocka_unit_test(test_names),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
