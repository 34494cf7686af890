#!/bin/sh
# Makes the data directory on the first start, runs /init.sql in it once, then becomes the server. Arguments go to the
# server: `-c fsync=off` where the data may be lost, `-c file_copy_method=clone` on a file system that knows reflinks (on
# ext4 it copies within the kernel, no faster than the default; a kernel that cannot do that either makes CREATE DATABASE …
# STRATEGY FILE_COPY fail).
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  fresh=$PGDATA.fresh
  # Half a directory of a start that was cut off. The rename below is what makes one whole.
  rm -rf "$fresh"
  # --no-sync: a machine that crashes in its first seconds is set up again.
  initdb -D "$fresh" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --no-sync \
    --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  echo 'host all all all scram-sha-256' >>"$fresh/pg_hba.conf"
  if [ -e /init.sql ]; then
    # No address: nobody from outside sees the database half made, nor does a probe take it for ready.
    pg_ctl -D "$fresh" -w -s -o "-c listen_addresses='' -c unix_socket_directories=/tmp -c fsync=off" -l /tmp/init.log start || {
      cat /tmp/init.log >&2
      exit 1
    }
    psql -X -q -v ON_ERROR_STOP=1 -h /tmp -U postgres -d postgres -f /init.sql
    pg_ctl -D "$fresh" -w -s -m fast stop
  fi
  mv "$fresh" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
