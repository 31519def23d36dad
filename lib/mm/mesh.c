/* SPDX-License-Identifier: MIT */
/*
 * mesh.c - slabs that share page frames.
 *
 * Purpose. Sparse slabs whose live objects do not lie at the same places come to share physical pages, while the program
 * runs and its pointers stay. What lies on which frames is decided elsewhere (mesh_plan.c, mesh_scan.c).
 *
 * Objects. A group is a range of frames in a memfd, as long as a slab. Each of its slabs maps them, privately:
 *
 *	slab A   | a . . a | . . . . |  view ->  \
 *	slab B   | . b . . | b . . . |  view ->   frames  | a b . a | b . . c |
 *	slab C   | . . . . | . . . c |  view ->  /
 *
 * An object is reached through its own slab's addresses only, so the views need not agree. Written pages become the
 * writer's own by copy-on-write: that is all it takes to un-mesh a page, and to survive fork(), raw or not.
 *
 * How a slab moves. (1) Its range is registered and its pages are moved to scratch memory: whoever touches them now
 * waits, system calls too. A page that is pinned (I/O in flight) or shared with another process cannot be moved: then all
 * goes back and the slab is left alone. (2) Live objects are written into the frames, where no other view has a
 * live one. (3) The frames are mapped privately in place of the range. (4) Who waits is woken. 50 to 90 us in all.
 *
 * Invariants. From (1) to (4) kmmd takes no lock and touches no memory that may be away. What a view's live objects need
 * is never written or taken from the frames: group->live names it. An object that was allocated since the slab was
 * meshed needs nothing: writing it made the page private, and before it was written it had no value. Meshed slabs
 * are on no list, and nothing is taken from them but when memory is out (mesh_take).
 *
 * Forks. A child has views of the same frames, and more live objects, perhaps: those that its parent has freed since.
 * So frames are written and punched only while no other process has any. How is that known? The canary is a locked
 * page that is never written, so every child shares it until it ends or calls exec; the kernel tells whether the page is
 * mapped by one process only. It is asked after the decision what to write: a child made later knows of it. A child that
 * is made by a raw clone(2) between (1) and (3) lacks the pages that are away: its parent waits in clone, the
 * kernel tells us, and we fill the child's pages (os/uffd.c).
 *
 * While a child lives nothing is meshed, not even onto frames that it cannot know: a page that it shares cannot be moved,
 * and a copy of ours would free nothing, since the child keeps the page. Most are shared, so it is not worth the stalls.
 *
 * Locks. None. Groups and descriptors belong to kmmd, but for nr_views. A slab that is given back maps fresh memory
 * over its view (mesh_discard) before its pages go to the buddy. If the kernel refuses that, as when the program has used
 * up vm.max_map_count, the slab is lost until a later pass tries again.
 *
 * Kernel counterpart. mm/migrate.c (isolate, unmap, copy, remap, putback). The idea: Powers et al., PLDI 2019; there
 * the views are shared mappings, which fork breaks, and the freeze is mprotect(), which system calls see as EFAULT.
 *
 * Fork and init. mesh_forget(): the child's own kmmd begins with new frames; views of its parent's stay as they are until
 * their slabs are given back.
 */
#include "mesh_frames.h"

#include "os/os.h"
#include "os/uffd.h"
#include "os/vm.h"
#include "page/compaction.h"
#include "page/huge_memory.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

#define NR_GROUPS     (1u << 16)
#define SLAB_BYTES_MAX (MESH_PAGES_MAX * os_page_size)
#define CANARY_TRIES	100
#define MOVE_TRIES    64u

static struct {
	int uffd, memfd, pagemap;
	char *scratch;			/* of a batch: where pages are that are away */
	char *staging;			/* a slab's frames, being written */
	char *canary;
	u32 first_own, nr_groups;	/* ids below first_own are of a former kmmd's memfd */
	u32 free;			/* groups without frames */
	u32 of_class[NR_KMALLOC_CLASSES];
} mesh;
static struct mesh_group *groups;	/* [NR_GROUPS], from 1 on */
static u64 view_bytes;

struct mesh_group *mesh_group(u32 id)
{
	return groups + id;
}

u32 slab_group(const struct page *slab)
{
	return (u32)(slab->mesh[0] | slab->mesh[1] << 8 | slab->mesh[2] << 16);
}

static void set_slab_group(struct page *slab, u32 id)
{
	slab->mesh[0] = (u8)id;
	slab->mesh[1] = (u8)(id >> 8);
	slab->mesh[2] = (u8)(id >> 16);
}

__resident u64 mesh_view_bytes(void)
{
	return READ_ONCE(view_bytes);
}

