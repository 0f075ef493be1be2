#!/usr/bin/env bash
# Prints {"url": …, "token": …} of the MCP server and nothing else on stdout.
# On a cluster of one's own a port-forward on 127.0.0.1 is left running for it; `connect.sh stop` ends it.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

FORWARD=$OUT/port-forward # its pid, the time that process started, and its port
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}' || ps -o lstart= -p "$1" 2>/dev/null | tr ' ' _ || true; }
forwarding() {
  read -r pid at port 2>/dev/null <"$FORWARD" || return 1
  [[ -n $at && $(started_at "$pid") == "$at" ]]
}
forward() {
  local i
  if forwarding; then return; fi
  kubectl -n "$NAMESPACE" port-forward --address 127.0.0.1 "svc/$RELEASE-mcp-frontend" :8080 >"$FORWARD.log" 2>&1 </dev/null &
  pid=$!
  for ((i = 0; i < 100; i++)); do
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$FORWARD.log")
    if [[ -n $port ]]; then echo "$pid $(started_at "$pid") $port" >"$FORWARD"; return; fi
    sleep 0.1
  done
  cat "$FORWARD.log" >&2
  die "kubectl port-forward did not begin within 10 s"
}

mkdir -p "$OUT"
if [[ ${1:-} == stop ]]; then
  if forwarding; then kill "$pid"; fi
  rm -f "$FORWARD" "$FORWARD.log"
  exit
fi
use_cluster
token=$(kubectl -n "$NAMESPACE" get secret "$RELEASE-mcp-frontend-token" -o jsonpath='{.data.token}' | base64 -d) ||
  die "there is no token in namespace $NAMESPACE: make install"
if [[ $CLUSTER == embedded ]]; then
  url=http://$EMBEDDED_IP:8080/mcp
else
  forward
  url=http://127.0.0.1:$port/mcp
fi
printf '{"url": "%s", "token": "%s"}\n' "$url" "$token"
