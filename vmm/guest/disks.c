/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disks.c - the container's root: a read-only image below, a writable layer above, an overlay of both; and its volumes.
 *
 * Without an upper disk the writable layer is memory. A read-only root still has a writable layer while it is
 * being prepared (mount points, /etc/hosts); crootfs_pivot() closes it before the process runs.
 *
 * A volume is mounted here once, out of the container's sight, and cloned to where the container wants it (crootfs.c): so it is here to
 * be closed at the end, whoever holds the clones.
 *
 * devtmpfs makes a disk's node when its driver binds, which is done when its module is loaded. For a driver
 * that is slower than that, a uevent socket is opened before the first look, so that none is missed.
 */
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "vmm/guest/guest.h"

#define DEVICE_WAIT_MS 10000
#define PARTS_MAX      255 /* that the kernel may have found on a disk */

static bool overlay_up, upper_up, lower_up;
static unsigned volumes_up;

static int wait_device(const char *dev, struct error **err)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = 1};
	uint64_t deadline = time_mono_us() + DEVICE_WAIT_MS * 1000ull, now;
	CLEANUP_CLOSE int fd = -1;
	char event[2048];

	if (!access(dev, F_OK))
		return 0;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return error_sys(err, errno, "uevent socket");
	while (access(dev, F_OK)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		now = time_mono_us();
		if (now >= deadline || poll(&p, 1, (int)((deadline - now) / 1000) + 1) == 0)
			return error_set(err, ERR_NOT_FOUND, "disk %s did not appear", dev);
		if (recv(fd, event, sizeof(event), MSG_DONTWAIT) < 0 && errno != EAGAIN &&
		    errno != ENOBUFS && errno != EINTR)
			return error_sys(err, errno, "uevent socket");
	}
	return 0;
}

static int mount_disk(const char *dev, const char *type, const char *target, unsigned long flags,
		      const char *options, struct error **err)
{
	if (wait_device(dev, err))
		return -1;
	if (mount(dev, target, type, flags, options))
		return error_sys(err, errno, "mount %s (%s)", dev, type);
	return 0;
}

static int mount_upper(struct json_object *root, struct error **err)
{
	const char *upper = json_str(root, "upper", ""),
		   *type = json_str(root, "upperType", "ext4");

	if (*upper) {
		/* What is deleted goes back to the host, whose file of this disk is sparse. */
		if (mount_disk(upper, type, GUEST_UPPER, MS_NOATIME,
			       str_eq(type, "ext4") ? "discard" : NULL, err))
			return -1;
	} else if (mount("tmpfs", GUEST_UPPER, "tmpfs", MS_NOATIME, "mode=0755")) {
		return error_sys(err, errno, "mount a writable layer in memory");
	}
	upper_up = true;
	if ((mkdir(GUEST_UPPER "/upper", 0755) && errno != EEXIST) ||
	    (mkdir(GUEST_UPPER "/work", 0755) && errno != EEXIST))
		return error_sys(err, errno, "prepare the writable layer");
	return 0;
}

static int copy_attribute(const char *from, const char *to, const char *name, struct error **err)
{
	char value[XATTR_SIZE_MAX];
	ssize_t n = getxattr(from, name, value, sizeof(value));

	if (n < 0)
		return error_sys(err, errno, "attribute %s of the root", name);
	if (setxattr(to, name, value, (size_t)n, 0) && errno != EOPNOTSUPP)
		return error_sys(err, errno, "attribute %s of the root", name);
	return 0;
}

/*
 * The overlay's root has mode, owner and attributes of its upper directory, which is ours: it takes the image's, once, so that
 * what a container does to its root lasts. The mark beside the directory says that it was done.
 */
static int copy_root(const char *from, const char *to, const char *mark, struct error **err)
{
	char names[XATTR_LIST_MAX], *name;
	struct stat st;
	ssize_t n;

	if (!access(mark, F_OK))
		return 0;
	if (stat(from, &st) || chown(to, st.st_uid, st.st_gid) || chmod(to, st.st_mode & 07777))
		return error_sys(err, errno, "the root's owner and mode");
	n = listxattr(from, names, sizeof(names));
	if (n < 0 && errno != EOPNOTSUPP)
		return error_sys(err, errno, "attributes of the root");
	for (name = names; name - names < n; name += strlen(name) + 1)
		if (copy_attribute(from, to, name, err) < 0)
			return -1;
	return mkdir(mark, 0700) ? error_sys(err, errno, "mark the writable layer") : 0;
}

