// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cli_man.c - the pages and completions that are checked in are those the tables give, and the table of
 * commands is sound. Runs from the top of the tree; CONTAINER_MAN_DIR names another place for man/.
 *
 * To renew them: container --generate man man; and bash, zsh, fish to man/completions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "cmd/cli.h"
#include "cmd/roles.h"
#include "core/path.h"

static const char *man_dir(void)
{
	const char *dir = getenv("CONTAINER_MAN_DIR");

	return dir ? dir : "man";
}

static void compare(const char *name, const struct buf *want)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", man_dir(), name);
	CLEANUP_BUF struct buf have = {0};

	if (path_read_all(AT_FDCWD, path, 1 << 20, &have, NULL))
		fail_msg("%s is missing: container --generate", path);
	if (have.len != want->len || memcmp(have.data, want->data, have.len))
		fail_msg("%s is not up to date: container --generate", path);
}

/* Compares the page of cmd and of all below it; returns how many. */
static int compare_pages(const struct opt_cmd *cmd, const char *path)
{
	CLEANUP_FREE char *name = xasprintf("%s.1", path);
	CLEANUP_BUF struct buf want = {0};
	int n = 1;

	for (char *p = name; *p; p++)
		*p = *p == ' ' ? '-' : *p;
	opt_man(cmd, path, &want);
	compare(name, &want);
	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++) {
		CLEANUP_FREE char *sub = xasprintf("%s %s", path, cmd->sub[i]->name);

		if (cmd->sub[i]->group)
			n += compare_pages(cmd->sub[i], sub);
	}
	return n;
}

static void test_pages(void **state)
{
	int want = compare_pages(&cmd_root, "container"), have = 0;
	DIR *d = opendir(man_dir());
	struct dirent *e;

	assert_non_null(d);
	for (size_t i = 0; role_cmds[i]; i++)
		want += compare_pages(role_cmds[i], role_cmds[i]->name);
	while ((e = readdir(d)))
		have += str_suffix(e->d_name, ".1");
	closedir(d);
	assert_int_equal(have, want); /* none is left over from a command that is gone */
}

static void test_completions(void **state)
{
	CLEANUP_BUF struct buf bash = {0}, zsh = {0}, fish = {0};

	opt_complete_bash(&cmd_root, &bash);
	opt_complete_zsh(&cmd_root, &zsh);
	opt_complete_fish(&cmd_root, &fish);
	compare("completions/container.bash", &bash);
	compare("completions/_container", &zsh);
	compare("completions/container.fish", &fish);
}

/* ---- the tables themselves ---- */

struct names {
	struct strv longs;
	bool shorts[128];
	const char *cmd;
};

static void add_option(void *arg, const struct opt *o)
{
	struct names *n = arg;

	for (const char *p = o->names; *p;) {
		CLEANUP_FREE char *name = opt_key(p);

		for (size_t i = 0; i < n->longs.n; i++)
			if (!strcmp(n->longs.v[i], name))
				fail_msg("%s: --%s is there twice", n->cmd, name);
		strv_add(&n->longs, name);
		p += strlen(name);
		p += *p == '|';
	}
	if (o->c && n->shorts[(int)o->c])
		fail_msg("%s: -%c is there twice", n->cmd, o->c);
	n->shorts[(int)o->c] = o->c != 0;
	assert_non_null(o->help);
	if ((o->kind == OPT_FLAG) != !o->arg)
		fail_msg("%s: --%s: a flag has no value, all others name theirs", n->cmd, o->names);
}

static void check_command(const struct opt_cmd *cmd)
{
	struct names n = {.cmd = cmd->name};

	opt_visit(cmd, add_option, &n);
	strv_free(&n.longs);
	assert_non_null(cmd->summary);
	assert_true(!cmd->sub != !cmd->run);
	for (size_t i = 0; cmd->sub && cmd->sub[i]; i++) {
		if (opt_find_sub(cmd, cmd->sub[i]->name) != cmd->sub[i])
			fail_msg("%s %s is there twice", cmd->name, cmd->sub[i]->name);
		check_command(cmd->sub[i]);
	}
}

static void test_tables(void **state)
{
	check_command(&cmd_root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_completions),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
