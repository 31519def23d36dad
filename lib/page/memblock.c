/* SPDX-License-Identifier: MIT */
/*
 * memblock.c - the boot allocator, and the program break.
 *
 * Purpose. Before there are pages there must be memory for the things that describe pages. memblock takes a first
 * piece of the break and hands it out by moving a pointer. What it does not need goes to the buddy as the first
 * memory of ZONE_BRK. Later it is the source of metadata (sheaves, bitmaps, VMAs), then from a region of its own
 * outside the window, so that metadata, which is never freed, does not split the program's pageblocks.
 *
 * Objects.   brk:  | boot chunk: metadata, boot objects | pages of ZONE_BRK ... | foreign hole | ZONE_BRK ...
 *                  ^ first_break                                                 ^ somebody else's sbrk()
 *
 * Invariants. brk_top is the end of our memory in the break. The break is moved only while brk_lock is held, by
 * us or by the exported brk()/sbrk(). Memory above brk_top is not ours and is never given back by us; a break
 * below brk_top is never allowed.
 *
 * Locks. memblock (bump pointer), brk (the break); both leaves of the lock order.
 *
 * Kernel counterpart. mm/memblock.c; the break is mm/mmap.c's sys_brk seen from the other side. Unlike the kernel's,
 * memory is not recorded in regions: the window knows.
 */
#include "page/memblock.h"

#include "base/align.h"
#include "base/bug.h"
#include "os/vm.h"
#include "page/mm_types.h"
#include "page/vmstat.h"
#include <errno.h>

#define BOOT_CHUNK	KIB(96)		/* covers the metadata of /bin/true and a little more */
#define BOOT_PAGES	KIB(192)	/* what is taken of brk for the buddy in the same step */
#define METADATA_CHUNK	KIB(256)
#define BOOT_OBJECTS	KIB(8)

struct mutex brk_lock;
static struct mutex memblock_lock;
static uintptr_t brk_top;		/* 0 before memblock_init() */
static uintptr_t chunk, chunk_end;
static uintptr_t region_next, region_end;	/* reserved, not yet writable */
static u64 bytes_used;
static uintptr_t boot_objects, boot_objects_top;

__init int memblock_init(uintptr_t *brk_start, uintptr_t *pages, uintptr_t *pages_end)
{
	*brk_start = ALIGN((uintptr_t)__os_sbrk(0), PAGE_SIZE);
	*pages = *pages_end = 0;
	if (brk_grow(BOOT_CHUNK + BOOT_PAGES, &chunk) == 0) {
		*brk_start = chunk;
		*pages = chunk + BOOT_CHUNK;
		*pages_end = *pages + BOOT_PAGES;
	} else {
		chunk = (uintptr_t)vm_map(BOOT_CHUNK);	/* the break is blocked from the start */
		if (!chunk)
			return -ENOMEM;
	}
	chunk_end = chunk + BOOT_CHUNK;
	return 0;
}

/* More of the reserved region becomes writable, or if there is none left, memory from anywhere. */
static int memblock_new_chunk(size_t size)
{
	size_t want = max(ALIGN(size, os_page_size), METADATA_CHUNK);
	void *p;

	if (region_next + want <= region_end) {
		if (vm_protect((void *)region_next, want, PROT_READ | PROT_WRITE))
			return -ENOMEM;
		p = (void *)region_next;
		region_next += want;
	} else {
		p = vm_map(want);
		if (!p)
			return -ENOMEM;
	}
	chunk = (uintptr_t)p;
	chunk_end = chunk + want;
	return 0;
}

__resident void memblock_set_region(uintptr_t start, uintptr_t end)
{
	region_next = start;
	region_end = end;
}

__resident void *memblock_alloc(size_t size, size_t align)
{
	uintptr_t p = 0;

	mutex_lock(&memblock_lock, LOCK_memblock);
	if (ALIGN(chunk, align) + size <= chunk_end || memblock_new_chunk(size + align) == 0) {
		p = ALIGN(chunk, align);
		chunk = p + size;
		bytes_used += size;
	}
	mutex_unlock(&memblock_lock, LOCK_memblock);
	return (void *)p;
}

