/* SPDX-License-Identifier: MIT */
/*
 * mesh_ksm_test.c - meshing by equal pages: nothing is lost, and the kernel merges. Sets /sys/kernel/mm/ksm/run to 1 if it may; a
 * child of its own puts it back when the test has ended, however that was.
 */
#include "../../../lib/mm/mesh.h"

#include "../boot.h"
#include "page/compaction.h"
#include "page/vmstat.h"
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

TestSuite(mesh_ksm, .init = boot_auto, .timeout = 120);

#define KSM_RUN "/sys/kernel/mm/ksm/run"

enum { MAX_OBJECTS = 40000 };
static unsigned char *object[MAX_OBJECTS];

static bool never(void)
{
	return false;
}

static bool write_run(char c)
{
	int fd = open(KSM_RUN, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, &c, 1) == 1;

	close(fd);
	return ok;
}

/* The setting is the machine's: one test at a time. The child below holds the lock, too, until it has put it back. */
static void lock_setting(void)
{
	int fd = open(KSM_RUN, O_RDONLY);

	if (fd >= 0)
		cr_assert_eq(flock(fd, LOCK_EX), 0);
}

static void need_ksm(void)
{
	char was[8] = "", c;
	int alive[2];

	lock_setting();
	if (os_read_file(KSM_RUN, was, sizeof(was)) <= 0)
		cr_skip_test("no KSM");
	if (was[0] != '1') {
		cr_assert_eq(pipe(alive), 0);
		if (fork() == 0) {
			close(alive[1]);
			_exit(read(alive[0], &c, 1) == 0 && write_run(was[0]) ? 0 : 1);
		}
		close(alive[0]);
		if (!write_run('1'))
			cr_skip_test("not allowed to start KSM");
	}
	kmm_params.compact = COMPACT_KSM;
	kswapd_running = true;
}

static void compact_all(void)
{
	u32 request = compact_request();

	cr_assert_neq(request, 0u);
	while (kcompactd_run(NEVER_MS, true, never) == 1)
		;
}

static u64 merging_pages(void)
{
	char text[32] = "";

	os_read_file("/proc/self/ksm_merging_pages", text, sizeof(text));
	return strtoull(text, NULL, 10);
}

static void check_contents(unsigned nr, size_t size)
{
	for (unsigned i = 0; i < nr; i++)
		for (size_t k = 0; object[i] && k < size; k++)
			cr_assert_eq(object[i][k], (unsigned char)(i * 7 + 1));
}

static void sparse(unsigned cls, unsigned nr)
{
	u64 r = rng_of(1);

	for (unsigned got = 0; got < nr;)
		got += slab_alloc_bulk(0, cls, (void **)&object[got], min(nr - got, 60u));
	for (unsigned i = 0; i < nr; i++) {
		memset(object[i], (int)(i * 7 + 1), kmalloc_caches[cls].size);
		if (rng_below(&r, 10) == 0)
			continue;
		slab_free_bulk(cls, (void **)&object[i], 1);
		object[i] = NULL;
	}
	kmem_cache_shrink_all();
}

Test(mesh_ksm, the_kernel_merges)
{
	unsigned cls = kmalloc_class(300), nr = 30000;
	u64 pages = 0;

	need_ksm();
	sparse(cls, nr);
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_slab), 300u);
	check_contents(nr, 300);
	slab_validate_all();
	for (unsigned i = 0; i < 400 && pages < 500; i++) {	/* ksmd takes its time */
		usleep(100000);
		pages = merging_pages();
	}
	cr_assert_geq(pages, 500u);
	check_contents(nr, 300);
	compact_all();
	cr_assert_geq(global_vm_event(VM_mesh_page), 500u, "it is reported");
	for (unsigned i = 0; i < nr; i++)		/* written pages are the writer's own */
		if (object[i])
			memset(object[i], (int)(i * 7 + 1), 300);
	check_contents(nr, 300);
	for (unsigned i = 0; i < nr; i++)
		if (object[i])
			slab_free_bulk(cls, (void **)&object[i], 1);
	kmem_cache_shrink_all();
	slab_validate_all();
	cr_assert_eq(mesh_view_bytes(), 0u);
}

/* Pages of the slabs of one bin are the same, byte for byte, where both have a live object. */
Test(mesh_ksm, pages_are_made_equal)
{
	unsigned cls = kmalloc_class(512), same = 0, meshed = 0;

	need_ksm();
	sparse(cls, 8000);
	compact_all();
	for (unsigned i = 0; i < 8000; i++) {
		char *page = object[i] ? (char *)ALIGN_DOWN((uintptr_t)object[i], os_page_size) : NULL;
		bool found = false;

		if (!page || !(compound_head(virt_to_page(page))->flags & PG_meshed))
			continue;
		meshed++;
		for (unsigned k = 0; k < 8000 && !found; k++) {
			char *other = object[k] ? (char *)ALIGN_DOWN((uintptr_t)object[k], os_page_size) : NULL;

			found = other && other != page && memcmp(page, other, os_page_size) == 0;
		}
		same += found;
	}
	cr_assert_gt(meshed, 300u);
	cr_assert_gt(same * 10, meshed * 8, "%u of %u pages have an equal", same, meshed);
	check_contents(8000, 512);
}

Test(mesh_ksm, not_where_ksm_does_not_run)
{
	char was[8] = "";

	lock_setting();
	if (os_read_file(KSM_RUN, was, sizeof(was)) > 0 && was[0] == '1')
		cr_skip_test("it runs");
	cr_assert_eq(mesh_ksm_open(), -EOPNOTSUPP);
	cr_assert_not_null(strstr(mesh_ksm_needs(-EOPNOTSUPP), "ksm/run"));
}
