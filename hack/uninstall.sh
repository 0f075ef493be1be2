#!/usr/bin/env bash
# Takes the release off the cluster. The CRDs and the sandbox namespace stay, with what is in them.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

use_cluster
"$TOP/hack/connect.sh" stop
for kind in CodeSandboxPools CodeSandboxes; do
  kinds=${kind,,}
  if kubectl get crd "$kinds.codesandbox.dev" >/dev/null 2>&1; then
    left=$(kubectl -n "$SANDBOXES" get "$kinds" -o name | wc -l)
    if ((left)); then say "$left $kind are left in $SANDBOXES; without an operator only their longest lifetime ends their pods: kubectl -n $SANDBOXES delete $kinds --all"; fi
  fi
done
# Waits for its pods too: one on its way out would answer for a release that is installed next.
helm uninstall "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --wait >&2
say "kept: the CRDs and the namespace $SANDBOXES (kubectl delete crd codesandbox{es,templates,pools}.codesandbox.dev; kubectl delete namespace $SANDBOXES)"
