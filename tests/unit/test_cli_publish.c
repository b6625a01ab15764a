// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_publish.c - --publish and --publish-all: good specs and what becomes of them, bad ones and what is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cmd/cli_config.h"

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

/* "address hostPort containerPort proto count, …" of what was parsed; "error: …" else. */
static char *parse(const char *const *v, const char *exposed)
{
	CLEANUP_JSON struct json_object *from =
		exposed ? json_parse(exposed, strlen(exposed), NULL) : NULL;
	CLEANUP_JSON struct json_object *out = NULL;
	CLEANUP_ERROR struct error *e = NULL;
	struct buf b = {0};

	buf_puts(&b, "");
	if (publish_parse(v, from, &out, &e)) {
		CLEANUP_FREE char *text = error_text(e);

		assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
		buf_printf(&b, "error: %s", text);
		return b.data;
	}
	for (size_t i = 0; i < json_object_array_length(out); i++) {
		struct json_object *o = json_object_array_get_idx(out, i);

		buf_printf(&b, "%s%s %lld %lld %s %lld", i ? ", " : "",
			   json_str(o, "hostAddress", ""), (long long)json_int(o, "hostPort", 0),
			   (long long)json_int(o, "containerPort", 0), json_str(o, "proto", ""),
			   (long long)json_int(o, "count", 0));
	}
	return b.data;
}

