/* SPDX-License-Identifier: MIT */
/*
 * kmmd.c - the background thread.
 *
 * Purpose
 *	Memory that the program has freed goes back to the kernel while the program sleeps, without a call of malloc or
 *	free having to happen. And some things are worth having in a large program and too dear for a small one: the
 *	topology of the machine (hwloc) and RCU (liburcu-bp). kmmd loads them when it has run for a second, so that no
 *	malloc has to wait for it.
 *
 * Objects
 *	One state: IDLE -> STARTING -> RUNNING. OFF: the main thread or the process is ending, and there will be none again.
 *
 *	      pass, pass, ...   everything is at home   pass: really?
 *	RUNNING ------------------------> kmmd_asleep, kmmd_wanted ------> sleeps for good
 *	   ^                                                                   |
 *	   +---- a decay time later ---- kmmd_consider() of a slow path -------+
 *
 * When it starts
 *	It must be worth it: kmmd_wanted, and a second thread is alive, one that a slow path has met or pthread_create() has
 *	made; or KSWAPD_EARNED bytes could go home, since one more thread in a single-threaded program breaks unshare and
 *	setns. It must be safe: our caller is the program, not libc or ld.so, which may hold the loader's locks inside
 *	pthread_create or dlopen; and the process is the one that libkmm runs in, not a vfork child that borrows its
 *	memory. A program of one thread gets no libraries.
 *
 * When it ends
 *	A process whose main thread has ended lives until its last thread returns, and kmmd must not be that one: exit()
 *	would then run on a thread without the program's descriptors and lose what stdio has buffered. So kmmd sleeps on
 *	the main thread's id as well, which the kernel clears when that ends, and then ends at once. Where it cannot
 *	(Linux before 5.16) it ends instead of sleeping for good, and is started anew when it is wanted.
 *
 * Locks
 *	Passes take the locks of the slow paths for a few microseconds at a time, inside the gate, which is left after
 *	every slice. kmmd, the first of all locks, is held over dlopen, and fork takes it: a fork in the middle of another
 *	thread's dlopen gives a child in which dlopen hangs. To come to terms with a thread that is inside dlopen itself
 *	and forks from there, kmmd first waits, without its lock, until the loader is free.
 *
 *	kmmd: asleep = wanted = true ; pass ; sleep while seq      slow path: frees ; if wanted: asleep = false, seq++, wake
 *
 * Kernel counterpart and what differs
 *	mm/vmscan.c's kswapd and its like, which run from boot on. Theirs wake by watermark, ours also by time.
 *
 * Fork and init
 *	kmmd_init() is called by the main thread. A child has no kmmd; it starts one when it wants to, and finds loaded what
 *	was loaded.
 */
#include "mm/kmmd.h"

#include "arch/runtime_const.h"
#include "arch/topology.h"
#include "base/param.h"
#include "mm/gate.h"
#include "mm/mm_struct.h"
#include "os/kthread.h"
#include "os/os.h"
#include "page/compaction.h"
#include "page/huge_memory.h"
#include "page/memcontrol.h"
#include "page/vmpressure.h"
#include "page/vmstat.h"
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

extern struct r_debug _r_debug __attribute__((weak));	/* strong, it would make ld.so a DT_NEEDED */

#define LOAD_BYTES   MIB(4)	/* set aside of the quota: hwloc takes 0.3 MiB here, more on large machines */
#define RETRY_MS     100	/* between two looks whether there is a second thread */
#define EXIT_WAIT_MS 100	/* exit waits that long for a kmmd in the middle of loading */
#define WOKEN_MAX_MS 2000u	/* longest time between being woken and looking */
#define SLOW_PATHS_SKIPPED 255	/* between two looks how much free memory there is */
#define BLIND_MS     250u	/* longest sleep where the main thread's end does not wake */

enum { KTHREAD_AUTO, KTHREAD_NEVER, KTHREAD_ALWAYS };
enum kmmd_state { KMMD_IDLE, KMMD_STARTING, KMMD_RUNNING, KMMD_OFF };

struct mutex kmmd_lock;
u32 kmmd_load_after_ms = 1000;		/* hwloc takes 4 ms and 1.5 MiB, which a program that ends soon never gets back */
static u32 kmmd_state;
static u64 next_look_ms;
static uintptr_t main_thread;		/* its thread pointer */
static u32 *main_tid;			/* cleared by the kernel when the main thread ends; NULL: not known */
static u32 kmmd_seq;			/* changes when somebody wakes kmmd */
static bool kmmd_asleep;		/* for good, or about to be */
static u32 skip;			/* slow paths until the next look at how much could go home */
static bool thread_made;		/* since threads were counted last */
static bool kmmd_loaded;		/* or tried to */
static u64 kmmd_spent_ns;		/* CPU time of kmmds that have ended */

