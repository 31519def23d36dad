/* SPDX-License-Identifier: MIT */
/*
 * grow.c - a vector that doubles until it has its size: does the allocator move its pages, or copy their bytes?
 * usage: grow [MIB [PERCENT]]; from 4 KiB on, by PERCENT (100) of its size a step.
 *
 * After each step the new pages are written, one word each, which costs a page fault each under every allocator
 * (huge pages apart); at the end every word is checked. Three figures:
 *   grow          CPU time of it all
 *   grow-realloc  of the calls of realloc alone: what moving or copying costs, faults of the copy included
 *   faults        a page of the final size; copied pages are faulted in a second time at their new place
 */
#include "bench.h"
#include <sys/resource.h>

#define PAGE 4096u

static long minor_faults(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_minflt;
}

static size_t *page_word(char *vector, size_t page)
{
	return (size_t *)(void *)(vector + page * PAGE);
}

int main(int argc, char **argv)
{
	size_t pages = argument(argc, argv, 1, "number of MiB", 1024) * (1048576 / PAGE);
	size_t percent = argument(argc, argv, 2, "growth in percent", 100);
	uint64_t start = cpu_ns(), moving = 0;
	long faults = minor_faults();
	size_t have = 0, wrong = 0;
	char *vector = NULL;

	while (have < pages) {
		size_t want = have ? have + (have * percent + 99) / 100 : 1;
		uint64_t t = cpu_ns();

		want = want < pages ? want : pages;
		vector = bench_realloc(vector, want * PAGE);
		moving += cpu_ns() - t;
		if (!vector) {
			fprintf(stderr, "%s: out of memory\n", argv[0]);
			return 1;
		}
		for (; have < want; have++)
			*page_word(vector, have) = have;
	}
	report("grow", (double)(cpu_ns() - start) / 1e6, "ms");
	report("grow-realloc", (double)moving / 1e6, "ms");
	report("faults", (double)(minor_faults() - faults) / (double)pages, "a page");
	for (size_t page = 0; page < pages; page++)
		wrong += *page_word(vector, page) != page;
	bench_free(vector);
	if (wrong) {
		fprintf(stderr, "grow: %zu pages are not what was written\n", wrong);
		return 1;
	}
	return 0;
}
