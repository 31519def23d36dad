/* SPDX-License-Identifier: MIT */
/* Which CPUs share a core and a cache: synthetic machines through the real hwloc, and this one. */
#include "arch/topology.h"

#include <criterion/criterion.h>

TestSuite(topology);

static u32 nr_cores(unsigned cpus)
{
	u32 seen[TOPOLOGY_MAX_CPUS] = { 0 }, nr = 0;

	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		cr_assert_lt(topology_core(cpu), (u32)TOPOLOGY_MAX_CPUS);
		nr += seen[topology_core(cpu)]++ == 0;
	}
	return nr;
}

static void check_siblings(unsigned cpu, u32 expected)
{
	u32 sib[64];

	cr_assert_eq(topology_siblings(cpu, sib, 64), expected, "CPU %u", cpu);
	for (u32 i = 0; i < expected; i++) {
		cr_assert_neq(sib[i], cpu);
		cr_assert_eq(topology_core(sib[i]), topology_core(cpu));
		cr_assert_eq(topology_llc(sib[i]), topology_llc(cpu));
	}
}

Test(topology, before_hwloc)
{
	u32 sib[4];

	cr_assert(!topology_loaded());
	cr_assert_eq(topology_core(5), 5u);
	cr_assert_eq(topology_llc(5), 0u);
	cr_assert_eq(topology_siblings(5, sib, 4), 0u);
	cr_assert_eq(topology_llc(100000), 0u);
}

Test(topology, two_packages_with_threads)
{
	cr_assert_eq(topology_load("pack:2 l3:2 core:4 pu:2"), 0);
	cr_assert(topology_loaded());
	cr_assert_eq(nr_cores(32), 16u);
	for (unsigned cpu = 0; cpu < 32; cpu++) {
		cr_assert_eq(topology_llc(cpu), cpu / 8);
		cr_assert_eq(topology_core(cpu), cpu / 2);
		check_siblings(cpu, 1);
	}
}

Test(topology, four_threads_a_core)
{
	u32 sib[2];

	cr_assert_eq(topology_load("pack:1 l3:1 core:3 pu:4"), 0);
	check_siblings(0, 3);
	check_siblings(11, 3);
	cr_assert_eq(topology_siblings(4, sib, 2), 2u);
}

/* Numbers as firmware likes to give them: the second threads of all cores come after the first ones, with a gap. */
Test(topology, sparse_and_interleaved_numbers)
{
	cr_assert_eq(topology_load("pack:1 l3:2 core:2 pu:2(indexes=0,100,2,102,4,104,6,106)"), 0);
	for (unsigned cpu = 0; cpu < 8; cpu += 2) {
		u32 sib;

		cr_assert_eq(topology_siblings(cpu, &sib, 1), 1u);
		cr_assert_eq(sib, cpu + 100);
		cr_assert_eq(topology_core(cpu + 100), topology_core(cpu));
		cr_assert_eq(topology_llc(cpu), cpu / 4);
		cr_assert_eq(topology_llc(cpu + 100), cpu / 4);
	}
	cr_assert_eq(nr_cores(TOPOLOGY_MAX_CPUS), TOPOLOGY_MAX_CPUS - 4u, "an unknown CPU shares a core");
}

Test(topology, numbers_beyond_the_tables)
{
	u32 sib;

	cr_assert_eq(topology_load("core:2 pu:2(indexes=0,5000,1,5001)"), 0);
	cr_assert_eq(topology_siblings(0, &sib, 1), 0u);
	cr_assert_neq(topology_core(0), topology_core(1));
	cr_assert_eq(topology_core(5000), 5000u);
}

Test(topology, caches_of_one_core_are_no_domains)
{
	cr_assert_eq(topology_load("numa:2 l2:4 core:1 pu:2"), 0);
	for (unsigned cpu = 0; cpu < 16; cpu++)
		cr_assert_eq(topology_llc(cpu), cpu / 8);
}

Test(topology, no_caches_no_cores)
{
	cr_assert_eq(topology_load("pack:2 pu:4"), 0);
	for (unsigned cpu = 0; cpu < 8; cpu++) {
		cr_assert_eq(topology_llc(cpu), cpu / 4);
		cr_assert_eq(topology_core(cpu), cpu);
		check_siblings(cpu, 0);
	}
}

Test(topology, more_domains_than_there_may_be)
{
	cr_assert_eq(topology_load("pack:256 l3:1 core:2 pu:2"), 0);
	for (unsigned cpu = 0; cpu < 1024; cpu++) {
		cr_assert_eq(topology_llc(cpu), cpu / 8);
		cr_assert_leq(topology_llc(cpu), 127u);
	}
}

Test(topology, nonsense_changes_nothing)
{
	cr_assert_eq(topology_load("pack:2 l3:1 core:2 pu:1"), 0);
	cr_assert_lt(topology_load("pack:two"), 0);
	cr_assert(topology_loaded());
	cr_assert_eq(topology_llc(3), 1u);
}

Test(topology, this_machine)
{
	cr_assert_eq(topology_load(NULL), 0);
	cr_assert(topology_loaded());
	cr_assert_lt(topology_llc(0), 128u);
	cr_assert_eq(nr_cores(TOPOLOGY_MAX_CPUS) <= TOPOLOGY_MAX_CPUS, true);
	for (unsigned cpu = 0; cpu < 64; cpu++) {
		u32 sib[64], nr = topology_siblings(cpu, sib, 64);

		check_siblings(cpu, nr);
	}
}
