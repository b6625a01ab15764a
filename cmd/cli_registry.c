/* SPDX-License-Identifier: Apache-2.0 */
/* cli_registry.c - registry login, logout and list, and their short forms at the root. */
#include <stdio.h>
#include <termios.h>
#include "cmd/cli.h"
#include "cmd/credentials.h"
#include "cmd/table.h"
#include "cmd/template.h"
#include "core/path.h"
#include "oci/oci.h"

#define GROUP      "SUBCOMMANDS"
#define ROOT_GROUP "IMAGE SUBCOMMANDS"
#define SECRET_MAX 65536

/* ---- login ---- */

static const struct opt opt_login[] = {
	{"scheme", 0, OPT_VALUE, "scheme", "http|https|auto", "Scheme to use with the registry", 0},
	{"username", 'u', OPT_VALUE, "name", NULL, "User name; asked for when not given", 0},
	{"password", 'p', OPT_VALUE, "password", NULL,
	 "The password, for all who can list processes to see; rather --password-stdin", 0},
	{"password-stdin", 0, OPT_FLAG, NULL, NULL, "Read the password from standard input", 0},
	{0},
};
static const struct opt *const login_opts[] = {opt_login, NULL};
static const struct opt_pos login_pos[] = {{"server", POS_ONE, "Host of the registry"}, {0}};
static const struct opt_pos short_pos[] = {{"server", POS_OPTIONAL,
					    "Host of the registry; registry.domain when not given"},
					   {0}};

/* The registry meant, and the helper that keeps its login, NULL for our own store; the caller owns both. */
static char *server_of(const struct opt_args *a, char **helper, struct error **err)
{
	struct config *config = config_load(err);
	char *domain;

	if (!config)
		return NULL;
	domain =
		oci_server_domain(a->npos ? a->pos[0] : config_str(config, "registry.domain"), err);
	*helper = domain ? credentials_helper(config, domain) : NULL;
	config_free(config);
	return domain;
}

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

static int take_secret(const struct opt_args *a, char **out, struct error **err)
{
	const char *given = opt_str(a, "password", NULL);

	if (opt_has(a, "password-stdin"))
		return read_secret(out, err);
	if (!given)
		return ask_line("Password", false, out, err);
	cli_note("Warning: a password on the command line is seen by others; use --password-stdin");
	*out = xstrdup(given);
	return 0;
}

static int run_login(struct cli *c, const struct opt_args *a, struct error **err)
{
	const char *given = opt_str(a, "username", NULL);
	CLEANUP_FREE char *user = given ? xstrdup(given) : NULL, *secret = NULL, *server = NULL,
			  *helper = NULL;
	struct json_object *params;
	int rc;

	if (opt_has(a, "password-stdin") && !user)
		return error_set(err, ERR_INVALID_ARGUMENT, "--password-stdin needs --username");
	if (opt_has(a, "password-stdin") && opt_has(a, "password"))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "--password and --password-stdin are one too many");
	server = server_of(a, &helper, err);
	if (!server || (!user && ask_line("Username", true, &user, err)) ||
	    take_secret(a, &secret, err))
		return -1;
	params = json_object_new_object();
	json_set_str(params, "server", server);
	json_set_str(params, "scheme", opt_str(a, "scheme", "auto"));
	json_set_str(params, "user", user);
	json_set_str(params, "secret", secret);
	json_set_bool(params, "keep", !helper);
	rc = cli_call(c, "registry.login", params, NULL, err);
	if (rc == 0 && helper)
		rc = helper_store(helper, credentials_server(server), user, secret, err);
	explicit_bzero(secret, strlen(secret));
	if (rc == 0)
		cli_note("Login succeeded");
	return rc;
}

