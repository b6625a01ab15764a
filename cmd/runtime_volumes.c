/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_volumes.c - the volumes of a container: disks of its machine, and what its guest is to do with them.
 *
 * Each volume is one disk after the root's two, however often it is mounted, in the order in which the configuration names them; it can be
 * written when one of its mounts can be. Where a machine has not room for so many disks, those at the end share the last one: each is a
 * part of it, which the guest is told the place of. What may not be written there is open for reading only.
 *
 * A volume's image is opened before the jail and locked for as long as the machine runs, alone when it can be written, else with
 * others that only read: two machines with one ext4 would ruin it. The lock is the open file's, so it goes with the last process that
 * has it, whatever ends that.
 */
#include "cmd/runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "cmd/volume.h"
#include "core/path.h"

#define FIRST_LETTER 'c' /* /dev/vda and /dev/vdb are the root's */
#define LOCK_TRIES   600
#define LOCK_PAUSE   5000 /* microseconds; 3 s in all */

static bool mount_readonly(struct json_object *m)
{
	struct json_object *options = json_arr(m, "options");
	size_t i, n = options ? json_object_array_length(options) : 0;

	for (i = 0; i < n; i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(options, i)), "ro"))
			return true;
	return false;
}

static struct rt_volume *find(struct runtime *rt, const char *name)
{
	for (size_t i = 0; i < rt->nvolumes; i++)
		if (!strcmp(rt->volumes[i].name, name))
			return &rt->volumes[i];
	return NULL;
}

int runtime_volumes_plan(struct runtime *rt, struct error **err)
{
	struct json_object *mounts = json_arr(rt->config, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);
		const char *name = volume_of(m);
		struct rt_volume *v = name ? find(rt, name) : NULL;

		if (!name)
			continue;
		if (!volume_name_ok(name))
			return error_set(err, ERR_INVALID_ARGUMENT, "invalid volume name '%.255s'",
					 name);
		if (!v && rt->nvolumes == RUNTIME_MAX_VOLUMES)
			return error_set(err, ERR_UNSUPPORTED,
					 "more than %d volumes in one container",
					 RUNTIME_MAX_VOLUMES);
		if (!v) {
			v = &rt->volumes[rt->nvolumes];
			*v = (struct rt_volume){.name = xstrdup(name),
						.readonly = true,
						.disk = (unsigned)rt->nvolumes++};
		}
		v->readonly = v->readonly && mount_readonly(m);
	}
	return 0;
}

int runtime_lock(int fd, int how)
{
	for (int tries = 0; tries < LOCK_TRIES; tries++) {
		if (!flock(fd, how | LOCK_NB))
			return 0;
		usleep(LOCK_PAUSE);
	}
	return -1;
}

static int open_image(int root, const struct rt_volume *v, struct vm_segment *seg,
		      struct error **err)
{
	CLEANUP_FREE char *path = xasprintf("%s/volume.img", v->name);
	int flags = (v->readonly ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK;
	CLEANUP_CLOSE int fd = path_open_beneath(root, path, flags, 0, err);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return error_set(err, ERR_INTERNAL, "its image is no file");
	if (runtime_lock(fd, v->readonly ? LOCK_SH : LOCK_EX))
		return error_set(err, ERR_INVALID_STATE,
				 "it is in use by another running container");
	*seg = (struct vm_segment){.fd = steal_fd(&fd), .len = (uint64_t)st.st_size};
	return 0;
}

/* The volume at the end of a disk, which begins with it when it is new. Sizes are a file system's: whole sectors. */
static void disk_add(struct vm_disk *d, unsigned index, struct rt_volume *v,
		     const struct vm_segment *seg)
{
	if (!d->nsegs) {
		*d = (struct vm_disk){.segs = seg, .readonly = true};
		/* As much of its name as there is room for. */
		snprintf(d->serial, sizeof(d->serial), "%s", v->name);
	}
	v->disk = index;
	v->part = 0;
	v->start = 0;
	v->bytes = seg->len;
	d->nsegs++;
	d->readonly = d->readonly && v->readonly;
}

/* What else is on the disk makes parts of both. */
static void disk_share(struct rt_volume *first, struct rt_volume *v, struct vm_disk *d)
{
	first->part = 1;
	v->part = v[-1].part + 1;
	v->start = v[-1].start + v[-1].bytes;
	snprintf(d->serial, sizeof(d->serial), "volumes");
}

int runtime_volumes_open(struct runtime *rt, size_t room, struct vm_disk *disks, size_t *ndisks,
			 struct vm_segment *segs, struct error **err)
{
	CLEANUP_FREE char *path = xasprintf("%s/volumes", rt->roots.app);
	size_t i, last = room ? room - 1 : 0;
	CLEANUP_CLOSE int root = -1;

	*ndisks = 0;
	if (!rt->nvolumes)
		return 0;
	root = path_open_dir(path, err);
	if (root < 0)
		return -1;
	for (i = 0; i < rt->nvolumes; i++) {
		struct rt_volume *v = &rt->volumes[i];
		size_t at = MIN(i, last);

		if (open_image(root, v, &segs[i], err))
			return error_wrap(err, "volume %s", v->name);
		if (i <= last)
			disks[(*ndisks)++] = (struct vm_disk){0};
		disk_add(&disks[at], (unsigned)at, v, &segs[i]);
		if (i > last)
			disk_share(&rt->volumes[last], v, &disks[at]);
	}
	return 0;
}

void runtime_volumes_boot(struct runtime *rt, struct json_object *boot)
{
	struct json_object *list = json_object_new_array();
	size_t i;

	json_set(boot, "volumes", list);
	for (i = 0; i < rt->nvolumes; i++) {
		struct json_object *o = json_object_new_object();
		const struct rt_volume *v = &rt->volumes[i];
		CLEANUP_FREE char *dev = xasprintf("/dev/vd%c", (char)(FIRST_LETTER + v->disk));

		json_set_str(o, "device", dev);
		json_set_bool(o, "readonly", v->readonly);
		if (v->part) {
			json_set_int(o, "part", v->part);
			json_set_int(o, "start", (int64_t)v->start);
			json_set_int(o, "bytes", (int64_t)v->bytes);
		}
		json_object_array_add(list, o);
	}
}

int runtime_volume_index(struct runtime *rt, const char *name)
{
	struct rt_volume *v = find(rt, name);

	return v ? (int)(v - rt->volumes) : -1;
}

void runtime_volumes_free(struct runtime *rt)
{
	while (rt->nvolumes)
		free(rt->volumes[--rt->nvolumes].name);
}
