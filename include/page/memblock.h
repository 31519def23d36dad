/* SPDX-License-Identifier: MIT */
/*
 * memblock.h - the boot allocator, on brk, and afterwards the source of metadata memory. Kernel: mm/memblock.c.
 * Memory from here is zeroed, never freed, and survives fork like everything else.
 */
#ifndef KMM_PAGE_MEMBLOCK_H
#define KMM_PAGE_MEMBLOCK_H

#include "os/mutex.h"
#include "base/types.h"

/*
 * Takes the first piece of brk: metadata memory, and [*pages, *pages_end) for the buddy (empty where the break is
 * blocked). *brk_start is where the window may start. 0 or -ENOMEM.
 */
int memblock_init(uintptr_t *brk_start, uintptr_t *pages, uintptr_t *pages_end);

/* Address space, reserved read-only, for metadata beyond the boot chunk. */
void memblock_set_region(uintptr_t start, uintptr_t end);

/* Zeroed metadata; NULL when out of memory. align: a power of two up to 4 KiB. */
void *memblock_alloc(size_t size, size_t align);

/* User objects before the slab allocator is up (dlsym, calloc recursion). free() leaves them alone. */
void *memblock_boot_object(size_t size, size_t align);
size_t memblock_boot_object_size(const void *p);

/*
 * The program break. grow: bytes more (page multiple) right behind our own end, or behind a foreign break;
 * *start is where the new memory begins. 0 or -ENOMEM. Both take the brk lock.
 */
int brk_grow(size_t size, uintptr_t *start);
/* Returns the top down to new_end if it is still ours; 0 or -EBUSY. */
int brk_shrink(uintptr_t new_end);
uintptr_t brk_end(void);	/* end of the memory of libkmm in brk */

/* What the exported brk() and sbrk() do for foreign callers: 0 or -ENOMEM; NULL when it cannot move. */
int foreign_brk(void *addr);
void *foreign_sbrk(ptrdiff_t increment);

extern struct mutex brk_lock;
u64 memblock_bytes(void);	/* metadata handed out so far */

/* A free list of equal metadata objects; memory stays of its type (readers may look at freed ones). */
struct metapool {
	struct mutex lock;
	u32 size, align;
	void *free;
	u64 nr_total, nr_free;
};
#define METAPOOL_INIT(type) { .size = sizeof(type), .align = _Alignof(type) }
void *metapool_alloc(struct metapool *pool);	/* contents undefined */
void metapool_free(struct metapool *pool, void *obj);

#endif
