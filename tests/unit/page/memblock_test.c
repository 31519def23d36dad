/* SPDX-License-Identifier: MIT */
/* memblock_test.c - metadata memory, boot objects, pools, and a break that others move, too. */
#include "page/memblock.h"

#include "../boot.h"
#include <unistd.h>

TestSuite(memblock, .init = settle_glibc, .timeout = 60);

static uintptr_t brk_start, pages, pages_end;

static void init(void)
{
	cr_assert_eq(memblock_init(&brk_start, &pages, &pages_end), 0);
}

Test(memblock, first_piece_of_the_break)
{
	uintptr_t before = (uintptr_t)__os_sbrk(0);

	init();
	cr_assert_geq(brk_start, before);
	cr_assert_lt(brk_start, before + PAGE_SIZE);
	cr_assert(IS_ALIGNED(pages, PAGE_SIZE) && IS_ALIGNED(pages_end, PAGE_SIZE));
	cr_assert_gt(pages, brk_start);
	cr_assert_gt(pages_end, pages);
	cr_assert_eq(brk_end(), pages_end);
	cr_assert_eq((uintptr_t)__os_sbrk(0), pages_end);
	cr_assert_leq(pages_end - brk_start, KIB(512), "a tiny process takes little");
	cr_assert_eq(((char *)pages)[0], 0);
	((char *)pages_end)[-1] = 1;
}

/* --- metadata ------------------------------------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	const uintptr_t *x = a, *y = b;

	return x[0] < y[0] ? -1 : x[0] > y[0];
}

Test(memblock, metadata_is_zero_aligned_and_disjoint)
{
	enum { NR = 3000 };
	static uintptr_t got[NR][2];
	u64 r = rng_of(1), sum = 0, before;

	init();
	before = memblock_bytes();
	for (unsigned i = 0; i < NR; i++) {
		size_t align = (size_t)1 << rng_below(&r, 13);
		size_t size = i % 500 == 499 ? KIB(300) : 1 + rng_below(&r, rng_below(&r, 16) ? 600 : 20000);
		char *p = memblock_alloc(size, align);

		cr_assert_not_null(p);
		cr_assert(IS_ALIGNED((uintptr_t)p, align));
		for (size_t k = 0; k < size; k++)
			cr_assert_eq(p[k], 0);
		memset(p, 0xff, size);
		got[i][0] = (uintptr_t)p;
		got[i][1] = size;
		sum += size;
	}
	cr_assert_eq(memblock_bytes() - before, sum);
	qsort(got, NR, sizeof(got[0]), by_address);
	for (unsigned i = 0; i < NR; i++) {
		cr_assert(i == 0 || got[i - 1][0] + got[i - 1][1] <= got[i][0]);
		cr_assert(got[i][0] + got[i][1] <= pages || got[i][0] >= pages_end, "pages are not metadata");
	}
}

Test(memblock, metadata_runs_out)
{
	unsigned nr = 0;

	init();
	os_fault_every = 1;
	while (memblock_alloc(KIB(1), 64))
		nr++;
	cr_assert_leq(nr, 96u, "the first piece, and no more");
	cr_assert_gt(nr, 8u);
	cr_assert_null(memblock_alloc(KIB(1), 64));
	os_fault_every = 0;
	cr_assert_not_null(memblock_alloc(KIB(1), 64));
}

Test(memblock, break_blocked_from_the_start)
{
	uintptr_t top = ALIGN((uintptr_t)__os_sbrk(0), os_page_size);
	char *p;

	cr_assert_eq(vm_map_at((void *)top, os_page_size), 0);
	init();
	cr_assert_eq(pages, pages_end);
	cr_assert_eq(brk_end(), 0ul);
	cr_assert_eq(brk_start, top);
	p = memblock_alloc(1000, 16);
	cr_assert_not_null(p);
	memset(p, 1, 1000);
	cr_assert_eq(brk_grow(KIB(64), &pages), -ENOMEM);
}

Test(memblock, no_memory_at_all)
{
	os_fault_every = 1;
	cr_assert_eq(memblock_init(&brk_start, &pages, &pages_end), -ENOMEM);
}

/* --- boot objects -------------------------------------------------------------------------------------------- */

