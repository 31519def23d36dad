/* SPDX-License-Identifier: MIT */
/*
 * task.c - one task_struct for each thread that has met a slow path.
 *
 * Purpose
 *	To say which threads use the allocator, to keep what belongs to a thread (its memory group, whether liburcu
 *	knows it), and to find it again in two instructions.
 *
 * Objects
 *	task_tree holds tasks by thread pointer. A thread keeps the address of its task in `current`, the one
 *	thread-local variable of libkmm; initial-exec, so that reading it never calls the dynamic loader.
 *
 * Invariants
 *	At most one task for a thread pointer. A new thread begins with current == NULL, because glibc clears a
 *	thread's static TLS also where it reuses a stack; if it finds a task at its thread pointer, that belonged to
 *	a thread that is dead, and becomes its own.
 *
 * Locks
 *	task guards the tree. The fields of a task are its thread's own, but comm and pid, which are stable while
 *	the thread lives.
 *
 * Fast and slow path
 *	Nobody tells us when a thread ends (that would need a destructor, which runs too early or too late, and never
 *	for raw clones). Dead tasks are found by asking the kernel for the tid, when tasks are listed, and when their
 *	number has doubled since the last time.
 *
 * Kernel counterpart and what differs
 *	include/linux/sched.h. Tasks appear at their first slow path instead of at fork.
 *
 * Fork and init
 *	Works from the first call on. Fork holds the lock, so the child finds the tree whole and drops all but itself.
 *	A vfork child shares its parent's TLS and thereby its task.
 */
#include "mm/mm_struct.h"

#include "base/bug.h"
#include "mm/kmmd.h"
#include "os/os.h"
#include "page/memblock.h"

#define SWEEP_MIN 64		/* tasks; below that the dead wait until somebody lists them */

static __thread struct task_struct *current __initial_exec;

struct mutex task_lock;
static struct rb_root task_tree;
static u32 nr_in_tree;
static u32 sweep_at = SWEEP_MIN;
static struct metapool task_pool = METAPOOL_INIT(struct task_struct);

#define to_task(n) rb_entry(n, struct task_struct, node)

static void __erase_task(struct task_struct *task)
{
	rb_erase(&task->node, &task_tree, NULL);
	WRITE_ONCE(nr_in_tree, nr_in_tree - 1);
	WRITE_ONCE(init_mm.mm_users, nr_in_tree);
	metapool_free(&task_pool, task);
}

static void __forget_dead_tasks(void)
{
	struct rb_node *node, *next;

	for (node = rb_first(&task_tree); node != NULL; node = next) {
		next = rb_next(node);
		if (to_task(node) != current && !os_thread_alive(to_task(node)->pid))
			__erase_task(to_task(node));
	}
	sweep_at = max(2 * nr_in_tree, (u32)SWEEP_MIN);
}

/* The dead predecessor's task at this thread pointer, or a new one. */
static struct task_struct *__find_or_insert(uintptr_t thread_pointer)
{
	struct rb_node **link = &task_tree.node, *parent = NULL;
	struct task_struct *task;

	while (*link != NULL) {
		parent = *link;
		task = to_task(parent);
		if (thread_pointer == task->thread_pointer)
			return task;
		link = thread_pointer < task->thread_pointer ? &parent->left : &parent->right;
	}
	task = metapool_alloc(&task_pool);
	if (task == NULL)
		return NULL;
	task->thread_pointer = thread_pointer;
	rb_insert(&task->node, parent, link, &task_tree, NULL);
	WRITE_ONCE(nr_in_tree, nr_in_tree + 1);
	WRITE_ONCE(init_mm.mm_users, nr_in_tree);
	return task;
}

static __resident struct task_struct *make_current(void)
{
	struct task_struct *task;

	mutex_lock(&task_lock, LOCK_task);
	if (nr_in_tree >= sweep_at)
		__forget_dead_tasks();
	task = __find_or_insert((uintptr_t)__builtin_thread_pointer());
	if (task != NULL) {
		task->pid = os_gettid();
		task->comm[0] = '\0';
		task->mm = &init_mm;
		task->memcg = task->memcg_wanted = 0;
		task->memcg_known = task->memcg_pinned = false;
		task->rcu_registered = false;
	}
	mutex_unlock(&task_lock, LOCK_task);
	current = task;
	kmmd_note_tasks(nr_tasks());
	return task;
}

__resident struct task_struct *current_task(void)
{
	return likely(current != NULL) ? current : make_current();
}

u32 nr_tasks(void)
{
	return READ_ONCE(nr_in_tree);
}

void for_each_task(void (*fn)(struct task_struct *, void *), void *arg)
{
	struct rb_node *node;

	mutex_lock(&task_lock, LOCK_task);
	__forget_dead_tasks();
	for (node = rb_first(&task_tree); node != NULL; node = rb_next(node)) {
		os_thread_comm(to_task(node)->pid, to_task(node)->comm);
		fn(to_task(node), arg);
	}
	mutex_unlock(&task_lock, LOCK_task);
}

bool task_want_memcg(int tid, u32 word)
{
	struct rb_node *node;
	bool found = false;

	mutex_lock(&task_lock, LOCK_task);
	for (node = rb_first(&task_tree); node != NULL && !found; node = rb_next(node)) {
		found = to_task(node)->pid == tid && os_thread_alive(tid);
		if (found)
			__atomic_store_n(&to_task(node)->memcg_wanted, word, __ATOMIC_RELEASE);
	}
	mutex_unlock(&task_lock, LOCK_task);
	return found;
}

u32 nr_tasks_in_memcg(u32 colour)
{
	struct rb_node *node;
	u32 nr = 0;

	mutex_lock(&task_lock, LOCK_task);
	__forget_dead_tasks();
	for (node = rb_first(&task_tree); node != NULL; node = rb_next(node)) {
		u32 wanted = READ_ONCE(to_task(node)->memcg_wanted);

		nr += READ_ONCE(to_task(node)->memcg) == colour || (wanted && (wanted >> 8) == colour);
	}
	mutex_unlock(&task_lock, LOCK_task);
	return nr;
}

int task_in_range(uintptr_t start, uintptr_t end)
{
	struct task_struct *task = NULL;
	struct rb_node *node;
	int pid = 0;

	mutex_lock(&task_lock, LOCK_task);
	for (node = task_tree.node; node != NULL;) {
		task = to_task(node);
		if (task->thread_pointer >= start && task->thread_pointer < end)
			break;
		node = task->thread_pointer < start ? node->right : node->left;
	}
	if (node != NULL && os_thread_alive(task->pid))
		pid = task->pid;
	mutex_unlock(&task_lock, LOCK_task);
	return pid;
}

/* The child has one thread: the task lock is not needed, and is not held. */
void tasks_reset_child(void)
{
	struct rb_node *node, *next;

	for (node = rb_first(&task_tree); node != NULL; node = next) {
		next = rb_next(node);
		if (to_task(node) != current)
			__erase_task(to_task(node));
	}
	if (current != NULL)
		current->pid = os_gettid();
	sweep_at = SWEEP_MIN;
}
