/* SPDX-License-Identifier: MIT */
/*
 * pressure.c - notifications of the kernel that memory is short.
 *
 * Purpose. Three kinds of sources, all of them descriptors that poll(2) tells about:
 *
 *	/proc/pressure/memory		a trigger is written into it: "some STALL WINDOW", in us; POLLPRI
 *	memory.pressure of the group	the same (version 2)
 *	memory.pressure_level		an eventfd is registered in cgroup.event_control (version 1); POLLIN
 *
 * A window of two seconds is the only one that the kernel grants everybody; a shorter one needs CAP_SYS_RESOURCE. Of
 * version 1's levels "low" is not asked for: reclaim of page cache is enough for it.
 *
 * Invariants. sources[0 .. nr_sources-1] are open, in the table of the thread that opened them.
 *
 * Kernel counterpart. kernel/sched/psi.c (psi_trigger_create), mm/vmpressure.c (vmpressure_register_event).
 */
#include "os/pressure.h"

#include "base/compiler.h"
#include "base/printk.h"
#include "os/os.h"
#include "os/syscall.h"
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#define MAX_SOURCES 6

const char *pressure_psi_path = "/proc/pressure/memory";

static struct {
	int fd;
	short events;
	u32 means;
} sources[MAX_SOURCES];
static unsigned nr_sources;

static void add_source(int fd, short events, u32 means)
{
	if (nr_sources == MAX_SOURCES) {
		os_close(fd);
		return;
	}
	sources[nr_sources].fd = fd;
	sources[nr_sources].events = events;
	sources[nr_sources++].means = means;
}

/* What is waited for: a tenth of the window by somebody, a twentieth by all. */
static void add_triggers(const char *path)
{
	static const struct { const char *text; u32 means; } triggers[] = {
		{ "some 200000 2000000", OS_PRESSURE_SOME }, { "full 100000 2000000", OS_PRESSURE_FULL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(triggers); i++) {
		int fd = os_open(path, O_RDWR | O_NONBLOCK, 0);

		if (fd < 0)
			return;
		if (os_write(fd, triggers[i].text, strlen(triggers[i].text) + 1) < 0)
			os_close(fd);
		else
			add_source(fd, POLLPRI, triggers[i].means);
	}
}

/* "EVENTFD LEVELFD LEVEL"; the latter may be closed when it is registered. */
static void add_level(const struct os_cgroup *cg, const char *level, u32 means)
{
	char path[CGROUP_PATH_MAX + 32], text[64];
	int event, of = -1, control = -1, len;

	event = (int)raw_syscall2(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (os_cgroup_file(cg, "memory.pressure_level", path, sizeof(path)) == 0)
		of = os_open(path, O_RDONLY, 0);
	if (os_cgroup_file(cg, "cgroup.event_control", path, sizeof(path)) == 0)
		control = os_open(path, O_WRONLY, 0);
	len = kmm_snprintf(text, sizeof(text), "%d %d %s", event, of, level);
	if (event >= 0 && of >= 0 && control >= 0 && os_write(control, text, (size_t)len + 1) >= 0)
		add_source(event, POLLIN, means);
	else if (event >= 0)
		os_close(event);
	if (of >= 0)
		os_close(of);
	if (control >= 0)
		os_close(control);
}

unsigned os_pressure_open(const struct os_cgroup *cg)
{
	char path[CGROUP_PATH_MAX + 32];

	add_triggers(pressure_psi_path);
	if (cg && cg->version == 2 && os_cgroup_file(cg, "memory.pressure", path, sizeof(path)) == 0)
		add_triggers(path);
	if (cg && cg->version == 1) {
		add_level(cg, "medium", OS_PRESSURE_SOME);
		add_level(cg, "critical", OS_PRESSURE_FULL);
	}
	return nr_sources;
}

u32 os_pressure_poll(void)
{
	struct pollfd fds[MAX_SOURCES];
	struct timespec now = { 0, 0 };
	u32 means = 0;
	u64 count;

	if (!nr_sources)
		return 0;
	for (unsigned i = 0; i < nr_sources; i++)
		fds[i] = (struct pollfd){ .fd = sources[i].fd, .events = sources[i].events };
	if (raw_syscall5(SYS_ppoll, (long)fds, nr_sources, (long)&now, 0, 0) <= 0)
		return 0;
	for (unsigned i = 0; i < nr_sources; i++) {
		if (!(fds[i].revents & sources[i].events) || fds[i].revents & (POLLERR | POLLNVAL))
			continue;	/* POLLERR: the group has gone */
		means |= sources[i].means;
		if (sources[i].events == POLLIN)
			os_read(sources[i].fd, &count, sizeof(count));
	}
	return means;
}

void os_pressure_forget(void)
{
	nr_sources = 0;
}
