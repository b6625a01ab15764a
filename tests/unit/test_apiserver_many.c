// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/* The apiserver with many containers that nobody starts, with much to remember, and with one who does not listen. */
#include "tests/unit/apiserver_fixture.h"

#define MANY 300
#define EACH_MAX \
	(8ll     \
	 << 10) /* bytes of memory for a stopped container; its configuration is 1.3 KiB of text */
#define RING     (512ll << 10) /* bytes of events that are kept */
#define LABEL    4000
#define SLOW_MAX (3ll << 20) /* what one who does not read may cost */
#define QUICK_MS 20000

/* Whether a process's memory is what it keeps: not with a sanitizer, which keeps what was freed. */
#define MEMORY_TELLS (!SANITIZED)

/* Like what `container create` makes; the format takes id, id and a label. */
static const char config[] =
	"{\"configuration\": {\"capAdd\": [], \"capDrop\": [], \"dns\": {\"nameservers\": [], "
	"\"options\": [], \"searchDomains\": []}, \"id\": \"%s\", \"image\": {\"descriptor\": "
	"{\"digest\": \"" DIGEST "\", \"mediaType\": "
	"\"application/vnd.oci.image.manifest.v1+json\", \"size\": 713}, \"manifest\": \"" DIGEST
	"\", \"reference\": \"docker.io/library/demo:latest\"}, \"initProcess\": {\"arguments\": "
	"[], \"environment\": "
	"[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\", "
	"\"DEMO=1\"], \"executable\": \"true\", \"rlimits\": [], \"supplementalGroups\": [], "
	"\"terminal\": false, \"user\": {\"id\": {\"gid\": 0, \"uid\": 0}}, \"workingDirectory\": "
	"\"/\"}, \"kernelArgs\": [], \"labels\": {\"number\": 1, \"team\": \"%s\"}, \"log\": "
	"{\"maxFiles\": 2, "
	"\"maxSizeInBytes\": 16777216}, \"mounts\": [], \"networks\": [{\"network\": \"default\", "
	"\"options\": {\"hostname\": \"%s\"}}], \"platform\": {\"architecture\": \"amd64\", "
	"\"os\": \"linux\"}, \"publishedPorts\": [], \"publishedSockets\": [], \"readOnly\": "
	"false, \"resources\": {\"cpuOverhead\": 0, \"cpus\": 2, \"memoryInBytes\": 1073741824}, "
	"\"rosetta\": false, \"runtimeHandler\": \"container-runtime-linux\", \"sysctls\": {}, "
	"\"useInit\": false, \"aNumber\": 1e999}}";

static void create(const char *id, const char *label)
{
	CLEANUP_FREE char *p = xasprintf(config, id, label, id);

	assert_int_equal(call("container.create", p, NULL, NULL), -1);
}

/* Bytes of the server's own memory. */
static int64_t memory(void)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/status", (int)server);
	CLEANUP_BUF struct buf b = {0};
	const char *line;
	long long kib;

	assert_int_equal(path_read_all(AT_FDCWD, path, 65536, &b, NULL), 0);
	line = strstr(b.data, "\nRssAnon:");
	assert_non_null(line);
	assert_int_equal(sscanf(line + 9, "%lld", &kib), 1);
	return kib << 10;
}

static struct json_object *list(const char *params)
{
	struct json_object *o = NULL;

	assert_int_equal(call("container.list", params, &o, NULL), -1);
	return o;
}

static size_t count(const char *params)
{
	CLEANUP_JSON struct json_object *o = list(params);

	return json_object_array_length(json_arr(o, "containers"));
}

/* ---- containers ---- */

static void growth(void **state)
{
	int64_t before, after;

	/* What the first calls of each kind take once is taken. */
	create("first", "x");
	assert_int_equal(count("{\"all\": true}"), 1);
	before = memory();
	for (int i = 0; i < MANY; i++) {
		CLEANUP_FREE char *id = xasprintf("many%03d", i);

		create(id, i % 2 ? "odd" : "even");
	}
	parts_seen = 0;
	assert_int_equal(count("{\"all\": true}"), MANY + 1);
	assert_true(parts_seen > 0); /* it is more than goes at once */
	assert_int_equal(count("{\"all\": true, \"brief\": true}"), MANY + 1);
	assert_int_equal(count("{}"), 0);
	after = memory();
	print_message("%lld bytes a container\n", (long long)(after - before) / MANY);
	assert_true(!MEMORY_TELLS || after - before < MANY * EACH_MAX);
}

