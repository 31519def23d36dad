/* SPDX-License-Identifier: MIT */
/* slab_reclaim_test.c - what nobody uses goes home out of slots, barns and slabs, what somebody uses stays. */
#include "../../../lib/mm/internal.h"

#include "../lock_holds.h"
#include "mm/gate.h"
#include "page/vmstat.h"

TestSuite(slab_reclaim, .init = boot_auto, .timeout = 120);
TestSuite(slab_reclaim_lock, .init = boot_lock, .timeout = 120);

enum { MAX_OBJECTS = 200000 };
static void *object[MAX_OBJECTS];

/* Objects straight from slabs, each filled with its number. */
static unsigned take(unsigned cls, unsigned nr)
{
	unsigned got = 0;

	while (got < nr) {
		unsigned n = slab_alloc_bulk(0, cls, &object[got], min(nr - got, 60u));

		cr_assert_neq(n, 0u);
		for (; n; n--, got++)
			memset(object[got], (int)got, kmalloc_caches[cls].size);
	}
	return got;
}

static void give(unsigned cls, unsigned i)
{
	slab_free_bulk(cls, &object[i], 1);
	object[i] = NULL;
}

static void check_contents(unsigned cls, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		for (unsigned k = 0; object[i] && k < kmalloc_caches[cls].size; k += 8)
			cr_assert_eq(((unsigned char *)object[i])[k], (unsigned char)i);
}

static size_t all_pages(void)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	while (shrink_slabs(&sc))
		;
	return sc.nr_reclaimed;
}

/* Bytes of a class's slabs that are resident, and that would have to be, found the slow way. */
struct residency {
	unsigned cls;
	size_t resident, needed;
};

static void add_residency(struct page *slab, void *arg)
{
	struct residency *r = arg;
	const struct kmem_cache *s = &kmalloc_caches[slab->cls];
	char *base = page_address(slab);

	if (slab->cls != r->cls)
		return;
	for (u32 page = 0; page < s->nr_pages; page++) {
		bool live = false;

		for (u32 off = page << PAGE_SHIFT; off < (page + 1) << PAGE_SHIFT; off++) {
			unsigned i = off / s->size;

			live |= i < slab->nr_objects && !(slab_bits(slab)[i / 64] >> (i % 64) & 1);
		}
		r->needed += live ? PAGE_SIZE : 0;
		r->resident += (size_t)vm_resident(base + (page << PAGE_SHIFT), PAGE_SIZE);
	}
}

static struct residency residency_of(unsigned cls)
{
	struct residency r = { .cls = cls };

	for_each_slab(add_residency, &r);
	return r;
}

/* --- pages of slabs ------------------------------------------------------------------------------------------- */

Test(slab_reclaim, pages_without_a_live_object_go)
{
	static const size_t sizes[] = { 128, 144, 480, 512, 1024, 3072, 5000, 24576, 65536 };

	if (os_page_size != PAGE_SIZE)
		cr_skip_test("pages are larger");
	for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
		unsigned cls = kmalloc_class(sizes[k]), nr = min((unsigned)(MIB(8) / sizes[k]), 20000u);
		u64 r = rng_of(k), before;
		struct residency is;
		size_t bytes;

		take(cls, nr);
		for (unsigned i = 0; i < nr; i++)
			if (rng_below(&r, 10))
				give(cls, i);
		kmem_cache_shrink_all();	/* empty slabs are pages, which are not the matter here */
		is = residency_of(cls);
		before = is.resident;
		bytes = all_pages();
		is = residency_of(cls);
		cr_assert_eq(is.resident, is.needed, "%zu: %zu of %zu", sizes[k], is.resident, is.needed);
		cr_assert_geq(bytes, before - is.resident, "%zu", sizes[k]);	/* or never touched */
		cr_assert_eq(bytes > 0, kmalloc_caches[cls].nr_objects > 1, "%zu", sizes[k]);
		check_contents(cls, nr);
		slab_validate_all();
		cr_assert_eq(all_pages(), 0u, "nothing twice");
		for (unsigned i = 0; i < nr; i++)
			if (object[i])
				give(cls, i);
		all_pages();
		cr_assert_eq(nr_shrunk_pages(), 0u, "they belong to no slab in use any more");
	}
	cr_assert_gt(global_vm_event(VM_slab_shrink), 0u);
}

