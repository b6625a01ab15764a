/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_watch.c - what a runtime helper tells of its own accord: results of health checks, ends of exec processes, processes that
 * were out of memory.
 *
 * One call to the helper (runtime.watch) runs as long as its container; what it tells are the call's progress events. On the helper's
 * other side is a guest, so nothing is passed on as it is: texts are bounded, words are of the known ones.
 */
#include "cmd/apiserver.h"

#define LOG_MAX     5
#define OUTPUT_MAX  4096
#define TEST_MAX    64
#define TEST_LENGTH (64u << 10)

/* ---- health ---- */

static const char *status_word(const char *s)
{
	static const char *const words[] = {"starting", "healthy", "unhealthy"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (str_eq(s, words[i]))
			return words[i];
	return NULL;
}

static void copy_text(struct json_object *from, struct json_object *to, const char *key, size_t max)
{
	const char *s = json_str(from, key, "");
	CLEANUP_FREE char *text = utf8_text(s, MIN(strlen(s), max));

	json_set_str(to, key, text);
}

static struct json_object *health_copy(struct json_object *in)
{
	const char *status = status_word(json_str(in, "status", ""));
	struct json_object *log = json_arr(in, "log"), *o, *list;
	size_t i, n = log ? json_object_array_length(log) : 0;

	if (!status)
		return NULL;
	o = json_object_new_object();
	list = json_object_new_array();
	json_set_str(o, "status", status);
	json_set_int(o, "failingStreak", json_int(in, "failingStreak", 0) & 0xffff);
	for (i = 0; i < n && i < LOG_MAX; i++) {
		struct json_object *from = json_object_array_get_idx(log, i),
				   *to = json_object_new_object();

		copy_text(from, to, "start", TIME_STAMP_LEN);
		copy_text(from, to, "end", TIME_STAMP_LEN);
		json_set_int(to, "exitCode",
			     MIN(MAX(json_int(from, "exitCode", 0), -1), UINT8_MAX));
		copy_text(from, to, "output", OUTPUT_MAX);
		json_object_array_add(list, to);
	}
	json_set(o, "log", list);
	return o;
}

static void told_health(struct container *ct, struct json_object *ev)
{
	struct json_object *now = health_copy(ev), *was = ct->health;
	const char *status = json_str(now, "status", "");

	if (!now)
		return;
	/* What an apiserver learns of a container that it takes over is no news. */
	if (was && strcmp(json_str(was, "status", ""), status)) {
		CLEANUP_FREE char *action = xasprintf("health_status: %s", status);

		log_info("container %s is %s", ct->id, status);
		events_container(ct, action, NULL, NULL);
	}
	ct->health = now;
	json_object_put(was);
}

int health_check(struct json_object *config, struct error **err)
{
	static const char *const spans[] = {"interval", "timeout", "startPeriod", "startInterval"};
	struct json_object *o = json_get(config, "healthcheck"), *test;
	size_t n, sum = 0;
	int64_t v;

	if (!o)
		return 0;
	if (!json_object_is_type(o, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"healthcheck\" must be an object");
	if (json_need_arr(o, "test", &test, err))
		return -1;
	n = json_object_array_length(test);
	for (size_t i = 0; i < n; i++) {
		struct json_object *word = json_object_array_get_idx(test, i);

		if (!json_object_is_type(word, json_type_string))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "the health check's test must be strings");
		sum += (size_t)json_object_get_string_len(word);
	}
	if (n > TEST_MAX || sum > TEST_LENGTH)
		return error_set(err, ERR_INVALID_ARGUMENT, "the health check's test is too long");
	for (size_t i = 0; i < ARRAY_SIZE(spans); i++)
		if (json_get(o, spans[i]) && json_need_int(o, spans[i], 0, INT64_MAX, &v, err))
			return -1;
	return json_get(o, "retries") ? json_need_int(o, "retries", 0, 1000000, &v, err) : 0;
}

/* ---- the call ---- */

static void told(void *arg, struct json_object *ev)
{
	struct container *ct = arg;
	const char *what = json_str(ev, "event", "");
	struct json_object *o;

	if (str_eq(what, "health")) {
		told_health(ct, ev);
	} else if (str_eq(what, "execDied")) {
		CLEANUP_FREE char *code =
			xasprintf("%lld", (long long)(json_int(ev, "exitCode", 255) & 0xff));

		o = events_container_attributes(ct);
		copy_text(ev, o, "execID", 32);
		json_set_str(o, "exitCode", code);
		events_emit(ct->s, "container", "exec_die", ct->id, o);
	} else if (str_eq(what, "oom")) {
		events_container(ct, "oom", NULL, NULL);
	} else if (str_eq(what, "dial")) {
		sockets_dial(ct, ev);
	}
}

void container_watch_helper(struct container *ct, struct json_object *health)
{
	if (health)
		told_health(ct, health);
	if (ct->conn)
		rpc_call_async(ct->conn, "runtime.watch", NULL, NULL, 0, NULL, told, ct);
}
