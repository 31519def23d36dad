/* SPDX-License-Identifier: MIT */
/*
 * psi.c - pressure of a memory group.
 *
 * Purpose. Tells how much of the time threads of a group spent in reclaim or throttled, in the kernel's format: the share
 * of the last 10, 60 and 300 seconds, and the total.
 *	some	at least one of them waited
 *	full	at least one waited, and none was busy: all that were not idle waited
 * A thread is busy for PSI_BUSY_NS after it has met a slow path of the allocator while others waited, or has ended to wait
 * before them. One that only computes, or lives from what its CPU's sheaves hold, is not seen.
 *
 * The averages are exponential, with one step for each period of two seconds. Nobody runs every two seconds to make it;
 * whoever looks, or begins or ends to wait, makes the steps that are due, those without any wait by decay alone.
 *
 * Locks. One a group, taken for some instructions; nothing is taken inside.
 *
 * Kernel counterpart and what differs. kernel/sched/psi.c (psi_group_change, update_averages, calc_avgs). The kernel knows
 * who would run; here a thread that wants to run for a group is one that asks for memory.
 */
#include "page/psi.h"

#include "base/bug.h"
#include "base/compiler.h"

#define PERIOD_NS    2000000000ull
#define FIXED_SHIFT  11			/* as the load averages of the kernel */
#define FIXED_1	     (1u << FIXED_SHIFT)
#define STEPS_MAX    2000		/* after an hour nothing is left of any average */

/* FIXED_1 / exp(2 s / period), as in include/linux/sched/loadavg.h's way for 10, 60, 300 s. */
static const u32 decay[NR_PSI_AVGS] = { 1677, 1981, 2034 };

/* Kernel: calc_load(). */
static u32 step(u32 avg, u32 factor, u32 percent_fixed)
{
	u64 new = (u64)avg * factor + (u64)percent_fixed * (FIXED_1 - factor);

	if (percent_fixed >= avg)
		new += FIXED_1 - 1;
	return (u32)(new >> FIXED_SHIFT);
}

static void __add_up(struct psi_group *psi, u64 now_ns)
{
	u64 idle_since = max(psi->since_ns, psi->busy_until_ns);

	if (!psi->nr_stalled || now_ns <= psi->since_ns)
		return;
	psi->state[PSI_SOME].total_ns += now_ns - psi->since_ns;
	if (now_ns > idle_since)
		psi->state[PSI_FULL].total_ns += now_ns - idle_since;
	psi->since_ns = now_ns;
}

/* What was waited since the last step counts for the first of those that are due. */
static void __update_state(struct psi_state *state, u64 periods)
{
	u64 waited = state->total_ns - state->avg_total_ns;

	state->avg_total_ns = state->total_ns;
	for (u64 i = 0; i < min(periods, (u64)STEPS_MAX); i++) {
		u64 part = min(waited, PERIOD_NS);
		u32 percent = (u32)(part * 100 * FIXED_1 / PERIOD_NS);

		waited -= part;
		for (int a = 0; a < NR_PSI_AVGS; a++)
			state->avg[a] = step(state->avg[a], decay[a], percent);
	}
}

static void __update_averages(struct psi_group *psi, u64 now_ns)
{
	u64 periods;

	__add_up(psi, now_ns);
	if (!psi->avg_next_ns)
		psi->avg_next_ns = now_ns + PERIOD_NS;
	if (now_ns < psi->avg_next_ns)
		return;
	periods = (now_ns - psi->avg_next_ns) / PERIOD_NS + 1;
	psi->avg_next_ns += periods * PERIOD_NS;
	for (int s = 0; s < NR_PSI_STATES; s++)
		__update_state(&psi->state[s], periods);
}

static void __set_busy(struct psi_group *psi, u64 now_ns, const void *thread)
{
	psi->busy_until_ns = now_ns + PSI_BUSY_NS;
	psi->busy = thread;
}

void psi_stall_begin(struct psi_group *psi, u64 now_ns, const void *thread)
{
	mutex_lock(&psi->lock, LOCK_psi);
	__update_averages(psi, now_ns);
	if (psi->nr_stalled++ == 0)
		psi->since_ns = now_ns;
	if (psi->busy == thread)
		psi->busy_until_ns = min(psi->busy_until_ns, now_ns);
	mutex_unlock(&psi->lock, LOCK_psi);
}

void psi_stall_end(struct psi_group *psi, u64 now_ns, const void *thread)
{
	mutex_lock(&psi->lock, LOCK_psi);
	__update_averages(psi, now_ns);
	if (psi->nr_stalled)		/* a child of fork has forgotten it */
		psi->nr_stalled--;
	__set_busy(psi, now_ns, thread);
	mutex_unlock(&psi->lock, LOCK_psi);
}

void psi_note_busy(struct psi_group *psi, u64 now_ns, const void *thread)
{
	if (!READ_ONCE(psi->nr_stalled))
		return;
	mutex_lock(&psi->lock, LOCK_psi);
	__add_up(psi, now_ns);
	__set_busy(psi, now_ns, thread);
	mutex_unlock(&psi->lock, LOCK_psi);
}

void psi_show(struct psi_group *psi, u64 now_ns, struct psi_show show[NR_PSI_STATES])
{
	mutex_lock(&psi->lock, LOCK_psi);
	__update_averages(psi, now_ns);
	for (int s = 0; s < NR_PSI_STATES; s++) {
		for (int a = 0; a < NR_PSI_AVGS; a++)
			show[s].avg[a] = (u32)((u64)psi->state[s].avg[a] * 100 >> FIXED_SHIFT);
		show[s].total_us = psi->state[s].total_ns / 1000;
	}
	mutex_unlock(&psi->lock, LOCK_psi);
}

void psi_reset_child(struct psi_group *psi)
{
	psi->nr_stalled = 0;
	psi->busy_until_ns = 0;
}