/* What is taken again is backed again, and goes again. Only what was taken from is looked at anew. */
Test(slab_reclaim, shrunk_slabs_are_used_again)
{
	unsigned cls = kmalloc_class(512), nr = 4000, nr_new;
	u64 shrunk, r = rng_of(7);
	static void *more[4000];

	take(cls, nr);
	for (unsigned i = 0; i < nr; i++)
		if (rng_below(&r, 10))
			give(cls, i);
	all_pages();
	shrunk = nr_shrunk_pages();
	cr_assert_gt(shrunk, 100u);
	for (nr_new = 0; nr_new < 2000;)
		nr_new += slab_alloc_bulk(0, cls, &more[nr_new], 50);
	cr_assert_lt(nr_shrunk_pages(), shrunk);
	cr_assert_gt(global_vm_event(VM_slab_unshrink), 0u);
	for (unsigned i = 0; i < nr_new; i++)
		memset(more[i], 0xee, 512);
	check_contents(cls, nr);
	slab_free_bulk(cls, more, nr_new);
	slab_validate_all();
	all_pages();
	cr_assert_eq(nr_shrunk_pages(), shrunk);
	check_contents(cls, nr);
}

/* Objects freed later leave more pages; those that went before are not counted again. */
Test(slab_reclaim, more_pages_of_a_shrunk_slab)
{
	unsigned cls = kmalloc_class(1024), nr = 16;

	if (os_page_size != PAGE_SIZE || kmalloc_caches[cls].nr_pages != 4)
		cr_skip_test("other slabs than the test is made for");
	take(cls, nr);		/* one slab of 16, by descending address */
	for (unsigned i = 0; i < 4; i++)
		give(cls, i);
	cr_assert_eq(all_pages(), PAGE_SIZE);
	for (unsigned i = 4; i < 7; i++)
		give(cls, i);
	cr_assert_eq(all_pages(), 0u, "an object is left in that page");
	give(cls, 7);
	cr_assert_eq(all_pages(), PAGE_SIZE);
	cr_assert_eq(nr_shrunk_pages(), 2u);
	check_contents(cls, nr);
	for (unsigned i = 8; i < 16; i++)
		give(cls, i);
	cr_assert_eq(nr_shrunk_pages(), 2u, "an empty slab is kept");
	all_pages();
	cr_assert_eq(nr_shrunk_pages(), 0u);
	slab_validate_all();
}

Test(slab_reclaim, locked_memory)
{
	unsigned cls = kmalloc_class(512), nr = 640;
	struct scan_control sc = SCAN_ALL(0);

	take(cls, nr);
	for (unsigned i = 0; i < nr; i++)
		if (mlock(object[i], 512) != 0)
			cr_skip_test("not allowed to lock memory");
	for (unsigned i = 0; i < nr; i++)
		if (i % 32)
			give(cls, i);
	while (shrink_slabs(&sc))
		;
	cr_assert(sc.failed);
	cr_assert_eq(nr_shrunk_pages(), 0u);
	check_contents(cls, nr);
	slab_validate_all();
}

/* --- by age ----------------------------------------------------------------------------------------------------- */

static u32 pass(struct scan_control *sc)
{
	bool more;

	kswapd_begin(sc);
	do {
		gate_enter();
		more = shrink_slice(sc);
		gate_leave();
	} while (more);
	return kswapd_end(sc);
}

static void sleep_ms(u64 ms)
{
	for (u64 start = os_clock_ms(); os_clock_ms() < start + ms;)
		os_yield();
}

