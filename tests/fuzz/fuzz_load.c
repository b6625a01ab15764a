// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_load.c - archives given to `image load`. Hostile: the members' names, types and order, and their contents: the
 * input puts the pieces of a good OCI layout and a good docker archive together in its own way, with bytes changed. A
 * load that fails leaves no name, no blob and no temporary file; none leaves anything outside the store.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "core/log.h"
#include "core/str.h"
#include "oci/stream.h"
#include "tests/fuzz/fuzz.h"

#define PIECES  6
#define MEMBERS 12

enum { LAYER, CONFIG, MANIFEST, INDEX, DOCKER, LAYOUT };

static struct buf piece[PIECES];
static char digest[PIECES][OCI_DIGEST_LEN + 1];
static struct oci_store *store;
static char *root;

static void tar_member(struct buf *b, const char *name, char type, const char *link, const void *p,
		       size_t n)
{
	char h[512] = {0};
	unsigned sum = 8 * ' ', i;
	static const char zeros[512];

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", 0644);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011zo", n);
	snprintf(h + 136, 12, "%011o", 0);
	h[156] = type;
	snprintf(h + 157, 100, "%s", link);
	memcpy(h + 257,
	       "ustar\0"
	       "00",
	       8);
	for (i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? 0 : (uint8_t)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	buf_append(b, h, 512);
	if (n)
		buf_append(b, p, n);
	buf_append(b, zeros, -b->len & 511);
}

static void make_pieces(void)
{
	static const char zeros[1024];

	tar_member(&piece[LAYER], "etc/", '5', "", NULL, 0);
	tar_member(&piece[LAYER], "etc/motd", '0', "", "hi\n", 3);
	buf_append(&piece[LAYER], zeros, sizeof(zeros));
	digest_of(piece[LAYER].data, piece[LAYER].len, digest[LAYER]);
	buf_printf(&piece[CONFIG],
		   "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
		   "\"diff_ids\":[\"%s\"]}}",
		   digest[LAYER]);
	digest_of(piece[CONFIG].data, piece[CONFIG].len, digest[CONFIG]);
	buf_printf(&piece[MANIFEST],
		   "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/"
		   "vnd.oci.image.config.v1+json\","
		   "\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":\"application/"
		   "vnd.oci.image.layer.v1.tar\","
		   "\"digest\":\"%s\",\"size\":%zu}]}",
		   digest[CONFIG], piece[CONFIG].len, digest[LAYER], piece[LAYER].len);
	digest_of(piece[MANIFEST].data, piece[MANIFEST].len, digest[MANIFEST]);
	buf_printf(&piece[INDEX],
		   "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/"
		   "vnd.oci.image.manifest.v1+json\","
		   "\"digest\":\"%s\",\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref."
		   "name\":\"a:b\"}}]}",
		   digest[MANIFEST], piece[MANIFEST].len);
	digest_of(piece[INDEX].data, piece[INDEX].len, digest[INDEX]);
	buf_puts(&piece[DOCKER], "[{\"Config\":\"config.json\",\"RepoTags\":[\"a:b\"],\"Layers\":["
				 "\"l/layer.tar\"]}]");
	buf_puts(&piece[LAYOUT], "{\"imageLayoutVersion\":\"1.0.0\"}");
}

static unsigned count(const char *sub, char *first, size_t room)
{
	char *path = xasprintf("%s/%s", root, sub);
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !n++ && first)
			snprintf(first, room, "%s", e->d_name);
	if (d)
		closedir(d);
	free(path);
	return n;
}

