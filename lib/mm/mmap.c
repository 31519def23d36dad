/* SPDX-License-Identifier: MIT */
/*
 * mmap.c - the registry of the address space: mm_struct and its VMAs.
 *
 * Purpose
 *	To answer what lies at any address of the process. What libkmm maps is entered as it is mapped; the rest is
 *	imported (import.c) when somebody asks.
 *
 * Objects
 *	init_mm.mm_rb: VMAs by address. generation 0 marks our own, others carry the number of the import that saw
 *	them last.
 *
 * Invariants
 *	VMAs are not empty and do not overlap. Own neighbours that touch differ in kind, flags or name.
 *	total_vm is the sum of their sizes, map_count their number.
 *
 * Locks
 *	mmap guards everything; the pool of VMAs is used under it only, so fork, which holds it, finds that free too.
 *
 *	  writer (holds mmap)                        reader (RCU)
 *	  seq = odd                                  s = load_acquire(seq), odd: take the lock
 *	  fence(release)  --------------------.      walk at most MAX_DEPTH steps, copy the VMA
 *	  change keys and links (releases)    '----> fence(acquire)
 *	  store_release(seq, even)  ---------------> seq == s: the copy is right, else take the lock
 *
 *	A reader that saw any store of the change sees seq odd, or newer, after its fence. The memory of a VMA stays a
 *	VMA for ever, so a reader never follows a wild pointer; the count alone makes him right. The grace period keeps
 *	an erased VMA as it was until the readers that are on it have left, so that they go on into the tree and not
 *	into a VMA that is already another one. It is waited for only where waiting is harmless, in mm_import();
 *	beyond RETIRED_MAX the oldest are reused without, so memory stays bounded.
 *
 * Kernel counterpart and what differs
 *	mm/mmap.c, mm/vma.c. The kernel has a maple tree and per-VMA locks; a red-black tree with a count does here,
 *	as VMAs change at most once per mapping of megabytes.
 *
 * Fork and init
 *	mm_init() enters what the boot has mapped. The child inherits the registry as it inherits
 *	the mappings.
 */
#include "mm/mm_struct.h"

#include "base/bug.h"
#include "mm/gate.h"
#include "mm/kmmd.h"
#include "os/os.h"
#include "page/memblock.h"
#include "page/sparse.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

#define MAX_DEPTH   96		/* 2 log2 of 2^47 / 4 KiB, and room */
#define RETIRED_MAX 512

struct mutex mmap_lock;
struct mm_struct init_mm;

const char *const vma_kind_names[NR_VMA_KINDS] = {
	[VMA_OTHER] = "other", [VMA_CODE] = "code", [VMA_DATA] = "data", [VMA_BSS] = "bss", [VMA_HEAP] = "heap",
	[VMA_LIBRARY] = "library", [VMA_STACK] = "stack", [VMA_VDSO] = "vdso", [VMA_ARGS] = "args",
	[VMA_ENV] = "env", [VMA_KMM_NORMAL] = "kmm", [VMA_KMM_VMALLOC] = "kmm vmalloc",
	[VMA_KMM_METADATA] = "kmm metadata",
};

static struct metapool vma_pool = METAPOOL_INIT(struct vm_area_struct);

/* Erased VMAs that a reader may still be on, oldest first. */
static struct {
	struct vm_area_struct *first, **last;
	u32 nr;
} retired = { .last = &retired.first };

/* The process in which an import is under way; that of a fork's parent does not count. 0: none. */
static int importing_pid;

#define to_vma(node) rb_entry(node, struct vm_area_struct, vm_rb)

static __resident void memory_online(enum zone_type z, uintptr_t start, uintptr_t end)
{
	if (z == ZONE_BRK) {
		WRITE_ONCE(init_mm.brk, end);
		mm_map(start, end, VM_READ | VM_WRITE | VM_KMM, VMA_HEAP, "[heap]");
	} else {
		mm_map(start, end, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_NORMAL, "section");
	}
}

/* What was mapped before there was a registry: the reservation of the arrays, the first pieces of brk. */
__init int mm_init(void)
{
	const struct zone *brk_zone = &zones[ZONE_BRK];

	if (regions[REGION_METADATA].end)	/* a registry without a window is of use, too */
		mm_map(regions[REGION_MAP].start, regions[REGION_METADATA].end, VM_READ | VM_KMM, VMA_KMM_METADATA,
		       "metadata");
	init_mm.start_brk = regions[REGION_BRK].start;
	if (brk_zone->present_pages)
		memory_online(ZONE_BRK, (uintptr_t)pfn_to_virt(brk_zone->start_pfn), (uintptr_t)pfn_to_virt(brk_zone->end_pfn));
	memory_notifier = memory_online;
	return 0;
}

/* --- writing; mmap lock held -------------------------------------------------------------------------- */

