/* SPDX-License-Identifier: Apache-2.0 */
/* cli_isolation.c - what a container's processes may do and see: the flags about capabilities, paths, system calls, sysctls. */
#include <fcntl.h>
#include <stdlib.h>

#include "cmd/cli_config.h"
#include "core/path.h"
#include "core/hidden.h"
#include "vmm/seccomp.h"

#define PROFILE_MAX (256u << 10)
#define SCORE_MAX   1000
#define PIDS_MAX    (4 << 20)

/* ---- paths ---- */

/* The default list, then what is given; NONE forgets all before it. Without the flag nothing is said. */
static int put_paths(const struct opt_args *a, const char *flag, const char *const *dflt, size_t n,
		     const char *key, struct json_object *out, struct error **err)
{
	size_t given, i;
	CLEANUP_FREE const char **v = opt_list(a, flag, &given);
	struct json_object *arr;

	if (!given)
		return 0;
	arr = json_object_new_array();
	json_set(out, key, arr);
	for (i = 0; i < n; i++)
		json_add_str(arr, dflt[i]);
	for (i = 0; i < given; i++) {
		if (!strcmp(v[i], "NONE")) {
			arr = json_object_new_array();
			json_set(out, key, arr);
		} else if (*v[i] != '/') {
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "--%s: '%s' is not an absolute path", flag, v[i]);
		} else {
			json_add_str(arr, v[i]);
		}
	}
	return 0;
}

static void all_paths(struct json_object *out)
{
	json_set(out, "maskedPaths", json_object_new_array());
	json_set(out, "readonlyPaths", json_object_new_array());
}

/* ---- system calls and the like ---- */

static int profile_read(const char *path, struct json_object *out, struct error **err)
{
	CLEANUP_BUF struct buf text = {0}, unused = {0};
	CLEANUP_JSON struct json_object *o = NULL;

	if (path_read_all(AT_FDCWD, path, PROFILE_MAX, &text, err))
		return error_wrap(err, "seccomp profile %s", path);
	o = json_parse(text.data, text.len, err);
	if (!o || !json_object_is_type(o, json_type_object))
		return o ? error_set(err, ERR_INVALID_ARGUMENT,
				     "seccomp profile %s is no JSON object", path)
			 : error_wrap(err, "seccomp profile %s", path);
	if (seccomp_compile(o, 0, &unused, err))
		return error_wrap(err, "%s", path);
	json_set(out, "seccompProfile", STEAL(o));
	return 0;
}

/* "key=value" and docker's older "key:value". */
static int security_opt(const char *word, struct json_object *out, struct error **err)
{
	CLEANUP_FREE char *key = xstrndup(word, strcspn(word, "=:"));
	const char *value = word[strlen(key)] ? word + strlen(key) + 1 : NULL;

	if (!strcmp(key, "no-new-privileges") &&
	    (!value || !strcmp(value, "true") || !strcmp(value, "false"))) {
		json_set_bool(out, "noNewPrivileges", !value || !strcmp(value, "true"));
		return 0;
	}
	if (!strcmp(key, "seccomp") && value && *value) {
		if (strcmp(value, "unconfined"))
			return profile_read(value, out, err);
		json_set_str(out, "seccompProfile", value);
		return 0;
	}
	if (!strcmp(word, "systempaths=unconfined")) {
		all_paths(out);
		return 0;
	}
	/* There is neither in the guest. */
	if (!strcmp(word, "apparmor=unconfined") || !strcmp(word, "label=disable"))
		return 0;
	return error_set(err, ERR_INVALID_ARGUMENT,
			 "--security-opt '%s': no-new-privileges, seccomp=unconfined, "
			 "seccomp=<profile.json> or systempaths=unconfined expected",
			 word);
}

