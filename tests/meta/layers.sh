# SPDX-License-Identifier: MIT
# A layer includes and calls only itself and lower ones; system calls are made in lib/os/ alone.
exec "$PYTHON3" "$top_srcdir/tools/check-layers" "$top_srcdir" "$top_builddir"
