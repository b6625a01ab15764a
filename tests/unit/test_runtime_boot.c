// links: cmd oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_runtime_boot.c - what the guest is told, from the configuration that inspect shows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cmd/runtime.h"

/* Sockets are the runtime's too: tests/e2e/21-socket.t, tests/unit/test_runtime_agent.c. */
int runtime_sockets_boot(struct runtime *rt, struct json_object *params, struct json_object *boot,
			 struct error **err)
{
	return 0;
}

/* The streams are the runtime's; here they are three known ports. */
void runtime_streams_ports(struct rt_process *proc, struct json_object *process)
{
	json_set_int(process, "stdin", 0);
	json_set_int(process, "stdout", 65536);
	json_set_int(process, "stderr", 65537);
}

static struct json_object *parse(const char *text)
{
	struct error *e = NULL;
	struct json_object *o = json_parse(text, strlen(text), &e);

	assert_non_null(o);
	return o;
}

static bool has(struct json_object *arr, const char *s)
{
	for (size_t i = 0; i < json_object_array_length(arr); i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(arr, i)), s))
			return true;
	return false;
}

static uint64_t mask;

static struct json_object *caps(const char *config)
{
	CLEANUP_JSON struct json_object *c = parse(config);
	struct error *e = NULL;
	struct json_object *o = runtime_capabilities(c, &mask, &e);

	assert_non_null(o);
	return o;
}

static void test_caps(void **state)
{
	CLEANUP_JSON struct json_object *dflt = caps("{}");
	CLEANUP_JSON struct json_object *none = caps("{\"capDrop\":[\"ALL\"]}");
	CLEANUP_JSON struct json_object *one =
		caps("{\"capDrop\":[\"all\"],\"capAdd\":[\"mknod\"]}");
	CLEANUP_JSON struct json_object *all =
		caps("{\"capAdd\":[\"ALL\"],\"capDrop\":[\"CAP_NET_ADMIN\"]}");
	CLEANUP_JSON struct json_object *bad = parse("{\"capAdd\":[\"CAP_NONSENSE\"]}");
	struct error *e = NULL;

	assert_int_equal(json_object_array_length(dflt), 14);
	assert_true(has(dflt, "CAP_CHOWN") && has(dflt, "CAP_NET_RAW") &&
		    !has(dflt, "CAP_SYS_ADMIN"));
	assert_int_equal(json_object_array_length(none), 0);
	assert_int_equal(json_object_array_length(one), 1);
	assert_true(has(one, "CAP_MKNOD"));
	assert_int_equal(json_object_array_length(all), 40);
	assert_false(has(all, "CAP_NET_ADMIN"));
	assert_null(runtime_capabilities(bad, &mask, &e));
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	error_free(e);
}

#define PROC                                                                                       \
	"\"initProcess\":{\"executable\":\"sh\",\"arguments\":[\"-c\",\"true\"],\"environment\":[" \
	"\"A=b\"],"                                                                                \
	"\"workingDirectory\":\"/"                                                                 \
	"tmp\",\"terminal\":false,\"user\":{\"raw\":{\"userString\":\"www-data\"}},"               \
	"\"rlimits\":[{\"limit\":\"RLIMIT_NOFILE\",\"soft\":10,\"hard\":20}]}"

