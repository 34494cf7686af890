#!/usr/bin/env bash
# build-image.sh NAME[:TAG] CONTEXT [DOCKERFILE [buildah bud options...]]: builds a Dockerfile without Docker, pushes the
# image to the cluster's registry and prints its reference, localhost:5000/NAME@sha256:…; nothing else goes to standard
# output. TAG is "dev" unless given; DOCKERFILE is CONTEXT/Dockerfile, or "-" for standard input.
# What was built before from the same inputs is not built again: the registry holds each image also under a tag made of the
# hash of Dockerfile, context, base images and options.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root
[ $# -ge 2 ] || die "usage: build-image.sh NAME[:TAG] CONTEXT [DOCKERFILE [buildah bud options...]]"
name=${1%%:*}
tag=dev
[ "$name" = "$1" ] || tag=${1#*:}
context=$(cd -- "$2" 2>/dev/null && pwd) || die "no directory $2"
dockerfile=${3:-$context/Dockerfile}
shift $(($# < 3 ? $# : 3))
[[ $name =~ ^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$ ]] || die "'$name' is no image name"
"$HERE/deps.sh"
http -o /dev/null "http://127.0.0.1:5000/v2/" || die "the registry does not answer: start the cluster with tests/cluster/up.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "$dockerfile" = - ]; then cat >"$work/Dockerfile"; else cat -- "$dockerfile" >"$work/Dockerfile"; fi

# Base images by debootstrap, so that no registry is asked; a base under another name must have been built here before.
bases=()
for base in $({ grep -hoE 'debian:[a-z]+-slim' "$work/Dockerfile" <(printf '%s\n' "$@") || true; } | sort -u); do bases+=("$base"); done
[ ${#bases[@]} = 0 ] || base_ids=$("$HERE/base-images.sh" "${bases[@]}")

# An image that FROM names in our own registry counts by what its tag means now.
manifest_types='application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json'
digest_of() { # NAME REFERENCE: empty if there is none
  http -m 30 -I -H "Accept: $manifest_types" "http://127.0.0.1:5000/v2/$1/manifests/$2" | tr -d '\r' | sed -n 's/^docker-content-digest: //Ip'
}
mapfile -t locals < <(sed -nE "s|^FROM +$REGISTRY/([^ ]+).*|\1|p" "$work/Dockerfile" | sort -u)
local_ids=$(for from in "${locals[@]}"; do
  case $from in *@*) echo "$from" ;; *) echo "$from $(digest_of "${from%%:*}" "${from##*:}")" ;; esac
done)

key=$({
  sha256sum <"$work/Dockerfile"
  printf '%s\n' "${base_ids:-}" "$local_ids"
  printf '%q ' "$@"
  tar -C "$context" --exclude=./.git --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . | sha256sum
} | sha256sum | cut -c1-32)

found() { # give the built image the tag asked for, and print it
  local digest type
  digest=$(digest_of "$name" "key-$key")
  [ -n "$digest" ] || return 1
  if [ "$(digest_of "$name" "$tag")" != "$digest" ]; then
    http -m 30 -H "Accept: $manifest_types" -o "$work/manifest" "http://127.0.0.1:5000/v2/$name/manifests/$digest" || return 1
    type=$(jq -r .mediaType "$work/manifest")
    http -m 30 -o /dev/null -X PUT -H "Content-Type: $type" --data-binary "@$work/manifest" "http://127.0.0.1:5000/v2/$name/manifests/$tag" ||
      die "the registry refused tag $tag for $name; see $D/logs/registry.log"
  fi
  # How up.sh knows which builds are still wanted.
  touch -c "$C/registry/docker/registry/v2/repositories/$name/_manifests/tags/key-$key/current/link"
  echo "$REGISTRY/$name@$digest"
}
! found || exit 0

lock "image-${name//\//_}" 6
! found || exit 0 # built while we waited

options=(--force-rm --pull=never --tls-verify=false --format docker -f "$work/Dockerfile")
# buildah 1.28 takes an ENV made of a build argument for unchanged when only the argument changed, so its cache of layers
# serves builds without arguments; and callers who ask for it, knowing that theirs do not reach the layers.
[[ " $* " == *" --build-arg"* ]] || options+=(--layers)
# Steps of a Dockerfile resolve names as this machine does.
options+=(-v /etc/resolv.conf:/etc/resolv.conf:ro)
# Where TLS ends at a proxy with an own CA, this machine trusts it but a base image cannot. A Dockerfile that declares one of
# these as ARG gets the machine's bundle for its build, and nothing of it stays in the image.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -e $bundle ]; then
  options+=(-v "$bundle:/host-ca.crt:ro")
  for v in SSL_CERT_FILE PIP_CERT NODE_EXTRA_CA_CERTS CARGO_HTTP_CAINFO GIT_SSL_CAINFO; do
    ! grep -qE "^ARG +(.* )?$v( |=|\$)" "$work/Dockerfile" || options+=(--build-arg "$v=/host-ca.crt")
  done
fi
say "building $name"
using_store
trap 'clean_store; rm -rf "$work"' EXIT
image=$REGISTRY/$name:key-$key
for from in "${locals[@]}"; do
  build_store pull -q --tls-verify=false "docker://$REGISTRY/$from" >/dev/null || die "cannot pull $REGISTRY/$from, which FROM names: build it first"
done
if ! build_store bud "${options[@]}" -t "$image" "$@" "$context" >"$work/log" 2>&1; then
  tail -n 40 "$work/log" >&2
  ! grep -q 'image not known' "$work/log" || say "FROM can name debian:SUITE-slim, or an image that was built here as $REGISTRY/NAME:TAG"
  die "building $name failed; the lines above say why"
fi
build_store push --quiet --tls-verify=false "$image" "docker://$image" >"$work/log" 2>&1 || {
  tail -n 10 "$work/log" >&2
  die "pushing $name to the registry failed; see also $D/logs/registry.log"
}
# The registry holds what was built; here only the latest stays, for the layers that the next build may share with it.
build_store images --format '{{.Name}}:{{.Tag}}' 2>/dev/null | grep "^$REGISTRY/$name:key-" | grep -vxF "$image" |
  while read -r earlier; do build_store rmi "$earlier" >/dev/null 2>&1 || true; done || true
found || die "$image was pushed, but the registry does not show it; see $D/logs/registry.log"
