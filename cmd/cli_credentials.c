/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_credentials.c - logins the user has elsewhere: in the environment, in docker's configuration and its helpers.
 *
 * They are looked up here and not in the image helper, as they belong to who runs the command: environment, home
 * directory, session. What is found goes along with the one call that needs it; nothing found leaves it to what
 * `registry login` stored. A helper program is found on PATH, run by its absolute path without a shell, and has 20 seconds.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "cmd/cli_image.h"
#include "core/path.h"
#include "core/proc.h"
#include "oci/oci.h"

#define DOCKER_CONFIG_MAX (4u << 20)
#define HELPER_MAX        (64u << 10)
#define HELPER_MS         20000
#define HUB_KEY           "https://index.docker.io/v1/"

/* ---- docker-credential-* ---- */
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

static int helper_run(const char *path, const char *name, const char *server, struct buf *out)
{
	char *argv[] = {(char *)name, (char *)"get", NULL};
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
	fd_write_full(in_w, server, strlen(server), NULL); /* far less than a pipe holds */
	close(steal_fd(&in_w));
	rc = helper_read(out_r, out);
	if (rc < 0)
		kill(pid, SIGKILL);
	RETRY_EINTR(waitpid(pid, &status, 0));
	return rc < 0 || proc_exit_code(status) ? -1 : 0;
}

static bool ask_helper(const char *helper, const char *server, char **user, char **secret)
{
	CLEANUP_FREE char *name = NULL, *path = NULL;
	CLEANUP_BUF struct buf out = {0};
	CLEANUP_JSON struct json_object *o = NULL;
	const char *u, *s;

	if (!helper_name_ok(helper))
		return false;
	name = xasprintf("docker-credential-%s", helper);
	path = proc_find(name);
	if (!path || helper_run(path, name, server, &out) || !out.len)
		return false;
	o = json_parse(out.data, out.len, NULL);
	explicit_bzero(out.data, out.len);
	u = o ? json_str(o, "Username", "") : "";
	s = o ? json_str(o, "Secret", "") : "";
	/* "<token>" stands for an identity token, which is no password. */
	if (!*u || !*s || !strcmp(u, "<token>"))
		return false;
	*user = xstrdup(u);
	*secret = xstrdup(s);
	return true;
}

/* ---- docker's config.json ---- */
static struct json_object *docker_config(void)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	CLEANUP_FREE char *path = NULL;
	CLEANUP_BUF struct buf b = {0};
	struct json_object *o;

	if (dir && *dir)
		path = xasprintf("%s/config.json", dir);
	else if (home && *home == '/')
		path = xasprintf("%s/.docker/config.json", home);
	if (!path || path_read_all(AT_FDCWD, path, DOCKER_CONFIG_MAX, &b, NULL) < 0 || !b.len)
		return NULL;
	o = json_parse(b.data, b.len, NULL);
	if (!o)
		cli_note("%s does not parse: not used", path);
	return o;
}

/* Decodes base64; NULL for what is none. */
static char *base64_text(const char *s)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	CLEANUP_BUF struct buf b = {0};
	uint32_t v = 0;
	unsigned bits = 0;

	for (; *s && *s != '='; s++) {
		const char *d = strchr(digits, *s);

		if (!d)
			return NULL;
		v = v << 6 | (uint32_t)(d - digits);
		bits += 6;
		if (bits >= 8) {
			char c = (char)(v >> (bits -= 8));

			if (!c)
				return NULL;
			buf_append(&b, &c, 1);
		}
	}
	return b.data ? STEAL(b.data) : NULL;
}

static bool from_auths(struct json_object *auths, const char *key, char **user, char **secret)
{
	CLEANUP_FREE char *pair = NULL;
	const char *code = json_str(json_obj(auths, key), "auth", NULL);
	char *colon;

	pair = code ? base64_text(code) : NULL;
	colon = pair ? strchr(pair, ':') : NULL;
	if (!colon || colon == pair)
		return false;
	*user = xstrndup(pair, (size_t)(colon - pair));
	*secret = xstrdup(colon + 1);
	return true;
}

static bool from_docker(const char *domain, char **user, char **secret)
{
	CLEANUP_JSON struct json_object *o = docker_config();
	bool hub = !strcmp(domain, "docker.io");
	CLEANUP_STRV struct strv keys = {0};
	const char *store;
	size_t i;

	if (!o)
		return false;
	if (hub) {
		strv_add(&keys, HUB_KEY);
		strv_add(&keys, "index.docker.io");
		strv_add(&keys, "registry-1.docker.io");
	}
	strv_add(&keys, domain);
	strv_addf(&keys, "https://%s", domain);
	strv_addf(&keys, "http://%s", domain);
	strv_addf(&keys, "https://%s/v2/", domain);
	strv_addf(&keys, "https://%s/v1/", domain);
	for (i = 0; i < keys.n; i++) {
		const char *helper = json_str(json_obj(o, "credHelpers"), keys.v[i], NULL);

		if (helper)
			return ask_helper(helper, keys.v[i], user, secret);
	}
	store = json_str(o, "credsStore", NULL);
	if (store && ask_helper(store, hub ? HUB_KEY : domain, user, secret))
		return true;
	for (i = 0; i < keys.n; i++)
		if (from_auths(json_obj(o, "auths"), keys.v[i], user, secret))
			return true;
	return false;
}

/* ---- the environment ---- */
static bool from_environment(const char *domain, char **user, char **secret)
{
	const char *host = getenv("CONTAINER_REGISTRY_HOST"),
		   *u = getenv("CONTAINER_REGISTRY_USER"), *t = getenv("CONTAINER_REGISTRY_TOKEN");

	if (!host || !u || !t || !*u)
		return false;
	if (strcmp(host, domain) &&
	    (strcmp(domain, "docker.io") || strcmp(host, "registry-1.docker.io")))
		return false;
	*user = xstrdup(u);
	*secret = xstrdup(t);
	return true;
}

int image_credentials(const char *reference, struct json_object *params, struct error **err)
{
	CLEANUP_FREE char *user = NULL, *secret = NULL;
	struct config *config = config_load(err);
	struct oci_ref r;
	int rc;

	if (!config)
		return -1;
	rc = oci_ref_parse(reference, config_str(config, "registry.domain"), &r, NULL);
	config_free(config);
	if (rc < 0) /* the helper will say what is wrong with it */
		return 0;
	if (from_environment(r.domain, &user, &secret) || from_docker(r.domain, &user, &secret)) {
		json_set_str(params, "user", user);
		json_set_str(params, "secret", secret);
		explicit_bzero(secret, strlen(secret));
	}
	oci_ref_free(&r);
	return 0;
}
