#!/usr/bin/env bash
# Prints Deploy/rules/racetrack.yaml as a PrometheusRule: prometheus-rule.sh [NAMESPACE [LABEL: VALUE]...] | kubectl apply -f -
# The labels are those that your Prometheus selects rules by, for example "release: kube-prometheus-stack".
set -euo pipefail
namespace=${1:-racetrack}
[ $# -eq 0 ] || shift
cat <<END
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: racetrack
  namespace: $namespace
  labels:
    app.kubernetes.io/name: racetrack
END
[ $# -eq 0 ] || printf '    %s\n' "$@"
echo "spec:"
sed -e '/^#/d' -e 's/^\(.\)/  \1/' "$(dirname "$0")/racetrack.yaml"
