#!/usr/bin/env bash
# Runs the image that build-offline.sh made, in a network namespace of its own: what it is made of, the self-test, and the agent as the manifest runs
# it (root file system read-only, the host's /proc mounted read-only) with one scrape. Needs root and the capabilities that the parts name.
set -euo pipefail
cd "$(dirname "$0")/../.."
archive=$PWD/.build/image/racetrack.tar
[ -f "$archive" ] || { echo "no $archive: run Deploy/image/build-offline.sh first" >&2; exit 2; }
work=$(mktemp -d "$PWD/.build/image/test.XXXXXX")
storage=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
node=racetrack-image-$$
agent=
clean() {
  [ -z "$agent" ] || kill -KILL "$agent" 2>/dev/null || true
  ip netns del "$node" 2>/dev/null || true
  buildah "${storage[@]}" umount --all >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT
fail() { echo "image: $1" >&2; [ -z "${2:-}" ] || cat "$2" >&2; exit 1; }

container=$(buildah "${storage[@]}" from --quiet "oci-archive:$archive")
root=$(buildah "${storage[@]}" mount "$container")

# What it is made of.
entry=$(buildah "${storage[@]}" inspect --format '{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}} {{.OCIv1.Config.User}}' "$container")
[ "$entry" = "[/usr/bin/racetrack] [agent] 0:0" ] || fail "starts as $entry"
for label in title description licenses documentation version; do
  value=$(buildah "${storage[@]}" inspect --format "{{index .OCIv1.Config.Labels \"org.opencontainers.image.$label\"}}" "$container")
  case $value in '' | unknown) fail "label $label is '$value'" ;; esac
done
writable=$(find "$root" -xdev -perm -0002 \( -type f -o -type d ! -perm -1000 \))
[ -z "$writable" ] || fail "writable by everyone: $writable"
missing=$(chroot "$root" ldd /usr/bin/racetrack | grep 'not found' || true)
[ -z "$missing" ] || fail "libraries missing: $missing"
for gone in usr/bin/swift usr/bin/gcc usr/bin/make src; do
  [ ! -e "$root/$gone" ] || fail "/$gone came along from the stage that builds"
done

ip netns add "$node"
ip -n "$node" link set lo up

# The self-test makes namespaces (CAP_SYS_ADMIN), links, rules and conntrack sockets (CAP_NET_ADMIN) and packet sockets (CAP_NET_RAW).
ip netns exec "$node" buildah "${storage[@]}" run --isolation=chroot --network=host --cap-add=CAP_NET_ADMIN,CAP_NET_RAW,CAP_SYS_ADMIN \
  "$container" -- /usr/bin/racetrack selftest --quick >"$work/selftest" 2>&1 || fail "selftest ended with $?" "$work/selftest"
tail -n 1 "$work/selftest"

scrape() { ip netns exec "$node" curl -sS --max-time 5 --fail-with-body "http://127.0.0.1:10553$1"; }

# Starts the agent with the capabilities $1, waits for it, and leaves its page in $work/page. The environment is the manifest's; records go to standard
# output. /sys is there as runtimes mount it, and no process of the image can write to it.
start_agent() {
  # shellcheck disable=SC2016
  RACETRACK_NODE_NAME=image-test RACETRACK_PATH_PROCFS=/host/proc \
    ip netns exec "$node" unshare --mount --propagation private bash -euc '
      mount --bind "$1" "$1"
      mount -t proc -o nosuid,nodev,noexec proc "$1/proc"
      mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$1/sys"
      mount --bind /proc "$1/host/proc"
      mount -o remount,bind,ro "$1/host/proc"
      mount -o remount,bind,ro "$1"
      ! touch "$1/tmp/x" 2>/dev/null
      exec chroot "$1" setpriv --bounding-set="-all,$2" --inh-caps=-all /usr/bin/racetrack agent' _ "$root" "$1" \
    >"$work/records" 2>"$work/log" &
  agent=$!
  for ((try = 0; try < 100; try++)); do
    kill -0 "$agent" 2>/dev/null || fail "the agent ended" "$work/log"
    scrape /-/ready >/dev/null 2>&1 && break
    sleep 0.1
  done
  scrape /-/ready >/dev/null || fail "not ready after 10 s" "$work/log"
  scrape /-/healthy >/dev/null || fail "not healthy" "$work/log"
  scrape /metrics >"$work/page" || fail "no metrics" "$work/log"
  for line in 'racetrack_source_up{source="conntrack"} 1' 'racetrack_source_up{source="packets"} 1'; do
    grep -qxF "$line" "$work/page" || fail "the page lacks: $line" "$work/page"
  done
  promtool check metrics <"$work/page" || fail "promtool refuses the page"
  if scrape / >/dev/null 2>&1; then fail "/ is served on the metrics address"; fi
}

# What it holds once it runs: the two that it keeps, whatever it was given.
held() { awk '/^CapEff:/ { print $2 }' "/proc/$agent/status"; }
kept=$(printf '%016x' $((1 << 12 | 1 << 13)))

stop_agent() {
  [ "$(held)" = "$kept" ] || fail "runs with the capabilities $(held), not $kept"
  kill -TERM "$agent"
  local status=0
  wait "$agent" || status=$?
  agent=
  [ "$status" -eq 0 ] || fail "the agent ended with $status" "$work/log"
  for event in agent_started agent_stopped; do
    grep -q "\"event\":\"$event\".*\"k8s.node.name\":\"image-test\"" "$work/records" || fail "no record $event of this node" "$work/records"
  done
}

# The least: no probe, and it says so.
start_agent +net_admin,+net_raw
grep -qxF 'racetrack_source_up{source="kernel_probe"} 0' "$work/page" || fail "the probe runs without rights" "$work/log"
grep -q 'needs CAP_BPF and CAP_PERFMON' "$work/log" || fail "it does not say what the probe lacks" "$work/log"
stop_agent
echo "agent in the image: ready, $(grep -c '^racetrack_' "$work/page") samples scraped, stopped with 0 (read-only root, CAP_NET_ADMIN and CAP_NET_RAW only)"

# The four that the manifest's variant without privilege adds: the probe runs, or each rung says why this kernel does not let it.
added=$(sed -n 's/.*capabilities: {drop: \[ALL\], add: \[\(.*\)\]}.*/\1/p' Deploy/racetrack.yaml | tr 'A-Z' 'a-z' | tr -d ' ' | sed 's/^/+/; s/,/,+/g')
[ "$added" = +net_admin,+net_raw,+bpf,+perfmon ] || fail "the manifest's variant adds '$added'"
start_agent "$added"
rung=$(sed -n 's/.*msg="kernel probe runs" rung=//p' "$work/log")
if [ -n "$rung" ]; then
  grep -qxF 'racetrack_source_up{source="kernel_probe"} 1' "$work/page" || fail "the log says that the probe runs, the page does not" "$work/page"
  probe="the probe runs on the rung $rung"
else
  [ "$(grep -c 'msg="kernel probe rung cannot run" rung=.* reason=' "$work/log")" -eq 5 ] || fail "no probe, and not every rung says why" "$work/log"
  if grep -q 'needs CAP_BPF and CAP_PERFMON' "$work/log"; then fail "the four capabilities are not enough" "$work/log"; fi
  probe="no rung of the probe can run here: $(sed -n 's/.*cannot run" rung=kfree-skb reason=//p' "$work/log")"
fi
stop_agent
echo "agent in the image with CAP_BPF and CAP_PERFMON too: $probe; it kept CAP_NET_ADMIN and CAP_NET_RAW"
