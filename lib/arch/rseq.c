/* SPDX-License-Identifier: MIT */
/*
 * rseq.c - finding out how this process can have per-CPU data, and vfork.
 *
 * Purpose. glibc 2.35 and later registers a struct rseq for every thread, at a fixed offset from the thread pointer.
 * If the kernel fills mm_cid (AT_RSEQ_FEATURE_SIZE, Linux 6.3) areas are indexed by it: dense, and no larger than
 * the number of threads that run at once. Otherwise by cpu_id. Where nothing is registered (old kernel or C library,
 * gVisor, qemu-user, valgrind, GLIBC_TUNABLES=glibc.pthread.rseq=0) the lock mode takes over.
 *
 * Self-test. The CPU number in the area must agree with what getcpu(2) says.
 *
 * vfork. The kernel unregisters rseq in a child that shares the address space, while the child goes on with the
 * parent's thread-local storage: its CPU index would be stale and its sections never restarted. So the exported
 * vfork() (x86_64/vfork.S) registers the area again in the child, and once more in the parent, whose copy the
 * child's run has overwritten. The parent is suspended in between, so one area serves both.
 *
 * Fork. The kernel copies the heap page by page while other threads run: a slot of one moment and a sheaf of another
 * would have an object twice. percpu_freeze() therefore leads every fast path to the slow one, which waits at the
 * gate: the table has no area any more, and membarrier(2) restarts the sections under way; in the lock mode all locks are
 * held.
 *
 * Where nothing is. The fast paths test no bounds: percpu_hot.areas leads every index that the kernel may write to an
 * area, at first and around fork to one whose slots are all on the stop sheaf. There are as many indices as CPUs
 * can ever be; where cpu_id is read, a thread that the kernel refused to register has -1 or -2 there, of which sixteen
 * bits are looked at. Up to AREAS_SMALL entries the table is a static one, which costs a start nothing.
 *
 * Kernel counterpart. kernel/rseq.c; user side: librseq.
 */
#include "arch/percpu_chain.h"
#include "arch/runtime_const.h"
#include "arch/topology.h"
#include "os/kthread.h"
#include "os/membarrier.h"
#include "os/os.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define AREAS_SMALL 256u
#define AREAS_LARGE 65536u		/* all that sixteen bits can say */
#define NO_AREA_SLOTS 256u		/* of the root group */
#define EMPTY_NONE ((void **)511)	/* in SLOT_EMPTY: nothing to take, no room to put */

/* Before boot malloc knows no class but 0, and free no address: one slot is asked for. Then see percpu_mode_init(). */
static struct { void *slot[64]; } nothing __aligned(512);
static void **no_area_static[NO_AREA_SLOTS] = { &nothing.slot[64] };
static char *no_area = (char *)no_area_static;
static char *areas_static[AREAS_SMALL] = { (char *)no_area_static };
static u32 nr_index = 1;		/* entries of the table that the kernel may lead to */

struct percpu_hot percpu_hot = { .cs_offset = RSEQ_NOWHERE, .cpu_offset = RSEQ_ZERO, .areas = areas_static };
enum percpu_mode percpu_mode;
bool runtime_const_wanted;
static bool code_may_change;

#define RSEQ_SIG	    0x53053053u
#define RSEQ_OFF_CPU_ID	    4
#define RSEQ_OFF_CS	    8
#define RSEQ_OFF_MM_CID	    24
#define RSEQ_MM_CID_FEATURE 28		/* feature size that covers mm_cid */
#define RSEQ_ORIG_SIZE	    32u
#define RSEQ_TEST_TRIES	    16

#define FREEZE_MS	    500		/* patience with a preempted holder, and how often at least it is given its turn: */
#define FREEZE_YIELDS	    1000	/* a machine that stood still has had the time pass, and the holder nothing of it */
#define FROZEN		    3u		/* state of an area's lock around fork */