/*
 * A boot object carries its size in the 16 bytes before it; freeing one is a no-op, since there are at most a
 * few and the area is at most BOOT_OBJECTS.
 */
void *memblock_boot_object(size_t size, size_t align)
{
	uintptr_t p;

	align = max(align, (size_t)16);
	if (!boot_objects) {
		boot_objects = (uintptr_t)memblock_alloc(BOOT_OBJECTS, PAGE_SIZE);
		boot_objects_top = boot_objects;
		if (!boot_objects)
			return NULL;
	}
	p = ALIGN(boot_objects_top + 16, align);
	if (size > BOOT_OBJECTS || p + size > boot_objects + BOOT_OBJECTS)
		return NULL;
	((size_t *)p)[-1] = size;
	boot_objects_top = p + ALIGN(size, 16);
	return (void *)p;
}

size_t memblock_boot_object_size(const void *p)
{
	if (!boot_objects || (uintptr_t)p - boot_objects >= BOOT_OBJECTS)
		return 0;
	return ((const size_t *)p)[-1];
}

u64 memblock_bytes(void)
{
	return READ_ONCE(bytes_used);
}

__resident void *metapool_alloc(struct metapool *pool)
{
	void *obj;

	mutex_lock(&pool->lock, LOCK_metapool);
	obj = pool->free;
	if (obj) {
		pool->free = *(void **)obj;
		pool->nr_free--;
	} else {
		obj = memblock_alloc(pool->size, pool->align);
		pool->nr_total += obj != NULL;
	}
	mutex_unlock(&pool->lock, LOCK_metapool);
	return obj;
}

__resident void metapool_free(struct metapool *pool, void *obj)
{
	mutex_lock(&pool->lock, LOCK_metapool);
	*(void **)obj = pool->free;
	pool->free = obj;
	pool->nr_free++;
	mutex_unlock(&pool->lock, LOCK_metapool);
}

/* --- the break ---------------------------------------------------------------------------------------- */

__resident int brk_grow(size_t size, uintptr_t *start)
{
	int ret = -ENOMEM;
	uintptr_t cur, from;

	mutex_lock(&brk_lock, LOCK_brk);
	cur = (uintptr_t)__os_sbrk(0);
	from = ALIGN(cur, os_page_size);
	if (cur && (!direct_map.sections || from + size <= direct_map.sections) &&
	    __os_sbrk((ptrdiff_t)(from - cur + size))) {
		brk_top = from + size;
		*start = from;
		ret = 0;
		count_vm_event(VM_brk_grow);
	}
	mutex_unlock(&brk_lock, LOCK_brk);
	return ret;
}

int brk_shrink(uintptr_t new_end)
{
	int ret = -EBUSY;

	mutex_lock(&brk_lock, LOCK_brk);
	if ((uintptr_t)__os_sbrk(0) == brk_top && new_end < brk_top &&
	    __os_sbrk(-(ptrdiff_t)(brk_top - new_end))) {
		brk_top = new_end;
		ret = 0;
		count_vm_event(VM_brk_shrink);
	}
	mutex_unlock(&brk_lock, LOCK_brk);
	return ret;
}

uintptr_t brk_end(void)
{
	return READ_ONCE(brk_top);
}

/* A foreign caller may move the break anywhere above our own memory. */
void *foreign_sbrk(ptrdiff_t increment)
{
	void *old = NULL;

	mutex_lock(&brk_lock, LOCK_brk);
	uintptr_t cur = (uintptr_t)__os_sbrk(0);

	if (cur && (increment >= 0 || -(uintptr_t)increment <= cur - min(cur, brk_top)))
		old = __os_sbrk(increment);
	mutex_unlock(&brk_lock, LOCK_brk);
	return old;
}

int foreign_brk(void *addr)
{
	int ret = -ENOMEM;

	mutex_lock(&brk_lock, LOCK_brk);
	uintptr_t cur = (uintptr_t)__os_sbrk(0);

	if (cur && (uintptr_t)addr >= brk_top && __os_sbrk((char *)addr - (char *)cur))
		ret = 0;
	mutex_unlock(&brk_lock, LOCK_brk);
	return ret;
}
