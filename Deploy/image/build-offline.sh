#!/usr/bin/env bash
# Builds the image where no registry can be reached: the base is made from Debian's packages, and the stage `build` is the directory that holds the
# binary that `make build` made. Everything else is Deploy/Dockerfile as it stands. Ends with .build/image/racetrack.tar, an OCI archive.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/.build/image
binary=$PWD/.build/racetrack
[ -x "$binary" ] || { echo "no $binary: run \`make build\` first" >&2; exit 2; }
mkdir -p "$out"
work=$(mktemp -d "$out/build.XXXXXX")
storage=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
trap 'rm -rf "$work"' EXIT

# As debian:bookworm-slim: essential packages and apt, without documentation and translations.
mmdebstrap --variant=minbase --quiet --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "5"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/base.tar"
printf 'FROM scratch\nADD base.tar /\n' >"$work/Dockerfile"
buildah "${storage[@]}" build --quiet --isolation=chroot --tag localhost/base "$work" >/dev/null

install -D -m 0755 "$binary" "$work/binary/racetrack"
version=$("$binary" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+[^ ]*' | head -n 1)
buildah "${storage[@]}" build --quiet --isolation=chroot --network=host --squash --build-context "build=$work/binary" \
  --build-arg BASE=localhost/base --build-arg BUILDER=localhost/not-used \
  --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  --tag localhost/racetrack --file Deploy/Dockerfile . >/dev/null
rm -f "$out/racetrack.tar"
buildah "${storage[@]}" push --quiet localhost/racetrack "oci-archive:$out/racetrack.tar:racetrack:$version"
base=$(buildah "${storage[@]}" images --format '{{.Size}}' localhost/base)
full=$(buildah "${storage[@]}" images --format '{{.Size}}' localhost/racetrack)
echo "image: $full unpacked ($base of it the base), $(($(stat -c %s "$out/racetrack.tar") / 1000000)) MB as an archive: .build/image/racetrack.tar"
