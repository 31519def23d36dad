/* SPDX-License-Identifier: MIT */
/* sheaf_test.c - sheaves are filled, flushed, handed over whole and drained from another CPU; nothing lost or doubled. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"
#include "arch/percpu_chain.h"
#include "mm/gate.h"
#include "page/vmstat.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

TestSuite(sheaf, .init = boot_auto, .timeout = 120);
TestSuite(sheaf_lock, .init = boot_lock, .timeout = 120);

#define CLS 4u		/* 64 bytes, 64 objects a slab, */
#define CAP 61		/* objects a sheaf */

static u64 managed(void)
{
	return zones[ZONE_BRK].managed_pages + zones[ZONE_NORMAL].managed_pages;
}

/* All objects are back: every sheaf and slab goes, every page is free. */
static void check_all_back(void)
{
	struct slabinfo si;

	gate_enter();
	kmem_cache_shrink_all();
	gate_leave();
	slab_validate_all();
	for (unsigned c = 1; c < NR_KMALLOC_CLASSES; c++) {
		get_slabinfo(c, &si);
		cr_assert_eq(si.nr_slabs, 0u, "class %u: %lu slabs, %lu objects free", c, si.nr_slabs, si.nr_free);
		cr_assert_eq(si.nr_sheaf + si.nr_barn, 0u);
	}
	drain_all_pages();
	cr_assert_eq(nr_free_pages(), managed());
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
}

/* The area that the thread stays on: in the lock mode that of the CPU it is pinned to. */
static unsigned pin_area(unsigned n)
{
	pin_to(n);
	cr_assert_eq(percpu_online(this_cpu_id()), 0);
	return this_cpu_id();
}

static void drain_area(unsigned cpu)
{
	gate_enter();
	drain_cpu(cpu);
	gate_leave();
}

/* Allocates nr objects and frees them in the same order. */
static void swing(void **p, unsigned nr, size_t size)
{
	for (unsigned i = 0; i < nr; i++)
		CHECK(p[i] = kmalloc(size));
	for (unsigned i = 0; i < nr; i++)
		kfree(p[i]);
}

static void need_two_cpus(void)
{
	if (pin_area(0) == pin_area(1))
		cr_skip_test("one CPU only");
}

/* --- slots ---------------------------------------------------------------------------------------------------- */

Test(sheaf, slots_of_a_new_area)
{
	for (unsigned slot = 0; slot < 2 * SLOT_REMOTE; slot++) {
		unsigned cls = slot & MAP_CLASS_MASK;
		bool takes = cls >= 1 && cls < NR_KMALLOC_CLASSES;

		if (slot != SLOT_EMPTY)
			cr_assert_eq(percpu_top(0, slot), sheaf_full_top(takes ? &boot_sheaf : &stop_sheaf), "slot %u", slot);
	}
	cr_assert_null(this_cpu_pop(CLS));
	cr_assert_not(this_cpu_push(&(map_entry_t){ make_map_entry(CLS, 0, 0) }, 0, (void *)16));
}

/* The last word of the boot sheaf is what a push compares with and a pop looks at. */
Test(sheaf, null_sheaves_stay_null)
{
	void *p[500];

	for (int i = 0; i < 500; i++)
		p[i] = kmalloc(16u << (i % 8));
	for (int i = 0; i < 500; i++)
		kfree(p[i]);
	drain_area(0);
	for (unsigned i = 0; i < SHEAF_SLOTS; i++) {
		cr_assert_null(boot_sheaf.slot[i]);
		cr_assert_null(stop_sheaf.slot[i]);
	}
}

/* --- refill and flush: lock mode, where a thread knows its area -------------------------------------------------- */

