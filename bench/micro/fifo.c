/* SPDX-License-Identifier: MIT */
/*
 * fifo.c - a batch of 10,000 blocks of 48 to 111 bytes, freed in the order in which they were allocated: every
 * cache of pointers overflows and refills. usage: fifo [BLOCKS [ROUNDS]]
 */
#include "bench.h"

int main(int argc, char **argv)
{
	size_t blocks = argument(argc, argv, 1, "number of blocks", 10000);
	size_t rounds = argument(argc, argv, 2, "number of rounds", 1000);
	void **block = must_malloc(blocks * sizeof(*block));
	uint64_t start;

	for (size_t i = 0; i < blocks; i++)
		block[i] = NULL;
	start = cpu_ns();
	for (size_t r = 0; r < rounds; r++) {
		for (size_t i = 0; i < blocks; i++) {
			block[i] = bench_malloc(48 + (i & 63));
			*(char *)block[i] = 1;
		}
		for (size_t i = 0; i < blocks; i++)
			bench_free(block[i]);
	}
	report("fifo", (double)(cpu_ns() - start) / (double)(blocks * rounds), "ns/pair");
	bench_free(block);
	return 0;
}
