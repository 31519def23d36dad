/* SPDX-License-Identifier: MIT */
/*
 * vmap_range.c - which parts of the vmalloc region are free.
 *
 * Purpose
 *	Find the lowest free range that a block fits into, take it, give it back. Lowest first keeps the blocks
 *	together and the tree small.
 *
 * Objects
 *	A tree of free ranges by address. Each node also knows the longest range in its subtree, so that a search
 *	never enters a subtree that is too small:
 *
 *		            [40..70) max 30
 *		[ 0..10) max 10          [90..99) max 9
 *
 * Invariants
 *	Ranges are not empty, do not overlap and do not touch (touching ones are one).
 *	subtree_max_size(n) = max(end - start, that of left, that of right).
 *
 * Locks
 *	The caller's (vmap). Metadata comes from a metapool, below it in the lock order.
 *
 * Kernel counterpart and what differs
 *	mm/vmalloc.c, find_vmap_lowest_match(). For an alignment the kernel asks for size + align - 1 in one step; we
 *	first look at a bounded number of ranges that could fit exactly, because here most blocks are aligned to
 *	2 MiB and a freed one leaves just such a gap.
 */
#include "mm/vmap_range.h"

#include "base/align.h"
#include "base/bug.h"
#include "page/memblock.h"
#include <errno.h>

/* Ranges long enough but not aligned that are looked at before the search asks for more than it needs. */
#define EXACT_FIT_TRIES 32

static struct metapool range_pool = METAPOOL_INIT(struct vmap_range);

#define to_range(node) rb_entry(node, struct vmap_range, rb_node)

static inline size_t range_size(const struct vmap_range *r)
{
	return r->end - r->start;
}

static inline size_t subtree_max(const struct rb_node *node)
{
	return node != NULL ? to_range(node)->subtree_max_size : 0;
}

static __resident bool augment_range(struct rb_node *node)
{
	struct vmap_range *r = to_range(node);
	size_t largest = max(range_size(r), max(subtree_max(node->left), subtree_max(node->right)));
	bool changed = r->subtree_max_size != largest;

	r->subtree_max_size = largest;
	return changed;
}

/* The lowest range of at least size bytes below node, whose subtree has one. */
static struct vmap_range *first_fit(struct rb_node *node, size_t size)
{
	for (;;) {
		if (subtree_max(node->left) >= size)
			node = node->left;
		else if (range_size(to_range(node)) >= size)
			return to_range(node);
		else
			node = node->right;
	}
}

/* The next one above. */
static struct vmap_range *next_fit(struct vmap_range *r, size_t size)
{
	struct rb_node *node = &r->rb_node, *parent;

	if (subtree_max(node->right) >= size)
		return first_fit(node->right, size);
	for (; (parent = rb_parent(node)) != NULL; node = parent) {
		if (parent->right == node)
			continue;
		if (range_size(to_range(parent)) >= size)
			return to_range(parent);
		if (subtree_max(parent->right) >= size)
			return first_fit(parent->right, size);
	}
	return NULL;
}

static void insert_range(struct vmap_space *space, struct vmap_range *r)
{
	struct rb_node **link = &space->free.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = r->start < to_range(parent)->start ? &parent->left : &parent->right;
	}
	rb_insert(&r->rb_node, parent, link, &space->free, augment_range);
}

/* Takes [start, end) out of r. false: metadata is out, nothing taken. */
static bool carve(struct vmap_space *space, struct vmap_range *r, uintptr_t start, uintptr_t end)
{
	struct vmap_range *rest;

	if (r->start == start && r->end == end) {
		rb_erase(&r->rb_node, &space->free, augment_range);
		metapool_free(&range_pool, r);
		return true;
	}
	if (r->start < start && end < r->end) {
		rest = metapool_alloc(&range_pool);
		if (rest == NULL)
			return false;
		rest->start = end;
		rest->end = r->end;
		r->end = start;
		rb_propagate(&r->rb_node, augment_range);
		insert_range(space, rest);
		return true;
	}
	if (r->start < start)
		r->end = start;
	else
		r->start = end;
	rb_propagate(&r->rb_node, augment_range);
	return true;
}

