/* SPDX-License-Identifier: MIT */
/* huge_memory_test.c - which memory becomes huge, which does not, and what happens when a part of it is given back. */
#include "page/huge_memory.h"

#include "../boot.h"
#include "page/reclaim.h"
#include "page/vmstat.h"
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef PR_SET_THP_DISABLE
#define PR_SET_THP_DISABLE 41
#endif
#define SIZE	  64
#define NR_BLOCKS 24u		/* some more than it takes for huge pages to be worth it */
#define NR	  (NR_BLOCKS * PAGEBLOCK_SIZE / SIZE)

static u64 **objects;

static void boot_thp(void)
{
	boot_auto();
	kmm_params.decay_ms = 50;	/* 200 ms of quiet */
	kmm_params.thp = THP_AUTO;
}

TestSuite(huge_memory, .init = boot_thp, .timeout = 60);

/* Can there be huge pages here, and does the setting of the system let auto mode make them? */
static bool huge_pages_are_allowed(void)
{
	char text[64];

	return os_page_size == PAGE_SIZE && os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) > 0 &&
	       !strstr(text, "[never]");
}

#define NEEDS_HUGE_PAGES()                                             \
	do {                                                           \
		if (!huge_pages_are_allowed())                         \
			cr_skip_test("no transparent huge pages here"); \
	} while (0)

static void fill(void)
{
	objects = vm_map(ALIGN(NR * sizeof(*objects), os_page_size));
	cr_assert_not_null(objects);
	vm_advise(objects, ALIGN(NR * sizeof(*objects), os_page_size), MADV_NOHUGEPAGE);
	for (size_t i = 0; i < NR; i++) {
		objects[i] = kmalloc(SIZE);
		cr_assert_not_null(objects[i]);
		*objects[i] = i;
	}
}

static void check(void)
{
	for (size_t i = 0; i < NR; i++)
		if (objects[i])
			cr_assert_eq(*objects[i], i);
}

static long smaps(const char *key)
{
	static char text[4096];
	const char *line;

	cr_assert_gt(os_read_file("/proc/self/smaps_rollup", text, sizeof(text)), 0);
	line = strstr(text, key);
	cr_assert_not_null(line);
	return atol(line + strlen(key));
}

static bool never(void)
{
	return false;
}

/* khugepaged for so long, as the background thread calls it. */
static void run_for(u32 ms)
{
	u64 end = os_clock_ms() + ms;

	while (os_clock_ms() < end) {
		u64 before = global_vm_event(VM_thp_collapse_alloc) + global_vm_event(VM_thp_split_page);
		u32 wait = khugepaged_run(1, true, never);

		cr_assert_leq(global_vm_event(VM_thp_collapse_alloc) + global_vm_event(VM_thp_split_page), before + 1, "one a slice");
		usleep(min(wait, 50u) * 1000);
	}
}

static void run_until(enum vmstat_item item, u64 nr)
{
	for (int i = 0; i < 300 && global_vm_event(item) < nr; i++)
		run_for(100);
	cr_assert_geq(global_vm_event(item), nr);
}

/* VmFlags of the mapping that addr lies in. */
static bool has_flag(const void *addr, const char *flag)
{
	char line[512];
	bool inside = false, found = false;
	unsigned long from, to;
	FILE *f = fopen("/proc/self/smaps", "r");

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (uintptr_t)addr >= from && (uintptr_t)addr < to;
		if (inside && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(f);
	return found;
}

static bool kernel_knows_huge_pages(void)
{
	return access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) == 0;
}

static void grow_heap(void)
{
	for (int i = 0; i < 40; i++)
		cr_assert_not_null(alloc_pages(PAGEBLOCK_ORDER, MIGRATE_UNMOVABLE));
}

Test(huge_memory, auto_keeps_the_heap_small)
{
	if (!kernel_knows_huge_pages())
		cr_skip_test("no transparent huge pages here");
	grow_heap();
	cr_assert(has_flag(alloc_pages(0, MIGRATE_MOVABLE) ? pfn_to_virt(zones[ZONE_NORMAL].start_pfn) : NULL, " nh"));
	cr_assert(has_flag(direct_map.vmemmap, " nh"), "nor is metadata huge");
	cr_assert_not(has_flag(vmalloc_aligned(MIB(8), 1, NULL), " nh"), "large blocks are as the system says");
}

