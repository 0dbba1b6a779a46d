#!/bin/sh
# Compiles the eBPF programs with the Swift toolchain's clang and makes the skeleton headers that are committed. Where one that is committed and what it
# would be now differ, `--check` says so and ends with 1. Same toolchain, same libbpf headers and bpftool (Debian 12), same bytes: no path goes into them.
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
status=0

# make DIRECTORY SOURCE NAME HEADER: the name is that of the struct in the skeleton.
make() {
  (cd "$1" && "$clang" -O2 -g -target bpf -mcpu=v2 -Wall -Wextra -Werror -fdebug-compilation-dir=. -c "$2" -o "$work/compiled.o")
  # Linked by itself: drops what only a debugger reads.
  bpftool gen object "$work/$3.o" "$work/compiled.o"
  bpftool gen skeleton "$work/$3.o" name "$3" > "$work/$4"
  if [ "${check:-}" ]; then
    cmp -s "$work/$4" "$1/$4" || {
      echo "CShims/$1/$4 is not what $2 makes: run make probe, and commit it"
      status=1
    }
  else
    mv "$work/$4" "$1/$4"
  fi
}

[ "${1:-}" = --check ] && check=yes
make CKernelProbe racetrack.bpf.c racetrack_probe racetrack.skel.h
make CConntrack ring.bpf.c conntrack_ring_programs ring.skel.h
exit "$status"
