/* SPDX-License-Identifier: MIT */
/* futex_test.c - the mutex excludes, wakes and sleeps; the lock order is checked. */
#include "os/mutex.h"

#include "../boot.h"

TestSuite(futex, .timeout = 60);

static struct mutex lock;
static u64 counter;

static void *count_up(void *arg)
{
	u64 r = rng_of((uintptr_t)arg);

	for (unsigned i = 0; i < rounds(50000); i++) {
		mutex_lock(&lock, LOCK_zone);
		u64 c = counter;

		if (rng_below(&r, 256) == 0)
			sched_yield();		/* let the others pile up and sleep */
		counter = c + 1;
		mutex_unlock(&lock, LOCK_zone);
	}
	return NULL;
}

Test(futex, mutex_excludes)
{
	run_threads(6, count_up);
	cr_assert_eq(counter, 6ull * rounds(50000));
	cr_assert_eq(lock.state, 0u, "nobody is thought to sleep any more");
}

static void *try_to_count_up(void *arg)
{
	for (unsigned i = 0; i < rounds(50000);) {
		if (!mutex_trylock(&lock, LOCK_zone)) {
			sched_yield();
			continue;
		}
		counter++;
		i++;
		mutex_unlock(&lock, LOCK_zone);
	}
	return arg;
}

Test(futex, trylock_excludes)
{
	run_threads(3, try_to_count_up);
	cr_assert_eq(counter, 3ull * rounds(50000));
}

Test(futex, trylock_of_a_held_lock)
{
	mutex_lock(&lock, LOCK_zone);
	cr_assert_eq(lock.state, 1u);
	cr_assert(lockdep_is_held(LOCK_zone));
	cr_assert_not(mutex_trylock(&lock, LOCK_memblock));
	cr_assert_not(lockdep_is_held(LOCK_memblock), "a try that failed holds nothing");
	mutex_unlock(&lock, LOCK_zone);
	cr_assert_not(lockdep_is_held(LOCK_zone));
	cr_assert(mutex_trylock(&lock, LOCK_zone));
	mutex_unlock(&lock, LOCK_zone);
}

static u32 word;
static bool woken;

static void *sleeper(void *arg)
{
	while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 1)
		futex_wait(&word, 1, 0);
	__atomic_store_n(&woken, true, __ATOMIC_RELEASE);
	return arg;
}

Test(futex, wait_and_wake)
{
	pthread_t t;
	u64 before;

	errno = 4711;
	cr_assert_eq(futex_wait(&word, 1, 0), -EAGAIN, "another value: no sleep");
	before = os_clock_ns();
	cr_assert_eq(futex_wait(&word, 0, 20), -ETIMEDOUT);
	cr_assert_geq(os_clock_ns() - before, 20000000ull);
	cr_assert_eq(errno, 4711);
	word = 1;
	cr_assert_eq(pthread_create(&t, NULL, sleeper, NULL), 0);
	while (futex_wake(&word, 1) == 0)	/* 1: it does sleep */
		os_yield();
	cr_assert_not(woken, "the word has not changed");
	__atomic_store_n(&word, 2, __ATOMIC_RELEASE);
	futex_wake(&word, INT32_MAX);
	pthread_join(t, NULL);
	cr_assert(woken);
}

/* --- lock order ---------------------------------------------------------------------------------------------- */

Test(futex, rising_ranks_are_in_order)
{
	struct mutex m[4] = { 0 };

	mutex_lock(&m[0], LOCK_drain);
	mutex_lock(&m[1], LOCK_node);
	mutex_lock(&m[2], LOCK_pcp);
	mutex_unlock(&m[1], LOCK_node);		/* in any order back */
	mutex_lock(&m[3], LOCK_brk);
	mutex_unlock(&m[0], LOCK_drain);
	mutex_unlock(&m[3], LOCK_brk);
	mutex_unlock(&m[2], LOCK_pcp);
	mutex_lock(&m[0], LOCK_drain);
	mutex_unlock(&m[0], LOCK_drain);
}

Test(futex, falling_ranks_are_a_bug, .signal = SIGABRT)
{
	struct mutex a = { 0 }, b = { 0 };

	mutex_lock(&a, LOCK_zone);
	mutex_lock(&b, LOCK_pcp);
}

Test(futex, two_of_one_rank_are_a_bug, .signal = SIGABRT)
{
	struct mutex a = { 0 }, b = { 0 };

	mutex_lock(&a, LOCK_node);
	mutex_lock(&b, LOCK_node);
}

Test(futex, unlock_of_a_lock_not_held_is_a_bug, .signal = SIGABRT)
{
	struct mutex a = { .state = 1 };

	mutex_unlock(&a, LOCK_node);
}

/* --- what fork waits for ------------------------------------------------------------------------------------- */

static bool inside;

static bool is_inside(void)
{
	return inside;
}

Test(futex, locks_that_fork_waits_for)
{
	struct mutex other = { 0 };

	lockdep_covered_by(is_inside);
	mutex_lock(&lock, LOCK_task);		/* fork takes it, */
	mutex_lock(&other, LOCK_metapool);	/* and so nobody holds this one while it forks */
	mutex_unlock(&other, LOCK_metapool);
	mutex_unlock(&lock, LOCK_task);
	inside = true;
	mutex_lock(&lock, LOCK_zone);
	mutex_unlock(&lock, LOCK_zone);
}

Test(futex, a_lock_that_a_child_would_find_held, .signal = SIGABRT)
{
	lockdep_covered_by(is_inside);
	mutex_trylock(&lock, LOCK_zone);
}
