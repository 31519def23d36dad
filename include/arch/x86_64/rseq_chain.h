/* SPDX-License-Identifier: MIT */
/*
 * rseq_chain.h - the critical sections on a slot as a stack of sheaves for x86-64.
 *
 * They are not inlined: lib/arch/rseq.c has the only bodies. What they leave to the caller is stored before the
 * commit; when nothing is committed it means nothing. Labels as in rseq_section.h, 5 to 7 inside a section.
 */
#ifndef KMM_ARCH_PERCPU_CHAIN_H
#error "include arch/percpu_chain.h"
#endif

#define CHAIN_INPUTS RSEQ_INPUTS, [left] "r"(left), [left_sheaf] "i"(offsetof(struct chain_left, sheaf)), \
	[left_slot] "i"(offsetof(struct chain_left, slot))

static inline void *rseq_pop_chain(unsigned long slot, struct chain_left *left)
{
	void *obj;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		RSEQ_AREA
		"movq (%%rcx,%[slot],8), %%rdx\n\t"
		"xorl %%esi, %%esi\n\t"
		"movq -8(%%rcx,%%rdx), %%rax\n\t"
		"testq %%rax, %%rax\n\t"
		"jnz 5f\n\t"
		"leaq -1(%%rcx,%%rdx), %%rsi\n\t"
		"andq $-512, %%rsi\n\t"
		"movq (%%rsi), %%rdx\n\t"
		"andq $-512, %%rdx\n\t"
		"jz %l[slow]\n\t"
		"addq $512, %%rdx\n\t"
		"movq -8(%%rdx), %%rax\n\t"
		"subq %%rcx, %%rdx\n"
		"5:\tmovq %%rsi, %c[left_sheaf](%[left])\n\t"
		"subq $8, %%rdx\n\t"
		"movq %%rdx, (%%rcx,%[slot],8)\n"
		RSEQ_END
		: "=&a"(obj)
		: CHAIN_INPUTS, [slot] "r"(slot)
		: "rcx", "rdx", "rsi", "memory", "cc"
		: slow);
	return obj;
slow:
	return rseq_failed();
}

static inline bool rseq_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	unsigned long slot = e & MAP_SLOT_MASK, entry = e;
	uintptr_t new = ((uintptr_t)new_top - 1) & -512ul;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		"shrl %[home_shift], %k[entry]\n\t"
		"cmpl %%ecx, %k[entry]\n\t"
		"je 5f\n\t"
		"addq %[remote], %[slot]\n5:\t"
		RSEQ_AREA
		"movq %[slot], %c[left_slot](%[left])\n\t"
		"movq (%%rcx,%[slot],8), %%rdx\n\t"
		"addq %%rcx, %%rdx\n\t"
		"cmpq %[obj], -8(%%rdx)\n\t"
		"je %l[slow]\n\t"
		"testl $511, %%edx\n\t"
		"jz 5f\n\t"
		"movq %[new], %c[left_sheaf](%[left])\n\t"	/* there is a place: the new sheaf is not needed */
		"movq %[obj], (%%rdx)\n\t"
		"leaq 8(%%rdx), %[top]\n\t"
		"jmp 7f\n"
		"5:\tsubq $512, %%rdx\n\t"
		"movq (%%rdx), %%rax\n\t"
		"movl %%eax, %%esi\n\t"
		"andl $511, %%esi\n\t"
		"cmpl %[least], %%esi\n\t"
		"jb %l[slow]\n\t"
		"cmpl $1, %%esi\n\t"
		"je 6f\n\t"
		"leaq -1(%%rdx,%%rsi), %%rax\n\t"	/* on top of the full one */
		"xorl %%edx, %%edx\n"
		"6:\tmovq %%rax, (%[new])\n\t"		/* or in its place */
		"movq %%rdx, %c[left_sheaf](%[left])\n"
		"7:\tsubq %%rcx, %[top]\n\t"
		"movq %[top], (%%rcx,%[slot],8)\n"
		RSEQ_END
		: [slot] "+&r"(slot), [entry] "+&r"(entry), [top] "+&r"(new_top)
		: CHAIN_INPUTS, [obj] "r"(obj), [new] "r"(new), [least] "r"(least), [home_shift] "i"(MAP_HOME_SHIFT),
		  [remote] "i"(SLOT_REMOTE)
		: "rax", "rcx", "rdx", "rsi", "memory", "cc"
		: slow);
	return true;
slow:
	return false;
}

static inline void *rseq_get_empty(void)
{
	void *sheaf;

	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		RSEQ_AREA
		"movq %c[empty](%%rcx), %%rax\n\t"
		"andq $-512, %%rax\n\t"
		"jz %l[slow]\n\t"
		"movq (%%rax), %%rdx\n\t"
		"movq %%rdx, %c[empty](%%rcx)\n"
		RSEQ_END
		: "=&a"(sheaf)
		: RSEQ_INPUTS, [empty] "i"(SLOT_EMPTY * sizeof(void *))
		: "rcx", "rdx", "memory", "cc"
		: slow);
	return sheaf;
slow:
	return rseq_failed();
}

static inline bool rseq_put_empty(void *sheaf)
{
	__asm__ __volatile__ goto(
		RSEQ_BEGIN
		RSEQ_AREA
		"movq %c[empty](%%rcx), %%rdx\n\t"
		"movl %%edx, %%eax\n\t"
		"andl $511, %%eax\n\t"
		"jz %l[slow]\n\t"
		"movq %%rdx, (%[sheaf])\n\t"
		"leaq -1(%[sheaf],%%rax), %%rdx\n\t"
		"movq %%rdx, %c[empty](%%rcx)\n"
		RSEQ_END
		:
		: RSEQ_INPUTS, [sheaf] "r"(sheaf), [empty] "i"(SLOT_EMPTY * sizeof(void *))
		: "rax", "rcx", "rdx", "memory", "cc"
		: slow);
	return true;
slow:
	return false;
}
