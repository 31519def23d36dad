// SPDX-License-Identifier: MIT
// delete.cc - what it is worth to say the size: the blocks of lifo.c by operator new, given back by delete(p) and by
// delete(p, size). usage: delete [PAIRS [REPEATS]]; the best repeat of each counts, and the two take turns.
//
// The operators are called as functions, through pointers that the compiler cannot see through: a new-expression it
// may drop. The size is known at run time only, as in a container's deallocate().
#include "bench.h"
#include <new>

static void *(*volatile bench_new)(std::size_t) = operator new;
static void (*volatile bench_delete)(void *) = operator delete;
static void (*volatile bench_delete_sized)(void *, std::size_t) = operator delete;

static inline void give_back(void *block, std::size_t size, bool sized)
{
	if (sized)
		bench_delete_sized(block, size);
	else
		bench_delete(block);
}

template <bool sized> static double lifo(long pairs)
{
	uint64_t start = cpu_ns();

	for (long i = 0; i < pairs / 4; i++) {
		std::size_t size = 16 + (i & 127);
		void *a = bench_new(size);
		void *b = bench_new(40);

		*static_cast<char *>(a) = 1;
		*static_cast<char *>(b) = 1;
		void *c = bench_new(64);
		void *d = bench_new(200);

		give_back(b, 40, sized);
		give_back(a, size, sized);
		give_back(d, 200, sized);
		give_back(c, 64, sized);
	}
	return static_cast<double>(cpu_ns() - start) / static_cast<double>(pairs);
}

int main(int argc, char **argv)
{
	long pairs = static_cast<long>(argument(argc, argv, 1, "number of pairs", 10000000));
	unsigned long repeats = argument(argc, argv, 2, "number of repeats", 3);
	double plain = 1e9, sized = 1e9;

	while (repeats--) {
		double t = lifo<false>(pairs);

		plain = t < plain ? t : plain;
		t = lifo<true>(pairs);
		sized = t < sized ? t : sized;
	}
	report("delete", plain, "ns/pair");
	report("delete-sized", sized, "ns/pair");
	return 0;
}
