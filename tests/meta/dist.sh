# SPDX-License-Identifier: MIT
# timeout: 300
# Every tracked file is in the source package, and every source file of the library is in Makefile.am.
git -C "$top_srcdir" rev-parse --show-cdup >/dev/null 2>&1 || { echo "not a git checkout"; exit 77; }
[ -z "$(git -C "$top_srcdir" rev-parse --show-prefix)" ] || { echo "not a git checkout"; exit 77; }

make -s -C "$top_builddir" distdir distdir="$TMPDIR/dist" >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log"; exit 1; }
git -C "$top_srcdir" ls-files | grep -v '^\.gitignore$' | sort >"$TMPDIR/tracked"
(cd "$TMPDIR/dist" && find . -type f | sed 's,^\./,,' | sort) >"$TMPDIR/packed"
missing=$(comm -23 "$TMPDIR/tracked" "$TMPDIR/packed")
[ -z "$missing" ] || { echo "tracked, but not in the source package (Makefile.am does not name them):"; echo "$missing"; exit 1; }
echo "all $(wc -l <"$TMPDIR/tracked") tracked files are in the source package"
