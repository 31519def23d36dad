#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 120
# modes: auto lock
# Memory groups by rules alone: an unmodified python3 opens a plug-in that leaks; quotas of the whole process.
. "$(dirname "$0")/lib.sh"
need $python
builddir=${top_builddir:-$PWD}

# told LABEL WANTED COMMAND...: standard output is exactly that, and no message of libkmm's.
told() {
	local label=$1 wanted=$2
	shift 2
	LD_PRELOAD=$lib "$@" >"$tmp/out" 2>"$tmp/err" || fail "$label: status $?: $(head -3 "$tmp/err")"
	[ "$(cat "$tmp/out")" = "$wanted" ] || fail "$label: \"$(cat "$tmp/out")\" instead of \"$wanted\""
	clean_stderr "$label" "$tmp/err"
}

cat >"$tmp/host.py" <<'EOF'
import ctypes, sys
plug = ctypes.CDLL(sys.argv[1])
plug.leak.restype, plug.leak.argtypes = ctypes.c_long, [ctypes.c_long]
got = plug.leak(1000000)
print("refused" if 12000 < got < 16800 else f"got {got}")
own = [bytes(1000) for _ in range(100000)]
print(len(own), plug.leak(10000) < 100)
EOF
refused=$'refused\n100000 True'
rule='plug:max=16M,oom=enomem,lib=leaky.so'
KMM_MEMCG=$rule told lib "$refused" $python "$tmp/host.py" "$builddir/tests/preload/leaky.so"

# The same from a file, with other groups beside it, and what the statistics say of them.
printf '%s;\nworkers:high=1G,max=1200M,comm=worker*;\nworkers/low:max=10%%,comm=batch*\n' "$rule" >"$tmp/rules"
KMM_MEMCG=@$tmp/rules KMM_STATS=json:$tmp/stats told file "$refused" $python "$tmp/host.py" "$builddir/tests/preload/leaky.so"
$python - "$tmp/stats" <<'EOF' || fail "file: the statistics"
import json, sys
groups = {g["path"]: g for g in json.load(open(sys.argv[1]))["memcg"]["groups"]}
assert set(groups) == {"/", "/plug", "/workers", "/workers/low"}, list(groups)
assert groups["/plug"]["ev_max"] > 0 and 12 << 20 < groups["/plug"]["current"] <= 16 << 20, groups["/plug"]
assert groups["/"]["current"] >= groups["/plug"]["current"], groups["/"]
assert groups["/workers"]["max"] == str(1200 << 20) and groups["/workers"]["current"] == 0, groups["/workers"]
EOF

# What a library is over its group's high is paid for by who calls it; the program itself is not slowed down.
cat >"$tmp/slow.py" <<'EOF'
import ctypes, sys, time
plug = ctypes.CDLL(sys.argv[1])
def seconds(fn):
    begin = time.monotonic()
    fn()
    return time.monotonic() - begin
slow = seconds(lambda: plug.leak(ctypes.c_long(6500)))
own = seconds(lambda: [bytes(1000) for _ in range(6500)])
print("waits" if slow > 0.3 and own < slow / 2 else f"{slow} {own}")
EOF
KMM_MEMCG='plug:high=4M,lib=leaky.so' KMM_STATS=json:$tmp/stats told high waits $python "$tmp/slow.py" "$builddir/tests/preload/leaky.so"
$python - "$tmp/stats" <<'EOF' || fail "high: the statistics"
import json, sys
groups = {g["path"]: g for g in json.load(open(sys.argv[1]))["memcg"]["groups"]}
plug = groups["/plug"]
assert plug["ev_high"] > 0 and plug["throttled_usec"] > 100000 and plug["ev_max"] == 0, plug
assert plug["some_usec"] >= plug["throttled_usec"] and plug["full_usec"] <= plug["some_usec"], plug
assert groups["/"]["throttled_usec"] == 0, groups["/"]
EOF

# A library that is closed, and another one in its place: what that allocates is not the group's.
cat >"$tmp/close.py" <<'EOF'
import ctypes, _ctypes, sys, time
def leak(lib, nr):
    lib.leak.restype, lib.leak.argtypes = ctypes.c_long, [ctypes.c_long]
    return lib.leak(nr)
first = ctypes.CDLL(sys.argv[1])
print(leak(first, 100))
_ctypes.dlclose(first._handle)
second = ctypes.CDLL(sys.argv[2])
time.sleep(0.3)
print(leak(second, 30000))
EOF
cp "$builddir/tests/preload/leaky.so" "$tmp/other.so"
KMM_MEMCG=$rule told closed $'100\n30000' $python "$tmp/close.py" "$builddir/tests/preload/leaky.so" "$tmp/other.so"

# The report names the library and the place in it.
KMM_MEMCG='plug:max=16M,oom=report,lib=leaky.so' LD_PRELOAD=$lib $python "$tmp/host.py" "$builddir/tests/preload/leaky.so" >"$tmp/out" 2>"$tmp/err"
for word in 'wants 1024 bytes at leaky.so+0x' 'group /plug is at its limit' 'group /plug: usage 1[56]' 'kmalloc-1024: 1[56]' \
	'call site leaky.so+0x[0-9a-f]*: 1[0-9]*kB, \(9.\|100\)%'; do
	grep -q "^kmm: oom: .*$word" "$tmp/err" || fail "report: no '$word' in $(cat "$tmp/err")"
