/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.c - a new image: one that is here, one more layer, and another configuration.
 *
 * The layer comes as an uncompressed tar from a descriptor, which may be a pipe; it is hashed into a session and unpacked from there as
 * that of any image, so what a container wrote is believed no more than what a registry sent. Blobs become visible when all is well,
 * then the name.
 */
#include <poll.h>
#include <stdio.h>

#include "oci/store.h"

#define COPY_BYTES         (256u << 10)
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct commit {
	struct oci_op op;
	const struct oci_commit *in;
	struct oci_doc base;
	struct oci_config config; /* of the base */
	struct oci_desc root;     /* of the new image */
	char *name;
};

static int read_base(struct commit *c, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	struct oci_store *s = c->op.s;
	size_t i;

	if (!oci_digest_check(c->in->manifest))
		return error_set(err, ERR_INVALID_ARGUMENT, "not a manifest digest: \"%.80s\"",
				 c->in->manifest);
	op_pin(&c->op, KEY_BLOB, digest_hex(c->in->manifest));
	if (blob_read(s, -1, c->in->manifest, OCI_MAX_MANIFEST, &b, err) < 0 ||
	    oci_doc_parse(b.data, b.len, NULL, &c->base, err) < 0)
		return error_wrap(err, "the container's image");
	if (c->base.kind != OCI_DOC_MANIFEST)
		return error_set(err, ERR_INVALID_ARGUMENT, "%s is no image", c->in->manifest);
	op_pin(&c->op, KEY_BLOB, digest_hex(c->base.config.digest));
	for (i = 0; i < c->base.n; i++)
		op_pin(&c->op, KEY_BLOB, digest_hex(c->base.entries[i].digest));
	if (c->base.n >= OCI_MAX_LAYERS)
		return error_set(err, ERR_UNSUPPORTED, "the image has %d layers already",
				 OCI_MAX_LAYERS);
	return blob_read_config(s, -1, &c->base.config, &c->config, err);
}

/* Waits in small steps, so that a caller that gave up is noticed while a pipe is silent. */
static ssize_t input_read(struct commit *c, int fd, void *p, size_t n, struct error **err)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	for (;;) {
		ssize_t got;

		if (op_check(&c->op, err) < 0)
			return -1;
		if (poll(&pfd, 1, 100) == 0)
			continue;
		got = read(fd, p, n);
		if (got >= 0)
			return got;
		if (errno != EINTR && errno != EAGAIN)
			return error_sys(err, errno, "read the layer");
	}
}

static int take_layer(struct commit *c, int fd, struct oci_desc *out, struct error **err)
{
	CLEANUP_BLOB_WRITER struct blob_writer w = {.fd = -1};
	CLEANUP_FREE char *chunk = xmalloc(COPY_BYTES);
	ssize_t n;

	if (blob_writer_open(&w, &c->op, NULL, UINT64_MAX, err) < 0)
		return -1;
	while ((n = input_read(c, fd, chunk, COPY_BYTES, err)) > 0)
		if (blob_writer_add(&w, chunk, (size_t)n, err) < 0)
			return -1;
	if (n < 0)
		return -1;
	out->size = w.size;
	return blob_writer_commit(&w, out->digest, err);
}

static struct json_object *history_entry(const struct commit *c, const char *now)
{
	struct json_object *h = json_object_new_object();

	json_set_str(h, "created", now);
	json_set_str(h, "author", c->in->author);
	json_set_str(h, "created_by", c->in->created_by);
	json_set_str(h, "comment", c->in->message);
	return h;
}

/* The base's configuration with what is new; what docker's builders once kept of their containers goes. */
static struct json_object *make_config(const struct commit *c, const struct oci_desc *layer)
{
	static const char *const stale[] = {"container", "container_config", "id", "parent"};
	struct json_object *o = NULL, *rootfs = json_object_new_object(), *history = NULL;
	struct json_object *ids = json_object_new_array();
	char now[TIME_STAMP_LEN + 1];

	if (json_object_deep_copy(c->config.json, &o, NULL) < 0)
		abort(); /* out of memory */
	time_stamp(time_now_ns(), now);
	for (size_t i = 0; i < ARRAY_SIZE(stale); i++)
		json_object_object_del(o, stale[i]);
	json_set_str(o, "created", now);
	if (c->in->author)
		json_set_str(o, "author", c->in->author);
	if (c->in->config)
		json_set(o, "config", json_object_get(c->in->config));
	for (size_t i = 0; i < c->config.n; i++)
		json_add_str(ids, c->config.diff_ids[i]);
	json_add_str(ids, layer->digest);
	json_set_str(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", ids);
	json_set(o, "rootfs", rootfs);
	history = json_arr(o, "history");
	if (!history) {
		history = json_object_new_array();
		json_set(o, "history", history);
	}
	json_object_array_add(history, history_entry(c, now));
	return o;
}

static int put_json(struct commit *c, struct json_object *o, struct oci_desc *out,
		    struct error **err)
{
	const char *text =
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE);

