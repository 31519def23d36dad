/* SPDX-License-Identifier: MIT */
/*
 * entry_points.c - every entry point of the malloc family against what glibc 2.36 documents. Run preloaded; with
 * the argument --glibc it runs on glibc itself, to check the test.
 *
 * Functions that glibc has not, or not for linking (free_sized, free_aligned_sized, cfree), are found by dlsym.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failures;

#define CHECK(cond)                                                                               \
	do {                                                                                      \
		if (!(cond)) {                                                                    \
			fprintf(stderr, "entry_points: %s:%d: %s\n", __FILE__, __LINE__, #cond);  \
			failures++;                                                               \
		}                                                                                 \
	} while (0)

static const size_t zero = 0, size_max = SIZE_MAX, ptrdiff_max = PTRDIFF_MAX;

/* The compiler must not see through: else it knows the answers, or leaves calls out. */
static void *(*volatile do_malloc)(size_t) = malloc;
static void *(*volatile do_calloc)(size_t, size_t) = calloc;
static void *(*volatile do_realloc)(void *, size_t) = realloc;
static void *(*volatile do_reallocarray)(void *, size_t, size_t) = reallocarray;
static void (*volatile do_free)(void *) = free;
static void *(*volatile do_memalign)(size_t, size_t) = memalign;
static int (*volatile do_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile do_aligned_alloc)(size_t, size_t) = aligned_alloc;
static void *(*volatile do_valloc)(size_t) = valloc;
static void *(*volatile do_pvalloc)(size_t) = pvalloc;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static struct mallinfo (*volatile do_mallinfo)(void) = mallinfo;
#pragma GCC diagnostic pop

static const size_t sizes[] = { 1, 7, 8, 15, 16, 17, 24, 48, 100, 128, 129, 200, 1000, 1024, 1025, 4096, 4097, 10000,
	65536, 100000, 262144, 262145, 1000000, 2097152, 2097153, 5000000 };
#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static int is_aligned(const void *p, size_t align)
{
	return (uintptr_t)p % align == 0;
}

static void fill(void *p, size_t n, unsigned seed)
{
	unsigned char *c = p;

	for (size_t i = 0; i < n; i++)
		c[i] = (unsigned char)(seed + i * 7 + (i >> 8));
}

static int has_fill(const void *p, size_t n, unsigned seed)
{
	const unsigned char *c = p;

	for (size_t i = 0; i < n; i++) {
		if (c[i] != (unsigned char)(seed + i * 7 + (i >> 8)))
			return 0;
	}
	return 1;
}

static int is_zero(const void *p, size_t n)
{
	const unsigned char *c = p;

	for (size_t i = 0; i < n; i++) {
		if (c[i] != 0)
			return 0;
	}
	return 1;
}

/* expr must return NULL and set errno to ENOMEM. */
#define CHECK_ENOMEM(expr)                        \
	do {                                      \
		errno = 0;                        \
		CHECK(expr == NULL);        \
		CHECK(errno == ENOMEM);           \
	} while (0)

static void test_malloc(void)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p = do_malloc(sizes[i]), *q = do_malloc(sizes[i]);

		CHECK(p != NULL && q != NULL && p != q);
		CHECK(is_aligned(p, 16) && is_aligned(q, 16));
		fill(p, sizes[i], 1);
		fill(q, sizes[i], 2);
		CHECK(has_fill(p, sizes[i], 1));
		do_free(p);
		CHECK(has_fill(q, sizes[i], 2));
		do_free(q);
	}

	void *a = do_malloc(zero), *b = do_malloc(zero);

	CHECK(a != NULL && b != NULL && a != b);
	do_free(a);
	do_free(b);
	CHECK_ENOMEM(do_malloc(size_max));
	CHECK_ENOMEM(do_malloc(size_max - 4096));
	CHECK_ENOMEM(do_malloc(ptrdiff_max + 1));
	CHECK_ENOMEM(do_malloc(ptrdiff_max));
	CHECK_ENOMEM(do_malloc(ptrdiff_max - 4096));
}

