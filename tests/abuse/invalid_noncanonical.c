/* SPDX-License-Identifier: MIT */
/*
 * invalid_noncanonical.c - free() of a number that can be no address on any machine.
 */
#include "abuse.h"

int main(void)
{
	void *p = launder((void *)0x6b6b6b6b6b6b6b60);

	free(malloc(1));
	name_pointer(p, p);
	free(p);
	return survived();
}
