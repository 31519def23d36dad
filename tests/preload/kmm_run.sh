# SPDX-License-Identifier: MIT
# kmm run: what it starts, what it refuses and with which words and exit status; kmm params and the rest of the tool.
set -eu
lib=$LIBKMM kmm=$LIBKMM_TOOL
unset LIBKMM LIBKMM_DEBUG LIBKMM_TOOL LIBKMM_TORTURE LD_PRELOAD || :
cd "$TMPDIR"
failed=0 nr=0

# check STATUS TEXT COMMAND... - exit status, and a text that stdout or stderr contains
check() {
	want=$1 text=$2
	shift 2
	rc=0
	"$@" >out 2>&1 </dev/null || rc=$?
	nr=$((nr + 1))
	if [ $rc != "$want" ] || { [ -n "$text" ] && ! grep -qF -- "$text" out; }; then
		echo "$*: exit status $rc ($want expected), '$text' expected in:"
		cat out
		failed=1
	fi
}

# refuse STATUS TEXT COMMAND... - the same, and it is one line that begins with "kmm: "
refuse() {
	check "$@"
	[ "$(wc -l <out)" -eq 1 ] && grep -q '^kmm: ' out || {
		echo "one line 'kmm: ...' expected, this came:"
		cat out
		failed=1
	}
}

# ---- it runs programs on the library ----

check 0 "$lib" "$kmm" run --library="$lib" -- sh -c 'grep -o "/[^ ]*libkmm[^ ]*" /proc/$$/maps | head -n 1 | xargs realpath'
check 0 "LD_PRELOAD=$(realpath "$lib")" "$kmm" run --library "$lib" env
check 0 "two words" "$kmm" run --library="$lib" printf '%s %s' two words
check 7 "" "$kmm" run --library="$lib" -- sh -c 'exit 7'
check 0 KMM_DECAY_MS=5 "$kmm" run -o decay_ms=5 --library="$lib" env
check 0 KMM_DECAY_MS=5 "$kmm" run -oKMM_DECAY_MS=5 --library="$lib" -- env
check 0 KMM_PERCPU=lock "$kmm" run -o decay-ms=5 -o PERCPU=lock --library="$lib" -- env
check 0 "-x" "$kmm" run --library="$lib" -- echo -x
check 0 "LD_PRELOAD=libc.so.6:" env LD_PRELOAD=libc.so.6 "$kmm" run --library="$lib" env
check 0 "inner" "$kmm" run --library="$lib" -- "$kmm" run --library="$lib" echo inner
if [ -e "$(dirname "$kmm")/../lib/.libs/libkmm.so" ]; then
	check 0 "LD_PRELOAD=$(realpath "$(dirname "$kmm")/../lib/.libs/libkmm.so")" "$kmm" run env
fi

# Scripts, a chain of them, one without #!, one that is in PATH.
printf '#! /bin/sh -e\necho from a script\n' >script
printf '#!%s/script\n' "$PWD" >chain
printf 'echo no marker\n' >bare
chmod +x script chain bare
check 0 "from a script" "$kmm" run --library="$lib" ./script
check 0 "from a script" env PATH=":$PATH" "$kmm" run --library="$lib" script
check 0 "from a script" "$kmm" run --library="$lib" ./chain
check 0 "no marker" "$kmm" run --library="$lib" ./bare
loader=$(readelf -p .interp /bin/sh 2>/dev/null | grep -o '/.*') || loader=
[ -z "$loader" ] || check 0 "by hand" "$kmm" run --library="$lib" "$loader" /bin/echo by hand

# ---- wrong usage: exit status 2 ----

refuse 2 "unknown setting DECAY_M, did you mean DECAY_MS" "$kmm" run -o decay_m=5 true
refuse 2 "unknown setting NOTHING_LIKE_IT; kmm params lists them" "$kmm" run -o nothing_like_it=5 true
refuse 2 "-o decay_ms=soon: accepted is 0..86400000 milliseconds" "$kmm" run -o decay_ms=soon true
refuse 2 "-o percpu=: accepted is auto|rseq|lock" "$kmm" run -o percpu= true
refuse 2 "-o percpu: NAME=VALUE is expected" "$kmm" run -o percpu true
refuse 2 "needs a value" "$kmm" run -o
refuse 2 "unknown option --nonsense" "$kmm" run --nonsense true
refuse 2 "unknown option -x" "$kmm" run -x true
refuse 2 "no program to run" "$kmm" run
refuse 2 "no program to run" "$kmm" run -o decay_ms=5 --
refuse 2 "no command" "$kmm"
refuse 2 "unknown command 'walk-the-dog'" "$kmm" walk-the-dog