static u32 passes_for(u64 ms)
{
	struct scan_control sc;
	u32 next = 0;

	for (u64 start = os_clock_ms(); os_clock_ms() < start + ms;) {
		next = pass(&sc);
		sleep_ms(20);
	}
	return next;
}

static void quiet_slabs_go(void)
{
	unsigned cls = kmalloc_class(512), nr = 4000;
	u64 r = rng_of(3);

	kmm_params.decay_ms = 400;	/* a quarter of it for slabs that are mostly free */
	kswapd_running = true;
	take(cls, nr);
	for (unsigned i = 0; i < nr; i++)
		if (rng_below(&r, 10))
			give(cls, i);
	passes_for(60);
	cr_assert_eq(nr_shrunk_pages(), 0u, "too young");
	passes_for(250);
	cr_assert_gt(nr_shrunk_pages(), 100u);
	check_contents(cls, nr);
	slab_validate_all();
	cr_assert_eq(passes_for(2500), NEVER_MS, "nothing is left to wait for");
	slab_validate_all();
	check_contents(cls, nr);
}

Test(slab_reclaim, quiet_slabs_go) { quiet_slabs_go(); }
Test(slab_reclaim_lock, quiet_slabs_go) { quiet_slabs_go(); }

/* What is taken next comes from the fullest slab, so an emptier one need not be quiet for so long. */
Test(slab_reclaim, emptier_slabs_go_sooner)
{
	unsigned cls = kmalloc_class(4096), nr = 400;

	kmm_params.decay_ms = 1000;
	kswapd_running = true;
	take(cls, nr);
	cr_assert_eq(kmalloc_caches[cls].nr_objects, 4u);
	for (unsigned i = 0; i < nr; i += 4)
		give(cls, i);
	passes_for(700);
	cr_assert_eq(nr_shrunk_pages(), 0u, "a quarter is free");
	for (unsigned i = 0; i < nr; i += 4)
		give(cls, i + 1);
	passes_for(100);
	cr_assert_gt(nr_shrunk_pages(), 0u, "a half: since 700 ms nothing has been taken");
	check_contents(cls, nr);
	slab_validate_all();
}

/* A heap that takes several passes to walk through, and comes to rest all the same. */
Test(slab_reclaim, a_walk_comes_to_an_end)
{
	unsigned cls = kmalloc_class(512), nr = MAX_OBJECTS;
	struct residency is;
	u64 r = rng_of(4);

	kmm_params.decay_ms = 100;
	kswapd_running = true;
	take(cls, nr);
	cr_assert_gt(nr / kmalloc_caches[cls].nr_objects, 5000u);
	for (unsigned i = 0; i < nr; i++)
		if (rng_below(&r, 10))
			give(cls, i);
	for (unsigned i = 0; i < 30 && passes_for(200) != NEVER_MS; i++)
		;
	is = residency_of(cls);
	cr_assert_eq(passes_for(50), NEVER_MS);
	if (os_page_size == PAGE_SIZE)
		cr_assert_eq(is.resident, is.needed);
	check_contents(cls, nr);
	slab_validate_all();
}

#if KMM_DEBUG >= 1
/* What one heap full of everything costs whoever gives it back: the longest that an allocation had to wait for a lock. */
static u64 longest_hold_of_a_round(u64 *r)
{
	enum { NR = 60000, AREAS = 20 };
	static void *p[NR], *area[AREAS];

	for (unsigned i = 0; i < NR; i++)
		p[i] = kmalloc(16u << rng_below(r, 9));
	for (unsigned i = 0; i < AREAS; i++) {
		area[i] = kmalloc_large(MIB(5), PAGE_SIZE, NULL);
		cr_assert_not_null(area[i]);
		memset(area[i], 1, MIB(5));
	}
	for (unsigned i = 0; i < NR; i++)
		if (rng_below(r, 10))
			kfree(p[i]);
	for (unsigned i = 0; i < AREAS; i++)
		kfree(area[i]);
	lock_holds_begin();
	for (unsigned i = 0; i < 30 && passes_for(100) != NEVER_MS; i++)
		;
	return lock_holds_end();
}

