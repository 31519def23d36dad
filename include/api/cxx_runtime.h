/* SPDX-License-Identifier: MIT */
/* cxx_runtime.h - functions of the C++ runtime that a caller uses, found without help of the dynamic linker. */
#ifndef KMM_API_CXX_RUNTIME_H
#define KMM_API_CXX_RUNTIME_H

/*
 * The C++ runtime's own definition of an operator new, by mangled name, as the code at address caller would have
 * got it without libkmm. NULL when no C++ runtime is loaded. Does not allocate, so it works when memory is out;
 * takes the dynamic linker's lock for reading.
 */
void *find_cxx_runtime_symbol(const char *mangled, const void *caller);

#endif
