#!/bin/sh
# Unpacks Debian's BIND and dnsmasq with the libraries they load into one directory: no root, nothing is installed.
# Usage: unpack.sh DIRECTORY
set -eu

to=$1
command -v ldd >/dev/null || { echo "ldd is missing" >&2; exit 1; }
. "$(dirname "$0")/../debian.sh"
begin "$to" bind9 dnsmasq-base

# The C library is the machine's own.
depends() {
  apt-cache $apt depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@"
}
named=$(depends bind9 | sed -n 's/^ *|\{0,1\}Depends: \(lib[^ ]*\)$/\1/p' | grep -v -x -E 'libc6|libelogind0')
libraries=$(depends --recurse $named bind9-libs dnsmasq-base | grep -x 'lib[^ ]*' | grep -v -x -E 'libc6|libgcc-s1')
wanted=$(printf '%s\n' bind9 bind9-libs dnsmasq-base $libraries | sort -u)
unpack "$work/root" $wanted

# Only what the two programs load is kept.
mkdir -p "$work/kept/lib"
cp "$work/root/usr/sbin/named" "$work/root/usr/sbin/dnsmasq" "$work/kept/"
unpacked=$(find "$work/root" -name '*.so*' -exec dirname {} + | sort -u | paste -sd:)
for program in named dnsmasq; do
  LD_LIBRARY_PATH=$unpacked ldd "$work/kept/$program" >"$work/loads"
  if grep 'not found' "$work/loads" >&2; then echo "$program lacks the libraries above" >&2; exit 1; fi
  sed -n "s|.*=> \($work/root[^ ]*\) .*|\1|p" "$work/loads" | while read -r library; do
    cp -L "$library" "$work/kept/lib/$(basename "$library")"
  done
done
rm -rf "$to"
mv "$work/kept" "$to"
rm -rf "$work"
