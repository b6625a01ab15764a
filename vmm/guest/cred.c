/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cred.c - what a process may do: capabilities (capabilities(7)), resource limits, no_new_privs, OOM score.
 *
 * As other runtimes do it: the bounding, permitted and effective sets are what was asked for, inheritable and
 * ambient are empty; so a process that is not root has none but can gain what the bounding set allows
 * through set-id and file capabilities, unless no_new_privs is on.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "core/caps.h"
#include "vmm/guest/guest.h"

struct buf cred_filter;

#define NOFILE_SOFT 1024
#define NOFILE_HARD 1048576

#define BIT(cap) (1ull << (cap))
static const struct {
	const char *name;
	int resource;
} limit_names[] = {
	{"AS", RLIMIT_AS},
	{"CORE", RLIMIT_CORE},
	{"CPU", RLIMIT_CPU},
	{"DATA", RLIMIT_DATA},
	{"FSIZE", RLIMIT_FSIZE},
	{"LOCKS", RLIMIT_LOCKS},
	{"MEMLOCK", RLIMIT_MEMLOCK},
	{"MSGQUEUE", RLIMIT_MSGQUEUE},
	{"NICE", RLIMIT_NICE},
	{"NOFILE", RLIMIT_NOFILE},
	{"NPROC", RLIMIT_NPROC},
	{"RSS", RLIMIT_RSS},
	{"RTPRIO", RLIMIT_RTPRIO},
	{"RTTIME", RLIMIT_RTTIME},
	{"SIGPENDING", RLIMIT_SIGPENDING},
	{"STACK", RLIMIT_STACK},
};

static int parse_caps(struct json_object *arr, uint64_t *caps, struct error **err)
{
	size_t i, n = json_object_array_length(arr);

	*caps = 0;
	for (i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(arr, i);
		const char *s =
			json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
		int k = caps_find(s);

		if (k < 0)
			return error_set(err, ERR_INVALID_ARGUMENT, "unknown capability \"%.40s\"",
					 s);
		*caps |= BIT(k);
	}
	return 0;
}

/* A limit is a number; -1, the word "unlimited" and all ones mean none. */
static int parse_limit(struct json_object *o, const char *key, uint64_t *out, struct error **err)
{
	struct json_object *v = json_get(o, key);
	int64_t n;

	if (json_object_is_type(v, json_type_string) &&
	    !strcasecmp(json_object_get_string(v), "unlimited")) {
		*out = RLIM_INFINITY;
		return 0;
	}
	if (!json_object_is_type(v, json_type_int))
		return error_set(err, ERR_INVALID_ARGUMENT, "rlimit: %s is not a number", key);
	n = json_object_get_int64(v);
	if (n < -1)
		return error_set(err, ERR_INVALID_ARGUMENT, "rlimit: %s is negative", key);
	*out = n == -1 ? RLIM_INFINITY : json_object_get_uint64(v);
	return 0;
}

static int parse_limits(struct json_object *arr, struct cred *c, struct error **err)
{
	size_t i, k, n = json_object_array_length(arr);

	if (n > ARRAY_SIZE(c->limits))
		return error_set(err, ERR_INVALID_ARGUMENT, "too many rlimits");
	for (i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(arr, i);
		const char *type;

		if (json_need_str(o, "type", &type, err) ||
		    parse_limit(o, "soft", &c->limits[i].soft, err) ||
		    parse_limit(o, "hard", &c->limits[i].hard, err))
			return -1;
		if (!strncasecmp(type, "RLIMIT_", 7))
			type += 7;
		for (k = 0; k < ARRAY_SIZE(limit_names) && strcasecmp(type, limit_names[k].name);
		     k++)
			;
		if (k == ARRAY_SIZE(limit_names))
			return error_set(err, ERR_INVALID_ARGUMENT, "unknown rlimit \"%.40s\"",
					 type);
		c->limits[i].resource = limit_names[k].resource;
		c->nlimits++;
	}
	return 0;
}

