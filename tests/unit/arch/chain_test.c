/* SPDX-License-Identifier: MIT */
/*
 * chain_test.c - slots as stacks of sheaves, in both modes: what each operation does, and a storm in which no object
 * and no sheaf is lost or in two places.
 */
#include "storm.h"

#include "arch/percpu_chain.h"

#define CAPACITY   4u		/* small, so that sheaves change often */
#define NR_SHEAVES (EMPTY_MAX - 1u)	/* they all find a place with the empty ones of one CPU */
#define NR_OBJECTS_HERE (2 * STORM_AREAS * CAPACITY)
#define ROOM	   5u		/* of the lowest sheaf: four more go on top */

static struct sheaf chain_sheaves[NR_SHEAVES];
static u32 nr_chain_sheaves;
static u32 sheaf_seen[NR_SHEAVES];
static u64 nr_chained, nr_displaced, nr_below;

static void **bottom_of(void *sheaf)
{
	return &((struct sheaf *)sheaf)->slot[SHEAF_SLOTS - CAPACITY];
}

static void *new_sheaf(unsigned room)
{
	u32 i = __atomic_fetch_add(&nr_chain_sheaves, 1, __ATOMIC_RELAXED);

	CHECK(i < NR_SHEAVES);
	chain_sheaves[i].slot[0] = (void *)(uintptr_t)room;
	bottom_of(&chain_sheaves[i])[-1] = NULL;
	return &chain_sheaves[i];
}

static int chain_prepare(unsigned cpu)
{
	for (unsigned slot = 0; slot < 2 * SLOT_REMOTE; slot++)
		percpu_set_top(cpu, slot, sheaf_full_top(&stop_sheaf));
	*percpu_slot(cpu, SLOT_EMPTY) = EMPTY_MAX;
	percpu_set_top(cpu, STORM_CLASS, bottom_of(new_sheaf(ROOM)));
	percpu_set_top(cpu, STORM_CLASS | SLOT_REMOTE, bottom_of(new_sheaf(1)));
	return 0;
}

static void boot_chain(int percpu)
{
	boot_pages(percpu);
	percpu_prepare = chain_prepare;
	cr_assert_eq(percpu_online(STORM_AREAS - 1), 0);
	pin_to(0);
}

static void boot_chain_auto(void)
{
	boot_chain(PERCPU_AUTO);
}

static void boot_chain_lock(void)
{
	boot_chain(PERCPU_LOCK);
}

TestSuite(chain, .init = boot_chain_auto, .timeout = 120);
TestSuite(chain_lock, .init = boot_chain_lock, .timeout = 120);

/* A few tries: a section that was restarted is "slow". */
static bool push(map_entry_t e, unsigned i, void *sheaf, unsigned least, struct chain_left *left)
{
	bool done = false;

	bottom_of(sheaf)[0] = obj_of(i);
	for (int tries = 0; tries < 100 && !done; tries++)
		done = percpu_push_chain(e, obj_of(i), bottom_of(sheaf) + 1, least, left);
	return done;
}

static void *pop(unsigned slot, struct chain_left *left)
{
	void *obj = NULL;

	for (int tries = 0; tries < 100 && !obj; tries++)
		obj = percpu_pop_chain(slot, left);
	return obj;
}

