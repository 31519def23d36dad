/* SPDX-License-Identifier: MIT */
/* compaction_test.c - when a pass is made, by which compactor, and who is told. */
#include "page/compaction.h"
#include "page/huge_memory.h"

#include "../boot.h"
#include "base/printk.h"
#include "page/vmstat.h"

TestSuite(compaction, .init = boot_auto, .timeout = 60);

static int open_result, nr_opened, nr_scans, nr_forgotten;
static bool wants_again, saw_eager, saw_whole;
static unsigned slice_us;
static s64 gain;

static int fake_open(void)
{
	nr_opened++;
	return open_result;
}

static bool fake_scan(struct compact_control *cc)
{
	saw_eager = cc->eager;
	saw_whole = cc->whole;
	usleep(slice_us);
	if (++nr_scans % 3)
		return true;
	cc->nr_freed = gain;
	cc->again = wants_again;
	return false;
}

static void fake_forget(void)
{
	nr_forgotten++;
}

static const char *fake_needs(int error)
{
	return error == -EPERM ? "a right" : "luck";
}

/* In place of those that boot has registered. */
static struct compactor fake = { .name = "fake", .mode = COMPACT_OFF, .open = fake_open, .scan = fake_scan, .forget = fake_forget,
				 .needs = fake_needs };

static bool never(void)
{
	return false;
}

static void use_fake(void)
{
	fake.mode = (enum compact_mode)7;	/* no setting's, so that the real ones are not asked */
	kmm_params.compact = 7;
	kmm_params.decay_ms = 100;
	kmm_params.thp = THP_NEVER;	/* huge pages have a test of their own */
	register_compactor(&fake);
}

static u32 run(u32 reclaim_ms)
{
	u32 ms;

	while ((ms = kcompactd_run(reclaim_ms, true, never)) == 1)
		;
	return ms;
}

Test(compaction, off_does_nothing)
{
	use_fake();
	kmm_params.compact = COMPACT_OFF;
	cr_assert_eq(run(1), NEVER_MS);
	cr_assert_eq(nr_opened, 0);
	kswapd_running = true;
	cr_assert_eq(compact_request(), 0u);
}

Test(compaction, passes_follow_at_a_distance)
{
	use_fake();
	gain = 4096;
	cr_assert_eq(run(1), NEVER_MS, "reclaim, which is still at it, will come back anyway");
	cr_assert_eq(nr_scans, 3);
	cr_assert(saw_eager);
	cr_assert_not(saw_whole);
	cr_assert_leq(run(1), 100u, "not before a decay time is over");
	cr_assert_eq(nr_scans, 3);
	usleep(150000);
	cr_assert_eq(run(NEVER_MS), NEVER_MS, "the second sees that nothing moves any more");
	cr_assert_eq(nr_scans, 6);
	usleep(150000);
	cr_assert_eq(run(NEVER_MS), NEVER_MS);
	cr_assert_eq(nr_scans, 6, "and there is no third");
	cr_assert_eq(nr_opened, 1);
	cr_assert_eq(global_vm_event(VM_compact_success), 2u);
	cr_assert_eq(global_vm_event(VM_compact_fail), 0u);
}

Test(compaction, what_was_too_young_is_looked_at_again)
{
	use_fake();
	wants_again = true;
	cr_assert_eq(run(NEVER_MS), 100u);
	cr_assert_eq(global_vm_event(VM_compact_fail), 1u, "it freed nothing");
}

Test(compaction, what_is_long_and_in_vain_is_not_repeated_soon)
{
	u32 pause;

	use_fake();
	wants_again = true;
	slice_us = 10000;
	pause = run(NEVER_MS);
	cr_assert_geq(pause, 300u, "the pass took 30 ms at least, less a step of the clock");
	usleep(150000);
	run(NEVER_MS);
	cr_assert_eq(nr_scans, 3);
	gain = 4096;
	usleep((pause + 50) * 1000);
	cr_assert_eq(run(NEVER_MS), 100u, "it freed something");
	cr_assert_eq(nr_scans, 6);
}

Test(compaction, requests_are_served_at_once)
{
	u32 request;

	use_fake();
	gain = 8192;
	kswapd_running = true;
	run(1);
	request = compact_request();
	cr_assert_neq(request, 0u);
	run(NEVER_MS);
	cr_assert_eq(nr_scans, 6, "although none is due");
	cr_assert(saw_whole);
	cr_assert_eq(compact_wait(request), 0u, "done before it was waited for: nothing since");
	cr_assert_eq(global_vm_event(VM_compact_stall), 1u);
}

Test(compaction, nobody_waits_for_a_thread_that_ends)
{
	u32 request;

	use_fake();
	run(1);
	kswapd_running = true;
	request = compact_request();
	kcompactd_exit();
	cr_assert_eq(nr_forgotten, 1);
	cr_assert_eq(compact_wait(request), 0u);
	usleep(150000);
	run(1);
	cr_assert_eq(nr_opened, 2, "the next thread opens it anew");
}

static char said[2000];

static ssize_t hear(const char *buf, size_t len)
{
	strncat(said, buf, min(len, sizeof(said) - strlen(said) - 1));
	return (ssize_t)len;
}

Test(compaction, one_line_where_it_cannot_work)
{
	use_fake();
	open_result = -EPERM;
	console_write = hear;
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(run(1), NEVER_MS);
		usleep(110000);
	}
	cr_assert_eq(nr_opened, 1, "it is not tried again");
	cr_assert_not_null(strstr(said, "fake cannot work here"));
	cr_assert_not_null(strstr(said, "a right"));
	cr_assert_eq(strchr(said, '\n'), strrchr(said, '\n'), "%s", said);
	kswapd_running = true;
	cr_assert_eq(compact_request(), 0u, "and nobody need wait");
}
