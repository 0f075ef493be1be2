#!/usr/bin/env bash
# Asks once, for a whole run of make, whether the current cluster is meant.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"
use_cluster
