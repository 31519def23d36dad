// SPDX-License-Identifier: MIT
//
// cxx_plugin.cc - a C++ plugin for cxx_dlopen.c, which brings libstdc++ into a C program.

#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <vector>

static int handler_calls;

static void count_and_give_up()
{
	handler_calls++;
	std::set_new_handler(nullptr);
}

static void *volatile escape;

// Returns the number of checks that failed.
extern "C" __attribute__((visibility("default"))) int plugin_run(void)
{
	volatile size_t huge = static_cast<size_t>(-1) / 4;
	int failures = 0;
	bool caught = false;

	try {
		escape = ::operator new(huge);
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	failures += !caught;

	std::set_new_handler(count_and_give_up);
	failures += ::operator new(huge, std::nothrow) != nullptr;
	failures += handler_calls != 1;

	caught = false;
	try {
		escape = ::operator new[](huge, std::align_val_t(128));
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	failures += !caught;

	// Thrown out of libstdc++ itself, which is not in the global scope either.
	caught = false;
	try {
		std::string s;

		s.resize(s.max_size() - 1);
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	failures += !caught;
	return failures;
}

// Takes blocks until bad_alloc comes; returns how many there were, or -1 when something else happened.
extern "C" __attribute__((visibility("default"))) long plugin_exhaust(size_t size)
{
	void **list = nullptr;
	long count = 0;
	bool caught = false;

	try {
		for (;;) {
			void **b = static_cast<void **>(::operator new(size));

			*b = list;
			list = b;
			count++;
		}
	} catch (const std::bad_alloc &) {
		caught = true;
	}
	while (list != nullptr) {
		void **next = static_cast<void **>(*list);

		::operator delete(list);
		list = next;
	}
	return caught ? count : -1;
}
