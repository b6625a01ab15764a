/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_node.c - the files that the guest knows, by number.
 *
 * DOC: Theory of operation
 * A guest names files by node ids that we gave it. A node is what we remember of one: which file of the host it is (device, inode,
 * mount, time of birth), in which directory and under which name it was seen last, how often the guest was told of it, and an O_PATH
 * descriptor. That descriptor is the file, whatever happens to its name; but descriptors are few and a guest may look at a million
 * files. So those that no request and no open file needs stand in a list by age, and beyond a limit the oldest are closed. Such a node
 * is opened again by the names of its parents from the first that is open, in one call that follows no link and does not leave the
 * share, and what is found there must be the same file: else the node is stale, and the guest looks the name up again.
 *
 * Names and parents are only hints: the host may move what it likes, and the guest is never believed about them. A node holds its
 * parent; when hints would make a directory its own ancestor the older hint is dropped.
 *
 * Ids carry how often their slot was used, so a forgotten one never comes to mean another file. All of it is under one lock, and no
 * call that waits for a file system is made under it.
 */
#include <fcntl.h>
#include <sys/resource.h>

#include "core/filter.h"
#include "vmm/fuse_impl.h"

#define FIRST_SHARE 2u /* its slot; 1 is the root's */
#define RESERVED    16u
#define PATH_LONG   (64u << 10) /* of names from an open directory to a node */

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, close), FILTER_ALLOW(FILTER_FS, mremap), /* realloc of the tables */
};

/* ---- the lock, and what is done after it ---- */

void fuse_lock(struct fuse *f)
{
	pthread_mutex_lock(&f->lock);
}

void fuse_unlock(struct fuse *f)
{
	struct fuse_node *dead = STEAL(f->dead), *next;
	int closing[FUSE_CLOSE_MAX];
	unsigned i, n = f->nclosing;

	memcpy(closing, f->closing, n * sizeof(closing[0]));
	f->nclosing = 0;
	pthread_mutex_unlock(&f->lock);
	for (i = 0; i < n; i++)
		close(closing[i]);
	for (; dead; dead = next) {
		next = dead->hash_next;
		if (dead->fd >= 0)
			close(dead->fd);
		free(dead->name);
		free(dead);
	}
}

/* ---- descriptors by age ---- */

static bool in_list(const struct fuse *f, const struct fuse_node *n)
{
	return n->older || n->newer || f->oldest == n;
}

static void list_remove(struct fuse *f, struct fuse_node *n)
{
	if (!in_list(f, n))
		return;
	*(n->older ? &n->older->newer : &f->oldest) = n->newer;
	*(n->newer ? &n->newer->older : &f->newest) = n->older;
	n->older = n->newer = NULL;
}

/* Closes the oldest while there are too many; what one turn of the lock cannot take the next one does. */
static void trim(struct fuse *f)
{
	struct fuse_node *n;

	while (f->nopen > f->max_open && f->nclosing < FUSE_CLOSE_MAX && (n = f->oldest)) {
		list_remove(f, n);
		f->closing[f->nclosing++] = steal_fd(&n->fd);
		f->nopen--;
	}
}

static bool is_share(const struct fuse_node *n)
{
	return n->share && n->share->node == n;
}

/* n's descriptor may be closed from now on, if nobody needs it. */
static void list_add(struct fuse *f, struct fuse_node *n)
{
	if (n->fd < 0 || n->busy || is_share(n) || in_list(f, n))
		return;
	n->older = f->newest;
	*(f->newest ? &f->newest->newer : &f->oldest) = n;
	f->newest = n;
	trim(f);
}

/* ---- the tables ---- */

static size_t hash_of(const struct fuse *f, const struct fuse_ident *id)
{
	uint64_t h =
		(id->ino * UINT64_C(0x9e3779b97f4a7c15)) ^ (id->dev * UINT64_C(0xc2b2ae3d27d4eb4f));

	return (size_t)(h >> 32 ^ h) & (f->nhash - 1);
}

static struct fuse_node *find(const struct fuse *f, const struct fuse_dirs *share,
			      const struct fuse_ident *id)
{
	struct fuse_node *n = f->hash[hash_of(f, id)];

	while (n && (n->share != share || memcmp(&n->ident, id, sizeof(*id)) != 0))
		n = n->hash_next;
	return n;
}

static void hash_add(struct fuse *f, struct fuse_node *n)
{
	struct fuse_node **p = &f->hash[hash_of(f, &n->ident)];

	n->hash_next = *p;
	*p = n;
}

