/* SPDX-License-Identifier: MIT */
/*
 * invalid_global.c - free() of a static variable.
 */
#include "abuse.h"

static long global[16] __attribute__((aligned(16)));

int main(void)
{
	void *p = launder(&global[4]);

	name_pointer(p, p);
	free(p);
	return survived();
}
