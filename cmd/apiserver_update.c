/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_update.c - container.update: other limits and another restart policy for a container that is there.
 *
 * Of one that runs the guest's cgroup is changed first, within what its machine has; when that went well, or it does not run, the
 * configuration on the disk is, so a later start has the same limits. The cgroup around the helper follows.
 */
#include "cmd/apiserver.h"
#include "cmd/cgroup.h"

/* What of "resources" can be changed, and within what. */
static const struct {
	const char *key;
	int64_t min, max;
} limits[] = {
	{"cpus", 1, 64},
	{"memoryInBytes", APISERVER_MIN_MEM, 1ll << 42},
	{"memoryReservationInBytes", 0, 1ll << 42},
	{"cpuShares", 0, 262144},
	{"pids", -1, INT32_MAX},
};

struct update {
	struct container *ct;
	struct rpc_req *req;
	struct json_object *resources, *policy; /* NULL: as it is */
};

static void update_free(struct update *u)
{
	json_object_put(u->resources);
	json_object_put(u->policy);
	free(u);
}

/* Only what is known, and checked. */
static int take_resources(struct json_object *in, struct json_object **out, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	int64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		if (!json_get(in, limits[i].key))
			continue;
		if (json_need_int(in, limits[i].key, limits[i].min, limits[i].max, &v, err))
			return -1;
		json_set_int(o, limits[i].key, v);
	}
	*out = json_object_object_length(o) ? STEAL(o) : NULL;
	return 0;
}

static int take_policy(struct container *ct, struct json_object *params, struct json_object **out,
		       struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *policy = json_get(params, "restartPolicy"), *known;

	if (!policy)
		return 0;
	json_set(o, "restartPolicy", json_object_get(policy));
	if (policy_check(o, err))
		return -1;
	if (ct->auto_remove && !str_eq(json_str(policy, "name", ""), "no"))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "container %s is deleted when it stops: it cannot be restarted",
				 ct->id);
	known = json_object_new_object();
	json_set_str(known, "name", json_str(policy, "name", "no"));
	if (json_get(policy, "maximumRetryCount"))
		json_set_int(known, "maximumRetryCount", json_int(policy, "maximumRetryCount", 0));
	*out = known;
	return 0;
}

/* The change is true of what runs: it becomes the configuration. */
static int update_write(struct update *u, struct error **err)
{
	struct container *ct = u->ct;
	CLEANUP_JSON struct json_object *config = container_config(ct);
	struct json_object *res = json_obj(config, "resources");

	if (u->resources && res) {
		json_object_object_foreach(u->resources, key, value)
		{
			json_set(res, key, json_object_get(value));
		}
	}
	if (u->policy)
		json_set(config, "restartPolicy", json_object_get(u->policy));
	if (config_write(ct, config, err))
		return error_wrap(err, "update container %s", ct->id);
	config_keep(ct, config);
	if (u->policy)
		policy_changed(ct);
	if (ct->state != CT_STOPPED && json_get(u->resources, "cpus"))
		cgroup_cpus(ct->s->roots.tag, ct->id, (unsigned)json_int(u->resources, "cpus", 1));
	log_info("container %s updated", ct->id);
	events_container(ct, "update", NULL, NULL);
	return 0;
}

/* Takes u. */
static void update_end(struct update *u)
{
	struct error *e = NULL;

	if (update_write(u, &e))
		rpc_reply_error(u->req, e);
	else
		rpc_reply(u->req, NULL);
	update_free(u);
}

static void update_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			    const struct error *e)
{
	struct update *u = arg;

	u->ct->calls--;
	if (!e) {
		update_end(u);
		return;
	}
	rpc_reply_error(u->req, error_copy(e));
	update_free(u);
}

void on_container_update(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct error *e = NULL;
	struct container *ct = container_need(ctx, params, &e);
	struct update *u = xcalloc(1, sizeof(*u));
	struct json_object *p;

	*u = (struct update){.ct = ct, .req = req};
	if (!ct || take_resources(json_obj(params, "resources"), &u->resources, &e) ||
	    take_policy(ct, params, &u->policy, &e))
		goto fail;
	if (!u->resources && !u->policy) {
		error_set(&e, ERR_INVALID_ARGUMENT, "there is nothing to update");
		goto fail;
	}
	if (ct->state == CT_STOPPED || !u->resources) {
		update_end(u);
		return;
	}
	if (!container_need_running(ct->s, params, &e))
		goto fail;
	p = json_object_new_object();
	json_set(p, "resources", json_object_get(u->resources));
	ct->calls++;
	rpc_call_async(ct->conn, "runtime.update", p, NULL, 0, update_answered, NULL, u);
	return;
fail:
	rpc_reply_error(req, e);
	update_free(u);
}