static bool set_state(enum kmmd_state from, enum kmmd_state to)
{
	u32 expected = from;

	return __atomic_compare_exchange_n(&kmmd_state, &expected, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

__resident void kmmd_note_tasks(u32 nr)
{
	if (nr >= 2 && smp_load_acquire(&kmmd_state) == KMMD_IDLE &&
	    (kmm_params.kthread == KTHREAD_ALWAYS || reclaimable_bytes() >= KSWAPD_WORTH))
		WRITE_ONCE(kmmd_wanted, true);
}

__resident void kmmd_note_thread(void)
{
	WRITE_ONCE(thread_made, true);
}

void kmmd_want(void)
{
	WRITE_ONCE(skip, 0);
	WRITE_ONCE(kmmd_wanted, true);
}

bool kmmd_running(void)
{
	u32 state = smp_load_acquire(&kmmd_state);

	return state == KMMD_STARTING || state == KMMD_RUNNING;
}

u64 kmmd_cpu_ns(void)
{
	u64 now = READ_ONCE(kswapd_running) ? os_thread_cpu_ns(kswapd_tid) : 0;

	return READ_ONCE(kmmd_spent_ns) + now;
}

/* --- whose call is it? -------------------------------------------------------------------------------- */

#define MAX_RUNTIME_LIBS 8

/* The executable parts of libc, ld.so and their old companions. */
static struct {
	bool known;
	u32 nr;
	struct { uintptr_t start, end; } text[MAX_RUNTIME_LIBS];
} runtime;

static bool is_runtime_lib(const char *path)
{
	static const char *const prefixes[] = { "libc.so", "libc-", "ld-", "ld.so", "ld64.so", "libpthread", "libdl" };
	const char *base = strrchr(path, '/');

	base = base != NULL ? base + 1 : path;
	for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strncmp(base, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static void add_text(uintptr_t base)
{
	const ElfW(Ehdr) *eh = (const ElfW(Ehdr) *)base;
	const ElfW(Phdr) *ph = (const ElfW(Phdr) *)(base + eh->e_phoff);

	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0)
		return;
	for (unsigned i = 0; i < eh->e_phnum && runtime.nr < MAX_RUNTIME_LIBS; i++) {
		if (ph[i].p_type != PT_LOAD || !(ph[i].p_flags & PF_X))
			continue;
		runtime.text[runtime.nr].start = base + ph[i].p_vaddr;
		runtime.text[runtime.nr].end = base + ph[i].p_vaddr + ph[i].p_memsz;
		runtime.nr++;
	}
}

/*
 * Reads the loader's list without its lock. Libraries that were there at start are at its head and never leave it,
 * and ld.so is the last of those that we look for, so we stop before what dlopen and dlclose may be changing.
 */
static void find_runtime_libs(void)
{
	const struct link_map *map;

	if (!&_r_debug)
		return;
	for (map = _r_debug.r_map; map != NULL; map = map->l_next) {
		const char *name = map->l_name;

		if (name == NULL || map->l_addr == 0 || !is_runtime_lib(name))
			continue;
		add_text(map->l_addr);
		name = strrchr(name, '/') != NULL ? strrchr(name, '/') + 1 : name;
		if (strncmp(name, "ld", 2) == 0)
			break;
	}
	smp_store_release(&runtime.known, true);
}

static bool called_by_runtime(const void *caller)
{
	uintptr_t addr = (uintptr_t)caller;

	for (unsigned i = 0; i < runtime.nr; i++)
		if (addr >= runtime.text[i].start && addr < runtime.text[i].end)
			return true;
	return runtime.nr == 0;		/* cannot tell */
}

/* --- the thread --------------------------------------------------------------------------------------- */

/* Runs before any library's destructor: none may run while kmmd is inside that library. Bounded. */
static void kmmd_at_exit(void)
{
	u32 never = 0;

	__atomic_store_n(&kmmd_state, KMMD_OFF, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < EXIT_WAIT_MS; i++) {
		if (mutex_trylock(&kmmd_lock, LOCK_kmmd)) {
			mutex_unlock(&kmmd_lock, LOCK_kmmd);
			return;
		}
		futex_wait(&never, 0, 1);
	}
}

static bool ending(void)
{
	return smp_load_acquire(&kmmd_state) == KMMD_OFF;
}

static void kmmd_load(void)
{
	void *self = dlopen(NULL, RTLD_NOW);	/* waits until the loader is free */

	if (self != NULL)
		dlclose(self);
	mutex_lock(&kmmd_lock, LOCK_kmmd);
	if (!ending() && os_at_exit(kmmd_at_exit) == 0)
		kmm_rcu_load();
	mutex_unlock(&kmmd_lock, LOCK_kmmd);

	mutex_lock(&kmmd_lock, LOCK_kmmd);
	if (!ending() && !topology_loaded())
		topology_load(NULL);
	mutex_unlock(&kmmd_lock, LOCK_kmmd);
	gate_enter();
	memcg_unprepay();
	gate_leave();
}

/* hwloc does not look whether malloc() has failed: at the process's quota it is left for later. */
static bool should_load(u32 started_ms)
{
	if (kmmd_loaded || nr_tasks() < 2)
		return false;
	if ((u32)os_clock_ms() - started_ms < kmmd_load_after_ms)
		return false;
	gate_enter();		/* for fork */
	kmmd_loaded = memcg_prepay(LOAD_BYTES >> PAGE_SHIFT);
	gate_leave();
	return kmmd_loaded;
}

static bool main_has_gone(void)
{
	u32 *word = main_tid;

	if (word == NULL || READ_ONCE(*word) != 0)
		return false;
	futex_wake_shared(word, INT32_MAX);	/* the kernel wakes only one: it may have been meant for a pthread_join */
	return true;
}

/* Until somebody wakes us, the main thread ends, or the time is up (0: there is none). false: this kernel cannot. */
static bool kmmd_sleep(u32 seen, u32 ms)
{
	u32 tid = main_tid != NULL ? READ_ONCE(*main_tid) : 0;

	if (tid != 0 && futex_wait_or_exit(&kmmd_seq, seen, main_tid, tid, ms) != -ENOSYS)
		return true;
	if (ms != 0)
		futex_wait(&kmmd_seq, seen, min(ms, BLIND_MS));
	return ms != 0;
}

static bool stop(void)
{
	return ending() || main_has_gone();
}

/* look_ms: until the kernel should be asked again how short memory is; what it said counts from the next pass on. */
static u32 kmmd_pass(bool may_open, u32 *look_ms)
{
	struct scan_control sc;
	bool more;

	gate_enter();
	kswapd_begin(&sc);
	gate_leave();
	do {
		gate_enter();
		more = shrink_slice(&sc);
		gate_leave();
	} while (more && !stop());
	if (may_open)
		*look_ms = vmpressure_look(sc.now_ms);
	return kswapd_end(&sc);
}

static void set_asleep(bool asleep)
{
	WRITE_ONCE(kmmd_asleep, asleep);
	__atomic_store_n(&kmmd_wanted, asleep, __ATOMIC_SEQ_CST);
}

static void kmmd_loop(bool may_open)
{
	u32 started_ms = (u32)os_clock_ms(), reclaim_ms = NEVER_MS, due_ms = 0, served = 0;

	while (!stop()) {
		u32 seen = smp_load_acquire(&kmmd_seq), look_ms = NEVER_MS, ms;

		if (may_open && should_load(started_ms))
			kmmd_load();
		ms = due_ms - (u32)os_clock_ms();
		if (reclaim_ms == NEVER_MS || seen != served || (s32)ms <= 0) {	/* else it is compaction's turn alone */
			reclaim_ms = ms = kmmd_pass(may_open, &look_ms);
			due_ms = (u32)os_clock_ms() + min(ms, look_ms);
			served = seen;
		}
		ms = min(ms, kcompactd_run(ms, may_open, stop));
		if (ms != NEVER_MS)	/* something will go home: sooner, if memory gets short meanwhile */
			ms = min(ms, look_ms);
		if (ms != NEVER_MS) {
			set_asleep(false);
			kmmd_sleep(seen, ms);
		} else if (!READ_ONCE(kmmd_asleep)) {
			set_asleep(true);	/* and look again: now whoever comes wakes us */
		} else {
			count_vm_event(VM_kswapd_sleep);
			if (!kmmd_sleep(seen, 0))
				return;
			set_asleep(false);
			if (!stop())		/* what was freed just now is not old yet */
				kmmd_sleep(READ_ONCE(kmmd_seq), clamp((u32)READ_ONCE(kmm_params.decay_ms), 1u, WOKEN_MAX_MS));
		}
	}
}

/* The word lies where ours does, seen from the thread pointer. What holds neither 0 nor our pid is something else. */
static void find_main_tid(void)
{
	uintptr_t word = (uintptr_t)os_tid_word();

	main_tid = NULL;
	if (word == 0)
		return;
	main_tid = (u32 *)(word - (uintptr_t)__builtin_thread_pointer() + main_thread);
	if (READ_ONCE(*main_tid) != 0 && READ_ONCE(*main_tid) != (u32)os_getpid())
		main_tid = NULL;
}

static void *kmmd(void *arg)
{
	bool may_open = os_kthread_begin("kmmd") == 0;

	memcg_thread.word = memcg_word(0);	/* whoever has started it */
	set_state(KMMD_STARTING, KMMD_RUNNING);
	find_main_tid();
	WRITE_ONCE(kswapd_tid, os_gettid());
	WRITE_ONCE(kswapd_running, true);
	kmmd_loop(may_open);
	WRITE_ONCE(kswapd_running, false);
	kcompactd_exit();
	vmpressure_forget();
	WRITE_ONCE(kmmd_spent_ns, kmmd_spent_ns + os_thread_cpu_ns(0));
	if (stop())
		__atomic_store_n(&kmmd_state, KMMD_OFF, __ATOMIC_RELEASE);
	set_state(KMMD_RUNNING, KMMD_IDLE);
	return arg;
}

static void count_task(struct task_struct *task, void *arg)
{
	(void)task;
	++*(u32 *)arg;
}

/*
 * The program is large enough to have one more thread, or a second one may be alive. How much could go home is dear to
 * find out, and so seldom asked: slow paths may come by the thousand.
 */
static bool may_be_worth_it(bool *earned)
{
	u32 left = READ_ONCE(skip);

	*earned = false;
	if ((nr_tasks() >= 2 || READ_ONCE(thread_made)) && os_clock_ms() >= READ_ONCE(next_look_ms))
		return true;
	WRITE_ONCE(skip, left ? left - 1 : SLOW_PATHS_SKIPPED);
	if (left != 0)
		return false;
	*earned = reclaimable_bytes() >= KSWAPD_EARNED || khugepaged_is_worth_a_thread();
	if (!*earned && nr_tasks() < 2 && heap_bytes() < KSWAPD_EARNED)
		WRITE_ONCE(kmmd_wanted, false);		/* until memory or threads have grown again */
	return *earned;
}

static bool second_thread_is_alive(void)
{
	u32 alive = 0;

	WRITE_ONCE(next_look_ms, os_clock_ms() + RETRY_MS);
	for_each_task(count_task, &alive);
	if (alive < 2 && READ_ONCE(thread_made)) {
		WRITE_ONCE(thread_made, false);		/* before they are counted, as one may be made meanwhile */
		alive = os_nr_threads();
		if (alive >= 2)
			WRITE_ONCE(thread_made, true);
	}
	return alive >= 2;
}

static bool kmmd_may_start(const void *caller)
{
	struct task_struct *task;
	bool earned;

	if (!may_be_worth_it(&earned))
		return false;
	if (!smp_load_acquire(&runtime.known)) {
		static bool busy;

		if (__atomic_exchange_n(&busy, true, __ATOMIC_RELAXED))
			return false;
		find_runtime_libs();
	}
	if (called_by_runtime(caller))
		return false;
	task = current_task();
	return task != NULL && task->pid == os_gettid() && (earned || second_thread_is_alive());
}

void kmmd_wake(void)
{
	WRITE_ONCE(kmmd_asleep, false);
	__atomic_add_fetch(&kmmd_seq, 1, __ATOMIC_SEQ_CST);
	futex_wake(&kmmd_seq, 1);
}

static void wake_up_kmmd(void)
{
	if (__atomic_exchange_n(&kmmd_asleep, false, __ATOMIC_SEQ_CST))
		kmmd_wake();
}

void kmmd_consider(const void *caller)
{
	u32 state = smp_load_acquire(&kmmd_state), word;
	int err;

	if (state == KMMD_RUNNING) {
		WRITE_ONCE(kmmd_wanted, false);
		wake_up_kmmd();
		return;
	}
	if (kmm_params.kthread == KTHREAD_NEVER || state != KMMD_IDLE) {
		WRITE_ONCE(kmmd_wanted, false);
		return;
	}
	if (!kmmd_may_start(caller) || !set_state(KMMD_IDLE, KMMD_STARTING))
		return;
	WRITE_ONCE(kmmd_wanted, false);
	word = memcg_thread.word;
	memcg_thread.word = memcg_word(0);	/* what libc allocates for it is not the caller's group's */
	runtime_const_before_threads();
	err = os_kthread_create(kmmd, NULL);
	memcg_thread.word = word;
	if (err) {
		set_state(KMMD_STARTING, KMMD_IDLE);	/* no more threads allowed now: looked at again */
		WRITE_ONCE(kmmd_wanted, true);
	}
}

__init void kmmd_init(void)
{
	main_thread = (uintptr_t)__builtin_thread_pointer();
}

void kmmd_reset_child(void)
{
	WRITE_ONCE(kmmd_state, KMMD_IDLE);
	kmmd_asleep = kmmd_loaded = false;
	kswapd_running = false;
	kmmd_spent_ns = 0;
	kcompactd_exit();
	vmpressure_forget();
	next_look_ms = 0;
	thread_made = false;
	kmmd_init();
	WRITE_ONCE(kmmd_wanted, reclaimable_bytes() >= KSWAPD_WORTH);
}