static void test_calloc(void)
{
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < NR_SIZES; i++) {
			void *p = do_calloc(1, sizes[i]);

			CHECK(p != NULL && is_aligned(p, 16));
			CHECK(is_zero(p, sizes[i]));
			memset(p, 0xff, sizes[i]);	/* the next round gets it back dirty */
			do_free(p);
		}
	}

	void *a = do_calloc(zero, 8), *b = do_calloc(8, zero);

	CHECK(a != NULL && b != NULL && a != b);
	do_free(a);
	do_free(b);
	CHECK_ENOMEM(do_calloc(size_max, 2));
	CHECK_ENOMEM(do_calloc(2, size_max));
	CHECK_ENOMEM(do_calloc(size_max / 16 + 1, 16));
	CHECK_ENOMEM(do_calloc((size_t)1 << 32, (size_t)1 << 32));
	CHECK_ENOMEM(do_calloc(1, ptrdiff_max));
}

static void test_realloc(void)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		for (size_t j = 0; j < NR_SIZES; j++) {
			size_t common = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
			void *p = do_realloc(NULL, sizes[i]);

			CHECK(p != NULL);
			fill(p, sizes[i], 3);
			p = do_realloc(p, sizes[j]);
			CHECK(p != NULL && is_aligned(p, 16));
			CHECK(has_fill(p, common, 3));
			fill(p, sizes[j], 4);
			do_free(p);
		}
	}

	void *p = do_malloc(100);

	errno = 77;
	CHECK(do_realloc(p, zero) == NULL);	/* glibc: frees */
	CHECK(errno == 77);
	p = do_realloc(NULL, zero);
	CHECK(p != NULL);
	do_free(p);

	/* A failed realloc leaves the block alone, whatever kind it is. */
	for (size_t i = 0; i < NR_SIZES; i++) {
		p = do_malloc(sizes[i]);
		fill(p, sizes[i], 5);
		CHECK_ENOMEM(do_realloc(p, size_max));
		CHECK_ENOMEM(do_realloc(p, ptrdiff_max));
		CHECK(has_fill(p, sizes[i], 5));
		do_free(p);
	}

	/* Growth in small steps, as of a text that is read. */
	size_t n = 1;

	p = NULL;
	for (; n < 3000000; n += n / 3 + 1) {
		p = do_realloc(p, n);
		CHECK(p != NULL);
		fill(p, n, 6);
	}
	do_free(p);
}

static void test_reallocarray(void)
{
	void *p = do_reallocarray(NULL, 10, 20), *q;

	CHECK(p != NULL);
	fill(p, 200, 7);
	CHECK_ENOMEM(do_reallocarray(p, size_max / 2, 3));
	CHECK_ENOMEM(do_reallocarray(p, (size_t)1 << 32, (size_t)1 << 32));
	CHECK_ENOMEM(do_reallocarray(p, ptrdiff_max, 1));
	CHECK(has_fill(p, 200, 7));
	q = do_reallocarray(p, 100, 20);
	CHECK(q != NULL && has_fill(q, 200, 7));
	CHECK(do_reallocarray(q, zero, 20) == NULL);	/* as realloc(q, 0) */
}

static void test_free(void)
{
	errno = 78;
	do_free(NULL);
	CHECK(errno == 78);
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p = do_malloc(sizes[i]);

		errno = 79;
		do_free(p);
		CHECK(errno == 79);
	}
	/* Many of one size, so that slow paths run as well. */
	enum { N = 20000 };
	static void *block[N];

	for (int i = 0; i < N; i++)
		block[i] = do_malloc(64);
	errno = 80;
	for (int i = 0; i < N; i++)
		do_free(block[i]);
	CHECK(errno == 80);
}

