/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pull.c - an image from a registry into the store.
 *
 * From the top down: the index or manifest a reference names, the manifests of the platforms asked for,
 * their configurations, then all layers in parallel; then the root file systems; the name last. So a
 * name never leads to something that is not whole, and a pull that was interrupted finds on its next run
 * the blobs and layers it had.
 *
 * A layer is unpacked while it is fetched, by a thread beside the one that fetches: it reads the blob's file as that grows
 * (feed.c). The digest has the last word: a layer whose blob turns out wrong is dropped, and so that the user
 * learns the cause, a blob is fetched to its end even when its beginning cannot be unpacked.
 */
#include <pthread.h>
#include <stdio.h>

#include "core/log.h"
#include "oci/registry.h"

#define DEFAULT_DOWNLOADS 3

struct pull_layer {
	struct oci_desc desc;
	char diff_id[OCI_DIGEST_LEN + 1];
};

struct pull {
	struct oci_op op;
	struct registry *registry;
	struct registry_conn *conn; /* the calling thread's */
	struct oci_ref ref;
	struct oci_platform want;
	bool all, named_platform;
	struct oci_desc root;
	struct oci_desc *manifests; /* chosen, in order */
	size_t n_manifests;
	struct pull_layer *layers; /* to fetch, each digest once */
	size_t n_layers;
	size_t total;         /* oci_total_add() */
	struct buf available; /* platforms seen, for the error */
};

static void forget_choice(struct pull *p)
{
	size_t i;

	for (i = 0; i < p->n_manifests; i++)
		oci_desc_free(&p->manifests[i]);
	for (i = 0; i < p->n_layers; i++)
		oci_desc_free(&p->layers[i].desc);
	free(STEAL(p->manifests));
	free(STEAL(p->layers));
	p->n_manifests = p->n_layers = p->total = 0;
	oci_desc_free(&p->root);
	buf_free(&p->available);
	registry_conn_free(STEAL(p->conn));
	registry_free(STEAL(p->registry));
}

static void pull_free(struct pull *p)
{
	forget_choice(p);
	oci_ref_free(&p->ref);
}

/* ---- single things ---- */
/* A layer that is unpacked while its blob comes in. */
struct along {
	struct oci_op *op;
	const struct pull_layer *layer;
	struct feed feed;
	pthread_t thread;
	int rc;
	struct error *err;
};

static void *along_thread(void *arg)
{
	struct along *a = arg;

	a->rc = layer_prepare(a->op, &a->layer->desc, a->layer->diff_id, &a->feed, &a->err);
	if (a->rc < 0 && error_is_full(a->err))
		atomic_store(&a->feed.abandoned, true);
	return NULL;
}

static bool along_start(struct along *a, struct oci_op *op, const struct pull_layer *layer,
			struct blob_writer *w)
{
	if (!layer || layer_present(op->s, layer->diff_id))
		return false;
	*a = (struct along){.op = op, .layer = layer};
	feed_init(&a->feed, w->fd);
	if (pthread_create(&a->thread, NULL, along_thread, a) != 0) {
		feed_destroy(&a->feed);
		return false; /* it is unpacked later then */
	}
	w->feed = &a->feed;
	return true;
}

/* What went wrong with the blob comes before what went wrong in its unpacking. */
static int along_join(struct along *a, int rc, struct error **err)
{
	feed_end(&a->feed, false);
	pthread_join(a->thread, NULL);
	feed_destroy(&a->feed);
	if (a->rc == 0 || (rc < 0 && !a->feed.abandoned)) {
		error_free(a->err);
		return rc;
	}
	if (rc < 0 && err)
		error_free(STEAL(*err));
	return error_move(err, a->err);
}

static int fetch_into(struct registry_conn *conn, const struct oci_desc *d, struct blob_writer *w,
		      struct op_item *item, struct error **err)
{
	char digest[OCI_DIGEST_LEN + 1];

	if (registry_blob(conn, d->digest, w, item, err) < 0)
		return -1;
	if (blob_writer_commit(w, digest, err) < 0)
		return error_wrap(err, "blob %.19s", d->digest);
	return 0;
}

