// SPDX-License-Identifier: MIT
// Work for a C++ compiler's allocator, and, when run, for operator new: containers of containers, regular
// expressions, recursive templates, exceptions, threads.
#include <algorithm>
#include <cstdint>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <regex>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <unsigned N> struct fib { static constexpr unsigned long value = fib<N - 1>::value + fib<N - 2>::value; };
template <> struct fib<0> { static constexpr unsigned long value = 0; };
template <> struct fib<1> { static constexpr unsigned long value = 1; };

template <std::size_t... I> auto squares(std::index_sequence<I...>) { return std::make_tuple((I * I)...); }

template <typename K> std::size_t fill(K scale)
{
	std::map<K, std::vector<std::string>> map;
	for (int i = 0; i < 4000; i++)
		map[K(i * 7919 % 1009) * scale].push_back(std::string(i % 90, char('a' + i % 26)));
	std::size_t sum = 0;
	for (auto &[key, list] : map)
		for (auto &text : list)
			sum += text.size() * std::size_t(key + 1);
	return sum;
}

using node = std::variant<int, std::string, std::shared_ptr<std::vector<double>>>;

struct over_aligned {
	alignas(128) char data[256];
};

static std::size_t worker(int seed)
{
	std::unordered_map<std::string, std::set<int>> index;
	for (int i = 0; i < 20000; i++)
		index["key" + std::to_string((i * seed) % 257)].insert(i % 97);
	std::size_t sum = 0;
	for (auto &[key, set] : index)
		sum += key.size() * std::accumulate(set.begin(), set.end(), std::size_t(0));
	return sum;
}

int main()
{
	auto t = squares(std::make_index_sequence<60>{});
	std::cout << fib<80>::value << ' ' << std::get<59>(t) << '\n';
	std::cout << fill(1) << ' ' << fill(2L) << ' ' << fill(0.5) << '\n';

	std::vector<node> nodes;
	for (int i = 0; i < 3000; i++) {
		switch (i % 3) {
		case 0: nodes.emplace_back(i); break;
		case 1: nodes.emplace_back(std::to_string(i) + std::string(i % 40, '.')); break;
		default: nodes.emplace_back(std::make_shared<std::vector<double>>(i % 100, 0.25)); break;
		}
	}
	std::regex word("([a-z]+)([0-9]+)|x{2,5}y*");
	std::string text;
	for (int i = 0; i < 500; i++)
		text += "abc" + std::to_string(i) + " xxxyy ";
	std::cout << nodes.size() << ' '
		  << std::distance(std::sregex_iterator(text.begin(), text.end(), word), std::sregex_iterator()) << '\n';

	std::vector<std::future<std::size_t>> futures;
	for (int i = 1; i <= 6; i++)
		futures.push_back(std::async(std::launch::async, worker, i));
	for (auto &f : futures)
		std::cout << f.get() << ' ';
	std::cout << '\n';

	auto big = std::make_unique<over_aligned[]>(50);
	std::cout << (reinterpret_cast<std::uintptr_t>(big.get()) % 128) << '\n';
	try {
		void *impossible = ::operator new(std::size_t(PTRDIFF_MAX) - 100);
		std::cout << "allocated " << (impossible != nullptr) << '\n';
		::operator delete(impossible);
	} catch (const std::bad_alloc &) {
		std::cout << "bad_alloc\n";
	}
}
