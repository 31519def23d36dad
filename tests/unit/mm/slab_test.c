/* SPDX-License-Identifier: MIT */
/* slab_test.c - objects by the batch against a shadow of all that are out; homes; what goes back. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"
#include "page/vmstat.h"

TestSuite(slab, .init = boot_auto, .timeout = 120);
TestSuite(slab_misuse, .init = boot_auto, .timeout = 30);

static unsigned class_of(size_t size)
{
	return kmalloc_class(size);
}

/* --- one class, one home ------------------------------------------------------------------------------------- */

Test(slab, objects_by_descending_address)
{
	void *p[300], *q[2];
	unsigned cls = class_of(16), nr = slab_alloc_bulk(0, cls, p, 300);
	struct page *slab = compound_head(virt_to_page(p[0]));

	cr_assert_eq(nr, 256u, "one slab at most");
	for (unsigned i = 0; i < nr; i++)
		cr_assert_eq((char *)p[i], (char *)p[255] + 16 * (255 - i));
	cr_assert_eq(slab->flags, PG_slab);
	cr_assert_eq(slab->nr_free, 0);
	cr_assert_eq(slab->bucket, SLAB_UNLISTED);
	cr_assert_eq(map_entry(virt_to_pfn(p[0])), make_map_entry(cls, 0, 0));
	slab_validate_all();
	slab_free_bulk(cls, p, nr);
	cr_assert_eq(slab->nr_free, 256);
	slab_validate_all();
	cr_assert_eq(slab_alloc_bulk(0, cls, q, 2), 2u);
	cr_assert_eq(q[1], p[255], "the lowest are taken, and the very lowest is handed out first");
	cr_assert_eq(q[0], p[254]);
}

Test(slab, bitmap_says_which_are_free)
{
	static const size_t sizes[] = { 16, 32, 48, 64, 80, 1024, 24576, KMALLOC_MAX_SIZE };

	for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
		unsigned cls = class_of(sizes[k]), nr;
		const struct kmem_cache *s = &kmalloc_caches[cls];
		struct page *slab;
		void *p[256];
		u64 *bits;

		nr = slab_alloc_bulk(0, cls, p, 256);
		cr_assert_eq(nr, s->nr_objects);
		slab = compound_head(virt_to_page(p[0]));
		bits = slab_bits(slab);
		cr_assert_eq(bits == &slab->word, s->nr_objects <= 64, "in struct page if it fits");
		for (unsigned i = 0; i < nr; i += 2)
			slab_free_bulk(cls, &p[nr - 1 - i], 1);
		for (unsigned i = 0; i < nr; i++)
			cr_assert_eq(bits[i / 64] >> (i % 64) & 1, i % 2 == 0);
		for (unsigned i = nr; i < DIV_ROUND_UP(nr, 64) * 64; i++)
			cr_assert_eq(bits[i / 64] >> (i % 64) & 1, 0u, "no object there");
		for (unsigned i = 0; i < nr; i++)
			cr_assert_eq(compound_head(virt_to_page(p[i])), slab);
		for (unsigned i = 1; i < nr; i += 2)
			slab_free_bulk(cls, &p[nr - 1 - i], 1);
		slab_validate_all();
	}
}

/* The fullest partial slab serves first, so that the others can become empty. */
Test(slab, fullest_first)
{
	unsigned cls = class_of(256), nr_obj = kmalloc_caches[cls].nr_objects;
	void *p[4][64], *q;

	for (int i = 0; i < 4; i++)
		cr_assert_eq(slab_alloc_bulk(0, cls, p[i], nr_obj), nr_obj);
	slab_free_bulk(cls, p[0], 20);
	slab_free_bulk(cls, p[1], 5);
	slab_free_bulk(cls, p[2], 60);
	slab_free_bulk(cls, p[3], 40);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(slab_alloc_bulk(0, cls, &q, 1), 1u);
		cr_assert_eq(q, p[1][4 - i]);
	}
	slab_alloc_bulk(0, cls, &q, 1);
	cr_assert_eq(q, p[0][19]);
	slab_validate_all();
}

