/* SPDX-License-Identifier: MIT */
/*
 * rseq_ops.h - the critical sections of percpu_ops.h for x86-64.
 *
 * Labels: 3 the descriptor, 1 start, 2 behind the commit, 4 abort handler. The word before the abort handler is the
 * signature that glibc registered with. A jump out of a section leaves rseq_cs set: the kernel looks at it only while
 * the instruction pointer is inside. Only rseq_cs is ever written.
 */
#ifndef KMM_PERCPU_OPS_INNER
#error "include arch/percpu_ops.h"
#endif

/* Addressed relative to the instruction pointer: no register and no instruction for the address. */
#define HOT(field) "percpu_hot+%c[" #field "](%%rip)"

#define RSEQ_BEGIN                                                             \
	".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n"                       \
	"3:\t.long 0, 0\n\t"                                                   \
	".quad 1f, (2f - 1f), 4f\n\t.popsection\n\t"                           \
	"movq " HOT(cs) ", %%rdx\n\t"                                          \
	"leaq 3b(%%rip), %%rcx\n\t"                                            \
	"movq %%rcx, %%fs:(%%rdx)\n\t"                                         \
	"movq " HOT(cpu) ", %%rcx\n"                                           \
	"1:\n\t"                                                               \
	"movzwl %%fs:(%%rcx), %%ecx\n\t"

#define RSEQ_END                                                               \
	"2:\n\t"                                                               \
	".pushsection __rseq_failure, \"ax\"\n\t"                              \
	".byte 0x0f, 0xb9, 0x3d\n\t"	/* ud1, so that the signature is no code */ \
	".long 0x53053053\n"                                                   \
	"4:\tjmp %l[slow]\n\t.popsection\n\t"

/* No bounds and no "is it there?": every index that the kernel may write leads somewhere (percpu_ops.h). */
#define RSEQ_AREA                                                              \
	"movq " HOT(areas) ", %%rdx\n\t"                                       \
	"movq (%%rdx,%%rcx,8), %%rcx\n\t"

#define HOT_INPUT(name, field) [name] "i"(offsetof(struct percpu_hot, field))
#define RSEQ_INPUTS HOT_INPUT(cs, cs_offset), HOT_INPUT(cpu, cpu_offset), HOT_INPUT(areas, areas), HOT_INPUT(stop, stop_top)

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
		"movq -8(%%rdx), %%rax\n\t"
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

static __always_inline bool rseq_push(map_entry_t e, void *obj)
{
	unsigned long slot = e & MAP_SLOT_MASK, entry = e;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		"shrl %[home_shift], %k[entry]\n\t"
		"cmpl %%ecx, %k[entry]\n\t"
		"je 5f\n\t"		/* a branch: speculation runs ahead of the entry's load (a cmov waits for it) */
		"addq %[remote], %[slot]\n5:\t"	/* the bit is clear: an addition is an or */
		RSEQ_AREA
		"movq (%%rcx,%[slot],8), %%rdx\n\t"
		"testl $511, %%edx\n\t"
		"jz %l[slow]\n\t"
		"cmpq %[obj], -8(%%rdx)\n\t"
		"je %l[slow]\n\t"
		"movq %[obj], (%%rdx)\n\t"
		"addq $8, %%rdx\n\t"
		"movq %%rdx, (%%rcx,%[slot],8)\n"
		RSEQ_END
		: [slot] "+&r"(slot), [entry] "+&r"(entry)
		: RSEQ_INPUTS, [obj] "r"(obj), [home_shift] "i"(MAP_HOME_SHIFT), [remote] "i"(SLOT_REMOTE)
		: "rcx", "rdx", "memory", "cc"
		: slow);
	return true;
slow:
	return false;
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
		"cmpq " HOT(stop) ", %[old]\n\t"
		"je %l[slow]\n\t"
		"movq %[new], (%%rcx,%[slot],8)\n"
		RSEQ_END
		: [old] "=&r"(old)
		: RSEQ_INPUTS, [want] "r"(cpu), [slot] "r"(index), [new] "r"(new_top)
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
