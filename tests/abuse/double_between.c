/* SPDX-License-Identifier: MIT */
/*
 * double_between.c - free() twice with another object between, then everything goes back to the slabs.
 */
#include "abuse.h"

int main(void)
{
	void *a = must(malloc(64)), *b = must(malloc(64));

	name_pointer(a, a);
	free(a);
	free(b);
	free(launder(a));
	malloc_trim(0);
	return survived();
}
