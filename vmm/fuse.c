/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.c - the FUSE server's front: what a request must look like, and who answers it.
 *
 * DOC: Theory of operation
 * A request is a header, a part of fixed size that its opcode decides, and then names or data. All that can be said of it without
 * asking the host is in one table, and is looked at here, in one place, before anything is done: that the parts are there and of the
 * length they claim, that a name is one component, that the node is one we told the guest of, that a handle belongs to it, that the
 * share may be changed when the request would change it, and that the reply has room for the answer. So what stands behind the table
 * (fuse_tree.c, fuse_attr.c, fuse_xattr.c, fuse_file.c, fuse_dir.c) does one call of the host's with what is known to be well-formed. Who is
 * who is fuse_node.c's business; fuse_host.c opens files so that nothing is followed anywhere.
 *
 * What a guest sees is at most a second old (entry_valid, attr_valid), so changes on the host become visible. It caches no writes.
 * Locks of files are its own: two machines do not see each other's. Its sync() ends here (FUSE_SYNCFS is not known): what was written is in
 * this host's page cache, which outlives the machine, and a guest that syncs at its end would have whole file systems of the host
 * written out each time. fsync() of a file does what it says.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/fuse_impl.h"

#define MIN_MINOR 31u
#define MAX_PAGES (FUSE_DATA_MAX / 4096u)

enum {
	NODE = 1,        /* its node, with an open descriptor */
	ROOT = 2,        /* that may be the root */
	CHANGES = 4,     /* the share, which must not be read-only */
	NAME = 8,        /* then a name, of one component */
	NAMES = 16,      /* and a second one */
	TEXT = 32,       /* and a text of any kind */
	LABEL = 64,      /* then a name that is no file's, and maybe data */
	DATA = 128,      /* then data, whose length the answerer looks at */
	HANDLE = 256,    /* the fixed part begins with the number of an open file */
	DIRECTORY = 512, /* of an open directory */
};

static int op_init(struct fuse_call *c);
static int op_destroy(struct fuse_call *c);

