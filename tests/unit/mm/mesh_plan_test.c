/* SPDX-License-Identifier: MIT */
/* mesh_plan_test.c - plans are right (nobody's objects overlap) and good (few bins). */
#include "../../../lib/mm/mesh.h"

#include "../boot.h"

TestSuite(mesh_plan, .init = boot_auto, .timeout = 60);

static struct occupancy random_occupancy(u64 *r, unsigned nr_objects, unsigned percent)
{
	unsigned first = rng_below(r, nr_objects);
	struct occupancy o = { 0 };

	o.word[first / 64] |= 1ull << (first % 64);
	for (unsigned i = 0; i < nr_objects; i++)
		if (rng_below(r, 100) < percent)
			o.word[i / 64] |= 1ull << (i % 64);
	return o;
}

/* Every candidate is in one bin, bins hold what they say. Returns how many bins are used. */
static unsigned check_bins(const struct mesh_plan *plan, unsigned nr_candidates)
{
	unsigned used = 0, seen = 0;

	for (u32 b = 0; b < plan->nr_bins; b++) {
		const struct mesh_bin *bin = &plan->bin[b];
		struct occupancy sum = { 0 };
		unsigned nr = 0;

		for (u32 i = bin->first; i != NO_INDEX; i = plan->candidate[i].next, nr++) {
			cr_assert_not(occupancy_overlaps(&sum, &plan->candidate[i].live));
			cr_assert_eq(plan->candidate[i].colour, bin->colour);
			occupancy_add(&sum, &plan->candidate[i].live);
		}
		cr_assert_eq(nr, bin->nr);
		if (!bin->group)
			cr_assert_eq(memcmp(&sum, &bin->live, sizeof(sum)), 0);
		used += nr != 0;
		seen += nr;
	}
	cr_assert_eq(seen, nr_candidates);
	return used;
}

static unsigned plan_some(unsigned cls, unsigned nr, unsigned percent, unsigned colours, u64 seed)
{
	struct mesh_plan *plan = mesh_plan_create(nr);
	u64 r = rng_of(seed);
	unsigned used;

	cr_assert_not_null(plan);
	for (unsigned i = 0; i < nr; i++) {
		struct occupancy o = random_occupancy(&r, kmalloc_caches[cls].nr_objects, percent);

		cr_assert(mesh_plan_add(plan, i + 1, cls, (u8)(i % colours), &o));
	}
	cr_assert_not(mesh_plan_add(plan, nr + 1, cls, 0, &(struct occupancy){ { 1 } }), "it is full");
	mesh_plan_begin(plan);
	mesh_plan_class(plan, cls);
	used = check_bins(plan, nr);
	mesh_plan_begin(plan);
	mesh_plan_class(plan, cls);
	cr_assert_eq(plan->nr_bins, 0u, "each is planned once");
	mesh_plan_destroy(plan);
	return used;
}

Test(mesh_plan, nobody_overlaps)
{
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++)
		if (mesh_class_is_worth(cls))
			for (unsigned percent = 1; percent < 100; percent = percent * 2 + 1)
				cr_assert_leq(plan_some(cls, 300, percent, 3, cls), 300u);
}

Test(mesh_plan, sparse_slabs_take_few_frames)
{
	/* 32 objects, a tenth live: 3.2 of them a slab; ten slabs would be perfect. */
	cr_assert_leq(plan_some(kmalloc_class(512), 2000, 10, 1, 1), 2000u / 5);
	cr_assert_leq(plan_some(kmalloc_class(128), 2000, 10, 1, 2), 2000u / 6);
	cr_assert_leq(plan_some(kmalloc_class(256), 4500, 9, 1, 4), 4500u / 7, "three quarters of the frames are used");
	cr_assert_geq(plan_some(kmalloc_class(512), 2000, 60, 1, 3), 1900u, "the full ones stay alone");
}

/* Of bins that a share q would do, so many draws find one but for (1 - q)^1024. */
Test(mesh_plan, probing_keeps_its_bound)
{
	unsigned cls = kmalloc_class(512), nr = 20000, missed = 0;
	struct mesh_plan *plan = mesh_plan_create(2 * nr);

	for (unsigned i = 0; i < 40 * 256; i++) {		/* groups of which a 256th has its first object free */
		struct occupancy o = { { i % 256 ? 1 : 2 } };

		mesh_plan_add_group(plan, i + 1, 0, &o);
	}
	for (unsigned i = 0; i < 400; i++) {		/* each needs that place: it fits none of the others */
		u32 bins = plan->nr_bins;
		struct occupancy o = { { 1 } };

		mesh_plan_add(plan, i + 1, cls, 0, &o);
		mesh_plan_class(plan, cls);
		missed += plan->nr_bins > bins;
		plan->nr_bins = bins;
		for (u32 b = 0; b < bins; b++)		/* as it was */
			if (plan->bin[b].nr)
				plan->bin[b] = (struct mesh_bin){ .live = { { 2 } }, .group = b + 1, .first = NO_INDEX };
	}
	cr_assert_leq(missed, 400u / 16, "%u of 400 missed, 1.8 %% are expected", missed);
	mesh_plan_destroy(plan);
}

/* Groups that exist take candidates, and their gain counts the frames that they have. */
Test(mesh_plan, groups_take_candidates)
{
	unsigned cls = kmalloc_class(512);
	struct mesh_plan *plan = mesh_plan_create(10);
	struct occupancy first = { { 1 } }, second = { { 2 } };

	mesh_plan_add_group(plan, 7, 0, &first);
	mesh_plan_add(plan, 1, cls, 0, &second);
	mesh_plan_class(plan, cls);
	cr_assert_eq(plan->nr_bins, 1u);
	cr_assert_eq(plan->bin[0].nr, 1u);
	cr_assert_eq(mesh_bin_gain(&plan->bin[0], cls, 1), 1, "on the frame that is there");
	cr_assert_eq(mesh_bin_gain(&plan->bin[0], cls, 0), 0);
	mesh_plan_destroy(plan);
}

Test(mesh_plan, pages_of_objects)
{
	unsigned cls = kmalloc_class(1536);	/* three of them lie on two pages: the third on both */
	struct occupancy o = { { 1 << 2 } };

	if (os_page_size != PAGE_SIZE)
		cr_skip_test("pages are larger");
	cr_assert_eq(occupied_pages(cls, &o), 3u);
	o.word[0] = 1 << 1;
	cr_assert_eq(occupied_pages(cls, &o), 1u);
}
