/* SPDX-License-Identifier: MIT */
/*
 * memalign.c - memalign posix_memalign aligned_alloc valloc pvalloc.
 *
 * Purpose: blocks aligned to a power of two, with the error rules that glibc 2.36 documents.
 *
 * How alignment is had, by size of the alignment:
 *
 *	up to 16	every block has it: malloc
 *	up to 4 KiB	slabs begin at a page, so each object of a class whose size is a multiple of the
 *			alignment has it: the smallest such class that is large enough
 *	beyond		whole pages from the page allocator, else an area of the vmalloc region
 *
 * So an aligned block is an ordinary object or block: nothing is put before it, and free() need not know.
 *
 * What the functions do that a reader may not expect:
 *	memalign	rounds an alignment that is no power of two up; beyond 2^63 EINVAL
 *	aligned_alloc	is memalign (C11's stricter rules came with glibc 2.38)
 *	posix_memalign	EINVAL for an alignment that is no power of two times sizeof(void *); leaves errno and
 *			*memptr alone when it fails
 *	valloc, pvalloc	take the page size of the running kernel, not the granule
 * A size above PTRDIFF_MAX is ENOMEM everywhere; size 0 gives a pointer of its own.
 *
 * Fork and init: a call that comes while libkmm boots (ld.so and dlsym may allocate) is served by the boot allocator,
 * which aligns up to one page.
 */
#include "api/malloc.h"

#include "base/compiler.h"
#include "mm/memcg_rules.h"
#include "mm/slab.h"
#include "os/vm.h"
#include "page/memblock.h"
#include <errno.h>

#define MALLOC_ALIGNMENT 16u

/*
 * The smallest class of at least size bytes that is a multiple of align, or 0. size is a multiple of align, so at
 * most seven classes are passed over before a power of two comes, and that one fits.
 */
static unsigned aligned_class(size_t align, size_t size)
{
	if (size > KMALLOC_MAX_SIZE)
		return 0;

	unsigned cls = kmalloc_class(size);

	for (; cls < NR_KMALLOC_CLASSES; cls++) {
		if (kmalloc_caches[cls].size >= size && IS_ALIGNED((size_t)kmalloc_caches[cls].size, align))
			return cls;
	}
	return 0;
}

static void *memalign_class(unsigned cls, const void *caller)
{
	void *p;

	if (unlikely(memcg_watched)) {
		cls |= memcg_slot_bits(caller);
		memcg_thread.caller = caller;
	}
	p = this_cpu_pop(cls);

	return likely(p != NULL) ? p : kmem_cache_alloc_slowpath(cls);
}

static __cold void *memalign_boot(size_t align, size_t size)
{
	return align <= PAGE_SIZE ? memblock_boot_object(size, align) : NULL;
}

static __cold void *out_of_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

/* align: a power of two. NULL with errno ENOMEM. */
void *kmm_memalign_internal(size_t align, size_t size, const void *caller)
{
	if (align <= MALLOC_ALIGNMENT)
		return kmm_malloc_from(size, caller);
	if (unlikely(size > PTRDIFF_MAX || align > PTRDIFF_MAX))
		return out_of_memory();

	if (unlikely(nr_percpu_areas() == 0))
		kmm_boot();

	size_t rounded = ALIGN(max(size, (size_t)1), align);
	unsigned cls = align <= PAGE_SIZE ? aligned_class(align, rounded) : 0;
	void *p;

	if (unlikely(nr_percpu_areas() == 0))
		p = memalign_boot(align, size);
	else if (likely(cls != 0))
		p = memalign_class(cls, caller);
	else
		p = kmalloc_large_from(max(size, (size_t)1), align, NULL, caller);
	return likely(p != NULL) ? p : out_of_memory();
}

static void *memalign_from(size_t align, size_t size, const void *caller)
{
	if (unlikely(align > (SIZE_MAX >> 1) + 1)) {
		errno = EINVAL;
		return NULL;
	}
	return kmm_memalign_internal(roundup_pow_of_two(align), size, caller);
}

EXPORT_SYMBOL void *memalign(size_t align, size_t size)
{
	return memalign_from(align, size, __builtin_return_address(0));
}

EXPORT_SYMBOL void *aligned_alloc(size_t align, size_t size)
{
	return memalign_from(align, size, __builtin_return_address(0));
}

EXPORT_SYMBOL int posix_memalign(void **memptr, size_t align, size_t size)
{
	if (unlikely(align % sizeof(void *) != 0 || !is_power_of_2(align)))
		return EINVAL;

	int saved_errno = errno;
	void *p = kmm_memalign_internal(align, size, __builtin_return_address(0));

	errno = saved_errno;
	if (unlikely(p == NULL))
		return ENOMEM;
	*memptr = p;
	return 0;
}

static size_t kernel_page_size(void)
{
	if (unlikely(nr_percpu_areas() == 0))
		kmm_boot();
	return os_page_size;
}

EXPORT_SYMBOL void *valloc(size_t size)
{
	return kmm_memalign_internal(kernel_page_size(), size, __builtin_return_address(0));
}

EXPORT_SYMBOL void *pvalloc(size_t size)
{
	size_t page_size = kernel_page_size();

	if (unlikely(size > PTRDIFF_MAX))
		return out_of_memory();
	return kmm_memalign_internal(page_size, ALIGN(size, page_size), __builtin_return_address(0));
}
