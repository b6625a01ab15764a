/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge.c - the tree that layers make when put on each other, in memory.
 *
 * DOC: Structure
 * A node is a name in a directory, an inode what hard links share. All nodes are in one hash table
 * by (parent, name), so a lookup costs the same in a directory of a million names; a directory's
 * children are also a list. Names and link targets point into the mapped tree files. Nothing
 * recurses: an archive decides how deep the tree is.
 *
 * Symlinks on the way to an entry are followed as the kernel would with the tree as its root, ".."
 * included, 40 at most.
 */
#include "oci/tree.h"

#define CHUNK_ITEMS 1024

/* Equal-sized items from big chunks, with a free list; all are freed at once. */
struct pool {
	size_t size, used; /* used: items handed out of the newest chunk */
	void **chunks, *free;
	size_t nchunks;
};

struct tree {
	struct pool nodes, inodes;
	struct tree_node **hash;
	size_t nhash, count; /* nhash is a power of two */
	uint64_t seed;
	struct tree_node *root;
};

/* What a walk remembers: the links it followed so far. */
struct walk {
	struct tree *t;
	const char *path; /* for messages */
	int links;
};

static void *pool_get(struct pool *p)
{
	void *item = p->free;

	if (item) {
		memcpy(&p->free, item, sizeof(void *));
	} else {
		if (!p->nchunks || p->used == CHUNK_ITEMS) {
			p->chunks = xreallocarray(p->chunks, p->nchunks + 1, sizeof(void *));
			p->chunks[p->nchunks++] = xmalloc(CHUNK_ITEMS * p->size);
			p->used = 0;
		}
		item = (char *)p->chunks[p->nchunks - 1] + p->used++ * p->size;
	}
	return memset(item, 0, p->size);
}

static void pool_put(struct pool *p, void *item)
{
	memcpy(item, &p->free, sizeof(void *));
	p->free = item;
}

static void pool_free(struct pool *p)
{
	for (size_t i = 0; i < p->nchunks; i++)
		free(p->chunks[i]);
	free(p->chunks);
}

/* ---- hash table ---- */

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

/* Seeded, so that an archive cannot pick names that collide. */
static size_t tree_slot(const struct tree *t, const struct tree_node *dir, const char *name,
			size_t len)
{
	uint64_t h = mix(t->seed ^ (uint64_t)(uintptr_t)dir) + len;

	for (; len >= 8; name += 8, len -= 8) {
		uint64_t w;

		memcpy(&w, name, 8);
		h = mix(h ^ w) + t->seed;
	}
	if (len) {
		uint64_t w = 0;

		memcpy(&w, name, len);
		h = mix(h ^ w) + t->seed;
	}
	return mix(h) & (t->nhash - 1);
}

static void tree_grow(struct tree *t)
{
	struct tree_node **old = t->hash;
	size_t n = t->nhash;

	t->nhash = n ? n * 2 : 1024;
	t->hash = xcalloc(t->nhash, sizeof(void *));
	for (size_t i = 0; i < n; i++) {
		for (struct tree_node *nd = old[i], *next; nd; nd = next) {
			size_t s = tree_slot(t, nd->parent, nd->name, nd->name_len);

			next = nd->hash_next;
			nd->hash_next = t->hash[s];
			t->hash[s] = nd;
		}
	}
	free(old);
}

static struct tree_node *tree_find(struct tree *t, struct tree_node *dir, const char *name,
				   size_t len)
{
	struct tree_node *n = t->hash[tree_slot(t, dir, name, len)];

	while (n && (n->parent != dir || n->name_len != len || memcmp(n->name, name, len) != 0))
		n = n->hash_next;
	return n;
}

/* ---- nodes ---- */

struct tree *tree_new(void)
{
	struct tree *t = xcalloc(1, sizeof(*t));

	t->nodes.size = sizeof(struct tree_node);
	t->inodes.size = sizeof(struct tree_inode);
	random_bytes(&t->seed, sizeof(t->seed));
	tree_grow(t);
	t->root = pool_get(&t->nodes);
	t->root->inode = pool_get(&t->inodes);
	t->root->parent = t->root;
	t->root->name = "";
	*t->root->inode = (struct tree_inode){.type = TREE_DIR, .mode = 0755, .nlink = 2};
	t->count = 1;
	return t;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	pool_free(&t->nodes);
	pool_free(&t->inodes);
	free(t->hash);
	free(t);
}

struct tree_node *tree_root(struct tree *t)
{
	return t->root;
}

size_t tree_count(const struct tree *t)
{
	return t->count;
}

static bool is_dir(const struct tree_node *n)
{
	return n->inode->type == TREE_DIR;
}

