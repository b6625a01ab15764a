/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_modules.c - the few modules a guest needs, in the order they load.
 *
 * The wanted modules are looked up in the module directory by file name (a dash counts as an
 * underscore, as the kernel sees it), their dependencies come from their own .modinfo, depth first,
 * so that each module follows what it needs. What modules.builtin lists is in the kernel already.
 * Soft dependencies are left alone: they name alternatives for speed that would cost start time.
 *
 * KVM's are three megabytes that few containers are offered: they are an archive of their own, which goes along when asked for.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/path.h"
#include "vmm/kernel_priv.h"

#define MAX_DIR_DEPTH   12
#define MAX_DIR_ENTRIES 200000
#define MAX_MODULES     64 /* in one guest */
#define MAX_BUILTIN     (4u << 20)
#define MODULE_DIR      "lib/modules"

/* In the order they should load. No guest starts without those of FIRST. */
enum when { FIRST, LATER, SHARES, FOREIGN, NESTED };
static const char *const lists[] = {
	[FIRST] = "modules.list",      [LATER] = "modules.later", /* when the container runs */
	[SHARES] = "modules.shares", /* for shared directories; those that others may use, as LATER */
	[FOREIGN] = "modules.foreign", /* for programs of other architectures */
	[NESTED] = "modules.nested",   /* for machines within the machine */
};
static const struct {
	const char *name;
	enum when when;
} wanted[] = {
	{"virtio_mmio", FIRST},    {"vmw_vsock_virtio_transport", FIRST},
	{"virtio_blk", FIRST},     {"erofs", FIRST},
	{"overlay", FIRST},        {"virtio_net", FIRST},
	{"virtio_rng", LATER},     {"virtio_console", LATER},
	{"virtio_balloon", LATER}, {"fuse", SHARES},
	{"virtiofs", SHARES},      {"binfmt_misc", FOREIGN},
	{"kvm_amd", NESTED},       {"kvm_intel", NESTED},
};

struct found {
	char *name, *path;
};

struct pick {
	int dirfd;
	const char *release;
	struct found *files; /* every module of the directory that was met */
	size_t nfiles, entries;
	struct buf builtin; /* modules.builtin, names normalised and newline-separated */
	bool required, signatures;
	struct buf *cpio;
	struct strv *names;
};

static void pick_free(struct pick *k)
{
	size_t i;

	for (i = 0; i < k->nfiles; i++) {
		free(k->files[i].name);
		free(k->files[i].path);
	}
	free(k->files);
	buf_free(&k->builtin);
}

/* "kernel/drivers/char/virtio-rng.ko.xz" to "virtio_rng"; NULL when it is no module. */
static char *module_name(const char *path)
{
	static const char *const ends[] = {".ko", ".ko.xz", ".ko.zst", ".ko.gz"};
	const char *base = strrchr(path, '/');
	size_t i, j, len;
	char *name;

	base = base ? base + 1 : path;
	len = strlen(base);
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t el = strlen(ends[i]);

		if (len <= el || strcmp(base + len - el, ends[i]))
			continue;
		name = xstrndup(base, len - el);
		for (j = 0; name[j]; j++)
			if (name[j] == '-')
				name[j] = '_';
		return name;
	}
	return NULL;
}

static int walk(struct pick *k, int fd, const char *prefix, unsigned depth, struct error **err);

static int walk_entry(struct pick *k, int fd, const char *prefix, const struct dirent *de,
		      unsigned depth, struct error **err)
{
	CLEANUP_FREE char *path = xasprintf("%s%s%s", prefix, *prefix ? "/" : "", de->d_name);
	unsigned type = de->d_type;
	struct stat st;
	char *name;

	if (type == DT_UNKNOWN) {
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW))
			return 0;
		type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
	}
	if (type == DT_DIR) {
		int sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		return sub < 0 ? 0 : walk(k, sub, path, depth + 1, err);
	}
	name = type == DT_REG ? module_name(de->d_name) : NULL;
	if (!name)
		return 0;
	k->files = xreallocarray(k->files, k->nfiles + 1, sizeof(*k->files));
	k->files[k->nfiles++] = (struct found){.name = name, .path = STEAL(path)};
	return 0;
}

/* Symlinks are not followed: `build` and `source` lead away. Owns fd. */
static int walk(struct pick *k, int fd, const char *prefix, unsigned depth, struct error **err)
{
	struct dirent *de;
	int r = 0;
	DIR *d;

	d = fdopendir(fd);
	if (!d) {
		r = error_sys(err, errno, "read modules directory");
		close(fd);
		return r;
	}
	while (!r && (de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (++k->entries > MAX_DIR_ENTRIES || depth > MAX_DIR_DEPTH)
			r = error_set(err, ERR_INVALID_ARGUMENT, "modules directory is too large");
		else
			r = walk_entry(k, dirfd(d), prefix, de, depth, err);
	}
	closedir(d);
	return r;
}

/* modules.builtin: one path a line. */
static void builtin_load(struct pick *k)
{
	CLEANUP_BUF struct buf text = {0};
	char *line, *save = NULL;

	buf_puts(&k->builtin, "\n");
	if (path_read_all(k->dirfd, "modules.builtin", MAX_BUILTIN, &text, NULL) || !text.len)
		return;
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		CLEANUP_FREE char *name = module_name(line);

		if (name)
			buf_printf(&k->builtin, "%s\n", name);
	}
}

static bool is_builtin(const struct pick *k, const char *name)
{
	CLEANUP_FREE char *line = xasprintf("\n%s\n", name);

	return strstr(k->builtin.data, line) != NULL;
}

