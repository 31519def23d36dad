/* SPDX-License-Identifier: MIT */
/* vmpressure_test.c - levels of pressure by room below a limit, on a made-up hierarchy; what they do to the decay time. */
#include "page/vmpressure.h"

#include "../made_up.h"
#include "os/cgroup.h"
#include "os/pressure.h"
#include "page/percpu.h"
#include "page/reclaim.h"
#include "page/vmstat.h"
#include <sys/stat.h>
#include <unistd.h>

static u32 now = 1000;

static void setup(void)
{
	char name[256];

	boot_pages(PERCPU_AUTO);
	cr_assert_eq(percpu_online(1), 0);
	strcpy(top, "/tmp/kmm-vmpressure-XXXXXX");
	cr_assert_not_null(mkdtemp(top));
	snprintf(name, sizeof(name), "%s/cg", top);
	cr_assert_eq(mkdir(name, 0700), 0);
	cgroup_proc_dir = top;
	pressure_psi_path = "/nowhere";
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", top);
	cr_assert_eq(system(command), 0);
}

TestSuite(vmpressure, .init = setup, .fini = teardown, .timeout = 30);

/* The level after the next look, which is waited for. */
static enum vmpressure_level look(void)
{
	u32 ms;

	now += 20000;
	ms = vmpressure_look(now);
	cr_assert_gt(ms, 0u);
	cr_assert_leq(vmpressure_look(now + 1), ms, "not yet");
	return vmpressure_level();
}

static void version_2(u64 max, u64 high, u64 current, u64 cache)
{
	write_file("cgroup", "0::/\n");
	write_file("mountinfo", "31 23 0:28 / %s/cg rw - cgroup2 cgroup2 rw\n", top);
	write_file("cg/memory.max", "%llu\n", (unsigned long long)max);
	write_file("cg/memory.high", "%llu\n", (unsigned long long)high);
	write_file("cg/memory.current", "%llu\n", (unsigned long long)current);
	write_file("cg/memory.stat", "anon 17\ninactive_file %llu\nactive_file 3\n", (unsigned long long)cache);
}

Test(vmpressure, by_room)
{
	cr_assert_eq(vmpressure_of_room(0, CGROUP_NONE, false), VMPRESSURE_NONE);
	cr_assert_eq(vmpressure_of_room(MIB(8), MIB(64), false), VMPRESSURE_NONE);
	cr_assert_eq(vmpressure_of_room(MIB(8) - 1, MIB(64), false), VMPRESSURE_LOW);
	cr_assert_eq(vmpressure_of_room(MIB(4) - 1, MIB(64), false), VMPRESSURE_MEDIUM);
	cr_assert_eq(vmpressure_of_room(MIB(2) - 1, MIB(64), false), VMPRESSURE_CRITICAL);
	cr_assert_eq(vmpressure_of_room(0, MIB(64), true), VMPRESSURE_MEDIUM, "reaching a soft limit is not fatal");
}

/* Shorter with each level, never longer than without, and 0 stays 0. */
Test(vmpressure, decay)
{
	static const u64 decays[] = { 0, 1, 250, 1000, 86400000 };

	for (unsigned i = 0; i < ARRAY_SIZE(decays); i++) {
		cr_assert_eq(vmpressure_decay_ms(VMPRESSURE_NONE, decays[i]), decays[i]);
		for (int l = VMPRESSURE_LOW; l <= VMPRESSURE_CRITICAL; l++)
			cr_assert_leq(vmpressure_decay_ms(l, decays[i]), vmpressure_decay_ms(l - 1, decays[i]));
	}
	cr_assert_eq(vmpressure_decay_ms(VMPRESSURE_CRITICAL, 86400000), 10u);
	cr_assert_eq(vmpressure_decay_ms(VMPRESSURE_MEDIUM, 250), 62u);
}

