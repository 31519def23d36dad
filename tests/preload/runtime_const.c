/* SPDX-License-Identifier: MIT */
/*
 * runtime_const.c - the code of malloc in a real program: as it was compiled at first, with constants once the program allocates much
 * or is about to have a second thread, as compiled for ever in the child of a fork, once the program locks itself up, and in the
 * other modes. Each case is a program of its own: this one, with the case's name. Known by how malloc's section reads where rseq
 * is: see lib/arch/x86_64/runtime_const.c.
 *
 * modes: auto lock norseq
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

/* movslq %fs:(%rcx), %rcx, or with a constant in the place of rcx. */
static int is_compiled(const void *code)
{
	return has(code, "\x64\x48\x63\x09", 4);
}

static int has_constants(const void *code)
{
	return has(code, "\x64\x48\x63\x0c\x25", 5) && has(code, "\x64\x48\x89\x0c\x25", 5);
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

/* A filter as OpenSSH's: who wants to make memory executable dies. */
static void refuse_by_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
	allocate_much();
	run_thread();
}

static void refuse_by_mdwe(void)
{
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
		puts("no PR_SET_MDWE here: Linux 6.3");
	allocate_much();
	run_thread();
}

static void check_child(int pid)
{
	int status;

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

static void allocate_in_a_child(void)
{
	int pid = fork();

	if (pid == 0) {
		allocate_much();
		run_thread();
		CHECK(is_compiled((void *)do_malloc) && is_compiled((void *)do_free));
		_exit(0);
	}
	check_child(pid);
}

/* prctl() is libkmm's: it must do what the kernel does, errors included. */
static void name_the_thread(void)
{
	char name[16] = "";

	CHECK(prctl(PR_SET_NAME, "an odd name") == 0 && prctl(PR_GET_NAME, name) == 0 && strcmp(name, "an odd name") == 0);
	errno = 0;
	CHECK(prctl(-1, 0, 0, 0, 0) == -1 && errno == EINVAL);
	CHECK(prctl(PR_GET_DUMPABLE) == 1);
}

static const struct {
	const char *name;
	void (*fn)(void);
	int changes;
} cases[] = {
	{ "much", allocate_much, 1 },
	{ "thread", run_thread, 1 },
	{ "filter", refuse_by_filter, 0 },
	{ "mdwe", refuse_by_mdwe, 0 },
	{ "fork", allocate_in_a_child, 0 },
	{ "name", name_the_thread, 0 },
};

static void run_case(const char *name, int changes)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(cases[i].name, name) != 0)
			continue;
		cases[i].fn();
		changes &= cases[i].changes;
		CHECK(has_constants((void *)do_malloc) == changes && has_constants((void *)do_free) == changes);
		CHECK(is_compiled((void *)do_malloc) == !changes && is_compiled((void *)do_free) == !changes);
		allocate_much();
		exit(0);
	}
}

int main(int argc, char **argv)
{
	const char *percpu = getenv("KMM_PERCPU");
	int changes = &__rseq_size && __rseq_size > 0 && !(percpu && strcmp(percpu, "lock") == 0);

#ifndef __x86_64__
	puts("rseq sections are for x86-64 only");
	return 77;
#endif
	CHECK(is_compiled((void *)do_malloc) && is_compiled((void *)do_free));
	if (argc > 1)
		run_case(argv[1], changes);
	for (size_t i = 0; argc == 1 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		int pid = fork();

		if (pid == 0)
			execl("/proc/self/exe", argv[0], cases[i].name, NULL);
		check_child(pid);
	}
	return argc > 1;
}
