/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_impl.h - what the files of the FUSE server share.
 *
 * Functions that answer for the host's kernel return 0 (or a descriptor, a count) or a negative errno, as FUSE's replies carry them.
 */
#ifndef VMM_FUSE_IMPL_H
#define VMM_FUSE_IMPL_H

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "vmm/fuse.h"

#define FUSE_NODES_MAX  (4u << 20) /* what a guest can make us remember */
#define FUSE_FILES_MAX  65536u     /* open files and directories */
#define FUSE_OPEN_MAX   65536u /* descriptors of nodes: each keeps an inode in the host's memory */
#define FUSE_DEVS_MAX   1024u
#define FUSE_CLOSE_MAX  16u /* descriptors that one turn of the lock takes from nodes */
#define FUSE_NAME_MAX   255u
#define FUSE_NOBODY     65534u
#define FUSE_ROOT_INO   (UINT64_C(1) << 62)
#define FUSE_OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC)

/* One file of the host. The time of birth tells an inode number's next owner from the one before; it is 0 where the file system
 * keeps none. No padding: compared as bytes. */
struct fuse_ident {
	uint64_t dev, ino, mnt;
	int64_t born;
	uint32_t born_ns;
	uint32_t type; /* S_IFMT bits */
};

struct fuse_dirs {
	bool readonly;
	struct fuse_node *node;
};

/* All fields under fuse.lock, but id, ident and share, which never change. */
struct fuse_node {
	uint64_t id;
	struct fuse_ident ident;
	const struct fuse_dirs *share; /* NULL: the root */
	/* Where it was seen last: how to open it again. NULL: the root, or not known any more. Counted in parent->refs. */
	struct fuse_node *parent;
	char *name;       /* owned; NULL with parent */
	uint64_t nlookup; /* what the guest counts */
	unsigned refs;    /* requests, files and children that hold it */
	unsigned busy;    /* requests and files for which fd stays open */
	int fd;           /* O_PATH, -1: not now */
	struct fuse_node *hash_next, *older, *newer; /* hash_next also: the list of those to free */
};

struct fuse_slot {
	struct fuse_node *node; /* NULL: free */
	uint32_t serial;        /* how often it was used: the upper half of an id */
	uint32_t next;          /* free */
};

enum fuse_kind { FUSE_KIND_FILE = 1, FUSE_KIND_DIR };

struct fuse_file {
	enum fuse_kind kind;
	int fd; /* owned; -1 for the root directory */
	struct fuse_node *node;
	unsigned refs; /* under fuse.lock */
	uint64_t fh;
	/* A directory's position, and under it what the host said last: dents[0..ndents) is a block of getdents64(2) that begins at
	 * position dents_off; NULL before the first and behind the last. */
	pthread_mutex_t pos;
	uint8_t *dents;
	size_t ndents;
	int64_t dents_off;
};

struct fuse_file_slot {
	struct fuse_file *file;
	uint32_t serial, next;
};

struct fuse {
	int proc; /* /proc/self/fd */
	bool squash;
	uint32_t uid, gid;
	struct fuse_dirs share[FUSE_SHARES];
	size_t nshares;
	_Atomic bool ready; /* INIT was answered */
	_Atomic bool
		kill_each; /* every write takes set-user-id bits, as the guest does not say which */
	struct fuse_node root;
	size_t max_nodes, max_open, max_files;

	pthread_mutex_t lock;
	struct fuse_slot *slot;
	uint32_t nslots, free_slot; /* 0: none free */
	size_t nnodes, nopen;
	struct fuse_node **hash;
	size_t nhash;
	struct fuse_node *oldest, *newest; /* with a descriptor that nobody needs now */
	struct fuse_node *dead;
	int closing[FUSE_CLOSE_MAX];
	unsigned nclosing;
	struct fuse_file_slot *file;
	uint32_t nfile_slots, free_file;
	size_t nfiles;
	uint64_t dev[FUSE_DEVS_MAX];
	size_t ndevs;
};

