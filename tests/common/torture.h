/* SPDX-License-Identifier: MIT */
/*
 * torture.h - what the behavioural tests share: seed, clock, random numbers, stamped objects, failure.
 *
 * Purpose: a test is one program that runs under any malloc, returns 0 and says what failed otherwise.
 *   LIBKMM_TEST_SEED=n   repeats a run (each test prints its seed)
 *   LIBKMM_TORTURE=1     minutes instead of seconds
 *   LIBKMM_TEST_LIB=x    the test fails unless malloc comes from a file of that base name
 *   LIBKMM_TEST_ABORT=1  a failure aborts, for a core file; LIBKMM_TEST_HANG=1: a deadlock stays, for gdb
 *
 * Objects: word 0 of every stamped object says whose it is,
 *     | magic 16 | epoch 16 | owner 32 |
 *   It is set by an atomic exchange when the object was handed out and cleared by a compare-and-swap before it
 *   is freed, so an object that two own at once is seen by the second, whatever thread or vfork child it is.
 *   A forked child starts an epoch of its own: its picture of other threads' objects may be older than the
 *   heap's, and objects of the old epoch prove nothing.
 */
#ifndef KMM_TESTS_TORTURE_H
#define KMM_TESTS_TORTURE_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NR_OF(a) (sizeof(a) / sizeof((a)[0]))

static const char *t_name = "?";
static uint64_t t_seed;
static bool t_torture;
static bool t_copies;		/* free memory may be a copy of what lives elsewhere: meshing by KSM */
static uint16_t t_epoch;

/* --- failure ------------------------------------------------------------------------------------------ */
__attribute__((noreturn, format(printf, 1, 2))) static inline void t_fail(const char *fmt, ...)
{
	char buf[512];
	va_list ap;
	int n = snprintf(buf, sizeof(buf), "%s: FAILED (pid %d, seed %llu): ", t_name, (int)getpid(),
			 (unsigned long long)t_seed);

	va_start(ap, fmt);
	n += vsnprintf(buf + n, sizeof(buf) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(buf) - 2)
		n = (int)sizeof(buf) - 2;
	buf[n++] = '\n';
	if (write(STDERR_FILENO, buf, (size_t)n) < 0)
		_exit(3);
	if (getenv("LIBKMM_TEST_ABORT"))
		abort();
	_exit(1);
}

#define T_CHECK(cond, ...)                                                     \
	do {                                                                   \
		if (__builtin_expect(!(cond), 0))                              \
			t_fail(__VA_ARGS__);                                   \
	} while (0)

static inline void t_hung(int sig)
{
	(void)sig;
	if (getenv("LIBKMM_TEST_HANG")) {
		static const char msg[] = "hung; waiting for a debugger\n";

		if (write(STDERR_FILENO, msg, sizeof(msg) - 1) < 0)
			_exit(3);
		for (;;)
			pause();
	}
	t_fail("deadlock: not done in time");
}

/* The process must be done (or arm again) within so many seconds. A forked child arms its own. */
static inline void t_watchdog(unsigned seconds)
{
	signal(SIGALRM, t_hung);
	alarm(seconds);
}

/* --- start, time ---------------------------------------------------------------------------------------- */
/* Does malloc come from libkmm? Bounds that only libkmm promises are checked only then. */
static inline bool t_on_kmm(void)
{
	Dl_info info;

	return dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && info.dli_fname && strstr(info.dli_fname, "libkmm");
}

