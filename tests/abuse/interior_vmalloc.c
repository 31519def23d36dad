/* SPDX-License-Identifier: MIT */
/*
 * interior_vmalloc.c - free() of the third page of a block of 64 MiB.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(64 << 20)), *bad = launder(p + 8192);

	name_pointer(bad, p);
	free(bad);
	return survived();
}
