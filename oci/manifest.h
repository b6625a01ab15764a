/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h - indexes, manifests and configurations, parsed and bounded (OCI image spec 1.1; docker
 * manifest list 2 and manifest 2, schema 2).
 *
 * Everything here copies out of hostile JSON; nothing points back into it.
 */
#ifndef OCI_MANIFEST_H
#define OCI_MANIFEST_H

#include "oci/stream.h"

#define OCI_MAX_MANIFEST (4u << 20)
#define OCI_MAX_CONFIG   (8u << 20)
#define OCI_MAX_LAYERS   240  /* with the metadata they fit one message of descriptors */
#define OCI_MAX_ENTRIES  1024 /* of one index */
#define OCI_MAX_DEPTH    3    /* of nested indexes */
#define OCI_MAX_BLOB     ((int64_t)1 << 42)
#define OCI_MAX_TOTAL    (24u << 20) /* of all documents of one image: oci_total_add() */

#define MEDIA_OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG      "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER       "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG   "application/vnd.docker.container.image.v1+json"

#define ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"
/* In the index.json of an archive: the digest of what the entry is a view of (layout.c). */
#define ANNOTATION_ORIGINAL "container.image.original"

/* ---- platform.c ---- */
void platform_normalise(struct oci_platform *p);
/* platform_from_json: {os, architecture, variant?}; fields that are no plain words come out empty. */
void platform_from_json(struct json_object *o, struct oci_platform *p);
struct json_object *platform_to_json(const struct oci_platform *p);
bool platform_eq(const struct oci_platform *a, const struct oci_platform *b);
char *platform_string(const struct oci_platform *p); /* owned by the caller */

/* ---- manifest.c ---- */
struct oci_desc {
	char *media_type;
	char digest[OCI_DIGEST_LEN + 1];
	uint64_t size;
	bool has_platform;
	struct oci_platform platform;
	bool attestation; /* not an image: provenance and the like */
	char *name;       /* reference in the annotations of a layout's index.json, or NULL */
};

enum oci_doc_kind { OCI_DOC_INDEX, OCI_DOC_MANIFEST };

struct oci_doc {
	enum oci_doc_kind kind;
	char *media_type;
	struct oci_desc *entries; /* the manifests of an index, the layers of a manifest */
	size_t n;
	struct oci_desc config; /* of a manifest */
};

/* oci_desc_parse: a descriptor {mediaType, digest, size, platform?, annotations?}. */
int oci_desc_parse(struct json_object *o, struct oci_desc *out, struct error **err);
struct json_object *oci_desc_to_json(const struct oci_desc *d); /* mediaType, digest, size */
void oci_desc_copy(struct oci_desc *dst, const struct oci_desc *src);
void oci_desc_free(struct oci_desc *d);

/* oci_doc_parse: an index or a manifest. media_type is what the registry or the descriptor said, may be
 * NULL; a type that contradicts the body's, or a body that is both index and manifest, is refused. */
int oci_doc_parse(const void *p, size_t n, const char *media_type, struct oci_doc *out,
		  struct error **err);
void oci_doc_free(struct oci_doc *d);
/* oci_total_add: one more index, manifest or configuration of an image, of that many bytes. Each counts as often as it is
 * named: an index in an index may name one a thousand times a thousand times. Fails above OCI_MAX_TOTAL; *total starts at 0. */
int oci_total_add(size_t *total, uint64_t size, struct error **err);
#define CLEANUP_DOC CLEANUP(oci_doc_free)

bool media_is_index(const char *type);
bool media_is_manifest(const char *type);
/* media_layer_check: fails for layers we cannot unpack: foreign, encrypted, not a tar. */
int media_layer_check(const char *type, struct error **err);

/* An image's configuration. */
struct oci_config {
	struct json_object *json; /* the whole document, owned */
	struct oci_platform platform;
	char (*diff_ids)[OCI_DIGEST_LEN + 1];
	size_t n;
};
int oci_config_parse(const void *p, size_t n, struct oci_config *out, struct error **err);
void oci_config_free(struct oci_config *c);
#define CLEANUP_CONFIG CLEANUP(oci_config_free)

#endif
