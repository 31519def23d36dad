# SPDX-License-Identifier: MIT
# Files and fast paths stay small.
exec "$PYTHON3" "$top_srcdir/tools/check-size" "$top_srcdir" "$LIBKMM"
