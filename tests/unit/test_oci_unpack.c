// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_unpack.c - the layers of one image are unpacked side by side.
 *
 * Whoever unpacks tells how far it is, on the thread that does it. That call does not return here before the other layer has been
 * heard of: were one unpacked after the other, nobody would come.
 */
#include <sys/stat.h>

#include "tests/unit/oci_mock.h"

#define PATIENCE_S 20

/* ---- where they meet ---- */
struct meeting {
	pthread_mutex_t lock;
	pthread_cond_t came;
	struct json_object *layers; /* set of those that are being unpacked */
	size_t expected;
	bool alone; /* one waited in vain */
};

static void meet(void *arg, struct json_object *ev)
{
	struct meeting *m = arg;
	struct timespec until;

	if (!str_eq(json_str(ev, "phase", ""), "unpack"))
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&m->lock);
	json_set_bool(m->layers, json_str(ev, "item", ""), true);
	pthread_cond_broadcast(&m->came);
	while ((size_t)json_object_object_length(m->layers) < m->expected && !m->alone)
		m->alone = pthread_cond_timedwait(&m->came, &m->lock, &until) == ETIMEDOUT;
	pthread_mutex_unlock(&m->lock);
}

/* ---- an image of several layers ---- */
struct image {
	struct buf layers, ids; /* JSON */
	char manifest[OCI_DIGEST_LEN + 1];
	size_t size;
};

static void add_layer(struct fx *f, struct image *im, const char *name)
{
	CLEANUP_BUF struct buf tar = {0}, gz = {0};
	char diff_id[OCI_DIGEST_LEN + 1], noise[100000];
	const char *blob;

	random_bytes(noise, sizeof(noise));
	fx_add(&tar, name, noise, sizeof(noise));
	tm_end(&tar);
	digest_of(tar.data, tar.len, diff_id);
	fx_gzip(&tar, &gz);
	blob = fx_put(f, gz.data, gz.len);
	buf_printf(&im->layers, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}",
		   im->layers.len ? "," : "", FX_LAYER_GZIP, blob, gz.len);
	buf_printf(&im->ids, "%s\"%s\"", im->ids.len ? "," : "", diff_id);
}

static void make_image(struct fx *f, struct image *im, size_t layers)
{
	CLEANUP_BUF struct buf json = {0};
	const char *config;
	size_t i;

	for (i = 0; i < layers; i++)
		add_layer(f, im, (char[]){(char)('a' + i), 0});
	buf_printf(&json,
		   "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{"
		   "\"type\":\"layers\",\"diff_ids\":[%s]}}",
		   im->ids.data);
	config = fx_put(f, json.data, json.len);
	buf_consume(&json, json.len);
	buf_printf(&json,
		   "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST
		   "\",\"config\":{\"mediaType\":\"" MEDIA_OCI_CONFIG
		   "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[%s]}",
		   config, fx_size(f, config), im->layers.data);
	strcpy(im->manifest, fx_put(f, json.data, json.len));
	im->size = json.len;
	buf_free(&im->layers);
	buf_free(&im->ids);
}

static void begin(struct meeting *m, size_t expected)
{
	*m = (struct meeting){.lock = PTHREAD_MUTEX_INITIALIZER,
			      .came = PTHREAD_COND_INITIALIZER,
			      .layers = json_object_new_object(),
			      .expected = expected};
}

static void end(struct fx *f, struct meeting *m)
{
	if (m->alone)
		fail_msg("%zu layers, and one was unpacked without the others beside it",
			 m->expected);
	assert_int_equal(json_object_object_length(m->layers), m->expected);
	assert_int_equal(fx_count(f->store->layers), m->expected);
	json_object_put(m->layers);
}

static void test_load(void **state)
{
	struct fx *f = *state;
	struct image im = {0};
	struct meeting m;
	struct oci_progress p = {.fn = meet, .arg = &m};
	CLEANUP_JSON struct json_object *images = NULL;
	CLEANUP_BUF struct buf entries = {0}, tar = {0};
	CLEANUP_CLOSE int fd = -1;

	make_image(f, &im, 2);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.size, NULL, "x:1");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	fd = fx_memfd(&tar);
	begin(&m, 2);
	assert_int_equal(oci_load(f->store, fd, false, &p, &images, NULL), 0);
	end(f, &m);
}

/* As many as are fetched at a time; the default is three. */
static void test_pull(void **state)
{
	struct fx *f = *state;
	struct image im = {0};
	struct meeting m;
	struct oci_progress p = {.fn = meet, .arg = &m};
	struct oci_pull_opts o = {.scheme = "http"};
	struct mock mock = {.manifest = im.manifest, .type = MEDIA_OCI_MANIFEST};
	CLEANUP_JSON struct json_object *image = NULL;
	CLEANUP_FREE char *ref = NULL;

	make_image(f, &im, 3);
	mock_start(&mock, f);
	ref = xasprintf("127.0.0.1:%d/r:t", mock.port);
	begin(&m, 3);
	assert_int_equal(oci_pull(f->store, ref, &o, &p, &image, NULL), 0);
	end(f, &m);
	mock_stop(&mock);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_load), T(test_pull)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
