/* SPDX-License-Identifier: MIT */
/*
 * foreign_libc_big.c - free() of a big block that libc's own malloc mapped.
 */
#include "abuse.h"

void *__libc_malloc(size_t size);

int main(void)
{
	void *p = must(__libc_malloc(4 << 20));

	name_pointer(p, p);
	free(p);
	return survived();
}
