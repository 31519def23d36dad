/* SPDX-License-Identifier: MIT */
/*
 * dlopen_plugin.c - libraries come and go and leave objects behind.
 *
 * Purpose: the dynamic linker allocates while it holds its own locks, in constructors and destructors, and for
 * thread-local storage at first use, deep inside any function. Four parts:
 *   cycle   two threads open and close their own copy of plugin.so, others allocate; what the library left behind
 *           is checked and freed after it was closed, by another thread
 *   fork    children are made while a thread is inside dlopen; they allocate
 *   tls     many copies are open at once, every thread touches the thread-local area of each
 *   exit    some stay open until the process ends
 *
 * plugin.so is the first argument, or lies beside the program. Copies are made because a library that is open
 * already is not opened again.
 *
 * modes: auto lock
 */
#include "../common/torture.h"

#define NR_COPIES 40
#define NR_LEFT	  8
#define LEFT_SIZE 200
#define NR_RING	  64
#define TLS_SIZE  3000

static char dir[] = "/tmp/kmm-plugin.XXXXXX";
static void *ring[NR_RING];	/* objects that closed libraries left behind */
static bool stop;
static uint64_t nr_cycles, nr_checked, nr_forks;

static void copy_path(char *path, size_t size, unsigned n)
{
	snprintf(path, size, "%s/plugin%u.so", dir, n);
}

static void copy_file(const char *from, const char *to)
{
	char buf[16384];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
	ssize_t n;

	T_CHECK(in >= 0, "%s: %s", from, strerror(errno));
	T_CHECK(out >= 0, "%s: %s", to, strerror(errno));
	while ((n = read(in, buf, sizeof(buf))) > 0)
		T_CHECK(write(out, buf, (size_t)n) == n, "%s: %s", to, strerror(errno));
	close(in);
	close(out);
}

static void remove_copies(void)
{
	char path[64];

	for (unsigned i = 0; i < NR_COPIES; i++) {
		copy_path(path, sizeof(path), i);
		unlink(path);
	}
	rmdir(dir);
}

/* The objects are alike, but each by itself has one byte value all through. */
static void check_left(const unsigned char *p)
{
	for (unsigned i = 0; i < LEFT_SIZE; i++)
		T_CHECK(p[i] == p[0] && p[i] >= 0x60 && p[i] <= 0x7f, "object %p that a library left behind has %x at %u", (void *)p,
			p[i], i);
	__atomic_add_fetch(&nr_checked, 1, __ATOMIC_RELAXED);
}

static void leave(void *p)
{
	static unsigned next;
	void *old = __atomic_exchange_n(&ring[__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % NR_RING], p, __ATOMIC_ACQ_REL);

	if (old) {
		check_left(old);
		free(old);
	}
}

static void *symbol(void *lib, const char *name)
{
	void *p = dlsym(lib, name);

	T_CHECK(p, "dlsym(%s): %s", name, dlerror());
	return p;
}

static void *open_copy(unsigned n)
{
	char path[64];
	void *lib;

	copy_path(path, sizeof(path), n);
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	T_CHECK(lib, "dlopen: %s", dlerror());
	return lib;
}

static void touch(void *lib, int value)
{
	char *(*plugin_touch)(int) = (char *(*)(int))symbol(lib, "plugin_touch");
	char *area = plugin_touch(value);

	for (unsigned i = 0; i < TLS_SIZE; i++)
		T_CHECK(area[i] == (char)value, "thread-local byte %u is %x", i, area[i]);
}

