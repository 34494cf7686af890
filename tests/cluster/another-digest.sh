#!/usr/bin/env bash
# another-digest.sh LABEL REFERENCE: puts an image of the cluster's registry there once more with one label more, so that it
# is the same program under another digest, as a next version is. Prints its reference.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || die "usage: another-digest.sh LABEL $REGISTRY/NAME@sha256:…"
label=$1 name=${2#"$REGISTRY"/}
digest=${name#*@} name=${name%%@*}
[ "$REGISTRY/$name@$digest" = "$2" ] || die "'$2' is no reference by digest of $REGISTRY"
url=http://127.0.0.1:5000/v2/$name
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

http -m 30 -H 'Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json' \
  -o "$work/manifest" "$url/manifests/$digest" || die "the registry does not have $2"
http -m 30 -L -o "$work/config" "$url/blobs/$(jq -r .config.digest "$work/manifest")" || die "the registry does not have the configuration of $2"
jq -c --arg key "$label" '.config.Labels[$key] = "yes"' "$work/config" >"$work/new"
config=sha256:$(sha256sum <"$work/new" | cut -d' ' -f1)
upload=$(http -m 30 -X POST -D - -o /dev/null "$url/blobs/uploads/" | tr -d '\r' | sed -n 's/^location: //Ip')
case $upload in *\?*) upload+="&digest=$config" ;; *) upload+="?digest=$config" ;; esac
http -m 30 -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$work/new" -o /dev/null "$upload" || die "the registry refused the configuration"
jq -c --arg config "$config" --argjson size "$(wc -c <"$work/new")" '.config.digest = $config | .config.size = $size' "$work/manifest" >"$work/other"
http -m 30 -X PUT -H "Content-Type: $(jq -r .mediaType "$work/manifest")" --data-binary "@$work/other" -o /dev/null \
  "$url/manifests/$label" || die "the registry refused the manifest"
echo "$REGISTRY/$name@sha256:$(sha256sum <"$work/other" | cut -d' ' -f1)"
