/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credentials.c - what `registry login` keeps: names and passwords, encrypted.
 *
 * <app root>/credentials holds one JSON object sealed with AES-256-GCM; its key is in the user's kernel keyring, so what is on disk
 * is of no use to who copies it, and the logins last as long as the keyring: until the host restarts. Where the kernel
 * offers no keyring (or hides it from a container), the key is a file of mode 0600 beside it. A store whose key is gone
 * cannot be read; the next login replaces it.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "core/log.h"
#include "core/path.h"
#include "core/state.h"
#include "oci/registry.h"

#define KEY_BYTES   32
#define NONCE_BYTES 12
#define TAG_BYTES   16
#define ID_BYTES    8
#define MAX_SEALED  (1u << 20)
#define FILE_NAME   "credentials"
#define KEY_FILE    "credentials.key"

/* <linux/keyctl.h>; permissions: all for who possesses the key, view, read, write and search for its user. */
#define KEYRING_USER    (-4)
#define KEYCTL_SETPERM_ 5
#define KEYCTL_SEARCH_  10
#define KEYCTL_READ_    11
#define KEY_PERMISSIONS 0x3f0f0000u

static pthread_mutex_t file_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the key ---- */
static char *key_name(const char *id)
{
	return xasprintf("container:credentials:%s", id);
}

static int keyring_read(const char *id, unsigned char key[KEY_BYTES])
{
	CLEANUP_FREE char *name = key_name(id);
	long serial = syscall(SYS_keyctl, KEYCTL_SEARCH_, KEYRING_USER, "user", name, 0);

	if (serial < 0)
		return -1;
	return syscall(SYS_keyctl, KEYCTL_READ_, serial, key, KEY_BYTES) == KEY_BYTES ? 0 : -1;
}

/* 0 when the kernel has it and gives it back. */
static int keyring_write(const char *id, const unsigned char key[KEY_BYTES])
{
	CLEANUP_FREE char *name = key_name(id);
	unsigned char back[KEY_BYTES];
	long serial = syscall(SYS_add_key, "user", name, key, (size_t)KEY_BYTES, KEYRING_USER);
	int rc;

	if (serial < 0)
		return -1;
	syscall(SYS_keyctl, KEYCTL_SETPERM_, serial, KEY_PERMISSIONS);
	rc = keyring_read(id, back) == 0 && !memcmp(back, key, KEY_BYTES) ? 0 : -1;
	explicit_bzero(back, sizeof(back));
	return rc;
}

static int key_file_read(struct oci_store *s, unsigned char key[KEY_BYTES])
{
	CLEANUP_CLOSE int fd = path_open_beneath(s->root, KEY_FILE, O_RDONLY, 0, NULL);

	return fd < 0 ? -1 : fd_pread_full(fd, key, KEY_BYTES, 0, NULL);
}

static int key_get(struct oci_store *s, const char *id, unsigned char key[KEY_BYTES])
{
	return key_file_read(s, key) == 0 ? 0 : keyring_read(id, key);
}

/* The key for writing: that of the file there is, if it can be had, so that keys do not pile up in the keyring; else that
 * of the key file; else a new one. */
static int key_for_writing(struct oci_store *s, char id[2 * ID_BYTES + 1],
			   unsigned char key[KEY_BYTES], struct error **err)
{
	CLEANUP_CLOSE int fd = path_open_beneath(s->root, FILE_NAME, O_RDONLY, 0, NULL);
	unsigned char raw[ID_BYTES];

	if (fd >= 0 && fd_pread_full(fd, id, 2 * ID_BYTES, 0, NULL) == 0) {
		id[2 * ID_BYTES] = '\0';
		if (strspn(id, "0123456789abcdef") == 2 * ID_BYTES && key_get(s, id, key) == 0)
			return 0;
	}
	random_bytes(raw, sizeof(raw));
	hex_encode(raw, sizeof(raw), id);
	if (key_file_read(s, key) == 0)
		return 0;
	random_bytes(key, KEY_BYTES);
	if (keyring_write(id, key) == 0)
		return 0;
	log_warn("no kernel keyring: the key of the stored logins is in a file");
	return state_write_text(s->root, KEY_FILE, key, KEY_BYTES, 0600, err);
}

