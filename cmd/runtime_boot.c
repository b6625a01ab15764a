/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_boot.c - from a container's configuration to the guest's boot descriptor (vmm/agent.h).
 *
 * The configuration is the object `container inspect` prints; it was validated at create, but is
 * read back from a file, so every member is checked again here before it goes to the guest.
 */
#include "cmd/runtime.h"

#include <stdio.h>
#include <strings.h>

#include "cmd/volume.h"
#include "core/caps.h"
#include "vmm/agent.h"
#include "vmm/seccomp.h"

static int caps_apply(struct json_object *list, bool on, uint64_t *set, bool all_pass,
		      struct error **err)
{
	size_t i, n = list ? json_object_array_length(list) : 0;

	for (i = 0; i < n; i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(list, i));
		int k;

		if (name && !strcasecmp(name, "ALL")) {
			if (all_pass)
				*set = on ? CAPS_ALL : 0;
			continue;
		}
		if (all_pass && !on)
			continue;
		k = name ? caps_find(name) : -1;
		if (k < 0)
			return error_set(err, ERR_INVALID_ARGUMENT, "unknown capability '%s'",
					 name ? name : "");
		if (on)
			*set |= 1ull << k;
		else
			*set &= ~(1ull << k);
	}
	return 0;
}

struct json_object *runtime_capabilities(struct json_object *config, uint64_t *mask,
					 struct error **err)
{
	struct json_object *add = json_arr(config, "capAdd"), *drop = json_arr(config, "capDrop"),
			   *out;
	uint64_t set = json_flag(config, "privileged", false) ? CAPS_ALL : caps_default;
	unsigned i;

	/* Order: drop ALL, then every add, then single drops. */
	if (caps_apply(drop, false, &set, true, err) < 0 ||
	    caps_apply(add, true, &set, true, err) < 0 ||
	    caps_apply(add, true, &set, false, err) < 0 ||
	    caps_apply(drop, false, &set, false, err) < 0)
		return NULL;
	*mask = set;
	out = json_object_new_array();
	for (i = 0; i < CAPS_COUNT; i++)
		if (set & (1ull << i))
			json_add_str(out, caps_name(i));
	return out;
}

int runtime_seccomp(struct runtime *rt, struct buf *out, struct error **err)
{
	struct json_object *profile = json_get(rt->config, "seccompProfile");

	if (json_object_is_type(profile, json_type_string) &&
	    !strcmp(json_object_get_string(profile), "unconfined"))
		return 0;
	return seccomp_compile(profile, rt->cap_mask, out, err);
}

/* boot_user: {"id": {uid, gid}} or {"raw": {userString}} to the guest's form. */
static int boot_user(struct json_object *proc, struct json_object *out, struct error **err)
{
	struct json_object *user = json_obj(proc, "user"), *u = json_object_new_object();
	struct json_object *id = json_obj(user, "id"), *raw = json_obj(user, "raw");
	int64_t uid = 0, gid = 0;

	json_set(out, "user", u);
	if (raw) {
		const char *s;

		/* What cannot be read is nobody, least of all root. */
		if (json_need_str(raw, "userString", &s, err) < 0)
			return -1;
		if (*s) {
			json_set_str(u, "name", s);
			return 0;
		}
	}
	if (id && (json_need_int(id, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
		   json_need_int(id, "gid", 0, UINT32_MAX - 1, &gid, err) < 0))
		return -1;
	json_set_int(u, "uid", uid);
	json_set_int(u, "gid", gid);
	return 0;
}

static struct json_object *copy_array(struct json_object *o, const char *key)
{
	struct json_object *a = json_arr(o, key);

	return a ? json_object_get(a) : json_object_new_array();
}

static struct json_object *boot_rlimits(struct json_object *proc)
{
	struct json_object *in = json_arr(proc, "rlimits"), *out = json_object_new_array();
	size_t i, n = in ? json_object_array_length(in) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *r = json_object_array_get_idx(in, i),
				   *o = json_object_new_object();

		json_set_str(o, "type", json_str(r, "limit", ""));
		json_set(o, "soft", json_object_get(json_get(r, "soft")));
		json_set(o, "hard", json_object_get(json_get(r, "hard")));
		json_object_array_add(out, o);
	}
	return out;
}

