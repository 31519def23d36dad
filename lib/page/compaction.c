/* SPDX-License-Identifier: MIT */
/*
 * compaction.c - the policy of compaction: by what, when, and how much at a time.
 *
 * Purpose. Free memory between live objects goes home only after those have been brought together. How that is done is
 * a compactor's matter (mm/mesh.c: by remapping; mm/mesh_ksm.c: by making pages equal); here is who does it and when.
 *
 * Which. KMM_COMPACT names one, or auto: the first that can work. A compactor is opened by the background thread, when
 * there is something to compact for the first time. One that cannot work is not tried again; where the setting asked for
 * it by name a line in the log says why.
 *
 * When. A pass a decay time after the last one, while memory is on the move: while slow paths run, reclaim has not yet
 * seen everything go home, or the last pass found things too young. After one that freed nothing FAIL_PAUSE times as long as
 * it took, so that looking in vain does not cost more than a sixteenth of a CPU. In auto mode only where a 64th of the heap,
 * and MIN_GAIN, is to be had; not so where the kernel says that memory is short (vmpressure.c): then passes are eager.
 *
 * Slices. A turn of the background thread lasts TURN_MS; then reclaim has its own. Each slice of a compactor is shorter
 * than any allocation should wait.
 *
 *	kcompactd_run: idle --(due)--> pass: slice, slice | turn over | slice, ... end --> idle
 *
 * Towards contiguous memory, pages that are in use and scattered, see huge_memory.c, which has its turn here as well.
 *
 * Counted as the kernel counts: compact_stall: somebody waited for a pass (kmm_compact), compact_success: a pass freed
 * memory, compact_fail: it did not.
 *
 * Locks. None: everything belongs to the background thread, but for requests, which are two counters: what is wanted,
 * and what is done. pass: seen = wanted; ...; done = seen, wake.
 *
 * Kernel counterpart. mm/compaction.c: kcompactd, compact_zone, struct compact_control, proactive compaction,
 * defer_compaction().
 */
#include "page/compaction.h"

#include "base/param.h"
#include "base/printk.h"
#include "os/os.h"
#include "page/huge_memory.h"
#include "page/vmpressure.h"
#include "page/vmstat.h"
#include <errno.h>

#define TURN_MS	   50u
#define PERIOD_MIN_MS 100u
#define HEAP_SHARE 64
#define MIN_GAIN   MIB(1)
#define FAIL_PAUSE 16u			/* times as long as a pass took in vain */
#define FAIL_PAUSE_MAX_MS 8000u
#define WAIT_STEP_MS 100u
#define WAIT_MAX_MS  30000u

static struct compactor *compactors, *chosen;
static bool none_works;

/* The background thread's. */
static struct compact_control pass;
static bool running, changed = true;
static u32 due_ms, serving;

/* Between program and background thread. */
static u32 wanted, done;
static u64 nr_freed;			/* bytes in all passes */

__init void register_compactor(struct compactor *c)
{
	struct compactor **end = &compactors;

	while (*end)
		end = &(*end)->next;
	*end = c;
}

static bool is_asked_for(const struct compactor *c)
{
	return kmm_params.compact == COMPACT_AUTO || kmm_params.compact == (int)c->mode;
}

static bool choose_compactor(void)
{
	for (struct compactor *c = compactors; c && !chosen && !none_works; c = c->next) {
		int ret = is_asked_for(c) ? c->open() : -ENOENT;

		if (ret == 0)
			chosen = c;
		else if (ret != -ENOENT && (kmm_params.compact != COMPACT_AUTO || kmm_params.verbose))
			pr_warn("compaction: %s cannot work here (error %d): %s", c->name, -ret, c->needs(ret));
	}
	none_works = !chosen;
	return chosen;
}

static u64 resident_heap(void)
{
	u64 pages = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++)
		pages += READ_ONCE(zones[z].present_pages) - READ_ONCE(zones[z].free_pages);
	return pages << PAGE_SHIFT;
}

static u32 period_ms(void)
{
	u64 decay = vmpressure_decay_ms(vmpressure_level(), READ_ONCE(kmm_params.decay_ms));

	return (u32)clamp(decay, (u64)PERIOD_MIN_MS, (u64)NEVER_MS / 4);
}

