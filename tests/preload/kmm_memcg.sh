#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 60
# kmm memcg: the tree of groups of an unmodified program's statistics, text and JSON.
tool=${LIBKMM_TOOL:-tools/kmm}
. "$(dirname "$0")/lib.sh"
need $python

rules='plug:max=64M,oom=enomem;workers:high=1G,max=1200M,comm=python*;workers/low:max=50M,low=1M;a:max=max'
for form in text json; do
	KMM_MEMCG=$rules KMM_STATS=$form:$tmp/stats LD_PRELOAD=$lib $python -c 'x = [bytes(1000) for _ in range(20000)]'
	"$tool" memcg "$tmp/stats" >"$tmp/out" 2>"$tmp/err" || fail "$form: status $?: $(cat "$tmp/err")"
	"$tool" memcg <"$tmp/stats" | cmp -s - "$tmp/out" || fail "$form: standard input"
	"$tool" memcg --bytes "$tmp/stats" >"$tmp/bytes" || fail "$form: --bytes"
	[ "$(awk '{ print $1 }' "$tmp/out" | tr '\n' ' ')" = "GROUP / a plug workers low " ] || fail "$form: $(cat "$tmp/out")"
	$python - "$tmp/out" "$tmp/bytes" <<'EOP' || fail "$form: figures: $(cat "$tmp/out" "$tmp/bytes")"
import sys
def read(path):
    lines = open(path).read().splitlines()
    head = lines[0].split()
    assert len(set(map(len, lines))) == 1, "ragged"
    return {l.split()[0]: dict(zip(head, l.split())) for l in lines[1:]}, lines
out, lines = read(sys.argv[1])
exact, _ = read(sys.argv[2])
assert out["plug"]["MAX"] == "64.0M" and out["plug"]["CURRENT"] == "0" and out["plug"]["POLICY"] == "enomem", out
assert out["workers"]["HIGH"] == "1.0G" and out["workers"]["MAX"] == "1.2G" and out["a"]["MAX"] == "max", out
assert out["low"]["LOW"] == "1.0M" and any(l.startswith("    low ") for l in lines), lines
assert exact["workers"]["MAX"] == str(1200 << 20) and int(exact["workers"]["PEAK"]) > 20000000, exact
assert int(exact["/"]["PEAK"]) >= int(exact["workers"]["PEAK"]), exact
assert float(out["workers"]["some10"]) == 0 and out["workers"]["oom"] == "0", out
EOP
done

# What is none is refused in one line.
refuses() {
	local status=$1
	shift
	"$tool" memcg "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	[ $? = "$status" ] && [ ! -s "$tmp/out" ] && [ "$(wc -l <"$tmp/err")" = 1 ] || fail "kmm memcg $*: $(cat "$tmp/err")"
}
head -c 3000 "$tmp/stats" >"$tmp/cut"
refuses 2 --sort
refuses 2 "$tmp/stats" "$tmp/stats"
refuses 127 "$tmp/nothing"
refuses 2 /dev/null
refuses 2 -
refuses 2 "$tmp/cut"
refuses 2 /bin/sh
finish