void runtime_process_limits(struct runtime *rt, struct json_object *process)
{
	struct json_object *init = json_obj(rt->config, "initProcess");

	json_set(process, "capabilities", json_object_get(rt->caps));
	json_set_bool(process, "noNewPrivileges", json_flag(rt->config, "noNewPrivileges", false));
	json_set_int(process, "oomScoreAdj", json_int(init, "oomScoreAdj", 0));
}

struct json_object *runtime_process_json(struct runtime *rt, struct rt_process *proc,
					 struct json_object *args, struct error **err)
{
	CLEANUP_JSON struct json_object *out = json_object_new_object();
	struct json_object *init;

	json_set_str(out, "id", proc->id);
	json_set(out, "args", args);
	if (json_need_obj(rt->config, "initProcess", &init, err) < 0)
		return NULL;
	json_set(out, "env", copy_array(init, "environment"));
	json_set_str(out, "cwd", json_str(init, "workingDirectory", "/"));
	json_set_bool(out, "tty", false);
	if (boot_user(init, out, err) < 0)
		return NULL;
	json_set(out, "additionalGids", copy_array(init, "supplementalGroups"));
	if (json_arr(init, "supplementalGroupNames"))
		json_set(out, "additionalGroups", copy_array(init, "supplementalGroupNames"));
	runtime_process_limits(rt, out);
	json_set(out, "rlimits", boot_rlimits(init));
	runtime_streams_ports(proc, out);
	return STEAL(out);
}

/* boot_process: the init process of the configuration as the guest wants it. */
static struct json_object *boot_process(struct runtime *rt, struct json_object *params,
					struct rt_process *init, struct error **err)
{
	CLEANUP_JSON struct json_object *args = json_object_new_array();
	struct json_object *proc, *rest, *out;
	const char *exe;
	size_t i;

	if (json_need_obj(rt->config, "initProcess", &proc, err) < 0 ||
	    json_need_str(proc, "executable", &exe, err) < 0)
		return NULL;
	json_add_str(args, exe);
	rest = json_arr(proc, "arguments");
	for (i = 0; rest && i < json_object_array_length(rest); i++)
		json_object_array_add(args, json_object_get(json_object_array_get_idx(rest, i)));
	out = runtime_process_json(rt, init, STEAL(args), err);
	if (!out)
		return NULL;
	json_set_bool(out, "tty", json_flag(proc, "terminal", false));
	json_set_int(out, "rows", json_int(params, "rows", 24));
	json_set_int(out, "cols", json_int(params, "cols", 80));
	return out;
}

/* boot_networks: one entry per attachment, in the order of the taps. */
static struct json_object *boot_networks(struct json_object *networks)
{
	struct json_object *out = json_object_new_array();
	size_t i, n = networks ? json_object_array_length(networks) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *a = json_object_array_get_idx(networks, i),
				   *o = json_object_new_object();
		char name[32];

		snprintf(name, sizeof(name), "eth%zu", i);
		json_set_str(o, "name", name);
		json_set_str(o, "address", json_str(a, "ipv4Address", NULL));
		if (i == 0)
			json_set_str(o, "gateway", json_str(a, "ipv4Gateway", NULL));
		json_set_int(o, "mtu", json_int(a, "mtu", 1500));
		json_object_array_add(out, o);
	}
	return out;
}

/* boot_dns: the configuration's, else what the first network offers; absent with --no-dns or no
 * network. */