/* Background reclaim never holds a lock that an allocation waits for longer than 50 us. Interrupts count: best of some. */
static void locks_are_held_shortly(void)
{
	u64 r = rng_of(6), longest = UINT64_MAX, reclaimed = global_vm_event(VM_pgsteal_kswapd);

	kmm_params.decay_ms = 20;
	kswapd_running = true;
	for (unsigned i = 0; i < 5 && longest > HELD_MAX_NS; i++)
		longest = min(longest, longest_hold_of_a_round(&r));
	cr_assert_geq(global_vm_event(VM_pgsteal_kswapd) - reclaimed, MIB(100) >> PAGE_SHIFT);
	cr_assert_gt(longest, 0u, "measured");
	cr_assert_leq(longest, HELD_MAX_NS, "%llu ns", (unsigned long long)longest);
}

Test(slab_reclaim, locks_are_held_shortly) { locks_are_held_shortly(); }
Test(slab_reclaim_lock, locks_are_held_shortly) { locks_are_held_shortly(); }
#endif

static u64 in_sheaves(unsigned cls)
{
	struct slabinfo si;

	get_slabinfo(cls, &si);
	return si.nr_sheaf + si.nr_barn;
}

/* Sheaves of a class that is not used any more go; those of one in use stay. */
static void quiet_slots_go(void)
{
	unsigned idle = kmalloc_class(100), used = kmalloc_class(200);
	static void *p[3000], *q[100];

	kmm_params.decay_ms = 300;
	kswapd_running = true;
	for (unsigned i = 0; i < 3000; i++)
		p[i] = kmalloc(100);
	for (unsigned i = 0; i < 3000; i++)
		kfree(p[i]);
	cr_assert_gt(in_sheaves(idle), 30u);
	for (unsigned n = 0; n < 40; n++) {
		struct scan_control sc;

		for (unsigned i = 0; i <= n % 30; i++)
			q[i] = kmalloc(200);
		for (unsigned i = 0; i < n % 30; i++)
			kfree(q[i]);
		pass(&sc);
		sleep_ms(15);
	}
	cr_assert_eq(in_sheaves(idle), 0u);
	cr_assert_gt(in_sheaves(used), 0u);
	slab_validate_all();
	passes_for(700);
	cr_assert_eq(in_sheaves(used), 0u);
	cr_assert_leq(global_vm_event(VM_membarrier), 20u);
	slab_validate_all();
}

Test(slab_reclaim, quiet_slots_go) { quiet_slots_go(); }
Test(slab_reclaim_lock, quiet_slots_go) { quiet_slots_go(); }

static u64 in_large_sheaves(void)
{
	u64 bytes = 0;

	for (unsigned cls = kmalloc_class(KIB(16)); cls < NR_KMALLOC_CLASSES; cls++)
		bytes += in_sheaves(cls) * kmalloc_caches[cls].size;
	return bytes;
}

/* What a buffer that grew has left in sheaves goes before a heap grows, and small objects stay. */
static void growth_takes_large_blocks_back(void)
{
	unsigned small = kmalloc_class(100), nr;

	kmm_params.decay_ms = 1600;
	for (unsigned cls = kmalloc_class(KIB(16)); cls < NR_KMALLOC_CLASSES; cls++)
		object[cls] = kmalloc(kmalloc_caches[cls].size);
	while (global_vm_event(VM_shrink_growth) < 3)		/* which takes everything back: the next one is far off */
		cr_assert_not_null(kmalloc(1000));
	for (unsigned cls = kmalloc_class(KIB(16)); cls < NR_KMALLOC_CLASSES; cls++)
		kfree(object[cls]);
	for (unsigned i = 0; i < 300; i++)
		object[i] = kmalloc(100);
	for (unsigned i = 0; i < 300; i++)
		kfree(object[i]);
	nr = (unsigned)in_sheaves(small);
	cr_assert_gt(in_large_sheaves(), MIB(2));
	sleep_ms(150);		/* longer than large blocks are left alone */
	while (in_large_sheaves() >= KIB(256) && global_vm_event(VM_shrink_growth) == 3)
		cr_assert_not_null(kmalloc(1000));
	cr_assert_eq(global_vm_event(VM_shrink_growth), 3u);
	cr_assert_eq(in_sheaves(small), nr);
	slab_validate_all();
}

