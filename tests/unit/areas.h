/* SPDX-License-Identifier: MIT */
/* areas.h - what the tests of large blocks share: a region, and words by which a page is known wherever it moves. */
#ifndef KMM_TESTS_UNIT_AREAS_H
#define KMM_TESTS_UNIT_AREAS_H

#include "base/align.h"
#include "boot.h"
#include <sys/mman.h>

#define REGION	    0x300000000000ul
#define REGION_SIZE GIB(64)

static inline void setup_region(void)
{
	os_init();
	kmm_params.decay_ms = 1000000;
	cr_assert_eq(vmalloc_init(REGION, REGION + REGION_SIZE), 0);
}

static inline bool is_mapped(uintptr_t addr)
{
	return vm_resident((void *)ALIGN_DOWN(addr, os_page_size), os_page_size) >= 0;
}

/* Every page of [from, to) of block p gets its number and a tag. */
static inline void tag_pages(char *p, size_t from, size_t to, u64 tag)
{
	for (size_t i = ALIGN(from, os_page_size); i < to; i += os_page_size)
		*(u64 *)(p + i) = tag << 32 | i / os_page_size;
}

static inline bool pages_are_tagged(const char *p, size_t size, u64 tag)
{
	for (size_t i = 0; i < size; i += os_page_size)
		if (*(const u64 *)(p + i) != (tag << 32 | i / os_page_size))
			return false;
	return true;
}

static inline bool reads_zero(const char *p, size_t size)
{
	for (size_t i = 0; i < size; i += sizeof(u64))
		if (*(const u64 *)(p + i) != 0)
			return false;
	return true;
}

/* Mapped, written, tagged. */
static inline char *new_block(size_t size, u64 tag)
{
	char *p = vmalloc_aligned(size, 0, NULL);

	CHECK(p != NULL);
	tag_pages(p, 0, size, tag);
	return p;
}

static inline struct vmalloc_stat vmalloc_stat(void)
{
	struct vmalloc_stat st;

	get_vmalloc_stat(&st);
	return st;
}

/* Anonymous mappings of the kernel in the region: the test framework maps a file of its own anywhere. */
static inline unsigned nr_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long start;
	char line[512];
	unsigned nr = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f))
		nr += sscanf(line, "%lx", &start) == 1 && start >= REGION && start < REGION + GIB(512) && !strchr(line, '/');
	fclose(f);
	return nr;
}

#endif