int cred_parse(struct json_object *process, struct cred *c, struct error **err)
{
	struct json_object *caps = json_arr(process, "capabilities"),
			   *limits = json_arr(process, "rlimits");
	int64_t score = json_int(process, "oomScoreAdj", 0);

	c->caps = caps_default;
	if (caps && parse_caps(caps, &c->caps, err))
		return -1;
	if (limits && parse_limits(limits, c, err))
		return -1;
	if (score < -1000 || score > 1000)
		return error_set(err, ERR_INVALID_ARGUMENT, "oomScoreAdj is out of range");
	c->oom_score_adj = (int)score;
	c->no_new_privs = json_flag(process, "noNewPrivileges", false);
	return 0;
}

void cred_oom_score(const struct cred *c)
{
	CLEANUP_CLOSE int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	char text[16];

	snprintf(text, sizeof(text), "%d", c->oom_score_adj);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		guest_log("oom_score_adj: %s", strerror(errno));
}

int cred_limits(const struct cred *c, struct error **err)
{
	struct rlimit files = {.rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD};
	size_t i;

	setrlimit(RLIMIT_NOFILE, &files);
	for (i = 0; i < c->nlimits; i++) {
		struct rlimit r = {.rlim_cur = c->limits[i].soft, .rlim_max = c->limits[i].hard};

		if (setrlimit((__rlimit_resource_t)c->limits[i].resource, &r))
			return error_sys(err, errno, "set rlimit %d", c->limits[i].resource);
	}
	return 0;
}

static int set_caps(uint64_t effective, uint64_t permitted)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{.effective = (uint32_t)effective, .permitted = (uint32_t)permitted},
		{.effective = (uint32_t)(effective >> 32),
		 .permitted = (uint32_t)(permitted >> 32)},
	};

	return (int)syscall(SYS_capset, &h, d);
}

/* What the process has in the end; the kernel knows no more than the bounding set's capabilities. */
static uint64_t final_caps(const struct cred *c, const struct user *u)
{
	int cap;

	for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		;
	return u->uid ? 0 : c->caps & (cap > 63 ? ~0ull : BIT(cap) - 1);
}

/* Whether installing the filter takes a capability. */
static bool filter_needs_cap(const struct cred *c)
{
	return cred_filter.len && !c->no_new_privs;
}

int cred_become(const struct cred *c, const struct user *u, struct error **err)
{
	uint64_t caps = final_caps(c, u);
	int cap;

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (cap > 63 || !(c->caps & BIT(cap)))
			if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
				return error_sys(err, errno, "drop capability %d", cap);
	if (setgroups(u->ngroups, u->groups))
		return error_sys(err, errno, "set groups");
	if (syscall(SYS_setresgid, u->gid, u->gid, u->gid))
		return error_sys(err, errno, "set gid %u", u->gid);
	if (filter_needs_cap(c) && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
		return error_sys(err, errno, "keep capabilities");
	if (syscall(SYS_setresuid, u->uid, u->uid, u->uid))
		return error_sys(err, errno, "set uid %u", u->uid);
	if (set_caps(caps, caps | (filter_needs_cap(c) ? BIT(CAP_SYS_ADMIN) : 0)))
		return error_sys(err, errno, "set capabilities");
	if (c->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return error_sys(err, errno, "set no_new_privs");
	return 0;
}

int cred_confine(const struct cred *c, const struct user *u, struct error **err)
{
	uint64_t caps = final_caps(c, u), more = caps | BIT(CAP_SYS_ADMIN);
	struct sock_fprog prog = {
		.len = (unsigned short)(cred_filter.len / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)(void *)cred_filter.data,
	};

	if (!cred_filter.len)
		return 0;
	if (filter_needs_cap(c) && set_caps(more, more))
		return error_sys(err, errno, "set capabilities");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		return error_sys(err, errno, "install the system call filter");
	/* From here on a profile that refuses capset(2) refuses this too, and the process does not start. */
	if (filter_needs_cap(c) && caps != more && set_caps(caps, caps))
		return error_sys(err, errno, "set capabilities behind the system call filter");
	return 0;
}
