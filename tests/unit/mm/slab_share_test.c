/* SPDX-License-Identifier: MIT */
/* slab_share_test.c - what a class takes of larger ones, and when it does not. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"
#include "mm/gate.h"

TestSuite(slab_share, .init = boot_auto, .timeout = 60);

static u32 nr_slabs(unsigned cls)
{
	u32 nr = 0;

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		nr += get_node(cpu, cls)->nr_slabs;
	return nr;
}

/* A buffer that grows passes through the classes up to a power of two, and all of it is that one's. */
Test(slab_share, classes_that_are_rarely_wanted_have_no_slabs)
{
	unsigned first = kmalloc_class(KIB(1)) + 1, last = kmalloc_class(KIB(2));

	pin_to(0);
	for (int round = 0; round < 3; round++) {
		for (unsigned cls = first; cls <= last; cls++) {
			void *p = kmalloc_slowpath(cls);

			cr_assert_eq(ksize(p), KIB(2));
			kfree(p);
		}
	}
	for (unsigned cls = first; cls < last; cls++)
		cr_assert_eq(nr_slabs(cls), 0u);
	cr_assert_geq(nr_slabs(last), 1u);
	slab_validate_all();
}

/* Between, what is there already is taken: the least that is large enough. */
Test(slab_share, the_smallest_that_fits)
{
	unsigned cls = kmalloc_class(1100), next = kmalloc_class(1400);
	void *own, *p;

	pin_to(0);
	own = kmem_cache_alloc_slowpath(next);
	for (int tries = 0; tries < 3; tries++) {		/* a pop may be restarted */
		p = kmalloc_slowpath(cls);
		if (ksize(p) == cache_of(next)->size)
			break;
		kfree(p);
	}
	cr_assert_eq(ksize(p), cache_of(next)->size);
	kfree(p);
	kfree(own);
}

/* Objects that stay do not waste what a larger class's are too large by: after few slabs they get their own. */
Test(slab_share, who_keeps_many_gets_slabs)
{
	unsigned cls = kmalloc_class(1100), share = kmalloc_class(KIB(2)), nr_own = 0;
	static void *p[1000];

	pin_to(0);
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++) {
		p[i] = kmalloc_slowpath(cls);
		nr_own += ksize(p[i]) == cache_of(cls)->size;
		if (i < 200)
			usleep(5000);				/* never many a tick */
	}
	cr_assert_leq(nr_slabs(share), 16u);
	cr_assert_geq(nr_own, ARRAY_SIZE(p) - 16 * cache_of(share)->nr_objects);
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
		kfree(p[i]);
	slab_validate_all();
}

/* Nor does one of which many come and go: the way through here is longer than the sheaf's. */
Test(slab_share, who_wants_many_gets_slabs)
{
	unsigned cls = kmalloc_class(1100);
	void *p = NULL;

	pin_to(0);
	for (unsigned i = 0; i < 100000 && (!p || ksize(p) != cache_of(cls)->size); i++) {
		p = kmalloc_slowpath(cls);
		kfree(p);
	}
	cr_assert_eq(ksize(p), cache_of(cls)->size);
}

/* malloc looks into the next classes' sheaves before it refills, memalign does not; the object goes back to its own class. */
Test(slab_share, dear_objects_are_borrowed)
{
	unsigned cls = kmalloc_class(KIB(40)), small = kmalloc_class(KIB(1)), nr_borrowed = 0, nr = cache_of(cls)->nr_objects;
	void *larger, *p, *q, *own[8];

	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip_test("a pop under a lock is not worth it");
	pin_to(0);
	cr_assert_leq(nr, ARRAY_SIZE(own));
	for (unsigned i = 0; i < nr; i++)			/* a slab of its own, without a free object */
		own[i] = kmem_cache_alloc_slowpath(cls);
	for (int i = 0; i < 100; i++) {
		larger = kmem_cache_alloc_slowpath(cls + 2);
		kfree(larger);
		p = kmalloc_slowpath(cls);
		nr_borrowed += p == larger && ksize(p) == cache_of(cls + 2)->size;
		q = kmalloc_slowpath(cls);
		cr_assert_eq(ksize(q), cache_of(cls)->size, "nothing is left to borrow");
		kfree(p);
		p = kmem_cache_alloc_slowpath(cls);
		cr_assert_eq(ksize(p), cache_of(cls)->size, "exactly of that class");
		kfree(p);
		kfree(q);
		gate_enter();
		kmem_cache_shrink_all();
		gate_leave();
	}
	for (unsigned i = 0; i < nr; i++)
		kfree(own[i]);
	cr_assert_geq(nr_borrowed, 90u, "%u: the others were restarted", nr_borrowed);
	p = kmem_cache_alloc_slowpath(small + 1);
	q = kmalloc_slowpath(small);
	cr_assert_eq(ksize(q), cache_of(small)->size, "small ones are refilled by the batch");
	kfree(p);
	kfree(q);
	slab_validate_all();
}
