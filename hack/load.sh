#!/usr/bin/env bash
# Takes the images of target/make/images to where the cluster finds them: into the
# embedded cluster, to REGISTRY, or through LOAD, a command that is given each archive.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

push() { # NAME TAG ARCHIVE
  local from=localhost/codesandbox/$1:$2 to=$REGISTRY/codesandbox/$1:$2
  if have docker && docker info >/dev/null 2>&1; then docker load -qi "$3"; docker tag "$from" "$to"; docker push -q "$to"
  elif have podman; then podman load -qi "$3"; podman push -q "$from" "docker://$to"
  elif have buildah; then buildah push -q "$(buildah pull -q "docker-archive:$3")" "docker://$to"
  else die "pushing to REGISTRY=$REGISTRY needs docker, podman or buildah"; fi
}

[[ -s $OUT/images ]] || die "there are no images yet: make images"
use_cluster
while read -r name tag archive <&3; do
  image=codesandbox/$name:$tag
  if [[ $CLUSTER == embedded ]]; then
    if "$TOP/e2e/cluster/cluster" has "localhost/$image"; then say "    $image is in the cluster"
    else quiet "load $image" "$TOP/e2e/cluster/cluster" load "$archive"; fi
  elif [[ -n ${REGISTRY:-} ]]; then quiet "push $image" push "$name" "$tag" "$archive"
  elif [[ -n ${LOAD:-} ]]; then
    # shellcheck disable=SC2086 # a command with its arguments
    quiet "$LOAD $image" $LOAD "$archive"
  else die "CLUSTER=current gets images from a registry it can reach, REGISTRY=host/path, or by a command such as LOAD='kind load image-archive'"; fi
done 3<"$OUT/images"
