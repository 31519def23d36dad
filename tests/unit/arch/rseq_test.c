/* SPDX-License-Identifier: MIT */
/* rseq_test.c - pop, push and exchange as restartable sequences; the choice of the mode. */
#include "storm.h"
#include "arch/percpu_chain.h"
#include "os/kthread.h"

static void need_rseq(void)
{
	boot_storm(PERCPU_AUTO);
	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip_test("no rseq here");
}

TestSuite(rseq, .init = need_rseq, .timeout = 120);
TestSuite(percpu_mode, .timeout = 30);

Test(percpu_mode, lock_when_asked_for)
{
	boot_storm(PERCPU_LOCK);
	cr_assert_eq(percpu_mode, PERCPU_MODE_LOCK);
	cr_assert_eq(percpu_hot.rseq_base, percpu_hot.nowhere, "rseq may use no area");
	cr_assert_eq(percpu_hot.nr_areas, STORM_AREAS);
	cr_assert_not(percpu_uses_mm_cid());
	fill_areas();
	cr_assert_null(this_cpu_pop(STORM_CLASS), "the fast path is slow");
	cr_assert_not(this_cpu_push(&(map_entry_t){ make_map_entry(STORM_CLASS, 0, 0) }, 0, obj_of(1)));
	cr_assert_not_null(percpu_pop(STORM_CLASS), "the slow path serves");
}

/* Before boot there are no areas: everything is "slow", nothing faults. */
Test(percpu_mode, slow_before_boot)
{
	cr_assert_null(this_cpu_pop(0), "malloc knows no other class yet, and free no address");
	percpu_mode_init(PERCPU_AUTO, sheaf_full_top(&stop_sheaf));
	cr_assert_null(this_cpu_pop(1));
	cr_assert_not(this_cpu_push(&(map_entry_t){ make_map_entry(1, 0, 0) }, 0, obj_of(1)));
}

/* Address space is rationed and CPUs are many: the list of those that are possible is looked at, then rseq is given up. */
Test(percpu_mode, given_up_for_many_cpus)
{
	long nr = sysconf(_SC_NPROCESSORS_CONF);

	cr_assert_eq((long)os_nr_possible_cpus(), nr);
	cr_assert_geq((long)os_nr_cpu_ids(), nr);
	percpu_mode_init(PERCPU_AUTO, sheaf_full_top(&stop_sheaf));
	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip_test("no rseq here");
	cr_assert_eq(percpu_nr_index(UINT64_MAX), os_nr_cpu_ids());
	cr_assert_eq((long)percpu_nr_index((u64)nr), nr);
	cr_assert_eq(percpu_mode, PERCPU_MODE_RSEQ);
	cr_assert_eq(percpu_nr_index((u64)nr - 1), 1u);
	cr_assert_eq(percpu_mode, PERCPU_MODE_LOCK);
	cr_assert_eq(percpu_nr_index(1), 1u);
}

/* Runs fn until the thread stayed on one area from before to after. */
#define ON_ONE_CPU(cpu, ...)                                                   \
	do {                                                                   \
		unsigned _again;                                               \
		do {                                                           \
			cpu = this_cpu_id();                                   \
			__VA_ARGS__;                                           \
			_again = this_cpu_id();                                \
		} while (_again != cpu);                                       \
	} while (0)

Test(rseq, index_is_dense_or_the_cpu)
{
	long nr_cpus = sysconf(_SC_NPROCESSORS_CONF);

	for (unsigned i = 0; i < 16; i++) {
		pin_to(i);
		if (percpu_uses_mm_cid())
			cr_assert_lt((long)this_cpu_id(), nr_cpus);
		else
			cr_assert_eq((int)this_cpu_id(), sched_getcpu());
	}
}

/* A section that was restarted by a switch of tasks is "slow" as well: a few tries are allowed. */
static void *pop_retry(unsigned slot)
{
	void *obj = NULL;

	for (int i = 0; i < 100 && !obj; i++)
		obj = rseq_pop(slot);
	return obj;
}

static bool push_retry(map_entry_t e, void *obj)
{
	bool done = false;

	for (int i = 0; i < 100 && !done; i++)
		done = rseq_push(&e, 0, obj);
	return done;
}

static unsigned fill_of(unsigned cpu, unsigned slot)
{
	void **top = percpu_top(cpu, slot);

	return (unsigned)(top - &sheaf_of_top(top)->slot[1]);
}

Test(rseq, push_goes_to_the_local_or_the_remote_slot)
{
	unsigned cpu, slot = STORM_CLASS;

	pin_to(0);
	ON_ONE_CPU(cpu, );
	cr_assert(push_retry(make_map_entry(slot, 0, cpu), obj_of(1)));
	cr_assert_eq(fill_of(cpu, slot), 1u);
	cr_assert_eq(fill_of(cpu, slot | SLOT_REMOTE), 0u);
	cr_assert(push_retry(make_map_entry(slot, 0, cpu + 1), obj_of(2)));
	cr_assert(push_retry(make_map_entry(slot, 0, HOME_DOMAIN), obj_of(3)));
	cr_assert_eq(fill_of(cpu, slot), 1u);
	cr_assert_eq(fill_of(cpu, slot | SLOT_REMOTE), 2u);
	cr_assert_eq(pop_retry(slot), obj_of(1));
	cr_assert_null(pop_retry(slot), "empty");
	cr_assert_eq(pop_retry(slot | SLOT_REMOTE), obj_of(3));
	cr_assert_eq(pop_retry(slot | SLOT_REMOTE), obj_of(2));
	cr_assert_null(pop_retry(slot | SLOT_REMOTE));
}

