/* SPDX-License-Identifier: MIT */
/*
 * foreign_libc.c - free() of a block that libc's own malloc handed out.
 */
#include "abuse.h"

void *__libc_malloc(size_t size);

int main(void)
{
	void *p = must(__libc_malloc(100));

	name_pointer(p, p);
	free(p);
	return survived();
}
