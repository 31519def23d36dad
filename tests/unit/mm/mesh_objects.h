/* SPDX-License-Identifier: MIT */
/* mesh_objects.h - what the tests of meshing share: objects with known bytes in sparse slabs, and passes on demand. */
#ifndef KMM_TESTS_UNIT_MM_MESH_OBJECTS_H
#define KMM_TESTS_UNIT_MM_MESH_OBJECTS_H

#include "../../../lib/mm/mesh.h"

#include "../boot.h"
#include "page/compaction.h"
#include "page/vmstat.h"

enum { MAX_OBJECTS = 100000 };
static unsigned char *object[MAX_OBJECTS];
static unsigned char value[MAX_OBJECTS];
static unsigned nr_objects;

static inline void need_backend(void)
{
	if (mesh_open() != 0)
		cr_skip_test("no userfaultfd that can move pages");
	mesh_forget();		/* what was opened stays open until the end: a few descriptors */
	kmm_params.compact = COMPACT_MESH;
	kswapd_running = true;
}

static inline bool never(void)
{
	return false;
}

/* A whole pass, as kmm_compact() asks for it. */
static inline void compact_all(void)
{
	u32 request = compact_request();

	cr_assert_neq(request, 0u);
	while (kcompactd_run(NEVER_MS, true, never) == 1)
		;
	compact_wait(request);
}

static inline void fill(unsigned i, unsigned cls, unsigned char v)
{
	value[i] = v;
	memset(object[i], v, kmalloc_caches[cls].size);
}

static inline void take(unsigned cls, unsigned nr)
{
	for (nr_objects = 0; nr_objects < nr;) {
		unsigned n = slab_alloc_bulk(0, cls, (void **)&object[nr_objects], min(nr - nr_objects, 60u));

		cr_assert_neq(n, 0u);
		for (; n; n--, nr_objects++)
			fill(nr_objects, cls, (unsigned char)(nr_objects * 7 + 1));
	}
}

static inline void give(unsigned cls, unsigned i)
{
	slab_free_bulk(cls, (void **)&object[i], 1);
	object[i] = NULL;
}

/* Frees at random so that one object in so many is left. */
static inline void thin_out(unsigned cls, unsigned one_in, u64 seed)
{
	u64 r = rng_of(seed);

	for (unsigned i = 0; i < nr_objects; i++)
		if (object[i] && rng_below(&r, one_in))
			give(cls, i);
}

static inline unsigned count_wrong(unsigned cls)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < nr_objects; i++)
		for (unsigned k = 0; object[i] && k < kmalloc_caches[cls].size; k++)
			wrong += object[i][k] != value[i];
	return wrong;
}

static inline void give_all(unsigned cls)
{
	for (unsigned i = 0; i < nr_objects; i++)
		if (object[i])
			give(cls, i);
	kmem_cache_shrink_all();
}

#endif
