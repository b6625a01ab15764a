/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.h - images as the roles see them: a store of content, names, and root file systems ready to
 * boot.
 *
 * DOC: On disk (below <app root>)
 *   content/oci-layout, content/index.json, content/blobs/sha256/<hex>    an OCI image layout other
 * tools can read images.json            reference → descriptor {mediaType, digest, size}
 *   layers/<diffid hex>/   data (4 KiB-aligned file contents, one blob), index (where in it the parts of
 * compressed files are) and tree (what the layer says of each path) rootfs/<manifest hex>/ meta.erofs (EROFS metadata whose blocks point behind
 * it, into the layers' data in order) and rootfs.json {"layers": ["<diffid hex>", …], "blocks":
 * […]}
 *
 * The store's functions may be called from several threads; one process owns a store at a time.
 */
#ifndef OCI_OCI_H
#define OCI_OCI_H

#include "core/json.h"
#include "core/str.h"

/* ---- references (oci/ref.c) ---- */
struct oci_ref {
	char *domain;     /* "docker.io", "localhost:5000" */
	char *repository; /* "library/alpine" */
	char *tag;        /* NULL when a digest is given */
	char *digest;     /* "sha256:<64 hex>" or NULL */
};
/* oci_ref_parse: normalises (default_domain, library/, :latest); grammar of the distribution spec.
 */
int oci_ref_parse(const char *s, const char *default_domain, struct oci_ref *out,
		  struct error **err);
char *oci_ref_string(const struct oci_ref *r); /* canonical "docker.io/library/alpine:latest" */
void oci_ref_free(struct oci_ref *r);
/* oci_digest_check: "sha256:" and 64 lower-case hex digits, nothing else. */
bool oci_digest_check(const char *digest);

struct oci_platform {
	char os[32], arch[32], variant[32];
};
void oci_platform_host(struct oci_platform *p); /* linux/amd64 */
int oci_platform_parse(const char *s, struct oci_platform *p,
		       struct error **err); /* os/arch[/variant] */

/* ---- store ---- */
struct oci_store;
struct oci_store *oci_store_open(const char *app_root, const char *default_domain,
				 struct error **err);
void oci_store_free(struct oci_store *s);
/* oci_store_registries: how registries are spoken to. Once, before the first pull. Strings may be NULL and are copied. */
struct oci_registries {
	const char *ca; /* a PEM file of certificates that are trusted besides the host's */
	const char *
		insecure; /* "host[:port], …": with scheme auto by http; by https without a look at the certificate */
	const char *
		mirrors; /* "domain=URL, …": asked first, without credentials, in a pull from that domain */
	const char *internal; /* a domain whose hosts are spoken to by http with scheme auto */
	int stall_s; /* a transfer that gets nowhere for so many seconds is broken off, and tried again */
};
int oci_store_registries(struct oci_store *s, const struct oci_registries *o, struct error **err);

/* Progress of a long call; may come from any thread, at most ten times a second per item. */
struct oci_progress {
	void (*fn)(void *arg,
		   struct json_object *ev); /* ev is borrowed: {"item": "layer 3f2a…", "phase":
					       "download|unpack|load", "done": n, "total": n} or
					       {"phase": …, "message": …} */
	void *arg;
	bool (*cancelled)(
		void *arg); /* polled; true makes the call fail with cancelled. May be NULL. */
};

#define OCI_IDENTITY "<token>"
struct oci_pull_opts {
	const char *scheme;   /* "auto", "http", "https" */
	const char *platform; /* NULL: the host's */
	bool all_platforms;
	int max_downloads; /* 0: 3 */
	/* NULL: those of oci_login, else nobody's. The user OCI_IDENTITY: the secret is an OAuth2 refresh token. */
	const char *user, *secret;
};
/* oci_pull: fetches what is missing, verifies digest and size of every blob, unpacks, names the
 * image. *image: the image object (apple-container.md §1.7) with the canonical reference; owned by
 * the caller. Blocking. */
