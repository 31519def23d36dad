/* SPDX-License-Identifier: MIT */
/*
 * ratchet.c - does memory come back when the sizes change?
 *
 * Purpose. Fills the heap up to a number of MiB with objects of 32 to 512 bytes (uniform), frees 90 % of them at random and
 * sleeps; fills up again with objects of 260 to 900 bytes, frees 90 % of all at random, and sleeps. Where free memory of
 * one size cannot serve another, the process grows; where it does not go home, the process stays large.
 *
 * What is printed. `resident/live` at the end of each sleep: proportional set size and page tables over the bytes asked
 * for by live objects. The program's own tables are mapped, not allocated, and taken off by their size.
 *
 * usage: ratchet [MIB [SECONDS [SEED]]]
 */
#include "resident.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct object {
	void *p;
	size_t size;
};
static struct object *objects;
static size_t nr_objects, live;
static uint64_t state;

static uint32_t below(uint32_t n)	/* splitmix64 */
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

static void fill(size_t target, uint32_t from, uint32_t to)
{
	while (live < target) {
		struct object *o = &objects[nr_objects++];

		o->size = from + below(to - from + 1);
		o->p = malloc(o->size);
		if (o->p == NULL)
			exit(1);
		memset(o->p, (int)nr_objects, o->size);
		live += o->size;
	}
}

static void free_most(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < nr_objects; i++) {
		if (below(10) == 0) {
			objects[kept++] = objects[i];
			continue;
		}
		live -= objects[i].size;
		free(objects[i].p);
	}
	nr_objects = kept;
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? (size_t)atol(argv[1]) : 128, max = (mib << 20) / 32, table;
	unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 10;
	static const uint32_t sizes[2][2] = { { 32, 512 }, { 260, 900 } };

	state = argc > 3 ? (uint64_t)atoll(argv[3]) : 1;
	objects = mmap(NULL, max * sizeof(*objects), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (objects == MAP_FAILED)
		return 1;
	for (int phase = 0; phase < 2; phase++) {
		fill(mib << 20, sizes[phase][0], sizes[phase][1]);
		free_most();
		table = (nr_objects * sizeof(*objects) + 65535) & ~65535ul;
		madvise((char *)objects + table, max * sizeof(*objects) - table, MADV_DONTNEED);
		pause_ms(seconds * 1000);
		printf("ratchet-%d %.3f resident/live, live %.1f MiB\n", phase + 1,
		       ((double)resident_bytes() - (double)table) / (double)live, (double)live / (1 << 20));
		fflush(stdout);
	}
	return 0;
}
