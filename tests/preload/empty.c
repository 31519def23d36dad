/* SPDX-License-Identifier: MIT */
/*
 * empty.c - a library that does nothing: what LD_PRELOAD itself costs (limits.sh).
 */
extern const char kmm_empty_library[];
const char kmm_empty_library[] = "nothing";