static void hash_remove(struct fuse *f, struct fuse_node *n)
{
	struct fuse_node **p = &f->hash[hash_of(f, &n->ident)];

	while (*p != n)
		p = &(*p)->hash_next;
	*p = n->hash_next;
}

static void grow(struct fuse *f)
{
	uint32_t i, old = f->nslots;

	f->nslots = old ? old * 2 : 128;
	f->slot = xreallocarray(f->slot, f->nslots, sizeof(*f->slot));
	memset(f->slot + old, 0, (f->nslots - old) * sizeof(*f->slot));
	for (i = f->nslots - 1; i >= MAX(old, FIRST_SHARE + FUSE_SHARES); i--) {
		f->slot[i].next = f->free_slot;
		f->free_slot = i;
	}
	free(f->hash);
	f->nhash = f->nslots;
	f->hash = xcalloc(f->nhash, sizeof(*f->hash));
	for (i = FIRST_SHARE; i < old; i++)
		if (f->slot[i].node)
			hash_add(f, f->slot[i].node);
}

static struct fuse_node *add_at(struct fuse *f, uint32_t i, const struct fuse_dirs *share,
				const struct fuse_ident *id, int fd)
{
	struct fuse_node *n = xcalloc(1, sizeof(*n));

	*n = (struct fuse_node){.id = (uint64_t)f->slot[i].serial << 32 | i,
				.ident = *id,
				.share = share,
				.fd = fd};
	f->slot[i].node = n;
	hash_add(f, n);
	f->nnodes++;
	return n;
}

/* NULL when there are too many. */
static struct fuse_node *add(struct fuse *f, const struct fuse_dirs *share,
			     const struct fuse_ident *id)
{
	uint32_t i;

	if (f->nnodes >= f->max_nodes)
		return NULL;
	if (!f->free_slot)
		grow(f);
	i = f->free_slot;
	f->free_slot = f->slot[i].next;
	return add_at(f, i, share, id, -1);
}

/* Frees n when nobody needs it, and then its parents the same way. */
static void drop(struct fuse *f, struct fuse_node *n)
{
	struct fuse_node *parent;
	uint32_t i;

	while (n && !n->nlookup && !n->refs) {
		parent = n->parent;
		i = (uint32_t)n->id;
		list_remove(f, n);
		hash_remove(f, n);
		f->slot[i].node = NULL;
		f->slot[i].serial++;
		f->slot[i].next = f->free_slot;
		f->free_slot = i;
		f->nnodes--;
		f->nopen -= n->fd >= 0;
		n->hash_next = f->dead;
		f->dead = n;
		if (parent)
			parent->refs--;
		n = parent;
	}
}

/* ---- names ---- */

static void forget_name(struct fuse *f, struct fuse_node *n)
{
	struct fuse_node *parent = STEAL(n->parent);

	free(STEAL(n->name));
	if (!parent)
		return;
	parent->refs--;
	drop(f, parent);
}

/* n is called name in parent, which the caller holds. n stays, even when nobody needs it any more. */
static void set_name(struct fuse *f, struct fuse_node *n, struct fuse_node *parent,
		     const char *name)
{
	struct fuse_node *a;

	if (is_share(n) || n == parent || (n->parent == parent && !strcmp(n->name, name)))
		return;
	n->refs++;
	/* A directory that is below itself was moved since: what led to it does so no more. */
	if (S_ISDIR(n->ident.type) && n->refs > 1)
		for (a = parent; a; a = a->parent)
			if (a->parent == n) {
				forget_name(f, a);
				break;
			}
	parent->refs++;
	forget_name(f, n);
	n->parent = parent;
	n->name = xstrdup(name);
	n->refs--;
}

/* ---- for requests ---- */

static struct fuse_node *by_id(struct fuse *f, uint64_t id)
{
	uint32_t i = (uint32_t)id;
	struct fuse_node *n;

	if (id == FUSE_ROOT_ID)
		return &f->root;
	n = i < f->nslots ? f->slot[i].node : NULL;
	return n && n->id == id ? n : NULL;
}

struct fuse_node *fuse_node_get(struct fuse *f, uint64_t id)
{
	struct fuse_node *n;

	fuse_lock(f);
	n = by_id(f, id);
	/* What nobody told the guest of, or what it gave back, is not its to name. */
	if (n && n != &f->root && !n->nlookup)
		n = NULL;
	if (n)
		n->refs++;
	fuse_unlock(f);
	return n;
}

