#!/bin/sh
# The first program on the host's root, which is read-only: mounts what a test needs, loads modules, runs the script `run` of the shared folder, ends.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LANG=C.UTF-8
# What sets the wall clock may do so here.
export RACETRACK_GUEST=yes
mount -t proc proc /proc
mount -t sysfs sys /sys
grep -q ' /dev devtmpfs' /proc/mounts || mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock /run/tmp /run/out
export TMPDIR=/run/tmp
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /run/out
kernel=$(sed -n 's/.*vm\.kernel=\([^ ]*\).*/\1/p' /proc/cmdline)
# The kernel looks for modules in the root that it has, and there are none: each is loaded by name.
if [ -d "$kernel/root" ]; then
  modules="veth dummy"
  grep -q vm.bare /proc/cmdline || modules="$modules nf_conntrack nf_conntrack_netlink xt_tcpudp iptable_nat iptable_filter iptable_raw ip6table_nat
    xt_statistic xt_MASQUERADE xt_nat xt_CT xt_NFQUEUE xt_comment xt_conntrack nf_tables nft_compat nft_numgen nft_ct nft_nat nft_masq nft_chain_nat
    nft_queue nfnetlink_queue bridge br_netfilter ip_vs ip_vs_rr"
  for module in $modules; do
    modprobe -d "$kernel/root" "$module" || echo "no module $module"
  done
fi
ip link set lo up
sh /run/out/run >/run/out/output 2>&1
echo "$?" >/run/out/status
sync
busybox poweroff -f
