/* SPDX-License-Identifier: Apache-2.0 */
/* registry_int.h - what the files of the registry client share. */
#ifndef OCI_REGISTRY_INT_H
#define OCI_REGISTRY_INT_H

#include "oci/http.h"

struct registry {
	struct oci_op *op;
	struct oci_ref ref;
	char *base; /* "https://registry-1.docker.io/v2/library/alpine" */
	char *api;  /* "https://registry-1.docker.io/v2/" */
	bool https;
	bool loopback;
	bool insecure;
	char *user, *secret; /* NULL: anonymous */
	struct strv scopes;  /* what tokens are asked for; none: what the challenge says */
	pthread_mutex_t lock;
	char *auth; /* under lock: value of Authorization; NULL: none needed so far */
};

struct registry_conn {
	struct registry *r;
	struct http *http;
};

/* token.c: after a 401 to a request that carried `used` (NULL: none): another thread may have renewed r->auth meanwhile;
 * else does it. */
int registry_renew_auth(struct registry_conn *c, const char *used, const char *challenge,
			struct error **err);
/* registry_said: ": <message>" of the registry, or ""; never with a secret of ours in it. The caller owns it. */
char *registry_said(struct registry *r, const struct http_result *res);
/* registry_denied: the error of a 401 or 403; said: as registry_said() gives it. */
int registry_denied(struct registry *r, const char *said, struct error **err);

/* registry.c: a request until it is answered for good. On success the status is 2xx. 404 is notFound. */
int registry_request(struct registry_conn *c, struct http_request *q, struct http_result *res,
		     struct error **err);
/* registry_pause: before attempt + 1; longer each time, spread at random, at least what the registry asked for. */
int registry_pause(struct registry_conn *c, int attempt, int64_t retry_after_s, struct error **err);
#define REGISTRY_RETRIES    3
#define REGISTRY_PATIENCE_S 30 /* the longest pause before a retry */

#endif
