/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.c - reading indexes, manifests and configurations.
 *
 * A document says what it is twice: in its mediaType and by its members. One that carries the members
 * of both kinds could be read one way when its digest is approved and another way when it is run, so it
 * is refused (OCI image spec 1.1, "manifest" and "index", on mixed documents).
 */
#include "oci/manifest.h"

bool media_is_index(const char *type)
{
	return str_eq(type, MEDIA_OCI_INDEX) || str_eq(type, MEDIA_DOCKER_LIST);
}

bool media_is_manifest(const char *type)
{
	return str_eq(type, MEDIA_OCI_MANIFEST) || str_eq(type, MEDIA_DOCKER_MANIFEST);
}

int media_layer_check(const char *type, struct error **err)
{
	static const char *const known[] = {
		MEDIA_OCI_LAYER,
		MEDIA_OCI_LAYER "+gzip",
		MEDIA_OCI_LAYER "+zstd",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(type, known[i]))
			return 0;
	if (strstr(type, "foreign") || strstr(type, "nondistributable"))
		return error_set(err, ERR_UNSUPPORTED,
				 "foreign layers, fetched from other places, are not supported");
	return error_set(err, ERR_UNSUPPORTED, "layer type \"%.100s\" is not supported", type);
}

/* The name a layout's index.json gives an image; what containerd writes is fuller and comes first. */
static const char *annotated_name(struct json_object *annotations)
{
	static const char *const keys[] = {"io.containerd.image.name",
					   "com.apple.containerization.image.name",
					   ANNOTATION_REF_NAME};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *s = json_str(annotations, keys[i], NULL);

		if (s && *s)
			return s;
	}
	return NULL;
}

int oci_desc_parse(struct json_object *o, struct oci_desc *out, struct error **err)
{
	struct json_object *platform = json_obj(o, "platform");
	struct json_object *annotations = json_obj(o, "annotations");
	const char *type, *digest, *name;
	int64_t size;

	*out = (struct oci_desc){0};
	if (!json_object_is_type(o, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "a descriptor is not an object");
	if (json_need_str(o, "mediaType", &type, err) < 0 ||
	    json_need_str(o, "digest", &digest, err) < 0 ||
	    json_need_int(o, "size", 0, OCI_MAX_BLOB, &size, err) < 0)
		return error_wrap(err, "descriptor");
	if (!oci_digest_check(digest))
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"descriptor: digest \"%.80s\" is not sha256: and 64 lower-case hex digits",
			digest);
	strcpy(out->digest, digest);
	out->size = (uint64_t)size;
	out->media_type = xstrdup(type);
	if (platform) {
		platform_from_json(platform, &out->platform);
		out->has_platform = out->platform.os[0] && out->platform.arch[0];
		out->attestation = !strcmp(out->platform.os, "unknown") &&
				   !strcmp(out->platform.arch, "unknown");
	}
	if (annotations) {
		if (json_str(annotations, "vnd.docker.reference.type", NULL))
			out->attestation = true;
		name = annotated_name(annotations);
		out->name = name ? xstrdup(name) : NULL;
	}
	return 0;
}

struct json_object *oci_desc_to_json(const struct oci_desc *d)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "mediaType", d->media_type);
	json_set_str(o, "digest", d->digest);
	json_set_int(o, "size", (int64_t)d->size);
	return o;
}

void oci_desc_copy(struct oci_desc *dst, const struct oci_desc *src)
{
	*dst = *src;
	dst->media_type = src->media_type ? xstrdup(src->media_type) : NULL;
	dst->name = src->name ? xstrdup(src->name) : NULL;
}

void oci_desc_free(struct oci_desc *d)
{
	free(d->media_type);
	free(d->name);
	*d = (struct oci_desc){0};
}

void oci_doc_free(struct oci_doc *d)
{
	size_t i;

	for (i = 0; i < d->n; i++)
		oci_desc_free(&d->entries[i]);
	free(d->entries);
	oci_desc_free(&d->config);
	free(d->media_type);
	*d = (struct oci_doc){0};
}

static int parse_entries(struct json_object *arr, size_t max, const char *what, struct oci_doc *out,
			 struct error **err)
{
	size_t i, n = json_object_array_length(arr);

	if (n > max)
		return error_set(err, ERR_INVALID_ARGUMENT, "%zu %s, at most %zu are supported", n,
				 what, max);
	out->entries = xcalloc(n ? n : 1, sizeof(*out->entries));
	for (i = 0; i < n; i++) {
		out->n = i + 1;
		if (oci_desc_parse(json_object_array_get_idx(arr, i), &out->entries[i], err) < 0)
			return error_wrap(err, "%s[%zu]", what, i);
	}
	return 0;
}

/* What the body is by its members; -1 for none or both. */
static int kind_by_members(struct json_object *o, enum oci_doc_kind *kind, struct error **err)
{
	bool index = json_get(o, "manifests") != NULL;
	bool manifest = json_get(o, "layers") || json_get(o, "config");

	if (json_get(o, "fsLayers"))
		return error_set(err, ERR_UNSUPPORTED,
				 "docker manifests of schema 1 are not supported");
	if (index && manifest)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "document is an index and a manifest at once");
	if (!index && !manifest)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "document is neither an index nor a manifest");
	*kind = index ? OCI_DOC_INDEX : OCI_DOC_MANIFEST;
	return 0;
}

static bool type_fits(const char *type, enum oci_doc_kind kind)
{
	if (media_is_index(type))
		return kind == OCI_DOC_INDEX;
	if (media_is_manifest(type))
		return kind == OCI_DOC_MANIFEST;
	return !type || !str_prefix(type, "application/vnd.");
}

