/* SPDX-License-Identifier: MIT */
/*
 * slub_misuse.c - pointers that free() should never have got, and what is said about them.
 *
 * Purpose. The fast path has no room for checks, but its bounds and its slots send what is wrong here for nothing: a
 * pointer outside the online window or not aligned to 16, a page that holds no objects, the object that was freed
 * last. What slips through (an interior pointer, a double free with something in between) is met when the sheaf is
 * emptied into slabs, whose bitmap knows. One line names pointer, class and slab; then abort.
 *
 * A pointer that libkmm never handed out is treated as KMM_FOREIGN_FREE says; `next` asks the allocator beneath.
 *
 * Kernel counterpart. mm/slub.c: free_to_partial_list's checks, object_err, slab_err.
 */
#include "internal.h"

#include "base/param.h"
#include "base/printk.h"

void (*next_free)(void *p);		/* of the allocator beneath; set by api/init.c */

enum { FOREIGN_REPORT, FOREIGN_IGNORE, FOREIGN_NEXT };

void report_double_free(const void *obj)
{
	struct addr_info info;

	classify_address(obj, &info);
	panic("double free of %p (kmalloc-%zu, slab %p)", obj, info.size, info.slab);
}

void report_invalid_free(const void *p)
{
	struct addr_info i;

	classify_address(p, &i);
	switch (i.kind) {
	case ADDR_FREE_OBJECT:
	case ADDR_OBJECT:
		if (i.base == p)
			report_double_free(p);
		panic("interior pointer %p in free, into a free object at %p (kmalloc-%zu, slab %p)", p, i.base, i.size, i.slab);
	case ADDR_INTERIOR:
		panic("interior pointer %p in free, into the object at %p (kmalloc-%zu, slab %p)", p, i.base, i.size, i.slab);
	case ADDR_LARGE:
		panic("interior pointer %p in free, into the large block at %p of %zu bytes", p, i.base, i.size);
	case ADDR_VMALLOC:
		panic("interior pointer %p in free, into the vmalloc block at %p of %zu bytes", p, i.base, i.size);
	case ADDR_FREE_PAGE:
		panic("invalid pointer %p in free: its page is free (a double free of a block that was given back?)", p);
	default:
		panic("invalid pointer %p in free: not a block of libkmm", p);
	}
}

void handle_foreign_free(void *p)
{
	struct addr_info i;

	classify_address(p, &i);
	if (i.kind != ADDR_FOREIGN && i.kind != ADDR_METADATA)
		report_invalid_free(p);
	switch (kmm_params.foreign_free) {
	case FOREIGN_IGNORE:
		return;
	case FOREIGN_NEXT:
		if (next_free) {
			next_free(p);
			return;
		}
		panic("foreign pointer %p in free: no allocator beneath (KMM_FOREIGN_FREE=next)", p);
	default:
		panic("foreign pointer %p in free: not handed out by libkmm (see KMM_FOREIGN_FREE)", p);
	}
}
