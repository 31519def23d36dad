/* SPDX-License-Identifier: MIT */
/*
 * runtime_const.c - where rseq lies in a thread, as a constant in the code of the fast paths.
 *
 * Purpose. glibc says at start how far from the thread pointer the kernel's struct rseq lies; it is the same for every thread
 * and for ever, but not known when libkmm is built. So each section begins with two loads of these offsets. This file
 * replaces both, in place:
 *
 *	lea  descriptor, %rcx		   lea  descriptor, %rcx	(with prefixes of no meaning: as many bytes)
 *	mov  percpu_hot.cs_offset, %rdx
 *	mov  %rcx, %fs:(%rdx)		   mov  %rcx, %fs:cs_offset
 *   1: mov  percpu_hot.cpu_offset, %rcx
 *	movslq %fs:(%rcx), %rcx		   movslq %fs:cpu_offset, %rcx
 *
 * The critical section begins at label 1, or on the right in the middle of the store: no instruction begins there, the first
 * that counts as inside is the one behind the store. So the descriptor stays as it is.
 *
 * When. The code must not be run while it changes: the process has one thread, by what libc knows (as its own malloc
 * believes it), and signals are blocked. A program that hardly allocates has nothing of it and shall not pay for the copied
 * pages: after REFILLS refills, or before the first thread is created (api/pthread.c, mm/kmmd.c).
 *
 * Refused (a seccomp filter, SELinux' execmod), or KMM_PERCPU=rseq: the code stays as it was compiled, and right. Where an attempt might
 * be deadly none is made any more: see api/prctl.c.
 * Sections in rarely used code stay as well, so that its pages need not be copied.
 *
 * Kernel counterpart. arch/x86/include/asm/runtime-const.h, runtime_const_fixup(); arch/x86/kernel/alternative.c.
 */
#include "arch/runtime_const.h"

#include "base/align.h"
#include "os/os.h"
#include "os/vm.h"
#include <string.h>

#define SITE_SIZE  29u
#define SITE_START 18u		/* of the critical section, within */
#define LEA_DISP   3u

struct rseq_cs {
	u32 version, flags;
	u64 start_ip, post_commit_offset, abort_ip;
};
extern const struct rseq_cs __start___rseq_cs[], __stop___rseq_cs[];
/* The mapping with the code that every program runs, by lib/libkmm-cold.ld; tests are linked without it. */
extern u8 __ehdr_start[] __attribute__((visibility("hidden"))), __text_resident_end[] __attribute__((weak, visibility("hidden")));
extern char __libc_single_threaded __attribute__((weak));

/* Opcodes; the displacements between them may be anything. */
static __init bool is_compiled(const u8 *site)
{
	return !memcmp(site, "\x48\x8d\x0d", 3) && !memcmp(site + 7, "\x48\x8b\x15", 3) &&
	       !memcmp(site + 14, "\x64\x48\x89\x0a\x48\x8b\x0d", 7) && !memcmp(site + 25, "\x64\x48\x63\x09", 4);
}

static __init void fixup(u8 *site, s32 cs_offset, s32 cpu_offset)
{
	u8 code[SITE_SIZE] = "\x2e\x2e\x2e\x2e\x48\x8d\x0d....\x64\x48\x89\x0c\x25....\x64\x48\x63\x0c\x25";
	s32 disp;

	memcpy(&disp, site + LEA_DISP, sizeof(disp));
	disp -= 4;		/* it counts from its end, which is as much further */
	memcpy(code + 7, &disp, sizeof(disp));
	memcpy(code + 16, &cs_offset, sizeof(cs_offset));
	memcpy(code + 25, &cpu_offset, sizeof(cpu_offset));
	memcpy(site, code, sizeof(code));
}

/* The section's site, or NULL: not to be changed. */
static __init u8 *site_of(const struct rseq_cs *cs)
{
	u8 *site = (u8 *)(uintptr_t)cs->start_ip - SITE_START;

	return (__text_resident_end && site >= __text_resident_end) || !is_compiled(site) ? NULL : site;
}

/* The pages to be changed: a whole mapping where it is known, so that it stays one. */
static __init bool code_range(uintptr_t *start, uintptr_t *end)
{
	*start = __text_resident_end ? (uintptr_t)__ehdr_start : UINTPTR_MAX;
	*end = (uintptr_t)__text_resident_end;
	for (const struct rseq_cs *cs = __start___rseq_cs; !__text_resident_end && cs < __stop___rseq_cs; cs++) {
		u8 *site = site_of(cs);

		if (site) {
			*start = min(*start, (uintptr_t)site);
			*end = max(*end, (uintptr_t)site + SITE_SIZE);
		}
	}
	*start = ALIGN_DOWN(*start, os_page_size);
	*end = ALIGN(*end, os_page_size);
	return *start < *end;
}

static __init void fixup_all(s32 cs_offset, s32 cpu_offset)
{
	uintptr_t start, end;

	if (!code_range(&start, &end) || vm_protect((void *)start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		return;
	for (const struct rseq_cs *cs = __start___rseq_cs; cs < __stop___rseq_cs; cs++) {
		u8 *site = site_of(cs);

		if (site)
			fixup(site, cs_offset, cpu_offset);
	}
	vm_protect((void *)start, end - start, PROT_READ | PROT_EXEC);
}

__init void runtime_const_fixup(void)
{
	u64 old_mask;

	if (!runtime_const_wanted || !&__libc_single_threaded || !__libc_single_threaded)
		return;
	runtime_const_wanted = false;
	old_mask = os_block_signals(~0ull);
	fixup_all((s32)percpu_hot.cs_offset, (s32)percpu_hot.cpu_offset);	/* static thread-local storage is near */
	os_restore_signals(old_mask);
}
