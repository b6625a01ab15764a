/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the store from the inside: keys, operations, blobs, names.
 *
 * DOC: Keys
 * Everything the store can drop has a key, which is its path kind and its digest's hex: "blobs/<hex>",
 * "layers/<diffid hex>", "rootfs/<manifest hex>".
 *
 * DOC: Operations and collection
 * A pull, a load and an unpack run as an operation (struct oci_op). It pins a key before it looks whether
 * the thing is there; the collector takes the same lock, and neither removes what is pinned nor what a
 * name leads to. So nothing an operation has seen goes away before the operation ends, and no collection
 * waits for a download. Two operations that need the same missing thing take its key lock: the second
 * finds what the first has made.
 */
#ifndef OCI_STORE_H
#define OCI_STORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "oci/manifest.h"
#include "oci/stream.h"

#define KEY_MAX 96

/* What is held at the moment: memory.c. Under the store's lock. */
struct memory {
	unsigned unpackers;
	uint64_t windows; /* bytes of small ones */
	bool big, alone;  /* the big place is taken; by a window */
	unsigned wants_alone;
};

struct oci_store {
	char *default_domain;
	int root, content, blobs, ingest, layers, rootfs; /* directories */
	struct buf ca_bundle;                             /* empty: the host's alone */
	char *insecure, *mirrors, *internal;              /* struct oci_registries; or NULL */
	int stall_s;
	int lock_file;          /* holds the flock */
	pthread_mutex_t lock;   /* guards what follows */
	pthread_cond_t changed; /* a key lock or memory was given back */
	struct memory memory;
	struct json_object *names;  /* reference → descriptor, as in images.json */
	struct json_object *views;  /* keys of the blobs that only content/index.json names */
	struct json_object *pins;   /* key → number of operations */
	struct json_object *locked; /* key → true */
};

void key_make(char out[KEY_MAX], const char *kind, const char *hex);
#define KEY_BLOB   "blobs"
#define KEY_LAYER  "layers"
#define KEY_ROOTFS "rootfs"

/* ---- operations (op.c) ---- */
struct oci_op {
	struct oci_store *s;
	const struct oci_progress *p; /* NULL: silent */
	struct json_object *pins;     /* keys this operation pinned; under s->lock */
	struct json_object *created;  /* keys it brought in; under s->lock */
	char session[64]; /* directory below ingest whose blobs count as present (load) */
	int session_fd;   /* -1: none */
	int *unsynced;    /* files that op_settle() has to sync; under s->lock */
	size_t n_unsynced;
	atomic_bool stop; /* one of its threads failed: the others give up */
};
void op_begin(struct oci_op *op, struct oci_store *s, const struct oci_progress *p);
/* op_session: gives op a directory of its own for blobs that are not to be seen yet. */
int op_session(struct oci_op *op, struct error **err);
void op_end(struct oci_op *op); /* settles, unpins, removes the session */
/* op_sync_later: has op_settle() sync the file behind the borrowed fd: one commit of the journal for many small files. For what
 * is recognised when a power cut has left it damaged: blobs by size or digest. */
void op_sync_later(struct oci_op *op, int fd);
/* op_settle: all that op made visible is on disk when it returns. Before a name is set. */
int op_settle(struct oci_op *op, struct error **err);
void op_pin(struct oci_op *op, const char *kind, const char *hex);
void op_created(struct oci_op *op, const char *kind, const char *hex);
/* op_check: -1 and a cancelled error when the caller or another thread of the operation gave up. */
int op_check(struct oci_op *op, struct error **err);
/* op_wait: with s->lock held, until s->changed is signalled or a moment has passed; then as op_check(). */
int op_wait(struct oci_op *op, struct error **err);
/* op_lock_key / op_unlock_key: one holder at a time, across operations. op_lock_key fails when cancelled. */
int op_lock_key(struct oci_op *op, const char *kind, const char *hex, struct error **err);
void op_unlock_key(struct oci_op *op, const char *kind, const char *hex);

/* Progress of one thing; events at most every 100 ms, the first and the last always. */
struct op_item {
	struct oci_op *op;
	const char *phase;
	char name[48];
	uint64_t total, last_us;
	bool ended; /* its last event is out */
};
/* op_item_of: names it "<what> <12 digits of the digest>". */
struct op_item op_item_of(struct oci_op *op, const char *phase, const char *what,
			  const char *digest, uint64_t total);
void op_item_at(struct op_item *i, uint64_t done);
void op_message(struct oci_op *op, const char *phase, const char *fmt, ...) PRINTF(3, 4);

/* op_parallel: calls fn(arg, i, err) for i in 0..n-1 on up to `threads` threads; the first error wins, the rest
 * see op->stop. worker_begin/worker_end (may be NULL) bracket each thread with a context for fn. */