static void begin_pass(u32 now)
{
	serving = __atomic_load_n(&wanted, __ATOMIC_SEQ_CST);
	pass = (struct compact_control){
		.whole = serving != done,
		.eager = kmm_params.compact != COMPACT_AUTO || serving != done || vmpressure_level() >= VMPRESSURE_MEDIUM,
		.now_ms = now,
		.worthwhile = max(resident_heap() / HEAP_SHARE, MIN_GAIN),
	};
	running = true;
	changed = false;
}

static void end_requests(void)
{
	__atomic_store_n(&done, serving, __ATOMIC_SEQ_CST);
	futex_wake(&done, INT32_MAX);
}

static void refuse_requests(void)
{
	serving = READ_ONCE(wanted);
	end_requests();
}

/* Returns how long to wait for the next, if there is a reason for one. */
static u32 end_pass(u32 now)
{
	u32 pause = period_ms();

	running = false;
	changed |= pass.again;
	if (pass.nr_freed <= 0)
		pause = max(pause, min((now - pass.now_ms) * FAIL_PAUSE, FAIL_PAUSE_MAX_MS));
	due_ms = now + pause;
	if (pass.nr_freed > 0) {
		__atomic_add_fetch(&nr_freed, (u64)pass.nr_freed, __ATOMIC_RELAXED);
		count_vm_event(VM_compact_success);
		if (kmm_params.verbose)
			pr_info("compaction by %s: %llu kB went home", chosen->name, (unsigned long long)pass.nr_freed >> 10);
	} else {
		count_vm_event(VM_compact_fail);
	}
	end_requests();
	return pause;
}

static u32 compact_turn(u32 reclaim_ms, bool may_open, bool (*stop)(void))
{
	u32 now = (u32)os_clock_ms(), pause;
	bool asked = READ_ONCE(wanted) != READ_ONCE(done);

	changed |= reclaim_ms != NEVER_MS;
	if (kmm_params.compact == COMPACT_OFF || none_works || !may_open || (!running && !asked && !changed)) {
		if (asked)
			refuse_requests();
		return NEVER_MS;
	}
	if (!running && !asked && (s32)(due_ms - now) > 0)
		return due_ms - now;
	if (!chosen && !choose_compactor())
		return NEVER_MS;
	if (!running)
		begin_pass(now);
	while (chosen->scan(&pass)) {
		if (stop() || (u32)os_clock_ms() - now >= TURN_MS) {
			kswapd_own_events();
			return 1;
		}
	}
	pause = end_pass((u32)os_clock_ms());
	kswapd_own_events();
	return READ_ONCE(wanted) != done ? 1 : changed ? pause : NEVER_MS;
}

u32 kcompactd_run(u32 reclaim_ms, bool may_open, bool (*stop)(void))
{
	return min(compact_turn(reclaim_ms, may_open, stop), khugepaged_run(reclaim_ms, may_open, stop));
}

void kcompactd_exit(void)
{
	khugepaged_exit();
	if (chosen)
		chosen->forget();
	running = none_works = false;
	chosen = NULL;
	changed = true;
	refuse_requests();
}

/* --- by the program ------------------------------------------------------------------------------------------- */

u32 compact_request(void)
{
	if (kmm_params.compact == COMPACT_OFF || none_works || !kswapd_is_alive())
		return 0;
	count_vm_event(VM_compact_stall);
	return __atomic_add_fetch(&wanted, 1, __ATOMIC_SEQ_CST);
}

size_t compact_wait(u32 request)
{
	u64 before = __atomic_load_n(&nr_freed, __ATOMIC_RELAXED);
	u32 seen;

	for (u32 ms = 0; request && ms < WAIT_MAX_MS && kswapd_is_alive(); ms += WAIT_STEP_MS) {
		seen = __atomic_load_n(&done, __ATOMIC_SEQ_CST);
		if ((s32)(seen - request) >= 0)
			break;
		futex_wait(&done, seen, WAIT_STEP_MS);
	}
	return (size_t)(__atomic_load_n(&nr_freed, __ATOMIC_RELAXED) - before);
}
