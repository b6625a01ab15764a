// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_config.c - values of flags, and the configuration made of flags and an image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/cli.h"
#include "cmd/cli_config.h"
#include "cmd/commit_config.h"
#include "core/path.h"

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct json_object *parse(const char *text)
{
	struct json_object *o = json_parse(text, strlen(text), NULL);

	assert_non_null(o);
	return o;
}

static void assert_json(struct json_object *o, const char *want)
{
	CLEANUP_BUF struct buf b = {0};

	format_json(&b, o, false);
	b.data[--b.len] = 0;
	assert_string_equal(b.data, want);
}

/* ---- environment ---- */

static char *const caller[] = {"HOME=/root", "EMPTY=", "LANG=C", NULL};

static void test_env_set(void **state)
{
	CLEANUP_STRV struct strv env = {0};

	assert_int_equal(env_set(&env, "A=1", caller, NULL), 0);
	assert_int_equal(env_set(&env, "AB=2", caller, NULL), 0);
	assert_int_equal(env_set(&env, "A=x=y", caller, NULL), 0);
	assert_int_equal(env_set(&env, "HOME", caller, NULL), 0);
	assert_int_equal(env_set(&env, "EMPTY", caller, NULL), 0);
	assert_int_equal(env_set(&env, "ABSENT", caller, NULL), 0);
	assert_int_equal(env_set(&env, "=x", caller, NULL), -1);
	assert_int_equal(env_set(&env, "", caller, NULL), -1);
	assert_int_equal(env.n, 4);
	assert_string_equal(env.v[0], "A=x=y");
	assert_string_equal(env.v[1], "AB=2");
	assert_string_equal(env.v[2], "HOME=/root");
	assert_string_equal(env.v[3], "EMPTY=");
}

static char *write_temp(const void *text, size_t len)
{
	char *path = xstrdup("/tmp/test_cli_config.XXXXXX");
	CLEANUP_CLOSE int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, len, NULL), 0);
	return path;
}

static void test_env_file(void **state)
{
	static const char text[] =
		"# comment\n\n  # another\nA=1 2 \nB==x=\r\n\tC=3\nLANG\nNOPE\nD=last";
	CLEANUP_FREE char *path = write_temp(text, sizeof(text) - 1);
	CLEANUP_STRV struct strv env = {0};

	assert_int_equal(env_file(&env, path, caller, NULL), 0);
	unlink(path);
	assert_int_equal(env.n, 5);
	assert_string_equal(env.v[0], "A=1 2 ");
	assert_string_equal(env.v[1], "B==x=");
	assert_string_equal(env.v[2], "C=3");
	assert_string_equal(env.v[3], "LANG=C");
	assert_string_equal(env.v[4], "D=last");
}

static void test_env_file_bad(void **state)
{
	CLEANUP_FREE char *nul = write_temp("A=1\0B", 5), *bad = write_temp("A=1\n=2\n", 7);
	CLEANUP_STRV struct strv env = {0};
	CLEANUP_ERROR struct error *e = NULL, *e2 = NULL;
	CLEANUP_FREE char *text = NULL;

	assert_int_equal(env_file(&env, nul, caller, NULL), -1);
	assert_int_equal(env_file(&env, bad, caller, &e), -1);
	text = error_text(e);
	assert_non_null(strstr(text, "line 2"));
	unlink(nul);
	unlink(bad);
	assert_int_equal(env_file(&env, "/nonexistent/file", caller, &e2), -1);
	assert_int_equal(e2->code, ERR_NOT_FOUND);
}

static void test_env_file_fifo(void **state)
{
	char dir[] = "/tmp/test_cli_config.XXXXXX";
	CLEANUP_FREE char *path = NULL;
	CLEANUP_STRV struct strv env = {0};
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	pid = fork();
	if (!pid) {
		int fd = open(path, O_WRONLY);

		_exit(write(fd, "F=1\n", 4) != 4);
	}
	assert_int_equal(env_file(&env, path, caller, NULL), 0);
	assert_int_equal(env.n, 1);
	assert_string_equal(env.v[0], "F=1");
	unlink(path);
	rmdir(dir);
}

static void test_env_merge(void **state)
{
	CLEANUP_JSON struct json_object *image =
		parse("[\"PATH=/bin\",\"HOME\",\"A=img\",\"=bad\"]");
	CLEANUP_FREE char *path = write_temp("A=file\nB=file\n", 14);
	CLEANUP_JSON struct json_object *out = NULL;

	assert_int_equal(env_merge(image, LIST(path), LIST("B=flag", "HOME"), caller, &out, NULL),
			 0);
	unlink(path);
	assert_json(out, "[\"PATH=\\/bin\",\"A=file\",\"B=flag\",\"HOME=\\/root\"]");
}

