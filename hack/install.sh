#!/usr/bin/env bash
# Installs or upgrades the chart with the images of target/make/images. HELM_ARGS adds to it.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

use_cluster
have helm || die "needs helm 4 (https://helm.sh/docs/intro/install)"
tag() { awk -v name="$1" '$1 == name {print $2}' "$OUT/images"; }
values=(
  --set "global.imageRegistry=${REGISTRY:-localhost}"
  --set "sandbox.namespaces={$SANDBOXES}"
  --set-string "operator.image.tag=$(tag operator)" --set-string "mcp.image.tag=$(tag mcp-frontend)"
  --set-string "agent.image.tag=$(tag agent)" --set-string "sandbox.image.tag=$(tag python)"
)
if [[ $CLUSTER == embedded ]]; then
  # A fixed address, because the node reaches Services by address alone; and the resolver of its internet.
  values+=(--set "mcp.service.clusterIP=$EMBEDDED_IP" --set 'network.dnsServers={198.51.100.10}')
fi
failed() {
  local name
  kubectl -n "$NAMESPACE" get pods >&2
  kubectl -n "$NAMESPACE" events --types=Warning 2>&1 | tail -n 10 >&2
  for name in operator mcp-frontend; do kubectl -n "$NAMESPACE" logs "deploy/$RELEASE-$name" --tail=20 >&2 || true; done
  die "could not install $RELEASE; above are its pods, warnings and logs"
}
# shellcheck disable=SC2086 # HELM_ARGS is a list
helm upgrade --install "$RELEASE" "$TOP/charts/codesandbox" --namespace "$NAMESPACE" --create-namespace \
  --wait --timeout 3m --hide-notes "${values[@]}" ${HELM_ARGS:-} >&2 2> >(grep -v 'found symbolic link' >&2) || failed
