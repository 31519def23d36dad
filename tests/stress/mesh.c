/* SPDX-License-Identifier: MIT */
/*
 * mesh.c - everything that can touch memory, against continuous meshing.
 *
 * Purpose: workers, each with objects of its own in sparse slabs, do to them what programs do, and check every byte:
 *
 *   writer     plain stores and loads              direct     pread with O_DIRECT
 *   reader     read(2) from a pipe                 uring      io_uring with fixed buffers, pinned for long
 *   receiver   recvmsg into two objects            splicer    vmsplice out of them
 *   poker      process_vm_writev, _readv           locker     mlock, munlock
 *   waiters    futexes inside objects, both kinds  resizer    realloc
 *   churner    malloc and free, so that there are always new sparse slabs
 *   forker     fork(): the child checks what nobody writes, and writes it
 *   rawforker  the same by the system call, behind libkmm's back
 *   vforker    vfork(): the child checks in its parent's memory
 *
 * while the main thread asks for one pass of compaction after the other. At the end all objects are checked once more.
 * Where the kernel has no io_uring or the file system no O_DIRECT, that worker says so and leaves.
 *
 * Where meshing can work (userfaultfd with what lib/os/uffd.c asks for) it must have happened. By the other backend: mesh_ksm.sh
 *
 * modes: auto lock debug
 */
#include "../common/torture.h"

#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

size_t kmm_compact(void) __attribute__((weak));

#define NR_OWN	  64		/* objects of a worker */
#define OWN_SIZE  480
#define NR_FILLER 12		/* objects freed around each one */
#define NR_CONST  2000		/* objects that nobody writes */
#define CHURN	  4000

static bool stop;

