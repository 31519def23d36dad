/* SPDX-License-Identifier: MIT */
/*
 * realloc_invalid.c - realloc() of a local variable.
 */
#include "abuse.h"

int main(void)
{
	long local[8] __attribute__((aligned(16))) = {0};
	void *p = launder(&local[2]);

	name_pointer(p, p);
	free(launder(realloc(p, 1000)));
	return survived();
}
