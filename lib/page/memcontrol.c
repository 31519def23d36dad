/* SPDX-License-Identifier: MIT */
/*
 * memcontrol.c - the tree of memory groups, and charging pages to them.
 *
 * Purpose. Every page that the program's blocks lie in is charged to one group and to all above it, before it is used.
 * So a group's current is what it and those below it hold, and no charge makes it exceed its max.
 *
 * Objects.
 *   groups[colour] -> struct mem_cgroup -> parent ...        colour 0: the root, always there, without an entry
 *   CPU's area, PERCPU_MEMCG + colour: struct memcg_pcpu     stock: pages charged in advance; stat: what for
 *
 * Invariants. When nobody is in a slow path
 *	usage(group) = sum of usage(those directly below) + its own stocks + its own stat, summed over CPUs and items.
 * A stock is at most MEMCG_STOCK_PAGES. A struct mem_cgroup is never freed, only used again for another group of the
 * same colour, so that the tree may be walked without a lock: by colour, upwards.
 *
 * Stocks. A charge of less than a stock takes a whole one if it may and leaves the rest with the CPU, for the next; what
 * is freed goes there first. So most charges touch one line of the CPU's own. What stocks hold is shown as used, by at
 * most 64 KiB a CPU. When a charge fails, the stocks below the group in its way are taken back, and it is tried again.
 *
 * Removal. A group that still holds memory stays, without a name, until that is freed: nothing new is charged to it. Its
 * colour may be used again when it holds nothing and nobody who is inside the gate can still have it in hand: whoever
 * charges looks inside the gate whether the group is there (memcg_online_slot()), and goes up the tree inside the gate. So
 * mm/memcg_rules.c lets everybody leave the gate before it forgets empty groups, and again before a struct is used again.
 *
 * Locks. memcg for names and parents; cgroup, outside of it, for the steps of a removal. Counters and stocks are atomics,
 * since charging happens under other locks.
 *
 * Kernel counterpart and what differs. mm/memcontrol.c: try_charge_memcg, consume_stock, refill_stock, drain_all_stock.
 * Kernel objects are charged by object and byte there, here a slab belongs to one group. A stock there is one a CPU for
 * a few groups, here one a group.
 */
#include "page/memcontrol.h"

#include "base/bug.h"
#include "base/printk.h"
#include "os/os.h"
#include "page/memblock.h"
#include <errno.h>
#include <string.h>

struct memcg_pcpu {
	u32 stock;			/* pages */
	s64 stat[NR_MEMCG_STATS];	/* pages charged less uncharged on this CPU: alone it means nothing */
} __aligned(64);
_Static_assert(NR_COLOURS * sizeof(struct memcg_pcpu) <= PERCPU_CAPTURED - PERCPU_MEMCG, "all groups fit into an area");

const char *const memcg_stat_names[NR_MEMCG_STATS] = { "slab", "large", "vmalloc", "pages" };
const char *const memcg_event_names[NR_MEMCG_EVENTS] = { "low", "high", "max", "oom", "oom_kill" };

#define UNLIMITED { .max = PAGE_COUNTER_MAX, .high = PAGE_COUNTER_MAX }
struct mem_cgroup root_mem_cgroup = { .memory = UNLIMITED, .online = true };
static __rare_data struct mem_cgroup *groups[NR_COLOURS];	/* but the root */
static __rare_data struct mem_cgroup *storage[NR_COLOURS];	/* of each colour, once it has been used */
struct mutex cgroup_lock;
static struct mutex memcg_mutex;
static u32 generation;
static u32 root_prepaid;	/* of all threads: there is one that does */
bool memcg_enabled, memcg_watched;
__thread struct memcg_thread memcg_thread __initial_exec;

/* --- the tree -------------------------------------------------------------------------------------------- */

void memcg_lock(void)
{
	mutex_lock(&memcg_mutex, LOCK_memcg);
}

void memcg_unlock(void)
{
	mutex_unlock(&memcg_mutex, LOCK_memcg);
}

struct mem_cgroup *mem_cgroup_from_colour(unsigned colour)
{
	return colour ? smp_load_acquire(&groups[colour]) : &root_mem_cgroup;
}

bool mem_cgroup_is_descendant(const struct mem_cgroup *child, const struct mem_cgroup *memcg)
{
	while (child && child != memcg)
		child = child->parent;
	return child != NULL;
}

