#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# node: worker threads that hash, compress and pass buffers; V8 compiles in its background threads meanwhile.
. "$(dirname "$0")/lib.sh"
need node
same workers node "$here/workers.js" $(long && echo 200 || echo 30)
finish
