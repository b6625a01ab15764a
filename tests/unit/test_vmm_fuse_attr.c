// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_fuse_attr.c - the FUSE server: owners, modes, times and extended attributes, as root and as a user. */
#include <sys/capability.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "tests/unit/fuse_client.h"

static int setattr(struct client *c, uint64_t node, const struct fuse_setattr_in *in,
		   struct fuse_attr *a)
{
	int r = ask(c, FUSE_SETATTR, node, in, sizeof(*in), NULL, 0);

	*a = (struct fuse_attr){0};
	if (!r)
		*a = BODY(c, struct fuse_attr_out)->attr;
	return r;
}
#define SETATTR(c, node, a, ...) setattr(c, node, &(struct fuse_setattr_in){__VA_ARGS__}, a)

static void test_attr(void **state)
{
	struct client *c = *state;
	struct statfs fs;
	struct fuse_attr a;
	uint64_t node, fh, link;

	assert_int_equal(do_create(c, c->rw, "a", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MODE, .mode = S_IFREG | 0751), 0);
	assert_int_equal(a.mode, S_IFREG | 0751);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_SIZE, .size = 10000), 0);
	assert_int_equal(a.size, 10000);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 10),
			 0);
	assert_int_equal(a.size, 10);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_ATIME | FATTR_MTIME, .atime = 1,
				 .atimensec = 2, .mtime = (uint64_t)-3, .mtimensec = 999999999),
			 0);
	assert_true(a.atime == 1 && a.atimensec == 2 && a.mtime == (uint64_t)-3 &&
		    a.mtimensec == 999999999);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MTIME | FATTR_MTIME_NOW), 0);
	assert_true(a.atime == 1 && a.mtime > 1600000000 && a.mtime < UINT32_MAX);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MTIME, .mtimensec = UTIME_OMIT),
			 EINVAL);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_SIZE, .size = UINT64_MAX), EFBIG);
	assert_int_equal(SETATTR(c, c->rw, &a, .valid = FATTR_SIZE, .size = 1), EISDIR);
	/* Of a link itself. */
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "l\0a", 4), 0);
	link = BODY(c, struct fuse_entry_out)->nodeid;
	assert_int_equal(SETATTR(c, link, &a, .valid = FATTR_MTIME, .mtime = 77), 0);
	assert_int_equal(host_stat("rw/l").st_mtime, 77);
	assert_int_not_equal(host_stat("rw/a").st_mtime, 77);
	assert_int_equal(SETATTR(c, link, &a, .valid = FATTR_MODE, .mode = 0), EOPNOTSUPP);
	assert_int_equal(SETATTR(c, link, &a, .valid = FATTR_SIZE), EINVAL);
	assert_int_equal(ask(c, FUSE_STATFS, c->rw, NULL, 0, NULL, 0), 0);
	assert_int_equal(fstatfs(top_fd, &fs), 0);
	assert_int_equal(BODY(c, struct fuse_statfs_out)->st.blocks, fs.f_blocks);
	assert_int_equal(BODY(c, struct fuse_statfs_out)->st.bsize, fs.f_bsize);
}

/* With squash the server's user is root in there, and nobody else can be told apart. */
static void squashed(struct client *c)
{
	struct fuse_attr a;
	uint64_t node, fh;

	c->uid = 1000;
	c->gid = 100;
	assert_int_equal(do_create(c, c->rw, "mine", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(host_stat("rw/mine").st_uid, SOMEONE);
	assert_int_equal(getattr(c, node, &a), 0);
	assert_true(a.uid == 0 && a.gid == 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID | FATTR_GID), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = 1000), EPERM);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_GID, .gid = FUSE_NOBODY), EPERM);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = SOMEONE), EPERM);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID | FATTR_MODE, .mode = 0600), 0);
	assert_int_equal(host_stat("rw/mine").st_mode, S_IFREG | 0600);
	/* Nobody's: shown as that, and out of reach as on the host. */
	c->f->uid = SOMEONE + 1;
	assert_int_equal(getattr(c, node, &a), 0);
	assert_true(a.uid == FUSE_NOBODY && a.gid == 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = FUSE_NOBODY), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = 0), EPERM);
	c->f->uid = SOMEONE;
}

static bool effective(cap_value_t v)
{
	cap_t caps = cap_get_proc();
	cap_flag_value_t set = CAP_CLEAR;

	cap_get_flag(caps, v, CAP_EFFECTIVE, &set);
	cap_free(caps);
	return set == CAP_SET;
}

static void own_again(void)
{
	assert_true(effective(CAP_DAC_OVERRIDE) && effective(CAP_FSETID) && effective(CAP_FOWNER));
	assert_int_equal(syscall(SYS_setfsuid, -1L), 0);
	assert_int_equal(syscall(SYS_setfsgid, -1L), 0);
}