struct mem_cgroup *__mem_cgroup_from_id(u32 id)
{
	struct mem_cgroup *memcg = mem_cgroup_from_colour(id % NR_COLOURS);

	return memcg && memcg->id == id && memcg->online ? memcg : NULL;
}

static struct mem_cgroup *__find_child(const struct mem_cgroup *parent, const char *name, size_t len)
{
	for_each_mem_cgroup(m)
		if (m->parent == parent && m->online && strlen(m->name) == len && memcmp(m->name, name, len) == 0)
			return m;
	return NULL;
}

struct mem_cgroup *__mem_cgroup_from_path(const char *path, size_t len)
{
	struct mem_cgroup *memcg = &root_mem_cgroup;
	const char *end = path + len;

	while (memcg && path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		const char *stop = slash ? slash : end;

		memcg = __find_child(memcg, path, (size_t)(stop - path));
		path = slash ? slash + 1 : end;
		if (slash && path == end)
			return NULL;		/* "a/" */
	}
	return memcg;
}

size_t mem_cgroup_path(const struct mem_cgroup *memcg, char *buf, size_t size)
{
	const struct mem_cgroup *parent = READ_ONCE(memcg->parent);
	size_t used = 0;

	if (!parent)
		return (size_t)kmm_snprintf(buf, size, "/");
	if (READ_ONCE(parent->parent))
		used = mem_cgroup_path(parent, buf, size);
	return used + (size_t)kmm_snprintf(buf + min(used, size), size - min(used, size), "/%s", memcg->name);
}

static bool name_is_valid(const char *name, size_t len)
{
	if (len == 0 || len >= MEMCG_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
		      (name[i] >= '0' && name[i] <= '9') || strchr("_-.", name[i])))
			return false;
	return true;
}

static bool __has_child(const struct mem_cgroup *memcg)
{
	for_each_mem_cgroup(m)
		if (m->parent == memcg)
			return true;
	return false;
}

/* Children before their parents. */
u32 __mem_cgroup_forget_empty(void)
{
	u32 nr = 0, before;

	do {
		before = nr;
		for_each_mem_cgroup(m) {
			if (m->online)
				continue;
			drain_stock(m);
			if (READ_ONCE(m->memory.usage) || __has_child(m))
				continue;
			smp_store_release(&groups[memcg_colour(m)], NULL);
			nr++;
		}
	} while (nr != before);
	return nr;
}

static int __free_colour(void)
{
	for (unsigned colour = 1; colour < NR_COLOURS; colour++)
		if (!groups[colour])
			return (int)colour;
	return -ENOSPC;
}

struct mem_cgroup *__mem_cgroup_create(struct mem_cgroup *parent, const char *name, size_t len, int *err)
{
	struct mem_cgroup *memcg;
	int colour;

	*err = !name_is_valid(name, len) ? -EINVAL : __find_child(parent, name, len) ? -EEXIST : 0;
	if (*err)
		return NULL;
	colour = __free_colour();
	if (colour >= 0 && !storage[colour])
		storage[colour] = memblock_alloc(sizeof(*memcg), 64);
	memcg = colour >= 0 ? storage[colour] : NULL;
	if (!memcg) {
		*err = colour < 0 ? colour : -ENOMEM;
		return NULL;
	}
	memset(memcg, 0, sizeof(*memcg));
	page_counter_init(&memcg->memory, &parent->memory);
	memcg->parent = parent;
	memcg->id = (u32)colour | (++generation & 0x7fffff) << MAP_COLOUR_SHIFT;
	memcpy(memcg->name, name, len);
	memcg->online = true;
	smp_store_release(&groups[colour], memcg);
	return memcg;
}

int __mem_cgroup_remove(struct mem_cgroup *memcg)
{
	if (!memcg->parent)
		return -EBUSY;
	for_each_mem_cgroup(m)
		if (m->parent == memcg && m->online)
			return -EBUSY;
	smp_store_release(&memcg->online, false);
	return 0;
}

bool mem_cgroup_is_online(unsigned colour)
{
	struct mem_cgroup *memcg = mem_cgroup_from_colour(colour);

	return memcg && READ_ONCE(memcg->online);
}

