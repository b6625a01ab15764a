// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, buffers, numbers, JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/json.h"
#include "core/str.h"

static int fail_inner(struct error **err)
{
	return error_sys(err, ENOENT, "open %s", "/x");
}

static void error_chain(void **state)
{
	struct error *e = NULL;
	char *text;

	assert_int_equal(fail_inner(&e), -1);
	assert_int_equal(error_wrap(&e, "manifest"), -1);
	assert_int_equal(error_wrap(&e, "pull %s", "alpine"), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	assert_int_equal(e->sys, ENOENT);
	text = error_text(e);
	assert_string_equal(text, "pull alpine: manifest: open /x: No such file or directory");
	free(text);
	error_free(e);
	assert_int_equal(fail_inner(NULL), -1);
	assert_int_equal(error_wrap(NULL, "x"), -1);
	assert_int_equal(error_code_parse("invalidState"), ERR_INVALID_STATE);
	assert_int_equal(error_code_parse("nonsense"), ERR_UNKNOWN);
	assert_string_equal(error_code_name(ERR_EXISTS), "exists");
	assert_string_equal(error_code_name((enum error_code)99), "unknown");
}

static void buffers(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_STRV struct strv v = {0};
	int i;

	for (i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	assert_int_equal(b.len, 3890);
	assert_int_equal(strlen(b.data), b.len);
	buf_consume(&b, 4);
	assert_true(str_prefix(b.data, "2,3,"));
	buf_consume(&b, 1 << 20);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	strv_add(&v, "a");
	strv_addf(&v, "b%d", 2);
	assert_int_equal(v.n, 2);
	assert_string_equal(v.v[1], "b2");
	assert_null(v.v[2]);
	assert_true(str_suffix("x.json", ".json"));
	assert_false(str_suffix("n", ".json"));
	assert_true(str_eq(NULL, NULL));
	assert_false(str_eq("a", NULL));
}

static void numbers(void **state)
{
	uint64_t u;
	int64_t i;

	assert_int_equal(parse_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(parse_u64("18446744073709551616", &u), -1);
	assert_int_equal(parse_u64("", &u), -1);
	assert_int_equal(parse_u64("+1", &u), -1);
	assert_int_equal(parse_u64(" 1", &u), -1);
	assert_int_equal(parse_u64("1x", &u), -1);
	assert_int_equal(parse_i64("-9223372036854775808", &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(parse_i64("9223372036854775808", &i), -1);
	assert_int_equal(parse_i64("-", &i), -1);
	assert_int_equal(parse_i64("--1", &i), -1);
}

static void sizes(void **state)
{
	static const struct {
		const char *s;
		uint64_t want;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"10b", 10},
		{"1k", 1024},
		{"200m", 200u << 20},
		{"1.5g", 3ull << 29},
		{"1.5GiB", 3ull << 29},
		{"2MB", 2u << 20},
		{"1T", 1ull << 40},
		{"0.5p", 1ull << 49},
		{"1.9999999999k", 2047},
		{"16383p", 16383ull << 50},
	};
	static const char *const bad[] = {"",
					  "g",
					  "1.g",
					  ".5g",
					  "-1",
					  "1 g",
					  "1gg",
					  "1bb",
					  "1gibb",
					  "1e3",
					  "0x10",
					  "16384p",
					  "99999999999999999999"};
	struct error *e = NULL;
	uint64_t v;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse_size(good[i].s, &v, &e), 0);
		assert_true(v == good[i].want);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(parse_size(bad[i], &v, &e), -1);
		assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
		error_free(e);
		e = NULL;
	}
}

static void names(void **state)
{
	char *a = random_uuid(), *b = random_uuid(), *t = time_iso8601(1767323045);
	static const char *const no_macs[] = {"",
					      "f2:00:00:00:00",
					      "f2:00:00:00:00:0",
					      "f2:00:00:00:00:01:",
					      "f2:00:00:00:00:0g",
					      "f2.00.00.00.00.01",
					      "f3:00:00:00:00:01",
					      "00:00:00:00:00:00",
					      " f2:00:00:00:0:01"};
	char hex[7], text[18];
	uint8_t mac[6];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(no_macs); i++)
		assert_int_equal(mac_parse(no_macs[i], mac), -1);
	assert_int_equal(mac_parse("F2-00-aB-00-00-ff", mac), 0);
	mac_text(mac, text);
	assert_string_equal(text, "f2:00:ab:00:00:ff");
	assert_int_equal(strlen(a), 36);
	assert_int_equal(a[14], '4');
	assert_non_null(strchr("89ab", a[19]));
	assert_string_not_equal(a, b);
	assert_string_equal(t, "2026-01-02T03:04:05Z");
	hex_encode("\x00\xff\x1a", 3, hex);
	assert_string_equal(hex, "00ff1a");
	free(a);
	free(b);
	free(t);
}

static struct json_object *parse(const char *s)
{
	return json_parse(s, strlen(s), NULL);
}

static void json_good(void **state)
{
	CLEANUP_JSON struct json_object *o = parse(
		" {\"a\": 1, \"s\": \"x\\u00e9\", \"n\": null, \"b\": true, \"l\": [1, 2]}\n");
	CLEANUP_JSON struct json_object *num = parse("17");
	struct json_object *l;
	struct error *e = NULL;
	const char *s;
	int64_t n;

	assert_non_null(o);
	assert_non_null(num);
	assert_int_equal(json_object_get_int64(num), 17);
	assert_int_equal(json_int(o, "a", 0), 1);
	assert_int_equal(json_int(o, "s", 5), 5);
	assert_string_equal(json_str(o, "s", ""), "x\xc3\xa9");
	assert_true(json_flag(o, "b", false));
	assert_null(json_get(o, "n"));
	assert_null(json_obj(o, "l"));
	assert_null(json_get(NULL, "a"));
	assert_int_equal(json_need_arr(o, "l", &l, &e), 0);
	assert_int_equal(json_need_int(o, "a", 0, 5, &n, &e), 0);
	assert_int_equal(json_need_int(o, "a", 2, 5, &n, &e), -1);
	assert_non_null(strstr(e->msg, "\"a\""));
	error_free(e);
	e = NULL;
	assert_int_equal(json_need_str(o, "zz", &s, &e), -1);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(e->msg, "\"zz\" is missing"));
	error_free(e);
}

