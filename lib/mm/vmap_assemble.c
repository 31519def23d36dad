/* SPDX-License-Identifier: MIT */
/*
 * vmap_assemble.c - resident pages of freed areas become the pages of a new one.
 *
 * Purpose
 *	A page that the program has freed and we still have is worth far more than a fresh one: moving it costs some
 *	ten nanoseconds, if its neighbours move along, a fault two microseconds. So whatever is freshly mapped is first
 *	filled with pages of lazy areas, several of them if need be: mremap moves their page table entries.
 *
 * Objects
 *	lazy areas	| 1 1 1 1 1 |     | 2 2 2 2 2 2 2 |
 *	new area	| 1 1 1 1 1 2 2 2 fresh |		what is left over stays lazy: | 2 2 2 2 |
 *	                          ^ seam  ^ seam
 *	Pages keep their VMA's origin when they move, so the kernel cannot merge what comes to lie side by side. A seam
 *	is a place where two VMAs may meet. mremap works on one VMA, so whoever calls it goes from seam to seam.
 *
 * Invariants
 *	Seams of an area are ascending and lie strictly inside it. Where two VMAs meet, there is a seam; there may be
 *	more seams than that. vmap.stat.nr_seams is their number.
 *
 * Policy
 *	As long as whole huge pages are wanted, whole huge pages are taken, from the front of an area, so that
 *	both sides begin on a boundary: then a page table moves as one, and a huge page need not be split. The last
 *	piece, which is smaller, is the end of some area. The smallest lazy area that suffices is taken, else the
 *	largest of all: the fewer the pieces, the better.
 *
 * Locks
 *	vmap for trees and seams. A lazy area that is being moved from is in no tree; the one moved to is the caller's.
 *
 * Kernel counterpart and what differs
 *	mm/mremap.c, move_page_tables(). In the kernel vmalloc() always assembles, from any pages, since it owns the page
 *	tables; here each piece costs a system call and a VMA, hence PIECE_MIN, AREA_SEAMS_MAX and ASSEMBLED_SHARE.
 */
#include "vmap.h"

#include "mm/mm_struct.h"
#include "os/os.h"
#include "page/mm_types.h"
#include "page/vmstat.h"
#include <errno.h>

#define AREA_SEAMS_MAX 64
#define ASSEMBLED_SHARE 8	/* of vm.max_map_count: areas and seams together, beyond which none are made */
#define FEW_MAPPINGS   512	/* for which nobody need ask how many there may be */

static struct metapool seam_pool = METAPOOL_INIT(struct vmap_seam);

/* --- seams --------------------------------------------------------------------------------------------- */

uintptr_t piece_end(const struct vmap_area *va, uintptr_t addr)
{
	const struct vmap_seam *seam = va->seams;

	while (seam != NULL && seam->addr <= addr)
		seam = seam->next;
	return seam != NULL ? seam->addr : va->va_end;
}

uintptr_t last_piece(const struct vmap_area *va)
{
	uintptr_t start = va->va_start;

	for (const struct vmap_seam *seam = va->seams; seam != NULL; seam = seam->next)
		start = seam->addr;
	return start;
}

void __drop_seams_outside(struct vmap_area *va)
{
	struct vmap_seam **link = &va->seams, *seam;

	while ((seam = *link) != NULL) {
		if (seam->addr > va->va_start && seam->addr < va->va_end) {
			link = &seam->next;
			continue;
		}
		*link = seam->next;
		metapool_free(&seam_pool, seam);
		vmap.stat.nr_seams--;
	}
}

/* addr is not below any seam of va. false: there are too many, or no memory. */
static bool add_seam(struct vmap_area *va, uintptr_t addr)
{
	struct vmap_seam **link = &va->seams, *seam;
	unsigned nr = 0;

	if (addr == va->va_start || addr == va->va_end)
		return true;
	for (; *link != NULL; link = &(*link)->next, nr++)
		if ((*link)->addr == addr)
			return true;
	seam = nr < AREA_SEAMS_MAX ? metapool_alloc(&seam_pool) : NULL;
	if (seam == NULL)
		return false;
	seam->addr = addr;
	seam->next = NULL;
	vmap_lock();
	*link = seam;
	vmap.stat.nr_seams++;
	vmap_unlock();
	return true;
}

/* --- taking from lazy areas ------------------------------------------------------------------------------ */

static bool __may_assemble(void)
{
	u64 nr = vmap.stat.nr_areas + vmap.stat.nr_lazy + vmap.stat.nr_seams;

	return nr < FEW_MAPPINGS || nr < os_max_map_count() / ASSEMBLED_SHARE;
}

/* The lazy area that suits best when `need` bytes are wanted, out of all trees; NULL: none pays. */
static struct vmap_area *take_source(size_t need)
{
	struct vmap_area *va = NULL;

	if (need < PIECE_MIN)
		return NULL;
	vmap_lock();
	if (vmap.lazy.node != NULL && __may_assemble()) {
		va = __best_fit(need >= PAGEBLOCK_SIZE ? ALIGN_DOWN(need, PAGEBLOCK_SIZE) : need, os_page_size);
		if (va == NULL)
			va = rb_entry(rb_last(&vmap.lazy), struct vmap_area, size_node);
		if (area_size(va) >= PIECE_MIN)
			__take_lazy(va);
		else
			va = NULL;
	}
	vmap_unlock();
	return va;
}

/* How much of src goes into `need` bytes, and from where. */
static size_t choose_piece(const struct vmap_area *src, size_t need, uintptr_t *from)
{
	size_t n = min(need, area_size(src));

	if (n >= PAGEBLOCK_SIZE) {
		*from = src->va_start;
		return ALIGN_DOWN(n, PAGEBLOCK_SIZE);
	}
	*from = src->va_end - n;
	return n;
}

/* --- moving ---------------------------------------------------------------------------------------------- */

/*
 * Moves [from, from + n) of src to `to` in va, where fresh pages are mapped, piece by piece. Returns the bytes that have
 * arrived. *hole: the kernel has unmapped what was there and mapped nothing in its place.
 */
static size_t move_pieces(struct vmap_area *va, uintptr_t to, const struct vmap_area *src, uintptr_t from, size_t n, bool *hole)
{
	uintptr_t pos = from, end = from + n;

	while (pos < end) {
		size_t len = min(end, piece_end(src, pos)) - pos;

		if (!add_seam(va, to) || !add_seam(va, to + len))
			break;
		if (vm_remap((void *)pos, len, len, true, (void *)to) == NULL) {
			*hole = vm_map_at((void *)to, len) == -ENOMEM;
			thp_advise_area(to, len);
			break;
		}
		count_vm_event(VM_vmalloc_assemble);
		pos += len;
		to += len;
	}
	return pos - from;
}

uintptr_t assemble_area(struct vmap_area *va, uintptr_t from)
{
	struct vmap_area *src;
	bool hole = false;
	size_t n = 0, moved = 0;

	while (moved == n && (src = take_source(va->va_end - from)) != NULL) {
		uintptr_t piece;

		n = choose_piece(src, va->va_end - from, &piece);
		moved = move_pieces(va, from, src, piece, n, &hole);
		from += moved;
		if (moved < n && piece > src->va_start) {
			vm_unmap((void *)(piece + moved), n - moved);
			put_back_lazy(src, piece, piece + n);
		} else {
			put_back_lazy(src, piece, piece + moved);
		}
	}
	return hole ? 0 : from;
}
