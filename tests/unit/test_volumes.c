// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_volumes.c - what a volume may be asked to be; the apiserver's calls about volumes, with names and values that are
 * none, many at once and after crashes; and which disks and mounts a machine gets of a configuration.
 */
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>

#include "tests/unit/apiserver_fixture.h"

#include "cmd/runtime.h"
#include "cmd/volume.h"

/* No machine starts here. */
const unsigned char guest_init_start[1], guest_init_end[1];

/* ---- options and labels ---- */

static void test_options(void **state)
{
	static const struct {
		const char *options; /* NULL: none */
		uint64_t size;       /* 0: refused */
		enum ext4_journal_mode mode;
		uint64_t journal;
	} v[] = {
		{NULL, VOLUME_SIZE, EXT4_ORDERED, 0},
		{"{}", VOLUME_SIZE, EXT4_ORDERED, 0},
		{"{\"size\": \"1m\"}", 1 << 20, EXT4_ORDERED, 0},
		{"{\"size\": \"1.5GiB\"}", 3ull << 29, EXT4_ORDERED, 0},
		{"{\"size\": \"16t\"}", 16ull << 40, EXT4_ORDERED, 0},
		{"{\"journal\": \"ordered\"}", VOLUME_SIZE, EXT4_ORDERED, 0},
		{"{\"journal\": \"writeback\"}", VOLUME_SIZE, EXT4_WRITEBACK, 0},
		{"{\"journal\": \"journal:64m\"}", VOLUME_SIZE, EXT4_DATA, 64 << 20},
		{"{\"journal\": \"writeback:4m\", \"size\": \"8m\"}", 8 << 20, EXT4_WRITEBACK,
		 4 << 20},
		{"{\"size\": \"\"}", 0, 0, 0},
		{"{\"size\": \"-1\"}", 0, 0, 0},
		{"{\"size\": \"much\"}", 0, 0, 0},
		{"{\"size\": \"0\"}", 0, 0, 0},
		{"{\"size\": \"1023k\"}", 0, 0, 0},
		{"{\"size\": \"17t\"}", 0, 0, 0},
		{"{\"size\": \"99999999999999999999\"}", 0, 0, 0},
		{"{\"size\": 1048576}", 0, 0, 0},
		{"{\"journal\": \"\"}", 0, 0, 0},
		{"{\"journal\": \"order\"}", 0, 0, 0},
		{"{\"journal\": \"orderedx\"}", 0, 0, 0},
		{"{\"journal\": \"ordered:\"}", 0, 0, 0},
		{"{\"journal\": \"ordered:0\"}", 0, 0, 0},
		{"{\"journal\": \"ordered:1m\"}", 0, 0, 0},
		{"{\"journal\": \"ordered:4m:4m\"}", 0, 0, 0},
		{"{\"journal\": \"ordered:4m\", \"size\": \"7m\"}", 0, 0, 0},
		{"{\"journal\": null}", 0, 0, 0},
		{"{\"colour\": \"red\"}", 0, 0, 0},
		{"{\"Size\": \"1m\"}", 0, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		CLEANUP_JSON struct json_object *o = v[i].options ? parse(v[i].options) : NULL;
		CLEANUP_ERROR struct error *e = NULL;
		struct ext4_journal j;
		uint64_t size;
		int rc = volume_options(o, &size, &j, &e);

		if ((rc == 0) != (v[i].size != 0))
			fail_msg("%s: %d", v[i].options, rc);
		if (rc) {
			assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
			continue;
		}
		assert_true(size == v[i].size);
		assert_int_equal(j.mode, v[i].mode);
		assert_true(j.size == v[i].journal);
	}
}

static void test_labels(void **state)
{
	static const char *const ok[] = {"{}", "{\"a\": \"\"}", "{\"a.b/c-d_e\": \"x=y z\"}"};
	static const char *const no[] = {"{\"\": \"x\"}",    "{\"-a\": \"x\"}",
					 "{\"a.\": \"x\"}",  "{\"a b\": \"x\"}",
					 "{\"a\": 1}",       "{\"a\": null}",
					 "{\"a=b\": \"x\"}", "{\"\\u00e4\": \"x\"}"};

	for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
		CLEANUP_JSON struct json_object *o = parse(ok[i]);

		assert_int_equal(labels_check(o, NULL), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
		CLEANUP_JSON struct json_object *o = parse(no[i]);

		assert_int_equal(labels_check(o, NULL), -1);
	}
	/* The longest key, and one byte more; the longest label, and one byte more. */
	for (int key = LABEL_KEY_MAX; key <= LABEL_KEY_MAX + 1; key++) {
		CLEANUP_JSON struct json_object *o = json_object_new_object();
		CLEANUP_FREE char *name = xcalloc(1, (size_t)key + 1);

		memset(name, 'k', (size_t)key);
		json_set_str(o, name, "v");
		assert_int_equal(labels_check(o, NULL), key > LABEL_KEY_MAX ? -1 : 0);
	}
	for (int len = LABEL_MAX - 2; len <= LABEL_MAX - 1; len++) {
		CLEANUP_JSON struct json_object *o = json_object_new_object();
		CLEANUP_FREE char *value = xcalloc(1, (size_t)len + 1);

		memset(value, 'v', (size_t)len);
		json_set_str(o, "k", value);
		assert_int_equal(labels_check(o, NULL), len > LABEL_MAX - 2 ? -1 : 0);
	}
}

/* ---- the store ---- */

#define VOLUME(name)                                 \
	"{\"type\": {\"volume\": {\"name\": \"" name \
	"\"}}, \"destination\": \"/v\", \"options\": []}"
#define CONTAINER(id, mounts)                                                                    \
	"{\"configuration\": {\"id\": \"" id "\", \"image\": {\"manifest\": \"" DIGEST           \
	"\"}, \"initProcess\": {}, \"resources\": {\"cpus\": 1, \"memoryInBytes\": 268435456}, " \
	"\"mounts\": [" mounts "]}}"

static size_t count(void)
{
	CLEANUP_JSON struct json_object *o = NULL;

	assert_int_equal(call("volume.list", "{}", &o, NULL), -1);
	return json_object_array_length(json_arr(o, "volumes"));
}

static bool there(const char *path)
{
	return !faccessat(rootfd, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

static void hostile_names(void **state)
{
	static const char *const names[] = {
		"\"\"",       "\".\"",       "\"..\"",           "\"../x\"",          "\"/tmp/x\"",
		"\"a/b\"",    "\".new-1\"",  "\"a\\u0000b\"",    "\"a\\nb\"",         "\"-x\"",
		"\"a\\\\b\"", "\"\\u00fc\"", "\"%s%n\"",         "\"../containers\"", "7",
		"{}",         "[\"a\"]",     "\"volumes/../a\"",
	};
	CLEANUP_FREE char *big = xcalloc(1, 70001);

	memset(big, 'x', 70000);
	for (size_t i = 0; i <= ARRAY_SIZE(names); i++) {
		CLEANUP_FREE char *p = i < ARRAY_SIZE(names) ? xasprintf("{\"name\": %s}", names[i])
							     : xasprintf("{\"name\": \"%s\"}", big);
		CLEANUP_FREE char *list = i < ARRAY_SIZE(names)
						  ? xasprintf("{\"names\": [%s]}", names[i])
						  : xasprintf("{\"names\": [\"%s\"]}", big);

		assert_int_equal(call("volume.create", p, NULL, NULL), ERR_INVALID_ARGUMENT);
		assert_true(call("volume.delete", p, NULL, NULL) != -1);
		assert_int_equal(call("volume.inspect", list, NULL, NULL), ERR_NOT_FOUND);
	}
	assert_int_equal(count(), 0);
	assert_true(there("app/containers"));
	assert_int_equal(call("volume.create", "{\"name\": \"a\", \"labels\": []}", NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call("volume.create", "{\"name\": \"a\", \"options\": 1}", NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call("volume.inspect", "{\"names\": \"a\"}", NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(count(), 0);
}

static void create_delete(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL, *again = NULL;
	struct json_object *config;
	CLEANUP_FREE char *source = xasprintf("%s/app/volumes/a/volume.img", root);

	assert_int_equal(call("volume.create", "{\"name\": \"a\", \"options\": {\"size\": \"2m\"}}",
			      &o, NULL),
			 -1);
	assert_true(json_flag(o, "created", false));
	config = json_obj(json_obj(o, "volume"), "configuration");
	assert_string_equal(json_str(config, "source", ""), source);
	assert_int_equal(json_int(config, "sizeInBytes", 0), 2 << 20);
	assert_int_equal(call("volume.create", "{\"name\": \"a\"}", NULL, NULL), ERR_EXISTS);
	assert_int_equal(call("volume.create", "{\"name\": \"a\", \"missing\": true}", &again,
			      NULL),
			 -1);
	assert_false(json_flag(again, "created", true));
	assert_int_equal(json_int(json_obj(json_obj(again, "volume"), "configuration"),
				  "sizeInBytes", 0),
			 2 << 20);
	assert_int_equal(call("volume.delete", "{\"name\": \"a\"}", NULL, NULL), -1);
	assert_int_equal(call("volume.delete", "{\"name\": \"a\"}", NULL, NULL), ERR_NOT_FOUND);
	assert_false(there("app/volumes/a"));
}

/* Whoever names one keeps it, and whoever names one that is not there is told so. */
static void in_use(void **state)
{
	assert_int_equal(call("container.create", CONTAINER("c1", VOLUME("gone")), NULL, NULL),
			 ERR_NOT_FOUND);
	assert_int_equal(call("container.create", CONTAINER("c1", VOLUME("../x")), NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call("container.create", CONTAINER("c1", VOLUME("")), NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call("container.create",
			      CONTAINER("c1",
					"{\"type\": {\"volume\": {}}, \"destination\": \"/v\"}"),
			      NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call("container.create",
			      CONTAINER("c1",
					"{\"type\": {\"tmpfs\": {}}, \"destination\": \"v\"}"),
			      NULL, NULL),
			 ERR_INVALID_ARGUMENT);
	assert_int_equal(call("volume.create", "{\"name\": \"used\"}", NULL, NULL), -1);
	assert_int_equal(call("container.create", CONTAINER("c1", VOLUME("used")), NULL, NULL), -1);
	assert_int_equal(call("volume.delete", "{\"name\": \"used\"}", NULL, NULL),
			 ERR_INVALID_STATE);
	next_server();
	assert_int_equal(call("volume.delete", "{\"name\": \"used\"}", NULL, NULL),
			 ERR_INVALID_STATE);
	assert_int_equal(call_id("container.rename", "c1", "\"name\": \"c2\""), -1);
	assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_true(there("app/volumes/used/volume.img"));
	assert_int_equal(call_id("container.delete", "c2", NULL), -1);
	assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_false(there("app/volumes/used"));
}

static int on(struct rpc_conn *c, const char *method, const char *params)
{
	struct error *e = NULL;
	int code = -1;

	if (rpc_call(c, method, parse(params), NULL, 0, NULL, NULL, call_ms, NULL, NULL, NULL,
		     &e)) {
		code = (int)e->code;
		error_free(e);
	}
	return code;
}

/* What a client asks for on the way to a container is there when it makes that, whoever cleans up meanwhile; no longer than the client. */
static void held_back(void **state)
{
	struct rpc_conn *c = client();

	assert_int_equal(on(c, "volume.create", "{\"name\": \"way\", \"missing\": true}"), -1);
	assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_true(there("app/volumes/way"));
	assert_int_equal(call("volume.delete", "{\"name\": \"way\"}", NULL, NULL),
			 ERR_INVALID_STATE);
	/* It may think better of it. */
	assert_int_equal(on(c, "volume.delete", "{\"name\": \"way\"}"), -1);
	assert_false(there("app/volumes/way"));
	/* One that is there already; the container comes, and goes. */
	assert_int_equal(call("volume.create", "{\"name\": \"way\"}", NULL, NULL), -1);
	assert_int_equal(on(c, "volume.create", "{\"name\": \"way\", \"missing\": true}"), -1);
	assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_int_equal(on(c, "container.create", CONTAINER("c1", VOLUME("way"))), -1);
	assert_int_equal(call_id("container.delete", "c1", NULL), -1);
	assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_false(there("app/volumes/way"));
	/* The client goes. */
	assert_int_equal(on(c, "volume.create", "{\"name\": \"way\", \"missing\": true}"), -1);
	rpc_conn_free(c);
	for (int i = 0; i < 500 && there("app/volumes/way"); i++)
		assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_false(there("app/volumes/way"));
}

/* Of many that make one at the same time one does. */
static int created_one, existed;
static void one_more(void *arg, struct json_object *result, struct rpc_fds *fds,
		     const struct error *e)
{
	int *left = arg;

	if (!e && json_flag(result, "created", false))
		created_one++;
	else if (e ? e->code == ERR_EXISTS : json_get(result, "volume") != NULL)
		existed++;
	(*left)--;
}

static void at_once(void **state)
{
	static const struct rpc_handler none = {.service = "test"};
	struct loop *l = loop_new(NULL);
	int fd = rpc_socket_connect(rootfd, "run/apiserver.sock", NULL), left = 20;
	struct rpc_conn *c = rpc_conn_new(l, fd, &none, NULL);

	assert_non_null(c);
	for (int i = 0; i < 20; i++) {
		struct json_object *p = parse("{\"name\": \"same\"}");

		json_set_bool(p, "missing", i % 2);
		rpc_call_async(c, "volume.create", p, NULL, 0, one_more, NULL, &left);
	}
	while (left)
		assert_int_equal(loop_turn(l, 100, NULL), 0);
	rpc_conn_free(c);
	loop_free(l);
	assert_int_equal(created_one, 1);
	assert_int_equal(existed, 19);
	assert_int_equal(call("volume.delete", "{\"name\": \"same\"}", NULL, NULL), -1);
}

static int names_there(void)
{
	DIR *d = fdopendir(
		path_open_beneath(rootfd, "app/volumes", O_RDONLY | O_DIRECTORY, 0, NULL));
	struct dirent *de;
	int n = 0;

	assert_non_null(d);
	while ((de = readdir(d)))
		n += strcmp(de->d_name, ".") && strcmp(de->d_name, "..");
	closedir(d);
	return n;
}

/* A server that is killed while it makes them: each is whole or not there, and nothing else is left. */
static void killed(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;
	struct json_object *list;

	for (int round = 0; round < 4; round++) {
		CLEANUP_FREE char *first = xasprintf("app/volumes/k%d-0", round);
		pid_t pid = fork();

		if (!pid) {
			for (int i = 0;; i++) {
				CLEANUP_FREE char *p =
					xasprintf("{\"name\": \"k%d-%d\"}", round, i);
				int cfd = rpc_socket_connect(rootfd, "run/apiserver.sock", NULL);
				struct rpc_conn *c =
					cfd < 0 ? NULL : rpc_connect(cfd, "test", 5000, NULL);

				if (!c || rpc_call(c, "volume.create", parse(p), NULL, 0, NULL,
						   NULL, 15000, NULL, NULL, NULL, NULL))
					_exit(0);
				rpc_conn_free(c);
			}
		}
		for (int i = 0; i < 1000 && !there(first); i++)
			usleep(10000);
		usleep(4000 * (useconds_t)round);
		next_server();
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	assert_int_equal(call("volume.list", "{}", &o, NULL), -1);
	list = json_arr(o, "volumes");
	assert_true(json_object_array_length(list) > 0);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *config =
			json_obj(json_object_array_get_idx(list, i), "configuration");
		struct stat st;

		assert_int_equal(stat(json_str(config, "source", ""), &st), 0);
		assert_int_equal(st.st_size, json_int(config, "sizeInBytes", -1));
	}
	assert_int_equal(call("volume.prune", "{}", NULL, NULL), -1);
	assert_int_equal(count(), 0);
	for (int i = 0; i < 500 && names_there(); i++)
		usleep(10000);
	assert_int_equal(names_there(), 0);
}

/* A full disk: an error that says so, nothing left, and what has room is made. */
static void full_disk(void **state)
{
	CLEANUP_FREE char *at = xasprintf("%s/app/volumes", root), *text = NULL;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		print_message("skipped: a small tmpfs needs root\n");
		skip();
	}
	assert_int_equal(mount("tmpfs", at, "tmpfs", 0, "size=256k"), 0);
	next_server();
	assert_true(call("volume.create", "{\"name\": \"big\"}", NULL, &text) >= 0);
	assert_non_null(strstr(text, "create volume big"));
	assert_non_null(strstr(text, "No space left on device"));
	assert_int_equal(names_there(), 0);
	assert_int_equal(call("volume.create",
			      "{\"name\": \"small\", \"options\": {\"size\": \"1m\"}}", NULL, NULL),
			 -1);
	assert_int_equal(count(), 1);
	assert_int_equal(umount2(at, MNT_DETACH), 0);
	next_server();
}

/* ---- disks and mounts ---- */

#define ON(name, target, options)                                                       \
	"{\"type\": {\"volume\": {\"name\": \"" name "\"}}, \"destination\": \"" target \
	"\", \"options\": [" options "]}"

static void disks(void **state)
{
	static const char text[] =
		"{\"initProcess\": {\"executable\": \"x\", \"user\": {\"id\": {\"uid\": 0, "
		"\"gid\": 0}}}, \"mounts\": ["
		"{\"type\": {\"tmpfs\": {}}, \"destination\": \"/a/b/c\"}," ON(
			"one", "/a/b",
			"\"ro\"") "," ON("two", "/a",
					 "\"ro\"") "," ON("one", "/z",
							  "") "," ON("two", "/b",
								     "\"noexec\",\"ro\"") "]}";
	static const char *const order[] = {"/a", "/b", "/z", "/a/b", "/a/b/c"};
	static const int volume[] = {1, 1, 0, 0, -1};
	struct runtime rt = {.id = (char *)"web"};
	struct rt_process init = {.rt = &rt};
	CLEANUP_JSON struct json_object *params = json_object_new_object(), *boot = NULL;
	struct json_object *v;

	rt.config = parse(text);
	rt.caps = json_object_new_array();
	assert_int_equal(runtime_volumes_plan(&rt, NULL), 0);
	assert_int_equal(rt.nvolumes, 2);
	assert_string_equal(rt.volumes[0].name, "one");
	assert_false(rt.volumes[0].readonly); /* it is written at /z */
	assert_true(rt.volumes[1].readonly);
	boot = runtime_boot_json(&rt, params, &init, NULL);
	assert_non_null(boot);
	v = json_object_array_get_idx(json_arr(boot, "volumes"), 1);
	assert_string_equal(json_str(v, "device", ""), "/dev/vdd");
	assert_true(json_flag(v, "readonly", false));
	assert_int_equal(json_object_array_length(json_arr(boot, "mounts")), ARRAY_SIZE(order));
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		struct json_object *m = json_object_array_get_idx(json_arr(boot, "mounts"), i);

		assert_string_equal(json_str(m, "destination", ""), order[i]);
		assert_int_equal(json_int(m, "volume", -1), volume[i]);
	}
	runtime_volumes_free(&rt);
	json_object_put(rt.config);
	json_object_put(rt.caps);
}

static void disks_refused(void **state)
{
	static const char *const bad[] = {
		ON("../x", "/a", ""),
		ON("", "/a", ""),
		ON("a/b", "/a", ""),
	};

	CLEANUP_BUF struct buf many = {0};

	for (size_t i = 0; i <= RUNTIME_MAX_VOLUMES; i++)
		buf_printf(&many, "%s" ON("a%zu", "/x", ""), i ? "," : "", i);
	for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
		CLEANUP_FREE char *text =
			xasprintf("{\"mounts\": [%s]}", i < ARRAY_SIZE(bad) ? bad[i] : many.data);
		struct runtime rt = {.id = (char *)"web", .config = parse(text)};

		assert_int_equal(runtime_volumes_plan(&rt, NULL), -1);
		runtime_volumes_free(&rt);
		json_object_put(rt.config);
	}
}

/* Alone to write, with others to read, and never what is no file. */
static int open_one(const char *app, const char *options, int *fd)
{
	CLEANUP_FREE char *text =
		xasprintf("{\"mounts\": [{\"type\": {\"volume\": {\"name\": \"v\"}}, "
			  "\"destination\": \"/v\", \"options\": [%s]}]}",
			  options);
	struct runtime rt = {.id = (char *)"web", .config = parse(text), .roots.app = (char *)app};
	struct vm_disk disk[RUNTIME_MAX_VOLUMES];
	struct vm_segment seg[RUNTIME_MAX_VOLUMES] = {{.fd = -1}};
	struct error *e = NULL;
	int code = -1;
	size_t n;

	assert_int_equal(runtime_volumes_plan(&rt, NULL), 0);
	if (runtime_volumes_open(&rt, 1, disk, &n, seg, &e)) {
		code = (int)e->code;
		error_free(e);
	} else {
		*fd = seg[0].fd;
		assert_int_equal(n, 1);
		assert_int_equal(disk[0].readonly, *options != 0);
		assert_int_equal((fcntl(*fd, F_GETFL) & O_ACCMODE) == O_RDONLY, *options != 0);
	}
	runtime_volumes_free(&rt);
	json_object_put(rt.config);
	return code;
}

static void locked(void **state)
{
	CLEANUP_FREE char *app = xasprintf("%s/other", root);
	int a = -1, b = -1;

	assert_int_equal(open_one(app, "", &a), ERR_NOT_FOUND);
	assert_int_equal(path_mkdirs_at(rootfd, "other/volumes/v", 0700, NULL), 0);
	assert_int_equal(open_one(app, "", &a), ERR_NOT_FOUND);
	assert_int_equal(mkdirat(rootfd, "other/volumes/v/volume.img", 0700), 0);
	assert_true(open_one(app, "\"ro\"", &a) >= 0);
	assert_int_equal(unlinkat(rootfd, "other/volumes/v/volume.img", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/etc/passwd", rootfd, "other/volumes/v/volume.img"), 0);
	assert_true(open_one(app, "\"ro\"", &a) >= 0);
	assert_int_equal(unlinkat(rootfd, "other/volumes/v/volume.img", 0), 0);
	assert_int_equal(mkfifoat(rootfd, "other/volumes/v/volume.img", 0600), 0);
	assert_true(open_one(app, "\"ro\"", &a) >= 0);
	assert_int_equal(unlinkat(rootfd, "other/volumes/v/volume.img", 0), 0);
	close(openat(rootfd, "other/volumes/v/volume.img", O_WRONLY | O_CREAT, 0600));
	assert_int_equal(open_one(app, "", &a), -1);
	assert_int_equal(open_one(app, "\"ro\"", &b), ERR_INVALID_STATE);
	close(a);
	assert_int_equal(open_one(app, "\"ro\"", &a), -1);
	assert_int_equal(open_one(app, "\"ro\"", &b), -1);
	close(a);
	assert_int_equal(open_one(app, "", &a), ERR_INVALID_STATE);
	close(b);
	assert_int_equal(open_one(app, "", &a), -1);
	close(a);
}

/* Where there are more volumes than disks the last disk is several volumes: parts, none of which overlaps another. */
static void parts(void **state)
{
	static const struct {
		size_t room, disks, first; /* volume of the last disk */
		bool readonly;
	} cases[] = {{0, 1, 0, false}, {1, 1, 0, false}, {2, 2, 1, false},
		     {3, 3, 2, true},  {4, 4, 3, true},  {9, 4, 3, true}};
	CLEANUP_FREE char *app = xasprintf("%s/parts", root);
	CLEANUP_JSON struct json_object *config = parse("{\"mounts\": [" ON("p0", "/0", "") "," ON(
		"p1", "/1", "") "," ON("p2", "/2", "\"ro\"") "," ON("p3", "/3", "\"ro\"") "]}");
	struct runtime rt = {.id = (char *)"web", .config = config, .roots.app = app};
	struct vm_disk disk[RUNTIME_MAX_VOLUMES];
	struct vm_segment seg[RUNTIME_MAX_VOLUMES];
	size_t i, k, n;

	for (i = 0; i < 4; i++) {
		CLEANUP_FREE char *dir = xasprintf("parts/volumes/p%zu", i),
				  *file = xasprintf("%s/volume.img", dir);
		CLEANUP_CLOSE int fd = -1;

		assert_int_equal(path_mkdirs_at(rootfd, dir, 0700, NULL), 0);
		fd = openat(rootfd, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(ftruncate(fd, (off_t)(i + 1) << 20), 0);
	}
	assert_int_equal(runtime_volumes_plan(&rt, NULL), 0);
	for (k = 0; k < ARRAY_SIZE(cases); k++) {
		size_t last = cases[k].disks - 1, sharing = 4 - cases[k].first;
		uint64_t at = 0;

		assert_int_equal(runtime_volumes_open(&rt, cases[k].room, disk, &n, seg, NULL), 0);
		assert_int_equal(n, cases[k].disks);
		for (i = 0; i < last; i++)
			assert_true(disk[i].segs == &seg[i] && disk[i].nsegs == 1);
		assert_true(disk[last].segs == &seg[cases[k].first]);
		assert_int_equal(disk[last].nsegs, sharing);
		assert_int_equal(disk[last].readonly, cases[k].readonly);
		for (i = 0; i < 4; i++) {
			const struct rt_volume *v = &rt.volumes[i];
			bool shares = i >= cases[k].first && sharing > 1;

			assert_int_equal(v->disk, MIN(i, last));
			assert_int_equal(v->part, shares ? i - cases[k].first + 1 : 0);
			assert_int_equal(v->start, shares ? at : 0);
			assert_int_equal(v->bytes, (i + 1) << 20);
			at += shares ? v->bytes : 0;
			assert_int_equal((fcntl(seg[i].fd, F_GETFL) & O_ACCMODE) == O_RDONLY,
					 i >= 2);
			close(seg[i].fd);
		}
	}
	runtime_volumes_free(&rt);
}

/* With all that a machine can have beside them, it has its root and volumes, and a balloon. */
static void room(void **state)
{
	struct vm_config cfg = {.engine = VM_ENGINE_QEMU, .nnics = 1, .accept = runtime_accept};

	assert_int_equal(vm_disks_max(&cfg), 4);
	cfg.fs = (struct fs_channel *)&cfg;
	assert_int_equal(vm_disks_max(&cfg), 3);
	cfg.nnics = 9;
	assert_int_equal(vm_disks_max(&cfg), 0);
	cfg.nnics = 1;
	cfg.engine = VM_ENGINE_KVM;
	assert_int_equal(vm_disks_max(&cfg), 10);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),  cmocka_unit_test(test_labels),
		cmocka_unit_test(hostile_names), cmocka_unit_test(create_delete),
		cmocka_unit_test(in_use),        cmocka_unit_test(held_back),
		cmocka_unit_test(at_once),       cmocka_unit_test(killed),
		cmocka_unit_test(full_disk),     cmocka_unit_test(disks),
		cmocka_unit_test(disks_refused), cmocka_unit_test(locked),
		cmocka_unit_test(parts),         cmocka_unit_test(room),
	};

	if (IS_ROLE(argv))
		return IS_SERVER(argv) ? apiserver_main(argc, argv) : helper_main();
	return cmocka_run_group_tests(tests, server_setup, server_teardown);
}
