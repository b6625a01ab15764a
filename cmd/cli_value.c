/* SPDX-License-Identifier: Apache-2.0 */
/* cli_value.c - the values of single flags: environment, limits, capabilities, users, signals, networks. */
#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <strings.h>
#include "cmd/cli_config.h"

#include "core/caps.h"

/* ---- environment ---- */

static const char *env_lookup(char *const *from, const char *key, size_t len)
{
	for (; from && *from; from++)
		if (!strncmp(*from, key, len) && (*from)[len] == '=')
			return *from;
	return NULL;
}

int env_set(struct strv *env, const char *entry, char *const *from, struct error **err)
{
	size_t len = strcspn(entry, "=");

	if (!len)
		return error_set(err, ERR_INVALID_ARGUMENT, "invalid environment variable '%s'",
				 entry);
	if (!entry[len]) {
		entry = env_lookup(from, entry, len);
		if (!entry)
			return 0;
	}
	for (size_t i = 0; i < env->n; i++) {
		if (!strncmp(env->v[i], entry, len + 1)) {
			free(env->v[i]);
			env->v[i] = xstrdup(entry);
			return 0;
		}
	}
	strv_add(env, entry);
	return 0;
}

/* Reads to the end of a file or FIFO, at most ENV_FILE_MAX bytes. */
static int env_file_read(const char *path, struct buf *b, struct error **err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char chunk[4096];
	ssize_t n;

	if (fd < 0)
		return error_sys(err, errno, "open environment file %s", path);
	while ((n = RETRY_EINTR(read(fd, chunk, sizeof(chunk)))) > 0) {
		if (b->len + (size_t)n > ENV_FILE_MAX)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "environment file %s: larger than %u bytes", path,
					 ENV_FILE_MAX);
		buf_append(b, chunk, (size_t)n);
	}
	if (n < 0)
		return error_sys(err, errno, "read environment file %s", path);
	if (b->len && memchr(b->data, 0, b->len))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "environment file %s: holds a zero byte", path);
	return 0;
}

int env_file(struct strv *env, const char *path, char *const *from, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	unsigned number = 0;

	if (env_file_read(path, &b, err))
		return -1;
	for (char *line = b.data; line && *line;) {
		char *end = strchrnul(line, '\n');
		char *next = *end ? end + 1 : end;

		*end = 0;
		if (end > line && end[-1] == '\r')
			end[-1] = 0;
		number++;
		while (*line == ' ' || *line == '\t')
			line++;
		if (*line && *line != '#' && env_set(env, line, from, err))
			return error_wrap(err, "environment file %s, line %u", path, number);
		line = next;
	}
	return 0;
}

int env_merge(struct json_object *base, const char *const *files, const char *const *flags,
	      char *const *from, struct json_object **out, struct error **err)
{
	CLEANUP_STRV struct strv env = {0};
	size_t n = base ? json_object_array_length(base) : 0;

	if (n > ENV_MAX)
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"the image sets %zu environment variables, at most %d are supported", n,
			ENV_MAX);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(base, i);
		const char *s =
			json_object_is_type(o, json_type_string) ? json_object_get_string(o) : "=";

		if (*s != '=' && strchr(s, '=') && env_set(&env, s, NULL, err))
			return -1;
	}
	for (; files && *files; files++)
		if (env_file(&env, *files, from, err))
			return -1;
	for (; flags && *flags; flags++)
		if (env_set(&env, *flags, from, err))
			return -1;
	*out = json_object_new_array();
	for (size_t i = 0; i < env.n; i++)
		json_add_str(*out, env.v[i]);
	return 0;
}

/* ---- limits ---- */

static const struct {
	const char *name, *limit;
} ulimits[] = {
	{"core", "RLIMIT_CORE"},         {"cpu", "RLIMIT_CPU"},
	{"data", "RLIMIT_DATA"},         {"fsize", "RLIMIT_FSIZE"},
	{"locks", "RLIMIT_LOCKS"},       {"memlock", "RLIMIT_MEMLOCK"},
	{"msgqueue", "RLIMIT_MSGQUEUE"}, {"nice", "RLIMIT_NICE"},
	{"nofile", "RLIMIT_NOFILE"},     {"nproc", "RLIMIT_NPROC"},
	{"rss", "RLIMIT_RSS"},           {"rtprio", "RLIMIT_RTPRIO"},
	{"rttime", "RLIMIT_RTTIME"},     {"sigpending", "RLIMIT_SIGPENDING"},
	{"stack", "RLIMIT_STACK"},
};

static int ulimit_number(const char *s, uint64_t *out)
{
	if (!strcmp(s, "unlimited") || !strcmp(s, "-1")) {
		*out = UINT64_MAX;
		return 0;
	}
	return parse_u64(s, out);
}

