/* SPDX-License-Identifier: MIT */
/*
 * double_trimmed.c - free() again after the object went back to its slab, which lives on.
 */
#include "abuse.h"

int main(void)
{
	void *a = must(malloc(64)), *neighbours[200];

	for (int i = 0; i < 200; i++)
		neighbours[i] = must(malloc(64));
	name_pointer(a, a);
	free(a);
	malloc_trim(0);
	free(launder(a));
	malloc_trim(0);
	free(neighbours[0]);
	return survived();
}
