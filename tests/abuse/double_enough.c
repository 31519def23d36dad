/* SPDX-License-Identifier: MIT */
/*
 * double_enough.c - free() twice; both copies reach the slab because enough other objects are freed.
 */
#include "abuse.h"

#define NR 40000

static void *other[NR];

int main(void)
{
	void *a = must(malloc(64));

	for (int i = 0; i < NR; i++)
		other[i] = must(malloc(64));
	name_pointer(a, a);
	for (int i = 0; i < NR; i++) {
		free(other[i]);
		if (i == NR / 3 || i == NR / 2)		/* the first thousands fill caches and stay there */
			free(launder(a));
	}
	return survived();
}
