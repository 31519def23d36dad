# SPDX-License-Identifier: MIT
# The table of settings in the README and in the man page is the one of include/base/tunables.def; the man pages are clean.
set -eu
cd "$top_srcdir"
tools/gen-doc --check "$LIBKMM_TOOL" README.md man/libkmm.7

# And the check would notice: a changed copy is refused.
sed 's/params:begin -->/&\n| `KMM_GONE` | `0` | 0 | an old setting |/' README.md >"$TMPDIR/README.md"
if tools/gen-doc --check "$LIBKMM_TOOL" "$TMPDIR/README.md" 2>/dev/null; then
	echo "gen-doc --check does not see a change"
	exit 1
fi

# Every sub-command and format is in kmm(1).
for word in 'kmm run' 'kmm params' 'kmm memcg' markdown json bytes; do
	grep -q "$word" man/kmm.1 || { echo "man/kmm.1 does not speak of $word"; exit 1; }
done
if command -v groff >/dev/null; then
	for page in man/kmm.1 man/libkmm.7; do
		groff -man -Tutf8 -ww -z "$page" 2>"$TMPDIR/groff" && [ ! -s "$TMPDIR/groff" ] || { cat "$TMPDIR/groff"; exit 1; }
	done
fi
echo "README.md and man pages show the settings as they are"
