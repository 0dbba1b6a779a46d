#!/bin/busybox sh
# The first program in a kernel whose 9p is a module: finds the host's root and goes over to it.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module" || /bin/busybox echo "no $module"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose host /host
/bin/busybox mount --move /dev /host/dev
script=$(/bin/busybox sed -n 's/.*vm\.script=\([^ ]*\).*/\1/p' /proc/cmdline)
/bin/busybox umount /proc
exec /bin/busybox switch_root /host "$script"