static inline void t_start(const char *name)
{
	const char *seed = getenv("LIBKMM_TEST_SEED"), *lib = getenv("LIBKMM_TEST_LIB"), *torture = getenv("LIBKMM_TORTURE");
	struct timespec ts;
	Dl_info info;

	t_name = name;
	setvbuf(stdout, NULL, _IOLBF, 0);	/* a crash must not take with it what was said before */
	clock_gettime(CLOCK_REALTIME, &ts);
	t_seed = seed ? strtoull(seed, NULL, 0) : ((uint64_t)ts.tv_nsec << 16 ^ (uint64_t)ts.tv_sec) & 0xffffffffu;
	t_torture = torture && *torture && strcmp(torture, "0");
	t_copies = getenv("KMM_COMPACT") && strcmp(getenv("KMM_COMPACT"), "ksm") == 0;
	if (lib && *lib)
		T_CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && strstr(info.dli_fname, lib),
			"malloc is not %s's but comes from %s", lib, info.dli_fname);
	dprintf(STDERR_FILENO, "%s: seed %llu%s\n", name, (unsigned long long)t_seed, t_on_kmm() ? ", on libkmm" : "");
}

static inline uint64_t t_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Run time of a part: so many milliseconds, or 30 times that in the long form. */
static inline uint64_t t_deadline(unsigned ms)
{
	return t_now_ms() + (t_torture ? 30ull * ms : ms);
}

/* --- random numbers (splitmix64) ---------------------------------------------------------------------- */
struct rng {
	uint64_t s;
};

static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline unsigned rng_below(struct rng *r, unsigned n)
{
	return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

static inline bool rng_one_in(struct rng *r, unsigned n)
{
	return rng_below(r, n) == 0;
}

static inline struct rng rng_of(uint64_t stream)
{
	struct rng r = {.s = t_seed * 0x2545f4914f6cdd1dull + stream * 0x9e3779b97f4a7c15ull};

	rng_next(&r);
	return r;
}

/* Sizes as programs have them: each power of two from 32 to 1 << log_max equally likely. At least 16, for tobj. */
static inline size_t rng_size(struct rng *r, unsigned log_max)
{
	size_t top = (size_t)1 << (5 + rng_below(r, log_max - 4));

	return top - rng_below(r, (unsigned)(top / 2) + 1);
}

/* --- CPUs ------------------------------------------------------------------------------------------------ */
/* The n-th CPU that the process may run on, counted round and round. */
static inline int t_nth_cpu(unsigned n)
{
	static cpu_set_t allowed;	/* as it was at the first call, before anybody was pinned */
	static bool known;
	unsigned nr;

	if (!known) {
		sched_getaffinity(0, sizeof(allowed), &allowed);
		known = true;
	}
	nr = (unsigned)CPU_COUNT(&allowed);
	n %= nr ? nr : 1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && n-- == 0)
			return cpu;
	return 0;
}

