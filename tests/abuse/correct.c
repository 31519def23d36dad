/* SPDX-License-Identifier: MIT */
/*
 * correct.c - no misuse at all: nothing may be reported.
 */
#include "abuse.h"

int main(void)
{
	void *p[1000];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 1000; i++)
			p[i] = i % 7 ? must(malloc((size_t)i * i)) : must(memalign(16u << i % 12, (size_t)i));
		for (int i = 0; i < 1000; i += 3)
			p[i] = must(realloc(p[i], (size_t)(1000 - i) * 17 + 1));
		for (int i = 0; i < 1000; i++)
			free(p[i]);
		free(launder(NULL));
		malloc_trim(0);
	}
	return survived();
}