void memcg_limits_changed(struct mem_cgroup *memcg)
{
	WRITE_ONCE(memcg_watched, true);
	__atomic_add_fetch(&memcg->high_seq, 1, __ATOMIC_RELAXED);
	futex_wake(&memcg->high_seq, INT32_MAX);
}

void memcg_count_event(struct mem_cgroup *memcg, enum memcg_event event)
{
	for (; memcg; memcg = memcg->parent)
		__atomic_add_fetch(&memcg->events[event], 1, __ATOMIC_RELAXED);
}

/* --- stocks ------------------------------------------------------------------------------------------------ */

static struct memcg_pcpu boot_pcpu;	/* before the first area is online */

static struct memcg_pcpu *pcpu_memcg(unsigned cpu, unsigned colour)
{
	if (unlikely(nr_percpu_areas() == 0))
		return &boot_pcpu;
	return (struct memcg_pcpu *)percpu_at(cpu, PERCPU_MEMCG) + colour;
}

static bool consume_stock(struct memcg_pcpu *pcp, u64 nr)
{
	u32 old = READ_ONCE(pcp->stock);

	do {
		if (old < nr)
			return false;
	} while (!__atomic_compare_exchange_n(&pcp->stock, &old, old - (u32)nr, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* Leaves pages that are charged with the CPU; what is too many is uncharged. */
static void refill_stock(struct memcg_pcpu *pcp, struct mem_cgroup *memcg, u64 nr)
{
	u32 old = READ_ONCE(pcp->stock), new;

	do
		new = (u32)min(old + nr, (u64)MEMCG_STOCK_PAGES);
	while (!__atomic_compare_exchange_n(&pcp->stock, &old, new, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	if (old + nr > new)
		page_counter_uncharge(&memcg->memory, old + nr - new);
}

__resident void drain_stock(struct mem_cgroup *memcg)
{
	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++) {
		struct memcg_pcpu *pcp = pcpu_memcg(cpu, memcg_colour(memcg));
		u32 nr = READ_ONCE(pcp->stock) ? __atomic_exchange_n(&pcp->stock, 0, __ATOMIC_RELAXED) : 0;

		if (nr)
			page_counter_uncharge(&memcg->memory, nr);
	}
}

__resident void drain_stocks(const struct mem_cgroup *memcg)
{
	for_each_mem_cgroup(m)
		if (mem_cgroup_is_descendant(m, memcg))
			drain_stock(m);
}

u64 memcg_stock(unsigned colour)
{
	u64 sum = colour == 0 ? READ_ONCE(root_prepaid) : 0;

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		sum += READ_ONCE(pcpu_memcg(cpu, colour)->stock);
	return sum;
}

u64 memcg_stat(unsigned colour, enum memcg_stat_item item)
{
	s64 sum = 0;

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		sum += READ_ONCE(pcpu_memcg(cpu, colour)->stat[item]);
	return (u64)max(sum, (s64)0);		/* others may be at it */
}

/* --- charging ---------------------------------------------------------------------------------------------- */

static struct mem_cgroup *mem_cgroup_from_counter(struct page_counter *counter)
{
	return container_of(counter, struct mem_cgroup, memory);
}

/* Pages were charged to the counters: was that over some high? */
static __resident void note_high(const struct mem_cgroup *charged, u64 nr)
{
	for (const struct mem_cgroup *memcg = charged; memcg; memcg = memcg->parent) {
		if (likely(READ_ONCE(memcg->memory.usage) <= READ_ONCE(memcg->memory.high)))
			continue;
		memcg_thread.over_high += (u32)nr;
		memcg_thread.over_colour = memcg_colour(charged);
		return;
	}
}

static __resident void note_charged(struct mem_cgroup *memcg, u64 nr)
{
	note_high(memcg, nr);
	if (unlikely(memcg_thread.caller))
		call_sites_note(&memcg->sites, memcg_thread.caller, nr, READ_ONCE(memcg->memory.usage));
}

/* With one stock in advance if that may be, else exactly; at last with what others hold in advance. */
static bool charge_counters(struct mem_cgroup *memcg, struct memcg_pcpu *pcp, u64 nr)
{
	u64 batch = max(nr, (u64)MEMCG_STOCK_PAGES);
	struct page_counter *fail = NULL;

	if (likely(page_counter_try_charge(&memcg->memory, batch, false, NULL))) {
		refill_stock(pcp, memcg, batch - nr);
		note_charged(memcg, batch);
		if (unlikely(memcg_thread.refused) && page_counter_has_room(&memcg->memory))
			memcg_thread.emergency = memcg_thread.refused = 0;	/* next time it is refused anew */
		return true;
	}
	if (batch == nr || !page_counter_try_charge(&memcg->memory, nr, false, &fail)) {
		drain_stocks(fail ? mem_cgroup_from_counter(fail) : &root_mem_cgroup);
		if (!page_counter_try_charge(&memcg->memory, nr, false, &fail)) {
			memcg_thread.failed = memcg_word(memcg_colour(mem_cgroup_from_counter(fail)));
			return false;
		}
	}
	note_charged(memcg, nr);
	return true;
}

/*
 * Who has just been refused may use the reserve for what is small: an exception, a message. For the same size again hardly
 * (mm/oom_kill.c): operator new asks a second time, inside the C++ runtime, and a loop would go on as if nothing had been.
 */
static bool charge_reserve(struct mem_cgroup *memcg, enum memcg_stat_item item, u64 nr)
{
	bool same = memcg_thread.refused_bytes && memcg_thread.asked == memcg_thread.refused_bytes;

	if (item != MEMCG_SLAB || nr > memcg_thread.emergency || memcg_thread.reserved)
		return false;
	if (same && !memcg_thread.refused_slabs)
		return false;
	if (!page_counter_try_charge(&memcg->memory, nr, true, NULL))
		return false;
	memcg_thread.refused_slabs -= same;
	memcg_thread.emergency -= (u32)nr;
	memcg_thread.reserved = true;
	return true;
}

static void give_prepaid(u32 nr)
{
	memcg_thread.prepaid -= nr;
	__atomic_sub_fetch(&root_prepaid, nr, __ATOMIC_RELAXED);
}

static bool charge_prepaid(const struct mem_cgroup *memcg, u64 nr)
{
	if (likely(nr > memcg_thread.prepaid) || memcg != &root_mem_cgroup)
		return false;
	give_prepaid((u32)nr);
	return true;
}

bool memcg_prepay(u32 nr)
{
	if (!page_counter_try_charge(&root_mem_cgroup.memory, nr, false, NULL))
		return false;
	memcg_thread.prepaid += nr;
	__atomic_add_fetch(&root_prepaid, nr, __ATOMIC_RELAXED);
	return true;
}

void memcg_unprepay(void)
{
	u32 nr = memcg_thread.prepaid;

	give_prepaid(nr);
	page_counter_uncharge(&root_mem_cgroup.memory, nr);
}

__resident bool memcg_charge(unsigned colour, enum memcg_stat_item item, u64 nr)
{
	struct mem_cgroup *memcg = mem_cgroup_from_colour(colour);
	struct memcg_pcpu *pcp = pcpu_memcg(any_cpu(), colour);

	if (!consume_stock(pcp, nr)) {
		if (unlikely(!charge_counters(memcg, pcp, nr)) && !charge_prepaid(memcg, nr) && !charge_reserve(memcg, item, nr))
			return false;
	}
	__atomic_add_fetch(&pcp->stat[item], (s64)nr, __ATOMIC_RELAXED);
	return true;
}

__resident void memcg_uncharge(unsigned colour, enum memcg_stat_item item, u64 nr)
{
	struct mem_cgroup *memcg = mem_cgroup_from_colour(colour);
	struct memcg_pcpu *pcp = pcpu_memcg(any_cpu(), colour);

	__atomic_sub_fetch(&pcp->stat[item], (s64)nr, __ATOMIC_RELAXED);
	if (nr < MEMCG_STOCK_PAGES && likely(READ_ONCE(memcg->online)))
		refill_stock(pcp, memcg, nr);
	else
		page_counter_uncharge(&memcg->memory, nr);
}

/* The parent's other threads are not there, nor what they had prepaid. */
void memcg_reset_child(void)
{
	page_counter_uncharge(&root_mem_cgroup.memory, root_prepaid - memcg_thread.prepaid);
	root_prepaid = memcg_thread.prepaid;
	for_each_mem_cgroup(m)
		psi_reset_child(&m->psi);
}
