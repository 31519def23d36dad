/* SPDX-License-Identifier: MIT */
/* atfork.h - at-fork handlers that come before everybody's, and libc's functions behind those that libkmm exports. */
#ifndef KMM_OS_ATFORK_H
#define KMM_OS_ATFORK_H

#include "base/types.h"

struct atfork_handlers {
	void (*prepare)(void), (*parent)(void), (*child)(void);
};

/* Names the handlers, once; a static object. */
void os_atfork_init(const struct atfork_handlers *handlers);

/*
 * libc's function of that name, kept in *known, that leads to a fork: the handlers are registered first. 0 with errno ENOSYS:
 * there is none. Takes locks of ld.so.
 */
uintptr_t os_next_fork(void **known, const char *name);
/* Registers handlers of somebody else, behind ours: those come last before a fork, and first after it. ENOSYS: libc cannot. */
int os_register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);

/* The next definition of a function, kept in *known, which begins as NULL; 0: there is none. Takes locks of ld.so. */
uintptr_t os_next_function(void **known, const char *name);

#endif
