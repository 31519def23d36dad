/* SPDX-License-Identifier: MIT */
/*
 * invalid_stack.c - free() of a local variable.
 */
#include "abuse.h"

int main(void)
{
	long local[8] __attribute__((aligned(16))) = {0};
	void *p = launder(&local[2]);

	name_pointer(p, p);
	free(p);
	return survived();
}