static const struct opt_cmd cmd_registry_login = {
	.name = "login",
	.summary = "Log in to a registry",
	.group = GROUP,
	.opts = login_opts,
	.pos = login_pos,
	.notes =
		"The registry is asked whether it takes the credentials; then they are stored "
		"encrypted. The key is in the kernel's keyring of the user that runs the "
		"services, so "
		"a login lasts until the host restarts; where there is no keyring, the key is in "
		"a file only that user can read. With a credential helper in the configuration "
		"(registry.credsStore, or registry.credHelpers for single registries) it keeps the "
		"login instead. Credentials in the environment (CONTAINER_REGISTRY_HOST, "
		"CONTAINER_REGISTRY_USER, CONTAINER_REGISTRY_TOKEN), of those helpers and of "
		"docker's "
		"configuration come first.",
	.run = run_login,
};

const struct opt_cmd cmd_login = {
	.name = "login",
	.summary = "Short for `container registry login`",
	.group = ROOT_GROUP,
	.opts = login_opts,
	.pos = short_pos,
	.run = run_login,
};

/* ---- logout ---- */

static const struct opt_pos logout_pos[] = {{"registry", POS_ONE, "Host of the registry"}, {0}};

static int run_logout(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_FREE char *helper = NULL, *server = server_of(a, &helper, err);
	struct json_object *params;

	if (!server)
		return -1;
	if (helper)
		return helper_erase(helper, credentials_server(server), err);
	params = json_object_new_object();
	json_set_str(params, "server", server);
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
	.pos = short_pos,
	.run = run_logout,
};

/* ---- list ---- */

static const struct opt opt_registry_list[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.Name}} {{.Username}}'",
	 OPT_TEMPLATE},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the hosts", 0},
	{0},
};
static const struct opt *const registry_list_opts[] = {opt_registry_list, NULL};

static char *registry_field(struct json_object *o, const char *name)
{
	static const char *const fields[][2] = {
		{"ID", "id"},
		{"Name", "name"},
		{"Username", "username"},
		{"CreatedAt", "creationDate"},
		{"ModifiedAt", "modificationDate"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (!strcmp(name, fields[i][0]))
			return xstrdup(json_str(o, fields[i][1], ""));
	return NULL;
}

/* The logins that a helper keeps, in the form of ours. */
static void add_listed(struct json_object *list, struct json_object *from)
{
	json_object_object_foreach(from, server, user)
	{
		CLEANUP_FREE char *domain = oci_server_domain(server, NULL);
		struct json_object *o;

		if (!domain || !json_object_is_type(user, json_type_string))
			continue;
		o = json_object_new_object();
		json_set_str(o, "id", domain);
		json_set_str(o, "name", domain);
		json_set_str(o, "username", json_object_get_string(user));
		json_set(o, "labels", json_object_new_object());
		json_object_array_add(list, o);
	}
}

static int ask_helpers(struct json_object *list, struct error **err)
{
	CLEANUP_STRV struct strv helpers = {0};
	struct config *config = config_load(err);

	if (!config)
		return -1;
	credentials_helpers(config, &helpers);
	config_free(config);
	for (size_t i = 0; i < helpers.n; i++) {
		CLEANUP_JSON struct json_object *from = NULL;

		if (helper_list(helpers.v[i], &from, err))
			return -1;
		add_listed(list, from);
	}
	return 0;
}

static int run_registry_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"HOSTNAME", "USERNAME", "MODIFIED", "CREATED", NULL};
	const char *format = opt_str(a, "format", NULL);
	enum format f = format_parse(format);
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *list;

	if (cli_call(c, "registry.list", NULL, &reply, err) ||
	    json_need_arr(reply, "registries", &list, err) || ask_helpers(list, err))
		return -1;
	if (template_is(format))
		return template_list(format, list, registry_field, err);
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
	.notes = "How registries are spoken to is in the configuration: registry.domain is the one "
		 "that short names mean; registry.ca a file of certificates to trust besides the "
		 "host's; registry.insecure the hosts that are spoken to by plain http, or with "
		 "--scheme https without a look at their certificate; registry.mirrors pairs such "
		 "as "
		 "'docker.io=https://mirror.example', asked first and without credentials; "
		 "registry.timeout the seconds after which a transfer that gets nowhere is broken "
		 "off "
		 "and tried again; registry.credsStore and registry.credHelpers the credential "
		 "helpers. Lists are separated by commas.",
	.sub = registry_subs,
};
