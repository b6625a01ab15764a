/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext4.c - makes a container's writable disk, an empty, sparse ext4 with /upper and /work for the overlay, and volumes, which are
 * nothing but empty.
 *
 * A fresh file reads as zeros, so nothing that is zero is ever written: inode tables are marked as zeroed (the guest's
 * lazy initialisation has nothing to do, which would otherwise fill them in behind its back and blow up the sparse file), groups
 * are uninitialised, the journal has a superblock and no more. What is left is some dozens of blocks.
 */
#include "oci/oci.h"

#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <stdio.h>
#include "core/path.h"

#define EXT4_BLOCK_LOG     2 /* 1024 << 2 */
#define EXT4_BLOCK         4096u
#define EXT4_INODE_RATIO   16384u /* bytes of disk per inode: trees of small files fit */
#define EXT4_MIN_SIZE      (16ull << 20)
#define EXT4_MIN_VOLUME    (1ull << 20)
#define EXT4_MAX_SIZE      (16ull << 40)
#define EXT4_FLEX_LOG      4           /* 16 groups keep their tables together */
#define EXT4_JOURNAL_SMALL (16u << 20) /* disks below 2 GiB; an eighth of very small ones */
#define EXT4_JOURNAL_BIG   (64u << 20)
#define EXT4_JOURNAL_MIN   1024u /* blocks; the kernel takes no shorter one */

/* What tells the two kinds of disk apart. */
struct ext4_kind {
	const char *const *dirs; /* in the root directory; NULL-terminated */
	uint32_t journal;        /* blocks, 0: none */
	uint32_t mode;           /* EXT3_DEFM_JMODE_* */
};

static int ext4_error(struct error **err, errcode_t rc, const char *what)
{
	/* Library codes have the table's base in their upper bits; the rest are errno. */
	if (rc > 0 && rc < 256)
		return error_sys(err, (int)rc, "make ext4 disk: %s", what);
	return error_set(err, ERR_INTERNAL, "make ext4 disk: %s: library error %ld", what,
			 (long)rc);
}

static void ext4_parameters(struct ext2_super_block *sb, uint64_t size)
{
	uint64_t inodes = MIN(size / EXT4_INODE_RATIO, (uint64_t)UINT32_MAX / 2);

	sb->s_rev_level = EXT2_DYNAMIC_REV;
	sb->s_log_block_size = EXT4_BLOCK_LOG;
	sb->s_log_cluster_size = EXT4_BLOCK_LOG;
	sb->s_inode_size = 256;
	sb->s_desc_size = 64;
	sb->s_inodes_count = (uint32_t)inodes;
	sb->s_log_groups_per_flex = EXT4_FLEX_LOG;
	ext2fs_blocks_count_set(sb, size / EXT4_BLOCK);
	ext2fs_r_blocks_count_set(sb, 0);
	sb->s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX |
			       EXT4_FEATURE_COMPAT_SPARSE_SUPER2;
	sb->s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
				 EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
	sb->s_feature_ro_compat =
		EXT2_FEATURE_RO_COMPAT_LARGE_FILE | EXT4_FEATURE_RO_COMPAT_HUGE_FILE |
		EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |
		EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
	/* One spare superblock: the disk of a container is not worth a dozen. */
	sb->s_backup_bgs[0] = size > 128ull << 20 ? 1 : 0;
}

/* Identity and defaults that the library leaves to its caller. */
static void ext4_identity(ext2_filsys fs, const struct ext4_kind *kind)
{
	struct ext2_super_block *sb = fs->super;

	random_bytes(sb->s_uuid, sizeof(sb->s_uuid));
	sb->s_uuid[6] = (uint8_t)((sb->s_uuid[6] & 0x0f) | 0x40);
	sb->s_uuid[8] = (uint8_t)((sb->s_uuid[8] & 0x3f) | 0x80);
	random_bytes(sb->s_hash_seed, sizeof(sb->s_hash_seed));
	sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
	sb->s_flags |= EXT2_FLAGS_SIGNED_HASH; /* char is signed on x86 */
	sb->s_default_mount_opts =
		(kind->journal ? kind->mode : 0) | EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	sb->s_max_mnt_count = -1;
	sb->s_checkinterval = 0;
	sb->s_errors = EXT2_ERRORS_RO;
	sb->s_checksum_type = EXT2_CRC32C_CHKSUM;
	fs->now = (time_t)time_now();
	fs->umask = 022;
	ext2fs_init_csum_seed(fs);
}

static int ext4_directories(ext2_filsys fs, const struct ext4_kind *kind, struct error **err)
{
	errcode_t rc = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);

	if (rc)
		return ext4_error(err, rc, "root directory");
	/* The reserved inodes are taken before any name gets one. */
	for (ext2_ino_t i = EXT2_ROOT_INO + 1; i < EXT2_FIRST_INODE(fs->super); i++)
		ext2fs_inode_alloc_stats2(fs, i, +1, 0);
	ext2fs_inode_alloc_stats2(fs, EXT2_BAD_INO, +1, 0);
	for (const char *const *name = kind->dirs; *name; name++) {
		rc = ext2fs_mkdir(fs, EXT2_ROOT_INO, 0, *name);
		if (rc)
			return ext4_error(err, rc, *name);
	}
	return 0;
}

