/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h - a client of the distribution spec 1.1: one repository, several connections. A reference without a
 * repository stands for the registry itself. */
#ifndef OCI_REGISTRY_H
#define OCI_REGISTRY_H

#include "oci/store.h"

/* ---- auth.c ---- */
struct auth_challenge {
	char *realm, *service, *scope; /* service and scope may be NULL */
};
/* auth_challenge_parse: the Bearer challenge in a WWW-Authenticate value, which may hold several, quoted or
 * not, in any case. 0, or -1 when it has none with a realm. */
int auth_challenge_parse(const char *header, struct auth_challenge *out);
void auth_challenge_free(struct auth_challenge *c);

/* registry_scheme: "http" or "https" for a domain, given "auto", "http" or "https"; NULL for other words. auto is
 * http for localhost, loopback and private addresses. */
const char *registry_scheme(const char *domain, const char *scheme);
bool registry_is_loopback(const char *domain);

/* ---- registry.c ---- */
struct registry;      /* shared by threads */
struct registry_conn; /* one thread's */

struct registry *registry_new(struct oci_op *op, const struct oci_ref *ref, const char *scheme,
			      struct error **err);
/* registry_mirror: asks `url` for the repository instead, as nobody. Before the first request. */
int registry_mirror(struct registry *r, const char *url, struct error **err);
/* registry_mirrors: the URLs of a domain's mirrors, in order. */
void registry_mirrors(const struct oci_store *s, const char *domain, struct strv *out);
void registry_free(struct registry *r);
static inline void registry_freep(struct registry **r)
{
	registry_free(*r);
}
struct registry_conn *registry_conn_new(struct registry *r);
void registry_conn_free(struct registry_conn *c);
static inline void registry_conn_freep(struct registry_conn **c)
{
	registry_conn_free(*c);
}

/* registry_login: what to answer when the registry asks who we are; user NULL: nobody. Before the first request. */
void registry_login(struct registry *r, const char *user, const char *secret);
/* registry_login_as: user and secret, or when user is NULL those of the store for this registry. */
void registry_login_as(struct registry *r, const char *user, const char *secret);
/* registry_scope: asks the token service for this too ("pull", "pull,push"), and for nothing it was not told so. */
void registry_scope(struct registry *r, const char *repository, const char *actions);
/* registry_ping: the API's root answers, and takes our credentials if it wants any. */
int registry_ping(struct registry_conn *c, struct error **err);

/* registry_manifest: by tag or digest; at most 4 MiB. *type (Content-Type without parameters, or NULL) is the
 * caller's. Its digest is not looked at here. */
int registry_manifest(struct registry_conn *c, const char *reference, struct buf *body, char **type,
		      struct error **err);
/* registry_blob: streams a blob into w, going on where a broken transfer ended. item: progress, may be NULL.
 * The caller commits w. */
int registry_blob(struct registry_conn *c, const char *digest, struct blob_writer *w,
		  struct op_item *item, struct error **err);

/* ---- registry_push.c ---- */
/* registry_has: 1 when a blob ("blobs") or manifest ("manifests") is there, 0 when not, -1 on failure. */
int registry_has(struct registry_conn *c, const char *kind, const struct oci_desc *d,
		 struct error **err);
/* registry_put_blob: uploads d from fd. from: a repository of the same registry that may have it, or NULL; *mounted:
 * nothing had to be sent. Goes on where it broke off. */
int registry_put_blob(struct registry_conn *c, const struct oci_desc *d, int fd, const char *from,
		      struct op_item *item, bool *mounted, struct error **err);
/* registry_put_manifest: by tag or digest. */
int registry_put_manifest(struct registry_conn *c, const char *reference, const char *type,
			  const void *p, size_t n, struct error **err);

#endif
