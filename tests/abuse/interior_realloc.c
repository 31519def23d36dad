/* SPDX-License-Identifier: MIT */
/*
 * interior_realloc.c - realloc() of an address inside a block of 1 MiB.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(1 << 20)), *bad = launder(p + 65536);

	name_pointer(bad, p);
	free(launder(realloc(bad, 2 << 20)));
	return survived();
}