static uint32_t ext4_journal_blocks(uint64_t size)
{
	uint64_t n =
		size < 2ull << 30 ? MIN((uint64_t)EXT4_JOURNAL_SMALL, size / 8) : EXT4_JOURNAL_BIG;

	return MAX((uint32_t)(n / EXT4_BLOCK), EXT4_JOURNAL_MIN);
}

static int ext4_fill(ext2_filsys fs, const struct ext4_kind *kind, struct error **err)
{
	struct ext2fs_journal_params journal = {.num_journal_blocks = kind->journal};
	errcode_t rc;

	ext4_identity(fs, kind);
	rc = ext2fs_allocate_tables(fs);
	if (rc)
		return ext4_error(err, rc, "group tables");
	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, g);
	}
	if (ext4_directories(fs, kind, err) < 0)
		return -1;
	if (!kind->journal)
		return 0;
	rc = ext2fs_add_journal_inode3(fs, &journal, ~0ULL,
				       EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
	if (rc)
		return ext4_error(err, rc, "journal");
	return 0;
}

static int ext4_write(int fd, uint64_t size, const struct ext4_kind *kind, struct error **err)
{
	struct ext2_super_block param = {0};
	ext2_filsys fs;
	char path[32];
	errcode_t rc;

	ext4_parameters(&param, size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = ext2fs_initialize(path, EXT2_FLAG_64BITS | EXT2_FLAG_FLUSH_NO_SYNC, &param,
			       unix_io_manager, &fs);
	if (rc)
		return ext4_error(err, rc, "initialise");
	if (ext4_fill(fs, kind, err) < 0) {
		ext2fs_free(fs);
		return -1;
	}
	rc = ext2fs_close_free(&fs);
	if (rc) {
		if (fs)
			ext2fs_free(fs);
		return ext4_error(err, rc, "write");
	}
	return 0;
}

/* As *name, which appears when it is whole; with `sync` it is on the disk then. */
static int ext4_make(int dirfd, const char *name, uint64_t size, const struct ext4_kind *kind,
		     bool sync, struct error **err)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.tmp", name);
	CLEANUP_CLOSE int fd = -1;
	int rc;

	fd = openat(dirfd, tmp, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_sys(err, errno, "create %s", tmp);
	rc = ftruncate(fd, (off_t)size) < 0 ? error_sys(err, errno, "size %s", tmp) : 0;
	if (rc == 0)
		rc = ext4_write(fd, size, kind, err);
	if (rc == 0 && sync && fsync(fd) < 0)
		rc = error_sys(err, errno, "write %s", tmp);
	/* Started, not waited for: a flush can take as long as all else that the host has to write, and whatever a guest
	 * may want to keep later reaches the disk by its own flush, together with this. */
	if (rc == 0 && !sync)
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	if (rc == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
		rc = error_sys(err, errno, "rename %s", tmp);
	if (rc < 0)
		unlinkat(dirfd, tmp, 0);
	return rc;
}

int ext4_create(int dirfd, const char *name, uint64_t size, struct error **err)
{
	static const char *const dirs[] = {"lost+found", "upper", "work", NULL};
	struct ext4_kind kind = {.dirs = dirs, .mode = EXT3_DEFM_JMODE_ORDERED};

	size = ALIGN_DOWN(size, EXT4_BLOCK);
	if (size < EXT4_MIN_SIZE || size > EXT4_MAX_SIZE)
		return error_set(err, ERR_INVALID_ARGUMENT, "a disk has between 16 MiB and 16 TiB");
	kind.journal = ext4_journal_blocks(size);
	return ext4_make(dirfd, name, size, &kind, false, err);
}

int ext4_volume_check(uint64_t size, const struct ext4_journal *j, struct error **err)
{
	if (size < EXT4_MIN_VOLUME || size > EXT4_MAX_SIZE)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "a volume has between 1 MiB and 16 TiB");
	if (j->size && (j->size < EXT4_JOURNAL_MIN * EXT4_BLOCK || j->size > size / 2 ||
			j->size / EXT4_BLOCK > UINT32_MAX))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "a journal has between 4 MiB and half of its volume");
	return 0;
}

int ext4_create_volume(int dirfd, const char *name, uint64_t size, const struct ext4_journal *j,
		       struct error **err)
{
	/* No lost+found: programs that want their directory empty at first see it so, and e2fsck makes one when it needs it. */
	static const char *const dirs[] = {NULL};
	static const uint32_t modes[] = {[EXT4_ORDERED] = EXT3_DEFM_JMODE_ORDERED,
					 [EXT4_WRITEBACK] = EXT3_DEFM_JMODE_WBACK,
					 [EXT4_DATA] = EXT3_DEFM_JMODE_DATA};
	struct ext4_kind kind = {.dirs = dirs, .mode = modes[j->mode]};

	if (ext4_volume_check(size, j, err))
		return -1;
	size = ALIGN_DOWN(size, EXT4_BLOCK);
	if (j->size)
		kind.journal = (uint32_t)(j->size / EXT4_BLOCK);
	else if (size >= EXT4_MIN_SIZE) /* in less there is hardly room for one */
		kind.journal = ext4_journal_blocks(size);
	return ext4_make(dirfd, name, size, &kind, true, err);
}
