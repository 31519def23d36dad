# SPDX-License-Identifier: MIT
# timeout: 180
# What `make install` leaves in a prefix works: by absolute path, as LD_PRELOAD=libkmm.so once ldconfig has seen it, and
# through pkg-config.
set -eu
prefix=$TMPDIR/prefix
cd "$top_builddir"
make -s install prefix="$prefix" >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log"; exit 1; }
lib=$prefix/lib/libkmm.so
[ -L "$lib" ] || { echo "$lib is not a link to a versioned library"; exit 1; }
soname=$(readelf -d "$lib" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libkmm.so.0 ] || { echo "soname is $soname"; exit 1; }
[ -e "$prefix/lib/$soname" ] && [ -e "$prefix/include/kmm/kmm.h" ]

# Tells which file serves malloc.
cat >"$TMPDIR/who.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
	Dl_info info;

	puts(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) ? info.dli_fname : "?");
	return 0;
}
C
$CC -o "$TMPDIR/who" "$TMPDIR/who.c" -ldl
expect() {
	[ "$2" = "$3" ] || { echo "$1: malloc is served by $2, not by $3"; exit 1; }
	echo "$1: malloc is served by $2" | sed "s,$TMPDIR,TMPDIR,g"
}
expect 'absolute path' "$(LD_PRELOAD=$lib "$TMPDIR/who")" "$lib"

# ldconfig keeps one cache for the machine. Ours is a file of our own, mounted over it in a namespace of our own.
echo "$prefix/lib" >"$TMPDIR/ld.so.conf"
cat /etc/ld.so.conf >>"$TMPDIR/ld.so.conf" 2>/dev/null || :
ldconfig=$(PATH=$PATH:/sbin:/usr/sbin command -v ldconfig)
"$ldconfig" -X -C "$TMPDIR/ld.so.cache" -f "$TMPDIR/ld.so.conf"
if [ "$(id -u)" = 0 ]; then user=; else user=-r; fi
if unshare $user -m true 2>/dev/null; then
	got=$(unshare $user -m sh -c 'mount --bind "$TMPDIR/ld.so.cache" /etc/ld.so.cache && LD_PRELOAD=libkmm.so "$TMPDIR/who"')
	expect 'name alone' "$got" "$lib"
elif [ "$(id -u)" = 0 ] && [ -d /etc/ld.so.conf.d ]; then
	# No namespaces here: enter the prefix into the machine's own cache, and take it out again whatever happens.
	conf=/etc/ld.so.conf.d/libkmm-test-$$.conf
	trap 'rm -f "$conf"; "$ldconfig"' EXIT
	trap 'exit 1' HUP INT TERM
	echo "$prefix/lib" >"$conf"
	"$ldconfig"
	expect 'name alone' "$(LD_PRELOAD=libkmm.so "$TMPDIR/who")" "$lib"
else
	echo "name alone: not tried, this needs namespaces or root"
fi

pkg_config() {
	PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --define-variable=prefix="$prefix" "$@" kmm
}
[ "$(pkg_config --variable=preload)" = "$lib" ] || { echo "pkg-config: preload is $(pkg_config --variable=preload)"; exit 1; }
cat >"$TMPDIR/user.c" <<'C'
#include <kmm/kmm.h>
#include <stdlib.h>
int main(void)
{
	void *p = malloc(1);

	free(p);
	return p == NULL;
}
C
$CC -o "$TMPDIR/user" "$TMPDIR/user.c" $(pkg_config --cflags --libs)
LD_LIBRARY_PATH=$prefix/lib "$TMPDIR/user"

make -s uninstall prefix="$prefix" >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log"; exit 1; }
left=$(find "$prefix" ! -type d)
[ -z "$left" ] || { echo "make uninstall leaves:"; echo "$left"; exit 1; }