static void json_nul(void **state)
{
	CLEANUP_JSON struct json_object *o = parse("{\"s\": \"a\\u0000b\"}");
	const char *s;

	assert_non_null(o);
	assert_null(json_str(o, "s", NULL));
	assert_int_equal(json_need_str(o, "s", &s, NULL), -1);
}

static void json_bad(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"{}x",
		"{} {}",
		"[1,]",
		"{'a': 1}",
		"// c\n{}",
		"{\"a\": NaN}",
		"Infinity",
		"[-Infinity]",
		"\"\xff\"",
		"]",
		"tru",
		"{\"a\" 1}",
		"\"abc",
		"null",
		"{\"a\": /* */ 1}",
	};
	CLEANUP_BUF struct buf deep = {0};
	struct error *e = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (json_parse(bad[i], strlen(bad[i]), &e))
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
		error_free(e);
		e = NULL;
	}
	assert_null(json_parse("{}\0", 3, NULL));
	for (i = 0; i < JSON_MAX_DEPTH; i++)
		buf_puts(&deep, "[");
	for (i = 0; i < JSON_MAX_DEPTH; i++)
		buf_puts(&deep, "]");
	json_object_put(json_parse(deep.data, deep.len, &e));
	assert_null(e);
	buf_free(&deep);
	for (i = 0; i < 1000000; i++)
		buf_puts(&deep, "[");
	assert_null(json_parse(deep.data, deep.len, NULL));
	buf_free(&deep);
	buf_puts(&deep, "[[]");
	for (i = 0; i < 1000000; i++)
		buf_puts(&deep, ",[]");
	buf_puts(&deep, "]");
	assert_null(json_parse(deep.data, deep.len, NULL));
}

/* K: a text may not cost many times its size: so many empty objects, so many values. */
static void json_costly(void **state)
{
	static const struct {
		const char *unit;
		size_t n;
		bool good;
	} cases[] = {
		{"{},", 65000, true}, {"{},", 66000, false}, {"[],", 66000, false},
		{"0,", 500000, true}, {"0,", 530000, false}, {"\"[{,\",", 500000, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_JSON struct json_object *o = NULL;
		CLEANUP_BUF struct buf b = {0};

		buf_puts(&b, "[");
		for (size_t k = 0; k < cases[i].n; k++)
			buf_puts(&b, cases[i].unit);
		b.data[b.len - 1] = ']';
		o = json_parse(b.data, b.len, NULL);
		assert_int_equal(o != NULL, cases[i].good);
	}
}

static void json_comments(void **state)
{
	static const char text[] = "// head\n{ /* one\n two */ \"u\": \"http://x/*y*/\" } // tail";
	CLEANUP_JSON struct json_object *o = json_parse_relaxed(text, strlen(text), NULL);

	assert_non_null(o);
	assert_string_equal(json_str(o, "u", ""), "http://x/*y*/");
	assert_null(json_parse_relaxed("{} /* open", 10, NULL));
}

static void json_sorting(void **state)
{
	CLEANUP_JSON struct json_object *o =
		parse("{\"b\": [{\"z\": 1, \"y\": null}], \"a\": 2.5}");
	CLEANUP_JSON struct json_object *s = json_sorted(o);

	assert_string_equal(json_object_to_json_string_ext(s, JSON_C_TO_STRING_PLAIN),
			    "{\"a\":2.5,\"b\":[{\"y\":null,\"z\":1}]}");
}

/* Text stands in what is sent as it is, and comes back as what it was made from; a number keeps its digits, however large. */
static void json_texts(void **state)
{
	static const char text[] = "{\"a\":[1e999,-0.10,\"/\\u0000\\n\"],\"b\":{\"c\":null}}";
	CLEANUP_JSON struct json_object *o = json_parse(text, sizeof(text) - 1, NULL);
	CLEANUP_JSON struct json_object *sent = json_object_new_object();
	CLEANUP_FREE char *own = json_text(o), *whole = NULL, *again = NULL;
	CLEANUP_JSON struct json_object *back = NULL;

	assert_string_equal(own, text);
	json_set(sent, "raw", json_raw(own));
	assert_null(json_obj(sent, "raw"));
	memset(own, '#', strlen(own));
	whole = json_text(sent);
	back = json_parse(whole, strlen(whole), NULL);
	assert_non_null(back);
	again = json_text(json_get(back, "raw"));
	assert_string_equal(again, text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_chain),  cmocka_unit_test(buffers),
		cmocka_unit_test(numbers),      cmocka_unit_test(sizes),
		cmocka_unit_test(names),        cmocka_unit_test(json_good),
		cmocka_unit_test(json_nul),     cmocka_unit_test(json_bad),
		cmocka_unit_test(json_costly),  cmocka_unit_test(json_comments),
		cmocka_unit_test(json_sorting), cmocka_unit_test(json_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
