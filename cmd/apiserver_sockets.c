/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_sockets.c - the host's ends of Unix sockets that cross a machine's border; their bytes never come here (cmd/runtime_sockets.c).
 *
 * The runtime helper has no files once its machine runs. So the sockets that a container publishes are made here before its start, and handed
 * over listening; the helper's end closes them. Their names are removed when the container has ended, and by the rule that a start
 * replaces them: a socket file goes when nobody listens on it, whoever left it, and anything else stays. So nothing has to be remembered, and
 * a system that was killed leaves nothing in the way.
 *
 * Sockets of the host that a container uses are connected to here, for each client, when the helper asks (event "dial"). What it asks for
 * is a number: that of a mount of the configuration, or the SSH agent's. A listener that takes nobody is tried for a while, without
 * waiting for it.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "cmd/apiserver.h"
#include "cmd/runtime.h"
#include "core/path.h"

#define PATH_LEN_MAX 4096
#define MAX_DIALS \
	256 /* of one container that wait for a listener, or for its helper to take what came of them */
#define BUSY_MS      10000
#define BUSY_STEP_MS 20
#define SSH_INSIDE   "/var/host-services/ssh-auth.sock"
#define SSH_MODE     0666 /* whoever the container's user is; on the host the agent looks at who asks */
#define SSH_MEMBER   "sshAuthSocket"

/* A connection to a socket of the host's that the helper wants. */
struct dial {
	struct dial *next, **pprev;
	struct container *ct;
	struct loop_source *timer;
	char *path;
	int64_t id;
	uint64_t until;
};

/* ---- configuration ---- */

static int need_path(struct json_object *o, const char *key, const char **out, struct error **err)
{
	if (json_need_str(o, key, out, err))
		return -1;
	if (**out != '/' || strlen(*out) >= PATH_LEN_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" is not an absolute path", key);
	return 0;
}

int sockets_check(struct json_object *config, struct error **err)
{
	struct json_object *list = json_get(config, "publishedSockets");
	size_t i, k, n;

	if (!list)
		return 0;
	if (!json_object_is_type(list, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "\"publishedSockets\" must be an array");
	n = json_object_array_length(list);
	if (n > SOCKETS_PUBLISHED_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d published sockets",
				 SOCKETS_PUBLISHED_MAX);
	for (i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *host, *inside;

		if (need_path(o, "hostPath", &host, err) ||
		    need_path(o, "containerPath", &inside, err))
			return -1;
		for (k = 0; k < i; k++)
			if (str_eq(json_str(json_object_array_get_idx(list, k), "hostPath", NULL),
				   host))
				return error_set(err, ERR_INVALID_ARGUMENT,
						 "host socket %s is published twice", host);
	}
	return 0;
}

/* What the caller of a start says of the SSH agent: a path, "" for none, or nothing: as it was. */
static int keep_ssh(struct container *ct, struct json_object *config, struct json_object *params,
		    struct error **err)
{
	const char *was = json_str(config, SSH_MEMBER, ""), *now;

	if (!json_flag(config, "ssh", false) || !json_get(params, "sshAuthSock"))
		return 0;
	if (json_need_str(params, "sshAuthSock", &now, err) ||
	    (*now && need_path(params, "sshAuthSock", &now, err)))
		return -1;
	if (!strcmp(was, now))
		return 0;
	json_object_object_del(config, SSH_MEMBER);
	if (*now)
		json_set_str(config, SSH_MEMBER, now);
	config_keep(ct, config);
	return config_write(ct, config, err);
}

/* The permission bits of the socket that a mount names, -1 when it names none. */
static int socket_mode(struct json_object *mount)
{
	const char *from = json_str(mount, "source", "");
	struct stat st;

	if (!json_obj(json_obj(mount, "type"), "virtiofs") || *from != '/' || stat(from, &st) ||
	    !S_ISSOCK(st.st_mode))
		return -1;
	return st.st_mode & 0777;
}

static struct json_object *relay(int64_t mount, const char *path, int mode)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "mount", mount);
	json_set_str(o, "path", path);
	json_set_int(o, "mode", mode);
	return o;
}

struct json_object *sockets_relays(struct json_object *config)
{
	struct json_object *mounts = json_arr(config, "mounts"), *out = json_object_new_array();
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);
		int mode = socket_mode(m);

		if (mode >= 0)
			json_object_array_add(out, relay((int64_t)i, json_str(m, "destination", ""),
							 mode));
	}
	if (json_flag(config, "ssh", false) && json_get(config, SSH_MEMBER))
		json_object_array_add(out, relay(SOCKETS_SSH, SSH_INSIDE, SSH_MODE));
	return out;
}

/* ---- published ---- */

static int publish(struct container *ct, const char *path, struct error **err)
{
	CLEANUP_FREE char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	int fd;

	if (*dir && path_mkdirs(dir, 0755, err))
		return -1;
	fd = rpc_socket_listen(AT_FDCWD, path, err);
	if (fd < 0)
		return -1;
	ct->sockets[ct->nsockets++] = fd;
	return 0;
}

