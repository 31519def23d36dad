/* SPDX-License-Identifier: MIT */
/*
 * invalid_first_call.c - free() of a bad pointer as the first call of all.
 */
#include "abuse.h"

int main(void)
{
	void *p = launder((char *)launder(name_pointer) + 32);

	name_pointer(p, p);
	free(p);
	return survived();
}