uintptr_t __alloc_vmap_range(struct vmap_space *space, size_t size, size_t align)
{
	struct vmap_range *r;
	uintptr_t start;
	unsigned tries = EXACT_FIT_TRIES;

	if (subtree_max(space->free.node) < size)
		return 0;
	for (r = first_fit(space->free.node, size); r != NULL && tries-- != 0; r = next_fit(r, size)) {
		start = ALIGN(r->start, align);
		if (start >= r->start && start <= r->end && r->end - start >= size)
			return carve(space, r, start, start + size) ? start : 0;
	}
	if (r == NULL || size + align < size || subtree_max(space->free.node) < size + align)
		return 0;
	r = first_fit(space->free.node, size + align);
	start = ALIGN(r->start, align);
	return carve(space, r, start, start + size) ? start : 0;
}

/* The range that contains addr, or else the next above it. */
static struct vmap_range *find_range(const struct vmap_space *space, uintptr_t addr)
{
	struct rb_node *node = space->free.node;
	struct vmap_range *best = NULL;

	while (node != NULL) {
		if (addr < to_range(node)->end) {
			best = to_range(node);
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

bool __alloc_vmap_range_at(struct vmap_space *space, uintptr_t start, size_t size)
{
	struct vmap_range *r = find_range(space, start);

	if (r == NULL || r->start > start || r->end - start < size)
		return false;
	return carve(space, r, start, start + size);
}

void __forget_vmap_range(struct vmap_space *space, uintptr_t start, uintptr_t end)
{
	struct vmap_range *r;

	while ((r = find_range(space, start)) != NULL && r->start < end)
		if (!carve(space, r, max(start, r->start), min(end, r->end)))
			return;
}

void __free_vmap_range(struct vmap_space *space, uintptr_t start, size_t size)
{
	uintptr_t end = start + size;
	struct vmap_range *next = find_range(space, start), *prev;
	struct rb_node *node = next != NULL ? rb_prev(&next->rb_node) : rb_last(&space->free);

	prev = node != NULL ? to_range(node) : NULL;
	VM_BUG_ON(next != NULL && next->start < end);
	VM_BUG_ON(start < space->start || end > space->end);
	if (prev != NULL && prev->end == start) {
		if (next != NULL && next->start == end) {
			end = next->end;
			rb_erase(&next->rb_node, &space->free, augment_range);
			metapool_free(&range_pool, next);
		}
		prev->end = end;
		rb_propagate(&prev->rb_node, augment_range);
		return;
	}
	if (next != NULL && next->start == end) {
		next->start = start;
		rb_propagate(&next->rb_node, augment_range);
		return;
	}
	next = metapool_alloc(&range_pool);
	if (next == NULL)
		return;
	next->start = start;
	next->end = end;
	insert_range(space, next);
}

__init int vmap_space_init(struct vmap_space *space, uintptr_t start, uintptr_t end)
{
	struct vmap_range *r = metapool_alloc(&range_pool);

	if (r == NULL)
		return -ENOMEM;
	space->free.node = NULL;
	space->start = start;
	space->end = end;
	r->start = start;
	r->end = end;
	insert_range(space, r);
	return 0;
}

size_t vmap_space_validate(const struct vmap_space *space)
{
	struct rb_node *node;
	uintptr_t last = 0;
	size_t total = 0;

	rb_validate(&space->free);
	for (node = rb_first(&space->free); node != NULL; node = rb_next(node)) {
		const struct vmap_range *r = to_range(node);

		BUG_ON(r->start >= r->end || r->start < space->start || r->end > space->end);
		BUG_ON(last != 0 && r->start <= last);
		BUG_ON(r->subtree_max_size !=
		       max(range_size(r), max(subtree_max(node->left), subtree_max(node->right))));
		last = r->end;
		total += range_size(r);
	}
	return total;
}
