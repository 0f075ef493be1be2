#!/usr/bin/env bash
# Prints what the release has left over in the namespace of sandboxes: pods and policies whose CodeSandbox is gone, pods
# of earlier attempts, and pods whose CodeSandboxPool is gone. Changes nothing; fails where there is any. What it finds it looks for again after AGAIN seconds,
# since Kubernetes takes some to collect what belonged to a sandbox that has just gone.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

AGAIN=${AGAIN:-60}
OURS=app.kubernetes.io/managed-by=codesandbox,app.kubernetes.io/instance=$RELEASE

# A line for each object that should not be there. (errexit is off in $(…): without `|| return`, no answer would be no sandboxes.)
look() {
  local objects sandboxes pools
  # Objects first: whatever is there by then belongs to a sandbox that the second list has.
  objects=$(kubectl -n "$SANDBOXES" get pods,networkpolicies -l "$OURS,codesandbox.dev/sandbox-uid" -o jsonpath='{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.labels.codesandbox\.dev/sandbox} {.metadata.labels.codesandbox\.dev/sandbox-uid} {.metadata.deletionTimestamp}{"\n"}{end}') || return
  sandboxes=$(kubectl -n "$SANDBOXES" get codesandboxes -o jsonpath='{range .items[*]}{.metadata.uid} {.status.attempt}{"\n"}{end}') || return
  awk '
    NR == FNR { if (NF) attempt[$1] = NF > 1 ? $2 : 1; next }
    !NF || NF > 4 { next } # one that is being deleted
    !($4 in attempt) { print $1 " (" $2 "): CodeSandbox " $3 " is gone"; next }
    $1 ~ /^Pod\/.*-m[0-9]+$/ && attempt[$4] > 1 { print $1 " (" $2 "): CodeSandbox " $3 " is at attempt " attempt[$4]; next } # claimed from a pool by the first
    $1 ~ /^Pod\/.*-[0-9]+$/ { number = $1; sub(/.*-/, "", number); if ($1 == "Pod/" $3 "-" number && number + 0 < attempt[$4]) print $1 " (" $2 "): CodeSandbox " $3 " is at attempt " attempt[$4] }
  ' <(printf '%s\n' "$sandboxes") <(printf '%s\n' "$objects")
  objects=$(kubectl -n "$SANDBOXES" get pods -l "$OURS,codesandbox.dev/pool,!codesandbox.dev/sandbox-uid" -o jsonpath='{range .items[*]}{.kind}/{.metadata.name}|{.metadata.uid}|{.metadata.labels.codesandbox\.dev/pool}|{.metadata.ownerReferences[*].uid}|{.metadata.deletionTimestamp}{"\n"}{end}') || return
  pools=$(kubectl -n "$SANDBOXES" get codesandboxpools -o jsonpath='{range .items[*]}{.metadata.uid}{"\n"}{end}') || return
  awk -F'|' '
    NR == FNR { pool[$1]; next }
    NF && $5 == "" && !($4 in pool) { print $1 " (" $2 "): CodeSandboxPool " $3 " is gone" }
  ' <(printf '%s\n' "$pools") <(printf '%s\n' "$objects")
}

use_cluster
found=$(look)
if [[ -n $found ]]; then
  say "found something; looking again in $AGAIN s"
  sleep "$AGAIN"
  again=$(look)
  found=$(comm -12 <(sort <<<"$found") <(sort <<<"$again"))
fi
if [[ -n $found ]]; then
  printf '%s\n' "$found"
  die "this should not be there any more. The operator of release $RELEASE removes it within minutes, if it runs"
fi
say "nothing of release $RELEASE in $SANDBOXES has outlived its sandbox"
