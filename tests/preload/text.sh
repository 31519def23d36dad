#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# sort (threads), find, awk, sed, grep, bash, openssl: the small tools that a system runs all day.
. "$(dirname "$0")/lib.sh"
need sort find awk sed grep bash
lines=$(long && echo 3000000 || echo 300000)

sorting() {
	awk -v n="$lines" 'BEGIN { srand(9); for (i = 0; i < n; i++) printf "%d %x word%d\n", rand() * 1e6, rand() * 1e9, i % 977 }' >in
	sort --parallel=4 -S 8M -k1,1n -k2 in | sha256sum
	sort -u -k3,3 in | sha256sum
	sort -R --random-source=in in | sha256sum
	join -1 3 -2 3 <(sort -k3,3 in | head -2000) <(sort -r -k3,3 in | head -2000 | sort -k3,3) | sha256sum
	awk '{ n[$3] += $1; s = s substr($2, 1, 1) } END { for (k in n) print k, n[k]; print length(s) }' in | sort | sha256sum
	sed -E 's/([0-9a-f])([0-9a-f])/\2\1/g; /word1.*0$/d' in | sha256sum
	grep -c -E '(a|b)+[0-9]{2,}.*word(1|22|3+)$' in
}
same sort sorting

finding() {
	find /usr/include -name '*.h' -size -200k -newermt 1990-01-01 -printf '%s %P\n' | sort | sha256sum
	find /usr/share -type f -print0 2>/dev/null | xargs -0 -P 4 -n 400 ls -ld >/dev/null 2>&1
	echo done
}
same find finding

shell_script='
declare -A count
for i in {1..30000}; do k=$((i * 7919 % 1999)); count[$k]+=x; done
total=0
for k in "${!count[@]}"; do total=$((total + ${#count[$k]} * k)); done
echo $total ${#count[@]}
text=$(printf "%s " {1..20000}); text=${text//9/nine}; echo ${#text}
f() { local n=$1; ((n < 2)) && echo $n || echo $(($(f $((n - 1))) + $(f $((n - 2))))); }
f 9
for i in {1..150}; do (exit 0) & done; wait; echo $?
mapfile -t a < <(seq 20000); echo "${a[*]: -3}"'
same bash bash -c "$shell_script"

if command -v openssl >/dev/null; then
	crypt() {
		head -c 20000000 /dev/zero | openssl enc -aes-256-cbc -K 00 -iv 00 2>/dev/null | openssl dgst -sha512
		openssl genpkey -algorithm ED25519 -out key && openssl pkey -in key -pubout -out pub && echo hello >msg &&
			openssl pkeyutl -sign -rawin -inkey key -in msg -out sig &&
			openssl pkeyutl -verify -rawin -pubin -inkey pub -in msg -sigfile sig
	}
	same openssl crypt
fi
finish
