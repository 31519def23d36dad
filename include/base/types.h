/* SPDX-License-Identifier: MIT */
/* types.h - integer types and the units that numbers are in. */
#ifndef KMM_BASE_TYPES_H
#define KMM_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef uint8_t	 u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t	 s32;
typedef int64_t	 s64;

/*
 * A page frame number counts 4 KiB granules from the start of the direct-map window (page/mm_types.h), so
 * that 32 bits reach 16 TiB and a list link in struct page takes four bytes. pfn 0 is never handed out.
 */
typedef u32 pfn_t;

/* The granule of the allocator. It is 4 KiB whatever the page size of the running kernel is (os/vm.h). */
#define PAGE_SHIFT 12
#define PAGE_SIZE  (1UL << PAGE_SHIFT)
#define PAGE_MASK  (~(PAGE_SIZE - 1))

/* Memory is switched between migrate types, and huge pages are thought about, by the 2 MiB pageblock. */
#define PAGEBLOCK_ORDER 9
#define PAGEBLOCK_SHIFT (PAGE_SHIFT + PAGEBLOCK_ORDER)
#define PAGEBLOCK_SIZE	(1UL << PAGEBLOCK_SHIFT)

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define GIB(n) ((size_t)(n) << 30)

#endif
