/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_config.c - puts a container's configuration together.
 *
 * Command line = entrypoint (flag, else image) + arguments (given, else the image's CMD, which a given
 * entrypoint drops). Environment: image, env files, -e; later wins by key.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include "cmd/cli_config.h"
#include "cmd/cli_mounts.h"
#include "cmd/stdlog.h"

#define RUNTIME_HANDLER "container-runtime-linux"
#define HOSTNAME_MAX    64
#define HOSTNAME_CHARS  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

static void add_all(struct json_object *to, struct json_object *from)
{
	for (size_t i = 0; from && i < json_object_array_length(from); i++)
		json_object_array_add(to, json_object_get(json_object_array_get_idx(from, i)));
}

static struct json_object *list_array(const struct opt_args *a, const char *key)
{
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, key, &n);
	struct json_object *arr = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_add_str(arr, v[i]);
	return arr;
}

/* ---- platform ---- */

static const char *arch_name(const char *arch)
{
	if (!strcmp(arch, "x86_64") || !strcmp(arch, "x86-64"))
		return "amd64";
	return !strcmp(arch, "aarch64") ? "arm64" : arch;
}

static int platform_normal(const char *s, char **out, struct error **err)
{
	CLEANUP_FREE char *copy = xstrdup(s);
	char *rest = copy, *os = strsep(&rest, "/"), *arch = strsep(&rest, "/");

	if (!*os || !arch || !*arch || (rest && (!*rest || strchr(rest, '/'))))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid platform '%s': <os>/<arch>[/<variant>] expected", s);
	*out = xasprintf("%s/%s%s%s", os, arch_name(arch), rest ? "/" : "", rest ? rest : "");
	return 0;
}

int platform_flags(const struct opt_args *a, const char *env, bool flags_first, char **out,
		   bool *from_env, struct error **err)
{
	const char *os = opt_str(a, "os", NULL), *arch = opt_str(a, "arch", NULL);
	CLEANUP_FREE char *pair = NULL;
	bool parts = os || arch;

	*out = NULL;
	*from_env = false;
	if (opt_has(a, "platform"))
		return platform_normal(opt_str(a, "platform", ""), out, err);
	if (env && *env && !(flags_first && parts)) {
		*from_env = true;
		if (platform_normal(env, out, err))
			return error_wrap(err, "CONTAINER_DEFAULT_PLATFORM");
		return 0;
	}
	if (!parts)
		return 0;
	pair = xasprintf("%s/%s", os ? os : "linux", arch ? arch : "amd64");
	return platform_normal(pair, out, err);
}

/* ---- process ---- */

static int command_line(const struct opt_args *a, struct json_object *config,
			struct json_object *words, struct error **err)
{
	const char *entrypoint = opt_str(a, "entrypoint", NULL);
	size_t first = 1;

	if (entrypoint && *entrypoint)
		json_add_str(words, entrypoint);
	else if (!entrypoint)
		add_all(words, json_arr(config, "Entrypoint"));
	/* Without an entrypoint `--` cannot be meant as an executable. */
	if (a->npos > 1 && !strcmp(a->pos[1], "--") && !json_object_array_length(words))
		first = 2;
	for (size_t i = first; i < a->npos; i++)
		json_add_str(words, a->pos[i]);
	if (a->npos <= first && !entrypoint)
		add_all(words, json_arr(config, "Cmd"));
	if (!json_object_array_length(words))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "command/entrypoint not specified for the container process");
	for (size_t i = 0; i < json_object_array_length(words); i++)
		if (!json_object_is_type(json_object_array_get_idx(words, i), json_type_string))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "the command of the image is no list of words");
	return 0;
}

static int put_environment(const struct opt_args *a, struct json_object *base, const char *key,
			   struct json_object *proc, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **files = opt_list(a, "env-file", &n);
	CLEANUP_FREE const char **flags = opt_list(a, "env", &n);
	struct json_object *env;

	if (env_merge(base, files, flags, environ, &env, err))
		return -1;
	json_set(proc, key, env);
	return 0;
}

static int put_workdir(const char *dir, const char *key, struct json_object *proc,
		       struct error **err)
{
	if (*dir != '/')
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "working directory '%s' is not an absolute path", dir);
	json_set_str(proc, key, dir);
	return 0;
}

static struct json_object *init_process(const struct opt_args *a, struct json_object *config,
					struct error **err)
{
	CLEANUP_JSON struct json_object *proc = json_object_new_object();
	CLEANUP_JSON struct json_object *words = json_object_new_array();
	struct json_object *args = json_object_new_array(), *groups = json_object_new_array();
	struct json_object *user, *limits;
	const char *image_dir = json_str(config, "WorkingDir", "/");
	CLEANUP_FREE const char **ulimit = NULL;
	size_t n;

