/* SPDX-License-Identifier: MIT */
/* mesh_test.c - slabs that share frames: nothing is lost, memory goes home, children keep what they had. */
#include "mesh_objects.h"

#include "page/compaction.h"
#include "page/vmstat.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(mesh, .init = boot_auto, .timeout = 120);
TestSuite(mesh_lock, .init = boot_lock, .timeout = 120);

/* Proportional set size of the window's mappings. Others are shared with the test runner, and change as its children end. */
static size_t pss(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end, kib;
	size_t sum = 0;
	bool ours = false;
	char line[512];

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = end > direct_map.start && start < direct_map.end;
		else if (ours && sscanf(line, "Pss: %lu kB", &kib) == 1)
			sum += kib << 10;
	}
	fclose(f);
	return sum;
}

/* --- sharing ---------------------------------------------------------------------------------------------- */

Test(mesh, memory_goes_home_and_nothing_is_lost)
{
	static const size_t sizes[] = { 16, 48, 112, 128, 300, 512, 1100, 2048, 3584 };

	need_backend();
	for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
		unsigned cls = kmalloc_class(sizes[k]), nr = min((unsigned)(MIB(8) / sizes[k]), (unsigned)MAX_OBJECTS);
		u64 slabs = global_vm_event(VM_mesh_slab), pages;
		size_t before, after;

		if (!mesh_class_is_worth(cls))
			continue;
		compact_all();		/* frames of the size before, which no mapping shows */
		pages = global_vm_event(VM_mesh_page);
		take(cls, nr);
		thin_out(cls, 10, k);
		kmem_cache_shrink_all();
		before = pss();
		compact_all();
		after = pss();
		pages = global_vm_event(VM_mesh_page) - pages;
		cr_assert_gt(global_vm_event(VM_mesh_slab), slabs, "%zu", sizes[k]);
		cr_assert_gt(pages, 0u);
		/* What the counter says went home has gone home, but for what the passes use themselves. */
		cr_assert_geq(before + KIB(256), after + (pages << PAGE_SHIFT), "%zu: %zu -> %zu, %lu pages", sizes[k], before, after,
			      (unsigned long)pages);
		cr_assert_eq(count_wrong(cls), 0u, "%zu", sizes[k]);
		slab_validate_all();
		give_all(cls);
		slab_validate_all();
		cr_assert_eq(mesh_view_bytes(), 0u, "%zu", sizes[k]);
	}
	cr_assert_eq(global_vm_event(VM_mesh_refused), 0u);
}

/* Twelve of a hundred objects left: by repeated meshing far less than half of the pages stay. */
Test(mesh, more_than_two_slabs_share)
{
	unsigned cls = kmalloc_class(512);
	u64 slabs;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 3);
	kmem_cache_shrink_all();
	compact_all();
	slabs = global_vm_event(VM_mesh_slab);
	cr_assert_gt(global_vm_event(VM_mesh_page) * 3, slabs * kmalloc_caches[cls].nr_pages);	/* a third of all, at least */
	cr_assert_eq(count_wrong(cls), 0u);
}

Test(mesh, written_pages_become_the_writers_own)
{
	unsigned cls = kmalloc_class(256);

	need_backend();
	take(cls, 20000);
	thin_out(cls, 10, 4);
	compact_all();
	for (unsigned i = 0; i < nr_objects; i += 2)
		if (object[i])
			fill(i, cls, (unsigned char)(i * 3));
	cr_assert_eq(count_wrong(cls), 0u);
	thin_out(cls, 3, 5);
	compact_all();		/* others come onto the frames; what was written is not touched by that */
	cr_assert_eq(count_wrong(cls), 0u);
	take(cls, 1000);
	slab_validate_all();
}

/* Pages that the program has written are its own: nobody needs the frames below, which a pass finds out. */
Test(mesh, frames_below_written_pages_go_home)
{
	unsigned cls = kmalloc_class(512), groups = 0;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 44);
	compact_all();
	for (u32 id = 1; id < mesh_nr_groups(); id++)
		groups += mesh_group(id)->present != 0;
	cr_assert_gt(groups, 20u);
	for (unsigned i = 0; i < nr_objects; i++)
		if (object[i])
			fill(i, cls, (unsigned char)(i * 5));
	compact_all();
	for (u32 id = 1; id < mesh_nr_groups(); id++)
		cr_assert_eq(mesh_group(id)->present, 0u, "group %u", id);
	cr_assert_eq(count_wrong(cls), 0u);
	give_all(cls);
}

