#!/usr/bin/env bash
# From nothing to code running in a sandbox: images, cluster, release, then the two doors, kubectl and MCP.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

hello() {
  use_cluster
  local k=(kubectl -n "$SANDBOXES") pod
  "${k[@]}" delete codesandbox hello --ignore-not-found
  "${k[@]}" apply -f "$TOP/examples/hello.yaml"
  "${k[@]}" wait --for=condition=Ready codesandbox/hello --timeout=60s
  "${k[@]}" get codesandboxes
  pod=$("${k[@]}" get codesandbox hello -o jsonpath='{.status.podName}')
  "${k[@]}" exec "$pod" -c sandbox -- python3 -c 'import platform; print("hello from", platform.node())'
  say "    its ttl, shortened to what has passed already, takes it away:"
  "${k[@]}" patch codesandbox hello --type=merge -p '{"spec":{"ttl":"1s"}}'
  "${k[@]}" wait --for=delete codesandbox/hello "pod/$pod" --timeout=60s
}

cd "$TOP"
start=$SECONDS
if [[ $CLUSTER == current ]]; then use_cluster; fi # asks before anything takes minutes
took "images" hack/images.sh
took "cluster" hack/cluster.sh up
took "images into the cluster" hack/load.sh
took "helm install" hack/install.sh
took "python client" hack/venv.sh
took "with kubectl: examples/hello.yaml" hello
took "with MCP: examples/demo.py" hack/with-cluster.sh python examples/demo.py
say "demo done in $((SECONDS - start)) s. make connect prints URL and token for your own client; make cluster-down takes the cluster off this machine"
