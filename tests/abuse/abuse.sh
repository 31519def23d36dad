#!/bin/sh
# SPDX-License-Identifier: MIT
#
# abuse.sh - each misuse must end in one line that names pointer, size class and slab, and in SIGABRT.
#
#   abuse.sh [NAME]...		only these programs; tests/run gives LIBKMM and top_builddir
#
# The programs print the pointer and its object; @P@ and @O@ stand for them in the expressions below.
# The table is run once for each KMM_PERCPU mode in $LIBKMM_TEST_MODES (auto and lock).
#
# timeout: 300

set -u
lib=$LIBKMM
bin=$top_builddir/tests/abuse
only=" $* "
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
failed=0
nr=0

[ -r "$lib" ] || { echo "Bail out! no library $lib"; exit 99; }

pass()
{
	echo "ok $nr - $what ($mode)"
}

fail()
{
	echo "not ok $nr - $what ($mode): $*"
	sed 's/^/# /' "$tmp/out" "$tmp/err"
	failed=1
}

# run PROGRAM [NAME=VALUE]
run()
{
	what="$*"
	program=$1
	shift
	nr=$((nr + 1))
	# in a subshell, so that the shell's own "Aborted" does not go into the file
	(exec env KMM_PERCPU="$mode" "$@" LD_PRELOAD="$lib" "$bin/$program" >"$tmp/out" 2>"$tmp/err")
	rc=$?
}

wanted()
{
	[ "$only" = "  " ] || case $only in *" $1 "*) true ;; *) false ;; esac
}

# aborts EXPRESSION PROGRAM [NAME=VALUE]: one line, which matches, and SIGABRT
aborts()
{
	expr=$1
	shift
	wanted "$1" || return 0
	# the shell would say "Aborted" in the middle of our lines
	{ run "$@"; } 2>/dev/null
	pointer=$(sed -n 's/^pointer \(0x[0-9a-f]*\) .*/\1/p' "$tmp/out" | tail -1)
	object=$(sed -n 's/.* object \(0x[0-9a-f]*\)$/\1/p' "$tmp/out" | tail -1)
	expr=$(echo "$expr" | sed "s/@P@/$pointer/g; s/@O@/$object/g")
	if [ -z "$pointer" ]; then
		fail "the program did not come as far as its misuse (returned $rc)"
	elif grep -q survived "$tmp/out"; then
		fail "nobody noticed"
	elif [ $rc -ne 134 ]; then
		fail "ended with $rc, not with SIGABRT"
	elif [ "$(wc -l <"$tmp/err")" -ne 1 ] || ! grep -q -E "^kmm: ($expr)" "$tmp/err"; then
		fail "not this one line: kmm: $expr"
	else
		pass
	fi
}

# passes EXPRESSION PROGRAM [NAME=VALUE]: returns 0, quietly, and prints a line that matches
passes()
{
	expr=$1
	shift
	wanted "$1" || return 0
	run "$@"
	if [ $rc -ne 0 ]; then
		fail "returned $rc"
	elif ! grep -q -E "$expr" "$tmp/out"; then
		fail "did not print: $expr"
	elif [ -s "$tmp/err" ]; then
		fail "something was printed"
	else
		pass
	fi
}

hex='0x[0-9a-f]+'

table()
{
	passes '^survived$' correct

	# pointers that libkmm never handed out
	aborts 'foreign pointer @P@ in free: ' invalid_stack
	aborts 'foreign pointer @P@ in free: ' invalid_global
	aborts 'foreign pointer @P@ in free: ' invalid_nowhere
	aborts 'foreign pointer @P@ in free: ' invalid_noncanonical
	aborts 'foreign pointer @P@ in free: ' invalid_small_number
	aborts 'foreign pointer @P@ in free: ' invalid_first_call
	aborts 'foreign pointer @P@ in free: ' unaligned_global
	aborts '(foreign|invalid) pointer @P@ in realloc' realloc_invalid
	passes '^size 0$' usable_size_invalid

	# inside an object
	aborts "interior pointer @P@ in free, into the object at @O@ \(kmalloc-64, slab $hex\)" interior_small
	aborts "interior pointer @P@ in free, into the object at @O@ \(kmalloc-64, slab $hex\)" unaligned_small
	aborts "interior pointer @P@ in free, into the object at @O@ \(kmalloc-[0-9]+, slab $hex\)" interior_medium
	aborts 'interior pointer @P@ in free, into the large block at @O@ of 1048576 bytes' interior_large
	aborts 'interior pointer @P@ in free, into the large block at @O@ of 1048576 bytes' unaligned_large
	aborts 'interior pointer @P@ in free, into the vmalloc block at @O@ of 67108864 bytes' interior_vmalloc
	aborts 'interior pointer @P@ in realloc, into the large block at @O@ of 1048576 bytes' interior_realloc

	# twice
	aborts "double free of @P@ \(kmalloc-64, slab $hex\)" double_immediate
	aborts "double free of @P@ \(kmalloc-64, slab $hex\)" double_between
	aborts "double free of @P@ \(kmalloc-64, slab $hex\)" double_enough
	aborts "double free of @P@ \(kmalloc-64, slab $hex\)" double_trimmed
	aborts "double free of @P@ \(kmalloc-64, slab $hex\)" double_two_cpus
	aborts '(double free of|invalid pointer) @P@' double_large
	aborts '(double free of|invalid pointer) @P@' double_vmalloc
	aborts '(double free of|invalid pointer) @P@' double_memalign
	aborts '(double free of|invalid pointer) @P@' double_realloc

	# another allocator's
	aborts 'foreign pointer @P@ in free: ' foreign_libc
	aborts 'foreign pointer @P@ in free: ' foreign_libc KMM_FOREIGN_FREE=report
	aborts 'foreign pointer @P@ in free: ' foreign_libc_big
	aborts 'foreign pointer @P@ in free: ' foreign_sbrk
	passes '^survived$' foreign_libc KMM_FOREIGN_FREE=ignore
	passes '^survived$' foreign_libc KMM_FOREIGN_FREE=next
	passes '^survived$' foreign_libc_big KMM_FOREIGN_FREE=ignore
	passes '^survived$' foreign_libc_big KMM_FOREIGN_FREE=next
	passes '^survived$' foreign_sbrk KMM_FOREIGN_FREE=ignore
	passes '^survived$' invalid_stack KMM_FOREIGN_FREE=ignore
	passes '^libc kept all$' foreign_libc_many KMM_FOREIGN_FREE=ignore
	passes '^libc kept little$' foreign_libc_many KMM_FOREIGN_FREE=next
}

for mode in ${LIBKMM_TEST_MODES:-auto lock}; do
	table
done
echo "1..$nr"
exit $failed
