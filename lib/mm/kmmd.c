/* SPDX-License-Identifier: MIT */
/*
 * kmmd.c - the background thread.
 *
 * Purpose
 *	Some things are worth having in a large program and too dear for a small one: the topology of the machine
 *	(hwloc) and RCU (liburcu-bp). kmmd loads them, in a thread of its own so that no malloc has to wait for it. It
 *	then has nothing to do and ends, so it is never what keeps a process alive.
 *
 * Objects
 *	One state: IDLE -> STARTING -> RUNNING -> DONE. OFF: switched off, or the process is ending.
 *
 * When it starts
 *	It must be worth it: kmmd_wanted, and a second thread is alive (one more thread in a single-threaded program
 *	breaks unshare and setns). It must be safe: our caller is the program, not libc or ld.so, which may hold the
 *	loader's locks inside pthread_create or dlopen; and the process is the one that libkmm runs in, not a vfork
 *	child that borrows its memory.
 *
 * Locks
 *	kmmd, the first of all, is held over dlopen, and fork takes it: a fork in the middle of another thread's
 *	dlopen gives a child in which dlopen hangs. To come to terms with a thread that is inside dlopen itself
 *	and forks from there, kmmd first waits, without its lock, until the loader is free.
 *
 * Kernel counterpart and what differs
 *	mm/vmscan.c's kswapd and its like, which run from boot on.
 *
 * Fork and init
 *	No set-up. A child has no kmmd; it starts one when it wants to, and finds loaded what was loaded.
 */
#include "mm/kmmd.h"

#include "arch/topology.h"
#include "base/param.h"
#include "mm/mm_struct.h"
#include "os/kthread.h"
#include "os/os.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

extern struct r_debug _r_debug __attribute__((weak));	/* strong, it would make ld.so a DT_NEEDED */

#define RETRY_MS     100	/* between two looks whether there is a second thread */
#define EXIT_WAIT_MS 100	/* exit waits that long for a kmmd in the middle of loading */

enum { KTHREAD_AUTO, KTHREAD_NEVER, KTHREAD_ALWAYS };
enum kmmd_state { KMMD_IDLE, KMMD_STARTING, KMMD_RUNNING, KMMD_DONE, KMMD_OFF };

struct mutex kmmd_lock;
bool kmmd_wanted;
static u32 kmmd_state;
static u64 next_look_ms;

static bool set_state(enum kmmd_state from, enum kmmd_state to)
{
	u32 expected = from;

	return __atomic_compare_exchange_n(&kmmd_state, &expected, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void kmmd_note_tasks(u32 nr)
{
	if (kmm_params.kthread == KTHREAD_ALWAYS && nr >= 2 && smp_load_acquire(&kmmd_state) == KMMD_IDLE)
		WRITE_ONCE(kmmd_wanted, true);
}

bool kmmd_running(void)
{
	u32 state = smp_load_acquire(&kmmd_state);

	return state == KMMD_STARTING || state == KMMD_RUNNING;
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
}

static void *kmmd(void *arg)
{
	set_state(KMMD_STARTING, KMMD_RUNNING);
	if (os_kthread_begin("kmmd") == 0)
		kmmd_load();
	set_state(KMMD_RUNNING, KMMD_DONE);
	return arg;
}

static void count_task(struct task_struct *task, void *arg)
{
	(void)task;
	++*(u32 *)arg;
}

static bool kmmd_may_start(const void *caller)
{
	struct task_struct *task;
	u64 now = os_clock_ms();
	u32 alive = 0;

	if (now < READ_ONCE(next_look_ms))
		return false;
	if (!smp_load_acquire(&runtime.known)) {
		static bool busy;

		if (__atomic_exchange_n(&busy, true, __ATOMIC_RELAXED))
			return false;
		find_runtime_libs();
	}
	if (called_by_runtime(caller))
		return false;
	WRITE_ONCE(next_look_ms, now + RETRY_MS);
	task = current_task();
	if (task == NULL || task->pid != os_gettid())
		return false;
	for_each_task(count_task, &alive);
	return alive >= 2;
}

void kmmd_consider(const void *caller)
{
	if (kmm_params.kthread == KTHREAD_NEVER || smp_load_acquire(&kmmd_state) != KMMD_IDLE) {
		WRITE_ONCE(kmmd_wanted, false);
		return;
	}
	if (!kmmd_may_start(caller) || !set_state(KMMD_IDLE, KMMD_STARTING))
		return;
	WRITE_ONCE(kmmd_wanted, false);
	if (os_kthread_create(kmmd, NULL) != 0) {
		set_state(KMMD_STARTING, KMMD_IDLE);	/* no more threads allowed now: looked at again */
		WRITE_ONCE(kmmd_wanted, true);
	}
}

void kmmd_reset_child(void)
{
	u32 state = READ_ONCE(kmmd_state);

	if (state == KMMD_STARTING || state == KMMD_RUNNING)
		WRITE_ONCE(kmmd_state, KMMD_IDLE);
	next_look_ms = 0;
}
