// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_json.c - the JSON reader under all protocols and documents. Hostile: the text: depth, numbers, strings with NUL,
 * bad UTF-8, things behind the end. What is taken must survive being written and read again.
 */
#include "core/json.h"
#include "core/str.h"
#include "tests/fuzz/fuzz.h"

static void use(struct json_object *o)
{
	struct json_object *sub;
	const char *s;
	int64_t v;

	(void)json_str(o, "a", "");
	(void)json_flag(o, "a", false);
	(void)json_arr(o, "a");
	(void)json_need_obj(o, "a", &sub, NULL);
	(void)json_need_arr(o, "a", &sub, NULL);
	if (json_need_str(o, "a", &s, NULL) == 0)
		FUZZ_CHECK(strlen(s) == (size_t)json_object_get_string_len(json_get(o, "a")));
	if (json_need_int(o, "a", -5, 1000, &v, NULL) == 0)
		FUZZ_CHECK(v >= -5 && v <= 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_object *o = json_parse((const char *)data, size, NULL), *again, *sorted;
	const char *text;
	size_t n;

	if (o) {
		use(o);
		text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &n);
		again = json_parse(text, n, NULL);
		FUZZ_CHECK(again || json_object_is_type(o, json_type_null));
		json_object_put(again);
		sorted = json_sorted(o);
		json_object_put(sorted);
		json_object_put(o);
	}
	json_object_put(json_parse_relaxed((const char *)data, size, NULL));
	return 0;
}