union fuse_arg {
	uint64_t fh; /* the first field of all that name one */
	struct fuse_forget_in forget;
	struct fuse_batch_forget_in batch_forget;
	struct fuse_getattr_in getattr;
	struct fuse_setattr_in setattr;
	struct fuse_mknod_in mknod;
	struct fuse_mkdir_in mkdir;
	struct fuse_rename_in rename;
	struct fuse_rename2_in rename2;
	struct fuse_link_in link;
	struct fuse_open_in open;
	struct fuse_create_in create;
	struct fuse_read_in read;
	struct fuse_write_in write;
	struct fuse_fsync_in fsync;
	struct fuse_setxattr_in setxattr;
	struct fuse_getxattr_in getxattr;
	struct fuse_init_in init;
	struct fuse_fallocate_in fallocate;
	struct fuse_lseek_in lseek;
	struct fuse_copy_file_range_in copy;
};

/* One request while it is answered. The dispatcher has looked at all of it that its kind has: see fuse.c. */
struct fuse_call {
	struct fuse *f;
	struct fuse_in_header in;
	union fuse_arg arg;
	const char *name, *name2;
	const uint8_t *data; /* what comes behind the fixed part */
	size_t len;
	uint8_t *out; /* behind the reply's header */
	size_t room, outlen;
	struct fuse_node *node;
	struct fuse_file *file;
};

/* ---- fuse.c ---- */

/* fuse_reply: sets the answer's body; what the table says it needs has room. */
void fuse_reply(struct fuse_call *c, const void *p, size_t n);
/* fuse_name_ok: 1 to 255 bytes that name an entry of a directory. */
bool fuse_name_ok(const char *s);

/* ---- fuse_node.c: who is who ---- */

int fuse_nodes_init(struct fuse *f, const struct fuse_config *cfg, struct error **err);
void fuse_nodes_free(struct fuse *f);
/* fuse_nodes_reset: forgets what the guest knew; what others still use goes with them. */
void fuse_nodes_reset(struct fuse *f);
/* fuse_lock, fuse_unlock: the second one also closes and frees, outside the lock, what became useless under it. */
void fuse_lock(struct fuse *f);
void fuse_unlock(struct fuse *f);
/* fuse_node_get: the node of an id, held for the caller; NULL when it is none. */
struct fuse_node *fuse_node_get(struct fuse *f, uint64_t id);
/* fuse_node_open: makes sure that fd of a held node is open and stays so until fuse_node_close(). 0, -ESTALE when the host's file is
 * not where it was, another errno. Never with the root. */
int fuse_node_open(struct fuse *f, struct fuse_node *n);
void fuse_node_close(struct fuse *f, struct fuse_node *n);
void fuse_node_put(struct fuse *f, struct fuse_node *n);
/* The same under the lock, for who has it. */
void fuse_node_close_locked(struct fuse *f, struct fuse_node *n);
void fuse_node_put_locked(struct fuse *f, struct fuse_node *n);
/* fuse_node_seen: counts one lookup of the file that is called name in parent, whose node it finds or makes. fd: O_PATH, taken, or -1.
 * The node's id, or 0 when there are too many. */
uint64_t fuse_node_seen(struct fuse *f, struct fuse_node *parent, const char *name, int fd,
			const struct statx *st);
/* fuse_node_moved: what st says is called name in parent now, if it is known. */
void fuse_node_moved(struct fuse *f, struct fuse_node *parent, const char *name,
		     const struct statx *st);
void fuse_node_forget(struct fuse *f, uint64_t id, uint64_t n);
/* fuse_ino: the number the guest sees: as on the host for files of the first device, never the same for two files. */
uint64_t fuse_ino(struct fuse *f, uint64_t dev, uint64_t ino);

/* ---- fuse_host.c: the host's calls ---- */

