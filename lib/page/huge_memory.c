/* SPDX-License-Identifier: MIT */
/*
 * huge_memory.c - huge pages: dense pageblocks get them, sparse ones lose them.
 *
 * Purpose. A huge page saves TLB misses and page faults, and costs what lies unused in it. So memory is to be huge where
 * it is full and stays so, and nowhere else, whatever /sys/kernel/mm/transparent_hugepage says. KMM_THP:
 *
 *	never	none of our mappings is ever huge (MADV_NOHUGEPAGE; PR_SET_THP_DISABLE would bind the program's own as well)
 *	auto	the heap is not huge when it is touched first: a system set to `always`, or to 64 KiB pages, would make memory
 *		of what nobody uses. khugepaged makes huge what has turned out to be dense. Blocks above 2 MiB, which
 *		are used by and large, are as the system says. Where that says `never`, nothing is made huge.
 *	always	everything is huge from the start (MADV_HUGEPAGE); what is given back in part is broken up all the same
 *
 * khugepaged walks over all pageblocks. One is collapsed (MADV_COLLAPSE, Linux 6.1) when it is
 *	dense	but for NR_NONE pages in use, three quarters of its bytes live: no memory is lost;
 *	quiet	nothing was allocated or freed in it for QUIET decay times;
 *	ours	resident, and no page shared with a child: a copy would be made of those;
 *	worth it	one of MIN_BLOCKS at least: fewer fit into a TLB as they are.
 *
 * Breaking up. Giving back a part of a huge page takes it out of our page tables, but its frame stays charged to the
 * control group until the kernel splits the page, which it does when memory is short. MADV_COLD of one of its pages makes
 * it do so now. Measured: 2 MiB of which 90 % were dropped: 2 MiB charged, 0.2 MiB after; 0.14 to 0.25 ms. Free blocks in
 * a huge page have four times the age before they go home (page_reporting.c), so that a block that is free for a moment
 * does not cost a huge page; a block that was split waits twice as long each time to be huge again.
 *
 *	NONE --collapse--> WHOLE --discard_ranges()--> TORN --khugepaged--> NONE, in always mode BROKEN (MADV_NOHUGEPAGE)
 *
 * Cost. One block is made or split a slice. Then khugepaged rests PAUSE times as long as that took, so that it has at
 * most 5 % of a CPU; measured here: 2 ms a block, 8 us if it was huge already. After a failure it rests
 * longer each time, as the kernel's does (defer_compaction). A walk looks at every slab once in half the quiet time.
 *
 * Counted: thp_collapse_alloc, thp_collapse_alloc_failed, thp_split_page; and a walk as compact_success, if it made
 * contiguous what was scattered, or compact_fail, if it tried.
 *
 * Locks. None. States are bytes, written by khugepaged and by who gives memory back; a state that is wrong for a
 * moment costs a system call. madvise is right about any memory of ours, whatever it has become meanwhile: it changes no byte.
 *
 * Kernel counterpart. mm/khugepaged.c (khugepaged_scan_mm_slot, max_ptes_none), mm/huge_memory.c (deferred_split_scan). There a
 * single page in use makes a whole block huge; here the allocator knows what is in use.
 *
 * Fork and init. A child inherits huge pages and what is known about them; its own khugepaged begins anew. A fork makes the
 * parent's huge pages small where it writes: they are asked for again, which costs little where they still are.
 */
#include "page/huge_memory.h"

#include "base/param.h"
#include "base/printk.h"
#include "os/os.h"
#include "os/uffd.h"
#include "page/mmzone.h"
#include "page/reclaim.h"
#include "page/sparse.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define NR_PAGES	(1u << PAGEBLOCK_ORDER)
#define NR_NONE		2u			/* pages that collapsing may add */
#define LIVE_MIN	(PAGEBLOCK_SIZE / 4 * 3)
#define QUIET		4			/* decay times */
#define QUIET_MIN_MS	200u
#define QUIET_MAX_MS	60000u
#define MIN_BLOCKS	16u
#define BLOCKS_PER_TURN 64u
#define PAUSE		20u			/* times as long as what was done took */
#define PAUSE_MAX_MS	10000u
#define RETRY_MS	100u			/* after a failure, doubled each time */
#define SHIFT_MAX	6u
#define REFUSALS_MAX	4u			/* without a success: this kernel cannot */
#define BROKEN_MAX	4096u			/* blocks, each of which may make two VMAs */
#define WORTH_A_THREAD	MIB(256)
#define NR_OUTSIDE	16384u			/* blocks of the vmalloc region that are remembered: 32 GiB in one piece */

u8 *huge_states;

/* What khugepaged remembers of a pageblock, or of a block elsewhere that shares its place. */
struct look {
	u32 sum;
	u32 since_ms;		/* 0: never */
	u8 tries;		/* that have failed, and splits */
};