bool mesh_is_own_group(u32 id)
{
	return id > MESH_GROUP_KSM && id >= mesh.first_own;
}

u32 mesh_nr_groups(void)
{
	return mesh.nr_groups;
}

/* --- begin and end ----------------------------------------------------------------------------------------- */

int mesh_groups_alloc(void)
{
	if (!groups)
		groups = vm_map(NR_GROUPS * sizeof(*groups));
	return groups ? 0 : -ENOMEM;
}

/* Memory of kmmd's own: scratch, staging, canary. Unlocked, so that locked slabs are refused; but for the canary. */
static int map_work_areas(void)
{
	size_t size = (MESH_BATCH + 1) * SLAB_BYTES_MAX;

	if (!mesh.scratch)
		mesh.scratch = vm_map(size);
	mesh.canary = vm_map(os_page_size);	/* a new one: the parent's tells the parent something */
	if (mesh_groups_alloc() || !mesh.scratch || !mesh.canary)
		return -ENOMEM;
	vm_dontneed(mesh.scratch, size);
	mesh.staging = mesh.scratch + MESH_BATCH * SLAB_BYTES_MAX;
	vm_unlock(mesh.scratch, size);
	vm_advise(mesh.canary, os_page_size, MADV_UNMERGEABLE);
	return vm_lock(mesh.canary, os_page_size);
}

/*
 * Can the kernel tell whether the canary is ours alone? A child that is made between the write and the question makes it
 * shared; as long as there are no frames it may be written again.
 */
static bool release_canary(void)
{
	bool alone = false;

	for (unsigned tries = 0; tries < CANARY_TRIES && !alone; tries++) {
		*(volatile u64 *)mesh.canary = (uintptr_t)mesh.canary ^ os_clock_ns();
		alone = mesh_may_write();
	}
	return alone;
}

int mesh_open(void)
{
	int ret = map_work_areas();

	if (ret)
		return ret;
	mesh.uffd = uffd_open();
	mesh.memfd = memfd_open("kmm-mesh");
	mesh.pagemap = pagemap_open();
	ret = mesh.uffd < 0 ? mesh.uffd : mesh.memfd < 0 ? mesh.memfd : mesh.pagemap < 0 ? mesh.pagemap : 0;
	if (ret == 0 && !release_canary())
		ret = -EOPNOTSUPP;
	if (ret == 0)
		ret = mesh_frames_open();
	if (ret == 0) {
		if (!mesh.nr_groups)
			mesh.nr_groups = MESH_GROUP_KSM + 1;
		mesh.first_own = mesh.nr_groups;
		return 0;
	}
	if (mesh.uffd >= 0)
		os_close(mesh.uffd);
	if (mesh.memfd >= 0)
		os_close(mesh.memfd);
	if (mesh.pagemap >= 0)
		os_close(mesh.pagemap);
	return ret;
}

void mesh_forget(void)
{
	memset(mesh.of_class, 0, sizeof(mesh.of_class));
	mesh.uffd = mesh.memfd = mesh.pagemap = -1;
	mesh.free = 0;
}

const char *mesh_needs(int error)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return "userfaultfd needs CAP_SYS_PTRACE";
	case -EOPNOTSUPP:
	case -EINVAL:
		return "userfaultfd cannot move pages before Linux 6.8";
	case -ENOSYS:
		return "there is no userfaultfd";
	default:
		return "userfaultfd, memfd_create or locked memory";
	}
}

bool mesh_may_write(void)
{
	return pagemap_is_exclusive(mesh.pagemap, mesh.canary);
}

/* --- groups ------------------------------------------------------------------------------------------------- */

u32 mesh_group_create(unsigned cls, u8 colour, pfn_t pfn)
{
	u32 id = mesh.free;

	if (id)
		mesh.free = groups[id].next;
	else if (mesh.nr_groups < NR_GROUPS)
		id = mesh.nr_groups++;
	else
		return 0;
	groups[id] = (struct mesh_group){ .offset = mesh_frames_place(pfn, mesh_slab_size(cls)), .cls = (u8)cls, .colour = colour,
					  .next = mesh.of_class[cls] };
	mesh.of_class[cls] = id;
	return id;
}

u32 mesh_first_group(unsigned cls)
{
	return mesh.of_class[cls];
}

static void forget_group(u32 id)
{
	u32 *link = &mesh.of_class[groups[id].cls];

	while (*link != id)
		link = &groups[*link].next;
	*link = groups[id].next;
	mesh_frames_free(groups[id].offset, mesh_slab_size(groups[id].cls));
	groups[id].cls = 0;
	groups[id].next = mesh.free;
	mesh.free = id;
}

