#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# perl: hashes, regular expressions, sorting, closures, fork and, where perl has them, interpreter threads.
. "$(dirname "$0")/lib.sh"
need perl
export PERL_HASH_SEED=0
same hashes perl "$here/hashes.pl" $(long && echo 20 || echo 2)
finish
