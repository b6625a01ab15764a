/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apiserver_events.c - what happens to containers, images and networks, for whoever wants to know.
 *
 * An event is {"type", "action", "actor": {"id", "attributes"}, "time", "timeNano"}. A watcher is a call that is still running: events
 * are its progress. One that does not read is cut off once its queue has grown to EVENTS_QUEUE; it never holds anyone up.
 *
 * The last ones are kept for `since`, in events/ below the app root: a ring of two files (cmd/stdlog.h), so it takes no memory, no more
 * than twice EVENTS_FILE of the disk, and is there for the next apiserver. An event is in it as soon as it happened; what a machine that
 * lost its power had not yet written is missing, and a line that is no event is passed over.
 */
#include "cmd/apiserver.h"
#include "cmd/stdlog.h"
#include "core/path.h"
#include "oci/oci.h"

#define EVENTS_FILE  (256ll << 10) /* some 700 events */
#define EVENTS_QUEUE (1u << 20)    /* more than the history */
#define LABELS_MAX   4096u         /* bytes of labels in an event */
#define WATCHERS_MAX 64u

struct watcher {
	struct watcher *next, **pprev;
	struct events *ev;
	struct rpc_req *req;
	int64_t until; /* Unix ns */
	struct loop_source *timer;
};

struct events {
	struct stdlog_writer history;
	struct watcher *watchers;
	unsigned nwatchers;
};

/* ---- watchers ---- */

static struct rpc_req *watcher_end(struct watcher *w)
{
	struct rpc_req *req = w->req;

	*w->pprev = w->next;
	if (w->next)
		w->next->pprev = w->pprev;
	w->ev->nwatchers--;
	loop_source_free(w->timer);
	rpc_req_on_cancel(req, NULL, NULL);
	free_shared(w);
	return req;
}

static void watcher_left(void *arg)
{
	rpc_reply(watcher_end(arg), NULL);
}

/* False when it was cut off. */
static bool watcher_tell(struct watcher *w, struct json_object *o)
{
	struct error *e = NULL;

	if (json_int(o, "timeNano", 0) > w->until)
		return true;
	if (rpc_conn_queued(rpc_req_conn(w->req)) <= EVENTS_QUEUE) {
		rpc_progress(w->req, json_object_get(o));
		return true;
	}
	error_set(&e, ERR_CANCELLED, "events come faster than they are read");
	rpc_reply_error(watcher_end(w), e);
	return false;
}

static void watcher_due(void *arg)
{
	struct watcher *w = arg;
	int64_t left = w->until - time_now_ns();

	if (left > 0)
		loop_set_timer(w->timer, MIN(left / 1000000 + 1, 86400000));
	else
		rpc_reply(watcher_end(w), NULL);
}

/* ---- the history ---- */

static void history_add(struct events *ev, struct json_object *o)
{
	CLEANUP_FREE char *line = json_text(o);
	size_t len = strlen(line);

	if (len >= STDLOG_TEXT_MAX) /* nothing that happens says so much */
		return;
	line[len] = '\n';
	stdlog_write(&ev->history, false, line, len + 1);
}

/* Whatever the file says: an event is a type, an action, who it happened to, and a time. */
static struct json_object *history_parse(const struct stdlog_record *rec)
{
	CLEANUP_JSON struct json_object *o = NULL;
	struct json_object *actor, *attributes;
	const char *text;
	int64_t ns;

	o = rec->time && !rec->partial ? json_parse(rec->text, rec->len, NULL) : NULL;
	if (!o || json_need_str(o, "type", &text, NULL) ||
	    json_need_str(o, "action", &text, NULL) || json_need_obj(o, "actor", &actor, NULL) ||
	    json_need_str(actor, "id", &text, NULL) ||
	    json_need_obj(actor, "attributes", &attributes, NULL) ||
	    json_need_str(o, "time", &text, NULL) ||
	    json_need_int(o, "timeNano", 0, INT64_MAX, &ns, NULL))
		return NULL;
	json_object_object_foreach(attributes, key, value)
	{
		(void)key;
		if (!json_object_is_type(value, json_type_string))
			return NULL;
	}
	return STEAL(o);
}