int sockets_begin(struct container *ct, struct json_object *config, struct json_object *params,
		  struct error **err)
{
	struct json_object *list = json_arr(config, "publishedSockets");
	size_t i, n = list ? json_object_array_length(list) : 0;

	if (keep_ssh(ct, config, params, err))
		return error_wrap(err, "SSH agent");
	if (!n)
		return 0;
	ct->sockets = xcalloc(n, sizeof(*ct->sockets));
	for (i = 0; i < n; i++) {
		const char *path;

		if (need_path(json_object_array_get_idx(list, i), "hostPath", &path, err))
			return -1;
		if (publish(ct, path, err))
			return error_wrap(err, "publish socket %s", path);
	}
	return 0;
}

static void close_all(struct container *ct)
{
	while (ct->nsockets)
		close(ct->sockets[--ct->nsockets]);
	free(STEAL(ct->sockets));
}

void sockets_hand_over(struct container *ct)
{
	/* What goes wrong there is said by the start itself. */
	if (ct->nsockets)
		rpc_call_async(ct->conn, "runtime.publish", NULL, ct->sockets, ct->nsockets, NULL,
			       NULL, NULL);
	close_all(ct);
}

static void dial_free(struct dial *d)
{
	*d->pprev = d->next;
	if (d->next)
		d->next->pprev = d->pprev;
	d->ct->ndials--;
	loop_source_free(d->timer);
	free_shared(d->path);
	free_shared(d);
}

void sockets_end(struct container *ct)
{
	CLEANUP_JSON struct json_object *config = NULL;
	struct json_object *list;
	size_t i, n;

	while (ct->dials) /* those that wait for a listener: the calls under way ended with the connection */
		dial_free(ct->dials);
	close_all(ct);
	if (ct->serves || !strstr(ct->config, "\"hostPath\""))
		return;
	config = container_config(ct);
	list = json_arr(config, "publishedSockets");
	n = list ? json_object_array_length(list) : 0;
	for (i = 0; i < n; i++)
		rpc_socket_remove(AT_FDCWD,
				  json_str(json_object_array_get_idx(list, i), "hostPath", ""));
}

/* ---- dials ---- */

static void dial_taken(void *arg, struct json_object *result, struct rpc_fds *fds,
		       const struct error *e)
{
	dial_free(arg);
}

/* A helper that takes nothing must not have descriptors of ours pile up: the dial counts until it has answered. */
static void dial_answer(struct dial *d, int fd)
{
	struct json_object *p = json_object_new_object();

	json_set_int(p, "id", d->id);
	rpc_call_async(d->ct->conn, "runtime.dialed", p, &fd, fd >= 0, dial_taken, NULL, d);
}

static void dial_try(void *arg)
{
	struct dial *d = arg;
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_CLOSE int fd = -1;

	if (!d->ct->conn) {
		dial_free(d);
		return;
	}
	fd = rpc_socket_connect_now(AT_FDCWD, d->path, &e);
	if (fd < 0 && e->sys == EAGAIN && time_mono_us() < d->until) {
		loop_source_free(d->timer);
		d->timer = loop_add_timer(d->ct->s->loop, BUSY_STEP_MS, dial_try, d);
		return;
	}
	if (fd < 0)
		log_debug("container %s: %s", d->ct->id, e->msg);
	dial_answer(d, fd);
}

/* What a number of the helper's stands for; NULL: nothing. Borrowed from config. */
static const char *dial_path(struct json_object *config, int64_t mount)
{
	struct json_object *mounts = json_arr(config, "mounts"), *m;

	if (mount == SOCKETS_SSH)
		return json_flag(config, "ssh", false) ? json_str(config, SSH_MEMBER, NULL) : NULL;
	if (mount < 0 || !mounts || (uint64_t)mount >= json_object_array_length(mounts))
		return NULL;
	m = json_object_array_get_idx(mounts, (size_t)mount);
	return json_obj(json_obj(m, "type"), "virtiofs") ? json_str(m, "source", NULL) : NULL;
}

void sockets_dial(struct container *ct, struct json_object *ev)
{
	CLEANUP_JSON struct json_object *config = container_config(ct);
	const char *path = dial_path(config, json_int(ev, "mount", INT64_MIN));
	struct dial *d;

	if (!ct->conn || ct->ndials == MAX_DIALS)
		return; /* what a helper that keeps to its own bound is never told */
	d = xcalloc(1, sizeof(*d));
	d->ct = ct;
	d->id = json_int(ev, "id", 0);
	d->path = xstrdup(path ? path : "");
	d->until = time_mono_us() + BUSY_MS * 1000ull;
	d->next = ct->dials;
	d->pprev = &ct->dials;
	if (d->next)
		d->next->pprev = &d->next;
	ct->dials = d;
	ct->ndials++;
	if (*d->path == '/')
		dial_try(d);
	else
		dial_answer(d, -1);
}
