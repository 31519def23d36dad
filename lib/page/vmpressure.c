/* SPDX-License-Identifier: MIT */
/*
 * vmpressure.c - how short memory is outside of the process, so that reclaim hurries when it matters, and only then.
 *
 * Purpose. The background thread looks now and then, and finds one of four levels:
 *
 *	level		room below a limit of the own control group	or the kernel signals	free memory may become so old
 *	none		an eighth or more				nothing			KMM_DECAY_MS
 *	low		less than an eighth							at most 500 ms, a half
 *	medium		less than a sixteenth, or over a soft limit	stall "some"		at most 100 ms, a quarter
 *	critical	less than a thirty-second			stall "full"		at most 10 ms, an eighth
 *
 * Reclaim (vmscan.c) shortens its decay time by it, takes more in one pass, and from medium on keeps nothing for longer;
 * compaction (compaction.c) becomes eager. A signal counts for HOLD_MS, since stalls come in bursts.
 *
 * Room. Limits of all groups on the way up count. Page cache that nobody uses is no shortage: the kernel takes it back by
 * itself, so a group's inactive_file is room. It is read only where the room would be small without it.
 *
 * How often. Every LOOK_MS, under pressure every LOOK_AGAIN_MS. Where nothing can be seen (no group with a limit, no
 * signals) it is asked again only every RARELY_MS: a limit may be set later, and the process be moved.
 *
 * Signals are listened to after LISTEN_AFTER_MS only. The kernel lets an RCU grace period go by when a trigger is closed, so
 * with two of them a process takes 20 to 30 ms longer to end: too much for one that has run for a tenth of a second.
 *
 * Locks. None: everything is the background thread's; others read the level.
 *
 * Kernel counterpart and what differs. mm/vmpressure.c finds levels by the share of pages that reclaim scanned in vain.
 * Here nothing is scanned; what is known is what the kernel tells everybody.
 */
#include "page/vmpressure.h"

#include "base/compiler.h"
#include "os/cgroup.h"
#include "os/pressure.h"
#include "page/reclaim.h"
#include "page/vmstat.h"

#define LOOK_MS	      500u
#define LOOK_AGAIN_MS 100u
#define RARELY_MS     10000u
#define LISTEN_AFTER_MS 10000u
#define HOLD_MS	      2000u

/* The background thread's. */
static struct {
	bool opened, listening, has_group, has_limit;
	unsigned nr_signals;
	u32 opened_ms, next_ms, group_next_ms;
	u32 signal_ms[2];		/* when it came last, 0: never; [0] some, [1] full */
	struct os_cgroup cg;
} vmp;
static u32 current_level;

enum vmpressure_level vmpressure_level(void)
{
	return READ_ONCE(current_level);
}

u64 vmpressure_decay_ms(enum vmpressure_level level, u64 decay_ms)
{
	static const u16 at_most[] = { [VMPRESSURE_LOW] = 500, [VMPRESSURE_MEDIUM] = 100, [VMPRESSURE_CRITICAL] = 10 };

	return level == VMPRESSURE_NONE ? decay_ms : min(decay_ms >> level, (u64)at_most[level]);
}

enum vmpressure_level vmpressure_of_room(u64 room, u64 limit, bool soft)
{
	if (limit == CGROUP_NONE || room >= limit / 8)
		return VMPRESSURE_NONE;
	if (room >= limit / 16)
		return VMPRESSURE_LOW;
	return soft || room >= limit / 32 ? VMPRESSURE_MEDIUM : VMPRESSURE_CRITICAL;
}

static enum vmpressure_level worse(enum vmpressure_level a, enum vmpressure_level b)
{
	return a > b ? a : b;
}

/* Of one limit; page cache is asked for only if it matters. */
static enum vmpressure_level level_of(const struct os_cgroup_room *r, bool soft)
{
	u64 cache = 0;

	if (vmpressure_of_room(r->room, r->limit, soft) == VMPRESSURE_NONE)
		return VMPRESSURE_NONE;
	os_cgroup_read_cache(&vmp.cg, r->dir_len, &cache);
	return vmpressure_of_room(r->room + cache, r->limit, soft);
}

static enum vmpressure_level look_at_group(u32 now_ms)
{
	struct os_cgroup_memory mem;

	if (!vmp.has_group || (!vmp.has_limit && (s32)(vmp.group_next_ms - now_ms) > 0))
		return VMPRESSURE_NONE;
	vmp.group_next_ms = now_ms + RARELY_MS;
	if (os_cgroup_read_memory(&vmp.cg, &mem) != 0) {
		vmp.has_group = os_cgroup_find(&vmp.cg) == 0;		/* moved, and the old one removed */
		return VMPRESSURE_NONE;
	}
	vmp.has_limit = mem.hard.limit != CGROUP_NONE || mem.soft.limit != CGROUP_NONE;
	return worse(level_of(&mem.hard, false), level_of(&mem.soft, true));
}

static enum vmpressure_level listen(u32 now_ms)
{
	u32 heard = os_pressure_poll();

	if (heard)
		count_vm_event(VM_vmpressure_signal);
	for (unsigned i = 0; i < ARRAY_SIZE(vmp.signal_ms); i++) {
		if (heard & (i ? OS_PRESSURE_FULL : OS_PRESSURE_SOME))
			vmp.signal_ms[i] = now_ms | 1;
		else if (vmp.signal_ms[i] && now_ms - vmp.signal_ms[i] > HOLD_MS)
			vmp.signal_ms[i] = 0;
	}
	return vmp.signal_ms[1] ? VMPRESSURE_CRITICAL : vmp.signal_ms[0] ? VMPRESSURE_MEDIUM : VMPRESSURE_NONE;
}

static void open_sources(u32 now_ms)
{
	if (!vmp.opened) {
		vmp.opened = true;
		vmp.opened_ms = now_ms;
		vmp.has_group = os_cgroup_find(&vmp.cg) == 0;
	} else if (!vmp.listening && now_ms - vmp.opened_ms >= LISTEN_AFTER_MS) {
		vmp.listening = true;
		vmp.nr_signals = os_pressure_open(vmp.has_group ? &vmp.cg : NULL);
	}
}

u32 vmpressure_look(u32 now_ms)
{
	static const enum vmstat_item events[] = { [VMPRESSURE_LOW] = VM_vmpressure_low,
						   [VMPRESSURE_MEDIUM] = VM_vmpressure_medium,
						   [VMPRESSURE_CRITICAL] = VM_vmpressure_critical };
	enum vmpressure_level level;

	if (vmp.opened && (s32)(vmp.next_ms - now_ms) > 0)
		return vmp.next_ms - now_ms;
	open_sources(now_ms);
	level = worse(look_at_group(now_ms), listen(now_ms));
	if (level != VMPRESSURE_NONE)
		count_vm_event(events[level]);
	WRITE_ONCE(current_level, (u32)level);
	vmp.next_ms = now_ms + (level != VMPRESSURE_NONE ? LOOK_AGAIN_MS : vmp.has_limit || vmp.nr_signals ? LOOK_MS : RARELY_MS);
	return vmp.next_ms - now_ms;
}

void vmpressure_forget(void)
{
	os_pressure_forget();
	vmp.opened = vmp.listening = vmp.has_limit = false;
	vmp.nr_signals = 0;
	vmp.signal_ms[0] = vmp.signal_ms[1] = 0;
	WRITE_ONCE(current_level, (u32)VMPRESSURE_NONE);
}
