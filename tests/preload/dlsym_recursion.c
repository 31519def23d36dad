/* SPDX-License-Identifier: MIT */
/*
 * dlsym_recursion.c - dlsym() allocates, and libkmm calls dlsym(): neither may end in a circle.
 *
 * The program is an interposer of the old school: it defines malloc, calloc, realloc and free itself and finds what
 * lies beneath (libkmm) by dlsym(RTLD_NEXT) at the first call, serving what dlsym asks for meanwhile from a small
 * buffer. Then it lets dlsym and dlerror allocate from many threads, and at last (as a new process with
 * KMM_FOREIGN_FREE=next) frees a block of the C library's own allocator through libkmm, which must find the
 * allocator beneath by dlsym from inside free().
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

static _Alignas(16) char early[16384];
static size_t early_used;
static int looking_up;
static atomic_ulong calls;

static int is_early(const void *p)
{
	return (uintptr_t)p - (uintptr_t)early < sizeof(early);
}

static void *early_alloc(size_t n)
{
	void *p = early + early_used;

	n = (n + 15) & ~(size_t)15;
	if (n > sizeof(early) - early_used)
		return NULL;
	early_used += n;
	return p;
}

static void look_up(void)
{
	looking_up = 1;
	next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
	looking_up = 0;
	if (next_malloc == NULL || next_calloc == NULL || next_realloc == NULL || next_free == NULL)
		abort();
}

static int beneath_is_known(void)
{
	if (next_free == NULL && !looking_up)
		look_up();
	return !looking_up;
}

void *malloc(size_t n)
{
	calls++;
	return beneath_is_known() ? next_malloc(n) : early_alloc(n);
}

void *calloc(size_t n, size_t size)
{
	calls++;
	return beneath_is_known() ? next_calloc(n, size) : early_alloc(n * size);
}

void *realloc(void *p, size_t n)
{
	void *q;

	calls++;
	if (beneath_is_known() && !is_early(p))
		return next_realloc(p, n);
	q = malloc(n);
	if (q != NULL && p != NULL)
		memcpy(q, p, n < (size_t)(early + sizeof(early) - (char *)p) ? n : (size_t)(early + sizeof(early) - (char *)p));
	return q;
}

void free(void *p)
{
	if (p != NULL && !is_early(p) && beneath_is_known())
		next_free(p);
}

/* --- the test --------------------------------------------------------------------------------------------- */

static atomic_int failures;

static void fail(const char *what)
{
	fprintf(stderr, "dlsym_recursion: %s\n", what);
	failures++;
}

/* A failed look-up makes dlsym allocate its message. */
static void *look_up_often(void *arg)
{
	char name[64];

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "no_such_symbol_%d_%d", *(int *)arg, i);
		if (dlsym(RTLD_DEFAULT, name) != NULL)
			fail("a symbol that does not exist was found");

		const char *message = dlerror();

		if (message == NULL || strstr(message, name) == NULL)
			fail("dlerror() lost its message");
		if (dlsym(RTLD_NEXT, "malloc") != (void *)next_malloc)
			fail("malloc beneath has changed");
	}
	return NULL;
}

static void test_threads(void)
{
	enum { N = 8 };
	pthread_t thread[N];
	int id[N];

	for (int i = 0; i < N; i++) {
		id[i] = i;
		if (pthread_create(&thread[i], NULL, look_up_often, &id[i]) != 0) {
			fail("pthread_create");
			return;
		}
	}
	for (int i = 0; i < N; i++)
		pthread_join(thread[i], NULL);
}

extern void *__libc_malloc(size_t);

static int test_foreign(void)
{
	for (int i = 0; i < 100; i++) {
		char *p = __libc_malloc(100 + (size_t)i * 3000);

		if (p == NULL)
			return 1;
		memset(p, i, 100);
		free(p);
		free(malloc(100));
	}
	puts("dlsym_recursion: ok");
	return 0;
}

static void test_beneath_is_libkmm(void)
{
	Dl_info beneath, kmm;
	void *version = dlsym(RTLD_DEFAULT, "kmm_version");

	free(malloc(1));	/* the look-up happens here, while there is one thread */
	if (version == NULL || dladdr(version, &kmm) == 0 || dladdr((void *)next_malloc, &beneath) == 0 ||
	    beneath.dli_fbase != kmm.dli_fbase)
		fail("what lies beneath is not libkmm");
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "foreign") == 0)
		return test_foreign();

	test_beneath_is_libkmm();
	test_threads();
	if (calls == 0)
		fail("the program's own malloc was never called");
	if (failures != 0)
		return 1;
	setenv("KMM_FOREIGN_FREE", "next", 1);
	execl("/proc/self/exe", argv[0], "foreign", (char *)NULL);
	fail("exec");
	return 1;
}