/* Where objects are wanted again and again, the node grows by several slabs at a time; a small one by one. */
Test(slab, a_large_node_grows_by_more)
{
	unsigned cls = class_of(4096), nr_obj = kmalloc_caches[cls].nr_objects, had, got, by = 0;
	void *p[63];

	for (unsigned i = 0; i < 40; i++, by = got / nr_obj) {
		had = get_node(0, cls)->nr_slabs;
		got = slab_alloc_bulk(0, cls, p, 63);
		cr_assert_eq(got % nr_obj, 0u);
		cr_assert_geq(got / nr_obj, max(by, 1u));
		cr_assert_leq(got / nr_obj, 1 + had / 16);
	}
	cr_assert_gt(by, 3u);
	slab_validate_all();
}

static u64 free_and_pcp_pages(void)
{
	return nr_free_pages() + nr_pcp_pages();
}

static u64 managed(void)
{
	return zones[ZONE_BRK].managed_pages + zones[ZONE_NORMAL].managed_pages;
}

/* A node keeps one empty slab; shrinking takes that as well. */
Test(slab, empty_slabs_go_back)
{
	unsigned cls = class_of(1024), nr_obj = kmalloc_caches[cls].nr_objects;
	static void *p[50][16];
	struct slabinfo si;
	void *one;

	for (int i = 0; i < 50; i++)
		cr_assert_eq(slab_alloc_bulk(0, cls, p[i], nr_obj), nr_obj);
	get_slabinfo(cls, &si);
	cr_assert_eq(si.nr_slabs, 50u);
	cr_assert_eq(si.nr_objects, 50u * nr_obj);
	cr_assert_eq(si.nr_free, 0u);
	cr_assert_eq(managed() - free_and_pcp_pages(), 50u * kmalloc_caches[cls].nr_pages);
	for (int i = 0; i < 50; i++)
		slab_free_bulk(cls, p[i], nr_obj);
	get_slabinfo(cls, &si);
	cr_assert_leq(si.nr_slabs, 2u);
	cr_assert_eq(si.nr_free, si.nr_objects);
	slab_validate_all();
	node_shrink(0, cls);
	get_slabinfo(cls, &si);
	cr_assert_eq(si.nr_slabs, 0u);
	cr_assert_eq(managed(), free_and_pcp_pages());
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
	slab_validate_all();
	cr_assert_eq(slab_alloc_bulk(0, cls, &one, 1), 1u);
}

/* Where slabs hold one object, a node keeps some of those that become empty, fewer and fewer as it shrinks. */
Test(slab, empty_slabs_are_kept_in_proportion)
{
	unsigned cls = class_of(KIB(128)), nr_kept = 0;
	struct kmem_cache_node *n = get_node(0, cls);
	static void *p[80];

	for (unsigned i = 0; i < 80; i++)
		cr_assert_eq(slab_alloc_bulk(0, cls, &p[i], 1), 1u);
	for (unsigned i = 80; i--;) {
		slab_free_bulk(cls, &p[i], 1);
		cr_assert_eq(n->nr_slabs - n->nr_empty, i);
		cr_assert_leq(n->nr_empty, n->nr_slabs / 4, "%u of %u", n->nr_empty, n->nr_slabs);
		nr_kept = max(nr_kept, n->nr_empty);
		slab_validate_all();
	}
	cr_assert_eq(nr_kept, 20u, "a quarter, at first");
	cr_assert_eq(n->nr_slabs, 0u, "nothing of what is large stays without use");
}

/* What one class keeps serves another before the heap grows. */
Test(slab, empty_slabs_come_back_before_the_heap_grows)
{
	unsigned cls = class_of(KIB(128)), other = class_of(KIB(96)), nr = 0;
	struct kmem_cache_node *n = get_node(0, cls);
	static void *p[80], *q[1000];
	u64 before;

	for (unsigned i = 0; i < 80; i++)
		cr_assert_eq(slab_alloc_bulk(0, cls, &p[i], 1), 1u);
	slab_free_bulk(cls, p, 16);
	cr_assert_gt(n->nr_empty, 10u);
	before = managed();
	while (n->nr_empty) {
		cr_assert_eq(managed(), before, "%u slabs are empty", n->nr_empty);
		cr_assert_eq(slab_alloc_bulk(0, other, &q[nr++], 1), 1u);
	}
	cr_assert_gt(nr, 0u);
	slab_validate_all();
}

/* --- homes ---------------------------------------------------------------------------------------------------- */