static void test_good(void **state)
{
	static const struct {
		const char *spec, *want;
	} cases[] = {
		{"8080:80", "0.0.0.0 8080 80 tcp 1"},
		{"8080:80/tcp", "0.0.0.0 8080 80 tcp 1"},
		{"53:5353/UDP", "0.0.0.0 53 5353 udp 1"},
		{"1:1", "0.0.0.0 1 1 tcp 1"},
		{"65535:65535", "0.0.0.0 65535 65535 tcp 1"},
		{"127.0.0.1:8080:80", "127.0.0.1 8080 80 tcp 1"},
		{"[::1]:8080:80", "::1 8080 80 tcp 1"},
		{"[::]:53:53/udp", ":: 53 53 udp 1"},
		{"8080-8090:9080-9090", "0.0.0.0 8080 9080 tcp 11"},
		{"127.0.0.1:8080-8080:80-80/Tcp", "127.0.0.1 8080 80 tcp 1"},
		{"[fe80::1]:1-2:3-4/udp", "fe80::1 1 3 udp 2"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_FREE char *got = parse(LIST(cases[i].spec), NULL);

		if (strcmp(got, cases[i].want))
			fail_msg("%s: %s", cases[i].spec, got);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *spec, *says;
	} cases[] = {
		{"", "expected"},
		{":", "expected"},
		{"80:", "expected"},
		{":80", "expected"},
		{"0:80", "expected"},
		{"80:0", "expected"},
		{"65536:80", "expected"},
		{"80:65536", "expected"},
		{"-1:80", "expected"},
		{"80:+80", "expected"},
		{" 80:80", "expected"},
		{"80:80/", "expected"},
		{"80:80/sctp", "expected"},
		{"80:80/tcp/udp", "expected"},
		{"/tcp", "expected"},
		{"90-80:90-80", "expected"},
		{"80-:80-", "expected"},
		{"80-90-100:80", "expected"},
		{"80-90:80", "differ in length"},
		{"80:80-90", "differ in length"},
		{"80-81:80-90", "differ in length"},
		{"localhost:80:80", "invalid host address 'localhost'"},
		{"1.2.3:80:80", "invalid host address '1.2.3'"},
		{"1.2.3.256:80:80", "invalid host address"},
		{"::1:80:80", "expected"},
		{"[::1:80:80", "expected"},
		{"[::1]80:80", "expected"},
		{"[127.0.0.1]:80:80", "expected"},
		{"[]:80:80", "expected"},
		{"[::zz]:80:80", "invalid host address '::zz'"},
		{"[::1%lo]:80:80", "invalid host address"},
		{"a:b:c:d", "expected"},
		{"1-4097:1-4097", "at most 4096"},
		{"nowhere::80", "invalid host address 'nowhere'"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_FREE char *got = parse(LIST(cases[i].spec), NULL);

		if (!str_prefix(got, "error: ") || !strstr(got, cases[i].says))
			fail_msg("'%s': %s", cases[i].spec, got);
	}
}

/* Apple's compares numbers alone, and takes no port 1: 127.0.0.1:1 and 127.0.0.2:1 are two ports here. */
static void test_several(void **state)
{
	static const struct {
		const char *a, *b, *says; /* NULL: they go together */
	} cases[] = {
		{"80:80", "80:81", "0.0.0.0:80/tcp is published more than once"},
		{"80:80", "80:80/udp", NULL},
		{"80:80", "81:80", NULL},
		{"127.0.0.1:1:1", "127.0.0.2:1:1", NULL},
		{"127.0.0.1:80:80", "127.0.0.1:80:81", "127.0.0.1:80/tcp is published"},
		{"127.0.0.1:80:80", "80:80", "0.0.0.0:80/tcp is published"},
		{"80-90:80-90", "127.0.0.1:90-91:1-2", "127.0.0.1:90/tcp is published"},
		{"80-90:80-90", "91:91", NULL},
		{"[::]:80:80", "80:80", NULL},
		{"[::]:80:80", "[::1]:80:80", "[::1]:80/tcp is published"},
		{"[0::1]:80:80", "[::1]:80:80", "[::1]:80/tcp is published"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_FREE char *got = parse(LIST(cases[i].a, cases[i].b), NULL);

		if (!cases[i].says == str_prefix(got, "error: ") ||
		    (cases[i].says && !strstr(got, cases[i].says)))
			fail_msg("%s and %s: %s", cases[i].a, cases[i].b, got);
	}
}

static void test_number(void **state)
{
	CLEANUP_STRV struct strv v = {0};
	char *got;

	for (int i = 0; i < 64; i++)
		strv_addf(&v, "%d:%d", 8000 + i, 9000 + i);
	got = parse((const char *const *)v.v, NULL);
	assert_true(str_suffix(got, "0.0.0.0 8063 9063 tcp 1"));
	free(got);
	strv_add(&v, "9999:9999");
	got = parse((const char *const *)v.v, NULL);
	assert_string_equal(
		got, "error: 65 published ports: at most 64 are possible, ranges count once");
	free(got);
}

/* The host port of the i-th entry, which stands for it as "*". */
static unsigned port_of(const char *text, const char *before)
{
	const char *at = strstr(text, before);

	return at ? (unsigned)strtoul(at + strlen(before), NULL, 10) : 0;
}

static void test_free_ports(void **state)
{
	CLEANUP_FREE char *one = parse(LIST("80"), NULL);
	CLEANUP_FREE char *range = parse(LIST("80-81/udp"), NULL);
	CLEANUP_FREE char *addr = parse(LIST("127.0.0.1::80"), NULL);
	CLEANUP_FREE char *too_many = parse(LIST("1-65"), NULL);
	CLEANUP_FREE char *exposed =
		parse(LIST("8080:80"),
		      "{\"80/tcp\": {}, \"53/udp\": {}, \"9/sctp\": {}, \"x\": 1}");
	unsigned a = port_of(range, "0.0.0.0 "), b = port_of(range, ", 0.0.0.0 ");

	assert_true(port_of(one, "0.0.0.0 ") >= 1024);
	assert_true(str_suffix(one, " 80 tcp 1"));
	assert_true(a && b && a != b);
	assert_true(str_suffix(range, " 81 udp 1"));
	assert_true(port_of(addr, "127.0.0.1 ") >= 1024);
	assert_non_null(strstr(too_many, "at most 64"));
	assert_true(str_prefix(exposed, "0.0.0.0 8080 80 tcp 1, 0.0.0.0 "));
	assert_true(str_suffix(exposed, " 53 udp 1"));
	assert_null(strstr(exposed, "udp 1,"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),       cmocka_unit_test(test_bad),
		cmocka_unit_test(test_several),    cmocka_unit_test(test_number),
		cmocka_unit_test(test_free_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
