/* SPDX-License-Identifier: MIT */
/* percpu_lock_test.c - the same operations behind a try-lock per area. */
#include "storm.h"

static void boot_locked(void)
{
	boot_storm(PERCPU_LOCK);
}

TestSuite(percpu_lock, .init = boot_locked, .timeout = 120);

static unsigned fill_of(unsigned cpu, unsigned slot)
{
	void **top = percpu_top(cpu, slot);

	return (unsigned)(top - &sheaf_of_top(top)->slot[1]);
}

Test(percpu_lock, push_and_pop_on_the_own_area)
{
	map_entry_t e;
	unsigned cpu;

	pin_to(1);
	cpu = this_cpu_id();
	cr_assert_eq((int)cpu, sched_getcpu(), "a core per CPU before hwloc");
	e = make_map_entry(STORM_CLASS, 0, cpu);
	cr_assert(lock_push(e, obj_of(1)));
	cr_assert_not(lock_push(e, obj_of(1)), "the same twice");
	cr_assert_eq(fill_of(cpu, STORM_CLASS), 1u);
	cr_assert(lock_push(make_map_entry(STORM_CLASS, 0, cpu + 1), obj_of(2)));
	cr_assert_eq(fill_of(cpu, STORM_CLASS | SLOT_REMOTE), 1u);
	for (unsigned i = 3; i < 65; i++)
		cr_assert(lock_push(e, obj_of(i)));
	cr_assert_not(lock_push(e, obj_of(65)), "full");
	for (unsigned i = 64; i >= 3; i--)
		cr_assert_eq(lock_pop(STORM_CLASS), obj_of(i));
	cr_assert_eq(lock_pop(STORM_CLASS), obj_of(1));
	cr_assert_null(lock_pop(STORM_CLASS));
	cr_assert_eq(lock_pop(STORM_CLASS | SLOT_REMOTE), obj_of(2));
	cr_assert_eq(percpu_lock(cpu)->state, 0u);
}

/* Whoever is preempted while holding an area delays nobody: the next one serves. */
Test(percpu_lock, a_held_area_is_passed_over)
{
	unsigned cpu, next;

	pin_to(0);
	cpu = this_cpu_id();
	next = (cpu + 1) % STORM_AREAS;
	percpu_lock(cpu)->state = 1;	/* some other thread's */
	cr_assert(lock_push(make_map_entry(STORM_CLASS, 0, cpu), obj_of(1)));
	cr_assert_eq(fill_of(cpu, STORM_CLASS), 0u);
	cr_assert_eq(fill_of(next, STORM_CLASS | SLOT_REMOTE), 1u, "the next area, of which the object is not at home");
	cr_assert_null(lock_exchange(cpu, STORM_CLASS, empty_top()), "exchange is for one area only");
	for (unsigned i = 0; i < STORM_AREAS; i++)
		percpu_lock(i)->state = 1;
	cr_assert_not(lock_push(make_map_entry(STORM_CLASS, 0, cpu), obj_of(2)));
	cr_assert_null(lock_pop(STORM_CLASS | SLOT_REMOTE));
	percpu_lock(next)->state = 0;
	cr_assert_eq(lock_pop(STORM_CLASS | SLOT_REMOTE), obj_of(1));
}

Test(percpu_lock, exchange)
{
	void **top = empty_top(), **first = percpu_top(3, STORM_CLASS);

	cr_assert_eq(lock_exchange(3, STORM_CLASS, top), first);
	cr_assert_eq(percpu_top(3, STORM_CLASS), top);
	percpu_set_top(3, STORM_CLASS, sheaf_full_top(&stop_sheaf));
	cr_assert_null(lock_exchange(3, STORM_CLASS, top), "the stop sheaf stays");
	cr_assert_eq(percpu_top(3, STORM_CLASS), sheaf_full_top(&stop_sheaf));
	cr_assert_eq(percpu_lock(3)->state, 0u);
}

/* A signal handler that interrupts a holder goes on to the next area; it may hold other locks, too. */
Test(percpu_lock, a_holder_is_interrupted)
{
	unsigned cpu;
	struct mutex node = { 0 };

	pin_to(0);
	cpu = this_cpu_id();
	mutex_lock(&node, LOCK_node);
	cr_assert(mutex_trylock(percpu_lock(cpu), LOCK_percpu_area));
	cr_assert(lock_push(make_map_entry(STORM_CLASS, 0, cpu + 1), obj_of(1)));
	cr_assert_eq(lock_pop(STORM_CLASS), obj_of(1));
	mutex_unlock(percpu_lock(cpu), LOCK_percpu_area);
	mutex_unlock(&node, LOCK_node);
}

Test(percpu_lock, storm_of_migrations)
{
	storm(false);
}

Test(percpu_lock, storm_of_migrations_and_signals)
{
	storm(true);
}