static void add(struct buf *tar, struct fz *f)
{
	uint8_t what = fz_u8(f), how = fz_u8(f);
	struct buf body = {0};
	const struct buf *p = &piece[what % PIECES];
	char name[160];
	struct fz raw;

	buf_append(&body, p->data, p->len);
	if (how & 0x80) {
		body.data[fz_u16(f) % body.len] = (char)fz_u8(f);
	} else if (how & 0x40) {
		raw = fz_take(f, fz_u8(f));
		body.len = 0;
		buf_append(&body, raw.p, raw.n);
	}
	switch (how & 15) {
	case 0:
	case 1:
	case 2: { /* where it belongs */
		static const char *const places[PIECES] = {
			NULL, NULL, NULL, "index.json", "manifest.json", "oci-layout"};

		if (places[what % PIECES])
			snprintf(name, sizeof(name), "%s", places[what % PIECES]);
		else
			snprintf(name, sizeof(name), "blobs/sha256/%s",
				 digest_hex(digest[what % PIECES]));
		break;
	}
	case 3:
		snprintf(name, sizeof(name), "%s",
			 what % PIECES == LAYER ? "l/layer.tar" : "config.json");
		break;
	case 4:
		snprintf(name, sizeof(name), "../../evil-%u", what);
		break;
	case 5:
		snprintf(name, sizeof(name), "%s/evil", root);
		break;
	default: {
		static const char *const odd[] = {"index.json",  "manifest.json",
						  "l/layer.tar", "l2/layer.tar",
						  "config.json", "blobs/sha256/../../x",
						  "x.json",      "oci-layout",
						  "blobs",       "./index.json"};

		snprintf(name, sizeof(name), "%s", odd[fz_u8(f) % ARRAY_SIZE(odd)]);
	}
	}
	if (what & 0x80) {
		static const char *const links[] = {"../l/layer.tar", "l/layer.tar",
						    "/etc/passwd",    "../../../etc/passwd",
						    "config.json",    "l2/layer.tar"};

		tar_member(tar, name, what & 0x40 ? '2' : '1', links[fz_u8(f) % ARRAY_SIZE(links)],
			   NULL, 0);
	} else {
		tar_member(tar, name, '0', "", body.data, body.len);
	}
	buf_free(&body);
}

static void forget_all(struct json_object *images)
{
	struct json_object *all = NULL;
	size_t i;

	json_object_put(images);
	FUZZ_CHECK(!oci_list(store, &all, NULL));
	for (i = 0; i < json_object_array_length(all); i++) {
		const char *name =
			json_str(json_obj(json_object_array_get_idx(all, i), "configuration"),
				 "name", NULL);
		struct json_object *out = NULL;

		if (!name)
			name = json_str(json_object_array_get_idx(all, i), "reference", NULL);
		FUZZ_CHECK(name);
		FUZZ_CHECK(!oci_delete(store, &name, 1, true, NULL, &out, NULL));
		json_object_put(out);
	}
	json_object_put(all);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char *above = xasprintf("%s/a", fuzz_dir());

	log_init_stderr("fuzz", LOG_LVL_ERROR + 1);
	root = xasprintf("%s/b", above);
	make_pieces();
	FUZZ_CHECK(!mkdir(above, 0700) && !mkdir(root, 0700));
	store = oci_store_open(root, NULL, NULL);
	FUZZ_CHECK(store);
	free(above);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char zeros[1024];
	struct fz f = {data, size};
	struct json_object *images = NULL;
	struct buf tar = {0};
	uint8_t how = fz_u8(&f);
	char name[300] = "";
	int fd, rc;
	unsigned n;

	for (n = 0; f.n && n < MEMBERS; n++)
		add(&tar, &f);
	if (!(how & 2))
		buf_append(&tar, zeros, sizeof(zeros));
	fd = fuzz_memfd(tar.data, tar.len);
	rc = oci_load(store, fd, how & 1, NULL, &images, NULL);
	close(fd);
	buf_free(&tar);
	if (rc == 0)
		forget_all(images);
	FUZZ_CHECK(count("content/blobs/sha256", name, sizeof(name)) == 0);
	FUZZ_CHECK(count("layers", name, sizeof(name)) == 0 &&
		   count("rootfs", name, sizeof(name)) == 0);
	FUZZ_CHECK(count("content/ingest", name, sizeof(name)) == 0);
	FUZZ_CHECK(count("..", name, sizeof(name)) == 1 && count("../..", name, sizeof(name)) == 1);
	return 0;
}
