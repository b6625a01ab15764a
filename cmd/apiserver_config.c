/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_config.c - the configuration of a container: what may stand in it, and how it is kept.
 *
 * Most containers of a system are stopped and nobody asks for them. As a tree of json-c's a configuration takes 24 KiB, as text one: so
 * text it is, read into a tree for the call that needs one. What lists and searches ask of every container is kept beside it.
 */
#include <fcntl.h>

#include "cmd/apiserver.h"
#include "cmd/runtime.h"
#include "cmd/stdlog.h"
#include "cmd/volume.h"
#include "core/path.h"
#include "core/state.h"
#include "vmm/seccomp.h"

#define CONFIG_MAX (1u << 20) /* bytes of one */
#define MOUNTS_MAX 128

/* ---- checks ---- */

static int check_networks(struct json_object *config, struct error **err)
{
	struct json_object *nets = json_get(config, "networks");
	size_t i, n;

	if (!nets)
		return 0;
	if (!json_object_is_type(nets, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"networks\" must be an array");
	n = json_object_array_length(nets);
	for (i = 0; i < n; i++) {
		const char *name;

		if (json_need_str(json_object_array_get_idx(nets, i), "network", &name, err))
			return -1;
		if (strcmp(name, "default"))
			return error_set(err, ERR_NOT_FOUND, "network not found: %.100s", name);
	}
	if (n > 1)
		return error_set(err, ERR_UNSUPPORTED,
				 "more than one network is not supported yet");
	return 0;
}

static bool is_digest(const char *s)
{
	return str_prefix(s, "sha256:") && strlen(s) == 71 &&
	       strspn(s + 7, "0123456789abcdef") == 64;
}

static int check_words(struct json_object *config, const char *key, struct error **err)
{
	struct json_object *arr = json_get(config, key);
	size_t i, n;

	if (arr && !json_object_is_type(arr, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" must be an array", key);
	n = arr ? json_object_array_length(arr) : 0;
	for (i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(arr, i);
		const char *s =
			json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";

		if (!*s || strlen(s) != (size_t)json_object_get_string_len(v) || strpbrk(s, "\r\n"))
			return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" has what is no word",
					 key);
	}
	return 0;
}

/* What would otherwise be found wrong at each start. */
static int check_isolation(struct json_object *config, struct error **err)
{
	static const char *const lists[] = {"maskedPaths", "readonlyPaths", "kernelArgs", "capAdd",
					    "capDrop"};
	struct json_object *profile = json_get(config, "seccompProfile");
	CLEANUP_BUF struct buf unused = {0};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lists); i++)
		if (check_words(config, lists[i], err))
			return -1;
	if (!profile || str_eq(json_object_get_string(profile), "unconfined"))
		return 0;
	if (!json_object_is_type(profile, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"seccompProfile\" must be an object");
	return seccomp_compile(profile, 0, &unused, err);
}

/* What is shared has to be there, now and at each start. */
static int check_share(struct json_object *mount, struct error **err)
{
	const char *source;
	struct stat st;

	if (json_need_str(mount, "source", &source, err))
		return -1;
	if (*source != '/')
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the source of a mount must be an absolute path");
	if (stat(source, &st))
		return error_sys(err, errno, "mount source %s", source);
	return 0;
}

/* Kinds of mounts that there are; what stands behind them is looked at where it is needed. */
static int check_mounts(struct json_object *config, struct error **err)
{
	struct json_object *mounts = json_get(config, "mounts");
	CLEANUP_STRV struct strv volumes = {0};
	size_t i, n;

	if (mounts && !json_object_is_type(mounts, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"mounts\" must be an array");
	n = mounts ? json_object_array_length(mounts) : 0;
	if (n > MOUNTS_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d mounts", MOUNTS_MAX);
	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);
		struct json_object *type = json_obj(m, "type");
		const char *target;

		if (json_need_str(m, "destination", &target, err))
			return -1;
		if (*target != '/')
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "the target of a mount must be an absolute path");
		if (check_words(m, "options", err))
			return -1;
		if (json_obj(type, "virtiofs") && check_share(m, err))
			return -1;
		if (!json_obj(type, "virtiofs") && !json_obj(type, "tmpfs") &&
		    !json_obj(type, "volume"))
			return error_set(err, ERR_UNSUPPORTED, "a mount of an unknown type");
		if (json_obj(type, "volume") && !volume_name_ok(volume_of(m) ? volume_of(m) : ""))
			return error_set(err, ERR_INVALID_ARGUMENT, "invalid volume name '%.255s'",
					 volume_of(m) ? volume_of(m) : "");
	}
	volumes_keep(config, &volumes);
	if (volumes.n > RUNTIME_MAX_VOLUMES)
		return error_set(err, ERR_UNSUPPORTED, "more than %d volumes in one container",
				 RUNTIME_MAX_VOLUMES);
	return 0;
}

