/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push.c - an image from the store to a registry.
 *
 * From the bottom up: configurations and layers in parallel, then the manifests that name them, then the index, the
 * last under the tag. So at the registry too a name never leads to something that is not whole. What is there is not
 * sent; what another repository of the same registry may have, because an image in the store came from there, is mounted.
 */
#include "core/log.h"
#include "oci/registry.h"

#define UPLOADS     3
#define MAX_SOURCES 4 /* repositories to mount from */

struct push {
	struct oci_op op;
	struct registry *registry;
	struct oci_ref ref;
	char *name;
	struct oci_desc root;
	struct picked picked;
	struct json_object *sources; /* digest → repository it may be mounted from */
	struct strv repositories;    /* those, each once */
};

/* ---- what can be mounted ---- */
static bool wanted(const struct push *p, const char *digest)
{
	size_t i;

	for (i = 0; i < p->picked.n_blobs; i++)
		if (!strcmp(p->picked.blobs[i].digest, digest))
			return true;
	return false;
}

static void add_source(struct push *p, const char *repository, const char *digest)
{
	size_t i;

	if (!wanted(p, digest) || json_get(p->sources, digest))
		return;
	for (i = 0; i < p->repositories.n; i++)
		if (!strcmp(p->repositories.v[i], repository))
			break;
	if (i == MAX_SOURCES)
		return;
	if (i == p->repositories.n)
		strv_add(&p->repositories, repository);
	json_set_str(p->sources, digest, repository);
}

static void look_at_name(struct push *p, const char *name, struct json_object *desc)
{
	CLEANUP_VARIANTS struct variants vs = {0};
	struct oci_ref r;
	struct oci_desc d = {0};
	size_t i, j;

	if (oci_ref_parse(name, p->op.s->default_domain, &r, NULL) < 0)
		return;
	if (!strcmp(r.domain, p->ref.domain) && strcmp(r.repository, p->ref.repository) &&
	    oci_desc_parse(desc, &d, NULL) == 0 && variants_load(p->op.s, -1, &d, &vs, NULL) == 0) {
		for (i = 0; i < vs.n; i++)
			for (j = 0; j < vs.v[i].doc.n; j++)
				add_source(p, r.repository, vs.v[i].doc.entries[j].digest);
	}
	oci_desc_free(&d);
	oci_ref_free(&r);
}

static void find_sources(struct push *p)
{
	CLEANUP_JSON struct json_object *names = NULL;

	pthread_mutex_lock(&p->op.s->lock);
	if (json_object_deep_copy(p->op.s->names, &names, NULL) < 0)
		abort(); /* out of memory */
	pthread_mutex_unlock(&p->op.s->lock);
	json_object_object_foreach(names, name, desc)
	{
		look_at_name(p, name, desc);
	}
}

/* ---- sending ---- */
static void *conn_begin(void *arg)
{
	struct push *p = arg;

	return registry_conn_new(p->registry);
}

static void conn_end(void *worker)
{
	registry_conn_free(worker);
}

static int push_blob(void *arg, void *worker, size_t i, struct error **err)
{
	struct push *p = arg;
	const struct oci_desc *d = &p->picked.blobs[i];
	struct op_item item = op_item_of(&p->op, "upload", "blob", d->digest, d->size);
	CLEANUP_CLOSE int fd = -1;
	bool mounted = false;
	int rc;

	op_item_at(&item, 0);
	rc = registry_has(worker, "blobs", d, err);
	if (rc == 0) {
		fd = blob_open(p->op.s, -1, d->digest, err);
		rc = fd < 0 ? -1
			    : registry_put_blob(worker, d, fd,
						json_str(p->sources, d->digest, NULL), &item,
						&mounted, err);
	}
	if (rc < 0)
		return -1;
	if (mounted)
		log_info("mounted %s", d->digest);
	op_item_at(&item, d->size);
	return 0;
}

static int push_doc(struct push *p, struct registry_conn *c, const struct oci_desc *d,
		    const char *reference, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};

	if (blob_read(p->op.s, p->op.session_fd, d->digest, OCI_MAX_MANIFEST, &b, err) < 0)
		return -1;
	return registry_put_manifest(c, reference, d->media_type, b.data, b.len, err);
}

/* Children are before the index that names them; the last is the root. */
static int push_docs(struct push *p, struct error **err)
{
	CLEANUP(registry_conn_freep) struct registry_conn *c = registry_conn_new(p->registry);
	const struct picked *k = &p->picked;
	size_t i;

	for (i = 0; i + 1 < k->n_docs; i++) {
		int rc = registry_has(c, "manifests", &k->docs[i], err);

		if (rc < 0 || (rc == 0 && push_doc(p, c, &k->docs[i], k->docs[i].digest, err) < 0))
			return -1;
	}
	return push_doc(p, c, &k->docs[i], p->ref.digest ? p->ref.digest : p->ref.tag, err);
}

static int push_run(struct push *p, const struct oci_push_opts *o, struct error **err)
{
	struct op_jobs jobs = {
		.threads = UPLOADS,
		.run = push_blob,
		.worker_begin = conn_begin,
		.worker_end = conn_end,
		.arg = p,
	};
	struct oci_platform want;
	size_t i;

	if (o->platform && oci_platform_parse(o->platform, &want, err) < 0)
		return -1;
	if (op_session(&p->op, err) < 0 ||
	    pick_image(&p->op, &p->root, o->platform ? &want : NULL, &p->picked, err) < 0)
		return -1;
	if (p->ref.digest && strcmp(p->ref.digest, p->picked.root.digest))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "what would be sent has the digest %s, not that of the name",
				 p->picked.root.digest);
	p->registry = registry_new(&p->op, &p->ref, o->scheme, err);
	if (!p->registry)
		return -1;
	find_sources(p);
	registry_login_as(p->registry, o->user, o->secret);
	registry_scope(p->registry, p->ref.repository, "pull,push");
	for (i = 0; i < p->repositories.n; i++)
		registry_scope(p->registry, p->repositories.v[i], "pull");
	jobs.n = p->picked.n_blobs;
	if (op_parallel(&p->op, &jobs, err) < 0)
		return -1;
	return push_docs(p, err);
}

static void push_free(struct push *p)
{
	registry_free(p->registry);
	oci_ref_free(&p->ref);
	oci_desc_free(&p->root);
	picked_free(&p->picked);
	json_object_put(p->sources);
	strv_free(&p->repositories);
	free(p->name);
}

int oci_push(struct oci_store *s, const char *reference, const struct oci_push_opts *o,
	     const struct oci_progress *progress, struct json_object **out, struct error **err)
{
	CLEANUP(push_free) struct push p = {0};
	int rc;

	if (store_name_get(s, reference, &p.name, &p.root, err) < 0 ||
	    oci_ref_parse(p.name, s->default_domain, &p.ref, err) < 0)
		return error_wrap(err, "push %s", reference);
	p.sources = json_object_new_object();
	op_begin(&p.op, s, progress);
	rc = push_run(&p, o, err);
	op_end(&p.op);
	if (rc < 0)
		return error_wrap(err, "push %s", p.name);
	*out = json_object_new_object();
	json_set_str(*out, "reference", p.name);
	json_set_str(*out, "digest", p.picked.root.digest);
	return 0;
}