/* The colour of a memory group is part of the slot's number. */
Test(rseq, colours_have_slots_of_their_own)
{
	unsigned cpu, slot = STORM_CLASS | 3u << 8;

	pin_to(0);
	ON_ONE_CPU(cpu, );
	percpu_set_top(cpu, slot, empty_top());
	cr_assert(push_retry(make_map_entry(STORM_CLASS, 3, cpu), obj_of(1)));
	cr_assert_eq(fill_of(cpu, slot), 1u);
	cr_assert_eq(fill_of(cpu, STORM_CLASS), 0u);
	cr_assert_eq(pop_retry(slot), obj_of(1));
}

Test(rseq, full_empty_and_double)
{
	map_entry_t e;
	unsigned cpu;

	pin_to(0);
	ON_ONE_CPU(cpu, );
	e = make_map_entry(STORM_CLASS, 0, cpu);
	for (unsigned i = 1; i <= 63; i++) {
		cr_assert(push_retry(e, obj_of(i)), "%u", i);
		cr_assert(i == 63 || !push_retry(e, obj_of(i)), "the same twice is refused");
		cr_assert_eq(fill_of(cpu, STORM_CLASS), i);
	}
	cr_assert_not(push_retry(e, obj_of(64)), "full");
	for (unsigned i = 63; i >= 1; i--)
		cr_assert_eq(pop_retry(STORM_CLASS), obj_of(i));
	cr_assert_null(pop_retry(STORM_CLASS));
	cr_assert_eq(fill_of(cpu, STORM_CLASS), 0u);
}

Test(rseq, exchange_respects_stop_and_other_cpus)
{
	void **top = empty_top(), **old = NULL, **first;
	unsigned cpu;

	pin_to(0);
	ON_ONE_CPU(cpu, );
	first = percpu_top(cpu, STORM_CLASS);
	cr_assert_null(rseq_exchange(cpu + 1, STORM_CLASS, top), "not this CPU");
	cr_assert_eq(fill_of(cpu + 1, STORM_CLASS), 0u);
	for (int i = 0; i < 100 && !old; i++)
		old = rseq_exchange(cpu, STORM_CLASS, top);
	cr_assert_eq(old, first);
	cr_assert_eq(percpu_top(cpu, STORM_CLASS), top);
	percpu_set_top(cpu, STORM_CLASS, sheaf_full_top(&stop_sheaf));
	for (int i = 0; i < 100; i++) {
		cr_assert_null(rseq_exchange(cpu, STORM_CLASS, top), "the stop sheaf stays");
		cr_assert_null(rseq_pop(STORM_CLASS));
		cr_assert_not(rseq_push(&(map_entry_t){ make_map_entry(STORM_CLASS, 0, cpu) }, 0, obj_of(1)));
	}
	cr_assert_eq(percpu_top(cpu, STORM_CLASS), sheaf_full_top(&stop_sheaf));
	for (unsigned i = 0; i < SHEAF_SLOTS; i++)
		cr_assert_null(stop_sheaf.slot[i], "never written");
}

/* A CPU whose area is not online takes the slow path. */
Test(rseq, area_not_online)
{
	fill_areas();
	percpu_freeze();
	cr_assert_null(this_cpu_pop(STORM_CLASS));
	cr_assert_not(this_cpu_push(&(map_entry_t){ make_map_entry(STORM_CLASS, 0, 0) }, 0, obj_of(1)));
	cr_assert_null(rseq_exchange(0, STORM_CLASS, empty_top()));
	cr_assert_null(percpu_get_empty());
	cr_assert_not(percpu_put_empty(&storm_sheaves[0]), "there is no room where nothing is");
	for (unsigned slot = 1; slot < SLOT_REMOTE; slot += slot == 125 ? 2 : 1) {
		cr_assert_null(this_cpu_pop(slot | 3u << MAP_COLOUR_SHIFT));
		cr_assert_not(this_cpu_push(&(map_entry_t){ make_map_entry(slot, 3, 0) }, 0, obj_of(1)));
		cr_assert_not(this_cpu_push(&(map_entry_t){ make_map_entry(slot, 0, 7) }, 0, obj_of(1)));
	}
	percpu_thaw();
	void *obj = NULL;

	for (int i = 0; i < 100 && !obj; i++)	/* one may have been restarted */
		obj = this_cpu_pop(STORM_CLASS);
	cr_assert_not_null(obj);
}

/* What stands in struct rseq is made up, until the kernel writes it again: the last index that there is, and none. */
Test(rseq, indices_without_an_area)
{
	s32 last = (s32)percpu_nr_index(UINT64_MAX) - 1, made_up[] = { last, -1, -2, (s32)STORM_AREAS };
	volatile s32 *index = (volatile s32 *)((char *)__builtin_thread_pointer() + percpu_hot.cpu_offset);

	fill_areas();
	pin_to(0);
	for (unsigned i = 0; i < ARRAY_SIZE(made_up); i++) {
		s32 right = *index;
		bool seen = false;

		for (unsigned n = 0; n < 1000 && !seen; n++) {
			map_entry_t e = make_map_entry(STORM_CLASS, 0, n % 2);
			void *obj, *empty;
			bool pushed;

			*index = made_up[i];
			obj = this_cpu_pop(STORM_CLASS);
			pushed = !obj && this_cpu_push(&e, 0, obj_of(1));
			empty = percpu_get_empty();
			seen = *index == made_up[i] && !obj && !pushed && !empty && !percpu_put_empty(&storm_sheaves[0]);
			*index = right;
		}
		cr_assert(seen, "index %d", made_up[i]);
	}
}

Test(rseq, storm_of_migrations)
{
	storm(false);
}

Test(rseq, storm_of_migrations_and_signals)
{
	storm(true);
}
