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
#define MAX_LATER        16
#define LATER_NICE       19
#define MAX_MODULES_LIST (64u << 10)
#define MAX_BOOT_JSON    (16u << 20)
#define MAX_FILTER       (4096u * 8)

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

static int later[MAX_LATER];
static size_t nlater;

static void load_module(int fd, const char *name)
{
	/* One module less may still boot: the step that misses it says what is wrong. */
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		guest_log("load %s: %s", name, strerror(errno));
}

/* Calls fn with each module of a list, opened. */
static int each_module(const char *list_path, void (*fn)(int fd, const char *path),
		       struct error **err)
{
	CLEANUP_BUF struct buf list = {0};
	char *line, *save = NULL;

	if (access(list_path, F_OK))
		return 0; /* all built in */
	if (path_read_all(AT_FDCWD, list_path, MAX_MODULES_LIST, &list, err))
		return -1;
	for (line = strtok_r(list.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int fd = open(line, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return error_sys(err, errno, "open %s", line);
		fn(fd, line);
		unlink(line); /* its memory serves the container better */
	}
	unlink(list_path);
	return 0;
}

static void load_now(int fd, const char *path)
{
	load_module(fd, path);
	close(fd);
}

static void keep_for_later(int fd, const char *path)
{
	if (nlater < MAX_LATER)
		later[nlater++] = fd;
	else
		close(fd);
}

/* Probing is synchronous: when a driver's module is loaded its devices are there, and devtmpfs has them. */
int boot_modules(struct error **err)
{
	if (each_module("/modules.list", load_now, err))
		return -1;
	return each_module("/modules.later", keep_for_later, err);
}

static void drop(int fd, const char *path)
{
	close(fd);
}

int boot_modules_foreign(bool wanted, struct error **err)
{
	return each_module("/modules.foreign", wanted ? load_now : drop, err);
}

/* A container without shares may still use what else FUSE is for. */
static void keep_or_drop(int fd, const char *path)
{
	const char *name = strrchr(path, '/');

	if (str_eq(name, "/fuse.ko"))
		keep_for_later(fd, path);
	else
		close(fd);
}

int boot_modules_shares(bool wanted, struct error **err)
{
	return each_module("/modules.shares", wanted ? load_now : keep_or_drop, err);
}

/* The one for the other make of processor is refused. */
static void try_now(int fd, const char *path)
{
	(void)syscall(SYS_finit_module, fd, "", 0);
	close(fd);
}

int boot_modules_nested(bool wanted, struct error **err)
{
	if (!wanted)
		return 0;
	if (each_module("/modules.nested", try_now, err))
		return -1;
	if (access("/dev/kvm", F_OK))
		return error_set(err, ERR_UNSUPPORTED,
				 "the guest kernel offers no virtualization (no KVM in it, or no "
				 "kvm modules when it was set): set another with container system "
				 "kernel set, or name one with --kernel");
	return 0;
}

static void load_rest(void)
{
	size_t i;

	for (i = 0; i < nlater; i++)
		load_module(later[i], "a module");
}

static void forget_rest(void)
{
	while (nlater)
		close(later[--nlater]);
}

void boot_modules_rest(void)
{
	load_rest();
	forget_rest();
}

/* In a child of its own, so that nothing waits for it. */
void boot_modules_later(void)
{
	if (nlater && !fork()) {
		if (nice(LATER_NICE) == -1)
			guest_log("nice: %s", strerror(errno));
		load_rest();
		_exit(0);
	}
	forget_rest();
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

int boot_seccomp(struct error **err)
{
	if (access("/seccomp.bpf", F_OK))
		return 0;
	if (path_read_all(AT_FDCWD, "/seccomp.bpf", MAX_FILTER, &cred_filter, err))
		return -1;
	unlink("/seccomp.bpf");
	return 0;
}

/*
 * The initramfs' own root cannot be pivoted away from (it has no parent mount), so a tmpfs is moved over it
 * and becomes the agent's root; containers pivot from there, and with the old root goes all the agent sees.
 */
int boot_switch_root(struct error **err)
{
	static const char *const dirs[] = {"proc",  "sys",   "dev",   "root",
					   "lower", "upper", "shares"};
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
	if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return error_sys(err, errno, "leave the initramfs");
	return 0;
}
