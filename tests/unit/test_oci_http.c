// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_http.c - what registries say beside their answers; attack class K: texts made to be shown. */
#include "tests/unit/oci_fixture.h"

#include "oci/http.h"

static void assert_says(char *got, const char *want)
{
	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
	free(got);
}

static void assert_error(const char *body, const char *want)
{
	assert_says(http_error_text(body, strlen(body)), want);
}

static void test_k_error_text(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	char *got;

	assert_error(
		"{\"errors\":[{\"code\":\"X\",\"message\":\"slow down\"},{\"message\":\"y\"}]}",
		"slow down");
	assert_error("{\"errors\":[{\"code\":\"DENIED\"}]}", "DENIED");
	assert_error("{\"details\":\"incorrect username or password\"}",
		     "incorrect username or password");
	assert_error("{\"message\":\"a\\nb\\u001b[2Jc\\u007f\"}", "a b [2Jc ");
	assert_error("{\"errors\":[]}", NULL);
	assert_error("{\"errors\":[7]}", NULL);
	assert_error("{\"errors\":{}}", NULL);
	assert_error("{\"message\":{}}", NULL);
	assert_error("[]", NULL);
	assert_error("", NULL);
	assert_error("<html>", NULL);
	buf_puts(&b, "{\"message\":\"");
	while (b.len < 4000)
		buf_puts(&b, "long ");
	buf_puts(&b, "\"}");
	got = http_error_text(b.data, b.len);
	assert_int_equal(strlen(got), 240);
	free(got);
}

static void test_k_warning_text(void **state)
{
	assert_says(http_warning_text("299 - \"read \\\"only\\\" tomorrow\""),
		    "read \"only\" tomorrow");
	assert_says(http_warning_text("299 - \"no end"), "no end");
	assert_says(http_warning_text("299 - \"\x1b[2Jx\""), " [2Jx");
	assert_says(http_warning_text("199 - \"other code\""), NULL);
	assert_says(http_warning_text("299 agent \"not from the registry\""), NULL);
	assert_says(http_warning_text("299 - \"\""), NULL);
	assert_says(http_warning_text(""), NULL);
}

static void test_k_retry_after(void **state)
{
	time_t soon = time(NULL) + 100;
	struct tm tm;
	char date[64];

	assert_int_equal(http_retry_after("7"), 7);
	assert_int_equal(http_retry_after("999999999999"), 3600);
	assert_int_equal(http_retry_after("99999999999999999999999"), 0);
	assert_int_equal(http_retry_after("-5"), 0);
	assert_int_equal(http_retry_after("soon"), 0);
	assert_int_equal(http_retry_after(""), 0);
	assert_int_equal(http_retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
	assert_int_equal(http_retry_after("Fri, 01 Jan 2100 00:00:00 GMT"), 3600);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&soon, &tm));
	assert_in_range(http_retry_after(date), 60, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_k_error_text),
		cmocka_unit_test(test_k_warning_text),
		cmocka_unit_test(test_k_retry_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
