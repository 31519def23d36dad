/* SPDX-License-Identifier: MIT */
/*
 * foreign_libc_many.c - free() of many blocks of libc's own malloc: they come back with KMM_FOREIGN_FREE=next only.
 */
#include "abuse.h"

void *__libc_malloc(size_t size);

/* Pages of 4 KiB of address space. */
static long pages(void)
{
	long nr = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%ld", &nr) != 1)
		exit(3);
	fclose(f);
	return nr * (sysconf(_SC_PAGESIZE) >> 12);
}

int main(void)
{
	long before = pages();

	for (int i = 0; i < 200; i++) {
		char *big = must(__libc_malloc(1 << 20)), *small = must(__libc_malloc(100));

		memset(big, 1, 1 << 20);
		if (i == 0)
			name_pointer(big, big);
		free(big);
		free(small);
		small = must(malloc(100));
		free(small);
	}
	dprintf(STDOUT_FILENO, "libc kept %s\n", pages() - before > 150l << 8 ? "all" : "little");
	return survived();
}
