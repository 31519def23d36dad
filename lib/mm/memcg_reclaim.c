/* SPDX-License-Identifier: MIT */
/*
 * memcg_reclaim.c - what a memory group has over gives way: caches first, then the program's own, then time.
 *
 * Purpose.
 *   over max    The allocation fails inside; out here, with nothing held, room is made: stocks, then the sheaves, barns and
 *               empty slabs of the group and those below it, one membarrier for each, then the program's shrinkers.
 *               As long as that brings something the allocation is tried again; then the policy decides (oom_kill.c).
 *   over high   The allocation succeeds, and the thread pays on its way out: the same reclaim, and if that was not
 *               enough, a wait that grows with the square of how far the group is over: nothing to speak of at first,
 *               at most two seconds.
 *
 * Protection. A group below its min is not reclaimed from for the sake of a group above it; one below its low only when
 * nothing else was to be had (event low). Its own limits do not protect it.
 *
 * Locks. None on entry; memcg for the table of shrinkers. They are called without: who unregisters one waits until nobody
 * is in it.
 *
 * Kernel counterpart and what differs. mm/memcontrol.c: mem_cgroup_handle_over_high(), calculate_high_delay(), try_charge
 * _memcg(). What is reclaimed there are pages in use, here only what is cached; so usage below max is what the program
 * itself has asked for.
 */
#include "mm/memcg_reclaim.h"

#include "internal.h"
#include "mm/gate.h"
#include "os/os.h"
#include <errno.h>

#define RECLAIM_TRIES	  5		/* for one allocation, as long as there is progress */
#define DELAY_MAX_MS	  2000u
#define DELAY_IGNORED_MS  10u		/* not worth a system call */
#define DELAY_PRECISION	  20
#define DELAY_SCALING	  14
#define DELAY_BATCH	  64u		/* pages, for which the delay is meant */
#define NR_SHRINKERS	  32

u32 memcg_nr_stalled;		/* threads that wait now, in whatever group */

/* --- the program's shrinkers ------------------------------------------------------------------------------- */

static struct memcg_shrinker {
	size_t (*shrink)(size_t bytes, void *arg);
	void *arg;
	u32 memcg_id;
	u32 nr_inside;
} shrinkers[NR_SHRINKERS];
static __thread int inside __initial_exec;	/* the entry that this thread is in, 0: none, counted from 1 */

int register_memcg_shrinker(u32 memcg_id, size_t (*shrink)(size_t bytes, void *arg), void *arg)
{
	int ret = -ENOSPC;

	gate_enter();
	memcg_lock();
	for (int i = 0; i < NR_SHRINKERS && ret < 0; i++) {
		if (shrinkers[i].shrink || shrinkers[i].nr_inside)
			continue;
		shrinkers[i] = (struct memcg_shrinker){ shrink, arg, memcg_id, 0 };
		ret = i;
	}
	memcg_unlock();
	gate_leave();
	return ret;
}

int unregister_memcg_shrinker(int nr)
{
	bool found = false;

	if (nr < 0 || nr >= NR_SHRINKERS)
		return -ENOENT;
	gate_enter();
	memcg_lock();
	found = shrinkers[nr].shrink != NULL;
	shrinkers[nr].shrink = NULL;
	memcg_unlock();
	gate_leave();
	while (found && __atomic_load_n(&shrinkers[nr].nr_inside, __ATOMIC_ACQUIRE) > (inside == nr + 1))
		os_yield();
	return found ? 0 : -ENOENT;
}

/* Copies an entry that is for memcg or below, and holds it. */
static bool hold_shrinker(int i, const struct mem_cgroup *memcg, struct memcg_shrinker *copy)
{
	const struct mem_cgroup *of;
	bool held;

	gate_enter();
	memcg_lock();
	of = shrinkers[i].shrink ? __mem_cgroup_from_id(shrinkers[i].memcg_id) : NULL;
	held = of && mem_cgroup_is_descendant(of, memcg);
	if (held) {
		__atomic_add_fetch(&shrinkers[i].nr_inside, 1, __ATOMIC_RELAXED);
		*copy = shrinkers[i];
	}
	memcg_unlock();
	gate_leave();
	return held;
}

