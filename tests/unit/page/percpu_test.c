/* SPDX-License-Identifier: MIT */
/* percpu_test.c - areas come online in order and prepared; blocks at the same offset of every area. */
#include "page/percpu.h"

#include "../boot.h"

static void boot(void)
{
	boot_pages(PERCPU_AUTO);
}

TestSuite(percpu, .init = boot, .timeout = 60);

static u32 prepared[600], fail_at = UINT32_MAX;

static int prepare(unsigned cpu)
{
	CHECK(nr_percpu_areas() == cpu);	/* in order, and before anybody can see it */
	if (cpu == fail_at)
		return -ENOMEM;
	CHECK(pcpu_of(cpu)->cpu == cpu);
	__atomic_add_fetch(&prepared[cpu], 1, __ATOMIC_RELAXED);
	return 0;
}

Test(percpu, online_in_order)
{
	percpu_prepare = prepare;
	cr_assert_eq(nr_percpu_areas(), 0u);
	cr_assert_eq(any_cpu(), 0u);
	cr_assert_eq(percpu_online(0), 0);
	cr_assert_eq(nr_percpu_areas(), 1u);
	cr_assert_eq(any_cpu(), 0u);
	cr_assert_eq(percpu_online(5), 0);
	cr_assert_eq(nr_percpu_areas(), 6u);
	cr_assert_eq(percpu_online(2), 0, "is already");
	cr_assert_eq(nr_percpu_areas(), 6u);
	for (unsigned cpu = 0; cpu < 6; cpu++)
		cr_assert_eq(prepared[cpu], 1u);
	cr_assert_eq(prepared[6], 0u);
	if (percpu_mode == PERCPU_MODE_RSEQ)
		cr_assert_eq((void *)percpu_hot.rseq_base, percpu_at(0, 0));
	for (unsigned i = 0; i < 100; i++) {
		pin_to(i);
		cr_assert_lt(any_cpu(), 6u);
	}
}

Test(percpu, beyond_the_reservation)
{
	cr_assert_eq(percpu_online(max_percpu_areas), -ERANGE);
	cr_assert_eq(percpu_online(UINT32_MAX), -ERANGE);
	cr_assert_eq(nr_percpu_areas(), 0u);
	cr_assert_eq(percpu_online(max_percpu_areas - 1), 0, "address space only");
	cr_assert_eq(nr_percpu_areas(), max_percpu_areas);
	cr_assert_eq((uintptr_t)percpu_at(max_percpu_areas, 0), regions[REGION_PERCPU].end);
}

Test(percpu, prepare_fails)
{
	percpu_prepare = prepare;
	fail_at = 2;
	cr_assert_eq(percpu_online(3), -ENOMEM);
	cr_assert_eq(nr_percpu_areas(), 2u);
	fail_at = UINT32_MAX;
	os_fault_every = 1;
	cr_assert_eq(percpu_online(3), -ENOMEM);
	cr_assert_eq(nr_percpu_areas(), 2u);
	os_fault_every = 0;
	cr_assert_eq(percpu_online(3), 0);
	cr_assert_eq(nr_percpu_areas(), 4u);
}

static void *onliner(void *arg)
{
	u64 r = rng_of((uintptr_t)arg);

	for (unsigned i = 0; i < 40; i++) {
		unsigned cpu = rng_below(&r, 100);

		CHECK(percpu_online(cpu) == 0);
		CHECK(nr_percpu_areas() > cpu);
	}
	return NULL;
}

Test(percpu, many_threads_bring_areas_up)
{
	percpu_prepare = prepare;
	run_threads(6, onliner);
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++)
		cr_assert_eq(prepared[cpu], 1u);
}

/* --- alloc_percpu -------------------------------------------------------------------------------------------- */

enum { NR_BLOCKS = 500 };

struct block {
	size_t off, size, align;
};

static void fill(const struct block *b, unsigned tag)
{
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++)
		memset(percpu_at(cpu, b->off), (int)(tag + cpu) & 0xff, b->size);
}

static void check(const struct block *b, unsigned tag)
{
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++)
		for (size_t i = 0; i < b->size; i++)
			cr_assert_eq(((unsigned char *)percpu_at(cpu, b->off))[i], (tag + cpu) & 0xff);
}

Test(percpu, blocks_are_zero_aligned_and_disjoint)
{
	static struct block b[NR_BLOCKS];
	u64 r = rng_of(1);

	cr_assert_eq(percpu_online(1), 0);
	for (unsigned n = 0; n < rounds(4000); n++) {
		unsigned i = rng_below(&r, NR_BLOCKS);

		if (n == 2000)		/* blocks exist in areas that come later, too */
			cr_assert_eq(percpu_online(3), 0);
		if (b[i].off) {
			if (n < 2000 || b[i].size == 0)
				check(&b[i], i);
			free_percpu(b[i].off, b[i].size);
			b[i].off = 0;
			continue;
		}
		b[i].align = (size_t)1 << rng_below(&r, 7);
		b[i].size = b[i].align * (1 + rng_below(&r, rng_below(&r, 8) ? 4 : 60));
		b[i].off = alloc_percpu(b[i].size, b[i].align);
		if (!b[i].off)
			continue;
		cr_assert_geq(b[i].off, PERCPU_DYNAMIC);
		cr_assert_leq(b[i].off + b[i].size, PERCPU_SIZE - PERCPU_ZERO, "what lies before the next area stays zero");
		for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++) {
			char *p = percpu_at(cpu, b[i].off);

			cr_assert(IS_ALIGNED((uintptr_t)p, b[i].align));
			for (size_t k = 0; k < b[i].size; k++)
				cr_assert_eq(p[k], 0);
		}
		for (unsigned k = 0; k < NR_BLOCKS; k++)
			cr_assert(k == i || !b[k].off || b[k].off + b[k].size <= b[i].off ||
				  b[i].off + b[i].size <= b[k].off);
		fill(&b[i], i);
	}
}

Test(percpu, blocks_run_out_and_come_back)
{
	static size_t off[100000];
	unsigned nr = 0, again = 0;

	cr_assert_eq(percpu_online(0), 0);
	while (nr < 100000 && (off[nr] = alloc_percpu(64, 8)) != 0)
		nr++;
	cr_assert_geq(nr, (PERCPU_SIZE - PERCPU_ZERO - PERCPU_DYNAMIC) / 64 - 1);
	for (unsigned i = 0; i < nr; i++)
		free_percpu(off[i], 64);
	while (alloc_percpu(33, 8))
		again++;
	cr_assert_eq(again, nr, "the same size class");
	cr_assert_eq(alloc_percpu(PERCPU_SIZE, 8), 0u);
	cr_assert_eq(alloc_percpu(SIZE_MAX, 8), 0u);
	cr_assert_eq(alloc_percpu(8, 128), 0u, "no larger alignment");
}

/* A counter on a cache line of its own, taken and given back for ever. */
Test(percpu, alignment_beyond_the_size_leaks_nothing)
{
	cr_assert_eq(percpu_online(0), 0);
	for (unsigned i = 0; i < 20000; i++) {
		size_t off = alloc_percpu(8, 64);

		cr_assert_neq(off, 0, "block %u", i);
		cr_assert(IS_ALIGNED(off, 64));
		free_percpu(off, 64);	/* the larger of the two */
	}
}
