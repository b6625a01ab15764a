/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge.c - the tree that layers make when put on each other, in memory.
 *
 * DOC: Structure
 * A node is a name in a directory, an inode what hard links share. All nodes are in one hash table
 * by (parent, name), so a lookup costs the same in a directory of a million names; a directory's
 * children are also a list. Link targets and attributes point into the mapped tree files. Nothing
 * recurses: an archive decides how deep the tree is.
 *
 * DOC: Memory
 * A layer may have millions of entries. What a tree needs beyond its first few thousand nodes is scratch (scratch.h), the tree files
 * are lent to it, and every walk rests now and then. What stays in memory is the hash table of up to half a million names, eight bytes
 * each; a larger one is read and written in the file, as no order in which it is touched would suit a mapping. The table's bits keep a
 * search that will not find anything from touching nodes. Walks go in the order of memory where they can.
 *
 * Symlinks on the way to an entry are followed as the kernel would with the tree as its root, ".."
 * included, 40 at most.
 */
#include "oci/scratch.h"
#include "oci/tree.h"

#define CHUNK_ITEMS 16384 /* the first chunk of a pool is in memory, the others are scratch */

#define NODES_BETWEEN 64 /* two rests, where nodes are met in the order of memory: some pages */

#define NAMES_CHUNK    (256u << 10) /* as CHUNK_ITEMS */
#define HASH_IN_MEMORY (1u << 19)   /* slots */

/* Equal-sized items, numbered, from big chunks, with a free list; all are freed at once. */
struct pool {
	struct scratch *scratch;
	size_t size;
	uint32_t used; /* items ever handed out */
	char **chunks;
	struct free_item *free;
	size_t nchunks;
};

/* What an item begins with while it is free. */
struct free_item {
	struct free_item *next;
	uint32_t index;
};

struct slot {
	uint32_t first; /* index of its first node, and one; 0: none */
	uint32_t bits;  /* one for each of its nodes, by hash_bit(), and perhaps more */
};

struct table {
	struct slot *slots; /* NULL: they are in the scratch file, from `at` on */
	uint64_t at;
	size_t n; /* a power of two */
	/* The last one of those in the file that was looked at: most names are looked for and then put there. */
	struct slot last;
	size_t last_at; /* SIZE_MAX: none yet */
};

struct tree {
	struct scratch *scratch;
	struct pool nodes, inodes;
	struct table table;
	size_t count;
	uint64_t seed;
	uint64_t removed; /* names, ever */
	char *names;      /* the chunk that names are copied to */
	size_t names_left;
	char *first_names;
	struct tree_node *root;
};

/* Where the last entry's directory was found: archives go through one directory after the other. */
struct where {
	const char *path;
	size_t len;
	struct tree_node *dir; /* NULL: nowhere yet */
	uint64_t removed; /* of the tree then: what was removed since may have been on the way */
};

/* What a walk remembers: the links it followed so far. */
struct walk {
	struct tree *t;
	const char *path; /* for messages */
	int links;
};

static void pool_grow(struct pool *p)
{
	size_t len = CHUNK_ITEMS * p->size;

	p->chunks = xreallocarray(p->chunks, p->nchunks + 1, sizeof(*p->chunks));
	p->chunks[p->nchunks] = p->nchunks ? scratch_alloc(p->scratch, len) : xmalloc(len);
	p->nchunks++;
}

static void *pool_at(const struct pool *p, uint32_t index)
{
	return p->chunks[index / CHUNK_ITEMS] + index % CHUNK_ITEMS * p->size;
}

/* A zeroed item. index (may be NULL): its number. */
static void *pool_get(struct pool *p, uint32_t *index)
{
	struct free_item *f = p->free;
	uint32_t at = f ? f->index : p->used++;

	if (f)
		p->free = f->next;
	else if (at == p->nchunks * CHUNK_ITEMS)
		pool_grow(p);
	if (index)
		*index = at;
	return memset(f ? (void *)f : pool_at(p, at), 0, p->size);
}

static void pool_put(struct pool *p, void *item, uint32_t index)
{
	struct free_item f = {p->free, index};

	p->free = memcpy(item, &f, sizeof(f));
}

static void pool_free(struct pool *p)
{
	if (p->nchunks)
		free(p->chunks[0]);
	free(p->chunks);
}

static struct tree_inode *inode_get(struct tree *t)
{
	uint32_t index;
	struct tree_inode *i = pool_get(&t->inodes, &index);

