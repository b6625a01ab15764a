/* SPDX-License-Identifier: Apache-2.0 */
/* cli_sockets.c - flags about Unix sockets: --publish-socket and --ssh. */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/cli.h"
#include "cmd/cli_config.h"

#define SSH_VARIABLE "SSH_AUTH_SOCK"
#define SSH_INSIDE   "/var/host-services/ssh-auth.sock"

/* The caller's path for others, whose directory is another; the caller owns it. */
static char *path_absolute(const char *path)
{
	CLEANUP_FREE char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);

	if (!cwd)
		return xstrdup(path);
	return xasprintf("%s%s%s", cwd, strcmp(cwd, "/") ? "/" : "", path);
}

struct json_object *publish_socket_parse(const char *spec, struct error **err)
{
	CLEANUP_FREE char *host = xstrndup(spec, strcspn(spec, ":"));
	const char *inside = spec + strlen(host);
	CLEANUP_FREE char *full = NULL;
	struct json_object *o;

	if (!*inside++ || strchr(inside, ':'))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid publish-socket format '%s': host_path:container_path "
				 "expected",
				 spec),
		       NULL;
	if (!*host || str_suffix(host, "/"))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid publish-socket '%s': the host path names no file", spec),
		       NULL;
	if (*inside != '/' || str_suffix(inside, "/"))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid publish-socket '%s': the container path is not an "
				 "absolute path of a file",
				 spec),
		       NULL;
	full = path_absolute(host);
	o = json_object_new_object();
	json_set_str(o, "containerPath", inside);
	json_set_str(o, "hostPath", full);
	return o;
}

/* One that the user gave is left alone. */
static void put_variable(struct json_object *env)
{
	for (size_t i = 0; i < json_object_array_length(env); i++)
		if (str_prefix(json_object_get_string(json_object_array_get_idx(env, i)),
			       SSH_VARIABLE "="))
			return;
	json_add_str(env, SSH_VARIABLE "=" SSH_INSIDE);
}

int config_sockets(const struct opt_args *a, struct json_object *out, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "publish-socket", &n);
	struct json_object *list = json_object_new_array(), *one;

	json_set(out, "publishedSockets", list);
	for (size_t i = 0; i < n; i++) {
		one = publish_socket_parse(v[i], err);
		if (!one)
			return -1;
		json_object_array_add(list, one);
	}
	json_set_bool(out, "ssh", opt_has(a, "ssh"));
	if (opt_has(a, "ssh"))
		put_variable(json_arr(json_obj(out, "initProcess"), "environment"));
	return 0;
}

char *ssh_agent(bool wanted)
{
	const char *path = wanted ? getenv(SSH_VARIABLE) : NULL;

	if (!wanted)
		return NULL;
	if (path && *path)
		return path_absolute(path);
	cli_note("Warning: " SSH_VARIABLE " is not set: no SSH agent is forwarded");
	return xstrdup("");
}
