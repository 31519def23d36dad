/* SPDX-License-Identifier: MIT */
/*
 * percpu.c - the areas of the CPUs.
 *
 * Purpose. One stride of address space per CPU, so that a CPU's variable is found by a shift and an add, and the same
 * offset means the same variable in every area. The address space of all areas is reserved with the window; memory
 * is spent page by page as it is touched.
 *
 * Invariants. Areas 0 .. nr_areas-1 are online: their slots hold valid tops and their locks are valid. nr_areas only
 * grows. A CPU whose area is not there reads slots of zero and takes the slow path, and so it does while they are filled
 * in. The last PERCPU_ZERO bytes of an area are never written.
 *
 * Locks. hotplug.
 *
 * Kernel counterpart. mm/percpu.c with one chunk; CPU hotplug's prepare step. The dynamic part is cut from one end and
 * recycled by size, as there are few and long-lived users.
 */
#include "page/percpu.h"

#include "base/align.h"
#include "os/vm.h"
#include "page/huge_memory.h"
#include "page/memblock.h"
#include <errno.h>
#include <string.h>

#define PERCPU_SIZE_CLASSES 17		/* 8 bytes to 512 KiB, powers of two */

u32 max_percpu_areas;
int (*percpu_prepare)(unsigned cpu);

static struct mutex hotplug_lock;
static size_t dynamic_top = PERCPU_DYNAMIC;
static size_t dynamic_free[PERCPU_SIZE_CLASSES];	/* offset of the first free block; it holds the next, in area 0 */

static __init int percpu_online_one(unsigned cpu)
{
	int ret = vm_protect(percpu_at(cpu, 0), PERCPU_SIZE, PROT_READ | PROT_WRITE);

	if (ret)
		return ret;
	if (cpu != 0)	/* two areas are as large as a huge page, of which khugepaged needs but one page to make one */
		thp_advise_metadata();
	pcpu_of(cpu)->cpu = cpu;
	ret = percpu_prepare ? percpu_prepare(cpu) : 0;
	if (ret)
		return ret;
	percpu_enable();
	smp_store_release(&percpu_hot.nr_areas, cpu + 1);
	return 0;
}

__init int percpu_online(unsigned cpu)
{
	int ret = 0;

	if (cpu >= max_percpu_areas)
		return -ERANGE;
	mutex_lock(&hotplug_lock, LOCK_hotplug);
	while (!ret && percpu_hot.nr_areas <= cpu)
		ret = percpu_online_one(percpu_hot.nr_areas);
	mutex_unlock(&hotplug_lock, LOCK_hotplug);
	return ret;
}

int for_each_online_area(int (*fn)(unsigned cpu, void *arg), void *arg)
{
	int ret = 0;

	mutex_lock(&hotplug_lock, LOCK_hotplug);
	for (u32 cpu = 0; !ret && cpu < percpu_hot.nr_areas; cpu++)
		ret = fn(cpu, arg);
	mutex_unlock(&hotplug_lock, LOCK_hotplug);
	return ret;
}

static unsigned percpu_size_class(size_t size)
{
	return size <= 8 ? 0 : ilog2(size - 1) - 2;
}

size_t alloc_percpu(size_t size, size_t align)
{
	unsigned c = percpu_size_class(max(size, align));
	size_t block = (size_t)8 << c, off = 0;

	if (c >= PERCPU_SIZE_CLASSES || align > 64)
		return 0;
	mutex_lock(&hotplug_lock, LOCK_hotplug);
	if (dynamic_free[c]) {
		off = dynamic_free[c];
		dynamic_free[c] = *(size_t *)percpu_at(0, off);
	} else if (ALIGN(dynamic_top, min(block, 64UL)) + block <= PERCPU_SIZE - PERCPU_ZERO) {
		off = ALIGN(dynamic_top, min(block, 64UL));
		dynamic_top = off + block;
	}
	for (u32 cpu = 0; off && cpu < percpu_hot.nr_areas; cpu++)
		memset(percpu_at(cpu, off), 0, block);
	mutex_unlock(&hotplug_lock, LOCK_hotplug);
	return off;
}

void free_percpu(size_t offset, size_t size)
{
	unsigned c = percpu_size_class(size);

	mutex_lock(&hotplug_lock, LOCK_hotplug);
	*(size_t *)percpu_at(0, offset) = dynamic_free[c];
	dynamic_free[c] = offset;
	mutex_unlock(&hotplug_lock, LOCK_hotplug);
}
