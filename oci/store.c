/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - opening a store, and the names in it.
 *
 * images.json is the truth about names; content/index.json repeats it for other tools (layout.c), and is brought back in step
 * whenever the store is opened. Whatever is being written lives below content/ingest until it is whole, and one rename makes it
 * visible; what a crash leaves there is swept when the store is opened, which only one process can do
 * at a time (flock on content/lock).
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#include "core/log.h"
#include "core/path.h"
#include "core/state.h"
#include "oci/store.h"

#define LOCK_TRIES 40 /* times 50 ms: a predecessor may still be ending */

static int open_dir(int at, const char *name, int *fd, struct error **err)
{
	if (path_mkdirs_at(at, name, 0700, err) < 0)
		return -1;
	*fd = path_open_beneath(at, name, O_RDONLY | O_DIRECTORY, 0, err);
	return *fd < 0 ? -1 : 0;
}

static int take_lock(struct oci_store *s, struct error **err)
{
	struct timespec pause = {.tv_nsec = 50000000};
	int i;

	s->lock_file = path_open_beneath(s->content, "lock", O_RDWR | O_CREAT, 0600, err);
	if (s->lock_file < 0)
		return -1;
	for (i = 0; i < LOCK_TRIES; i++) {
		if (flock(s->lock_file, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_sys(err, errno, "lock");
		nanosleep(&pause, NULL);
	}
	return error_set(err, ERR_INVALID_STATE, "another process uses this image store");
}

/* Removes what below dirfd starts with prefix ("" for all). */
static void sweep(int dirfd, const char *prefix)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		base_close_fd(&fd);
		return;
	}
	while ((e = readdir(d))) {
		CLEANUP_ERROR struct error *why = NULL;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    !str_prefix(e->d_name, prefix))
			continue;
		if (path_remove_tree(dirfd, e->d_name, &why) < 0)
			log_err(why, "sweep image store");
	}
	closedir(d);
}

/* A name that does not parse as one, or leads to something that is no descriptor, is a damaged file. */
static int check_names(struct oci_store *s, struct error **err)
{
	struct json_object_iterator it = json_object_iter_begin(s->names);
	struct json_object_iterator end = json_object_iter_end(s->names);

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		struct oci_desc d;

		if (oci_desc_parse(json_object_iter_peek_value(&it), &d, err) < 0) {
			oci_desc_free(&d);
			return error_wrap(err, "images.json: %s", json_object_iter_peek_name(&it));
		}
		oci_desc_free(&d);
	}
	return 0;
}

static int read_names(struct oci_store *s, struct error **err)
{
	CLEANUP_ERROR struct error *why = NULL;

	s->names = state_read(s->root, "images.json", &why);
	if (!s->names && why->code == ERR_NOT_FOUND)
		s->names = json_object_new_object();
	if (!s->names)
		return error_move(err, STEAL(why));
	if (!json_object_is_type(s->names, json_type_object))
		return error_set(err, ERR_INTERNAL, "images.json is not an object");
	return check_names(s, err);
}

static int store_open(struct oci_store *s, const char *app_root, struct error **err)
{
	if (path_mkdirs(app_root, 0700, err) < 0)
		return -1;
	s->root = path_open_dir(app_root, err);
	if (s->root < 0 || open_dir(s->root, "content", &s->content, err) < 0 ||
	    open_dir(s->root, "content/blobs/sha256", &s->blobs, err) < 0 ||
	    open_dir(s->root, "content/ingest", &s->ingest, err) < 0 ||
	    open_dir(s->root, "layers", &s->layers, err) < 0 ||
	    open_dir(s->root, "rootfs", &s->rootfs, err) < 0)
		return -1;
	if (take_lock(s, err) < 0)
		return -1;
	sweep(s->ingest, "");
	sweep(s->root, ".images.json.");
	sweep(s->content, ".index.json.");
	if (read_names(s, err) < 0 || layout_begin(s, err) < 0)
		return -1;
	return layout_write(s, err);
}

struct oci_store *oci_store_open(const char *app_root, const char *default_domain,
				 struct error **err)
{
	struct oci_store *s = xcalloc(1, sizeof(*s));

	s->default_domain =
		xstrdup(default_domain && *default_domain ? default_domain : "docker.io");
	s->stall_s = 60;
	s->root = s->content = s->blobs = s->ingest = s->layers = s->rootfs = s->lock_file = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->pins = json_object_new_object();
	s->locked = json_object_new_object();
	if (store_open(s, app_root, err) == 0)
		return s;
	oci_store_free(s);
	error_wrap(err, "image store %s", app_root);
	return NULL;
}

static void close_dirs(struct oci_store *s)
{
	int *fds[] = {&s->root,   &s->content, &s->blobs,    &s->ingest,
		      &s->layers, &s->rootfs,  &s->lock_file};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++)
		base_close_fd(fds[i]);
}

void oci_store_free(struct oci_store *s)
{
	if (!s)
		return;
	close_dirs(s);
	json_object_put(s->names);
	json_object_put(s->pins);
	json_object_put(s->locked);
	json_object_put(s->views);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	buf_free(&s->ca_bundle);
	free(s->insecure);
	free(s->mirrors);
	free(s->internal);
	free(s->default_domain);
	free(s);
}

