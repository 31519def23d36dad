/* SPDX-License-Identifier: MIT */
/*
 * double_two_cpus.c - free() of one object by threads on two CPUs: the copies lie in different caches.
 */
#include "abuse.h"

static void bind_to_nth(int n)
{
	static cpu_set_t allowed;
	cpu_set_t one;

	if (CPU_COUNT(&allowed) == 0)
		sched_getaffinity(0, sizeof(allowed), &allowed);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &allowed) && n-- == 0)
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);	/* fails, and changes nothing, when there is one CPU only */
}

static void *free_on_the_other(void *p)
{
	bind_to_nth(1);
	free(p);
	return NULL;
}

int main(void)
{
	pthread_t t;
	void *a = must(malloc(64)), *b = must(malloc(64));

	bind_to_nth(0);
	name_pointer(a, a);
	free(a);
	free(b);
	if (pthread_create(&t, NULL, free_on_the_other, launder(a)))
		return 3;
	pthread_join(t, NULL);
	malloc_trim(0);
	return survived();
}
