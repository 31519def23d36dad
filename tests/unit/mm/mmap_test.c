/* SPDX-License-Identifier: MIT */
/* The registry: merging and splitting, the import against /proc/self/maps, readers beside writers. */
#include "mm/mm_struct.h"

#include "base/align.h"
#include "mm/kmmd.h"
#include "os/os.h"
#include "os/procfs.h"
#include "os/vm.h"
#include "page/sparse.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE 0x200000000000ul	/* nothing of the process is there */
#define OWN  (VM_READ | VM_WRITE | VM_KMM)

static void setup(void)
{
	os_init();
	cr_assert_eq(mm_init(), 0);
	cr_assert_not_null(current_task());
}

TestSuite(mmap, .init = setup);

static void assert_vma(uintptr_t addr, uintptr_t start, uintptr_t end, enum vma_kind kind)
{
	struct vm_area_struct vma;

	cr_assert(find_vma(addr, &vma), "nothing at or above %lx", addr);
	cr_assert_eq(vma.vm_start, start, "%lx, not %lx", vma.vm_start, start);
	cr_assert_eq(vma.vm_end, end, "%lx, not %lx", vma.vm_end, end);
	cr_assert_eq(vma.kind, kind);
}

Test(mmap, neighbours_merge)
{
	struct vm_area_struct vma;

	cr_assert(!find_vma(0, &vma));
	mm_map(BASE, BASE + 0x1000, OWN, VMA_KMM_NORMAL, "a");
	mm_map(BASE + 0x2000, BASE + 0x3000, OWN, VMA_KMM_NORMAL, "a");
	cr_assert_eq(init_mm.map_count, 2u);
	mm_map(BASE + 0x1000, BASE + 0x2000, OWN, VMA_KMM_NORMAL, "a");
	cr_assert_eq(init_mm.map_count, 1u);
	assert_vma(BASE + 0x1800, BASE, BASE + 0x3000, VMA_KMM_NORMAL);
	mm_map(BASE + 0x3000, BASE + 0x4000, OWN, VMA_KMM_VMALLOC, "a");
	mm_map(BASE + 0x4000, BASE + 0x5000, OWN, VMA_KMM_VMALLOC, "b");
	mm_map(BASE + 0x5000, BASE + 0x6000, VM_READ | VM_KMM, VMA_KMM_VMALLOC, "b");
	cr_assert_eq(init_mm.map_count, 4u);
	cr_assert_eq(init_mm.total_vm, 0x6000u);
	mm_validate();
}

Test(mmap, unmap_splits)
{
	mm_map(BASE, BASE + 0x10000, OWN, VMA_KMM_NORMAL, "a");
	mm_unmap(BASE + 0x4000, BASE + 0x5000);
	assert_vma(BASE, BASE, BASE + 0x4000, VMA_KMM_NORMAL);
	assert_vma(BASE + 0x4000, BASE + 0x5000, BASE + 0x10000, VMA_KMM_NORMAL);
	mm_map(BASE + 0x8000, BASE + 0x9000, OWN, VMA_KMM_METADATA, "m");
	assert_vma(BASE + 0x8fff, BASE + 0x8000, BASE + 0x9000, VMA_KMM_METADATA);
	assert_vma(BASE + 0x9000, BASE + 0x9000, BASE + 0x10000, VMA_KMM_NORMAL);
	cr_assert_eq(init_mm.map_count, 4u);
	mm_unmap(BASE + 0x3000, BASE + 0xa000);
	cr_assert_eq(init_mm.map_count, 2u);
	cr_assert_eq(init_mm.total_vm, 0x9000u);
	mm_validate();
	mm_unmap(0, BASE + 0x10000);
	cr_assert_eq(init_mm.map_count, 0u);
	mm_validate();
}

/* --- random changes against an array of pages ---------------------------------------------------------- */

#define NR_PAGES 400u

Test(mmap, random_changes)
{
	static u8 model[NR_PAGES];	/* kind + 1 */
	struct vm_area_struct vma;

	srand(5);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned from = (unsigned)rand() % NR_PAGES, to = from + 1 + (unsigned)rand() % 20;
		enum vma_kind kind = VMA_KMM_NORMAL + (unsigned)rand() % 3;

		to = to < NR_PAGES ? to : NR_PAGES;
		if (rand() % 2)
			mm_map(BASE + from * 0x1000, BASE + to * 0x1000, OWN, kind, "x");
		else
			mm_unmap(BASE + from * 0x1000, BASE + to * 0x1000), kind = -1;
		memset(model + from, (int)kind + 1, to - from);
		if (step % 500 != 0)
			continue;
		mm_validate();
		for (unsigned p = 0; p < NR_PAGES; p++) {
			bool in = find_vma(BASE + p * 0x1000, &vma) && vma.vm_start <= BASE + p * 0x1000;

			cr_assert_eq(in, model[p] != 0);
			if (in)
				cr_assert_eq((int)vma.kind + 1, model[p]);
		}
	}
}

