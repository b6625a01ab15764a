/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_credentials.c - logins the user has elsewhere: in the environment, with credential helpers, in docker's configuration.
 *
 * They are looked up here and not in the image helper, as they belong to who runs the command: environment, home
 * directory, session. The order: CONTAINER_REGISTRY_*, the helpers our configuration names, docker's configuration and
 * helpers. What is found goes along with the one call that needs it; nothing found leaves it to what `registry login` stored.
 */
#include <fcntl.h>
#include <stdio.h>

#include "cmd/cli_image.h"
#include "cmd/credentials.h"
#include "core/path.h"
#include "oci/oci.h"

#define DOCKER_CONFIG_MAX (4u << 20)

/* ---- our configuration ---- */
char *credentials_helper(const struct config *c, const char *domain)
{
	const char *pairs = config_str(c, "registry.credHelpers"),
		   *store = config_str(c, "registry.credsStore");
	CLEANUP_FREE char *list = xstrdup(pairs ? pairs : "");
	char *save = NULL, *item;
	size_t n = strlen(domain);

	for (item = strtok_r(list, ", ", &save); item; item = strtok_r(NULL, ", ", &save))
		if (!strncmp(item, domain, n) && item[n] == '=')
			return xstrdup(item + n + 1);
	return store && *store ? xstrdup(store) : NULL;
}

void credentials_helpers(const struct config *c, struct strv *out)
{
	const char *pairs = config_str(c, "registry.credHelpers"),
		   *store = config_str(c, "registry.credsStore");
	CLEANUP_FREE char *list = xstrdup(pairs ? pairs : "");
	char *save = NULL, *item;

	if (store && *store)
		strv_add(out, store);
	for (item = strtok_r(list, ", ", &save); item; item = strtok_r(NULL, ", ", &save)) {
		const char *helper = strchr(item, '=') + 1;
		size_t i = 0;

		while (i < out->n && strcmp(out->v[i], helper))
			i++;
		if (i == out->n)
			strv_add(out, helper);
	}
}

const char *credentials_server(const char *domain)
{
	return strcmp(domain, "docker.io") ? domain : CREDENTIALS_HUB;
}

static bool from_helper(const struct config *c, const char *domain, char **user, char **secret)
{
	CLEANUP_FREE char *helper = credentials_helper(c, domain);

	return helper && helper_get(helper, credentials_server(domain), user, secret);
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
	struct json_object *login = json_obj(auths, key);
	const char *code = json_str(login, "auth", NULL),
		   *identity = json_str(login, "identitytoken", "");
	CLEANUP_FREE char *pair = NULL;
	char *colon;

	if (*identity) {
		*user = xstrdup(OCI_IDENTITY);
		*secret = xstrdup(identity);
		return true;
	}
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
		strv_add(&keys, CREDENTIALS_HUB);
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
			return helper_get(helper, keys.v[i], user, secret);
	}
	store = json_str(o, "credsStore", NULL);
	if (store && helper_get(store, credentials_server(domain), user, secret))
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

	if (!config)
		return -1;
	/* What is wrong with a reference the helper will say. */
	if (oci_ref_parse(reference, config_str(config, "registry.domain"), &r, NULL) == 0) {
		if (from_environment(r.domain, &user, &secret) ||
		    from_helper(config, r.domain, &user, &secret) ||
		    from_docker(r.domain, &user, &secret)) {
			json_set_str(params, "user", user);
			json_set_str(params, "secret", secret);
			explicit_bzero(secret, strlen(secret));
		}
		oci_ref_free(&r);
	}
	config_free(config);
	return 0;
}
