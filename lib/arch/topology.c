/* SPDX-License-Identifier: MIT */
/*
 * topology.c - which CPUs share a core and a last-level cache, from hwloc.
 *
 * Purpose
 *	Sheaves and slabs that one CPU has too many of go to a neighbour that is near: the other threads of its core
 *	first, then its last-level cache. hwloc knows every machine; it also takes milliseconds and pulls in a dozen
 *	libraries, so kmmd loads it when the program is large enough.
 *
 * Objects
 *	struct topology: three tables by CPU number, and a ring through the CPUs of each core:
 *
 *	  cpu      0  1  2  3     (two cores of two threads, numbered as many machines do)
 *	  core     0  1  0  1
 *	  ring     2  3  0  1
 *	  llc      0  0  0  0
 *
 * Invariants
 *	The tables that `topology` points to never change. CPUs that hwloc does not show (offline, or numbers beyond
 *	TOPOLOGY_MAX_CPUS) are cores of their own in domain 0. Core numbers are below TOPOLOGY_MAX_CPUS and are not
 *	shared between a known core and an unknown CPU.
 *
 * Locks
 *	None for readers: one load of the pointer. Loads are serialised by the caller (kmmd lock). A second load, which
 *	only tests do, builds in the other of two static tables.
 *
 * Kernel counterpart and what differs
 *	drivers/base/arch_topology.c. A cache that only one core uses is no domain to share anything in; then NUMA
 *	nodes or packages are.
 */
#include "arch/topology.h"

#include "base/compiler.h"
#include <dlfcn.h>
#include <errno.h>
#define NO_CORE 0xffffu
#define MAX_LLC 128u

struct topology {
	u16 core[TOPOLOGY_MAX_CPUS];
	u16 ring[TOPOLOGY_MAX_CPUS];	/* next CPU of the same core, at last the first again */
	u8 llc[TOPOLOGY_MAX_CPUS];
};

static const struct topology *topology;	/* NULL before hwloc */

__resident u32 topology_llc(unsigned cpu)
{
	const struct topology *t = smp_load_acquire(&topology);

	return t != NULL && cpu < TOPOLOGY_MAX_CPUS ? t->llc[cpu] : 0;
}

__resident u32 topology_core(unsigned cpu)
{
	const struct topology *t = smp_load_acquire(&topology);

	return t != NULL && cpu < TOPOLOGY_MAX_CPUS ? t->core[cpu] : cpu;
}

__resident u32 topology_siblings(unsigned cpu, u32 *sib, u32 max)
{
	const struct topology *t = smp_load_acquire(&topology);
	u32 nr = 0, c;

	if (t == NULL || cpu >= TOPOLOGY_MAX_CPUS)
		return 0;
	for (c = t->ring[cpu]; c != cpu && nr < max; c = t->ring[c])
		sib[nr++] = c;
	return nr;
}

bool topology_loaded(void)
{
	return smp_load_acquire(&topology) != NULL;
}

#ifdef WITHOUT_HWLOC	/* configure --without-hwloc */
int topology_load(const char *synthetic)
{
	(void)synthetic;
	return -ENOSYS;
}
#else
/* --- hwloc -------------------------------------------------------------------------------------------- */
#include <hwloc.h>

static struct topology tables[2];

/* The functions that we use, by their own names. hwloc's inline helpers call some of them as well. */
#define HWLOC_FUNCTIONS(F)                                                                                          \
	F(get_api_version) F(topology_init) F(topology_destroy) F(topology_load) F(topology_set_flags)              \
	F(topology_set_synthetic) F(topology_set_components) F(get_type_depth) F(get_nbobjs_by_depth)               \
	F(get_obj_by_depth) F(bitmap_next)

static struct {
	bool open;
#define F(name) __typeof__(hwloc_##name) *name;
	HWLOC_FUNCTIONS(F)
#undef F
} hw;

static const char *const sonames[] = { "libhwloc.so.15", "libhwloc.so" };

static int open_hwloc(void)
{
	void *lib = NULL, *sym;

	if (hw.open)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(sonames) && lib == NULL; i++)
		lib = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (lib == NULL)
		return -ENOENT;
#define F(name)                                                                                                     \
	sym = dlsym(lib, "hwloc_" #name);                                                                           \
	if (sym == NULL)                                                                                            \
		return -ENOSYS;                                                                                     \
	__builtin_memcpy(&hw.name, &sym, sizeof(sym));
	HWLOC_FUNCTIONS(F)
#undef F
	if (hw.get_api_version() >> 16 != HWLOC_API_VERSION >> 16)
		return -ENOSYS;
	hw.open = true;
	return 0;
}

/* --- from hwloc's tree to our tables ------------------------------------------------------------------ */

#define for_each_cpu_of(cpu, obj)                                                                                   \
	for (int cpu = hw.bitmap_next((obj)->cpuset, -1); cpu >= 0 && cpu < TOPOLOGY_MAX_CPUS;                      \
	     cpu = hw.bitmap_next((obj)->cpuset, cpu))

