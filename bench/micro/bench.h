/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the micro benchmarks share: calls the compiler cannot see through, a clock, a generator of
 * pseudo-random numbers that costs two instructions, and the form of a result.
 *
 * A result is one line on stdout, "NAME VALUE UNIT", lower is better. bench/compare reads it.
 */
#ifndef KMM_BENCH_H
#define KMM_BENCH_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Volatile pointers: neither the pair nor the test for NULL is optimised away, and the call goes where ld.so says. */
extern void *(*volatile bench_malloc)(size_t);
extern void *(*volatile bench_realloc)(void *, size_t);
extern void (*volatile bench_free)(void *);

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Single-threaded patterns count CPU time, all threads of the library's own included: a busy machine disturbs it less. */
static inline uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* A linear congruential generator; the upper half of the state is good enough to choose slots and sizes. */
static inline uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

/* A number below n, without division. */
static inline uint32_t random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(((uint64_t)next_random(state) * n) >> 32);
}

/* Sizes from 16 bytes on, spread evenly over so many powers of two: as many of 16 to 31 bytes as of the largest. */
static inline uint32_t random_size(uint64_t *state, uint32_t powers)
{
	uint32_t base = 16u << random_below(state, powers);

	return base + random_below(state, base);
}

static inline void report(const char *name, double value, const char *unit)
{
	printf("%s %.3f %s\n", name, value, unit);
}

/* Argument n as a number, or a default; anything else ends the program with a message. */
unsigned long argument(int argc, char **argv, int n, const char *what, unsigned long def);

/* An allocation that must not fail: a benchmark that ran out of memory has no result. */
void *must_malloc(size_t size);

/* Binds the calling thread to the n-th CPU that the process may use (modulo their number). */
void bind_to_cpu(unsigned n);

/* Threads that begin together: each waits at the gate, the main one opens it when nr are there and learns the time. */
void wait_at_gate(void);
uint64_t open_gate(size_t nr);

/* A thread that must start: with too few of them a benchmark has no result. attr may be NULL. */
pthread_t must_start(const pthread_attr_t *attr, void *(*body)(void *), void *arg);

#ifdef __cplusplus
}
#endif
#endif