static const struct op {
	int (*answer)(struct fuse_call *c);
	uint16_t in, out; /* bytes of the fixed parts, headers not counted */
	uint16_t what;
} ops[] = {
#define ENTRY sizeof(struct fuse_entry_out)
#define OP(in, out, fn, what)           \
	{                               \
		fn, (in), (out), (what) \
	}
	[FUSE_LOOKUP] = OP(0, ENTRY, fuse_op_lookup, NODE | ROOT | NAME),
	[FUSE_GETATTR] = OP(sizeof(struct fuse_getattr_in), sizeof(struct fuse_attr_out),
			    fuse_op_getattr, NODE | ROOT),
	[FUSE_SETATTR] = OP(sizeof(struct fuse_setattr_in), sizeof(struct fuse_attr_out),
			    fuse_op_setattr, NODE | CHANGES),
	[FUSE_READLINK] = OP(0, 0, fuse_op_readlink, NODE),
	[FUSE_SYMLINK] = OP(0, ENTRY, fuse_op_symlink, NODE | CHANGES | NAME | TEXT),
	[FUSE_MKNOD] =
		OP(sizeof(struct fuse_mknod_in), ENTRY, fuse_op_mknod, NODE | CHANGES | NAME),
	[FUSE_MKDIR] =
		OP(sizeof(struct fuse_mkdir_in), ENTRY, fuse_op_mkdir, NODE | CHANGES | NAME),
	[FUSE_UNLINK] = OP(0, 0, fuse_op_unlink, NODE | CHANGES | NAME),
	[FUSE_RMDIR] = OP(0, 0, fuse_op_rmdir, NODE | CHANGES | NAME),
	[FUSE_RENAME] =
		OP(sizeof(struct fuse_rename_in), 0, fuse_op_rename, NODE | CHANGES | NAME | NAMES),
	[FUSE_RENAME2] = OP(sizeof(struct fuse_rename2_in), 0, fuse_op_rename2,
			    NODE | CHANGES | NAME | NAMES),
	[FUSE_LINK] = OP(sizeof(struct fuse_link_in), ENTRY, fuse_op_link, NODE | CHANGES | NAME),
	[FUSE_OPEN] =
		OP(sizeof(struct fuse_open_in), sizeof(struct fuse_open_out), fuse_op_open, NODE),
	[FUSE_CREATE] = OP(sizeof(struct fuse_create_in), ENTRY + sizeof(struct fuse_open_out),
			   fuse_op_create, NODE | CHANGES | NAME),
	[FUSE_READ] = OP(sizeof(struct fuse_read_in), 0, fuse_op_read, NODE | HANDLE),
	[FUSE_WRITE] = OP(sizeof(struct fuse_write_in), sizeof(struct fuse_write_out),
			  fuse_op_write, NODE | CHANGES | HANDLE | DATA),
	[FUSE_STATFS] = OP(0, sizeof(struct fuse_statfs_out), fuse_op_statfs, NODE | ROOT),
	[FUSE_RELEASE] = OP(sizeof(struct fuse_release_in), 0, fuse_op_release, NODE | HANDLE),
	[FUSE_FSYNC] = OP(sizeof(struct fuse_fsync_in), 0, fuse_op_fsync, NODE | HANDLE),
	[FUSE_SETXATTR] = OP(FUSE_COMPAT_SETXATTR_IN_SIZE, 0, fuse_op_setxattr,
			     NODE | CHANGES | LABEL | DATA),
	[FUSE_GETXATTR] = OP(sizeof(struct fuse_getxattr_in), 0, fuse_op_getxattr, NODE | LABEL),
	[FUSE_LISTXATTR] = OP(sizeof(struct fuse_getxattr_in), 0, fuse_op_listxattr, NODE),
	[FUSE_REMOVEXATTR] = OP(0, 0, fuse_op_removexattr, NODE | CHANGES | LABEL),
	[FUSE_FLUSH] = OP(sizeof(struct fuse_flush_in), 0, fuse_op_flush, NODE | HANDLE),
	[FUSE_INIT] = OP(16, sizeof(struct fuse_init_out), op_init, DATA),
	[FUSE_OPENDIR] = OP(sizeof(struct fuse_open_in), sizeof(struct fuse_open_out),
			    fuse_op_opendir, NODE | ROOT),
	[FUSE_READDIR] =
		OP(sizeof(struct fuse_read_in), 0, fuse_op_readdir, NODE | ROOT | DIRECTORY),
	[FUSE_READDIRPLUS] =
		OP(sizeof(struct fuse_read_in), 0, fuse_op_readdirplus, NODE | ROOT | DIRECTORY),
	[FUSE_RELEASEDIR] =
		OP(sizeof(struct fuse_release_in), 0, fuse_op_release, NODE | ROOT | DIRECTORY),
	[FUSE_FSYNCDIR] =
		OP(sizeof(struct fuse_fsync_in), 0, fuse_op_fsync, NODE | ROOT | DIRECTORY),
	[FUSE_DESTROY] = OP(0, 0, op_destroy, 0),
	[FUSE_FALLOCATE] =
		OP(sizeof(struct fuse_fallocate_in), 0, fuse_op_fallocate, NODE | CHANGES | HANDLE),
	[FUSE_LSEEK] = OP(sizeof(struct fuse_lseek_in), sizeof(struct fuse_lseek_out),
			  fuse_op_lseek, NODE | HANDLE),
	[FUSE_COPY_FILE_RANGE] = OP(sizeof(struct fuse_copy_file_range_in),
				    sizeof(struct fuse_write_out), fuse_op_copy, NODE | HANDLE),
};

/* ---- beginning and end of a session ---- */

static void reset(struct fuse *f)
{
	f->ready = false;
	fuse_files_reset(f);
	fuse_nodes_reset(f);
}

