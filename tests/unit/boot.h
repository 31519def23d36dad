/* SPDX-License-Identifier: MIT */
/*
 * boot.h - what unit tests of the core share: a boot without the api layer, random numbers, threads, owner stamps.
 *
 * The programs link the core only, so malloc is glibc's. Criterion runs every test in a process of its own: each
 * boots, or does not, by itself.
 *
 * LIBKMM_TEST_SEED=n repeats a run; without it the seed is fixed. LIBKMM_TORTURE=1 multiplies the rounds.
 */
#ifndef KMM_TESTS_UNIT_BOOT_H
#define KMM_TESTS_UNIT_BOOT_H

#include "base/param.h"
#include "mm/mm_struct.h"
#include "mm/slab.h"
#include "mm/vmalloc.h"
#include "os/membarrier.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/sparse.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- failure: in threads, where Criterion cannot jump out of a test ------------------------------------------ */
#define CHECK(c)                                                               \
	do {                                                                   \
		if (unlikely(!(c))) {                                          \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #c); \
			abort();                                               \
		}                                                              \
	} while (0)

/* --- random numbers: splitmix64 ------------------------------------------------------------------------------ */
static inline u64 rng_next(u64 *r)
{
	u64 z = (*r += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline u32 rng_below(u64 *r, u32 n)
{
	return (u32)(((rng_next(r) >> 32) * n) >> 32);
}

static inline u64 rng_of(u64 stream)
{
	const char *seed = getenv("LIBKMM_TEST_SEED");
	u64 r = (seed ? strtoull(seed, NULL, 0) : 1) * 0x100000001b3ull + stream;

	rng_next(&r);
	return r;
}

/* n rounds, or twenty times as many. */
static inline unsigned rounds(unsigned n)
{
	const char *torture = getenv("LIBKMM_TORTURE");

	return torture && *torture && *torture != '0' ? 20 * n : n;
}

/* --- boot ---------------------------------------------------------------------------------------------------- */

/* glibc takes the break that it will need, so that it does not move it under our feet while threads run. */
static inline void settle_glibc(void)
{
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_TOP_PAD, 8 << 20);
	free(malloc(100000));
	mallopt(M_TOP_PAD, 0);
}

/* As far as pages: window, map, vmemmap, the first pages of the brk zone. */
static inline void boot_pages(int percpu)
{
	uintptr_t brk_start, pages, pages_end;
	struct zone *zone = &zones[ZONE_BRK];

	settle_glibc();
	os_init();
	percpu_mode_init(percpu, sheaf_full_top(&stop_sheaf));
	if (percpu_mode == PERCPU_MODE_RSEQ)
		membarrier_register_rseq();
	cr_assert_eq(memblock_init(&brk_start, &pages, &pages_end), 0);
	cr_assert_eq(sparse_init(brk_start), 0);
	if (pages_end > pages) {
		mutex_lock(&zone->lock, LOCK_zone);
		cr_assert_eq(online_range(zone, pages, pages_end), 0);
		mutex_unlock(&zone->lock, LOCK_zone);
	}
}

enum { PERCPU_AUTO, PERCPU_RSEQ, PERCPU_LOCK };	/* values of KMM_PERCPU */

/* Everything below api/. */
static inline void boot_core(int percpu)
{
	uintptr_t start;

	boot_pages(percpu);
	cr_assert_eq(kmem_cache_init(), 0);
	start = ALIGN(direct_map.end, GIB(1));
	cr_assert_eq(vmalloc_init(start, start + GIB(64)), 0);
	cr_assert_eq(mm_init(), 0);
}

static inline void boot_auto(void)
{
	boot_core(PERCPU_AUTO);
}

static inline void boot_lock(void)
{
	boot_core(PERCPU_LOCK);
}

/* What malloc and free of api/ do with small sizes. */
static inline void *kmalloc(size_t size)
{
	unsigned cls = kmalloc_class(size);
	void *p = this_cpu_pop(cls);

	return p ? p : kmem_cache_alloc_slowpath(cls);
}

static inline void kfree(void *p)
{
	map_entry_t e;

	if (virt_addr_valid(p) && ((uintptr_t)p & 15) == 0) {
		e = map_entry(virt_to_pfn(p));
		if (this_cpu_push(&e, 0, p))
			return;
	}
	if (!kfree_slowpath(p))
		foreign_goes_to_next(p, "free");
}

/* --- threads and CPUs ---------------------------------------------------------------------------------------- */
#define MAX_THREADS 16

static inline void run_threads(unsigned nr, void *(*fn)(void *))
{
	pthread_t t[MAX_THREADS];

	CHECK(nr <= MAX_THREADS);
	for (unsigned i = 0; i < nr; i++)
		CHECK(pthread_create(&t[i], NULL, fn, (void *)(uintptr_t)i) == 0);
	for (unsigned i = 0; i < nr; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
}

/* Onto the n-th CPU that the process may use, modulo their number. */
static inline void pin_to(unsigned n)
{
	static cpu_set_t all;
	cpu_set_t one;
	unsigned nr;

	if (CPU_COUNT(&all) == 0)
		sched_getaffinity(getpid(), sizeof(all), &all);
	nr = (unsigned)CPU_COUNT(&all);
	n %= nr;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || n--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

/* --- owner stamps: the first word of an object says whose it is ---------------------------------------------- */
static inline void stamp_claim(void *obj, u64 owner)
{
	u64 old = __atomic_exchange_n((u64 *)obj, owner, __ATOMIC_RELAXED);

	CHECK(old >> 32 != 0x57a3);	/* somebody else's */
	CHECK(owner >> 32 == 0x57a3);
}

static inline void stamp_release(void *obj, u64 owner)
{
	CHECK(__atomic_compare_exchange_n((u64 *)obj, &owner, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

#define STAMP(thread) (0x57a3ull << 32 | (u64)(thread))

#endif