/* From the dynamic linker, glibc 2.35; absent elsewhere. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

bool percpu_uses_mm_cid(void)
{
	return percpu_mode == PERCPU_MODE_RSEQ && os_auxval(AT_RSEQ_FEATURE_SIZE) >= RSEQ_MM_CID_FEATURE;
}

static u32 rseq_field(ptrdiff_t area, int off)
{
	return __atomic_load_n((u32 *)((char *)__builtin_thread_pointer() + area + off), __ATOMIC_RELAXED);
}

static bool rseq_usable(void)
{
	if (!HAVE_RSEQ_OPS || !&__rseq_size || !&__rseq_offset || __rseq_size == 0)
		return false;
	for (int i = 0; i < RSEQ_TEST_TRIES; i++)	/* we may be moved between the two looks */
		if ((s32)rseq_field(__rseq_offset, RSEQ_OFF_CPU_ID) == os_getcpu_syscall())
			return true;
	return false;
}

static void stop_slots_of(void ***slot)
{
	for (unsigned i = 0; i < NO_AREA_SLOTS; i++)
		slot[i] = percpu_hot.stop_top;
}

__init void percpu_mode_init(int want, void **stop_top)
{
	percpu_hot.stop_top = stop_top;
	code_may_change = want == 0;
	stop_slots_of(no_area_static);
	no_area_static[SLOT_EMPTY] = EMPTY_NONE;
	percpu_mode = want == 2 || !rseq_usable() ? PERCPU_MODE_LOCK : PERCPU_MODE_RSEQ;
}

/* --- the table of areas ------------------------------------------------------------------------------------ */

/* Makes the table, full of nothing, and then has the index read. */
static int table_init(void *(*alloc)(size_t size, size_t align))
{
	bool mm_cid = percpu_uses_mm_cid();
	u32 nr = os_nr_cpu_ids();
	char **table = areas_static;

	if (nr > AREAS_SMALL || !mm_cid) {
		table = alloc(AREAS_LARGE * sizeof(*table), 64);
		if (!table)
			return -ENOMEM;
		table[AREAS_LARGE - 1] = table[AREAS_LARGE - 2] = no_area;	/* not registered, or refused */
	}
	for (u32 i = 0; i < min(nr, AREAS_LARGE); i++)
		table[i] = no_area;
	nr_index = min(nr, AREAS_LARGE);
	percpu_hot.areas = table;
	barrier();
	percpu_hot.cs_offset = __rseq_offset + RSEQ_OFF_CS;
	percpu_hot.cpu_offset = __rseq_offset + (mm_cid ? RSEQ_OFF_MM_CID : RSEQ_OFF_CPU_ID);
	runtime_const_wanted = code_may_change;
	return 0;
}

static void set_area(unsigned cpu, char *area)
{
	if (cpu < nr_index)
		smp_store_release(&percpu_hot.areas[cpu], area);
}

__init int percpu_enable(unsigned cpu, void *(*alloc)(size_t size, size_t align))
{
	int ret = 0;

	if (percpu_mode != PERCPU_MODE_RSEQ)
		return 0;
	if (percpu_hot.cs_offset == RSEQ_NOWHERE)
		ret = table_init(alloc);
	if (!ret)
		set_area(cpu, (char *)percpu_slot(cpu, 0));
	return ret;
}

__rare int percpu_enable_colour(unsigned colour, void *(*alloc)(size_t size, size_t align))
{
	char *old = no_area, *area = old;

	if (old == (char *)no_area_static) {
		area = alloc(PERCPU_SLOTS * sizeof(void **), 64);
		if (!area)
			return -ENOMEM;
		memcpy(area, no_area_static, sizeof(no_area_static));
	}
	stop_slots_of((void ***)(void *)area + (colour << MAP_COLOUR_SHIFT));
	if (area == old)
		return 0;
	WRITE_ONCE(no_area, area);
	for (u32 i = 0; i < nr_index; i++)
		if (READ_ONCE(percpu_hot.areas[i]) == old)
			set_area(i, area);
	if (percpu_hot.areas != areas_static) {
		smp_store_release(&percpu_hot.areas[AREAS_LARGE - 1], area);
		smp_store_release(&percpu_hot.areas[AREAS_LARGE - 2], area);
	}
	return 0;
}

