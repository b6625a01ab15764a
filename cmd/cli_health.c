/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_health.c - the health check of a configuration, from flags and the image (cmd/runtime_health.c says what it means).
 *
 * What no flag says is as in the image, when that has a check; a flag without a check to apply to is an error.
 */
#include "cmd/cli_config.h"
#include "cmd/when.h"

const struct opt opt_health[] = {
	{"health-cmd", 0, OPT_VALUE, "command", NULL,
	 "Command, for a shell in the container, that tells by its exit status whether it is well",
	 0},
	{"health-interval", 0, OPT_VALUE, "duration", NULL,
	 "Time between two health checks, 30s when not given", 0},
	{"health-retries", 0, OPT_VALUE, "n", NULL,
	 "Failures in a row that make it unhealthy, 3 when not given", 0},
	{"health-start-interval", 0, OPT_VALUE, "duration", NULL,
	 "Time between two health checks in the start period, 5s when not given", 0},
	{"health-start-period", 0, OPT_VALUE, "duration", NULL,
	 "Time in which failures do not count before the first success", 0},
	{"health-timeout", 0, OPT_VALUE, "duration", NULL,
	 "Time that a health check may take, 30s when not given", 0},
	{"no-healthcheck", 0, OPT_FLAG, NULL, NULL, "No health checks, whatever the image says", 0},
	{0},
};

/* Docker's images have {"Test", "Interval", …} with times in nanoseconds. */
static struct json_object *from_image(struct json_object *config)
{
	static const char *const names[][2] = {
		{"Interval", "interval"},       {"Timeout", "timeout"},
		{"StartPeriod", "startPeriod"}, {"StartInterval", "startInterval"},
		{"Retries", "retries"},
	};
	struct json_object *in = json_obj(config, "Healthcheck"), *test = json_arr(in, "Test"), *o;

	if (!test || !json_object_array_length(test) ||
	    str_eq(json_object_get_string(json_object_array_get_idx(test, 0)), "NONE"))
		return NULL;
	o = json_object_new_object();
	json_set(o, "test", json_object_get(test));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (json_int(in, names[i][0], 0) > 0)
			json_set_int(o, names[i][1], json_int(in, names[i][0], 0));
	return o;
}

static int put_flags(const struct opt_args *a, struct json_object *o, struct error **err)
{
	static const char *const spans[][2] = {
		{"health-interval", "interval"},
		{"health-timeout", "timeout"},
		{"health-start-period", "startPeriod"},
		{"health-start-interval", "startInterval"},
	};
	const char *retries = opt_str(a, "health-retries", NULL);
	int64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		const char *text = opt_str(a, spans[i][0], NULL);

		if (!text)
			continue;
		if (span_parse(text, &n, err))
			return error_wrap(err, "--%s", spans[i][0]);
		if (n < 1000000 && n)
			return error_set(err, ERR_INVALID_ARGUMENT, "--%s must be 1 ms at least",
					 spans[i][0]);
		json_set_int(o, spans[i][1], n);
	}
	if (retries && (parse_i64(retries, &n) || n < 1 || n > 1000000))
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid number of retries '%s'",
				 retries);
	if (retries)
		json_set_int(o, "retries", n);
	return 0;
}

int health_build(const struct opt_args *a, struct json_object *image, struct json_object *out,
		 struct error **err)
{
	CLEANUP_JSON struct json_object *o = from_image(image);
	const char *cmd = opt_str(a, "health-cmd", NULL);
	bool flags = false;

	for (size_t i = 0; opt_health[i].names; i++)
		flags |= opt_has(a, opt_health[i].names) &&
			 strcmp(opt_health[i].names, "no-healthcheck");
	if (opt_has(a, "no-healthcheck"))
		return flags ? error_set(err, ERR_INVALID_ARGUMENT,
					 "--no-healthcheck cannot be used with other --health "
					 "options")
			     : 0;
	if (cmd && *cmd) {
		struct json_object *test = json_object_new_array();

		if (!o)
			o = json_object_new_object();
		json_add_str(test, "CMD-SHELL");
		json_add_str(test, cmd);
		json_set(o, "test", test);
	}
	if (!o)
		return flags ? error_set(err, ERR_INVALID_ARGUMENT,
					 "the image has no health check; --health-cmd says one")
			     : 0;
	if (put_flags(a, o, err))
		return -1;
	json_set(out, "healthcheck", STEAL(o));
	return 0;
}
