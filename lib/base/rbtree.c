/* SPDX-License-Identifier: MIT */
/*
 * rbtree.c - red-black tree with optional augmentation.
 *
 * Purpose
 *	An ordered set of nodes that live inside other structures. Insert, erase, next and prev in O(log n), no
 *	allocation, no recursion. The caller compares keys himself, so this file never sees one.
 *
 * Objects
 *	rb_node.parent_colour = address of the parent | 1 if black. The root has no parent. A missing child is
 *	NULL and counts as black.
 *
 * Invariants
 *	I1 the root is black;  I2 a red node has black children only;
 *	I3 every way from a node down to a NULL passes the same number of black nodes.
 *	So no way is longer than twice the shortest, and the depth is at most 2 log2(n + 1).
 *	With augmentation: fn(node) would change nothing, for every node, whenever no call is under way.
 *
 * Locks
 *	The caller's. A reader without the lock may follow left and right (never parent_colour). Every change
 *	first takes a subtree off the place where it was and then links it at the new one, and each store of a
 *	child is a release. A reader that came by the new link therefore sees the old one gone: it may miss
 *	nodes, it cannot go round in circles. He must check a sequence count before he believes what he found.
 *
 * Kernel counterpart and what differs
 *	lib/rbtree.c. There, augmentation is three call-backs that a macro generates for inlining; here it is one
 *	function that recomputes a node from its children, because our trees change on slow paths only.
 */
#include "base/rbtree.h"

#include "base/bug.h"

#define RB_BLACK 1ul

static inline bool is_black(const struct rb_node *node)
{
	return node == NULL || (node->parent_colour & RB_BLACK) != 0;
}

static inline bool is_red(const struct rb_node *node)
{
	return !is_black(node);
}

static inline void set_parent(struct rb_node *node, struct rb_node *parent)
{
	node->parent_colour = (uintptr_t)parent | (node->parent_colour & RB_BLACK);
}

static inline void set_black(struct rb_node *node)
{
	node->parent_colour |= RB_BLACK;
}

static inline void set_red(struct rb_node *node)
{
	node->parent_colour &= ~RB_BLACK;
}

static inline void copy_colour(struct rb_node *to, const struct rb_node *from)
{
	to->parent_colour = (to->parent_colour & ~RB_BLACK) | (from->parent_colour & RB_BLACK);
}

/* Pairs with the address dependency of readers that walk without the lock. */
static inline void set_child(struct rb_node **link, struct rb_node *child)
{
	smp_store_release(link, child);
}

/* The place that points to node: a child field of its parent, or the root. */
static inline struct rb_node **link_of(struct rb_root *root, const struct rb_node *node)
{
	struct rb_node *parent = rb_parent(node);

	if (parent == NULL)
		return &root->node;
	return parent->left == node ? &parent->left : &parent->right;
}

static inline void augment(struct rb_node *node, rb_augment_fn fn)
{
	if (fn != NULL)
		fn(node);
}

/*
 * Rotations lift the right (left) child of node to node's place. The subtree as a whole holds the same nodes
 * before and after, so nothing above needs a new augmented value.
 */
static __resident void rotate_left(struct rb_root *root, struct rb_node *node, rb_augment_fn fn)
{
	struct rb_node **link = link_of(root, node), *up = node->right, *inner = up->left;

	set_child(&node->right, inner);
	if (inner != NULL)
		set_parent(inner, node);
	set_parent(up, rb_parent(node));
	set_child(&up->left, node);
	set_child(link, up);
	set_parent(node, up);
	augment(node, fn);
	augment(up, fn);
}

static __resident void rotate_right(struct rb_root *root, struct rb_node *node, rb_augment_fn fn)
{
	struct rb_node **link = link_of(root, node), *up = node->left, *inner = up->right;

	set_child(&node->left, inner);
	if (inner != NULL)
		set_parent(inner, node);
	set_parent(up, rb_parent(node));
	set_child(&up->right, node);
	set_child(link, up);
	set_parent(node, up);
	augment(node, fn);
	augment(up, fn);
}

void rb_propagate(struct rb_node *node, rb_augment_fn fn)
{
	while (node != NULL && fn(node))
		node = rb_parent(node);
}

/* node is red and so may be its parent, the only breach of I2. */
static void insert_fixup(struct rb_node *node, struct rb_root *root, rb_augment_fn fn)
{
	struct rb_node *parent, *grand, *uncle;

	while ((parent = rb_parent(node)) != NULL && is_red(parent)) {
		grand = rb_parent(parent);	/* a red node is never the root */
		uncle = grand->left == parent ? grand->right : grand->left;
		if (is_red(uncle)) {
			set_black(parent);
			set_black(uncle);
			set_red(grand);
			node = grand;
			continue;
		}
		if (parent == grand->left) {
			if (node == parent->right) {
				rotate_left(root, parent, fn);
				parent = node;
			}
			set_black(parent);
			set_red(grand);
			rotate_right(root, grand, fn);
		} else {
			if (node == parent->left) {
				rotate_right(root, parent, fn);
				parent = node;
			}
			set_black(parent);
			set_red(grand);
			rotate_left(root, grand, fn);
		}
		break;
	}
	set_black(root->node);
}