static bool running(void)
{
	return !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/* --- objects ---------------------------------------------------------------------------------------------- */

/* nr objects in slabs of which little else is in use. */
static void sparse_objects(unsigned char **obj, unsigned nr, size_t size, size_t align, struct rng *r)
{
	void *filler[NR_FILLER];

	for (unsigned i = 0; i < nr; i++) {
		unsigned at = rng_below(r, NR_FILLER);

		for (unsigned k = 0; k < NR_FILLER; k++)
			filler[k] = align > 16 ? aligned_alloc(align, size) : malloc(size);
		obj[i] = filler[at];
		T_CHECK(obj[i], "no memory");
		for (unsigned k = 0; k < NR_FILLER; k++)
			if (k != at)
				free(filler[k]);
	}
}

static unsigned char byte_of(unsigned key, size_t off)
{
	return (unsigned char)(key * 131 + off * 7);
}

static void fill(unsigned char *p, size_t size, unsigned key)
{
	for (size_t i = 0; i < size; i++)
		p[i] = byte_of(key, i);
}

static void check(const unsigned char *p, size_t size, unsigned key, const char *who)
{
	for (size_t i = 0; i < size; i++)
		T_CHECK(p[i] == byte_of(key, i), "%s: byte %zu of %p is %02x, not %02x", who, i, (const void *)p, p[i], byte_of(key, i));
}

static unsigned char *constant[NR_CONST];

static void check_constants(const char *who)
{
	for (unsigned i = 0; i < NR_CONST; i++)
		check(constant[i], 64 + i % 900, i, who);
}

/* --- workers that change one object after the other --------------------------------------------------------- */

struct worker {
	const char *name;
	/* Makes the object's bytes those of key, in its own way. false: it cannot, here. */
	bool (*put)(struct worker *w, unsigned char *obj, unsigned key);
	size_t align;
	int fd[2];
	void *state;
	unsigned char *own[NR_OWN];
	unsigned key[NR_OWN];
	uint64_t nr;
	unsigned char spare[OWN_SIZE * 2];
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct rng r = rng_of((uintptr_t)w->name);
	size_t size = w->align > 16 ? 512 : OWN_SIZE;

	sparse_objects(w->own, NR_OWN, size, w->align, &r);
	for (unsigned i = 0; i < NR_OWN; i++)
		fill(w->own[i], size, w->key[i] = i);
	for (; running(); w->nr++) {
		unsigned i = rng_below(&r, NR_OWN);

		check(w->own[i], size, w->key[i], w->name);
		w->key[i] = (unsigned)rng_next(&r);
		if (!w->put(w, w->own[i], w->key[i])) {
			dprintf(STDERR_FILENO, "%s: not here\n", w->name);
			return NULL;
		}
		check(w->own[i], size, w->key[i], w->name);
		if (rng_one_in(&r, 64))
			usleep(rng_below(&r, 2000));
	}
	for (unsigned i = 0; i < NR_OWN; i++)
		check(w->own[i], size, w->key[i], w->name);
	return NULL;
}

static bool put_plain(struct worker *w, unsigned char *obj, unsigned key)
{
	(void)w;
	fill(obj, OWN_SIZE, key);
	return true;
}

static bool put_read(struct worker *w, unsigned char *obj, unsigned key)
{
	if (!w->fd[0])
		T_CHECK(pipe(w->fd) == 0, "pipe");
	fill(w->spare, OWN_SIZE, key);
	T_CHECK(write(w->fd[1], w->spare, OWN_SIZE) == OWN_SIZE, "write: %s", strerror(errno));
	T_CHECK(read(w->fd[0], obj, OWN_SIZE) == OWN_SIZE, "read: %s", strerror(errno));
	return true;
}

static bool put_recvmsg(struct worker *w, unsigned char *obj, unsigned key)
{
	unsigned other = (unsigned)(w->nr % NR_OWN);
	struct iovec iov[2] = { { obj, OWN_SIZE }, { w->own[other], OWN_SIZE } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = w->own[other] == obj ? 1 : 2 };
	ssize_t size = (ssize_t)(msg.msg_iovlen * OWN_SIZE);

	if (!w->fd[0])
		T_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, w->fd) == 0, "socketpair");
	fill(w->spare, OWN_SIZE, key);
	fill(w->spare + OWN_SIZE, OWN_SIZE, key + 1);
	T_CHECK(write(w->fd[1], w->spare, (size_t)size) == size, "write: %s", strerror(errno));
	T_CHECK(recvmsg(w->fd[0], &msg, MSG_WAITALL) == size, "recvmsg: %s", strerror(errno));
	if (msg.msg_iovlen == 2)
		w->key[other] = key + 1;
	return true;
}

static bool put_vm_write(struct worker *w, unsigned char *obj, unsigned key)
{
	struct iovec from = { w->spare, OWN_SIZE }, to = { obj, OWN_SIZE };

	fill(w->spare, OWN_SIZE, key);
	T_CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == OWN_SIZE, "process_vm_writev: %s", strerror(errno));
	memset(w->spare, 0, OWN_SIZE);
	T_CHECK(process_vm_readv(getpid(), &from, 1, &to, 1, 0) == OWN_SIZE, "process_vm_readv: %s", strerror(errno));
	check(w->spare, OWN_SIZE, key, "process_vm_readv");
	return true;
}

static bool put_vmsplice(struct worker *w, unsigned char *obj, unsigned key)
{
	struct iovec iov = { obj, OWN_SIZE };

	if (!w->fd[0])
		T_CHECK(pipe(w->fd) == 0, "pipe");
	fill(obj, OWN_SIZE, key);
	T_CHECK(vmsplice(w->fd[1], &iov, 1, 0) == OWN_SIZE, "vmsplice: %s", strerror(errno));
	if (key % 4 == 0)
		usleep(1000);
	T_CHECK(read(w->fd[0], w->spare, OWN_SIZE) == OWN_SIZE, "read: %s", strerror(errno));
	check(w->spare, OWN_SIZE, key, "what was spliced");
	return true;
}

static bool put_locked(struct worker *w, unsigned char *obj, unsigned key)
{
	(void)w;
	if (mlock(obj, OWN_SIZE) != 0)
		return false;
	fill(obj, OWN_SIZE, key);
	if (key % 4 == 0)
		usleep(1000);
	T_CHECK(munlock(obj, OWN_SIZE) == 0, "munlock: %s", strerror(errno));
	return true;
}

