/* SPDX-License-Identifier: MIT */
/*
 * limits.c - what a program may meet: little address space, a break that others move, no descriptors, small
 * stacks. limits.sh runs each part in the surroundings that it needs.
 *
 *   work        a bit of everything, with threads and children; must pass anywhere
 *   exhaust     allocates until NULL and ENOMEM, frees all, goes on (under ulimit -v)
 *   sbrk        the program moves the break itself, between its mallocs
 *   blocked     a mapping just behind the break keeps it from growing
 *   descriptors closes every descriptor, then uses memory and one file of its own
 *   stacks      threads with PTHREAD_STACK_MIN
 *   quiet       a few allocations, nothing printed (set-user-id)
 */
#include "../common/torture.h"

#include <sys/resource.h>

#define MIB (1ul << 20)

/* --- work ------------------------------------------------------------------------------------------------ */
static void *work_thread(void *arg)
{
	struct rng r = rng_of((uintptr_t)arg);
	struct tobj *held[100] = {NULL};

	for (unsigned i = 0; i < 20000; i++) {
		struct tobj **slot = &held[rng_below(&r, NR_OF(held))];

		if (*slot)
			tobj_free(*slot);
		*slot = tobj_new(rng_size(&r, rng_one_in(&r, 500) ? 22 : 13));
	}
	for (unsigned i = 0; i < NR_OF(held); i++)
		if (held[i])
			tobj_free(held[i]);
	return NULL;
}

static void work(void)
{
	pthread_t threads[4];
	int status;
	pid_t pid;

	work_thread((void *)99);
	for (uintptr_t i = 0; i < NR_OF(threads); i++)
		threads[i] = t_thread(work_thread, (void *)i);
	for (unsigned i = 0; i < NR_OF(threads); i++)
		pthread_join(threads[i], NULL);
	pid = fork();
	T_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		work_thread((void *)77);
		_exit(0);
	}
	T_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with status %x", (unsigned)status);
}

/* --- exhaust --------------------------------------------------------------------------------------------- */
struct chain {
	struct chain *next;
};

/* Allocates blocks of one size until there are no more, frees them; returns how many bytes there were. */
static size_t exhaust_size(size_t size)
{
	struct chain *all = NULL, *c;
	size_t total = 0;

	errno = 0;
	while ((c = malloc(size))) {
		memset(c, 0xa5, size);
		c->next = all;
		all = c;
		total += size;
	}
	T_CHECK(errno == ENOMEM, "malloc(%zu) failed with errno %d, not ENOMEM", size, errno);
	errno = 0;
	T_CHECK(!calloc(1, size > MIB ? size : 64 * MIB) && errno == ENOMEM, "calloc with no memory left: errno %d", errno);
	if (all) {
		errno = 0;
		c = realloc(all, 300 * MIB);
		T_CHECK(!c && errno == ENOMEM, "realloc with no memory left: %p, errno %d", (void *)c, errno);
	}
	while ((c = all)) {
		all = c->next;
		free(c);
	}
	return total;
}

static void exhaust(void)
{
	static const size_t sizes[] = {MIB, 100, 40000, 10 * MIB, 3000, 300000, 16, MIB};
	struct rlimit rl;
	size_t enough;

	T_CHECK(getrlimit(RLIMIT_AS, &rl) == 0 && rl.rlim_cur != RLIM_INFINITY, "exhaust needs ulimit -v");
	T_CHECK(!malloc((size_t)rl.rlim_cur * 2) && errno == ENOMEM, "malloc of twice the limit");
	enough = rl.rlim_cur / 2;
	for (unsigned i = 0; i < NR_OF(sizes); i++) {
		size_t total = exhaust_size(sizes[i]);

		/* glibc uses 32 bytes for 16 */
		T_CHECK(total > (sizes[i] < 100 ? enough / 2 : enough), "blocks of %zu: only %zu MiB of %zu before ENOMEM",
			sizes[i], total / MIB, (size_t)rl.rlim_cur / MIB);
		printf("limits: blocks of %zu: %zu MiB\n", sizes[i], total / MIB);
	}
	work_thread((void *)1);	/* no threads: their stacks need address space that any malloc may keep */
}

/* --- the break --------------------------------------------------------------------------------------------- */
#define NR_CLAIMS 64

/* From the first whole page on: what the break gave back of a page keeps its bytes. */
static bool all_zero(const unsigned char *p, size_t size)
{
	for (size_t i = -(uintptr_t)p & ((size_t)sysconf(_SC_PAGESIZE) - 1); i < size; i++)
		if (p[i])
			return false;
	return true;
}

