/* SPDX-License-Identifier: MIT */
/*
 * double_large.c - free() twice of a block of 1 MiB.
 */
#include "abuse.h"

int main(void)
{
	void *p = must(malloc(1 << 20));

	name_pointer(p, p);
	free(p);
	free(launder(p));
	return survived();
}
