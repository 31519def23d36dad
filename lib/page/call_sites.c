/* SPDX-License-Identifier: MIT */
/*
 * call_sites.c - who makes a memory group grow: a few counters for its largest callers.
 *
 * Purpose. The report of a group that is at its limit names the callers that it was charged most for. Only whole stocks are
 * counted (64 KiB), when they are charged, so this is a sample by bytes that costs nothing elsewhere; what is freed is not
 * taken off, since nobody knows then who had asked. Instead everything is halved from time to time, so that the
 * counters tell of the last HISTORY times that the group was filled.
 *
 * Objects. NR_CALL_SITES counters; a caller that has none takes over the smallest, with its count (Metwally, Agrawal, El
 * Abbadi: Space-Saving, ICDT 2005): whoever has more than a NR_CALL_SITES-th of all is there, and is shown with at least
 * what it has.
 *
 * Locks. None that waits: who finds another one at it goes on without.
 *
 * Kernel counterpart and what differs. lib/alloc_tag.c counts every call at its place in the code.
 */
#include "page/call_sites.h"

#include "base/compiler.h"

#define HISTORY 4u

static void halve(struct call_sites *sites)
{
	sites->total /= 2;
	for (unsigned i = 0; i < NR_CALL_SITES; i++)
		sites->site[i].pages /= 2;
}

static void add(struct call_sites *sites, const void *caller, u64 pages)
{
	struct call_site *at = sites->site;

	for (unsigned i = 0; i < NR_CALL_SITES; i++) {
		if (sites->site[i].caller == caller) {
			at = &sites->site[i];
			break;
		}
		if (sites->site[i].pages < at->pages)
			at = &sites->site[i];
	}
	WRITE_ONCE(at->caller, caller);
	WRITE_ONCE(at->pages, at->pages + pages);
	sites->total += pages;
}

void call_sites_note(struct call_sites *sites, const void *caller, u64 pages, u64 usage)
{
	if (!caller || __atomic_exchange_n(&sites->busy, 1, __ATOMIC_ACQUIRE))
		return;
	if (sites->total > HISTORY * usage + NR_CALL_SITES * pages)
		halve(sites);
	add(sites, caller, pages);
	__atomic_store_n(&sites->busy, 0, __ATOMIC_RELEASE);
}

void call_sites_merge(struct call_sites *to, const struct call_sites *from)
{
	for (unsigned i = 0; i < NR_CALL_SITES; i++) {
		struct call_site site = { READ_ONCE(from->site[i].caller), READ_ONCE(from->site[i].pages) };

		if (site.caller)
			add(to, site.caller, site.pages);
	}
}

void call_sites_sort(struct call_sites *sites)
{
	for (unsigned i = 0; i < NR_CALL_SITES; i++)
		for (unsigned k = i + 1; k < NR_CALL_SITES; k++)
			if (sites->site[k].pages > sites->site[i].pages)
				swap(sites->site[i], sites->site[k]);
}