/* The outer type (a registry's header, a descriptor) and the body's own must name this kind, if they
 * name any kind at all: registries also say application/json. */
static int check_types(struct json_object *o, const char *outer, struct oci_doc *out,
		       struct error **err)
{
	const char *inner = json_str(o, "mediaType", NULL);
	const char *types[] = {inner, outer};
	size_t i;

	for (i = 0; i < 2; i++) {
		if (type_fits(types[i], out->kind))
			continue;
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "document of type \"%.100s\" has the members of %s", types[i],
				 out->kind == OCI_DOC_INDEX ? "an index" : "a manifest");
	}
	if (inner && outer && str_prefix(outer, "application/vnd.") && strcmp(inner, outer))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "document says it is \"%.100s\" but was announced as \"%.100s\"",
				 inner, outer);
	if (inner && str_prefix(inner, "application/vnd."))
		out->media_type = xstrdup(inner);
	else if (outer && str_prefix(outer, "application/vnd."))
		out->media_type = xstrdup(outer);
	else
		out->media_type =
			xstrdup(out->kind == OCI_DOC_INDEX ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST);
	return 0;
}

static int doc_parse(struct json_object *o, const char *media_type, struct oci_doc *out,
		     struct error **err)
{
	struct json_object *arr = NULL, *config = NULL;
	int64_t version = 0;

	if (!json_object_is_type(o, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "document is not a JSON object");
	if (kind_by_members(o, &out->kind, err) < 0)
		return -1;
	if (json_need_int(o, "schemaVersion", 2, 2, &version, err) < 0)
		return -1;
	if (check_types(o, media_type, out, err) < 0)
		return -1;
	if (out->kind == OCI_DOC_INDEX) {
		if (json_need_arr(o, "manifests", &arr, err) < 0)
			return -1;
		return parse_entries(arr, OCI_MAX_ENTRIES, "manifests", out, err);
	}
	if (json_need_obj(o, "config", &config, err) < 0 ||
	    json_need_arr(o, "layers", &arr, err) < 0)
		return -1;
	if (oci_desc_parse(config, &out->config, err) < 0)
		return error_wrap(err, "config");
	if (json_str(o, "artifactType", NULL) ||
	    (!str_eq(out->config.media_type, MEDIA_OCI_CONFIG) &&
	     !str_eq(out->config.media_type, MEDIA_DOCKER_CONFIG)))
		return error_set(err, ERR_UNSUPPORTED,
				 "not a container image: its configuration is of type \"%.100s\"",
				 json_str(o, "artifactType", out->config.media_type));
	return parse_entries(arr, OCI_MAX_LAYERS, "layers", out, err);
}

int oci_doc_parse(const void *p, size_t n, const char *media_type, struct oci_doc *out,
		  struct error **err)
{
	CLEANUP_JSON struct json_object *o = NULL;

	*out = (struct oci_doc){0};
	if (n > OCI_MAX_MANIFEST)
		return error_set(err, ERR_INVALID_ARGUMENT, "manifest is larger than 4 MiB");
	o = json_parse(p, n, err);
	if (!o)
		return error_wrap(err, "manifest");
	if (doc_parse(o, media_type, out, err) == 0)
		return 0;
	oci_doc_free(out);
	return error_wrap(err, "manifest");
}

int oci_total_add(size_t *total, uint64_t size, struct error **err)
{
	/* Small ones cost more than their bytes. */
	*total += (size_t)MAX(size, (uint64_t)4096);
	if (*total <= OCI_MAX_TOTAL)
		return 0;
	return error_set(
		err, ERR_INVALID_ARGUMENT,
		"its indexes, manifests and configurations are larger than %u MiB together",
		OCI_MAX_TOTAL >> 20);
}

static int config_parse(struct oci_config *out, struct error **err)
{
	struct json_object *rootfs, *ids;
	size_t i, n;

	if (!json_object_is_type(out->json, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "not a JSON object");
	platform_from_json(out->json, &out->platform);
	if (!out->platform.os[0] || !out->platform.arch[0])
		return error_set(err, ERR_INVALID_ARGUMENT, "os and architecture are missing");
	if (json_need_obj(out->json, "rootfs", &rootfs, err) < 0)
		return -1;
	ids = json_get(rootfs, "diff_ids");
	if (!ids) /* null or absent: an image without layers */
		return 0;
	if (!json_object_is_type(ids, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "rootfs.diff_ids is not an array");
	n = json_object_array_length(ids);
	if (n > OCI_MAX_LAYERS)
		return error_set(err, ERR_INVALID_ARGUMENT, "%zu layers, at most %d are supported",
				 n, OCI_MAX_LAYERS);
	out->diff_ids = xcalloc(n ? n : 1, sizeof(*out->diff_ids));
	for (i = 0; i < n; i++) {
		struct json_object *id = json_object_array_get_idx(ids, i);
		const char *s = json_object_is_type(id, json_type_string)
					? json_object_get_string(id)
					: NULL;

		if (!s || !oci_digest_check(s))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "rootfs.diff_ids[%zu] is not a digest", i);
		strcpy(out->diff_ids[i], s);
	}
	out->n = n;
	return 0;
}

int oci_config_parse(const void *p, size_t n, struct oci_config *out, struct error **err)
{
	*out = (struct oci_config){0};
	if (n > OCI_MAX_CONFIG)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "image configuration is larger than 8 MiB");
	out->json = json_parse(p, n, err);
	if (out->json && config_parse(out, err) == 0)
		return 0;
	oci_config_free(out);
	return error_wrap(err, "image configuration");
}

void oci_config_free(struct oci_config *c)
{
	json_object_put(c->json);
	free(c->diff_ids);
	*c = (struct oci_config){0};
}
