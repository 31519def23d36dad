#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# The C++ compiler on a file full of templates, and the program that it makes.
. "$(dirname "$0")/lib.sh"
need g++
build() {
	g++ -std=c++17 -O1 "$here/templates.cc" -c -o templates.o && sha256sum templates.o &&
		g++ templates.o -o templates -pthread && ./templates
}
same templates build
finish
