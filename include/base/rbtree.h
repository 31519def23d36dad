/* SPDX-License-Identifier: MIT */
/*
 * rbtree.h - red-black tree with optional augmentation. Kernel: include/linux/rbtree_augmented.h.
 *
 * Readers without the writer's lock may walk child pointers while a writer changes the tree: they never loop
 * (every store of a child pointer is single and a node's memory stays of its type), but may miss a node; they
 * must check a sequence count afterwards.
 */
#ifndef KMM_BASE_RBTREE_H
#define KMM_BASE_RBTREE_H

#include "base/compiler.h"
#include "base/types.h"

struct rb_node {
	uintptr_t parent_colour;
	struct rb_node *left, *right;
};

struct rb_root {
	struct rb_node *node;
};

/* Recomputes node's augmented value from its children; returns true if it changed. NULL: no augmentation. */
typedef bool (*rb_augment_fn)(struct rb_node *node);

#define rb_entry(p, type, member) container_of(p, type, member)

/* For the holder of the writer's lock only. */
static inline struct rb_node *rb_parent(const struct rb_node *node)
{
	return (struct rb_node *)(node->parent_colour & ~1ul);
}

/* Link a new node at *link below parent, then rebalance. */
void rb_insert(struct rb_node *node, struct rb_node *parent, struct rb_node **link, struct rb_root *root, rb_augment_fn fn);
void rb_erase(struct rb_node *node, struct rb_root *root, rb_augment_fn fn);
/* After node's own key data changed: recompute upwards. */
void rb_propagate(struct rb_node *node, rb_augment_fn fn);
struct rb_node *rb_first(const struct rb_root *root);
struct rb_node *rb_last(const struct rb_root *root);
struct rb_node *rb_next(const struct rb_node *node);
struct rb_node *rb_prev(const struct rb_node *node);
/* Colours, black heights, parent links; returns the number of nodes, BUGs when wrong. */
u32 rb_validate(const struct rb_root *root);

#endif