/* ---- values ---- */

static void test_ulimits(void **state)
{
	CLEANUP_JSON struct json_object *out = NULL;
	struct json_object *none = NULL;

	assert_int_equal(ulimits_parse(LIST("nofile=1024:4096", "core=0", "stack=unlimited",
					    "nproc=5:-1"),
				       &out, NULL),
			 0);
	assert_json(out, "[{\"hard\":4096,\"limit\":\"RLIMIT_NOFILE\",\"soft\":1024},"
			 "{\"hard\":0,\"limit\":\"RLIMIT_CORE\",\"soft\":0},"
			 "{\"hard\":18446744073709551615,\"limit\":\"RLIMIT_STACK\",\"soft\":"
			 "18446744073709551615},"
			 "{\"hard\":18446744073709551615,\"limit\":\"RLIMIT_NPROC\",\"soft\":5}]");
	assert_int_equal(ulimits_parse(LIST("nofile=2:1"), &none, NULL), -1);
	assert_int_equal(ulimits_parse(LIST("nofile=-1:5"), &none, NULL), -1);
	assert_int_equal(ulimits_parse(LIST("nofile"), &none, NULL), -1);
	assert_int_equal(ulimits_parse(LIST("nofile="), &none, NULL), -1);
	assert_int_equal(ulimits_parse(LIST("nofile=1:"), &none, NULL), -1);
	assert_int_equal(ulimits_parse(LIST("files=1"), &none, NULL), -1);
	assert_int_equal(ulimits_parse(LIST("core=1", "core=1"), &none, NULL), -1);
	assert_null(none);
}

static void test_caps(void **state)
{
	CLEANUP_JSON struct json_object *out = NULL;
	struct json_object *none = NULL;

	assert_int_equal(caps_parse(LIST("net_admin", "CAP_SYS_TIME", "cap_chown", "all"), &out,
				    NULL),
			 0);
	assert_json(out, "[\"CAP_NET_ADMIN\",\"CAP_SYS_TIME\",\"CAP_CHOWN\",\"ALL\"]");
	assert_int_equal(caps_parse(LIST("CAP_FLY"), &none, NULL), -1);
	assert_int_equal(caps_parse(LIST(""), &none, NULL), -1);
}

static void check_user(const char *user, const char *uid, const char *gid, const char *dflt,
		       const char *want, const char *groups)
{
	CLEANUP_JSON struct json_object *g = json_object_new_array();
	CLEANUP_JSON struct json_object *u = user_parse(user, uid, gid, dflt, g, NULL);

	if (!want) {
		assert_null(u);
		return;
	}
	assert_non_null(u);
	assert_json(u, want);
	assert_json(g, groups);
}

static void test_users(void **state)
{
	check_user(NULL, NULL, NULL, NULL, "{\"id\":{\"gid\":0,\"uid\":0}}", "[]");
	check_user(NULL, NULL, NULL, "www", "{\"raw\":{\"userString\":\"www\"}}", "[]");
	check_user("a:b", "5", "6", "www", "{\"raw\":{\"userString\":\"a:b\"}}", "[]");
	check_user(NULL, "5", "6", "www", "{\"id\":{\"gid\":6,\"uid\":5}}", "[]");
	check_user(NULL, "5", NULL, NULL, "{\"id\":{\"gid\":0,\"uid\":5}}", "[]");
	check_user(NULL, NULL, "1000", NULL, "{\"id\":{\"gid\":0,\"uid\":0}}", "[1000]");
	check_user("", NULL, NULL, NULL, NULL, NULL);
	check_user(NULL, "x", NULL, NULL, NULL, NULL);
	check_user(NULL, "4294967295", NULL, NULL, NULL, NULL); /* (uid_t)-1 is no user */
	check_user(NULL, NULL, "-1", NULL, NULL, NULL);
}

static void test_signals(void **state)
{
	static const struct {
		const char *text;
		int number;
	} good[] = {{"KILL", 9},   {"sigterm", 15}, {"SIGUSR1", 10}, {"1", 1},
		    {"64", 64},    {"RTMIN", 34},   {"rtmin+3", 37}, {"SIGRTMAX-1", 63},
		    {"RTMAX", 64}, {"Winch", 28}};
	static const char *const bad[] = {"0",    "65",      "-9",       "",  "SIG",
					  "NOPE", "RTMIN-1", "RTMIN+31", "9 "};
	int n;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(signal_parse(good[i].text, &n, NULL), 0);
		assert_int_equal(n, good[i].number);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(signal_parse(bad[i], &n, NULL), -1);
}

