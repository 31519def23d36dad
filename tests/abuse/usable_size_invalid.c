/* SPDX-License-Identifier: MIT */
/*
 * usable_size_invalid.c - malloc_usable_size() of a local variable: 0, it is no block.
 */
#include "abuse.h"

int main(void)
{
	long local[8] __attribute__((aligned(16))) = {0};
	void *p = launder(&local[2]);

	name_pointer(p, p);
	dprintf(STDOUT_FILENO, "size %zu\n", malloc_usable_size(p));
	return survived();
}