static void boot_dns(struct runtime *rt, struct json_object *boot)
{
	struct json_object *dns = json_obj(rt->config, "dns"), *d, *first, *servers;

	if (json_flag(rt->config, "noDNS", false) || !rt->networks ||
	    !json_object_array_length(rt->networks))
		return;
	first = json_object_array_get_idx(rt->networks, 0);
	d = json_object_new_object();
	servers = json_arr(dns, "nameservers");
	if (!servers || !json_object_array_length(servers))
		servers = json_arr(first, "dns");
	json_set(d, "nameservers", servers ? json_object_get(servers) : json_object_new_array());
	json_set_str(d, "domain", json_str(dns, "domain", NULL));
	json_set(d, "search", copy_array(dns, "searchDomains"));
	json_set(d, "options", copy_array(dns, "options"));
	json_set(boot, "dns", d);
}

static void boot_hosts(struct runtime *rt, struct json_object *boot, const char *hostname)
{
	struct json_object *hosts = json_object_new_array();
	size_t i, n = rt->networks ? json_object_array_length(rt->networks) : 0;

	for (i = 0; i < n; i++) {
		const char *cidr =
			json_str(json_object_array_get_idx(rt->networks, i), "ipv4Address", "");
		CLEANUP_FREE char *addr = xstrndup(cidr, strcspn(cidr, "/"));
		struct json_object *h = json_object_new_object(), *names = json_object_new_array();

		json_set_str(h, "address", addr);
		json_add_str(names, hostname);
		json_set(h, "names", names);
		json_object_array_add(hosts, h);
	}
	json_set(boot, "hosts", hosts);
}

static struct json_object *boot_sysctls(struct runtime *rt)
{
	struct json_object *out = json_object_new_object(), *own = json_obj(rt->config, "sysctls");

	json_set_str(out, "vm.overcommit_memory", "1");
	json_set_str(out, "vm.max_map_count", "262144");
	if (own) {
		json_object_object_foreach(own, key, val)
		{
			json_set(out, key, json_object_get(val));
		}
	}
	return out;
}

/* One mount for the guest. NULL with *err for a kind that it cannot do, without for a socket: those are no mounts of the guest's. */
static struct json_object *boot_mount(struct runtime *rt, struct json_object *m, const char *share,
				      struct error **err)
{
	struct json_object *type = json_obj(m, "type"), *o;
	const char *volume = volume_of(m), *source;
	int index = volume ? runtime_volume_index(rt, volume) : -1;

	if (json_obj(type, "virtiofs") && (json_need_str(m, "source", &source, err) || !share))
		return NULL;
	o = json_object_new_object();
	json_set(o, "options", copy_array(m, "options"));
	if (share || json_obj(type, "tmpfs")) {
		json_set_str(o, "type", share ? "virtiofs" : "tmpfs");
		json_set_str(o, "source", share ? share : "tmpfs");
	} else if (index >= 0) {
		json_set_str(o, "type", "volume");
		json_set_int(o, "volume", index);
	} else {
		json_object_put(o);
		error_set(err, ERR_UNSUPPORTED, "a mount of an unknown type");
		return NULL;
	}
	return o;
}

/* A path is shorter than what is below it. */
static int by_target(const void *a, const void *b)
{
	const char *s = json_str(*(struct json_object *const *)a, "destination", ""),
		   *t = json_str(*(struct json_object *const *)b, "destination", "");
	size_t m = strlen(s), n = strlen(t);

	return m != n ? (m > n ? 1 : -1) : strcmp(s, t);
}

/* boot_mounts: those asked for, each before what is mounted below it. */
static int boot_mounts(struct runtime *rt, struct json_object *boot, struct error **err)
{
	struct json_object *in = json_arr(rt->config, "mounts"), *out = json_object_new_array();
	size_t i, n = in ? json_object_array_length(in) : 0;
	struct error *e = NULL;

	json_set(boot, "mounts", out);
	runtime_volumes_boot(rt, boot);
	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(in, i), *o;
		const char *dest;

		if (json_need_str(m, "destination", &dest, err) < 0)
			return -1;
		o = boot_mount(rt, m, i < rt->nshare_of ? rt->share_of[i] : NULL, &e);
		if (e)
			return error_move(err, e);
		if (!o)
			continue;
		json_set_str(o, "destination", dest);
		json_object_array_add(out, o);
	}
	json_set_bool(boot, "shares", rt->shares != NULL);
	json_object_array_sort(out, by_target);
	return 0;
}