Test(slab, objects_go_home)
{
	unsigned cls = class_of(64);
	void *p[4][64], *mixed[128];

	cr_assert_eq(percpu_online(3), 0);
	for (unsigned home = 0; home < 4; home++) {
		cr_assert_eq(slab_alloc_bulk(home, cls, p[home], 64), 64u);
		cr_assert_eq(map_entry(virt_to_pfn(p[home][0])) >> MAP_HOME_SHIFT, home);
		cr_assert_eq(get_node(home, cls)->nr_slabs, 1u);
	}
	for (unsigned i = 0; i < 128; i++)
		mixed[i] = p[i % 4][i / 4];
	slab_free_bulk(cls, mixed, 128);
	for (unsigned home = 0; home < 4; home++)
		cr_assert_eq(get_node(home, cls)->nr_free, 32u);
	slab_validate_all();
}

/* Mostly free slabs of a home that has several go to the cache domain; another home takes them from there. */
Test(slab, given_up_and_adopted)
{
	unsigned cls = class_of(64), nr_adopted = 0;
	static void *p[40][64], *q[64];
	struct kmem_cache_node *domain;

	cr_assert_eq(percpu_online(3), 0);
	for (int i = 0; i < 40; i++)
		cr_assert_eq(slab_alloc_bulk(1, cls, p[i], 64), 64u);
	for (int i = 0; i < 40; i++)
		slab_free_bulk(cls, p[i], 63);
	slab_validate_all();
	domain = get_node(HOME_DOMAIN, cls);
	cr_assert_not_null(domain);
	cr_assert_gt(domain->nr_slabs, 30u);
	cr_assert_eq(global_vm_event(VM_slab_give_up), domain->nr_slabs);
	cr_assert_eq(domain->nr_slabs + get_node(1, cls)->nr_slabs, 40u);
	cr_assert_eq(slab_alloc_bulk(2, cls, q, 64), 63u, "an adopted slab has one object out");
	cr_assert_eq(global_vm_event(VM_slab_adopt), 1u);
	cr_assert_eq(map_entry(virt_to_pfn(q[0])) >> MAP_HOME_SHIFT, 2u);
	cr_assert_eq(global_vm_event(VM_slab_alloc), 40u, "no new slab");
	slab_validate_all();
	for (int i = 0; i < 40; i++) {
		nr_adopted += compound_head(virt_to_page(p[i][63])) == compound_head(virt_to_page(q[0]));
		slab_free_bulk(cls, &p[i][63], 1);
	}
	cr_assert_eq(nr_adopted, 1u);
	slab_validate_all();
	cr_assert_eq(domain->nr_slabs, 0u, "a domain keeps nothing empty");
	slab_free_bulk(cls, q, 63);
	for (unsigned home = 0; home < 4; home++)
		node_shrink(home, cls);
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
	slab_validate_all();
}

/*
 * Where objects are freed at random, two for each that is allocated, a node keeps to its dense slabs: few of its objects are
 * free, and the slabs it gave up become emptier than all of them together are.
 */
Test(slab, a_shrinking_heap_has_dense_slabs)
{
	enum { NR = 64000 };
	static void *p[NR];
	unsigned cls = class_of(32), nr = NR;
	struct kmem_cache_node *n, *domain;
	u64 r = rng_of(6);

	cr_assert_eq(percpu_online(1), 0);
	for (unsigned i = 0; i < NR; i += 64)
		cr_assert_eq(slab_alloc_bulk(0, cls, p + i, 64), 64u);
	n = get_node(0, cls);
	for (unsigned got; nr > NR / 2;) {
		for (unsigned i = 0; i < 128; i++) {
			unsigned at = rng_below(&r, nr);

			slab_free_bulk(cls, &p[at], 1);
			p[at] = p[--nr];
		}
		cr_assert_leq(n->nr_free, (u64)n->nr_slabs * kmalloc_caches[cls].nr_objects / 14 + KIB(64) / 32);
		got = slab_alloc_bulk(0, cls, p + nr, 64);
		cr_assert_neq(got, 0u);
		nr += got;
	}
	domain = get_node(HOME_DOMAIN, cls);
	cr_assert_not_null(domain);
	cr_assert_gt(domain->nr_slabs, n->nr_slabs / 3);
	cr_assert_gt(domain->nr_free * 10, (u64)domain->nr_slabs * kmalloc_caches[cls].nr_objects * 6);
	slab_validate_all();
	slab_free_bulk(cls, p, nr);
	kmem_cache_shrink_all();
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
}

