/* SPDX-License-Identifier: MIT */
/*
 * gate.c - the slow-path gate.
 *
 * Purpose. fork() copies the memory of a process but only the calling thread. A sheaf or an object that another thread
 * held in registers would be lost in the child, a lock it held would stay locked, a list it changed would stay torn.
 * Rather than take some hundred locks, fork closes one gate and waits until no thread is in a slow path.
 * Fast paths have no gate: they are frozen (percpu_freeze), so that they come here and wait.
 *
 * Synchronization.
 *   reader: gate++ (seq_cst) ; load closed          writer: closed = 1 (seq_cst) ; load every gate
 * One of the two sees the other (store buffering is excluded by seq_cst on both sides).
 *
 * Signals. A handler may interrupt its own thread inside gate_enter() or gate_leave(), where nobody can tell whether
 * the thread has been counted. If it has, a handler that waited for a closing gate would wait for itself; if not,
 * one that passed would run during the fork. So closing has two steps. CLOSING: such a handler counts itself and
 * passes, the forking thread waits for it. SEALED: nobody is counted, the thread neither, so the handler waits.
 *
 * Locks. fork_mutex serialises forking threads; it is taken with nothing held. A thread that forks inside its own slow
 * path (in a signal handler) counts itself out, once too often if it was about to be counted.
 *
 * Kernel counterpart. kernel/locking/percpu-rwsem.c, with a plain atomic instead of RCU on the reader's side: a slow
 * path is rare enough.
 */
#include "mm/gate.h"

#include "os/os.h"
#include "page/percpu.h"

#define SYNCHRONIZE_MS 1000u	/* a handler that forks on top of a slow path would wait for the waiter */

enum { OPEN, CLOSING, SEALED };
static u32 closed;
static uintptr_t owner;			/* thread pointer of the forking thread */
static struct mutex fork_mutex;
static u32 boot_gate;			/* counts before the first area is online */

/*
 * depth, and how many calls of enter and leave are between counting and knowing it (more than one: a handler came in
 * between). Handlers leave it as they found it, so plain additions do.
 */
#define IN_BETWEEN (1u << 16)
#define DEPTH_MASK (IN_BETWEEN - 1)

static __thread struct {
	u32 state;			/* depth + IN_BETWEEN * calls */
	u32 *entered;			/* the counter to take back */
} inside __initial_exec;

static void add_state(u32 n)
{
	WRITE_ONCE(inside.state, inside.state + n);
	barrier();
}

static uintptr_t self(void)
{
	return (uintptr_t)__builtin_thread_pointer();
}

/* May the caller, who has just counted itself, go on? If not, *seen is what it saw of the gate. */
static bool gate_admits(bool interrupting, u32 *seen)
{
	*seen = __atomic_load_n(&closed, __ATOMIC_SEQ_CST);
	return likely(*seen == OPEN) || owner == self() || (interrupting && *seen == CLOSING);
}

void gate_enter(void)
{
	bool interrupting = inside.state != 0;
	u32 *gate, seen;

	if (inside.state & DEPTH_MASK) {
		add_state(1);
		return;
	}
	add_state(IN_BETWEEN);
	for (;;) {
		gate = nr_percpu_areas() ? &pcpu_of(any_cpu())->gate : &boot_gate;
		__atomic_add_fetch(gate, 1, __ATOMIC_SEQ_CST);
		if (gate_admits(interrupting, &seen))
			break;
		__atomic_sub_fetch(gate, 1, __ATOMIC_SEQ_CST);
		futex_wait(&closed, seen, 10);
	}
	WRITE_ONCE(inside.entered, gate);
	add_state(1 - IN_BETWEEN);
}

void gate_leave(void)
{
	u32 *gate = inside.entered;

	if ((inside.state & DEPTH_MASK) > 1) {
		add_state(-1u);
		return;
	}
	add_state(IN_BETWEEN - 1);
	__atomic_sub_fetch(gate, 1, __ATOMIC_RELEASE);
	add_state(-IN_BETWEEN);
}

bool gate_is_inside(void)
{
	return inside.state & DEPTH_MASK;
}

bool gate_is_held(void)
{
	return gate_is_inside() || owner == self();
}

static __rare u32 nr_inside(void)
{
	u32 sum = __atomic_load_n(&boot_gate, __ATOMIC_SEQ_CST);

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		sum += __atomic_load_n(&pcpu_of(cpu)->gate, __ATOMIC_SEQ_CST);
	return sum;
}

__rare void gate_close(void)
{
	u32 own = gate_is_inside() + inside.state / IN_BETWEEN;

	mutex_lock(&fork_mutex, LOCK_slowpath_gate);
	owner = self();
	do {
		__atomic_store_n(&closed, CLOSING, __ATOMIC_SEQ_CST);
		while (nr_inside() > own)
			os_yield();
		__atomic_store_n(&closed, SEALED, __ATOMIC_SEQ_CST);
	} while (nr_inside() > own);
	percpu_freeze();
}

__rare void gate_open(void)
{
	percpu_thaw();
	owner = 0;
	__atomic_store_n(&closed, OPEN, __ATOMIC_SEQ_CST);
	futex_wake(&closed, INT32_MAX);
	mutex_unlock(&fork_mutex, LOCK_slowpath_gate);
}

__rare bool gate_synchronize(void)
{
	u64 end = os_clock_ms() + SYNCHRONIZE_MS;
	bool outside;

	mutex_lock(&fork_mutex, LOCK_slowpath_gate);
	owner = self();
	__atomic_store_n(&closed, CLOSING, __ATOMIC_SEQ_CST);
	while (!(outside = nr_inside() == 0) && os_clock_ms() < end)
		os_yield();
	owner = 0;
	__atomic_store_n(&closed, OPEN, __ATOMIC_SEQ_CST);
	futex_wake(&closed, INT32_MAX);
	mutex_unlock(&fork_mutex, LOCK_slowpath_gate);
	return outside;
}

__rare void gate_reset_child(void)
{
	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++) {
		pcpu_of(cpu)->gate = 0;
		percpu_lock(cpu)->state = 0;
	}
	percpu_thaw();
	boot_gate = 0;
	if (gate_is_inside()) {
		inside.entered = &pcpu_of(0)->gate;
		*inside.entered = 1;
	}
	owner = 0;
	closed = OPEN;
	mutex_unlock(&fork_mutex, LOCK_slowpath_gate);
}