static struct json_object *ulimit_parse(const char *text, struct error **err)
{
	size_t len = strcspn(text, "=");
	CLEANUP_FREE char *name = xstrndup(text, len);
	CLEANUP_FREE char *soft_text = NULL;
	const char *value = text[len] ? text + len + 1 : "", *colon = strchr(value, ':');
	uint64_t soft, hard;

	soft_text = xstrndup(value, strcspn(value, ":"));
	if (!text[len] || ulimit_number(soft_text, &soft) ||
	    ulimit_number(colon ? colon + 1 : soft_text, &hard)) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  "invalid ulimit '%s': <type>=<soft>[:<hard>] expected", text);
		return NULL;
	}
	if (soft > hard) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  "invalid ulimit '%s': soft limit exceeds hard limit", text);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ulimits); i++) {
		struct json_object *o;

		if (strcmp(name, ulimits[i].name))
			continue;
		o = json_object_new_object();
		json_set_str(o, "limit", ulimits[i].limit);
		json_set(o, "soft", json_object_new_uint64(soft));
		json_set(o, "hard", json_object_new_uint64(hard));
		return o;
	}
	error_set(err, ERR_INVALID_ARGUMENT, "unknown ulimit type '%s'", name);
	return NULL;
}

int ulimits_parse(const char *const *v, struct json_object **out, struct error **err)
{
	CLEANUP_JSON struct json_object *arr = json_object_new_array();

	for (; v && *v; v++) {
		struct json_object *o = ulimit_parse(*v, err);

		if (!o)
			return -1;
		for (size_t i = 0; i < json_object_array_length(arr); i++) {
			const char *have = json_str(json_object_array_get_idx(arr, i), "limit", "");

			if (strcmp(have, json_str(o, "limit", "")))
				continue;
			json_object_put(o);
			return error_set(err, ERR_INVALID_ARGUMENT, "duplicate ulimit type in '%s'",
					 *v);
		}
		json_object_array_add(arr, o);
	}
	*out = STEAL(arr);
	return 0;
}

int memory_parse(const char *s, int64_t *out, struct error **err)
{
	const uint64_t mib = 1 << 20;
	uint64_t n;

	if (parse_size(s, &n, err))
		return error_wrap(err, "invalid memory size '%s'", s);
	if (n < MEMORY_MIN || n > (uint64_t)INT64_MAX - mib)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid memory size '%s': the minimum is 200 MiB", s);
	*out = (int64_t)ALIGN_UP(n, mib);
	return 0;
}

/* ---- capabilities ---- */

int caps_parse(const char *const *v, struct json_object **out, struct error **err)
{
	CLEANUP_JSON struct json_object *arr = json_object_new_array();

	for (; v && *v; v++) {
		int n = caps_find(*v);

		if (n < 0 && strcasecmp(*v, "ALL") && strcasecmp(*v, "CAP_ALL"))
			return error_set(err, ERR_INVALID_ARGUMENT, "unknown capability '%s'", *v);
		json_add_str(arr, n < 0 ? "ALL" : caps_name((unsigned)n));
	}
	*out = STEAL(arr);
	return 0;
}

/* ---- users ---- */

