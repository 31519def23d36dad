/* SPDX-License-Identifier: MIT */
/*
 * interior_small.c - free() of an address inside a small object; seen when the object goes back to its slab.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(64)), *bad = launder(p + 16);

	name_pointer(bad, p);
	free(bad);
	malloc_trim(0);
	return survived();
}
