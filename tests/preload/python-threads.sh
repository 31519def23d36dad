#!/bin/bash
# SPDX-License-Identifier: MIT
# A multi-threaded Python program: objects made by one thread are freed by another, C extensions run in parallel.
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3
need $python
same threads $python "$here/threads.py" $(long && echo 300 || echo 40)
PYTHONMALLOC=malloc same malloc $python "$here/threads.py" $(long && echo 300 || echo 40)
finish