static void test_owner(void **state)
{
	static const char *const names[] = {"rw/f", "rw/d", "rw/l", "rw/p"};
	struct client *c = *state;
	struct fuse_attr a;
	uint64_t node, fh;
	size_t i;

	if (squash) {
		squashed(c);
		return;
	}
	/* What the guest's user makes is its own, in a directory that only the guest's kernel knows it may write to. */
	c->uid = 1000;
	c->gid = 100;
	assert_int_equal(do_create(c, c->rw, "f", O_RDWR, 0600, &node, &fh), 0);
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, c->rw, "d", struct fuse_mkdir_in, .mode = 0700),
			 0);
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "l\0f", 4), 0);
	assert_int_equal(ASK_NAME(c, FUSE_MKNOD, c->rw, "p", struct fuse_mknod_in,
				  .mode = S_IFIFO | 0600),
			 0);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		struct stat st = host_stat(names[i]);

		assert_true(st.st_uid == 1000 && st.st_gid == 100);
	}
	own_again();
	assert_int_equal(do_create(c, c->rw, "f", O_RDWR | O_EXCL, 0600, &node, &fh), EEXIST);
	own_again();
	/* The group of a set-group-id directory, which directories pass on. */
	assert_int_equal(mkdirat(top_fd, "rw/sgid", 0), 0);
	assert_int_equal(fchownat(top_fd, "rw/sgid", 0, 4242, 0), 0);
	assert_int_equal(fchmodat(top_fd, "rw/sgid", 02775, 0), 0);
	node = must_find(c, c->rw, "sgid");
	assert_int_equal(ASK_NAME(c, FUSE_MKDIR, node, "d", struct fuse_mkdir_in, .mode = 0755), 0);
	assert_true(host_stat("rw/sgid/d").st_gid == 4242 &&
		    host_stat("rw/sgid/d").st_mode == (S_IFDIR | 02755));
	assert_int_equal(ASK_NAME(c, FUSE_MKNOD, node, "f", struct fuse_mknod_in,
				  .mode = S_IFREG | 02755),
			 0);
	assert_int_equal(host_stat("rw/sgid/f").st_mode,
			 S_IFREG | 0755); /* not a member of that group */
	/* An id that is none. */
	c->uid = UINT32_MAX;
	assert_int_equal(do_create(c, c->rw, "none", O_RDWR, 0600, &node, &fh), EPERM);
	assert_false(exists("rw/none"));
	own_again();
	c->uid = 0;
	node = must_find(c, c->rw, "f");
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = 77), 0);
	assert_true(a.uid == 77 && a.gid == 100);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_GID, .gid = UINT32_MAX), EINVAL);
	node = must_find(c, c->rw, "l");
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = 78), 0);
	assert_true(host_stat("rw/l").st_uid == 78 && host_stat("rw/f").st_uid == 77);
}

/* Set-user-id goes when somebody writes who has no right to keep it, and when the owner changes. */
static void test_set_user_id(void **state)
{
	struct client *c = *state;
	struct fuse_attr a;
	uint64_t node, fh;
	mode_t kept = squash ? 0755 : 06755; /* as a user every write takes it */

	assert_int_equal(do_create(c, c->rw, "s", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MODE, .mode = 06755), 0);
	assert_int_equal(a.mode, S_IFREG | 06755);
	assert_int_equal(do_write(c, node, fh, 0, "x", 1), 0);
	assert_int_equal(host_stat("rw/s").st_mode, S_IFREG | kept);
	assert_int_equal(ASK(c, FUSE_WRITE, node, "x", 1, struct fuse_write_in, .fh = fh, .size = 1,
			     .write_flags = FUSE_WRITE_KILL_SUIDGID),
			 0);
	assert_int_equal(host_stat("rw/s").st_mode, S_IFREG | 0755);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MODE, .mode = 06755), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 5),
			 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MODE, .mode = 04755), 0);
	assert_int_equal(ASK(c, FUSE_OPEN, node, NULL, 0, struct fuse_open_in,
			     .flags = O_RDWR | O_TRUNC, .open_flags = FUSE_OPEN_KILL_SUIDGID),
			 0);
	assert_int_equal(host_stat("rw/s").st_mode, S_IFREG | 0755);
	if (squash)
		return;
	own_again();
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MODE, .mode = 04755), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_UID, .uid = 5), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	/* A guest that does not say who writes: every write takes it. */
	assert_int_equal(init(c, FUSE_HANDLE_KILLPRIV), 0);
	c->rw = must_find(c, FUSE_ROOT_ID, "0");
	node = must_find(c, c->rw, "s");
	assert_int_equal(do_open(c, node, O_RDWR, &fh), 0);
	assert_int_equal(SETATTR(c, node, &a, .valid = FATTR_MODE, .mode = 04755), 0);
	assert_int_equal(do_write(c, node, fh, 0, "x", 1), 0);
	assert_int_equal(host_stat("rw/s").st_mode, S_IFREG | 0755);
	own_again();
}

