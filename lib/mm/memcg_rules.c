/* SPDX-License-Identifier: MIT */
/*
 * memcg_rules.c - who belongs to which memory group.
 *
 * Purpose. An allocation is charged to the group of the library that makes it, if a rule names that (the return address
 * of malloc lies in it), else to the thread's group. A thread is in the group that it was attached to by the API; else
 * in that of the first rule that its name matches; else where its creating thread was (api/pthread.c); else in the root.
 *
 * Threads. A thread carries its group in memcg_thread.word. It is asked when it first allocates; as names are often given
 * after the start, its name is looked at again on slow paths, at first after a millisecond, then ever more rarely. Who moves
 * another thread leaves a word in its task_struct, which it finds when it next meets a slow path.
 *
 * Libraries. ranges holds what is known of the objects that callers lay in: start, end, word (0: no rule names it). An
 * address that is in none is looked up with _dl_find_object(), which takes no lock. As objects may be closed and others
 * opened in their place, everything is forgotten every RANGES_MS, on slow paths and every MEMCG_LOOKUPS calls. The table is
 * written under the memcg lock and read without: a reader that meets a change may charge one allocation to another group that
 * exists. A thread remembers the range of its last caller, which memcg_ranges_seq takes from it.
 *
 * Cost. Without groups none: malloc's fast path does not ask. memcg_enable() points its table of classes to class 0, so
 * that every malloc takes the slow path, which adds the word's colour to the class and pops from that slot.
 *
 * Locks. memcg for rules and ranges; _dl_find_object() is called without.
 *
 * Kernel counterpart. kernel/cgroup/cgroup.c (cgroup_attach_task), mm/memcontrol.c (mem_cgroup_from_task).
 */
#include "mm/memcg_rules.h"

#include "base/param.h"
#include "base/printk.h"
#include "internal.h"
#include "mm/dso.h"
#include "mm/gate.h"
#include "mm/memcg_reclaim.h"
#include "mm/mm_struct.h"
#include "os/cgroup.h"
#include "os/os.h"
#include "os/vm.h"
#include <errno.h>
#include <string.h>

#define NR_PATTERNS	128
#define NR_RANGES	64
#define RANGES_MS	100u
#define COMM_FIRST_MS	1u
#define COMM_LAST_MS	256u
#define HEADROOM_MIN	MIB(16)		/* "auto" leaves this to stacks, code and metadata, or a sixteenth */
#define HEADROOM_SHARE	16
#define RULES_FILE_MAX	KIB(64)

struct pattern {
	char text[MEMCG_PATTERN_MAX];
	u32 word;
};
static struct pattern comms[NR_PATTERNS], libs[NR_PATTERNS];
static u32 nr_comms, nr_libs;
bool memcg_has_libs;

/* --- threads ------------------------------------------------------------------------------------------------- */

static u32 __match_pattern(const struct pattern *p, u32 nr, const char *name)
{
	for (u32 i = 0; i < nr; i++)
		if (memcg_pattern_matches(p[i].text, name))
			return p[i].word;
	return 0;
}

/* The caller is in that group from now on. memcg lock held: nobody removes it meanwhile. */
static void __enter(struct task_struct *task, const struct mem_cgroup *memcg)
{
	WRITE_ONCE(task->memcg, memcg_colour(memcg));
	memcg_thread.word = memcg_word(memcg_colour(memcg));
}

/* memcg lock held. home: where the thread was created. */
static void __begin(struct task_struct *task, const struct mem_cgroup *home)
{
	task->memcg_known = true;
	task->memcg_home = home->id;
	task->comm_due_ms = (u32)os_clock_ms();
	task->comm_step_ms = 0;
	__enter(task, home);
}

