/* SPDX-License-Identifier: MIT */
/*
 * unaligned_large.c - free() of an unaligned address in a large block.
 */
#include "abuse.h"

int main(void)
{
	char *p = must(malloc(1 << 20)), *bad = launder(p + 1);

	name_pointer(bad, p);
	free(bad);
	return survived();
}
