// links: cmd vmm oci net core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_mounts.c - --tmpfs, --mount and -v: every form, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/cli.h"
#include "cmd/cli_mounts.h"
#include "cmd/volume.h"

/* The mounts that these words after "run" make, or NULL. */
static struct json_object *build(struct error **err, const char *const *words)
{
	CLEANUP_OPTS struct opt_args a = {0};
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	char *argv[16];
	int n = 0;

	for (; words[n]; n++)
		argv[n] = (char *)words[n];
	argv[n++] = "image";
	assert_int_equal(opt_parse(&cmd_run, n, argv, &a, NULL), 0);
	if (mounts_build(&a, o, err))
		return NULL;
	return json_object_get(json_arr(o, "mounts"));
}
#define BUILD(err, ...) build(err, (const char *const[]){__VA_ARGS__, NULL})

#define VOLUME_JSON(name)                                                               \
	"{\"volume\":{\"name\":\"" name "\",\"format\":\"ext4\",\"cache\":{\"on\":{}}," \
	"\"sync\":{\"fsync\":{}}}}"
#define MOUNT_JSON(type, source, target, options)                                \
	"{\"type\":" type ",\"source\":\"" source "\",\"destination\":\"" target \
	"\",\"options\":[" options "]}"
#define SHARE(source, target, options) MOUNT_JSON("{\"virtiofs\":{}}", source, target, options)
#define TMPFS(target, options)         MOUNT_JSON("{\"tmpfs\":{}}", "tmpfs", target, options)
#define VOLUME(name, target, options)  MOUNT_JSON(VOLUME_JSON(name), name, target, options)

/* Run in a directory with sub/, file, link -> sub. */
static const struct {
	const char *flag, *value, *want;
} good[] = {
	{"-v", "/usr:/d", SHARE("/usr", "/d", "")},
	{"-v", "/usr/:/d/", SHARE("/usr", "/d", "")},
	{"-v", "/usr:/d:ro", SHARE("/usr", "/d", "\"ro\"")},
	{"-v", "/usr:/d:rw", SHARE("/usr", "/d", "")},
	{"-v", "/usr:/d:ro,Z,noexec", SHARE("/usr", "/d", "\"noexec\",\"ro\"")},
	{"-v", "./sub:/d", SHARE("@/sub", "/d", "")},
	{"-v", "./file:/d", SHARE("@/file", "/d", "")},
	{"-v", "./link:/d", SHARE("@/sub", "/d", "")},
	{"-v", "link/..:/d", SHARE("@", "/d", "")},
	{"-v", ".:/d", SHARE("@", "/d", "")},
	{"-v", "sub/:/a//b/./c", SHARE("@/sub", "/a/b/c", "")},
	{"-v", "name:/d", VOLUME("name", "/d", "")},
	{"-v", "sub:/d", VOLUME("sub", "/d", "")}, /* a name, whatever is here */
	{"-v", "a_b.c-1:/d:ro", VOLUME("a_b.c-1", "/d", "\"ro\"")},
	{"-v", "/d", VOLUME("", "/d", "")},
	{"--volume", "x:/d...", VOLUME("x", "/d...", "")},
	{"--mount", "source=/usr,target=/d", SHARE("/usr", "/d", "")},
	{"--mount", "type=bind,src=./sub,dst=/d,readonly", SHARE("@/sub", "/d", "\"ro\"")},
	{"--mount", "type=virtiofs,source=sub,destination=/d,ro", SHARE("@/sub", "/d", "\"ro\"")},
	{"--mount", "type=bind,src=file,dst=/d,readonly=false", SHARE("@/file", "/d", "")},
	{"--mount", "target=/d,readonly=true,source=/usr,type=bind", SHARE("/usr", "/d", "\"ro\"")},
	{"--mount", "type=volume,source=n,target=/d", VOLUME("n", "/d", "")},
	{"--mount", "type=volume,target=/d,ro", VOLUME("", "/d", "\"ro\"")},
	{"--mount", "type=tmpfs,target=/d", TMPFS("/d", "")},
	{"--mount", "type=tmpfs,dst=/d,size=1m,mode=1777",
	 TMPFS("/d", "\"size=1048576\",\"mode=1777\"")},
	{"--mount", "type=tmpfs,dst=/d,tmpfs-size=64k,ro", TMPFS("/d", "\"size=65536\",\"ro\"")},
	{"--tmpfs", "/d", TMPFS("/d", "")},
	{"--tmpfs", "/d:size=1m,mode=700", TMPFS("/d", "\"size=1m\",\"mode=700\"")},
};

