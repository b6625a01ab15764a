/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree_sort.c - a directory's children in the order of their names.
 *
 * A directory of a million names is sorted without a look at its nodes for each comparison, as they lie far apart: an array has eight
 * bytes of each name beside the node. Quicksort in three parts on those; the names in the middle part are equal so far, and go on with
 * their next eight bytes. Pivots are picked at random, so that no archive can choose the worst case.
 */
#include "oci/scratch.h"
#include "oci/tree.h"

#define IN_MEMORY 16384 /* children of a directory that is sorted without scratch */
#define FEW       12

struct item {
	uint64_t key; /* name[depth..depth + 8), big-endian, zeros behind the end */
	struct tree_node *node;
};

struct sorter {
	struct tree *tree;
	uint64_t random;
};

static uint64_t key_at(const struct tree_node *n, size_t depth)
{
	uint8_t b[8] = {0};
	uint64_t k;

	if (depth < n->name_len)
		memcpy(b, n->name + depth, MIN(n->name_len - depth, sizeof(b)));
	memcpy(&k, b, sizeof(k));
	return __builtin_bswap64(k);
}

static void load_keys(struct sorter *s, struct item *v, size_t n, size_t depth)
{
	for (size_t i = 0; i < n; i++) {
		tree_rest(s->tree, 2);
		v[i].key = key_at(v[i].node, depth);
	}
}

static void swap(struct item *a, struct item *b)
{
	struct item t = *a;

	*a = *b;
	*b = t;
}

static bool before(const struct item *a, const struct item *b)
{
	const struct tree_node *x = a->node, *y = b->node;

	if (a->key != b->key)
		return a->key < b->key;
	int c = memcmp(x->name, y->name, MIN(x->name_len, y->name_len));

	return c ? c < 0 : x->name_len < y->name_len;
}

/* What precedes depth is equal in all of v, so whole names may be compared. */
static void sort_few(struct item *v, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k && before(&v[k], &v[k - 1]); k--)
			swap(&v[k], &v[k - 1]);
}

static uint64_t pick_pivot(struct sorter *s, const struct item *v, size_t n)
{
	s->random = s->random * 6364136223846793005u + 1442695040888963407u;
	return v[(s->random >> 33) % n].key;
}

/* v[0..*lt) is less than the pivot, v[*lt..*gt) equal, the rest greater. */
static void partition(struct sorter *s, struct item *v, size_t n, size_t *lt, size_t *gt)
{
	uint64_t pivot = pick_pivot(s, v, n);
	size_t i = 0;

	*lt = 0;
	*gt = n;
	while (i < *gt) {
		if (i % 64 == 0)
			tree_rest(s->tree, 2);
		if (v[i].key < pivot)
			swap(&v[i++], &v[(*lt)++]);
		else if (v[i].key > pivot)
			swap(&v[i], &v[--*gt]);
		else
			i++;
	}
}

/* Names are at most 255 bytes and no two are equal: at depth 256 no part has more than one. So this nests 32 times by
 * depth and, as the largest part is never recursed into, about log2(n) times in all. */
static void sort(struct sorter *s, struct item *v, size_t n, size_t depth)
{
	while (n > FEW) {
		size_t lt, gt;

		partition(s, v, n, &lt, &gt);
		size_t equal = gt - lt, greater = n - gt;

		if (equal > 1)
			load_keys(s, v + lt, equal, depth + 8);
		if (equal >= lt && equal >= greater) {
			sort(s, v, lt, depth);
			sort(s, v + gt, greater, depth);
			v += lt;
			n = equal;
			depth += 8;
			continue;
		}
		if (equal > 1)
			sort(s, v + lt, equal, depth + 8);
		if (lt >= greater) {
			sort(s, v + gt, greater, depth);
			n = lt;
		} else {
			sort(s, v, lt, depth);
			v += gt;
			n = greater;
		}
	}
	sort_few(v, n);
}

static void relink(struct tree *t, struct tree_node *dir, const struct item *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		tree_rest(t, 1);
		v[i].node->prev = i ? v[i - 1].node : NULL;
		v[i].node->next = i + 1 < n ? v[i + 1].node : NULL;
	}
	dir->child = n ? v[0].node : NULL;
}

void tree_sort(struct tree *t, struct tree_node *dir)
{
	struct sorter s = {.tree = t};
	struct item *v, *heap = NULL;
	size_t n = 0, max = dir->nchildren;

	if (max < 2)
		return;
	random_bytes(&s.random, sizeof(s.random));
	if (max <= IN_MEMORY)
		v = heap = xreallocarray(NULL, max, sizeof(*v));
	else
		v = scratch_alloc(tree_scratch(t), max * sizeof(*v));
	for (struct tree_node *c = dir->child; c; c = c->next) {
		tree_rest(t, 1);
		v[n++].node = c;
	}
	load_keys(&s, v, n, 0);
	sort(&s, v, n, 0);
	relink(t, dir, v, n);
	free(heap);
}
