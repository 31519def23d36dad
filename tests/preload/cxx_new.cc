// SPDX-License-Identifier: MIT
//
// cxx_new.cc - every form of operator new and delete, and what happens when memory is out. Run preloaded.
//
// Checked: alignment and writability of each form, bad_alloc from each throwing form and NULL from each nothrow
// form for a size that can never be had, real exhaustion under RLIMIT_AS that is caught and survived, a new_handler
// that frees a reserve, one that throws something of its own, and containers as ordinary users.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>

static int failures;

#define CHECK(cond)                                                                      \
	do {                                                                             \
		if (!(cond)) {                                                           \
			fprintf(stderr, "cxx_new: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			failures++;                                                      \
		}                                                                        \
	} while (0)

// The compiler may elide a new/delete pair of which it sees both ends.
static void *volatile escape;

static void *use(void *p, size_t size, size_t align)
{
	escape = p;
	CHECK(p != nullptr);
	CHECK(reinterpret_cast<uintptr_t>(p) % align == 0);
	if (p != nullptr)
		memset(p, 0x5a, size);
	return escape;
}

static const size_t sizes[] = { 0, 1, 8, 16, 17, 64, 129, 1000, 4096, 5000, 70000, 300000, 3 << 20 };

static void test_forms()
{
	for (size_t n : sizes) {
		::operator delete(use(::operator new(n), n, 16));
		::operator delete[](use(::operator new[](n), n, 16));
		::operator delete(use(::operator new(n), n, 16), n);
		::operator delete[](use(::operator new[](n), n, 16), n);
		::operator delete(use(::operator new(n, std::nothrow), n, 16), std::nothrow);
		::operator delete[](use(::operator new[](n, std::nothrow), n, 16), std::nothrow);
	}
	::operator delete(nullptr);
	::operator delete[](nullptr);
	::operator delete(nullptr, std::align_val_t(64));

	void *a = ::operator new(0), *b = ::operator new(0);

	CHECK(a != b);
	::operator delete(a);
	::operator delete(b);
}

static void test_aligned_forms()
{
	for (size_t align = 1; align <= (1u << 21); align *= 2) {
		std::align_val_t al{align};

		for (size_t n : sizes) {
			::operator delete(use(::operator new(n, al), n, align), al);
			::operator delete[](use(::operator new[](n, al), n, align), al);
			::operator delete(use(::operator new(n, al), n, align), n, al);
			::operator delete[](use(::operator new[](n, al), n, align), n, al);
			::operator delete(use(::operator new(n, al, std::nothrow), n, align), al, std::nothrow);
			::operator delete[](use(::operator new[](n, al, std::nothrow), n, align), al, std::nothrow);
		}
	}
}

template <typename F> static bool throws_bad_alloc(F f)
{
	try {
		escape = f();
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

static void test_impossible_sizes()
{
	volatile size_t huge[] = { SIZE_MAX, SIZE_MAX - 4096, static_cast<size_t>(PTRDIFF_MAX) + 1, SIZE_MAX / 4 };
	std::align_val_t al{256};

	for (volatile size_t &v : huge) {
		size_t n = v;

		CHECK(throws_bad_alloc([n] { return ::operator new(n); }));
		CHECK(throws_bad_alloc([n] { return ::operator new[](n); }));
		CHECK(throws_bad_alloc([n, al] { return ::operator new(n, al); }));
		CHECK(throws_bad_alloc([n, al] { return ::operator new[](n, al); }));
		CHECK(::operator new(n, std::nothrow) == nullptr);
		CHECK(::operator new[](n, std::nothrow) == nullptr);
		CHECK(::operator new(n, al, std::nothrow) == nullptr);
		CHECK(::operator new[](n, al, std::nothrow) == nullptr);
	}
}

// --- handlers ---------------------------------------------------------------------------------------------

static int handler_calls;

static void handler_gives_up()
{
	if (++handler_calls == 3)
		std::set_new_handler(nullptr);
}

struct HandlerError : std::runtime_error {
	HandlerError() : std::runtime_error("from the handler") {}
};

static void handler_throws_own()
{
	handler_calls++;
	throw HandlerError();
}

static void handler_throws_bad_alloc()
{
	handler_calls++;
	throw std::bad_alloc();
}

static void test_handlers()
{
	volatile size_t n = SIZE_MAX / 4;
	bool own = false;

	handler_calls = 0;
	std::set_new_handler(handler_gives_up);
	CHECK(throws_bad_alloc([&n] { return ::operator new(n); }));
	CHECK(handler_calls == 3);

	handler_calls = 0;
	std::set_new_handler(handler_gives_up);
	CHECK(::operator new[](n, std::nothrow) == nullptr);
	CHECK(handler_calls == 3);

	handler_calls = 0;
	std::set_new_handler(handler_throws_own);
	try {
		escape = ::operator new(n);
	} catch (const HandlerError &) {
		own = true;
	}
	CHECK(own);
	CHECK(handler_calls == 1);

	handler_calls = 0;
	std::set_new_handler(handler_throws_bad_alloc);
	CHECK(throws_bad_alloc([&n] { return ::operator new(n, std::align_val_t(64)); }));
	CHECK(::operator new(n, std::nothrow) == nullptr);
	CHECK(::operator new[](n, std::align_val_t(64), std::nothrow) == nullptr);
	CHECK(handler_calls == 3);
	std::set_new_handler(nullptr);
}

// --- exhaustion -------------------------------------------------------------------------------------------

struct Block {
	Block *next;
	char data[0];
};

static void free_all(Block *list)
{
	while (list != nullptr) {
		Block *next = list->next;

		::operator delete(list);
		list = next;
	}
}

// Takes blocks of n bytes until new fails; returns how many there were.
static size_t exhaust(size_t n, Block **list)
{
	size_t count = 0;

	try {
		for (;;) {
			Block *b = static_cast<Block *>(::operator new(n));

			b->next = *list;
			*list = b;
			count++;
		}
	} catch (const std::bad_alloc &e) {
		CHECK(strstr(e.what(), "bad_alloc") != nullptr);
	}
	return count;
}

static char *reserve;
static int reserve_freed;

static void handler_frees_reserve()
{
	if (reserve == nullptr) {
		std::set_new_handler(nullptr);
		return;
	}
	::operator delete(reserve);
	reserve = nullptr;
	reserve_freed++;
}

static size_t address_space_bytes()
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages = 0;

	if (f == nullptr || fscanf(f, "%zu", &pages) != 1)
		pages = 0;
	if (f != nullptr)
		fclose(f);
	return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

static void test_exhaustion()
{
	struct rlimit old, lim;

	CHECK(getrlimit(RLIMIT_AS, &old) == 0);
	lim = old;
	lim.rlim_cur = address_space_bytes() + (96u << 20);
	CHECK(setrlimit(RLIMIT_AS, &lim) == 0);

	static const size_t block_sizes[] = { 48, 1024, 20000, 200000, 1 << 20, 8 << 20 };

	for (size_t n : block_sizes) {
		Block *list = nullptr;
		size_t count = exhaust(n, &list);

		CHECK(count > 0);
		CHECK(count * n < (400u << 20));
		// While memory is out, a second failure must be catchable as well.
		Block *more = nullptr;

		exhaust(n, &more);
		free_all(more);
		free_all(list);
	}

	reserve = static_cast<char *>(::operator new(16u << 20));
	std::set_new_handler(handler_frees_reserve);

	Block *list = nullptr;
	size_t count = exhaust(1 << 20, &list);

	CHECK(count > 0);
	CHECK(reserve_freed == 1);
	std::set_new_handler(nullptr);
	free_all(list);

	CHECK(setrlimit(RLIMIT_AS, &old) == 0);
	::operator delete(use(::operator new(1 << 20), 1 << 20, 16));
}

// --- ordinary users -----------------------------------------------------------------------------------------

struct alignas(128) Wide {
	char c[200];
};

static void test_users()
{
	std::vector<std::string> v;

	for (int i = 0; i < 20000; i++)
		v.push_back("string number " + std::to_string(i));
	CHECK(v[12345] == "string number 12345");

	auto wide = std::make_unique<Wide[]>(17);

	CHECK(reinterpret_cast<uintptr_t>(wide.get()) % 128 == 0);

	std::vector<char> w;
	bool caught = false;

	try {
		w.resize(static_cast<size_t>(PTRDIFF_MAX) - 1);
	} catch (const std::exception &) {
		caught = true;
	}
	CHECK(caught);
	auto shared = std::make_shared<Wide>();
	CHECK(reinterpret_cast<uintptr_t>(shared.get()) % 128 == 0);
}

int main()
{
	test_forms();
	test_aligned_forms();
	test_impossible_sizes();
	test_handlers();
	test_exhaustion();
	test_users();
	if (failures == 0)
		puts("cxx_new: ok");
	return failures != 0;
}
