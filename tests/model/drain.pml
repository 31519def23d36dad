/* SPDX-License-Identifier: MIT */
/*
 * drain.pml - draining another CPU's slot, as lib/mm/drain.c does it; checked by drain.sh.
 *
 * Purpose. Shows for every interleaving of a small case that no object is lost or in two places and no sheaf in two
 * hands while one CPU pops, pushes and exchanges and another drains its slot.
 *
 * Objects. Two sheaves of two places, three objects, one slot. A top is a number: STOP, BOOT, or TOP(sheaf, count).
 *
 * The owner's rseq sections are their steps: read the top ... commit. A section that was restarted (`aborted`) has no
 * further effect; that happens by itself at any time (the thread is preempted), and to every section under way when
 * the drainer calls membarrier(2).
 *
 * Memory. The owner's plain stores go through a store buffer, first in first out, and reach memory at any time later
 * (x86; the owner itself sees them at once). The drainer's exchange is atomic in memory. membarrier empties the buffer.
 *
 * Mutants, each of which must give a counterexample:
 *   NO_MEMBARRIER  the drainer does not call membarrier
 *   NO_SECOND_LOOK the drainer does not look again whether the stop sheaf stayed
 *   REPLACE_STOP   the owner's exchange replaces the stop sheaf as well
 */
#define NR_OPS	  3		/* of the owner */
#define NR_DRAINS 2
#define NR_OBJ	  3
#define CAPACITY  2

#define STOP	    0
#define BOOT	    1
#define TOP(s, c)   (2 + (s) * 3 + (c))
#define SHEAF(t)    (((t) - 2) / 3)
#define COUNT(t)    (((t) - 2) % 3)
#define CELL(s, i)  ((s) * CAPACITY + (i))
#define is_real(t)  ((t) > BOOT)

mtype = { HELD, SLAB, CACHED };		/* an object: the program's, free in its slab, in a sheaf */
mtype = { POOL, IN_SLOT, OWNERS };	/* a sheaf: unused, in the slot, in the owner's hands */

/* Memory, and how the owner sees it. */
byte slot = TOP(0, 1);
byte cell[4];
byte own_slot = TOP(0, 1);
byte own_cell[4];
byte nr_pending;			/* stores to the slot in the buffer */
chan buffer = [8] of { byte, byte };	/* address (0: slot, else 1 + cell), value; more than the owner ever stores */

mtype object[NR_OBJ + 1];
mtype sheaf[2];
bool in_section, aborted, owner_done, drainer_done;

inline apply(a, v)
{
	if
	:: a == 0 -> slot = v; nr_pending--
	:: else -> cell[a - 1] = v
	fi
}

/* Stores reach memory when they like. */
proctype store_buffer()
{
	byte a, v;
end:
	do
	:: atomic { buffer ? a, v -> apply(a, v) }
	od
}

#define top_seen_by_owner (nr_pending > 0 -> own_slot : slot)

inline begin_section(t)
{
	atomic { aborted = false; in_section = true };
	t = top_seen_by_owner
}

inline store_cell(c, v)
{
	own_cell[c] = v;
	buffer ! 1 + c, v
}

/* The committing store; done tells whether it happened. */
inline commit(new_top)
{
	own_slot = new_top;
	nr_pending++;
	buffer ! 0, new_top;
	in_section = false;
	done = true
}

inline give_up_section()
{
	in_section = false;
	done = false
}

inline pop()
{
	begin_section(t);
	if
	:: !is_real(t) -> give_up_section()
	:: is_real(t) && COUNT(t) == 0 -> give_up_section()
	:: is_real(t) && COUNT(t) > 0 ->
		obj = own_cell[CELL(SHEAF(t), COUNT(t) - 1)];
		atomic {
			if
			:: aborted -> give_up_section()
			:: true -> give_up_section()		/* preempted */
			:: !aborted ->
				commit(t - 1);
				assert(object[obj] == CACHED);	/* it is handed out once */
				object[obj] = HELD
			fi
		}
	fi
}

/* A push that finds no way gives the object to its slab. */
inline push(o)
{
	begin_section(t);
	if
	:: !is_real(t) -> give_up_section()
	:: is_real(t) && COUNT(t) == CAPACITY -> give_up_section()
	:: is_real(t) && COUNT(t) < CAPACITY ->
		atomic {
			if
			:: aborted
			:: !aborted -> store_cell(CELL(SHEAF(t), COUNT(t)), o)
			fi
		};
		atomic {
			if
			:: aborted -> give_up_section()
			:: true -> give_up_section()
			:: !aborted ->
				commit(t + 1);
				object[o] = CACHED
			fi
		}
	fi;
	if
	:: done
	:: !done -> object[o] = SLAB
	fi
}

