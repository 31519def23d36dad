/* SPDX-License-Identifier: MIT */
/*
 * atfork.c - at-fork handlers, registered as late as can be.
 *
 * Purpose. Most programs never fork. To register handlers at start brings 64 KiB of libc's text into memory that they
 * have no other use for. So it is done when a fork, or handlers of somebody else, are about to come: libkmm exports the
 * functions of libc that lead to at-fork handlers, all of which are here. system(), popen() and posix_spawn() call none.
 *
 * Fork and init. A child inherits the state with libc's list.
 */
#include "os/atfork.h"

#include "os/once.h"
#include <dlfcn.h>
#include <errno.h>

typedef int (*register_atfork_fn)(void (*)(void), void (*)(void), void (*)(void), void *);

extern void *__dso_handle;

static const struct atfork_handlers *ours;
static struct once registered;

__resident uintptr_t os_next_function(void **known, const char *name)
{
	void *fn = READ_ONCE(*known);

	if (unlikely(!fn)) {
		fn = dlsym(RTLD_NEXT, name);
		WRITE_ONCE(*known, fn);
	}
	return (uintptr_t)fn;
}

__init void os_atfork_init(const struct atfork_handlers *handlers)
{
	ours = handlers;
}

static int call_register(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	static void *next;
	register_atfork_fn fn = (register_atfork_fn)os_next_function(&next, "__register_atfork");

	return fn ? fn(prepare, parent, child, dso) : ENOSYS;
}

static void register_ours(void)
{
	if (likely(once_is_done(&registered)) || unlikely(!ours) || !once_begin(&registered))
		return;
	call_register(ours->prepare, ours->parent, ours->child, &__dso_handle);
	once_end(&registered);
}

uintptr_t os_next_fork(void **known, const char *name)
{
	uintptr_t fn;

	register_ours();
	fn = os_next_function(known, name);
	if (unlikely(!fn))
		errno = ENOSYS;
	return fn;
}

int os_register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	register_ours();
	return call_register(prepare, parent, child, dso);
}
