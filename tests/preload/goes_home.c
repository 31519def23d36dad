/* SPDX-License-Identifier: MIT */
/*
 * goes_home.c - memory that was freed goes back to the kernel while the program sleeps, and nobody notices the thread
 * that does it: it does not wake up when nothing is left to do, it is not there in small programs, it does not keep a
 * process alive, and it does not end one.
 *
 * modes: auto lock debug
 */
#include <errno.h>
#include <fcntl.h>
#include <kmm/kmm.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma weak kmm_decay_set

#define CHECK(c)                                                                        \
	do {                                                                            \
		if (!(c)) {                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #c); \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* Without stdio, which allocates: to look must not wake anybody. */
static long proc_number(const char *file, const char *key)
{
	char text[4096];
	int fd = open(file, O_RDONLY);
	const char *line;
	ssize_t n;

	CHECK(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	CHECK(n > 0);
	close(fd);
	text[n] = '\0';
	line = strstr(text, key);
	CHECK(line != NULL);
	return atol(line + strlen(key));
}

/* Pss and page tables, in KiB. */
static long resident(void)
{
	return proc_number("/proc/self/smaps_rollup", "Pss:") + proc_number("/proc/self/status", "VmPTE:");
}

static int nr_threads(void)
{
	return (int)proc_number("/proc/self/status", "Threads:");
}

/* Fills mib MiB with blocks of one size and frees them all. Returns the peak in KiB. */
static long fill_and_free(size_t mib, size_t size)
{
	size_t nr = (mib << 20) / size;
	char **p = malloc(nr * sizeof(*p));
	long peak;

	CHECK(p != NULL);
	for (size_t i = 0; i < nr; i++) {
		p[i] = malloc(size);
		CHECK(p[i] != NULL);
		memset(p[i], 0x5a, size);
	}
	peak = resident();
	for (size_t i = 0; i < nr; i++)
		free(p[i]);
	free(p);
	return peak;
}

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

/* No call of malloc or free while it sleeps. What is left after at most ten seconds. */
static long sleep_until_below(long kb)
{
	for (int i = 0; i < 20; i++) {
		sleep_ms(500);
		if (resident() < kb)
			break;
	}
	return resident();
}

/* Of all threads but the first; ids of threads follow one another closely. */
static long wakeups(void)
{
	char path[64];
	long sum = 0;

	for (int tid = getpid() + 1; tid < getpid() + 1000; tid++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
		if (access(path, R_OK) == 0)
			sum += proc_number(path, "\nvoluntary_ctxt_switches:");
	}
	return sum;
}

/* Two seconds without a wakeup: no pass sleeps that long. A loaded machine may need many. */
static bool falls_asleep(void)
{
	for (int i = 0; i < 15; i++) {
		long n = wakeups();

		sleep_ms(2000);
		if (wakeups() == n)
			return true;
	}
	return false;
}

static void small_blocks(void)
{
	long before = resident(), peak = fill_and_free(256, 200), left;

	CHECK(peak > before + 256 * 1024);
	left = sleep_until_below(before + 16 * 1024);
	CHECK(left < before + 16 * 1024);
	CHECK(nr_threads() == 2);
	CHECK(falls_asleep());
	/* And again: it is woken. */
	fill_and_free(128, 1000);
	CHECK(sleep_until_below(before + 16 * 1024) < before + 16 * 1024);
	CHECK(nr_threads() == 2);
}

static void large_blocks(void)
{
	long before = resident();

	fill_and_free(128, 300000);
	fill_and_free(120, 40 << 20);
	CHECK(sleep_until_below(before + 8 * 1024) < before + 8 * 1024);
}

/* Kept for an hour, unless the program says otherwise in between. */
static void decay_at_run_time(void)
{
	long before = resident();

	CHECK(kmm_decay_set(3600000) == 0);
	fill_and_free(128, 300);
	sleep_ms(2000);
	CHECK(resident() > before + 64 * 1024);
	CHECK(kmm_decay_set(50) == 0);
	CHECK(sleep_until_below(before + 16 * 1024) < before + 16 * 1024);
}

static sem_t enough;

static void *use_some(void *arg)
{
	fill_and_free(4, 500);
	sem_wait(&enough);
	return arg;
}

static void small_program_stays_alone(void)
{
	fill_and_free(4, 100);
	sleep_ms(1500);
	fill_and_free(4, 100);
	sleep_ms(200);
	CHECK(nr_threads() == 1);
}

static void *print_and_return(void *arg)
{
	sleep_ms(300);
	printf("the end\n");	/* stays in stdio's buffer until the process ends */
	return arg;
}

/* The main thread goes first. The last one of the program ends the process, with its descriptors. */
static void main_ends_first(void)
{
	pthread_t t;

	fill_and_free(80, 200);
	CHECK(nr_threads() == 2);
	CHECK(pthread_create(&t, NULL, print_and_return, NULL) == 0);
	pthread_exit(NULL);
}

static void forked_child_has_its_own(void)
{
	int status;
	pid_t pid;

	fill_and_free(80, 200);
	CHECK(nr_threads() == 2);
	pid = fork();
	if (pid == 0) {
		long before = resident();

		CHECK(nr_threads() == 1);
		fill_and_free(100, 300);
		CHECK(nr_threads() == 2);
		CHECK(sleep_until_below(before + 8 * 1024) < before + 8 * 1024);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
}

static void in_child(const char *name, void (*fn)(void), const char *prints, long within_ms)
{
	struct timespec t0, t1;
	char text[64] = "";
	int fd[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	CHECK(pipe(fd) == 0);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(fd[1], 1);
		close(fd[0]);
		close(fd[1]);
		alarm(120);
		fn();
		exit(0);
	}
	close(fd[1]);
	while ((n = read(fd[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	close(fd[0]);
	CHECK(waitpid(pid, &status, 0) == pid);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	printf("%s: %ld ms\n", name, (t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000);
	CHECK(status == 0);
	CHECK(strcmp(text, prints) == 0);
	CHECK((t1.tv_sec - t0.tv_sec) * 1000 <= within_ms);
}

static void threads_that_sleep(void)
{
	pthread_t t[20];
	long before = resident(), left = LONG_MAX;

	for (int i = 0; i < 20; i++)
		CHECK(pthread_create(&t[i], NULL, use_some, NULL) == 0);
	sleep_ms(1000);		/* they have all begun */
	for (int tries = 0; tries < 3 && left >= before + 16 * 1024; tries++)
		left = sleep_until_below(before + 16 * 1024);
	fprintf(stderr, "%ld kB more than before\n", left - before);
	CHECK(left < before + 16 * 1024);
	for (int i = 0; i < 20; i++)
		sem_post(&enough);
	for (int i = 0; i < 20; i++)
		pthread_join(t[i], NULL);
}

int main(void)
{
	in_child("small blocks", small_blocks, "", 40000);
	in_child("decay at run time", decay_at_run_time, "", 20000);
	in_child("large blocks", large_blocks, "", 20000);
	in_child("a small program stays alone", small_program_stays_alone, "", 10000);
	in_child("the main thread ends first", main_ends_first, "the end\n", 20000);
	in_child("a forked child has its own", forked_child_has_its_own, "", 20000);
	in_child("threads that sleep", threads_that_sleep, "", 60000);
	return 0;
}
