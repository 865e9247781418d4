#!/bin/sh
# Unpacks Debian's valgrind: DIRECTORY/valgrind, and what it loads beside it.
# Usage: valgrind.sh DIRECTORY
set -eu

to=${1%/}
. "$(dirname "$0")/../servers/debian.sh"
begin "$to" valgrind
unpack "$work/root" valgrind
mkdir "$work/kept"
# What Debian calls `valgrind` is a script that looks for the libraries of debuggers; this is the program.
cp "$work/root/usr/bin/valgrind.bin" "$work/kept/valgrind"
find "$work/root/usr" -path '*valgrind/*' \( -name 'callgrind-*' -o -name 'vgpreload_core-*' -o -name '*.supp' \) -exec cp {} "$work/kept/" \;
rm -rf "$to"
mv "$work/kept" "$to"
rm -rf "$work"