static bool put_realloc(struct worker *w, unsigned char *obj, unsigned key)
{
	unsigned i = 0;

	while (w->own[i] != obj)
		i++;
	for (size_t size = OWN_SIZE * 2; size > OWN_SIZE / 2; size /= 2) {
		unsigned char *p = realloc(w->own[i], size);
		size_t kept = size < OWN_SIZE ? size : OWN_SIZE;

		T_CHECK(p, "realloc");
		w->own[i] = p;
		if (size >= OWN_SIZE)
			fill(p, OWN_SIZE, key);
		check(p, kept, key, "realloc");
	}
	w->own[i] = realloc(w->own[i], OWN_SIZE);
	T_CHECK(w->own[i], "realloc");
	fill(w->own[i], OWN_SIZE, key);
	memcpy(w->spare, w->own[i], OWN_SIZE);
	return true;
}

/* --- files: O_DIRECT, io_uring ------------------------------------------------------------------------------- */

static bool open_file(struct worker *w)
{
	const char *dir = getenv("TMPDIR");
	char path[256];

	snprintf(path, sizeof(path), "%s/kmm-mesh-%d-%s", dir ? dir : "/tmp", (int)getpid(), w->name);
	w->fd[1] = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	w->fd[0] = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unlink(path);
	return w->fd[0] >= 0 && w->fd[1] >= 0;
}

static bool put_direct(struct worker *w, unsigned char *obj, unsigned key)
{
	if (!w->fd[1] && !open_file(w))
		return false;
	fill(w->spare, 512, key);
	T_CHECK(pwrite(w->fd[1], w->spare, 512, 0) == 512, "pwrite: %s", strerror(errno));
	memset(obj, 0, 512);
	if (pread(w->fd[0], obj, 512, 0) == 512)
		return true;
	T_CHECK(errno == EINVAL, "pread: %s", strerror(errno));		/* blocks are larger there */
	return false;
}

struct ring {
	int fd;
	struct io_uring_params params;
	unsigned char *sq, *cq;
	struct io_uring_sqe *sqe;
};

/* One entry is all: each read is waited for. The buffers are registered, so pinned, for some hundred reads. */
static struct ring *ring_setup(void)
{
	struct ring *r = calloc(1, sizeof(*r));

	r->fd = (int)syscall(SYS_io_uring_setup, 1, &r->params);
	if (r->fd < 0)
		return NULL;
	r->sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqe != MAP_FAILED ? r : NULL;
}

