// links: cmd vmm oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_list.c - filters, ports and templates of lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cmd/cli_list.h"
#include "cmd/template.h"

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char text[] =
	"{\"id\": \"web\", \"configuration\": {\"image\": {\"reference\": "
	"\"docker.io/library/demo:latest\", \"descriptor\": {\"digest\": "
	"\"sha256:0123456789abcdef\"}}, \"labels\": {\"team\": \"a\", \"tier\": \"\"}, "
	"\"initProcess\": {\"executable\": \"sh\", \"arguments\": [\"-c\", \"x\\u001by\"]}, "
	"\"publishedPorts\": [{\"hostAddress\": \"127.0.0.1\", \"hostPort\": 8080, "
	"\"containerPort\": 80, \"proto\": \"tcp\", \"count\": 2}, {\"hostAddress\": \"::1\", "
	"\"hostPort\": 53, \"containerPort\": 53, \"proto\": \"udp\"}]}, "
	"\"status\": {\"state\": \"stopped\", \"exitCode\": 3, \"exitedAt\": \"T\"}}";

static struct json_object *entry(void)
{
	struct json_object *o = json_parse(text, sizeof(text) - 1, NULL);

	assert_non_null(o);
	return o;
}

static void filters(void **state)
{
	CLEANUP_JSON struct json_object *o = entry();

	assert_int_equal(list_filters_check(LIST("id=x", "label=a=b"), NULL), 0);
	assert_int_equal(list_filters_check(LIST("color=x"), NULL), -1);
	assert_int_equal(list_filters_check(LIST("id"), NULL), -1);
	assert_true(list_filters_status(LIST("id=x", "status=running")));
	assert_false(list_filters_status(LIST("id=status")));
	assert_true(list_matches(o, LIST(NULL)));
	assert_true(list_matches(o, LIST("id=we")));
	assert_false(list_matches(o, LIST("id=")));
	assert_false(list_matches(o, LIST("id=eb")));
	assert_true(list_matches(o, LIST("name=eb")));
	assert_true(list_matches(o, LIST("name=zz", "name=eb")));
	assert_false(list_matches(o, LIST("name=eb", "status=running")));
	assert_true(list_matches(o, LIST("name=eb", "status=running", "status=exited")));
	assert_true(list_matches(o, LIST("label=team", "label=tier=")));
	assert_false(list_matches(o, LIST("label=team", "label=team=b")));
	assert_false(list_matches(o, LIST("label=none")));
	assert_true(list_matches(o, LIST("ancestor=demo")));
	assert_true(list_matches(o, LIST("ancestor=library/demo:latest")));
	assert_true(list_matches(o, LIST("ancestor=0123456789ab")));
	assert_false(list_matches(o, LIST("ancestor=demo:1")));
	assert_false(list_matches(o, LIST("ancestor=")));
	assert_false(list_matches(o, LIST("ancestor=012")));
}

static void ports(void **state)
{
	CLEANUP_JSON struct json_object *o = entry();
	struct json_object *config = json_obj(o, "configuration");
	CLEANUP_BUF struct buf all = {0}, one = {0}, udp = {0}, none = {0};

	assert_int_equal(list_ports(config, NULL, true, &all), 3);
	assert_string_equal(all.data, "80/tcp -> 127.0.0.1:8080\n81/tcp -> 127.0.0.1:8081\n"
				      "53/udp -> [::1]:53\n");
	assert_int_equal(list_ports(config, "81", true, &one), 1);
	assert_string_equal(one.data, "127.0.0.1:8081\n");
	assert_int_equal(list_ports(config, "53/udp", true, &udp), 1);
	assert_int_equal(list_ports(config, "53", true, &none), 0);
	assert_int_equal(list_ports(NULL, NULL, true, &none), 0);
}

static void assert_line(struct json_object *o, const char *t, const char *want)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(template_render(t, o, false, list_field, &b, NULL), 0);
	assert_string_equal(b.data, want);
}

static void templates(void **state)
{
	static const char *const fields[] = {
		"ID",       "Names",  "Image",  "Command", "CreatedAt", "StartedAt",
		"State",    "Status", "Labels", "Ports",   "IP",        "Networks",
		"ExitCode", "OS",     "Arch",   "CPUs",    "Memory",
	};
	CLEANUP_JSON struct json_object *o = entry(), *empty = json_object_new_object();
	CLEANUP_BUF struct buf b = {0};

	assert_true(template_is("{{.ID}}"));
	assert_false(template_is("json"));
	assert_false(template_is(NULL));
	assert_line(o, "{{.ID}}\\t{{ .Image }}", "web\tdocker.io/library/demo:latest\n");
	assert_line(o, "table {{.Labels}}", "team=a,tier=\n");
	assert_line(o, "<{{.Status}}>", "<Exited (3) T>\n");
	assert_line(o, "{{.Command}}", "sh -c x?y\n"); /* no escape sequence gets through */
	assert_line(o, "{{.Ports}}",
		    "127.0.0.1:8080->80/tcp, 127.0.0.1:8081->81/tcp, "
		    "[::1]:53->53/udp\n");
	assert_int_equal(template_render("{{.Nope}}", o, false, list_field, &b, NULL), -1);
	assert_int_equal(template_render("{{.ID", o, false, list_field, &b, NULL), -1);
	assert_int_equal(template_render("{{ID}}", o, false, list_field, &b, NULL), -1);
	assert_int_equal(template_render("{{}}", o, false, list_field, &b, NULL), -1);
	assert_int_equal(template_render("{{.ID}}{{.Bad}}", NULL, true, list_field, &b, NULL), -1);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		CLEANUP_FREE char *full = list_field(o, fields[i]);
		CLEANUP_FREE char *bare = list_field(empty, fields[i]);

		assert_non_null(full);
		assert_non_null(bare);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters),
		cmocka_unit_test(ports),
		cmocka_unit_test(templates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
