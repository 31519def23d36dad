/* SPDX-License-Identifier: MIT */
/*
 * kmm.h - what libkmm offers beyond malloc. The one installed header.
 *
 * A program that uses it links with -lkmm (pkg-config kmm), and so has libkmm's malloc without LD_PRELOAD. Programs
 * that want to run with and without libkmm declare the functions weak.
 *
 * Unless a function says otherwise it is thread-safe, may be called in a child after fork(), and must not be called
 * from a signal handler. A "page" is 4096 bytes on every machine, whatever the kernel's page size is.
 */
#ifndef KMM_KMM_H
#define KMM_KMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KMM_API __attribute__((visibility("default")))

/* The function looks at the address, never at what is there. */
#if defined(__has_attribute)
#if __has_attribute(access)
#define KMM_ADDRESS_ONLY(n) __attribute__((access(none, n)))
#endif
#endif
#ifndef KMM_ADDRESS_ONLY
#define KMM_ADDRESS_ONLY(n)
#endif

/* Size of a page in bytes. */
#define KMM_PAGE_SIZE 4096ul

/*
 * The version, as "0.1". Never NULL. Async-signal-safe.
 */
KMM_API const char *kmm_version(void);

/* --- looking ---------------------------------------------------------------------------------------------- */

/*
 * Prints all statistics to the descriptor fd, as text or as one JSON object; the same that KMM_STATS prints at exit.
 * Does not allocate, so it works when memory is out. Waits while a non-blocking fd is full; raises no SIGPIPE.
 * Returns 0, or -1 with errno of the write (EBADF, EPIPE, ENOSPC, ...). Two threads that print into one descriptor
 * may mix their output in pieces.
 */
KMM_API int kmm_stats_print(int fd, bool json);

/*
 * Bytes that the block at ptr has, 0 if ptr is not the start of a block of libkmm. Unlike malloc_usable_size(), any
 * address may be asked, also one that never came from malloc. A block that was freed a moment ago may still count as
 * one, and the answer is only worth something while nobody frees the block.
 */
KMM_API size_t kmm_usable_size(const void *ptr) KMM_ADDRESS_ONLY(1);

/* One mapping of the process's address space. */
struct kmm_vma {
	uintptr_t start, end;	/* the bytes [start, end) */
	bool read, write, exec, shared;
	bool own;		/* mapped by libkmm */
	char kind[16];		/* "code", "heap", "library", "stack", ... as in section mm of the statistics */
	char name[32];		/* last part of the file's path, "[stack]", or "" */
};

/*
 * Finds the mapping that contains addr, or the next one above it (check vma->start). Reads /proc/self/maps first
 * when addr is not in a mapping that is known already. Returns 0, or -1 with errno ENOENT: nothing at or above addr.
 */
KMM_API int kmm_find_vma(const void *addr, struct kmm_vma *vma) KMM_ADDRESS_ONLY(1);

/* --- memory goes home ------------------------------------------------------------------------------------- */

/*
 * Gives free memory back to the kernel, all but about pad bytes of it: caches are emptied into slabs, empty slabs
 * become pages, the top of the heap is cut off and the rest is advised away. Returns the bytes that went back.
 * It takes time in proportion to the memory and slows other threads while it lasts.
 */
KMM_API size_t kmm_trim(size_t pad);

/*
 * Everything that reclaim and compaction can do, now, whatever its age: kmm_trim(0), again until nothing more goes, and a
 * pass of compaction, for which it waits; that is made by the background thread, so not where there is none. Returns the
 * bytes that went back. malloc_trim(0) does the same, and says whether any went.
 */
KMM_API size_t kmm_compact(void);

/*
 * The decay time in milliseconds: free memory older than this goes back to the kernel. It begins as KMM_DECAY_MS says;
 * KMM_DECAY_MAX_MS, a day, is as good as never. What is too old by a new time begins to go at once.
 * kmm_decay_set() returns 0, or -1 with errno EINVAL: more than KMM_DECAY_MAX_MS.
 */
#define KMM_DECAY_MAX_MS 86400000ul
KMM_API int kmm_decay_set(unsigned long ms);
KMM_API unsigned long kmm_decay_get(void);

/* --- memory groups ---------------------------------------------------------------------------------------- */

/*
 * A tree of memory control groups inside the process, with the semantics of the kernel's (cgroup v2, memory controller).
 * Every thread is in one; what it allocates is charged, by whole pages, to its group and all above it, until it is
 * freed, by whatever thread. A group is known by a positive number; 0 is the root, the whole process, whose limits
 * are the process's quota. New threads begin in the group of the thread that creates them (by pthread_create()).
 *
 * Charged are slabs, large blocks and kmm_alloc_pages(); not the allocator's metadata, free pages, stacks, or mappings
 * that the program makes itself. Each size class takes whole slabs, so a group whose max is below KMM_MEMCG_ENOUGH bytes
 * may be refused memory although it uses less.
 */
#define KMM_MEMCG_ENOUGH (4576ul << 10)

/*
 * A new group, "plug" or "batch/low": all but the last part must exist. Parts have up to 31 letters, digits, '_', '-' and
 * '.', not first. Returns its number, or -1 with errno EINVAL, EEXIST, ENOENT (parent), ENOSPC (255 groups), ENOMEM.
 */
