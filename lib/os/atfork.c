/* SPDX-License-Identifier: MIT */
/*
 * atfork.c - at-fork handlers, registered as late as can be.
 *
 * Purpose. Most programs never fork. To register handlers at start brings 64 KiB of libc's text into memory that they
 * have no other use for. So it is done when a fork, or handlers of somebody else, are about to come: libkmm exports the
 * functions of libc that lead to at-fork handlers, all of which are here. system(), popen() and posix_spawn() call none.
 *
 * States. 0 not registered, 1 a thread is at it, 2 done. Others wait, but for a signal handler on top of that thread.
 *
 * Fork and init. A child inherits the state with libc's list.
 */
#include "os/atfork.h"

#include "base/compiler.h"
#include "os/os.h"
#include <dlfcn.h>
#include <errno.h>

typedef pid_t (*fork_fn)(void);
typedef pid_t (*forkpty_fn)(int *, char *, const struct termios *, const struct winsize *);
typedef int (*daemon_fn)(int, int);
typedef int (*register_atfork_fn)(void (*)(void), void (*)(void), void (*)(void), void *);

extern void *__dso_handle;

static const struct atfork_handlers *ours;
static u32 state;
static uintptr_t owner;

__resident uintptr_t os_next_function(void **known, const char *name)
{
	void *fn = READ_ONCE(*known);

	if (unlikely(!fn)) {
		fn = dlsym(RTLD_NEXT, name);
		WRITE_ONCE(*known, fn);
	}
	return (uintptr_t)fn;
}

__resident void os_atfork_init(const struct atfork_handlers *handlers)
{
	ours = handlers;
}

static int call_register(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	static void *next;
	register_atfork_fn fn = (register_atfork_fn)os_next_function(&next, "__register_atfork");

	return fn ? fn(prepare, parent, child, dso) : ENOSYS;
}

void os_atfork_register(void)
{
	uintptr_t self = (uintptr_t)__builtin_thread_pointer();
	u32 none = 0;

	if (likely(__atomic_load_n(&state, __ATOMIC_ACQUIRE) == 2) || unlikely(!ours))
		return;
	if (!__atomic_compare_exchange_n(&state, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
		while (READ_ONCE(owner) != self && __atomic_load_n(&state, __ATOMIC_ACQUIRE) != 2)
			os_yield();
		return;
	}
	WRITE_ONCE(owner, self);
	call_register(ours->prepare, ours->parent, ours->child, &__dso_handle);
	__atomic_store_n(&state, 2, __ATOMIC_RELEASE);
}

int os_register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	os_atfork_register();
	return call_register(prepare, parent, child, dso);
}

/* What a fork's caller goes on with; NULL with errno set. */
static uintptr_t function_behind(void **known, const char *name)
{
	uintptr_t fn;

	os_atfork_register();
	fn = os_next_function(known, name);
	if (unlikely(!fn))
		errno = ENOSYS;
	return fn;
}

pid_t os_fork(void)
{
	static void *next;
	fork_fn fn = (fork_fn)function_behind(&next, "fork");

	return fn ? fn() : -1;
}

pid_t os_forkpty(int *master, char *name, const struct termios *termios, const struct winsize *size)
{
	static void *next;
	forkpty_fn fn = (forkpty_fn)function_behind(&next, "forkpty");

	return fn ? fn(master, name, termios, size) : -1;
}

int os_daemon(int nochdir, int noclose)
{
	static void *next;
	daemon_fn fn = (daemon_fn)function_behind(&next, "daemon");

	return fn ? fn(nochdir, noclose) : -1;
}