static void __write_begin(void)
{
	VM_BUG_ON(init_mm.seq & 1);
	WRITE_ONCE(init_mm.seq, init_mm.seq + 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);	/* pairs with the acquire fence of __try_find_vma() */
}

static void __write_end(void)
{
	smp_store_release(&init_mm.seq, init_mm.seq + 1);
}

/* VMAs that a change may need, taken before it begins, so that it cannot fail half-way. */
struct spares {
	struct vm_area_struct *vma[2];
};

static bool __get_spares(struct spares *sp)
{
	sp->vma[0] = metapool_alloc(&vma_pool);
	sp->vma[1] = metapool_alloc(&vma_pool);
	if (sp->vma[0] != NULL && sp->vma[1] != NULL)
		return true;
	if (sp->vma[0] != NULL)
		metapool_free(&vma_pool, sp->vma[0]);
	return false;
}

static void __put_spares(struct spares *sp)
{
	for (unsigned i = 0; i < ARRAY_SIZE(sp->vma); i++)
		if (sp->vma[i] != NULL)
			metapool_free(&vma_pool, sp->vma[i]);
}

static struct vm_area_struct *take_spare(struct spares *sp)
{
	unsigned i = sp->vma[0] != NULL ? 0 : 1;
	struct vm_area_struct *vma = sp->vma[i];

	BUG_ON(vma == NULL);
	sp->vma[i] = NULL;
	return vma;
}

/* The VMA that contains addr, or the next above. */
static struct vm_area_struct *__find_vma(uintptr_t addr)
{
	struct rb_node *node = init_mm.mm_rb.node;
	struct vm_area_struct *best = NULL;

