/* SPDX-License-Identifier: MIT */
/*
 * double_realloc.c - free() of a block that realloc() moved away.
 */
#include "abuse.h"

int main(void)
{
	void *p = must(malloc(1 << 20)), *q = must(malloc(1 << 20)), *moved = must(realloc(p, 16 << 20));

	if (moved == launder(p))
		return 4;
	name_pointer(p, p);
	free(launder(p));
	free(q);
	return survived();
}
