/* SPDX-License-Identifier: MIT */
/*
 * kmm.c - the functions of kmm/kmm.h, but for kmm_stats_print() (stats.c).
 *
 * Purpose: the doors to the layers below, with arguments checked and errno set; what they promise is written in the
 * header.
 *
 * Objects: a block from kmm_alloc_pages() is an exact block of the page allocator whose first page says PG_pages and
 * how many there are, so that a wrong kmm_free_pages() is caught. A per-CPU cookie holds the offset in the areas
 * (below PERCPU_SIZE) and, above it, the size, which free_percpu() wants to know.
 *
 *	63                     20 19            0
 *	| bytes of a copy        | offset        |
 *
 * Locks: every door enters the gate, so that fork copies nothing half-done.
 */
#include "kmm/kmm.h"

#include "api/malloc.h"
#include "base/align.h"
#include "base/param.h"
#include "base/printk.h"
#include "mm/gate.h"
#include "mm/kmmd.h"
#include "mm/memcg_reclaim.h"
#include "mm/mm_struct.h"
#include "mm/slab.h"
#include "os/os.h"
#include "page/compaction.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/percpu.h"
#include "page/reclaim.h"
#include <errno.h>
#include <string.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.1"
#endif

EXPORT_SYMBOL const char *kmm_version(void)
{
	return PACKAGE_VERSION;
}

EXPORT_SYMBOL size_t kmm_usable_size(const void *ptr)
{
	struct addr_info info;

	kmm_boot();
	gate_enter();
	classify_address(ptr, &info);
	gate_leave();
	switch (info.kind) {
	case ADDR_OBJECT:
	case ADDR_LARGE:
	case ADDR_VMALLOC:
		return info.base == ptr ? info.size : 0;
	case ADDR_BOOT:
		return memblock_boot_object_size(ptr);
	default:
		return 0;
	}
}

/* --- memory goes home ------------------------------------------------------------------------------------- */

#define COMPACT_PASSES 4	/* other threads may go on freeing for ever */

/* The gate is left after every slice: nobody who forks waits for all of it. */
static size_t trim(size_t pad)
{
	struct scan_control sc;
	size_t bytes;
	bool more;

	kmm_boot();
	gate_enter();
	trim_begin(&sc);
	do {
		more = trim_slice(&sc, pad);
		gate_leave();
		gate_enter();
	} while (more);
	bytes = trim_end(&sc, pad);
	gate_leave();
	return bytes;
}

static size_t say_trimmed(const char *who, size_t bytes)
{
	if (kmm_params.verbose)
		pr_info("%s: %zu kB went home", who, bytes >> 10);
	return bytes;
}

EXPORT_SYMBOL size_t kmm_trim(size_t pad)
{
	return say_trimmed("trim", trim(pad));
}

EXPORT_SYMBOL size_t kmm_compact(void)
{
	size_t bytes = 0, more = 1;
	u32 request;

	for (unsigned i = 0; i < COMPACT_PASSES && more; i++)
		bytes += more = trim(0);
	request = compact_request();
	if (request)
		kmmd_wake();
	bytes += compact_wait(request);
	return say_trimmed("compact", bytes);
}

EXPORT_SYMBOL int kmm_decay_set(unsigned long ms)
{
	if (ms > KMM_DECAY_MAX_MS) {
		errno = EINVAL;
		return -1;
	}
	kmm_boot();		/* else the settings would be read over this one */
	WRITE_ONCE(kmm_params.decay_ms, ms);
	gate_enter();
	for (int z = 0; z < MAX_NR_ZONES; z++)
		page_reporting_notify_free(&zones[z], (u32)os_clock_ms());
	gate_leave();
	kmmd_wake();
	if (kmmd_wanted)
		kmmd_consider(__builtin_return_address(0));
	return 0;
}

EXPORT_SYMBOL unsigned long kmm_decay_get(void)
{
	kmm_boot();
	return READ_ONCE(kmm_params.decay_ms);
}

/* --- the address space ------------------------------------------------------------------------------------ */

static void copy_vma(struct kmm_vma *to, const struct vm_area_struct *from)
{
	memset(to, 0, sizeof(*to));
	to->start = from->vm_start;
	to->end = from->vm_end;
	to->read = (from->vm_flags & VM_READ) != 0;
	to->write = (from->vm_flags & VM_WRITE) != 0;
	to->exec = (from->vm_flags & VM_EXEC) != 0;
	to->shared = (from->vm_flags & VM_SHARED) != 0;
	to->own = (from->vm_flags & VM_KMM) != 0;
	kmm_snprintf(to->kind, sizeof(to->kind), "%s", vma_kind_names[from->kind]);
	kmm_snprintf(to->name, sizeof(to->name), "%s", from->name);
}