/* What is freed in a meshed slab is not handed out again by sheaves, since its home is no CPU. */
Test(mesh, meshed_slabs_have_no_cpu)
{
	unsigned cls = kmalloc_class(512), nr = 0;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 5);
	compact_all();
	for (unsigned i = 0; i < nr_objects; i++) {
		struct page *slab = object[i] ? compound_head(virt_to_page(object[i])) : NULL;

		if (!slab || !(slab->flags & PG_meshed))
			continue;
		nr++;
		cr_assert_geq(slab->home, HOME_DOMAIN);
		cr_assert_eq(map_entry(virt_to_pfn(object[i])) >> MAP_HOME_SHIFT, (map_entry_t)slab->home);
	}
	cr_assert_gt(nr, 100u);
	slab_validate_all();
	give_all(cls);
}

/* Slabs join groups of an earlier pass; frames that nobody needs any more go home. */
Test(mesh, groups_live_on)
{
	unsigned cls = kmalloc_class(400);
	u64 pages;

	need_backend();
	take(cls, 20000);
	thin_out(cls, 8, 6);
	compact_all();
	thin_out(cls, 20, 7);
	pages = global_vm_event(VM_mesh_page);
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_page), pages);
	cr_assert_eq(count_wrong(cls), 0u);
	give_all(cls);
	compact_all();
	for (u32 id = 1; id < mesh_nr_groups(); id++)
		cr_assert_eq(mesh_group(id)->cls, 0u, "all are free");
	take(cls, 20000);
	thin_out(cls, 8, 8);
	compact_all();
	cr_assert_eq(count_wrong(cls), 0u);
}

Test(mesh, quiet_slabs_alone_unless_asked)
{
	unsigned cls = kmalloc_class(512);
	u64 slabs;

	need_backend();
	kmm_params.decay_ms = 0;
	take(cls, 16000);
	thin_out(cls, 10, 9);
	while (kcompactd_run(1, true, never) == 1)
		;
	cr_assert_eq(global_vm_event(VM_mesh_slab), 0u, "all have just been used");
	usleep(150000);
	while (kcompactd_run(NEVER_MS, true, never) == 1)
		;
	slabs = global_vm_event(VM_mesh_slab);
	cr_assert_gt(slabs, 100u);
	cr_assert_eq(count_wrong(cls), 0u);
}

Test(mesh, colours_do_not_mix)
{
	unsigned cls = kmalloc_class(512);

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 10);
	kmem_cache_shrink_all();
	for (unsigned i = 0; i < nr_objects; i++)
		if (object[i])
			compound_head(virt_to_page(object[i]))->colour = (u8)((uintptr_t)compound_head(virt_to_page(object[i])) >> 7 & 1);
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_slab), 100u);
	for (unsigned i = 0; i < nr_objects; i++) {
		struct page *slab = object[i] ? compound_head(virt_to_page(object[i])) : NULL;

		if (slab && slab->flags & PG_meshed)
			cr_assert_eq(mesh_group(slab_group(slab))->colour, slab->colour);
	}
	cr_assert_eq(count_wrong(cls), 0u);
}

/* --- what is left alone ------------------------------------------------------------------------------------- */

Test(mesh, locked_memory_stays)
{
	unsigned cls = kmalloc_class(512);

	need_backend();
	take(cls, 8000);
	thin_out(cls, 10, 11);
	kmem_cache_shrink_all();
	for (unsigned i = 0; i < nr_objects; i++)
		if (object[i])
			cr_assert_eq(mlock(object[i], 512), 0);
	compact_all();
	cr_assert_eq(global_vm_event(VM_mesh_slab), 0u);
	cr_assert_gt(global_vm_event(VM_mesh_refused), 0u);
	cr_assert_eq(count_wrong(cls), 0u);
	slab_validate_all();
}

/* What a child shares is neither moved nor written, and the child sees what it had. Both are free again when it ends. */
Test(mesh, a_child_keeps_what_it_had)
{
	unsigned cls = kmalloc_class(512);
	int go[2], status;
	u64 slabs;
	char c = 0;
	pid_t pid;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 12);
	kmem_cache_shrink_all();
	compact_all();
	cr_assert_eq(pipe(go), 0);
	pid = (pid_t)syscall(SYS_fork);
	if (pid == 0) {
		close(go[1]);
		_exit(read(go[0], &c, 1) == 0 && count_wrong(cls) == 0 ? 0 : 1);
	}
	close(go[0]);
	give_all(cls);
	take(cls, 16000);
	for (unsigned i = 0; i < nr_objects; i++)
		fill(i, cls, (unsigned char)~i);
	thin_out(cls, 10, 13);
	kmem_cache_shrink_all();
	cr_assert_not(mesh_may_write());
	slabs = global_vm_event(VM_mesh_slab) + global_vm_event(VM_mesh_refused);
	compact_all();
	cr_assert_eq(global_vm_event(VM_mesh_slab) + global_vm_event(VM_mesh_refused), slabs, "nothing is even tried");
	close(go[1]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "the child found a wrong byte");
	cr_assert_eq(count_wrong(cls), 0u);
	cr_assert(mesh_may_write());
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_slab), slabs);
	cr_assert_eq(count_wrong(cls), 0u);
	slab_validate_all();
}

