/* SPDX-License-Identifier: MIT */
/*
 * double_vmalloc.c - free() twice of a block of 64 MiB.
 */
#include "abuse.h"

int main(void)
{
	void *p = must(malloc(64 << 20));

	name_pointer(p, p);
	free(p);
	free(launder(p));
	return survived();
}
