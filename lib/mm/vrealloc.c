/* SPDX-License-Identifier: MIT */
/*
 * vrealloc.c - a large block becomes larger or smaller without being copied.
 *
 * Purpose
 *	mremap moves page table entries instead of pages. A block grows where it is if the addresses behind it are
 *	free, else it moves.
 *
 * Growth in steps
 *	Areas are mapped in granules of 1/32 to 1/16 of their size, so of many small steps only those that cross a granule
 *	come here: 1 MiB at a time to 1 GiB takes 109 calls of mremap instead of 1,021. What such a step adds is faulted in
 *	at once, since whoever asks for a little more writes it: 0.72 of the time of single faults (m), and it can
 *	cost no more than a granule. Growth by more, as a vector's by half or double, is left to fault as it is used.
 *
 * Locks
 *	The area is the caller's. vmap for trees, seams and sums; not held over a system call.
 *
 * Kernel counterpart and what differs
 *	mm/vmalloc.c, vrealloc(), which copies; mm/mremap.c.
 */
#include "vmap.h"

#include "base/bug.h"
#include "base/printk.h"
#include "mm/mm_struct.h"
#include "page/mm_types.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

/* Its pages, and with them its seams, now begin at start. */
static void set_area_range(struct vmap_area *va, uintptr_t start, uintptr_t end)
{
	vmap_lock();
	__unaccount_busy(va);
	if (va->va_start != start) {
		rb_erase(&va->rb_node, &vmap.areas, NULL);
		for (struct vmap_seam *seam = va->seams; seam != NULL; seam = seam->next)
			seam->addr += start - va->va_start;
		va->va_start = start;
		va->va_end = end;
		__insert_area(va);
	} else {
		va->va_end = end;
		__drop_seams_outside(va);
	}
	__account_busy(va);
	vmap_unlock();
}

static void free_range(uintptr_t start, size_t size)
{
	vmap_lock();
	__free_vmap_range(&vmap.space, start, size);
	vmap_unlock();
}

static void shrink_area(struct vmap_area *va, size_t len)
{
	uintptr_t end = va->va_start + len, old_end = va->va_end;

	if (vm_unmap((void *)end, old_end - end) != 0)
		return;
	mm_unmap(end, old_end);
	uncharge_area(va->colour, old_end - end);
	set_area_range(va, va->va_start, end);
	free_range(end + va->guard, old_end - end);
}

static bool grow_area_inplace(struct vmap_area *va, size_t len)
{
	uintptr_t behind = va->va_end + va->guard, last = last_piece(va);
	size_t more = len - area_size(va);
	bool taken;

	vmap_lock();
	taken = __alloc_vmap_range_at(&vmap.space, behind, more);
	vmap_unlock();
	if (!taken)
		return false;
	if (vm_remap((void *)last, va->va_end - last, va->va_end + more - last, false, NULL) == NULL) {
		free_range(behind, more);
		return false;
	}
	mm_map(va->va_end, va->va_start + len, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_VMALLOC, "vmalloc");
	set_area_range(va, va->va_start, va->va_start + len);
	return true;
}

/*
 * Moves all pieces of va to start, where len bytes are mapped; the last one grows to fill them. Where the kernel fails
 * half-way, what has moved cannot be given up, so the rest is copied. false: nothing has happened but that the mapping
 * at start may be gone.
 */
static bool move_pages_to(const struct vmap_area *va, uintptr_t start, size_t len)
{
	uintptr_t pos, end, to;

	for (pos = va->va_start; pos < va->va_end; pos = end) {
		size_t room;

		end = piece_end(va, pos);
		to = start + (pos - va->va_start);
		room = end == va->va_end ? start + len - to : end - pos;
		if (vm_remap((void *)pos, end - pos, room, true, (void *)to) != NULL)
			continue;
		if (pos == va->va_start)
			return false;
		if (vm_map_at((void *)to, room) == -ENOMEM)
			panic("out of memory while a block of %zu bytes was being moved", area_size(va));
		thp_advise_area(to, room);
		memcpy((void *)to, (void *)pos, end - pos);
		vm_unmap((void *)pos, end - pos);
	}
	return true;
}

/*
 * mremap to a fixed address would replace a foreign mapping there, so the place is first claimed by a mapping that
 * replaces nothing. When there are very many areas, none is moved: where it was once, the kernel can merge it with its
 * neighbours, elsewhere it cannot.
 */
static bool grow_area_moving(struct vmap_area *va, size_t len)
{
	uintptr_t old = va->va_start, start;
	size_t old_len = area_size(va);
	u32 old_guard = va->guard, guard = __guard_size();

	if (guard == 0)
		return false;
	start = map_new_range(len, len >= VMALLOC_HUGE ? PAGEBLOCK_SIZE : os_page_size, guard);
	if (start == 0)
		return false;
	if (!move_pages_to(va, start, len)) {
		vm_unmap((void *)start, len);
		free_range(start, len + guard);
		return false;
	}
	mm_unmap(old, old + old_len);
	mm_map(start, start + len, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_VMALLOC, "vmalloc");
	set_area_range(va, start, start + len);
	va->guard = guard;
	free_range(old, old_len + old_guard);
	return true;
}

static bool grow_area(struct vmap_area *va, size_t len)
{
	size_t old_len = area_size(va);
	uintptr_t filled;

	if (!charge_area(va->colour, len - old_len))
		return false;
	if (!grow_area_inplace(va, len) && !grow_area_moving(va, len)) {
		uncharge_area(va->colour, len - old_len);
		return false;
	}
	count_vm_event(VM_vmalloc_mremap);
	filled = assemble_area(va, va->va_start + old_len);
	if (filled == 0) {
		shrink_area(va, old_len);
		return false;
	}
	if (len - old_len <= len / GRANULE_SHARE && filled < va->va_end)
		vm_populate((void *)filled, va->va_end - filled);
	return true;
}

static struct vmap_area *find_owned_area(const void *p)
{
	struct vmap_area *va;

	vmap_lock();
	va = __find_area((uintptr_t)p);
	vmap_unlock();
	return va != NULL && va->va_start == (uintptr_t)p && !va->lazy ? va : NULL;
}

void *vrealloc(void *p, size_t new_size)
{
	struct vmap_area *va = find_owned_area(p);
	size_t len, old_len;

	if (va == NULL || new_size > PTRDIFF_MAX - PAGEBLOCK_SIZE)
		return NULL;
	len = area_len(new_size);
	old_len = area_size(va);
	if (exact_len(new_size) > old_len && !grow_area(va, len) && !grow_area(va, exact_len(new_size)))
		return NULL;
	if (len < old_len - old_len / 4)
		shrink_area(va, len);
	va->requested = new_size;
	return (void *)va->va_start;
}
