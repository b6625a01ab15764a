/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_helper.c - docker's credential helpers: programs named docker-credential-<name> that keep logins.
 *
 * A helper is found on PATH, run by its absolute path without a shell, told one verb, and has 20 seconds; what it says is
 * read to a limit. Secrets go through pipes only.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "cmd/credentials.h"
#include "core/path.h"
#include "core/proc.h"

#define HELPER_MAX (64u << 10)
#define INPUT_MAX  (32u << 10) /* less than a pipe holds: writing it does not wait for the helper */
#define HELPER_MS  20000

static bool helper_name_ok(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n && !s[n];
}

/* Reads until the end, a limit or a time is reached. */
static int helper_read(int fd, struct buf *out)
{
	uint64_t end = time_mono_us() + HELPER_MS * 1000ull;
	char chunk[4096];

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = time_mono_us();
		ssize_t n;

		if (now >= end || out->len > HELPER_MAX)
			return -1;
		if (poll(&p, 1, (int)((end - now) / 1000) + 1) <= 0)
			continue;
		n = RETRY_EINTR(read(fd, chunk, sizeof(chunk)));
		if (n <= 0)
			return (int)n;
		buf_append(out, chunk, (size_t)n);
	}
}

static int helper_spawn(const char *path, const char *name, const char *verb, const char *input,
			struct buf *out)
{
	char *argv[] = {(char *)name, (char *)verb, NULL};
	CLEANUP_CLOSE int in_r = -1, in_w = -1, out_r = -1, out_w = -1;
	struct proc_spec spec = {.path = path, .argv = argv, .death_signal = SIGKILL};
	int in[2], ou[2], status = -1, rc;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0)
		return -1;
	in_r = in[0];
	in_w = in[1];
	if (pipe2(ou, O_CLOEXEC) < 0)
		return -1;
	out_r = ou[0];
	out_w = ou[1];
	spec.stdio[0] = in_r;
	spec.stdio[1] = out_w;
	spec.stdio[2] = -1;
	if (proc_spawn(&spec, &pid, NULL))
		return -1;
	close(steal_fd(&in_r));
	close(steal_fd(&out_w));
	fd_write_full(in_w, input, strlen(input), NULL);
	close(steal_fd(&in_w));
	rc = helper_read(out_r, out);
	if (rc < 0)
		kill(pid, SIGKILL);
	RETRY_EINTR(waitpid(pid, &status, 0));
	return rc < 0 || proc_exit_code(status) ? -1 : 0;
}

/* 0 when the helper was there and was content. */
static int helper_run(const char *helper, const char *verb, const char *input, struct buf *out,
		      struct error **err)
{
	CLEANUP_FREE char *name = NULL, *path = NULL;

	if (!helper_name_ok(helper))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "\"%.40s\" is not the name of a credential helper", helper);
	if (strlen(input) > INPUT_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "too long for a credential helper");
	name = xasprintf("docker-credential-%s", helper);
	path = proc_find(name);
	if (!path)
		return error_set(err, ERR_NOT_FOUND, "%s is not on PATH", name);
	if (helper_spawn(path, name, verb, input, out))
		return error_set(err, ERR_INTERNAL, "%s failed to %s", name, verb);
	return 0;
}

static void wipe(struct buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->len);
}

bool helper_get(const char *helper, const char *server, char **user, char **secret)
{
	CLEANUP_JSON struct json_object *o = NULL;
	CLEANUP_BUF struct buf out = {0};
	const char *u, *s;

	if (helper_run(helper, "get", server, &out, NULL) || !out.len)
		return false;
	o = json_parse(out.data, out.len, NULL);
	wipe(&out);
	u = o ? json_str(o, "Username", "") : "";
	s = o ? json_str(o, "Secret", "") : "";
	if (!*u || !*s)
		return false;
	*user = xstrdup(u);
	*secret = xstrdup(s);
	return true;
}

int helper_store(const char *helper, const char *server, const char *user, const char *secret,
		 struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	CLEANUP_BUF struct buf in = {0}, out = {0};
	int rc;

	json_set_str(o, "ServerURL", server);
	json_set_str(o, "Username", user);
	json_set_str(o, "Secret", secret);
	buf_puts(&in, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
								JSON_C_TO_STRING_NOSLASHESCAPE));
	rc = helper_run(helper, "store", in.data, &out, err);
	wipe(&in);
	return rc;
}

int helper_erase(const char *helper, const char *server, struct error **err)
{
	CLEANUP_BUF struct buf out = {0};

	return helper_run(helper, "erase", server, &out, err);
}

int helper_list(const char *helper, struct json_object **out, struct error **err)
{
	CLEANUP_BUF struct buf text = {0};

	if (helper_run(helper, "list", "", &text, err))
		return -1;
	*out = json_parse(text.data ? text.data : "", text.len, err);
	if (*out && json_object_is_type(*out, json_type_object))
		return 0;
	json_object_put(*out);
	return error_set(err, ERR_INTERNAL, "docker-credential-%s does not list an object", helper);
}
