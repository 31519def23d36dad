#!/bin/sh
# SPDX-License-Identifier: MIT
#
# limits.sh - runs limits and other small programs in surroundings that are not the usual ones: little address
# space, no /proc, no rseq, closed descriptors, set-user-id, strict overcommit, under strace.
#
#   limits.sh		tests/run gives LIBKMM and top_builddir
#
# With LIBKMM empty the programs run on libc, and what only libkmm promises is left out.
# limits-direct is limits.c linked against libkmm.so instead of preloaded: a set-user-id program ignores LD_PRELOAD.
# LIBKMM_TORTURE=1 tries strict overcommit too, which changes a setting of the machine for a moment.
#
# timeout: 300

set -u
lib=${LIBKMM-}
bin=$top_builddir/tests/preload
storm=$top_builddir/tests/fork/fork_storm
tmp=$(mktemp -d) || exit 99
chmod 755 "$tmp"
failed=0
nr=0
restore=

cleanup()
{
	eval "$restore"
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 99' INT TERM

# on PROGRAM ARGS: runs it on the library
on()
{
	if [ -n "$lib" ]; then
		LIBKMM_TEST_LIB=${lib##*/} LD_PRELOAD=$lib "$@"
	else
		"$@"
	fi
}

verdict()
{
	nr=$((nr + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1: exit status $2"
		sed 's/^/# /' "$tmp/out"
		failed=1
	fi
}

# check NAME COMMAND: must return 0
check()
{
	name=$1
	shift
	"$@" >"$tmp/out" 2>&1
	verdict "$name" $?
}

skip()
{
	nr=$((nr + 1))
	echo "ok $nr - $1 # SKIP $2"
}

# --- the programs themselves -----------------------------------------------------------------------------
check "work" on "$bin/limits" work
check "sbrk of the program's own" on "$bin/limits" sbrk
check "break blocked by a mapping" on "$bin/limits" blocked
check "small stacks" on "$bin/limits" stacks

# --- address space ---------------------------------------------------------------------------------------
limited()
{
	(ulimit -v 500000 && on "$@")
}
check "ulimit -v 500000: exhaust and go on" limited "$bin/limits" exhaust
check "ulimit -v 500000: python3" limited python3 -c 'x = [str(i) for i in range(300000)]; print(len(x))'
tight()
{
	(ulimit -v 100000 && on "$@")
}
check "ulimit -v 100000: sh" tight sh -c 'echo $((1+1)) >/dev/null'

# --- rseq not registered by glibc ------------------------------------------------------------------------
no_rseq()
{
	GLIBC_TUNABLES=glibc.pthread.rseq=0 on "$@"
}
check "no rseq: work" no_rseq "$bin/limits" work
if [ -x "$storm" ]; then
	check "no rseq: fork_storm" no_rseq "$storm"
fi

# --- descriptors -----------------------------------------------------------------------------------------
closed()
{
	on "$@" <&- >&- 2>&-
}
check "stdin, stdout and stderr closed" closed "$bin/limits" work
closed_stats()
{
	KMM_STATS=1 KMM_VERBOSE=1 on "$@" <&- >&- 2>&-
}
check "the same with statistics" closed_stats "$bin/limits" work
check "all descriptors closed by the program" on "$bin/limits" descriptors
kthread()
{
	KMM_KTHREAD=1 on "$@"
}
check "the same with a background thread" kthread "$bin/limits" descriptors

# --- no /proc --------------------------------------------------------------------------------------------
no_proc()
{
	# a private mount namespace with an empty file system over /proc
	unshare -m sh -c 'mount -t tmpfs none /proc && [ ! -e /proc/self ] && exec "$@"' sh \
		env ${lib:+LD_PRELOAD="$lib" LIBKMM_TEST_LIB="${lib##*/}"} "$@"
}
if unshare -m sh -c 'mount -t tmpfs none /proc' 2>/dev/null; then
	check "no /proc: work" no_proc "$bin/limits" work
	check "no /proc: statistics" no_proc env KMM_STATS=1 "$bin/limits" work
	check "no /proc: python3" no_proc python3 -c 'print(sum(len(str(i)) for i in range(100000)))'
else
	skip "no /proc" "mount namespaces are not allowed here"
fi

# --- set-user-id -----------------------------------------------------------------------------------------
as_nobody()
{
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
setuid_copy()
{
	# positive control: without the bit the same program obeys KMM_STATS
	cp "$bin/limits-direct" "$tmp/limits-suid" && KMM_STATS=1 "$tmp/limits-suid" quiet || return 1
	grep -q 'on libkmm' "$tmp/out" && [ "$(wc -l <"$tmp/out")" -gt 1 ] || return 1
	chown root "$tmp/limits-suid" && chmod 4755 "$tmp/limits-suid" || return 1
	KMM_STATS=1 KMM_VERBOSE=1 as_nobody "$tmp/limits-suid" quiet >"$tmp/suid" 2>&1 || return 1
	cat "$tmp/suid"
	[ "$(cat "$tmp/suid")" = "euid 0 uid 65534 on libkmm" ]
}
if [ -z "$lib" ] || [ ! -x "$bin/limits-direct" ]; then
	skip "set-user-id" "needs limits-direct and the library"
elif [ "$(id -u)" -ne 0 ] || findmnt -n -o OPTIONS -T "$tmp" 2>/dev/null | grep -q nosuid; then
	skip "set-user-id" "needs root and a file system that allows it"
elif ! as_nobody test -r "$lib" 2>/dev/null; then
	skip "set-user-id" "nobody cannot read the library, or we cannot become nobody"
else
	check "set-user-id ignores the environment" setuid_copy
fi

# --- strict overcommit: the limit is set well above what is committed ------------------------------------
overcommit()
{
	committed=$(awk '/^Committed_AS/ { print $2 }' /proc/meminfo)
	total=$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)
	ratio=$(((committed + 3000000) * 100 / total + 1))
	restore="echo $(cat /proc/sys/vm/overcommit_ratio) >/proc/sys/vm/overcommit_ratio
		echo $(cat /proc/sys/vm/overcommit_memory) >/proc/sys/vm/overcommit_memory"
	echo $ratio >/proc/sys/vm/overcommit_ratio && echo 2 >/proc/sys/vm/overcommit_memory && on "$@"
	rc=$?
	eval "$restore"
	restore=
	return $rc
}
if [ "${LIBKMM_TORTURE:-0}" = 0 ]; then
	skip "strict overcommit" "only with LIBKMM_TORTURE=1"
elif [ ! -w /proc/sys/vm/overcommit_memory ]; then
	skip "strict overcommit" "cannot be set here"
else
	check "strict overcommit" overcommit "$bin/limits" work
fi

# --- how much a tiny process costs -----------------------------------------------------------------------
count_calls()
{
	# lines of the log that are system calls; -f shows a thread, if there were one
	grep -c -E '^([0-9]+ +)?[a-z_0-9]+\(' "$1"
}
tiny()
{
	strace -f -o "$tmp/plain" /bin/true && strace -f -o "$tmp/empty" -E LD_PRELOAD="$bin/empty.so" /bin/true &&
		strace -f -o "$tmp/kmm" -E LD_PRELOAD="$lib" /bin/true || return 1
	plain=$(count_calls "$tmp/plain") empty=$(count_calls "$tmp/empty") kmm=$(count_calls "$tmp/kmm")
	echo "system calls of /bin/true: $plain plain, $empty with an empty library, $kmm with libkmm"
	[ "$empty" -gt "$plain" ] || return 1		# the preload itself works
	! grep -E '\bv?(clone3?|fork)\(|openat?\([^)]*(hwloc|urcu|/proc|/sys)' "$tmp/kmm" || return 1
	[ $((kmm - empty)) -le 12 ]
}
if [ -z "$lib" ] || [ ! -e "$bin/empty.so" ]; then
	skip "system calls of /bin/true" "needs the library and empty.so"
elif ! strace -o /dev/null /bin/true 2>/dev/null; then
	skip "system calls of /bin/true" "strace does not work here"
else
	tiny >"$tmp/out" 2>&1
	rc=$?
	verdict "system calls of /bin/true: $(grep -o '[0-9]* plain.*' "$tmp/out")" $rc
fi

# --- of libkmm's own text a small program has 64 KiB, in the first of its two mappings ------------------------
resident_text()
{
	LD_PRELOAD=$lib head -c 100000 /proc/self/smaps >"$tmp/smaps" || return 1
	awk '/^[0-9a-f]+-/ { ours = / r-xp .*libkmm/; n += ours } ours && /^Rss:/ { rss[n] = $2 }
		END { print "of the text", rss[1], "KiB, of what is rare", rss[2], "KiB"; exit !(n == 2 && rss[1] <= 64 && rss[2] == 0) }' \
		"$tmp/smaps"
}
if [ -z "$lib" ] || [ ! -r /proc/self/smaps ] || [ "$(uname -m)" != x86_64 ] || [ "$(getconf PAGESIZE)" != 4096 ]; then
	skip "resident text" "needs the library, /proc, and 4 KiB pages"
else
	resident_text >"$tmp/out" 2>&1
	rc=$?
	verdict "resident text: $(tail -n 1 "$tmp/out")" $rc
fi

# --- a tiny process lives in the brk zone alone ----------------------------------------------------------
brk_alone()
{
	KMM_STATS=json:"$tmp/stats.%p" LD_PRELOAD=$lib /bin/true || return 1
	python3 - "$tmp"/stats.* <<-'END'
	import json, sys
	assert len(sys.argv) == 2, sys.argv
	v = json.load(open(sys.argv[1]))["vmstat"]
	assert v["section_online"] == 0, v
	END
}
if [ -n "$lib" ]; then
	check "/bin/true needs no mmap section" brk_alone
fi

echo "1..$nr"
exit $failed
