/* SPDX-License-Identifier: MIT */
/*
 * signals.c - a handler allocates while it interrupts the fast path.
 *
 * Purpose: malloc and free pairs in a signal handler that comes in the middle of malloc or free must not corrupt
 * anything. POSIX does not allow it; libkmm's fast path does, because a critical section of rseq is restarted.
 * Its slow paths take locks and are not promised, so the test stays off them: each thread is bound to a CPU, its
 * caches are filled half-way before the timers start, and from then on thread and handler only take few objects
 * and give them back in LIFO order.
 *
 * A handler that gives back what it took leaves a cache exactly as it was, and proves nothing. So it keeps a few
 * objects from call to call: between two instructions of the thread, the cache's top has moved or holds another
 * object.
 *
 * Objects: stamped. One that the interrupted malloc already had in its hands and that the handler was given too,
 * or one that two interrupted frees both put back, is seen by its second owner.
 *
 * In the lock mode nothing is promised: a thread that finds every area locked goes the slow way.
 *
 * modes: auto
 */
#include "../common/torture.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define NR_DEPTH   4	/* objects that a thread holds at once */
#define NR_HANDLER 6	/* and its handler */
#define NR_WARM	   24
#define PERIOD_NS  40000

static bool stop;
static uint64_t nr_signals, nr_pairs;
static __thread size_t size_now;	/* initial-exec in a program: nothing is allocated at first use */
static __thread uint32_t me;
static __thread void *kept[NR_HANDLER];
static __thread unsigned nr_kept;
static __thread struct rng handler_rng;

static void *take(uint32_t owner)
{
	void *p = malloc(size_now);

	T_CHECK(p, "malloc(%zu): %s", size_now, strerror(errno));
	obj_claim(p, owner);
	return p;
}

static void give(void *p, uint32_t owner)
{
	obj_release(p, owner);
	free(p);
}

static void handler(int sig)
{
	uint32_t owner = me | 0x80000000u;
	int saved = errno;
	void *p;

	(void)sig;
	switch (rng_below(&handler_rng, 3)) {
	case 0:		/* one more */
		if (nr_kept < NR_HANDLER)
			kept[nr_kept++] = take(owner);
		break;
	case 1:		/* one less */
		if (nr_kept)
			give(kept[--nr_kept], owner);
		break;
	default:	/* another one */
		p = take(owner);
		if (nr_kept) {
			void *old = kept[nr_kept - 1];

			kept[nr_kept - 1] = p;
			p = old;
		}
		give(p, owner);
	}
	__atomic_add_fetch(&nr_signals, 1, __ATOMIC_RELAXED);
	errno = saved;
}

static void warm_up(size_t size)
{
	void *p[NR_WARM];

	for (unsigned i = 0; i < NR_WARM; i++)
		p[i] = malloc(size);
	for (unsigned i = NR_WARM; i-- > 0;)
		free(p[i]);
}

static timer_t start_timer(int sig)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = sig};
	struct itimerspec its = {.it_interval.tv_nsec = PERIOD_NS, .it_value.tv_nsec = PERIOD_NS};
	timer_t timer;

	ev.sigev_notify_thread_id = gettid();
	T_CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0, "timer_create: %s", strerror(errno));
	T_CHECK(timer_settime(timer, 0, &its, NULL) == 0, "timer_settime: %s", strerror(errno));
	return timer;
}

static void *worker(void *arg)
{
	static const size_t sizes[] = {16, 48, 64, 200, 512};
	unsigned n = (unsigned)(uintptr_t)arg;
	uint64_t pairs = 0;
	timer_t timer;
	sigset_t set;
	void *p[NR_DEPTH];

	me = 1 + n;
	handler_rng = rng_of(n);
	size_now = sizes[n % NR_OF(sizes)];
	t_pin(n);
	warm_up(size_now);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	timer = start_timer(SIGRTMIN);
	for (unsigned depth = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); depth = depth % NR_DEPTH + 1) {
		for (unsigned i = 0; i < depth; i++)
			p[i] = take(me);
		for (unsigned i = depth; i-- > 0;)
			give(p[i], me);
		pairs += depth;
	}
	timer_delete(timer);
	pthread_sigmask(SIG_BLOCK, &set, NULL);	/* one may still be on its way */
	while (nr_kept)
		give(kept[--nr_kept], me | 0x80000000u);
	__atomic_add_fetch(&nr_pairs, pairs, __ATOMIC_RELAXED);
	return NULL;
}

int main(void)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};
	pthread_t threads[4];
	uint64_t end;

	t_start("signals");
	t_watchdog(t_torture ? 600 : 60);
	t_nth_cpu(0);
	if (!t_on_kmm()) {
		/* other allocators deadlock or worse; what can be shown there is that the test itself is right */
		printf("signals: not on libkmm, handlers do not allocate\n");
		sa.sa_handler = SIG_IGN;
	}
	sigaction(SIGRTMIN, &sa, NULL);
	for (uintptr_t i = 0; i < NR_OF(threads); i++)
		threads[i] = t_thread(worker, (void *)i);
	for (end = t_deadline(3000); t_now_ms() < end;)
		usleep(50000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < NR_OF(threads); i++)
		pthread_join(threads[i], NULL);
	T_CHECK(nr_pairs > 10000, "only %llu pairs", (unsigned long long)nr_pairs);
	T_CHECK(!t_on_kmm() || nr_signals > 1000, "only %llu signals", (unsigned long long)nr_signals);
	printf("signals: %llu pairs, %llu signals\n", (unsigned long long)nr_pairs, (unsigned long long)nr_signals);
	return 0;
}
