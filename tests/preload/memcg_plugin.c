/* SPDX-License-Identifier: MIT */
/*
 * memcg_plugin.c - a program that gives its plug-in's thread a memory group of 16 MiB, by the API. The example of the
 * README: the plug-in leaks and is refused memory, the program does not notice.
 * args: $here/leaky.so
 * modes: auto lock
 */
#include "kmm/kmm.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma weak kmm_memcg_create
#pragma weak kmm_memcg_attach
#pragma weak kmm_memcg_read
#pragma weak kmm_memcg_set

#define CHECK(cond)                                                                    \
	do {                                                                           \
		if (!(cond)) {                                                         \
			fprintf(stderr, "memcg_plugin: %s is not true\n", #cond);      \
			exit(1);                                                       \
		}                                                                      \
	} while (0)

static int group;
static long (*leak)(long);
static long got;

static void *plugin_thread(void *arg)
{
	CHECK(kmm_memcg_attach(group, 0) == 0);
	got = leak(100000);		/* 100 MB, if it may */
	CHECK(errno == ENOMEM);
	CHECK(leak(100000) < 300);	/* and still: the emergency reserve of a thread is small */
	return arg;
}

int main(int argc, char **argv)
{
	char text[256];
	pthread_t t;
	void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
	char *p[50];

	CHECK(kmm_memcg_create && lib);
	*(void **)&leak = dlsym(lib, "leak");
	CHECK(leak);

	group = kmm_memcg_create("plug");
	CHECK(group > 0 && kmm_memcg_set(group, "memory.max", "16M") == 0);
	CHECK(pthread_create(&t, NULL, plugin_thread, NULL) == 0);
	for (int i = 0; i < 50; i++) {	/* meanwhile */
		p[i] = malloc(1 << 20);
		CHECK(p[i]);
		memset(p[i], i, 1 << 20);
	}
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(got > 12000 && got < 16800);
	for (int i = 0; i < 50; i++) {
		CHECK(p[i][12345] == i);
		free(p[i]);
	}
	CHECK(kmm_memcg_read(group, "memory.current", text, sizeof(text)) > 0);
	CHECK(atol(text) <= 16 << 20 && atol(text) > 12 << 20);
	printf("the plug-in was refused after %ld blocks, holding %ld bytes\n", got, atol(text));
	CHECK(kmm_memcg_read(group, "memory.events", text, sizeof(text)) > 0);
	CHECK(strstr(text, "max ") && atol(strstr(text, "\nmax ") + 5) > 0);
	return 0;
}