__resident void rb_insert(struct rb_node *node, struct rb_node *parent, struct rb_node **link, struct rb_root *root,
	       rb_augment_fn fn)
{
	node->left = NULL;
	node->right = NULL;
	node->parent_colour = (uintptr_t)parent;
	set_child(link, node);
	if (fn != NULL) {
		fn(node);
		rb_propagate(parent, fn);
	}
	insert_fixup(node, root, fn);
}

/*
 * The way through node (possibly NULL, below parent) is one black node short. Either a red node nearby can pay
 * for it, or the sibling's side gives one up as well and the debt moves to the parent.
 */
static void erase_fixup(struct rb_node *node, struct rb_node *parent, struct rb_root *root, rb_augment_fn fn)
{
	struct rb_node *sib;

	while (parent != NULL && is_black(node)) {
		bool left = parent->left == node;

		sib = left ? parent->right : parent->left;
		if (is_red(sib)) {
			set_black(sib);
			set_red(parent);
			if (left)
				rotate_left(root, parent, fn);
			else
				rotate_right(root, parent, fn);
			sib = left ? parent->right : parent->left;
		}
		if (is_black(sib->left) && is_black(sib->right)) {
			set_red(sib);
			node = parent;
			parent = rb_parent(node);
			continue;
		}
		if (left && is_black(sib->right)) {
			set_black(sib->left);
			set_red(sib);
			rotate_right(root, sib, fn);
			sib = parent->right;
		} else if (!left && is_black(sib->left)) {
			set_black(sib->right);
			set_red(sib);
			rotate_left(root, sib, fn);
			sib = parent->left;
		}
		copy_colour(sib, parent);
		set_black(parent);
		set_black(left ? sib->right : sib->left);
		if (left)
			rotate_left(root, parent, fn);
		else
			rotate_right(root, parent, fn);
		return;
	}
	if (node != NULL)
		set_black(node);
}

/* Puts next, the leftmost node of node's right subtree, into the place and colour of node. */
static void replace_by_next(struct rb_node *node, struct rb_node *next, struct rb_root *root)
{
	struct rb_node **link = link_of(root, node);

	if (next != node->right) {
		set_child(&rb_parent(next)->left, next->right);
		if (next->right != NULL)
			set_parent(next->right, rb_parent(next));
		set_child(&next->right, node->right);
		set_parent(node->right, next);
	}
	set_child(&next->left, node->left);
	set_parent(node->left, next);
	next->parent_colour = node->parent_colour;
	set_child(link, next);
}

void rb_erase(struct rb_node *node, struct rb_root *root, rb_augment_fn fn)
{
	struct rb_node *child, *parent, *up;
	bool lost_black;

	if (node->left != NULL && node->right != NULL) {
		struct rb_node *next = node->right;

		while (next->left != NULL)
			next = next->left;
		child = next->right;
		parent = next == node->right ? next : rb_parent(next);
		lost_black = is_black(next);
		replace_by_next(node, next, root);
	} else {
		child = node->left != NULL ? node->left : node->right;
		parent = rb_parent(node);
		lost_black = is_black(node);
		set_child(link_of(root, node), child);
		if (child != NULL)
			set_parent(child, parent);
	}
	if (fn != NULL)
		for (up = parent; up != NULL; up = rb_parent(up))
			fn(up);
	if (lost_black)
		erase_fixup(child, parent, root, fn);
}

struct rb_node *rb_first(const struct rb_root *root)
{
	struct rb_node *node = root->node;

	while (node != NULL && node->left != NULL)
		node = node->left;
	return node;
}

struct rb_node *rb_last(const struct rb_root *root)
{
	struct rb_node *node = root->node;

	while (node != NULL && node->right != NULL)
		node = node->right;
	return node;
}

struct rb_node *rb_next(const struct rb_node *node)
{
	struct rb_node *parent;

	if (node->right != NULL) {
		for (node = node->right; node->left != NULL;)
			node = node->left;
		return (struct rb_node *)node;
	}
	while ((parent = rb_parent(node)) != NULL && parent->right == node)
		node = parent;
	return parent;
}

struct rb_node *rb_prev(const struct rb_node *node)
{
	struct rb_node *parent;

	if (node->left != NULL) {
		for (node = node->left; node->right != NULL;)
			node = node->right;
		return (struct rb_node *)node;
	}
	while ((parent = rb_parent(node)) != NULL && parent->left == node)
		node = parent;
	return parent;
}

static u32 black_nodes_above(const struct rb_node *node)
{
	u32 n = 0;

	for (; node != NULL; node = rb_parent(node))
		n += is_black(node);
	return n;
}

__cold u32 rb_validate(const struct rb_root *root)
{
	const struct rb_node *node;
	u32 nr = 0, black_height = 0;

	if (root->node != NULL)
		BUG_ON(rb_parent(root->node) != NULL || is_red(root->node));
	for (node = rb_first(root); node != NULL; node = rb_next(node)) {
		nr++;
		BUG_ON(node->left != NULL && rb_parent(node->left) != node);
		BUG_ON(node->right != NULL && rb_parent(node->right) != node);
		BUG_ON(is_red(node) && (is_red(node->left) || is_red(node->right)));
		if (node->left == NULL || node->right == NULL) {
			u32 n = black_nodes_above(node);

			BUG_ON(black_height != 0 && n != black_height);
			black_height = n;
		}
	}
	return nr;
}
