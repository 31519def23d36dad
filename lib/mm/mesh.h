/* SPDX-License-Identifier: MIT */
/* mesh.h - what the files of meshing share. Not for other layers. */
#ifndef KMM_LIB_MM_MESH_H
#define KMM_LIB_MM_MESH_H

#include "internal.h"

#define MESH_OBJECTS_MAX 256u		/* of a slab */
#define MESH_PAGES_MAX	 16u		/* OS pages of a slab */
#define NO_INDEX	 UINT32_MAX

/* Which objects of a slab, or of several at once, are live. */
struct occupancy {
	u64 word[MESH_OBJECTS_MAX / 64];
};

static inline bool occupancy_overlaps(const struct occupancy *a, const struct occupancy *b)
{
	return ((a->word[0] & b->word[0]) | (a->word[1] & b->word[1]) | (a->word[2] & b->word[2]) | (a->word[3] & b->word[3])) != 0;
}

static inline void occupancy_add(struct occupancy *a, const struct occupancy *b)
{
	for (unsigned i = 0; i < ARRAY_SIZE(a->word); i++)
		a->word[i] |= b->word[i];
}

static inline unsigned occupancy_weight(const struct occupancy *a)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(a->word); i++)
		nr += (unsigned)__builtin_popcountll(a->word[i]);
	return nr;
}

/* Calls for every live object's index i. */
#define for_each_live(i, live)                                                                                         \
	for (unsigned w_ = 0, i; w_ < ARRAY_SIZE((live)->word); w_++)                                                  \
		for (u64 bits_ = (live)->word[w_]; bits_ && (i = w_ * 64 + (unsigned)__builtin_ctzll(bits_), true); bits_ &= bits_ - 1)

/* --- mesh_plan.c: who goes with whom ---------------------------------------------------------------------- */

/* A slab that may be meshed. */
struct mesh_candidate {
	struct occupancy live;
	pfn_t pfn;
	u32 next;		/* of the same class and weight; then of the same bin */
	u8 cls, colour;
};

/* Slabs that are to share frames, those of a group that exists or new ones. */
struct mesh_bin {
	struct occupancy live;	/* of all of them */
	u32 group;		/* 0: a new one */
	u32 first, nr;		/* candidates */
	u32 nr_pages;		/* that these have now, each for itself */
	u8 colour;
};

struct mesh_plan {
	u32 max;		/* candidates, and bins */
	u32 nr_candidates, nr_bins;
	struct mesh_candidate *candidate;
	struct mesh_bin *bin;
	u32 (*by_weight)[MESH_OBJECTS_MAX + 1];	/* for each class: first candidate with so many live objects */
	u64 random;
};

/* NULL when there is no memory. */
struct mesh_plan *mesh_plan_create(u32 max_candidates);
void mesh_plan_destroy(struct mesh_plan *plan);
/* false: there is no room for it. */
bool mesh_plan_add(struct mesh_plan *plan, pfn_t pfn, unsigned cls, u8 colour, const struct occupancy *live);
/* Before a class is planned: forgets the bins, and makes one of a group that exists. */
void mesh_plan_begin(struct mesh_plan *plan);
void mesh_plan_add_group(struct mesh_plan *plan, u32 group, u8 colour, const struct occupancy *live);
/* Puts all candidates of the class into bins. */
void mesh_plan_class(struct mesh_plan *plan, unsigned cls);
/* The candidates of a class that is planned are what they were before. */
void mesh_plan_undo(struct mesh_plan *plan, unsigned cls);
/* Pages that go home if the bin is carried out: negative if that would cost some. */
s32 mesh_bin_gain(const struct mesh_bin *bin, unsigned cls, u64 present);

bool mesh_class_is_worth(unsigned cls);
/* OS pages of a slab in which those objects lie, by number. */
u64 occupied_pages(unsigned cls, const struct occupancy *live);
/* Live objects of a slab; node lock held. */
void slab_occupancy(struct page *slab, struct occupancy *live);

/* --- mesh.c: frames, and slabs that are views of them ------------------------------------------------------ */

/* Page frames in a memfd, as many as a slab has, and how many slabs lie on them. */
struct mesh_group {
	struct occupancy live;	/* in slabs that lie on the frames: their bytes are needed */
	u64 offset;		/* in the memfd */
	u32 nr_views;		/* slabs; those that are given back count themselves out */
	u32 next;		/* of the class, or free */
	u16 present;		/* frames that exist */
	u8 cls;			/* 0: free */
	u8 colour;
};

#define MESH_GROUP_KSM 1u	/* no group: meshed by mesh_ksm.c */
#define MESH_BATCH 8u

/* A slab on its way onto a group's frames: isolated. */
struct mesh_job {
	struct page *slab;
	u32 group;
	struct occupancy live;
	u64 moved;		/* OS pages that are away */
	int error;		/* 0: it lies there now */
	s32 gain;		/* pages */
};

int mesh_open(void);
void mesh_forget(void);
const char *mesh_needs(int error);
int mesh_groups_alloc(void);	/* 0 or -ENOMEM */
void mesh_enter(struct page *slab, u32 id);	/* an isolated slab is meshed now */
bool mesh_may_write(void);	/* no other process has views of our frames */
struct mesh_group *mesh_group(u32 id);
u32 mesh_group_create(unsigned cls, u8 colour, pfn_t pfn);	/* frames in line with that, if they can be. 0: there are no more */
u32 mesh_first_group(unsigned cls);
bool mesh_is_own_group(u32 id);
u32 mesh_nr_groups(void);
u32 slab_group(const struct page *slab);	/* of a meshed slab */
void mesh_run_batch(struct mesh_job *job, unsigned nr);
/* Frames that no live object lies on any more go home, with the group if it has no views. Bytes. */
size_t mesh_group_shrink(u32 id);
/* OS pages of a meshed slab that the program has written, so that they are its own again. */
u64 mesh_written_pages(struct page *slab);

/* --- mesh_ksm.c: the same by equal pages ------------------------------------------------------------------- */
struct compact_control;
int mesh_ksm_open(void);
const char *mesh_ksm_needs(int error);
void mesh_ksm_begin(struct compact_control *cc);
void mesh_ksm_batch(struct mesh_job *job, unsigned nr);

#endif