/* --- import -------------------------------------------------------------------------------------------- */

struct seen {
	u32 lines;
	bool kinds[NR_VMA_KINDS];
};

/* Every byte of the line must be in VMAs with the line's rights. */
static int check_line(const struct proc_map *map, void *arg)
{
	struct seen *seen = arg;
	struct vm_area_struct vma;
	uintptr_t pos = map->start;

	seen->lines++;
	while (pos < map->end) {
		cr_assert(find_vma(pos, &vma));
		cr_assert_leq(vma.vm_start, pos, "%s: hole at %lx", map->name, pos);
		cr_assert_leq(vma.vm_end, map->end);
		cr_assert_eq(!!(vma.vm_flags & VM_READ), map->read);
		cr_assert_eq(!!(vma.vm_flags & VM_WRITE), map->write);
		cr_assert_eq(!!(vma.vm_flags & VM_EXEC), map->exec);
		cr_assert_eq(!!(vma.vm_flags & VM_SHARED), map->shared);
		seen->kinds[vma.kind] = true;
		pos = vma.vm_end;
	}
	return 0;
}

static int add_size(const struct proc_map *map, void *arg)
{
	*(u64 *)arg += map->end - map->start;
	return 0;
}

static int data_var = 1;
static char bss_var[1 << 20];

Test(mmap, import_agrees_with_proc_self_maps)
{
	struct seen seen = { 0 };
	u64 size = 0;
	char local;
	char *heap = malloc(1000);

	memset(bss_var, 1, sizeof(bss_var));
	memset(heap, 1, 1000);
	cr_assert_eq(mm_import(), 0);
	mm_validate();
	cr_assert_eq(for_each_proc_map(check_line, &seen), 0);
	cr_assert_gt(seen.lines, 10u);
	for_each_proc_map(add_size, &size);
	cr_assert_eq(init_mm.total_vm, size);
	for (int k = VMA_CODE; k <= VMA_ENV; k++)
		cr_assert(seen.kinds[k], "no %s", vma_kind_names[k]);

	const struct { uintptr_t addr; enum vma_kind kind; } known[] = {
		{ (uintptr_t)mm_import, VMA_CODE }, { (uintptr_t)&data_var, VMA_DATA },
		{ (uintptr_t)&bss_var[1 << 19], VMA_BSS }, { (uintptr_t)&printf, VMA_LIBRARY },
		{ (uintptr_t)&local, VMA_STACK }, { init_mm.arg_start, VMA_ARGS }, { init_mm.env_start, VMA_ENV },
		{ init_mm.start_brk, VMA_HEAP },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		struct vm_area_struct vma;

		cr_assert(find_vma(known[i].addr, &vma));
		cr_assert_leq(vma.vm_start, known[i].addr);
		cr_assert_eq(vma.kind, known[i].kind, "%lx is %s, not %s", known[i].addr, vma_kind_names[vma.kind],
			     vma_kind_names[known[i].kind]);
	}
	free(heap);
}

Test(mmap, second_import_changes_what_changed)
{
	size_t size = 16 * os_page_size;
	char *p = vm_map(size), *own = (char *)vm_map(3 * size) + size;
	struct vm_area_struct vma;
	u32 seq;

	vm_protect(p, size, PROT_READ);
	vm_protect(own - size, size, PROT_NONE);	/* so that it does not merge with a neighbour that is known */
	vm_protect(own + size, size, PROT_NONE);
	mm_map((uintptr_t)own, (uintptr_t)own + size, OWN, VMA_KMM_NORMAL, "own");
	cr_assert_eq(mm_import(), 0);
	cr_assert_eq(mm_import(), 0);
	seq = init_mm.seq;
	cr_assert_eq(mm_import(), 0);
	cr_assert_leq(init_mm.seq - seq, 6u, "an unchanged process was entered again");
	cr_assert(find_vma((uintptr_t)p, &vma));
	cr_assert_eq(vma.kind, VMA_OTHER);
	assert_vma((uintptr_t)own, (uintptr_t)own, (uintptr_t)own + size, VMA_KMM_NORMAL);
	vm_unmap(p, size);
	cr_assert_eq(mm_import(), 0);
	cr_assert(!find_vma((uintptr_t)p, &vma) || vma.vm_start >= (uintptr_t)p + size);
	mm_unmap((uintptr_t)own, (uintptr_t)own + size);
	cr_assert_eq(mm_import(), 0);
	cr_assert(find_vma((uintptr_t)own, &vma));
	cr_assert_eq(vma.kind, VMA_OTHER);
	mm_validate();
}

Test(mmap, regions_are_recognised)
{
	size_t size = 8 * os_page_size;
	uintptr_t p = (uintptr_t)vm_map(size), q = p + size / 4;

	regions[REGION_PERCPU].start = p;
	regions[REGION_PERCPU].end = q;
	regions[REGION_MAP].start = q;
	regions[REGION_MAP].end = p + size;
	cr_assert_eq(mm_import(), 0);
	assert_vma(p, p, q, VMA_KMM_METADATA);
	assert_vma(q, q, p + size, VMA_KMM_METADATA);
	mm_validate();
}