Test(sheaf_lock, refill)
{
	unsigned area = pin_area(0);
	struct slabinfo si;
	char *first = kmalloc(64);

	cr_assert_not_null(first);
	cr_assert_eq(global_vm_event(VM_sheaf_refill), 1u);
	get_slabinfo(CLS, &si);
	cr_assert_eq(si.nr_slabs, 1u);
	cr_assert_eq(si.nr_sheaf, CAP - 1u);
	cr_assert_eq(si.nr_free, 64u - CAP, "what the sheaf had no place for");
	for (int i = 1; i < CAP; i++)
		cr_assert_eq((char *)kmalloc(64), first + 64 * i, "by ascending address");
	cr_assert_eq(global_vm_event(VM_sheaf_refill), 1u);
	for (int i = CAP; i < 64; i++)
		cr_assert_eq((char *)kmalloc(64), first + 64 * i, "what the slab had left");
	cr_assert_eq(global_vm_event(VM_sheaf_refill), 2u);
	cr_assert_eq(global_vm_event(VM_slab_alloc), 1u);
	cr_assert_not_null(kmalloc(64));
	cr_assert_eq(global_vm_event(VM_slab_alloc), 2u);
	cr_assert_eq(map_entry(virt_to_pfn(first)) >> MAP_HOME_SHIFT, area);
	slab_validate_all();
}

Test(sheaf_lock, full_sheaves_stay_up_to_the_limit)
{
	enum { NR = 64 * CAP };
	static void *p[NR];
	unsigned area = pin_area(0), max = kmalloc_caches[CLS].chain_max, refills;
	struct slabinfo si;

	swing(p, NR, 64);
	cr_assert_eq(get_node(area, CLS)->nr_full, 0u, "the barn is for what others bring");
	get_slabinfo(CLS, &si);
	cr_assert_leq(si.nr_sheaf, CAP * (max + 1));
	cr_assert_gt(si.nr_sheaf, CAP * max);
	cr_assert_eq(global_vm_event(VM_sheaf_flush), 64 - max - 1, "the rest goes into slabs");
	cr_assert_eq(si.nr_sheaf + si.nr_barn + si.nr_free, si.nr_objects);
	slab_validate_all();

	refills = (unsigned)global_vm_event(VM_sheaf_refill);
	swing(p, CAP * (max + 1), 64);
	cr_assert_eq(global_vm_event(VM_sheaf_refill), refills, "and comes back without a slab");
	check_all_back();
}

/* A program that goes up and down by more than the chain holds gets a longer one, until it is drained. */
Test(sheaf_lock, chain_grows_by_need)
{
	enum { NR = 40 * CAP };
	static void *p[NR];
	struct kmem_cache_node *n = get_node(pin_area(0), CLS);
	u64 before = 0;

	for (int round = 0; round < 20; round++) {
		swing(p, NR, 64);
		if (round == 9)
			before = global_vm_event(VM_sheaf_refill);
	}
	cr_assert_geq(n->chain_extra + kmalloc_caches[CLS].chain_max, 39u);
	cr_assert_eq(global_vm_event(VM_sheaf_refill), before, "then slabs are not needed any more");
	drain_area(pcpu_of(this_cpu_id())->cpu);
	cr_assert_eq(n->chain_extra, 0u);
	check_all_back();
}

/* Of large objects a sheaf takes few, until the program needs more. */
Test(sheaf_lock, sheaves_grow_by_need)
{
	enum { NR = 24, SIZE = 32 << 10 };
	unsigned cls = kmalloc_class(SIZE);
	struct kmem_cache_node *n = get_node(pin_area(0), cls);
	void *p[NR];
	u64 refills = 0;

	cr_assert_leq(kmalloc_caches[cls].sheaf_capacity, 2u);
	for (int round = 0; round < 20; round++) {
		swing(p, NR, SIZE);
		if (round == 9)
			refills = global_vm_event(VM_sheaf_refill);
		slab_validate_all();
	}
	cr_assert_gt(n->capacity_extra, 0u);
	cr_assert_eq(global_vm_event(VM_sheaf_refill), refills, "then all of them stay in sheaves");
	drain_area(pcpu_of(this_cpu_id())->cpu);
	cr_assert_eq(n->capacity_extra, 0u, "until they are drained");
	check_all_back();
}

/* Where a slab is an object or a few, a chain may hold more than a thirty-second of what is in use. */
Test(sheaf_lock, dear_classes_keep_more)
{
	enum { NR = 200, SIZE = 12 << 10, HELD = 4000 };
	static void *p[NR], *held[HELD];
	u64 refills, round = 0;

	pin_area(0);
	for (int i = 0; i < HELD; i++)
		cr_assert_not_null(held[i] = kmalloc(4096));
	cr_assert_gt(NR * SIZE, MIB(1) + HELD * 4096 / 32, "more than other classes may keep");
	do {
		refills = global_vm_event(VM_sheaf_refill);
		swing(p, NR, SIZE);
	} while (global_vm_event(VM_sheaf_refill) != refills && ++round < 1000);
	cr_assert_lt(round, 1000u, "no slab is made any more");
	for (int i = 0; i < HELD; i++)
		kfree(held[i]);
	check_all_back();
}