Test(memblock, boot_objects)
{
	static const size_t sizes[] = { 1, 16, 24, 100, 1000 };
	char *p[ARRAY_SIZE(sizes)], *end = NULL;
	unsigned nr = 0;

	init();
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		p[i] = memblock_boot_object(sizes[i], 16 << i);
		cr_assert_not_null(p[i]);
		cr_assert(IS_ALIGNED((uintptr_t)p[i], 16 << i));
		cr_assert_geq(p[i], end);
		for (size_t k = 0; k < sizes[i]; k++)
			cr_assert_eq(p[i][k], 0);
		memset(p[i], 0xee, sizes[i]);
		end = p[i] + sizes[i];
	}
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		cr_assert_eq(memblock_boot_object_size(p[i]), sizes[i]);
	cr_assert_eq(memblock_boot_object_size(&nr), 0u);
	cr_assert_eq(memblock_boot_object_size(NULL), 0u);
	cr_assert_null(memblock_boot_object(KIB(64), 16));
	cr_assert_null(memblock_boot_object(SIZE_MAX - 8, 16));
	while (memblock_boot_object(64, 16))
		cr_assert_lt(++nr, 1000u);
	cr_assert_gt(nr, 50u);
}

/* --- pools --------------------------------------------------------------------------------------------------- */

struct thing { u64 w[5]; };
static struct metapool pool = METAPOOL_INIT(struct thing);

static void *pool_user(void *arg)
{
	u64 me = STAMP((uintptr_t)arg + 1), r = rng_of(me);
	struct thing *held[64];
	unsigned nr = 0;

	for (unsigned i = 0; i < rounds(30000); i++) {
		if (nr < 64 && rng_below(&r, 2)) {
			held[nr] = metapool_alloc(&pool);
			CHECK(held[nr]);
			held[nr]->w[0] = 0;	/* the pool's link */
			held[nr]->w[1] = me;
			held[nr]->w[4] = me;
			nr++;
		} else if (nr) {
			struct thing *t = held[--nr];

			CHECK(t->w[1] == me && t->w[4] == me);
			metapool_free(&pool, t);
		}
	}
	while (nr)
		metapool_free(&pool, held[--nr]);
	return NULL;
}

Test(memblock, pool_recycles)
{
	init();
	run_threads(4, pool_user);
	cr_assert_eq(pool.nr_free, pool.nr_total);
	cr_assert_leq(pool.nr_total, 4u * 64);
	for (u64 n = pool.nr_total; n; n--)
		cr_assert_not_null(metapool_alloc(&pool));
	cr_assert_null(pool.free);
	cr_assert_eq(pool.nr_free, 0u);
}

Test(memblock, pool_without_memory_counts_nothing)
{
	u64 total;

	init();
	os_fault_every = 1;
	while (metapool_alloc(&pool))
		;
	total = pool.nr_total;
	cr_assert_null(metapool_alloc(&pool));
	cr_assert_eq(pool.nr_total, total, "what was not made is not counted");
}

/* --- the break ----------------------------------------------------------------------------------------------- */

Test(memblock, grow_and_shrink)
{
	uintptr_t start, end;

	init();
	end = brk_end();
	cr_assert_eq(brk_grow(KIB(64), &start), 0);
	cr_assert_eq(start, end, "right behind our own end");
	cr_assert_eq(brk_end(), end + KIB(64));
	memset((void *)start, 1, KIB(64));
	cr_assert_eq(brk_shrink(end), 0);
	cr_assert_eq(brk_end(), end);
	cr_assert_eq((uintptr_t)__os_sbrk(0), end);
	cr_assert_eq(brk_shrink(end), -EBUSY, "nothing above");
	cr_assert_eq(brk_shrink(end + PAGE_SIZE), -EBUSY);
	cr_assert_eq(brk_grow(KIB(64), &start), 0);
	cr_assert_eq(((char *)start)[KIB(64) - 1], 0);
}

