#!/bin/sh
# Compiles racetrack.bpf.c with the Swift toolchain's clang and makes the skeleton header that is committed. Where it is committed and what it would be
# now differ, `--check` says so and ends with 1. Same toolchain, same libbpf headers and bpftool (Debian 12), same bytes: no path goes into them.
set -eu
cd "$(dirname "$0")"
clang=${CLANG:-}
if [ -z "$clang" ]; then
  swift=$(readlink -f "$(command -v swift)")
  clang=$(dirname "$swift")/clang
fi
PATH=$PATH:/usr/sbin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$clang" -O2 -g -target bpf -mcpu=v2 -Wall -Wextra -Werror -fdebug-compilation-dir=. -c racetrack.bpf.c -o "$work/compiled.o"
# Linked by itself: drops what only a debugger reads.
bpftool gen object "$work/racetrack_probe.o" "$work/compiled.o"
bpftool gen skeleton "$work/racetrack_probe.o" name racetrack_probe > "$work/racetrack.skel.h"
if [ "${1:-}" = --check ]; then
  cmp -s "$work/racetrack.skel.h" racetrack.skel.h && exit 0
  echo "CShims/CKernelProbe/racetrack.skel.h is not what racetrack.bpf.c makes: run make probe, and commit it"
  exit 1
fi
mv "$work/racetrack.skel.h" racetrack.skel.h