static void ring_read_fixed(struct ring *r, int fd, unsigned char *obj, unsigned index, unsigned len)
{
	unsigned *tail = (unsigned *)(r->sq + r->params.sq_off.tail), *head = (unsigned *)(r->cq + r->params.cq_off.head);
	unsigned mask = *(unsigned *)(r->cq + r->params.cq_off.ring_mask);
	struct io_uring_cqe *cqe = (struct io_uring_cqe *)(r->cq + r->params.cq_off.cqes);

	*r->sqe = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED, .fd = fd, .addr = (uintptr_t)obj, .len = len,
					 .buf_index = (unsigned short)index };
	*(unsigned *)(r->sq + r->params.sq_off.array) = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	while (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		T_CHECK(errno == EINTR, "io_uring_enter: %s", strerror(errno));
	T_CHECK(cqe[*head & mask].res == (int)len, "a fixed read gave %d", cqe[*head & mask].res);
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

static bool put_uring(struct worker *w, unsigned char *obj, unsigned key)
{
	struct iovec iov[NR_OWN];
	unsigned i = 0;

	if (!w->state) {
		w->state = ring_setup();
		if (!w->state || pipe(w->fd) != 0)
			return false;
	}
	for (unsigned k = 0; k < NR_OWN; k++)
		iov[k] = (struct iovec){ w->own[k], OWN_SIZE };
	if (w->nr % 300 == 0 && syscall(SYS_io_uring_register, ((struct ring *)w->state)->fd, IORING_REGISTER_BUFFERS, iov, NR_OWN) != 0)
		return false;
	while (w->own[i] != obj)
		i++;
	fill(w->spare, OWN_SIZE, key);
	T_CHECK(write(w->fd[1], w->spare, OWN_SIZE) == OWN_SIZE, "write: %s", strerror(errno));
	ring_read_fixed(w->state, w->fd[0], obj, i, OWN_SIZE);
	if (w->nr % 300 == 299)
		syscall(SYS_io_uring_register, ((struct ring *)w->state)->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
	return true;
}

static struct worker workers[] = {
	{ .name = "writer", .put = put_plain },	    { .name = "reader", .put = put_read },
	{ .name = "receiver", .put = put_recvmsg }, { .name = "poker", .put = put_vm_write },
	{ .name = "splicer", .put = put_vmsplice }, { .name = "locker", .put = put_locked },
	{ .name = "resizer", .put = put_realloc },  { .name = "direct", .put = put_direct, .align = 512 },
	{ .name = "uring", .put = put_uring },
};

/* --- futexes --------------------------------------------------------------------------------------------------- */

static uint32_t *ball[2][NR_OWN];		/* private and shared futexes, in sparse objects */
static uint64_t nr_passes;

static long futex(uint32_t *word, int op, uint32_t value)
{
	struct timespec tick = { .tv_sec = 20 };

	return syscall(SYS_futex, word, op, value, &tick, NULL, 0);
}

/* Two players pass a ball, odd and even; the last value tells them to stop. A lost wake-up shows as a wait of 20 s. */
static void *play(void *arg)
{
	unsigned side = (uintptr_t)arg & 1, kind = (uintptr_t)arg >> 1 & 1;
	int private = kind ? 0 : FUTEX_PRIVATE_FLAG;

	for (unsigned n = 0;; n++) {
		uint32_t *word = ball[kind][n % NR_OWN], value;

		while ((value = __atomic_load_n(word, __ATOMIC_ACQUIRE)) % 2 != side && value != UINT32_MAX)
			T_CHECK(futex(word, FUTEX_WAIT | private, value) == 0 || errno != ETIMEDOUT, "a wake-up was lost");
		if (value == UINT32_MAX)
			return NULL;
		value = running() ? value + 1 : UINT32_MAX;
		__atomic_store_n(word, value, __ATOMIC_RELEASE);
		if (value == UINT32_MAX)
			for (unsigned i = 0; i < NR_OWN; i++)
				__atomic_store_n(ball[kind][i], UINT32_MAX, __ATOMIC_RELEASE);
		for (unsigned i = 0; i < (value == UINT32_MAX ? NR_OWN : 1); i++)
			futex(ball[kind][(n + i) % NR_OWN], FUTEX_WAKE | private, 1);
		__atomic_add_fetch(&nr_passes, 1, __ATOMIC_RELAXED);
		if (value == UINT32_MAX)
			return NULL;
		if (n % 256 == 0)
			usleep(3000);
	}
}

/* --- churn, forks -------------------------------------------------------------------------------------------------- */

static void *churn(void *arg)
{
	static struct tobj *held[CHURN];
	struct rng r = rng_of(1000);

	while (running()) {
		for (unsigned i = 0; i < CHURN; i++)
			if (!held[i])
				held[i] = tobj_new(16 + rng_below(&r, 1200));
		for (unsigned i = 0; i < CHURN; i++) {
			if (rng_below(&r, 10) == 0)
				continue;
			tobj_free(held[i]);
			held[i] = NULL;
		}
		usleep(20000 + rng_below(&r, 100000));
		for (unsigned i = 0; i < CHURN; i++)
			if (held[i])
				tobj_check(held[i]);
	}
	for (unsigned i = 0; i < CHURN; i++)
		if (held[i])
			tobj_free(held[i]);
	return arg;
}

static uint64_t nr_forks, nr_vforks;

static void *vfork_on(void *arg)
{
	struct rng r = rng_of(3000);

	while (running()) {
		pid_t pid = vfork();
		int status;

		T_CHECK(pid >= 0, "vfork: %s", strerror(errno));
		if (pid == 0) {
			check_constants("a vfork child");
			_exit(0);
		}
		T_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a vfork child ended with %x", status);
		nr_vforks++;
		usleep(rng_below(&r, 30000));
	}
	return arg;
}

static void *fork_on(void *arg)
{
	bool raw = arg != NULL;
	struct rng r = rng_of(2000 + raw);

	while (running()) {
		pid_t pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
		int status;

		T_CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			check_constants(raw ? "a child behind libkmm's back" : "a child");
			for (unsigned i = 0; i < NR_CONST; i++)
				memset(constant[i], 0, 64);
			_exit(0);
		}
		T_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a child ended with %x", status);
		__atomic_add_fetch(&nr_forks, 1, __ATOMIC_RELAXED);
		usleep(rng_below(&r, 30000));
	}
	return NULL;
}

/* --- main ------------------------------------------------------------------------------------------------------------ */

/* What lib/os/uffd.c asks for: moving pages and fork events. */
static bool can_mesh(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 16 | UFFD_FEATURE_EVENT_FORK };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	bool ok = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

	close(fd);
	return ok;
}

