#!/usr/bin/env bash
# up | down | status of the cluster that CLUSTER names.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

if [[ $CLUSTER == embedded ]]; then exec "$TOP/e2e/cluster/cluster" "$1"; fi
use_cluster
case $1 in
  up) kubectl version ;;
  status) kubectl get nodes -o wide; kubectl -n "$NAMESPACE" get pods; kubectl get codesandboxes -A ;;
  down) say "CLUSTER=current is your own cluster and stays; make uninstall takes CodeSandbox off it" ;;
  *) die "up, down or status" ;;
esac
