/* SPDX-License-Identifier: MIT */
/*
 * vmscan.c - the policy of reclaim: what goes home, when, and how much at a time.
 *
 * Purpose. Free memory lies in per-CPU page lists, in the zones' buddies, and with shrinkers: slabs, sheaves, lazily
 * freed areas. All of it is held back for a while, because the program is likely to want it again, and then goes.
 *
 * Age. KMM_DECAY_MS is how long, and UNATTENDED times that where there is no background thread: then slow paths of the
 * program do it, in time that the program misses. A zone keeps free memory up to its low watermark DEEP times as long,
 * and single pages as well: they are dear to return one by one and soon wanted.
 *
 * Smooth. A pass of the background thread gives back at most an eighth of what could go, so that a gigabyte that is
 * freed at once does not go at once. Passes follow one another every PASSES_PER_DECAY-th of the decay time, or
 * when the next thing will be old enough.
 *
 * Slices. A pass is a sequence of short slices (struct scan_control); each takes what it gives back out of the lists
 * under a lock, gives it back without, and puts it back. Measured: 0.3 us a page, so SLICE_PAGES take 150 us, in
 * which nobody waits but a fork.
 *
 * Pressure from outside (vmpressure.c) shortens the age, lets more go in a pass, and ends the exceptions; at the highest
 * level all that is older than a hundredth of a second goes at once.
 *
 * Who does it. The background thread (mm/kmmd.c) once there is one; it sleeps for good when nothing is left to age, and
 * kmmd_wanted makes the next slow path wake it. Without one, slow paths that free (page_reporting.c), by age;
 * kmm_trim() and allocations that fail do everything at once.
 *
 * Growth. Free memory in the wrong places (caches of other sizes, blocks that are too small) is no use to a program that
 * grows. So before the peak of what is resident rises, as much as the growth of it goes home (balance_growth): more would only be
 * faulted in again. Large blocks in caches become free memory before, a few times in a decay time, and the caches as a
 * whole at each growth by an eighth.
 *
 * Locks. reap. The frame around a pass (kswapd_begin, kswapd_end) belongs to the one background thread.
 *
 * Kernel counterpart. mm/vmscan.c: kswapd, balance_pgdat, shrink_node, struct scan_control, kswapd_failures; there pages
 * in use are reclaimed, and age is found by references. Decay as a curve is jemalloc's.
 */
#include "page/reclaim.h"

#include "base/param.h"
#include "os/os.h"
#include "page/page_alloc.h"
#include "page/percpu.h"
#include "page/vmpressure.h"

#define PASSES_PER_DECAY 8
#define DEEP		 4
#define UNATTENDED	 4
#define PASS_MIN_MS	 10u
#define PASS_MAX_MS	 4000u
#define RECLAIM_SHARE	 8			/* of what could go, in one pass */
#define RECLAIM_MIN	 MIB(4)
#define MAX_RECLAIM_RETRIES 16			/* passes that the kernel took nothing from, then no more */
#define BRK_TRIM_PAD	 KIB(256)		/* of the brk zone stay, without pages */
#define CLOCK_SKEW_MS	 60000u

/* Pages, and shares of what is resident. */
#define GROWTH_BATCH	 64u			/* by which the peak grows between two looks */
#define GROWTH_FREE_MIN	 128u
#define GROWTH_SHARE	 16			/* may be free at a peak */
#define LARGE_PAUSE	 16			/* this part of the decay time between two times that caches are asked for large blocks */
#define GROWTH_SHRINK	 8			/* growth that has the caches taken back, and what is old in slabs */
#define GROWTH_SHRINK_MIN 1024u			/* a small program has little of it, and maps no code for it */
#define REAP_PAUSE	 8			/* times as long as caches took to reap, they are left alone */