void fuse_node_put_locked(struct fuse *f, struct fuse_node *n)
{
	n->refs--;
	if (n != &f->root)
		drop(f, n);
}

void fuse_node_put(struct fuse *f, struct fuse_node *n)
{
	fuse_lock(f);
	fuse_node_put_locked(f, n);
	fuse_unlock(f);
}

/* The way to n from the nearest directory that is open, which the caller then holds open; names stand from the end of path. NULL: there
 * is none, or it is too long. */
static struct fuse_node *way_to(struct fuse *f, struct fuse_node *n, char path[PATH_LONG],
				char **start)
{
	size_t at = PATH_LONG - 1, len;

	path[at] = 0;
	while (n->fd < 0) {
		if (!n->parent)
			return NULL;
		len = strlen(n->name);
		if (at < len + 1)
			return NULL;
		if (path[at])
			path[--at] = '/';
		at -= len;
		memcpy(path + at, n->name, len);
		n = n->parent;
	}
	n->refs++;
	n->busy++;
	list_remove(f, n);
	*start = path + at;
	return n;
}

/* Opens path, which may be longer than the kernel takes at once, below dir. */
static int open_way(int dir, char *path)
{
	CLEANUP_CLOSE int at = -1;
	char *cut;
	int fd;

	while (strlen(path) >= 4096) {
		for (cut = path + 4000; *cut != '/'; cut--)
			;
		*cut = 0;
		fd = fuse_open_path(at >= 0 ? at : dir, path);
		if (fd < 0)
			return fd;
		base_close_fd(&at);
		at = fd;
		path = cut + 1;
	}
	return fuse_open_path(at >= 0 ? at : dir, path);
}

static void ident_of(const struct statx *st, struct fuse_ident *id)
{
	*id = (struct fuse_ident){
		.dev = fuse_stat_dev(st),
		.ino = st->stx_ino,
		.mnt = st->stx_mask & STATX_MNT_ID ? st->stx_mnt_id : 0,
		.born = st->stx_mask & STATX_BTIME ? st->stx_btime.tv_sec : 0,
		.born_ns = st->stx_mask & STATX_BTIME ? st->stx_btime.tv_nsec : 0,
		.type = st->stx_mode & S_IFMT,
	};
}

/* The node's file again, by name. */
static int open_again(struct fuse *f, struct fuse_node *n)
{
	CLEANUP_FREE char *path = xmalloc(PATH_LONG);
	struct fuse_node *from;
	CLEANUP_CLOSE int fd = -1;
	struct fuse_ident id;
	struct statx st;
	char *start;
	int r;

	fuse_lock(f);
	from = way_to(f, n, path, &start);
	fuse_unlock(f);
	if (!from)
		return -ESTALE;
	/* Another thread was faster: nothing is left of the way. */
	fd = *start ? open_way(from->fd, start) : -1;
	r = fd < 0 ? fd : fuse_stat(fd, "", &st);
	if (*start && r < 0)
		r = r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV ? -ESTALE : r;
	if (!*start)
		r = 0;
	else if (r >= 0) {
		ident_of(&st, &id);
		r = memcmp(&id, &n->ident, sizeof(id)) ? -ESTALE : 0;
	}
	fuse_lock(f);
	if (!r && n->fd < 0) {
		n->fd = steal_fd(&fd);
		f->nopen++;
		trim(f);
	}
	fuse_node_close_locked(f, from);
	fuse_node_put_locked(f, from);
	fuse_unlock(f);
	return r;
}

int fuse_node_open(struct fuse *f, struct fuse_node *n)
{
	int r = 0;
	bool again;

	fuse_lock(f);
	n->busy++;
	list_remove(f, n);
	again = n->fd < 0;
	fuse_unlock(f);
	if (again)
		r = open_again(f, n);
	if (r < 0)
		fuse_node_close(f, n);
	return r;
}

void fuse_node_close_locked(struct fuse *f, struct fuse_node *n)
{
	n->busy--;
	list_add(f, n);
}

void fuse_node_close(struct fuse *f, struct fuse_node *n)
{
	fuse_lock(f);
	fuse_node_close_locked(f, n);
	fuse_unlock(f);
}