	while (node != NULL) {
		if (addr < to_vma(node)->vm_end) {
			best = to_vma(node);
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

static struct vm_area_struct *next_vma(const struct vm_area_struct *vma)
{
	struct rb_node *node = rb_next(&vma->vm_rb);

	return node != NULL ? to_vma(node) : NULL;
}

static __resident void __insert_vma(struct vm_area_struct *vma)
{
	struct rb_node **link = &init_mm.mm_rb.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = vma->vm_start < to_vma(parent)->vm_start ? &parent->left : &parent->right;
	}
	rb_insert(&vma->vm_rb, parent, link, &init_mm.mm_rb, NULL);
	init_mm.map_count++;
	init_mm.total_vm += vma->vm_end - vma->vm_start;
}

static void __set_vma_range(struct vm_area_struct *vma, uintptr_t start, uintptr_t end)
{
	init_mm.total_vm += (end - start) - (vma->vm_end - vma->vm_start);
	WRITE_ONCE(vma->vm_start, start);
	WRITE_ONCE(vma->vm_end, end);
}

static void __erase_vma(struct vm_area_struct *vma)
{
	rb_erase(&vma->vm_rb, &init_mm.mm_rb, NULL);
	init_mm.map_count--;
	init_mm.total_vm -= vma->vm_end - vma->vm_start;
	if (!kmm_rcu_loaded()) {
		metapool_free(&vma_pool, vma);
		return;
	}
	vma->rcu_next = NULL;
	*retired.last = vma;
	retired.last = &vma->rcu_next;
	if (++retired.nr > RETIRED_MAX) {
		vma = retired.first;
		retired.first = vma->rcu_next;
		retired.nr--;
		metapool_free(&vma_pool, vma);
	}
}

/* Sleeps for a grace period and frees what was retired before. Not inside the gate: then it waits for another time. */
static void free_retired_vmas(void)
{
	struct vm_area_struct *vma, *next;

	if (!kmm_rcu_loaded() || gate_is_inside())
		return;
	mutex_lock(&mmap_lock, LOCK_mmap);
	vma = retired.first;
	retired.first = NULL;
	retired.last = &retired.first;
	retired.nr = 0;
	mutex_unlock(&mmap_lock, LOCK_mmap);
	if (vma == NULL)
		return;
	kmm_synchronize_rcu();
	mutex_lock(&mmap_lock, LOCK_mmap);
	for (; vma != NULL; vma = next) {
		next = vma->rcu_next;
		metapool_free(&vma_pool, vma);
	}
	mutex_unlock(&mmap_lock, LOCK_mmap);
}

/* Makes [start, end) empty; splits what reaches over its ends. */
static __resident void __carve(uintptr_t start, uintptr_t end, struct spares *sp)
{
	struct vm_area_struct *vma = __find_vma(start), *next;

	for (; vma != NULL && vma->vm_start < end; vma = next) {
		next = next_vma(vma);
		if (vma->vm_start < start) {
			uintptr_t old_end = vma->vm_end;

			__set_vma_range(vma, vma->vm_start, start);
			if (old_end > end) {
				struct vm_area_struct *tail = take_spare(sp);

				*tail = *vma;
				tail->vm_start = end;
				tail->vm_end = old_end;
				__insert_vma(tail);
			}
		} else if (vma->vm_end > end) {
			__set_vma_range(vma, end, vma->vm_end);
		} else {
			__erase_vma(vma);
		}
	}
}

static bool same_attributes(const struct vm_area_struct *a, const struct vm_area_struct *b)
{
	return a->vm_flags == b->vm_flags && a->kind == b->kind && a->vm_ops == b->vm_ops &&
	       strncmp(a->name, b->name, sizeof(a->name)) == 0;
}

static __resident bool can_merge(const struct vm_area_struct *a, const struct vm_area_struct *b)
{
	return a->generation == 0 && b->generation == 0 && same_attributes(a, b);
}

static struct vm_area_struct *prev_touching(const struct vm_area_struct *vma)
{
	struct vm_area_struct *prev = vma->vm_start != 0 ? __find_vma(vma->vm_start - 1) : NULL;

	return prev != NULL && prev->vm_end == vma->vm_start ? prev : NULL;
}

/* Enters a copy of new, whose range is empty, or extends its neighbours by it. */
static __resident void __enter_vma(const struct vm_area_struct *new, struct spares *sp)
{
	struct vm_area_struct *prev = prev_touching(new), *next = __find_vma(new->vm_end), *vma;

	if (prev != NULL && !can_merge(prev, new))
		prev = NULL;
	if (next != NULL && (next->vm_start != new->vm_end || !can_merge(next, new)))
		next = NULL;
	if (prev != NULL) {
		uintptr_t end = next != NULL ? next->vm_end : new->vm_end;

		if (next != NULL)
			__erase_vma(next);
		__set_vma_range(prev, prev->vm_start, end);
	} else if (next != NULL) {
		__set_vma_range(next, new->vm_start, next->vm_end);
	} else {
		vma = take_spare(sp);
		*vma = *new;
		vma->vm_mm = &init_mm;
		__insert_vma(vma);
	}
}

__resident int mm_map(uintptr_t start, uintptr_t end, unsigned long flags, enum vma_kind kind, const char *name)
{
	struct vm_area_struct new = { .vm_start = start, .vm_end = end, .vm_flags = flags, .kind = kind };
	struct spares sp;
	int ret = -ENOMEM;

	BUG_ON(start >= end);
	for (unsigned i = 0; i < sizeof(new.name) - 1 && name[i] != '\0'; i++)
		new.name[i] = name[i];
	mutex_lock(&mmap_lock, LOCK_mmap);
	if (__get_spares(&sp)) {
		__write_begin();
		__carve(start, end, &sp);
		__enter_vma(&new, &sp);
		__write_end();
		__put_spares(&sp);
		ret = 0;
	}
	mutex_unlock(&mmap_lock, LOCK_mmap);
	return ret;
}

int mm_unmap(uintptr_t start, uintptr_t end)
{
	struct vm_area_struct *vma;
	struct spares sp;
	int ret = 0;

	mutex_lock(&mmap_lock, LOCK_mmap);
	vma = __find_vma(start);
	if (vma != NULL && vma->vm_start < end) {
		ret = __get_spares(&sp) ? 0 : -ENOMEM;
		if (ret == 0) {
			__write_begin();
			__carve(start, end, &sp);
			__write_end();
			__put_spares(&sp);
		}
	}
	mutex_unlock(&mmap_lock, LOCK_mmap);
	return ret;
}

/* --- import ------------------------------------------------------------------------------------------- */

/* Enters vma from pos up to the next own mapping; returns where to go on, 0 when memory is out. */
static uintptr_t __import_piece(u32 generation, const struct vm_area_struct *vma, uintptr_t pos)
{
	struct vm_area_struct new = *vma, *old = __find_vma(pos), *own;
	struct spares sp;

	if (old != NULL && old->generation == 0 && old->vm_start <= pos)
		return old->vm_end;
	new.vm_start = pos;
	new.generation = generation;
	for (own = old; own != NULL && own->vm_start < new.vm_end; own = next_vma(own))
		if (own->generation == 0)
			new.vm_end = own->vm_start;
	if (old != NULL && old->vm_start == pos && old->vm_end == new.vm_end && same_attributes(old, &new)) {
		WRITE_ONCE(old->generation, generation);
		return new.vm_end;
	}
	if (!__get_spares(&sp))
		return 0;
	__write_begin();
	__carve(new.vm_start, new.vm_end, &sp);
	__enter_vma(&new, &sp);
	__write_end();
	__put_spares(&sp);
	return new.vm_end;
}

int mm_import_range(u32 generation, const struct vm_area_struct *vma)
{
	uintptr_t pos = vma->vm_start;

	while (pos != 0 && pos < vma->vm_end) {
		mutex_lock(&mmap_lock, LOCK_mmap);
		pos = __import_piece(generation, vma, pos);
		mutex_unlock(&mmap_lock, LOCK_mmap);
	}
	return pos != 0 ? 0 : -ENOMEM;
}

u32 mm_import_begin(void)
{
	u32 generation;

	for (;;) {
		mutex_lock(&mmap_lock, LOCK_mmap);
		if (importing_pid != os_getpid()) {
			importing_pid = os_getpid();
			init_mm.generation += init_mm.generation == UINT32_MAX ? 2 : 1;	/* 0 is ours */
			generation = init_mm.generation;
			mutex_unlock(&mmap_lock, LOCK_mmap);
			return generation;
		}
		mutex_unlock(&mmap_lock, LOCK_mmap);
		os_yield();
	}
}

void mm_import_end(u32 generation, bool complete)
{
	struct rb_node *node, *next;

	mutex_lock(&mmap_lock, LOCK_mmap);
	importing_pid = 0;
	__write_begin();
	for (node = rb_first(&init_mm.mm_rb); complete && node != NULL; node = next) {
		next = rb_next(node);
		if (to_vma(node)->generation != 0 && to_vma(node)->generation != generation)
			__erase_vma(to_vma(node));
	}
	__write_end();
	mutex_unlock(&mmap_lock, LOCK_mmap);
	free_retired_vmas();
}

/* --- reading ------------------------------------------------------------------------------------------ */

/* Word by word and once each: a writer may be at it, and the count is checked afterwards. */
static void copy_vma(struct vm_area_struct *to, const struct vm_area_struct *from)
{
	const volatile unsigned long *src = (const volatile unsigned long *)from;
	unsigned long *dst = (unsigned long *)to;

	_Static_assert(sizeof(*to) % sizeof(long) == 0, "copied in words");
	for (unsigned i = 0; i < sizeof(*to) / sizeof(long); i++)
		dst[i] = src[i];
}

/* false: a writer was there. */
static bool __try_find_vma(uintptr_t addr, struct vm_area_struct *copy, bool *found)
{
	u32 seq = smp_load_acquire(&init_mm.seq);
	struct rb_node *node = smp_load_acquire(&init_mm.mm_rb.node);
	const struct vm_area_struct *best = NULL;
	unsigned depth = 0;

	if (seq & 1)
		return false;
	for (; node != NULL && depth < MAX_DEPTH; depth++) {
		if (addr < READ_ONCE(to_vma(node)->vm_end)) {
			best = to_vma(node);
			node = smp_load_acquire(&node->left);
		} else {
			node = smp_load_acquire(&node->right);
		}
	}
	if (best != NULL)
		copy_vma(copy, best);
	*found = best != NULL;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);	/* pairs with the release fence of __write_begin() */
	return node == NULL && READ_ONCE(init_mm.seq) == seq;
}

bool find_vma(uintptr_t addr, struct vm_area_struct *copy)
{
	const struct vm_area_struct *vma;
	bool found;

	if (kmm_rcu_read_lock()) {
		bool right = __try_find_vma(addr, copy, &found);

		kmm_rcu_read_unlock();
		if (likely(right))
			return found;
	}
	count_vm_event(VM_rcu_read_lock_fallback);
	mutex_lock(&mmap_lock, LOCK_mmap);
	vma = __find_vma(addr);
	if (vma != NULL)
		*copy = *vma;
	mutex_unlock(&mmap_lock, LOCK_mmap);
	return vma != NULL;
}

void for_each_vma(void (*fn)(const struct vm_area_struct *, void *), void *arg)
{
	struct rb_node *node;

	mutex_lock(&mmap_lock, LOCK_mmap);
	for (node = rb_first(&init_mm.mm_rb); node != NULL; node = rb_next(node))
		fn(to_vma(node), arg);
	mutex_unlock(&mmap_lock, LOCK_mmap);
}

__cold void mm_validate(void)
{
	const struct vm_area_struct *prev = NULL;
	struct rb_node *node;
	u64 total = 0;

	mutex_lock(&mmap_lock, LOCK_mmap);
	BUG_ON(rb_validate(&init_mm.mm_rb) != init_mm.map_count);
	for (node = rb_first(&init_mm.mm_rb); node != NULL; node = rb_next(node)) {
		const struct vm_area_struct *vma = to_vma(node);

		BUG_ON(vma->vm_start >= vma->vm_end || vma->vm_mm != &init_mm);
		BUG_ON(prev != NULL && prev->vm_end > vma->vm_start);
		BUG_ON(prev != NULL && prev->vm_end == vma->vm_start && can_merge(prev, vma));
		total += vma->vm_end - vma->vm_start;
		prev = vma;
	}
	BUG_ON(total != init_mm.total_vm || (init_mm.seq & 1));
	mutex_unlock(&mmap_lock, LOCK_mmap);
}
