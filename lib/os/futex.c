/* SPDX-License-Identifier: MIT */
/*
 * futex.c - the adaptive mutex, and futexes.
 *
 * Purpose. Critical sections here are short (an exchange, a list operation, at worst the filling of a sheaf), so a
 * waiter spins for about a microsecond before it sleeps. On one CPU spinning is useless and harmless.
 *
 * Locks. With KMM_DEBUG the order of lockclass.def is checked in each thread: no lock of a rank at or below the
 * highest held may be waited for (locks of one rank do not nest), only tried. And what fork does not take itself is taken only
 * where fork waits for it.
 *
 * Kernel counterpart: kernel/locking/mutex.c (optimistic spinning), kernel/locking/lockdep.c. The three-state
 * protocol is from Ulrich Drepper, "Futexes Are Tricky" (2011).
 */
#include "os/mutex.h"

#include "os/os.h"
#include "os/syscall.h"
#include <linux/futex.h>
#include <time.h>

#define MUTEX_SPINS 100

int futex_wait(u32 *word, u32 expected, u64 timeout_ms)
{
	struct timespec ts = { .tv_sec = (time_t)(timeout_ms / 1000), .tv_nsec = (long)(timeout_ms % 1000) * 1000000 };

	return (int)raw_syscall4(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, expected, (long)(timeout_ms ? &ts : NULL));
}

int futex_wake(u32 *word, int nr)
{
	return (int)raw_syscall3(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, nr);
}

int futex_wake_shared(u32 *word, int nr)
{
	return (int)raw_syscall3(SYS_futex, (long)word, FUTEX_WAKE, nr);
}

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define FUTEX_SIZE_U32 2u

int futex_wait_or_exit(u32 *word, u32 expected, u32 *tid_word, u32 tid, u64 timeout_ms)
{
	struct {
		u64 val, uaddr;
		u32 flags, reserved;
	} waiters[2] = {
		{ expected, (uintptr_t)word, FUTEX_SIZE_U32 | FUTEX_PRIVATE_FLAG, 0 },
		{ tid, (uintptr_t)tid_word, FUTEX_SIZE_U32, 0 },
	};
	u64 until = os_clock_ns() + timeout_ms * 1000000u;	/* this system call takes a time, not a span */
	struct timespec ts = { .tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u) };

	return (int)raw_syscall5(SYS_futex_waitv, (long)waiters, 2, 0, (long)(timeout_ms ? &ts : NULL), CLOCK_MONOTONIC);
}

void __mutex_lock_slowpath(struct mutex *m)
{
	for (int i = 0; i < MUTEX_SPINS; i++) {
		u32 zero = 0;

		if (READ_ONCE(m->state) == 0 &&
		    __atomic_compare_exchange_n(&m->state, &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		cpu_relax();
	}
	while (__atomic_exchange_n(&m->state, 2, __ATOMIC_ACQUIRE) != 0)
		futex_wait(&m->state, 2, 0);
}

void __mutex_wake(struct mutex *m)
{
	futex_wake(&m->state, 1);
}

#if KMM_DEBUG >= 1
static __thread u8 held_locks[NR_LOCK_CLASSES] __initial_exec;
static __thread bool timed __initial_exec;
static __thread u64 held_since_ns[NR_LOCK_CLASSES] __initial_exec;
u64 lockdep_longest_ns[NR_LOCK_CLASSES];
static bool (*gate_is_held)(void);

static const enum { FORK_RESET, FORK_GATE, FORK_TAKE, FORK_COVERED } at_fork[] = {
#define LOCKCLASS(rank, name, fork, help) [rank] = fork,
#include "base/lockclass.def"
};

void lockdep_covered_by(bool (*fn)(void))
{
	gate_is_held = fn;
}

/* At the gate, or for a lock that this thread holds. */
static bool fork_waits_for_us(void)
{
	for (unsigned c = 0; c < NR_LOCK_CLASSES; c++)
		if (at_fork[c] == FORK_TAKE && held_locks[c])
			return true;
	return !gate_is_held || gate_is_held();
}

void lockdep_time_this_thread(bool on)
{
	timed = on;
}

void lockdep_acquire(enum lock_class c, bool trylock)
{
	for (unsigned higher = c; !trylock && higher < NR_LOCK_CLASSES; higher++)
		if (held_locks[higher])
			__bug(__FILE__, __LINE__, "lock order of lockclass.def violated");
	if (at_fork[c] == FORK_COVERED && !fork_waits_for_us())
		__bug(__FILE__, __LINE__, "a lock that fork does not take, where fork waits for nobody");
	if (held_locks[c]++ == 0 && unlikely(timed))
		held_since_ns[c] = os_thread_cpu_ns(0);
}

void lockdep_release(enum lock_class c)
{
	if (!held_locks[c])
		__bug(__FILE__, __LINE__, "unlock of a lock that this thread does not hold");
	if (--held_locks[c] == 0 && unlikely(timed))
		lockdep_longest_ns[c] = max(lockdep_longest_ns[c], os_thread_cpu_ns(0) - held_since_ns[c]);
}

bool lockdep_is_held(enum lock_class c)
{
	return held_locks[c] != 0;
}
#endif