static unsigned nr_views(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned nr = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		nr += strstr(line, "kmm-mesh") != NULL;
	if (f)
		fclose(f);
	return nr;
}

static void make_objects(void)
{
	struct rng r = rng_of(1);

	for (unsigned i = 0; i < NR_CONST; i++) {
		sparse_objects(&constant[i], 1, 64 + i % 900, 16, &r);
		fill(constant[i], 64 + i % 900, i);
	}
	for (unsigned kind = 0; kind < 2; kind++) {
		sparse_objects((unsigned char **)ball[kind], NR_OWN, OWN_SIZE, 16, &r);
		for (unsigned i = 0; i < NR_OWN; i++)
			*ball[kind][i] = 0;
	}
}

int main(int argc, char **argv)
{
	pthread_t t[NR_OF(workers) + 8];
	unsigned nr = 0, views = 0;
	uint64_t end;

	(void)argc;
	if (!getenv("KMM_COMPACT")) {		/* settings are read as the program starts */
		setenv("KMM_COMPACT", "mesh", 1);
		setenv("KMM_KTHREAD", "1", 1);
		setenv("KMM_DECAY_MS", "50", 1);
		execv("/proc/self/exe", argv);
	}
	t_start("mesh");
	t_watchdog(t_torture ? 600 : 100);
	make_objects();
	for (unsigned i = 0; i < NR_OF(workers); i++)
		t[nr++] = t_thread(work, &workers[i]);
	for (uintptr_t i = 0; i < 4; i++)
		t[nr++] = t_thread(play, (void *)i);
	t[nr++] = t_thread(churn, NULL);
	t[nr++] = t_thread(fork_on, NULL);
	t[nr++] = t_thread(fork_on, "raw");
	t[nr++] = t_thread(vfork_on, NULL);
	for (end = t_deadline(5000); t_now_ms() < end;) {
		unsigned now = nr_views();

		views = now > views ? now : views;
		if (kmm_compact)
			kmm_compact();
		check_constants("main");
		usleep(10000);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	while (nr)
		pthread_join(t[--nr], NULL);
	check_constants("at the end");
	dprintf(STDERR_FILENO, "%llu forks, %llu vforks, %llu passes of a ball, at most %u slabs meshed at once\n", (unsigned long long)nr_forks,
		(unsigned long long)nr_vforks, (unsigned long long)nr_passes, views);
	for (unsigned i = 0; i < NR_OF(workers); i++)
		dprintf(STDERR_FILENO, "%s %llu\n", workers[i].name, (unsigned long long)workers[i].nr);
	T_CHECK(views > 20 || !can_mesh() || !kmm_compact || strcmp(getenv("KMM_COMPACT"), "mesh"), "nothing was meshed");
	return 0;
}
