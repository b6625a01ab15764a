/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roots.h - where a system lives, and its configuration file.
 *
 * A system is its roots: two systems with other roots share nothing. Sources, first wins: explicit
 * flags, CONTAINER_{APP,RUN,LOG,INSTALL}_ROOT, defaults (root: /var/lib/container, /run/container;
 * else $XDG_DATA_HOME/container, $XDG_RUNTIME_DIR/container).
 *
 * Below app: content/ images.json layers/ rootfs/ (image helper) · containers/<id>/ ·
 * networks/<name>/ · kernels/<name>/. Below run: apiserver.sock images.sock network-<name>.sock
 * c/<id>.sock.
 */
#ifndef CORE_ROOTS_H
#define CORE_ROOTS_H

#include "core/json.h"

struct roots {
	char *app, *run, *log, *install; /* absolute; log is <app>/log unless set */
	bool log_set;                    /* log root asked for explicitly */
	/* Eight hex digits derived from app: makes names of host-wide things (bridges, tables)
	 * unique per system. "" is never used; the default root system has a tag too. */
	char tag[9];
};

/* roots_init: fills r from flags (each may be NULL) and the environment. */
int roots_init(struct roots *r, const char *app, const char *run, const char *log,
	       const char *install, struct error **err);
void roots_free(struct roots *r);
/* roots_setenv: exports them as CONTAINER_*_ROOT for children. */
void roots_setenv(const struct roots *r);

/*
 * The configuration: one JSON file with comments (CONTAINER_CONFIG, else /etc/container/config.json
 * as root, else $XDG_CONFIG_HOME/container/config.json). Keys are dotted: "container.cpus",
 * "engine". Absent keys have defaults from one table in roots.c. CONTAINER_ENGINE overrides
 * "engine".
 */
struct config;
struct config *config_load(struct error **err); /* unknown keys and wrong types are errors */
void config_free(struct config *c);
const char *config_str(const struct config *c,
		       const char *key); /* NULL when unset and no default */
int64_t config_int(const struct config *c, const char *key);
/* config_list: [{key, value, source}] with every key; owned by the caller. */
struct json_object *config_list(const struct config *c);

#endif