static int id_number(const char *s, const char *flag, int64_t *out, struct error **err)
{
	uint64_t n;

	if (parse_u64(s, &n) || n >= UINT32_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid value '%s' for %s: a number expected", s, flag);
	*out = (int64_t)n;
	return 0;
}

static struct json_object *user_object(const char *kind, struct json_object *inner)
{
	struct json_object *o = json_object_new_object();

	json_set(o, kind, inner);
	return o;
}

struct json_object *user_parse(const char *user, const char *uid, const char *gid, const char *dflt,
			       struct json_object *groups, struct error **err)
{
	struct json_object *o;
	int64_t u = 0, g = 0;

	if ((uid && id_number(uid, "--uid", &u, err)) || (gid && id_number(gid, "--gid", &g, err)))
		return NULL;
	if (user && !*user) {
		error_set(err, ERR_INVALID_ARGUMENT, "the user must not be empty");
		return NULL;
	}
	if (!user && !uid && dflt && *dflt)
		user = dflt;
	if (gid && !uid) {
		json_object_array_add(groups, json_object_new_int64(g));
		g = 0;
	}
	o = json_object_new_object();
	if (user) {
		json_set_str(o, "userString", user);
		return user_object("raw", o);
	}
	json_set_int(o, "uid", u);
	json_set_int(o, "gid", g);
	return user_object("id", o);
}

/* ---- signals ---- */

static const struct {
	const char *name;
	int number;
} signals[] = {
	{"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"ILL", SIGILL},
	{"TRAP", SIGTRAP},     {"ABRT", SIGABRT},   {"IOT", SIGABRT},  {"BUS", SIGBUS},
	{"FPE", SIGFPE},       {"KILL", SIGKILL},   {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},
	{"USR2", SIGUSR2},     {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
	{"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CLD", SIGCHLD},  {"CONT", SIGCONT},
	{"STOP", SIGSTOP},     {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},
	{"URG", SIGURG},       {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
	{"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"POLL", SIGIO},
	{"PWR", SIGPWR},       {"SYS", SIGSYS},
};

#define SIGNAL_RTMIN 34 /* as C libraries count, which keep the first two to themselves */
#define SIGNAL_MAX   64

int signal_parse(const char *s, int *out, struct error **err)
{
	const char *name = !strncasecmp(s, "SIG", 3) ? s + 3 : s;
	uint64_t n;

	if (!parse_u64(s, &n) && n >= 1 && n <= SIGNAL_MAX) {
		*out = (int)n;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		if (!strcasecmp(name, signals[i].name)) {
			*out = signals[i].number;
			return 0;
		}
	}
	if (!strncasecmp(name, "RTMIN", 5) || !strncasecmp(name, "RTMAX", 5)) {
		bool max = toupper((unsigned char)name[3]) == 'A';

		if (!name[5]) {
			*out = max ? SIGNAL_MAX : SIGNAL_RTMIN;
			return 0;
		}
		if (name[5] == (max ? '-' : '+') && !parse_u64(name + 6, &n) &&
		    n <= SIGNAL_MAX - SIGNAL_RTMIN) {
			*out = max ? SIGNAL_MAX - (int)n : SIGNAL_RTMIN + (int)n;
			return 0;
		}
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "invalid signal '%s'", s);
}

/* ---- names and networks ---- */

int container_id_check(const char *id, struct error **err)
{
	size_t len = strlen(id), good = 0;

	while (isalnum((unsigned char)id[good]) || (id[good] && strchr("_.-", id[good])))
		good++;
	if (len < 2 || len > 63 || good != len || !isalnum((unsigned char)id[0]))
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"invalid container name '%s': 2 to 63 letters, digits, '_', '.' or '-', "
			"starting with a letter or digit",
			id);
	return 0;
}

/* Of one card: a group's address (the lowest bit of the first byte) is none. */
/* One "key=value" of a --network word. */
static int network_option(struct json_object *options, const char *key, const char *value,
			  const char *word, struct error **err)
{
	uint8_t mac[6];
	char text[18];
	uint64_t mtu;

	if (!strcmp(key, "mac")) {
		if (mac_parse(value, mac))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid MAC address in network '%s'", word);
		mac_text(mac, text);
		json_set_str(options, "macAddress", text);
	} else if (!strcmp(key, "mtu")) {
		if (parse_u64(value, &mtu) || mtu < MTU_MIN || mtu > MTU_MAX)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid MTU in network '%s': %d to %d expected", word,
					 MTU_MIN, MTU_MAX);
		json_set_int(options, "mtu", (int64_t)mtu);
	} else {
		return error_set(err, ERR_INVALID_ARGUMENT, "unknown property '%s' in network '%s'",
				 key, word);
	}
	return 0;
}

static int network_parse(const char *word, const char *hostname, struct json_object *arr,
			 struct error **err)
{
	CLEANUP_FREE char *copy = xstrdup(word);
	CLEANUP_JSON struct json_object *net = json_object_new_object();
	struct json_object *options = json_object_new_object();
	char *rest = copy, *name = strsep(&rest, ","), *part;

	json_set(net, "options", options);
	if (!*name)
		return error_set(err, ERR_INVALID_ARGUMENT, "the network name must not be empty");
	json_set_str(net, "network", name);
	json_set_str(options, "hostname", hostname);
	while ((part = strsep(&rest, ","))) {
		char *value = part, *key = strsep(&value, "=");

		if (network_option(options, key, value ? value : "", word, err))
			return -1;
	}
	json_object_array_add(arr, STEAL(net));
	return 0;
}

/* The first attachment's name carries the DNS domain and a final dot. */
static char *network_hostname(const char *id, const char *domain)
{
	if (!domain || !*domain)
		return xstrdup(id);
	return strchr(id, '.') ? xasprintf("%s.", id) : xasprintf("%s.%s.", id, domain);
}

int networks_parse(const char *const *v, const char *id, const char *domain,
		   struct json_object **out, struct error **err)
{
	static const char *const dflt[] = {"default", NULL};
	CLEANUP_JSON struct json_object *arr = json_object_new_array();
	CLEANUP_FREE char *first = network_hostname(id, domain);

	if (!v || !*v)
		v = dflt;
	if (!strcmp(v[0], "none") && !v[1])
		v++;
	for (size_t i = 0; v[i]; i++) {
		if (!strcmp(v[i], "none"))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "network 'none' cannot be combined with other networks");
		if (network_parse(v[i], i ? id : first, arr, err))
			return -1;
	}
	*out = STEAL(arr);
	return 0;
}
