#!/usr/bin/env bash
# venv.sh [DIR REQUIREMENTS]: makes .venv with what e2e/requirements.txt pins, or another; nothing to do when it has that already.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

cd "$TOP"
dir=${1:-.venv} wanted=${2:-e2e/requirements.txt}
have python3 || packages python3
if cmp -s "$wanted" "$dir/requirements.txt" && "$dir/bin/python" -c '' 2>/dev/null; then exit; fi
python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "needs Python 3.10 or newer"
make_venv() {
  rm -rf "$dir"
  python3 -m venv "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$dir/requirements.txt"
}
quiet "python packages in $dir" make_venv
