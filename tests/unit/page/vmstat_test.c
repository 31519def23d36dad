/* SPDX-License-Identifier: MIT */
/* vmstat_test.c - counters are summed over whatever CPUs they landed on. */
#include "page/vmstat.h"

#include "../boot.h"
#include "page/percpu.h"

TestSuite(vmstat, .timeout = 60);

Test(vmstat, names)
{
	for (int i = 0; i < NR_VMSTAT_ITEMS; i++) {
		cr_assert_not_null(vmstat_names[i]);
		cr_assert_gt(strlen(vmstat_names[i]), 0);
		for (int k = 0; k < i; k++)
			cr_assert_str_neq(vmstat_names[i], vmstat_names[k]);
	}
	cr_assert_str_eq(vmstat_names[VM_pgalloc_brk], "pgalloc_brk");
	cr_assert_str_eq(vmstat_names[VM_alloc_fail], "alloc_fail");
}

Test(vmstat, counts_before_the_first_area)
{
	cr_assert_eq(global_vm_event(VM_fork), 0u);
	count_vm_event(VM_fork);
	count_vm_events(VM_fork, 41);
	cr_assert_eq(global_vm_event(VM_fork), 42u);
	boot_pages(PERCPU_AUTO);
	cr_assert_eq(percpu_online(3), 0);
	cr_assert_eq(global_vm_event(VM_fork), 42u, "nothing is lost when areas come online");
	count_vm_events(VM_fork, 1ull << 40);
	cr_assert_eq(global_vm_event(VM_fork), (1ull << 40) + 42);
	cr_assert_eq(global_vm_event(VM_rcu_read_lock_fallback), 0u, "neighbours are left alone");
}

enum { NR_THREADS = 6 };
static u64 sums[NR_THREADS][NR_VMSTAT_ITEMS];

static void *counter(void *arg)
{
	u64 *mine = sums[(uintptr_t)arg], r = rng_of((uintptr_t)arg);

	for (unsigned i = 0; i < rounds(50000); i++) {
		unsigned item = rng_below(&r, NR_VMSTAT_ITEMS);
		u64 n = rng_below(&r, 1000), before = 0;

		if (i % 1000 == 0) {
			pin_to(rng_below(&r, 64));
			before = global_vm_event((enum vmstat_item)item);
		}
		count_vm_events((enum vmstat_item)item, n);
		mine[item] += n;
		CHECK(!before || global_vm_event((enum vmstat_item)item) >= before + n);
	}
	return NULL;
}

Test(vmstat, sums_over_cpus_and_threads)
{
	u64 before[NR_VMSTAT_ITEMS];

	boot_pages(PERCPU_AUTO);
	cr_assert_eq(percpu_online(7), 0);
	for (int i = 0; i < NR_VMSTAT_ITEMS; i++)
		before[i] = global_vm_event((enum vmstat_item)i);
	run_threads(NR_THREADS, counter);
	for (int i = 0; i < NR_VMSTAT_ITEMS; i++) {
		u64 want = before[i];

		for (int t = 0; t < NR_THREADS; t++)
			want += sums[t][i];
		cr_assert_eq(global_vm_event((enum vmstat_item)i), want, "%s", vmstat_names[i]);
	}
}