static struct {
	const struct huge_source *sources[2];
	unsigned nr_sources, source;
	struct look *looks;		/* of all pageblocks */
	int pagemap;
	bool ready, refused;		/* opened; there is no hope */
	bool walking, changed, again;
	bool recheck;			/* a fork may have split what was huge */
	u64 nr_forks;
	u32 nr_dense, nr_dense_before;	/* blocks in this walk, in the one before */
	u32 nr_made, nr_failed;		/* in this walk */
	u32 nr_broken, nr_done;
	u32 refusals, shift;
	u32 due_ms;
	bool is_due_set;
} k = { .pagemap = -1, .changed = true };

/* --- advice about fresh memory ------------------------------------------------------------------------------- */

__resident void thp_advise_metadata(void)
{
	static bool advised;

	if (!__atomic_exchange_n(&advised, true, __ATOMIC_RELAXED))
		vm_advise((void *)regions[REGION_MAP].start, regions[REGION_METADATA].end - regions[REGION_MAP].start,
			  MADV_NOHUGEPAGE);
}

__resident void thp_advise_heap(uintptr_t start, uintptr_t end)
{
	vm_advise((void *)start, end - start, kmm_params.thp == THP_ALWAYS ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

__resident void thp_advise_area(uintptr_t start, size_t size)
{
	if (kmm_params.thp != THP_AUTO)
		thp_advise_heap(start, start + size);
}

/* --- giving back --------------------------------------------------------------------------------------------- */

static void note_discard(const struct vm_range *range)
{
	pfn_t from = virt_to_pfn(range->start), to = from + (pfn_t)(range->size >> PAGE_SHIFT), next;

	for (pfn_t pfn = from; pfn < to; pfn = next) {
		u8 *state = &huge_states[pfn >> PAGEBLOCK_ORDER], seen = READ_ONCE(*state);
		bool huge = seen == HUGE_WHOLE || (seen == HUGE_NONE && kmm_params.thp == THP_ALWAYS);

		next = min(to, ALIGN_DOWN(pfn, NR_PAGES) + NR_PAGES);
		if (!huge)
			continue;
		WRITE_ONCE(*state, next - pfn == NR_PAGES ? HUGE_NONE : HUGE_TORN);
		WRITE_ONCE(k.changed, true);
	}
}

__resident int discard_ranges(const struct vm_range *range, unsigned nr)
{
	if (unlikely(READ_ONCE(huge_states) != NULL))
		for (unsigned i = 0; i < nr; i++)
			note_discard(&range[i]);
	return vm_dontneed_ranges(range, nr);
}

/* --- what the system allows ---------------------------------------------------------------------------------- */

static bool is_never(const char *path)
{
	char text[64];

	return os_read_file(path, text, sizeof(text)) <= 0 || strstr(text, "[never]") != NULL;
}

/* Who asks for huge pages by KMM_THP=always gets them; otherwise the system's word counts. */
static bool system_allows(void)
{
	return kmm_params.thp == THP_ALWAYS || !is_never("/sys/kernel/mm/transparent_hugepage/enabled");
}

static size_t nr_pageblocks(void)
{
	return (direct_map.end - direct_map.start) >> (PAGEBLOCK_ORDER + PAGE_SHIFT);
}

/* Tables are mapped for the whole window, with NR_OUTSIDE behind it; what is not used of them is no memory. */
static size_t nr_looks(void)
{
	return nr_pageblocks() + NR_OUTSIDE;
}

static bool khugepaged_open(void)
{
	if (os_page_size != PAGE_SIZE)
		return false;
	if (!k.looks)
		k.looks = vm_map(nr_looks() * sizeof(*k.looks));
	if (!huge_states)
		smp_store_release(&huge_states, (u8 *)vm_map(nr_looks()));
	k.pagemap = pagemap_open();
	return k.looks && huge_states && k.pagemap >= 0;
}

/* --- one block ----------------------------------------------------------------------------------------------- */

static bool is_heap(const struct huge_block *b)
{
	return (uintptr_t)b->addr - direct_map.start < direct_map.end - direct_map.start;
}

/* Outside the window two blocks may have one number: then neither is found quiet. */
static size_t index_of(const struct huge_block *b)
{
	size_t nr = (uintptr_t)b->addr >> PAGEBLOCK_SHIFT;

	return is_heap(b) ? nr - (direct_map.start >> PAGEBLOCK_SHIFT) : nr_pageblocks() + nr % NR_OUTSIDE;
}

static struct look *look_of(const struct huge_block *b)
{
	return &k.looks[index_of(b)];
}

static u8 *state_of(const struct huge_block *b)
{
	return &huge_states[index_of(b)];
}

static void rest(u64 ns)
{
	k.nr_done++;
	k.due_ms = (u32)os_clock_ms() + (u32)min(ns * PAUSE / 1000000, (u64)PAUSE_MAX_MS) + 1;
	k.is_due_set = true;
}

static void rest_after_failure(const struct huge_block *b, struct look *look, int error)
{
	look->tries += look->tries < SHIFT_MAX;
	look->since_ms = 0;
	k.nr_failed++;
	k.shift += k.shift < SHIFT_MAX;
	rest((u64)(RETRY_MS << k.shift) * 1000000 / PAUSE);
	if (error == -EINVAL && is_heap(b) && ++k.refusals >= REFUSALS_MAX) {
		k.refused = true;
		if (kmm_params.verbose)
			pr_info("khugepaged: this kernel makes no huge pages of our memory (before Linux 6.1, or forbidden)");
	}
}

/* The kernel collapses only what may be huge: in auto mode the heap may for that moment. Large blocks always may. */
static int collapse(const struct huge_block *b)
{
	int ret = is_heap(b) ? vm_advise(b->addr, PAGEBLOCK_SIZE, MADV_HUGEPAGE) : 0;

	if (!ret)
		ret = vm_advise(b->addr, PAGEBLOCK_SIZE, MADV_COLLAPSE);
	if (is_heap(b) && kmm_params.thp == THP_AUTO)
		vm_advise(b->addr, PAGEBLOCK_SIZE, MADV_NOHUGEPAGE);
	return ret;
}

/* Resident, and nobody else's as well? */
static bool is_ours(const struct huge_block *b)
{
	struct pagemap_sum sum;

	return pagemap_sum(k.pagemap, b->addr, NR_PAGES, &sum) == 0 && sum.nr_present >= NR_PAGES - NR_NONE &&
	       sum.nr_exclusive == sum.nr_present && !sum.nr_swapped;
}

/* The state is set first: a part that is given back meanwhile is then noted. */
static void make_huge(const struct huge_block *b, struct look *look)
{
	u64 start = os_clock_ns();
	int ret;

	k.nr_broken -= READ_ONCE(*state_of(b)) == HUGE_BROKEN;
	WRITE_ONCE(*state_of(b), HUGE_WHOLE);
	ret = collapse(b);
	if (ret == 0) {
		count_vm_event(VM_thp_collapse_alloc);
		k.refusals = k.shift = 0;
		k.nr_made++;
		rest(os_clock_ns() - start);
		return;
	}
	WRITE_ONCE(*state_of(b), HUGE_NONE);
	count_vm_event(VM_thp_collapse_alloc_failed);
	rest_after_failure(b, look, ret);
}

static void split(const struct huge_block *b, struct look *look)
{
	bool stay = kmm_params.thp == THP_ALWAYS && k.nr_broken < BROKEN_MAX;
	u64 start = os_clock_ns();
	struct pagemap_sum sum;

	WRITE_ONCE(*state_of(b), stay ? HUGE_BROKEN : HUGE_NONE);
	if (stay) {
		k.nr_broken++;
		vm_advise(b->addr, PAGEBLOCK_SIZE, MADV_NOHUGEPAGE);
	}
	if (pagemap_sum(k.pagemap, b->addr, NR_PAGES, &sum) == 0 && sum.nr_present)
		vm_advise((char *)b->addr + sum.first_present * os_page_size, os_page_size, MADV_COLD);
	count_vm_event(VM_thp_split_page);
	look->since_ms = 0;
	look->tries += look->tries < SHIFT_MAX;
	rest(os_clock_ns() - start);
}

static u32 quiet_ms(void)
{
	return (u32)clamp(READ_ONCE(kmm_params.decay_ms) * QUIET, (u64)QUIET_MIN_MS, (u64)QUIET_MAX_MS);
}

/* Has it been as it is for long enough? A block that nobody will change is looked at again without being asked for. */
static bool is_quiet(const struct huge_block *b, struct look *look, u32 now)
{
	if (look->sum != b->sum || !look->since_ms) {
		look->sum = b->sum;
		look->since_ms = now | 1;
	}
	if (now - look->since_ms >= quiet_ms() << look->tries && now - look->since_ms < UINT32_MAX / 2)
		return true;
	k.again |= !look->tries;
	return false;
}

static bool is_dense(const struct huge_block *b)
{
	return !b->barred && b->nr_used >= NR_PAGES - NR_NONE && b->live >= LIVE_MIN;
}

/* true: something was done, which is enough for a slice. */
static bool consider(const struct huge_block *b, u32 now)
{
	struct look *look = look_of(b);
	u8 state = READ_ONCE(*state_of(b));

	if (state == HUGE_TORN) {
		split(b, look);
		return true;
	}
	if (!is_dense(b)) {
		look->since_ms = 0;
		return false;
	}
	k.nr_dense++;
	if ((state == HUGE_WHOLE && !k.recheck && (is_heap(b) || look->sum == b->sum)) || !is_quiet(b, look, now))
		return false;
	if (k.nr_dense_before < MIN_BLOCKS && kmm_params.thp != THP_ALWAYS)
		return false;
	if (!is_ours(b)) {
		look->since_ms = 0;
		look->tries += look->tries < SHIFT_MAX;
		return false;
	}
	make_huge(b, look);
	return true;
}

/* --- the walk ------------------------------------------------------------------------------------------------ */

__init void register_huge_source(const struct huge_source *source)
{
	if (k.nr_sources < ARRAY_SIZE(k.sources))
		k.sources[k.nr_sources++] = source;
}

static void begin_walk(void)
{
	u64 forks = global_vm_event(VM_fork);

	k.recheck = forks != k.nr_forks;
	k.nr_forks = forks;
	k.source = 0;
	k.nr_dense = k.nr_made = k.nr_failed = 0;
	k.changed = k.again = false;
	k.walking = true;
	k.sources[0]->begin();
}

static void end_walk(void)
{
	k.walking = false;
	k.again &= k.nr_dense >= MIN_BLOCKS || kmm_params.thp == THP_ALWAYS;
	k.changed |= k.again;
	k.nr_dense_before = k.nr_dense;
	if (k.nr_made)
		count_vm_event(VM_compact_success);
	else if (k.nr_failed)
		count_vm_event(VM_compact_fail);
	k.due_ms = (u32)os_clock_ms() + quiet_ms() / 2;
	k.is_due_set = true;
}

static bool next_block(struct huge_block *b)
{
	while (!k.sources[k.source]->next(b)) {
		if (++k.source == k.nr_sources)
			return false;
		k.sources[k.source]->begin();
	}
	return true;
}

static bool may_begin(void)
{
	if (!k.ready) {
		k.ready = true;
		k.refused = !khugepaged_open();
	}
	return !k.refused && k.nr_sources && system_allows();
}

/* Until it has to rest, or the turn is over. */
static void walk(bool (*stop)(void))
{
	struct huge_block b;

	for (unsigned i = 0; i < BLOCKS_PER_TURN && !stop(); i++) {
		if (!next_block(&b)) {
			end_walk();
			return;
		}
		if (consider(&b, (u32)os_clock_ms()))
			return;
	}
}

u32 khugepaged_run(u32 reclaim_ms, bool may_open, bool (*stop)(void))
{
	u32 now = (u32)os_clock_ms(), done = k.nr_done;

	k.changed |= reclaim_ms != NEVER_MS;
	if (kmm_params.thp == THP_NEVER || k.refused || !may_open || (!k.walking && !READ_ONCE(k.changed)))
		return NEVER_MS;
	if (k.is_due_set && (s32)(k.due_ms - now) > 0)
		return k.due_ms - now;
	k.is_due_set = false;
	if (!k.walking) {
		if (!may_begin()) {
			k.changed = false;
			return NEVER_MS;
		}
		begin_walk();
	}
	walk(stop);
	if (!k.walking || k.nr_done != done)
		kswapd_own_events();
	if (!k.walking && !k.changed)
		return NEVER_MS;
	now = (u32)os_clock_ms();
	return k.is_due_set && (s32)(k.due_ms - now) > 0 ? k.due_ms - now : 1;
}

static u64 nr_whole(size_t from, size_t to)
{
	u64 nr = 0;

	for (; from < to; from++)
		nr += READ_ONCE(huge_states[from]) == HUGE_WHOLE;
	return nr;
}

/* Of the table only what there can be something in: the rest need not become memory. */
u64 thp_heap_bytes(void)
{
	u64 nr = 0;

	if (!READ_ONCE(huge_states))
		return 0;
	for (int z = 0; z < MAX_NR_ZONES; z++)
		nr += nr_whole(zones[z].start_pfn >> PAGEBLOCK_ORDER, (READ_ONCE(zones[z].end_pfn) + NR_PAGES - 1) >> PAGEBLOCK_ORDER);
	return (nr + nr_whole(nr_pageblocks(), nr_looks())) << PAGEBLOCK_SHIFT;
}

void khugepaged_exit(void)
{
	k.pagemap = -1;
	k.ready = k.refused = k.walking = false;
	k.changed = true;
}

__resident bool khugepaged_is_worth_a_thread(void)
{
	u64 pages = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++)
		pages += READ_ONCE(zones[z].present_pages) - READ_ONCE(zones[z].free_pages);
	return kmm_params.thp != THP_NEVER && pages << PAGE_SHIFT >= WORTH_A_THREAD;
}
