/* SPDX-License-Identifier: MIT */
/*
 * plugin.c - a library that allocates in its constructor, in its destructor and for its thread-local storage.
 *
 * dlopen_plugin.c opens copies of it. `left` stays behind when the library is closed; what the destructor
 * allocates goes to the host through `sink`.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NR_LEFT	  8
#define LEFT_SIZE 200

void *plugin_left[NR_LEFT];
void (*plugin_sink)(void *);

static void *kept;
static __thread char area[3000];
static __thread void *slot;

static void *constructor_thread(void *arg)
{
	for (int i = 0; i < 50; i++)
		free(malloc((size_t)i * 40));
	slot = malloc(64);
	free(slot);
	slot = NULL;
	return arg;
}

__attribute__((constructor)) static void plugin_start(void)
{
	pthread_t t;

	kept = malloc(5000);
	for (int i = 0; i < NR_LEFT; i++) {
		plugin_left[i] = malloc(LEFT_SIZE);
		if (plugin_left[i])
			memset(plugin_left[i], 0x60 + i, LEFT_SIZE);
	}
	if (pthread_create(&t, NULL, constructor_thread, NULL) == 0)
		pthread_join(t, NULL);
}

__attribute__((destructor)) static void plugin_stop(void)
{
	void *p = malloc(LEFT_SIZE);

	free(kept);
	if (!p)
		return;
	memset(p, 0x7f, LEFT_SIZE);
	if (plugin_sink)
		plugin_sink(p);
	else
		free(p);
}

/* Writes the calling thread's copy of the thread-local area; returns its address. */
char *plugin_touch(int value);
char *plugin_touch(int value)
{
	memset(area, value, sizeof(area));
	return area;
}