static void *wait_for_end(void *end)
{
	current_task();
	__atomic_store_n((int *)end, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n((int *)end, __ATOMIC_ACQUIRE) != 2)
		os_yield();
	return NULL;
}

Test(mmap, thread_stacks_are_known)
{
	struct vm_area_struct vma;
	pthread_t thread;
	int end = 0;

	pthread_create(&thread, NULL, wait_for_end, &end);
	while (__atomic_load_n(&end, __ATOMIC_ACQUIRE) != 1)
		os_yield();
	cr_assert_eq(mm_import(), 0);
	cr_assert(find_vma((uintptr_t)thread, &vma));
	cr_assert_eq(vma.kind, VMA_STACK);
	cr_assert(vma.vm_flags & VM_STACK);
	__atomic_store_n(&end, 2, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
}

Test(mmap, import_without_proc)
{
	struct vm_area_struct vma;
	char local;
	const struct { uintptr_t addr; enum vma_kind kind; } known[] = {
		{ (uintptr_t)mm_import, VMA_CODE }, { (uintptr_t)&data_var, VMA_DATA },
		{ (uintptr_t)&bss_var[1 << 19], VMA_BSS }, { (uintptr_t)&printf, VMA_LIBRARY },
		{ (uintptr_t)&local, VMA_STACK },
	};

	procfs_dir = "/nowhere";
	mm_map(BASE, BASE + 0x1000, OWN, VMA_KMM_NORMAL, "own");
	cr_assert_eq(mm_import(), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		cr_assert(find_vma(known[i].addr, &vma));
		cr_assert_leq(vma.vm_start, known[i].addr);
		cr_assert_eq(vma.kind, known[i].kind);
	}
	assert_vma(BASE, BASE, BASE + 0x1000, VMA_KMM_NORMAL);
	mm_validate();
}

/* --- readers beside a writer, with and without RCU ------------------------------------------------------ */

static int stop;

/* [BASE, BASE + 1 MiB) is always there, its kind changes; above it things come and go. */
static u64 nr_read[2];

static void *read_registry(void *arg)
{
	u64 seed = (u64)(uintptr_t)arg + 1, *nr = &nr_read[(uintptr_t)arg];
	struct vm_area_struct vma;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uintptr_t addr;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		addr = BASE + (seed >> 33) % MIB(2);
		if (!find_vma(addr, &vma)) {
			cr_assert_geq(addr, BASE + MIB(1));
			continue;
		}
		cr_assert_gt(vma.vm_end, addr);
		cr_assert_lt(vma.vm_start, vma.vm_end);
		cr_assert_eq(vma.vm_mm, &init_mm);
		if (addr < BASE + MIB(1)) {
			cr_assert_leq(vma.vm_start, addr);
			cr_assert(vma.kind == VMA_KMM_NORMAL || vma.kind == VMA_KMM_METADATA);
			cr_assert_str_eq(vma.name, vma.kind == VMA_KMM_NORMAL ? "normal" : "metadata");
		}
		__atomic_add_fetch(nr, 1, __ATOMIC_RELAXED);
	}
	cr_assert_eq(current_task()->rcu_registered, kmm_rcu_loaded());
	return NULL;
}

static void write_registry(u32 steps)
{
	for (u32 i = 0; i < steps; i++) {
		uintptr_t from = BASE + (u32)rand() % 256 * KIB(4), to = from + (1 + (u32)rand() % 30) * KIB(4);
		bool normal = rand() % 2;

		to = to < BASE + MIB(1) ? to : BASE + MIB(1);
		mm_map(from, to, OWN, normal ? VMA_KMM_NORMAL : VMA_KMM_METADATA, normal ? "normal" : "metadata");
		from += MIB(1);
		if (rand() % 2)
			mm_map(from, from + KIB(4), OWN, VMA_KMM_VMALLOC, "v");
		else
			mm_unmap(from, from + KIB(64));
		if (i % 1000 == 0)
			mm_validate();
	}
}

static void readers_and_writer(void)
{
	pthread_t readers[2];

	srand(9);
	mm_map(BASE, BASE + MIB(1), OWN, VMA_KMM_NORMAL, "normal");
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, read_registry, (void *)(uintptr_t)i);
	do	/* on a busy machine the readers may begin late */
		write_registry(60000);
	while (__atomic_load_n(&nr_read[0], __ATOMIC_RELAXED) <= 100 || __atomic_load_n(&nr_read[1], __ATOMIC_RELAXED) <= 100);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	mm_validate();
}

Test(mmap, readers_lock_before_rcu)
{
	cr_assert(!kmm_rcu_loaded());
	readers_and_writer();
}

Test(mmap, readers_under_rcu)
{
	cr_assert_eq(kmm_rcu_load(), 0);
	cr_assert(kmm_rcu_loaded());
	readers_and_writer();
	cr_assert_eq(mm_import(), 0);
	mm_validate();
}