Test(vmpressure, version_2)
{
	version_2(MIB(64), MIB(512), MIB(10), 0);
	cr_assert_eq(look(), VMPRESSURE_NONE);
	version_2(MIB(64), MIB(512), MIB(61), 0);
	cr_assert_eq(look(), VMPRESSURE_MEDIUM);
	cr_assert_eq(global_vm_event(VM_vmpressure_medium), 1u);
	version_2(MIB(64), MIB(512), MIB(61), MIB(30));
	cr_assert_eq(look(), VMPRESSURE_NONE, "the kernel takes page cache back by itself");
	version_2(MIB(64), MIB(512), MIB(64), 0);
	cr_assert_eq(look(), VMPRESSURE_CRITICAL);
	version_2(MIB(512), MIB(64), MIB(70), 0);
	cr_assert_eq(look(), VMPRESSURE_MEDIUM, "memory.high");
	vmpressure_forget();
	cr_assert_eq(vmpressure_level(), VMPRESSURE_NONE);
}

Test(vmpressure, version_1)
{
	write_file("cgroup", "4:memory:/\n");
	write_file("mountinfo", "31 23 0:28 / %s/cg rw - cgroup cgroup rw,memory\n", top);
	write_file("cg/memory.limit_in_bytes", "%lu\n", MIB(64));
	write_file("cg/memory.soft_limit_in_bytes", "9223372036854771712\n");
	write_file("cg/memory.usage_in_bytes", "%lu\n", MIB(63));
	write_file("cg/memory.stat", "inactive_file 99999999\ntotal_inactive_file 4096\n");
	cr_assert_eq(look(), VMPRESSURE_CRITICAL);
	write_file("cg/memory.usage_in_bytes", "%lu\n", MIB(57));
	cr_assert_eq(look(), VMPRESSURE_LOW);
	write_file("cg/memory.limit_in_bytes", "9223372036854771712\n");
	cr_assert_eq(look(), VMPRESSURE_NONE);
	write_file("cg/memory.soft_limit_in_bytes", "%lu\n", MIB(32));
	cr_assert_eq(look(), VMPRESSURE_MEDIUM, "the soft limit");
}

Test(vmpressure, no_group)
{
	cr_assert_eq(look(), VMPRESSURE_NONE);
	version_2(MIB(64), MIB(512), MIB(64), 0);
	vmpressure_forget();
	cr_assert_eq(look(), VMPRESSURE_CRITICAL, "a group that was made later is found by the next background thread");
}

/* Closing a trigger keeps a process from ending for an RCU grace period: one that ends soon asks for none. */
Test(vmpressure, short_lives_ask_for_no_signal)
{
	static char psi[sizeof(top) + 8];
	struct stat st;

	write_file("psi", "%s", "");
	snprintf(psi, sizeof(psi), "%s/psi", top);
	pressure_psi_path = psi;
	vmpressure_look(now);
	vmpressure_look(now + 9000);
	cr_assert(stat(psi, &st) == 0 && st.st_size == 0, "no trigger yet");
	cr_assert_eq(look(), VMPRESSURE_NONE);
	cr_assert(stat(psi, &st) == 0 && st.st_size > 0);
	vmpressure_forget();
}

/* A pass takes what has been free for the time that the level allows, and all of it at once when it is critical. */
Test(vmpressure, a_pass_hurries)
{
	struct scan_control sc;
	struct page *block[48];

	kmm_params.decay_ms = 3600000;
	kswapd_running = true;
	for (unsigned i = 0; i < ARRAY_SIZE(block); i++) {
		block[i] = alloc_pages(9, MIGRATE_MOVABLE);
		cr_assert_not_null(block[i]);
		memset(page_address(block[i]), 1, PAGEBLOCK_SIZE);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(block); i++)
		free_pages(block[i], 9);
	for (u64 start = os_clock_ms(); os_clock_ms() < start + 40;)
		os_yield();
	kswapd_begin(&sc);
	while (shrink_slice(&sc))
		;
	kswapd_end(&sc);
	cr_assert_eq(sc.nr_reclaimed, 0u, "nothing is an hour old");
	version_2(MIB(64), MIB(512), MIB(64), 0);
	cr_assert_eq(look(), VMPRESSURE_CRITICAL);
	kswapd_begin(&sc);
	while (shrink_slice(&sc))
		;
	kswapd_end(&sc);
	cr_assert_geq(sc.nr_reclaimed, MIB(96));
}