/* ---- sealing ---- */
/* out: nonce, ciphertext, tag. */
static int seal(const unsigned char key[KEY_BYTES], const char *text, struct buf *out,
		struct error **err)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char nonce[NONCE_BYTES], tag[TAG_BYTES];
	int len = (int)strlen(text), n = 0, m = 0, ok;

	random_bytes(nonce, sizeof(nonce));
	buf_append(out, nonce, sizeof(nonce));
	buf_reserve(out, (size_t)len + TAG_BYTES + 1);
	ok = c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
	     EVP_EncryptUpdate(c, (unsigned char *)out->data + out->len, &n,
			       (const unsigned char *)text, len) == 1 &&
	     EVP_EncryptFinal_ex(c, (unsigned char *)out->data + out->len + n, &m) == 1 &&
	     EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
	EVP_CIPHER_CTX_free(c);
	if (!ok)
		return error_set(err, ERR_INTERNAL, "encrypt");
	out->len += (size_t)n + (size_t)m;
	buf_append(out, tag, sizeof(tag));
	return 0;
}

/* text is NUL-terminated; the caller wipes it. */
static int unseal(const unsigned char key[KEY_BYTES], const unsigned char *p, size_t len,
		  struct buf *text, struct error **err)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char tag[TAG_BYTES];
	size_t body = len - NONCE_BYTES - TAG_BYTES;
	int n = 0, m = 0, ok;

	memcpy(tag, p + len - TAG_BYTES, TAG_BYTES);
	buf_reserve(text, body + TAG_BYTES + 1);
	ok = c && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, p) == 1 &&
	     EVP_DecryptUpdate(c, (unsigned char *)text->data, &n, p + NONCE_BYTES, (int)body) ==
		     1 &&
	     EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
	     EVP_DecryptFinal_ex(c, (unsigned char *)text->data + n, &m) == 1;
	EVP_CIPHER_CTX_free(c);
	if (!ok)
		return error_set(err, ERR_INVALID_STATE, "wrong key or damaged file");
	text->len = (size_t)n + (size_t)m;
	text->data[text->len] = '\0';
	return 0;
}

/* ---- the file ---- */
/* id (hex), a newline, then what seal() gave. */
static int read_file(struct oci_store *s, struct json_object **out, struct error **err)
{
	CLEANUP_BUF struct buf raw = {0}, text = {0};
	CLEANUP_ERROR struct error *why = NULL;
	unsigned char key[KEY_BYTES];
	char id[2 * ID_BYTES + 1];
	int rc;

	if (path_read_all(s->root, FILE_NAME, MAX_SEALED, &raw, &why) < 0) {
		if (why->code != ERR_NOT_FOUND)
			return error_move(err, STEAL(why));
		*out = json_object_new_object();
		return 0;
	}
	if (raw.len < 2 * ID_BYTES + 1 + NONCE_BYTES + TAG_BYTES || raw.data[2 * ID_BYTES] != '\n')
		return error_set(err, ERR_INVALID_STATE, "stored logins: damaged file");
	snprintf(id, sizeof(id), "%.*s", 2 * ID_BYTES, raw.data);
	if (key_get(s, id, key) < 0)
		return error_set(err, ERR_INVALID_STATE,
				 "stored logins cannot be read: their key is gone from the "
				 "kernel's keyring, as after a restart of the host; log in again");
	rc = unseal(key, (unsigned char *)raw.data + 2 * ID_BYTES + 1, raw.len - 2 * ID_BYTES - 1,
		    &text, err);
	explicit_bzero(key, sizeof(key));
	if (rc == 0)
		*out = json_parse(text.data, text.len, err);
	if (text.data)
		explicit_bzero(text.data, text.cap);
	if (rc < 0 || !*out)
		return error_wrap(err, "stored logins");
	return 0;
}

static int write_file(struct oci_store *s, struct json_object *all, struct error **err)
{
	unsigned char key[KEY_BYTES];
	CLEANUP_BUF struct buf out = {0};
	char id[2 * ID_BYTES + 1];
	int rc = key_for_writing(s, id, key, err);

	buf_printf(&out, "%s\n", id);
	if (rc == 0)
		rc = seal(key, json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN), &out,
			  err);
	explicit_bzero(key, sizeof(key));
	if (rc == 0)
		rc = state_write_text(s->root, FILE_NAME, out.data, out.len, 0600, err);
	return rc < 0 ? error_wrap(err, "store logins") : 0;
}

/* ---- calls ---- */
void credentials_get(struct oci_store *s, const char *domain, char **user, char **secret)
{
	CLEANUP_JSON struct json_object *all = NULL;
	CLEANUP_ERROR struct error *why = NULL;
	struct json_object *o;

	pthread_mutex_lock(&file_lock);
	if (read_file(s, &all, &why) < 0)
		log_err(why, "%s: going on without a login", domain);
	pthread_mutex_unlock(&file_lock);
	o = all ? json_obj(all, domain) : NULL;
	*user = o ? xstrdup(json_str(o, "username", "")) : NULL;
	*secret = o ? xstrdup(json_str(o, "secret", "")) : NULL;
}

