/* SPDX-License-Identifier: MIT */
/* leaky.c - a plug-in that leaks: what memory groups are for. memcg_plugin.c and memcg_rules.sh open it. */
#include <stdlib.h>

/* Allocates nr blocks of 1000 bytes and forgets them; how many it got. */
long leak(long nr)
{
	for (long i = 0; i < nr; i++) {
		char *p = malloc(1000);

		if (!p)
			return i;
		*p = 1;
	}
	return nr;
}
