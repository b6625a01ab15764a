/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.c - from the kernel's hands to a usable user space: the pseudo file systems, the modules the
 * initramfs brought, the boot descriptor, and the way out of the initramfs.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/guest/guest.h"

#define STAGE            "/.stage"
#define MODULES_LIST     "/modules.list"
#define MAX_MODULES_LIST (64u << 10)
#define MAX_BOOT_JSON    (16u << 20)

static const struct {
	const char *type, *target, *data;
	unsigned long flags;
} early[] = {
	{"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"devtmpfs", "/dev", "mode=0755", MS_NOSUID | MS_NOEXEC},
};

int boot_early_mounts(struct error **err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(early); i++) {
		mkdir(early[i].target, 0755);
		if (mount(early[i].type, early[i].target, early[i].type, early[i].flags,
			  early[i].data) &&
		    errno != EBUSY)
			return error_sys(err, errno, "mount %s", early[i].target);
	}
	return 0;
}

static int load_module(const char *path, struct error **err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_sys(err, errno, "open %s", path);
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		return error_sys(err, errno, "load %s", path);
	unlink(path); /* its memory serves the container better */
	return 0;
}

/* Probing is synchronous: when a driver's module is loaded its devices are there, and devtmpfs has them. */
int boot_modules(struct error **err)
{
	CLEANUP_BUF struct buf list = {0};
	char *line, *save = NULL;

	if (access(MODULES_LIST, F_OK))
		return 0; /* all built in */
	if (path_read_all(AT_FDCWD, MODULES_LIST, MAX_MODULES_LIST, &list, err))
		return -1;
	for (line = strtok_r(list.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		CLEANUP_ERROR struct error *e = NULL;

		/* One module less may still boot: the step that misses it says what is wrong. */
		if (load_module(line, &e))
			guest_log_err(e, "module");
	}
	return 0;
}

struct json_object *boot_descriptor(struct error **err)
{
	CLEANUP_BUF struct buf text = {0};
	struct json_object *o;

	if (path_read_all(AT_FDCWD, "/boot.json", MAX_BOOT_JSON, &text, err))
		return NULL;
	unlink("/boot.json");
	o = json_parse(text.data, text.len, err);
	if (!o) {
		error_wrap(err, "boot.json");
		return NULL;
	}
	if (!json_object_is_type(o, json_type_object) ||
	    json_int(o, "version", 0) != AGENT_VERSION) {
		json_object_put(o);
		error_set(err, ERR_UNSUPPORTED, "boot.json is not of version %d", AGENT_VERSION);
		return NULL;
	}
	return o;
}

/*
 * The initramfs' own root cannot be pivoted away from (it has no parent mount), so a tmpfs is moved over it
 * and becomes the agent's root; containers pivot from there, and with the old root goes all the agent sees.
 */
int boot_switch_root(struct error **err)
{
	static const char *const dirs[] = {"proc", "sys", "dev", "root", "lower", "upper"};
	static const char *const moved[] = {"proc", "sys", "dev"};
	size_t i;

	if (mkdir(STAGE, 0755) && errno != EEXIST)
		return error_sys(err, errno, "mkdir %s", STAGE);
	if (mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") ||
	    chdir(STAGE))
		return error_sys(err, errno, "mount the agent's root");
	for (i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdir(dirs[i], 0755))
			return error_sys(err, errno, "mkdir %s", dirs[i]);
	for (i = 0; i < ARRAY_SIZE(moved); i++) {
		CLEANUP_FREE char *from = xasprintf("/%s", moved[i]);

		if (mount(from, moved[i], NULL, MS_MOVE, NULL))
			return error_sys(err, errno, "move %s", from);
	}
	unlink("/init");
	unlink(MODULES_LIST);
	if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return error_sys(err, errno, "leave the initramfs");
	return 0;
}
