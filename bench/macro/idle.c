/* SPDX-License-Identifier: MIT */
/*
 * idle.c - does freed memory go home while a program sleeps?
 *
 * Purpose. Allocates and writes MIB (1,024) of blocks of 16 bytes to 64 KiB, as many of each power of two as of any
 * other, frees all of them in the order of their allocation, and sleeps. No call of the allocator happens after the last free.
 *
 * What is printed. `resident` after the sleep, in KiB: proportional set size and page tables of the whole process, but
 * for the table of blocks, which is unmapped before. `peak` before the first free. `below` is the time after the last
 * free at which it was seen below 32 MiB, looked at four times a second, or 999 if never.
 *
 * usage: idle [MIB [SECONDS [SEED]]]
 */
#include "resident.h"

#define POWERS 12u			/* 16 bytes to 64 KiB */
#define SMALL  (32l << 20)

static void **blocks;
static size_t nr_blocks, live, table;

static void fill(size_t target, uint64_t *state)
{
	size_t next = live;

	while (live < target) {
		uint32_t base = 16u << below(state, POWERS), size = base + below(state, base);

		blocks[nr_blocks] = malloc(size);
		if (!blocks[nr_blocks])
			exit(1);
		memset(blocks[nr_blocks++], (int)size, size);
		live += size;
		if (live >= next) {
			trace(live, nr_blocks * sizeof(*blocks));
			next += target / 16;
		}
	}
}

int main(int argc, char **argv)
{
	static const char usage[] = "idle [MIB [SECONDS [SEED]]]";
	size_t target = number(argc, argv, 1, 1024, usage) << 20;
	unsigned looks = 4 * (unsigned)number(argc, argv, 2, 10, usage);
	uint64_t state = number(argc, argv, 3, 1, usage);
	double start, fell = 999;
	long resident = 0;

	table = target / 16 * sizeof(*blocks);
	blocks = map_table(table);
	fill(target, &state);
	printf("peak %ld KiB\n", trace(live, nr_blocks * sizeof(*blocks)) / 1024);
	for (size_t i = 0; i < nr_blocks; i++)
		free(blocks[i]);
	munmap(blocks, table);
	start = seconds();
	for (unsigned i = 0; i <= looks; i++) {
		if (i)
			pause_ms(250);
		resident = trace(0, 0);
		if (resident < SMALL && fell == 999)
			fell = seconds() - start + 0.001;	/* a figure is above 0 */
	}
	printf("below %.3f s\nresident %ld KiB\n", fell, resident / 1024);
	return 0;
}
