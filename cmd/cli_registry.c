/* SPDX-License-Identifier: Apache-2.0 */
/* cli_registry.c - registry login, logout and list, and their short forms at the root. */
#include <stdio.h>
#include <termios.h>
#include "cmd/cli.h"
#include "cmd/table.h"
#include "core/path.h"

#define GROUP      "SUBCOMMANDS"
#define ROOT_GROUP "IMAGE SUBCOMMANDS"
#define SECRET_MAX 65536

/* ---- login ---- */

static const struct opt opt_login[] = {
	{"scheme", 0, OPT_VALUE, "scheme", "http|https|auto", "Scheme to use with the registry", 0},
	{"username", 'u', OPT_VALUE, "name", NULL, "User name; asked for when not given", 0},
	{"password-stdin", 0, OPT_FLAG, NULL, NULL, "Read the password from standard input", 0},
	{0},
};
static const struct opt *const login_opts[] = {opt_login, NULL};
static const struct opt_pos login_pos[] = {{"server", POS_ONE, "Host of the registry"}, {0}};

/* A line from standard input, without its end, asked for on stderr. */
static int ask_line(const char *what, bool echo, char **out, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	struct termios old, quiet;
	bool hide = !echo && tcgetattr(STDIN_FILENO, &old) == 0;
	ssize_t n;
	char c;

	if (hide) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		quiet.c_lflag |= ECHONL;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	}
	fprintf(stderr, "%s: ", what);
	while ((n = RETRY_EINTR(read(STDIN_FILENO, &c, 1))) == 1 && c != '\n' && b.len < SECRET_MAX)
		buf_append(&b, &c, 1);
	if (hide)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
	if (b.len && b.data[b.len - 1] == '\r')
		b.data[--b.len] = '\0';
	if (!b.len)
		return error_set(err, ERR_INVALID_ARGUMENT, "no %s was given", what);
	*out = STEAL(b.data);
	return 0;
}

static int read_secret(char **out, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	char chunk[4096];
	ssize_t n;

	while ((n = RETRY_EINTR(read(STDIN_FILENO, chunk, sizeof(chunk)))) > 0) {
		if (b.len + (size_t)n > SECRET_MAX)
			return error_set(err, ERR_INVALID_ARGUMENT, "the password is too long");
		buf_append(&b, chunk, (size_t)n);
	}
	explicit_bzero(chunk, sizeof(chunk));
	if (n < 0)
		return error_sys(err, errno, "read the password");
	while (b.len && strchr("\r\n", b.data[b.len - 1]))
		b.data[--b.len] = '\0';
	if (!b.len || strlen(b.data) != b.len)
		return error_set(err, ERR_INVALID_ARGUMENT, "no password on standard input");
	*out = STEAL(b.data);
	return 0;
}

static int run_login(struct cli *c, const struct opt_args *a, struct error **err)
{
	const char *given = opt_str(a, "username", NULL);
	CLEANUP_FREE char *user = given ? xstrdup(given) : NULL, *secret = NULL;
	bool from_stdin = opt_has(a, "password-stdin");
	struct json_object *params;

	if (from_stdin && !user)
		return error_set(err, ERR_INVALID_ARGUMENT, "--password-stdin needs --username");
	if (!user && ask_line("Username", true, &user, err))
		return -1;
	if (from_stdin ? read_secret(&secret, err) : ask_line("Password", false, &secret, err))
		return -1;
	params = json_object_new_object();
	json_set_str(params, "server", a->pos[0]);
	json_set_str(params, "scheme", opt_str(a, "scheme", "auto"));
	json_set_str(params, "user", user);
	json_set_str(params, "secret", secret);
	explicit_bzero(secret, strlen(secret));
	if (cli_call(c, "registry.login", params, NULL, err))
		return -1;
	cli_note("Login succeeded");
	return 0;
}

static const struct opt_cmd cmd_registry_login = {
	.name = "login",
	.summary = "Log in to a registry",
	.group = GROUP,
	.opts = login_opts,
	.pos = login_pos,
	.notes = "The registry is asked whether it takes the credentials; then they are stored "
		 "encrypted. The key is in the kernel's keyring of the user that runs the "
		 "services, so "
		 "a login lasts until the host restarts; where there is no keyring, the key is in "
		 "a file only that user can read. Credentials in the environment "
		 "(CONTAINER_REGISTRY_HOST, CONTAINER_REGISTRY_USER, CONTAINER_REGISTRY_TOKEN) and "
		 "those of docker's configuration and credential helpers come first.",
	.run = run_login,
};

const struct opt_cmd cmd_login = {
	.name = "login",
	.summary = "Short for `container registry login`",
	.group = ROOT_GROUP,
	.opts = login_opts,
	.pos = login_pos,
	.run = run_login,
};

/* ---- logout ---- */

static const struct opt_pos logout_pos[] = {{"registry", POS_ONE, "Host of the registry"}, {0}};

static int run_logout(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct json_object *params = json_object_new_object();

	json_set_str(params, "server", a->pos[0]);
	return cli_call(c, "registry.logout", params, NULL, err);
}

static const struct opt_cmd cmd_registry_logout = {
	.name = "logout",
	.summary = "Forget the stored credentials of a registry",
	.group = GROUP,
	.pos = logout_pos,
	.run = run_logout,
};

const struct opt_cmd cmd_logout = {
	.name = "logout",
	.summary = "Short for `container registry logout`",
	.group = ROOT_GROUP,
	.pos = logout_pos,
	.run = run_logout,
};

/* ---- list ---- */

static const struct opt opt_registry_list[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the hosts", 0},
	{0},
};
static const struct opt *const registry_list_opts[] = {opt_registry_list, NULL};

static int run_registry_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"HOSTNAME", "USERNAME", "MODIFIED", "CREATED", NULL};
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *list;

	if (cli_call(c, "registry.list", NULL, &reply, err) ||
	    json_need_arr(reply, "registries", &list, err))
		return -1;
	if (f != FORMAT_TABLE) {
		format_print(f, list);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (opt_has(a, "quiet")) {
			cli_out(json_str(o, "name", ""));
			continue;
		}
		table_cell(&t, json_str(o, "name", ""));
		table_cell(&t, json_str(o, "username", ""));
		table_cell(&t, json_str(o, "modificationDate", ""));
		table_cell(&t, json_str(o, "creationDate", ""));
	}
	if (!opt_has(a, "quiet")) {
		table_render(&t, &b);
		fwrite(b.data, 1, b.len, stdout);
	}
	return 0;
}

static const struct opt_cmd cmd_registry_list = {
	.name = "list",
	.aliases = "ls",
	.summary = "List the registries with stored credentials",
	.group = GROUP,
	.opts = registry_list_opts,
	.run = run_registry_list,
};

/* ---- the group ---- */

static const struct opt_cmd *const registry_subs[] = {&cmd_registry_list, &cmd_registry_login,
						      &cmd_registry_logout, NULL};

const struct opt_cmd cmd_registry = {
	.name = "registry",
	.aliases = "r",
	.summary = "Manage logins to registries",
	.group = ROOT_GROUP,
	.sub = registry_subs,
};
