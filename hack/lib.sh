# Sourced by the scripts beside it: where things are, and how they speak.
# shellcheck shell=bash disable=SC2034 # the variables are the callers'
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/codesandbox
OUT=$TOP/target/make                # what the scripts tell each other; gone with `make clean`
CLUSTER=${CLUSTER:-embedded}        # embedded: e2e/cluster; current: the machine's own kubeconfig
RELEASE=${RELEASE:-codesandbox}     # the Helm release
NAMESPACE=${NAMESPACE:-codesandbox} # of operator and front end
SANDBOXES=${SANDBOXES:-codesandbox-sandboxes} # of sandboxes
EMBEDDED_IP=10.96.0.80              # of the front end's Service in the embedded cluster

say() { printf '%s\n' "$*" >&2; }
die() { say "make: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# At the end of a script: what it was doing when it failed, and nothing left of $TEMP.
doing="" TEMP=""
ended() {
  if (($1)) && [[ -n $doing ]]; then say "make: failed: $doing"; fi
  if [[ -n $TEMP ]]; then rm -rf "$TEMP"; fi
}
trap 'ended $?' EXIT

# took TEXT CMD…: runs CMD, its output under a line that says what it is, and prints the seconds it took.
# (No `||` behind CMD: in a function that would switch errexit off.)
took() {
  local text=$1 start=$SECONDS outer=$doing; shift
  say "==> $text"
  doing="$text"
  "$@"
  doing=$outer
  say "    $((SECONDS - start)) s: $text"
}

# quiet TEXT CMD…: the same for what is only worth reading when it fails; a sign of life every 20 s.
quiet() {
  local text=$1 start=$SECONDS log rc=0 pid ticks=0; shift
  log=$(mktemp)
  printf '    %-52s' "$text" >&2
  "$@" >"$log" 2>&1 </dev/null & pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.1; ticks=$((ticks + 1))
    if ((ticks % 200 == 0)); then printf ' %ds…' $((SECONDS - start)) >&2; fi
  done
  wait "$pid" || rc=$?
  say " $((SECONDS - start)) s"
  if ((rc)); then tail -n 40 "$log" >&2; rm -f "$log"; die "failed: $text"; fi
  rm -f "$log"
}

# packages NAME…: installs what is missing of Debian's, saying so.
packages() {
  local p missing=()
  for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  if ((!${#missing[@]})); then return; fi
  if [[ $(id -u) != 0 ]] || ! have apt-get; then die "needs ${missing[*]}: install them, or run as root on Debian, where this does it"; fi
  quiet "apt-get install ${missing[*]}" bash -c 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"' _ "${missing[@]}"
}

# The cluster everything is done to: sets KUBECONFIG and PATH, or asks whether the current one is meant.
use_cluster() {
  case $CLUSTER in
    embedded) eval "$("$TOP/e2e/cluster/cluster" env)" ;;
    current)
      have kubectl || die "CLUSTER=current needs kubectl"
      local context; context=$(kubectl config current-context 2>/dev/null) || die "CLUSTER=current needs a kubeconfig with a current context; there is none"
      if [[ ${CONFIRM:-} != yes ]]; then
        [[ -t 0 ]] || die "CLUSTER=current would use the context $context: say CONFIRM=yes to go on without being asked"
        local answer; read -rp "use the cluster of context $context (namespaces $NAMESPACE and $SANDBOXES)? [y/N] " answer
        [[ $answer == [yY]* ]] || die "stopped; nothing was changed"
      fi
      export CONFIRM=yes ;;
    *) die "CLUSTER is embedded or current, not $CLUSTER" ;;
  esac
}
