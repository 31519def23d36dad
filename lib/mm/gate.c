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
 * Locks. fork_mutex serialises forking threads; it is taken with nothing held. A thread that forks inside its own slow
 * path (in a signal handler) counts itself out.
 *
 * Kernel counterpart. kernel/locking/percpu-rwsem.c, with a plain atomic instead of RCU on the reader's side: a slow
 * path is rare enough.
 */
#include "mm/gate.h"

#include "os/os.h"
#include "page/percpu.h"

static u32 closed;
static uintptr_t owner;			/* thread pointer of the forking thread */
static struct mutex fork_mutex;
static u32 boot_gate;			/* counts before the first area is online */

/*
 * What this thread is: inside so many times, and in how many calls of enter and leave that have just counted it or
 * are about to (more than one: a signal handler came in between). A handler that runs while its thread waits at the
 * closed gate must not pass as nested.
 */
#define IN_BETWEEN (1u << 16)
#define DEPTH_MASK (IN_BETWEEN - 1)

static __thread struct {
	u32 state;			/* depth + IN_BETWEEN * calls; handlers leave it as they found it */
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

static __cold void gate_wait(void)
{
	while (__atomic_load_n(&closed, __ATOMIC_ACQUIRE))
		futex_wait(&closed, 1, 10);
}

void gate_enter(void)
{
	u32 *gate;

	if (inside.state & DEPTH_MASK) {
		add_state(1);
		return;
	}
	add_state(IN_BETWEEN);
	for (;;) {
		gate = nr_percpu_areas() ? &pcpu_of(any_cpu())->gate : &boot_gate;
		__atomic_add_fetch(gate, 1, __ATOMIC_SEQ_CST);
		if (likely(!__atomic_load_n(&closed, __ATOMIC_SEQ_CST)) || owner == self())
			break;
		__atomic_sub_fetch(gate, 1, __ATOMIC_SEQ_CST);
		gate_wait();
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

static u32 nr_inside(void)
{
	u32 sum = __atomic_load_n(&boot_gate, __ATOMIC_SEQ_CST);

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		sum += __atomic_load_n(&pcpu_of(cpu)->gate, __ATOMIC_SEQ_CST);
	return sum;
}

void gate_close(void)
{
	u32 own = gate_is_inside() + inside.state / IN_BETWEEN;

	mutex_lock(&fork_mutex, LOCK_slowpath_gate);
	owner = self();
	__atomic_store_n(&closed, 1, __ATOMIC_SEQ_CST);
	while (nr_inside() > own)
		os_yield();
	percpu_freeze();
}

void gate_open(void)
{
	percpu_thaw();
	owner = 0;
	__atomic_store_n(&closed, 0, __ATOMIC_SEQ_CST);
	futex_wake(&closed, INT32_MAX);
	mutex_unlock(&fork_mutex, LOCK_slowpath_gate);
}

void gate_reset_child(void)
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
	closed = 0;
	mutex_unlock(&fork_mutex, LOCK_slowpath_gate);
}
