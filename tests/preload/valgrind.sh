#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto
# Small programs under valgrind's memcheck. valgrind knows no rseq, so libkmm runs its fallback here. The option
# keeps valgrind from replacing our malloc by its own.
. "$(dirname "$0")/lib.sh"
need valgrind
check() {
	local label=$1
	shift
	"$@" >"$tmp/$label.bare" 2>/dev/null </dev/null
	local expected=$?
	valgrind --trace-children=no --soname-synonyms=somalloc=nouserintercepts --log-file="$tmp/$label.log" \
		env -u NOTHING true >/dev/null 2>&1 || { echo "$name: skipped, valgrind does not run here"; exit 77; }
	LD_PRELOAD=$lib valgrind -q --soname-synonyms=somalloc=nouserintercepts --log-file="$tmp/$label.log" "$@" \
		>"$tmp/$label.out" 2>"$tmp/$label.err" </dev/null
	local status=$?
	[ $status -eq $expected ] || { fail "$label: exit status $status under valgrind, $expected bare"; tail -8 "$tmp/$label.log"; }
	cmp -s "$tmp/$label.bare" "$tmp/$label.out" || fail "$label: the output differs"
	clean_stderr "$label" "$tmp/$label.err"
	! grep -E 'Process terminating|Invalid (read|write|free)' -A 4 "$tmp/$label.log" || fail "$label: memcheck found the above"
}
seq 3000 | awk '{ print $1 * 7919 % 3001, "line", $1 }' >"$tmp/in"
check ls ls -l /usr/include
check sort sort --parallel=2 -k3 "$tmp/in"
check perl perl -e 'my %h; $h{$_ % 97} .= "x$_" for 1 .. 4000; print length(join ",", map { $h{$_} } sort keys %h), "\n"'
[ ! -x $python ] || PYTHONMALLOC=malloc check python $python -c 'import threading, json
def f(): json.loads(json.dumps({str(i): [i] * 9 for i in range(300)}))
t = [threading.Thread(target=f) for _ in range(3)]
[x.start() for x in t]; [x.join() for x in t]; print("done")'
finish