/* Two areas are 2 MiB: khugepaged made them huge, though a few pages are used. */
Test(huge_memory, second_area_is_not_made_huge)
{
	if (!kernel_knows_huge_pages())
		cr_skip_test("no transparent huge pages here");
	if (nr_percpu_areas() == 1)	/* on a later CPU it began with two */
		cr_assert_not(has_flag(percpu_at(0, 0), " nh"), "one area costs no system call for it");
	cr_assert_eq(percpu_online(1), 0);
	cr_assert(has_flag(percpu_at(0, 0), " nh"));
	cr_assert(has_flag(percpu_at(1, 0), " nh"));
}

Test(huge_memory, never_and_always)
{
	void *p;

	if (!kernel_knows_huge_pages())
		cr_skip_test("no transparent huge pages here");
	kmm_params.thp = THP_NEVER;
	cr_assert(has_flag(vmalloc_aligned(MIB(8), 1, NULL), " nh"));
	cr_assert_eq(khugepaged_run(1, true, never), NEVER_MS);
	kmm_params.thp = THP_ALWAYS;
	p = vmalloc_aligned(MIB(8), 1, NULL);
	cr_assert(has_flag(p, " hg"));
	grow_heap();
	cr_assert(has_flag(pfn_to_virt(zones[ZONE_NORMAL].start_pfn), " hg"));
	cr_assert(has_flag(direct_map.vmemmap, " nh"));
}

Test(huge_memory, dense_blocks_become_huge)
{
	long before;

	NEEDS_HUGE_PAGES();
	fill();
	before = smaps("AnonHugePages:");
	run_until(VM_thp_collapse_alloc, NR_BLOCKS - 2);
	cr_assert_geq(smaps("AnonHugePages:"), before + (NR_BLOCKS - 2) * 2048);
	check();
	cr_assert_not(has_flag(objects[NR / 2], " hg"), "only for that moment");
	run_for(3000);
	cr_assert_geq(global_vm_event(VM_compact_success), 1u);
	cr_assert_eq(khugepaged_run(NEVER_MS, true, never), NEVER_MS, "nothing is left to do");
}

Test(huge_memory, large_blocks_become_huge_where_they_are_resident)
{
	size_t half = NR_BLOCKS / 2 * PAGEBLOCK_SIZE;
	char *p;

	NEEDS_HUGE_PAGES();
	p = vmalloc_aligned(2 * half, 1, NULL);
	cr_assert_not_null(p);
	vm_advise(p, 2 * half, MADV_NOHUGEPAGE);	/* small as it is touched, whatever the system says */
	memset(p, 0x5a, half);
	vm_advise(p, 2 * half, MADV_HUGEPAGE);
	run_until(VM_thp_collapse_alloc, NR_BLOCKS / 2 - 1);
	run_for(500);
	cr_assert_leq(global_vm_event(VM_thp_collapse_alloc), NR_BLOCKS / 2, "what was never touched does not become memory");
	cr_assert_lt(smaps("Pss:"), (long)(half / 1024 + 16384));
	for (size_t i = 0; i < 2 * half; i += 4096)
		cr_assert_eq(p[i], i < half ? 0x5a : 0);
	cr_assert_eq(vfree(p), 0);
	p = vmalloc_aligned(2 * half, 1, NULL);
	cr_assert_not_null(p);
	run_for(500);
}

Test(huge_memory, a_small_heap_is_left_alone)
{
	NEEDS_HUGE_PAGES();
	for (int i = 0; i < 60000; i++)
		cr_assert_not_null(memset(kmalloc(SIZE), 1, SIZE));
	run_for(1500);
	cr_assert_eq(global_vm_event(VM_thp_collapse_alloc), 0u);
}

