#!/usr/bin/env bash
# Makes .venv with what e2e/requirements.txt pins; nothing to do when it has that already.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

cd "$TOP"
have python3 || packages python3
if cmp -s e2e/requirements.txt .venv/requirements.txt && .venv/bin/python -c '' 2>/dev/null; then exit; fi
python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "needs Python 3.10 or newer"
make_venv() {
  rm -rf .venv
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -r e2e/requirements.txt
  cp e2e/requirements.txt .venv/
}
quiet "python packages in .venv" make_venv
