/* SPDX-License-Identifier: MIT */
/*
 * huge.c - a program with a dense heap gets huge pages while it does something else, keeps what it has written, forks, and
 * loses them where it frees most of what lies in them. With KMM_THP=never it gets none.
 *
 * timeout: 240
 * modes: auto lock debug
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(c)                                                                        \
	do {                                                                            \
		if (!(c)) {                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #c); \
			abort();                                                        \
		}                                                                       \
	} while (0)

#define MIB  96
#define SIZE 128
#define NR   ((size_t)MIB * 1024 * 1024 / SIZE)

static uint64_t **objects;

/* Without stdio, which allocates. The first bytes of a file; false: there is none. */
static bool read_text(const char *file, char *text, size_t size)
{
	int fd = open(file, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

static long smaps_kib(const char *key)
{
	char text[4096];
	const char *line;

	CHECK(read_text("/proc/self/smaps_rollup", text, sizeof(text)));
	line = strstr(text, key);
	CHECK(line != NULL);
	return atol(line + strlen(key));
}

static long huge_mib(void)
{
	return smaps_kib("AnonHugePages:") / 1024;
}

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

static void *second_thread(void *arg)
{
	free(malloc(100));		/* so that libkmm knows it */
	for (;;)
		sleep_ms(1000);
	return arg;
}

static void fill(void)
{
	objects = malloc(NR * sizeof(*objects));
	CHECK(objects != NULL);
	for (size_t i = 0; i < NR; i++) {
		objects[i] = malloc(SIZE);
		CHECK(objects[i] != NULL);
		for (int k = 0; k < SIZE / 8; k++)
			objects[i][k] = i + (size_t)k;
	}
}

static void check(void)
{
	for (size_t i = 0; i < NR; i++)
		for (int k = 0; objects[i] != NULL && k < SIZE / 8; k++)
			CHECK(objects[i][k] == i + (size_t)k);
}

static void wait_until_huge(void)
{
	for (int i = 0; i < 600 && huge_mib() < MIB / 2; i++) {
		/* A pair now and then, as of a program that is not quite idle. */
		free(malloc(40));
		sleep_ms(100);
	}
	CHECK(huge_mib() >= MIB / 2);
}

static void children_share(void)
{
	int status;
	pid_t pid;

	for (int i = 0; i < 3; i++) {
		pid = fork();
		if (pid == 0) {
			check();
			for (size_t n = (size_t)i; n < NR; n += 3)
				memset(objects[n], 0xcc, SIZE);
			for (size_t n = 0; n < NR; n += 2)
				free(objects[n]);
			_exit(0);
		}
		CHECK(pid > 0);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		check();
	}
}

static void becomes_sparse(void)
{
	for (size_t i = 0; i < NR; i++) {
		if (i / 64 % 10 == 0)
			continue;
		free(objects[i]);
		objects[i] = NULL;
	}
	for (int i = 0; i < 300 && smaps_kib("Pss:") > MIB * 1024 / 2; i++)
		sleep_ms(100);
	CHECK(smaps_kib("Pss:") <= MIB * 1024 / 2);
	check();
}

int main(int argc, char **argv)
{
	char text[64];
	pthread_t thread;

	if (!read_text("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) || strstr(text, "[never]") ||
	    sysconf(_SC_PAGESIZE) != 4096) {
		puts("no transparent huge pages here");
		return 77;
	}
	if (argc == 1) {
		char *again[] = { argv[0], (char *)"never", NULL };
		int status;
		pid_t pid = fork();

		setenv("KMM_DECAY_MS", "100", 1);
		if (pid == 0) {
			setenv("KMM_THP", "never", 1);
			execv(argv[0], again);
			_exit(1);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		again[1] = (char *)"auto";
		execv(argv[0], again);
		return 1;
	}
	CHECK(pthread_create(&thread, NULL, second_thread, NULL) == 0);
	fill();
	if (strcmp(argv[1], "never") == 0) {
		sleep_ms(3000);
		CHECK(huge_mib() == 0);
		check();
		return 0;
	}
	wait_until_huge();
	check();
	children_share();
	becomes_sparse();
	return 0;
}