/* A blob by its descriptor, unless it is here. layer: unpacks it on the way; NULL for a configuration. */
static int fetch_blob(struct oci_op *op, struct registry_conn *conn, const struct oci_desc *d,
		      const struct pull_layer *layer, struct error **err)
{
	CLEANUP_BLOB_WRITER struct blob_writer w = {.fd = -1};
	struct op_item item =
		op_item_of(op, "download", layer ? "layer" : "config", d->digest, d->size);
	struct along along;
	bool with;
	int rc;

	if (blob_intact(op->s, -1, d->digest, d->size)) {
		op_item_at(&item, d->size);
		return 0;
	}
	if (blob_writer_open(&w, op, d->digest, d->size, err) < 0)
		return -1;
	op_item_at(&item, 0);
	with = along_start(&along, op, layer, &w);
	rc = fetch_into(conn, d, &w, &item, err);
	if (rc == 0)
		op_item_at(&item, d->size);
	return with ? along_join(&along, rc, err) : rc;
}

/* However many want it at once, it is fetched once. */
static int fetch_blob_once(struct oci_op *op, struct registry_conn *conn, const struct oci_desc *d,
			   const struct pull_layer *layer, struct error **err)
{
	const char *hex = digest_hex(d->digest);
	int rc;

	op_pin(op, KEY_BLOB, hex);
	if (op_lock_key(op, KEY_BLOB, hex, err) < 0)
		return -1;
	rc = fetch_blob(op, conn, d, layer, err);
	op_unlock_key(op, KEY_BLOB, hex);
	return rc;
}

/* A manifest or index by its descriptor, parsed. */
static int fetch_doc(struct pull *p, const struct oci_desc *d, struct oci_doc *doc,
		     struct error **err)
{
	CLEANUP_BUF struct buf body = {0};
	CLEANUP_FREE char *type = NULL;
	char digest[OCI_DIGEST_LEN + 1];

	if (d->size > OCI_MAX_MANIFEST)
		return error_set(err, ERR_INVALID_ARGUMENT, "manifest is larger than 4 MiB");
	if (op_check(&p->op, err) < 0 || oci_total_add(&p->total, d->size, err) < 0)
		return -1;
	op_pin(&p->op, KEY_BLOB, digest_hex(d->digest));
	if (blob_intact(p->op.s, -1, d->digest, d->size))
		return blob_read_doc(p->op.s, -1, d, doc, err);
	if (registry_manifest(p->conn, d->digest, &body, &type, err) < 0)
		return -1;
	digest_of(body.data ? body.data : "", body.len, digest);
	if (strcmp(digest, d->digest))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "manifest: digest mismatch: content is %s, not %s", digest,
				 d->digest);
	if (body.len != d->size)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "manifest: size mismatch: %zu bytes instead of %llu", body.len,
				 (unsigned long long)d->size);
	if (oci_doc_parse(body.data, body.len, d->media_type, doc, err) < 0)
		return -1;
	return blob_put(&p->op, body.data, body.len, digest, err);
}

/* What the reference names. Sets p->root. */
static int fetch_root(struct pull *p, struct oci_doc *doc, struct error **err)
{
	const char *what = p->ref.digest ? p->ref.digest : p->ref.tag;
	CLEANUP_BUF struct buf body = {0};
	CLEANUP_FREE char *type = NULL;

	if (registry_manifest(p->conn, what, &body, &type, err) < 0)
		return -1;
	digest_of(body.data ? body.data : "", body.len, p->root.digest);
	if (p->ref.digest && strcmp(p->ref.digest, p->root.digest))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "manifest: digest mismatch: content is %s, not %s", p->root.digest,
				 p->ref.digest);
	if (oci_doc_parse(body.data ? body.data : "", body.len, type, doc, err) < 0)
		return -1;
	p->root.media_type = xstrdup(doc->media_type);
	p->root.size = body.len;
	return blob_put(&p->op, body.data, body.len, p->root.digest, err);
}

/* ---- choosing ---- */
static void add_desc(struct oci_desc **v, size_t *n, const struct oci_desc *d)
{
	*v = xreallocarray(*v, *n + 1, sizeof(**v));
	oci_desc_copy(&(*v)[(*n)++], d);
}

