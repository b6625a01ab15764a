/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp_code.c - from entries to instructions; see seccomp.h.
 *
 * A program is a binary tree over ranges of call numbers with one action, as the kernel walks it for every number when
 * it is installed (to remember which calls are always allowed): on an emulated CPU a chain would be felt in each exec.
 * Leaves are "return", or the comparisons of a call's arguments. Conditional jumps reach 255 instructions; where a side
 * of the tree is longer, an unconditional one goes in between.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>

#include "vmm/seccomp.h"

#define JUMP_MAX 255
#define FAIL     0xff /* a jump to the next rule, until its distance is known */
#define X32_BIT  0x40000000u

struct code {
	struct sock_filter *v;
	size_t n, room;
};

/* Numbers from `first` on, up to the next range's. */
struct range {
	uint32_t first;
	uint32_t action; /* when there are no entries with conditions */
	const struct seccomp_entry *entry;
	size_t nentries; /* 0: action */
};

static void put(struct code *c, uint16_t op, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (c->n == c->room) {
		c->room = c->room ? c->room * 2 : 256;
		c->v = xreallocarray(c->v, c->room, sizeof(*c->v));
	}
	c->v[c->n++] = (struct sock_filter){op, jt, jf, k};
}

static void put_load(struct code *c, size_t offset)
{
	put(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void put_jump(struct code *c, uint16_t op, uint32_t k, uint8_t jt, uint8_t jf)
{
	put(c, BPF_JMP | op | BPF_K, k, jt, jf);
}

static void put_return(struct code *c, uint32_t action)
{
	put(c, BPF_RET | BPF_K, action, 0, 0);
}

/* ---- arguments: 64 bits are compared in halves, little-endian ---- */

static void put_half(struct code *c, const struct seccomp_arg *a, bool high)
{
	put_load(c, offsetof(struct seccomp_data, args) + 8u * a->index + (high ? 4 : 0));
}

static uint32_t half(uint64_t v, bool high)
{
	return (uint32_t)(high ? v >> 32 : v);
}

static void put_masked(struct code *c, const struct seccomp_arg *a, bool high)
{
	put_half(c, a, high);
	put(c, BPF_ALU | BPF_AND | BPF_K, half(a->value, high), 0, 0);
	put_jump(c, BPF_JEQ, half(a->value2, high), 0, FAIL);
}

static void put_arg(struct code *c, const struct seccomp_arg *a)
{
	uint32_t hi = half(a->value, true), lo = half(a->value, false);

	if (a->op == OP_MASKED) {
		put_masked(c, a, true);
		put_masked(c, a, false);
		return;
	}
	put_half(c, a, true);
	switch (a->op) {
	case OP_EQ:
		put_jump(c, BPF_JEQ, hi, 0, FAIL);
		put_half(c, a, false);
		put_jump(c, BPF_JEQ, lo, 0, FAIL);
		break;
	case OP_NE:
		put_jump(c, BPF_JEQ, hi, 0, 2);
		put_half(c, a, false);
		put_jump(c, BPF_JEQ, lo, FAIL, 0);
		break;
	case OP_GT:
	case OP_GE:
		put_jump(c, BPF_JGT, hi, 3, 0);
		put_jump(c, BPF_JEQ, hi, 0, FAIL);
		put_half(c, a, false);
		put_jump(c, a->op == OP_GT ? BPF_JGT : BPF_JGE, lo, 0, FAIL);
		break;
	default: /* OP_LT, OP_LE */
		put_jump(c, BPF_JGT, hi, FAIL, 0);
		put_jump(c, BPF_JEQ, hi, 0, 2);
		put_half(c, a, false);
		put_jump(c, a->op == OP_LT ? BPF_JGE : BPF_JGT, lo, FAIL, 0);
	}
}

/* Six arguments take 36 instructions at most: every distance fits. */
static void put_rule(struct code *c, const struct seccomp_rule *r)
{
	size_t at = c->n, end;
	unsigned i;

	for (i = 0; i < r->nargs; i++)
		put_arg(c, &r->arg[i]);
	put_return(c, r->action);
	for (end = c->n; at < end; at++) {
		uint8_t far = (uint8_t)(end - at - 1);

		if (BPF_CLASS(c->v[at].code) != BPF_JMP)
			continue;
		if (c->v[at].jt == FAIL)
			c->v[at].jt = far;
		if (c->v[at].jf == FAIL)
			c->v[at].jf = far;
	}
}

static void put_leaf(struct code *c, const struct seccomp_set *set, const struct range *r)
{
	size_t i;

	for (i = 0; i < r->nentries; i++) {
		const struct seccomp_rule *rule = &set->rule[r->entry[i].rule];

		put_rule(c, rule);
		if (!rule->nargs)
			return;
	}
	put_return(c, r->nentries ? set->fallback : r->action);
}

/* ---- call numbers ---- */

static void put_tree(struct code *c, const struct seccomp_set *set, const struct range *r, size_t n)
{
	size_t at = c->n, left;

	if (n == 1) {
		put_leaf(c, set, r);
		return;
	}
	put_jump(c, BPF_JGE, r[n / 2].first, 0, 0);
	put_tree(c, set, r, n / 2);
	left = c->n - at - 1;
	if (left <= JUMP_MAX) {
		c->v[at].jt = (uint8_t)left;
	} else {
		put_return(c, 0); /* room for one more */
		memmove(&c->v[at + 2], &c->v[at + 1], left * sizeof(*c->v));
		c->v[at].jf = 1;
		c->v[at + 1] = (struct sock_filter){BPF_JMP | BPF_JA, 0, 0, (uint32_t)left};
	}
	put_tree(c, set, r + n / 2, n - n / 2);
}

static int entry_cmp(const void *a, const void *b)
{
	const struct seccomp_entry *x = a, *y = b;

	if (x->nr != y->nr)
		return x->nr < y->nr ? -1 : 1;
	return x->rule < y->rule ? -1 : x->rule > y->rule;
}

/* Adds a range unless it only goes on with the action of the one before. */
static void range_add(struct range *r, size_t *n, struct range next)
{
	struct range *last;

	if (*n && r[*n - 1].first == next.first)
		(*n)--;
	last = *n ? &r[*n - 1] : NULL;
	if (!last || next.nentries || last->nentries || last->action != next.action)
		r[(*n)++] = next;
}

static void put_calls(struct code *c, const struct seccomp_set *set, struct seccomp_calls *calls)
{
	struct range *r = xcalloc(2 * calls->n + 1, sizeof(*r));
	size_t n = 0, i, same;

	qsort(calls->entry, calls->n, sizeof(*calls->entry), entry_cmp);
	range_add(r, &n, (struct range){.action = set->fallback});
	for (i = 0; i < calls->n; i += same) {
		const struct seccomp_entry *e = &calls->entry[i];
		const struct seccomp_rule *first = &set->rule[e->rule];
		struct range here = {.first = e->nr, .action = first->action};

		for (same = 1; i + same < calls->n && e[same].nr == e->nr; same++)
			;
		if (first->nargs) {
			here.entry = e;
			here.nentries = same;
		}
		range_add(r, &n, here);
		range_add(r, &n, (struct range){.first = e->nr + 1, .action = set->fallback});
	}
	put_load(c, offsetof(struct seccomp_data, nr));
	put_tree(c, set, r, n);
	free(r);
}

int seccomp_code(struct seccomp_set *set, struct buf *out, struct error **err)
{
	struct code c = {0}, part = {0};
	int rc = 0;

	put_load(&c, offsetof(struct seccomp_data, arch));
	put_jump(&c, BPF_JEQ, AUDIT_ARCH_X86_64, 0, 4);
	put_load(&c, offsetof(struct seccomp_data, nr));
	put_jump(&c, BPF_JGE, X32_BIT, 0, 1);
	put_return(&c, SECCOMP_RET_ERRNO | ENOSYS);
	put_calls(&part, set, &set->call[0]);
	put(&c, BPF_JMP | BPF_JA, 1, 0, 0);                /* into x86-64's calls, */
	put(&c, BPF_JMP | BPF_JA, (uint32_t)part.n, 0, 0); /* or past them */
	for (size_t i = 0; i < part.n; i++)
		put(&c, part.v[i].code, part.v[i].k, part.v[i].jt, part.v[i].jf);
	if (set->i386) {
		put_load(&c, offsetof(struct seccomp_data, arch));
		put_jump(&c, BPF_JEQ, AUDIT_ARCH_I386, 1, 0);
		put_return(&c, SECCOMP_RET_KILL_PROCESS);
		put_calls(&c, set, &set->call[1]);
	} else {
		put_return(&c, SECCOMP_RET_KILL_PROCESS);
	}
	if (c.n > SECCOMP_MAX_CODE)
		rc = error_set(err, ERR_UNSUPPORTED,
			       "the seccomp profile is too long: %zu instructions, %d are allowed",
			       c.n, SECCOMP_MAX_CODE);
	else
		buf_append(out, c.v, c.n * sizeof(*c.v));
	free(part.v);
	free(c.v);
	return rc;
}