/* Sheaves do not pile up: as many are made as are needed at once. */
Test(sheaf_lock, sheaves_are_recycled)
{
	static void *p[20000];
	u64 made = 0;

	pin_area(0);
	for (int round = 0; round < 40; round++) {
		swing(p, 20000, 64);
		if (round == 20)	/* the chain is as long as it gets */
			made = global_vm_event(VM_sheaf_alloc);
	}
	cr_assert_leq(global_vm_event(VM_sheaf_alloc), made + 1);
	check_all_back();
}

/* --- remote --------------------------------------------------------------------------------------------------- */

Test(sheaf_lock, remote_sheaf_of_one_home_goes_whole)
{
	enum { NR = 5 * CAP };
	static void *p[NR];
	struct kmem_cache_node *n;
	unsigned home;
	u64 flushed;

	need_two_cpus();
	home = pin_area(0);
	n = get_node(home, CLS);
	for (int i = 0; i < NR; i++)
		p[i] = kmalloc(64);
	cr_assert_neq(pin_area(1), home);
	flushed = global_vm_event(VM_sheaf_flush);
	for (int i = 0; i < NR; i++)
		kfree(p[i]);
	cr_assert_eq(global_vm_event(VM_barn_put_remote), 4u, "four full ones, the fifth is still in its slot");
	cr_assert_eq(global_vm_event(VM_sheaf_flush), flushed);
	cr_assert_eq(n->nr_full, 4u);
	slab_validate_all();
	cr_assert_neq(map_entry(virt_to_pfn(kmalloc(64))) >> MAP_HOME_SHIFT, home, "not handed out here");
	pin_area(0);
	for (int i = 0; i < 4 * CAP + 64; i++)
		kmalloc(64);
	cr_assert_geq(global_vm_event(VM_barn_get), 4u, "but at home");
}

Test(sheaf_lock, remote_sheaf_beyond_the_barns_limit_goes_by_slab)
{
	enum { NR = 40 * CAP };
	static void *p[NR];
	struct slabinfo si;
	unsigned home;

	need_two_cpus();
	home = pin_area(0);
	for (int i = 0; i < NR; i++)
		p[i] = kmalloc(64);
	pin_area(1);
	for (int i = 0; i < NR; i++)
		kfree(p[i]);
	cr_assert_eq(get_node(home, CLS)->nr_full, kmalloc_caches[CLS].chain_max + 1u);
	cr_assert_eq(global_vm_event(VM_barn_put_remote), kmalloc_caches[CLS].chain_max + 1u);
	cr_assert_geq(global_vm_event(VM_sheaf_flush), 40 - kmalloc_caches[CLS].chain_max - 3u);
	get_slabinfo(CLS, &si);
	cr_assert_eq(si.nr_free + si.nr_sheaf + si.nr_barn, si.nr_objects, "all are accounted for");
	slab_validate_all();
	check_all_back();
}

/* Homes are mixed: object by object. */
Test(sheaf_lock, mixed_remote_sheaf_goes_by_slab)
{
	void *p[128];
	u64 put;

	need_two_cpus();
	pin_area(0);
	cr_assert_eq(percpu_online(3), 0);
	cr_assert_eq(slab_alloc_bulk(2, CLS, p, 64), 64u);
	cr_assert_eq(slab_alloc_bulk(3, CLS, p + 64, 64), 64u);
	put = global_vm_event(VM_barn_put_remote);
	for (int i = 0; i < 64; i++) {
		kfree(p[i]);
		kfree(p[64 + i]);
	}
	cr_assert_eq(global_vm_event(VM_barn_put_remote), put);
	cr_assert_geq(global_vm_event(VM_sheaf_flush), 2u);
	cr_assert_geq(get_node(2, CLS)->nr_free, 60u);
	cr_assert_geq(get_node(3, CLS)->nr_free, 60u);
	check_all_back();
}

