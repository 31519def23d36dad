/* SPDX-License-Identifier: MIT */
/* psi_test.c - pressure on a made-up clock: totals, averages, some and full, decay while nobody looks. */
#include "page/psi.h"

#include "../boot.h"

#define SEC 1000000000ull
#define MS  1000000ull
static struct psi_group psi;
static struct psi_show show[NR_PSI_STATES];
static u64 now = 1000 * SEC;
static const char t1, t2, t3;		/* threads */

TestSuite(psi, .timeout = 30);

static void look(void)
{
	psi_show(&psi, now, show);
}

/* One thread waits for so long. */
static void wait(const void *thread, u64 ns)
{
	psi_stall_begin(&psi, now, thread);
	now += ns;
	psi_stall_end(&psi, now, thread);
}

Test(psi, nothing)
{
	look();
	for (int s = 0; s < NR_PSI_STATES; s++) {
		cr_assert_eq(show[s].total_us, 0u);
		for (int a = 0; a < NR_PSI_AVGS; a++)
			cr_assert_eq(show[s].avg[a], 0u);
	}
}

Test(psi, one_thread_is_some_and_full)
{
	wait(&t1, 30 * MS);
	look();
	cr_assert_eq(show[PSI_SOME].total_us, 30000u);
	cr_assert_eq(show[PSI_FULL].total_us, 30000u, "nobody else wants memory");
	now += 5 * SEC;
	wait(&t1, 7 * MS);
	look();
	cr_assert_eq(show[PSI_SOME].total_us, 37000u);
	cr_assert_eq(show[PSI_FULL].total_us, 37000u, "its own being busy in between does not count");
}

/* Waits that overlap count once. */
Test(psi, some_is_a_union)
{
	psi_stall_begin(&psi, now, &t1);
	now += 10 * MS;
	psi_stall_begin(&psi, now, &t2);
	now += 10 * MS;
	look();
	cr_assert_eq(show[PSI_SOME].total_us, 20000u, "seen while it goes on");
	psi_stall_end(&psi, now, &t1);
	now += 10 * MS;
	psi_stall_end(&psi, now, &t2);
	now += SEC;
	look();
	cr_assert_eq(show[PSI_SOME].total_us, 30000u);
	cr_assert_eq(psi.nr_stalled, 0u);
}

/* While another one asks for memory it is not full; that one is taken for busy for PSI_BUSY_NS. */
Test(psi, full_needs_all)
{
	psi_note_busy(&psi, now, &t2);		/* nobody waits: not even noted */
	cr_assert_eq(psi.busy_until_ns, 0u);
	psi_stall_begin(&psi, now, &t1);
	for (int i = 0; i < 10; i++) {
		now += 5 * MS;
		psi_note_busy(&psi, now, &t2);
	}
	now += 100 * MS;			/* it has gone to sleep */
	psi_stall_end(&psi, now, &t1);
	look();
	cr_assert_eq(show[PSI_SOME].total_us, 150000u);
	cr_assert_eq(show[PSI_FULL].total_us, 5000 + 100000 - PSI_BUSY_NS / 1000);
	cr_assert_leq(show[PSI_FULL].total_us, show[PSI_SOME].total_us);
}

/* As soon as the one that was busy waits as well, it is full again. */
Test(psi, the_last_busy_one_begins_to_wait)
{
	psi_stall_begin(&psi, now, &t1);
	psi_note_busy(&psi, now, &t2);
	now += 2 * MS;
	psi_stall_begin(&psi, now, &t2);
	now += 8 * MS;
	look();
	cr_assert_eq(show[PSI_FULL].total_us, 8000u);
	psi_stall_end(&psi, now, &t2);		/* goes on, and is busy */
	now += 3 * MS;
	psi_stall_begin(&psi, now, &t3);	/* another one does not end that */
	now += 4 * MS;
	look();
	cr_assert_eq(show[PSI_FULL].total_us, 8000u);
	cr_assert_eq(show[PSI_SOME].total_us, 17000u);
}

/* Half of the time, for long: every average comes to 50 per cent; then they decay, the short one first. */
Test(psi, averages)
{
	for (int i = 0; i < 3000; i++) {
		wait(&t1, 500 * MS);
		now += 500 * MS;
	}
	look();
	for (int a = 0; a < NR_PSI_AVGS; a++)
		cr_assert(show[PSI_SOME].avg[a] >= 4900 && show[PSI_SOME].avg[a] <= 5100, "%u", show[PSI_SOME].avg[a]);
	now += 10 * SEC;
	look();
	cr_assert(show[PSI_SOME].avg[PSI_AVG10] > 1500 && show[PSI_SOME].avg[PSI_AVG10] < 2200, "1/e of it: %u",
		  show[PSI_SOME].avg[PSI_AVG10]);
	cr_assert_gt(show[PSI_SOME].avg[PSI_AVG60], 4000u);
	cr_assert_gt(show[PSI_SOME].avg[PSI_AVG300], 4700u);
	now += 50 * SEC;
	look();
	cr_assert_lt(show[PSI_SOME].avg[PSI_AVG10], 20u);
	cr_assert(show[PSI_SOME].avg[PSI_AVG60] > 1500 && show[PSI_SOME].avg[PSI_AVG60] < 2200);
	now += 1000000 * SEC;
	look();
	for (int a = 0; a < NR_PSI_AVGS; a++)
		cr_assert_eq(show[PSI_SOME].avg[a], 0u);
	cr_assert_eq(show[PSI_SOME].total_us, 3000 * 500000ull);
}

/* A wait of a minute that nobody looked at in between fills the periods that it lay in. */
Test(psi, one_long_wait)
{
	wait(&t1, 1);
	now += 10 * SEC;
	wait(&t1, 60 * SEC);
	look();
	cr_assert_gt(show[PSI_SOME].avg[PSI_AVG10], 9700u);
	cr_assert_leq(show[PSI_SOME].avg[PSI_AVG10], 10000u);
	cr_assert(show[PSI_FULL].avg[PSI_AVG60] > 5500 && show[PSI_FULL].avg[PSI_AVG60] < 7000, "%u", show[PSI_FULL].avg[PSI_AVG60]);
}

Test(psi, a_child_has_nobody_who_waits)
{
	psi_stall_begin(&psi, now, &t1);
	psi_stall_begin(&psi, now, &t2);
	now += MS;
	psi_reset_child(&psi);
	psi_stall_end(&psi, now, &t1);		/* the forking thread itself was waiting */
	cr_assert_eq(psi.nr_stalled, 0u);
	now += SEC;
	wait(&t1, MS);
	look();
	cr_assert_leq(show[PSI_SOME].total_us, 2000u);
}