static int put_sysctls(const struct opt_args *a, struct json_object *out, struct error **err)
{
	struct json_object *o = json_object_new_object();
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "sysctl", &n);

	json_set(out, "sysctls", o);
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *key = xstrndup(v[i], strcspn(v[i], "="));

		if (!*key || !v[i][strlen(key)])
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "--sysctl '%s': name=value expected", v[i]);
		json_set_str(o, key, v[i] + strlen(key) + 1);
	}
	return 0;
}

static int put_number(const struct opt_args *a, const char *flag, int64_t min, int64_t max,
		      struct json_object *o, const char *key, struct error **err)
{
	const char *text = opt_str(a, flag, NULL);
	int64_t v;

	if (!text)
		return 0;
	if (parse_i64(text, &v) || v < min || v > max)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "--%s: '%s' is not a number from %lld to %lld", flag, text,
				 (long long)min, (long long)max);
	json_set_int(o, key, v);
	return 0;
}

/* Numbers are ids; names are looked up in the container. */
static void put_groups(const struct opt_args *a, struct json_object *proc)
{
	struct json_object *names = json_object_new_array(),
			   *ids = json_arr(proc, "supplementalGroups");
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "group-add", &n);

	for (size_t i = 0; i < n; i++) {
		int64_t id;

		if (!parse_i64(v[i], &id) && id >= 0 && id < UINT32_MAX)
			json_object_array_add(ids, json_object_new_int64(id));
		else
			json_add_str(names, v[i]);
	}
	if (json_object_array_length(names))
		json_set(proc, "supplementalGroupNames", names);
	else
		json_object_put(names);
}

static int put_caps(const struct opt_args *a, const char *flag, const char *key,
		    struct json_object *out, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, flag, &n);
	struct json_object *caps;

	if (caps_parse(v, &caps, err))
		return -1;
	json_set(out, key, caps);
	return 0;
}

static int put_kernel_args(const struct opt_args *a, struct json_object *out, struct error **err)
{
	struct json_object *arr = json_object_new_array();
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "kernel-arg", &n);

	json_set(out, "kernelArgs", arr);
	for (size_t i = 0; i < n; i++) {
		for (const char *p = v[i]; *p; p++)
			if (*p < ' ' || *p > '~')
				return error_set(err, ERR_INVALID_ARGUMENT,
						 "--kernel-arg: '%s' has other than printable "
						 "ASCII characters",
						 v[i]);
		json_add_str(arr, v[i]);
	}
	return 0;
}

int config_isolation(const struct opt_args *a, struct json_object *out, struct error **err)
{
	struct json_object *proc = json_obj(out, "initProcess");
	size_t n, i;
	CLEANUP_FREE const char **security = opt_list(a, "security-opt", &n);

	if (opt_has(a, "privileged")) {
		json_set_bool(out, "privileged", true);
		json_set_str(out, "seccompProfile", "unconfined");
		all_paths(out);
	}
	for (i = 0; i < n; i++)
		if (security_opt(security[i], out, err))
			return -1;
	json_set_bool(out, "readOnly", opt_has(a, "read-only"));
	json_set_bool(out, "useInit", opt_has(a, "init"));
	put_groups(a, proc);
	if (put_caps(a, "cap-add", "capAdd", out, err) ||
	    put_caps(a, "cap-drop", "capDrop", out, err) ||
	    put_paths(a, "masked-path", hidden_masked, ARRAY_SIZE(hidden_masked), "maskedPaths",
		      out, err) ||
	    put_paths(a, "read-only-path", hidden_readonly, ARRAY_SIZE(hidden_readonly),
		      "readonlyPaths", out, err))
		return -1;
	if (put_number(a, "pids-limit", -1, PIDS_MAX, json_obj(out, "resources"), "pids", err) ||
	    put_number(a, "oom-score-adj", -SCORE_MAX, SCORE_MAX, proc, "oomScoreAdj", err))
		return -1;
	return put_sysctls(a, out, err) || put_kernel_args(a, out, err) ? -1 : 0;
}
