/* SPDX-License-Identifier: MIT */
/*
 * icount.c - the program that icount.sh measures: per size class, calls of malloc and free for callgrind to count.
 *
 * Purpose. valgrind has no rseq, so libkmm would run its lock fallback here. But one thread on one CPU is never
 * preempted inside a critical section by anybody that matters, so a struct rseq that no kernel knows does as well: this
 * program has one, and tells libkmm of it by the two names that libkmm asks the dynamic linker for, __rseq_offset and
 * __rseq_size. The program's definitions come first in the search. The library under test is the real one, unchanged,
 * and its self-test must be passed: the program stays on one CPU and puts that CPU's number into the area. Both
 * before any constructor; a libkmm that boots earlier finds size 0 and takes the lock mode, which icount.sh notices.
 *
 * Phases. Each ends with a dump of the counts, named "PHASE SIZE CALLS":
 *   pair   malloc and free in turn on a warm sheaf: the fast path and nothing else
 *   fill   many blocks in a row: refills, amortised
 *   drain  the same blocks freed in order: flushes, amortised
 * Only instructions inside malloc and free are collected (--toggle-collect), so this program's own are not.
 *
 * The size classes are found by asking malloc_usable_size(): nothing of libkmm's insides is known here.
 */
#include <malloc.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define NO_CALLGRIND
#endif

#define LARGEST	     (256u << 10)	/* of the size classes */
#define PAIRS	     200u
#define FILL_BLOCKS  10000u
#define FILL_BYTES   (64u << 20)	/* of large sizes fewer blocks */

/* The kernel's layout. */
static __thread struct {
	uint32_t cpu_id_start, cpu_id;
	uint64_t rseq_cs;
	uint32_t flags, node_id, mm_cid, unused;
} __attribute__((aligned(32))) own_rseq;

ptrdiff_t __rseq_offset;
unsigned int __rseq_size;

/* The second CPU that it may run on, or the only one: libkmm has areas up to that CPU, and looks at all it has. */
static int cpu_to_run_on(void)
{
	cpu_set_t allowed;
	int cpu = -1;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return -1;
	for (int i = 0, nr = 0; i < CPU_SETSIZE && nr < 2; i++) {
		if (CPU_ISSET(i, &allowed)) {
			cpu = i;
			nr++;
		}
	}
	return cpu;
}

static void settle(void)
{
	int cpu = cpu_to_run_on();
	cpu_set_t one;

	if (cpu < 0)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) != 0)
		return;
	own_rseq.cpu_id_start = own_rseq.cpu_id = (uint32_t)cpu;
	__rseq_offset = (char *)&own_rseq - (char *)__builtin_thread_pointer();
	__rseq_size = sizeof(own_rseq);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_constructors)(void) = settle;

#ifdef NO_CALLGRIND
int main(void)
{
	puts("built without valgrind/callgrind.h");
	return 77;
}
#else

static void *blocks[FILL_BLOCKS];

static void *allocate(size_t size)
{
	void *p = malloc(size);

	if (!p)
		abort();
	return p;
}

static void dump(const char *phase, size_t size, unsigned calls)
{
	char name[64];

	snprintf(name, sizeof(name), "%s %zu %u", phase, size, calls);
	CALLGRIND_DUMP_STATS_AT(name);
}

static void count_pairs(size_t size)
{
	free(allocate(size));
	CALLGRIND_ZERO_STATS;
	for (unsigned i = 0; i < PAIRS; i++)
		free(allocate(size));
	dump("pair", size, PAIRS);
}

static unsigned blocks_of(size_t size)
{
	return FILL_BYTES / size < FILL_BLOCKS ? (unsigned)(FILL_BYTES / size) : FILL_BLOCKS;
}

static void count_fill_and_drain(size_t size)
{
	unsigned nr = blocks_of(size);

	CALLGRIND_ZERO_STATS;
	for (unsigned i = 0; i < nr; i++)
		blocks[i] = allocate(size);
	dump("fill", size, nr);
	CALLGRIND_ZERO_STATS;
	for (unsigned i = 0; i < nr; i++)
		free(blocks[i]);
	dump("drain", size, nr);
}

/* The size of the class that serves size, when so much is wanted of it that it does not share a larger one's memory. */
static size_t class_size(size_t size)
{
	unsigned nr = blocks_of(size);
	size_t usable;

	for (unsigned i = 0; i < nr; i++)
		blocks[i] = allocate(size);
	usable = malloc_usable_size(blocks[nr - 1]);
	for (unsigned i = 0; i < nr; i++)
		free(blocks[i]);
	if (usable < size)
		abort();
	return usable;
}

int main(void)
{
	if (!RUNNING_ON_VALGRIND) {
		fputs("the struct rseq of this program is known to no kernel: it is for valgrind\n", stderr);
		return 2;
	}
	for (size_t size = class_size(1); size <= LARGEST; size = class_size(size + 1)) {
		count_pairs(size);
		count_fill_and_drain(size);
	}
	return 0;
}
#endif
