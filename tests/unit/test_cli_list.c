// links: cmd vmm oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_list.c - filters, ports and templates of lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cmd/cli_events.h"
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

/* What a brief list has of it. */
static struct json_object *brief_entry(void)
{
	CLEANUP_JSON struct json_object *o = entry();
	struct json_object *image = json_obj(json_obj(o, "configuration"), "image"), *config;
	struct json_object *out = json_object_new_object();

	config = json_object_new_object();
	json_object_object_del(image, "descriptor");
	json_set(config, "image", json_object_get(image));
	json_set(out, "id", json_object_get(json_get(o, "id")));
	json_set(out, "status", json_object_get(json_get(o, "status")));
	json_set(out, "configuration", config);
	return out;
}

/* A filter that is said not to need the configuration gives the same without it; those that find something by it are said to. */
static void brief_filters(void **state)
{
	static const char *const texts[] = {
		"id=we",         "id=x",        "name=eb",       "name=x",
		"status=exited", "status=up",   "exited=3",      "exited=4",
		"health=none",   "health=well", "before=x",      "since=x",
		"label=team",    "label=x",     "ancestor=demo", "ancestor=0123456789ab",
		"network=inner", "network=x",   "volume=/data",  "volume=x",
	};
	CLEANUP_JSON struct json_object *full = entry(), *brief = brief_entry();
	struct json_object *config = json_obj(full, "configuration");
	unsigned missed = 0;

	json_set(config, "networks", json_parse("[{\"network\": \"inner\"}]", 22, NULL));
	json_set(config, "mounts", json_parse("[{\"source\": \"/data\"}]", 21, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		bool same =
			list_matches(full, LIST(texts[i])) == list_matches(brief, LIST(texts[i]));

		assert_int_equal(list_filters_check(LIST(texts[i]), NULL), 0);
		assert_true(same || list_filters_config(LIST("id=x", texts[i])));
		missed += !same;
	}
	assert_int_equal(missed, 4);
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
	assert_int_equal(list_filters_check(LIST("exited=3", "health=none", "network=a", "volume=b",
						 "before=c", "since=d"),
					    NULL),
			 0);
	assert_true(list_filters_status(LIST("exited=3")));
	assert_true(list_matches(o, LIST("exited=3", "health=none")));
	assert_false(list_matches(o, LIST("exited=4")));
	assert_false(list_matches(o, LIST("exited=x")));
	assert_false(list_matches(o, LIST("health=healthy")));
	assert_false(list_matches(o, LIST("network=default")));
	assert_false(list_matches(o, LIST("volume=/x")));
}

static struct json_object *named(const char *const *ids)
{
	struct json_object *list = json_object_new_array();

	for (; *ids; ids++) {
		struct json_object *o = json_object_new_object();

		json_set_str(o, "id", *ids);
		json_object_array_add(list, o);
	}
	return list;
}

/* before= and since= by the place in the list. */
static void cuts(void **state)
{
	const struct {
		const char *const *filters;
		const char *left; /* NULL: nobody of that name */
	} cases[] = {
		{LIST("id=x"), "aa ab b c"}, {LIST("before=b"), "aa ab"},
		{LIST("since=ab"), "b c"},   {LIST("since=aa", "before=c"), "ab b"},
		{LIST("before=aa"), ""},     {LIST("since=c"), ""},
		{LIST("before=a"), NULL},    {LIST("since=z"), NULL},
		{LIST("since="), NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_JSON struct json_object *list = named(LIST("aa", "ab", "b", "c"));
		CLEANUP_BUF struct buf b = {0};

		assert_int_equal(list_cut(list, cases[i].filters, NULL), cases[i].left ? 0 : -1);
		buf_puts(&b, "");
		for (size_t k = 0; k < json_object_array_length(list); k++)
			buf_printf(&b, "%s%s", k ? " " : "",
				   json_str(json_object_array_get_idx(list, k), "id", ""));
		if (cases[i].left)
			assert_string_equal(b.data, cases[i].left);
	}
}

static void assert_status(const char *status, const char *want)
{
	CLEANUP_FREE char *json = xasprintf("{\"status\": %s}", status);
	CLEANUP_JSON struct json_object *o = json_parse(json, strlen(json), NULL);
	CLEANUP_FREE char *got = NULL;

	assert_non_null(o);
	got = list_field(o, "Status");
	assert_string_equal(got, want);
}

static void status_words(void **state)
{
	assert_status("{\"state\": \"stopped\"}", "Created");
	assert_status("{\"state\": \"running\", \"startedDate\": \"2100-01-01T00:00:00Z\"}",
		      "Up Less than a second");
	assert_status("{\"state\": \"paused\", \"startedDate\": \"2100-01-01T00:00:00Z\"}",
		      "Up Less than a second (Paused)");
	assert_status("{\"state\": \"running\", \"startedDate\": \"2100-01-01T00:00:00Z\", "
		      "\"health\": {\"status\": \"starting\"}}",
		      "Up Less than a second (health: starting)");
	assert_status("{\"state\": \"running\", \"startedDate\": \"2100-01-01T00:00:00Z\", "
		      "\"health\": {\"status\": \"healthy\"}}",
		      "Up Less than a second (healthy)");
	assert_status("{\"state\": \"stopped\", \"exitCode\": 3, \"exitedAt\": "
		      "\"2100-01-01T00:00:00Z\"}",
		      "Exited (3) Less than a second ago");
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

/* ---- events ---- */

static const char event_text[] =
	"{\"type\": \"container\", \"action\": \"health_status: healthy\", \"actor\": {\"id\": "
	"\"web-1\", "
	"\"attributes\": {\"image\": \"docker.io/library/demo:latest\", \"name\": \"web-1\", "
	"\"team\": "
	"\"a\"}}, \"time\": \"2026-01-02T15:04:05.000000006Z\", \"timeNano\": 1767366245000000006}";

static void event_filters(void **state)
{
	CLEANUP_JSON struct json_object *o = json_parse(event_text, sizeof(event_text) - 1, NULL);

	assert_non_null(o);
	assert_int_equal(events_filters_check(LIST("type=image", "event=start"), NULL), 0);
	assert_int_equal(events_filters_check(LIST("color=blue"), NULL), -1);
	assert_true(events_match(o, LIST(NULL)));
	assert_true(events_match(o, LIST("type=container", "type=image")));
	assert_false(events_match(o, LIST("type=image")));
	assert_true(events_match(o, LIST("event=health_status")));
	assert_true(events_match(o, LIST("event=health_status: healthy")));
	assert_false(events_match(o, LIST("event=health")));
	assert_true(events_match(o, LIST("container=web")));
	assert_false(events_match(o, LIST("container=")));
	assert_false(events_match(o, LIST("container=db")));
	assert_true(events_match(o, LIST("image=demo", "container=web-1")));
	assert_false(events_match(o, LIST("image=demo:2")));
	assert_true(events_match(o, LIST("label=team", "label=team=a")));
	assert_false(events_match(o, LIST("label=team", "label=tier")));
	assert_false(events_match(o, LIST("network=default")));
	assert_false(events_match(o, LIST("volume=web-1")));
	json_set_str(o, "type", "volume");
	assert_true(events_match(o, LIST("volume=web-1", "volume=x")));
	assert_false(events_match(o, LIST("volume=web")));
}

static void event_forms(void **state)
{
	CLEANUP_JSON struct json_object *o = json_parse(event_text, sizeof(event_text) - 1, NULL);
	CLEANUP_BUF struct buf b = {0}, t = {0};

	events_text(o, &b);
	assert_string_equal(b.data,
			    "2026-01-02T15:04:05.000000006Z container health_status: healthy web-1 "
			    "(image=docker.io/library/demo:latest, name=web-1, team=a)");
	assert_int_equal(
		template_render("{{.Type}} {{.Actor.ID}} {{.Time}} {{.Actor.Attributes.team}}", o,
				false, events_field, &t, NULL),
		0);
	assert_string_equal(t.data, "container web-1 1767366245 a\n");
	assert_int_equal(template_render("{{.Nothing}}", o, false, events_field, &t, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters),       cmocka_unit_test(brief_filters),
		cmocka_unit_test(cuts),          cmocka_unit_test(status_words),
		cmocka_unit_test(ports),         cmocka_unit_test(templates),
		cmocka_unit_test(event_filters), cmocka_unit_test(event_forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
