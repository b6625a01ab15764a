/* SPDX-License-Identifier: Apache-2.0 */
/* credentials.h - logins kept elsewhere: the environment, docker's configuration, credential helpers. */
#ifndef CMD_CREDENTIALS_H
#define CMD_CREDENTIALS_H

#include "cmd/cli.h"
#include "core/json.h"

#define CREDENTIALS_HUB "https://index.docker.io/v1/" /* what helpers call docker.io */

/* ---- cli_helper.c: `helper` is "pass" for docker-credential-pass ---- */
/* helper_get: false when it knows no login; the caller owns both. The user "<token>" stands for an identity token. */
bool helper_get(const char *helper, const char *server, char **user, char **secret);
int helper_store(const char *helper, const char *server, const char *user, const char *secret,
		 struct error **err);
int helper_erase(const char *helper, const char *server, struct error **err);
/* helper_list: {server: user}; the caller's. */
int helper_list(const char *helper, struct json_object **out, struct error **err);

/* ---- cli_credentials.c ---- */
/* credentials_helper: which helper our configuration (registry.credHelpers, registry.credsStore) names for a registry;
 * NULL: none. The caller owns it. */
char *credentials_helper(const struct config *c, const char *domain);
/* credentials_helpers: all that it names. */
void credentials_helpers(const struct config *c, struct strv *out);
/* credentials_server: what helpers call a registry. */
const char *credentials_server(const char *domain);

#endif
