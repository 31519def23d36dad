/* SPDX-License-Identifier: MIT */
/*
 * ratchet.c - does memory come back when the sizes change?
 *
 * Purpose. Fills the heap up to a number of MiB with objects of 32 to 512 bytes (uniform), frees 90 % of them at random and
 * sleeps; fills up again with objects of 260 to 900 bytes, frees 90 % of all at random, and sleeps. Where free memory of
 * one size cannot serve another, the process grows; where it does not go home, the process stays large.
 *
 * What is printed. `resident/live` at the end of each sleep: proportional set size and page tables over the bytes asked
 * for by live objects; and on the way both in MiB over the seconds. The program's own table is mapped, not allocated, and taken
 * off by its size.
 *
 * usage: ratchet [MIB [SECONDS [SEED]]]
 */
#include "resident.h"

struct object {
	void *p;
	size_t size;
};
static struct object *objects;
static size_t nr_objects, live;
static uint64_t state;

/* The pages of the table that are in use. */
static size_t table_size(void)
{
	return (nr_objects * sizeof(*objects) + 4095) & ~4095ul;
}

static void fill(size_t target, uint32_t from, uint32_t to)
{
	size_t next = live;

	while (live < target) {
		struct object *o = &objects[nr_objects++];

		o->size = from + below(&state, to - from + 1);
		o->p = malloc(o->size);
		if (o->p == NULL)
			exit(1);
		memset(o->p, (int)nr_objects, o->size);
		live += o->size;
		if (live >= next) {
			trace(live, table_size());
			next += target / 16;
		}
	}
}

static void free_most(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < nr_objects; i++) {
		if (below(&state, 10) == 0) {
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
	static const char usage[] = "ratchet [MIB [SECONDS [SEED]]]";
	size_t mib = number(argc, argv, 1, 128, usage), max = (mib << 20) / 32;
	unsigned wait_seconds = (unsigned)number(argc, argv, 2, 10, usage);
	static const uint32_t sizes[2][2] = { { 32, 512 }, { 260, 900 } };

	state = number(argc, argv, 3, 1, usage);
	objects = map_table(max * sizeof(*objects));
	for (int phase = 0; phase < 2; phase++) {
		double resident;

		fill(mib << 20, sizes[phase][0], sizes[phase][1]);
		free_most();
		madvise((char *)objects + table_size(), max * sizeof(*objects) - table_size(), MADV_DONTNEED);
		resident = (double)idle(wait_seconds, live, table_size());
		printf("ratchet-%d %.3f resident/live\n", phase + 1, resident / (double)live);
		fflush(stdout);
	}
	return 0;
}
