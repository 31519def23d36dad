#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# A multi-threaded Python program: objects made by one thread are freed by another, C extensions run in parallel.
. "$(dirname "$0")/lib.sh"
need $python
same threads $python "$here/threads.py" $(long && echo 300 || echo 40)
PYTHONMALLOC=malloc same malloc $python "$here/threads.py" $(long && echo 300 || echo 40)
finish