static struct json_object *get(const char *id)
{
	CLEANUP_FREE char *p = xasprintf("{\"ids\": [\"%s\"]}", id);
	CLEANUP_JSON struct json_object *o = NULL;

	assert_int_equal(call("container.get", p, &o, NULL), -1);
	return json_object_get(json_object_array_get_idx(json_arr(o, "containers"), 0));
}

/* What is asked of containers that are text. */
static void questions(void)
{
	CLEANUP_JSON struct json_object *all = list("{\"all\": true, \"size\": true}");
	CLEANUP_JSON struct json_object *brief = list("{\"all\": true, \"brief\": true}");
	CLEANUP_JSON struct json_object *one = get("many00"), *renamed = get("renamed");
	struct json_object *arr = json_arr(all, "containers"), *c;

	for (size_t i = 0; i < json_object_array_length(arr); i++) {
		struct json_object *o = json_object_array_get_idx(arr, i);
		struct json_object *b = json_object_array_get_idx(json_arr(brief, "containers"), i);

		c = json_obj(o, "configuration");
		assert_string_equal(json_str(o, "id", ""), json_str(c, "id", "?"));
		assert_string_equal(json_str(o, "id", ""), json_str(b, "id", "?"));
		assert_string_equal(json_str(json_obj(o, "status"), "state", ""), "stopped");
		assert_true(json_int(json_obj(o, "status"), "diskUsageInBytes", 0) > 0);
		b = json_obj(b, "configuration");
		assert_int_equal(json_object_object_length(b), 3);
		assert_int_equal(json_int(json_obj(b, "resources"), "cpus", 0),
				 json_int(json_obj(c, "resources"), "cpus", -1));
		assert_string_equal(json_str(json_obj(b, "image"), "reference", ""),
				    "docker.io/library/demo:latest");
		assert_string_equal(json_str(json_obj(b, "platform"), "os", ""), "linux");
	}
	assert_string_equal(json_str(one, "id", ""), "many007");
	c = json_obj(one, "configuration");
	assert_int_equal(json_object_object_length(c), 23);
	assert_string_equal(json_str(json_obj(c, "labels"), "team", ""), "odd");
	assert_string_equal(json_object_get_string(json_get(c, "aNumber")), "1e999");
	assert_int_equal(json_int(json_obj(c, "resources"), "memoryInBytes", 0), 300 << 20);
	assert_string_equal(json_str(json_obj(c, "restartPolicy"), "name", ""), "always");
	assert_null(json_get(json_obj(c, "restartPolicy"), "more"));
	assert_int_equal(call("container.get", "{\"ids\": [\"many1\"]}", NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_state("many008", "none");
	c = json_obj(renamed, "configuration");
	assert_string_equal(json_str(json_obj(json_object_array_get_idx(json_arr(c, "networks"), 0),
					      "options"),
				     "hostname", ""),
			    "renamed");
}

static void kept(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;
	size_t n;

	/* The only one that begins so is left of its ten. */
	for (int i = 0; i < 10; i++) {
		CLEANUP_FREE char *id = xasprintf("many00%d", i);

		if (i != 7 && i != 8)
			assert_int_equal(call_id("container.delete", id, NULL), -1);
	}
	assert_int_equal(call_id("container.rename", "many008", "\"name\": \"renamed\""), -1);
	assert_int_equal(call_id("container.update", "many007",
				 "\"resources\": {\"memoryInBytes\": 314572800}, "
				 "\"restartPolicy\": {\"name\": \"always\", \"more\": 1e999}"),
			 -1);
	questions();
	n = count("{\"all\": true}");
	assert_int_equal(n, MANY + 1 - 8);
	next_server();
	questions();
	assert_int_equal(count("{\"all\": true}"), n);
	assert_int_equal(call("container.prune", "{}", &o, NULL), -1);
	assert_int_equal(json_object_array_length(json_arr(o, "deleted")), n);
	assert_int_equal(count("{\"all\": true}"), 0);
	next_server();
	assert_int_equal(count("{\"all\": true}"), 0);
}

/* A directory whose files say nothing that makes sense is left aside. */
static void foreign(void **state)
{
	static const char *const texts[] = {"", "[]", "7", "{\"id\": ", "\"x\""};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		CLEANUP_FREE char *path = xasprintf("app/containers/foreign%zu", i);
		CLEANUP_CLOSE int dir = -1;

		assert_int_equal(mkdirat(rootfd, path, 0700), 0);
		dir = openat(rootfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(state_write_text(dir, "config.json", texts[i], strlen(texts[i]),
						  0600, NULL),
				 0);
	}
	next_server();
	assert_int_equal(count("{\"all\": true}"), 0);
}

/* ---- events ---- */

struct heard {
	size_t n, bytes;
	int64_t last; /* its time */
	char action[32], id[64];
	bool over, cut;
};

static void hear(void *arg, struct json_object *ev)
{
	struct heard *h = arg;
	int64_t now = json_int(ev, "timeNano", 0);

	assert_true(now >= h->last);
	h->last = now;
	h->n++;
	h->bytes += strlen(json_object_to_json_string_ext(ev, JSON_C_TO_STRING_PLAIN));
	snprintf(h->action, sizeof(h->action), "%s", json_str(ev, "action", ""));
	snprintf(h->id, sizeof(h->id), "%s", json_str(json_obj(ev, "actor"), "id", ""));
}

static struct heard history(int64_t since)
{
	CLEANUP_FREE char *p = xasprintf("{\"since\": %lld, \"until\": %lld}", (long long)since,
					 (long long)time_now_ns());
	struct rpc_conn *c = client();
	struct heard h = {0};

	assert_int_equal(rpc_call(c, "system.events", parse(p), NULL, 0, hear, &h, QUICK_MS, NULL,
				  NULL, NULL, NULL),
			 0);
	rpc_conn_free(c);
	return h;
}

static void loud_pair(const char *label)
{
	create("loud", label);
	assert_int_equal(call_id("container.delete", "loud", NULL), -1);
}

static void loud_label(char label[LABEL + 1])
{
	memset(label, 'l', LABEL);
	label[LABEL] = '\0';
}

static int64_t ring_bytes(void)
{
	return (int64_t)path_usage(rootfd, "app/events", 1);
}

static void remembered(void **state)
{
	char label[LABEL + 1];
	struct heard h, later;
	int64_t before;

	loud_label(label);
	for (int i = 0; i < 20;
	     i++) /* until the server's threads have the memory that they take at work */
		loud_pair(label);
	before = memory();
	for (int i = 0; i < 80; i++)
		loud_pair(label);
	print_message("%lld bytes for 160 events\n", (long long)(memory() - before));
	assert_true(!MEMORY_TELLS || memory() - before < 160 * LABEL / 2);
	assert_true(ring_bytes() <= RING + 16384);
	h = history(0);
	assert_true(h.n > 50 && h.bytes > RING / 2 - 2 * LABEL && h.bytes <= RING);
	assert_string_equal(h.action, "destroy");
	assert_string_equal(h.id, "loud");
	next_server();
	later = history(0);
	assert_int_equal(later.n, h.n);
	assert_int_equal(later.last, h.last);
	assert_int_equal(history(h.last).n, 1);
	assert_int_equal(history(h.last + 1).n, 0);
}

/* Lines that are no events; and what was cut short by a machine that lost its power. */
static void nonsense(void **state)
{
	static const char *const lines[] = {
		"no record",
		"2026-01-02T03:04:05.000000006Z stdout F no JSON",
		"2026-01-02T03:04:05.000000006Z stdout F []",
		"2026-01-02T03:04:05.000000006Z stdout F {\"type\": 1, \"action\": \"x\"}",
		"2026-01-02T03:04:05.000000006Z stdout F {\"type\": \"t\", \"action\": \"a\", "
		"\"actor\": {\"id\": \"i\", \"attributes\": {\"n\": 1}}, \"time\": \"\", "
		"\"timeNano\": 1}",
		("2026-01-02T03:04:05.000000006Z stdout P {\"type\": \"t\", \"action\": \"a\", "
		 "\"actor\": {\"id\": \"i\", \"attributes\": {}}, \"time\": \"\", \"timeNano\": "
		 "1}"),
		"2026-01-02T03:04:05.000000006Z stdout F {\"type\": \"t\", \"action\"",
	};
	struct heard h = history(0);
	int64_t last = h.last;
	CLEANUP_CLOSE int dir = openat(rootfd, "app/events", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(dir >= 0);
	for (int f = 0; f < 2; f++) {
		CLEANUP_CLOSE int fd = openat(dir, f ? "stdio.log.1" : "stdio.log",
					      O_WRONLY | O_APPEND | O_CLOEXEC);

		assert_true(fd >= 0);
		for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
			assert_true(dprintf(fd, "%s%s", i ? "\n" : "", lines[i]) > 0);
	}
	next_server();
	assert_int_equal(history(0).n, h.n);
	loud_pair("quiet");
	h = history(last + 1);
	assert_int_equal(h.n, 2);
	assert_string_equal(h.action, "destroy");
}

static void cut_off(void *arg, struct json_object *result, struct rpc_fds *fds,
		    const struct error *e)
{
	struct heard *h = arg;

	h->over = true;
	h->cut = e && e->code == ERR_CANCELLED && strstr(e->msg, "faster than they are read");
}

static struct rpc_conn *listen_to(struct loop *l, struct heard *h)
{
	static const struct rpc_handler handler = {.service = "test"};
	struct rpc_conn *c = rpc_conn_new(l, rpc_socket_connect(rootfd, "run/apiserver.sock", NULL),
					  &handler, NULL);

	rpc_call_async(c, "system.events", NULL, NULL, 0, cut_off, hear, h);
	return c;
}

/* One who does not read is let go, at a bounded cost, and who reads hears everything all the while. */
static void slow_reader(void **state)
{
	struct loop *slow_loop = loop_new(NULL), *loop = loop_new(NULL);
	struct heard slow = {0}, quick = {0};
	struct rpc_conn *s = listen_to(slow_loop, &slow), *q = listen_to(loop, &quick);
	uint64_t t0 = time_mono_us();
	char label[LABEL + 1];
	int64_t before = memory(), most = 0;
	size_t told = 0;

	loud_label(label);
	/* Twice as much as is queued for anyone. */
	while (told * LABEL < 2 << 20) {
		loud_pair(label);
		told += 2;
		while (quick.n < told && time_mono_us() - t0 < QUICK_MS * 1000ull * 5)
			assert_int_equal(loop_turn(loop, 100, NULL), 0);
		assert_int_equal(quick.n, told);
		most = MAX(most, memory() - before);
	}
	print_message("%lld bytes for one who does not read\n", (long long)most);
	assert_true(!MEMORY_TELLS || most < SLOW_MAX);
	assert_false(quick.over);
	while (!slow.over && time_mono_us() - t0 < QUICK_MS * 1000ull * 6)
		assert_int_equal(loop_turn(slow_loop, 100, NULL), 0);
	assert_true(slow.cut);
	assert_true(slow.n > 0 && slow.n < told);
	rpc_conn_free(s);
	rpc_conn_free(q);
	loop_free(slow_loop);
	loop_free(loop);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(growth),   cmocka_unit_test(kept),
		cmocka_unit_test(foreign),  cmocka_unit_test(remembered),
		cmocka_unit_test(nonsense), cmocka_unit_test(slow_reader),
	};

	if (IS_ROLE(argv))
		return IS_SERVER(argv) ? apiserver_main(argc, argv) : helper_main();
	return cmocka_run_group_tests(tests, server_setup, server_teardown);
}