	json_set(proc, "arguments", args);
	json_set(proc, "supplementalGroups", groups);
	if (command_line(a, config, words, err))
		return NULL;
	json_set(proc, "executable", json_object_get(json_object_array_get_idx(words, 0)));
	for (size_t i = 1; i < json_object_array_length(words); i++)
		json_object_array_add(args, json_object_get(json_object_array_get_idx(words, i)));
	if (put_environment(a, json_arr(config, "Env"), "environment", proc, err) ||
	    put_workdir(opt_str(a, "workdir", *image_dir ? image_dir : "/"), "workingDirectory",
			proc, err))
		return NULL;
	json_set_bool(proc, "terminal", opt_has(a, "tty"));
	user = user_parse(opt_str(a, "user", NULL), opt_str(a, "uid", NULL),
			  opt_str(a, "gid", NULL), json_str(config, "User", NULL), groups, err);
	if (!user)
		return NULL;
	json_set(proc, "user", user);
	ulimit = opt_list(a, "ulimit", &n);
	if (ulimits_parse(ulimit, &limits, err))
		return NULL;
	json_set(proc, "rlimits", limits);
	return STEAL(proc);
}

/* ---- the rest of the configuration ---- */

static int put_resources(const struct opt_args *a, const struct config_defaults *d,
			 struct json_object *out, struct error **err)
{
	struct json_object *r = json_object_new_object();
	const char *text = opt_str(a, "cpus", NULL);
	int64_t cpus = d->cpus, memory;

	json_set(out, "resources", r);
	if (text && (parse_i64(text, &cpus) || cpus < 1 || cpus > CPUS_MAX))
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid number of CPUs '%s'", text);
	if (memory_parse(opt_str(a, "memory", d->memory), &memory, err))
		return -1;
	json_set_int(r, "cpus", cpus);
	json_set_int(r, "memoryInBytes", memory);
	json_set_int(r, "cpuOverhead", 0);
	return 0;
}

static int put_labels(const struct opt_args *a, struct json_object *out, struct error **err)
{
	struct json_object *labels = json_object_new_object();
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "label", &n);

	json_set(out, "labels", labels);
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *key = xstrndup(v[i], strcspn(v[i], "="));

		if (!*key)
			return error_set(err, ERR_INVALID_ARGUMENT, "invalid label '%s'", v[i]);
		json_set_str(labels, key, v[i][strlen(key)] ? v[i] + strlen(key) + 1 : "");
	}
	return 0;
}

static int put_dns(const struct opt_args *a, const struct config_defaults *d,
		   struct json_object *out, struct error **err)
{
	struct json_object *dns, *servers = list_array(a, "dns");
	const char *domain = opt_str(a, "dns-domain", d->dns_domain);

	if (opt_has(a, "no-dns")) {
		json_object_put(servers);
		json_set_bool(out, "noDNS", true);
		return 0;
	}
	dns = json_object_new_object();
	json_set(out, "dns", dns);
	json_set(dns, "nameservers", servers);
	json_set(dns, "searchDomains", list_array(a, "dns-search"));
	json_set(dns, "options", list_array(a, "dns-option"));
	if (domain && *domain)
		json_set_str(dns, "domain", domain);
	for (size_t i = 0; i < json_object_array_length(servers); i++) {
		const char *s = json_object_get_string(json_object_array_get_idx(servers, i));
		unsigned char raw[16];

		if (inet_pton(AF_INET, s, raw) != 1 && inet_pton(AF_INET6, s, raw) != 1)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid nameserver address '%s'", s);
	}
	return 0;
}

static int put_shm(const struct opt_args *a, struct json_object *out, struct error **err)
{
	const char *text = opt_str(a, "shm-size", NULL);
	uint64_t shm;

	if (!text)
		return 0;
	if (parse_size(text, &shm, err) || shm > INT64_MAX)
		return error_wrap(err, "invalid size of /dev/shm '%s'", text);
	json_set_int(out, "shmSize", (int64_t)shm);
	return 0;
}

/* A name of its own, or that of the first network. */
static int put_hostname(const struct opt_args *a, struct json_object *out, struct error **err)
{
	const char *name = opt_str(a, "hostname", NULL);

	if (!name)
		return 0;
	if (!*name || strlen(name) > HOSTNAME_MAX || name[strspn(name, HOSTNAME_CHARS)])
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid host name '%s'", name);
	json_set_str(out, "hostname", name);
	return 0;
}

static int check_runtime(const struct opt_args *a, struct error **err)
{
	const char *name = opt_str(a, "runtime", RUNTIME_HANDLER);

	if (!strcmp(name, RUNTIME_HANDLER))
		return 0;
	return error_set(err, ERR_NOT_FOUND, "there is no runtime '%s', only " RUNTIME_HANDLER,
			 name);
}