/* Tells w what happened since; false when it was cut off. */
static bool history_tell(struct events *ev, struct watcher *w, int64_t since)
{
	CLEANUP_STDLOG_READER struct stdlog_reader r;
	CLEANUP_ERROR struct error *e = NULL;
	struct stdlog_record rec;
	int rc;

	stdlog_reader_init(&r, ev->history.fd, ev->history.n);
	while ((rc = stdlog_next(&r, &rec, &e)) > 0) {
		CLEANUP_JSON struct json_object *o = history_parse(&rec);

		if (o && json_int(o, "timeNano", 0) >= since && !watcher_tell(w, o))
			return false;
	}
	if (rc)
		log_err(e, "events");
	return true;
}

static int history_open(struct apiserver *s, struct error **err)
{
	CLEANUP_FREE char *path = xasprintf("%s/events", s->roots.app);
	CLEANUP_JSON struct json_object *config = json_object_new_object();
	struct json_object *log = json_object_new_object();
	CLEANUP_CLOSE int dir = -1;

	json_set_int(log, "maxSizeInBytes", EVENTS_FILE);
	json_set_int(log, "maxFiles", 2);
	json_set(config, "log", log);
	if (path_mkdirs(path, 0700, err))
		return -1;
	dir = path_open_dir(path, err);
	return dir < 0 ? -1 : stdlog_open(&s->events->history, dir, config, true, err);
}

/* ---- events ---- */

void events_emit(struct apiserver *s, const char *type, const char *action, const char *id,
		 struct json_object *attributes)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *actor = json_object_new_object();
	struct watcher *w, *next;
	char at[TIME_STAMP_LEN + 1];
	int64_t now = time_now_ns();

	time_stamp(now, at);
	json_set_str(o, "type", type);
	json_set_str(o, "action", action);
	json_set_str(actor, "id", id);
	json_set(actor, "attributes", attributes ? attributes : json_object_new_object());
	json_set(o, "actor", actor);
	json_set_str(o, "time", at);
	json_set_int(o, "timeNano", now);
	if (!s->events)
		return;
	history_add(s->events, o);
	for (w = s->events->watchers; w; w = next) {
		next = w->next;
		watcher_tell(w, o);
	}
}

/* As docker has it: labels are attributes; a container with more of them than fits shows none. */
static void add_labels(struct json_object *labels, struct json_object *to)
{
	size_t sum = 0;

	if (!labels)
		return;
	json_object_object_foreach(labels, key, value)
	{
		sum += strlen(key) + (size_t)json_object_get_string_len(value);
	}
	if (sum > LABELS_MAX)
		return;
	json_object_object_foreach(labels, name, text)
	{
		if (json_object_is_type(text, json_type_string))
			json_set(to, name, json_object_get(text));
	}
}

struct json_object *events_container_attributes(struct container *ct)
{
	CLEANUP_JSON struct json_object *config = container_config(ct);
	struct json_object *o = json_object_new_object();

	add_labels(json_obj(config, "labels"), o);
	json_set_str(o, "image", json_str(json_obj(config, "image"), "reference", ""));
	json_set_str(o, "name", ct->id);
	return o;
}

void events_container(struct container *ct, const char *action, const char *key, const char *value)
{
	struct json_object *o = events_container_attributes(ct);

	if (key)
		json_set_str(o, key, value);
	events_emit(ct->s, "container", action, ct->id, o);
}

void events_container_int(struct container *ct, const char *action, const char *key, int64_t value)
{
	CLEANUP_FREE char *text = xasprintf("%lld", (long long)value);

	events_container(ct, action, key, text);
}

void events_network(struct container *ct, const char *action)
{
	CLEANUP_JSON struct json_object *config = container_config(ct);
	struct json_object *o = json_object_new_object(), *nets = json_arr(config, "networks");
	const char *name = json_str(json_object_array_get_idx(nets, 0), "network", "default");

	json_set_str(o, "container", ct->id);
	json_set_str(o, "name", name);
	events_emit(ct->s, "network", action, name, o);
}

