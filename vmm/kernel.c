/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.c - importing a guest kernel.
 *
 * A kernel is unpacked and checked once, when it is set, so that no start pays for it: the
 * directory that comes out holds an ELF vmlinux, an initramfs piece with the modules, and a
 * description. The files of an import are written beside each other; the caller makes the directory
 * visible when all is there.
 */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/path.h"
#include "core/state.h"
#include "vmm/kernel_priv.h"

#define MAX_CONFIG    (4u << 20)
#define CLOUD_PACKAGE "linux-image-cloud-amd64"

static int sha256_hex(const void *p, size_t n, char out[65], struct error **err)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!EVP_Digest(p, n, md, &len, EVP_sha256(), NULL) || len != 32)
		return error_set(err, ERR_INTERNAL, "sha256 failed");
	hex_encode(md, len, out);
	return 0;
}

static int read_kernel(int fd, const char *binary, struct buf *out, struct error **err)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_sys(err, errno, "stat %s", binary);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERR_INVALID_ARGUMENT, "%s is not a regular file", binary);
	if ((uint64_t)st.st_size > KERNEL_MAX_FILE)
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: not a kernel: larger than %u MiB",
				 binary, KERNEL_MAX_FILE >> 20);
	return fd_read_all(fd, KERNEL_MAX_FILE, out, err);
}

/* The modules of a release where distributions put them; -1 without an error when there are none.
 */
