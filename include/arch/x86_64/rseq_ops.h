/* SPDX-License-Identifier: MIT */
/*
 * rseq_ops.h - the critical sections of percpu_ops.h for x86-64.
 */
#ifndef KMM_PERCPU_OPS_INNER
#error "include arch/percpu_ops.h"
#endif

#include "arch/x86_64/rseq_section.h"

/*
 * What a section that failed returns. GCC 12.2 merges `return old` and `return NULL` behind an asm goto into one return
 * of the output register, whatever is in it. A NULL whose origin it cannot see keeps the two apart.
 */
static __always_inline void *rseq_failed(void)
{
	void *none = NULL;

	__asm__ __volatile__("" : "+r"(none));
	return none;
}

static __always_inline void *rseq_pop(unsigned long slot)
{
	void *obj;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		RSEQ_AREA
		"movq (%%rcx,%[slot],8), %%rdx\n\t"
		"movq -8(%%rcx,%%rdx), %%rax\n\t"
		"testq %%rax, %%rax\n\t"
		"jz %l[slow]\n\t"
		"subq $8, %%rdx\n\t"
		"movq %%rdx, (%%rcx,%[slot],8)\n"
		RSEQ_END
		: "=&a"(obj)
		: RSEQ_INPUTS, [slot] "r"(slot)
		: "rcx", "rdx", "memory", "cc"
		: slow);
	if (!obj)
		__builtin_unreachable();	/* so that the caller need not test again */
	return obj;
slow:
	return rseq_failed();
}

#define RSEQ_PUSH(disp)                                                        \
	RSEQ_AREA                                                              \
	"movq " disp "(%%rcx,%[slot],8), %%rdx\n\t"                            \
	"testl $511, %%edx\n\t"                                                \
	"jz %l[slow]\n\t"                                                      \
	"cmpq %[obj], -8(%%rcx,%%rdx)\n\t"                                         \
	"je %l[slow]\n\t"                                                      \
	"movq %[obj], (%%rcx,%%rdx)\n\t"                                          \
	"addq $8, %%rdx\n\t"                                                   \
	"movq %%rdx, " disp "(%%rcx,%[slot],8)\n"                               \
	RSEQ_END

static __always_inline bool rseq_push_remote(unsigned long slot, void *obj)
{
	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		RSEQ_PUSH("%c[remote]")
		:
		: RSEQ_INPUTS, [slot] "r"(slot), [obj] "r"(obj), [remote] "i"(SLOT_REMOTE * sizeof(void *))
		: "rcx", "rdx", "memory", "cc"
		: slow);
	return true;
slow:
	return false;
}

/*
 * The entry is read where it stands, slot and home by themselves. A branch for the home: speculation runs ahead of its
 * load (a cmov waits for it); and what is at home here jumps nowhere. Elsewhere a section of its own begins: whoever has
 * come home between the two puts the object among those that are not, which send_home() sorts out.
 */
_Static_assert(MAP_SLOT_MASK == UINT16_MAX && MAP_HOME_SHIFT == 16, "an entry is two words: slot, home");

static __always_inline bool rseq_push(const map_entry_t *map, size_t pfn, void *obj)
{
	unsigned long slot = map[pfn] & MAP_SLOT_MASK;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		"cmpw %%cx, 2(%[map],%[pfn],4)\n\t"
		"jne %l[remote]\n\t"
		RSEQ_PUSH("")
		:
		: RSEQ_INPUTS, [slot] "r"(slot), [map] "r"(map), [pfn] "r"(pfn), [obj] "r"(obj)
		: "rcx", "rdx", "memory", "cc"
		: slow, remote);
	return true;
slow:
	return false;
remote:
	return rseq_push_remote(slot, obj);
}

static inline void **rseq_exchange(unsigned cpu, unsigned slot, void **new_top)
{
	unsigned long index = slot;
	void **old;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		"cmpl %[want], %%ecx\n\t"
		"jne %l[slow]\n\t"
		RSEQ_AREA
		"movq (%%rcx,%[slot],8), %[old]\n\t"
		"testq %[old], %[old]\n\t"
		"jz %l[slow]\n\t"
		"addq %%rcx, %[old]\n\t"
		"cmpq " HOT(stop) ", %[old]\n\t"
		"je %l[slow]\n\t"
		"subq %%rcx, %[new]\n\t"
		"movq %[new], (%%rcx,%[slot],8)\n"
		RSEQ_END
		: [old] "=&r"(old), [new] "+&r"(new_top)
		: RSEQ_INPUTS, [want] "r"(cpu), [slot] "r"(index)
		: "rax", "rcx", "rdx", "memory", "cc"
		: slow);
	return old;
slow:
	return rseq_failed();
}

/* The index in the caller's area, in the rseq mode. */
static inline u32 rseq_cpu_index(void)
{
	u32 cpu;

	__asm__ __volatile__("movl %%fs:(%1), %0" : "=r"(cpu) : "r"(percpu_hot.cpu_offset));
	return cpu;
}

/*
 * A section stores the address of its descriptor before it learns that no area may be used (before the boot, in the
 * lock mode). Until rseq is in use cs_offset leads to a word of the thread's control block that glibc keeps unused for
 * ever: unused_vgetcpu_cache in sysdeps/x86_64/nptl/tls.h; and cpu_offset to the next one, which stays zero.
 * (Offset 0 would be the block's own address.)
 */
#define RSEQ_NOWHERE 0x38
#define RSEQ_ZERO    0x40

#define HAVE_RSEQ_OPS 1
