/* SPDX-License-Identifier: MIT */
/*
 * kmm_api.c - the functions of kmm/kmm.h. Run preloaded; they are declared weak, as the header advises.
 */
#include <errno.h>
#include <fcntl.h>
#include <kmm/kmm.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma weak kmm_version
#pragma weak kmm_stats_print
#pragma weak kmm_usable_size
#pragma weak kmm_find_vma
#pragma weak kmm_trim
#pragma weak kmm_compact
#pragma weak kmm_decay_set
#pragma weak kmm_decay_get
#pragma weak kmm_alloc_pages
#pragma weak kmm_free_pages
#pragma weak kmm_alloc_pages_max
#pragma weak kmm_alloc_percpu
#pragma weak kmm_free_percpu
#pragma weak kmm_per_cpu_ptr
#pragma weak kmm_this_cpu
#pragma weak kmm_nr_percpu

static int failures;

#define CHECK(cond)                                                                          \
	do {                                                                                 \
		if (!(cond)) {                                                               \
			fprintf(stderr, "kmm_api: %s:%d: %s\n", __FILE__, __LINE__, #cond);  \
			failures++;                                                          \
		}                                                                            \
	} while (0)

static int some_data = 1;

static void test_usable_size(void)
{
	char on_stack[64];
	char *p = malloc(100), *big = malloc(10 << 20);

	CHECK(kmm_usable_size(p) >= 100 && kmm_usable_size(p) < 200);
	CHECK(kmm_usable_size(big) >= 10 << 20);
	CHECK(kmm_usable_size(NULL) == 0);
	CHECK(kmm_usable_size(on_stack) == 0);
	CHECK(kmm_usable_size(&some_data) == 0);
	CHECK(kmm_usable_size((void *)(uintptr_t)test_usable_size) == 0);
	CHECK(kmm_usable_size((void *)~(uintptr_t)15) == 0);
	CHECK(kmm_usable_size((void *)16) == 0);
	CHECK(kmm_usable_size(p + 16) == 0);
	CHECK(kmm_usable_size(big + 4096) == 0);
	free(p);
	free(big);
}

static void test_find_vma(void)
{
	struct kmm_vma vma;
	char on_stack[64];
	char *heap = malloc(100);
	char *map = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(kmm_find_vma((void *)(uintptr_t)test_usable_size, &vma) == 0);
	CHECK(vma.start <= (uintptr_t)test_usable_size && (uintptr_t)test_usable_size < vma.end && vma.exec && !vma.write);
	CHECK(kmm_find_vma(&some_data, &vma) == 0);
	CHECK(vma.start <= (uintptr_t)&some_data && (uintptr_t)&some_data < vma.end && vma.write && !vma.own);
	CHECK(kmm_find_vma(on_stack, &vma) == 0);
	CHECK(vma.start <= (uintptr_t)on_stack && (uintptr_t)on_stack < vma.end && strcmp(vma.kind, "stack") == 0);
	CHECK(kmm_find_vma(heap, &vma) == 0);
	CHECK(vma.start <= (uintptr_t)heap && (uintptr_t)heap < vma.end && vma.write);
	CHECK(map != MAP_FAILED && kmm_find_vma(map + 5000, &vma) == 0);
	CHECK(vma.start <= (uintptr_t)map && (uintptr_t)map + (1 << 20) <= vma.end && vma.read && !vma.write);
	CHECK(kmm_find_vma(NULL, &vma) == 0 && vma.start > 0);
	errno = 0;
	CHECK(kmm_find_vma((void *)(UINTPTR_MAX - 4096), &vma) == -1 && errno == ENOENT);
	munmap(map, 1 << 20);
	free(heap);
}

/* Without stdio, so that nothing is allocated. Pss in bytes. */
static size_t resident(void)
{
	char text[4096];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	const char *line;

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	line = strstr(text, "Pss:");
	return line != NULL ? strtoul(line + 4, NULL, 10) << 10 : 0;
}

/* Nine of ten objects go, and every tenth page of objects keeps one: free pages, free slabs, and pages inside slabs. */
static void test_compact(void)
{
	enum { N = 40000, SIZE = 1000, KEPT = 50 };
	static char *block[N];
	unsigned long decay = kmm_decay_get();
	size_t before, after, bytes;

	CHECK(kmm_decay_set(KMM_DECAY_MAX_MS) == 0);	/* nothing goes by itself */
	for (int i = 0; i < N; i++) {
		block[i] = malloc(SIZE);
		memset(block[i], i, SIZE);
	}
	for (int i = 0; i < N; i++)
		if (i % KEPT != 0)
			free(block[i]);
	before = resident();
	bytes = kmm_compact();
	after = resident();
	CHECK(before > after && before - after > (size_t)N * SIZE / 2);
	if (bytes + (2 << 20) < before - after || bytes > before - after + (2 << 20))
		fprintf(stderr, "%zu bytes are said to have gone, %zu went\n", bytes, before - after);
	CHECK(bytes + (2 << 20) >= before - after && bytes <= before - after + (2 << 20));
	CHECK(kmm_compact() < 1 << 20);
	CHECK(kmm_trim(0) < 1 << 20);
	for (int i = 0; i < N; i += KEPT) {
		for (int j = 0; j < SIZE; j++)
			CHECK(block[i][j] == (char)i);
		free(block[i]);
	}
	CHECK(kmm_decay_set(decay) == 0);
}

static void test_decay(void)
{
	unsigned long decay = kmm_decay_get();

	CHECK(decay <= KMM_DECAY_MAX_MS);
	CHECK(kmm_decay_set(5) == 0 && kmm_decay_get() == 5);
	CHECK(kmm_decay_set(0) == 0 && kmm_decay_get() == 0);
	errno = 0;
	CHECK(kmm_decay_set(KMM_DECAY_MAX_MS + 1) == -1 && errno == EINVAL && kmm_decay_get() == 0);
	errno = 84;
	CHECK(kmm_decay_set(KMM_DECAY_MAX_MS) == 0 && errno == 84 && kmm_decay_get() == KMM_DECAY_MAX_MS);
	CHECK(kmm_decay_set(10) == 0);
	CHECK(mallopt(M_TRIM_THRESHOLD, -1) == 1 && kmm_decay_get() == KMM_DECAY_MAX_MS);
	CHECK(kmm_decay_set(decay) == 0 && kmm_decay_get() == decay);
}

static void test_pages(void)
{
	static const size_t counts[] = { 1, 2, 3, 5, 8, 9, 100, 257, 500, 511, 512 };
	enum { N = sizeof(counts) / sizeof(counts[0]) };
	char *block[N];

	for (int i = 0; i < N; i++) {
		block[i] = kmm_alloc_pages(counts[i]);
		CHECK(block[i] != NULL && (uintptr_t)block[i] % KMM_PAGE_SIZE == 0);
		memset(block[i], i + 1, counts[i] * KMM_PAGE_SIZE);
	}
	for (int i = 0; i < N; i++) {
		size_t size = counts[i] * KMM_PAGE_SIZE;

		CHECK(block[i][0] == i + 1 && block[i][size - 1] == i + 1 && block[i][size / 2] == i + 1);
		kmm_free_pages(block[i], counts[i]);
	}
	errno = 0;
	CHECK(kmm_alloc_pages(0) == NULL && errno == EINVAL);
	errno = 0;
	CHECK(kmm_alloc_pages(kmm_alloc_pages_max() + 1) == NULL && errno == EINVAL);
	errno = 84;
	kmm_free_pages(NULL, 3);
	CHECK(errno == 84);
}

/* kmm_free_pages() with a wrong count must stop the program with a message. */
static void test_wrong_free_pages(void)
{
	int status = 0, fd[2];
	char text[512];
	ssize_t n;
	pid_t pid;

	CHECK(pipe(fd) == 0);
	pid = fork();
	if (pid == 0) {
		void *p = kmm_alloc_pages(3);

		dup2(fd[1], 2);
		kmm_free_pages(p, 2);
		_exit(0);
	}
	close(fd[1]);
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	n = read(fd[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	CHECK(strstr(text, "kmm_free_pages") != NULL && strstr(text, "has 3 pages, not 2") != NULL);
	close(fd[0]);
}

static void *counter;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100000; i++) {
		unsigned long *c = kmm_per_cpu_ptr(counter, kmm_this_cpu());

		__atomic_fetch_add(c, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_percpu(void)
{
	enum { N = 4 };
	unsigned long sum = 0;
	pthread_t thread[N];
	void *other;

	counter = kmm_alloc_percpu(sizeof(unsigned long), 8);
	other = kmm_alloc_percpu(100, 64);
	CHECK(counter != NULL && other != NULL && counter != other);
	CHECK(kmm_nr_percpu() > 0);
	CHECK((uintptr_t)kmm_per_cpu_ptr(other, 0) % 64 == 0);
	memset(kmm_per_cpu_ptr(other, 0), 0xff, 100);
	for (int i = 0; i < N; i++)
		CHECK(pthread_create(&thread[i], NULL, count, NULL) == 0);
	for (int i = 0; i < N; i++)
		pthread_join(thread[i], NULL);
	for (unsigned cpu = 0; cpu < kmm_nr_percpu(); cpu++)
		sum += *(unsigned long *)kmm_per_cpu_ptr(counter, cpu);
	CHECK(sum == N * 100000ul);
	errno = 0;
	CHECK(kmm_per_cpu_ptr(counter, kmm_nr_percpu() + 1000000) == NULL && errno == EINVAL);
	kmm_free_percpu(counter);
	counter = kmm_alloc_percpu(sizeof(unsigned long), 8);
	for (unsigned cpu = 0; cpu < kmm_nr_percpu(); cpu++)
		CHECK(*(unsigned long *)kmm_per_cpu_ptr(counter, cpu) == 0);
	kmm_free_percpu(counter);
	kmm_free_percpu(other);
	kmm_free_percpu(NULL);

	errno = 0;
	CHECK(kmm_alloc_percpu(0, 8) == NULL && errno == EINVAL);
	errno = 0;
	CHECK(kmm_alloc_percpu(8, 3) == NULL && errno == EINVAL);
	errno = 0;
	CHECK(kmm_alloc_percpu(KMM_PERCPU_MAX + 1, 8) == NULL && errno == EINVAL);
}

static void test_stats_print(void)
{
	int fd = open("/dev/null", O_WRONLY), pipe_fd[2], full;

	CHECK(kmm_stats_print(fd, false) == 0);
	CHECK(kmm_stats_print(fd, true) == 0);
	close(fd);
	errno = 0;
	CHECK(kmm_stats_print(fd, false) == -1 && errno == EBADF);
	full = open("/dev/full", O_WRONLY);
	if (full >= 0) {
		errno = 0;
		CHECK(kmm_stats_print(full, true) == -1 && errno == ENOSPC);
		close(full);
	}
	/* Nobody reads: no signal may come. */
	CHECK(pipe(pipe_fd) == 0);
	close(pipe_fd[0]);
	errno = 0;
	CHECK(kmm_stats_print(pipe_fd[1], false) == -1 && errno == EPIPE);
	close(pipe_fd[1]);
}

/* A reader that is slow, and a pipe that does not block: nothing may be lost. */
static void test_stats_nonblocking(void)
{
	int fd[2], status = 0;
	char buf[512], last = 0;
	size_t total = 0;
	ssize_t n;
	pid_t pid;

	CHECK(pipe(fd) == 0);
	fcntl(fd[1], F_SETFL, O_NONBLOCK);
	fcntl(fd[1], F_SETPIPE_SZ, 4096);
	pid = fork();
	if (pid == 0) {
		close(fd[0]);
		_exit(kmm_stats_print(fd[1], true) == 0 ? 0 : 1);
	}
	close(fd[1]);
	while ((n = read(fd[0], buf, sizeof(buf))) > 0) {
		total += (size_t)n;
		for (ssize_t i = 0; i < n; i++)
			last = buf[i] == '\n' ? last : buf[i];
	}
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(total > 4096 && last == '}');
	close(fd[0]);
}

int main(void)
{
	if (kmm_version == NULL) {
		fprintf(stderr, "kmm_api: libkmm is not preloaded\n");
		return 1;
	}
	CHECK(strchr(kmm_version(), '.') != NULL);
	test_usable_size();
	test_find_vma();
	test_compact();
	test_decay();
	test_pages();
	test_wrong_free_pages();
	test_percpu();
	test_stats_print();
	test_stats_nonblocking();
	free(malloc(100));
	kmm_trim(0);
	if (failures == 0)
		puts("kmm_api: ok");
	return failures != 0;
}
