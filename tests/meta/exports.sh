# SPDX-License-Identifier: MIT
# The library exports what lib/libkmm.map promises, unversioned, and needs libc alone.
exec "$PYTHON3" "$top_srcdir/tools/check-exports" "$LIBKMM" "$top_srcdir/lib/libkmm.map" "$top_srcdir/include/kmm/kmm.h"