static void add_layer(struct pull *p, const struct oci_desc *d, const char *diff_id)
{
	struct pull_layer *l;
	size_t i;

	for (i = 0; i < p->n_layers; i++)
		if (!strcmp(p->layers[i].desc.digest, d->digest))
			return;
	p->layers = xreallocarray(p->layers, p->n_layers + 1, sizeof(*p->layers));
	l = &p->layers[p->n_layers++];
	oci_desc_copy(&l->desc, d);
	snprintf(l->diff_id, sizeof(l->diff_id), "%s", diff_id);
}

static void note_available(struct pull *p, const struct oci_platform *have)
{
	CLEANUP_FREE char *s = platform_string(have);

	buf_printf(&p->available, "%s%s", p->available.len ? ", " : "", s);
}

/* One image manifest. Its configuration decides about its platform when the index says nothing. */
static int consider(struct pull *p, const struct oci_desc *d, const struct oci_doc *known,
		    struct error **err)
{
	CLEANUP_CONFIG struct oci_config config = {0};
	CLEANUP_DOC struct oci_doc own = {0};
	const struct oci_doc *doc = known ? known : &own;
	size_t i;

	if (!p->all && d->has_platform && !platform_eq(&d->platform, &p->want)) {
		note_available(p, &d->platform);
		return 0;
	}
	if (!p->all && p->n_manifests) /* the first that fits is taken */
		return 0;
	if (!known && fetch_doc(p, d, &own, err) < 0)
		return -1;
	if (doc->kind != OCI_DOC_MANIFEST)
		return error_set(err, ERR_INVALID_ARGUMENT, "%s is an index, not a manifest",
				 d->digest);
	if (doc->config.size > OCI_MAX_CONFIG)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "image configuration is larger than 8 MiB");
	if (oci_total_add(&p->total, doc->config.size, err) < 0)
		return -1;
	for (i = 0; i < doc->n; i++)
		if (media_layer_check(doc->entries[i].media_type, err) < 0)
			return -1;
	if (fetch_blob_once(&p->op, p->conn, &doc->config, NULL, err) < 0 ||
	    blob_read_config(p->op.s, -1, &doc->config, &config, err) < 0)
		return -1;
	if (!p->all && !platform_eq(&config.platform, &p->want)) {
		note_available(p, &config.platform);
		return 0;
	}
	if (doc->n != config.n)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "manifest has %zu layers, configuration %zu", doc->n, config.n);
	add_desc(&p->manifests, &p->n_manifests, d);
	for (i = 0; i < doc->n; i++)
		add_layer(p, &doc->entries[i], config.diff_ids[i]);
	return 0;
}

static int choose(struct pull *p, const struct oci_doc *index, int depth, struct error **err)
{
	size_t i;

	if (depth > OCI_MAX_DEPTH)
		return error_set(err, ERR_INVALID_ARGUMENT, "indexes nested deeper than %d",
				 OCI_MAX_DEPTH);
	for (i = 0; i < index->n; i++) {
		const struct oci_desc *d = &index->entries[i];

		if (d->attestation)
			continue;
		if (media_is_index(d->media_type)) {
			CLEANUP_DOC struct oci_doc doc = {0};

			if (fetch_doc(p, d, &doc, err) < 0 || choose(p, &doc, depth + 1, err) < 0)
				return -1;
		} else if (media_is_manifest(d->media_type)) {
			if (consider(p, d, NULL, err) < 0)
				return -1;
		}
	}
	return 0;
}

static int nothing_fits(struct pull *p, struct error **err)
{
	CLEANUP_FREE char *want = platform_string(&p->want);

	if (p->all)
		return error_set(err, ERR_NOT_FOUND, "the index holds no image");
	return error_set(err, ERR_NOT_FOUND, "it has no content for platform %s (available: %s)",
			 want, p->available.len ? p->available.data : "none");
}

/* ---- layers ---- */
static void *download_begin(void *arg)
{
	struct pull *p = arg;

	return registry_conn_new(p->registry);
}

static void download_end(void *worker)
{
	registry_conn_free(worker);
}

static int download_layer(void *arg, void *worker, size_t i, struct error **err)
{
	struct pull *p = arg;
	const struct pull_layer *l = &p->layers[i];

	if (!l || fetch_blob_once(&p->op, worker, &l->desc, l, err) < 0)
		return -1;
	/* Its blob may have been here already. */
	return layer_prepare(&p->op, &l->desc, l->diff_id, NULL, err);
}