int oci_pull(struct oci_store *s, const char *reference, const struct oci_pull_opts *o,
	     const struct oci_progress *p, struct json_object **image, struct error **err);
struct oci_push_opts {
	const char *scheme;        /* as above */
	const char *platform;      /* NULL: all that is here */
	const char *user, *secret; /* as above */
};
/* oci_push: sends the image of that name to where the name says: what is not there, manifests last. *out: {"reference",
 * "digest"} of what it is there. Blocking. */
int oci_push(struct oci_store *s, const char *reference, const struct oci_push_opts *o,
	     const struct oci_progress *p, struct json_object **out, struct error **err);
/* oci_load: an OCI layout tar or a docker-archive, plain, gzip or zstd, from fd (may be a pipe).
 * *images: array of image objects. force: skip unsafe members with a warning event instead of
 * failing. */
int oci_load(struct oci_store *s, int fd, bool force, const struct oci_progress *p,
	     struct json_object **images, struct error **err);
/* oci_list / oci_inspect: image objects; oci_inspect fails with notFound naming every unknown
 * reference. */
int oci_list(struct oci_store *s, struct json_object **images, struct error **err);
int oci_inspect(struct oci_store *s, const char *const *refs, size_t n, struct json_object **images,
		struct error **err);
/* oci_delete: removes names, then whatever content, layers and rootfs nothing refers to. *out:
 * {"deleted": […], "reclaimed": bytes}. ids in `busy` (manifest digests used by containers) keep
 * their content. */
int oci_delete(struct oci_store *s, const char *const *refs, size_t n, bool force,
	       struct json_object *busy, struct json_object **out, struct error **err);

/* oci_tag: names an image once more, replacing what had that name. */
int oci_tag(struct oci_store *s, const char *source, const char *target, struct error **err);
/* oci_prune: removes names without a tag, with `all` every name, but none of an image that has a manifest in busy, and
 * none that is not in `only` (array; NULL: any may go); then unused content as oci_delete does. *out as there. */
int oci_prune(struct oci_store *s, bool all, struct json_object *only, struct json_object *busy,
	      struct json_object **out, struct error **err);
/* oci_usage: {"total", "active": names, "sizeInBytes", "reclaimable": allocated bytes}. Active is an image with a
 * manifest in busy, reclaimable what oci_prune with `all` would free. */
int oci_usage(struct oci_store *s, struct json_object *busy, struct json_object **out,
	      struct error **err);

/* oci_save: writes images to fd, which may be a pipe, as a tar: an OCI image layout with all variants that are here or
 * those of `platform`; with docker as `docker save` does, with the one variant of `platform` (NULL: the host's). *names:
 * canonical references. */
struct oci_save_opts {
	const char *platform;
	bool docker;
};
int oci_save(struct oci_store *s, const char *const *refs, size_t n, int fd,
	     const struct oci_save_opts *o, const struct oci_progress *p,
	     struct json_object **names, struct error **err);

/* oci_commit: the image whose manifest is given, with one more layer: the uncompressed tar that comes from fd, which may be a pipe.
 * *image: the image object. Blocking. */
struct oci_commit {
	const char *manifest;         /* digest */
	const char *reference;        /* what it is called; NULL: untagged */
	const char *author, *message; /* may be NULL */
	const char *created_by;       /* for the history; may be NULL */
	struct json_object
		*config; /* what containers of it run with ("config"); NULL: as in the base */
};
int oci_commit(struct oci_store *s, const struct oci_commit *c, int fd,
	       const struct oci_progress *p, struct json_object **image, struct error **err);
/* oci_config: the whole configuration of the image with that manifest; the caller owns it. */
int oci_config(struct oci_store *s, const char *manifest, struct json_object **out,
	       struct error **err);