static int put_kernel(const struct opt_args *a, struct json_object *out, struct error **err)
{
	const char *path = opt_str(a, "kernel", NULL);
	CLEANUP_FREE char *full = NULL;

	if (!path)
		return 0;
	full = realpath(path, NULL);
	if (!full)
		return error_sys(err, errno, "kernel %s", path);
	json_set_str(out, "kernel", full);
	return 0;
}

static void put_image(struct json_object *image, struct json_object *out)
{
	struct json_object *o = json_object_new_object(), *v;
	static const char *const keys[] = {"reference", "descriptor", "manifest"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if ((v = json_get(image, keys[i])))
			json_set(o, keys[i], json_object_get(v));
	json_set(out, "image", o);
	if ((v = json_obj(image, "platform")))
		json_set(out, "platform", json_object_get(v));
	json_set_str(out, "stopSignal", json_str(json_obj(image, "config"), "StopSignal", NULL));
}

/* "on-failure:3" to {"name", "maximumRetryCount"}. */
int restart_build(const struct opt_args *a, struct json_object *out, struct error **err)
{
	static const char *const names[] = {"no", "on-failure", "always", "unless-stopped"};
	const char *text = opt_str(a, "restart", NULL);
	size_t n = text ? strcspn(text, ":") : 0, i;
	struct json_object *o;
	int64_t retries = 0;

	if (!text)
		return 0;
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == n && !strncmp(text, names[i], n))
			break;
	if (i == ARRAY_SIZE(names) || (text[n] && (i != 1 || parse_i64(text + n + 1, &retries) ||
						   retries < 1 || retries > 1000000)))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid restart policy '%s': no, on-failure[:n], always or "
				 "unless-stopped expected",
				 text);
	o = json_object_new_object();
	json_set_str(o, "name", names[i]);
	if (retries)
		json_set_int(o, "maximumRetryCount", retries);
	json_set(out, "restartPolicy", o);
	return 0;
}

static int put_stop(const struct opt_args *a, struct json_object *out, struct error **err)
{
	const char *signal = opt_str(a, "stop-signal", NULL);
	const char *timeout = opt_str(a, "stop-timeout", NULL);
	int64_t seconds;
	int signo;

	if (signal && signal_parse(signal, &signo, err))
		return -1;
	if (signal)
		json_set_str(out, "stopSignal", signal);
	if (timeout && (parse_i64(timeout, &seconds) || seconds < 0 || seconds > INT32_MAX))
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid stop timeout '%s'", timeout);
	if (timeout)
		json_set_int(out, "stopTimeout", seconds);
	return 0;
}

/* "max-size=10m", "max-file=3" to {"maxSizeInBytes", "maxFiles"}. */
static int put_log(const struct opt_args *a, const struct config_defaults *d,
		   struct json_object *out, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "log-opt", &n);
	struct json_object *o = json_object_new_object();
	uint64_t size = STDLOG_SIZE;
	int64_t files = d->log_files ? d->log_files : STDLOG_FILES;

	json_set(out, "log", o);
	if (d->log_size && parse_size(d->log_size, &size, err))
		return error_wrap(err, "container.logSize");
	for (size_t i = 0; i < n; i++) {
		bool is_size = str_prefix(v[i], "max-size=");

		if (is_size ? parse_size(v[i] + 9, &size, NULL)
			    : !str_prefix(v[i], "max-file=") || parse_i64(v[i] + 9, &files))
			return error_set(
				err, ERR_INVALID_ARGUMENT,
				"invalid log option '%s': max-size=<size> or max-file=<n> expected",
				v[i]);
	}
	json_set_int(o, "maxSizeInBytes", (int64_t)MIN(size, (uint64_t)INT64_MAX));
	json_set_int(o, "maxFiles", files);
	if (stdlog_check(out, NULL))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "a log has 1 to %d files of at least %lld KiB each",
				 STDLOG_FILES_MAX, STDLOG_SIZE_MIN >> 10);
	return 0;
}

static int put_ports(const struct opt_args *a, struct json_object *config, struct json_object *out,
		     struct error **err)
{
	struct json_object *exposed =
		opt_has(a, "publish-all") ? json_obj(config, "ExposedPorts") : NULL;
	struct json_object *ports;
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "publish", &n);

	if (publish_parse(v, exposed, &ports, err))
		return -1;
	json_set(out, "publishedPorts", ports);
	return 0;
}

/* Members that no flag is about. */
static void put_constants(struct json_object *out)
{
	CLEANUP_FREE char *now = time_iso8601(time_now());

	json_set_str(out, "runtimeHandler", RUNTIME_HANDLER);
	json_set_str(out, "creationDate", now);
}