struct op_jobs {
	size_t n;
	int threads;
	int (*run)(void *arg, void *worker, size_t i, struct error **err);
	void *(*worker_begin)(void *arg);
	void (*worker_end)(void *worker);
	void *arg;
};
int op_parallel(struct oci_op *op, const struct op_jobs *jobs, struct error **err);

/* ---- memory.c: the process stays below 64 MiB ---- */
enum memory_use { MEMORY_UNPACK, MEMORY_WINDOW, MEMORY_WINDOW_ALONE, MEMORY_MERGE };
/* memory_take: waits until there is room; n: bytes of a window. Fails when op is given up or feed (may be NULL) has failed. */
int memory_take(struct oci_op *op, enum memory_use use, uint64_t n, struct feed *feed,
		struct error **err);
void memory_give(struct oci_op *op, enum memory_use use, uint64_t n);
/* A decompressor's window, for decompress_windows(). */
struct window {
	struct oci_op *op;
	struct feed *feed; /* where the input comes from; NULL: it is here */
	bool stream; /* the input is somebody's pipe: no window that others would have to wait for */
	enum memory_use use;
	uint64_t held;
};
int window_take(void *arg, uint64_t bytes, struct error **err);

/* ---- blobs (blob.c) ---- */
/* A blob on its way in: hashed while it is written, at a temporary name until it is whole. */
struct blob_writer {
	struct oci_op *op;
	int fd;
	char tmp[64];
	struct digest *hash;
	uint64_t size, expect; /* written so far; what it must be in the end, or UINT64_MAX */
	char want[OCI_DIGEST_LEN + 1]; /* what the digest must be, or "" */
	struct feed *feed;             /* told of what comes in; NULL: nobody reads along */
	uint64_t started;              /* bytes on their way to the disk */
};
/* blob_writer_open: want may be NULL and expect UINT64_MAX when not known yet. */
int blob_writer_open(struct blob_writer *w, struct oci_op *op, const char *want, uint64_t expect,
		     struct error **err);
int blob_writer_add(struct blob_writer *w, const void *p, size_t n, struct error **err);
int blob_writer_restart(struct blob_writer *w, struct error **err);
/* blob_writer_commit: verifies, ends the feed, syncs and moves it into the operation's session or the store. */
int blob_writer_commit(struct blob_writer *w, char digest[OCI_DIGEST_LEN + 1], struct error **err);
void blob_writer_close(struct blob_writer *w); /* drops what was not committed; idempotent */
#define CLEANUP_BLOB_WRITER CLEANUP(blob_writer_close)

int blob_put(struct oci_op *op, const void *p, size_t n, char digest[OCI_DIGEST_LEN + 1],
	     struct error **err);
bool blob_exists(struct oci_store *s, int session_fd, const char *digest, uint64_t *size);
/* blob_intact: it is there and has that size; the content of small ones is verified, large ones were synced before they
 * had their name. */
bool blob_intact(struct oci_store *s, int session_fd, const char *digest, uint64_t size);
int blob_open(struct oci_store *s, int session_fd, const char *digest, struct error **err);
/* blob_read: a small blob whose digest is verified again; notFound when absent. */
int blob_read(struct oci_store *s, int session_fd, const char *digest, size_t max, struct buf *out,
	      struct error **err);
int blob_read_doc(struct oci_store *s, int session_fd, const struct oci_desc *d,
		  struct oci_doc *out, struct error **err);
int blob_read_config(struct oci_store *s, int session_fd, const struct oci_desc *d,
		     struct oci_config *out, struct error **err);
/* blob_publish: moves a session's blob into the store, unless it is there. */
int blob_publish(struct oci_op *op, const char *digest, struct error **err);

/* ---- names (store.c) ---- */
/* store_name_set: points a canonical reference at d; on disk when it returns. */
int store_name_set(struct oci_store *s, const char *ref, const struct oci_desc *d,
		   struct error **err);
/* store_name_get: 0, or notFound. *canonical (may be NULL) and out are the caller's. */
int store_name_get(struct oci_store *s, const char *ref, char **canonical, struct oci_desc *out,
		   struct error **err);
#define STORE_MIN_ID 4 /* digits of an image's id that may stand for it */
/* store_names_find: the names that `ref` means among `names` (as s->names): the reference itself or, when there is none,
 * all names of the one image whose id begins with it. None found is success. Two images: invalidArgument. */
int store_names_find(struct oci_store *s, struct json_object *names, const char *ref,
		     struct strv *out, struct error **err);
/* store_names_write: replaces all names by `names` (borrowed). Call with s->lock held. */
int store_names_write(struct oci_store *s, struct json_object *names, struct error **err);

