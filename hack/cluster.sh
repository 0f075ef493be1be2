#!/usr/bin/env bash
# up | down | status | gvisor of the cluster that CLUSTER names.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

if [[ $CLUSTER == embedded ]]; then exec "$TOP/e2e/cluster/cluster" "$@"; fi
use_cluster
case $1 in
  up) kubectl version ;;
  status) kubectl get nodes -o wide; kubectl -n "$NAMESPACE" get pods; kubectl get codesandboxes -A ;;
  gvisor) kubectl get runtimeclass gvisor runc-noexec || die "the tests of runtimes need RuntimeClasses gvisor and runc-noexec, as in e2e/cluster" ;;
  down) say "CLUSTER=current is your own cluster and stays; make uninstall takes CodeSandbox off it" ;;
  *) die "up, down, status or gvisor" ;;
esac