static void test_usable_size(void)
{
	CHECK(malloc_usable_size(NULL) == 0);
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p = do_malloc(sizes[i]);
		size_t n = malloc_usable_size(p);

		CHECK(n >= sizes[i]);
		CHECK(n <= sizes[i] + sizes[i] / 4 + 4096 + 32);
		fill(p, n, 8);		/* all of it is the caller's */
		CHECK(has_fill(p, n, 8));
		p = do_realloc(p, n);
		CHECK(p != NULL && has_fill(p, n, 8));
		do_free(p);
	}
}

/* --- aligned ---------------------------------------------------------------------------------------------- */

static void test_memalign(void)
{
	for (size_t align = 1; align <= (size_t)1 << 22; align *= 2) {
		for (size_t i = 0; i < NR_SIZES; i++) {
			void *p = do_memalign(align, sizes[i]);

			CHECK(p != NULL && is_aligned(p, align) && is_aligned(p, 16));
			CHECK(malloc_usable_size(p) >= sizes[i]);
			memset(p, 0x11, sizes[i]);
			p = do_realloc(p, sizes[i] + 1);
			CHECK(p != NULL && *(unsigned char *)p == 0x11);
			do_free(p);
		}
	}

	void *p = do_memalign(zero, 100), *q;

	CHECK(p != NULL);
	do_free(p);
	p = do_memalign(48, 100);	/* rounded up to 64 */
	CHECK(p != NULL && is_aligned(p, 64));
	do_free(p);
	p = do_memalign(5000, 10);
	CHECK(p != NULL && is_aligned(p, 8192));
	do_free(p);
	p = do_memalign(64, zero);
	q = do_memalign(64, zero);
	CHECK(p != NULL && q != NULL && p != q);
	do_free(p);
	do_free(q);

	errno = 0;
	CHECK(do_memalign(size_max / 2 + 2, 1) == NULL && errno == EINVAL);
	CHECK_ENOMEM(do_memalign(64, size_max));
	CHECK_ENOMEM(do_memalign(64, size_max - 63));
	CHECK_ENOMEM(do_memalign(4096, ptrdiff_max));
	CHECK_ENOMEM(do_memalign(size_max / 2 + 1, 1));
	CHECK_ENOMEM(do_memalign(8, ptrdiff_max + 1));
}

static void test_posix_memalign(int on_glibc)
{
	void *const untouched = &failures;
	size_t bad[] = { 0, 1, 2, 4, 7, 12, 24, 1000 };
	void *p = untouched;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = 81;
		CHECK(do_posix_memalign(&p, bad[i], 100) == EINVAL);
		CHECK(p == untouched && errno == 81);
	}
	errno = 82;
	CHECK(do_posix_memalign(&p, 64, size_max) == ENOMEM);
	CHECK(do_posix_memalign(&p, 64, ptrdiff_max) == ENOMEM);
	CHECK(do_posix_memalign(&p, 8, ptrdiff_max + 1) == ENOMEM);
	CHECK(do_posix_memalign(&p, size_max / 2 + 1, 16) == ENOMEM);
	CHECK(p == untouched);
	CHECK(errno == 82 || on_glibc);		/* documented so, but glibc's ENOMEM gets through */
	for (size_t align = sizeof(void *); align <= (size_t)1 << 21; align *= 2) {
		CHECK(do_posix_memalign(&p, align, 77) == 0);
		CHECK(is_aligned(p, align));
		do_free(p);
	}
	CHECK(do_posix_memalign(&p, 32, zero) == 0 && p != NULL);
	do_free(p);
}

static void test_aligned_alloc(void)
{
	void *p = do_aligned_alloc(64, 65);	/* no multiple: allowed */

	CHECK(p != NULL && is_aligned(p, 64));
	do_free(p);
	p = do_aligned_alloc(3, 8);	/* glibc 2.36: memalign's rules */
	CHECK(p != NULL);
	do_free(p);
	CHECK_ENOMEM(do_aligned_alloc(128, size_max - 100));
}