/* ---- layout.c: content/ for other tools ---- */
int layout_begin(struct oci_store *s, struct error **err);
/* layout_write: brings content/index.json in step with the names. Call with s->lock held. */
int layout_write(struct oci_store *s, struct error **err);

/* One image: a manifest and its configuration. */
struct variant {
	struct oci_desc desc; /* the manifest's, with platform */
	struct oci_doc doc;
	struct oci_config config;
};
void variant_free(struct variant *v);

/* ---- pick.c: what of an image goes to another place ---- */
struct picked {
	struct oci_desc root;  /* what the name leads to there */
	struct oci_desc *docs; /* manifests and indexes, children first, the root last */
	size_t n_docs;
	struct oci_desc *blobs; /* configurations and layers, each once */
	size_t n_blobs;
	struct variant variant; /* for picked_variant(); its configuration without the JSON */
	size_t n_variants;      /* picked, of which it is one */
	bool right;             /* it is of the platform asked for, or this host's */
	struct buf platforms;   /* of all that are picked, as text */
};
/* pick_image: all variants that are here, or those of one platform. An index that names more than that is replaced by
 * one that names only what is picked, put into op's session. Everything is pinned. */
int pick_image(struct oci_op *op, const struct oci_desc *root, const struct oci_platform *want,
	       struct picked *out, struct error **err);
/* picked_variant: of what is picked, what those take who run one platform: the only one, or this host's. Borrowed; NULL: notFound. */
const struct variant *picked_variant(const struct picked *p, struct error **err);
void picked_free(struct picked *p);
#define CLEANUP_PICKED CLEANUP(picked_free)

/* layout_view (layout.c): d as readers of layouts want it: what is in docker's types said in OCI's, the rest as it is. The
 * documents made for that go into op's session and are out->docs; out->root leads to it. */
int layout_view(struct oci_op *op, const struct oci_desc *d, struct picked *out,
		struct error **err);

/* ---- variants: the images of an index that are here (inspect.c) ---- */
struct variants {
	struct variant *v;
	size_t n;
	size_t total; /* oci_total_add() */
};
/* variants_load: every image manifest below root whose blobs are here. Missing manifests are skipped, damaged
 * ones are errors. */
int variants_load(struct oci_store *s, int session_fd, const struct oci_desc *root,
		  struct variants *out, struct error **err);
void variants_free(struct variants *v);
#define CLEANUP_VARIANTS CLEANUP(variants_free)
/* variants_pick: the one for a platform, or notFound naming those there are. */
const struct variant *variants_pick(const struct variants *v, const struct oci_platform *want,
				    struct error **err);
/* image_object: the object of `image inspect` (one element). */
int image_object(struct oci_store *s, const char *name, const struct oci_desc *root,
		 struct json_object **out, struct error **err);

/* ---- gc.c ---- */
/* store_collect: removes what neither names, pins nor busy (array of manifest digests, may be NULL) lead to; with
 * `only` (object whose members are keys) nothing else is looked at. Adds bytes freed to *reclaimed. */
int store_collect(struct oci_store *s, struct json_object *busy, struct json_object *only,
		  uint64_t *reclaimed, struct error **err);

/* ---- credentials.c ---- */
/* credentials_get: the stored login of a registry's domain, NULLs when there is none; the caller owns both. */
void credentials_get(struct oci_store *s, const char *domain, char **user, char **secret);

/* ---- staging.c: a directory below ingest, at its final place once it is whole ---- */
struct staging {
	struct oci_store *s;
	char name[64];
	int fd;
};
int staging_open(struct staging *st, struct oci_store *s, struct error **err);
/* staging_move: to/hex, replacing what is there. The files in it are synced already, op_settle() does the rest. */
int staging_move(struct staging *st, struct oci_op *op, int to, const char *hex,
		 struct error **err);
void staging_close(struct staging *st); /* drops what was not moved */
/* store_has_file: there is a file dir/hex/name. */
bool store_has_file(int dir, const char *hex, const char *name);
#define CLEANUP_STAGING CLEANUP(staging_close)

/* ---- unpack.c ---- */
bool layer_present(struct oci_store *s, const char *diff_id);
/* layer_prepare: unpacks a layer unless it is there: from feed while that grows, else (NULL) from its blob. Pins it. One
 * thread per layer works, others wait. */
int layer_prepare(struct oci_op *op, const struct oci_desc *d, const char *diff_id,
		  struct feed *feed, struct error **err);

/* ---- rootfs.c ---- */
/* rootfs_prepare: unpacks what is missing of a manifest's layers and merges them. */
int rootfs_prepare(struct oci_op *op, const struct oci_desc *manifest, struct error **err);

bool error_is_full(const struct error *e); /* ENOSPC or EDQUOT anywhere in the chain */

#endif