int store_names_write(struct oci_store *s, struct json_object *names, struct error **err)
{
	CLEANUP_ERROR struct error *why = NULL;
	struct json_object *now;

	if (state_write(s->root, "images.json", names, err) < 0) {
		/* The last step may have failed, with the new names in place: memory says what the disk says. */
		now = state_read(s->root, "images.json", NULL);
		if (now) {
			json_object_put(s->names);
			s->names = now;
		}
		return -1;
	}
	if (names != s->names) {
		json_object_put(s->names);
		s->names = json_object_get(names);
	}
	/* It follows with the next change or opening. */
	if (layout_write(s, &why) < 0)
		log_err(why, "image store");
	return 0;
}

int store_name_set(struct oci_store *s, const char *ref, const struct oci_desc *d,
		   struct error **err)
{
	struct json_object *names = NULL;
	int rc;

	pthread_mutex_lock(&s->lock);
	if (json_object_deep_copy(s->names, &names, NULL) < 0)
		abort(); /* out of memory */
	json_set(names, ref, oci_desc_to_json(d));
	rc = store_names_write(s, names, err);
	json_object_put(names);
	pthread_mutex_unlock(&s->lock);
	return rc < 0 ? error_wrap(err, "name %s", ref) : 0;
}

/* The hex digits of "sha256:<hex>" or "<hex>" when they could begin a digest, else NULL. */
static const char *id_prefix(const char *ref)
{
	const char *hex = str_prefix(ref, "sha256:") ? digest_hex(ref) : ref;
	size_t n = strspn(hex, "0123456789abcdef");

	return n >= STORE_MIN_ID && n <= OCI_HEX_LEN && !hex[n] ? hex : NULL;
}

static int find_by_id(struct json_object *names, const char *hex, struct strv *out,
		      struct error **err)
{
	struct json_object_iterator it = json_object_iter_begin(names);
	struct json_object_iterator end = json_object_iter_end(names);
	const char *first = NULL;

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const char *digest = json_str(json_object_iter_peek_value(&it), "digest", "");

		if (!str_prefix(digest, "sha256:") || !str_prefix(digest_hex(digest), hex))
			continue;
		if (first && strcmp(first, digest))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "image id %s is ambiguous: more than one begins with it",
					 hex);
		first = digest;
		strv_add(out, json_object_iter_peek_name(&it));
	}
	return 0;
}

int store_names_find(struct oci_store *s, struct json_object *names, const char *ref,
		     struct strv *out, struct error **err)
{
	const char *hex = id_prefix(ref);
	struct error *why = NULL;
	struct oci_ref r;

	if (oci_ref_parse(ref, s->default_domain, &r, &why) == 0) {
		CLEANUP_FREE char *name = oci_ref_string(&r);

		oci_ref_free(&r);
		if (json_get(names, name)) {
			strv_take(out, STEAL(name));
			return 0;
		}
	}
	if (!hex && why)
		return error_move(err, why);
	error_free(why);
	return hex ? find_by_id(names, hex, out, err) : 0;
}

int store_name_get(struct oci_store *s, const char *ref, char **canonical, struct oci_desc *out,
		   struct error **err)
{
	CLEANUP_STRV struct strv found = {0};
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = store_names_find(s, s->names, ref, &found, err);
	if (rc == 0 && found.n)
		rc = oci_desc_parse(json_obj(s->names, found.v[0]), out, err);
	else if (rc == 0)
		rc = error_set(err, ERR_NOT_FOUND, "image not found: %s", ref);
	pthread_mutex_unlock(&s->lock);
	if (rc == 0 && canonical)
		*canonical = xstrdup(found.v[0]);
	return rc;
}

int oci_tag(struct oci_store *s, const char *source, const char *target, struct error **err)
{
	CLEANUP_STRV struct strv found = {0};
	CLEANUP_FREE char *name = NULL;
	struct json_object *names = NULL;
	struct oci_ref r;
	int rc;

	if (oci_ref_parse(target, s->default_domain, &r, err) < 0)
		return -1;
	name = oci_ref_string(&r);
	rc = r.digest ? error_set(err, ERR_INVALID_ARGUMENT, "a new name cannot have a digest: %s",
				  target)
		      : 0;
	oci_ref_free(&r);
	if (rc < 0)
		return -1;
	/* Under one lock, so that a collection in between cannot take what the new name leads to. */
	pthread_mutex_lock(&s->lock);
	rc = store_names_find(s, s->names, source, &found, err);
	if (rc == 0 && !found.n)
		rc = error_set(err, ERR_NOT_FOUND, "image not found: %s", source);
	if (rc == 0) {
		if (json_object_deep_copy(s->names, &names, NULL) < 0)
			abort(); /* out of memory */
		json_set(names, name, json_object_get(json_get(names, found.v[0])));
		rc = store_names_write(s, names, err);
		json_object_put(names);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}