static void test_boot(void **state)
{
	struct runtime rt = {.id = (char *)"web"};
	struct rt_process init = {.rt = &rt};
	struct error *e = NULL;
	CLEANUP_JSON struct json_object *params =
		parse("{\"boot\":{\"hostname\":\"web\"},\"rows\":50,\"cols\":132}");
	CLEANUP_JSON struct json_object *boot = NULL;
	struct json_object *p, *net, *host;

	rt.config =
		parse("{" PROC
		      ",\"resources\":{\"cpus\":2,\"memoryInBytes\":1073741824},\"readOnly\":true,"
		      "\"mounts\":[{\"type\":{\"tmpfs\":{}},\"destination\":\"/"
		      "scratch\",\"options\":[]}]}");
	rt.networks = parse("[{\"ipv4Address\":\"192.168.64.3/"
			    "24\",\"ipv4Gateway\":\"192.168.64.1\",\"mtu\":1500,"
			    "\"dns\":[\"192.0.2.1\"]}]");
	rt.caps = runtime_capabilities(rt.config, &rt.cap_mask, &e);
	boot = runtime_boot_json(&rt, params, &init, &e);
	assert_non_null(boot);
	p = json_obj(boot, "process");
	assert_int_equal(json_object_array_length(json_arr(p, "args")), 3);
	assert_string_equal(json_str(json_obj(p, "user"), "name", ""), "www-data");
	assert_int_equal(json_int(p, "rows", 0), 50);
	assert_int_equal(json_int(p, "stdout", 0), 65536);
	assert_true(json_flag(json_obj(boot, "root"), "readonly", false));
	net = json_object_array_get_idx(json_arr(boot, "network"), 0);
	assert_string_equal(json_str(net, "address", ""), "192.168.64.3/24");
	host = json_object_array_get_idx(json_arr(boot, "hosts"), 0);
	assert_string_equal(json_str(host, "address", ""), "192.168.64.3");
	assert_true(has(json_arr(json_obj(boot, "dns"), "nameservers"), "192.0.2.1"));
	assert_string_equal(json_str(json_object_array_get_idx(json_arr(boot, "mounts"), 0),
				     "destination", ""),
			    "/scratch");
	json_object_put(rt.config);
	json_object_put(rt.networks);
	json_object_put(rt.caps);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"initProcess\":{}}",
		"{\"initProcess\":{\"executable\":\"x\",\"user\":{\"id\":{\"uid\":-1,\"gid\":0}}}}",
		"{\"initProcess\":{\"executable\":\"x\",\"user\":{\"id\":{\"uid\":4294967296,"
		"\"gid\":0}}}}",
		"{\"initProcess\":{\"executable\":\"x\",\"user\":{\"raw\":{\"userString\":7}}}}",
		"{\"initProcess\":{\"executable\":\"x\",\"user\":{\"raw\":{\"userString\":"
		"\"a\\u0000b\"}}}}",
		"{" PROC ",\"mounts\":[{\"type\":{\"virtiofs\":{}},\"destination\":\"/x\"}]}",
		"{" PROC ",\"mounts\":[{\"type\":{\"tmpfs\":{}}}]}",
	};
	struct runtime rt = {.id = (char *)"web"};
	struct rt_process init = {.rt = &rt};
	CLEANUP_JSON struct json_object *params = json_object_new_object();

	rt.caps = json_object_new_array();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error *e = NULL;

		rt.config = parse(bad[i]);
		assert_null(runtime_boot_json(&rt, params, &init, &e));
		assert_non_null(e);
		error_free(e);
		json_object_put(rt.config);
	}
	json_object_put(rt.caps);
}

static void say(struct runtime *rt, const char *text)
{
	runtime_console(rt, text, strlen(text));
}

static void assert_words(const struct runtime *rt, const char *want)
{
	CLEANUP_FREE char *words = runtime_last_words(rt);

	if (want)
		assert_string_equal(words, want);
	else
		assert_null(words);
}

/* What a failed start says of the console: its last lines, printable and bounded. */
static void test_last_words(void **state)
{
	struct runtime rt = {.boot_fd = -1};
	char flood[5000];

	assert_words(&rt, NULL);
	say(&rt, "\r\n\n");
	assert_words(&rt, NULL);
	say(&rt, "one");
	assert_words(&rt, "one");
	say(&rt, "\r\n\ntwo \033[31mred\xff\n");
	assert_words(&rt, "one | two ?[31mred?");
	say(&rt, "three\nfour\nfive\nsix");
	assert_words(&rt, "three | four | five | six");
	memset(flood, 'x', sizeof(flood));
	runtime_console(&rt, flood, sizeof(flood));
	flood[160] = '\0';
	assert_words(&rt, flood);
	say(&rt, "\nKernel panic - not syncing: it\n");
	memcpy(flood + 160, " | Kernel panic - not syncing: it", 34);
	assert_words(&rt, flood);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_boot),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_last_words),
	};

	return cmocka_run_group_tests_name("runtime_boot", tests, NULL, NULL);
}