int disks_mount(struct json_object *root, struct error **err)
{
	const char *lower;

	if (!root)
		return error_set(err, ERR_INVALID_ARGUMENT, "boot.json names no root");
	if (json_need_str(root, "lower", &lower, err))
		return -1;
	if (mount_disk(lower, json_str(root, "lowerType", "erofs"), GUEST_LOWER, MS_RDONLY, NULL,
		       err))
		return -1;
	lower_up = true;
	if (mount_upper(root, err) ||
	    copy_root(GUEST_LOWER, GUEST_UPPER "/upper", GUEST_UPPER "/rooted", err))
		return -1;
	if (mount("overlay", GUEST_ROOT, "overlay", 0,
		  "lowerdir=" GUEST_LOWER ",upperdir=" GUEST_UPPER "/upper,workdir=" GUEST_UPPER
		  "/work"))
		return error_sys(err, errno, "mount the overlay");
	overlay_up = true;
	return 0;
}

int disks_mount_shares(struct error **err)
{
	/* No device node of the host's is one of this machine's. */
	if (mount(AGENT_SHARES_TAG, GUEST_SHARES, "virtiofs", MS_NODEV, NULL))
		return error_sys(err, errno,
				 errno == ENODEV ? "mount the shared directories: the guest kernel "
						   "was set without the module virtiofs"
						 : "mount the shared directories");
	return 0;
}

/* A journal that was not played back when its machine ended cannot be on a disk that is read-only: then it is left alone. */
static int mount_volume(const char *dev, const char *target, bool readonly, struct error **err)
{
	if (wait_device(dev, err))
		return -1;
	if (!mount(dev, target, "ext4", MS_NOATIME | (readonly ? MS_RDONLY : 0),
		   readonly ? NULL : "discard") ||
	    (readonly && !mount(dev, target, "ext4", MS_NOATIME | MS_RDONLY, "noload")))
		return 0;
	return error_sys(err, errno, "mount %s (ext4)", dev);
}

static int part_do(int fd, int op, struct blkpg_partition *p)
{
	struct blkpg_ioctl_arg a = {.op = op, .datalen = sizeof(*p), .data = p};

	return ioctl(fd, BLKPG, &a);
}

/*
 * Part n of a disk gets a node of its own, *dev from now on. A disk of several volumes has no table: what the kernel may have taken for
 * one is a container's data, and goes.
 */
static int make_part(char **dev, struct json_object *v, int n, struct error **err)
{
	struct blkpg_partition p = {.pno = n,
				    .start = json_int(v, "start", 0),
				    .length = json_int(v, "bytes", 0)},
			       old = {0};
	CLEANUP_FREE char *disk = STEAL(*dev);
	CLEANUP_CLOSE int fd = -1;

	*dev = xasprintf("%s%d", disk, n);
	if (wait_device(disk, err))
		return -1;
	fd = open(disk, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "open %s", disk);
	for (old.pno = 1; n == 1 && old.pno <= PARTS_MAX; old.pno++)
		(void)part_do(fd, BLKPG_DEL_PARTITION, &old);
	return part_do(fd, BLKPG_ADD_PARTITION, &p) ? error_sys(err, errno, "part %s", *dev) : 0;
}

int disks_volumes(struct json_object *volumes, struct error **err)
{
	size_t i, n = volumes ? json_object_array_length(volumes) : 0;

	if (n > GUEST_MAX_VOLUMES)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many volumes");
	if (n && mkdir(GUEST_VOLUMES, 0700))
		return error_sys(err, errno, "mkdir " GUEST_VOLUMES);
	for (i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(volumes, i);
		CLEANUP_FREE char *target = xasprintf(GUEST_VOLUMES "/%zu", i), *dev = NULL;
		int part = (int)json_int(v, "part", 0);
		const char *disk;

		if (json_need_str(v, "device", &disk, err))
			return -1;
		dev = xstrdup(disk);
		if (part && make_part(&dev, v, part, err))
			return -1;
		if (mkdir(target, 0700))
			return error_sys(err, errno, "mkdir %s", target);
		if (mount_volume(dev, target, json_flag(v, "readonly", false), err))
			return -1;
		volumes_up++;
	}
	return 0;
}

static void close_disk(const char *target, const char *what)
{
	if (mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL))
		guest_log("close %s: %s", what, strerror(errno));
	umount2(target, MNT_DETACH);
}

/*
 * The last reference to a container's mounts is dropped by a kernel worker, some time after its last process
 * is gone; so the disk's file system is first made read-only, which leaves it clean whatever holds it.
 */
void disks_unmount(void)
{
	if (overlay_up)
		umount2(GUEST_ROOT, MNT_DETACH);
	if (upper_up || volumes_up)
		sync();
	if (upper_up)
		close_disk(GUEST_UPPER, "the writable layer");
	while (volumes_up) {
		CLEANUP_FREE char *target = xasprintf(GUEST_VOLUMES "/%u", --volumes_up);

		close_disk(target, target);
	}
	if (lower_up)
		umount2(GUEST_LOWER, MNT_DETACH);
	overlay_up = upper_up = lower_up = false;
}
