/* SPDX-License-Identifier: MIT */
/*
 * unaligned_global.c - free() of a static variable's odd address.
 */
#include "abuse.h"

static char global[16] __attribute__((aligned(16)));

int main(void)
{
	void *p = launder(&global[3]);

	name_pointer(p, p);
	free(p);
	return survived();
}