/* The thread's name may have been given, or changed, since the last look. */
static void check_comm(struct task_struct *task)
{
	u32 now = (u32)os_clock_ms(), word;
	struct mem_cgroup *memcg;
	char comm[16] = "";

	if ((s32)(now - task->comm_due_ms) < 0)
		return;
	os_comm(comm);
	memcg_lock();
	word = __match_pattern(comms, nr_comms, comm);
	memcg = word ? mem_cgroup_from_colour(memcg_word_colour(word)) : __mem_cgroup_from_id(task->memcg_home);
	__enter(task, memcg ? memcg : &root_mem_cgroup);
	memcg_unlock();
	task->comm_step_ms = clamp(task->comm_step_ms * 2, COMM_FIRST_MS, COMM_LAST_MS);
	task->comm_due_ms = now + task->comm_step_ms;
}

static void take_wanted(struct task_struct *task)
{
	u32 word;

	memcg_lock();
	word = __atomic_exchange_n(&task->memcg_wanted, 0, __ATOMIC_ACQUIRE);
	if (word) {
		__enter(task, mem_cgroup_from_colour(memcg_word_colour(word)));
		task->memcg_pinned = true;
	}
	memcg_unlock();
}

static void recheck_task(struct task_struct *task)
{
	if (!task->memcg_known) {
		memcg_lock();
		__begin(task, mem_cgroup_from_colour(memcg_word_colour(memcg_thread.word)));
		memcg_unlock();
	}
	if (READ_ONCE(task->memcg_wanted))
		take_wanted(task);
	if (!task->memcg_pinned && READ_ONCE(nr_comms))
		check_comm(task);
}

static void forget_ranges(void);

void memcg_recheck_thread(void)
{
	struct task_struct *task;

	if (gate_is_inside())
		return;
	gate_enter();
	task = current_task();
	if (task)
		recheck_task(task);
	memcg_note_busy();
	if (READ_ONCE(memcg_has_libs))
		forget_ranges();
	gate_leave();
}

u32 memcg_assign_thread(void)
{
	if (gate_is_inside())		/* a signal handler on top of a slow path */
		return memcg_word(0);
	memcg_thread.word = memcg_word(0);
	memcg_recheck_thread();
	return memcg_thread.word;
}

void memcg_begin_thread(u32 id)
{
	struct task_struct *task;
	struct mem_cgroup *home;

	gate_enter();
	task = current_task();
	memcg_thread.word = memcg_word(0);
	if (task) {
		memcg_lock();
		home = __mem_cgroup_from_id(id);
		__begin(task, home ? home : &root_mem_cgroup);
		memcg_unlock();
	}
	gate_leave();
}

static int __attach_current(struct task_struct *task, const struct mem_cgroup *memcg)
{
	if (!task)
		return -ENOMEM;
	if (!task->memcg_known)
		__begin(task, memcg);
	task->memcg_pinned = true;
	task->memcg_wanted = 0;
	__enter(task, memcg);
	return 0;
}

int memcg_attach(u32 id, int tid)
{
	bool self = tid == 0 || tid == os_gettid();
	struct task_struct *task;
	struct mem_cgroup *memcg;
	int ret;

	gate_enter();
	task = self ? current_task() : NULL;
	memcg_lock();
	memcg = __mem_cgroup_from_id(id);
	if (!memcg)
		ret = -ENOENT;
	else if (self)
		ret = __attach_current(task, memcg);
	else
		ret = task_want_memcg(tid, memcg_word(memcg_colour(memcg))) ? 0 : -ESRCH;
	memcg_unlock();
	gate_leave();
	return ret;
}

/* --- libraries ----------------------------------------------------------------------------------------------- */

static struct {
	uintptr_t start, end;
	u32 word;
} ranges[NR_RANGES];
static u32 nr_ranges, ranges_since_ms;
u32 memcg_ranges_seq = 1;	/* changes when they are forgotten */

static void __forget_ranges(void)
{
	WRITE_ONCE(nr_ranges, 0);
	__atomic_add_fetch(&memcg_ranges_seq, 1, __ATOMIC_RELEASE);
}