static void boot_root(struct runtime *rt, struct json_object *boot)
{
	struct json_object *root = json_object_new_object();

	json_set_str(root, "lower", "/dev/vda");
	json_set_str(root, "lowerType", "erofs");
	json_set_str(root, "upper", "/dev/vdb");
	json_set_str(root, "upperType", "ext4");
	json_set_bool(root, "readonly", json_flag(rt->config, "readOnly", false));
	json_set(boot, "root", root);
}

struct json_object *runtime_boot_files(struct runtime *rt, struct json_object *params)
{
	struct json_object *boot = json_object_new_object();

	json_set_int(boot, "version", AGENT_VERSION);
	boot_root(rt, boot);
	json_set_bool(boot, "files", true);
	json_set_bool(boot, "debug", json_flag(params, "debug", false));
	return boot;
}

/* One that most containers do not have. */
static void boot_limit(struct json_object *from, const char *key, struct json_object *to,
		       const char *name)
{
	int64_t v = json_int(from, key, 0);

	if (v > 0)
		json_set_int(to, name, v);
}

struct json_object *runtime_boot_json(struct runtime *rt, struct json_object *params,
				      struct rt_process *init, struct error **err)
{
	CLEANUP_JSON struct json_object *boot = json_object_new_object();
	struct json_object *res = json_object_new_object(),
			   *limits = json_obj(rt->config, "resources"), *proc;
	const char *hostname = json_str(json_obj(params, "boot"), "hostname", rt->id);

	json_set_int(boot, "version", AGENT_VERSION);
	/* KVM gives a guest the host's clock. */
	json_set_bool(boot, "askClock", str_eq(json_str(params, "engine", NULL), "qemu"));
	json_set_str(boot, "hostname", hostname);
	boot_root(rt, boot);
	json_set(boot, "resources", res);
	json_set_int(res, "cpus", json_int(limits, "cpus", 1));
	json_set_int(res, "memory", json_int(limits, "memoryInBytes", 0));
	boot_limit(limits, "pids", res, "pids");
	boot_limit(limits, "memoryReservationInBytes", res, "memoryLow");
	boot_limit(limits, "cpuShares", res, "cpuShares");
	if (runtime_sockets_boot(rt, params, boot, err) < 0 || boot_mounts(rt, boot, err) < 0)
		return NULL;
	json_set(boot, "network", boot_networks(rt->networks));
	boot_dns(rt, boot);
	boot_hosts(rt, boot, hostname);
	json_set(boot, "sysctls", boot_sysctls(rt));
	if (json_arr(rt->config, "maskedPaths"))
		json_set(boot, "maskedPaths", copy_array(rt->config, "maskedPaths"));
	if (json_arr(rt->config, "readonlyPaths"))
		json_set(boot, "readonlyPaths", copy_array(rt->config, "readonlyPaths"));
	json_set_int(boot, "shmSize", json_int(rt->config, "shmSize", 64 << 20));
	json_set_bool(boot, "privileged", json_flag(rt->config, "privileged", false));
	json_set_bool(boot, "virtualization", json_flag(rt->config, "virtualization", false));
	json_set_bool(boot, "init", json_flag(rt->config, "useInit", false));
	json_set_bool(boot, "debug", json_flag(params, "debug", false));
	proc = boot_process(rt, params, init, err);
	if (!proc)
		return NULL;
	json_set(boot, "process", proc);
	return STEAL(boot);
}