/* want with the working directory for each '@'. */
static char *filled(const char *want)
{
	CLEANUP_FREE char *cwd = realpath(".", NULL);
	CLEANUP_BUF struct buf b = {0};

	for (; *want; want++)
		if (*want == '@')
			buf_puts(&b, cwd);
		else
			buf_append(&b, want, 1);
	return STEAL(b.data);
}

static void test_good(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct error *e = NULL;
		CLEANUP_JSON struct json_object *m = BUILD(&e, good[i].flag, good[i].value);
		CLEANUP_FREE char *want = filled(good[i].want), *got = NULL;
		CLEANUP_FREE char *why = e ? error_text(e) : NULL;

		if (!m)
			fail_msg("%s %s: %s", good[i].flag, good[i].value, why);
		assert_int_equal(json_object_array_length(m), 1);
		got = xstrdup(
			json_object_to_json_string_ext(json_object_array_get_idx(m, 0),
						       JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
		assert_string_equal(got, want);
	}
}

static const struct {
	const char *flag, *value;
	enum error_code code;
	const char *says;
} refused[] = {
	{"-v", "", ERR_INVALID_ARGUMENT, "invalid volume ''"},
	{"-v", ":", ERR_INVALID_ARGUMENT, "invalid volume ':'"},
	{"-v", ":/d", ERR_INVALID_ARGUMENT, "invalid volume ':/d'"},
	{"-v", "name:", ERR_INVALID_ARGUMENT, "invalid volume 'name:'"},
	{"-v", "name", ERR_INVALID_ARGUMENT, "absolute path"},
	{"-v", "name:d", ERR_INVALID_ARGUMENT, "absolute path"},
	{"-v", "name:/", ERR_INVALID_ARGUMENT, "below /"},
	{"-v", "name://.", ERR_INVALID_ARGUMENT, "below /"},
	{"-v", "name:/a/../b", ERR_INVALID_ARGUMENT, "without .."},
	{"-v", "name:/d:ro:x", ERR_INVALID_ARGUMENT, "invalid volume 'name:/d:ro:x'"},
	{"-v", "name:/d:", ERR_INVALID_ARGUMENT, "there is no option ''"},
	{"-v", "name:/d:rx", ERR_INVALID_ARGUMENT, "there is no option 'rx'"},
	{"-v", "-name:/d", ERR_INVALID_ARGUMENT, "invalid volume name '-name'"},
	{"-v", "na me:/d", ERR_INVALID_ARGUMENT, "invalid volume name 'na me'"},
	{"-v", ".hid:/d", ERR_INVALID_ARGUMENT, "invalid volume name '.hid'"},
	{"-v", "./none:/d", ERR_NOT_FOUND, "path './none': No such file"},
	{"-v", "./file/:/d", ERR_INTERNAL, "Not a directory"},
	{"--mount", "", ERR_INVALID_ARGUMENT, "there is no key ''"},
	{"--mount", "type=bind", ERR_INVALID_ARGUMENT, "names no target"},
	{"--mount", "type=bind,target=/d", ERR_INVALID_ARGUMENT, "names no source"},
	{"--mount", "target=/d", ERR_INVALID_ARGUMENT, "names no source"},
	{"--mount", "type=nfs,source=/usr,target=/d", ERR_INVALID_ARGUMENT, "type is bind"},
	{"--mount", "type,source=/usr,target=/d", ERR_INVALID_ARGUMENT, "type is bind"},
	{"--mount", "source=/usr,target=/d,colour=red", ERR_INVALID_ARGUMENT, "no key 'colour'"},
	{"--mount", "source=/usr,target=/d,", ERR_INVALID_ARGUMENT, "no key ''"},
	{"--mount", "source=/usr,src=/usr,target=/d", ERR_INVALID_ARGUMENT, "said once"},
	{"--mount", "source=/usr,target=/d,dst=/e", ERR_INVALID_ARGUMENT, "said once"},
	{"--mount", "source=,target=/d", ERR_INVALID_ARGUMENT, "not empty"},
	{"--mount", "source=/usr,target", ERR_INVALID_ARGUMENT, "not empty"},
	{"--mount", "source=/usr,target=d", ERR_INVALID_ARGUMENT, "absolute path"},
	{"--mount", "source=/usr,target=/d,ro=maybe", ERR_INVALID_ARGUMENT, "true or false"},
	{"--mount", "source=/usr,target=/d,size=1m", ERR_INVALID_ARGUMENT, "of a tmpfs"},
	{"--mount", "type=volume,target=/d,mode=700", ERR_INVALID_ARGUMENT, "of a tmpfs"},
	{"--mount", "type=volume,source=/usr,target=/d", ERR_INVALID_ARGUMENT,
	 "volume name '/usr'"},
	{"--mount", "type=volume,source=../n,target=/d", ERR_INVALID_ARGUMENT,
	 "volume name '../n'"},
	{"--mount", "type=tmpfs,source=/usr,target=/d", ERR_INVALID_ARGUMENT, "no source"},
	{"--mount", "type=tmpfs,target=/d,size=much", ERR_INVALID_ARGUMENT, "size is"},
	{"--mount", "type=tmpfs,target=/d,size=0", ERR_INVALID_ARGUMENT, "size is"},
	{"--mount", "type=tmpfs,target=/d,mode=9", ERR_INVALID_ARGUMENT, "octal"},
	{"--mount", "type=tmpfs,target=/d,mode=17777", ERR_INVALID_ARGUMENT, "octal"},
	{"--mount", "type=bind,source=/nonexistent/x,target=/d", ERR_NOT_FOUND, "/nonexistent/x"},
	{"--tmpfs", "rel", ERR_INVALID_ARGUMENT, "invalid tmpfs 'rel'"},
	{"--tmpfs", "/", ERR_INVALID_ARGUMENT, "invalid tmpfs '/'"},
	{"--tmpfs", "/a/..", ERR_INVALID_ARGUMENT, "without .."},
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_JSON struct json_object *m = BUILD(&e, refused[i].flag, refused[i].value);
		CLEANUP_FREE char *text = NULL;

		if (m)
			fail_msg("%s %s was taken", refused[i].flag, refused[i].value);
		text = error_text(e);
		if (!strstr(text, refused[i].says) || e->code != refused[i].code)
			fail_msg("%s %s: %s: %s", refused[i].flag, refused[i].value,
				 error_code_name(e->code), text);
	}
}