	out->size = strlen(text);
	return blob_put(&c->op, text, out->size, out->digest, err);
}

static int make_manifest(struct commit *c, struct oci_desc *config, struct oci_desc *layer,
			 struct error **err)
{
	CLEANUP_JSON struct json_object *m = json_object_new_object();
	struct json_object *layers = json_object_new_array();
	bool docker = str_eq(c->base.media_type, MEDIA_DOCKER_MANIFEST);

	/* The kinds of one family in one manifest: there are registries that check. */
	config->media_type = xstrdup(docker ? MEDIA_DOCKER_CONFIG : MEDIA_OCI_CONFIG);
	layer->media_type = xstrdup(docker ? MEDIA_DOCKER_LAYER : MEDIA_OCI_LAYER);
	c->root.media_type = xstrdup(docker ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST);
	json_set_int(m, "schemaVersion", 2);
	json_set_str(m, "mediaType", c->root.media_type);
	json_set(m, "config", oci_desc_to_json(config));
	for (size_t i = 0; i < c->base.n; i++)
		json_object_array_add(layers, oci_desc_to_json(&c->base.entries[i]));
	json_object_array_add(layers, oci_desc_to_json(layer));
	json_set(m, "layers", layers);
	return put_json(c, m, &c->root, err);
}

static int choose_name(struct commit *c, struct error **err)
{
	CLEANUP_FREE char *fallback = NULL;
	const char *name = c->in->reference;
	struct oci_ref r;

	if (!name || !*name)
		name = fallback = xasprintf("untagged@%s", c->root.digest);
	if (oci_ref_parse(name, c->op.s->default_domain, &r, err) < 0)
		return -1;
	c->name = oci_ref_string(&r);
	oci_ref_free(&r);
	return 0;
}

static int run(struct commit *c, int fd, struct error **err)
{
	struct oci_desc layer = {0}, config = {0};
	CLEANUP_JSON struct json_object *json = NULL;
	int rc = -1;

	if (op_session(&c->op, err) < 0 || read_base(c, err) < 0 ||
	    take_layer(c, fd, &layer, err) < 0)
		return -1;
	json = make_config(c, &layer);
	if (put_json(c, json, &config, err) < 0 || make_manifest(c, &config, &layer, err) < 0 ||
	    choose_name(c, err) < 0)
		goto out;
	op_pin(&c->op, KEY_BLOB, digest_hex(layer.digest));
	op_pin(&c->op, KEY_BLOB, digest_hex(config.digest));
	op_pin(&c->op, KEY_BLOB, digest_hex(c->root.digest));
	if (rootfs_prepare(&c->op, &c->root, err) < 0 ||
	    blob_publish(&c->op, layer.digest, err) < 0 ||
	    blob_publish(&c->op, config.digest, err) < 0 ||
	    blob_publish(&c->op, c->root.digest, err) < 0 || op_settle(&c->op, err) < 0)
		goto out;
	rc = store_name_set(c->op.s, c->name, &c->root, err);
out:
	oci_desc_free(&layer);
	oci_desc_free(&config);
	return rc;
}

int oci_commit(struct oci_store *s, const struct oci_commit *in, int fd,
	       const struct oci_progress *p, struct json_object **image, struct error **err)
{
	struct commit c = {.in = in};
	CLEANUP_JSON struct json_object *created = NULL;
	int rc;

	op_begin(&c.op, s, p);
	rc = run(&c, fd, err);
	if (rc == 0)
		rc = image_object(s, c.name, &c.root, image, err);
	created = json_object_get(c.op.created);
	op_end(&c.op);
	oci_doc_free(&c.base);
	oci_config_free(&c.config);
	oci_desc_free(&c.root);
	free(c.name);
	if (rc < 0) {
		store_collect(s, NULL, created, NULL, NULL);
		return error_wrap(err, "commit");
	}
	return 0;
}

int oci_config(struct oci_store *s, const char *manifest, struct json_object **out,
	       struct error **err)
{
	struct commit c = {.in = &(struct oci_commit){.manifest = manifest}};
	int rc;

	op_begin(&c.op, s, NULL);
	rc = read_base(&c, err);
	op_end(&c.op);
	if (rc == 0)
		*out = json_object_get(c.config.json);
	oci_doc_free(&c.base);
	oci_config_free(&c.config);
	return rc;
}
