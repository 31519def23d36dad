/* SPDX-License-Identifier: MIT */
/*
 * interior_large.c - free() of the second page of a block of 1 MiB.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(1 << 20)), *bad = launder(p + 4096);

	name_pointer(bad, p);
	free(bad);
	return survived();
}
