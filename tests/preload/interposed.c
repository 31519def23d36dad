// SPDX-License-Identifier: MIT
/*
 * interposed.c - every name of libc's malloc family is served by the preloaded library, for the program, for libc
 * itself and for what looks names up at run time.
 *
 * A malloc that has a symbol version is silently passed over by the dynamic linker; nothing crashes, and every other
 * test would pass on libc's allocator. So this one looks at who really serves.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static const char *const names[] = {
	"malloc", "free", "calloc", "realloc", "reallocarray", "memalign", "posix_memalign", "aligned_alloc", "valloc",
	"pvalloc", "malloc_usable_size", "malloc_trim", "mallopt", "mallinfo", "mallinfo2", "malloc_stats", "malloc_info",
	"cfree", "free_sized", "free_aligned_sized", "brk", "sbrk",
#ifdef __x86_64__
	"vfork",
#endif
	"_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamSt11align_val_t", "_ZdlPv", "_ZdaPvmSt11align_val_t",
};

static int served_by_libkmm(const void *function)
{
	Dl_info info;

	return dladdr(function, &info) && strstr(info.dli_fname, "libkmm") != NULL;
}

static void *in_thread(void *arg)
{
	char *p = malloc(100000);

	CHECK(p != NULL);
	memset(p, 7, 100000);
	free(p);
	return arg;
}

/* Enough blocks of many sizes, all written, that two in one place would show. */
static void use(void)
{
	enum { NR = 4000 };
	static unsigned char *block[NR];
	static size_t size[NR];
	uint32_t seed = 1;

	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < NR; i++) {
			seed = seed * 1664525 + 1013904223;
			if (block[i] != NULL) {
				CHECK(block[i][0] == (unsigned char)i && block[i][size[i] - 1] == (unsigned char)i);
				free(block[i]);
			}
			size[i] = 1 + (seed >> 8) % (i % 64 ? 1000 : 300000);
			block[i] = malloc(size[i]);
			CHECK(block[i] != NULL && ((uintptr_t)block[i] & 15) % (size[i] < 16 ? 8 : 16) == 0);
			CHECK(malloc_usable_size(block[i]) >= size[i]);
			memset(block[i], i, size[i]);
		}
	}
	for (int i = 0; i < NR; i++)
		free(block[i]);
}

int main(void)
{
	pthread_t thread;
	FILE *stream;
	char *text = NULL, *copy;
	size_t length = 0;

	/* The program's own references, which carry libc's version, and the lookup by name. */
	CHECK(served_by_libkmm((const void *)malloc));
	CHECK(served_by_libkmm((const void *)free));
	CHECK(served_by_libkmm((const void *)calloc));
	CHECK(served_by_libkmm((const void *)sbrk));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!served_by_libkmm(dlsym(RTLD_DEFAULT, names[i]))) {
			fprintf(stderr, "%s is not served by libkmm\n", names[i]);
			return 1;
		}
	}

	/* libc's own allocations: a pointer of libc's malloc would be refused as foreign by free(). */
	copy = strdup("one");
	free(copy);
	CHECK(asprintf(&copy, "%d", 42) == 2);
	free(copy);
	stream = open_memstream(&text, &length);
	CHECK(stream != NULL && fprintf(stream, "%10000d", 1) == 10000 && fclose(stream) == 0);
	CHECK(length == 10000 && malloc_usable_size(text) > length);
	free(text);
	CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);

	errno = 0;
	CHECK(malloc(PTRDIFF_MAX) == NULL && errno == ENOMEM);
	use();
	return 0;
}