/* --- random --------------------------------------------------------------------------------------------------- */

enum { NR_OUT = 20000 };

struct out {
	void *p;
	u8 cls;
};
static struct out out[NR_OUT];
static unsigned nr_out;

static void put_tag(void *p, unsigned cls)
{
	u64 tag = (uintptr_t)p ^ cls;

	memcpy(p, &tag, 8);
	memcpy((char *)p + kmalloc_caches[cls].size - 8, &tag, 8);
}

static bool has_tag(void *p, unsigned cls)
{
	u64 tag = (uintptr_t)p ^ cls;

	return memcmp(p, &tag, 8) == 0 && memcmp((char *)p + kmalloc_caches[cls].size - 8, &tag, 8) == 0;
}

static void take_some(u64 *r)
{
	unsigned cls = rng_below(r, 4) ? 1 + rng_below(r, 40) : 1 + rng_below(r, NR_KMALLOC_CLASSES - 1);
	unsigned got, home = rng_below(r, 4);
	void *p[63];

	got = slab_alloc_bulk(home, cls, p, 1 + rng_below(r, kmalloc_caches[cls].sheaf_capacity));
	for (unsigned i = 0; i < got; i++) {
		cr_assert(IS_ALIGNED((uintptr_t)p[i], 16));
		put_tag(p[i], cls);	/* overwrites another one's if it is handed out twice */
		out[nr_out++] = (struct out){ p[i], (u8)cls };
	}
}

/* Objects of one class, from anywhere. */
static void give_some(u64 *r)
{
	unsigned cls = 0, nr = 0, want = 1 + rng_below(r, 63);
	void *p[63];

	for (unsigned at = rng_below(r, nr_out); nr < want && at < nr_out; at++) {
		struct out *o = &out[at];

		if (cls && o->cls != cls)
			continue;
		cls = o->cls;
		cr_assert(has_tag(o->p, cls));
		p[nr++] = o->p;
		*o = out[--nr_out];
	}
	slab_free_bulk(cls, p, nr);
}

static void random_run(u64 stream, bool faults)
{
	u64 r = rng_of(stream), in_slabs = 0;
	struct slabinfo si;

	cr_assert_eq(percpu_online(3), 0);
	for (unsigned n = 0; n < rounds(8000); n++) {
		bool grow = rng_below(&r, 100) < (n / 1000 % 2 ? 40 : 60);

		if (faults)
			os_fault_every = rng_below(&r, 3);
		if (nr_out == 0 || (grow && nr_out < NR_OUT - 63))
			take_some(&r);
		else
			give_some(&r);
		if (n % 100 == 0)
			slab_validate_all();
		if (n % 500 == 1)
			node_shrink(rng_below(&r, 4), 1 + rng_below(&r, NR_KMALLOC_CLASSES - 1));
	}
	os_fault_every = 0;
	for (unsigned c = 1; c < NR_KMALLOC_CLASSES; c++) {
		get_slabinfo(c, &si);
		in_slabs += si.nr_objects - si.nr_free;
		cr_assert_eq(si.nr_sheaf + si.nr_barn, 0u);
	}
	cr_assert_eq(in_slabs, nr_out);
	while (nr_out) {
		nr_out--;
		cr_assert(has_tag(out[nr_out].p, out[nr_out].cls));
		slab_free_bulk(out[nr_out].cls, &out[nr_out].p, 1);
	}
	kmem_cache_shrink_all();
	slab_validate_all();
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
	cr_assert_eq(managed(), free_and_pcp_pages());
}

Test(slab, random_1) { random_run(1, false); }
Test(slab, random_2) { random_run(2, false); }
Test(slab, random_with_faults) { random_run(3, true); }

/* --- threads: each home has its own, frees what others took --------------------------------------------------- */

static struct mutex box_lock;
static void *box[4000];
static unsigned nr_box;

