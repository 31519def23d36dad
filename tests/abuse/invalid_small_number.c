/* SPDX-License-Identifier: MIT */
/*
 * invalid_small_number.c - free() of a small number, as a wrong cast gives it.
 */
#include "abuse.h"

int main(void)
{
	void *p = launder((void *)16);

	name_pointer(p, p);
	free(p);
	return survived();
}
