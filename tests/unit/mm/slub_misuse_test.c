/* SPDX-License-Identifier: MIT */
/* slub_misuse_test.c - one line that names what is wrong, then abort. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"
#include "base/printk.h"
#include "mm/gate.h"
#include <unistd.h>

TestSuite(slub_misuse, .init = boot_auto, .timeout = 30);
#define Misuse(name) Test(slub_misuse, name, .signal = SIGABRT)

/* What the next line must say; another one ends the test without the abort that it waits for. */
static char expected[256];

static ssize_t check_line(const char *buf, size_t len)
{
	if (!memmem(buf, len, expected, strlen(expected)) || memchr(buf, '\n', len) != buf + len - 1) {
		fprintf(stderr, "said:     %.*sexpected: %s\n", (int)len, buf, expected);
		_exit(3);
	}
	return (ssize_t)len;
}

#define expect(...)                                                            \
	do {                                                                   \
		snprintf(expected, sizeof(expected), __VA_ARGS__);             \
		console_write = check_line;                                    \
	} while (0)

/* Sheaves and barns are emptied into slabs, whose bitmaps know. */
static void drain(void)
{
	gate_enter();
	kmem_cache_shrink_all();
	gate_leave();
}

Misuse(double_free_at_the_push)
{
	char *p = kmalloc(64);

	kfree(p);
	expect("double free of %p (kmalloc-64, slab %p)", (void *)p, (void *)((uintptr_t)p & PAGE_MASK));
	kfree(p);
}

Misuse(double_free_with_something_between)
{
	void *p = kmalloc(100), *q = kmalloc(100);

	kfree(p);
	kfree(q);
	kfree(p);
	expect("double free of %p (kmalloc-112", p);
	drain();
}

Misuse(double_free_after_the_drain)
{
	void *p = kmalloc(100), *stays = kmalloc(100);

	kfree(p);
	drain();
	kfree(p);
	cr_assert_not_null(stays);
	expect("double free of %p (kmalloc-112", p);
	drain();
}

Misuse(double_free_of_a_large_block)
{
	void *p = kmalloc_large(MIB(1), 0, NULL);

	kfree(p);
	expect("pointer %p in free", p);
	kfree(p);
}

Misuse(interior_unaligned)
{
	char *p = kmalloc(1000);

	expect("interior pointer %p in free, into the object at %p (kmalloc-1024", (void *)(p + 5), (void *)p);
	kfree(p + 5);
}

Misuse(interior_aligned)
{
	char *p = kmalloc(1000);

	expect("interior pointer %p in free, into the object at %p (kmalloc-1024", (void *)(p + 32), (void *)p);
	kfree(p + 32);
	drain();
}

Misuse(interior_of_a_free_object)
{
	char *p = kmalloc(1000), *stays = kmalloc(1000);

	kfree(p);
	drain();
	cr_assert_not_null(stays);
	expect("interior pointer %p in free, into a free object at %p", (void *)(p + 32), (void *)p);
	kfree(p + 32);
	drain();
}

Misuse(interior_of_a_large_block)
{
	char *p = kmalloc_large(MIB(1), 0, NULL);

	expect("interior pointer %p in free, into the large block at %p of %zu bytes", (void *)(p + 16), (void *)p, MIB(1));
	kfree(p + 16);
}

Misuse(middle_of_a_large_block)
{
	char *p = kmalloc_large(MIB(1), 0, NULL);

	expect("%p in free", (void *)(p + KIB(512)));
	kfree(p + KIB(512));
}

Misuse(interior_of_a_vmalloc_block)
{
	char *p = kmalloc_large(MIB(5), 0, NULL);

	expect("interior pointer %p in free, into the vmalloc block at %p", (void *)(p + MIB(1)), (void *)p);
	kfree(p + MIB(1));
}

Misuse(page_that_is_free)
{
	struct page *page = alloc_pages(5, MIGRATE_UNMOVABLE);

	free_pages(page, 5);
	expect("invalid pointer %p in free: its page is free", page_address(page));
	kfree(page_address(page));
}

Misuse(foreign_global)
{
	static int global __aligned(16);

	expect("foreign pointer %p in free: not handed out by libkmm (see KMM_FOREIGN_FREE)", (void *)&global);
	kfree(&global);
}

Misuse(foreign_small_number)
{
	expect("foreign pointer %p in free", (void *)0x30);
	kfree((void *)0x30);
}

Misuse(foreign_noncanonical)
{
	expect("foreign pointer %p in free", (void *)0xdead000000000000);
	kfree((void *)0xdead000000000000);
}

Misuse(foreign_block_beneath_the_heap)
{
	void *p = pfn_to_virt(zones[ZONE_BRK].start_pfn - 1);	/* metadata */

	expect("foreign pointer %p in free", p);
	kfree(p);
}

/* A live object whose map entry was overwritten. */
Misuse(corrupted_map)
{
	char *p = kmalloc(64);

	set_map_entry(virt_to_pfn(p), make_map_entry(kmalloc_class(128), 0, any_cpu()));
	expect("%p", (void *)p);
	kfree(p);
	drain();
}

/* --- what is no misuse ---------------------------------------------------------------------------------------- */

Test(slub_misuse, foreign_ignored)
{
	static int global __aligned(16);

	kmm_params.foreign_free = 1;
	kfree(&global);
	kfree((char *)&global + 1);
	kfree((void *)16);
}

Test(slub_misuse, foreign_goes_to_the_allocator_beneath)
{
	static int global __aligned(16);

	cr_assert_not(kfree_slowpath(&global), "nothing done");
	kmm_params.foreign_free = 1;
	cr_assert_not(foreign_goes_to_next(&global, "free"));
	kmm_params.foreign_free = 2;
	cr_assert(foreign_goes_to_next(&global, "free"));
	cr_assert(foreign_goes_to_next((void *)0x1000, "realloc"));
}

Misuse(report_names_the_caller)
{
	static int global __aligned(16);

	expect("foreign pointer %p in realloc", (void *)&global);
	foreign_goes_to_next(&global, "realloc");
}

/* Ignoring what is foreign does not mean ignoring what is broken. */
Misuse(ignore_is_for_foreign_ones_only)
{
	char *p = kmalloc(64);

	kmm_params.foreign_free = 1;
	expect("interior pointer");
	kfree(p + 8);
}

/* Back and forth a million times: no false alarm. */
Test(slub_misuse, no_false_alarm)
{
	void *p[64];
	u64 r = rng_of(1);

	for (unsigned n = 0; n < 20000; n++) {
		unsigned nr = 1 + rng_below(&r, 64);
		size_t size = 16u << rng_below(&r, 8);

		for (unsigned i = 0; i < nr; i++)
			p[i] = kmalloc(size);
		for (unsigned i = 0; i < nr; i++)
			kfree(p[i]);
		if (n % 1000 == 0)
			drain();
	}
}