/* Number of objects of the type, 0 if there are none or at several depths; *depth is where. */
static unsigned nr_of_type(hwloc_topology_t topo, hwloc_obj_type_t type, int *depth)
{
	*depth = hw.get_type_depth(topo, type);
	return *depth == HWLOC_TYPE_DEPTH_UNKNOWN || *depth == HWLOC_TYPE_DEPTH_MULTIPLE
		       ? 0
		       : hw.get_nbobjs_by_depth(topo, *depth);
}

/* The largest cache that cores share, else nodes or packages, of which there are more. See the theory statement. */
static unsigned find_domains(hwloc_topology_t topo, unsigned nr_cores, int *depth)
{
	static const hwloc_obj_type_t caches[] = { HWLOC_OBJ_L5CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE,
						   HWLOC_OBJ_L2CACHE };
	unsigned nr, nr_packages;
	int package_depth;

	for (unsigned i = 0; i < ARRAY_SIZE(caches); i++) {
		nr = nr_of_type(topo, caches[i], depth);
		if (nr != 0 && (nr < nr_cores || nr_cores <= 1))
			return nr;
	}
	nr = nr_of_type(topo, HWLOC_OBJ_NUMANODE, depth);
	nr_packages = nr_of_type(topo, HWLOC_OBJ_PACKAGE, &package_depth);
	if (nr_packages <= nr)
		return nr;
	*depth = package_depth;
	return nr_packages;
}

static void fill_domains(struct topology *t, hwloc_topology_t topo, unsigned nr_cores)
{
	int depth;
	unsigned nr = find_domains(topo, nr_cores, &depth);

	for (unsigned i = 0; i < nr; i++) {
		hwloc_obj_t obj = hw.get_obj_by_depth(topo, depth, i);
		unsigned llc = nr <= MAX_LLC ? i : (unsigned)((u64)i * MAX_LLC / nr);

		for_each_cpu_of(cpu, obj)
			t->llc[cpu] = (u8)llc;
	}
}

static void fill_core(struct topology *t, hwloc_obj_t obj, u32 core)
{
	int first = -1, prev = -1;

	for_each_cpu_of(cpu, obj) {
		t->core[cpu] = (u16)core;
		if (first < 0)
			first = cpu;
		else
			t->ring[prev] = (u16)cpu;
		prev = cpu;
	}
	if (first >= 0)
		t->ring[prev] = (u16)first;
}

/* Returns how many cores; machines on which hwloc sees none have one for each PU. */
static unsigned fill_cores(struct topology *t, hwloc_topology_t topo)
{
	int depth;
	unsigned nr = nr_of_type(topo, HWLOC_OBJ_CORE, &depth);
	u32 next = 0;

	if (nr == 0)
		nr = nr_of_type(topo, HWLOC_OBJ_PU, &depth);
	for (unsigned i = 0; i < nr; i++) {
		hwloc_obj_t obj = hw.get_obj_by_depth(topo, depth, i);

		int first = hw.bitmap_next(obj->cpuset, -1);

		if (first >= 0 && first < TOPOLOGY_MAX_CPUS)
			fill_core(t, obj, next++);
	}
	for (unsigned cpu = 0; cpu < TOPOLOGY_MAX_CPUS; cpu++)
		if (t->core[cpu] == NO_CORE)
			t->core[cpu] = (u16)next++;
	return nr;
}

static void fill_tables(struct topology *t, hwloc_topology_t topo)
{
	for (unsigned cpu = 0; cpu < TOPOLOGY_MAX_CPUS; cpu++) {
		t->core[cpu] = NO_CORE;
		t->ring[cpu] = (u16)cpu;
		t->llc[cpu] = 0;
	}
	fill_domains(t, topo, fill_cores(t, topo));
}

/*
 * Discovery without the x86 back end: it would bind this thread to each CPU in turn, and the kernel's files say
 * the same. CPUs that we may not use now are read as well, since affinity can change.
 */
static int discover(hwloc_topology_t topo, const char *synthetic)
{
	if (synthetic != NULL) {
		if (hw.topology_set_synthetic(topo, synthetic) != 0)
			return -EINVAL;
	} else {
		hw.topology_set_components(topo, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
	}
	hw.topology_set_flags(topo, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	return hw.topology_load(topo) == 0 ? 0 : -EIO;
}

int topology_load(const char *synthetic)
{
	struct topology *t = topology == &tables[0] ? &tables[1] : &tables[0];
	hwloc_topology_t topo;
	int ret = open_hwloc();

	if (ret != 0)
		return ret;
	if (hw.topology_init(&topo) != 0)
		return -ENOMEM;
	ret = discover(topo, synthetic);
	if (ret == 0) {
		fill_tables(t, topo);
		smp_store_release(&topology, t);
	}
	hw.topology_destroy(topo);
	return ret;
}
#endif
