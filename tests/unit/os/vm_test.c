/* SPDX-License-Identifier: MIT */
/* vm_test.c - address space: what is mapped, refused, given back; fault injection; errno stays. */
#include "os/vm.h"

#include "../boot.h"
#include <sys/resource.h>
#include <unistd.h>

TestSuite(vm, .init = os_init, .timeout = 30);

Test(vm, page_size_is_the_running_kernels)
{
	cr_assert_eq(os_page_size, (size_t)sysconf(_SC_PAGESIZE));
	cr_assert_eq(os_ram_bytes(), (u64)sysconf(_SC_PHYS_PAGES) * os_page_size);
	cr_assert_not(os_secure());
}

Test(vm, address_space_limit)
{
	struct rlimit lim;

	getrlimit(RLIMIT_AS, &lim);
	cr_assert_eq(os_address_space_limit(), (u64)lim.rlim_cur);
	lim.rlim_cur = GIB(3);
	cr_assert_eq(setrlimit(RLIMIT_AS, &lim), 0);
	cr_assert_eq(os_address_space_limit(), GIB(3));
	cr_assert_null(vm_map(GIB(4)));
	cr_assert_null(vm_reserve(GIB(4), PROT_NONE));
}

Test(vm, map_is_zero_and_writable)
{
	char *p = vm_map(MIB(1));

	cr_assert_not_null(p);
	cr_assert_eq(vm_resident(p, MIB(1)), 0);
	for (size_t i = 0; i < MIB(1); i += 512)
		cr_assert_eq(p[i], 0);
	memset(p, 7, MIB(1));
	cr_assert_eq(vm_resident(p, MIB(1)), (ssize_t)MIB(1));
	cr_assert_eq(vm_dontneed(p, MIB(1) / 2), 0);
	cr_assert_eq(vm_resident(p, MIB(1)), (ssize_t)MIB(1) / 2);
	cr_assert_eq(p[0], 0);
	cr_assert_eq(p[MIB(1) / 2], 7);
	cr_assert_eq(vm_unmap(p, MIB(1)), 0);
	cr_assert_eq(vm_resident(p, MIB(1)), -ENOMEM);
}

Test(vm, populate_faults_all_in)
{
	char *p = vm_map(MIB(2));

	vm_advise(p, MIB(2), MADV_NOHUGEPAGE);
	p[0] = 7;
	errno = 1234;
	vm_populate(p, MIB(1));
	cr_assert_eq(vm_resident(p, MIB(2)), (ssize_t)MIB(1));
	vm_populate((char *)1, MIB(1));		/* a hint: nothing happens */
	cr_assert_eq(errno, 1234);
	cr_assert_eq(p[0], 7);
	for (size_t i = 1; i < MIB(1); i++)
		cr_assert_eq(p[i], 0);
}

/* mincore's vector is filled in pieces: a size that needs several, the last one short. */
Test(vm, resident_of_a_long_range)
{
	size_t nr = 1000, size = nr * os_page_size;
	char *p = vm_map(size);
	u64 r = rng_of(1);
	size_t want = 0;

	vm_advise(p, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < nr; i++) {
		if (rng_below(&r, 2)) {
			p[i * os_page_size] = 1;
			want += os_page_size;
		}
	}
	cr_assert_eq(vm_resident(p, size), (ssize_t)want);
}

Test(vm, map_at_never_replaces)
{
	char *p = vm_map(4 * os_page_size);

	p[os_page_size] = 42;
	cr_assert_eq(vm_map_at(p + os_page_size, os_page_size), -EEXIST);
	cr_assert_eq(p[os_page_size], 42);
	cr_assert_eq(vm_unmap(p, os_page_size), 0);
	cr_assert_eq(vm_map_at(p, 2 * os_page_size), -EEXIST, "overlap at the end");
	cr_assert_eq(p[os_page_size], 42);
	cr_assert_eq(vm_resident(p, os_page_size), -ENOMEM, "a refused mapping leaves nothing behind");
	cr_assert_eq(vm_map_at(p, os_page_size), 0);
	p[0] = 1;
}

