#!/usr/bin/env bash
# Builds Linux 6.1 with UDP clash resolution switched off, as kernels before 4.19 were with address translation: the second of two clashing packets is
# dropped. From Debian's linux-source-6.1, about 7 minutes on two cores and 2 GB of disk while it runs.
#   build-classic.sh OUTPUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
need=()
for package in flex bison bc libelf-dev libssl-dev dwarves xz-utils make gcc; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || need+=("$package")
done
if [ ${#need[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download linux-source-6.1
dpkg-deb --fsys-tarfile linux-source-6.1_*.deb | tar -xO ./usr/src/linux-source-6.1.tar.xz | tar -xJ
cd linux-source-6.1
[ "$(grep -c 'allow_clash.*= true' net/netfilter/nf_conntrack_proto_udp.c)" -eq 2 ]
sed -i 's/\(allow_clash.*= \)true/\1false/' net/netfilter/nf_conntrack_proto_udp.c
make -s tinyconfig
scripts/kconfig/merge_config.sh -m .config "$here/classic.config" >/dev/null
make -s olddefconfig
make -s -j"$(nproc)" bzImage
cp arch/x86/boot/bzImage "$output"