char *oci_server_domain(const char *server, struct error **err)
{
	static const char *const hub[] = {"index.docker.io", "registry-1.docker.io"};
	const char *at = strstr(server, "://");
	CLEANUP_FREE char *host = NULL, *probe = NULL;
	struct oci_ref r = {0};
	bool ok;

	at = at ? at + 3 : server;
	host = xstrndup(at, strcspn(at, "/"));
	if (!strcmp(host, hub[0]) || !strcmp(host, hub[1]))
		return xstrdup("docker.io");
	probe = xasprintf("%s/x", host);
	ok = oci_ref_parse(probe, "none.invalid", &r, NULL) == 0 && !strcmp(r.domain, host);
	oci_ref_free(&r);
	if (ok)
		return STEAL(host);
	error_set(err, ERR_INVALID_ARGUMENT, "\"%.100s\" is not the host of a registry", server);
	return NULL;
}

static int try_login(struct oci_store *s, const char *domain, const char *scheme, const char *user,
		     const char *secret, const struct oci_progress *p, struct error **err)
{
	CLEANUP(registry_freep) struct registry *r = NULL;
	struct oci_ref ref = {.domain = (char *)domain};
	struct registry_conn *c;
	struct oci_op op;
	int rc = -1;

	op_begin(&op, s, p);
	r = registry_new(&op, &ref, scheme, err);
	if (r) {
		registry_login(r, user, secret);
		c = registry_conn_new(r);
		rc = registry_ping(c, err);
		registry_conn_free(c);
	}
	op_end(&op);
	return rc;
}

/* Puts one login into the file, or with user NULL takes it out. */
static int change(struct oci_store *s, const char *domain, const char *user, const char *secret,
		  struct error **err)
{
	CLEANUP_JSON struct json_object *all = NULL;
	CLEANUP_ERROR struct error *why = NULL;
	CLEANUP_FREE char *now = time_iso8601(time_now()), *since = NULL;
	struct json_object *o;

	if (read_file(s, &all, &why) < 0) {
		if (!user)
			return error_move(err, STEAL(why));
		log_err(why, "replaced");
		all = json_object_new_object();
	}
	since = xstrdup(json_str(json_obj(all, domain), "creationDate", now));
	if (!user) {
		if (!json_get(all, domain))
			return error_set(err, ERR_NOT_FOUND, "not logged in to %s", domain);
		json_object_object_del(all, domain);
		return write_file(s, all, err);
	}
	o = json_object_new_object();
	json_set_str(o, "username", user);
	json_set_str(o, "secret", secret);
	json_set_str(o, "creationDate", since);
	json_set_str(o, "modificationDate", now);
	json_set(all, domain, o);
	return write_file(s, all, err);
}

int oci_login(struct oci_store *s, const char *server, const char *scheme, const char *user,
	      const char *secret, bool keep, char **domain_out, const struct oci_progress *p,
	      struct error **err)
{
	CLEANUP_FREE char *domain = oci_server_domain(server, err);
	int rc = 0;

	if (!domain)
		return -1;
	if (!*user || strchr(user, ':') || strlen(user) > 1024 || strlen(secret) > 65536)
		return error_set(err, ERR_INVALID_ARGUMENT, "not a user name");
	if (try_login(s, domain, scheme, user, secret, p, err) < 0)
		return error_wrap(err, "log in to %s", domain);
	if (keep) {
		pthread_mutex_lock(&file_lock);
		rc = change(s, domain, user, secret, err);
		pthread_mutex_unlock(&file_lock);
	}
	if (rc == 0 && domain_out)
		*domain_out = STEAL(domain);
	return rc;
}

int oci_logout(struct oci_store *s, const char *server, struct error **err)
{
	CLEANUP_FREE char *domain = oci_server_domain(server, err);
	int rc;

	if (!domain)
		return -1;
	pthread_mutex_lock(&file_lock);
	rc = change(s, domain, NULL, NULL, err);
	pthread_mutex_unlock(&file_lock);
	return rc;
}

int oci_logins(struct oci_store *s, struct json_object **out, struct error **err)
{
	CLEANUP_JSON struct json_object *all = NULL;
	int rc;

	pthread_mutex_lock(&file_lock);
	rc = read_file(s, &all, err);
	pthread_mutex_unlock(&file_lock);
	if (rc < 0)
		return -1;
	*out = json_object_new_array();
	json_object_object_foreach(all, domain, from)
	{
		struct json_object *o = json_object_new_object();

		json_set_str(o, "id", domain);
		json_set_str(o, "name", domain);
		json_set_str(o, "username", json_str(from, "username", ""));
		json_set_str(o, "creationDate", json_str(from, "creationDate", ""));
		json_set_str(o, "modificationDate", json_str(from, "modificationDate", ""));
		json_set(o, "labels", json_object_new_object());
		json_object_array_add(*out, o);
	}
	return 0;
}