# ---- libkmm.so is not there: 125 ----

refuse 125 "No such file" "$kmm" run --library=/nonexistent/libkmm.so true
refuse 125 "is not a shared library" "$kmm" run --library="$PWD/script" true
mkdir "a dir" && cp "$lib" "a dir/libkmm.so"
refuse 125 "cannot name a path with a space" "$kmm" run --library="a dir/libkmm.so" true
mkdir -p alone && cp "$kmm" alone/kmm
# An installed libkmm.so would be found.
alone/kmm run true >out 2>&1 || refuse 125 "libkmm.so not found" alone/kmm run true

# ---- the program cannot run on libkmm: 126 ----

printf 'int main(void) { return 0; }\n' >plain.c
printf '#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return NULL; }\nint main(void) { return 0; }\n' >own.c
$CC -static -o static plain.c && refuse 126 "is statically linked" "$kmm" run --library="$lib" ./static
$CC -static-pie -o static-pie plain.c && refuse 126 "is statically linked" "$kmm" run --library="$lib" ./static-pie
$CC -fno-builtin -rdynamic -o own own.c && refuse 126 "defines malloc itself" "$kmm" run --library="$lib" ./own
$CC -Wl,--dynamic-linker=/nowhere/ld.so -o noloader plain.c &&
	refuse 126 "its loader /nowhere/ld.so is missing" "$kmm" run --library="$lib" ./noloader
printf '#!%s/static\n' "$PWD" >static-script && chmod +x static-script
refuse 126 "static is statically linked" "$kmm" run --library="$lib" ./static-script

$CC -o plain plain.c
check 0 "" "$kmm" run --library="$lib" ./plain
: >notexec
refuse 126 "not an executable file" "$kmm" run --library="$lib" ./notexec
refuse 126 "not an executable file" "$kmm" run --library="$lib" /
# Bytes 4 and 18 of an ELF file: its class, its machine. 40 is Arm, 62 x86-64; 1 is 32 bits.
cp plain other && printf '\050' | dd of=other bs=1 seek=18 conv=notrunc 2>/dev/null
refuse 126 "is for another machine (ELF machine 40" "$kmm" run --library="$lib" ./other
cp plain bits && printf '\001' | dd of=bits bs=1 seek=4 conv=notrunc 2>/dev/null
refuse 126 "is a 32-bit program" "$kmm" run --library="$lib" ./bits
head -c 40 plain >cut && chmod +x cut
refuse 126 "Exec format error" "$kmm" run --library="$lib" ./cut

# Privileges: only where this user may give them away, and where the file system honours them.
if [ "$(id -u)" = 0 ] && ! findmnt -no OPTIONS -T . 2>/dev/null | grep -q nosuid; then
	cp plain suid && chown 65534 suid && chmod 4755 suid
	refuse 126 "is set-user-ID: the loader ignores LD_PRELOAD" "$kmm" run --library="$lib" ./suid
	cp plain sgid && chgrp 65534 sgid && chmod 2755 sgid
	refuse 126 "is set-group-ID: the loader ignores LD_PRELOAD" "$kmm" run --library="$lib" ./sgid
	chown 0 suid && chmod 4755 suid
	check 0 "" "$kmm" run --library="$lib" ./suid
fi

# ---- there is no such program: 127 ----

refuse 127 "no-such-program: not found in PATH" "$kmm" run --library="$lib" no-such-program
refuse 127 "No such file" "$kmm" run --library="$lib" ./no-such-program
printf '#!/nowhere/perl\n' >lost && chmod +x lost
refuse 127 "its interpreter /nowhere/perl is not found" "$kmm" run --library="$lib" ./lost

# ---- the rest of the tool ----

check 0 "Usage: kmm" "$kmm" --help
check 0 "Usage: kmm run" "$kmm" run --help
check 0 "Usage: kmm params" "$kmm" params --help
check 0 "kmm (libkmm) " "$kmm" --version
check 0 "KMM_DECAY_MS" "$kmm" params
check 0 '| `KMM_PERCPU` | `auto\|rseq\|lock` | auto |' "$kmm" params --format=markdown
check 0 '.BR KMM_DECAY_MS' "$kmm" params --format=man
check 0 '"default": "150"' "$kmm" params --format=json
refuse 2 "accepted is text|markdown|man|json" "$kmm" params --format=xml
refuse 2 "unknown argument" "$kmm" params extra
[ ! -w /dev/full ] || {
	rc=0
	"$kmm" params >/dev/full 2>out || rc=$?
	[ $rc = 125 ] || { echo "kmm params >/dev/full: exit status $rc"; failed=1; }
}

[ $failed = 0 ] || exit 1
echo "$nr cases"
