/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_file.c - open files: the table of handles, and what is done with them.
 *
 * A handle is an index and how often its slot was used; it is only good together with the node and of the kind it was opened for. A file
 * that is closed while another thread reads from it goes when that one is done.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "core/filter.h"
#include "vmm/fuse_impl.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, pread64),         FILTER_ALLOW(FILTER_FS, pwritev2),
	FILTER_ALLOW(FILTER_FS, fsync),           FILTER_ALLOW(FILTER_FS, fdatasync),
	FILTER_ALLOW(FILTER_FS, fallocate),       FILTER_ALLOW(FILTER_FS, lseek),
	FILTER_ALLOW(FILTER_FS, copy_file_range),
};

#define COPY_MAX (16u << 20) /* bytes of one request, which holds a thread */

/* ---- the table ---- */

static void grow_files(struct fuse *f)
{
	uint32_t i, old = f->nfile_slots;

	f->nfile_slots = old ? old * 2 : 64;
	f->file = xreallocarray(f->file, f->nfile_slots, sizeof(*f->file));
	memset(f->file + old, 0, (f->nfile_slots - old) * sizeof(*f->file));
	for (i = f->nfile_slots - 1; i >= MAX(old, 1u); i--) { /* 0 ends the list */
		f->file[i].next = f->free_file;
		f->free_file = i;
	}
}

int fuse_file_new(struct fuse *f, enum fuse_kind kind, int fd, struct fuse_node *n, uint64_t *fh)
{
	struct fuse_file *file = xcalloc(1, sizeof(*file));
	uint32_t i = 0;

	*file = (struct fuse_file){.kind = kind, .fd = fd, .node = n, .refs = 1};
	pthread_mutex_init(&file->pos, NULL);
	fuse_lock(f);
	if (f->nfiles < f->max_files) {
		if (!f->free_file)
			grow_files(f);
		i = f->free_file;
		f->free_file = f->file[i].next;
		f->file[i].file = file;
		*fh = file->fh = (uint64_t)f->file[i].serial << 32 | i;
		f->nfiles++;
		n->refs++;
		n->busy++;
	}
	fuse_unlock(f);
	if (i)
		return 0;
	if (fd >= 0)
		close(fd);
	pthread_mutex_destroy(&file->pos);
	free(file->dents);
	free(file);
	return -ENFILE;
}

struct fuse_file *fuse_file_get(struct fuse *f, uint64_t fh, enum fuse_kind kind,
				const struct fuse_node *n)
{
	struct fuse_file *file = NULL;
	uint32_t i = (uint32_t)fh;

	fuse_lock(f);
	if (i < f->nfile_slots)
		file = f->file[i].file;
	if (file && (file->fh != fh || file->kind != kind || file->node != n))
		file = NULL;
	if (file)
		file->refs++;
	fuse_unlock(f);
	return file;
}

void fuse_file_put(struct fuse *f, struct fuse_file *file)
{
	bool last;

	fuse_lock(f);
	last = !--file->refs;
	if (last) {
		f->nfiles--;
		if (file->node == &f->root)
			file->node->busy--;
		else
			fuse_node_close_locked(f, file->node);
		fuse_node_put_locked(f, file->node);
	}
	fuse_unlock(f);
	if (!last)
		return;
	if (file->fd >= 0)
		close(file->fd);
	pthread_mutex_destroy(&file->pos);
	free(file->dents);
	free_shared(file);
}

/* Nobody finds it any more. */
static void forget_file(struct fuse *f, uint32_t i)
{
	f->file[i].file = NULL;
	f->file[i].serial++;
	f->file[i].next = f->free_file;
	f->free_file = i;
}

void fuse_files_reset(struct fuse *f)
{
	struct fuse_file *file;
	uint32_t i;

	for (i = 1;; i++) {
		fuse_lock(f);
		file = NULL;
		while (i < f->nfile_slots && !(file = f->file[i].file))
			i++;
		if (file)
			forget_file(f, i);
		fuse_unlock(f);
		if (!file)
			return;
		fuse_file_put(f, file);
	}
}

int fuse_op_release(struct fuse_call *c)
{
	uint32_t i = (uint32_t)c->file->fh;
	bool mine;

	fuse_lock(c->f);
	mine = c->f->file[i].file == c->file; /* another thread may close it too */
	if (mine)
		forget_file(c->f, i);
	fuse_unlock(c->f);
	if (mine)
		fuse_file_put(c->f, c->file);
	return 0;
}

/* ---- opening ---- */