bool kswapd_running;
int kswapd_tid;
bool kmmd_wanted;
static u64 peak_resident;			/* follows the real peak in steps of GROWTH_BATCH */
static u64 shrunk_at;				/* the peak for which caches were last taken back */
static u32 reaped_ms;				/* when it was last asked for large blocks */
static struct mutex reap_lock;
static u64 reap_again_ns;			/* caches are not reaped before that time; under reap_lock */
static unsigned kswapd_failures;

bool kswapd_is_alive(void)
{
	return READ_ONCE(kswapd_running) && (!kswapd_tid || os_thread_alive(kswapd_tid));
}

__resident void scan_account(struct scan_control *sc, size_t bytes)
{
	sc->nr_reclaimed += bytes;
	sc->nr_to_reclaim -= min(bytes, sc->nr_to_reclaim);
	count_vm_events(sc->kswapd ? VM_pgsteal_kswapd : VM_pgsteal_direct, bytes >> PAGE_SHIFT);
}

__resident bool scan_is_old(struct scan_control *sc, u32 since_ms, u32 max_age_ms)
{
	u32 age = sc->now_ms - since_ms;

	if (age > NEVER_MS - CLOCK_SKEW_MS)	/* since the pass began */
		age = 0;
	if (age >= max_age_ms)
		return true;
	sc->next_ms = min(sc->next_ms, max_age_ms - age);
	return false;
}

/* --- what holds free memory, below mm/ ---------------------------------------------------------------------- */

/* One CPU's page lists a slice, when no slow path has run there for long enough (kswapd_begin). */
static bool shrink_pcp(struct scan_control *sc)
{
	struct pcpu *pcpu;

	if (sc->cursor >= nr_percpu_areas())
		return false;
	pcpu = pcpu_of(sc->cursor);
	if (READ_ONCE(pcpu->pcp.count) && scan_is_old(sc, pcpu->busy_ms, sc->max_age_ms))
		drain_pages(sc->cursor);
	return ++sc->cursor < nr_percpu_areas();
}

static __resident size_t count_pcp(void)
{
	return nr_pcp_pages() << PAGE_SHIFT;
}

static bool shrink_normal(struct scan_control *sc)
{
	return page_report(&zones[ZONE_NORMAL], sc);
}

static __resident size_t count_normal(void)
{
	return resident_free_pages(&zones[ZONE_NORMAL]) << PAGE_SHIFT;
}

static bool shrink_brk(struct scan_control *sc)
{
	if (page_report(&zones[ZONE_BRK], sc))
		return true;
	if (sc->kswapd)
		brk_trim(BRK_TRIM_PAD);
	return false;
}

static __resident size_t count_brk(void)
{
	return resident_free_pages(&zones[ZONE_BRK]) << PAGE_SHIFT;
}

static struct shrinker brk_shrinker = { .name = "zone BRK", .scan = shrink_brk, .count = count_brk };
static struct shrinker normal_shrinker = { .name = "zone Normal", .scan = shrink_normal, .count = count_normal,
					   .next = &brk_shrinker };
static struct shrinker pcp_shrinker = { .name = "per-CPU pages", .scan = shrink_pcp, .count = count_pcp,
					.next = &normal_shrinker };
/* Upper layers come first: what they free are pages, which then lie in the lists and zones. */
static struct shrinker *shrinkers = &pcp_shrinker;

__init void register_shrinker(struct shrinker *s)
{
	s->next = shrinkers;
	shrinkers = s;
}

__resident bool reap_all(enum reap_depth depth)
{
	bool any = false;

	for (struct shrinker *s = shrinkers; s; s = s->next)
		any |= s->reap && s->reap(depth);
	return any;
}

__resident u64 direct_decay_ms(void)
{
	return READ_ONCE(kmm_params.decay_ms) * (READ_ONCE(kswapd_running) ? 1 : UNATTENDED);
}

__resident size_t reclaimable_bytes(void)
{
	size_t bytes = 0;

	for (struct shrinker *s = shrinkers; s; s = s->next)
		bytes += s->count ? s->count() : 0;
	return bytes;
}