uint64_t fuse_node_seen(struct fuse *f, struct fuse_node *parent, const char *name, int fd,
			const struct statx *st)
{
	CLEANUP_CLOSE int path = fd;
	struct fuse_ident ident;
	struct fuse_node *n;
	uint64_t id = 0;

	ident_of(st, &ident);
	fuse_lock(f);
	n = find(f, parent->share, &ident);
	if (!n)
		n = add(f, parent->share, &ident);
	if (n) {
		n->nlookup++;
		id = n->id;
		set_name(f, n, parent, name);
		if (n->fd < 0 && path >= 0) {
			n->fd = steal_fd(&path);
			f->nopen++;
		}
		list_remove(f, n);
		list_add(f, n);
	}
	fuse_unlock(f);
	return id;
}

void fuse_node_moved(struct fuse *f, struct fuse_node *parent, const char *name,
		     const struct statx *st)
{
	struct fuse_ident ident;
	struct fuse_node *n;

	ident_of(st, &ident);
	fuse_lock(f);
	n = find(f, parent->share, &ident);
	if (n) {
		set_name(f, n, parent, name);
		drop(f, n);
	}
	fuse_unlock(f);
}

void fuse_node_forget(struct fuse *f, uint64_t id, uint64_t k)
{
	struct fuse_node *n;

	fuse_lock(f);
	n = by_id(f, id);
	if (n && n != &f->root) {
		n->nlookup -= MIN(n->nlookup, k);
		drop(f, n);
	}
	fuse_unlock(f);
}

uint64_t fuse_ino(struct fuse *f, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev * UINT64_C(0x9e3779b97f4a7c15)) + dev;
	size_t i;

	fuse_lock(f);
	for (i = 0; i < f->ndevs && f->dev[i] != dev; i++)
		;
	if (i == f->ndevs && i < FUSE_DEVS_MAX)
		f->dev[f->ndevs++] = dev;
	fuse_unlock(f);
	if (i < FUSE_DEVS_MAX && !(ino >> 48))
		return (uint64_t)i << 48 | ino;
	/* Numbers as large as those are rare; two of 2^63 that are the same are rarer. */
	h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
	return (h ^ h >> 31) | UINT64_C(1) << 63;
}

/* ---- beginning and end ---- */

static int add_share(struct fuse *f, size_t i, const struct fuse_share *s, struct error **err)
{
	struct fuse_ident id;
	struct statx st;
	int r = fuse_stat(s->fd, "", &st);

	if (r < 0)
		return error_sys(err, -r, "share %zu", i);
	if (!S_ISDIR(st.stx_mode) && !S_ISREG(st.stx_mode))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "share %zu is neither a directory nor a file", i);
	ident_of(&st, &id);
	(void)fuse_ino(f, id.dev, id.ino); /* its device has the first free number */
	f->share[i].readonly = s->readonly;
	f->share[i].node = add_at(f, (uint32_t)(FIRST_SHARE + i), &f->share[i], &id, s->fd);
	f->share[i].node->refs = 1;
	f->nopen++;
	f->nshares++;
	return 0;
}

int fuse_nodes_init(struct fuse *f, const struct fuse_config *cfg, struct error **err)
{
	struct rlimit lim;
	size_t i, spare;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return error_sys(err, errno, "getrlimit");
	spare = (size_t)MIN(lim.rlim_cur, 1u << 30);
	spare = spare > RESERVED + 2 * cfg->nshares + 8 ? spare - RESERVED - 2 * cfg->nshares : 8;
	f->max_nodes = FUSE_NODES_MAX;
	f->max_open = MIN(spare / 2, FUSE_OPEN_MAX) + cfg->nshares;
	f->max_files = MIN(spare / 4, FUSE_FILES_MAX);
	f->root =
		(struct fuse_node){.id = FUSE_ROOT_ID, .fd = -1, .refs = 1, .ident.type = S_IFDIR};
	pthread_mutex_init(&f->lock, NULL);
	grow(f);
	for (i = 0; i < cfg->nshares; i++)
		if (add_share(f, i, &cfg->shares[i], err))
			return -1;
	return 0;
}

void fuse_nodes_reset(struct fuse *f)
{
	uint32_t i;

	fuse_lock(f);
	for (i = FIRST_SHARE; i < f->nslots; i++)
		if (f->slot[i].node) {
			f->slot[i].node->nlookup = 0;
			drop(f, f->slot[i].node);
		}
	fuse_unlock(f);
}

void fuse_nodes_free(struct fuse *f)
{
	size_t i;

	fuse_nodes_reset(f);
	fuse_lock(f);
	for (i = 0; i < f->nshares; i++)
		fuse_node_put_locked(f, f->share[i].node);
	fuse_unlock(f);
	free(f->slot);
	free(f->hash);
	pthread_mutex_destroy(&f->lock);
}
