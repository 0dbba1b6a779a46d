#!/usr/bin/env bash
# Makes a kernel ready to boot, in .build/kernels/NAME: vmlinuz, and for Debian's own kernels an initrd and root/lib/modules.
#   kernel.sh classic|6.1|6.12
# classic: Linux 6.1 with UDP clash resolution switched off, taken from the folder RACETRACK_KERNELS or built. The others are Debian's packages, standard
# flavour, fetched with apt-get download. What is there is not made again. Ends with 3 and a reason if this machine cannot have the kernel. RACETRACK_KERNELS_BUILD=no: nothing is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=Tests/VM
name=${1:?"kernel.sh classic|6.1|6.12"}
into=.build/kernels/$name
cannot() {
  echo "$name: $1" >&2
  exit 3
}

classic() {
  if [ -n "${RACETRACK_KERNELS:-}" ] && [ -r "$RACETRACK_KERNELS/bzImage-classic" ]; then
    cp "$RACETRACK_KERNELS/bzImage-classic" "$into/vmlinuz.new"
  elif [ "${RACETRACK_KERNELS_BUILD:-yes}" = no ]; then
    cannot "it is not in the folder RACETRACK_KERNELS, and is not built in a quick run"
  else
    $here/build-classic.sh "$into/vmlinuz.new" || cannot "it is not in RACETRACK_KERNELS and could not be built from Debian's linux-source-6.1"
  fi
  mv "$into/vmlinuz.new" "$into/vmlinuz"
}

# The modules that find the host's root, in the order in which they must be loaded; after that everything comes from there.
initrd() {
  local root=$into/root version=$1 tree=$into/tree
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,modules,proc,dev,host}
  cp /bin/busybox "$tree/bin/busybox"
  cp $here/initrd-init.sh "$tree/init"
  local number=100
  modprobe -d "$root" -S "$version" --show-depends virtio_pci >"$into/order"
  modprobe -d "$root" -S "$version" --show-depends 9pnet_virtio >>"$into/order"
  modprobe -d "$root" -S "$version" --show-depends 9p >>"$into/order"
  awk '$1 == "insmod" && !seen[$2]++ { print $2 }' "$into/order" | while read -r module; do
    number=$((number + 1))
    local plain=$tree/modules/$number-$(basename "${module%.xz}")
    case $module in
      *.xz) xz -dc "$module" >"$plain" ;;
      *) cp "$module" "$plain" ;;
    esac
  done
  (cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$into/initrd"
  rm -rf "$tree" "$into/order"
}

# $1: what the package's name must match.
packaged() {
  local package
  package=$(apt-cache pkgnames linux-image- | grep -E "^linux-image-$1-amd64\$" | sort -V | tail -1)
  if [ -z "$package" ]; then
    apt-get update -qq || true
    package=$(apt-cache pkgnames linux-image- | grep -E "^linux-image-$1-amd64\$" | sort -V | tail -1)
  fi
  [ -n "$package" ] || cannot "no package linux-image-$1-amd64 in apt's sources"
  (cd "$into" && apt-get -qq -o APT::Sandbox::User=root download "$package") || cannot "apt-get download $package failed"
  rm -rf "$into/root"
  mkdir -p "$into/root"
  dpkg-deb --fsys-tarfile "$into"/linux-image-*.deb | tar -x -C "$into/root" --wildcards './boot/vmlinuz-*' './lib/modules/*/modules.*' \
    './lib/modules/*/kernel/net/*' './lib/modules/*/kernel/fs/9p/*' './lib/modules/*/kernel/fs/netfs/*' './lib/modules/*/kernel/fs/fscache/*' \
    './lib/modules/*/kernel/drivers/virtio/*' './lib/modules/*/kernel/drivers/net/*.ko*' './lib/modules/*/kernel/drivers/net/vxlan*' \
    './lib/modules/*/kernel/lib/*' './lib/modules/*/kernel/crypto/*' './lib/modules/*/kernel/arch/x86/crypto/*' 2>/dev/null || true
  rm -f "$into"/linux-image-*.deb
  local version
  version=$(basename "$into"/root/lib/modules/*)
  depmod -b "$into/root" "$version"
  initrd "$version"
  mv "$into/root/boot/vmlinuz-$version" "$into/vmlinuz"
  rm -rf "$into/root/boot"
}

[ "$(uname -m)" = x86_64 ] || cannot "these kernels are built for x86_64 only, this machine is $(uname -m)"
mkdir -p "$into"
[ -e "$into/vmlinuz" ] && exit 0
case $name in
  classic) classic ;;
  6.1) packaged '6\.1\.0-[0-9]+' ;;
  6.12) packaged '6\.12\.[0-9]+\+deb1[0-9]' ;;
  *) cannot "no such kernel: classic, 6.1 or 6.12" ;;
esac