__resident size_t heap_bytes(void)
{
	return (size_t)(zones[ZONE_BRK].present_pages + zones[ZONE_NORMAL].present_pages) << PAGE_SHIFT;
}

__resident void kswapd_note_growth(void)
{
	if (heap_bytes() >= 2 * KSWAPD_WORTH && !READ_ONCE(kswapd_running))
		WRITE_ONCE(kmmd_wanted, true);
}

/* --- passes -------------------------------------------------------------------------------------------------- */

__resident bool shrink_slice(struct scan_control *sc)
{
	if (!sc->turn)
		sc->turn = shrinkers;
	if (sc->turn->scan(sc))
		return sc->nr_to_reclaim != 0;
	sc->turn = sc->turn->next;
	sc->cursor = 0;
	return sc->turn && sc->nr_to_reclaim;
}

void trim_begin(struct scan_control *sc)
{
	count_vm_event(VM_trim_calls);
	*sc = (struct scan_control)SCAN_ALL((u32)os_clock_ms());
}

/* All caches go; how much may stay is known when only the zones are left. */
bool trim_slice(struct scan_control *sc, size_t pad)
{
	const struct shrinker *turn = sc->turn;
	bool more = shrink_slice(sc);

	if (sc->turn == &normal_shrinker && turn != sc->turn) {
		size_t bytes = count_normal() + count_brk();

		sc->nr_to_reclaim = bytes - min(bytes, pad);
		return sc->nr_to_reclaim != 0;
	}
	return more;
}

size_t trim_end(struct scan_control *sc, size_t pad)
{
	brk_trim(pad);
	return sc->nr_reclaimed;
}

size_t try_to_free_pages(size_t pad)
{
	struct scan_control sc;

	trim_begin(&sc);
	while (trim_slice(&sc, pad))
		;
	return trim_end(&sc, pad);
}

/* --- growth --------------------------------------------------------------------------------------------------- */

static u64 resident_pages(const struct zone *zone)
{
	return READ_ONCE(zone->present_pages) - READ_ONCE(zone->reported_pages);
}

/* What upper layers cache; only what is old anyway if it has an age. */
static void shrink_caches(void)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	count_vm_event(VM_shrink_growth);
	sc.max_age_ms = (u32)clamp(direct_decay_ms(), (u64)1, (u64)NEVER_MS / 2);
	for (sc.turn = shrinkers; sc.turn != &pcp_shrinker;)
		shrink_slice(&sc);
}

/* Gives back up to so many pages of what is more than may be free. Returns how many. */
static u64 balance_zone(struct zone *zone, u64 want)
{
	u64 may = max(resident_pages(zone) / GROWTH_SHARE, (u64)GROWTH_FREE_MIN), have = resident_free_pages(zone);
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	sc.deep_age_ms = NEVER_MS;
	sc.small_first = true;		/* large blocks are what was missed */
	sc.nr_to_reclaim = (size_t)min(have - min(have, may), want) << PAGE_SHIFT;
	while (sc.nr_to_reclaim && page_report(zone, &sc))
		;
	return sc.nr_reclaimed >> PAGE_SHIFT;
}

__resident bool reap_before_growth(void)
{
	u64 start = os_clock_ns();
	bool reaped;

	if (!mutex_trylock(&reap_lock, LOCK_reap)) {	/* another has the caches just now */
		mutex_lock(&reap_lock, LOCK_reap);
		mutex_unlock(&reap_lock, LOCK_reap);
		return true;
	}
	reaped = start >= reap_again_ns && reap_all(REAP_CACHES);
	if (reaped) {
		u64 end;

		count_vm_event(VM_reap_growth);
		drain_all_pages();
		end = os_clock_ns();
		reap_again_ns = end + (end - start) * REAP_PAUSE;
	}
	mutex_unlock(&reap_lock, LOCK_reap);
	return reaped;
}

