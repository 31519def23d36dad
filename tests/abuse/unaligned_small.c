/* SPDX-License-Identifier: MIT */
/*
 * unaligned_small.c - free() of an address in an object that is not even 16-byte aligned.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(64)), *bad = launder(p + 8);

	name_pointer(bad, p);
	free(bad);
	malloc_trim(0);
	return survived();
}