static inline void t_pin(unsigned n)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(t_nth_cpu(n), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* The calling thread, and those it makes, may use two CPUs only, so that threads meet on them. */
static inline void t_pin_pair(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(t_nth_cpu(0), &set);
	CPU_SET(t_nth_cpu(1), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* --- stamped objects ------------------------------------------------------------------------------------ */
#define STAMP_MAGIC 0x6b6dull

static inline uint64_t stamp_of(uint32_t owner)
{
	return STAMP_MAGIC << 48 | (uint64_t)t_epoch << 32 | owner;
}

static inline void obj_claim(void *p, uint32_t owner)
{
	uint64_t old = __atomic_exchange_n((uint64_t *)p, stamp_of(owner), __ATOMIC_ACQ_REL);

	/* With copies, the first of two owners will miss its stamp when it frees. */
	T_CHECK(t_copies || old >> 32 != stamp_of(0) >> 32, "object %p handed out twice: to %x, still owned by %x", p, owner,
		(unsigned)old);
}

static inline void obj_release(void *p, uint32_t owner)
{
	uint64_t want = stamp_of(owner), old = want;

	T_CHECK(__atomic_compare_exchange_n((uint64_t *)p, &old, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED),
		"object %p of owner %x was overwritten: %llx instead of %llx", p, owner, (unsigned long long)old,
		(unsigned long long)want);
}

/*
 * A pattern over [from, size), from a multiple of 8: every word up to 1 KiB, then both ends of every 4 KiB, the
 * last whole word, and the bytes behind it.
 */
static inline size_t pattern_next(size_t off, size_t size)
{
	size_t next = off + 8, last = (size & ~(size_t)7) - 8;

	if (next > 1024 && (next & 4095) > 8 && (next & 4095) < 4088)
		next = (next & ~(size_t)4095) + 4088;
	return next > last && off < last ? last : next;
}

static inline uint64_t pattern_at(uint64_t key, size_t off)
{
	return (key ^ off) * 0x9e3779b97f4a7c15ull;
}

static inline void pattern_fill(void *p, size_t from, size_t size, uint64_t key)
{
	for (size_t off = from; off + 8 <= size; off = pattern_next(off, size)) {
		uint64_t word = pattern_at(key, off);

		memcpy((char *)p + off, &word, 8);
	}
	for (size_t off = size & ~(size_t)7; off < size; off++)
		((unsigned char *)p)[off] = (unsigned char)(key + off);
}

/* Checks what pattern_fill(p, from, filled, key) wrote, as far as size. */
static inline void pattern_check(const void *p, size_t from, size_t filled, size_t size, uint64_t key)
{
	for (size_t off = from; off + 8 <= filled && off + 8 <= size; off = pattern_next(off, filled)) {
		uint64_t word;

		memcpy(&word, (const char *)p + off, 8);
		T_CHECK(word == pattern_at(key, off), "object %p of %zu bytes was overwritten at %zu: %llx", p, filled, off,
			(unsigned long long)word);
	}
	for (size_t off = filled & ~(size_t)7; off < filled && off < size; off++)
		T_CHECK(((const unsigned char *)p)[off] == (unsigned char)(key + off),
			"object %p of %zu bytes was overwritten at %zu", p, filled, off);
}

/* An object that can be handed to anybody: it says itself how long it is and what it must contain. */
struct tobj {
	uint64_t stamp;
	uint64_t size;
};

#define TOBJ_OWNER 0x70b1u

static inline struct tobj *tobj_init(void *p, size_t size)
{
	struct tobj *o = p;

	T_CHECK(((uintptr_t)p & 15) == 0, "object %p of %zu bytes is not 16-byte aligned", p, size);
	obj_claim(o, TOBJ_OWNER);
	o->size = size;
	pattern_fill(o, sizeof(*o), size, size ^ (uintptr_t)o);
	return o;
}

static inline struct tobj *tobj_new(size_t size)
{
	void *p;

	if (size < sizeof(struct tobj))
		size = sizeof(struct tobj);
	p = malloc(size);
	T_CHECK(p, "malloc(%zu): %s", size, strerror(errno));
	return tobj_init(p, size);
}

static inline void tobj_check(const struct tobj *o)
{
	T_CHECK((uint32_t)o->stamp == TOBJ_OWNER && o->stamp >> 48 == STAMP_MAGIC, "object %p lost its stamp: %llx", (void *)o,
		(unsigned long long)o->stamp);
	pattern_check(o, sizeof(*o), o->size, o->size, o->size ^ (uintptr_t)o);
}

static inline void tobj_free(struct tobj *o)
{
	uint64_t stamp = o->stamp;

	tobj_check(o);
	T_CHECK(__atomic_compare_exchange_n(&o->stamp, &stamp, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED),
		"object %p was freed by two at once", (void *)o);
	free(o);
}

/* --- memory ---------------------------------------------------------------------------------------------- */
/* Proportional resident size of the process in KiB, or -1 without /proc. Allocates nothing. */
static inline long t_pss_kib(void)
{
	char buf[2048], *line;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = 0;
	line = strstr(buf, "\nPss:");
	return line ? strtol(line + 5, NULL, 10) : -1;
}

static inline pthread_t t_thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;
	int err = pthread_create(&t, NULL, fn, arg);

	T_CHECK(err == 0, "pthread_create: %s", strerror(err));
	return t;
}

#endif
