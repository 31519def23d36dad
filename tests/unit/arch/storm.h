/* SPDX-License-Identifier: MIT */
/*
 * storm.h - per-CPU operations under migration: no object lost, none doubled. For rseq and for the lock mode.
 *
 * Objects are numbers (times 16, as objects are aligned), their owners stand in an array. Threads pop and push on
 * whatever CPU they are, exchange whole sheaves, are moved between CPUs and interrupted by signals whose handler
 * pops and pushes as well. At the end every object is in exactly one place: a slot, a thread's sheaf, a thread's hand.
 */
#ifndef KMM_TESTS_UNIT_ARCH_STORM_H
#define KMM_TESTS_UNIT_ARCH_STORM_H

#include "../boot.h"
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_OBJECTS   400
#define NR_STORMERS  4
#define STORM_CLASS  5u
#define STORM_AREAS  8u
#define MAX_HELD     100

static struct sheaf storm_sheaves[2 * STORM_AREAS + NR_STORMERS];
static unsigned nr_sheaves_used;
static u32 owner_of[NR_OBJECTS + 1];	/* 0: in a sheaf */
static u32 seen[NR_OBJECTS + 1];
static u64 nr_pops, nr_exchanges, nr_signals;
static int stormer_tid[NR_STORMERS];
static u32 nr_done;
static bool with_signals;

static inline void *obj_of(unsigned i)
{
	return (void *)((uintptr_t)i * 16);
}

static inline unsigned index_of(const void *obj)
{
	CHECK((uintptr_t)obj % 16 == 0 && (uintptr_t)obj / 16 >= 1 && (uintptr_t)obj / 16 <= NR_OBJECTS);
	return (unsigned)((uintptr_t)obj / 16);
}

static inline void own(const void *obj, u32 who)
{
	CHECK(__atomic_exchange_n(&owner_of[index_of(obj)], who, __ATOMIC_RELAXED) == 0);
}

static inline void disown(const void *obj, u32 who)
{
	CHECK(__atomic_exchange_n(&owner_of[index_of(obj)], 0, __ATOMIC_RELAXED) == who);
}

/* The whole sheaf is used: bottom sentinel in slot 0. */
static inline void **empty_top(void)
{
	return &storm_sheaves[nr_sheaves_used++].slot[1];
}

static int storm_prepare(unsigned cpu)
{
	for (unsigned slot = 0; slot < 2 * SLOT_REMOTE; slot++)
		percpu_set_top(cpu, slot, sheaf_full_top(&stop_sheaf));
	percpu_set_top(cpu, STORM_CLASS, empty_top());
	percpu_set_top(cpu, STORM_CLASS | SLOT_REMOTE, empty_top());
	return 0;
}

static inline void boot_storm(int percpu)
{
	boot_pages(percpu);
	percpu_prepare = storm_prepare;
	cr_assert_eq(percpu_online(STORM_AREAS - 1), 0);
}

/* Some home, so that the push takes the local slot at times and the remote one at others. */
static inline map_entry_t some_entry(u64 *r)
{
	return make_map_entry(STORM_CLASS, 0, rng_below(r, 4));
}

static inline unsigned some_slot(u64 *r)
{
	return STORM_CLASS | (rng_below(r, 2) ? SLOT_REMOTE : 0);
}

static __thread u64 handler_rng;
static __thread u32 handler_depth;

/* Takes one and gives it back, in the middle of whatever the thread is doing. All sheaves may be full then. */
static void on_signal(int sig)
{
	void *obj;

	(void)sig;
	if (!handler_rng || handler_depth++)
		return;
	__atomic_add_fetch(&nr_signals, 1, __ATOMIC_RELAXED);
	obj = percpu_pop(some_slot(&handler_rng));
	if (obj) {
		own(obj, 99);
		disown(obj, 99);
		while (!percpu_push(some_entry(&handler_rng), obj))
			os_yield();
	}
	handler_depth--;
}

