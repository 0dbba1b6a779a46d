#!/usr/bin/env bash
# Checks what is deployed without deploying it: the rules and their tests with Prometheus' own tool, the manifest against the API's schemas, and that
# both speak of the metrics, options, paths and files that there are. Ends non-zero on any failure.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
python=.build/python/bin/python3
status=0
try() { "$@" || { echo "failed: $*" >&2; status=1; }; }

if ! "$python" -c 'import kubernetes_validate, yaml' 2>/dev/null; then
  python3 -m venv .build/python && .build/python/bin/pip -q install --disable-pip-version-check kubernetes-validate pyyaml ||
    { echo "cannot install kubernetes-validate: the manifest is not checked" >&2; exit 1; }
fi

try promtool check rules --lint=all --lint-fatal Deploy/rules/racetrack.yaml
try promtool test rules Deploy/rules/racetrack.test.yaml
# The oldest schemas there are, the oldest version that is still supported somewhere, and the newest.
for version in 1.25 1.30 1.37; do
  try "$python" -m kubernetes_validate --strict --quiet -k "$version" Deploy/racetrack.yaml
done
try "$python" Deploy/check.py
[ "$status" -eq 0 ] && echo "checked: rules, manifest"
exit "$status"
