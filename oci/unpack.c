/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.c - from a blob to an unpacked layer, in one pass.
 *
 * A layer is unpacked once, whatever images share it, into a directory below content/ingest that is renamed
 * to layers/<diffid> only after the uncompressed bytes had that digest.
 *
 * DOC: Threads
 * The blob decompresses on one thread (ahead.c) while another hashes the plain bytes, reads the tar and writes data and tree. In a
 * pull a third one is still fetching the blob (feed.c): the end of the blob is only told when its digest is right, so a layer
 * never becomes visible before its blob was verified.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "oci/store.h"

/* Plain bytes, hashed and counted on the way. */
struct layer_source {
	struct oci_op *op;
	struct oci_reader plain;
	struct digest *hash;
	const atomic_uint_fast64_t *done; /* compressed bytes read so far */
	struct op_item item;
};

static ssize_t layer_read(void *arg, void *p, size_t n, struct error **err)
{
	struct layer_source *s = arg;
	ssize_t got;

	if (op_check(s->op, err) < 0)
		return -1;
	got = s->plain.read(s->plain.arg, p, n, err);
	if (got > 0) {
		digest_update(s->hash, p, (size_t)got);
		op_item_at(&s->item, MIN(atomic_load(s->done), s->item.total));
	}
	return got;
}

static int unpack_into(struct oci_op *op, struct feed *feed, uint64_t size, const char *diff_id,
		       int dir, struct error **err)
{
	/* Above those that use them until they are freed. */
	struct window window = {.op = op, .feed = feed};
	struct feed_reader in;
	struct oci_reader raw = feed_reader_of(&in, feed), plain;
	CLEANUP_DIGEST struct digest *hash = digest_new();
	CLEANUP(decompress_freep) struct decompress *d = NULL;
	CLEANUP(ahead_freep) struct ahead *ahead = NULL;
	struct layer_source src = {.op = op, .hash = hash, .done = &in.done};
	struct oci_reader r = {.read = layer_read, .arg = &src};
	char got[OCI_DIGEST_LEN + 1];

	src.item = op_item_of(op, "unpack", "layer", diff_id, size);
	d = decompress_new(&raw, err);
	if (!d)
		return -1;
	decompress_windows(d, window_take, &window);
	plain = decompress_reader(d);
	ahead = ahead_new(&plain);
	src.plain = ahead_reader(ahead);
	if (layer_unpack(&r, dir, err) < 0)
		return -1;
	digest_final(hash, got);
	if (strcmp(got, diff_id))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "diffID mismatch: uncompressed content is %s, not %s", got,
				 diff_id);
	op_item_at(&src.item, size);
	return 0;
}

/* Once more from the front when the transfer had to begin again. */
static int unpack_feed(struct oci_op *op, struct feed *feed, uint64_t size, const char *diff_id,
		       int dir, struct error **err)
{
	for (;;) {
		unsigned restarts = feed_restarts(feed);
		struct error *why = NULL;

		if (unpack_into(op, feed, size, diff_id, dir, &why) == 0)
			return 0;
		if (feed_restarts(feed) == restarts)
			return error_move(err, why);
		error_free(why);
	}
}

/* A blob that is whole, as a feed that will not grow. */
static int unpack_blob(struct oci_op *op, const struct oci_desc *d, const char *diff_id, int dir,
		       struct error **err)
{
	CLEANUP_CLOSE int fd = blob_open(op->s, op->session_fd, d->digest, err);
	CLEANUP(feed_destroy) struct feed feed;
	struct stat st;

	feed_init(&feed, fd);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "stat blob");
	feed_grow(&feed, (uint64_t)st.st_size);
	feed_end(&feed, true);
	return unpack_into(op, &feed, d->size, diff_id, dir, err);
}

bool layer_present(struct oci_store *s, const char *diff_id)
{
	return store_has_file(s->layers, digest_hex(diff_id), "data") &&
	       store_has_file(s->layers, digest_hex(diff_id), "tree");
}

static int unpack_staged(struct oci_op *op, const struct oci_desc *d, const char *diff_id,
			 struct feed *feed, struct error **err)
{
	CLEANUP_STAGING struct staging st = {.fd = -1};
	int rc;

	if (staging_open(&st, op->s, err) < 0)
		return -1;
	rc = feed ? unpack_feed(op, feed, d->size, diff_id, st.fd, err)
		  : unpack_blob(op, d, diff_id, st.fd, err);
	if (rc < 0 || staging_move(&st, op, op->s->layers, digest_hex(diff_id), err) < 0)
		return -1;
	op_created(op, KEY_LAYER, digest_hex(diff_id));
	return 0;
}

static int unpack_locked(struct oci_op *op, const struct oci_desc *d, const char *diff_id,
			 struct feed *feed, struct error **err)
{
	int rc;

	if (layer_present(op->s, diff_id))
		return 0;
	if (media_layer_check(d->media_type, err) < 0 ||
	    memory_take(op, MEMORY_UNPACK, 0, feed, err) < 0)
		return -1;
	rc = unpack_staged(op, d, diff_id, feed, err);
	memory_give(op, MEMORY_UNPACK, 0);
	return rc;
}

int layer_prepare(struct oci_op *op, const struct oci_desc *d, const char *diff_id,
		  struct feed *feed, struct error **err)
{
	const char *hex = digest_hex(diff_id);
	int rc;

	op_pin(op, KEY_LAYER, hex);
	if (op_lock_key(op, KEY_LAYER, hex, err) < 0)
		return -1;
	rc = unpack_locked(op, d, diff_id, feed, err);
	op_unlock_key(op, KEY_LAYER, hex);
	return rc < 0 ? error_wrap(err, "unpack layer %.19s", d->digest) : 0;
}
