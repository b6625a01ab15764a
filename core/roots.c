/* SPDX-License-Identifier: Apache-2.0 */
/* roots.c - where a system lives. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "core/roots.h"
#include "core/str.h"

/* Absolute, without doubled or trailing slashes and "." components; ".." is refused, as it would depend on links. */
static char *normal_path(const char *what, const char *path, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	const char *p, *end;
	char cwd[PATH_MAX];

	if (!*path) {
		error_set(err, ERR_INVALID_ARGUMENT, "the %s root is an empty path", what);
		return NULL;
	}
	if (*path != '/') {
		if (!getcwd(cwd, sizeof(cwd))) {
			error_sys(err, errno, "current directory");
			return NULL;
		}
		buf_puts(&b, str_eq(cwd, "/") ? "" : cwd);
	}
	for (p = path; *p; p = end) {
		while (*p == '/')
			p++;
		end = strchrnul(p, '/');
		if (end == p || (end - p == 1 && *p == '.'))
			continue;
		if (end - p == 2 && p[0] == '.' && p[1] == '.') {
			error_set(err, ERR_INVALID_ARGUMENT, "the %s root %s contains \"..\"", what,
				  path);
			return NULL;
		}
		buf_printf(&b, "/%.*s", (int)(end - p), p);
	}
	if (!b.len)
		buf_puts(&b, "/");
	return STEAL(b.data);
}

/* $var/container when var is set to an absolute path, else $HOME/fallback/container. */
static char *xdg_dir(const char *var, const char *fallback)
{
	const char *dir = getenv(var);
	const char *home = getenv("HOME");

	if (dir && *dir == '/')
		return xasprintf("%s/container", dir);
	if (fallback && home && *home == '/')
		return xasprintf("%s/%s/container", home, fallback);
	return NULL;
}

static char *default_app(void)
{
	return geteuid() ? xdg_dir("XDG_DATA_HOME", ".local/share") : xstrdup("/var/lib/container");
}

static char *default_run(void)
{
	CLEANUP_FREE char *user = NULL;
	char *dir;

	if (!geteuid())
		return xstrdup("/run/container");
	dir = xdg_dir("XDG_RUNTIME_DIR", NULL);
	if (dir)
		return dir;
	user = xasprintf("/run/user/%u", (unsigned)geteuid());
	return access(user, W_OK) ? NULL : xasprintf("%s/container", user);
}

/* The prefix the executable was installed under: /usr/local for /usr/local/bin/container. */
static char *default_install(void)
{
	char exe[PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n <= 0)
		return xstrdup("/usr/local");
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (!slash)
		return xstrdup("/usr/local");
	*slash = '\0';
	if (str_suffix(exe, "/bin"))
		exe[strlen(exe) - 4] = '\0';
	return xstrdup(*exe ? exe : "/");
}

static int one_root(char **out, const char *what, const char *flag, const char *env,
		    char *(*dflt)(void), struct error **err)
{
	CLEANUP_FREE char *fallback = NULL;
	const char *path = flag ? flag : getenv(env);

	if (!path || (!flag && !*path))
		path = fallback = dflt();
	if (!path)
		return error_set(err, ERR_INVALID_ARGUMENT, "no %s root: set %s", what, env);
	*out = normal_path(what, path, err);
	return *out ? 0 : -1;
}

/* FNV-1a: the tag must be the same in every process and release; it guards nothing. */
static uint32_t hash_path(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

int roots_init(struct roots *r, const char *app, const char *run, const char *log,
	       const char *install, struct error **err)
{
	const char *env_log = getenv("CONTAINER_LOG_ROOT");

	*r = (struct roots){0};
	if (one_root(&r->app, "app", app, "CONTAINER_APP_ROOT", default_app, err) ||
	    one_root(&r->run, "run", run, "CONTAINER_RUN_ROOT", default_run, err) ||
	    one_root(&r->install, "install", install, "CONTAINER_INSTALL_ROOT", default_install,
		     err))
		goto fail;
	if (!log && env_log && *env_log)
		log = env_log;
	r->log_set = log != NULL;
	r->log = log ? normal_path("log", log, err) : xasprintf("%s/log", r->app);
	if (!r->log)
		goto fail;
	snprintf(r->tag, sizeof(r->tag), "%08x", hash_path(r->app));
	return 0;
fail:
	roots_free(r);
	return -1;
}

void roots_free(struct roots *r)
{
	free(r->app);
	free(r->run);
	free(r->log);
	free(r->install);
	*r = (struct roots){0};
}

void roots_setenv(const struct roots *r)
{
	setenv("CONTAINER_APP_ROOT", r->app, 1);
	setenv("CONTAINER_RUN_ROOT", r->run, 1);
	setenv("CONTAINER_INSTALL_ROOT", r->install, 1);
	if (r->log_set)
		setenv("CONTAINER_LOG_ROOT", r->log, 1);
	else
		unsetenv("CONTAINER_LOG_ROOT");
}