static int getxattr_of(struct client *c, uint64_t node, const char *name, uint32_t size)
{
	return ASK_NAME(c, FUSE_GETXATTR, node, name, struct fuse_getxattr_in, .size = size);
}

static int setxattr_of(struct client *c, uint64_t node, const char *name, const char *value,
		       uint32_t flags)
{
	uint32_t arg[2] = {(uint32_t)strlen(value), flags};
	char data[400];
	size_t n = strlen(name) + 1;

	memcpy(data, name, n);
	memcpy(data + n, value, strlen(value));
	return ask(c, FUSE_SETXATTR, node, arg, sizeof(arg), data, n + strlen(value));
}

static void test_xattr(void **state)
{
	static const char *const others[] = {"security.capability",
					     "trusted.x",
					     "system.posix_acl_access",
					     "system.posix_acl_default",
					     "security.selinux",
					     "user.",
					     "userx.y",
					     "",
					     "USER.x"};
	struct client *c = *state;
	uint64_t node, fh, link;
	size_t i;

	assert_int_equal(do_create(c, c->rw, "x", O_RDWR, 0644, &node, &fh), 0);
	if (setxattr_of(c, node, "user.one", "value", 0) == EOPNOTSUPP)
		skip(); /* a file system without them */
	assert_int_equal(setxattr_of(c, node, "user.one", "other", XATTR_CREATE), EEXIST);
	assert_int_equal(setxattr_of(c, node, "user.two", "other", XATTR_REPLACE), ENODATA);
	assert_int_equal(setxattr_of(c, node, "user.two", "other", 8), EINVAL);
	assert_int_equal(setxattr_of(c, node, "user.two", "", 0), 0);
	assert_int_equal(getxattr_of(c, node, "user.one", 0), 0);
	assert_int_equal(BODY(c, struct fuse_getxattr_out)->size, 5);
	assert_int_equal(getxattr_of(c, node, "user.one", 4), ERANGE);
	assert_int_equal(getxattr_of(c, node, "user.one", 100), 0);
	assert_int_equal(c->len, 5);
	assert_memory_equal(BODY(c, char), "value", 5);
	assert_int_equal(getxattr_of(c, node, "user.none", 100), ENODATA);
	if (!squash) {
		char path[100];

		snprintf(path, sizeof(path), "%s/rw/x", top);
		assert_int_equal(setxattr(path, "trusted.hidden", "x", 1, 0), 0);
	}
	assert_int_equal(ASK(c, FUSE_LISTXATTR, node, NULL, 0, struct fuse_getxattr_in, .size = 0),
			 0);
	assert_int_equal(BODY(c, struct fuse_getxattr_out)->size, 18);
	assert_int_equal(ASK(c, FUSE_LISTXATTR, node, NULL, 0, struct fuse_getxattr_in, .size = 18),
			 0);
	assert_int_equal(c->len, 18);
	assert_int_equal(ASK(c, FUSE_LISTXATTR, node, NULL, 0, struct fuse_getxattr_in, .size = 17),
			 ERANGE);
	assert_int_equal(ask(c, FUSE_REMOVEXATTR, node, NULL, 0, "user.two", 9), 0);
	assert_int_equal(ask(c, FUSE_REMOVEXATTR, node, NULL, 0, "user.two", 9), ENODATA);
	/* Those of others mean something to the host. */
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(setxattr_of(c, node, others[i], "x", 0), EOPNOTSUPP);
		assert_int_equal(getxattr_of(c, node, others[i], 100), EOPNOTSUPP);
		assert_int_equal(ask(c, FUSE_REMOVEXATTR, node, NULL, 0, others[i],
				     strlen(others[i]) + 1),
				 EOPNOTSUPP);
	}
	assert_int_equal(ask(c, FUSE_SYMLINK, c->rw, NULL, 0, "l\0x", 4), 0);
	link = BODY(c, struct fuse_entry_out)->nodeid;
	assert_int_equal(setxattr_of(c, link, "user.one", "x", 0), EPERM);
	assert_int_equal(getxattr_of(c, link, "user.one", 100), ENODATA);
	assert_int_equal(ASK(c, FUSE_LISTXATTR, link, NULL, 0, struct fuse_getxattr_in, .size = 0),
			 0);
	assert_int_equal(setxattr_of(c, c->rw, "user.dir", "x", 0), 0);
	assert_int_equal(getxattr_of(c, c->rw, "user.dir", 100), 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_attr),
		TEST(test_owner),
		TEST(test_set_user_id),
		/* Old kernels have none in memory. */
		cmocka_unit_test_setup_teardown(test_xattr, setup_disk, teardown),
	};

	return run_both(tests, ARRAY_SIZE(tests), 0);
}
