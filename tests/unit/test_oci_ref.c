// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_ref.c - the grammars: references, digests, platforms, challenges, documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "oci/registry.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define A63   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void test_ref_valid(void **state)
{
	static const char *const t[][2] = {
		{"alpine", "docker.io/library/alpine:latest"},
		{"alpine:3.19", "docker.io/library/alpine:3.19"},
		{"user/repo", "docker.io/user/repo:latest"},
		{"docker.io/alpine", "docker.io/library/alpine:latest"},
		{"index.docker.io/a/b:c", "docker.io/a/b:c"},
		{"registry-1.docker.io/alpine", "docker.io/library/alpine:latest"},
		{"localhost/x", "localhost/x:latest"},
		{"localhost:5000/x:y", "localhost:5000/x:y"},
		{"ghcr.io/a/b/c:V1.0_x-y", "ghcr.io/a/b/c:V1.0_x-y"},
		{"[::1]:5000/x", "[::1]:5000/x:latest"},
		{"127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"},
		{"a__b/c-d--e.f_g", "docker.io/a__b/c-d--e.f_g:latest"},
		{"x@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64},
		{"x:tag@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64},
		{"a-b.example.com/x", "a-b.example.com/x:latest"},
		{"x:_", "docker.io/library/x:_"},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_FREE char *s = NULL;
		struct oci_ref r, again;

		if (oci_ref_parse(t[i][0], NULL, &r, &e) < 0)
			fail_msg("%s refused: %s", t[i][0], e->msg);
		s = oci_ref_string(&r);
		assert_string_equal(s, t[i][1]);
		/* A canonical name means itself. */
		assert_int_equal(oci_ref_parse(s, "other.example", &again, NULL), 0);
		assert_string_equal(again.repository, r.repository);
		assert_string_equal(again.domain, r.domain);
		oci_ref_free(&r);
		oci_ref_free(&again);
	}
}

static void test_ref_default_domain(void **state)
{
	struct oci_ref r;

	assert_int_equal(oci_ref_parse("alpine", "reg.example:5000", &r, NULL), 0);
	assert_string_equal(r.domain, "reg.example:5000");
	assert_string_equal(r.repository, "alpine");
	assert_string_equal(r.tag, "latest");
	oci_ref_free(&r);
}

static void test_ref_invalid(void **state)
{
	static const char *const t[] = {
		"",
		":x",
		"x:",
		"/x",
		"x/",
		"x//y",
		"X",
		"user/Repo",
		"x:a b",
		"x:.y",
		"x:-y",
		HEX64,
		"-x",
		"x-",
		"_x",
		"x..y",
		"x___y",
		"x._y",
		"../x",
		"x/../y",
		"x@sha256:abc",
		"x@sha512:" HEX64,
		"x@",
		"x@sha256:" HEX64 "0",
		"x@SHA256:" HEX64,
		"x\n",
		"x:\n",
		"ex ample.com/x",
		"host.:5000/x",
		"host:0/x",
		"host:70000/x",
		"host:/x",
		"-h.com/x",
		"h-.com/x",
		"[::1/x",
		"[g::1]/x",
		"[]:5000/x",
		"x?y",
		"x#y",
		"user@host.com/x",
		"http://host/x",
		"caf\xc3\xa9",
		"x@sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"x:" A63 A63 "aaa", /* 129 */
		A63 A63 A63 A63 "aaaaa",
		A63 A63 A63 A63 A63 A63 A63 "/x",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		CLEANUP_ERROR struct error *e = NULL;
		struct oci_ref r;

		if (oci_ref_parse(t[i], NULL, &r, &e) == 0)
			fail_msg("\"%s\" accepted", t[i]);
		assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
		assert_null(r.domain);
	}
}

/* Class K: the digest becomes a file name. */
static void test_digest(void **state)
{
	assert_true(oci_digest_check("sha256:" HEX64));
	assert_false(oci_digest_check(NULL));
	assert_false(oci_digest_check(""));
	assert_false(oci_digest_check(HEX64));
	assert_false(oci_digest_check("sha256:"));
	assert_false(oci_digest_check("sha256:../../../../etc/passwd"));
	assert_false(oci_digest_check("sha256:" HEX64 "/"));
	assert_false(oci_digest_check("sha256:" HEX64 "\n"));
	assert_false(oci_digest_check("sha512:" HEX64 HEX64));
	assert_false(oci_digest_check(
		"sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"));
	assert_false(oci_digest_check(
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"));
}

static void test_platform(void **state)
{
	static const char *const t[][2] = {
		{"linux/amd64", "linux/amd64"},    {"linux/x86_64", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64"}, {"linux/arm64/v8", "linux/arm64"},
		{"linux/aarch64", "linux/arm64"},  {"linux/arm/v7", "linux/arm"},
		{"linux/arm/v6", "linux/arm/v6"},  {"linux/amd64/v3", "linux/amd64/v3"},
	};
	static const char *const bad[] = {"",          "linux",        "linux/",
					  "/amd64",    "linux//v8",    "linux/a/b/c",
					  "linux/a b", "li\nux/amd64", ("linux/" A63)};
	struct oci_platform p;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		CLEANUP_FREE char *s = NULL;

		assert_int_equal(oci_platform_parse(t[i][0], &p, NULL), 0);
		s = platform_string(&p);
		assert_string_equal(s, t[i][1]);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(oci_platform_parse(bad[i], &p, NULL), -1);
}

static void test_scheme(void **state)
{
	static const char *const http[] = {"localhost",   "localhost:5000", "x.localhost",
					   "127.0.0.1:1", "127.9.9.9",      "10.1.2.3",
					   "192.168.0.1", "172.16.0.1",     "172.31.255.1:80",
					   "[::1]:5000"};
	static const char *const https[] = {"docker.io",     "172.32.0.1",
					    "11.0.0.1",      "localhost.example.com",
					    "[2001:db8::1]", "10.example.com",
					    "192.169.0.1"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(http); i++)
		assert_string_equal(registry_scheme(http[i], "auto"), "http");
	for (i = 0; i < ARRAY_SIZE(https); i++)
		assert_string_equal(registry_scheme(https[i], "auto"), "https");
	assert_string_equal(registry_scheme("localhost", "https"), "https");
	assert_string_equal(registry_scheme("docker.io", "http"), "http");
	assert_null(registry_scheme("docker.io", "ftp"));
}

static void test_challenge(void **state)
{
	static const struct {
		const char *header, *realm, *service, *scope;
	} t[] = {
		{"Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull\"",
		 "https://a/t", "s", "repository:x:pull"},
		{"bearer  realm = \"https://a/t\" , service = s", "https://a/t", "s", NULL},
		{"Basic realm=\"b\", Bearer realm=\"https://a/t\"", "https://a/t", NULL, NULL},
		{"Bearer realm=\"https://a/t\", Basic realm=\"b\"", "https://a/t", NULL, NULL},
		{"BEARER scope=\"a,b\",REALM=https://a/t", "https://a/t", NULL, "a,b"},
		{"Bearer realm=\"a\\\"b\"", "a\"b", NULL, NULL},
		{"Negotiate, Bearer realm=\"r\"", "r", NULL, NULL},
		{"Basic realm=\"b\"", NULL, NULL, NULL},
		{"Bearer", NULL, NULL, NULL},
		{"Bearer realm=\"unclosed", NULL, NULL, NULL},
		{"Bearer realm=\"\"", NULL, NULL, NULL},
		{"", NULL, NULL, NULL},
		{",,, ==,\"", NULL, NULL, NULL},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct auth_challenge c;
		int rc = auth_challenge_parse(t[i].header, &c);

		assert_int_equal(rc, t[i].realm ? 0 : -1);
		if (rc < 0)
			continue;
		assert_string_equal(c.realm, t[i].realm);
		assert_true(str_eq(c.service, t[i].service));
		assert_true(str_eq(c.scope, t[i].scope));
		auth_challenge_free(&c);
	}
}

#define DESC(type) "{\"mediaType\":\"" type "\",\"digest\":\"sha256:" HEX64 "\",\"size\":3}"
#define CONFIG     "\"config\":" DESC(MEDIA_OCI_CONFIG)

static void test_documents(void **state)
{
	static const struct {
		const char *text, *type;
		bool ok;
	} t[] = {
		{"{\"schemaVersion\":2,\"manifests\":[]}", NULL, true},
		{"{\"schemaVersion\":2,\"manifests\":[]}", "application/json", true},
		{"{\"schemaVersion\":2,\"manifests\":[]}", MEDIA_DOCKER_LIST, true},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[]}", MEDIA_OCI_MANIFEST, true},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[" DESC("x/y") "]}", NULL, true},
		/* Said to be one thing, being another. */
		{"{\"schemaVersion\":2,\"manifests\":[]}", MEDIA_OCI_MANIFEST, false},
		{"{\"schemaVersion\":2," CONFIG ",\"layers\":[]}", MEDIA_OCI_INDEX, false},
		{"{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\"," CONFIG
		 ",\"layers\":[]}",
		 NULL, false},
		{"{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\"," CONFIG
		 ",\"layers\":[]}",
		 MEDIA_DOCKER_MANIFEST, false},
		{"{\"schemaVersion\":2,\"manifests\":[]}", "application/vnd.other", false},
		/* Both at once. */
		{"{\"schemaVersion\":2,\"manifests\":[]," CONFIG ",\"layers\":[]}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[]," CONFIG "}", MEDIA_OCI_INDEX, false},
		/* Not one at all. */
		{"{\"schemaVersion\":2}", NULL, false},
		{"{\"schemaVersion\":1,\"fsLayers\":[]}", NULL, false},
		{"{\"schemaVersion\":1,\"manifests\":[]}", NULL, false},
		{"{\"manifests\":[]}", NULL, false},
		{"[]", NULL, false},
		{"null", NULL, false},
		{"", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":{}}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[1]}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[{}]}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[]} x", NULL, false},
		{"{\"schemaVersion\":2," CONFIG "}", NULL, false},
		{"{\"schemaVersion\":2,\"config\":" DESC("x/y") ",\"layers\":[]}", NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":\"sha256:../"
		 "x\",\"size\":1}]}",
		 NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":"
		 "\"sha256:" HEX64 "\",\"size\":-1}]}",
		 NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":"
		 "\"sha256:" HEX64 "\",\"size\":99999999999999999999}]}",
		 NULL, false},
		{"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":"
		 "\"sha256:" HEX64 "\",\"size\":\"1\"}]}",
		 NULL, false},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct error *e = NULL;
		struct oci_doc d;
		int rc = oci_doc_parse(t[i].text, strlen(t[i].text), t[i].type, &d, &e);

		if ((rc == 0) != t[i].ok)
			fail_msg("document %zu: %s", i, t[i].text);
		if (rc == 0)
			oci_doc_free(&d);
		error_free(e);
	}
}

static void test_too_many_layers(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	struct oci_doc d;
	int i;

	buf_puts(&b, "{\"schemaVersion\":2," CONFIG ",\"layers\":[" DESC("x/y"));
	for (i = 0; i < OCI_MAX_LAYERS; i++)
		buf_puts(&b, "," DESC("x/y"));
	buf_puts(&b, "]}");
	assert_int_equal(oci_doc_parse(b.data, b.len, NULL, &d, NULL), -1);
}

static void test_config(void **state)
{
	static const struct {
		const char *text;
		bool ok;
	} t[] = {
		{"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[]}}",
		 true},
		{"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":null}}",
		 true},
		{"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":["
		 "\"sha256:" HEX64 "\"]}}",
		 true},
		{"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[\"../"
		 "x\"]}}",
		 false},
		{"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[1]}}",
		 false},
		{"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":{}}}",
		 false},
		{"{\"os\":\"linux\",\"architecture\":\"amd64\"}", false},
		{"{\"rootfs\":{\"diff_ids\":[]}}", false},
		{"[]", false},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		struct oci_config c;
		int rc = oci_config_parse(t[i].text, strlen(t[i].text), &c, NULL);

		assert_int_equal(rc, t[i].ok ? 0 : -1);
		if (rc == 0)
			oci_config_free(&c);
	}
}

static void test_layer_types(void **state)
{
	struct error *e = NULL;

	assert_int_equal(media_layer_check(MEDIA_OCI_LAYER "+zstd", NULL), 0);
	assert_int_equal(
		media_layer_check("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &e),
		-1);
	assert_int_equal(e->code, ERR_UNSUPPORTED);
	error_free(e);
	assert_int_equal(
		media_layer_check("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
				  NULL),
		-1);
	assert_int_equal(media_layer_check(MEDIA_OCI_LAYER "+gzip+encrypted", NULL), -1);
	assert_int_equal(media_layer_check("", NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ref_valid),       cmocka_unit_test(test_ref_default_domain),
		cmocka_unit_test(test_ref_invalid),     cmocka_unit_test(test_digest),
		cmocka_unit_test(test_platform),        cmocka_unit_test(test_scheme),
		cmocka_unit_test(test_challenge),       cmocka_unit_test(test_documents),
		cmocka_unit_test(test_too_many_layers), cmocka_unit_test(test_config),
		cmocka_unit_test(test_layer_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
