/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_config.h - from flags and an image to a container's configuration.
 *
 * Pure functions: nothing here talks to a server. All errors are invalidArgument and name the value.
 */
#ifndef CMD_CLI_CONFIG_H
#define CMD_CLI_CONFIG_H

#include "cmd/opt.h"
#include "core/json.h"

#define ENV_FILE_MAX (1u << 20)
#define ENV_MAX      4096 /* variables an image may set: each is looked up among the others */
#define MEMORY_MIN   (200ull << 20)
#define CPUS_MAX     64 /* as many as a microVM has */
#define MTU_MIN      1280
#define MTU_MAX      65535

/* What the configuration file says about containers. */
struct config_defaults {
	int64_t cpus;
	const char *memory;     /* "1g" */
	const char *dns_domain; /* NULL: none */
	const char *log_size;   /* "16m"; NULL: as built in */
	int64_t log_files;      /* 0: as built in */
};

/* env_set: KEY=VALUE replaces an entry with that key, or is added; a bare KEY takes the value from `from`
 * (an environ), and is dropped when that has none. */
int env_set(struct strv *env, const char *entry, char *const *from, struct error **err);
/* env_file: adds the entries of a file: KEY=VALUE lines, '#' comments, blank lines; FIFOs work. */
int env_file(struct strv *env, const char *path, char *const *from, struct error **err);
/* env_merge: base (array of strings, bare keys dropped), then the files, then the flags. The caller owns *out,
 * an array. */
int env_merge(struct json_object *base, const char *const *files, const char *const *flags,
	      char *const *from, struct json_object **out, struct error **err);

/* ulimits_parse: "nofile=1024[:4096]" to [{limit, soft, hard}]; `unlimited` and -1 are the largest number. */
int ulimits_parse(const char *const *v, struct json_object **out, struct error **err);
/* caps_parse: "net_admin" to "CAP_NET_ADMIN"; ALL stays; unknown names are refused. */
int caps_parse(const char *const *v, struct json_object **out, struct error **err);
/* user_parse: {"id": {…}} or {"raw": {…}} from the flags (each may be NULL) and the image's user; gid without
 * uid goes to *groups (an array the caller made). */
struct json_object *user_parse(const char *user, const char *uid, const char *gid, const char *dflt,
			       struct json_object *groups, struct error **err);
/* signal_parse: "TERM", "sigterm", "15", "RTMIN+1" to a number 1..64. */
int signal_parse(const char *s, int *out, struct error **err);
/* memory_parse: bytes, rounded up to whole MiB, at least MEMORY_MIN. */
int memory_parse(const char *s, int64_t *out, struct error **err);
/* networks_parse: "name[,mac=..][,mtu=..]" to [{network, options}]; `none` alone gives an empty array. */
int networks_parse(const char *const *v, const char *id, const char *domain,
		   struct json_object **out, struct error **err);
/* publish_parse (cli_publish.c): specs of --publish to "publishedPorts"; exposed: an image's ExposedPorts, each of which gets a
 * free port of the host's, NULL: none. The caller owns *out, an array. */
int publish_parse(const char *const *v, struct json_object *exposed, struct json_object **out,
		  struct error **err);
/* container_id_check: letters, digits, "_.-", 2 to 63, alphanumeric first. */
int container_id_check(const char *id, struct error **err);
/* platform_flags: os/arch[/variant] from --platform, else from the environment's value, else from --os and
 * --arch; *out is NULL when nothing was said (the caller owns it). *from_env: the variable decided. */
int platform_flags(const struct opt_args *a, const char *env, bool flags_first, char **out,
		   bool *from_env, struct error **err);

/*
 * config_build: the configuration of a container from the flags of run and create. `image` is the answer of
 * image.resolve; positionals of a are the image and the arguments. *out is owned by the caller.
 */
int config_build(const struct opt_args *a, struct json_object *image,
		 const struct config_defaults *d, const char *id, struct json_object **out,
		 struct error **err);

/* restart_build: --restart to "restartPolicy" in out; "no" is said too. */
int restart_build(const struct opt_args *a, struct json_object *out, struct error **err);
/* update_build (cli_update.c): the flags of update to "resources" and "restartPolicy". */
int update_build(const struct opt_args *a, struct json_object *out, struct error **err);

/* cli_health.c: the options of health checks, and from them and the image's configuration "healthcheck" in out. */
extern const struct opt opt_health[];
int health_build(const struct opt_args *a, struct json_object *image, struct json_object *out,
		 struct error **err);

/* config_isolation: the flags about what its processes may do and see; initProcess and resources are there. */
int config_isolation(const struct opt_args *a, struct json_object *out, struct error **err);

/* cli_sockets.c */
/* publish_socket_parse: "host_path:container_path" to {"containerPath", "hostPath"}, the caller's; NULL and *err. */
struct json_object *publish_socket_parse(const char *spec, struct error **err);
/* config_sockets: --publish-socket and --ssh; initProcess is there. */
int config_sockets(const struct opt_args *a, struct json_object *out, struct error **err);
/* ssh_agent: what a start of a container with --ssh (wanted) says of the caller's SSH agent: its socket, "" and a warning when there is none;
 * NULL: nothing. The caller owns it. */
char *ssh_agent(bool wanted);

/* process_build: the process object for exec: init (the configuration's initProcess) overridden by flags;
 * argv is NULL-terminated. *out is owned by the caller. */
int process_build(const struct opt_args *a, struct json_object *init, const char *const *argv,
		  struct json_object **out, struct error **err);

#endif