/* Large blocks that were taken back may be wanted again, by a program that keeps them by KMM_DECAY_MS all the more. */
static __resident bool large_pause_is_over(u32 now)
{
	u32 last = READ_ONCE(reaped_ms);
	bool over = last && now - last >= READ_ONCE(kmm_params.decay_ms) / LARGE_PAUSE;

	if (over || !last)
		WRITE_ONCE(reaped_ms, now);
	return over;
}

__resident void balance_growth(void)
{
	u64 resident = resident_pages(&zones[ZONE_BRK]) + resident_pages(&zones[ZONE_NORMAL]);
	u64 peak = READ_ONCE(peak_resident), last = READ_ONCE(shrunk_at), want;

	if (resident < peak + GROWTH_BATCH ||
	    !__atomic_compare_exchange_n(&peak_resident, &peak, resident, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	if (resident > last + last / GROWTH_SHRINK + GROWTH_SHRINK_MIN) {
		WRITE_ONCE(shrunk_at, resident);
		shrink_caches();
	} else if (large_pause_is_over((u32)os_clock_ms() | 1)) {
		reap_all(REAP_LARGE);
	}
	drain_all_pages();
	want = resident - peak + GROWTH_BATCH;
	for (int z = 0; z < MAX_NR_ZONES; z++)
		want -= min(want, balance_zone(&zones[z], want));
	resident = resident_pages(&zones[ZONE_BRK]) + resident_pages(&zones[ZONE_NORMAL]);
	WRITE_ONCE(peak_resident, max(peak, resident));
}

/* --- the background thread ------------------------------------------------------------------------------------ */

/* Slow paths count events on the CPU that they run on: sums that do not change are CPUs that sleep. */
static u64 pcpu_events(const struct pcpu *pcpu)
{
	u64 sum = 0;

	for (unsigned i = 0; i < NR_VMSTAT_ITEMS; i++)
		sum += READ_ONCE(pcpu->vmstat[i]);
	return sum;
}

static void update_wmarks(void)
{
	for (int z = 0; z < MAX_NR_ZONES; z++) {
		mutex_lock(&zones[z].lock, LOCK_zone);
		setup_per_zone_wmarks(&zones[z]);
		mutex_unlock(&zones[z].lock, LOCK_zone);
	}
}

void kswapd_begin(struct scan_control *sc)
{
	enum vmpressure_level level = vmpressure_level();
	u64 decay = vmpressure_decay_ms(level, READ_ONCE(kmm_params.decay_ms));

	update_wmarks();
	*sc = (struct scan_control)SCAN_ALL((u32)os_clock_ms());
	sc->kswapd = true;
	sc->max_age_ms = (u32)min(decay, (u64)NEVER_MS / 2);
	sc->deep_age_ms = (u32)min(level >= VMPRESSURE_MEDIUM ? decay : decay * DEEP, (u64)NEVER_MS / 2);
	sc->nr_to_reclaim = max(reclaimable_bytes() / (RECLAIM_SHARE >> level), RECLAIM_MIN);
	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++) {
		struct pcpu *pcpu = pcpu_of(cpu);

		if (pcpu_events(pcpu) == pcpu->seen_events)
			continue;
		pcpu->busy_ms = sc->now_ms;
		sc->busy = true;
	}
	count_vm_event(VM_kswapd_pass);
}

void kswapd_own_events(void)
{
	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		pcpu_of(cpu)->seen_events = pcpu_events(pcpu_of(cpu));
}

u32 kswapd_end(struct scan_control *sc)
{
	u32 period = clamp(sc->max_age_ms / PASSES_PER_DECAY, PASS_MIN_MS, PASS_MAX_MS);

	kswapd_own_events();
	if (sc->nr_reclaimed)
		kswapd_failures = 0;
	else if (sc->failed)
		kswapd_failures++;
	if (sc->nr_reclaimed || !sc->nr_to_reclaim)
		return period;
	if (sc->next_ms == NEVER_MS || kswapd_failures >= MAX_RECLAIM_RETRIES)
		return NEVER_MS;
	return max(period, sc->next_ms);
}
