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

# The agent needs CAP_NET_ADMIN and CAP_NET_RAW and gets no more. The environment is the manifest's; records go to standard output.
# shellcheck disable=SC2016
RACETRACK_NODE_NAME=image-test RACETRACK_PATH_PROCFS=/host/proc \
  ip netns exec "$node" unshare --mount --propagation private bash -euc '
    mount --bind "$1" "$1"
    mount -t proc -o nosuid,nodev,noexec proc "$1/proc"
    mount --bind /proc "$1/host/proc"
    mount -o remount,bind,ro "$1/host/proc"
    mount -o remount,bind,ro "$1"
    ! touch "$1/tmp/x" 2>/dev/null
    exec chroot "$1" setpriv --bounding-set=-all,+net_admin,+net_raw --inh-caps=-all /usr/bin/racetrack agent' _ "$root" \
  >"$work/records" 2>"$work/log" &
agent=$!
scrape() { ip netns exec "$node" curl -sS --max-time 5 --fail-with-body "http://127.0.0.1:10553$1"; }
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
kill -TERM "$agent"
status=0
wait "$agent" || status=$?
agent=
[ "$status" -eq 0 ] || fail "the agent ended with $status" "$work/log"
for event in agent_started agent_stopped; do
  grep -q "\"event\":\"$event\".*\"k8s.node.name\":\"image-test\"" "$work/records" || fail "no record $event of this node" "$work/records"
done
echo "agent in the image: ready, $(grep -c '^racetrack_' "$work/page") samples scraped, stopped with 0 (read-only root, CAP_NET_ADMIN and CAP_NET_RAW only)"