static void test_valloc(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = do_valloc(100);

	CHECK(p != NULL && is_aligned(p, page));
	do_free(p);
	p = do_pvalloc(1);
	CHECK(p != NULL && is_aligned(p, page) && malloc_usable_size(p) >= page);
	memset(p, 1, page);
	do_free(p);
	p = do_pvalloc(page + 1);
	CHECK(p != NULL && malloc_usable_size(p) >= 2 * page);
	memset(p, 1, 2 * page);
	do_free(p);
	p = do_pvalloc(zero);
	CHECK(p != NULL && is_aligned(p, page));
	do_free(p);
	CHECK_ENOMEM(do_valloc(size_max));
	CHECK_ENOMEM(do_pvalloc(size_max));
	CHECK_ENOMEM(do_pvalloc(size_max - page / 2));
	CHECK_ENOMEM(do_pvalloc(ptrdiff_max));
}

/* --- what only libkmm has --------------------------------------------------------------------------------- */

static void test_c23(void)
{
	void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
	void (*free_aligned_sized)(void *, size_t, size_t) =
		(void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
	void (*cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");

	CHECK(free_sized != NULL && free_aligned_sized != NULL && cfree != NULL);
	if (free_sized == NULL || free_aligned_sized == NULL || cfree == NULL)
		return;
	errno = 83;
	free_sized(NULL, 0);
	free_sized(NULL, 10);
	free_aligned_sized(NULL, 64, 10);
	cfree(NULL);
	for (size_t i = 0; i < NR_SIZES; i++) {
		free_sized(do_malloc(sizes[i]), sizes[i]);
		free_sized(do_calloc(1, sizes[i]), sizes[i]);
		free_aligned_sized(do_aligned_alloc(256, sizes[i]), 256, sizes[i]);
		free_aligned_sized(do_aligned_alloc(8192, sizes[i]), 8192, sizes[i]);
		cfree(do_malloc(sizes[i]));
	}
	free_sized(do_malloc(zero), 0);
	CHECK(errno == 83);
}

/* --- mallopt, mallinfo and friends ------------------------------------------------------------------------ */

static void test_mallopt(void)
{
	CHECK(mallopt(M_MXFAST, 64) == 1);
	CHECK(mallopt(M_MXFAST, 1 << 20) == 0);
	CHECK(mallopt(M_TOP_PAD, 65536) == 1);
	CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
	CHECK(mallopt(M_MMAP_MAX, 1000) == 1);
	CHECK(mallopt(M_CHECK_ACTION, 3) == 1);
	CHECK(mallopt(M_ARENA_TEST, 8) == 1);
	CHECK(mallopt(M_ARENA_MAX, 2) == 1);
	CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
}

static void test_mallinfo(void)
{
	enum { N = 5000, SIZE = 1000, BIG = 40 << 20 };
	static void *block[N];
	struct mallinfo2 a = mallinfo2(), b, c;
	struct mallinfo old;
	void *big;

	for (int i = 0; i < N; i++)
		block[i] = do_malloc(SIZE);
	big = do_malloc(BIG);
	b = mallinfo2();
	old = do_mallinfo();
	CHECK(b.arena >= (size_t)N * SIZE);
	CHECK(b.uordblks >= a.uordblks + (size_t)N * SIZE * 95 / 100);
	CHECK(b.arena == b.uordblks + b.fordblks);
	CHECK(b.hblks == a.hblks + 1);
	CHECK(b.hblkhd >= a.hblkhd + BIG);
	CHECK((size_t)old.hblkhd >= BIG);
	CHECK(old.arena > 0 && old.uordblks > 0);
	for (int i = 0; i < N; i++)
		do_free(block[i]);
	do_free(big);
	c = mallinfo2();
	CHECK(c.uordblks <= b.uordblks - (size_t)N * SIZE * 95 / 100);
	CHECK(c.hblks == a.hblks);
}

static void test_malloc_trim(void)
{
	enum { N = 30000, SIZE = 1000 };
	static void *block[N];
	int ret;

	for (int i = 0; i < N; i++) {
		block[i] = do_malloc(SIZE);
		memset(block[i], 1, SIZE);
	}
	for (int i = 0; i < N; i++)
		do_free(block[i]);
	ret = malloc_trim(0);
	CHECK(ret == 1);
	ret = malloc_trim(0);
	CHECK(ret == 0 || ret == 1);
	/* The memory is still good. */
	for (int i = 0; i < N; i++) {
		block[i] = do_calloc(1, SIZE);
		CHECK(is_zero(block[i], SIZE));
	}
	for (int i = 0; i < N; i++)
		do_free(block[i]);
}

/* Every "<name " must be closed by "/>" or by a "</name>" in the right order. */
static int is_well_formed(const char *xml)
{
	char stack[16][16];
	int depth = 0;

	for (const char *p = strchr(xml, '<'); p != NULL; p = strchr(p + 1, '<')) {
		const char *end = strchr(p, '>');
		size_t n;

		if (end == NULL)
			return 0;
		if (p[1] == '/') {
			n = (size_t)(end - p - 2);
			if (depth == 0 || strlen(stack[depth - 1]) != n || strncmp(stack[depth - 1], p + 2, n) != 0)
				return 0;
			depth--;
		} else if (end[-1] != '/') {
			n = strcspn(p + 1, " >");
			if (depth == 16 || n >= sizeof(stack[0]))
				return 0;
			memcpy(stack[depth], p + 1, n);
			stack[depth++][n] = '\0';
		}
	}
	return depth == 0;
}

static void test_malloc_info(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	CHECK(f != NULL);
	if (f == NULL)
		return;
	CHECK(malloc_info(1, f) == EINVAL);
	CHECK(malloc_info(0, f) == 0);
	fclose(f);
	CHECK(strncmp(text, "<malloc version=\"1\">", 20) == 0);
	CHECK(strstr(text, "<heap nr=\"0\">") != NULL);
	CHECK(strstr(text, "<total type=\"mmap\" count=") != NULL);
	CHECK(strstr(text, "<system type=\"current\" size=") != NULL);
	CHECK(is_well_formed(text));
	do_free(text);
}

static void test_malloc_stats(void)
{
	char text[4096];
	FILE *tmp = tmpfile();
	int saved = dup(2);
	ssize_t n;

	CHECK(tmp != NULL && saved >= 0);
	if (tmp == NULL || saved < 0)
		return;
	dup2(fileno(tmp), 2);
	malloc_stats();
	dup2(saved, 2);
	close(saved);
	n = pread(fileno(tmp), text, sizeof(text) - 1, 0);
	fclose(tmp);
	CHECK(n > 0);
	text[n > 0 ? n : 0] = '\0';
	CHECK(strstr(text, "Arena 0:\nsystem bytes     = ") == text);
	CHECK(strstr(text, "Total (incl. mmap):\n") != NULL);
}

int main(int argc, char **argv)
{
	int on_glibc = argc > 1 && strcmp(argv[1], "--glibc") == 0;

	if (!on_glibc && dlsym(RTLD_DEFAULT, "kmm_version") == NULL) {
		fprintf(stderr, "entry_points: libkmm is not preloaded\n");
		return 1;
	}
	test_malloc();
	test_calloc();
	test_realloc();
	test_reallocarray();
	test_free();
	test_usable_size();
	test_memalign();
	test_posix_memalign(on_glibc);
	test_aligned_alloc();
	test_valloc();
	test_mallopt();
	test_malloc_trim();
	test_malloc_info();
	test_malloc_stats();
	if (!on_glibc) {
		CHECK(mallopt(12345, 1) == 0);
		test_mallinfo();
		test_c23();
	}
	if (failures == 0)
		puts("entry_points: ok");
	return failures != 0;
}