static int open_node(struct fuse_call *c, uint32_t flags, uint32_t open_flags)
{
	CLEANUP_CREDS struct fuse_creds k = {0};

	if (c->node->share->readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
		return -EROFS;
	/* 3, which Linux has for drivers, is no way to open a file. */
	if ((flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (flags & O_TRUNC)
		fuse_creds_kill(c, &k, c->f->kill_each || open_flags & FUSE_OPEN_KILL_SUIDGID);
	return fuse_reopen(c->f, c->node, (int)(flags & FUSE_OPEN_FLAGS));
}

/* Files of the host's kernel say that they have no byte, and have some: a guest that believed it would read nothing. */
static bool size_lies(int fd)
{
	static const long kernels[] = {PROC_SUPER_MAGIC,    SYSFS_MAGIC,      CGROUP_SUPER_MAGIC,
				       CGROUP2_SUPER_MAGIC, SECURITYFS_MAGIC, DEBUGFS_MAGIC,
				       TRACEFS_MAGIC,       BPF_FS_MAGIC};
	struct statfs fs;
	struct statx st;
	size_t i;

	if (fuse_stat(fd, "", &st) || st.stx_size || fstatfs(fd, &fs))
		return false;
	for (i = 0; i < ARRAY_SIZE(kernels) && fs.f_type != kernels[i]; i++)
		;
	return i < ARRAY_SIZE(kernels);
}

/* Appending is said with each write, as the guest may change its mind; so the host's descriptor is none for it. */
static uint32_t answer_flags(uint32_t flags, int fd)
{
	return ((flags & O_ACCMODE) == O_RDONLY ? FOPEN_NOFLUSH : 0) |
	       (size_lies(fd) ? FOPEN_DIRECT_IO : 0);
}

int fuse_op_open(struct fuse_call *c)
{
	struct fuse_open_out out = {0};
	int r, fd;

	if (!S_ISREG(c->node->ident.type))
		return S_ISDIR(c->node->ident.type) ? -EISDIR : -EPERM;
	fd = open_node(c, c->arg.open.flags, c->arg.open.open_flags);
	if (fd < 0)
		return fd;
	out.open_flags = answer_flags(c->arg.open.flags, fd);
	r = fuse_file_new(c->f, FUSE_KIND_FILE, fd, c->node, &out.fh);
	if (!r)
		fuse_reply(c, &out, sizeof(out));
	return r;
}

static int create_new(struct fuse_call *c)
{
	CLEANUP_CREDS struct fuse_creds k = {0};
	int r = fuse_creds_user(c, &k);

	return r ? r
		 : fuse_open_new(c->node->fd, c->name, (int)c->arg.create.flags,
				 c->arg.create.mode);
}

/* Opens the node of an entry that was just filled; what the guest was told of it is taken back when that fails. */
static int create_open(struct fuse_call *c, int fd, const struct fuse_entry_out *e)
{
	struct fuse_open_out o = {0};
	struct fuse_node *dir = c->node, *n = fuse_node_get(c->f, e->nodeid);
	int r = n ? fuse_node_open(c->f, n) : -ESTALE;

	if (!r) {
		c->node = n;
		if (fd < 0 && !S_ISREG(n->ident.type))
			r = S_ISDIR(n->ident.type)   ? -EISDIR
			    : S_ISLNK(n->ident.type) ? -ELOOP
						     : -EPERM;
		else if (fd < 0)
			r = fd = open_node(c, c->arg.create.flags, c->arg.create.open_flags);
		c->node = dir;
		if (r >= 0) {
			o.open_flags = answer_flags(c->arg.create.flags, fd);
			r = fuse_file_new(c->f, FUSE_KIND_FILE, fd, n, &o.fh);
			fd = -1;
		}
		fuse_node_close(c->f, n);
	}
	if (n)
		fuse_node_put(c->f, n);
	base_close_fd(&fd);
	if (r < 0)
		fuse_node_forget(c->f, e->nodeid, 1);
	else {
		memcpy(c->out, e, sizeof(*e));
		memcpy(c->out + sizeof(*e), &o, sizeof(o));
		c->outlen = sizeof(*e) + sizeof(o);
	}
	return r;
}

int fuse_op_create(struct fuse_call *c)
{
	struct fuse_entry_out e;
	struct statx st;
	int r, path, fd = (c->arg.create.flags & O_ACCMODE) == O_ACCMODE ? -EINVAL : create_new(c);

	/* It is there: then it is opened as any other, and only if it is a file. */
	if (fd == -EEXIST && !(c->arg.create.flags & O_EXCL)) {
		r = fuse_entry_look(c->f, c->node, c->name, &e);
		return r < 0 ? r : create_open(c, -1, &e);
	}
	if (fd < 0)
		return fd;
	/* The node is of what was made, whatever has its name by now. */
	path = fuse_path_of(c->f, fd);
	r = path < 0 ? path : fuse_stat(path, "", &st);
	if (r < 0) {
		base_close_fd(&path);
		close(fd);
		return r;
	}
	r = fuse_entry_fill(c->f, c->node, c->name, path, &st, &e);
	if (r < 0) {
		close(fd);
		return r;
	}
	return create_open(c, fd, &e);
}

/* ---- reading and writing ---- */

static bool range_ok(uint64_t off, uint64_t n)
{
	uint64_t end;

	return add_ok(off, n, &end) && end <= INT64_MAX;
}

int fuse_op_read(struct fuse_call *c)
{
	const struct fuse_read_in *a = &c->arg.read;
	size_t got = 0;
	ssize_t n;

	/* Fewer bytes than asked for would be the file's end. */
	if (a->size > FUSE_DATA_MAX || a->size > c->room || !range_ok(a->offset, a->size))
		return -EINVAL;
	while (got < a->size) {
		n = RETRY_EINTR(
			pread(c->file->fd, c->out + got, a->size - got, (off_t)(a->offset + got)));
		if (n < 0 && !got)
			return -errno;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	c->outlen = got;
	return 0;
}

int fuse_op_write(struct fuse_call *c)
{
	const struct fuse_write_in *a = &c->arg.write;
	CLEANUP_CREDS struct fuse_creds k = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)c->data, .iov_len = a->size};
	struct fuse_write_out out = {0};
	ssize_t n;

	if (a->size > FUSE_DATA_MAX || a->size != c->len || !range_ok(a->offset, a->size))
		return -EINVAL;
	fuse_creds_kill(c, &k, c->f->kill_each || a->write_flags & FUSE_WRITE_KILL_SUIDGID);
	n = RETRY_EINTR(pwritev2(c->file->fd, &iov, 1, (off_t)a->offset,
				 a->flags & O_APPEND ? RWF_APPEND : 0));
	if (n < 0)
		return -errno;
	out.size = (uint32_t)n;
	fuse_reply(c, &out, sizeof(out));
	return 0;
}

/* Nothing is held back here that closing would have to write. */
int fuse_op_flush(struct fuse_call *c)
{
	return 0;
}

int fuse_op_fsync(struct fuse_call *c)
{
	int r;

	if (c->file->fd < 0)
		return 0;
	r = c->arg.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(c->file->fd)
							    : fsync(c->file->fd);
	return r ? -errno : 0;
}

int fuse_op_fallocate(struct fuse_call *c)
{
	const struct fuse_fallocate_in *a = &c->arg.fallocate;
	CLEANUP_CREDS struct fuse_creds k = {0};

	if (a->mode &
	    ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!range_ok(a->offset, a->length))
		return -EFBIG;
	fuse_creds_kill(c, &k, true);
	return fallocate(c->file->fd, (int)a->mode, (off_t)a->offset, (off_t)a->length) ? -errno
											: 0;
}

int fuse_op_lseek(struct fuse_call *c)
{
	const struct fuse_lseek_in *a = &c->arg.lseek;
	struct fuse_lseek_out out;
	off_t at;

	/* The others are the guest's own business. */
	if ((a->whence != SEEK_DATA && a->whence != SEEK_HOLE) || a->offset > INT64_MAX)
		return -EINVAL;
	at = lseek(c->file->fd, (off_t)a->offset, (int)a->whence);
	if (at < 0)
		return -errno;
	out.offset = (uint64_t)at;
	fuse_reply(c, &out, sizeof(out));
	return 0;
}

static ssize_t copy(struct fuse_call *c, const struct fuse_file *to)
{
	const struct fuse_copy_file_range_in *a = &c->arg.copy;
	CLEANUP_CREDS struct fuse_creds k = {0};
	off_t in = (off_t)a->off_in, out = (off_t)a->off_out;
	ssize_t n;

	fuse_creds_kill(c, &k, true);
	n = copy_file_range(c->file->fd, &in, to->fd, &out, (size_t)MIN(a->len, COPY_MAX), 0);
	return n < 0 ? -errno : n;
}

int fuse_op_copy(struct fuse_call *c)
{
	const struct fuse_copy_file_range_in *a = &c->arg.copy;
	struct fuse_write_out out = {0};
	struct fuse_file *to = NULL;
	struct fuse_node *n;
	ssize_t got;

	if (a->flags || !range_ok(a->off_in, MIN(a->len, COPY_MAX)) ||
	    !range_ok(a->off_out, MIN(a->len, COPY_MAX)))
		return -EINVAL;
	n = fuse_node_get(c->f, a->nodeid_out);
	if (!n)
		return -ESTALE;
	to = fuse_file_get(c->f, a->fh_out, FUSE_KIND_FILE, n);
	if (!to)
		got = -EBADF;
	else if (n->share->readonly)
		got = -EROFS;
	else
		got = copy(c, to);
	if (to)
		fuse_file_put(c->f, to);
	fuse_node_put(c->f, n);
	if (got < 0)
		return (int)got;
	out.size = (uint32_t)got;
	fuse_reply(c, &out, sizeof(out));
	return 0;
}
