/* SPDX-License-Identifier: MIT */
/*
 * rseq_section.h - what a critical section for x86-64 is made of, and what is read on the way there.
 *
 * Labels: 3 the descriptor, 1 start, 2 behind the commit, 4 abort handler. The word before the abort handler is the
 * signature that glibc registered with. A jump out of a section leaves rseq_cs set: the kernel looks at it only while
 * the instruction pointer is inside. Only rseq_cs is ever written.
 */
#ifndef KMM_ARCH_RSEQ_SECTION_H
#define KMM_ARCH_RSEQ_SECTION_H

/* Addressed relative to the instruction pointer: no register and no instruction for the address. */
#define HOT(field) "percpu_hot+%c[" #field "](%%rip)"

/*
 * The descriptor, and the index of this CPU's area into %rcx. Where rseq lies in a thread is read from variables, until
 * lib/arch/x86_64/runtime_const.c writes it into the code; the bytes are as it expects them, and the section begins where it
 * may in either form: behind the store of the descriptor, before the index is read.
 */
#define RSEQ_BEGIN                                                             \
	".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n"                       \
	"3:\t.long 0, 0\n\t"                                                   \
	".quad 1f, (2f - 1f), 4f\n\t.popsection\n\t"                           \
	"leaq 3b(%%rip), %%rcx\n\t"                                            \
	"movq " HOT(cs) ", %%rdx\n\t"                                          \
	"movq %%rcx, %%fs:(%%rdx)\n"                                          \
	"1:\n\t"                                                               \
	"movq " HOT(cpu) ", %%rcx\n\t"                                         \
	"movslq %%fs:(%%rcx), %%rcx\n\t"

#define RSEQ_END                                                               \
	"2:\n\t"                                                               \
	".pushsection __rseq_failure, \"ax\"\n\t"                              \
	".byte 0x0f, 0xb9, 0x3d\n\t"	/* ud1, so that the signature is no code */ \
	".long 0x53053053\n"                                                   \
	"4:\tjmp %l[slow]\n\t.popsection\n\t"

/* No bounds and no "is it there?": every index that the kernel may write leads somewhere (percpu_ops.h). */
#define RSEQ_AREA                                                              \
	"shlq %[shift], %%rcx\n\t"                                             \
	"addq " HOT(base) ", %%rcx\n\t"

#define HOT_INPUT(name, field) [name] "i"(offsetof(struct percpu_hot, field))
#define RSEQ_INPUTS HOT_INPUT(cs, cs_offset), HOT_INPUT(cpu, cpu_offset), HOT_INPUT(base, rseq_base), HOT_INPUT(stop, stop_top), \
	[shift] "i"(PERCPU_SHIFT)

/*
 * What else every free() reads: x -= s.field; x < s.field; s.field. Of a struct of which several fields are used the
 * compiler would put the address into a register first.
 */
#define hot_sub(x, s, field)                                                    \
	__asm__ __volatile__("subq " #s "+%c1(%%rip), %0" : "+r"(x) : "i"(offsetof(__typeof__(s), field)) : "cc")
#define hot_below(x, s, field) ({                                               \
	bool below__;                                                           \
	__asm__ __volatile__("cmpq " #s "+%c2(%%rip), %1" : "=@ccb"(below__) : "r"(x), "i"(offsetof(__typeof__(s), field))); \
	below__; })
#define hot_load(s, field) ({                                                   \
	__typeof__((s).field) v__;                                              \
	__asm__ __volatile__("movq " #s "+%c1(%%rip), %0" : "=r"(v__) : "i"(offsetof(__typeof__(s), field))); \
	v__; })

#endif