static int usual_modules(const char *binary, const char *release)
{
	CLEANUP_FREE char *dir = xstrdup(binary);
	char *slash = strrchr(dir, '/');
	int fd = -1;

	/* <root>/boot/vmlinuz-x has <root>/lib/modules/x: another distribution's tree, say. */
	if (slash) {
		*slash = 0;
		CLEANUP_FREE char *beside = xasprintf("%s/../lib/modules/%s", dir, release);

		fd = open(beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0) {
		CLEANUP_FREE char *usual = xasprintf("/lib/modules/%s", release);

		fd = open(usual, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd;
}

/* Whether the kernel refuses modules without a signature, by the configuration file beside it. */
static bool signatures_forced(const char *binary, const char *release)
{
	CLEANUP_BUF struct buf config = {0};
	CLEANUP_FREE char *dir = xstrdup(binary), *path = NULL;
	char *slash = strrchr(dir, '/');

	if (!slash || !release)
		return false;
	*slash = 0;
	path = xasprintf("%s/config-%s", dir, release);
	return !path_read_all(AT_FDCWD, path, MAX_CONFIG, &config, NULL) && config.len &&
	       strstr(config.data, "\nCONFIG_MODULE_SIG_FORCE=y") != NULL;
}

static int import_modules(const char *binary, const char *modules_dir, const char *release,
			  int dest_dirfd, struct strv *names, struct error **err)
{
	CLEANUP_BUF struct buf cpio = {0}, nested = {0};
	CLEANUP_CLOSE int fd = -1;

	if (modules_dir) {
		fd = open(modules_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return error_sys(err, errno, "open %s", modules_dir);
	} else if (release) {
		fd = usual_modules(binary, release);
	}
	if ((unlinkat(dest_dirfd, "modules.cpio", 0) && errno != ENOENT) ||
	    (unlinkat(dest_dirfd, KERNEL_NESTED, 0) && errno != ENOENT))
		return error_sys(err, errno, "remove the old modules");
	if (fd < 0)
		return 0; /* all built in, we hope: the guest says so when a device is missing */
	if (modules_collect(fd, release, modules_dir != NULL, signatures_forced(binary, release),
			    &cpio, &nested, names, err))
		return error_wrap(err, "modules of %s", release ? release : binary);
	if (nested.len &&
	    state_write_text(dest_dirfd, KERNEL_NESTED, nested.data, nested.len, 0644, err))
		return -1;
	if (!cpio.len)
		return 0;
	return state_write_text(dest_dirfd, "modules.cpio", cpio.data, cpio.len, 0644, err);
}

static struct json_object *describe(const char *binary, const char *release, const char *sha,
				    const struct strv *modules)
{
	struct json_object *o = json_object_new_object(), *arr = json_object_new_array();
	const char *base = strrchr(binary, '/');
	size_t i;

	for (i = 0; i < modules->n; i++)
		json_add_str(arr, modules->v[i]);
	json_set_str(o, "name", base ? base + 1 : binary);
	json_set_str(o, "release", release ? release : "unknown");
	json_set_str(o, "source", binary);
	json_set_str(o, "sha256", sha);
	json_set(o, "modules", arr);
	return o;
}

int kernel_import_fd(int fd, const char *binary, const char *modules_dir, int dest_dirfd,
		     struct json_object **info, struct error **err)
{
	CLEANUP_BUF struct buf file = {0}, unpacked = {0};
	CLEANUP_STRV struct strv modules = {0};
	CLEANUP_JSON struct json_object *desc = NULL;
	CLEANUP_FREE char *release = NULL;
	const void *vmlinux;
	size_t len;
	char sha[65];

	if (read_kernel(fd, binary, &file, err))
		return -1;
	if (kernel_image_unpack(file.data, file.len, &unpacked, &vmlinux, &len, err))
		return error_wrap(err, "%s", binary);
	if (sha256_hex(vmlinux, len, sha, err))
		return -1;
	release = kernel_release(vmlinux, len);
	if (import_modules(binary, modules_dir, release, dest_dirfd, &modules, err))
		return -1;
	if (state_write_text(dest_dirfd, "vmlinux", vmlinux, len, 0644, err))
		return -1;
	desc = describe(binary, release, sha, &modules);
	if (state_write(dest_dirfd, "kernel.json", desc, err))
		return -1;
	if (info)
		*info = STEAL(desc);
	return 0;
}

int kernel_import(const char *binary, const char *modules_dir, int dest_dirfd,
		  struct json_object **info, struct error **err)
{
	CLEANUP_CLOSE int fd = open(binary, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_sys(err, errno, "open %s", binary);
	return kernel_import_fd(fd, binary, modules_dir, dest_dirfd, info, err);
}

/* Compares releases as people do: runs of digits by value, all else by byte. */
static int release_cmp(const char *a, const char *b)
{
	while (*a && *b) {
		if (*a >= '0' && *a <= '9' && *b >= '0' && *b <= '9') {
			char *ea, *eb;
			unsigned long x = strtoul(a, &ea, 10), y = strtoul(b, &eb, 10);

			if (x != y)
				return x < y ? -1 : 1;
			a = ea;
			b = eb;
		} else {
			if (*a != *b)
				return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
			a++;
			b++;
		}
	}
	return *a ? 1 : *b ? -1 : 0;
}

/* The newest "vmlinuz-<release>" of /boot that is a cloud kernel; owned by the caller. */
static char *newest_cloud_kernel(void)
{
	char *best = NULL;
	struct dirent *de;
	DIR *d = opendir("/boot");

	if (!d)
		return NULL;
	while ((de = readdir(d))) {
		if (!str_prefix(de->d_name, "vmlinuz-") || !strstr(de->d_name, "-cloud-amd64"))
			continue;
		if (best && release_cmp(de->d_name, best) <= 0)
			continue;
		free(best);
		best = xstrdup(de->d_name);
	}
	closedir(d);
	return best;
}

/* What `make kernel` made: installed with us, or in the build directory that we run from. Owned by the caller. */
static char *own_kernel(const char *install_root)
{
	static const char *const places[] = {"share/container/vmlinux", "kernel/vmlinux"};
	size_t i;

	for (i = 0; install_root && i < ARRAY_SIZE(places); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", install_root, places[i]);

		if (!access(path, R_OK))
			return STEAL(path);
	}
	return NULL;
}

int kernel_recommended(const char *install_root, char **binary, char **modules_dir,
		       struct error **err)
{
	CLEANUP_FREE char *cloud = NULL;

	*modules_dir = NULL;
	*binary = own_kernel(install_root);
	if (*binary)
		return 0;
	cloud = newest_cloud_kernel();
	if (!cloud)
		return error_set(
			err, ERR_NOT_FOUND,
			"no guest kernel on this host: install one with `apt install " CLOUD_PACKAGE
			"`, or name one with `container system kernel set --binary`");
	*binary = xasprintf("/boot/%s", cloud);
	*modules_dir = xasprintf("/lib/modules/%s", cloud + strlen("vmlinuz-"));
	return 0;
}
