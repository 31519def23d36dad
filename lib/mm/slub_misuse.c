/* SPDX-License-Identifier: MIT */
/*
 * slub_misuse.c - pointers that free() should never have got, and what is said about them.
 *
 * Purpose. The fast path has no room for checks, but its bounds and its slots send what is wrong here for nothing: a
 * pointer outside the online window or not aligned to 16, a page that holds no objects, the object that was freed
 * last. What slips through (an interior pointer, a double free with something in between) is met when the sheaf is
 * emptied into slabs, whose bitmap knows. One line names pointer, class and slab; then abort.
 *
 * A pointer that libkmm never handed out is treated as KMM_FOREIGN_FREE says; `next` asks the allocator
 * beneath, which api/ knows.
 *
 * Kernel counterpart. mm/slub.c: free_to_partial_list's checks, object_err, slab_err.
 */
#include "internal.h"

#include "base/param.h"
#include "base/printk.h"
#include "page/sparse.h"

enum { FOREIGN_REPORT, FOREIGN_IGNORE, FOREIGN_NEXT };

void report_double_free(const void *obj)
{
	struct addr_info info;

	classify_address(obj, &info);
	panic("double free of %p (kmalloc-%zu, slab %p)", obj, info.size, info.slab);
}

/* The map said one class when the pointer went into a sheaf, its slab says another: somebody wrote over one of them. */
static void report_corrupt_map(const void *p, const struct addr_info *i)
{
	unsigned cls = virt_addr_valid(i->base) ? map_entry(virt_to_pfn(i->base)) & MAP_CLASS_MASK : 0;

	if (i->slab && i->kind != ADDR_METADATA && cls != i->cls)
		panic("corrupted class map at %p: class %u, but slab %p is of class %u (kmalloc-%zu)", p, cls, i->slab,
		      i->cls, i->size);
}

void report_invalid_pointer(const void *p, const char *where)
{
	struct addr_info i;

	classify_address(p, &i);
	report_corrupt_map(p, &i);
	switch (i.kind) {
	case ADDR_FREE_OBJECT:
	case ADDR_OBJECT:
		if (i.base == p)
			report_double_free(p);
		panic("interior pointer %p in %s, into a free object at %p (kmalloc-%zu, slab %p)", p, where, i.base, i.size, i.slab);
	case ADDR_INTERIOR:
		panic("interior pointer %p in %s, into the object at %p (kmalloc-%zu, slab %p)", p, where, i.base, i.size, i.slab);
	case ADDR_LARGE:
		panic("interior pointer %p in %s, into the large block at %p of %zu bytes", p, where, i.base, i.size);
	case ADDR_VMALLOC:
		panic("interior pointer %p in %s, into the vmalloc block at %p of %zu bytes", p, where, i.base, i.size);
	case ADDR_FREE_PAGE:
		panic("invalid pointer %p in %s: its page is free (a double free of a block that was given back?)", p, where);
	default:
		panic("invalid pointer %p in %s: not a block of libkmm", p, where);
	}
}

bool foreign_goes_to_next(const void *p, const char *where)
{
	struct addr_info i;

	classify_address(p, &i);
	if (i.kind != ADDR_FOREIGN && i.kind != ADDR_METADATA)
		report_invalid_pointer(p, where);
	switch (kmm_params.foreign_free) {
	case FOREIGN_IGNORE:
		return false;
	case FOREIGN_NEXT:
		return true;
	default:
		panic("foreign pointer %p in %s: not handed out by libkmm (see KMM_FOREIGN_FREE)", p, where);
	}
}