/* A guest that starts anew says INIT without DESTROY: what it knew before is gone. */
static int op_init(struct fuse_call *c)
{
	static const uint32_t wanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
				       FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |
				       FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
				       FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS;
	const struct fuse_init_in *a = &c->arg.init;
	struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
				    .minor = FUSE_KERNEL_MINOR_VERSION};
	uint32_t kill = a->flags & FUSE_HANDLE_KILLPRIV_V2 ? FUSE_HANDLE_KILLPRIV_V2
							   : a->flags & FUSE_HANDLE_KILLPRIV;

	if (a->major < FUSE_KERNEL_VERSION ||
	    (a->major == FUSE_KERNEL_VERSION && a->minor < MIN_MINOR))
		return -EPROTO;
	/* It asks again in the version it was told. */
	if (a->major > FUSE_KERNEL_VERSION) {
		fuse_reply(c, &out, sizeof(out));
		return 0;
	}
	reset(c->f);
	out.minor = MIN(a->minor, FUSE_KERNEL_MINOR_VERSION);
	out.max_readahead = MIN(a->max_readahead, FUSE_DATA_MAX);
	out.flags = (a->flags & wanted) | kill;
	out.max_background = 64;
	out.congestion_threshold = 48;
	out.max_write = a->flags & FUSE_MAX_PAGES ? FUSE_DATA_MAX : 128u << 10;
	out.max_pages = a->flags & FUSE_MAX_PAGES ? MAX_PAGES : 0;
	out.time_gran = 1;
	c->f->kill_each = kill == FUSE_HANDLE_KILLPRIV;
	c->f->ready = true;
	fuse_reply(c, &out, sizeof(out));
	return 0;
}

static int op_destroy(struct fuse_call *c)
{
	reset(c->f);
	return 0;
}

/* ---- requests without an answer ---- */

static void forget(struct fuse *f, const struct fuse_in_header *in, const uint8_t *p, size_t len)
{
	struct fuse_batch_forget_in batch;
	struct fuse_forget_one one;
	struct fuse_forget_in a;
	uint32_t i;

	if (in->opcode == FUSE_FORGET && len >= sizeof(a)) {
		memcpy(&a, p, sizeof(a));
		fuse_node_forget(f, in->nodeid, a.nlookup);
	}
	if (in->opcode != FUSE_BATCH_FORGET || len < sizeof(batch))
		return;
	memcpy(&batch, p, sizeof(batch));
	for (i = 0, p += sizeof(batch), len -= sizeof(batch); i < batch.count && len >= sizeof(one);
	     i++) {
		memcpy(&one, p, sizeof(one));
		fuse_node_forget(f, one.nodeid, one.nlookup);
		p += sizeof(one);
		len -= sizeof(one);
	}
}

/* ---- one request ---- */

void fuse_reply(struct fuse_call *c, const void *p, size_t n)
{
	memcpy(c->out, p, n);
	c->outlen = n;
}

bool fuse_name_ok(const char *s)
{
	size_t n = strlen(s);

	return n && n <= FUSE_NAME_MAX && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
	       !memchr(s, '/', n);
}

/* The next text of a request's rest, up to its NUL. */
static const char *text(struct fuse_call *c)
{
	const char *s = (const char *)c->data;
	const uint8_t *nul = c->len ? memchr(c->data, 0, c->len) : NULL;

	if (!nul)
		return NULL;
	c->len -= (size_t)(nul + 1 - c->data);
	c->data = nul + 1;
	return s;
}

static int check_name(const char *s)
{
	if (!s)
		return -EINVAL;
	if (strlen(s) > FUSE_NAME_MAX)
		return -ENAMETOOLONG;
	return fuse_name_ok(s) ? 0 : -EINVAL;
}

/* Takes the request apart. */
static int parse(struct fuse_call *c, const struct op *op)
{
	int r = 0;

	if (c->len < op->in)
		return -EINVAL;
	memcpy(&c->arg, c->data,
	       MIN(MAX(op->in, op->answer == op_init ? MIN(c->len, sizeof(c->arg.init)) : 0),
		   sizeof(c->arg)));
	c->data += op->in;
	c->len -= op->in;
	if (op->what & (NAME | LABEL)) {
		c->name = text(c);
		if (op->what & NAME)
			r = check_name(c->name);
		else if (!c->name || strlen(c->name) > FUSE_NAME_MAX)
			r = -EINVAL;
	}
	if (!r && op->what & (NAMES | TEXT)) {
		c->name2 = text(c);
		r = op->what & NAMES ? check_name(c->name2) : c->name2 ? 0 : -EINVAL;
	}
	if (!r && c->len && !(op->what & DATA))
		r = -EINVAL;
	if (!r && c->room < op->out)
		r = -EINVAL;
	return r;
}