static void *slab_user(void *arg)
{
	unsigned home = (unsigned)(uintptr_t)arg, cls = 4, nr;
	u64 r = rng_of(50 + home);
	void *p[63];

	for (unsigned n = 0; n < rounds(6000); n++) {
		if (rng_below(&r, 2)) {
			nr = slab_alloc_bulk(home, cls, p, 1 + rng_below(&r, 63));
			CHECK(nr);
			for (unsigned i = 0; i < nr; i++)
				stamp_claim(p[i], STAMP(1));
			mutex_lock(&box_lock, LOCK_kmmd);
			for (; nr && nr_box < 4000; nr--)
				box[nr_box++] = p[nr - 1];
			mutex_unlock(&box_lock, LOCK_kmmd);
		} else {
			nr = 0;
			mutex_lock(&box_lock, LOCK_kmmd);
			for (unsigned i = 1 + rng_below(&r, 63); i && nr_box; i--) {
				unsigned at = rng_below(&r, nr_box);

				p[nr++] = box[at];
				box[at] = box[--nr_box];
			}
			mutex_unlock(&box_lock, LOCK_kmmd);
		}
		for (unsigned i = 0; i < nr; i++)
			stamp_release(p[i], STAMP(1));
		slab_free_bulk(cls, p, nr);
		if (rng_below(&r, 200) == 0)
			node_shrink(rng_below(&r, 4), cls);
	}
	return NULL;
}

Test(slab, threads)
{
	struct slabinfo si;

	cr_assert_eq(percpu_online(3), 0);
	run_threads(4, slab_user);
	slab_validate_all();
	get_slabinfo(4, &si);
	cr_assert_eq(si.nr_objects - si.nr_free, nr_box);
	cr_assert_gt(global_vm_event(VM_slab_give_up), 0u);
	cr_assert_gt(global_vm_event(VM_slab_adopt), 0u);
	slab_free_bulk(4, box, nr_box);
	kmem_cache_shrink_all();
	slab_validate_all();
	cr_assert_eq(managed(), free_and_pcp_pages());
}

/* --- what the bitmap catches --------------------------------------------------------------------------------- */

static void **taken(size_t size, unsigned nr)
{
	static void *p[256];

	cr_assert_eq(slab_alloc_bulk(0, class_of(size), p, nr), nr);
	return p;
}

Test(slab_misuse, double_free, .signal = SIGABRT)
{
	void **p = taken(64, 3);

	slab_free_bulk(class_of(64), p, 3);
	slab_free_bulk(class_of(64), p + 1, 1);
}

Test(slab_misuse, double_free_in_one_batch, .signal = SIGABRT)
{
	void **p = taken(100, 3);

	p[2] = p[0];
	slab_free_bulk(class_of(100), p, 3);
}

Test(slab_misuse, double_free_of_the_last_object, .signal = SIGABRT)
{
	void **p = taken(16, 256);

	slab_free_bulk(class_of(16), p, 256);
	slab_free_bulk(class_of(16), p + 255, 1);
}

Test(slab_misuse, interior_pointer, .signal = SIGABRT)
{
	void **p = taken(64, 1);

	p[0] = (char *)p[0] + 16;
	slab_free_bulk(class_of(64), p, 1);
}

Test(slab_misuse, behind_the_last_object, .signal = SIGABRT)
{
	void **p = taken(48, 85);

	p[0] = (char *)p[0] + 85 * 48;
	slab_free_bulk(class_of(48), p, 1);
}

Test(slab_misuse, another_class, .signal = SIGABRT)
{
	slab_free_bulk(class_of(80), taken(64, 1), 1);
}

Test(slab_misuse, slab_that_is_gone, .signal = SIGABRT)
{
	void **p = taken(1024, 16);

	slab_free_bulk(class_of(1024), p, 16);
	node_shrink(0, class_of(1024));
	slab_free_bulk(class_of(1024), p, 1);
}

/* --- the validator -------------------------------------------------------------------------------------------- */

Test(slab_misuse, validator_finds_a_wrong_bit, .signal = SIGABRT)
{
	struct page *slab = compound_head(virt_to_page(taken(64, 10)[0]));

	slab->word ^= 1ull << 20;
	slab_validate_all();
}

Test(slab_misuse, validator_finds_a_wrong_map_entry, .signal = SIGABRT)
{
	set_map_entry(virt_to_pfn(taken(1024, 1)[0]), make_map_entry(3, 0, 0));
	slab_validate_all();
}

Test(slab_misuse, validator_finds_a_wrong_sum, .signal = SIGABRT)
{
	taken(64, 1);
	get_node(0, class_of(64))->nr_free++;
	slab_validate_all();
}
