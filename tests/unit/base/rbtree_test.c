/* SPDX-License-Identifier: MIT */
/* Red-black tree: order, shape and augmentation under seeded random changes; readers without the lock. */
#include "base/rbtree.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>

#define NR_ITEMS 2000u

struct item {
	struct rb_node node;
	u32 key;
	u32 weight, subtree_max;
	bool in_tree;
};

static struct item items[NR_ITEMS];
static struct rb_root root;

#define to_item(n) rb_entry(n, struct item, node)

static u32 random_u32(u64 *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (u32)(*seed >> 33);
}

static u32 max_of(const struct rb_node *n)
{
	return n != NULL ? to_item(n)->subtree_max : 0;
}

static u32 recomputed(struct rb_node *n)
{
	return max(to_item(n)->weight, max(max_of(n->left), max_of(n->right)));
}

static bool augment_item(struct rb_node *n)
{
	u32 new = recomputed(n);
	bool changed = new != to_item(n)->subtree_max;

	to_item(n)->subtree_max = new;
	return changed;
}

static void insert(struct item *it, rb_augment_fn fn)
{
	struct rb_node **link = &root.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = it->key < to_item(parent)->key ? &parent->left : &parent->right;
	}
	rb_insert(&it->node, parent, link, &root, fn);
	it->in_tree = true;
}

static void check(u32 expected, bool augmented)
{
	struct rb_node *n, *prev = NULL;
	u32 nr = 0;

	cr_assert_eq(rb_validate(&root), expected);
	for (n = rb_first(&root); n != NULL; prev = n, n = rb_next(n), nr++) {
		cr_assert(to_item(n)->in_tree);
		cr_assert_eq(rb_prev(n), prev);
		if (prev != NULL)
			cr_assert_lt(to_item(prev)->key, to_item(n)->key);
		if (augmented)
			cr_assert_eq(to_item(n)->subtree_max, recomputed(n), "wrong below key %u", to_item(n)->key);
	}
	cr_assert_eq(nr, expected);
	cr_assert_eq(rb_last(&root), prev);
}

static void random_changes(rb_augment_fn fn, u64 seed)
{
	u32 in_tree = 0;

	for (u32 i = 0; i < NR_ITEMS; i++)
		items[i].key = i;
	for (u32 step = 0; step < 40000; step++) {
		struct item *it = &items[random_u32(&seed) % NR_ITEMS];

		if (!it->in_tree) {
			it->weight = random_u32(&seed) % 100000;
			insert(it, fn);
			in_tree++;
		} else if (fn != NULL && random_u32(&seed) % 3 == 0) {
			it->weight = random_u32(&seed) % 100000;
			rb_propagate(&it->node, fn);
		} else {
			rb_erase(&it->node, &root, fn);
			it->in_tree = false;
			in_tree--;
		}
		if (step % 997 == 0)
			check(in_tree, fn != NULL);
	}
	check(in_tree, fn != NULL);
	for (u32 i = 0; i < NR_ITEMS; i++) {
		if (!items[i].in_tree)
			continue;
		rb_erase(&items[i].node, &root, fn);
		items[i].in_tree = false;
		if (--in_tree % 101 == 0)
			check(in_tree, fn != NULL);
	}
	cr_assert_null(root.node);
}

Test(rbtree, empty)
{
	cr_assert_eq(rb_validate(&root), 0);
	cr_assert_null(rb_first(&root));
	cr_assert_null(rb_last(&root));
}

Test(rbtree, random_plain)
{
	random_changes(NULL, 1);
	random_changes(NULL, 2);
}

Test(rbtree, random_augmented)
{
	random_changes(augment_item, 3);
	random_changes(augment_item, 4);
}

Test(rbtree, ascending_stays_shallow)
{
	struct rb_node *n;
	u32 depth = 0;

	for (u32 i = 0; i < NR_ITEMS; i++) {
		items[i].key = i;
		insert(&items[i], NULL);
	}
	check(NR_ITEMS, false);
	for (n = root.node; n != NULL; n = n->right)
		depth++;
	cr_assert_leq(depth, 22, "2 log2(n + 1) is 21.9, depth %u", depth);
}

/* A reader may miss nodes but must come to an end, however the tree turns under it. */
static bool stop;

static void *walk(void *arg)
{
	u64 seed = (u64)(uintptr_t)arg, longest = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		u32 key = random_u32(&seed) % NR_ITEMS, steps = 0;
		struct rb_node *n = smp_load_acquire(&root.node);

		while (n != NULL && steps < 10000) {
			n = key < to_item(n)->key ? smp_load_acquire(&n->left) : smp_load_acquire(&n->right);
			steps++;
		}
		longest = steps > longest ? steps : longest;
	}
	return (void *)(uintptr_t)longest;
}

Test(rbtree, readers_do_not_loop)
{
	pthread_t reader;
	void *longest;

	for (u32 i = 0; i < NR_ITEMS; i++)
		items[i].key = i;
	pthread_create(&reader, NULL, walk, (void *)7);
	for (u32 round = 0; round < 20; round++)
		random_changes(NULL, round);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(reader, &longest);
	cr_assert_leq((uintptr_t)longest, 1000u, "a walk took %zu steps", (size_t)longest);
}