static int check_ports(struct json_object *config, struct error **err)
{
	CLEANUP_FREE struct net_publish *ports = NULL;
	size_t n;

	return net_publish_read(json_get(config, "publishedPorts"), &ports, &n, err);
}

int config_check(struct json_object *config, struct error **err)
{
	struct json_object *image, *res, *init;
	const char *manifest;
	int64_t cpus, mem;
	size_t len;

	json_object_to_json_string_length(config, JSON_C_TO_STRING_PLAIN, &len);
	if (len > CONFIG_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "the configuration is too large");
	if (json_need_obj(config, "image", &image, err) ||
	    json_need_str(image, "manifest", &manifest, err) ||
	    json_need_obj(config, "initProcess", &init, err) ||
	    json_need_obj(config, "resources", &res, err) ||
	    json_need_int(res, "cpus", 1, 64, &cpus, err) ||
	    json_need_int(res, "memoryInBytes", 0, 1ll << 42, &mem, err))
		return -1;
	if (!is_digest(manifest))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"manifest\" is not a digest");
	if (mem < APISERVER_MIN_MEM)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "minimum memory amount allowed is 200 MiB (%lld bytes were given)",
				 (long long)mem);
	if (stdlog_check(config, err) || health_check(config, err) || policy_check(config, err) ||
	    check_isolation(config, err) || check_mounts(config, err) || check_ports(config, err) ||
	    sockets_check(config, err))
		return -1;
	return check_networks(config, err);
}

/* ---- keeping ---- */

struct json_object *container_config(const struct container *ct)
{
	struct json_object *o = json_parse(ct->config, strlen(ct->config), NULL);

	if (!o)
		abort(); /* json-c printed what it had read, numbers as they were written */
	return o;
}

/* What a list shows of it. */
static char *brief_text(struct json_object *config)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *image = json_object_new_object(), *res = json_object_new_object();
	struct json_object *platform = json_object_new_object();
	struct json_object *from = json_obj(config, "resources"),
			   *on = json_obj(config, "platform");

	json_set_str(image, "reference", json_str(json_obj(config, "image"), "reference", NULL));
	json_set_str(platform, "os", json_str(on, "os", NULL));
	json_set_str(platform, "architecture", json_str(on, "architecture", NULL));
	json_set_int(res, "cpus", json_int(from, "cpus", 0));
	json_set_int(res, "memoryInBytes", json_int(from, "memoryInBytes", 0));
	json_set(o, "image", image);
	json_set(o, "platform", platform);
	json_set(o, "resources", res);
	return json_text(o);
}

void config_drop(struct container *ct)
{
	free_shared(ct->config);
	free_shared(ct->brief);
	free_shared(ct->manifest);
	free_shared(ct->created);
	strv_free(&ct->volumes);
	free_shared(ct->ports);
}

void config_keep(struct container *ct, struct json_object *config)
{
	const char *manifest = json_str(json_obj(config, "image"), "manifest", NULL);

	config_drop(ct);
	ct->config = json_text(config);
	ct->brief = brief_text(config);
	ct->manifest = manifest ? xstrdup(manifest) : NULL;
	ct->created = xstrdup(json_str(config, "creationDate", ""));
	volumes_keep(config, &ct->volumes);
	ct->ports = NULL;
	ct->nports = 0;
	(void)net_publish_read(json_get(config, "publishedPorts"), &ct->ports, &ct->nports, NULL);
	policy_keep(ct, config);
}

int config_write(struct container *ct, struct json_object *config, struct error **err)
{
	CLEANUP_CLOSE int dir =
		path_open_beneath(ct->s->containers_dir, ct->id, O_RDONLY | O_DIRECTORY, 0, err);

	return dir < 0 ? -1 : state_write(dir, "config.json", config, err);
}
