#!/usr/bin/env bash
# Runs a command in a kernel under qemu, by software emulation, two CPUs, with this machine's own root read-only.
#   boot.sh KERNEL SECONDS FOLDER [ARGUMENT...]
# KERNEL is ready (kernel.sh). FOLDER holds the script `run`; the guest sees it as /run/out and may write there. Ends with the script's status, or with
# 124 when it did not end within SECONDS. The ARGUMENTs go on the kernel's command line; vm.bare: no module is loaded but those of the network's devices.
set -euo pipefail
cd "$(dirname "$0")/../.."
kernel=$PWD/.build/kernels/$1
script=$PWD/Tests/VM/guest.sh
shared=$3
arguments="console=ttyS0 panic=-1 quiet vm.kernel=$kernel vm.script=$script ${*:4}"
options=()
if [ -e "$kernel/initrd" ]; then
  options=(-initrd "$kernel/initrd")
else
  arguments+=" root=host rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose ro init=$script"
fi
rm -f "$shared/status"
# Two emulated processors race only while both have a real one.
timeout -k 5 "$2" nice -n -10 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -display none -monitor none -serial "file:$shared/console" -no-reboot -net none \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
  -virtfs local,path="$shared",mount_tag=out,security_model=none,multidevs=remap \
  -kernel "$kernel/vmlinuz" "${options[@]}" -append "$arguments" </dev/null || exit 124
[ -e "$shared/status" ] || exit 125
exit "$(cat "$shared/status")"
