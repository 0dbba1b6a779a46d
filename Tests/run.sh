#!/usr/bin/env bash
# Runs every test and sums up. First what needs no quiet machine, then the labs that race on the real kernel, alone: two at once would disturb
# each other. Skipped tests are listed with their reasons. Ends non-zero on any failure.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The strict parsers that some tests ask, in an environment of their own.
if [ ! -x .build/python/bin/check-jsonschema ]; then
  python3 -m venv .build/python && .build/python/bin/pip -q install --disable-pip-version-check prometheus_client check-jsonschema jsonschema ||
    echo "no Python packages: the tests that need them say so"
fi
[ -x .build/python/bin/python3 ] && export RACETRACK_PYTHON="$PWD/.build/python/bin/python3"
export PATH="$PWD/.build/python/bin:$PATH"

status=0
swift build --build-tests --explicit-target-dependency-import-check error || exit 1
run() {
  local name=$1
  shift
  swift test --skip-build "$@" 2>&1 | tee "$logs/$name" | grep -vE '^(◇|✔ Test [^r]|✔ Suite)'
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || status=1
  grep -q 'Test run with' "$logs/$name" || status=1
}
run unit --skip KernelTests
run kernel --filter KernelTests

echo
grep -hE '^➜ ' "$logs"/* | sed 's/^➜ /skipped: /' || true
total=$(cat "$logs"/* | grep -oE 'Test run with [0-9]+ tests?' | awk '{ n += $4 } END { print n + 0 }')
failed=$(cat "$logs"/* | grep -cE '^✘ Test .*failed after')
skipped=$(cat "$logs"/* | grep -cE '^➜ Test .*skipped')
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$((total - failed - skipped)) passed, $failed failed, $skipped skipped"
exit "$status"