Test(slab_reclaim, growth_takes_large_blocks_back) { growth_takes_large_blocks_back(); }
Test(slab_reclaim_lock, growth_takes_large_blocks_back) { growth_takes_large_blocks_back(); }

/* A CPU that runs nothing any more leaves its slabs to the cache domain. */
Test(slab_reclaim, deserted_cpus_give_up_their_slabs)
{
	unsigned cls = kmalloc_class(512), nr = 4000;
	struct kmem_cache_node *n = get_node(0, cls);
	void *p[40];

	kmm_params.decay_ms = 100;
	kswapd_running = true;
	take(cls, nr);
	for (unsigned i = 0; i < nr; i++)
		if (i % 8)
			give(cls, i);
	cr_assert_gt(n->nr_partial, 0u);
	passes_for(600);
	cr_assert_eq(n->nr_partial, 0u);
	check_contents(cls, nr);
	slab_validate_all();
	cr_assert_neq(slab_alloc_bulk(0, cls, p, 40), 0u);
	cr_assert_gt(global_vm_event(VM_slab_adopt), 0u, "and finds them again");
	slab_validate_all();
}

/* --- against threads that allocate and free ------------------------------------------------------------------------ */

static bool stop;

static void *user(void *arg)
{
	static const size_t sizes[] = { 32, 128, 500, 512, 900, 5000, 30000 };
	static void *all[MAX_THREADS][2000];
	void **mine = all[(uintptr_t)arg];
	size_t size[2000];
	u64 r = rng_of(100 + (uintptr_t)arg);

	for (unsigned n = 0; n < rounds(60000); n++) {
		unsigned i = rng_below(&r, 2000);

		if (mine[i]) {
			CHECK(((u64 *)mine[i])[size[i] / 8 - 1] == i);
			stamp_release(mine[i], STAMP(arg));
			((u64 *)mine[i])[size[i] / 8 - 1] = 0;
			kfree(mine[i]);
			mine[i] = NULL;
		} else if (n / 5000 % 2 || rng_below(&r, 10) == 0) {
			size[i] = sizes[rng_below(&r, ARRAY_SIZE(sizes))];
			mine[i] = kmalloc(size[i]);
			((u64 *)mine[i])[size[i] / 8 - 1] = i;
			stamp_claim(mine[i], STAMP(arg));
		}
		if (n % 5000 == 0)
			usleep(30000);
		if (n % 1000 == 0)
			pin_to(rng_below(&r, 64));
	}
	for (unsigned i = 0; i < 2000; i++) {
		if (!mine[i])
			continue;
		stamp_release(mine[i], STAMP(arg));
		kfree(mine[i]);
	}
	return NULL;
}

static void *reclaimer(void *arg)
{
	struct scan_control sc;

	while (!READ_ONCE(stop)) {
		pass(&sc);
		usleep(200);
	}
	return arg;
}

static void against_threads(void)
{
	pthread_t thread;

	kmm_params.decay_ms = 1;
	kswapd_running = true;
	cr_assert_eq(pthread_create(&thread, NULL, reclaimer, NULL), 0);
	run_threads(4, user);
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);
	cr_assert_gt(global_vm_event(VM_slab_shrink), 0u);
	cr_assert_gt(global_vm_event(VM_cpu_drain), 0u);
	slab_validate_all();
	passes_for(300);
	slab_validate_all();
	cr_assert_eq(nr_shrunk_pages(), 0u);
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++)
		cr_assert_eq(in_sheaves(cls), 0u);
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
}

Test(slab_reclaim, against_threads) { against_threads(); }
Test(slab_reclaim_lock, against_threads) { against_threads(); }