static void *cycler(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		void *lib = open_copy(n), **left = symbol(lib, "plugin_left");

		*(void (**)(void *))symbol(lib, "plugin_sink") = leave;
		for (unsigned i = 0; i < NR_LEFT; i++) {
			T_CHECK(left[i], "a constructor's malloc failed");
			check_left(left[i]);
			leave(left[i]);
		}
		touch(lib, (int)(0x20 + n));
		T_CHECK(dlclose(lib) == 0, "dlclose: %s", dlerror());
		__atomic_add_fetch(&nr_cycles, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *allocator(void *arg)
{
	struct rng r = rng_of(100 + (uintptr_t)arg);

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct tobj *o = tobj_new(rng_size(&r, 13));
		void *left = __atomic_exchange_n(&ring[rng_below(&r, NR_RING)], NULL, __ATOMIC_ACQ_REL);

		if (left) {
			check_left(left);
			free(left);
		}
		tobj_free(o);
	}
	return NULL;
}

static void *forker(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int status;
		pid_t pid = fork();

		T_CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			t_watchdog(30);
			t_epoch = (uint16_t)getpid();
			for (unsigned i = 0; i < 200; i++)
				tobj_free(tobj_new(16 + i * 16));
			_exit(0);
		}
		T_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a child ended with status %x", (unsigned)status);
		nr_forks++;
		usleep(2000);
	}
	return NULL;
}

/* --- thread-local storage of many libraries ----------------------------------------------------------- */
static void *libs[NR_COPIES];

static void *toucher(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < NR_COPIES; i++) {
		touch(libs[i], (int)(0x30 + n));
		free(malloc(i * 100));
	}
	for (unsigned i = NR_COPIES; i-- > 0;)
		touch(libs[i], (int)(0x40 + n));
	return NULL;
}

static void many_tls(unsigned nr_rounds)
{
	pthread_t threads[4];

	for (unsigned round = 0; round < nr_rounds; round++) {
		for (unsigned i = 0; i < NR_COPIES; i++)
			libs[i] = open_copy(i);
		for (uintptr_t i = 0; i < NR_OF(threads); i++)
			threads[i] = t_thread(toucher, (void *)i);
		toucher((void *)7);
		for (unsigned i = 0; i < NR_OF(threads); i++)
			pthread_join(threads[i], NULL);
		for (unsigned i = 0; i < NR_COPIES; i++) {
			void **left = symbol(libs[i], "plugin_left");

			for (unsigned j = 0; j < NR_LEFT; j++)
				leave(left[j]);
			*(void (**)(void *))symbol(libs[i], "plugin_sink") = leave;
			if (round + 1 < nr_rounds || i % 8)
				dlclose(libs[i]);
		}
	}
}

int main(int argc, char **argv)
{
	char plugin[PATH_MAX], path[64];
	pthread_t threads[6];
	uint64_t end;

	t_start("dlopen_plugin");
	t_watchdog(t_torture ? 600 : 60);
	snprintf(plugin, sizeof(plugin), "%.*s/plugin.so", (int)(strrchr(argv[0], '/') ? strrchr(argv[0], '/') - argv[0] : 1),
		 strrchr(argv[0], '/') ? argv[0] : ".");
	T_CHECK(mkdtemp(dir), "%s: %s", dir, strerror(errno));
	atexit(remove_copies);
	for (unsigned i = 0; i < NR_COPIES; i++) {
		copy_path(path, sizeof(path), i);
		copy_file(argc > 1 ? argv[1] : plugin, path);
	}
	for (uintptr_t i = 0; i < NR_OF(threads); i++)
		threads[i] = t_thread(i < 2 ? cycler : i < 5 ? allocator : forker, (void *)i);
	for (end = t_deadline(2000); t_now_ms() < end;)
		usleep(20000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < NR_OF(threads); i++)
		pthread_join(threads[i], NULL);
	many_tls(t_torture ? 50 : 3);
	for (unsigned i = 0; i < NR_RING; i++)
		leave(NULL);
	T_CHECK(nr_cycles >= 20 && nr_checked >= nr_cycles * NR_LEFT && nr_forks >= 5, "only %llu cycles, %llu forks",
		(unsigned long long)nr_cycles, (unsigned long long)nr_forks);
	printf("dlopen_plugin: %llu cycles, %llu objects left behind, %llu forks\n", (unsigned long long)nr_cycles,
	       (unsigned long long)nr_checked, (unsigned long long)nr_forks);
	return 0;
}
