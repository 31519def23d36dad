/* SPDX-License-Identifier: MIT */
/*
 * vfork.S - vfork() for a process with per-CPU caches.
 *
 * The child runs on the parent's stack and returns first, so the return address must survive in a register: the
 * system call keeps %rdi in both. Then both go through vfork_return() (lib/arch/rseq.c), which registers rseq again.
 * A return address is put back by each of the two for itself. errno is set by vfork_failed() on an error.
 */
	.text
	.globl	vfork
	.type	vfork, @function
	.balign	16
vfork:
	.cfi_startproc
	endbr64
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	.cfi_register %rip, %rdi
	movl	$58, %eax		/* __NR_vfork */
	syscall
	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rip, 0
	movl	%eax, %edi
	cmpl	$-4095, %eax
	jae	1f
	jmp	vfork_return
1:	jmp	vfork_failed
	.cfi_endproc
	.size	vfork, . - vfork
	.section .note.GNU-stack, "", @progbits