static void grows_and_shrinks(void)
{
	map_entry_t e = make_map_entry(STORM_CLASS, 0, this_cpu_id());
	void *sheaf = new_sheaf(0), *first = sheaf_of_top(percpu_top(this_cpu_id(), STORM_CLASS));
	struct chain_left left;
	unsigned n = 0;

	cr_assert_null(pop(STORM_CLASS, &left), "nothing there, nothing below");
	while (n < CAPACITY * ROOM) {
		bool full = n && n % CAPACITY == 0;

		cr_assert(push(e, ++n, sheaf, 2, &left));
		cr_assert_eq(left.sheaf, full ? NULL : sheaf, "object %u", n);
		cr_assert_eq(left.slot, STORM_CLASS);
		if (full)
			sheaf = new_sheaf(0);
		cr_assert_not(push(e, n, sheaf, 1, &left), "the same twice");
	}
	cr_assert_not(push(e, n + 1, sheaf, 2, &left), "no room");
	cr_assert(push(e, n + 1, sheaf, 1, &left), "in the place of the one on top");
	cr_assert_neq(left.sheaf, sheaf);
	cr_assert_eq(bottom_of(left.sheaf)[CAPACITY - 1], obj_of(n), "which is full");
	cr_assert_eq(pop(STORM_CLASS, &left), obj_of(n + 1));
	cr_assert_null(left.sheaf);
	for (n -= CAPACITY; n; n--) {
		cr_assert_eq(pop(STORM_CLASS, &left), obj_of(n));
		cr_assert_eq(left.sheaf != NULL, n % CAPACITY == 0, "one is spent before object %u", n);
	}
	cr_assert_null(pop(STORM_CLASS, &left));
	cr_assert_eq(sheaf_of_top(percpu_top(this_cpu_id(), STORM_CLASS)), first, "the lowest stays");
}

Test(chain, grows_and_shrinks) { grows_and_shrinks(); }
Test(chain_lock, grows_and_shrinks) { grows_and_shrinks(); }

static void null_sheaves_take_nothing(void)
{
	unsigned cpu = this_cpu_id();
	map_entry_t e = make_map_entry(STORM_CLASS, 0, cpu), remote = make_map_entry(STORM_CLASS, 0, cpu + 1);
	void *sheaf = new_sheaf(0);
	struct chain_left left;

	for (int boot = 0; boot < 2; boot++) {
		percpu_set_top(cpu, STORM_CLASS, sheaf_full_top(boot ? &boot_sheaf : &stop_sheaf));
		cr_assert_not(push(e, 1, sheaf, 1, &left));
		cr_assert_null(pop(STORM_CLASS, &left));
	}
	for (unsigned i = 0; i < SHEAF_SLOTS; i++)
		cr_assert(!stop_sheaf.slot[i] && !boot_sheaf.slot[i], "never written");
	for (unsigned i = 1; i <= CAPACITY; i++)
		cr_assert(push(remote, i, sheaf, 2, &left));
	cr_assert_eq(left.slot, STORM_CLASS | SLOT_REMOTE);
	cr_assert_not(push(remote, 9, sheaf, 2, &left), "a remote one has no room");
}

Test(chain, null_sheaves_take_nothing) { null_sheaves_take_nothing(); }
Test(chain_lock, null_sheaves_take_nothing) { null_sheaves_take_nothing(); }

static void empties(void)
{
	void *sheaf[EMPTY_MAX + 1];

	static struct sheaf more[EMPTY_MAX + 1];

	cr_assert_null(percpu_get_empty());
	for (unsigned i = 0; i <= EMPTY_MAX; i++) {
		bool done = false;

		sheaf[i] = &more[i];
		for (int tries = 0; tries < 100 && !done; tries++)
			done = percpu_put_empty(sheaf[i]);
		cr_assert_eq(done, i < EMPTY_MAX, "sheaf %u", i);
	}
	for (unsigned i = EMPTY_MAX; i--;) {
		void *got = NULL;

		for (int tries = 0; tries < 100 && !got; tries++)
			got = percpu_get_empty();
		cr_assert_eq(got, sheaf[i]);
	}
	cr_assert_null(percpu_get_empty());
}

Test(chain, empties) { empties(); }
Test(chain_lock, empties) { empties(); }

/* --- storm ---------------------------------------------------------------------------------------------------- */

static void put_sheaf(void *sheaf)
{
	while (!percpu_put_empty(sheaf))
		os_yield();
}

