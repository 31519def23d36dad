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
 * gate: to where nothing is, and membarrier(2) restarts the sections under way; in the lock mode all locks are held.
 *
 * Where nothing is. The fast paths test no bounds: area of index i is at rseq_base + (i << PERCPU_SHIFT), and sparse.c
 * reserves that address space for every index that the kernel may write. There are as many as CPUs can ever be; where
 * cpu_id is read, a thread that the kernel refused to register has -1 or -2 there. Nothing was ever written where no area
 * is online: its slots are nothing. An add has the area two loads sooner than a table did: 9 % of a pair.
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

/* Before the first pages are there; index 0, and slots of the root group, of which malloc knows one and free none. */
static char before_boot[PERCPU_ZERO + 2 * SLOT_REMOTE * sizeof(void *)] __aligned(PERCPU_ZERO);

struct percpu_hot percpu_hot = { .cs_offset = RSEQ_NOWHERE, .cpu_offset = RSEQ_ZERO, .rseq_base = before_boot + PERCPU_ZERO };
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

__init void percpu_mode_init(int want, void **stop_top)
{
	percpu_hot.stop_top = stop_top;
	code_may_change = want == 0;
	percpu_mode = want == 2 || !rseq_usable() ? PERCPU_MODE_LOCK : PERCPU_MODE_RSEQ;
}

__init u32 percpu_nr_index(u64 fit)
{
	u32 nr = percpu_mode == PERCPU_MODE_RSEQ ? os_nr_cpu_ids() : 1;

	if (nr > fit)
		nr = os_nr_possible_cpus();
	if (nr > fit) {
		percpu_mode = PERCPU_MODE_LOCK;
		nr = 1;
	}
	return nr;
}

/* While areas are nowhere the index may change: the order of the stores. */
__init void percpu_enable(void)
{
	if (percpu_mode != PERCPU_MODE_RSEQ || percpu_hot.cs_offset != RSEQ_NOWHERE)
		return;
	percpu_hot.cs_offset = __rseq_offset + RSEQ_OFF_CS;
	percpu_hot.cpu_offset = __rseq_offset + (percpu_uses_mm_cid() ? RSEQ_OFF_MM_CID : RSEQ_OFF_CPU_ID);
	smp_store_release(&percpu_hot.rseq_base, percpu_hot.base);
	runtime_const_wanted = code_may_change;
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
		WRITE_ONCE(percpu_hot.rseq_base, percpu_hot.nowhere);
		membarrier_rseq();
	}
}

__rare void percpu_thaw(void)
{
	if (percpu_mode == PERCPU_MODE_RSEQ && percpu_hot.nr_areas)
		smp_store_release(&percpu_hot.rseq_base, percpu_hot.base);
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