/* Links a new name to an inode; takes the inode over. */
static struct tree_node *tree_add(struct tree *t, struct tree_node *dir, const char *name,
				  size_t len, struct tree_inode *inode, struct error **err)
{
	struct tree_node *n;

	if (t->count == TREE_MAX_ENTRIES || dir->depth == TREE_MAX_DEPTH) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  dir->depth == TREE_MAX_DEPTH
				  ? "the image's directories are nested too deep"
				  : "the image has too many files");
		return NULL;
	}
	if (t->count >= t->nhash)
		tree_grow(t);
	n = pool_get(&t->nodes);
	*n = (struct tree_node){.name = name,
				.name_len = (uint32_t)len,
				.depth = dir->depth + 1,
				.inode = inode,
				.parent = dir,
				.next = dir->child};
	if (dir->child)
		dir->child->prev = n;
	dir->child = n;
	dir->nchildren++;
	if (is_dir(n))
		dir->inode->nlink++;
	else
		inode->nlink++;
	size_t s = tree_slot(t, dir, name, len);

	n->hash_next = t->hash[s];
	t->hash[s] = n;
	t->count++;
	return n;
}

static void tree_unlink(struct tree *t, struct tree_node *n)
{
	struct tree_node *dir = n->parent;
	struct tree_node **p = &t->hash[tree_slot(t, dir, n->name, n->name_len)];

	while (*p != n)
		p = &(*p)->hash_next;
	*p = n->hash_next;
	if (n->prev)
		n->prev->next = n->next;
	else
		dir->child = n->next;
	if (n->next)
		n->next->prev = n->prev;
	dir->nchildren--;
	t->count--;
	if (is_dir(n)) {
		dir->inode->nlink--;
		pool_put(&t->inodes, n->inode);
	} else if (--n->inode->nlink == 0) {
		pool_put(&t->inodes, n->inode);
	}
	pool_put(&t->nodes, n);
}

/* Removes what is below top, and top itself unless keep_top. */
static void tree_remove(struct tree *t, struct tree_node *top, bool keep_top)
{
	for (struct tree_node *n = top;;) {
		while (n->child)
			n = n->child;
		struct tree_node *dir = n->parent;

		if (n == top) {
			if (!keep_top)
				tree_unlink(t, n);
			return;
		}
		tree_unlink(t, n);
		n = dir;
	}
}

/* ---- walks ---- */

static int walk_error(struct walk *w, struct error **err, const char *what)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "%s: %s", w->path, what);
}

/* One pending string of names: a path, or the target of a link met in it. */
struct pending {
	const char *p, *end;
};

/* The first name left in the stack of pending strings, or false at the end. */
static bool walk_name(struct pending *stack, int *top, const char **name, size_t *len)
{
	while (*top >= 0) {
		struct pending *s = &stack[*top];

		while (s->p < s->end && *s->p == '/')
			s->p++;
		if (s->p == s->end) {
			--*top;
			continue;
		}
		const char *slash = memchr(s->p, '/', (size_t)(s->end - s->p));

		*name = s->p;
		*len = (size_t)((slash ? slash : s->end) - s->p);
		s->p += *len;
		return true;
	}
	return false;
}

static struct tree_node *make_dir(struct walk *w, struct tree_node *dir, const char *name,
				  size_t len, struct error **err)
{
	struct tree_inode *i = pool_get(&w->t->inodes);

	if (len > 255) {
		pool_put(&w->t->inodes, i);
		walk_error(w, err, "a name is longer than 255 bytes");
		return NULL;
	}
	*i = (struct tree_inode){.type = TREE_DIR, .mode = 0755, .nlink = 2};
	struct tree_node *n = tree_add(w->t, dir, name, len, i, err);

	if (!n)
		pool_put(&w->t->inodes, i);
	return n;
}

/* The directory that path[0..len) leads to, links followed. With create, what is missing becomes a
 * directory and what is in the way is replaced by one. *out is NULL when absent. */
static int walk_dir(struct walk *w, const char *path, size_t len, bool create,
		    struct tree_node **out, struct error **err)
{
	struct pending stack[TREE_MAX_LINKS + 1] = {{path, path + len}};
	struct tree_node *dir = w->t->root;
	const char *name;
	size_t n;
	int top = 0;

	*out = NULL;
	while (walk_name(stack, &top, &name, &n)) {
		if (n == 1 && *name == '.')
			continue;
		if (n == 2 && name[0] == '.' && name[1] == '.') {
			dir = dir->parent;
			continue;
		}
		struct tree_node *next = tree_find(w->t, dir, name, n);

		if (next && next->inode->type == TREE_SYMLINK) {
			if (++w->links > TREE_MAX_LINKS)
				return walk_error(w, err, "too many levels of symbolic links");
			if (*next->inode->link == '/')
				dir = w->t->root;
			stack[++top] = (struct pending){next->inode->link,
							next->inode->link + next->inode->link_len};
			continue;
		}
		if (!create && (!next || !is_dir(next)))
			return 0;
		if (next && !is_dir(next)) {
			tree_unlink(w->t, next);
			next = NULL;
		}
		if (!next && !(next = make_dir(w, dir, name, n, err)))
			return -1;
		dir = next;
	}
	*out = dir;
	return 0;
}

static size_t dir_len(const char *path, size_t len)
{
	while (len && path[len - 1] != '/')
		len--;
	return len;
}