static const struct found *lookup(const struct pick *k, const char *name)
{
	size_t i;

	for (i = 0; i < k->nfiles; i++)
		if (!strcmp(k->files[i].name, name))
			return &k->files[i];
	return NULL;
}

static bool picked(const struct pick *k, const char *name)
{
	size_t i;

	for (i = 0; i < k->names->n; i++)
		if (!strcmp(k->names->v[i], name))
			return true;
	return false;
}

struct mod_facts {
	struct strv deps;
	char release[KERNEL_MAX_RELEASE + 1]; /* first word of vermagic */
};

static void mod_fact(void *arg, const char *key, size_t len, const char *value)
{
	struct mod_facts *f = arg;

	if (len == 8 && !memcmp(key, "vermagic", 8)) {
		snprintf(f->release, sizeof(f->release), "%.*s", (int)strcspn(value, " "), value);
	} else if (len == 7 && !memcmp(key, "depends", 7)) {
		while (*value && f->deps.n < MAX_MODULES) {
			size_t n = strcspn(value, ",");

			if (n) {
				char *dep = xstrndup(value, n), *c;

				for (c = dep; *c; c++)
					if (*c == '-')
						*c = '_';
				strv_take(&f->deps, dep);
			}
			value += n + (value[n] == ',');
		}
	}
}

static int module_read(const struct pick *k, const struct found *f, struct buf *out,
		       struct error **err)
{
	CLEANUP_BUF struct buf raw = {0};
	CLEANUP_CLOSE int fd = path_open_beneath(k->dirfd, f->path, O_RDONLY, 0, err);
	enum unpack_kind kind;

	if (fd < 0 || fd_read_all(fd, KERNEL_MAX_MODULE, &raw, err))
		return -1;
	kind = unpack_kind_of(raw.data, raw.len);
	if (kind != UNPACK_NONE)
		return unpack(kind, raw.data, raw.len, KERNEL_MAX_MODULE, out, err);
	*out = raw;
	raw = (struct buf){0};
	return 0;
}

/* Adds a module after all it depends on. trail guards against a circle of dependencies. */
static int pick_module(struct pick *k, const char *name, bool must, unsigned depth,
		       struct error **err)
{
	struct mod_facts facts = {0};
	CLEANUP_BUF struct buf ko = {0};
	const struct found *f;
	int r = 0;
	size_t i;

	if (picked(k, name) || is_builtin(k, name))
		return 0;
	f = lookup(k, name);
	if (!f) {
		if (!must || !k->required)
			return 0;
		return error_set(err, ERR_NOT_FOUND,
				 "module %s is neither in the modules directory nor built in",
				 name);
	}
	if (depth > MAX_DIR_DEPTH || k->names->n >= MAX_MODULES)
		return error_set(err, ERR_INVALID_ARGUMENT, "module %s: too many dependencies",
				 name);
	if (module_read(k, f, &ko, err) || modinfo_parse(ko.data, ko.len, mod_fact, &facts, err)) {
		r = error_wrap(err, "module %s", name);
		goto out;
	}
	if (k->release && facts.release[0] && strcmp(facts.release, k->release)) {
		r = error_set(err, ERR_INVALID_ARGUMENT, "module %s is for kernel %s, not %s", name,
			      facts.release, k->release);
		goto out;
	}
	for (i = 0; !r && i < facts.deps.n; i++)
		r = pick_module(k, facts.deps.v[i], true, depth + 1, err);
	if (!r && !picked(k, name)) {
		CLEANUP_FREE char *path = xasprintf(MODULE_DIR "/%s.ko", name);

		module_slim(&ko, k->signatures);
		cpio_file(k->cpio, path, 0644, ko.data, ko.len);
		strv_add(k->names, name);
	}
out:
	strv_free(&facts.deps);
	return r;
}

/* An archive of files and of those of the lists first … last that name any, or must. */
static void archive(const struct buf *files, const struct buf *text, enum when first,
		    enum when last, struct buf *cpio)
{
	enum when w;

	cpio_dir(cpio, "lib", 0755);
	cpio_dir(cpio, MODULE_DIR, 0755);
	buf_append(cpio, files->data, files->len);
	for (w = first; w <= last; w++)
		if (text[w].len || w == FIRST)
			cpio_file(cpio, lists[w], 0644, text[w].data, text[w].len);
	cpio_end(cpio);
}

static void free_lists(struct buf (*text)[ARRAY_SIZE(lists)])
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lists); i++)
		buf_free(&(*text)[i]);
}

int modules_collect(int dirfd, const char *release, bool required, bool signatures,
		    struct buf *cpio, struct buf *nested, struct strv *names, struct error **err)
{
	CLEANUP(pick_free)
	struct pick k = {.dirfd = dirfd,
			 .release = release,
			 .required = required,
			 .signatures = signatures,
			 .names = names};
	CLEANUP_BUF struct buf files = {0}, nested_files = {0};
	CLEANUP(free_lists) struct buf text[ARRAY_SIZE(lists)] = {0};
	int top = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t i, start = 0;

	if (top < 0)
		return error_sys(err, errno, "open modules directory");
	if (walk(&k, top, "", 0, err))
		return -1;
	builtin_load(&k);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		k.cpio = wanted[i].when == NESTED ? &nested_files : &files;
		if (pick_module(&k, wanted[i].name, wanted[i].when == FIRST, 0, err))
			return -1;
		for (; start < names->n; start++)
			buf_printf(&text[wanted[i].when], "/" MODULE_DIR "/%s.ko\n",
				   names->v[start]);
	}
	if (files.len)
		archive(&files, text, FIRST, FOREIGN, cpio);
	if (nested_files.len)
		archive(&nested_files, text, NESTED, NESTED, nested);
	return 0;
}