/* Finds what it names. */
static int resolve(struct fuse_call *c, const struct op *op)
{
	struct fuse_node *n;
	int r;

	if (!(op->what & NODE))
		return 0;
	n = fuse_node_get(c->f, c->in.nodeid);
	if (!n)
		return -ESTALE;
	if (!n->share)
		r = op->what & ROOT ? 0 : op->what & CHANGES ? -EROFS : -EINVAL;
	else
		r = op->what & CHANGES && n->share->readonly ? -EROFS : fuse_node_open(c->f, n);
	if (r < 0) {
		fuse_node_put(c->f, n);
		return r;
	}
	c->node = n;
	if (op->what & (HANDLE | DIRECTORY)) {
		c->file = fuse_file_get(c->f, c->arg.fh,
					op->what & HANDLE ? FUSE_KIND_FILE : FUSE_KIND_DIR, n);
		r = c->file ? 0 : -EBADF;
	}
	return r;
}

static void done(struct fuse_call *c)
{
	if (c->file)
		fuse_file_put(c->f, c->file);
	if (!c->node)
		return;
	if (c->node->share)
		fuse_node_close(c->f, c->node);
	fuse_node_put(c->f, c->node);
}

static int answer(struct fuse_call *c)
{
	const struct op *op = c->in.opcode < ARRAY_SIZE(ops) ? &ops[c->in.opcode] : NULL;
	int r;

	if (!op || !op->answer)
		return -ENOSYS;
	if (!c->f->ready && c->in.opcode != FUSE_INIT && c->in.opcode != FUSE_DESTROY)
		return -EPROTO;
	r = parse(c, op);
	if (r < 0)
		return r;
	r = resolve(c, op);
	if (!r)
		r = op->answer(c);
	done(c);
	return r < 0 ? r : 0;
}

size_t fuse_handle(struct fuse *f, const void *req, size_t len, void *reply, size_t max)
{
	struct fuse_call c = {.f = f};
	struct fuse_out_header out = {.len = sizeof(out)};

	if (len < sizeof(c.in))
		return 0;
	memcpy(&c.in, req, sizeof(c.in));
	c.data = (const uint8_t *)req + sizeof(c.in);
	c.len = len - sizeof(c.in);
	if (c.in.opcode == FUSE_FORGET || c.in.opcode == FUSE_BATCH_FORGET) {
		forget(f, &c.in, c.data, c.len);
		return 0;
	}
	if (c.in.opcode == FUSE_INTERRUPT || max < sizeof(out))
		return 0;
	c.out = (uint8_t *)reply + sizeof(out);
	c.room = MIN(max, FUSE_MSG_MAX) - sizeof(out);
	out.unique = c.in.unique;
	out.error = c.in.len == len ? answer(&c) : -EINVAL;
	if (!out.error)
		out.len += (uint32_t)c.outlen;
	memcpy(reply, &out, sizeof(out));
	return out.len;
}

/* ---- beginning and end ---- */

struct fuse *fuse_new(const struct fuse_config *cfg, struct error **err)
{
	struct fuse *f = xcalloc(1, sizeof(*f));
	size_t i;

	f->squash = cfg->squash;
	f->uid = geteuid();
	f->gid = getegid();
	if (cfg->nshares > FUSE_SHARES) {
		for (i = 0; i < cfg->nshares; i++)
			close(cfg->shares[i].fd);
		free(f);
		error_set(err, ERR_INVALID_ARGUMENT, "more than %d shares", FUSE_SHARES);
		return NULL;
	}
	f->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (f->proc < 0)
		error_sys(err, errno, "open /proc/self/fd");
	if (f->proc < 0 || fuse_nodes_init(f, cfg, err)) {
		/* Those that have a node go with it. */
		for (i = f->nshares; i < cfg->nshares; i++)
			close(cfg->shares[i].fd);
		fuse_free(f);
		return NULL;
	}
	/* The guest has taken its processes' masks from the modes already. */
	umask(0);
	return f;
}

void fuse_free(struct fuse *f)
{
	if (!f)
		return;
	fuse_files_reset(f);
	fuse_nodes_free(f);
	base_close_fd(&f->proc);
	free(f->file);
	free(f);
}
