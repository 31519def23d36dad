/* SPDX-License-Identifier: MIT */
/*
 * foreign_sbrk.c - free() of memory that the program got from sbrk() itself.
 */
#include "abuse.h"

int main(void)
{
	char *p = sbrk(8192);

	free(must(malloc(100)));
	p = launder(p + (-(uintptr_t)p & 15) + 64);
	name_pointer(p, p);
	free(p);
	return survived();
}