static void sbrk_between(void)
{
	struct {
		unsigned char *p;
		size_t size;
	} claim[NR_CLAIMS];
	struct rng r = rng_of(1);
	struct tobj *held[200] = {NULL};
	unsigned n = 0, nr_given_back = 0;

	for (unsigned i = 0; i < 40000; i++) {
		struct tobj **slot = &held[rng_below(&r, NR_OF(held))];

		if (*slot)
			tobj_free(*slot);
		*slot = tobj_new(rng_size(&r, 14));
		if (rng_one_in(&r, 400) && n < NR_CLAIMS) {
			size_t size = 1 + rng_below(&r, 100000);
			unsigned char *p = sbrk((intptr_t)size);

			T_CHECK(p != (void *)-1, "sbrk(%zu): %s", size, strerror(errno));
			T_CHECK((unsigned char *)sbrk(0) >= p + size, "the break is below what sbrk gave");
			T_CHECK(all_zero(p, size), "sbrk gave memory that is not zero");
			memset(p, 1 + (int)n, size);
			claim[n].p = p;
			claim[n++].size = size;
		} else if (rng_one_in(&r, 400) && n && sbrk(0) == claim[n - 1].p + claim[n - 1].size) {
			n--;	/* the last one is still at the top: give it back, by either call */
			if (rng_one_in(&r, 2))
				T_CHECK(sbrk(-(intptr_t)claim[n].size) != (void *)-1, "sbrk down: %s", strerror(errno));
			else
				T_CHECK(brk(claim[n].p) == 0, "brk down: %s", strerror(errno));
			nr_given_back++;
		}
		if (rng_one_in(&r, 5000))
			malloc_trim(0);
	}
	for (unsigned i = 0; i < n; i++)
		for (size_t j = 0; j < claim[i].size; j++)
			T_CHECK(claim[i].p[j] == 1 + i, "memory of the program's own sbrk was overwritten");
	for (unsigned i = 0; i < NR_OF(held); i++)
		if (held[i])
			tobj_free(held[i]);
	printf("limits: %u own sbrk regions stand, %u given back\n", n, nr_given_back);
}

static void blocked(void)
{
	char *top = sbrk(0), *at = (char *)(((uintptr_t)top + 0xffff) & ~(uintptr_t)0xffff);
	struct tobj **held = mmap(NULL, 100000 * sizeof(*held), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rng r = rng_of(1);
	void *wall;

	for (; at < top + 64 * MIB; at += 0x10000) {
		wall = mmap(at, 0x1000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (wall == at)
			break;
	}
	T_CHECK(at < top + 64 * MIB, "no place for a mapping behind the break");
	T_CHECK(sbrk(128 * (intptr_t)MIB) == (void *)-1 && errno == ENOMEM, "sbrk went through a mapping");
	for (unsigned i = 0; i < 100000; i++)
		held[i] = tobj_new(rng_size(&r, 11));
	for (unsigned i = 0; i < 100000; i++)
		tobj_free(held[i]);
	malloc_trim(0);
	T_CHECK((char *)sbrk(0) <= at, "the break stands beyond the wall");
	munmap(at, 0x1000);
	work();
}

/* --- descriptors, stacks ------------------------------------------------------------------------------------ */
static void descriptors(void)
{
	static const char text[] = "what the program wrote must stay\n";
	char name[] = "/tmp/kmm-limits.XXXXXX", back[sizeof(text)] = "";
	int fd;

	work();
	for (int i = 0; i < 1024; i++)
		close(i);
	fd = mkstemp(name);
	if (fd != 0 || write(fd, text, sizeof(text)) != (ssize_t)sizeof(text))
		_exit(11);
	unlink(name);
	work();
	if (t_torture)
		sleep(5);	/* what a background thread may do */
	else
		sleep(2);
	work();
	if (pread(fd, back, sizeof(back), 0) != (ssize_t)sizeof(back) || memcmp(text, back, sizeof(text)))
		_exit(12);
	if (lseek(fd, 0, SEEK_END) != (off_t)sizeof(text))
		_exit(13);
}

static void *small_stack_thread(void *arg)
{
	struct rng r = rng_of((uintptr_t)arg);

	for (unsigned i = 0; i < 300; i++) {
		struct tobj *o = tobj_new(rng_size(&r, 22));

		tobj_free(o);
		if (i % 100 == 0)
			malloc_trim(0);
	}
	return NULL;
}

static void stacks(void)
{
	pthread_attr_t attr;
	pthread_t threads[8];

	pthread_attr_init(&attr);
	T_CHECK(pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0, "PTHREAD_STACK_MIN is refused");
	for (unsigned round = 0; round < 20; round++) {
		for (uintptr_t i = 0; i < NR_OF(threads); i++) {
			int err = pthread_create(&threads[i], &attr, small_stack_thread, (void *)i);

			T_CHECK(err == 0, "pthread_create: %s", strerror(err));
		}
		for (unsigned i = 0; i < NR_OF(threads); i++)
			pthread_join(threads[i], NULL);
	}
	pthread_attr_destroy(&attr);
}

/* --- set-user-id -------------------------------------------------------------------------------------------- */
static void quiet(void)
{
	void *p[1000];

	for (unsigned i = 0; i < NR_OF(p); i++)
		T_CHECK((p[i] = malloc(i + 1)), "malloc: %s", strerror(errno));
	for (unsigned i = 0; i < NR_OF(p); i++)
		free(p[i]);
	/* the caller sees by this whether it was the set-user-id copy that ran, and on which malloc */
	printf("euid %d uid %d %s\n", (int)geteuid(), (int)getuid(), t_on_kmm() ? "on libkmm" : "on libc");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} parts[] = {
		{"work", work},	    {"exhaust", exhaust},	  {"sbrk", sbrk_between}, {"blocked", blocked},
		{"stacks", stacks}, {"descriptors", descriptors}, {"quiet", quiet},
	};
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "quiet"))
		t_start("limits");
	t_watchdog(t_torture ? 600 : 90);
	for (unsigned i = 0; i < NR_OF(parts); i++) {
		if (!strcmp(what, parts[i].name)) {
			parts[i].fn();
			return 0;
		}
	}
	t_fail("usage: limits work|exhaust|sbrk|blocked|stacks|descriptors|quiet");
}