/* The objects (cell_i: the i-th) of a sheaf that came out of the slot go into their slab, the sheaf into the pool. */
inline dispose(t, cell_i)
{
	if
	:: !is_real(t)
	:: is_real(t) ->
		i = 0;
		do
		:: i < COUNT(t) ->
			obj = cell_i;
			assert(object[obj] == CACHED);
			object[obj] = SLAB;
			i++
		:: else -> break
		od;
		atomic { assert(sheaf[SHEAF(t)] == IN_SLOT); sheaf[SHEAF(t)] = POOL }
	fi
}

#ifdef REPLACE_STOP
#define may_replace(t) true
#else
#define may_replace(t) ((t) != STOP)
#endif

/* A spare sheaf filled with object o out of its slab takes the place of what the slot holds. */
inline exchange(s, o)
{
	atomic { object[o] = CACHED; store_cell(CELL(s, 0), o) };
	begin_section(t);
	atomic {
		if
		:: aborted || !may_replace(t) -> give_up_section()
		:: true -> give_up_section()
		:: !aborted && may_replace(t) -> commit(TOP(s, 1)); sheaf[s] = IN_SLOT
		fi
	};
	if
	:: done -> dispose(t, own_cell[CELL(SHEAF(t), i)])
	:: !done -> object[o] = SLAB; sheaf[s] = POOL
	fi
}

/* Some object in that state; 0: none. */
inline choose(state)
{
	if
	:: object[1] == state -> o = 1
	:: object[2] == state -> o = 2
	:: object[3] == state -> o = 3
	:: else -> o = 0
	fi
}

proctype owner()
{
	byte t, obj, i, n, o, s;
	bool done;

	do
	:: n < NR_OPS ->
		n++;
		if
		:: true -> pop()
		:: true -> choose(HELD);
			if
			:: o != 0 -> push(o)
			:: o == 0
			fi
		:: true -> choose(SLAB);
			if
			:: o != 0 && sheaf[0] == POOL -> s = 0; sheaf[s] = OWNERS; exchange(s, o)
			:: o != 0 && sheaf[1] == POOL -> s = 1; sheaf[s] = OWNERS; exchange(s, o)
			:: else
			fi
		:: true					/* nothing */
		fi
	:: else -> break
	od;
	owner_done = true
}

/* --- the drainer: drain_cpu(), for one slot ------------------------------------------------------------------- */

inline membarrier()
{
	atomic {
		do
		:: buffer ? a, v -> apply(a, v)
		:: empty(buffer) -> break
		od;
		if
		:: in_section -> aborted = true
		:: else
		fi
	}
}

inline exchange_for_stop()
{
	atomic { captured = slot; slot = STOP }
}

proctype drainer()
{
	byte captured, obj, i, n, a, v;

	do
	:: n < NR_DRAINS ->
		n++;
		if
		:: slot == BOOT -> skip
		:: slot != BOOT ->
			exchange_for_stop();
			do
			:: true ->
#ifndef NO_MEMBARRIER
				membarrier();
#endif
#ifdef NO_SECOND_LOOK
				break
#else
				if
				:: slot == STOP -> break
				:: slot != STOP -> exchange_for_stop()
				fi
#endif
			od;
			slot = BOOT;
			dispose(captured, cell[CELL(SHEAF(captured), i)])
		fi
	:: else -> break
	od;
	drainer_done = true
}

/* --- the start, and what must hold in the end ----------------------------------------------------------------- */

inline count_in_slot(o)
{
	nr = 0;
	i = 0;
	do
	:: is_real(slot) && i < COUNT(slot) ->
		nr = nr + (cell[CELL(SHEAF(slot), i)] == o -> 1 : 0);
		i++
	:: else -> break
	od
}

init
{
	byte o, nr, i;

	atomic {
		cell[0] = 1;
		own_cell[0] = 1;
		object[1] = CACHED;
		object[2] = HELD;
		object[3] = HELD;
		sheaf[0] = IN_SLOT;
		sheaf[1] = POOL;
		run store_buffer();
		run owner();
		run drainer()
	};
	owner_done && drainer_done && empty(buffer);
	atomic {
		for (o : 1 .. NR_OBJ) {
			count_in_slot(o);
			assert(nr == (object[o] == CACHED -> 1 : 0))	/* not lost, not doubled */
		}
		for (o : 0 .. 1) {
			assert((sheaf[o] == IN_SLOT) == (is_real(slot) && SHEAF(slot) == o))
		}
	}
}