size_t mesh_group_shrink(u32 id)
{
	struct mesh_group *g = &groups[id];
	bool empty = smp_load_acquire(&g->nr_views) == 0;
	u64 gone = g->present & ~(empty ? 0 : occupied_pages(g->cls, &g->live));
	size_t bytes = 0;

	for (unsigned i = 0; i < MESH_PAGES_MAX && mesh_may_write(); i++) {
		if (!(gone >> i & 1) || memfd_punch(mesh.memfd, g->offset + i * os_page_size, os_page_size))
			continue;
		g->present &= (u16)~(1u << i);
		bytes += os_page_size;
	}
	if (empty && !g->present)
		forget_group(id);
	return bytes;
}

/* --- children that were made while pages were away ------------------------------------------------------------- */

struct batch {
	struct mesh_job *job;
	unsigned nr;
};

static char *scratch_of(const struct batch *b, const struct mesh_job *job)
{
	return mesh.scratch + (size_t)(job - b->job) * SLAB_BYTES_MAX;
}

/* What is away from us is missing there; where nothing is missing the kernel says so. */
static void fill_child(const struct batch *b, int child)
{
	for (unsigned i = 0; i < b->nr; i++) {
		const struct mesh_job *job = &b->job[i];
		char *addr = page_address(job->slab), *from = scratch_of(b, job);

		for (u64 away = job->moved; away; away &= away - 1) {
			size_t off = (size_t)__builtin_ctzll(away) * os_page_size;

			uffd_copy(child, addr + off, from + off, os_page_size);
		}
	}
	os_close(child);
	count_vm_event(VM_mesh_fork);
}

static void serve_forks(const struct batch *b)
{
	while (uffd_fork_pending(mesh.uffd)) {
		int child = uffd_next_child(mesh.uffd);

		if (child >= 0)
			fill_child(b, child);
	}
}

/* --- one slab -------------------------------------------------------------------------------------------------- */

static int move_away(const struct batch *b, struct mesh_job *job)
{
	char *addr = page_address(job->slab), *to = scratch_of(b, job);
	size_t size = mesh_slab_size(job->slab->cls), off = 0, unshared = SIZE_MAX;
	unsigned tries = 0;

	while (off < size) {
		ssize_t n = uffd_move(mesh.uffd, to + off, addr + off, size - off);

		if (n == -ENOENT) {
			off += os_page_size;		/* never touched, or gone home */
		} else if (n == -EAGAIN && tries++ < MOVE_TRIES) {
			serve_forks(b);
		} else if (n == -EBUSY && unshared != off && mesh_may_write()) {
			unshared = off;			/* marked as shared since a fork, until it is written */
			vm_populate(addr + off, os_page_size);
		} else if (n < 0) {
			return (int)n;
		} else {
			for (; n > 0; n -= (ssize_t)os_page_size, off += os_page_size)
				job->moved |= 1ull << off / os_page_size;
		}
	}
	return 0;
}

/*
 * A page that has come to be shared with a child cannot be moved again, but copied. Each is noted as it returns: to fill a
 * child from where it is no more would have us wait for ourselves, since what is missing in scratch is a fault of ours.
 */
static void move_back(const struct batch *b, struct mesh_job *job)
{
	char *addr = page_address(job->slab), *from = scratch_of(b, job);

	for (; job->moved; job->moved &= job->moved - 1) {
		size_t off = (size_t)__builtin_ctzll(job->moved) * os_page_size;
		int ret = (int)uffd_move(mesh.uffd, addr + off, from + off, os_page_size);

		while (ret < 0 && ret != -EEXIST && ret != -ENOENT) {
			serve_forks(b);
			ret = uffd_copy(mesh.uffd, addr + off, from + off, os_page_size);
		}
	}
	uffd_unregister(mesh.uffd, addr, mesh_slab_size(job->slab->cls));
}

/* One object into staging, piece by piece of a page: pages that were missing read as zeroes. */
static void stage_object(const char *from, const struct mesh_job *job, size_t start, size_t end)
{
	while (start < end) {
		size_t page = start / os_page_size, n = min(end, (page + 1) * os_page_size) - start;

		if (job->moved >> page & 1)
			memcpy(mesh.staging + start, from + start, n);
		else
			memset(mesh.staging + start, 0, n);
		start += n;
	}
}

static int write_frames(const struct batch *b, const struct mesh_job *job, u64 touched)
{
	struct mesh_group *g = &groups[job->group];
	size_t size = kmalloc_caches[g->cls].size;
	int ret = memfd_read(mesh.memfd, mesh.staging, mesh_slab_size(job->slab->cls), g->offset);

	if (ret)
		return ret;
	for_each_live(i, &job->live)
		stage_object(scratch_of(b, job), job, i * size, (i + 1) * size);
	while (touched && !ret) {
		unsigned from = (unsigned)__builtin_ctzll(touched), nr = (unsigned)__builtin_ctzll(~(touched >> from));
		size_t off = from * os_page_size;

		ret = memfd_write(mesh.memfd, mesh.staging + off, nr * os_page_size, g->offset + off);
		touched &= ~(((1ull << nr) - 1) << from);
	}
	return ret;
}

