/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_policy.c - restart policies: which containers are started again, and when.
 *
 * The policy is the configuration's `restartPolicy` {name, maximumRetryCount}. A container that ends is looked at
 * once; when it is to run again a timer is set, the longer the more often it failed in a row. What a user stopped
 * stays stopped: a file in the container's directory says so, for an apiserver that comes later.
 *
 * An apiserver that starts looks at the containers it finds stopped: those that ran before and whose policy is
 * `always`, or `unless-stopped` and nobody stopped them, or `on-failure` and they failed, are started.
 */
#include <fcntl.h>
#include <stdio.h>

#include "cmd/apiserver.h"
#include "core/path.h"

#define MARK          "stopped-by-user"
#define BACKOFF_MS    100
#define BACKOFF_MAX   60000
#define HEALTHY_S     10 /* one that ran this long starts over with the back-off */
#define RETRIES_LIMIT 1000000

static const char *const names[] = {"no", "on-failure", "always", "unless-stopped"};

void policy_keep(struct container *ct, struct json_object *config)
{
	struct json_object *p = json_obj(config, "restartPolicy");

	ct->policy = names[0];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq(json_str(p, "name", NULL), names[i]))
			ct->policy = names[i];
	ct->retries = json_int(p, "maximumRetryCount", 0);
}

int policy_check(struct json_object *config, struct error **err)
{
	struct json_object *p = json_get(config, "restartPolicy");
	const char *name;
	int64_t n;

	if (!p)
		return 0;
	if (!json_object_is_type(p, json_type_object))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"restartPolicy\" must be an object");
	if (json_need_str(p, "name", &name, err) ||
	    (json_get(p, "maximumRetryCount") &&
	     json_need_int(p, "maximumRetryCount", 0, RETRIES_LIMIT, &n, err)))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return 0;
	return error_set(err, ERR_INVALID_ARGUMENT, "unknown restart policy \"%.32s\"", name);
}

/* ---- what the user said last ---- */

static int container_dir(struct container *ct)
{
	return path_open_beneath(ct->s->containers_dir, ct->id, O_RDONLY | O_DIRECTORY, 0, NULL);
}

void policy_stopped_by_user(struct container *ct)
{
	CLEANUP_CLOSE int dir = -1, fd = -1;

	loop_source_free(STEAL(ct->again));
	if (!strcmp(ct->policy, "no"))
		return;
	ct->by_user = true;
	dir = container_dir(ct);
	fd = dir < 0 ? -1 : openat(dir, MARK, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		log_warn("container %s: %s: %s", ct->id, MARK, strerror(errno));
}

void policy_started(struct container *ct)
{
	CLEANUP_CLOSE int dir = -1;

	loop_source_free(STEAL(ct->again));
	ct->began = time_now();
	if (!strcmp(ct->policy, "no"))
		return;
	ct->by_user = false;
	dir = container_dir(ct);
	if (dir >= 0)
		unlinkat(dir, MARK, 0);
}

/* ---- starting again ---- */

static void again(void *arg)
{
	struct container *ct = arg;
	CLEANUP_JSON struct json_object *params = json_object_new_object();

	if (ct->state != CT_STOPPED || ct->s->stopping)
		return;
	log_info("container %s is started again (%s)", ct->id, ct->policy);
	json_set_bool(params, "keepStdin", ct->keep_stdin);
	json_set_bool(params, "keepLog", true); /* why it ended may be there */
	ct->restarts++;
	start_begin(ct, NULL, params); /* which may end at once */
}

static bool wanted(const struct container *ct)
{
	if (ct->by_user || ct->s->stopping || ct->auto_remove)
		return false;
	if (!strcmp(ct->policy, "always") || !strcmp(ct->policy, "unless-stopped"))
		return true;
	return !strcmp(ct->policy, "on-failure") && !(ct->has_exit && !ct->exit_code) &&
	       (!ct->retries || ct->restarts < ct->retries);
}

void policy_ended(struct container *ct, bool ran)
{
	int64_t ms = BACKOFF_MS;

	/* A start that a user asked for and that failed was told to the user. */
	if (!ran && !ct->restarts)
		return;
	if (ct->began && time_now() - ct->began >= HEALTHY_S)
		ct->failures = 0;
	if (!wanted(ct)) {
		ct->failures = 0;
		return;
	}
	for (unsigned i = 0; i < ct->failures && ms < BACKOFF_MAX; i++)
		ms *= 2;
	ct->failures++;
	loop_source_free(ct->again);
	ct->again = loop_add_timer(ct->s->loop, MIN(ms, BACKOFF_MAX), again, ct);
}

void policy_changed(struct container *ct)
{
	CLEANUP_CLOSE int dir = -1;

	if (!wanted(ct))
		loop_source_free(STEAL(ct->again));
	/* One that runs was not stopped by its user; a mark of before does not count. */
	if (ct->state == CT_STOPPED)
		return;
	ct->by_user = false;
	dir = container_dir(ct);
	if (dir >= 0)
		unlinkat(dir, MARK, 0);
}

void policy_found(struct container *ct, bool was_started)
{
	CLEANUP_CLOSE int dir = container_dir(ct);

	ct->by_user = dir >= 0 && !faccessat(dir, MARK, F_OK, AT_SYMLINK_NOFOLLOW);
	if (!strcmp(ct->policy, "always"))
		ct->by_user = false;
	if (was_started && wanted(ct))
		ct->again = loop_add_timer(ct->s->loop, 0, again, ct);
}