static void call_shrinkers(const struct mem_cgroup *memcg, size_t bytes)
{
	struct memcg_shrinker copy;

	if (inside)		/* one of them allocates */
		return;
	for (int i = 0; i < NR_SHRINKERS; i++) {
		if (!READ_ONCE(shrinkers[i].shrink) || !hold_shrinker(i, memcg, &copy))
			continue;
		inside = i + 1;
		copy.shrink(bytes, copy.arg);
		inside = 0;
		__atomic_sub_fetch(&shrinkers[i].nr_inside, 1, __ATOMIC_RELEASE);
	}
}

void memcg_reclaim_reset_child(void)
{
	memcg_nr_stalled = memcg_thread.stalled;
	for (int i = 0; i < NR_SHRINKERS; i++)
		shrinkers[i].nr_inside = inside == i + 1;
}

/* --- reclaim ------------------------------------------------------------------------------------------------ */

static void tell_psi(struct mem_cgroup *memcg, void (*fn)(struct psi_group *, u64, const void *))
{
	u64 now = os_clock_ns();

	gate_enter();
	for (; memcg; memcg = memcg->parent)
		fn(&memcg->psi, now, &memcg_thread);
	gate_leave();
}

static void stall_begin(struct mem_cgroup *memcg)
{
	memcg_thread.stalled = true;
	__atomic_add_fetch(&memcg_nr_stalled, 1, __ATOMIC_RELAXED);
	tell_psi(memcg, psi_stall_begin);
}

static void stall_end(struct mem_cgroup *memcg)
{
	tell_psi(memcg, psi_stall_end);
	__atomic_sub_fetch(&memcg_nr_stalled, 1, __ATOMIC_RELAXED);
	memcg_thread.stalled = false;
}

void __memcg_note_busy(void)
{
	if (!memcg_thread.stalled)
		tell_psi(mem_cgroup_from_colour(memcg_word_colour(memcg_thread.word)), psi_note_busy);
}

enum protection { UNPROTECTED, PROTECTED_LOW, PROTECTED_MIN };

/* By the limits of the groups from m up to memcg, which itself does not protect. */
static enum protection protection_of(const struct mem_cgroup *m, const struct mem_cgroup *memcg)
{
	enum protection p = UNPROTECTED;

	for (; m && m != memcg; m = m->parent) {
		if (READ_ONCE(m->memory.usage) <= READ_ONCE(m->memory.min))
			return PROTECTED_MIN;
		if (READ_ONCE(m->memory.usage) <= READ_ONCE(m->memory.low))
			p = PROTECTED_LOW;
	}
	return p;
}

static void drain_group(struct mem_cgroup *m)
{
	u64 before = READ_ONCE(m->memory.usage), after;

	drain_classes(memcg_colour(m), 1);
	drain_stock(m);
	after = READ_ONCE(m->memory.usage);
	if (after < before)
		__atomic_add_fetch(&m->reclaimed, before - after, __ATOMIC_RELAXED);
}

static void drain_subtree(struct mem_cgroup *memcg, enum protection level)
{
	for (unsigned colour = 0; colour < NR_COLOURS; colour++) {
		struct mem_cgroup *m;

		if (!mem_cgroup_from_colour(colour))
			continue;
		gate_enter();		/* for each anew: fork waits */
		m = mem_cgroup_from_colour(colour);
		if (m && mem_cgroup_is_descendant(m, memcg) && protection_of(m, memcg) == level) {
			if (level == PROTECTED_LOW)
				memcg_count_event(m, MEMCG_LOW);
			drain_group(m);
		}
		gate_leave();
	}
}

