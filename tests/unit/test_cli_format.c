// links: cmd core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_format.c - tables, JSON, YAML and TOML texts. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>

#include "cmd/cli.h"
#include "cmd/table.h"

static const char sample[] =
	"[{\"id\":\"web\",\"b\":{\"path\":\"/a\",\"n\":2,\"none\":null,\"empty\":[],\"obj\":{}},"
	"\"args\":[\"-c\",\"true\",\"a: b\",\"1\",\"x\\\"y\"],\"on\":true,"
	"\"nets\":[{\"ip\":\"10.0.0.2/24\"},{\"ip\":\"::1\"}]}]";

static void check(void (*fn)(struct buf *, struct json_object *), const char *json,
		  const char *want)
{
	CLEANUP_JSON struct json_object *o = json_parse(json, strlen(json), NULL);
	CLEANUP_BUF struct buf b = {0};

	assert_non_null(o);
	fn(&b, o);
	assert_string_equal(b.data, want);
}

static void compact(struct buf *b, struct json_object *o)
{
	format_json(b, o, false);
}

static void pretty(struct buf *b, struct json_object *o)
{
	format_json(b, o, true);
}

static void test_json(void **state)
{
	check(compact, sample,
	      "[{\"args\":[\"-c\",\"true\",\"a: "
	      "b\",\"1\",\"x\\\"y\"],\"b\":{\"empty\":[],\"n\":2,\"obj\":{},"
	      "\"path\":\"\\/a\"},\"id\":\"web\",\"nets\":[{\"ip\":\"10.0.0.2\\/"
	      "24\"},{\"ip\":\"::1\"}],"
	      "\"on\":true}]\n");
	check(pretty, "{\"b\":[1,2],\"a\":\"x\"}",
	      "{\n  \"a\" : \"x\",\n  \"b\" : [\n    1,\n    2\n  ]\n}\n");
	check(compact, "[]", "[]\n");
	check(compact, "{\"a\":\"\\u0001\\n\\u007f\xc3\xa9\"}",
	      "{\"a\":\"\\u0001\\n\\u007f\xc3\xa9\"}\n");
	check(compact, "{\"n\":18446744073709551615}", "{\"n\":18446744073709551615}\n");
}

static void test_yaml(void **state)
{
	check(format_yaml, sample,
	      "- args:\n  - \"-c\"\n  - \"true\"\n  - \"a: b\"\n  - \"1\"\n  - \"x\\\"y\"\n"
	      "  b:\n    empty: []\n    \"n\": 2\n    obj: {}\n    path: /a\n"
	      "  id: web\n  nets:\n  - ip: \"10.0.0.2/24\"\n  - ip: \"::1\"\n  \"on\": true\n");
	check(format_yaml, "[]", "[]\n");
	check(format_yaml, "[[1,[2]],{}]", "- - 1\n  - - 2\n- {}\n");
	check(format_yaml, "{\"a\":\"\"}", "a: \"\"\n");
}

static void test_toml(void **state)
{
	check(format_toml, sample,
	      "[[items]]\nargs = [ \"-c\", \"true\", \"a: b\", \"1\", \"x\\\"y\" ]\nid = "
	      "\"web\"\non = true\n"
	      "\n[items.b]\nempty = []\nn = 2\npath = \"/a\"\n\n[items.b.obj]\n"
	      "\n[[items.nets]]\nip = \"10.0.0.2/24\"\n\n[[items.nets]]\nip = \"::1\"\n");
	check(format_toml, "[]", "items = []\n");
	check(format_toml, "[\"a\"]", "items = [ \"a\" ]\n");
	check(format_toml, "{\"a b\":{\"c.d\":1}}", "[\"a b\"]\n\"c.d\" = 1\n");
	check(format_toml, "{\"m\":[1,{\"k\":\"v\"}]}", "m = [ 1, { k = \"v\" } ]\n");
}

static void test_table(void **state)
{
	static const char *const titles[] = {"ID", "STATE", NULL};
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0}, empty = {0};

	table_init(&t, titles);
	table_render(&t, &empty);
	assert_string_equal(empty.data, "ID  STATE\n");
	table_cell(&t, "w\xc3\xa9"
		       "b");
	table_cellf(&t, "%d", 7);
	table_cell(&t, "evil\033[2J\xc2\x9b");
	table_render(&t, &b);
	assert_string_equal(b.data, "ID          STATE\nw\xc3\xa9"
				    "b         7\nevil?[2J??  \n");
}

static void test_printable(void **state)
{
	CLEANUP_FREE char *a = text_printable("a\n\tb\r", true), *b = text_printable("a\nb", false);
	CLEANUP_FREE char *c = text_printable(NULL, false);

	assert_string_equal(a, "a\n\tb?");
	assert_string_equal(b, "a?b");
	assert_string_equal(c, "");
}

static void test_errors(void **state)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_FREE char *one = NULL, *two = NULL;

	error_set(&e, ERR_NOT_FOUND, "no such container: %s", "x\033");
	one = cli_error_text(e);
	assert_string_equal(one, "notFound: \"no such container: x?\"");
	error_wrap(&e, "stop");
	two = cli_error_text(e);
	assert_string_equal(two,
			    "notFound: \"stop\" (cause: \"notFound: \"no such container: x?\"\")");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),      cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_toml),      cmocka_unit_test(test_table),
		cmocka_unit_test(test_printable), cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