static void test_memory(void **state)
{
	int64_t n;

	assert_int_equal(memory_parse("1g", &n, NULL), 0);
	assert_int_equal(n, 1 << 30);
	assert_int_equal(memory_parse("209715201", &n, NULL), 0); /* rounded up to a MiB */
	assert_int_equal(n, 201 << 20);
	assert_int_equal(memory_parse("1.5GiB", &n, NULL), 0);
	assert_int_equal(n, 1536 << 20);
	assert_int_equal(memory_parse("199m", &n, NULL), -1);
	assert_int_equal(memory_parse("lots", &n, NULL), -1);
	assert_int_equal(memory_parse("", &n, NULL), -1);
}

static void test_ids(void **state)
{
	static const char *const good[] = {"ab", "Web.1_x-y", "0a"};
	static const char *const bad[] = {"",
					  "a",
					  "-ab",
					  ".ab",
					  "a b",
					  "a/b",
					  "a\n",
					  ("\xc3\xa9"
					   "b")};
	char longest[65];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(container_id_check(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(container_id_check(bad[i], NULL), -1);
	memset(longest, 'a', 64);
	longest[64] = 0;
	assert_int_equal(container_id_check(longest, NULL), -1);
	longest[63] = 0;
	assert_int_equal(container_id_check(longest, NULL), 0);
}

static void test_networks(void **state)
{
	CLEANUP_JSON struct json_object *dflt = NULL, *two = NULL, *no = NULL;
	struct json_object *bad = NULL;

	assert_int_equal(networks_parse(NULL, "web", NULL, &dflt, NULL), 0);
	assert_json(dflt, "[{\"network\":\"default\",\"options\":{\"hostname\":\"web\"}}]");
	assert_int_equal(networks_parse(LIST("a,mac=F2-00-00-00-00-01,mtu=1400", "b"), "web", "lan",
					&two, NULL),
			 0);
	assert_json(two, "[{\"network\":\"a\",\"options\":{\"hostname\":\"web.lan.\","
			 "\"macAddress\":\"f2:00:00:00:00:01\",\"mtu\":1400}},"
			 "{\"network\":\"b\",\"options\":{\"hostname\":\"web\"}}]");
	assert_int_equal(networks_parse(LIST("none"), "web", NULL, &no, NULL), 0);
	assert_json(no, "[]");
	assert_int_equal(networks_parse(LIST("none", "a"), "web", NULL, &bad, NULL), -1);
	assert_int_equal(networks_parse(LIST("a", "none"), "web", NULL, &bad, NULL), -1);
	assert_int_equal(networks_parse(LIST("a,mtu=100"), "web", NULL, &bad, NULL), -1);
	assert_int_equal(networks_parse(LIST("a,mac=f2:00"), "web", NULL, &bad, NULL), -1);
	assert_int_equal(networks_parse(LIST("a,mac=00:00:00:00:00:00"), "web", NULL, &bad, NULL),
			 -1);
	assert_int_equal(networks_parse(LIST("a,mac=f3:00:00:00:00:01"), "web", NULL, &bad, NULL),
			 -1);
	assert_int_equal(networks_parse(LIST("a,x=1"), "web", NULL, &bad, NULL), -1);
	assert_int_equal(networks_parse(LIST(",mtu=1400"), "web", NULL, &bad, NULL), -1);
}

/* Apple's rows of PublishSocket, and what we refuse besides. NULL: refused. */
static void test_publish_socket(void **state)
{
	static const char *const rows[][3] = {
		{"/tmp/a.sock:/run/b.sock", "/tmp/a.sock", "/run/b.sock"},
		{"/a:/b", "/a", "/b"},
		{"/tmp/with space.sock:/run/ü.sock", "/tmp/with space.sock", "/run/ü.sock"},
		{"/tmp/../tmp/a:/run/./b", "/tmp/../tmp/a", "/run/./b"},
		{"rel/a.sock:/b", "/rel/a.sock", "/b"}, /* in the root directory */
		{"a:/b", "/a", "/b"},
		{"./a:/b", "/./a", "/b"},
		{"", NULL, NULL},
		{":", NULL, NULL},
		{"/tmp/a.sock", NULL, NULL},
		{"/tmp/a.sock:", NULL, NULL},
		{":/run/b.sock", NULL, NULL},
		{"/tmp/a:run/b", NULL, NULL},
		{"/tmp/a:b", NULL, NULL},
		{"/tmp/a:/run/b:ro", NULL, NULL},
		{"/tmp/a::/run/b", NULL, NULL},
		{"/tmp/a:/run/b:", NULL, NULL},
		{"/tmp/:/run/b", NULL, NULL},
		{"/tmp/a:/run/", NULL, NULL},
		{"/tmp/a:/", NULL, NULL},
	};
	int back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(chdir("/"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_JSON struct json_object *o = publish_socket_parse(rows[i][0], &e);

		if (!rows[i][1]) {
			assert_null(o);
			assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
			assert_non_null(strstr(e->msg, rows[i][0]));
			continue;
		}
		assert_non_null(o);
		assert_string_equal(json_str(o, "hostPath", ""), rows[i][1]);
		assert_string_equal(json_str(o, "containerPath", ""), rows[i][2]);
	}
	assert_int_equal(fchdir(back), 0);
	close(back);
}

/* ---- the configuration ---- */

static const char image_text[] =
	"{\"reference\":\"docker.io/library/"
	"x:latest\",\"manifest\":\"sha256:ab\",\"descriptor\":{\"size\":1},"
	"\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"},"
	"\"config\":{\"Entrypoint\":[\"/entry\",\"-x\"],\"Cmd\":[\"serve\"],\"Env\":[\"A=1\"],"
	"\"WorkingDir\":\"/srv\",\"User\":\"app\",\"StopSignal\":\"SIGINT\"}}";

static int build(struct json_object **out, const char *image, int n, char **words)
{
	static const struct config_defaults d = {.cpus = 4, .memory = "1g"};
	CLEANUP_JSON struct json_object *img = parse(image);
	CLEANUP_OPTS struct opt_args a = {0};

	assert_int_equal(opt_parse(&cmd_run, n, words, &a, NULL), 0);
	return config_build(&a, img, &d, "web", out, NULL);
}

#define BUILD(out, image, ...)                                 \
	({                                                     \
		char *words_[] = {__VA_ARGS__};                \
		build(out, image, ARRAY_SIZE(words_), words_); \
	})

static void check_command(struct json_object *o, const char *executable, const char *arguments)
{
	struct json_object *p = json_obj(o, "initProcess");

	assert_string_equal(json_str(p, "executable", ""), executable);
	assert_json(json_arr(p, "arguments"), arguments);
}

static void test_policies(void **state)
{
	static const char image[] = "{\"config\": {\"Cmd\": [\"sh\"], \"StopSignal\": \"QUIT\"}}";
	struct json_object *o = NULL;

	assert_int_equal(BUILD(&o, image, "--restart", "on-failure:3", "--stop-signal", "usr1",
			       "--stop-timeout", "9", "x"),
			 0);
	assert_json(json_obj(o, "restartPolicy"),
		    "{\"maximumRetryCount\":3,\"name\":\"on-failure\"}");
	assert_string_equal(json_str(o, "stopSignal", ""), "usr1");
	assert_int_equal(json_int(o, "stopTimeout", 0), 9);
	json_object_put(STEAL(o));
	assert_int_equal(BUILD(&o, image, "--restart", "no", "x"), 0);
	assert_null(json_get(o, "restartPolicy"));
	assert_string_equal(json_str(o, "stopSignal", ""), "QUIT");
	json_object_put(STEAL(o));
	assert_int_equal(BUILD(&o, image, "--restart", "always:3", "x"), -1);
	assert_int_equal(BUILD(&o, image, "--restart", "on-failure:0", "x"), -1);
	assert_int_equal(BUILD(&o, image, "--restart", "on", "x"), -1);
	assert_int_equal(BUILD(&o, image, "--stop-signal", "LOUD", "x"), -1);
	assert_int_equal(BUILD(&o, image, "--stop-timeout", "-1", "x"), -1);
}

static void test_command_line(void **state)
{
	static const char bare[] = "{\"config\":{}}";
	CLEANUP_JSON struct json_object *a = NULL, *b = NULL, *c = NULL, *d = NULL, *f = NULL,
					*g = NULL;
	struct json_object *none = NULL;

	assert_int_equal(BUILD(&a, image_text, "x"), 0);
	check_command(a, "/entry", "[\"-x\",\"serve\"]");
	assert_int_equal(BUILD(&b, image_text, "x", "-d", "one"), 0);
	check_command(b, "/entry", "[\"-x\",\"-d\",\"one\"]");
	assert_int_equal(BUILD(&c, image_text, "--entrypoint", "sh", "x"), 0);
	check_command(c, "sh", "[]"); /* the image's CMD goes with its entrypoint */
	assert_int_equal(BUILD(&d, image_text, "--entrypoint", "sh", "x", "-c", "ls"), 0);
	check_command(d, "sh", "[\"-c\",\"ls\"]");
	assert_int_equal(BUILD(&f, bare, "x", "--", "ls"), 0);
	check_command(f, "ls", "[]");
	assert_int_equal(BUILD(&g, image_text, "x", "--", "ls"), 0);
	check_command(g, "/entry", "[\"-x\",\"--\",\"ls\"]");
	assert_int_equal(BUILD(&none, bare, "x"), -1);
}

static void test_defaults(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;
	struct json_object *p;

	assert_int_equal(BUILD(&o, image_text, "x"), 0);
	p = json_obj(o, "initProcess");
	assert_string_equal(json_str(o, "id", ""), "web");
	assert_string_equal(json_str(p, "workingDirectory", ""), "/srv");
	assert_json(json_obj(p, "user"), "{\"raw\":{\"userString\":\"app\"}}");
	assert_json(json_arr(p, "environment"), "[\"A=1\"]");
	assert_false(json_flag(p, "terminal", true));
	assert_json(json_obj(o, "resources"),
		    "{\"cpuOverhead\":0,\"cpus\":4,\"memoryInBytes\":1073741824}");
	assert_json(json_obj(o, "image"), "{\"descriptor\":{\"size\":1},\"manifest\":\"sha256:ab\","
					  "\"reference\":\"docker.io\\/library\\/x:latest\"}");
	assert_string_equal(json_str(o, "stopSignal", ""), "SIGINT");
	assert_json(json_arr(o, "networks"),
		    "[{\"network\":\"default\",\"options\":{\"hostname\":\"web\"}}]");
	assert_null(json_get(o, "shmSize"));
	assert_null(json_get(o, "noDNS"));
}

static void test_flags(void **state)
{
	CLEANUP_JSON struct json_object *o = NULL;
	struct json_object *p;

	assert_int_equal(BUILD(&o, image_text, "-it", "-c2", "-m", "512m", "-e", "B=2", "-w", "/w",
			       "-u", "1:2", "-l", "k=v=w", "-l", "bare", "--tmpfs",
			       "/t:size=1m,mode=700", "--read-only", "--init", "--shm-size", "1m",
			       "--cap-drop", "all", "--cap-add", "kill", "--dns", "1.1.1.1",
			       "--dns-search", "lan", "x"),
			 0);
	p = json_obj(o, "initProcess");
	assert_true(json_flag(p, "terminal", false));
	assert_json(json_obj(o, "resources"),
		    "{\"cpuOverhead\":0,\"cpus\":2,\"memoryInBytes\":536870912}");
	assert_json(json_arr(p, "environment"), "[\"A=1\",\"B=2\"]");
	assert_json(json_obj(p, "user"), "{\"raw\":{\"userString\":\"1:2\"}}");
	assert_string_equal(json_str(p, "workingDirectory", ""), "/w");
	assert_json(json_obj(o, "labels"), "{\"bare\":\"\",\"k\":\"v=w\"}");
	assert_json(json_arr(o, "mounts"),
		    "[{\"destination\":\"\\/t\",\"options\":[\"size=1m\",\"mode=700\"],"
		    "\"source\":\"tmpfs\",\"type\":{\"tmpfs\":{}}}]");
	assert_true(json_flag(o, "readOnly", false));
	assert_true(json_flag(o, "useInit", false));
	assert_int_equal(json_int(o, "shmSize", 0), 1 << 20);
	assert_json(json_arr(o, "capDrop"), "[\"ALL\"]");
	assert_json(json_arr(o, "capAdd"), "[\"CAP_KILL\"]");
	assert_json(json_obj(o, "dns"),
		    "{\"nameservers\":[\"1.1.1.1\"],\"options\":[],\"searchDomains\":[\"lan\"]}");
}

static void test_ssh(void **state)
{
	CLEANUP_JSON struct json_object *with = NULL, *own = NULL, *without = NULL;
	struct json_object *env;

	assert_int_equal(BUILD(&with, image_text, "--ssh", "x"), 0);
	assert_true(json_flag(with, "ssh", false));
	env = json_arr(json_obj(with, "initProcess"), "environment");
	assert_json(env, "[\"A=1\",\"SSH_AUTH_SOCK=\\/var\\/host-services\\/ssh-auth.sock\"]");
	/* What the user says counts. */
	assert_int_equal(BUILD(&own, image_text, "--ssh", "-e", "SSH_AUTH_SOCK=/mine", "x"), 0);
	env = json_arr(json_obj(own, "initProcess"), "environment");
	assert_json(env, "[\"A=1\",\"SSH_AUTH_SOCK=\\/mine\"]");
	assert_int_equal(BUILD(&without, image_text, "--publish-socket", "/a:/b", "x"), 0);
	assert_false(json_flag(without, "ssh", true));
	env = json_arr(json_obj(without, "initProcess"), "environment");
	assert_json(env, "[\"A=1\"]");
	assert_json(json_arr(without, "publishedSockets"),
		    "[{\"containerPath\":\"\\/b\",\"hostPath\":\"\\/a\"}]");
}

static void test_bad_flags(void **state)
{
	struct json_object *o = NULL;

	assert_int_equal(BUILD(&o, image_text, "-c", "0", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "-c", "2x", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "-m", "1m", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "-w", "rel", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "-l", "=v", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "--tmpfs", "rel", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "--tmpfs", "/", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "--dns", "host", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "-k", "/nonexistent", "x"), -1);
	assert_int_equal(BUILD(&o, image_text, "--shm-size", "much", "x"), -1);
	assert_null(o);
}

static char *platform(const char *env, bool flags_first, bool *from_env, int n, char **words)
{
	CLEANUP_OPTS struct opt_args a = {0};
	char *out = NULL;

	assert_int_equal(opt_parse(&cmd_run, n, words, &a, NULL), 0);
	if (platform_flags(&a, env, flags_first, &out, from_env, NULL))
		return xstrdup("error");
	return out ? out : xstrdup("none");
}

static void test_platform(void **state)
{
	static const struct {
		char *words[4];
		int n;
		const char *env;
		bool first;
		const char *want;
	} cases[] = {
		{{"x"}, 1, NULL, false, "none"},
		{{"x"}, 1, "linux/arm64", false, "linux/arm64"},
		{{"--arch=arm64", "x"}, 2, NULL, false, "linux/arm64"},
		{{"--arch=aarch64", "x"}, 2, "linux/amd64", true, "linux/arm64"},
		{{"--arch=arm64", "x"}, 2, "linux/amd64", false, "linux/amd64"},
		{{"--platform=linux/x86_64", "--arch=arm64", "x"},
		 3,
		 "linux/arm64",
		 true,
		 "linux/amd64"},
		{{"--platform=linux/arm/v7", "x"}, 2, NULL, false, "linux/arm/v7"},
		{{"--platform=linux", "x"}, 2, NULL, false, "error"},
		{{"--platform=linux/", "x"}, 2, NULL, false, "error"},
		{{"--platform=linux/arm/v7/x", "x"}, 2, NULL, false, "error"},
		{{"x"}, 1, "bogus", false, "error"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool from_env;
		CLEANUP_FREE char *got = platform(cases[i].env, cases[i].first, &from_env,
						  cases[i].n, (char **)cases[i].words);

		assert_string_equal(got, cases[i].want);
	}
}

static void test_exec_process(void **state)
{
	CLEANUP_JSON struct json_object *init =
		parse("{\"environment\":[\"A=1\",\"B=2\"],\"workingDirectory\":\"/"
		      "srv\",\"user\":{\"raw\":{\"userString\":"
		      "\"app\"}},\"supplementalGroups\":[7],\"rlimits\":[{\"limit\":\"RLIMIT_"
		      "CORE\",\"soft\":1,\"hard\":2}]}");
	CLEANUP_JSON struct json_object *same = NULL, *other = NULL, *group = NULL;
	CLEANUP_OPTS struct opt_args a = {0}, b = {0}, c = {0};
	char *plain[] = {"web", "ls"}, *flags[] = {"-t", "-eB=3", "--uid", "5", "-w/", "web", "ls"};
	char *gid[] = {"--gid=9", "web", "ls"};

	assert_int_equal(opt_parse(&cmd_exec, 2, plain, &a, NULL), 0);
	assert_int_equal(process_build(&a, init, LIST("ls", "-l"), &same, NULL), 0);
	assert_json(same,
		    "{\"additionalGids\":[7],\"args\":[\"ls\",\"-l\"],\"cwd\":\"\\/"
		    "srv\",\"env\":[\"A=1\",\"B=2\"],"
		    "\"rlimits\":[{\"hard\":2,\"soft\":1,\"type\":\"RLIMIT_CORE\"}],\"tty\":false,"
		    "\"user\":{\"name\":\"app\"}}");
	assert_int_equal(opt_parse(&cmd_exec, 7, flags, &b, NULL), 0);
	assert_int_equal(process_build(&b, init, LIST("ls"), &other, NULL), 0);
	assert_json(json_obj(other, "user"), "{\"gid\":0,\"uid\":5}");
	assert_json(json_arr(other, "env"), "[\"A=1\",\"B=3\"]");
	assert_json(json_arr(other, "additionalGids"), "[]");
	assert_string_equal(json_str(other, "cwd", ""), "/");
	assert_true(json_flag(other, "tty", false));
	assert_int_equal(opt_parse(&cmd_exec, 3, gid, &c, NULL), 0);
	assert_int_equal(process_build(&c, init, LIST("ls"), &group, NULL), 0);
	assert_json(json_obj(group, "user"), "{\"name\":\"app\"}");
	assert_json(json_arr(group, "additionalGids"), "[9,7]");
}

/* ---- health checks, logs ---- */

static void test_health(void **state)
{
	static const char plain[] = "{\"config\": {\"Cmd\": [\"x\"]}}";
	static const char with[] =
		"{\"config\": {\"Cmd\": [\"x\"], \"Healthcheck\": {\"Test\": [\"CMD\", \"true\"], "
		"\"Interval\": 7000000000, \"Retries\": 2}}}";
	static const char none[] =
		"{\"config\": {\"Cmd\": [\"x\"], \"Healthcheck\": {\"Test\": [\"NONE\"]}}}";
	struct json_object *o = NULL;

	assert_int_equal(BUILD(&o, plain, "x"), 0);
	assert_null(json_get(o, "healthcheck"));
	json_object_put(o);
	assert_int_equal(BUILD(&o, none, "x"), 0);
	assert_null(json_get(o, "healthcheck"));
	json_object_put(o);
	assert_int_equal(BUILD(&o, with, "x"), 0);
	assert_json(json_obj(o, "healthcheck"),
		    "{\"interval\":7000000000,\"retries\":2,\"test\":[\"CMD\",\"true\"]}");
	json_object_put(o);
	assert_int_equal(BUILD(&o, with, "--no-healthcheck", "x"), 0);
	assert_null(json_get(o, "healthcheck"));
	json_object_put(o);
	assert_int_equal(BUILD(&o, with, "--health-timeout", "1m", "x"), 0);
	assert_json(json_obj(o, "healthcheck"),
		    "{\"interval\":7000000000,\"retries\":2,\"test\":[\"CMD\",\"true\"],"
		    "\"timeout\":60000000000}");
	json_object_put(o);
	assert_int_equal(BUILD(&o, plain, "--health-cmd", "test -e x", "--health-start-period",
			       "2s", "--health-start-interval", "500ms", "--health-retries", "1",
			       "x"),
			 0);
	assert_json(json_obj(o, "healthcheck"),
		    "{\"retries\":1,\"startInterval\":500000000,\"startPeriod\":2000000000,"
		    "\"test\":[\"CMD-SHELL\",\"test -e x\"]}");
	json_object_put(o);
	assert_int_equal(BUILD(&o, plain, "--health-interval", "1s", "x"), -1);
	assert_int_equal(BUILD(&o, with, "--health-interval", "-1s", "x"), -1);
	assert_int_equal(BUILD(&o, with, "--health-interval", "5ns", "x"), -1);
	assert_int_equal(BUILD(&o, with, "--health-retries", "0", "x"), -1);
	assert_int_equal(BUILD(&o, with, "--no-healthcheck", "--health-cmd", "y", "x"), -1);
}

static void test_log_options(void **state)
{
	static const char image[] = "{\"config\": {\"Cmd\": [\"x\"]}}";
	struct json_object *o = NULL;

	assert_int_equal(BUILD(&o, image, "x"), 0);
	assert_json(json_obj(o, "log"), "{\"maxFiles\":2,\"maxSizeInBytes\":16777216}");
	json_object_put(o);
	assert_int_equal(BUILD(&o, image, "--log-opt", "max-size=1m", "--log-opt", "max-file=5",
			       "x"),
			 0);
	assert_json(json_obj(o, "log"), "{\"maxFiles\":5,\"maxSizeInBytes\":1048576}");
	json_object_put(o);
	assert_int_equal(BUILD(&o, image, "--log-opt", "max-size=1k", "x"), -1);
	assert_int_equal(BUILD(&o, image, "--log-opt", "max-file=0", "x"), -1);
	assert_int_equal(BUILD(&o, image, "--log-opt", "mode=fast", "x"), -1);
}

/* ---- commit ---- */

static void test_commit_config(void **state)
{
	CLEANUP_JSON struct json_object *base =
		parse("{\"author\": \"x\", \"config\": {\"Entrypoint\": [\"/init\", \"-q\"], "
		      "\"Cmd\": [\"a\"], "
		      "\"Env\": [\"A=1\"], \"Labels\": {\"k\": \"v\"}, \"ExposedPorts\": "
		      "{\"80/tcp\": {}}}}");
	CLEANUP_JSON struct json_object *ct = parse(
		"{\"initProcess\": {\"executable\": \"/init\", \"arguments\": [\"-q\", \"b\", "
		"\"c\"], "
		"\"environment\": [\"A=2\"], \"workingDirectory\": \"/w\", \"user\": {\"raw\": "
		"{\"userString\": \"web\"}}}, \"labels\": {\"t\": \"u\"}, \"stopSignal\": "
		"\"USR1\"}");
	CLEANUP_JSON struct json_object *other = parse(
		"{\"initProcess\": {\"executable\": \"sh\", \"arguments\": [], \"user\": {\"id\": "
		"{\"uid\": 3, \"gid\": 4}}}, \"healthcheck\": {\"test\": [\"CMD\", \"t\"], "
		"\"retries\": 9}}");
	struct json_object *c = commit_config(base, ct);

	assert_json(c,
		    "{\"Cmd\":[\"b\",\"c\"],\"Entrypoint\":[\"\\/init\",\"-q\"],\"Env\":[\"A=2\"],"
		    "\"ExposedPorts\":{\"80\\/tcp\":{}},\"Labels\":{\"k\":\"v\",\"t\":\"u\"},"
		    "\"StopSignal\":\"USR1\",\"User\":\"web\",\"WorkingDir\":\"\\/w\"}");
	json_object_put(c);
	/* Another entrypoint than the image's. */
	c = commit_config(base, other);
	assert_json(c, "{\"Cmd\":[\"sh\"],\"Env\":[\"A=1\"],\"ExposedPorts\":{\"80\\/tcp\":{}},"
		       "\"Healthcheck\":{\"Retries\":9,\"Test\":[\"CMD\",\"t\"]},"
		       "\"Labels\":{\"k\":\"v\"},\"User\":\"3:4\"}");
	json_object_put(c);
}

static void test_commit_changes(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: refused */
	} cases[] = {
		{"CMD [\"a\", \"b c\"]", "{\"Cmd\":[\"a\",\"b c\"]}"},
		{"cmd echo hi", "{\"Cmd\":[\"\\/bin\\/sh\",\"-c\",\"echo hi\"]}"},
		{"ENTRYPOINT [\"x\"]", "{\"Entrypoint\":[\"x\"]}"},
		{"ENV A=1 B=\"two words\" C='x y' D=a\\ b",
		 "{\"Env\":[\"A=1\",\"B=two words\",\"C=x y\",\"D=a b\"]}"},
		{"ENV A one two", "{\"Env\":[\"A=one two\"]}"},
		{"EXPOSE 80 53/udp", "{\"ExposedPorts\":{\"53\\/udp\":{},\"80\\/tcp\":{}}}"},
		{"HEALTHCHECK NONE", "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}"},
		{"HEALTHCHECK --interval=2s --retries=4 CMD test -e x",
		 "{\"Healthcheck\":{\"Interval\":2000000000,\"Retries\":4,\"Test\":[\"CMD-SHELL\","
		 "\"test "
		 "-e x\"]}}"},
		{"HEALTHCHECK CMD [\"t\"]", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"t\"]}}"},
		{"LABEL a=b \"c d\"=e", "{\"Labels\":{\"a\":\"b\",\"c d\":\"e\"}}"},
		{"ONBUILD RUN x", "{\"OnBuild\":[\"RUN x\"]}"},
		{"STOPSIGNAL SIGQUIT", "{\"StopSignal\":\"SIGQUIT\"}"},
		{"USER www-data", "{\"User\":\"www-data\"}"},
		{"VOLUME /a /b", "{\"Volumes\":{\"\\/a\":{},\"\\/b\":{}}}"},
		{"VOLUME [\"/a b\"]", "{\"Volumes\":{\"\\/a b\":{}}}"},
		{"WORKDIR sub", "{\"WorkingDir\":\"\\/sub\"}"},
		{"FROM scratch", NULL},
		{"CMD", NULL},
		{"", NULL},
		{"ENV A=\"x", NULL},
		{"ENV =x", NULL},
		{"EXPOSE 70000", NULL},
		{"HEALTHCHECK sometimes", NULL},
		{"HEALTHCHECK --interval=x CMD y", NULL},
		{"STOPSIGNAL loud", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_JSON struct json_object *c = json_object_new_object();

		assert_int_equal(commit_change(c, cases[i].text, NULL), cases[i].want ? 0 : -1);
		if (cases[i].want)
			assert_json(c, cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_env_set),
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_env_file_bad),
		cmocka_unit_test(test_env_file_fifo),
		cmocka_unit_test(test_env_merge),
		cmocka_unit_test(test_ulimits),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_publish_socket),
		cmocka_unit_test(test_ssh),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_bad_flags),
		cmocka_unit_test(test_platform),
		cmocka_unit_test(test_exec_process),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_log_options),
		cmocka_unit_test(test_commit_config),
		cmocka_unit_test(test_commit_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