Test(mesh, a_child_meshes_by_itself)
{
	unsigned cls = kmalloc_class(512);
	int status;
	pid_t pid;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 14);
	kmem_cache_shrink_all();
	compact_all();
	pid = fork();
	if (pid == 0) {
		u64 before = global_vm_event(VM_mesh_slab);

		kcompactd_exit();
		thin_out(cls, 4, 15);
		take(cls, 16000);
		thin_out(cls, 10, 16);
		kmem_cache_shrink_all();
		compact_all();
		_exit(count_wrong(cls) == 0 && global_vm_event(VM_mesh_slab) > before ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_assert_eq(count_wrong(cls), 0u);
}

/* --- somebody is at it ---------------------------------------------------------------------------------------- */

static bool stop_writing;

static void *writer(void *arg)
{
	unsigned cls = kmalloc_class(512);
	u64 r = rng_of((uintptr_t)arg), nr = 0;

	for (; !READ_ONCE(stop_writing); nr++) {
		unsigned i = rng_below(&r, MAX_OBJECTS / 2) * 2 + (unsigned)(uintptr_t)arg;

		if (i >= nr_objects || !object[i])
			continue;
		for (unsigned k = 0; k < 512; k++)
			CHECK(object[i][k] == value[i]);
		fill(i, cls, (unsigned char)nr);
	}
	return NULL;
}

/* Forks behind libkmm's back while pages are on the move: every child finds all that was not being written. */
static void *forker(void *arg)
{
	while (!READ_ONCE(stop_writing)) {
		pid_t pid = (pid_t)syscall(SYS_fork);
		int status;

		if (pid == 0) {
			for (unsigned i = 2; i < nr_objects; i += 3)
				for (unsigned k = 0; object[i] && k < 512; k++)
					if (object[i][k] != value[i])
						_exit(1);
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		usleep(3000);
	}
	return arg;
}

static void mesh_under(void *(*fn)(void *), unsigned nr, unsigned times)
{
	unsigned cls = kmalloc_class(512);
	pthread_t t[2];

	for (unsigned round = 0; round < times; round++) {
		take(cls, 16000);
		thin_out(cls, 10, 17 + round);
		kmem_cache_shrink_all();
		stop_writing = false;
		for (unsigned i = 0; i < nr; i++)
			cr_assert_eq(pthread_create(&t[i], NULL, fn, (void *)(uintptr_t)i), 0);
		for (unsigned i = 0; i < 10; i++) {
			usleep(1700);
			compact_all();
		}
		WRITE_ONCE(stop_writing, true);
		for (unsigned i = 0; i < nr; i++)
			pthread_join(t[i], NULL);
		cr_assert_eq(count_wrong(cls), 0u);
		slab_validate_all();
		give_all(cls);
	}
	cr_assert_gt(global_vm_event(VM_mesh_slab), 100u);
}

Test(mesh, writers_go_on)
{
	need_backend();
	mesh_under(writer, 2, rounds(3));
}

Test(mesh_lock, writers_go_on)
{
	need_backend();
	mesh_under(writer, 2, rounds(1));
}

Test(mesh, raw_forks_at_any_moment)
{
	need_backend();
	mesh_under(forker, 1, rounds(8));
	cr_assert_gt(global_vm_event(VM_mesh_fork), 0u, "none came at the right moment");
}

/* --- when memory is out ----------------------------------------------------------------------------------------- */

Test(mesh, meshed_slabs_are_the_last_resort)
{
	unsigned cls = kmalloc_class(512), kept = 0;
	void *p[60];
	u64 got = 0;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 30);
	kmem_cache_shrink_all();
	compact_all();
	for (unsigned i = 0; i < nr_objects; i++)
		kept += object[i] != NULL;
	for (unsigned n; (n = mesh_take(cls, p, 60)) != 0; got += n)
		for (unsigned i = 0; i < n; i++)
			memset(p[i], 0x5a, 512);
	cr_assert_geq(got + kept, global_vm_event(VM_mesh_slab) * kmalloc_caches[cls].nr_objects * 9 / 10);
	cr_assert_eq(count_wrong(cls), 0u);
	slab_validate_all();
}
