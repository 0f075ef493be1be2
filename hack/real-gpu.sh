#!/usr/bin/env bash
# What only a real GPU shows (docs/gpu.md), under runc and under gVisor. Needs an installed release: make install.
# On the embedded cluster the machine's own GPUs are offered meanwhile, and no longer; another has a device plugin of its own.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

RUNTIMES=${RUNTIMES:-runc gvisor} # runc is the cluster's default, others are RuntimeClasses
cluster=$TOP/e2e/cluster/cluster

# Whether gVisor passes on what this version of the driver is asked. Of one it does not know a sandbox says little.
known() {
  local version
  version=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
  "$CACHE/cluster/bin/runsc" nvproxy list-supported-drivers | grep -qxF "$version" ||
    die "gVisor's nvproxy does not know driver $version: RUNTIMES=runc goes without it"
}

tests() {
  local name=$1; if [[ $name == runc ]]; then name=""; fi
  GPU_RUNTIME=$name "$TOP/hack/with-cluster.sh" cargo test --locked -p e2e --test gpu_real -- --ignored --nocapture --test-threads=1
}

cd "$TOP"
if [[ $CLUSTER == embedded ]]; then
  have nvidia-smi || die "there is no nvidia-smi, so no driver and no GPU to try on this machine; CLUSTER=current takes the cluster of your kubeconfig"
  "$cluster" build nvidia
  if [[ $RUNTIMES == *gvisor* ]]; then "$cluster" gvisor; known; fi
  trap 'rc=$?; "$cluster" gpu 0; ended $rc' EXIT
  "$cluster" gpu cdi
fi
for runtime in $RUNTIMES; do took "a real GPU under $runtime" tests "$runtime"; done