u64 mem_cgroup_reclaim(struct mem_cgroup *memcg, size_t bytes)
{
	u64 before = READ_ONCE(memcg->memory.usage), wanted = bytes >> PAGE_SHIFT, after;

	drain_subtree(memcg, UNPROTECTED);
	after = READ_ONCE(memcg->memory.usage);
	if (before - min(after, before) < wanted) {
		call_shrinkers(memcg, bytes);
		drain_subtree(memcg, UNPROTECTED);
		after = READ_ONCE(memcg->memory.usage);
	}
	if (before <= after)
		drain_subtree(memcg, PROTECTED_LOW);
	after = READ_ONCE(memcg->memory.usage);
	return before - min(after, before);
}

/* --- over max ------------------------------------------------------------------------------------------------ */

static struct mem_cgroup *take_failed(void)
{
	u32 word = memcg_thread.failed;

	memcg_thread.failed = 0;
	return word ? mem_cgroup_from_colour((word & MEMCG_COLOUR_BITS) >> MAP_COLOUR_SHIFT) : NULL;
}

bool memcg_make_room(size_t bytes, unsigned *tries)
{
	struct mem_cgroup *over = take_failed();
	u64 nr = 0;

	if (!over || gate_is_inside())
		return false;
	memcg_count_event(over, MEMCG_MAX);
	if ((*tries)++ < RECLAIM_TRIES) {
		stall_begin(over);
		nr = mem_cgroup_reclaim(over, max(bytes, (size_t)KIB(64)));
		stall_end(over);
	}
	return nr || out_of_memory(over, bytes);
}

/* --- over high ----------------------------------------------------------------------------------------------- */

/*
 * Kernel: calculate_high_delay(), with its constants: the overage as a share of high, squared; what is far over waits very
 * long, what is a little over hardly at all.
 */
u32 calculate_high_delay(u64 usage, u64 high, u64 nr_pages)
{
	u64 overage, ms;

	if (usage <= high)
		return 0;
	overage = min(usage - high, 1ull << 32);
	overage = min((overage << DELAY_PRECISION) / max(high, (u64)1), 1ull << 25);
	ms = (overage * overage * 1000 >> DELAY_PRECISION) >> DELAY_SCALING;
	ms = min(ms, (u64)DELAY_MAX_MS) * min(nr_pages, 1024u * 1024ull) / DELAY_BATCH;
	return (u32)min(ms, (u64)DELAY_MAX_MS);
}

/* The group on the way up that is farthest over its high, by delay; NULL: none. */
static struct mem_cgroup *worst_over_high(struct mem_cgroup *memcg, u64 nr, u32 *delay)
{
	struct mem_cgroup *worst = NULL;

	*delay = 0;
	for (; memcg; memcg = memcg->parent) {
		u64 usage = READ_ONCE(memcg->memory.usage), high = READ_ONCE(memcg->memory.high);
		u32 ms = calculate_high_delay(usage, high, nr);

		if (usage > high && (!worst || ms > *delay)) {
			worst = memcg;
			*delay = ms;
		}
	}
	return worst;
}

void __memcg_handle_over_high(void)
{
	struct mem_cgroup *memcg, *worst;
	u64 nr = memcg_thread.over_high, begin;
	u32 delay, seq;

	if (gate_is_inside())
		return;
	memcg_thread.over_high = 0;
	memcg = mem_cgroup_from_colour(memcg_thread.over_colour);
	worst = memcg ? worst_over_high(memcg, nr, &delay) : NULL;
	if (!worst)
		return;
	memcg_count_event(worst, MEMCG_HIGH);
	seq = READ_ONCE(worst->high_seq);
	stall_begin(worst);
	mem_cgroup_reclaim(worst, nr << PAGE_SHIFT);
	memcg_thread.over_high = 0;		/* what a shrinker has allocated is paid for, too */
	delay = calculate_high_delay(READ_ONCE(worst->memory.usage), READ_ONCE(worst->memory.high), nr);
	begin = os_clock_ns();
	if (delay > DELAY_IGNORED_MS) {
		futex_wait(&worst->high_seq, seq, delay);
		__atomic_add_fetch(&worst->throttled_us, (os_clock_ns() - begin) / 1000, __ATOMIC_RELAXED);
	}
	stall_end(worst);
}
