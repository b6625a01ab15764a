/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - what json-c lacks for hostile input: strict parsing with bounds and typed getters.
 *
 * Ownership follows json-c: objects returned by *_parse and *_read are owned by the caller
 * (json_put or CLEANUP_JSON); getters return borrowed pointers.
 */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include <json-c/json.h>
#include "core/error.h"

static inline void json_putp(struct json_object **o)
{
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_putp)

#define JSON_MAX_DEPTH 64

/* json_parse: exactly one JSON value in text[0..len), depth at most JSON_MAX_DEPTH, no trailing
 * bytes but white space. NULL and *err on failure. */
struct json_object *json_parse(const char *text, size_t len, struct error **err);
/* json_parse_relaxed: the same with C and C++ comments allowed (configuration files). */
struct json_object *json_parse_relaxed(const char *text, size_t len, struct error **err);

/* Optional members: the default when absent or of another type. */
const char *json_str(struct json_object *o, const char *key, const char *dflt);
int64_t json_int(struct json_object *o, const char *key, int64_t dflt);
bool json_flag(struct json_object *o, const char *key, bool dflt);
struct json_object *json_get(struct json_object *o, const char *key); /* NULL if absent */
struct json_object *json_arr(struct json_object *o, const char *key); /* NULL unless an array */
struct json_object *json_obj(struct json_object *o, const char *key); /* NULL unless an object */

/* Required members: -1 and an invalidArgument error naming the key when absent or mistyped. A
 * string with an embedded NUL is refused by both families. */
int json_need_str(struct json_object *o, const char *key, const char **out, struct error **err);
int json_need_int(struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *out,
		  struct error **err);
int json_need_obj(struct json_object *o, const char *key, struct json_object **out,
		  struct error **err);
int json_need_arr(struct json_object *o, const char *key, struct json_object **out,
		  struct error **err);

/* Setters that read well; values are copied (json_set takes ownership of v). */
void json_set(struct json_object *o, const char *key, struct json_object *v);
void json_set_str(struct json_object *o, const char *key, const char *v); /* NULL v: left out */
void json_set_int(struct json_object *o, const char *key, int64_t v);
void json_set_bool(struct json_object *o, const char *key, bool v);
void json_add_str(struct json_object *arr, const char *v);

/* json_sorted: a deep copy with object keys sorted; the caller owns it. */
struct json_object *json_sorted(struct json_object *o);

/* json_text: a value as text without blanks; the caller owns it. What is kept for long is kept so: as a tree it takes twenty times
 * the memory. */
char *json_text(struct json_object *o);
/* json_raw: a member of what is only sent: it is sent as text, one JSON value, which is copied. Who looks at it sees a boolean. */
struct json_object *json_raw(const char *text);

#endif
