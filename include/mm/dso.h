/* SPDX-License-Identifier: MIT */
/* dso.h - which program or library an address of code lies in. Takes no lock of ld.so's, allocates nothing. */
#ifndef KMM_MM_DSO_H
#define KMM_MM_DSO_H

#include "base/types.h"
#include <dlfcn.h>

#ifdef DLFO_STRUCT_HAS_EH_DBASE
#define HAVE_FIND_DSO 1			/* glibc 2.35: _dl_find_object() */
#else
#define HAVE_FIND_DSO 0
#endif

struct dso {
	uintptr_t start, end;		/* what it occupies */
	uintptr_t base;			/* is taken off an address to get that in the file */
	const char *name;		/* last part of its path, "" for the program; valid while it is loaded */
};

/* false: the address is in none, or libc cannot tell. */
bool find_dso(const void *addr, struct dso *dso);
/* "libfoo.so+0x1234", as addr2line(1) takes it; what the registry of VMAs knows; or the address. Outside the gate. */
void format_code_address(char *buf, size_t size, const void *addr);

#endif
