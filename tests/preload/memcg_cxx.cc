// SPDX-License-Identifier: MIT
//
// memcg_cxx.cc - a C++ program in a memory group that is full: bad_alloc is thrown and caught, and what unwinding and the
// handler allocate (destructors, exceptions with text, messages) comes out of the emergency reserve, also where that is
// of the size that was refused, and on another CPU than before. Run preloaded.
//
// timeout: 120
// modes: auto lock debug

#include "kmm/kmm.h"
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
#include <new>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#pragma weak kmm_memcg_create
#pragma weak kmm_memcg_attach
#pragma weak kmm_memcg_read
#pragma weak kmm_memcg_set
#pragma weak kmm_memcg_remove
#pragma weak kmm_trim

#define CHECK(cond)                                                                         \
	do {                                                                                \
		if (!(cond)) {                                                              \
			fprintf(stderr, "memcg_cxx: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			_exit(1);                                                           \
		}                                                                           \
	} while (0)

static int group;
static const long max_bytes = 8l << 20;

static long number(const char *file)
{
	char text[64];

	CHECK(kmm_memcg_read(group, file, text, sizeof text) > 0);
	return atol(text);
}

static unsigned destroyed;
static size_t written;

// Its destructor allocates, as one that writes a message does.
struct Talks {
	std::string name;

	explicit Talks(int n) : name("object number " + std::to_string(n) + " with a name that is not short at all") {}
	~Talks()
	{
		std::string message = "destroying " + name;
		auto copy = std::make_unique<std::string>(message + ", for good");

		written += copy->size();
		destroyed++;
	}
};

static unsigned nr_blocks;

// Fills the group until new throws, below a few objects whose destructors talk. Either with blocks of 1000 bytes, or with
// the list's nodes alone, whose size is that of short strings.
static void fill(int depth, bool nodes, std::list<std::vector<char>> &blocks)
{
	Talks talks(depth);

	if (depth < 20) {
		fill(depth + 1, nodes, blocks);
		return;
	}
	for (; nr_blocks < 1000000; nr_blocks++)
		blocks.emplace_back(nodes ? 0 : 1000);
}

// Where there are several CPUs, what is cached on one is of no use on the other.
static void move_on()
{
	cpu_set_t now, all;

	if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2)
		return;
	now = all;
	CPU_CLR(sched_getcpu(), &now);
	CHECK(sched_setaffinity(0, sizeof now, &now) == 0);
	CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
}

// What is caught becomes another exception, with a text that has to be allocated.
static void fill_and_explain(bool nodes, std::list<std::vector<char>> &blocks)
{
	try {
		fill(0, nodes, blocks);
	} catch (const std::bad_alloc &) {
		move_on();
		std::list<std::string> words;
		for (size_t size = 17; size < 200; size += 12)
			words.emplace_back(size, 'w');
		throw std::runtime_error(std::string("no memory after ") + std::to_string(nr_blocks) + " blocks" + std::string(2000, '.'));
	}
}

static void one_round(int round)
{
	std::list<std::vector<char>> blocks;
	bool caught = false, nodes = round % 4 > 1;

	destroyed = nr_blocks = 0;
	written = 0;
	try {
		fill_and_explain(nodes, blocks);
	} catch (const std::runtime_error &e) {
		caught = true;
		CHECK(std::string(e.what()).size() > 2000 && destroyed == 21 && written > 21 * 60);
	}
	CHECK(caught);
	CHECK(nodes ? nr_blocks > 100000 && nr_blocks < 210000 : nr_blocks > 6000 && nr_blocks < 8400);
	CHECK(number("memory.peak") <= max_bytes && number("memory.current") <= max_bytes);
	if (round % 2) {		// the reserve is not for going on as if nothing were
		unsigned more = 0;
		void *last = nullptr;

		for (int tries = 0; tries < 10000; tries++) {
			void **p = static_cast<void **>(malloc(1000));

			if (!p)
				continue;
			*p = last;
			last = p;
			more++;
		}
		for (void *next; last; last = next) {
			next = *static_cast<void **>(last);
			free(last);
		}
		CHECK(more < 400);
		CHECK(number("memory.current") <= max_bytes);
	}
}

static void in_group()
{
	CHECK(kmm_memcg_attach(group, 0) == 0);
	for (int round = 0; round < 12; round++)
		one_round(round);
	// And as usual again.
	auto p = std::make_unique<std::vector<char>>(4 << 20);
	CHECK(p->size() == 4u << 20);
}

int main()
{
	CHECK(kmm_memcg_create);
	group = kmm_memcg_create("full");
	CHECK(group > 0 && kmm_memcg_set(group, "memory.max", "8M") == 0);
	std::thread(in_group).join();
	std::vector<std::thread> several;
	for (int i = 0; i < 4; i++)
		several.emplace_back([] {
			CHECK(kmm_memcg_attach(group, 0) == 0);
			for (int round = 0; round < 20; round++) {
				std::list<std::vector<char>> blocks;

				try {
					for (;;)
						blocks.emplace_back(3000);
				} catch (const std::bad_alloc &) {
					CHECK(number("memory.current") <= max_bytes);
				}
			}
		});
	for (auto &t : several)
		t.join();
	kmm_trim(0);
	CHECK(number("memory.peak") <= max_bytes && number("memory.current") <= 64 << 10);
	return 0;
}