/* oci_resolve: what `create` needs: {"reference", "descriptor": index or manifest, "manifest":
 * digest, "platform": {…}, "config": the image's config object {User?, Env?, Entrypoint?, Cmd?,
 * WorkingDir?, Labels?, StopSignal?, Healthcheck?}}. notFound when absent. */
int oci_resolve(struct oci_store *s, const char *reference, const char *platform,
		struct json_object **out, struct error **err);

/* oci_rootfs: the disk of an image by manifest digest, unpacking first if needed. fds: metadata,
 * then layer blobs, in order; the caller owns *fds and each descriptor. */
int oci_rootfs(struct oci_store *s, const char *manifest_digest, int **fds, size_t *nfds,
	       struct error **err);

/* oci_login: tries user and secret at a registry ("ghcr.io"; a URL will do) and with `keep` keeps them, encrypted, if it
 * takes them. *domain (may be NULL): what the registry is called in references, the caller's. Blocking. oci_logout: forgets them. oci_logins: [{"id", "name", "username", "creationDate", "modificationDate",
 * "labels"}], never a secret. */
int oci_login(struct oci_store *s, const char *server, const char *scheme, const char *user,
	      const char *secret, bool keep, char **domain, const struct oci_progress *p,
	      struct error **err);
/* oci_server_domain: "https://index.docker.io/v1/" is docker.io. NULL and *err for what is no host; the caller owns it. */
char *oci_server_domain(const char *server, struct error **err);
int oci_logout(struct oci_store *s, const char *server, struct error **err);
int oci_logins(struct oci_store *s, struct json_object **out, struct error **err);

/* ---- layers and root file systems (oci/layer.c, oci/tar.c, oci/erofs.c) ---- */
/* A source of bytes: returns count, 0 at the end, -1 with *err. */
struct oci_reader {
	ssize_t (*read)(void *arg, void *p, size_t n, struct error **err);
	void *arg;
};
/* layer_unpack: one uncompressed layer tar from r into layer_dirfd/{data,index,tree} (written to
 * temporary names, synced, renamed; the directory's own sync is the caller's). Uses 2 MiB of memory whatever the
 * layer. Whiteouts are recorded in the tree, not applied. */
int layer_unpack(const struct oci_reader *r, int layer_dirfd, struct error **err);
/* rootfs_merge: applies n layer trees in order (bottom first) and writes out_dirfd/meta.erofs: an
 * EROFS image (4 KiB blocks, LZ4 where a layer has compressed files) whose file data blocks follow the metadata in the
 * order of the layers' data files. fsck.erofs is clean on the concatenation. */
int rootfs_merge(const int *layer_dirfds, size_t n, int out_dirfd, struct error **err);

/* ---- the container's writable disk (oci/ext4.c) ---- */
/* ext4_create: a sparse ext4 of `size` bytes in dirfd/name with directories /upper and /work,
 * journal in ordered mode, written to a temporary name and renamed. Milliseconds, whatever the
 * size. */
int ext4_create(int dirfd, const char *name, uint64_t size, struct error **err);

/* ---- volumes (oci/ext4.c) ---- */
enum ext4_journal_mode { EXT4_ORDERED, EXT4_WRITEBACK, EXT4_DATA };
struct ext4_journal {
	enum ext4_journal_mode mode;
	uint64_t size; /* bytes; 0: by the volume's size, below 16 MiB none */
};
/* ext4_volume_check: whether there can be a volume of `size` bytes with that journal; else invalidArgument. */
int ext4_volume_check(uint64_t size, const struct ext4_journal *j, struct error **err);
/* ext4_create_volume: a sparse ext4 of `size` bytes in dirfd/name whose root directory, root's and 0755, is empty. As ext4_create, but it is
 * on the disk when its name is. Any thread. */
int ext4_create_volume(int dirfd, const char *name, uint64_t size, const struct ext4_journal *j,
		       struct error **err);

#endif