	i->index = index;
	return i;
}

static void inode_put(struct tree *t, struct tree_inode *i)
{
	pool_put(&t->inodes, i, i->index);
}

void tree_rest(struct tree *t, unsigned places)
{
	scratch_rest(t->scratch, places);
}

struct scratch *tree_scratch(struct tree *t)
{
	return t->scratch;
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
static uint32_t tree_hash(const struct tree *t, const struct tree_node *dir, const char *name,
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
	return (uint32_t)mix(h);
}

static uint32_t hash_bit(uint32_t hash)
{
	return 1u << (hash >> 27);
}

static size_t slot_of(const struct tree *t, uint32_t hash)
{
	return hash & (t->table.n - 1);
}

static struct slot slot_get(struct tree *t, size_t at)
{
	struct table *b = &t->table;

	if (b->slots)
		return b->slots[at];
	if (b->last_at != at) {
		scratch_read(t->scratch, b->at + at * sizeof(b->last), &b->last, sizeof(b->last));
		b->last_at = at;
	}
	return b->last;
}

static void slot_put(struct tree *t, size_t at, struct slot s)
{
	struct table *b = &t->table;

	if (b->slots) {
		b->slots[at] = s;
		return;
	}
	scratch_write(t->scratch, b->at + at * sizeof(s), &s, sizeof(s));
	b->last = s;
	b->last_at = at;
}

static void hash_insert(struct tree *t, struct tree_node *n)
{
	size_t at = slot_of(t, n->hash);
	struct slot s = slot_get(t, at);

	n->hash_next = s.first;
	slot_put(t, at, (struct slot){n->index + 1, s.bits | hash_bit(n->hash)});
}

static void table_new(struct tree *t, size_t n)
{
	struct slot *old = t->table.slots;

	t->table = (struct table){.n = n, .last_at = SIZE_MAX};
	if (n <= HASH_IN_MEMORY || !scratch_reserve(t->scratch, n * sizeof(*old), &t->table.at))
		t->table.slots = xcalloc(n, sizeof(*old));
	free(old);
}

/* Room for so many nodes in all. */
static void tree_room(struct tree *t, size_t count)
{
	size_t n = MAX(t->table.n, 1024);

	while (n < count)
		n *= 2;
	if (n == t->table.n)
		return;
	table_new(t, n);
	/* In the order of memory. Nodes that are free have no parent, the root is in no directory. */
	for (uint32_t i = 0; i < t->nodes.used; i++) {
		struct tree_node *nd = pool_at(&t->nodes, i);

		if (i % NODES_BETWEEN == 0)
			tree_rest(t, 1);
		if (nd->parent && nd != t->root)
			hash_insert(t, nd);
	}
}

static struct tree_node *hash_node(const struct tree *t, uint32_t link)
{
	return link ? pool_at(&t->nodes, link - 1) : NULL;
}

static struct tree_node *tree_find(struct tree *t, struct tree_node *dir, const char *name,
				   size_t len)
{
	uint32_t hash = tree_hash(t, dir, name, len);
	struct slot s = slot_get(t, slot_of(t, hash));
	struct tree_node *n = hash_node(t, s.bits & hash_bit(hash) ? s.first : 0);

	while (n && (n->hash != hash || n->parent != dir || n->name_len != len ||
		     memcmp(n->name, name, len) != 0))
		n = hash_node(t, n->hash_next);
	return n;
}

/* ---- names ---- */

/* A copy beside the nodes: names are looked at in another order than the tree file has them, and one touch of a file that was
 * written in large pieces may map megabytes. */
static const char *name_copy(struct tree *t, const char *name, size_t len)
{
	if (len > t->names_left) {
		t->names_left = NAMES_CHUNK;
		t->names = t->first_names ? scratch_alloc(t->scratch, NAMES_CHUNK)
					  : (t->first_names = xmalloc(NAMES_CHUNK));
	}
	t->names_left -= len;
	t->names += len;
	return memcpy(t->names - len, name, len);
}

/* ---- nodes ---- */

static struct tree_inode *dir_inode(struct tree *t)
{
	struct tree_inode *i = inode_get(t);

	i->type = TREE_DIR;
	i->mode = 0755;
	i->nlink = 2;
	return i;
}

struct tree *tree_new(int scratch_dirfd)
{
	struct tree *t = xcalloc(1, sizeof(*t));