/* ---- images: what calls to the image helper did ---- */

static void image_event(struct apiserver *s, const char *action, const char *reference)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "name", reference);
	events_emit(s, "image", action, reference, o);
}

/* An entry of a list is a reference or an object that has one. */
static void image_events(struct apiserver *s, const char *action, struct json_object *list)
{
	size_t i, n = list ? json_object_array_length(list) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		const char *name = json_object_is_type(v, json_type_string)
					   ? json_object_get_string(v)
					   : json_str(v, "reference", NULL);

		if (name)
			image_event(s, action, name);
	}
}

/* As a client wrote it. */
static void named_event(struct apiserver *s, const char *action, const char *name)
{
	CLEANUP_FREE char *full = NULL;
	struct oci_ref r;

	if (!oci_ref_parse(name, config_str(s->config, "registry.domain"), &r, NULL)) {
		full = oci_ref_string(&r);
		oci_ref_free(&r);
	}
	image_event(s, action, full ? full : name);
}

static void commit_event(struct apiserver *s, struct json_object *params,
			 struct json_object *result)
{
	struct container *ct = container_find(s, json_str(params, "container", ""));
	struct json_object *config = json_obj(json_obj(result, "image"), "configuration");

	if (ct)
		events_container(ct, "commit", "imageRef", json_str(config, "name", ""));
}

void events_image_call(struct apiserver *s, const char *method, struct json_object *params,
		       struct json_object *result)
{
	static const struct {
		const char *method, *action;
		const char *result, *param; /* the member that names images: a list, or a string */
	} calls[] = {
		{"image.pull", "pull", NULL, "reference"},
		{"image.push", "push", NULL, "reference"},
		{"image.tag", "tag", NULL, "target"},
		{"image.load", "load", "images", NULL},
		{"image.save", "save", "names", NULL},
		{"image.delete", "delete", "deleted", NULL},
		{"image.prune", "delete", "deleted", NULL},
	};

	if (!strcmp(method, "image.commit"))
		commit_event(s, params, result);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (strcmp(calls[i].method, method))
			continue;
		if (calls[i].result)
			image_events(s, calls[i].action, json_arr(result, calls[i].result));
		else
			named_event(s, calls[i].action, json_str(params, calls[i].param, ""));
	}
}

/* ---- the call ---- */

void on_system_events(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct apiserver *s = ctx;
	struct events *ev = s->events;
	int64_t since = 0, until = INT64_MAX;
	struct error *e = NULL;
	struct watcher *w;

	if ((json_get(params, "since") &&
	     json_need_int(params, "since", 0, INT64_MAX, &since, &e)) ||
	    (json_get(params, "until") && json_need_int(params, "until", 0, INT64_MAX, &until, &e)))
		goto fail;
	if (ev->nwatchers >= WATCHERS_MAX) {
		error_set(&e, ERR_INVALID_STATE, "too many clients watch events already");
		goto fail;
	}
	w = xcalloc(1, sizeof(*w));
	*w = (struct watcher){.ev = ev, .req = req, .until = until, .next = ev->watchers};
	w->pprev = &ev->watchers;
	if (w->next)
		w->next->pprev = &w->next;
	ev->watchers = w;
	ev->nwatchers++;
	rpc_req_on_cancel(req, watcher_left, w);
	if (json_get(params, "since") && !history_tell(ev, w, since))
		return;
	if (until == INT64_MAX)
		return;
	w->timer = loop_add_timer(s->loop, 0, watcher_due, w);
	return;
fail:
	rpc_reply_error(req, e);
}

/* ---- life ---- */

void events_init(struct apiserver *s)
{
	CLEANUP_ERROR struct error *e = NULL;

	s->events = xcalloc(1, sizeof(*s->events));
	/* A full disk is no reason not to serve. */
	if (history_open(s, &e))
		log_err(e, "there will be no history of events");
}

void events_free(struct apiserver *s)
{
	if (s->events)
		stdlog_close(&s->events->history);
	free(STEAL(s->events));
}
