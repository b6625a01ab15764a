/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick.c - what of an image goes to another place: into an archive, to a registry.
 *
 * The other side wants all that an index names: a registry refuses an index one of whose manifests it does not
 * have. A store often has less, since a pull may have asked for one platform and leaves attestations out. So an index
 * goes as it is when all of it goes, and otherwise as one with the entries that do go, everything else in it
 * unchanged, under a digest of its own.
 */
#include "oci/store.h"

struct picker {
	struct oci_op *op;
	const struct oci_platform *want; /* NULL: all */
	struct oci_platform runs;        /* the one to keep for picked_variant() */
	struct picked *out;
	size_t total;         /* oci_total_add() */
	struct buf available; /* platforms seen, for the error */
};

static bool has_digest(const struct oci_desc *v, size_t n, const char *digest)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!strcmp(v[i].digest, digest))
			return true;
	return false;
}

static void add_once(struct oci_desc **v, size_t *n, const struct oci_desc *d)
{
	if (has_digest(*v, *n, d->digest))
		return;
	*v = xreallocarray(*v, *n + 1, sizeof(**v));
	oci_desc_copy(&(*v)[(*n)++], d);
}

static int need_blob(struct picker *p, const struct oci_desc *d, struct error **err)
{
	uint64_t have;

	op_pin(p->op, KEY_BLOB, digest_hex(d->digest));
	if (!blob_exists(p->op->s, -1, d->digest, &have))
		return error_set(err, ERR_NOT_FOUND, "blob %s is missing from the store",
				 d->digest);
	if (have != d->size)
		return error_set(err, ERR_INTERNAL, "blob %s is damaged on disk", d->digest);
	add_once(&p->out->blobs, &p->out->n_blobs, d);
	return 0;
}

/* What was read of a manifest, for those who need one; takes doc and config over if it is the better one so far. */
static void keep_variant(struct picked *out, const struct oci_platform *runs,
			 const struct oci_desc *d, struct oci_doc *doc, struct oci_config *config)
{
	CLEANUP_FREE char *name = platform_string(&config->platform);
	bool right = platform_eq(&config->platform, runs);

	buf_printf(&out->platforms, "%s%s", out->platforms.len ? ", " : "", name);
	if (out->n_variants++ && (out->right || !right))
		return;
	variant_free(&out->variant);
	out->right = right;
	oci_desc_copy(&out->variant.desc, d);
	out->variant.doc = *doc;
	*doc = (struct oci_doc){0};
	/* Its text may be megabytes, and nobody asks for it. */
	json_object_put(STEAL(config->json));
	out->variant.config = *config;
	*config = (struct oci_config){0};
}

/* 1: picked, 0: another platform. May take doc over. */
static int pick_manifest(struct picker *p, const struct oci_desc *d, struct oci_doc *doc,
			 struct error **err)
{
	CLEANUP_CONFIG struct oci_config config = {0};
	size_t i;

	op_pin(p->op, KEY_BLOB, digest_hex(doc->config.digest));
	if (blob_read_config(p->op->s, -1, &doc->config, &config, err) < 0)
		return error_wrap(err, "manifest %.19s", d->digest);
	if (p->want && !platform_eq(&config.platform, p->want)) {
		CLEANUP_FREE char *have = platform_string(&config.platform);

		buf_printf(&p->available, "%s%s", p->available.len ? ", " : "", have);
		return 0;
	}
	if (need_blob(p, &doc->config, err) < 0)
		return -1;
	for (i = 0; i < doc->n; i++)
		if (need_blob(p, &doc->entries[i], err) < 0)
			return -1;
	if (!has_digest(p->out->docs, p->out->n_docs, d->digest))
		keep_variant(p->out, &p->runs, d, doc, &config);
	add_once(&p->out->docs, &p->out->n_docs, d);
	return 1;
}

static int pick_doc(struct picker *p, struct oci_desc *d, int depth, struct error **err);

/* Decides about one entry of an index. 1: stays (*entry may be another object now), 0: goes. */
static int pick_entry(struct picker *p, struct json_object **entry, int depth, bool *changed,
		      struct error **err)
{
	struct oci_desc d;
	char before[OCI_DIGEST_LEN + 1];
	int rc = oci_desc_parse(*entry, &d, err);