Test(memblock, foreign_sbrk_leaves_a_hole)
{
	uintptr_t start, end;
	char *hole;

	init();
	end = brk_end();
	hole = foreign_sbrk(100);
	cr_assert_eq((uintptr_t)hole, end);
	memset(hole, 7, 100);
	cr_assert_eq(brk_end(), end, "theirs is not ours");
	cr_assert_eq(brk_shrink(end - PAGE_SIZE), -EBUSY, "somebody stands on top");
	cr_assert_eq(brk_grow(KIB(64), &start), 0);
	cr_assert_eq(start, ALIGN(end + 100, os_page_size));
	memset((void *)start, 1, KIB(64));
	for (int i = 0; i < 100; i++)
		cr_assert_eq(hole[i], 7);
	cr_assert_eq(brk_shrink(start), 0);
	cr_assert_null(foreign_sbrk(-(ptrdiff_t)os_page_size), "below it is ours");
	cr_assert_eq((uintptr_t)foreign_sbrk(0), start);
}

Test(memblock, foreign_callers_cannot_take_our_memory)
{
	uintptr_t end;

	init();
	end = brk_end();
	errno = 4711;
	cr_assert_null(foreign_sbrk(-1));
	cr_assert_null(foreign_sbrk(PTRDIFF_MIN));
	cr_assert_eq(foreign_brk((void *)(end - 1)), -ENOMEM);
	cr_assert_eq(foreign_brk(NULL), -ENOMEM);
	cr_assert_eq((uintptr_t)__os_sbrk(0), end);
	cr_assert_eq(foreign_brk((void *)(end + 12345)), 0);
	cr_assert_eq((uintptr_t)foreign_sbrk(-345), end + 12345);
	cr_assert_eq((uintptr_t)foreign_sbrk(0), end + 12000);
	cr_assert_eq(foreign_brk((void *)end), 0, "what they took they may give back");
	cr_assert_null(foreign_sbrk(-1));
	cr_assert_eq(errno, 4711);
}

Test(memblock, break_runs_into_a_mapping)
{
	uintptr_t start, end;

	init();
	end = brk_end();
	/* The kernel keeps a page between the break and what lies above. */
	cr_assert_eq(vm_map_at((void *)(end + KIB(128) + os_page_size), os_page_size), 0);
	cr_assert_eq(brk_grow(KIB(256), &start), -ENOMEM);
	cr_assert_eq(brk_end(), end);
	cr_assert_eq(brk_grow(KIB(128), &start), 0);
	cr_assert_eq(start, end);
	cr_assert_null(foreign_sbrk(1));
}

/* Two threads take pieces for us, two are foreign: nobody gets what another has. */
enum { PIECES = 200 };
static uintptr_t piece[4 * PIECES][2];

static void *break_user(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	u64 r = rng_of(me);

	for (unsigned i = 0; i < PIECES; i++) {
		uintptr_t *p = piece[me * PIECES + i];

		if (me < 2) {
			p[1] = PAGE_SIZE * (1 + rng_below(&r, 4));
			CHECK(brk_grow(p[1], &p[0]) == 0);
		} else {
			p[1] = 1 + rng_below(&r, 9000);
			p[0] = (uintptr_t)foreign_sbrk((ptrdiff_t)p[1]);
			CHECK(p[0]);
		}
		memset((void *)p[0], (int)me + 1, p[1]);
	}
	return NULL;
}

Test(memblock, break_shared_by_threads)
{
	init();
	run_threads(4, break_user);
	for (unsigned i = 0; i < 4 * PIECES; i++)
		for (size_t k = 0; k < piece[i][1]; k++)
			cr_assert_eq(((char *)piece[i][0])[k], (char)(i / PIECES + 1));
	qsort(piece, ARRAY_SIZE(piece), sizeof(piece[0]), by_address);
	for (unsigned i = 1; i < 4 * PIECES; i++)
		cr_assert_leq(piece[i - 1][0] + piece[i - 1][1], piece[i][0]);
}
