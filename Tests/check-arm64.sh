#!/usr/bin/env bash
# Compiles every C source for arm64, with the Swift toolchain's clang and Debian's headers of that architecture's C library: nothing of it may be x86's alone.
# No machine of it is needed, and nothing is linked. The libraries' headers are this machine's; they are the same on every architecture.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
headers=/usr/aarch64-linux-gnu/include
[ "$(uname -m)" = aarch64 ] && exit 0
[ -d "$headers" ] || { echo "no $headers: install libc6-dev-arm64-cross"; exit 1; }
clang=${CLANG:-$(dirname "$(readlink -f "$(command -v swift)")")/clang}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
includes=$(find CShims Tests -type d -name include | sed 's/^/-I/')
# shellcheck disable=SC2086
compile() {
  "$clang" --target=aarch64-linux-gnu -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -isystem "$headers" -idirafter /usr/include \
    $includes -I "$(dirname "$1")" -c "$1" -o "$work/$(echo "$1" | tr / _).o"
}
status=0
while read -r source; do compile "$source" || status=1; done < <(find CShims Tests -name '*.c' ! -name '*.bpf.c' ! -path '*/resolvers/*')
# That it was compiled for arm64: EM_AARCH64 is 183.
for object in "$work"/*.o; do
  [ "$(od -An -tu2 -j18 -N2 "$object" | tr -d ' ')" = 183 ] || { echo "$object is not for arm64"; status=1; }
done
exit "$status"
