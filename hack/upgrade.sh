#!/usr/bin/env bash
# The release of an earlier version, for the test of upgrades: `known` says whether this clone has that version; `images`
# builds its images once, into a cache of their own, and loads them; `install` installs its chart with them.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

FIRST=9f1b5ebb608dd865a130401ffb7d3225e78a5ff5 # the first version that ran code through the front end
old=$CACHE/upgrade/$FIRST

known() {
  [[ -d $old/tree ]] || git -C "$TOP" cat-file -e "$FIRST^{commit}" 2>/dev/null || git -C "$TOP" fetch -q origin "$FIRST" 2>/dev/null ||
    die "commit $FIRST, from which the test upgrades, is not in this clone: git fetch --unshallow"
}

checkout() {
  if [[ -d $old/tree ]]; then return; fi
  known
  mkdir -p "$old"
  rm -rf "$old/tree.part"; mkdir "$old/tree.part"
  git -C "$TOP" archive "$FIRST" | tar -x -C "$old/tree.part"
  mv "$old/tree.part" "$old/tree"
}

# Its own hack/images.sh, with our target directory: of the dependencies what both versions have in common is built already.
# Its cache is not ours, where the newest two of a name are kept; the python image of both is the same.
images() {
  local list=$old/tree/target/make/images archive
  if [[ -s $list ]]; then
    archive=$(awk '{print $3}' "$list" | while read -r archive; do [[ -f $archive ]] || echo "$archive"; done)
    if [[ -z $archive ]]; then return; fi
  fi
  mkdir -p "$old/codesandbox/images"
  cp -lf "$CACHE"/images/{python-*,debian}.tar "$old/codesandbox/images/" 2>/dev/null || true
  env -u BINARIES XDG_CACHE_HOME="$old" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$TOP/target}" "$old/tree/hack/images.sh"
  E2E=yes "$TOP/hack/images.sh" # so that the target directory has the programs of this version again
}

case $1 in
  known) known ;;
  images) checkout; images; "$old/tree/hack/load.sh" ;;
  install) "$old/tree/hack/install.sh" ;;
  *) die "known, images or install" ;;
esac