static int pull_run(struct pull *p, int downloads, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};
	struct op_jobs jobs = {
		.threads = downloads,
		.run = download_layer,
		.worker_begin = download_begin,
		.worker_end = download_end,
		.arg = p,
	};
	size_t i;
	int rc;

	if (fetch_root(p, &doc, err) < 0)
		return -1;
	rc = doc.kind == OCI_DOC_INDEX ? choose(p, &doc, 1, err) : consider(p, &p->root, &doc, err);
	if (rc < 0)
		return -1;
	if (p->n_manifests == 0)
		return nothing_fits(p, err);
	for (i = 0; i < p->n_layers; i++) {
		struct op_item item = op_item_of(&p->op, "download", "layer",
						 p->layers[i].desc.digest, p->layers[i].desc.size);
		op_item_at(&item, 0);
	}
	jobs.n = p->n_layers;
	if (op_parallel(&p->op, &jobs, err) < 0)
		return -1;
	for (i = 0; i < p->n_manifests; i++)
		if (rootfs_prepare(&p->op, &p->manifests[i], err) < 0)
			return -1;
	return 0;
}

/* One attempt at one place: the registry itself, or with `mirror` another. */
static int pull_from(struct pull *p, const char *mirror, const struct oci_pull_opts *o,
		     struct error **err)
{
	p->registry = registry_new(&p->op, &p->ref, o->scheme, err);
	if (!p->registry)
		return -1;
	if (!mirror)
		registry_login_as(p->registry, o->user, o->secret);
	else if (registry_mirror(p->registry, mirror, err) < 0)
		return -1;
	p->conn = registry_conn_new(p->registry);
	return pull_run(p, o->max_downloads > 0 ? o->max_downloads : DEFAULT_DOWNLOADS, err);
}

/* Back to before the attempt; what it fetched stays. */
static void pull_again(struct pull *p)
{
	forget_choice(p);
	atomic_store(&p->op.stop, false);
}

static int pull_anywhere(struct pull *p, const struct oci_pull_opts *o, struct error **err)
{
	CLEANUP_STRV struct strv mirrors = {0};
	size_t i;

	registry_mirrors(p->op.s, p->ref.domain, &mirrors);
	for (i = 0; i < mirrors.n; i++) {
		struct error *why = NULL;

		if (pull_from(p, mirrors.v[i], o, &why) == 0)
			return 0;
		if (why->code == ERR_CANCELLED || error_is_full(why))
			return error_move(err, why);
		log_err(why, "mirror %s", mirrors.v[i]);
		error_free(why);
		pull_again(p);
	}
	return pull_from(p, NULL, o, err);
}

int oci_pull(struct oci_store *s, const char *reference, const struct oci_pull_opts *o,
	     const struct oci_progress *progress, struct json_object **image, struct error **err)
{
	struct pull p = {.all = o->all_platforms};
	CLEANUP_FREE char *name = NULL;
	struct error *why = NULL;
	int rc;

	oci_platform_host(&p.want);
	if (o->platform && oci_platform_parse(o->platform, &p.want, err) < 0)
		return -1;
	if (oci_ref_parse(reference, s->default_domain, &p.ref, err) < 0)
		return -1;
	name = oci_ref_string(&p.ref);
	op_begin(&p.op, s, progress);
	rc = pull_anywhere(&p, o, &why);
	if (rc == 0)
		rc = op_settle(&p.op, &why);
	if (rc == 0)
		rc = store_name_set(s, name, &p.root, &why);
	if (rc == 0)
		rc = image_object(s, name, &p.root, image, &why);
	/* What came is kept for the next try, but not on a full disk. */
	if (rc < 0 && error_is_full(why)) {
		CLEANUP_JSON struct json_object *created = json_object_get(p.op.created);

		op_end(&p.op);
		store_collect(s, NULL, created, NULL, NULL);
	} else {
		op_end(&p.op);
	}
	pull_free(&p);
	if (rc < 0) {
		error_move(err, why);
		return error_wrap(err, "pull %s", reference);
	}
	return 0;
}
