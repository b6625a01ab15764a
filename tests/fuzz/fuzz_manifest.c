// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_manifest.c - indexes, manifests and image configurations. Hostile: the document, and what it was announced as.
 * What comes out is bounded, names only well-formed digests, and is never an index and a manifest at once.
 */
#include "oci/manifest.h"
#include "tests/fuzz/fuzz.h"

static void desc_check(const struct oci_desc *d)
{
	struct json_object *o;

	FUZZ_CHECK(d->media_type && oci_digest_check(d->digest) &&
		   d->size <= (uint64_t)OCI_MAX_BLOB);
	(void)media_layer_check(d->media_type, NULL);
	o = oci_desc_to_json(d);
	FUZZ_CHECK(o);
	json_object_put(o);
}

static void doc(const void *p, size_t n, const char *type)
{
	struct oci_doc d;
	size_t i;

	if (oci_doc_parse(p, n, type, &d, NULL) < 0)
		return;
	FUZZ_CHECK(d.n <= (d.kind == OCI_DOC_INDEX ? OCI_MAX_ENTRIES : OCI_MAX_LAYERS));
	if (media_is_index(type))
		FUZZ_CHECK(d.kind == OCI_DOC_INDEX);
	if (media_is_manifest(type))
		FUZZ_CHECK(d.kind == OCI_DOC_MANIFEST);
	for (i = 0; i < d.n; i++)
		desc_check(&d.entries[i]);
	if (d.kind == OCI_DOC_MANIFEST)
		desc_check(&d.config);
	oci_doc_free(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {NULL,
					    MEDIA_OCI_INDEX,
					    MEDIA_OCI_MANIFEST,
					    MEDIA_DOCKER_LIST,
					    MEDIA_DOCKER_MANIFEST,
					    "application/json"};
	struct oci_config c;
	size_t i;

	if (!size)
		return 0;
	doc(data + 1, size - 1, types[data[0] % ARRAY_SIZE(types)]);
	if (oci_config_parse(data + 1, size - 1, &c, NULL) == 0) {
		FUZZ_CHECK(c.json && c.platform.os[0] && c.n <= OCI_MAX_LAYERS);
		for (i = 0; i < c.n; i++)
			FUZZ_CHECK(oci_digest_check(c.diff_ids[i]));
		oci_config_free(&c);
	}
	return 0;
}