/* In the order of the flags' kinds; each destination once, however it is written. */
static void test_several(void **state)
{
	CLEANUP_JSON struct json_object *m = NULL;
	struct error *e = NULL;

	m = BUILD(&e, "-v", "/b", "-v", "n:/c", "--mount", "type=tmpfs,target=/a", "--tmpfs", "/t");
	assert_null(e);
	assert_int_equal(json_object_array_length(m), 4);
	assert_string_equal(json_str(json_object_array_get_idx(m, 0), "destination", ""), "/t");
	assert_string_equal(json_str(json_object_array_get_idx(m, 1), "destination", ""), "/a");
	assert_string_equal(json_str(json_object_array_get_idx(m, 3), "destination", ""), "/c");
	assert_null(BUILD(NULL, "-v", "n:/a", "-v", "m:/a/"));
	assert_null(BUILD(NULL, "--tmpfs", "/a", "-v", "m:/./a"));
	assert_null(BUILD(NULL, "--mount", "source=/usr,target=//a", "-v", "/a"));
}

static void test_names(void **state)
{
	static const char *const ok[] = {"a", "0", "A.b_c-d", "a..", "a.b"};
	static const char *const no[] = {"",     ".",        "..",        "-a",  "_a",
					 ".a",   "a/b",      "a b",       "a\n", "a:b",
					 "a\\b", "\303\244", "a\303\244", "a*"};
	char longest[VOLUME_NAME_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(ok); i++)
		assert_true(volume_name_ok(ok[i]));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		assert_false(volume_name_ok(no[i]));
	memset(longest, 'x', sizeof(longest));
	longest[VOLUME_NAME_MAX + 1] = 0;
	assert_false(volume_name_ok(longest));
	longest[VOLUME_NAME_MAX] = 0;
	assert_true(volume_name_ok(longest));
}

static char dir[] = "/tmp/test_cli_mounts.XXXXXX";

static int enter(void **state)
{
	FILE *f;

	if (!mkdtemp(dir) || chdir(dir) || mkdir("sub", 0755) || symlink("sub", "link"))
		return -1;
	f = fopen("file", "w");
	return f ? fclose(f) : -1;
}

static int leave(void **state)
{
	return unlink("file") || unlink("link") || rmdir("sub") || rmdir(dir);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
