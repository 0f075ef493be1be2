#!/usr/bin/env bash
# Makes e2e/mcp/typescript/node_modules with what its package-lock.json pins, among it the Node that the
# tests run with; nothing to do when it has that already.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

cd "$TOP/e2e/mcp/typescript"
if cmp -s package-lock.json node_modules/package-lock.json && node_modules/.bin/node -e '' 2>/dev/null; then exit; fi
# Any npm will do: what it stands on is not what the tests run with.
have npm || packages npm
make_node_modules() {
  npm ci --ignore-scripts --no-audit --no-fund
  cp package-lock.json node_modules/
}
quiet "node packages in e2e/mcp/typescript" make_node_modules
