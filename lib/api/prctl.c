/* SPDX-License-Identifier: MIT */
/*
 * prctl.c - the exported prctl(): a program that is about to lock itself up.
 *
 * Purpose. libkmm writes into its own code once (arch/x86_64/runtime_const.c), with mprotect(PROT_EXEC), which strict system call
 * filters answer by killing the process (OpenSSH's, before authentication). Who installs a filter, or forbids itself to make
 * memory executable, sets PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP or PR_SET_MDWE first: from then on the code stays as it is.
 * So it does in the child of a fork (fork.c), the usual place for such a thing.
 */
#include "arch/runtime_const.h"
#include "os/os.h"
#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

EXPORT_SYMBOL int prctl(int option, ...);

__rare int prctl(int option, ...)
{
	unsigned long arg[4];
	va_list ap;
	long ret;

	va_start(ap, option);
	for (unsigned i = 0; i < ARRAY_SIZE(arg); i++)
		arg[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP || option == PR_SET_MDWE)
		runtime_const_never();
	ret = os_prctl(option, arg);
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}