static void *stormer(void *arg)
{
	u32 me = 1 + (u32)(uintptr_t)arg;
	u64 r = rng_of(me), pops = 0, exchanges = 0;
	void *held[MAX_HELD], **spare = &storm_sheaves[2 * STORM_AREAS + me - 1].slot[1], **old;
	unsigned nr = 0;

	handler_rng = r ^ 7;
	__atomic_store_n(&stormer_tid[me - 1], os_gettid(), __ATOMIC_RELEASE);
	for (unsigned i = 0; i < rounds(1000000); i++) {
		u32 what = rng_below(&r, 1000);

		if (what == 0)
			pin_to(rng_below(&r, 64));
		if (what < 20) {
			unsigned cpu = this_cpu_id();

			old = percpu_exchange(cpu, some_slot(&r), spare);
			spare = old ? old : spare;
			exchanges += old != NULL;
		} else if (what < 500 && nr < MAX_HELD) {
			void *obj = percpu_pop(some_slot(&r));

			if (!obj)
				continue;
			own(obj, me);
			held[nr++] = obj;
			pops++;
		} else if (nr) {
			void *obj = held[nr - 1];

			disown(obj, me);
			if (percpu_push(some_entry(&r), obj))
				nr--;
			else
				own(obj, me);
		}
	}
	handler_rng = 0;
	__atomic_add_fetch(&nr_done, 1, __ATOMIC_RELEASE);
	while (nr)
		CHECK(seen[index_of(held[--nr])]++ == 0);
	while (*--spare)
		CHECK(__atomic_add_fetch(&seen[index_of(*spare)], 1, __ATOMIC_RELAXED) == 1);
	__atomic_add_fetch(&nr_pops, pops, __ATOMIC_RELAXED);
	__atomic_add_fetch(&nr_exchanges, exchanges, __ATOMIC_RELAXED);
	return NULL;
}

static inline void fill_areas(void)
{
	for (unsigned i = 1, cpu = 0; i <= NR_OBJECTS; i++, cpu = (cpu + 1) % STORM_AREAS) {
		unsigned slot = STORM_CLASS | (i & 8 ? SLOT_REMOTE : 0);
		void **top = percpu_top(cpu, slot);

		cr_assert_neq((uintptr_t)top & 511, 0);
		*top = obj_of(i);
		percpu_set_top(cpu, slot, top + 1);
	}
}

static inline void count_areas(void)
{
	for (unsigned cpu = 0; cpu < STORM_AREAS; cpu++) {
		for (unsigned remote = 0; remote <= SLOT_REMOTE; remote += SLOT_REMOTE) {
			void **top = percpu_top(cpu, STORM_CLASS | remote);

			while (*--top)
				seen[index_of(*top)]++;
		}
	}
}

/* The last thread interrupts the others, about every 20 us one of them. */
static void *stormer_or_signaller(void *arg)
{
	unsigned i = 0;

	if ((uintptr_t)arg < NR_STORMERS)
		return stormer(arg);
	while (with_signals && __atomic_load_n(&nr_done, __ATOMIC_ACQUIRE) < NR_STORMERS) {
		int tid = __atomic_load_n(&stormer_tid[i++ % NR_STORMERS], __ATOMIC_ACQUIRE);

		if (tid)
			syscall(SYS_tgkill, getpid(), tid, SIGUSR1);	/* fails once that thread is gone */
		usleep(20);
	}
	return NULL;
}

static inline void storm(bool signals)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	fill_areas();
	sigaction(SIGUSR1, &sa, NULL);
	with_signals = signals;
	run_threads(NR_STORMERS + 1, stormer_or_signaller);
	count_areas();
	for (unsigned i = 1; i <= NR_OBJECTS; i++)
		cr_assert_eq(seen[i], 1u, "object %u is in %u places", i, seen[i]);
	cr_assert_gt(nr_pops, rounds(10000), "the storm did something");
	cr_assert_gt(nr_exchanges, rounds(100));
	cr_assert(!signals || nr_signals > 100, "%lu signals", nr_signals);
}

#endif
