/* SPDX-License-Identifier: MIT */
/*
 * random.c - a heap in equilibrium: a random one of SLOTS blocks is freed and replaced by one of random size
 * between MIN and MAX bytes. Objects die in no order, so caches and slabs are always partly full.
 * usage: random [SLOTS MIN MAX [PAIRS]]
 *
 * Every replacement writes the first byte of the new block, and reads the first byte of the old one.
 */
#include "bench.h"

int main(int argc, char **argv)
{
	uint32_t slots = (uint32_t)argument(argc, argv, 1, "number of slots", 4096);
	uint32_t min = (uint32_t)argument(argc, argv, 2, "smallest size", 8);
	uint32_t max = (uint32_t)argument(argc, argv, 3, "largest size", 512);
	size_t pairs = argument(argc, argv, 4, "number of pairs", 10000000);
	char **slot = must_malloc(slots * sizeof(*slot));
	uint64_t state = 1, start;
	unsigned check = 0;

	if (max < min) {
		fprintf(stderr, "%s: the largest size is below the smallest\n", argv[0]);
		return 2;
	}
	for (uint32_t i = 0; i < slots; i++)
		*(slot[i] = must_malloc(min + random_below(&state, max - min + 1))) = (char)i;
	start = cpu_ns();
	for (size_t n = 0; n < pairs; n++) {
		char **s = slot + random_below(&state, slots);

		check += (unsigned char)**s;
		bench_free(*s);
		*s = bench_malloc(min + random_below(&state, max - min + 1));
		**s = (char)n;
	}
	report("random", (double)(cpu_ns() - start) / (double)pairs, "ns/pair");
	for (uint32_t i = 0; i < slots; i++)
		bench_free(slot[i]);
	bench_free(slot);
	return check == 0xffffffff;
}
