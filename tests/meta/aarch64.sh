# SPDX-License-Identifier: MIT
# timeout: 600
# The library builds for aarch64 without a warning and serves a program there (qemu-user: no rseq, so the lock mode).
set -eu
host=aarch64-linux-gnu
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || { echo "no qemu-aarch64"; exit 77; }
command -v $host-gcc >/dev/null || { echo "no $host-gcc"; exit 77; }

# A copy of the sources: a tree that is configured already cannot be configured from elsewhere.
make -s -C "$top_builddir" distdir distdir="$TMPDIR/build" >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log"; exit 1; }
cd "$TMPDIR/build"
./configure --host=$host --disable-tools --without-criterion --without-hwloc --without-urcu --enable-werror \
	CC=$host-gcc >"$TMPDIR/log" 2>&1 || { tail -n 20 "$TMPDIR/log"; exit 1; }
make -s -j2 lib/libkmm.la >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log"; exit 1; }
lib=$TMPDIR/build/lib/.libs/libkmm.so
# vfork is libc's own here: it needs care only where there are rseq sections.
"$PYTHON3" "$top_srcdir/tools/check-exports" "$lib" "$top_srcdir/lib/libkmm.map" "$top_srcdir/include/kmm/kmm.h" vfork
for program in interposed; do
	$host-gcc -std=gnu11 -D_GNU_SOURCE -O2 -fno-builtin -pthread -I"$top_srcdir/include" \
		-o "$program" "$top_srcdir/tests/preload/$program.c" -ldl
	timeout 120 "$qemu" -L /usr/$host -E LD_PRELOAD="$lib" "./$program"
	echo "$program: passed under qemu"
done
