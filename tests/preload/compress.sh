#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# tar with gzip, xz (threads), zstd and bzip2: the archives must be the same byte for byte and unpack again.
. "$(dirname "$0")/lib.sh"
need tar gzip xz
mkdir "$tmp/tree"
awk -v dir="$tmp/tree" -v n="$(long && echo 400 || echo 60)" 'BEGIN {
	srand(3)
	for (f = 0; f < n; f++)
		for (l = 0; l < 2500; l++)
			printf "%d %s %d\n", l, (l % 3 ? "the same words" : "others"), int(rand() * 1000) >(dir "/file" f)
}'
pack() {
	tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -C "$tmp" -cf tree.tar tree || return 1
	gzip -n -k -6 tree.tar && xz -k -T4 -3 --block-size=512KiB tree.tar || return 1
	if command -v zstd >/dev/null; then zstd -q -k -T2 -6 tree.tar || return 1; fi
	if command -v bzip2 >/dev/null; then bzip2 -k tree.tar || return 1; fi
	sha256sum tree.tar.*
	xz -t -T2 tree.tar.xz && gzip -t tree.tar.gz && mkdir out && tar -C out -xJf tree.tar.xz || return 1
	cat out/tree/* | sha256sum
}
same archives pack
finish
