#!/usr/bin/env bash
# scripts: shellcheck. chart: helm lint, templates of a few value sets, and what no linter knows.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

scripts() {
  have shellcheck || packages shellcheck
  cd "$TOP"
  shellcheck -x hack/*.sh hack/step e2e/cluster/cluster .ci/run
}

# The values of a values.yaml by their full names. Of one level of blanks a time, as ours is.
leaves() {
  awk '/^ *[a-zA-Z]+:/ {
    depth = (match($0, /[^ ]/) - 1) / 2; key = $1; sub(/:.*/, "", key); path[depth] = key
    if ($0 ~ /: *[^ #]/) { name = path[0]; for (i = 1; i <= depth; i++) name = name "." path[i]; print name }
  }' "$1" | sed 's/\.\(requests\|limits\)$//; s/^\(templates\)\..*/\1/' | uniq
}

chart() {
  cd "$TOP"
  if ! have helm; then
    PATH=$CACHE/cluster/bin:$PATH
    have helm || e2e/cluster/cluster build helm
  fi
  local chart=charts/codesandbox out want value
  out=$(mktemp -d); TEMP=$out
  # The chart's CRD is a link to the one that `make crds` writes.
  cmp crds/codesandboxes.yaml $chart/files/codesandboxes.yaml
  want=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
  grep -qx "appVersion: $want" $chart/Chart.yaml || die "appVersion of $chart/Chart.yaml is not the workspace's version, $want"
  helm lint --strict --quiet $chart 2>/dev/null || helm lint --strict $chart
  try() { # NAME FLAGS…
    local name=$1; shift
    helm template codesandbox $chart --namespace codesandbox "$@" >"$out/$name.yaml" 2>"$out/$name.err" || { cat "$out/$name.err" >&2; die "helm template failed for: $name"; }
  }
  refuse() { # NAME FLAGS…
    local name=$1; shift
    if helm template codesandbox $chart "$@" >/dev/null 2>&1; then die "values.schema.json lets through: $name"; fi
  }
  try default
  try images --set global.imageRegistry=registry.example/team,operator.image.tag=v1,mcp.image.tag=v2,agent.image.tag=v3,sandbox.image.tag=v4
  try minimal --set crds.install=false,sandbox.createNamespaces=false,admission.enabled=false,networkPolicies.enabled=false,mcp.auth.existingSecret=mine
  try full --set 'sandbox.namespaces={a,b}' --set 'network.dnsServers={9.9.9.9,2620:fe::fe}' --set 'network.clusterCIDRs={203.0.113.0/24}' \
    --set mcp.replicas=2 --set 'mcp.allowedHosts={mcp.example.com}' --set 'mcp.allowedOrigins={https://example.com}' --set operator.priorityClassName=p,operator.replicas=2 \
    --set-json 'operator.tolerations=[{"key":"k","operator":"Exists"}]' --set-json 'mcp.nodeSelector={"a":"b"}' --set-json 'global.imagePullSecrets=[{"name":"s"}]'
  try gvisor --set sandbox.defaultTemplate=python,sandbox.runtimeClassName=gvisor,templates.node.defaults.runtimeClassName=kata
  try limits --set sandbox.defaultTemplate=python,mcp.limits.cpu=500m,mcp.limits.memory=68719476736,mcp.limits.gpus=0
  refuse "a RuntimeClass that who names no template gets around" --set sandbox.runtimeClassName=gvisor
  refuse "no operator" --set operator.replicas=0
  refuse "an unknown value" --set operater.log=debug
  refuse "the tag latest" --set operator.image.tag=latest
  refuse "no sandbox namespace" --set 'sandbox.namespaces={}'
  refuse "a limit that is no amount" --set mcp.limits.memory=much
  refuse "a limit that lets nobody have anything" --set mcp.limits.cpu=0
  refuse "the same in words" --set-string mcp.limits.memory=0Gi
  refuse "a part of a GPU" --set mcp.limits.gpus=0.5
  refuse "a URL as registry" --set global.imageRegistry=https://registry.example
  grep -q 'image: registry.example/team/codesandbox/operator:v1$' "$out/images.yaml" || die "global.imageRegistry is not in the operator's image"
  [[ $(sed -n 's/.*OPERATOR_TEMPLATES, value: //p' "$out/gvisor.yaml" | grep -o 'runtimeClassName[^,}]*' | tr -d '\\"' | sort | uniq -c | xargs) == "4 runtimeClassName:gvisor 1 runtimeClassName:kata" ]] ||
    die "sandbox.runtimeClassName is not in the templates that say none"
  grep -q 'helm.sh/resource-policy: keep' "$out/default.yaml" || die "the CRD would go with the release"
  # Nothing cluster-wide but the admission policies, the CRD and the namespaces.
  if grep -hE '^kind: Cluster' "$out"/*.yaml; then die "the chart must not have cluster-wide rights"; fi
  # The operator execs nowhere and takes no policies away but one by one; the front end execs and sees nothing of pods besides.
  role() { awk -v RS='\n---\n' -v name="name: codesandbox-codesandbox-$1\n" '/\nkind: Role\n/ && $0 ~ name' "$out/default.yaml"; }
  role operator | grep -q 'sandboxpods' || die "there is no Role of the operator to look at"
  if role operator | grep -E 'pods/|secrets'; then die "the operator's Role has more than pods"; fi
  if role operator | sed -n '/networkpolicies/,/^- apiGroups/p' | grep -E -- '- (deletecollection|update)'; then die "the operator's Role has more of policies than it needs"; fi
  [[ $(grep -oE -- '--(max-(cpu|memory|gpus)|default-template)=.*' "$out/limits.yaml" | sort -u | xargs) == "--default-template=python --max-cpu=500m --max-gpus=0 --max-memory=68719476736" ]] ||
    die "mcp.limits are not in the front end's flags"
  grep -q 'for mcp.limits' "$out/limits.yaml" || die "the front end may not look at templates, which mcp.limits take"
  if role mcp-frontend | grep codesandboxtemplates; then die "the front end's Role has more than it needs without mcp.limits"; fi
  if grep -E -- '--max-(cpu|memory|gpus)' "$out/default.yaml"; then die "there are limits that nobody has set"; fi
  role mcp-frontend | grep -q 'pods/exec' || die "there is no Role of the front end to look at"
  if role mcp-frontend | grep -E '\[(pods|secrets|networkpolicies)\]'; then die "the front end's Role has more than pods/exec"; fi
  # A budget for one replica would only hold up drains.
  [[ $(grep -c '^kind: PodDisruptionBudget' "$out/full.yaml") == 2 ]] || die "two operators and two front ends do not have a PodDisruptionBudget each"
  if grep -q '^kind: PodDisruptionBudget' "$out/default.yaml"; then die "one front end must not have a PodDisruptionBudget"; fi
  # Every value has its line in the README.
  while read -r value; do
    grep -q "^| \`$value\`" $chart/README.md || die "$chart/README.md says nothing of the value $value"
  done < <(leaves $chart/values.yaml)
}

"$1"