/* fuse_stat: of name in dir, or of dir itself when name is empty; links are not followed. */
int fuse_stat(int dir, const char *name, struct statx *st);
uint64_t fuse_stat_dev(const struct statx *st);
/* fuse_open_path: O_PATH below dir; nothing on the way is a link, and nothing leads out. */
int fuse_open_path(int dir, const char *path);
/* fuse_open_new: makes a regular file. */
int fuse_open_new(int dir, const char *name, int flags, mode_t mode);
/* fuse_reopen: the file behind an O_PATH descriptor, for I/O. Of type S_IFREG or S_IFDIR only. */
int fuse_reopen(struct fuse *f, const struct fuse_node *n, int flags);
/* fuse_fd_name: a descriptor's name in /proc/self/fd. */
#define FUSE_FD_NAME 12
void fuse_fd_name(int fd, char name[FUSE_FD_NAME]);
/* fuse_path_of: an O_PATH descriptor of what fd has open. */
int fuse_path_of(struct fuse *f, int fd);

/* What a thread is while it makes something for the guest's user, and while it writes to what may have set-user-id bits. */
struct fuse_creds {
	bool user, fsetid;
	uint32_t uid, gid; /* to be again */
};
int fuse_creds_user(struct fuse_call *c, struct fuse_creds *k);
void fuse_creds_kill(struct fuse_call *c, struct fuse_creds *k, bool kill);
void fuse_creds_back(struct fuse_creds *k);
#define CLEANUP_CREDS CLEANUP(fuse_creds_back)

/* ---- fuse_file.c ---- */

void fuse_files_reset(struct fuse *f);
struct fuse_file *fuse_file_get(struct fuse *f, uint64_t fh, enum fuse_kind kind,
				const struct fuse_node *n);
void fuse_file_put(struct fuse *f, struct fuse_file *file);
/* fuse_file_new: takes fd, and holds the node, whose fd is open, itself. */
int fuse_file_new(struct fuse *f, enum fuse_kind kind, int fd, struct fuse_node *n, uint64_t *fh);

/* ---- fuse_attr.c ---- */

void fuse_attr_of(struct fuse *f, const struct statx *st, struct fuse_attr *a);
void fuse_attr_root(struct fuse_attr *a);

/* ---- fuse_tree.c ---- */

/* fuse_entry_fill: the entry of what is called name in parent; fd as in fuse_node_seen(). */
int fuse_entry_fill(struct fuse *f, struct fuse_node *parent, const char *name, int fd,
		    const struct statx *st, struct fuse_entry_out *e);
/* fuse_entry_share: of the root's. */
int fuse_entry_share(struct fuse *f, size_t i, struct fuse_entry_out *e);
/* fuse_entry_look: looks name up in the held, open parent and fills its entry. */
int fuse_entry_look(struct fuse *f, struct fuse_node *parent, const char *name,
		    struct fuse_entry_out *e);

/* ---- the requests ---- */

int fuse_op_lookup(struct fuse_call *c);
int fuse_op_symlink(struct fuse_call *c);
int fuse_op_mknod(struct fuse_call *c);
int fuse_op_mkdir(struct fuse_call *c);
int fuse_op_unlink(struct fuse_call *c);
int fuse_op_rmdir(struct fuse_call *c);
int fuse_op_rename(struct fuse_call *c);
int fuse_op_rename2(struct fuse_call *c);
int fuse_op_link(struct fuse_call *c);

int fuse_op_getattr(struct fuse_call *c);
int fuse_op_setattr(struct fuse_call *c);
int fuse_op_readlink(struct fuse_call *c);
int fuse_op_statfs(struct fuse_call *c);

int fuse_op_setxattr(struct fuse_call *c);
int fuse_op_getxattr(struct fuse_call *c);
int fuse_op_listxattr(struct fuse_call *c);
int fuse_op_removexattr(struct fuse_call *c);

int fuse_op_open(struct fuse_call *c);
int fuse_op_create(struct fuse_call *c);
int fuse_op_read(struct fuse_call *c);
int fuse_op_write(struct fuse_call *c);
int fuse_op_flush(struct fuse_call *c);
int fuse_op_fsync(struct fuse_call *c);
int fuse_op_release(struct fuse_call *c);
int fuse_op_fallocate(struct fuse_call *c);
int fuse_op_lseek(struct fuse_call *c);
int fuse_op_copy(struct fuse_call *c);

int fuse_op_opendir(struct fuse_call *c);
int fuse_op_readdir(struct fuse_call *c);
int fuse_op_readdirplus(struct fuse_call *c);

#endif
