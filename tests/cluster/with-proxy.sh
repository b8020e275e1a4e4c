#!/usr/bin/env bash
# Runs a command with KUBERNETES_TEST_URL set to a `kubectl proxy` of the test cluster's administrator. Run it by
# `scripts/cluster exec tests/cluster/with-proxy.sh COMMAND...`, since the cluster is reachable only there.
set -euo pipefail

log=$(mktemp)
"$CLUSTER_KUBECTL" proxy --port=0 >"$log" 2>&1 &
proxy=$!
trap 'kill "$proxy" 2>/dev/null || true; rm -f "$log"' EXIT

# Ten seconds are enough for a process that only listens.
for _ in $(seq 100); do
  address=$(grep -oE '127\.0\.0\.1:[0-9]+' "$log" || true)
  [ -z "$address" ] || break
  sleep 0.1
done
[ -n "$address" ] || { cat "$log" >&2; exit 1; }
KUBERNETES_TEST_URL=http://$address KUBERNETES_TEST_NAMESPACE=$CLUSTER_NAMESPACE "$@"
