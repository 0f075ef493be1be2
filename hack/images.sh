#!/usr/bin/env bash
# Builds the images into archives, once per content: an archive's tag is a hash of
# what goes into it, and what is in the cache already is not built again.
# Writes "name tag archive" lines to target/make/images for the scripts that follow.
#
#   E2E=yes        the images of the e2e tests, too: their client, and sandboxes' images with next to nothing in them
#   BINARIES=DIR   take operator, mcp-frontend and agent from DIR instead of building them
#   ENGINE=…       docker, podman or buildah; by default the first that works
#   BASE=…         what the images with Python stand on; by default Debian's, or one made here where no registry is
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

IMAGES=$CACHE/images
KEEP=2 # archives of a name, the newest; a python one has more than a gigabyte

engine() {
  if have docker && docker info >/dev/null 2>&1; then echo docker
  elif have podman; then echo podman
  else echo buildah; fi
}

binaries() {
  local host flags static='-C target-feature=+crt-static' built
  host=$(rustc -vV | sed -n 's/^host: //p')
  built=${CARGO_TARGET_DIR:-$TOP/target}/$host
  # Static, because the images are empty but for them. With an explicit --target the flags leave build scripts and macros alone.
  flags=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUSTFLAGS
  (cd "$TOP" && env "$flags=$static" cargo build --locked --release --target "$host" -p operator -p mcp-frontend) >&2
  # At a fixed address: to adjust it to another, each sandbox would write to a quarter of a megabyte of pages that are then its
  # own. What it costs is that the place of the agent's code is known to user code, which has the agent's uid anyway.
  (cd "$TOP" && env "$flags=$static -C relocation-model=static" cargo build --locked --profile agent --target "$host" -p agent) >&2
  BINARIES=$built/shipped
  mkdir -p "$BINARIES"
  cp "$built"/release/{operator,mcp-frontend} "$built/agent/agent" "$BINARIES/"
}

# The program of e2e-scratch. It has no dependencies, and so no need of cargo.
speak() { # FILE
  (cd "$TOP/images/e2e-scratch" && rustc --edition 2024 -C opt-level=s -C strip=symbols -C target-feature=+crt-static -o "$1" speak.rs)
}

hash_of() { cat "$@" | sha256sum | cut -c1-12; }

# archive CONTEXT-DIR NAME:TAG FILE [build options]: every engine writes the one format that all of them, containerd and kind read.
archive() {
  local context=$1 image=localhost/codesandbox/$2 file=$3; shift 3
  case $ENGINE in
    docker | podman)
      "$ENGINE" build -f "$context/Containerfile" -t "$image" "$@" "$context"
      "$ENGINE" save -o "$file.part" "$image"
      "$ENGINE" rmi "$image" >/dev/null || true ;;
    buildah) # without an engine: no daemon, no user namespace, no network of its own
      buildah bud --isolation chroot --network host -f "$context/Containerfile" -t "$image" "$@" "$context"
      buildah push "$image" "docker-archive:$file.part:$image"
      buildah rmi "$image" >/dev/null || true ;;
    *) die "ENGINE is docker, podman or buildah, not $ENGINE" ;;
  esac
  mv "$file.part" "$file"
}

# One image: nothing to do where its archive is.
image() { # NAME TAG CONTEXT-DIR [build options]
  local name=$1 tag=$2 context=$3 file=$IMAGES/$1-$2.tar; shift 3
  if [[ -f $file ]]; then touch "$file"
  else
    rm -f "$file.part"
    quiet "image codesandbox/$name:$tag" archive "$context" "$name:$tag" "$file" "$@"
  fi
  echo "$name $tag $file" >>"$OUT/images.new"
  # shellcheck disable=SC2012 # names of ours
  ls -t "$IMAGES/$name"-*.tar | tail -n +$((KEEP + 1)) | xargs -r rm -f
}

registry() { curl -sS -m 10 -o /dev/null https://registry-1.docker.io/v2/ 2>/dev/null; }

# A Debian like the one of a registry, from the machine's own mirror and without manuals and translations, as there. Kept until its file is removed.
bootstrap() { # FILE
  local sources codename
  for sources in /etc/apt/sources.list.d/{debian,ubuntu}.sources /etc/apt/sources.list; do [[ ! -s $sources ]] || break; done
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  mmdebstrap --mode=auto --variant=minbase --include=ca-certificates --keyring=/usr/share/keyrings \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --format=tar "$codename" "$1.part" "$sources"
  mv "$1.part" "$1"
}

base_image() { # ROOTFS IMAGE
  local c
  if [[ $ENGINE != buildah ]]; then "$ENGINE" import "$1" "$2"; return; fi
  c=$(buildah from scratch)
  buildah add -q "$c" "$1" /
  buildah commit -q --rm "$c" "$2"
}

# An image of images/ that stands on BASE; made of the files in CONTEXT-DIR.
on_base() { # NAME CONTEXT-DIR
  local base=${BASE:-} made="" rootfs=$IMAGES/debian.tar tag
  if [[ -z $base ]]; then
    if registry; then base=docker.io/library/debian:bookworm-slim; else made=yes base=localhost/codesandbox/debian:base; fi
  fi
  tag=$({ cat "$2"/*; echo "$base"; } | sha256sum | cut -c1-12)
  if [[ -n $made && ! -f $IMAGES/$1-$tag.tar ]]; then
    say "    no image registry answers: the base is made from this machine's Debian mirror"
    packages mmdebstrap
    [[ -f $rootfs ]] || quiet "Debian base" bootstrap "$rootfs"
    base_image "$rootfs" "$base" >/dev/null 2>&1 || die "could not import $rootfs with $ENGINE"
  fi
  image "$1" "$tag" "$2" --build-arg "BASE=$base"
}

mkdir -p "$IMAGES" "$OUT"
exec 8>"$IMAGES/lock"; flock 8
: >"$OUT/images.new"
ENGINE=${ENGINE:-$(engine)}
if [[ $ENGINE == buildah ]] && ! have buildah; then packages buildah; fi
if [[ -z ${BINARIES:-} ]]; then took "binaries" binaries; fi
context=$(mktemp -d); TEMP=$context
for name in operator mcp-frontend agent; do
  rm -rf "${context:?}"/*
  cp "$BINARIES/$name" "$TOP/images/$name/Containerfile" "$context/"
  image "$name" "$(hash_of "$context/$name" "$context/Containerfile")" "$context"
done
on_base python "$TOP/images/python"
if [[ ${E2E:-} == yes ]]; then
  rm -rf "${context:?}"/*
  cp "$TOP/images/e2e-client/Containerfile" "$TOP/e2e/requirements.txt" "$context/"
  cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$context/ca-certificates.crt"
  on_base e2e-client "$context"
  rm -rf "${context:?}"/*
  cp "$TOP/images/e2e-scratch/Containerfile" "$context/"
  speak "$context/speak"
  image e2e-scratch "$(hash_of "$context/speak" "$context/Containerfile")" "$context"
  on_base e2e-busybox "$TOP/images/e2e-busybox"
fi
mv "$OUT/images.new" "$OUT/images"