	t->scratch = scratch_new(scratch_dirfd);
	t->nodes.scratch = t->inodes.scratch = t->scratch;
	t->nodes.size = sizeof(struct tree_node);
	t->inodes.size = sizeof(struct tree_inode);
	random_bytes(&t->seed, sizeof(t->seed));
	tree_room(t, 1);
	t->root = pool_get(&t->nodes, NULL);
	t->root->inode = dir_inode(t);
	t->root->parent = t->root;
	t->root->name = "";
	t->count = 1;
	return t;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	pool_free(&t->nodes);
	pool_free(&t->inodes);
	free(t->table.slots);
	free(t->first_names);
	scratch_free(t->scratch);
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
	uint32_t index;

	if (t->count == TREE_MAX_ENTRIES || dir->depth == TREE_MAX_DEPTH) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  dir->depth == TREE_MAX_DEPTH
				  ? "the image's directories are nested too deep"
				  : "the image has too many files");
		return NULL;
	}
	tree_room(t, t->count + 1);
	n = pool_get(&t->nodes, &index);
	*n = (struct tree_node){.index = index,
				.name = name_copy(t, name, len),
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
	n->hash = tree_hash(t, dir, name, len);
	hash_insert(t, n);
	t->count++;
	return n;
}

static void tree_unlink(struct tree *t, struct tree_node *n)
{
	struct tree_node *dir = n->parent;
	size_t at = slot_of(t, n->hash);
	struct slot s = slot_get(t, at);
	uint32_t *link = &s.first;

	while (*link != n->index + 1)
		link = &hash_node(t, *link)->hash_next;
	*link = n->hash_next;
	slot_put(t, at, s);
	if (n->prev)
		n->prev->next = n->next;
	else
		dir->child = n->next;
	if (n->next)
		n->next->prev = n->prev;
	dir->nchildren--;
	t->count--;
	t->removed++;
	if (is_dir(n)) {
		dir->inode->nlink--;
		inode_put(t, n->inode);
	} else if (--n->inode->nlink == 0) {
		inode_put(t, n->inode);
	}
	n->parent = NULL;
	pool_put(&t->nodes, n, n->index);
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
	if (len > 255) {
		walk_error(w, err, "a name is longer than 255 bytes");
		return NULL;
	}
	struct tree_inode *i = dir_inode(w->t);
	struct tree_node *n = tree_add(w->t, dir, name, len, i, err);

	if (!n)
		inode_put(w->t, i);
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
	i->data_off = e->packed ? e->index_off : e->data_off;
	i->packed = e->packed;
	i->blocks = e->blocks;
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
		struct tree_inode *i = inode_get(t);

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

/* The directory that an entry goes into, made if it is not there: path[0..d). */
static struct tree_node *entry_dir(struct walk *w, size_t d, struct where *last, struct error **err)
{
	if (last->dir && last->removed == w->t->removed && last->len == d &&
	    memcmp(last->path, w->path, d) == 0)
		return last->dir;
	if (walk_dir(w, w->path, d, true, &last->dir, err) < 0)
		return NULL;
	last->path = w->path;
	last->len = d;
	last->removed = w->t->removed;
	return last->dir;
}

static int apply_entry(struct tree *t, const struct tree_entry *e, uint32_t layer,
		       struct where *last, struct error **err)
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
	dir = entry_dir(&w, d, last, err);
	if (!dir)
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
		inode_put(t, inode);
	return n ? 0 : -1;
}

int tree_apply(struct tree *t, const struct tree_file *f, uint32_t layer, struct error **err)
{
	struct tree_entry e;
	struct where last = {0};
	size_t pos = 0;
	int r;

	scratch_lend(t->scratch, f->map, f->len);
	if (f->index)
		scratch_lend(t->scratch, f->index, f->index_len);
	tree_room(t, t->count + MIN(f->count, TREE_MAX_ENTRIES - t->count));
	while ((r = tree_file_next(f, &pos, &e, err)) == 1) {
		tree_rest(t, 1);
		if ((e.type == TREE_WHITEOUT || e.type == TREE_OPAQUE) &&
		    apply_whiteout(t, &e, err) < 0)
			return -1;
	}
	if (r < 0)
		return -1;
	for (pos = 0; (r = tree_file_next(f, &pos, &e, err)) == 1;) {
		tree_rest(t, 1);
		if (e.type != TREE_WHITEOUT && e.type != TREE_OPAQUE &&
		    apply_entry(t, &e, layer, &last, err) < 0)
			return -1;
	}
	return r;
}
