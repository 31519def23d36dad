/* SPDX-License-Identifier: MIT */
/*
 * init.c - the boot, in the kernel's order, and the end.
 *
 * Purpose. The first call of malloc boots the library, whoever makes it (often ld.so, before any constructor). The order:
 *
 *   os          page size, auxv                        (no system call)
 *   params      KMM_* from the environment
 *   percpu      rseq or lock mode: self-test
 *   memblock    first piece of brk
 *   sparse      window, map, vmemmap, percpu areas: one reservation
 *   zones       the rest of the first piece of brk is free memory
 *   slab        classes, first area: from here on malloc works
 *   vmalloc, registry of VMAs
 *
 * Locks. boot_once serialises threads that come first, and recognises recursion inside the boot.
 *
 * Kernel counterpart. init/main.c: start_kernel, mm_core_init; enum slab_state.
 */
#include "api/malloc.h"
#include "api/stats.h"
#include "base/param.h"
#include "base/printk.h"
#include "mm/gate.h"
#include "mm/kmmd.h"
#include "mm/memcg_rules.h"
#include "mm/mm_struct.h"
#include "mm/vmalloc.h"
#include "os/atfork.h"
#include "os/membarrier.h"
#include "os/once.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/reclaim.h"
#include "page/sparse.h"
#include <unistd.h>

#define VMALLOC_SPACE GIB(8192)
#define USER_SPACE_END 0x7f0000000000ul	/* mmap's own area begins above */

static struct once boot_once;

extern void *__libc_stack_end __attribute__((weak));	/* of the dynamic linker: argc, argv, envp */

/* environ is set by libc's own constructor; the first malloc may come before that. */
static char **find_environ(void)
{
	static char *none[] = { NULL };

	if (environ)
		return environ;
	if (!&__libc_stack_end || !__libc_stack_end)
		return none;

	long argc = *(long *)__libc_stack_end;

	return (char **)__libc_stack_end + argc + 2;
}

static int boot_pages(void)
{
	uintptr_t brk_start, pages, pages_end;
	struct zone *zone = &zones[ZONE_BRK];
	int ret = memblock_init(&brk_start, &pages, &pages_end);

	if (!ret)
		ret = sparse_init(brk_start);
	if (!ret && pages_end > pages) {
		mutex_lock(&zone->lock, LOCK_zone);
		ret = online_range(zone, pages, pages_end);
		mutex_unlock(&zone->lock, LOCK_zone);
	}
	return ret;
}

static void boot_regions(void)
{
	uintptr_t start = ALIGN(direct_map.end, GIB(1)), size = VMALLOC_SPACE;

	while (start + size > USER_SPACE_END && size > GIB(64))
		size /= 2;
	vmalloc_init(start, start + size);
	regions[REGION_VMALLOC].start = start;
	regions[REGION_VMALLOC].end = start + size;
}

static void boot(void)
{
	os_init();
	parse_params(find_environ(), os_secure());
	percpu_mode_init(kmm_params.percpu, sheaf_full_top(&stop_sheaf));
	if (percpu_mode == PERCPU_MODE_RSEQ)
		membarrier_register_rseq();	/* cheap while there is one thread */
	if (boot_pages() || kmem_cache_init()) {
		pr_warn("cannot start: no memory for the first pages");
		return;
	}
	if (kmm_params.percpu == 1 && percpu_mode != PERCPU_MODE_RSEQ)
		pr_warn("KMM_PERCPU=rseq: this process has no usable rseq; going on as with KMM_PERCPU=lock");
	boot_regions();
	mm_init();
	memcg_init();
	kmm_stats_init();
	lockdep_covered_by(gate_is_held);
}

__init void kmm_boot(void)
{
	if (!once_is_done(&boot_once) && once_begin(&boot_once)) {
		boot();
		once_end(&boot_once);
	}
}

/* --- constructor and destructor ------------------------------------------------------------------------------ */

static void print_banner(void)
{
	pr_info("%s; window %lx-%lx, vmalloc %lx-%lx, map %lx, vmemmap %lx, percpu %lx",
		percpu_mode == PERCPU_MODE_LOCK ? "try-lock per core"
		: percpu_uses_mm_cid()		? "rseq by mm_cid"
						: "rseq by cpu_id",
		direct_map.start, direct_map.end, regions[REGION_VMALLOC].start, regions[REGION_VMALLOC].end,
		regions[REGION_MAP].start, regions[REGION_VMEMMAP].start, regions[REGION_PERCPU].start);
}

static __init __attribute__((constructor)) void kmm_constructor(void)
{
	kmm_boot();
	kmm_atfork_init();
	kmmd_init();
	if (kmm_params.foreign_free == 2) {
		os_next_function((void **)&next_allocator.free, "free");
		os_next_function((void **)&next_allocator.realloc, "realloc");
	}
	if (kmm_params.verbose)
		print_banner();
}

static __attribute__((destructor)) void kmm_destructor(void)
{
	kmm_stats_at_exit();
}