	memcpy(before, d.digest, sizeof(before));
	if (rc == 0 && !d.attestation &&
	    (media_is_index(d.media_type) || media_is_manifest(d.media_type))) {
		op_pin(p->op, KEY_BLOB, digest_hex(d.digest));
		if (blob_exists(p->op->s, -1, d.digest, NULL))
			rc = pick_doc(p, &d, depth + 1, err);
	}
	if (rc == 1 && strcmp(before, d.digest)) {
		json_set_str(*entry, "digest", d.digest);
		json_set_int(*entry, "size", (int64_t)d.size);
		*changed = true;
	}
	*changed = *changed || rc == 0;
	oci_desc_free(&d);
	return rc;
}

static int put_index(struct picker *p, struct json_object *index, struct oci_desc *d,
		     struct error **err)
{
	const char *text =
		json_object_to_json_string_ext(index, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE);

	d->size = strlen(text);
	return blob_put(p->op, text, d->size, d->digest, err);
}

static int pick_index(struct picker *p, struct oci_desc *d, int depth, struct error **err)
{
	CLEANUP_BUF struct buf text = {0};
	CLEANUP_JSON struct json_object *index = NULL;
	struct json_object *all, *kept = json_object_new_array();
	bool changed = false;
	size_t i;

	if (blob_read(p->op->s, -1, d->digest, OCI_MAX_MANIFEST, &text, err) == 0)
		index = json_parse(text.data, text.len, err);
	if (!index || json_need_arr(index, "manifests", &all, err) < 0) {
		json_object_put(kept);
		return -1;
	}
	for (i = 0; i < json_object_array_length(all); i++) {
		struct json_object *entry = json_object_array_get_idx(all, i);
		int rc = pick_entry(p, &entry, depth, &changed, err);

		if (rc < 0) {
			json_object_put(kept);
			return -1;
		}
		if (rc)
			json_object_array_add(kept, json_object_get(entry));
	}
	i = json_object_array_length(kept);
	json_set(index, "manifests", kept);
	if (i == 0)
		return 0;
	if (changed && put_index(p, index, d, err) < 0)
		return -1;
	add_once(&p->out->docs, &p->out->n_docs, d);
	return 1;
}

/* 1: it goes, d says as what; 0: nothing of it does. */
static int pick_doc(struct picker *p, struct oci_desc *d, int depth, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};

	if (depth > OCI_MAX_DEPTH)
		return error_set(err, ERR_INVALID_ARGUMENT, "indexes nested deeper than %d",
				 OCI_MAX_DEPTH);
	op_pin(p->op, KEY_BLOB, digest_hex(d->digest));
	if (oci_total_add(&p->total, d->size, err) < 0 ||
	    blob_read_doc(p->op->s, -1, d, &doc, err) < 0)
		return -1;
	return doc.kind == OCI_DOC_MANIFEST ? pick_manifest(p, d, &doc, err)
					    : pick_index(p, d, depth, err);
}

static int no_platform(const struct oci_platform *want, const struct buf *available,
		       struct error **err)
{
	CLEANUP_FREE char *name = platform_string(want);

	return error_set(err, ERR_NOT_FOUND, "it has no content for platform %s (available: %s)",
			 name, available->len ? available->data : "none");
}

static int nothing_picked(struct picker *p, struct error **err)
{
	if (!p->want)
		return error_set(err, ERR_NOT_FOUND, "none of its manifests is in the store");
	return no_platform(p->want, &p->available, err);
}

const struct variant *picked_variant(const struct picked *p, struct error **err)
{
	struct oci_platform host;

	if (p->right || p->n_variants == 1)
		return &p->variant;
	oci_platform_host(&host);
	no_platform(&host, &p->platforms, err);
	return NULL;
}

int pick_image(struct oci_op *op, const struct oci_desc *root, const struct oci_platform *want,
	       struct picked *out, struct error **err)
{
	struct picker p = {.op = op, .want = want, .out = out};
	int rc;

	*out = (struct picked){0};
	if (want)
		p.runs = *want;
	else
		oci_platform_host(&p.runs);
	oci_desc_copy(&out->root, root);
	rc = pick_doc(&p, &out->root, 0, err);
	if (rc == 0)
		rc = nothing_picked(&p, err);
	buf_free(&p.available);
	if (rc > 0)
		return 0;
	picked_free(out);
	return -1;
}

static void free_all(struct oci_desc *v, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		oci_desc_free(&v[i]);
	free(v);
}

void picked_free(struct picked *p)
{
	oci_desc_free(&p->root);
	free_all(p->docs, p->n_docs);
	free_all(p->blobs, p->n_blobs);
	variant_free(&p->variant);
	buf_free(&p->platforms);
	*p = (struct picked){0};
}