int config_build(const struct opt_args *a, struct json_object *image,
		 const struct config_defaults *d, const char *id, struct json_object **out,
		 struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *proc, *networks;
	CLEANUP_FREE const char **nets = NULL;
	size_t n;

	if (container_id_check(id, err) || check_runtime(a, err))
		return -1;
	json_set_str(o, "id", id);
	put_constants(o);
	json_set_bool(o, "rosetta", opt_has(a, "rosetta"));
	json_set_bool(o, "virtualization", opt_has(a, "virtualization"));
	put_image(image, o);
	proc = init_process(a, json_obj(image, "config"), err);
	if (!proc)
		return -1;
	json_set(o, "initProcess", proc);
	nets = opt_list(a, "network", &n);
	if (networks_parse(nets, id, d->dns_domain, &networks, err))
		return -1;
	json_set(o, "networks", networks);
	if (put_log(a, d, o, err) || health_build(a, json_obj(image, "config"), o, err) ||
	    put_stop(a, o, err) || restart_build(a, o, err) || put_resources(a, d, o, err) ||
	    put_labels(a, o, err) || put_dns(a, d, o, err) || mounts_build(a, o, err) ||
	    put_shm(a, o, err) || put_hostname(a, o, err) || config_isolation(a, o, err) ||
	    config_sockets(a, o, err) || put_kernel(a, o, err) ||
	    put_ports(a, json_obj(image, "config"), o, err))
		return -1;
	/* As when nothing was said. */
	if (str_eq(json_str(json_obj(o, "restartPolicy"), "name", NULL), "no"))
		json_object_object_del(o, "restartPolicy");
	*out = STEAL(o);
	return 0;
}

/* ---- exec ---- */

/* {"id": {uid, gid}} or {"raw": {userString}} as the guest's agent has it. */
static struct json_object *agent_user(struct json_object *user)
{
	struct json_object *o, *id = json_obj(user, "id");
	const char *name = json_str(json_obj(user, "raw"), "userString", "");

	if (id)
		return json_object_get(id);
	o = json_object_new_object();
	if (*name) {
		json_set_str(o, "name", name);
	} else {
		json_set_int(o, "uid", 0);
		json_set_int(o, "gid", 0);
	}
	return o;
}

static bool limit_given(struct json_object *given, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(given); i++)
		if (str_eq(json_str(json_object_array_get_idx(given, i), "limit", NULL), name))
			return true;
	return false;
}

/* Adds limits as the guest's agent has them, but those that are in `not`. */
static void add_rlimits(struct json_object *out, struct json_object *in, struct json_object * not )
{
	for (size_t i = 0; in && i < json_object_array_length(in); i++) {
		struct json_object *from = json_object_array_get_idx(in, i), *o;

		if (not &&limit_given(not, json_str(from, "limit", "")))
			continue;
		o = json_object_new_object();
		json_set_str(o, "type", json_str(from, "limit", ""));
		json_set(o, "soft", json_object_get(json_get(from, "soft")));
		json_set(o, "hard", json_object_get(json_get(from, "hard")));
		json_object_array_add(out, o);
	}
}

/* The limits of the init process, and what a flag says otherwise. */
static int put_rlimits(const struct opt_args *a, struct json_object *init, struct json_object *o,
		       struct error **err)
{
	CLEANUP_JSON struct json_object *given = NULL;
	struct json_object *out;
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "ulimit", &n);

	if (ulimits_parse(v, &given, err))
		return -1;
	out = json_object_new_array();
	json_set(o, "rlimits", out);
	add_rlimits(out, json_arr(init, "rlimits"), given);
	add_rlimits(out, given, NULL);
	return 0;
}

int process_build(const struct opt_args *a, struct json_object *init, const char *const *argv,
		  struct json_object **out, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *args = json_object_new_array(), *groups = json_object_new_array(),
			   *user;
	const char *name = opt_str(a, "user", NULL), *uid = opt_str(a, "uid", NULL),
		   *gid = opt_str(a, "gid", NULL);

	json_set(o, "args", args);
	json_set(o, "additionalGids", groups);
	for (; *argv; argv++)
		json_add_str(args, *argv);
	if (put_environment(a, json_arr(init, "environment"), "env", o, err) ||
	    put_workdir(opt_str(a, "workdir", json_str(init, "workingDirectory", "/")), "cwd", o,
			err))
		return -1;
	json_set_bool(o, "tty", opt_has(a, "tty"));
	user = user_parse(name, uid, gid, NULL, groups, err);
	if (!user)
		return -1;
	if (!name && !uid) {
		add_all(groups, json_arr(init, "supplementalGroups"));
		if (json_arr(init, "supplementalGroupNames"))
			json_set(o, "additionalGroups",
				 json_object_get(json_arr(init, "supplementalGroupNames")));
		json_object_put(user);
		user = json_object_get(json_obj(init, "user"));
	}
	json_set(o, "user", agent_user(user));
	json_object_put(user);
	if (put_rlimits(a, init, o, err))
		return -1;
	*out = STEAL(o);
	return 0;
}