unsigned this_core_id(void)
{
	return topology_core((u32)os_getcpu());
}

__rare void *percpu_pop(unsigned slot)
{
	return percpu_mode == PERCPU_MODE_RSEQ ? rseq_pop(slot) : lock_pop(slot);
}

__rare bool percpu_push(map_entry_t e, void *obj)
{
	return percpu_mode == PERCPU_MODE_RSEQ ? rseq_push(&e, 0, obj) : lock_push(e, obj);
}

void **percpu_exchange(unsigned cpu, unsigned slot, void **new_top)
{
	if (percpu_mode == PERCPU_MODE_RSEQ)
		return rseq_exchange(cpu, slot, new_top);
	return lock_exchange(cpu, slot, new_top);
}

void *percpu_pop_chain(unsigned slot, struct chain_left *left)
{
	return percpu_mode == PERCPU_MODE_RSEQ ? rseq_pop_chain(slot, left) : lock_pop_chain(slot, left);
}

bool percpu_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	if (percpu_mode == PERCPU_MODE_RSEQ)
		return rseq_push_chain(e, obj, new_top, least, left);
	return lock_push_chain(e, obj, new_top, least, left);
}

void *percpu_get_empty(void)
{
	return percpu_mode == PERCPU_MODE_RSEQ ? rseq_get_empty() : lock_get_empty();
}

bool percpu_put_empty(void *sheaf)
{
	return percpu_mode == PERCPU_MODE_RSEQ ? rseq_put_empty(sheaf) : lock_put_empty(sheaf);
}

/*
 * In the lock mode: takes every area's lock. A holder was preempted in the middle of a few instructions; only one that
 * this thread itself has interrupted (a fork in a signal handler) never gives way, and is left out in the end.
 */
static void freeze_locks(void)
{
	u64 end = os_clock_ms() + FREEZE_MS;
	u32 yields = 0;

	for (u32 cpu = 0; cpu < percpu_hot.nr_areas; cpu++) {
		u32 *state = &percpu_lock(cpu)->state, zero = 0;

		while (!__atomic_compare_exchange_n(state, &zero, FROZEN, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			if (++yields >= FREEZE_YIELDS && os_clock_ms() >= end)
				break;
			zero = 0;
			os_yield();
		}
	}
}

__rare void percpu_freeze(void)
{
	if (percpu_mode == PERCPU_MODE_LOCK) {
		freeze_locks();
	} else if (percpu_mode == PERCPU_MODE_RSEQ) {
		for (u32 cpu = 0; cpu < percpu_hot.nr_areas; cpu++)
			set_area(cpu, no_area);
		membarrier_rseq();
	}
}

__rare void percpu_thaw(void)
{
	for (u32 cpu = 0; percpu_mode == PERCPU_MODE_RSEQ && cpu < percpu_hot.nr_areas; cpu++)
		set_area(cpu, (char *)percpu_slot(cpu, 0));
	for (u32 cpu = 0; percpu_mode == PERCPU_MODE_LOCK && cpu < percpu_hot.nr_areas; cpu++) {
		u32 frozen = FROZEN;

		__atomic_compare_exchange_n(&percpu_lock(cpu)->state, &frozen, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	}
}

static u32 rseq_registered_len(void)
{
	return max((u32)__rseq_size, RSEQ_ORIG_SIZE);
}

/* Runs on vfork's return in both processes. Touches only its own stack frame. */
__rare int vfork_return(int pid)
{
	void *area;

	if (pid < 0 || percpu_mode != PERCPU_MODE_RSEQ)
		return pid;
	area = (char *)__builtin_thread_pointer() + __rseq_offset;
	if (pid > 0) {
		if (rseq_unregister(area, rseq_registered_len(), RSEQ_SIG) != 0)
			return pid;	/* another length: the kernel writes the ids on its next return to us */
	}
	rseq_register(area, rseq_registered_len(), RSEQ_SIG);
	return pid;
}