static void forget_ranges(void)
{
	u32 now = (u32)os_clock_ms();

	if (now - READ_ONCE(ranges_since_ms) < RANGES_MS)
		return;
	memcg_lock();
	WRITE_ONCE(ranges_since_ms, now);
	__forget_ranges();
	memcg_unlock();
}

/* "libfoo.so" names its versions, too: libfoo.so.1.2. */
static u32 __match_lib(const char *name)
{
	u32 word = __match_pattern(libs, nr_libs, name);

	for (u32 i = 0; !word && i < nr_libs; i++) {
		size_t len = strlen(libs[i].text);

		if (strncmp(libs[i].text, name, len) == 0 && name[len] == '.' && name[len + 1] >= '0' && name[len + 1] <= '9')
			word = libs[i].word;
	}
	return word;
}

static __cold u32 look_up_caller(const void *caller)
{
	struct dso dso;
	u32 word;

	if (gate_is_inside() || !find_dso(caller, &dso))
		return 0;
	gate_enter();
	memcg_lock();
	word = __match_lib(dso.name);
	if (nr_ranges < NR_RANGES) {
		WRITE_ONCE(ranges[nr_ranges].start, dso.start);
		WRITE_ONCE(ranges[nr_ranges].end, dso.end);
		WRITE_ONCE(ranges[nr_ranges].word, word);
		smp_store_release(&nr_ranges, nr_ranges + 1);
	}
	memcg_unlock();
	gate_leave();
	return word;
}

/* The next call from there is quicker (memcg_word_of_next_caller()). seq was read before the range. */
static u32 remember_range(u32 i, u32 seq)
{
	struct memcg_thread *t = &memcg_thread;

	t->lib_start = READ_ONCE(ranges[i].start);
	t->lib_size = READ_ONCE(ranges[i].end) - t->lib_start;
	t->lib_word = READ_ONCE(ranges[i].word);
	t->lib_seq = seq;
	return t->lib_word;
}

u32 memcg_word_of_caller(const void *caller)
{
	u32 nr, seq, word = memcg_thread.word, lib;

	if (unlikely(!word))
		word = memcg_assign_thread();
	if (unlikely(memcg_thread.lookups++ % MEMCG_LOOKUPS == 0))
		memcg_recheck_thread();		/* a thread may live without slow paths */
	seq = smp_load_acquire(&memcg_ranges_seq);
	nr = smp_load_acquire(&nr_ranges);
	for (u32 i = 0; i < nr; i++) {
		if ((uintptr_t)caller < READ_ONCE(ranges[i].start) || (uintptr_t)caller >= READ_ONCE(ranges[i].end))
			continue;
		lib = remember_range(i, seq);
		return lib ? lib : word;
	}
	lib = look_up_caller(caller);
	return lib ? lib : word;
}

/* --- limits --------------------------------------------------------------------------------------------------- */

int resolve_limit(u64 limit, u64 *pages)
{
	struct os_cgroup_memory mem = { .limit = CGROUP_NONE };
	struct os_cgroup cg;
	u64 bytes = limit;

	if (limit == LIMIT_NONE) {
		*pages = PAGE_COUNTER_MAX;
		return 0;
	}
	if (limit >= LIMIT_SPECIAL && os_cgroup_find(&cg) == 0)
		os_cgroup_read_memory(&cg, &mem);
	if (limit == LIMIT_AUTO) {
		if (mem.limit == CGROUP_NONE || mem.limit >= os_ram_bytes())
			return -ENOENT;
		bytes = mem.limit - min(max(mem.limit / HEADROOM_SHARE, (u64)HEADROOM_MIN), mem.limit / 4);
	} else if (limit >= LIMIT_SPECIAL) {
		bytes = min(mem.limit, os_ram_bytes()) / 100 * (limit - LIMIT_SPECIAL);
	}
	*pages = bytes >> PAGE_SHIFT;
	return 0;
}