KMM_API int kmm_memcg_create(const char *path);
/* The group of that path, with or without a '/' in front; "" is the root. -1 with errno ENOENT. */
KMM_API int kmm_memcg_find(const char *path);
/*
 * Removes a group. What it still holds stays charged to those above it until it is freed. 0, or -1 with errno EBUSY
 * (threads or groups are in it), ENOENT, EINVAL (the root).
 */
KMM_API int kmm_memcg_remove(int memcg);
/*
 * Moves a thread to a group, where it stays whatever its name is; what it has allocated stays where it is. tid: as gettid()
 * gives it; 0 is the caller, who moves at once; another thread moves when it next meets a slow path, after a few dozen
 * allocations of a size. 0, or -1 with errno ENOENT, ESRCH (no such thread, or it has never allocated).
 */
KMM_API int kmm_memcg_attach(int memcg, int tid);
/* The caller's group. */
KMM_API int kmm_memcg_current(void);

/*
 * The files of a group: "memory.current", "memory.peak", "memory.max", "memory.high", "memory.low", "memory.min",
 * "memory.events" (low high max oom oom_kill, those of groups below it included), "memory.stat" (of the group alone),
 * "memory.pressure" (some: at least one thread waited for memory; full: and no other one asked for any), "memory.oom". In the
 * kernel's format, sizes in bytes, "max" for no limit. At most size - 1 bytes and a
 * NUL are written; returns the length of the whole, or -1 with errno ENOENT (group or file).
 */
KMM_API ssize_t kmm_memcg_read(int memcg, const char *file, char *buf, size_t size);
/*
 * Writes "memory.max", "memory.high", "memory.low", "memory.min": bytes with suffix K, M, G, T, or "max", or "10%" of the
 * real cgroup's limit or of RAM, or "auto"; 0 is a limit like any other. A max below what the group uses: memory is
 * reclaimed, what is left stays, and nothing is allocated until use has fallen. "memory.oom": "enomem", "callback",
 * "report", "abort", "exit". "memory.reclaim": that many bytes are tried to be reclaimed now.
 * 0, or -1 with errno ENOENT (group or file), EINVAL (value), EAGAIN (memory.reclaim: less was reclaimed).
 */
KMM_API int kmm_memcg_set(int memcg, const char *file, const char *value);

/*
 * Asked when an allocation of bytes does not fit into the group and nothing can be reclaimed: true: it is tried again, false:
 * it fails with ENOMEM. Called in the thread that allocates; it may free, raise limits, and allocate (and is not asked
 * about that). Sets memory.oom to "callback". 0, or -1 with errno ENOENT.
 */
KMM_API int kmm_memcg_set_oom(int memcg, bool (*fn)(int memcg, size_t bytes, void *arg), void *arg);

/*
 * A cache of the program that can shrink: when a group, or one above it, needs bytes, shrink is called in some thread that
 * allocates, holding nothing of libkmm's; it frees what it can and returns how many bytes. It must not wait for a lock that
 * a thread holds while it allocates. Returns a number for unregistering, or -1 with errno ENOENT, ENOSPC (32).
 */
KMM_API int kmm_register_shrinker(int memcg, size_t (*shrink)(size_t bytes, void *arg), void *arg);
/* Returns when nobody is in it any more. 0, or -1 with errno ENOENT. */
KMM_API int kmm_unregister_shrinker(int nr);

/* --- pages ------------------------------------------------------------------------------------------------ */

/*
 * nr_pages consecutive pages from the page allocator, aligned to a page; contents undefined. Nothing is rounded
 * up to a power of two. NULL with errno ENOMEM when there is no memory, EINVAL for 0 pages or more than
 * kmm_alloc_pages_max().
 */
KMM_API void *kmm_alloc_pages(size_t nr_pages);
/* Gives back pages from kmm_alloc_pages(), with the same count. NULL is ignored. errno is left alone. */
KMM_API void kmm_free_pages(void *ptr, size_t nr_pages);
/* Pages that one call can give at most. */
KMM_API size_t kmm_alloc_pages_max(void);

/* --- one copy per CPU ------------------------------------------------------------------------------------- */

/*
 * A variable of size bytes with one zeroed copy for each CPU that the process has run on; the copies of two CPUs
 * are far apart. align: a power of two up to 64. Returns a cookie for kmm_per_cpu_ptr(), not an address. NULL with
 * errno EINVAL (size 0 or above KMM_PERCPU_MAX, bad align) or ENOMEM.
 */
#define KMM_PERCPU_MAX 32768ul
KMM_API void *kmm_alloc_percpu(size_t size, size_t align);
/* Frees all copies. NULL is ignored. errno is left alone. */
KMM_API void kmm_free_percpu(void *cookie);
/*
 * The copy number cpu, usually cpu = kmm_this_cpu(). Copies are ordinary memory: a thread may be moved to another
 * CPU between kmm_this_cpu() and the access, so that two threads meet in one copy; use atomics. NULL with errno
 * EINVAL when cpu is not below kmm_nr_percpu(). Async-signal-safe.
 */
KMM_API void *kmm_per_cpu_ptr(void *cookie, unsigned cpu);
/*
 * Number of the CPU that the caller runs on, dense: the kernel's mm_cid where it has one, else the CPU number or
 * the core's. Always below kmm_nr_percpu(). Async-signal-safe.
 */
KMM_API unsigned kmm_this_cpu(void);
/* Copies that there are: 0 to kmm_nr_percpu() - 1. Grows when the process spreads to more CPUs. Async-signal-safe. */
KMM_API unsigned kmm_nr_percpu(void);

#ifdef __cplusplus
}
#endif

#endif
