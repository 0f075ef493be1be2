#!/usr/bin/env bash
# Takes the release off the cluster. The CRD and the sandbox namespace stay, with what is in them.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

use_cluster
"$TOP/hack/connect.sh" stop
if kubectl get crd codesandboxes.codesandbox.dev >/dev/null 2>&1; then
  left=$(kubectl -n "$SANDBOXES" get codesandboxes -o name | wc -l)
  if ((left)); then say "$left CodeSandboxes are left in $SANDBOXES; without an operator only their pods' longest lifetime ends them: kubectl -n $SANDBOXES delete codesandboxes --all"; fi
fi
# Waits for its pods too: one on its way out would answer for a release that is installed next.
helm uninstall "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --wait >&2
say "kept: the CRD and the namespace $SANDBOXES (kubectl delete crd codesandboxes.codesandbox.dev; kubectl delete namespace $SANDBOXES)"