/* --- rules ------------------------------------------------------------------------------------------------------ */

void memcg_enable(void)
{
	if (memcg_enabled)
		return;
	WRITE_ONCE(memcg_enabled, true);
	WRITE_ONCE(memcg_watched, true);
	for (unsigned i = 0; i < SIZE_INDEX_ENTRIES; i++)
		WRITE_ONCE(size_index[i], 0);
}

struct mem_cgroup *__mem_cgroup_make(struct mem_cgroup *parent, const char *path, size_t len, int *err)
{
	const char *slash = memchr(path, '/', len);
	size_t name = slash ? (size_t)(slash - path) : len;
	struct mem_cgroup *memcg;

	memcg = __mem_cgroup_create(parent, path, name, err);
	if (memcg && colour_online(memcg_colour(memcg)) != 0) {
		__mem_cgroup_remove(memcg);
		*err = -ENOMEM;
		return NULL;
	}
	if (memcg)
		memcg_enable();
	if (*err == -EEXIST && slash) {
		char own[MEMCG_PATH_MAX];
		size_t used = parent->parent ? mem_cgroup_path(parent, own, sizeof(own)) : 0;

		used += (size_t)kmm_snprintf(own + used, sizeof(own) - used, "/%.*s", (int)name, path);
		memcg = used < sizeof(own) ? __mem_cgroup_from_path(own + 1, used - 1) : NULL;
	}
	return memcg && slash ? __mem_cgroup_make(memcg, slash + 1, len - name - 1, err) : memcg;
}

u32 memcg_reap(void)
{
	u32 nr;

	if (!gate_synchronize())
		return 0;
	gate_enter();
	for_each_mem_cgroup(m)
		if (!m->online)
			drain_classes(memcg_colour(m), 1);
	memcg_lock();
	nr = __mem_cgroup_forget_empty();
	memcg_unlock();
	gate_leave();
	while (nr && !gate_synchronize())
		;
	return nr;
}

static int __add_pattern(struct pattern *p, u32 *nr, const char *text, u32 word)
{
	if (text[0] == '\0')
		return 0;
	if (*nr == NR_PATTERNS)
		return -ENOSPC;
	memcpy(p[*nr].text, text, sizeof(p->text));
	p[*nr].word = word;
	WRITE_ONCE(*nr, *nr + 1);
	return 0;
}

static void set_limits(struct mem_cgroup *memcg, const struct memcg_rule *rule)
{
	u64 *const field[] = { NULL, &memcg->memory.high, &memcg->memory.low, &memcg->memory.min };
	u64 pages;

	for (unsigned i = 0; i < NR_MEMCG_LIMITS; i++) {
		if (!(rule->limits_set & 1u << i))
			continue;
		if (resolve_limit(rule->limit[i], &pages) != 0)
			pages = i <= MEMCG_LIMIT_HIGH ? PAGE_COUNTER_MAX : 0;
		if (i == MEMCG_LIMIT_MAX)
			page_counter_set_max(&memcg->memory, pages);
		else
			WRITE_ONCE(*field[i], pages);
	}
	if (rule->oom >= 0)
		WRITE_ONCE(memcg->oom_policy, rule->oom);
}

int memcg_apply_rule(const struct memcg_rule *rule)
{
	struct mem_cgroup *memcg;
	int err = 0, ret;

	memcg_lock();
	memcg = __mem_cgroup_make(&root_mem_cgroup, rule->path, strlen(rule->path), &err);
	if (!memcg && err == -EEXIST)
		memcg = __mem_cgroup_from_path(rule->path, strlen(rule->path));
	ret = memcg ? 0 : err;
	if (memcg) {
		u32 word = memcg_word(memcg_colour(memcg));

		set_limits(memcg, rule);
		ret = __add_pattern(comms, &nr_comms, rule->comm, word);
		if (!ret)
			ret = __add_pattern(libs, &nr_libs, rule->lib, word);
		WRITE_ONCE(memcg_has_libs, HAVE_FIND_DSO && nr_libs != 0);
		__forget_ranges();
	}
	memcg_unlock();
	return ret;
}

