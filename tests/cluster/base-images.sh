#!/usr/bin/env bash
# base-images.sh [debian:SUITE-slim]...: makes Debian base images with debootstrap, under the names that Docker Hub gives
# them, for machines that cannot reach it. Each is made once and kept as a tar in the cache; what is missing is imported to the
# image builder's storage. Prints "NAME SHA256-OF-ITS-FILES" for each. Without names: those that the project's images need.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root
[ $# -gt 0 ] || set -- debian:trixie-slim debian:forky-slim
for image; do
  [[ $image =~ ^debian:[a-z]+-slim$ ]] || die "can only make debian:SUITE-slim, not '$image'"
done
"$HERE/deps.sh"
mirror=${LOCKKEEPER_DEBIAN_MIRROR:-http://deb.debian.org/debian}
mkdir -p "$C/base"

make_rootfs() { # SUITE FILE
  local suite=$1 to=$2 root script=() m
  root=$(mktemp -d "$C/base/.$suite.XXXXXX")
  # debootstrap knows the suites of its own time; later ones are made like sid.
  [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=(/usr/share/debootstrap/scripts/sid)
  if ! debootstrap --variant=minbase --merged-usr "$suite" "$root/fs" "$mirror" "${script[@]}" >"$root/log" 2>&1; then
    tail -15 "$root/log" >&2
    die "debootstrap of $suite from $mirror failed, the lines above say why (another mirror: LOCKKEEPER_DEBIAN_MIRROR)"
  fi
  for m in proc sys dev; do ! mountpoint -q "$root/fs/$m" || umount "$root/fs/$m"; done
  # As in Docker Hub's slim images: no documentation, now or from later packages; no package lists or archives kept.
  cat >"$root/fs/etc/dpkg/dpkg.cfg.d/docker" <<'DPKG'
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
path-exclude /usr/share/lintian/*
DPKG
  cat >"$root/fs/etc/apt/apt.conf.d/docker" <<'APT'
APT::AutoRemove::SuggestsImportant "false";
Acquire::Languages "none";
// A mirror may be a frozen copy, whose testing and security suites then are past their date; signatures are still checked.
Acquire::Check-Valid-Until "false";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
APT
  printf '#!/bin/sh\nexit 101\n' >"$root/fs/usr/sbin/policy-rc.d"
  chmod 755 "$root/fs/usr/sbin/policy-rc.d"
  rm -f "$root/fs/etc/apt/sources.list"
  {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" "$suite"
    case $suite in
      sid | forky) ;; # the release has no security suite yet, or never will
      *) printf '\nTypes: deb\nURIs: %s-security\nSuites: %s-security\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" "$suite" ;;
    esac
  } >"$root/fs/etc/apt/sources.list.d/debian.sources"
  (
    cd "$root/fs"
    find usr/share/doc -type f ! -name copyright -delete
    find usr/share/doc -depth -type d -empty -delete
    rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian
    rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/lib/dpkg/*-old var/log/* tmp/* run/*
    rm -rf etc/hostname etc/resolv.conf etc/machine-id dev/*
    : >etc/machine-id
  )
  tar -C "$root/fs" --sort=name --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$root/tar" .
  sha256sum "$root/tar" | cut -d' ' -f1 >"$root/sha256"
  mv "$root/tar" "$to.tar"
  mv "$root/sha256" "$to.sha256" # last: its presence says that the tar is whole
  rm -rf --one-file-system "$root"
}

for image; do
  suite=${image#debian:}
  suite=${suite%-slim}
  file=$C/base/debian-$suite-slim
  if [ ! -s "$file.sha256" ] || ! build_store images -q --filter "label=lockkeeper.base=$(cat "$file.sha256")" "docker.io/library/$image" 2>/dev/null | grep -q .; then
    lock base-images 7
    if [ ! -s "$file.sha256" ]; then
      say "making $image (once; about a minute)"
      rm -rf --one-file-system "$C/base/.$suite".*
      make_rootfs "$suite" "$file"
    fi
    using_store
    c=$(build_store from --pull=never scratch)
    build_store add -q "$c" "$file.tar" / >/dev/null
    build_store config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --label "lockkeeper.base=$(cat "$file.sha256")" "$c"
    build_store commit -q --timestamp 0 --rm "$c" "docker.io/library/$image" >/dev/null
    clean_store
    exec 7>&-
  fi
  echo "$image $(cat "$file.sha256")"
done