static void populate_view(char *addr, u64 touched)
{
	while (touched) {
		unsigned from = (unsigned)__builtin_ctzll(touched), nr = (unsigned)__builtin_ctzll(~(touched >> from));

		vm_populate_read(addr + from * os_page_size, nr * os_page_size);
		touched &= ~(((1ull << nr) - 1) << from);
	}
}

void mesh_enter(struct page *slab, u32 id)
{
	__atomic_add_fetch(&view_bytes, mesh_slab_size(slab->cls), __ATOMIC_RELAXED);
	set_slab_group(slab, id);
	slab->flags |= PG_meshed;		/* isolated: nobody else looks at its flags */
}

static void enter_view(struct mesh_job *job)
{
	struct mesh_group *g = &groups[job->group];

	occupancy_add(&g->live, &job->live);
	__atomic_add_fetch(&g->nr_views, 1, __ATOMIC_RELEASE);
	mesh_count_view(job->slab, g->offset, true);
	mesh_enter(job->slab, job->group);
}

static int mesh_one(const struct batch *b, struct mesh_job *job)
{
	struct mesh_group *g = &groups[job->group];
	u64 touched = occupied_pages(g->cls, &job->live);
	char *addr = page_address(job->slab);
	size_t size = mesh_slab_size(job->slab->cls);
	int ret = uffd_register(mesh.uffd, addr, size);

	if (ret)
		return ret;
	ret = move_away(b, job);
	if (!ret && !mesh_may_write())
		ret = -EBUSY;
	if (!ret) {
		job->gain = __builtin_popcountll(job->moved) - __builtin_popcountll(touched & ~(u64)g->present);
		g->present |= (u16)touched;
		ret = write_frames(b, job, touched);
	}
	if (!ret)
		ret = vm_map_file_over(addr, size, mesh.memfd, g->offset);
	if (ret) {
		move_back(b, job);
		return ret;
	}
	uffd_wake(mesh.uffd, addr, size);
	populate_view(addr, touched);
	enter_view(job);
	return 0;
}

void mesh_run_batch(struct mesh_job *job, unsigned nr)
{
	struct batch b = { job, nr };
	size_t size = nr * SLAB_BYTES_MAX;
	int ret = uffd_register(mesh.uffd, mesh.scratch, size);

	for (unsigned i = 0; i < nr; i++) {
		job[i].error = ret ? ret : mesh_one(&b, &job[i]);
		count_vm_event(job[i].error ? VM_mesh_refused : VM_mesh_slab);
	}
	if (ret)
		return;
	serve_forks(&b);
	uffd_unregister(mesh.uffd, mesh.scratch, size);
	serve_forks(&b);
	vm_dontneed(mesh.scratch, size);
}

/* --- a meshed slab's later life ------------------------------------------------------------------------------- */

u64 mesh_written_pages(struct page *slab)
{
	struct page_region region[MESH_PAGES_MAX];
	uintptr_t addr = (uintptr_t)page_address(slab), end;
	int nr = pagemap_private_copies(mesh.pagemap, (void *)addr, mesh_slab_size(slab->cls), region, MESH_PAGES_MAX, &end);
	u64 map = 0;

	for (int i = 0; i < nr; i++)
		for (u64 at = region[i].start; at < region[i].end; at += os_page_size)
			map |= 1ull << (at - addr) / os_page_size;
	return map;
}

bool mesh_discard(struct page *slab)
{
	u32 id = slab_group(slab);

	if (id != MESH_GROUP_KSM && vm_map_over(page_address(slab), mesh_slab_size(slab->cls)) != 0) {
		slab->bucket = SLAB_LOST;
		return false;
	}
	if (id != MESH_GROUP_KSM)	/* as its neighbours are */
		thp_advise_heap((uintptr_t)page_address(slab), (uintptr_t)page_address(slab) + mesh_slab_size(slab->cls));
	slab->flags &= (u16)~PG_meshed;
	__atomic_sub_fetch(&view_bytes, mesh_slab_size(slab->cls), __ATOMIC_RELAXED);
	if (id != MESH_GROUP_KSM) {
		mesh_count_view(slab, groups[id].offset, false);
		__atomic_sub_fetch(&groups[id].nr_views, 1, __ATOMIC_RELEASE);
	}
	count_vm_event(VM_mesh_discard);
	return true;
}