done

# Who is called python* belongs to a group.
KMM_MEMCG='py:max=40M,comm=python*' told comm 'MemoryError' $python -c '
try:
    x = [bytes(100000) for _ in range(1000)]
    print(len(x))
except MemoryError:
    print("MemoryError")'

# The quota of the process, absolute and as a share; without it the same program has enough.
quota='
try:
    x = bytearray(200 << 20)
    print(len(x) >> 20)
except MemoryError:
    print("MemoryError")'
told none 200 $python -c "$quota"
KMM_MEMORY_MAX=100M told quota MemoryError $python -c "$quota"
KMM_MEMORY_MAX=50% told share 200 $python -c "$quota"
KMM_MEMORY_MAX=auto told auto 200 $python -c "$quota"

# Absurd limits of a rule: 0 lets the plug-in allocate nothing, little is little, more than RAM is as good as none; the program
# does not notice.
cat >"$tmp/absurd.py" <<'EOF'
import ctypes, sys
plug = ctypes.CDLL(sys.argv[1])
plug.leak.restype, plug.leak.argtypes = ctypes.c_long, [ctypes.c_long]
print(plug.leak(20000), len([bytes(1000) for _ in range(10000)]))
EOF
for try in 'max=0 0' 'max=1 0' 'max=4095 0' 'max=4096T 20000' 'max=max 20000' 'max=100% 20000' 'high=4096T 20000' \
	'max=64M,low=64G,min=64G 20000'; do
	KMM_MEMCG="plug:${try% *},lib=leaky.so" told "${try% *}" "${try#* } 10000" $python "$tmp/absurd.py" "$builddir/tests/preload/leaky.so"
done
got=$(KMM_MEMCG='plug:max=100K,lib=leaky.so' LD_PRELOAD=$lib $python "$tmp/absurd.py" "$builddir/tests/preload/leaky.so")
[ "${got#* }" = 10000 ] && [ "${got% *}" -lt 100 ] || fail "max=100K: $got"

# Several rules: a child without a rule for its parent, a share of RAM.
rules='plug:max=64M,oom=enomem,lib=libplug.so;workers:high=1G,max=1200M,comm=worker*;batch/low:max=10%,comm=batch*'
KMM_MEMCG=$rules KMM_STATS=json:$tmp/stats told several 1 $python -c 'print(1)'
$python - "$tmp/stats" <<'EOF' || fail "several: the statistics"
import json, sys
groups = {g["path"]: g for g in json.load(open(sys.argv[1]))["memcg"]["groups"]}
assert set(groups) == {"/", "/plug", "/workers", "/batch", "/batch/low"}, list(groups)
assert groups["/plug"]["max"] == str(64 << 20) and groups["/plug"]["oom"] == "enomem", groups["/plug"]
assert (groups["/workers"]["high"], groups["/workers"]["max"]) == (str(1 << 30), str(1200 << 20)), groups["/workers"]
assert groups["/batch"]["max"] == "max" and int(groups["/batch/low"]["max"]) > 0, groups["/batch/low"]
EOF

# Threads by name, and those that they create, which have other names.
cat >"$tmp/workers.py" <<'EOF'
import ctypes, threading
libc, kept = ctypes.CDLL(None), []
def work(name, then):
    libc.prctl(15, name, 0, 0, 0)
    kept.append([bytes(1000) for _ in range(30000)])
    if then:
        t = threading.Thread(target=work, args=(b"child", None))
        t.start()
        t.join()
for name, then in (b"worker1", True), (b"other", False):
    t = threading.Thread(target=work, args=(name, then))
    t.start()
    t.join()
print(len(kept))
EOF
KMM_MEMCG='w:comm=worker*' KMM_STATS=json:$tmp/stats told workers 3 $python "$tmp/workers.py"
$python - "$tmp/stats" <<'EOF' || fail "workers: the statistics"
import json, sys
groups = {g["path"]: g for g in json.load(open(sys.argv[1]))["memcg"]["groups"]}
assert 58 << 20 < groups["/w"]["peak"] < 80 << 20, groups["/w"]
EOF

# A rule that makes no sense: one line, and the program runs.
for bad in 'plug:max=1x' 'plug' 'plug:' 'plug:max=64M,colour=red' '/:max=1M' "@$tmp/nothing"; do
	KMM_MEMCG=$bad LD_PRELOAD=$lib $python -c 'print(1)' >"$tmp/out" 2>"$tmp/err" || fail "\"$bad\": status $?"
	[ "$(cat "$tmp/out")" = 1 ] || fail "\"$bad\": the program did not run"
	[ "$(grep -c '^kmm: .*KMM_MEMCG' "$tmp/err")" = 1 ] && [ "$(wc -l <"$tmp/err")" = 1 ] || fail "\"$bad\": $(cat "$tmp/err")"
done
finish
