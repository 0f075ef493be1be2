#!/usr/bin/env bash
# with-cluster.sh CMD…: runs CMD with KUBECONFIG, CODESANDBOX_URL and CODESANDBOX_TOKEN set, and the
# tools of .venv and of the cluster in PATH.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

use_cluster
[[ $("$TOP/hack/connect.sh") =~ '"url": "'([^\"]*)'", "token": "'([^\"]*)'"' ]]
CODESANDBOX_URL=${BASH_REMATCH[1]} CODESANDBOX_TOKEN=${BASH_REMATCH[2]}
# The front end without a cluster around it, for the tests of how it starts.
host=$(rustc -vV | sed -n 's/^host: //p')
export MCP_FRONTEND=${BINARIES:-${CARGO_TARGET_DIR:-$TOP/target}/$host/release}/mcp-frontend
export CODESANDBOX_URL CODESANDBOX_TOKEN
if [[ $CLUSTER == embedded ]]; then export ETCD_METRICS=http://127.0.0.1:2379/metrics; fi
export PATH=$TOP/.venv/bin:$PATH
exec "$@"
