/* SPDX-License-Identifier: MIT */
/*
 * lifo.c - the fast path itself: four small blocks allocated and freed again at once, most of them last in, first
 * out. What a function's temporaries cost. usage: lifo [PAIRS [REPEATS]]; the best repeat counts.
 */
#include "bench.h"

static double lifo(long pairs)
{
	uint64_t start = cpu_ns();

	for (long i = 0; i < pairs / 4; i++) {
		void *a = bench_malloc(16 + (i & 127));
		void *b = bench_malloc(40);

		*(char *)a = 1;
		*(char *)b = 1;
		void *c = bench_malloc(64);
		void *d = bench_malloc(200);

		bench_free(b);
		bench_free(a);
		bench_free(d);
		bench_free(c);
	}
	return (double)(cpu_ns() - start) / (double)pairs;
}

int main(int argc, char **argv)
{
	long pairs = (long)argument(argc, argv, 1, "number of pairs", 20000000);
	long repeats = (long)argument(argc, argv, 2, "number of repeats", 3);
	double best = 1e9;

	while (repeats--) {
		double t = lifo(pairs);

		best = t < best ? t : best;
	}
	report("lifo", best, "ns/pair");
	return 0;
}