EXPORT_SYMBOL int kmm_find_vma(const void *addr, struct kmm_vma *vma)
{
	struct vm_area_struct found;
	bool ok;

	kmm_boot();
	ok = find_vma((uintptr_t)addr, &found);
	if (!ok || found.vm_start > (uintptr_t)addr) {
		mm_import();
		ok = find_vma((uintptr_t)addr, &found);
	}
	if (!ok) {
		errno = ENOENT;
		return -1;
	}
	copy_vma(vma, &found);
	return 0;
}

/* --- pages ------------------------------------------------------------------------------------------------ */

EXPORT_SYMBOL size_t kmm_alloc_pages_max(void)
{
	return PAGEBLOCK_SIZE >> PAGE_SHIFT;	/* larger ones would need luck with their alignment */
}

static struct page *charge_and_alloc_pages(size_t nr_pages)
{
	unsigned colour = memcg_charging_colour();
	struct page *page = NULL;

	gate_enter();
	memcg_thread.failed = 0;
	if (memcg_charge(colour, MEMCG_PAGES, nr_pages)) {
		page = alloc_pages_exact((u32)nr_pages, 0, MIGRATE_UNMOVABLE, NULL);
		if (page == NULL)
			memcg_uncharge(colour, MEMCG_PAGES, nr_pages);
	}
	if (page != NULL) {
		page->flags |= PG_pages;
		page->nr_pages = (u32)nr_pages;
		page->memcg = (u8)colour;
	}
	gate_leave();
	return page;
}

EXPORT_SYMBOL void *kmm_alloc_pages(size_t nr_pages)
{
	unsigned tries = 0;
	struct page *page;

	if (nr_pages == 0 || nr_pages > kmm_alloc_pages_max()) {
		errno = EINVAL;
		return NULL;
	}
	kmm_boot();
	do
		page = charge_and_alloc_pages(nr_pages);
	while (page == NULL && memcg_make_room(nr_pages << PAGE_SHIFT, &tries));
	memcg_handle_over_high();
	if (page == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	return page_address(page);
}

EXPORT_SYMBOL void kmm_free_pages(void *ptr, size_t nr_pages)
{
	struct page *page;

	if (ptr == NULL)
		return;
	gate_enter();
	page = virt_addr_valid(ptr) ? virt_to_page(ptr) : NULL;
	if (page == NULL || !IS_ALIGNED((uintptr_t)ptr, PAGE_SIZE) || !(page->flags & PG_pages))
		panic("kmm_free_pages: %p is no block of pages", ptr);
	if (page->nr_pages != nr_pages)
		panic("kmm_free_pages: %p has %u pages, not %zu", ptr, page->nr_pages, nr_pages);
	page->flags &= (u16)~PG_pages;
	memcg_uncharge(page->memcg, MEMCG_PAGES, nr_pages);
	free_pages_exact(page, (u32)nr_pages);
	gate_leave();
}

/* --- one copy per CPU ------------------------------------------------------------------------------------- */

#define COOKIE_OFFSET_MASK (PERCPU_SIZE - 1)

EXPORT_SYMBOL void *kmm_alloc_percpu(size_t size, size_t align)
{
	size_t block = max(size, align);
	size_t offset;

	if (size == 0 || size > KMM_PERCPU_MAX || !is_power_of_2(align) || align > 64) {
		errno = EINVAL;
		return NULL;
	}
	kmm_boot();
	gate_enter();
	offset = alloc_percpu(block, align);
	gate_leave();
	if (offset == 0) {
		errno = ENOMEM;
		return NULL;
	}
	return (void *)(offset | block << PERCPU_SHIFT);
}

EXPORT_SYMBOL void kmm_free_percpu(void *cookie)
{

	if (cookie == NULL)
		return;
	gate_enter();
	free_percpu((uintptr_t)cookie & COOKIE_OFFSET_MASK, (uintptr_t)cookie >> PERCPU_SHIFT);
	gate_leave();
}

EXPORT_SYMBOL void *kmm_per_cpu_ptr(void *cookie, unsigned cpu)
{
	if (unlikely(cpu >= nr_percpu_areas())) {
		errno = EINVAL;
		return NULL;
	}
	return percpu_at(cpu, (uintptr_t)cookie & COOKIE_OFFSET_MASK);
}

EXPORT_SYMBOL unsigned kmm_this_cpu(void)
{
	return any_cpu();
}

EXPORT_SYMBOL unsigned kmm_nr_percpu(void)
{
	kmm_boot();
	return nr_percpu_areas();
}
