/* SPDX-License-Identifier: MIT */
/*
 * runtime_const.c - the code of malloc in a real program: as it was compiled at first, with constants once the program allocates much
 * or is about to have a second thread, as compiled for ever where code may not be written (PR_SET_MDWE) or in the other modes.
 * Each case is a child of its own. Known by how malloc's section reads where rseq is: see lib/arch/x86_64/runtime_const.c.
 *
 * modes: auto lock norseq
 */
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#define CHECK(cond)                                                                          \
	do {                                                                                 \
		if (!(cond)) {                                                               \
			fprintf(stderr, "runtime_const: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);                                                             \
		}                                                                            \
	} while (0)

extern const unsigned int __rseq_size __attribute__((weak));

static void *(*volatile do_malloc)(size_t) = malloc;
static void (*volatile do_free)(void *) = free;

static int has(const void *code, const char *bytes, size_t size)
{
	return memmem(code, 160, bytes, size) != NULL;
}

/* movzwl %fs:(%rcx), %ecx, or with a constant in the place of rcx. */
static int is_compiled(const void *code)
{
	return has(code, "\x64\x0f\xb7\x09", 4);
}

static int has_constants(const void *code)
{
	return has(code, "\x64\x0f\xb7\x0c\x25", 5) && has(code, "\x64\x48\x89\x0c\x25", 5);
}

static void allocate_much(void)
{
	static char *blocks[20000];

	for (size_t i = 0; i < 20000; i++) {
		blocks[i] = do_malloc(16 + i % 1000);
		CHECK(blocks[i]);
		memset(blocks[i], (int)i, 16);
	}
	for (size_t i = 0; i < 20000; i++) {
		CHECK(blocks[i][15] == (char)i);
		do_free(blocks[i]);
	}
}

static void *allocate_in_thread(void *arg)
{
	allocate_much();
	return arg;
}

static void run_thread(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void refuse(void)
{
	void *p;

	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0) {
		puts("no PR_SET_MDWE here: Linux 6.3");
		return;
	}
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_EXEC) != 0);
	allocate_much();
	run_thread();
	CHECK(is_compiled((void *)do_malloc) && is_compiled((void *)do_free));
}

static void check(void (*fn)(void), int changes)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		fn();
		if (changes >= 0)
			CHECK(has_constants((void *)do_malloc) == changes && has_constants((void *)do_free) == changes);
		allocate_much();
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(void)
{
	const char *percpu = getenv("KMM_PERCPU");
	int changes = &__rseq_size && __rseq_size > 0 && !(percpu && strcmp(percpu, "lock") == 0);

#ifndef __x86_64__
	puts("rseq sections are for x86-64 only");
	return 77;
#endif
	CHECK(is_compiled((void *)do_malloc) && is_compiled((void *)do_free));
	check(allocate_much, changes);
	check(run_thread, changes);
	check(refuse, -1);
	CHECK(is_compiled((void *)do_malloc) && is_compiled((void *)do_free));
	allocate_much();
	CHECK(has_constants((void *)do_malloc) == changes && has_constants((void *)do_free) == changes);
	return 0;
}
