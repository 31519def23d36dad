/* SPDX-License-Identifier: MIT */
/*
 * double_immediate.c - free() twice in a row: seen at the second push.
 */
#include "abuse.h"

int main(void)
{
	void *p = must(malloc(64));

	name_pointer(p, p);
	free(p);
	free(launder(p));
	return survived();
}