Test(huge_memory, sparse_and_busy_blocks_stay_as_they_are)
{
	NEEDS_HUGE_PAGES();
	fill();
	for (size_t i = 0; i < NR; i++)
		if (i % 2) {
			kfree(objects[i]);
			objects[i] = NULL;
		}
	kmem_cache_shrink_all();
	run_for(1500);
	cr_assert_eq(global_vm_event(VM_thp_collapse_alloc), 0u, "half of it is free");
	check();
}

/* Not quiet: something in every block changes all the time, as far as the machine lets us. */
Test(huge_memory, busy_blocks_wait)
{
	u64 end = os_clock_ms() + 2500, last = os_clock_ms(), longest = 0, r = rng_of(1);

	NEEDS_HUGE_PAGES();
	kmm_params.decay_ms = 150;	/* 600 ms of quiet */
	fill();
	while (os_clock_ms() < end) {
		longest = max(longest, os_clock_ms() - last);
		last = os_clock_ms();
		for (size_t i = rng_below(&r, 64) * 64; i < NR; i += 4096) {
			kfree(objects[i]);
			objects[i] = NULL;
		}
		kmem_cache_shrink_all();
		run_for(50);
		for (size_t i = 0; i < NR; i++) {
			if (objects[i])
				continue;
			objects[i] = kmalloc(SIZE);
			*objects[i] = i;
		}
	}
	if (longest >= 300)
		cr_skip_test("no change for %llu ms", (unsigned long long)longest);
	cr_assert_eq(global_vm_event(VM_thp_collapse_alloc), 0u);
}

static void give_back_most(void)
{
	struct scan_control sc;

	for (size_t i = 0; i < NR; i++) {
		if (i / (PAGEBLOCK_SIZE / SIZE / 8) % 4 == 0)
			continue;
		kfree(objects[i]);
		objects[i] = NULL;
	}
	trim_begin(&sc);
	while (trim_slice(&sc, 0))
		;
	trim_end(&sc, 0);
}

Test(huge_memory, what_is_given_back_in_part_is_split)
{
	NEEDS_HUGE_PAGES();
	fill();
	run_until(VM_thp_collapse_alloc, NR_BLOCKS - 2);
	give_back_most();
	run_until(VM_thp_split_page, NR_BLOCKS / 2);
	check();
	cr_assert_lt(smaps("Pss:"), (long)(NR_BLOCKS * 1024 + 16384));
	cr_assert_lt(smaps("AnonHugePages:"), (long)(NR_BLOCKS * 1024));
}

/* The child shares huge pages, then writes to them; the parent's stay. */
Test(huge_memory, fork_after_collapse)
{
	int status;
	pid_t pid;

	NEEDS_HUGE_PAGES();
	fill();
	run_until(VM_thp_collapse_alloc, NR_BLOCKS / 2);
	pid = fork();
	if (pid == 0) {
		khugepaged_exit();
		for (size_t i = 0; i < NR; i++) {
			if (*objects[i] != i)
				_exit(1);
			*objects[i] = ~i;
		}
		run_for(1500);
		for (size_t i = 0; i < NR; i++)
			if (*objects[i] != ~i)
				_exit(2);
		_exit(0);
	}
	cr_assert_gt(pid, 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	check();
	give_back_most();
	run_until(VM_thp_split_page, 1);
	check();
}

Test(huge_memory, shared_pages_are_not_copied)
{
	pid_t pid;

	NEEDS_HUGE_PAGES();
	fill();
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	run_for(1500);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_assert_eq(global_vm_event(VM_thp_collapse_alloc), 0u, "they are a child's as well");
	check();
}

Test(huge_memory, gives_up_where_it_is_forbidden)
{
	NEEDS_HUGE_PAGES();
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0)
		cr_skip_test("cannot be forbidden");
	fill();
	run_until(VM_thp_collapse_alloc_failed, 1);
	for (int i = 0; i < 200 && khugepaged_run(1, true, never) != NEVER_MS; i++)
		usleep(100000);
	cr_assert_eq(khugepaged_run(1, true, never), NEVER_MS);
	cr_assert_leq(global_vm_event(VM_thp_collapse_alloc_failed), 4u);
	cr_assert_eq(global_vm_event(VM_thp_collapse_alloc), 0u);
	cr_assert_not(has_flag(objects[NR / 2], " hg"));
	check();
}
