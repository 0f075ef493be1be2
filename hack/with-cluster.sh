#!/usr/bin/env bash
# with-cluster.sh CMD…: runs CMD with KUBECONFIG, CODESANDBOX_URL and CODESANDBOX_TOKEN set, and the
# tools of .venv, of Node and of the cluster in PATH.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

use_cluster
[[ $("$TOP/hack/connect.sh") =~ '"url": "'([^\"]*)'", "token": "'([^\"]*)'"' ]]
CODESANDBOX_URL=${BASH_REMATCH[1]} CODESANDBOX_TOKEN=${BASH_REMATCH[2]}
# Front end and operator outside the cluster, for the tests of how they start and of what they are told.
host=$(rustc -vV | sed -n 's/^host: //p')
export MCP_FRONTEND=${BINARIES:-${CARGO_TARGET_DIR:-$TOP/target}/$host/release}/mcp-frontend
export OPERATOR=${MCP_FRONTEND%/*}/operator
# The images of the tests' own, where they were made (E2E=yes of hack/images.sh).
image() {
  if [[ -f $OUT/images ]]; then awk -v registry="${REGISTRY:-localhost}" -v name="$1" '$1 == name {print registry "/codesandbox/" $1 ":" $2}' "$OUT/images"; fi
}
E2E_CLIENT_IMAGE=$(image e2e-client) E2E_SCRATCH_IMAGE=$(image e2e-scratch) E2E_BUSYBOX_IMAGE=$(image e2e-busybox)
export CODESANDBOX_URL CODESANDBOX_TOKEN E2E_CLIENT_IMAGE E2E_SCRATCH_IMAGE E2E_BUSYBOX_IMAGE
if [[ $CLUSTER == embedded ]]; then export ETCD_METRICS=http://127.0.0.1:2379/metrics; fi
export PATH=$TOP/.venv/bin:$TOP/e2e/mcp/typescript/node_modules/.bin:$PATH
exec "$@"