/* --- drain ---------------------------------------------------------------------------------------------------- */

static void drain_takes_all(void)
{
	unsigned area = pin_area(0);
	struct slabinfo si;
	void *p[40];
	u64 drains;

	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++)
		swing(p, 2, kmalloc_caches[cls].size);
	drains = global_vm_event(VM_cpu_drain);
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++)
		drain_area(cpu);
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		get_slabinfo(cls, &si);
		cr_assert_eq(si.nr_sheaf, 0u, "class %u", cls);
		cr_assert_eq(percpu_top(area, cls), sheaf_full_top(&boot_sheaf), "and the slot is armed again");
	}
	cr_assert_eq(global_vm_event(VM_cpu_drain), drains + nr_percpu_areas());
	cr_assert_not_null(p[0] = kmalloc(64));
	kfree(p[0]);
	check_all_back();
}

Test(sheaf, drain_takes_all)
{
	drain_takes_all();
}

Test(sheaf_lock, drain_takes_all)
{
	drain_takes_all();
}

/* membarrier(2) fails from now on, as a seccomp filter may have it. */
static void forbid_membarrier(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

Test(sheaf, drain_without_membarrier_leaves_the_sheaves)
{
	struct slabinfo before, after;
	void *p = kmalloc(64);

	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip_test("no rseq here");
	forbid_membarrier();
	get_slabinfo(CLS, &before);
	drain_area(0);
	get_slabinfo(CLS, &after);
	cr_assert_gt(before.nr_sheaf, 0u);
	cr_assert_eq(after.nr_sheaf, before.nr_sheaf);
	cr_assert_eq(after.nr_free, before.nr_free);
	slab_validate_all();
	kfree(p);
	cr_assert_not_null(kmalloc(64));
}

/* --- storms: threads allocate and free while others drain -------------------------------------------------------- */

enum { NR_USERS = 4, HELD = 120 };

static u32 users_left;
static u64 nr_ops, nr_drains;
static struct mutex box_lock;
static void *box[1000];
static unsigned nr_box;

/* Swaps what the thread holds for another's object, so that half of the frees are remote. */
static void *swap_in_box(void *obj, u64 *r, u64 me)
{
	void *other = NULL;

	stamp_release(obj, me);
	stamp_claim(obj, STAMP(99));
	mutex_lock(&box_lock, LOCK_kmmd);
	if (nr_box < 1000) {
		box[nr_box++] = obj;
	} else {
		unsigned at = rng_below(r, nr_box);

		other = box[at];
		box[at] = obj;
	}
	mutex_unlock(&box_lock, LOCK_kmmd);
	if (other) {
		stamp_release(other, STAMP(99));
		stamp_claim(other, me);
	}
	return other;
}

static void *user(void *arg)
{
	u64 me = STAMP((uintptr_t)arg + 1), r = rng_of(me), ops = 0;
	static const size_t sizes[] = { 64, 64, 64, 16, 1000, 30000 };
	void *held[HELD];
	unsigned nr = 0;

	for (unsigned i = 0; i < rounds(200000); i++, ops++) {
		u32 what = rng_below(&r, 1000);

		if (what == 0)
			pin_to(rng_below(&r, 64));
		if (what < 500 && nr < HELD) {
			held[nr] = kmalloc(sizes[rng_below(&r, ARRAY_SIZE(sizes))]);
			CHECK(held[nr]);
			stamp_claim(held[nr++], me);
		} else if (nr) {
			void *obj = held[--nr];

			if (what < 600) {
				obj = swap_in_box(obj, &r, me);
				if (!obj)
					continue;
			}
			stamp_release(obj, me);
			kfree(obj);
		}
	}
	while (nr) {
		stamp_release(held[--nr], me);
		kfree(held[nr]);
	}
	__atomic_add_fetch(&nr_ops, ops, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&users_left, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void *user_or_drainer(void *arg)
{
	u64 r = rng_of((uintptr_t)arg), drains = 0;

	if ((uintptr_t)arg < NR_USERS)
		return user(arg);
	while (__atomic_load_n(&users_left, __ATOMIC_ACQUIRE)) {
		gate_enter();
		if (rng_below(&r, 16) == 0)
			kmem_cache_shrink_all();
		else
			drain_cpu(rng_below(&r, nr_percpu_areas()));
		gate_leave();
		drains++;
		if (rng_below(&r, 4) == 0)
			os_yield();
	}
	__atomic_add_fetch(&nr_drains, drains, __ATOMIC_RELAXED);
	return NULL;
}

static void drain_storm(void)
{
	cr_assert_eq(percpu_online(1), 0);
	users_left = NR_USERS;
	run_threads(NR_USERS + 2, user_or_drainer);
	slab_validate_all();
	cr_assert_gt(nr_drains, 50u);
	cr_assert_eq(global_vm_event(VM_alloc_fail), 0u);
	while (nr_box) {
		stamp_release(box[--nr_box], STAMP(99));
		kfree(box[nr_box]);
	}
	check_all_back();
}

Test(sheaf, drain_storm)
{
	drain_storm();
}

Test(sheaf_lock, drain_storm)
{
	drain_storm();
}

Test(sheaf, drain_storm_without_membarrier)
{
	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip_test("no rseq here");
	membarrier_register_rseq();
	forbid_membarrier();
	cr_assert_eq(percpu_online(1), 0);
	users_left = NR_USERS;
	run_threads(NR_USERS + 2, user_or_drainer);
	slab_validate_all();
	cr_assert_gt(nr_drains, 50u);
}

/* --- want of memory -------------------------------------------------------------------------------------------- */

static void random_with_faults(void)
{
	static void *p[3000];
	unsigned nr = 0, failed = 0;
	u64 r = rng_of(9);

	for (unsigned n = 0; n < rounds(60000); n++) {
		if (n % 64 == 0)
			os_fault_every = rng_below(&r, 3);
		if (n % 1000 == 0)
			slab_validate_all();
		if (nr < 3000 && rng_below(&r, 100) < 55) {
			p[nr] = kmalloc(rng_below(&r, 8) ? rng_below(&r, 2000) : rng_below(&r, KMALLOC_MAX_SIZE));
			if (p[nr])
				stamp_claim(p[nr++], STAMP(1));
			else
				failed++;
		} else if (nr) {
			unsigned at = rng_below(&r, nr);

			stamp_release(p[at], STAMP(1));
			kfree(p[at]);
			p[at] = p[--nr];
		}
	}
	cr_assert_gt(failed, 0u);
	cr_assert_gt(global_vm_event(VM_alloc_fail), 0u);
	while (nr) {
		stamp_release(p[--nr], STAMP(1));
		kfree(p[nr]);	/* still without memory at times */
	}
	os_fault_every = 0;
	check_all_back();
}

Test(sheaf, random_with_faults)
{
	random_with_faults();
}

Test(sheaf_lock, random_with_faults)
{
	random_with_faults();
}

/* When the kernel gives nothing more, what lies in sheaves and barns of other classes is used. */
Test(sheaf, the_last_memory_is_found)
{
	static void *p[50000];
	unsigned nr = 0;
	void *q;

	for (unsigned i = 0; i < 20000; i++)
		CHECK(p[i] = kmalloc(64));
	os_fault_every = 1;
	while (nr < 20000)
		kfree(p[nr++]);
	for (nr = 0; nr < 50000 && (q = kmalloc(1024)) != NULL; nr++)
		p[nr] = q;
	cr_assert_geq(nr, 20000u * 64 / 1024, "%u KiB of %u", nr, 20000 * 64 / 1024);
	os_fault_every = 0;
	while (nr)
		kfree(p[--nr]);
	check_all_back();
}

/* Many threads on few CPUs see a chain that is too short at the same time: its room still fits into a link. */
static void *go_up_and_down(void *arg)
{
	static __thread void *p[3000];

	(void)arg;
	for (unsigned n = 0; n < rounds(200); n++)
		swing(p, ARRAY_SIZE(p), 64);
	return NULL;
}

Test(sheaf, a_long_chain_has_its_bound)
{
	run_threads(16, go_up_and_down);
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++) {
		struct kmem_cache_node *n = get_node(cpu, CLS);

		cr_assert_leq(n->chain_extra + kmalloc_caches[CLS].chain_max + 1u, SHEAF_SIZE - 1, "%u", n->chain_extra);
	}
	slab_validate_all();
	check_all_back();
}
