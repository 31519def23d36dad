/* SPDX-License-Identifier: MIT */
/*
 * double_memalign.c - free() twice of an aligned block.
 */
#include "abuse.h"

int main(void)
{
	void *p = must(memalign(65536, 1000));

	name_pointer(p, p);
	free(p);
	free(launder(p));
	malloc_trim(0);
	return survived();
}
