#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# The C compiler compiles this project's own sources; the object code must not depend on the allocator.
. "$(dirname "$0")/lib.sh"
need gcc
build=$PWD
sources=$(cd "$top" && find lib bench -name '*.c' | grep -v -E '/(aarch64|generic)/' | sort)
[ -n "$sources" ] || { fail "no sources found"; finish; }
long || sources=$(echo "$sources" | head -40)

compile() {
	local list
	printf '%s\n' $sources | xargs -P 2 -I{} sh -c '
		gcc -std=gnu11 -D_GNU_SOURCE -DHAVE_CONFIG_H -O2 -I"$1/include" -I"$2" -I"$2/include" -I"$2/lib" -c "$1/$3" \
			-o "$(echo "$3" | tr / _).o" 2>>errors || { echo "cannot compile $3"; exit 1; }' sh "$top" "$build" {} ||
		{ head -5 errors >&2; return 1; }
	sha256sum ./*.o
}
same objects compile
finish
