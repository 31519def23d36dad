/* SPDX-License-Identifier: MIT */
/*
 * interior_medium.c - free() of the second page of an object of 100 KiB.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(100 << 10)), *bad = launder(p + 4096);

	name_pointer(bad, p);
	free(bad);
	malloc_trim(0);
	return survived();
}