Test(vm, reservation_becomes_writable)
{
	char *p = vm_reserve(MIB(64), PROT_READ);

	cr_assert_not_null(p);
	cr_assert_eq(p[MIB(63)], 0);
	cr_assert_eq(vm_protect(p + MIB(1), os_page_size, PROT_READ | PROT_WRITE), 0);
	p[MIB(1)] = 1;
	cr_assert_eq(p[MIB(1) + os_page_size], 0);
	cr_assert_eq(vm_protect((char *)1, os_page_size, PROT_READ), -EINVAL);
}

Test(vm, read_only_reservation_faults_on_write, .signal = SIGSEGV)
{
	char *p = vm_reserve(MIB(1), PROT_READ);

	*(volatile char *)p = 1;
}

Test(vm, remap)
{
	char *p = vm_map(8 * os_page_size), *q, *at;

	memset(p, 3, 8 * os_page_size);
	q = vm_remap(p, 8 * os_page_size, 4 * os_page_size, false, NULL);
	cr_assert_eq(q, p);
	cr_assert_eq(vm_map_at(p + 4 * os_page_size, os_page_size), 0);
	cr_assert_null(vm_remap(p, 4 * os_page_size, 8 * os_page_size, false, NULL), "the place behind is taken");
	q = vm_remap(p, 4 * os_page_size, 8 * os_page_size, true, NULL);
	cr_assert_not_null(q);
	cr_assert_neq(q, p);
	cr_assert_eq(q[4 * os_page_size - 1], 3);
	cr_assert_eq(q[4 * os_page_size], 0);
	at = vm_reserve(16 * os_page_size, PROT_NONE);
	cr_assert_eq(vm_remap(q, 8 * os_page_size, 8 * os_page_size, true, at), at);
	cr_assert_eq(at[0], 3);
}

Test(vm, break_moves_and_cannot_always)
{
	char *old = __os_sbrk(0), *p;

	cr_assert_not_null(old);
	cr_assert_eq(__os_sbrk(8192), old);
	cr_assert_eq(__os_sbrk(0), old + 8192);
	cr_assert_eq(sbrk(0), old + 8192, "glibc's cache of the break has followed");
	old[8191] = 1;
	cr_assert_eq(__os_sbrk(-4096), old + 8192);
	p = (char *)ALIGN((uintptr_t)old + 4096 + MIB(1), os_page_size);
	cr_assert_eq(vm_map_at(p, os_page_size), 0);
	cr_assert_null(__os_sbrk((ptrdiff_t)MIB(4)), "a mapping is in the way");
	cr_assert_eq(__os_sbrk(0), old + 4096);
}

/* Every call that can fail does, every n-th time, and errno is not touched. */
Test(vm, fault_injection)
{
	char *p = vm_map(os_page_size), *q;
	unsigned failed = 0;

	errno = 4711;
	os_fault_every = 1;
	cr_assert_null(vm_map(os_page_size));
	cr_assert_null(vm_reserve(os_page_size, PROT_READ));
	cr_assert_eq(vm_map_at(p + MIB(64), os_page_size), -ENOMEM);
	cr_assert_eq(vm_protect(p, os_page_size, PROT_READ), -ENOMEM);
	cr_assert_null(vm_remap(p, os_page_size, 2 * os_page_size, true, NULL));
	cr_assert_null(__os_sbrk(4096));
	cr_assert_not_null(__os_sbrk(0), "asking never fails");
	p[0] = 1;

	os_fault_every = 3;
	for (int i = 0; i < 300; i++) {
		q = vm_map(os_page_size);
		failed += q == NULL;
		if (q)
			vm_unmap(q, os_page_size);
	}
	cr_assert_eq(failed, 100);
	os_fault_every = 0;
	cr_assert_null(vm_map(1ul << 60), "a real failure");
	cr_assert_eq(errno, 4711);
}