static void __forget_patterns(struct pattern *p, u32 *nr, u32 word)
{
	u32 kept = 0;

	for (u32 i = 0; i < *nr; i++)
		if (p[i].word != word)
			p[kept++] = p[i];
	WRITE_ONCE(*nr, kept);
}

void __memcg_forget_rules(const struct mem_cgroup *memcg)
{
	u32 word = memcg_word(memcg_colour(memcg));

	__forget_patterns(comms, &nr_comms, word);
	__forget_patterns(libs, &nr_libs, word);
	WRITE_ONCE(memcg_has_libs, HAVE_FIND_DSO && nr_libs != 0);
	__forget_ranges();
}

static void apply_rules(const char *s, const char *where)
{
	const char *begin = s;
	struct memcg_rule rule;
	int ret;

	if (!memcg_rules_are_valid(s)) {
		while ((ret = parse_memcg_rule(&s, &rule)) > 0)
			;
		pr_warn("%s: no memory groups are made: %s at byte %lu", where, ret ? "malformed" : "there is no rule",
			(unsigned long)(s - begin));
		return;
	}
	while (parse_memcg_rule(&s, &rule) > 0) {
		ret = memcg_apply_rule(&rule);
		if (ret)
			pr_warn("%s: group %s: error %d", where, rule.path, -ret);
	}
}

static void apply_rules_file(const char *path)
{
	char *text = vm_map(RULES_FILE_MAX);
	ssize_t n = text ? os_read_file(path, text, RULES_FILE_MAX) : -ENOMEM;

	if (n < 0 || n == (ssize_t)RULES_FILE_MAX - 1)
		pr_warn("KMM_MEMCG=@%s: no memory groups are made: %s", path, n < 0 ? "cannot read it" : "it is too long");
	else
		apply_rules(text, path);
	if (text)
		vm_unmap(text, RULES_FILE_MAX);
}

/* What one slab of each class needs: with less a program does not even start. */
static u64 least_quota(void)
{
	u64 pages = 0;

	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++)
		pages += kmalloc_caches[cls].nr_pages;
	return pages;
}

static u64 process_limit(const char *name, u64 limit)
{
	u64 pages = PAGE_COUNTER_MAX;

	if (resolve_limit(limit, &pages) != 0)
		return PAGE_COUNTER_MAX;	/* auto, and the process has no limit */
	if (pages >= least_quota())
		return pages;
	pr_warn("KMM_%s is below %lu kB, which one slab of each size class needs: it is ignored", name, least_quota() << 2);
	return PAGE_COUNTER_MAX;
}

/* As KMM_MEMORY_OOM has them: a call-back needs the API. */
static const u8 quota_policies[] = { OOM_ENOMEM, OOM_REPORT, OOM_ABORT, OOM_EXIT };

__init void memcg_init(void)
{
	root_mem_cgroup.oom_policy = quota_policies[kmm_params.memory_oom];
	if (kmm_params.memory_max != LIMIT_NONE)
		page_counter_set_max(&root_mem_cgroup.memory, process_limit("MEMORY_MAX", kmm_params.memory_max));
	if (kmm_params.memory_high != LIMIT_NONE)
		root_mem_cgroup.memory.high = process_limit("MEMORY_HIGH", kmm_params.memory_high);
	if (root_mem_cgroup.memory.max != PAGE_COUNTER_MAX || root_mem_cgroup.memory.high != PAGE_COUNTER_MAX)
		memcg_watched = true;
	if (!kmm_params.memcg)
		return;
	gate_enter();
	if (kmm_params.memcg[0] == '@')
		apply_rules_file(kmm_params.memcg + 1);
	else
		apply_rules(kmm_params.memcg, "KMM_MEMCG");
	gate_leave();
}