static void *chain_stormer(void *arg)
{
	u32 me = 1 + (u32)(uintptr_t)arg;
	u64 r = rng_of(me), chained = 0, displaced = 0, below = 0;
	void *held[MAX_HELD + CAPACITY], *sheaf;
	struct chain_left left;
	unsigned nr = 0;

	for (unsigned i = 0; i < rounds(500000); i++) {
		u32 what = rng_below(&r, 1000);

		if (what == 0)
			pin_to(rng_below(&r, 64));
		if (what < 500 && nr < MAX_HELD) {
			void *obj = percpu_pop_chain(some_slot(&r), &left);

			if (!obj)
				continue;
			own(obj, me);
			held[nr++] = obj;
			below += left.sheaf != NULL;
			if (left.sheaf)
				put_sheaf(left.sheaf);
		} else if (nr) {
			void *obj = held[--nr];

			sheaf = percpu_get_empty();
			if (!sheaf)
				sheaf = __atomic_load_n(&nr_chain_sheaves, __ATOMIC_RELAXED) < NR_SHEAVES - NR_STORMERS ? new_sheaf(0) : NULL;
			disown(obj, me);
			if (sheaf) {
				bottom_of(sheaf)[-1] = NULL;
				bottom_of(sheaf)[0] = obj;
			}
			if (!sheaf || !percpu_push_chain(some_entry(&r), obj, bottom_of(sheaf) + 1, 1 + rng_below(&r, 2), &left)) {
				own(obj, me);
				held[nr++] = obj;
				left.sheaf = sheaf;
			} else if (left.sheaf && left.sheaf != sheaf) {
				displaced++;
				for (unsigned k = 0; k < CAPACITY; k++) {
					own(bottom_of(left.sheaf)[k], me);
					held[nr++] = bottom_of(left.sheaf)[k];
				}
			} else {
				chained += !left.sheaf;
			}
			if (left.sheaf)
				put_sheaf(left.sheaf);
		}
	}
	while (nr)
		CHECK(__atomic_add_fetch(&seen[index_of(held[--nr])], 1, __ATOMIC_RELAXED) == 1);
	__atomic_add_fetch(&nr_chained, chained, __ATOMIC_RELAXED);
	__atomic_add_fetch(&nr_displaced, displaced, __ATOMIC_RELAXED);
	__atomic_add_fetch(&nr_below, below, __ATOMIC_RELAXED);
	return NULL;
}

static void see_sheaf(struct sheaf *sh)
{
	cr_assert(sh >= chain_sheaves && sh < chain_sheaves + NR_SHEAVES);
	sheaf_seen[sh - chain_sheaves]++;
}

static void chain_storm(void)
{
	for (unsigned i = 1, cpu = 0; i <= NR_OBJECTS_HERE; i++, cpu = (cpu + 1) % STORM_AREAS) {
		unsigned slot = STORM_CLASS | (i & STORM_AREAS ? SLOT_REMOTE : 0);
		void **top = percpu_top(cpu, slot);

		CHECK((uintptr_t)top & 511);
		*top = obj_of(i);
		percpu_set_top(cpu, slot, top + 1);
	}
	run_threads(NR_STORMERS, chain_stormer);
	for (unsigned cpu = 0; cpu < STORM_AREAS; cpu++) {
		for (unsigned remote = 0; remote <= SLOT_REMOTE; remote += SLOT_REMOTE) {
			void **top = percpu_top(cpu, STORM_CLASS | remote);

			for (struct sheaf *sh = sheaf_of_top(top); sh; sh = sheaf_below(sh), top = sh ? sheaf_full_top(sh) : NULL) {
				see_sheaf(sh);
				for (void **p = bottom_of(sh); p < top; p++)
					seen[index_of(*p)]++;
			}
		}
		for (struct sheaf *sh = (struct sheaf *)(*percpu_slot(cpu, SLOT_EMPTY) & ~511ul); sh; sh = sheaf_below(sh))
			see_sheaf(sh);
	}
	for (unsigned i = 1; i <= NR_OBJECTS_HERE; i++)
		cr_assert_eq(seen[i], 1u, "object %u is in %u places", i, seen[i]);
	for (unsigned i = 0; i < nr_chain_sheaves; i++)
		cr_assert_eq(sheaf_seen[i], 1u, "sheaf %u is in %u places", i, sheaf_seen[i]);
	cr_assert(nr_chained > 100 && nr_displaced > 100 && nr_below > 100, "%lu %lu %lu", nr_chained, nr_displaced, nr_below);
}

Test(chain, storm) { chain_storm(); }
Test(chain_lock, storm) { chain_storm(); }