/* The node at path, links followed but for the last name; NULL in *out when absent. */
static int walk_node(struct walk *w, const char *path, size_t len, struct tree_node **out,
		     struct error **err)
{
	size_t d = dir_len(path, len);
	struct tree_node *dir;

	*out = NULL;
	if (walk_dir(w, path, d, false, &dir, err) < 0)
		return -1;
	if (dir)
		*out = len > d ? tree_find(w->t, dir, path + d, len - d) : dir;
	return 0;
}

struct tree_node *tree_lookup(struct tree *t, const char *path)
{
	struct tree_node *n = t->root;

	while (n && *path) {
		size_t len = strcspn(path, "/");

		n = tree_find(t, n, path, len);
		path += len + (path[len] == '/');
	}
	return n;
}

/* ---- layers ---- */

static int apply_whiteout(struct tree *t, const struct tree_entry *e, struct error **err)
{
	struct walk w = {.t = t, .path = e->path};
	struct tree_node *n;

	if (e->type == TREE_OPAQUE) {
		if (walk_dir(&w, e->path, e->path_len, false, &n, err) < 0)
			return -1;
	} else if (walk_node(&w, e->path, e->path_len, &n, err) < 0) {
		return -1;
	}
	if (n && (n != t->root || e->type == TREE_OPAQUE))
		tree_remove(t, n, e->type == TREE_OPAQUE);
	return 0;
}

static void inode_fill(struct tree_inode *i, const struct tree_entry *e, uint32_t layer)
{
	i->type = e->type;
	i->mode = e->mode & 07777;
	i->uid = e->uid;
	i->gid = e->gid;
	i->mtime = e->mtime;
	i->mtime_nsec = e->mtime_nsec;
	i->rdev = e->rdev;
	i->size = e->type == TREE_SYMLINK ? e->link_len : e->size;
	i->data_off = e->data_off;
	i->link = e->link;
	i->link_len = (uint32_t)e->link_len;
	i->xattrs = e->xattrs;
	i->xattr_len = (uint32_t)e->xattr_len;
	i->layer = layer;
}

/* The inode an entry's name will point to: a fresh one, or the target's. NULL on error. */
static struct tree_inode *entry_inode(struct tree *t, const struct tree_entry *e, uint32_t layer,
				      struct error **err)
{
	struct walk w = {.t = t, .path = e->path};
	struct tree_node *target;

	if (e->type != TREE_HARDLINK) {
		struct tree_inode *i = pool_get(&t->inodes);

		inode_fill(i, e, layer);
		i->nlink = e->type == TREE_DIR ? 2 : 0;
		return i;
	}
	if (walk_node(&w, e->link, e->link_len, &target, err) < 0)
		return NULL;
	if (!target || is_dir(target)) {
		error_set(err, ERR_INVALID_ARGUMENT, "%s: hard link to %s, which is %s", e->path,
			  e->link, target ? "a directory" : "not in the image");
		return NULL;
	}
	return target->inode;
}

static int apply_entry(struct tree *t, const struct tree_entry *e, uint32_t layer,
		       struct error **err)
{
	struct walk w = {.t = t, .path = e->path};
	size_t d = dir_len(e->path, e->path_len), len = e->path_len - d;
	struct tree_node *dir, *old;

	if (!e->path_len) {
		if (e->type == TREE_DIR)
			inode_fill(t->root->inode, e, layer);
		return 0;
	}
	if (len == 0 || len > 255)
		return walk_error(&w, err, "bad name");
	if (walk_dir(&w, e->path, d, true, &dir, err) < 0)
		return -1;
	old = tree_find(t, dir, e->path + d, len);
	if (old && is_dir(old) && e->type == TREE_DIR) {
		inode_fill(old->inode, e, layer);
		return 0;
	}
	struct tree_inode *inode = entry_inode(t, e, layer, err);

	if (!inode)
		return -1;
	if (old && old->inode == inode)
		return 0; /* a link to itself */
	/* Held over the removal, which may take the link's target with it. */
	inode->nlink++;
	if (old)
		tree_remove(t, old, false);
	struct tree_node *n = tree_add(t, dir, e->path + d, len, inode, err);

	inode->nlink--;
	if (!n && e->type != TREE_HARDLINK)
		pool_put(&t->inodes, inode);
	return n ? 0 : -1;
}

int tree_apply(struct tree *t, const struct tree_file *f, uint32_t layer, struct error **err)
{
	struct tree_entry e;
	size_t pos = 0;
	int r;

	while ((r = tree_file_next(f, &pos, &e, err)) == 1)
		if ((e.type == TREE_WHITEOUT || e.type == TREE_OPAQUE) &&
		    apply_whiteout(t, &e, err) < 0)
			return -1;
	if (r < 0)
		return -1;
	for (pos = 0; (r = tree_file_next(f, &pos, &e, err)) == 1;)
		if (e.type != TREE_WHITEOUT && e.type != TREE_OPAQUE &&
		    apply_entry(t, &e, layer, err) < 0)
			return -1;
	return r;
}
