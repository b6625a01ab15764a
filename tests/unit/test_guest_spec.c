// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_guest_spec.c - what a process may be (attack class M): the guest refuses words with NULs, too many words, relative
 * directories, ids and limits that do not fit. The guest's files are included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/str.h"
#include "vmm/guest/cred.c"
#include "vmm/guest/spawn.c"

static int parse(const char *json)
{
	CLEANUP_JSON struct json_object *o = json_parse(json, strlen(json), NULL);
	struct spec s;
	int rc;

	assert_non_null(o);
	rc = spec_parse(o, &s, NULL);
	spec_free(&s);
	return rc;
}

static void test_good(void **state)
{
	assert_int_equal(parse("{\"id\":\"init\",\"args\":[\"sh\"],\"env\":[\"A=b\\nc\",\"\"],"
			       "\"cwd\":\"/\"}"),
			 0);
	assert_int_equal(parse("{\"id\":\"init\",\"args\":[\"sh\",\"\"]}"), 0);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"{\"id\":\"i\"}",
		"{\"id\":\"i\",\"args\":[]}",
		"{\"id\":\"i\",\"args\":[\"\"]}",
		"{\"id\":\"i\",\"args\":\"sh\"}",
		"{\"id\":\"i\",\"args\":[7]}",
		"{\"id\":\"i\",\"args\":[null]}",
		"{\"id\":\"\",\"args\":[\"sh\"]}",
		"{\"id\":\"i\",\"args\":[\"sh\\u0000x\"]}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"env\":[\"A=b\\u0000c\"]}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"env\":[{}]}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"cwd\":\"tmp\"}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"cwd\":\"../x\"}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"stdin\":-1}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"stdout\":4294967295}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"tty\":true,\"stderr\":70000}",
		"{\"id\":\"i\",\"args\":[\"sh\"],\"capabilities\":[\"CAP_NONSENSE\"]}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!parse(bad[i]))
			fail_msg("case %zu was taken: %s", i, bad[i]);
}

/* An entrypoint of very many words is refused before anything is made of it. */
static void test_huge(void **state)
{
	static const size_t counts[] = {MAX_STRINGS - 1, MAX_STRINGS + 1};

	for (size_t k = 0; k < ARRAY_SIZE(counts); k++) {
		CLEANUP_BUF struct buf b = {0};

		buf_puts(&b, "{\"id\":\"i\",\"args\":[\"sh\"");
		for (size_t i = 1; i < counts[k]; i++)
			buf_puts(&b, ",\"a\"");
		buf_puts(&b, "]}");
		assert_int_equal(parse(b.data), k ? -1 : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_huge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
