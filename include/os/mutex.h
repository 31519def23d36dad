/* SPDX-License-Identifier: MIT */
/*
 * mutex.h - an adaptive mutex of four bytes: spins a little, then sleeps in futex(2), as the kernel's mutex
 * does. Zero is unlocked. Not recursive. Not for signal handlers. (Ulrich Drepper, "Futexes Are Tricky", 2011.)
 */
#ifndef KMM_OS_MUTEX_H
#define KMM_OS_MUTEX_H

#include "base/bug.h"
#include "base/types.h"

struct mutex {
	u32 state;		/* 0 free, 1 held, 2 held and somebody may sleep */
};

enum lock_class {
#define LOCKCLASS(rank, name, fork, help) LOCK_##name = rank,
#include "base/lockclass.def"
#undef LOCKCLASS
	NR_LOCK_CLASSES
};

void __mutex_lock_slowpath(struct mutex *m);
void __mutex_wake(struct mutex *m);

#if KMM_DEBUG >= 1
void lockdep_acquire(enum lock_class c, bool trylock);	/* BUG on wrong order in this thread; a try may be out of order */
void lockdep_release(enum lock_class c);
bool lockdep_is_held(enum lock_class c);
/*
 * From now on locks that fork does not take (FORK_COVERED) are taken only where fn, which asks for the gate, is true, or under a
 * lock that fork takes.
 */
void lockdep_covered_by(bool (*fn)(void));
/*
 * The longest that a thread which asked for it held a lock of each class, in ns of its own CPU time, so that being preempted
 * does not count; of the wait for the lock, what was spent spinning does. For tests.
 */
void lockdep_time_this_thread(bool on);
extern u64 lockdep_longest_ns[NR_LOCK_CLASSES];
#else
static inline void lockdep_acquire(enum lock_class c, bool trylock) { (void)c; (void)trylock; }
static inline void lockdep_release(enum lock_class c) { (void)c; }
static inline bool lockdep_is_held(enum lock_class c) { (void)c; return true; }
static inline void lockdep_covered_by(bool (*fn)(void)) { (void)fn; }
#endif

static inline bool mutex_trylock(struct mutex *m, enum lock_class c)
{
	u32 zero = 0;

	if (!__atomic_compare_exchange_n(&m->state, &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	lockdep_acquire(c, true);
	return true;
}

static inline void mutex_lock(struct mutex *m, enum lock_class c)
{
	u32 zero = 0;

	lockdep_acquire(c, false);
	if (unlikely(!__atomic_compare_exchange_n(&m->state, &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		__mutex_lock_slowpath(m);
}

static inline void mutex_unlock(struct mutex *m, enum lock_class c)
{
	lockdep_release(c);
	if (unlikely(__atomic_exchange_n(&m->state, 0, __ATOMIC_RELEASE) == 2))
		__mutex_wake(m);
}

#endif
