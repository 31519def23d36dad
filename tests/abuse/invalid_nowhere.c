/* SPDX-License-Identifier: MIT */
/*
 * invalid_nowhere.c - free() of an address where nothing is.
 */
#include "abuse.h"

int main(void)
{
	void *p = launder((void *)0x123456789ab0);

	free(malloc(1));
	name_pointer(p, p);
	free(p);
	return survived();
}
